//! One suite for both implementers of [`Store`].

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::{
    event::{EndedAs, EndedBy, Event, Kind, Outcome, SipCallIds, Terminal},
    pipeline::{Memory, store::Why, webhook::drift::What},
    shell::files::tests::Scratch,
};

fn call(n: u8) -> CallId {
    format!("01960000-0000-7000-8000-0000000000{n:02}").parse().expect("a call id")
}

fn at(ms: i64) -> Wall {
    Wall::from_millis(ms)
}

fn record(n: u8) -> Record {
    let mut record = Record::new(call(n));
    let sip_call_ids = SipCallIds { caller: format!("{n}@sip"), callee: None };
    let (from, to, trunk, route) = ("+49 30".into(), "b".into(), "t".into(), "r".into());
    let kind = Kind::Started { from, to, trunk, route, sip_call_ids };
    record.apply(&Event { call_id: call(n), sequence: 1, time: at(1000), at_ms: 0, kind });
    record
}

fn write(n: u8, state: State, due: i64) -> Write {
    let mut write = Write::new("crm", call(n), at(due));
    write.state = state;
    write.wanted.insert("field".into(), "value".into());
    write
}

fn payload(name: &str, id: &str) -> Payload {
    Payload {
        id: id.into(),
        kind: "call.ended".into(),
        call_id: name.into(),
        names: Vec::new(),
        time: at(1),
        data: [("intent".to_owned(), json!("buy"))].into_iter().collect(),
        also: Vec::new(),
        asked_as: None,
        source: String::new(),
    }
}

fn orphan(name: &str, id: &str) -> Orphan {
    Orphan { payload: payload(name, id), came: at(1), position: Position { segment: 1, offset: 5 } }
}

fn aside(offset: u64) -> Aside {
    let position = Position { segment: 1, offset };
    Aside { position, source: "platform".into(), time: at(1), why: Why::Conflict, detail: "x".into() }
}

fn drift(count: u64) -> Drift {
    Drift {
        source: "platform".into(),
        against: "schema generic 1".into(),
        kind: "call.ended".into(),
        field: "intent".into(),
        what: What::Type,
        found: ["list".to_owned()].into(),
        affects: Vec::new(),
        first: at(1),
        last: at(2),
        count,
        position: Position { segment: 1, offset: 1 },
    }
}

fn activation() -> Activation {
    Activation { target: "late".into(), version: 3, sha256: "ab".into(), signed_by: Some("ann".into()), signed_at: Some(at(8)) }
}

fn backlog_behind_calls_as_they_happen(store: &mut impl Store) {
    let commit = |store: &mut dyn FnMut(Changes), state: State| {
        let mut changes = Changes::default();
        for (n, backlog, due) in [(1, true, 10), (2, false, 30), (3, false, 20)] {
            changes.writes.insert(("late".into(), call(n)), Write { crm: "late".into(), backlog, ..write(n, state, due) });
        }
        changes.spent = [(("late".to_owned(), 20_000), 7)].into();
        changes.activations = [("late".to_owned(), (activation(), at(9)))].into();
        store(changes);
    };
    commit(&mut |changes| store.commit(changes).expect("committed"), State::Queued);
    let due = |traffic| store.due("late", at(30), traffic, 9, |_| false).expect("read").iter().map(|w| w.call_id).collect::<Vec<_>>();
    assert_eq!((due(Traffic::All), due(Traffic::Live)), (vec![call(3), call(2), call(1)], vec![call(3), call(2)]));
    let next = |traffic| store.next_due("late", traffic);
    assert_eq!((next(Traffic::All), next(Traffic::Live)), (Ok(Some(at(10))), Ok(Some(at(20)))));
    let backlog = |crm, ms, most| store.backlog(crm, at(ms), most).expect("read");
    assert_eq!((backlog("late", 30, 9), backlog("late", 9, 9), backlog("late", 30, 0), backlog("crm", 30, 9)), (1, 0, 0, 0));
    assert_eq!((store.spent("late", 20_000), store.spent("late", 20_001), store.spent("crm", 20_000)), (Ok(7), Ok(0), Ok(0)));
    assert_eq!((store.activation("late"), store.activation("crm")), (Ok(Some((activation(), at(9)))), Ok(None)));
    commit(&mut |changes| store.commit(changes).expect("committed"), State::Done);
}

