//! What calls held is taken away some time behind their end; the store, and a store made anew from what is left of the journal, are the same.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::pipeline::{retention::What, store::Why};

pub(super) const DAY: u64 = 86_400 * SECOND;

fn nth(n: u8) -> CallId {
    format!("019b8d99-6ce8-7000-8000-0000000000{n:02}").parse().expect("a call id")
}

/// A world that keeps calls for a day.
pub(super) fn keeping(mut world: World) -> World {
    world.pipeline.config.keep = Some(Duration::from_millis(DAY));
    world
}

/// A store made anew out of `journal`, in batches of so many.
pub(super) fn anew(world: &mut World, journal: &[(Position, Entry)], batch: usize) -> Memory {
    anew_in(Memory::default(), world, journal, batch)
}

fn anew_in<S: Store>(mut store: S, world: &mut World, journal: &[(Position, Entry)], batch: usize) -> S {
    let nothing = Config { crms: Vec::new(), sources: BTreeMap::new(), marks: marks(), expects: Vec::new(), attempts_max: 3, keep: None };
    let config = std::mem::replace(&mut world.pipeline.config, nothing);
    let mut other = super::super::Pipeline::new(config, Chance::from_seed(9));
    for entries in journal.chunks(batch) {
        let next = entries.last().map_or(0, |(at, _)| at.offset + 1);
        other.fold(&mut store, entries, Position { segment: 1, offset: next }).expect("folded");
    }
    while other.end_waits(world.now(), &mut store).expect("stored") {}
    assert!(other.poll_output().is_none(), "nothing is sent");
    world.pipeline.config = other.config;
    store
}

/// Takes bodies out of the first `count` entries, as the store stands.
pub(super) fn cut(world: &World, journal: &mut [(Position, Entry)], count: usize) {
    for (at, entry) in journal.iter_mut().take(count) {
        if let Some(left) = world.pipeline.left_of(&world.store, *at, entry).expect("stored") {
            entry.body = left;
        }
    }
}

pub(super) fn holds(journal: &[(Position, Entry)], text: &str) -> bool {
    journal.iter().any(|(_, entry)| entry.body.windows(text.len()).any(|octets| octets == text.as_bytes()))
}

pub(super) fn told(id: &str, call: &str, summary: &str) -> String {
    json!({"id": id, "type": "call.ended", "call_id": call, "time": "2026-01-05T10:00:00Z", "data": {"disposition_code": "SALE", "call_summary": summary}})
        .to_string()
}

#[test]
fn a_call_becomes_a_skeleton_and_nothing_of_what_it_held_is_left() {
    let mut world = keeping(World::new());
    world.call();
    world.post(1, &told("w1", "platform-leg@sip", "he asked for mercy"));
    world.until(DAY - SECOND);
    assert!(!world.store.is_pruned(call()).expect("stored"), "a day is not over");
    let (written, requests) = (world.write(), world.requests.len());
    world.until(2 * DAY);
    let record = world.store.record(call()).expect("stored").expect("a skeleton");
    let fields = record.fields();
    assert_eq!((&fields["outcome"], &fields["trunk"], &fields["pruned"]), (&json!("answered"), &json!("carrier"), &json!(true)));
    assert_eq!((record.ended_at.is_some(), record.events().len(), record.numbers().len()), (true, 0, 0));
    let write = world.write();
    assert_eq!((write.state, write.id, write.revision, write.pruned), (State::Done, written.id, written.revision, true));
    assert_eq!((write.wanted, write.written), (Fields::new(), Fields::new()));

    let whole = world.journal.clone();
    let mut left = whole.clone();
    cut(&world, &mut left, whole.len());
    for text in [CALLER, "+492", "4711#", "mercy"] {
        assert_eq!((holds(&whole, text), holds(&left, text)), (true, false), "{text}");
    }
    assert_eq!(anew(&mut world, &whole, 3), world.store);
    assert_eq!(anew(&mut world, &left, 3), world.store);

    // A year later: what was told is known, and what is told anew belongs to nobody.
    world.until(365 * DAY);
    world.post(2, &told("w1", "platform-leg@sip", "he asked for mercy"));
    world.post(3, &told("w2", "trunk-leg@sip", "again"));
    let asides: Vec<_> = world.store.asides(9).expect("stored").into_iter().map(|aside| aside.why).collect();
    assert_eq!((asides, world.responses.clone()), (vec![Why::Pruned], vec![(1, 200), (2, 200), (3, 200)]));
    let counts: Vec<_> = world.counts.iter().filter(|c| matches!(c, Count::Webhook(_))).cloned().collect();
    assert_eq!(counts, ["accepted", "duplicate", "accepted"].map(Count::Webhook));
    assert_eq!(world.requests.len(), requests, "nothing more is written");
    left.extend_from_slice(&world.journal[left.len()..]);
    assert_eq!(anew(&mut world, &left, 5), world.store);
    let count = left.len();
    cut(&world, &mut left, count);
    assert!(!holds(&left, "mercy") && !holds(&left, "again"));
    assert_eq!(anew(&mut world, &left, 5), world.store);
    world.until(367 * DAY);
    assert_eq!(world.store.asides(9), Ok(Vec::new()), "a day later nobody is told of it any more");
}

