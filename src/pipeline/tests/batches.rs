//! Several records a request: filled, halved where one is refused, held back where the CRM is down.

use super::*;

/// A CRM that takes some records a request and refuses a request that holds a bad one whole.
struct Batches {
    most: usize,
    /// What it says where something is wrong.
    why: String,
}

impl Connector for Batches {
    fn batch_max(&self) -> usize {
        self.most
    }

    fn upsert(&self, changes: &[Change], _: &Token) -> HttpRequest {
        let body = serde_json::to_vec(&changes.iter().map(|c| &c.fields).collect::<Vec<_>>()).expect("json");
        HttpRequest { method: "POST", url: "batch".into(), headers: Vec::new(), body }
    }

    fn verdicts(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let why = self.why.clone();
        let verdict = match answer.status {
            200 => Verdict::Done { id: None },
            400 if changes.len() > 1 => Verdict::Split { why },
            400 | 422 => Verdict::Rejected { why },
            401 => Verdict::Auth { why },
            500.. => Verdict::Down { after: None, why },
            _ => Verdict::Retry { after: None, why },
        };
        vec![verdict; changes.len()]
    }

    fn oauth(&self) -> Option<&dyn OAuth> {
        Some(&Plain)
    }
}

pub(super) fn batching(concurrency: usize) -> World {
    batches_of(concurrency, Batches { most: 3, why: "one of them".to_owned() })
}

fn batches_of(concurrency: usize, batches: Batches) -> World {
    let mut world = World::new();
    let mut crm = world.pipeline.config.crms.remove(0);
    crm.connector = Box::new(batches);
    crm.pace = Pace { concurrency, ..Pace::default() };
    world.pipeline.config.crms.push(crm);
    world
}

/// Each record bears such a note.
fn noting(world: &mut World, note: impl Fn(&str) -> String + Send + 'static) {
    world.pipeline.config.crms[0].writes = vec!["call_id".to_owned(), "note".to_owned()];
    world.pipeline.config.crms[0].mapping = Box::new(move |record| {
        let call = record.get("call_id").and_then(Value::as_str).expect("a call id");
        [("call_id".to_owned(), json!(call)), ("note".to_owned(), json!(note(call)))].into_iter().collect()
    });
}

fn writes(world: &World, ids: &[CallId]) -> Vec<Write> {
    ids.iter().map(|id| world.store.write("crm", *id).expect("read").expect("a write")).collect()
}

/// Ended calls whose outcome nobody owes, all in the journal before a turn.
pub(super) fn rush(world: &mut World, calls: u64) -> Vec<CallId> {
    let mut ids = Vec::new();
    for n in 0..calls {
        let id: CallId = format!("01960000-0000-7000-8000-{n:012x}").parse().expect("a call id");
        ids.push(id);
        let event = Event { call_id: id, sequence: 1, time: world.now().wall, at_ms: 0, kind: Kind::Ended(busy()) };
        let body = serde_json::to_vec(&event.to_cloudevent()).expect("json");
        world.write_down(Entry { kind: EntryKind::Event, time: world.now().wall, id: format!("{id}/1"), key: id.to_string(), body });
    }
    ids
}

#[test]
fn what_waits_while_requests_are_under_way_goes_together() {
    let mut world = batching(1);
    rush(&mut world, 7);
    world.settle();
    world.until(SECOND);
    assert_eq!(world.batches, [3, 3, 1]);
    assert_eq!(world.store.counts().expect("counts"), Counts::default(), "all are done");
    let attempts = world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Attempt).map(|(_, e)| attempted(e).len()).collect::<Vec<_>>();
    assert_eq!(attempts, [3, 3, 1], "one entry a request");
}

#[test]
fn a_batch_refused_for_one_record_is_halved_until_that_one_stands_alone() {
    let mut world = batching(1);
    let ids = rush(&mut world, 3);
    world.bad = Some(ids[1].to_string());
    world.settle();
    world.until(SECOND);
    assert_eq!(world.batches, [3, 2, 1, 1, 1]);
    let states = ids.iter().map(|id| world.store.write("crm", *id).expect("read").expect("a write").state).collect::<Vec<_>>();
    assert_eq!(states, [State::Done, State::Review, State::Done]);
}