fn pulls_are_due_once_and_no_more_when_they_are_over(store: &mut impl Store) {
    let pulls = |due: [(u8, Option<i64>); 3]| due.map(|(n, due)| (("platform".to_owned(), call(n)), due.map(at))).into();
    store.commit(Changes { pulls: pulls([(1, Some(30)), (2, Some(20)), (3, Some(40))]), ..Changes::default() }).expect("committed");
    let due = |store: &dyn Fn(&str) -> Vec<CallId>| (store("platform"), store("other"));
    assert_eq!(due(&|source| store.pulls_due(source, at(30), 9).expect("read")), (vec![call(2), call(1)], vec![]));
    assert_eq!(store.pulls_due("platform", at(30), 1), Ok(vec![call(2)]), "the earliest first");
    assert_eq!((store.next_pull("platform", at(20)), store.next_pull("other", at(0))), (Ok(Some(at(30))), Ok(None)));
    assert_eq!((store.pull("platform", call(3)), store.pull("other", call(3))), (Ok(Some(at(40))), Ok(None)));
    store.commit(Changes { pulls: pulls([(1, Some(50)), (2, None), (3, None)]), ..Changes::default() }).expect("committed");
    assert_eq!((store.pulls_due("platform", at(49), 9), store.next_pull("platform", at(0))), (Ok(vec![]), Ok(Some(at(50)))));
}

fn hold(n: u8, held: bool, ms: i64) -> Hold {
    Hold { call_id: call(n), held, by: "ann".into(), reason: Some("matter 7".into()), at: at(ms) }
}

fn holds_stand_until_they_are_released(store: &mut impl Store) {
    let say = |store: &mut dyn FnMut(Changes), hold: Hold| store(Changes { holds: [(hold.call_id, hold)].into(), ..Changes::default() });
    for said in [hold(1, true, 30), hold(2, true, 20), hold(3, true, 10), hold(3, false, 40)] {
        say(&mut |changes| store.commit(changes).expect("committed"), said);
    }
    assert_eq!((store.holds(9), store.held()), (Ok(vec![hold(2, true, 20), hold(1, true, 30)]), Ok(2)), "the longest first");
    assert_eq!(store.holds(1), Ok(vec![hold(2, true, 20)]));
    assert_eq!((store.hold(call(3)), store.hold(call(4))), (Ok(Some(hold(3, false, 40))), Ok(None)));
}

fn erasures_are_there_for_good(store: &mut impl Store) {
    let erasure = |n: u8, ms| Erasure {
        call_id: call(n),
        by: "ann".into(),
        reason: None,
        at: at(ms),
        dropped: vec!["crm".into()],
        left: [("crm".to_owned(), "id 7".to_owned())].into(),
    };
    for erased in [erasure(7, 20), erasure(8, 30)] {
        store.commit(Changes { erasures: [(erased.call_id, erased)].into(), ..Changes::default() }).expect("committed");
    }
    assert_eq!((store.erasure(call(7)), store.erasure(call(9)), store.erased()), (Ok(Some(erasure(7, 20))), Ok(None), Ok(2)));
    assert_eq!(
        (store.erasures(9), store.erasures(1)),
        (Ok(vec![erasure(8, 30), erasure(7, 20)]), Ok(vec![erasure(8, 30)])),
        "the latest first"
    );
}