#[test]
fn what_waits_for_a_person_is_kept() {
    let mut world = keeping(World::new());
    world.status = Some(400);
    world.call();
    world.until(9 * DAY);
    assert_eq!((world.write().state, world.store.is_pruned(call())), (State::Review, Ok(false)));
    let now = world.now();
    world.pipeline.decide(now, &world.store, 1, "crm", call(), Decision::Drop, "ann").expect("stored");
    world.until(9 * DAY + 2 * 3600 * SECOND);
    assert_eq!((world.write().state, world.store.is_pruned(call())), (State::Dropped, Ok(true)));
    let now = world.now();
    world.pipeline.decide(now, &world.store, 2, "crm", call(), Decision::Retry, "ann").expect("stored");
    assert_eq!(world.pipeline.poll_output().map(|o| matches!(o, Output::Respond { status: 409, .. })), Some(true));
}

#[test]
fn what_is_told_while_the_skeleton_is_on_its_way_keeps_the_call() {
    let mut world = keeping(World::new());
    world.call();
    world.post(1, &told("w1", "platform-leg@sip", "first"));
    world.until(DAY - SECOND);
    world.ms = DAY + 2 * 3600 * SECOND;
    let now = world.now();
    world.pipeline.turn(now, &mut world.store, true).expect("turned");
    let Some(Output::Append { append, entry }) = world.pipeline.poll_output() else { panic!("nothing is appended") };
    assert_eq!(entry.kind, EntryKind::Retention);
    // It comes first into the journal.
    let webhook = world.journal.iter().find(|(_, e)| e.kind == EntryKind::Webhook).expect("a webhook").1.clone();
    let body = String::from_utf8_lossy(&webhook.body).replace("w1", "w2").replace("first", "other").into_bytes();
    world.write_down(Entry { time: now.wall, body, ..webhook });
    world.write_down(entry);
    world.pipeline.synced(now, append, Ok(()));
    world.settle();
    assert_eq!(world.store.is_pruned(call()), Ok(false));
    world.until(DAY + 4 * 3600 * SECOND);
    assert_eq!(world.store.is_pruned(call()), Ok(true), "the next round takes it");
    let mut left = world.journal.clone();
    let count = left.len();
    cut(&world, &mut left, count);
    assert_eq!(anew(&mut world, &left, 4), world.store);
}

#[test]
fn what_was_pulled_goes_with_its_call_and_is_not_asked_for_again() {
    for (api, told) in [(vec![pulls::document("SALE")], true), (vec![pulls::answer(404, &json!({}))], false), (Vec::new(), false)] {
        let answered = !api.is_empty();
        let mut world = keeping(pulls::world().named());
        world.api = api.into();
        world.until(1000 * SECOND);
        let asked = world.asks.len();
        assert_eq!((asked, world.store.is_pruned(call())), (1, Ok(false)));
        world.until(3 * DAY);
        assert_eq!((world.asks.len(), world.store.is_pruned(call())), (asked, Ok(true)), "{told}");
        if !answered {
            // What comes now, after so long, is of nobody.
            let (now, request) = (world.now(), world.asks[0].1);
            world.pipeline.answer(now, request, pulls::document("SALE"));
            world.settle();
        }
        assert_eq!((world.store.pull("platform", call()), world.store.next_pull("platform", Wall::from_millis(0))), (Ok(None), Ok(None)));
        world.until(6 * DAY);
        assert_eq!(world.asks.len(), asked);
        let whole = world.journal.clone();
        let mut left = whole.clone();
        cut(&world, &mut left, whole.len());
        assert_eq!((holds(&whole, "Hello."), holds(&left, "Hello.")), (told || !answered, false));
        for batch in [1, 4, 99] {
            assert_eq!(anew(&mut world, &whole, batch), world.store, "{batch}");
            assert_eq!(anew(&mut world, &left, batch), world.store, "{batch}");
        }
    }
}