#[test]
fn halves_stay_apart_where_so_many_requests_a_second_may_leave() {
    let mut world = batching(4);
    world.pipeline.config.crms[0].pace.per_second = Some(1);
    let ids = rush(&mut world, 3);
    world.bad = Some(ids[1].to_string());
    world.settle();
    world.until(60 * SECOND);
    let states = ids.iter().map(|id| world.store.write("crm", *id).expect("read").expect("a write").state).collect::<Vec<_>>();
    assert_eq!(states, [State::Done, State::Review, State::Done]);
    assert!(world.batches.len() <= 6, "{:?}", world.batches);
}

#[test]
fn a_crm_that_is_down_is_asked_by_one_request_at_a_time_and_costs_the_others_no_attempt() {
    let mut world = batching(4);
    world.status = Some(503);
    rush(&mut world, 3000);
    world.settle();
    world.until(300 * SECOND);
    let asked = world.batches.len();
    assert!((10..200).contains(&asked), "{asked} requests in five minutes");
    world.status = Some(200);
    world.until(600 * SECOND);
    let counts = world.store.counts().expect("counts");
    assert_eq!((counts.dead, counts.review, counts.queued + counts.retrying), (0, 0, 0), "{counts:?}");
}

/// HubSpot's 207, and Dataverse's 200 of a `$batch`: the whole was taken up, and each part of it failed for the CRM's own sake.
#[test]
fn a_batch_of_which_each_part_fails_counts_as_a_crm_that_is_down() {
    let mut world = people::world(&people::rule());
    let crm = &mut world.pipeline.config.crms[0];
    (crm.contacts, crm.pace) = (None, Pace { batch: 1, concurrency: 1, ..Pace::default() });
    let failed =
        |category: &str| json!({"status": "COMPLETE", "results": [], "errors": [{"category": category, "message": "internal error"}]});
    let faults = |world: &mut World, rules: Value| {
        world.account.as_mut().expect("a double").set_faults(serde_json::from_value(rules).expect("rules"));
    };
    faults(&mut world, json!([{"match": {"path": "batch/upsert"}, "action": {"status": 207, "body": failed("INTERNAL_ERROR")}}]));
    (1..=20).for_each(|n| world.short_call(n));
    world.until(300 * SECOND);
    let counts = world.store.counts().expect("counts");
    assert_eq!((counts.dead, counts.queued + counts.retrying), (0, 20), "nobody's attempts are used up");
    faults(&mut world, json!([]));
    world.until(600 * SECOND);
    assert_eq!(world.store.counts().expect("counts"), Counts::default(), "all are done");
}

/// A refusal of a kind that nobody here knows is not the CRM's outage: it is the record's, and its attempts run out.
#[test]
fn a_record_that_a_batch_refuses_for_a_reason_nobody_knows_is_a_dead_letter_and_the_next_is_written() {
    let mut world = people::world(&people::rule());
    world.pipeline.config.attempts_max = 8;
    let crm = &mut world.pipeline.config.crms[0];
    (crm.contacts, crm.pace) = (None, Pace { batch: 1, concurrency: 1, ..Pace::default() });
    let error = json!({"category": "SOMETHING", "message": "no"});
    let faults = json!([{"match": {"path": "batch/upsert"},
        "action": {"status": 207, "body": {"status": "COMPLETE", "results": [], "errors": [error]}}}]);
    world.account.as_mut().expect("a double").set_faults(serde_json::from_value(faults).expect("rules"));
    world.short_call(1);
    world.until(3600 * SECOND);
    let counts = world.store.counts().expect("counts");
    assert_eq!((counts.dead, counts.queued + counts.retrying), (1, 0), "{counts:?}");
    world.account.as_mut().expect("a double").set_faults(Vec::new());
    world.short_call(2);
    world.until(3601 * SECOND);
    assert_eq!(world.store.counts().expect("counts"), Counts { dead: 1, ..Counts::default() }, "its lane was not held");
}

/// An hour of the wall clock: the queue waits, then drains, and nothing is sent twice that was taken.
#[test]
fn after_an_hour_without_the_crm_everything_is_written_once() {
    let mut world = batching(4);
    world.status = Some(503);
    let ids = rush(&mut world, 300);
    world.settle();
    world.until(3600 * SECOND);
    assert_eq!(world.store.counts().expect("counts").queued + world.store.counts().expect("counts").retrying, 300);
    world.status = Some(200);
    world.batches.clear();
    world.until(7200 * SECOND);
    assert_eq!(world.store.counts().expect("counts"), Counts::default(), "all are done");
    assert_eq!(world.batches.iter().sum::<usize>(), ids.len(), "each once");
}