fn suite(mut store: impl Store) {
    assert_eq!(store.position(), Ok(Position::default()));
    assert_eq!((store.record(call(1)), store.named("1@sip"), store.next_wait()), (Ok(None), Ok(None), Ok(None)));
    let position = Position { segment: 3, offset: 77 };
    let mut changes = Changes { position: Some(position), ..Changes::default() };
    changes.records.insert(call(1), (record(1), Some(at(5000))));
    changes.records.insert(call(2), (record(2), None));
    for (n, state, due) in
        [(1, State::Queued, 30), (2, State::Retrying, 20), (3, State::InFlight, 5), (4, State::Review, 1), (5, State::Done, 1)]
    {
        changes.writes.insert(("crm".into(), call(n)), write(n, state, due));
    }
    changes.names.insert("1@sip".into(), call(1));
    changes.seen.insert("platform/w1".into(), "hash".into());
    changes.orphans = vec![orphan("unknown", "w1"), orphan("unknown", "w2"), orphan("other", "w3")];
    changes.asides = vec![aside(1), aside(2)];
    changes.drifts.insert(drift(1).key(), drift(1));
    store.commit(changes).expect("committed");

    assert_eq!(store.position(), Ok(position));
    assert_eq!(store.asides(1), Ok(vec![aside(2)]), "the latest first");
    assert_eq!((store.aside(aside(1).position), store.aside(Position::default())), (Ok(Some(aside(1))), Ok(None)));
    assert_eq!((store.drift(&drift(1).key()), store.drift("other")), (Ok(Some(drift(1))), Ok(None)));
    store.commit(Changes { drifts: [(drift(2).key(), drift(2))].into(), ..Changes::default() }).expect("committed");
    assert_eq!(store.drifts(), Ok(vec![drift(2)]), "as it is now");
    assert_eq!(store.record(call(1)), Ok(Some(record(1))));
    assert_eq!(store.named("1@sip"), Ok(Some(call(1))));
    assert_eq!((store.seen("platform/w1"), store.seen("platform/w2")), (Ok(Some("hash".into())), Ok(None)));
    let due = |store: &dyn Fn(Wall, usize) -> Vec<Write>, ms, most| store(at(ms), most).iter().map(|w| w.call_id).collect::<Vec<_>>();
    let ask = |at, most| store.due("crm", at, Traffic::All, most, |_| false).expect("read");
    let untaken = store.due("crm", at(30), Traffic::All, 1, |taken| taken == call(2)).expect("read");
    assert_eq!(untaken.iter().map(|w| w.call_id).collect::<Vec<_>>(), [call(1)], "what is taken does not count");
    assert_eq!(due(&ask, 25, 9), [call(2)]);
    assert_eq!(due(&ask, 30, 9), [call(2), call(1)], "the earliest first");
    assert_eq!(due(&ask, 30, 1), [call(2)]);
    assert_eq!((store.next_due("crm", Traffic::All), store.next_due("none", Traffic::All)), (Ok(Some(at(20))), Ok(None)));
    backlog_behind_calls_as_they_happen(&mut store);
    pulls_are_due_once_and_no_more_when_they_are_over(&mut store);
    holds_stand_until_they_are_released(&mut store);
    erasures_are_there_for_good(&mut store);
    assert_eq!(store.writes_in(State::InFlight, 10).expect("read").len(), 1);
    assert_eq!(store.write("crm", call(4)), Ok(Some(write(4, State::Review, 1))));
    assert_eq!(store.writes(call(4)).expect("read").len(), 1);
    // Whoever takes it and thinks better of it has taken nothing away.
    for _ in 0..2 {
        assert_eq!(store.take_write("crm", call(4)), Ok(Some(write(4, State::Review, 1))));
        assert_eq!(store.take_record(call(1)), Ok(Some(record(1))));
    }
    assert_eq!((store.write("crm", call(4)), store.knows(call(1))), (Ok(Some(write(4, State::Review, 1))), Ok(true)));
    assert_eq!(
        (store.waited(at(4999), 9), store.waited(at(5000), 9), store.next_wait()),
        (Ok(vec![]), Ok(vec![record(1)]), Ok(Some(at(5000))))
    );
    assert_eq!(store.open().expect("read").len(), 2);
    assert_eq!(store.recent(1), Ok(vec![record(2)]), "newest first");
    let since = |ms, after: Option<u8>, most| store.since(at(ms), after.map(call), most).expect("read").len();
    assert_eq!((since(0, None, 9), since(0, Some(1), 9), since(0, None, 1), since(1 << 45, None, 9)), (2, 1, 1, 0));
    let writes_of = |after: Option<u8>, most| store.writes_of("crm", after.map(call), most).expect("read").len();
    assert_eq!((writes_of(None, 99), writes_of(Some(3), 99), writes_of(None, 2)), (5, 2, 2));
    assert_eq!(store.of_number("4930", 9), Ok(vec![record(2), record(1)]));
    assert_eq!(store.of_number("4931", 9), Ok(vec![]));
    let expected = Counts { queued: 1, in_flight: 1, retrying: 1, dead: 0, review: 1, oldest: Some(at(5)) };
    assert_eq!(store.counts(), Ok(expected));
    assert_eq!(store.orphans("unknown"), Ok(vec![orphan("unknown", "w1"), orphan("unknown", "w2")]));
    let latest = store.unmatched(2).expect("read").into_iter().map(|p| p.id).collect::<Vec<_>>();
    assert_eq!(latest.len(), 2, "the latest first: {latest:?}");

    let mut changes = Changes { adopted: ["unknown".to_owned()].into(), ..Changes::default() };
    changes.records.insert(call(1), (record(1), None));
    changes.writes.insert(("crm".into(), call(1)), write(1, State::Done, 30));
    store.commit(changes).expect("committed");
    assert_eq!(store.position(), Ok(position), "a commit without a position keeps it");
    assert_eq!((store.orphans("unknown"), store.next_wait()), (Ok(vec![]), Ok(None)));
    assert_eq!(store.orphans("other").expect("read").len(), 1);
    assert_eq!(store.counts().expect("counted").queued, 0);
    pruning(&mut store);
}

