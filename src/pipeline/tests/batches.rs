//! Several records a request: filled, halved where one is refused, held back where the CRM is down.

use super::*;

/// A CRM that takes three records a request and refuses a request that holds a bad one whole.
struct Batches;

impl Connector for Batches {
    fn batch_max(&self) -> usize {
        3
    }

    fn upsert(&self, changes: &[Change], _: &Token) -> HttpRequest {
        let body = serde_json::to_vec(&changes.iter().map(|c| &c.fields).collect::<Vec<_>>()).expect("json");
        HttpRequest { method: "POST", url: "batch".into(), headers: Vec::new(), body }
    }

    fn verdicts(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let why = "one of them".to_owned();
        let verdict = match answer.status {
            200 => Verdict::Done { id: None },
            400 if changes.len() > 1 => Verdict::Split { why },
            400 => Verdict::Rejected { why },
            _ => Verdict::Retry { after: None, why },
        };
        vec![verdict; changes.len()]
    }

    fn oauth(&self) -> Option<&dyn OAuth> {
        Some(&Plain)
    }
}

pub(super) fn batching(concurrency: usize) -> World {
    let mut world = World::new();
    let mut crm = world.pipeline.config.crms.remove(0);
    crm.connector = Box::new(Batches);
    crm.pace = Pace { concurrency, ..Pace::default() };
    world.pipeline.config.crms.push(crm);
    world
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