/// Two requests at once that hold one key would race; in a batch API whose results come unordered nobody could tell which won.
#[test]
fn a_call_is_never_in_two_requests_at_a_time() {
    let mut world = World::new();
    world.call();
    let (now, batch) = (world.now(), world.journal.clone());
    world.pipeline.fold(&mut world.store, &batch, Position { segment: 1, offset: 99 }).expect("folded");
    let mut sent = 0;
    // The attempt is on its way to the disk: the store still says that the write is due.
    for _ in 0..3 {
        world.pipeline.turn(now, &mut world.store, true).expect("turned");
        while let Some(output) = world.pipeline.poll_output() {
            match output {
                Output::Append { .. } => sent += 1,
                output => world.perform(output),
            }
        }
    }
    assert_eq!((sent, world.write().state), (1, State::Queued));
}

/// As long as the mappings cut them, in an alphabet of two octets a letter: 6.4 MB, of which an entry takes 2 MiB.
#[test]
fn long_records_go_in_as_many_requests_as_the_journal_takes_attempts() {
    let mut world = batches_of(1, Batches { most: 100, why: String::new() });
    noting(&mut world, |_| "я".repeat(32_000));
    let ids = rush(&mut world, 100);
    world.settle();
    world.until(SECOND);
    assert!(writes(&world, &ids).iter().all(|w| w.state == State::Done), "{:?}", world.store.counts());
    assert_eq!((world.batches.iter().sum::<usize>(), world.batches.len()), (100, 7), "each once");
}

#[test]
fn a_record_longer_than_an_entry_waits_for_a_person_and_the_others_are_written() {
    let mut world = batches_of(1, Batches { most: 100, why: String::new() });
    let long = "01960000-0000-7000-8000-000000000001";
    noting(&mut world, move |call| if call == long { "x".repeat(ENTRY_BYTES_MAX) } else { "short".to_owned() });
    let ids = rush(&mut world, 3);
    world.settle();
    world.until(SECOND);
    let stand = writes(&world, &ids);
    assert_eq!(stand.iter().map(|w| w.state).collect::<Vec<_>>(), [State::Done, State::Review, State::Done]);
    let why = stand[1].why.as_deref().expect("a reason");
    assert!(why.contains("2097") && why.contains("max_chars"), "{why}");
    assert_eq!(world.batches.iter().sum::<usize>(), 2, "it was never sent");
    let now = world.now();
    world
        .pipeline
        .decide(now, &world.store, 1, "crm", ids[1], Decision::Edit { fields: [("note".to_owned(), json!("cut"))].into() }, "ann")
        .expect("stored");
    world.settle();
    world.pipeline.decide(now, &world.store, 2, "crm", ids[1], Decision::Retry, "ann").expect("stored");
    world.settle();
    assert_eq!((world.responses.clone(), writes(&world, &ids)[1].state), (vec![(1, 200), (2, 200)], State::Done));
}

/// HubSpot's refusal of a batch names all options of a property, and counts for each of its records.
#[test]
fn what_a_crm_says_at_length_of_many_records_is_kept_as_far_as_people_read_it() {
    let mut world = batches_of(1, Batches { most: 100, why: "ä".repeat(15_000) });
    world.status = Some(422);
    let ids = rush(&mut world, 100);
    world.settle();
    world.until(SECOND);
    for write in writes(&world, &ids) {
        let why = write.why.expect("a reason");
        assert_eq!((write.state, why.chars().count(), why.ends_with("ä…")), (State::Review, 2001, true));
    }
}

/// As with a thousand records, or with letters of which JSON makes six octets.
#[test]
fn an_answer_on_many_records_is_journaled_in_as_many_entries_as_it_takes() {
    let mut world = batches_of(1, Batches { most: 1000, why: "\u{1}".repeat(2000) });
    world.pipeline.config.crms[0].pace.batch = 1000;
    world.status = Some(422);
    let ids = rush(&mut world, 500);
    world.settle();
    world.until(SECOND);
    assert!(writes(&world, &ids).iter().all(|w| w.state == State::Review), "{:?}", world.store.counts());
    assert_eq!(world.batches, [500]);
}