/// A call's numbers and writes go with its record, and what belongs to no call by its age.
fn pruning(store: &mut impl Store) {
    let ended = |n: u8| {
        let mut record = record(n);
        let terminal = Terminal {
            outcome: Outcome::Answered,
            outcome_table: None,
            ended_as: EndedAs::Completed,
            ended_by: EndedBy::Caller,
            reason: None,
            sip_status: None,
            ring_ms: None,
            talk_ms: 1,
            secure_ms: 0,
            omitted: 0,
        };
        record.apply(&Event { call_id: call(n), sequence: 2, time: at(2000), at_ms: 1000, kind: Kind::Ended(terminal) });
        record
    };
    let calls = |store: &dyn Fn() -> Vec<Record>| store().iter().map(|record| record.call_id).collect::<Vec<_>>();
    let changes = |n: u8, wait| Changes { records: [(call(n), (ended(n), wait))].into(), ..Changes::default() };
    store.commit(changes(1, None)).expect("committed");
    store.commit(changes(2, Some(at(9)))).expect("committed");
    store.commit(changes(3, None)).expect("committed");
    let late = Wall::parse("2100-01-01T00:00:00Z").expect("a time");
    assert_eq!(calls(&|| store.prunable(late, None, 9).expect("read")), [call(1), call(3)], "what waits is not over yet");
    assert_eq!(calls(&|| store.prunable(late, Some(call(1)), 9).expect("read")), [call(3)]);
    assert_eq!(calls(&|| store.prunable(late, None, 1).expect("read")), [call(1)]);
    assert_eq!(calls(&|| store.prunable(at(1000), None, 9).expect("read")), [], "they began later");
    assert_eq!(store.older_of_number("4930", call(3), 9), Ok(vec![call(1), call(2)]));

    let kept = Write { pruned: true, crm: "kept".into(), ..write(1, State::Done, 1) };
    let mut changes = Changes { swept: Some(at(2)), ..Changes::default() };
    changes.records.insert(call(1), (Record::lost(call(1)), None));
    changes.writes.insert(("kept".into(), call(1)), kept.clone());
    changes.spent = [(("late".to_owned(), 20_001), 8)].into();
    store.commit(changes).expect("committed");
    assert_eq!((store.is_pruned(call(1)), store.is_pruned(call(2)), store.is_pruned(call(99))), (Ok(true), Ok(false), Ok(false)));
    assert_eq!(store.writes(call(1)), Ok(vec![kept]), "those of before have gone");
    assert_eq!(store.older_of_number("4930", call(3), 9), Ok(vec![call(2)]));
    assert_eq!(calls(&|| store.prunable(late, None, 9).expect("read")), [call(3)]);
    assert_eq!((store.asides(9), store.unmatched(9), store.drifts()), (Ok(vec![]), Ok(vec![]), Ok(vec![drift(2)])));
    assert_eq!(store.spent("late", 20_000), Ok(7), "of a day that is not over");
    let day = at(20_001 * 86_400_000);
    store.commit(Changes { swept: Some(day), ..Changes::default() }).expect("committed");
    store.commit(Changes { swept: Some(at(1)), ..Changes::default() }).expect("committed");
    assert_eq!((store.drifts(), store.swept()), (Ok(vec![]), Ok(Some(day))));
    assert_eq!((store.spent("late", 20_000), store.spent("late", 20_001)), (Ok(0), Ok(8)));
}