#[test]
fn a_call_stays_while_an_earlier_one_of_its_person_does() {
    for refused in [false, true] {
        let mut world = keeping(people::scored());
        if !refused {
            people::person(&mut world, CALLER);
        }
        world.call();
        world.until(100 * SECOND);
        assert_eq!(world.write().state, if refused { State::Review } else { State::Done });
        if refused {
            people::person(&mut world, CALLER);
        }
        for (sequence, kind) in (1..).zip(life()) {
            world.write_down(entry(&Event { call_id: nth(2), sequence, time: world.now().wall, at_ms: 0, kind }));
        }
        let body = json!({"id": "s", "type": "sentiment.scored", "call_id": nth(2), "time": "2026-01-05T10:00:00Z", "data": {"sentiment_score": 0.5}});
        world.post(1, &body.to_string());
        world.until(3 * DAY);
        assert_eq!((world.store.is_pruned(call()), world.store.is_pruned(nth(2))), (Ok(!refused), Ok(!refused)));
    }
}

/// What happens in a world.
#[derive(Clone, Debug)]
enum Act {
    /// A call goes on, to its end.
    Event(u8),
    /// A webhook of a call, by some of its names; the same again where it has the same number.
    Webhook {
        call: u8,
        number: u8,
        names: u8,
        score: u8,
    },
    Wait(u64),
    /// The CRM fails, or no longer.
    Down(bool),
    Decide(u8, bool),
    Order(u8, What),
    Recover,
    /// What can go of the first part of the journal goes.
    Cut(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let webhook = (0_u8..4, 0_u8..12, 1_u8..16, 0_u8..4);
    prop_oneof![
        8 => (0_u8..4).prop_map(Act::Event),
        5 => webhook.prop_map(|(call, number, names, score)| Act::Webhook { call, number, names, score }),
        6 => select(vec![1, 60, 70, 3600, 90_000, 200_000]).prop_map(|seconds| Act::Wait(seconds * SECOND)),
        1 => any::<bool>().prop_map(Act::Down),
        1 => (0_u8..4, any::<bool>()).prop_map(|(call, retry)| Act::Decide(call, retry)),
        2 => (0_u8..4, select(vec![What::Hold, What::Release, What::Erase])).prop_map(|(call, what)| Act::Order(call, what)),
        1 => Just(Act::Recover),
        2 => any::<u8>().prop_map(Act::Cut),
    ]
}

/// The `n`th event of a call. Calls 0 and 3 come with one SIP Call-ID; 0 and 1 are of one caller.
fn event(call: u8, n: usize) -> Option<Kind> {
    let mut kind = life().into_iter().nth(n)?;
    match &mut kind {
        Kind::Started { from, sip_call_ids, .. } => {
            *from = if call < 2 { CALLER.to_owned() } else { format!("+4930000{call}") };
            sip_call_ids.caller = format!("carrier-{}", call % 3);
        }
        Kind::Answered { sip_call_id, .. } => *sip_call_id = Some(format!("leg-{call}")),
        Kind::Dtmf { digits, .. } => *digits = Some(format!("4711{call}#")),
        _ => {}
    }
    Some(kind)
}

fn play(world: &mut World, acts: &[Act]) -> Vec<(Position, Entry)> {
    let mut left = Vec::new();
    let mut happened = [0_usize; 4];
    let down = json!([{"match": {"path": "batch"}, "action": {"status": 503}}]);
    for (reply, act) in (1..).zip(acts) {
        match act {
            Act::Event(n) => {
                let at = usize::from(*n);
                if let Some(kind) = event(*n, happened[at]) {
                    happened[at] += 1;
                    let sequence = u32::try_from(happened[at]).expect("fits");
                    world.write_down(entry(&Event { call_id: nth(*n), sequence, time: world.now().wall, at_ms: 0, kind }));
                }
            }
            Act::Webhook { call, number, names, score } => {
                let all = [nth(*call).to_string(), format!("leg-{call}"), format!("p-{call}"), format!("carrier-{}", call % 3)];
                let name = |at: usize| (names & (1 << at) != 0).then(|| all[at].clone());
                let id = (number % 3 > 0).then(|| format!("w{number}"));
                // Under a name that calls share it may be told to another one.
                let summary = if names & 8 == 0 { format!("secret {call}") } else { "shared".to_owned() };
                let data = json!({"sentiment_score": f64::from(*score) / 4.0, "call_summary": summary, "intent": [1]});
                let body = json!({"id": id, "type": "call.ended", "time": "2026-01-05T10:00:00Z", "a": name(0), "b": name(1), "c": name(2), "d": name(3), "data": data});
                world.post(reply, &body.to_string());
            }
            Act::Wait(ms) => world.until(world.ms + ms),
            Act::Down(down_now) => {
                let faults = if *down_now { serde_json::from_value(down.clone()).expect("faults") } else { Vec::new() };
                world.account.as_mut().expect("an account").set_faults(faults);
            }
            Act::Decide(n, retry) => {
                let (now, decision) = (world.now(), if *retry { Decision::Retry } else { Decision::Drop });
                world.pipeline.decide(now, &world.store, reply, "crm", nth(*n), decision, "ann").expect("stored");
            }
            Act::Order(n, what) => {
                let (now, by) = (world.now(), "ann".to_owned());
                world.pipeline.order(now, &world.store, reply, Order { call: nth(*n), what: *what, by, reason: None }).expect("stored");
            }
            Act::Recover => {
                let now = world.now();
                world.pipeline.recover(now, reply, recovery(Wall::from_millis(0)));
            }
            Act::Cut(part) => {
                left.extend_from_slice(&world.journal[left.len()..]);
                let count = world.folded * usize::from(*part) / 255;
                cut(world, &mut left, count);
            }
        }
        world.settle();
    }
    left
}

/// All that a store tells of these calls, and of what belongs to none.
fn told_by(store: &impl Store) -> Vec<String> {
    let mut told = Vec::new();
    for n in 0..4 {
        let call = nth(n);
        told.push(format!("{:?} {:?} {:?} {:?}", store.record(call), store.writes(call), store.is_pruned(call), store.hold(call)));
        told.push(format!("{:?}", store.erasure(call)));
        for name in [call.to_string(), format!("carrier-{n}"), format!("leg-{n}"), format!("p-{n}")] {
            told.push(format!("{name} {:?} {:?}", store.named(&name), store.orphans(&name)));
        }
        let numbers = [CALLER.to_owned(), format!("+4930000{n}"), "+492".to_owned()];
        told.extend(numbers.iter().map(|number| format!("{:?}", store.of_number(&crate::crm::contact::digits(number), 99))));
        told.push(format!("{:?}", store.older_of_number("492", call, 99)));
    }
    told.extend((0..12).map(|n| format!("w{n} {:?}", store.seen(&format!("platform/w{n}")))));
    told.push(format!("{:?} {:?} {:?} {:?}", store.asides(99), store.drifts(), store.swept(), store.unmatched(99)));
    told.push(format!("{:?} {:?} {:?}", store.counts(), store.next_wait(), store.open()));
    told.push(format!("{:?} {:?}", store.recent(99), store.prunable(Wall::from_millis(i64::MAX / 2000), None, 99)));
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_store_is_the_same_whatever_was_taken_out_of_the_journal(
        acts in vec(act(), 5..60), batch in 1_usize..9, part in any::<u8>(),
    ) {
        let mut world = keeping(people::scored());
        world.pipeline.config.sources.get_mut("platform").expect("a source").schema.call = ["/a", "/b", "/c", "/d"].map(str::to_owned).to_vec();
        world.pipeline.config.expects.push(Expect::disposition(Duration::from_secs(60)));
        people::person(&mut world, CALLER);
        let mut left = play(&mut world, &acts);
        world.account.as_mut().expect("an account").set_faults(Vec::new());
        world.until(world.ms + 600 * SECOND);
        world.until(world.ms + DAY + 7200 * SECOND);
        let journal = world.journal.clone();
        let whole = anew(&mut world, &journal, batch);
        left.extend_from_slice(&journal[left.len()..]);
        let count = journal.len() * usize::from(part) / 255;
        cut(&world, &mut left, count);
        prop_assert_eq!(&anew(&mut world, &left, batch), &whole, "with a part of it taken out");
        cut(&world, &mut left, journal.len());
        prop_assert_eq!(&anew(&mut world, &left, batch), &whole, "with all taken out");
        #[cfg(feature = "shell")]
        {
            let sqlite = || crate::shell::store::Sqlite::open(std::path::Path::new(":memory:")).expect("tables");
            prop_assert_eq!(told_by(&anew_in(sqlite(), &mut world, &journal, batch)), told_by(&whole), "in SQLite");
            prop_assert_eq!(told_by(&anew_in(sqlite(), &mut world, &left, batch)), told_by(&whole), "in SQLite, with all taken out");
        }
        for n in 0..4 {
            let live = world.store.record(nth(n)).expect("stored");
            let held = world.store.hold(nth(n)).expect("stored");
            prop_assert_eq!(&whole.hold(nth(n)).expect("stored"), &held);
            prop_assert_eq!(whole.erasure(nth(n)), world.store.erasure(nth(n)));
            if live.as_ref().is_some_and(Record::is_pruned) {
                prop_assert_eq!(&whole.record(nth(n)).expect("stored"), &live);
                prop_assert_eq!(&whole.writes(nth(n)).expect("stored"), &world.store.writes(nth(n)).expect("stored"));
                prop_assert!(!holds(&left, &format!("secret {n}")) && !holds(&left, &format!("4711{n}#")), "call {n}");
            }
        }
    }
}