/// The journal's lane may be full without the journal being closed: nobody tells that it has room again.
#[test]
fn an_answer_that_the_journal_did_not_take_is_appended_again_by_itself() {
    let mut world = batches_of(1, Batches { most: 3, why: String::new() });
    world.hold = Some("batch");
    let ids = rush(&mut world, 3);
    world.settle();
    world.disk_full = true;
    world.hold = None;
    for (request, http) in std::mem::take(&mut world.held) {
        world.perform(Output::Send { request, crm: "crm".into(), http });
    }
    world.settle();
    assert!(writes(&world, &ids).iter().all(|w| w.state == State::InFlight));
    world.disk_full = false;
    world.until(2 * SECOND);
    assert!(writes(&world, &ids).iter().all(|w| w.state == State::Done));
    assert_eq!(world.batches, [3], "sent once");
}

/// HubSpot refuses a batch whole for one record's property that the account does not have.
#[test]
fn a_property_that_only_one_record_has_holds_no_other() {
    let mut world = people::world(&people::rule());
    let mut ids = rush(&mut world, 3);
    let bad = ids[1].to_string();
    world.pipeline.config.crms[0].mapping = Box::new(move |record| {
        let mut fields = Fields::from([("hs_timestamp".to_owned(), json!("1767607200000"))]);
        if record.get("call_id") == Some(&json!(bad)) {
            fields.insert("dispositon".to_owned(), json!("PAID"));
        }
        fields.into()
    });
    let attempts = |world: &World| world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Attempt).count();
    let states = |world: &World, ids: &[CallId]| {
        ids.iter().map(|id| world.store.write("crm", *id).expect("read").expect("a write").state).collect::<Vec<_>>()
    };
    world.until(10 * SECOND);
    assert_eq!(states(&world, &ids), [State::Done, State::Review, State::Done]);
    assert_eq!(attempts(&world), 2, "three, then the two without it");
    // Nor does it when somebody has all of them tried again.
    let now = world.now();
    world.pipeline.decide(now, &world.store, 7, "crm", ids[1], Decision::Retry, "ann").expect("stored");
    ids = rush(&mut world, 5);
    world.until(20 * SECOND);
    assert_eq!(states(&world, &ids), [State::Done, State::Review, State::Done, State::Done, State::Done]);
    let why = world.store.write("crm", ids[1]).expect("read").expect("a write").why;
    assert_eq!(why.as_deref(), Some("dispositon: Property \"dispositon\" does not exist (PROPERTY_DOESNT_EXIST)"));
}

/// A CRM that refuses one record says nothing of itself: its failures are the record's, however many there are in a row.
#[test]
fn a_record_that_is_refused_for_now_again_and_again_is_a_dead_letter() {
    let mut world = batches_of(4, Batches { most: 100, why: "locked".into() });
    world.pipeline.config.attempts_max = 8;
    world.status = Some(423);
    let ids = rush(&mut world, 1);
    world.settle();
    world.until(3600 * SECOND);
    let write = writes(&world, &ids).remove(0);
    assert_eq!((write.state, write.attempts, world.batches.len()), (State::Dead, 8, 8));
}

/// Two requests left with one token, which ended meanwhile. By the time the second is told so, the first has brought a new one.
#[test]
fn the_late_refusal_of_an_old_token_says_nothing_of_the_new_one() {
    let mut world = batches_of(4, Batches { most: 1, why: "expired".into() });
    world.hold = Some("batch");
    let ids = rush(&mut world, 2);
    world.settle();
    let held = std::mem::take(&mut world.held);
    assert_eq!((held.len(), world.tokens), (2, 1));
    let refused = || Ok(HttpAnswer { status: 401, headers: Vec::new(), body: Vec::new() });
    world.ms = 100 * SECOND;
    for ((request, _), tokens) in held.into_iter().zip([2, 2]) {
        let now = world.now();
        world.pipeline.answer(now, request, refused());
        world.settle();
        world.ms += 700;
        assert_eq!(world.tokens, tokens);
    }
    assert_eq!(world.held.len(), 2, "both go again at once");
    world.hold = None;
    for (request, http) in std::mem::take(&mut world.held) {
        world.perform(Output::Send { request, crm: "crm".into(), http });
    }
    world.settle();
    assert!(writes(&world, &ids).iter().all(|w| w.state == State::Done));
    assert_eq!(world.tokens, 2);
}