#[test]
fn the_store_in_memory_keeps_the_suite() {
    suite(Memory::default());
}

#[test]
fn the_store_in_sqlite_keeps_the_suite_and_keeps_it_across_a_restart() {
    let scratch = Scratch::new("store");
    let path = scratch.0.join("store.sqlite");
    suite(Sqlite::open(&path).expect("opened"));
    let again = Sqlite::open(&path).expect("opened again");
    assert_eq!(again.position(), Ok(Position { segment: 3, offset: 77 }));
    let reader = Sqlite::reader(&path).expect("a reader");
    assert_eq!((reader.record(call(2)).map(|r| r.is_some()), reader.is_pruned(call(1))), (Ok(true), Ok(true)));
}

/// Calls grow by and by, side by side, some beyond a page, and everything of most of them is taken away. SQLite overwrites what it deletes, but not what it has copied
/// on to another page before.
#[test]
fn what_was_taken_away_is_overwritten_in_the_files() {
    let scratch = Scratch::new("scrubbed");
    let path = scratch.0.join("store.sqlite");
    let mut store = Sqlite::open(&path).expect("opened");
    let nth = |n: u128| CallId(uuid::Uuid::from_u128((1_800_000_000_000 << 80) | n));
    let word = |n: u128| format!("<word of {n:05}>");
    let (calls, beside) = (200, 12);
    let mut chance = crate::chance::Chance::from_seed(7);
    for turn in 0..calls * 4 {
        let mut changes = Changes::default();
        for n in (turn / 4..).take(beside).filter(|n| *n < calls) {
            let (call, octets) = (nth(n), usize::try_from(chance.below(if n % 7 == 0 { 900 } else { 150 })).expect("fits"));
            let mut record = store.record(call).expect("read").unwrap_or_else(|| Record::new(call));
            let told = json!({"call_summary": word(n).repeat(octets)});
            record.tell(&Payload {
                time: at(i64::try_from(turn).expect("fits")),
                data: told.as_object().expect("fields").clone(),
                ..payload("n", "w")
            });
            let mut write = store.write("crm", call).expect("read").unwrap_or_else(|| Write::new("crm", call, at(1)));
            write.state = if turn % 3 == 0 { State::Queued } else { State::Done };
            write.wanted.insert("note".into(), json!(word(n).repeat(octets / 2)));
            changes.records.insert(call, (record, None));
            changes.writes.insert(("crm".into(), call), write);
            let orphan = Orphan {
                payload: Payload { id: word(n), ..payload(&format!("orphan of {n}"), "w") },
                came: at(1),
                position: Position::default(),
            };
            changes.orphans.push(orphan);
        }
        store.commit(changes).expect("committed");
    }
    let pruned: Vec<_> = (0..calls).filter(|n| n % 5 != 1).collect();
    let orphans = |n: u128| format!("orphan of {n}");
    for some in pruned.chunks(9) {
        let records = some.iter().map(|n| (nth(*n), (Record::lost(nth(*n)), None))).collect();
        store.commit(Changes { records, adopted: some.iter().map(|n| orphans(*n)).collect(), ..Changes::default() }).expect("committed");
    }
    assert_eq!(store.scrub(), Ok(true));
    let stand = || {
        let files = ["store.sqlite", "store.sqlite-wal"].map(|name| std::fs::read(scratch.0.join(name)).expect("a file"));
        let begins =
            |file: &[u8], place: usize| file.get(place..).and_then(|rest| rest.strip_prefix(b"<word of "))?.get(..5).map(<[u8]>::to_vec);
        let words =
            files.iter().flat_map(|file| (0..file.len()).filter(|place| file[*place] == b'<').filter_map(|place| begins(file, place)));
        words.filter_map(|word| String::from_utf8(word).ok()?.parse::<u128>().ok()).collect::<BTreeSet<_>>()
    };
    let stands = stand();
    let kept: BTreeSet<_> = (0..calls).filter(|n| n % 5 == 1).collect();
    assert!(stands.is_superset(&kept), "what was not taken away is there");
    let over = stands.difference(&kept).count();
    assert!(over * 50 < pruned.len(), "{over} of {} stand on", pruned.len());
    // Behind an erasure no copy is left either.
    let erasure = Erasure { call_id: nth(0), by: "ann".into(), reason: None, at: at(1), dropped: Vec::new(), left: Default::default() };
    store.commit(Changes { erasures: [(nth(0), erasure)].into(), ..Changes::default() }).expect("committed");
    assert_eq!((store.is_unscrubbed(), store.vacuum(), store.is_unscrubbed()), (Ok(true), Ok(true), Ok(false)));
    assert_eq!(stand(), kept);
    assert!(store.record(nth(1)).expect("read").is_some_and(|record| record.fields().contains_key("call_summary")));
    // Whoever reads keeps the log; it is ended when he is done.
    let reader = Connection::open(&path).expect("opened");
    reader.execute_batch("PRAGMA busy_timeout=0; BEGIN; SELECT count(*) FROM records").expect("read");
    store.commit(Changes { records: [(nth(1), (Record::lost(nth(1)), None))].into(), ..Changes::default() }).expect("committed");
    store.connection.execute_batch("PRAGMA busy_timeout=0").expect("set");
    assert_eq!(store.scrub(), Ok(false));
    reader.execute_batch("COMMIT").expect("done");
    assert_eq!(store.scrub(), Ok(true));
}

