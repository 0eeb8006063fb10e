//! A call becomes one record, whatever its CRM answers, or does not.

use super::*;

#[test]
fn a_call_becomes_one_record_and_its_outcome_an_update_of_it() {
    let mut world = World::new();
    world.call();
    world.settle();
    assert_eq!(world.requests.len(), 1);
    assert_eq!(world.requests[0].1["digits"], "4711#");
    assert!(!world.requests[0].1.contains_key("disposition_code"));
    world.webhook(1, "w1", "SALE");
    assert_eq!(world.responses, [(1, 200)]);
    assert_eq!(world.requests[1].1, [("disposition_code".to_owned(), json!("SALE"))].into(), "only what differs");
    world.until(200 * SECOND);
    assert_eq!((world.requests.len(), world.write().state, world.write().id), (2, State::Done, Some("crm-1".into())));
    assert_eq!((world.tokens, world.kept), (1, vec!["second".to_owned()]));
    let delivered = world.counts.iter().filter(|c| matches!(c, Count::Delivered(_))).count();
    assert_eq!(delivered, 1);
}

#[test]
fn nobody_tells_the_outcome_and_the_record_says_so() {
    let mut world = World::new();
    world.call();
    world.until(59 * SECOND);
    assert_eq!(world.requests.len(), 1);
    world.until(62 * SECOND);
    assert_eq!(world.requests[1].1["disposition_code"], "NO_DISPOSITION");
    assert_eq!(world.requests[1].1["needs_review"], true);
    world.webhook(1, "late", "SALE");
    assert_eq!((&world.requests[2].1["disposition_code"], &world.requests[2].1["needs_review"]), (&json!("SALE"), &json!(false)));
}

#[test]
fn order_and_repetition_do_not_matter() {
    let mut forward = World::new();
    forward.call();
    forward.webhook(1, "w1", "SALE");
    forward.until(100 * SECOND);
    let mut backward = World::new();
    backward.webhook(1, "w1", "SALE");
    for sequence in [4, 2, 4, 3, 1, 2] {
        backward.event(sequence, life()[usize::try_from(sequence).expect("fits") - 1].clone());
        backward.settle();
    }
    backward.until(100 * SECOND);
    assert_eq!(backward.write().written, forward.write().written);
    assert_eq!(
        backward.store.record(call()).expect("stored").map(|r| r.fields()),
        forward.store.record(call()).expect("stored").map(|r| r.fields())
    );
}

#[test]
fn an_outage_is_waited_for_and_the_write_is_made_once() {
    let mut world = World::new();
    world.status = Some(503);
    world.call();
    world.until(2 * SECOND);
    assert_eq!(world.write().state, State::Retrying);
    let before = world.requests.len();
    assert!(before >= 2, "tried again");
    world.status = Some(200);
    world.until(50 * SECOND);
    assert_eq!((world.write().state, world.requests.len()), (State::Done, before + 1));
}

#[test]
fn attempts_run_out_and_the_write_is_a_dead_letter() {
    let mut world = World::new();
    world.status = Some(503);
    world.call();
    world.until(59 * SECOND);
    assert_eq!((world.write().state, world.requests.len()), (State::Dead, 3));
    assert_eq!(world.store.counts().expect("counted").dead, 1);
}

#[test]
fn a_rejected_record_waits_for_a_person() {
    let mut world = World::new();
    world.status = Some(400);
    world.call();
    world.until(59 * SECOND);
    assert_eq!((world.write().state, world.write().why.as_deref(), world.requests.len()), (State::Review, Some("says so"), 1));
}

#[test]
fn a_throttled_lane_waits_as_long_as_it_is_told() {
    let mut world = World::new();
    world.status = Some(429);
    world.call();
    world.until(6 * SECOND);
    assert_eq!(world.requests.len(), 1);
    world.status = Some(200);
    world.until(8 * SECOND);
    assert_eq!((world.requests.len(), world.write().state), (2, State::Done));
}

#[test]
fn a_refused_token_is_renewed_once_and_a_refused_new_one_pauses_the_lane() {
    let mut world = World::new();
    world.status = Some(401);
    world.call();
    world.until(20 * SECOND);
    assert_eq!((world.requests.len(), world.tokens), (1, 1), "the token was new: another one would not help");
    world.status = Some(200);
    world.until(40 * SECOND);
    assert_eq!((world.requests.len(), world.tokens, world.write().state), (2, 2, State::Done));
}

#[test]
fn a_standing_secret_asks_for_no_token() {
    let mut world = World::new();
    let connector = crate::crm::http::Http { method: "PUT", url: "{key}".into(), body: "{record}".into(), secret: None };
    world.pipeline.config.crms[0].connector = Box::new(connector);
    world.call();
    world.settle();
    assert_eq!((world.tokens, world.requests.len(), world.write().state), (0, 1, State::Done));
    // Refused, it is not tried in a circle.
    world.status = Some(401);
    world.webhook(1, "late", "SALE");
    world.until(100 * SECOND);
    assert!((2..8).contains(&world.requests.len()), "{} requests", world.requests.len());
    world.status = Some(200);
    world.until(200 * SECOND);
    assert_eq!(world.write().state, State::Done);
}

#[test]
fn what_may_have_been_taken_is_sent_again_even_where_it_is_what_was_there_before() {
    let mut world = World::new();
    world.call();
    world.until(SECOND);
    assert_eq!(world.write().written["needs_review"], false);
    // The wait for an outcome ends; the CRM takes that, and its answer is lost: nobody knows.
    world.status = Some(503);
    world.until(61 * SECOND);
    assert_eq!(world.requests.last().expect("a request").1["needs_review"], true);
    world.status = Some(200);
    world.webhook(1, "late", "SALE");
    world.until(400 * SECOND);
    let last = &world.requests.last().expect("a request").1;
    assert_eq!((&last["disposition_code"], &last["needs_review"]), (&json!("SALE"), &json!(false)));
    // The same where the process died before the answer came: the next attempt tells.
    let mut anew = Memory::default();
    let upto = world.journal.iter().position(|(_, e)| e.kind == EntryKind::Answer).expect("an answer");
    let mut other = pipeline();
    other.fold(&mut anew, &world.journal[..upto], Position { segment: 1, offset: 99 }).expect("folded");
    assert!(!anew.write("crm", call()).expect("read").expect("a write").sent.is_empty());
    other.turn(world.now(), &mut anew, true).expect("turned");
    let write = anew.write("crm", call()).expect("read").expect("a write");
    assert_eq!((write.sent.len(), write.difference().len()), (0, write.wanted.len()));
}
