//! What another life of the program makes of what the journal holds.

use super::*;

#[test]
fn a_store_made_anew_is_the_same_and_nothing_is_sent_again() {
    let mut world = World::new();
    world.call();
    world.until(100 * SECOND);
    assert_eq!(world.requests.len(), 2);
    let (before, sent) = (world.write(), world.requests.len());
    world.store = Memory::default();
    world.pipeline = pipeline();
    world.folded = 0;
    world.until(300 * SECOND);
    assert_eq!(world.requests.len(), sent, "not one request more");
    assert_eq!((world.write().state, world.write().written), (before.state, before.written));
}

#[test]
fn a_crash_between_attempt_and_answer_repeats_the_same_keyed_write() {
    let mut world = World::new();
    world.status = None;
    world.call();
    world.settle();
    assert_eq!(world.write().state, State::InFlight);
    world.pipeline = pipeline();
    world.status = Some(200);
    world.settle();
    assert_eq!(world.requests[0].1, world.requests[1].1);
    assert_eq!(world.write().state, State::Done);
}

#[test]
fn open_calls_are_closed_at_a_restart() {
    let mut world = World::new();
    for (sequence, kind) in (1..).zip(life().into_iter().take(2)) {
        world.event(sequence, kind);
    }
    world.settle();
    let closed = restart::close_open_calls(&world.store, world.now().wall).expect("read");
    let [event] = closed.as_slice() else { panic!("one call") };
    assert_eq!(event.sequence, 3);
    assert!(matches!(&event.kind, Kind::Failed(t) if t.reason.as_deref() == Some("gateway_restart") && t.outcome == Outcome::Answered));
    world.write_down(entry(event));
    world.until(100 * SECOND);
    assert_eq!(restart::close_open_calls(&world.store, world.now().wall).expect("read"), []);
    assert_eq!(world.write().written["disposition_code"], "FAILED — NO DISPOSITION");
}

#[test]
fn what_a_salvaged_segment_tells_again_changes_nothing() {
    let mut world = World::new();
    world.status = Some(400);
    world.call();
    world.until(SECOND);
    assert_eq!(world.write().state, State::Review);
    let salvaged = world.journal.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>();
    assert_eq!(salvaged.iter().filter(|e| e.kind == EntryKind::Answer).count(), 1);
    world.status = Some(200);
    world.webhook(1, "w1", "SALE");
    world.until(50 * SECOND);
    let (write, requests) = (world.write(), world.requests.len());
    assert_eq!(write.state, State::Done);
    salvaged.into_iter().for_each(|entry| world.write_down(entry));
    world.until(100 * SECOND);
    assert_eq!((world.write(), world.requests.len()), (write, requests));
}