#[test]
fn a_store_of_another_version_is_made_anew() {
    let scratch = Scratch::new("version");
    let path = scratch.0.join("store.sqlite");
    suite(Sqlite::open(&path).expect("opened"));
    Connection::open(&path).and_then(|c| c.pragma_update(None, "user_version", 99)).expect("changed");
    assert_eq!(Sqlite::open(&path).expect("opened").position(), Ok(Position::default()));
}

/// With a million writes that wait, a sort would take seconds for each request to a CRM.
#[test]
fn the_queue_is_read_in_the_order_of_an_index() {
    let scratch = Scratch::new("plan");
    let store = Sqlite::open(&scratch.0.join("store.sqlite")).expect("opened");
    let asked =
        [(DUE.to_owned(), 3), (NEXT_DUE.to_owned(), 2), (BACKLOG.to_owned(), 3), (standing(State::Review), 1), (PRUNABLE.to_owned(), 3)];
    for (sql, count) in asked {
        let mut statement = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
        let none = vec![rusqlite::types::Null; count];
        let plan = statement.query_map(rusqlite::params_from_iter(none), |row| row.get::<_, String>(3)).expect("a plan");
        let plan = plan.map(|line| line.expect("a line")).collect::<Vec<_>>().join("; ");
        assert!(plan.contains("SEARCH") && plan.contains("USING") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}
