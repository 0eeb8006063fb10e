//! What a call held is taken away at once when somebody orders it; no CRM is told of it any more, and a store made anew is the same.

use super::{
    holds::{order, settled},
    retention::{DAY, anew, cut, holds, keeping, told},
    *,
};
use crate::pipeline::retention::What;

/// What is left of the whole journal.
fn left(world: &World) -> Vec<(Position, Entry)> {
    let mut left = world.journal.clone();
    let count = left.len();
    cut(world, &mut left, count);
    left
}

#[test]
fn an_erased_call_is_a_skeleton_at_once_and_what_comes_late_is_of_nobody() {
    let mut world = settled();
    world.until(10 * SECOND);
    let (id, requests) = (world.write().id, world.requests.len());
    order(&mut world, 2, What::Erase, "ann");
    let said = world.told.last().cloned().expect("an answer");
    assert_eq!((&said["dropped"], &said["left"]["crm"], &said["reason"]), (&json!([]), &json!(id), &json!("matter 7")));
    assert_eq!((world.write().state, world.write().pruned, world.write().id), (State::Done, true, id));
    assert_eq!((world.store.is_pruned(call()), world.store.erased()), (Ok(true), Ok(1)));
    for (reply, id) in [(3, "w1"), (4, "w2")] {
        world.post(reply, &told(id, "platform-leg@sip", "he asked for mercy"));
    }
    world.until(3 * DAY);
    assert_eq!((world.requests.len(), world.store.is_pruned(call())), (requests, Ok(true)));
    order(&mut world, 5, What::Erase, "bob");
    order(&mut world, 6, What::Hold, "bob");
    let now = world.now();
    world.pipeline.decide(now, &world.store, 7, "crm", call(), Decision::Resend, "ann").expect("stored");
    world.settle();
    assert_eq!(world.responses[1..], [(3, 200), (4, 200), (5, 409), (6, 409), (7, 409)]);
    let (whole, left) = (world.journal.clone(), left(&world));
    for text in [CALLER, "+492", "4711#", "mercy"] {
        assert_eq!((holds(&whole, text), holds(&left, text)), (true, false), "{text}");
    }
    assert!(holds(&left, "matter 7"), "why it was erased is known for good");
    for batch in [1, 4, 99] {
        assert_eq!(anew(&mut world, &whole, batch), world.store, "{batch}");
        assert_eq!(anew(&mut world, &left, batch), world.store, "{batch}");
    }
}

#[test]
fn what_waits_for_a_crm_is_dropped_and_what_is_on_its_way_there_has_to_come_back_first() {
    let mut world = keeping(World::new());
    world.status = None;
    world.call();
    world.post(1, &told("w1", "platform-leg@sip", "he asked for mercy"));
    assert_eq!(world.write().state, State::InFlight);
    let (entries, now) = (world.journal.len(), world.now());
    order(&mut world, 2, What::Erase, "ann");
    assert_eq!((world.responses.last(), world.journal.len()), (Some(&(2, 409)), entries));
    let request = world.pipeline.asked.keys().next().copied().expect("a request");
    world.status = Some(503);
    world.pipeline.answer(now, request, Err(NoAnswer { maybe_sent: true, why: "lost".into() }));
    world.settle();
    assert_eq!(world.write().state, State::Retrying);
    let requests = world.requests.len();
    order(&mut world, 3, What::Erase, "ann");
    assert_eq!(world.told.last().map(|said| said["dropped"].clone()), Some(json!(["crm"])));
    world.until(DAY);
    assert_eq!((world.requests.len(), world.write().state), (requests, State::Dropped), "it is not written any more");
    let (whole, left) = (world.journal.clone(), left(&world));
    assert_eq!(anew(&mut world, &whole, 3), world.store);
    assert_eq!(anew(&mut world, &left, 3), world.store);
    // Another call is written as ever: nothing keeps its lane.
    assert!(world.pipeline.lanes.values().all(|lane| lane.busy.is_empty()));
}

#[test]
fn nothing_is_sent_while_an_erasure_is_on_its_way_to_the_disk() {
    let mut world = keeping(World::new());
    // With a token from another call's write, so that a request could leave at once.
    let other: CallId = "019b8d99-6ce8-7000-8000-000000000002".parse().expect("a call id");
    for (sequence, mut kind) in (1..).zip(life()) {
        match &mut kind {
            Kind::Started { sip_call_ids, .. } => sip_call_ids.caller = "other".to_owned(),
            Kind::Answered { sip_call_id, .. } => *sip_call_id = None,
            _ => {}
        }
        world.write_down(entry(&Event { call_id: other, sequence, time: world.now().wall, at_ms: 0, kind }));
    }
    world.until(100 * SECOND);
    let requests = world.requests.len();
    world.call();
    let batch = world.journal[world.folded..].to_vec();
    world.folded = world.journal.len();
    let next = Position { segment: 1, offset: u64::try_from(world.folded).expect("fits") };
    world.pipeline.fold(&mut world.store, &batch, next).expect("folded");
    assert_eq!(world.write().state, State::Queued, "it is due");
    order(&mut world, 1, What::Erase, "ann");
    world.until(DAY);
    assert_eq!((world.requests.len(), world.told[0]["dropped"].clone()), (requests, json!(["crm"])));
}

/// What comes first into the journal decides.
#[test]
fn what_is_told_or_held_before_the_erasure_is_written_stands_in_its_way() {
    for holds in [false, true] {
        let mut world = settled();
        world.until(10 * SECOND);
        let (now, held) = (world.now(), Order { call: call(), what: What::Hold, by: "bob".into(), reason: None });
        if holds {
            world.pipeline.order(now, &world.store, 2, held.clone()).expect("stored");
        } else {
            let webhook = world.journal.iter().find(|(_, e)| e.kind == EntryKind::Webhook).expect("a webhook").1.clone();
            let body = String::from_utf8_lossy(&webhook.body).replace("w1", "w2").replace("SALE", "VISIT").into_bytes();
            world.write_down(Entry { time: now.wall, body, ..webhook });
        }
        let requests = world.requests.len();
        world.pipeline.order(now, &world.store, 3, Order { what: What::Erase, ..held }).expect("stored");
        world.settle();
        assert_eq!((world.responses.last(), world.store.is_pruned(call())), (Some(&(3, 409)), Ok(false)), "{holds}");
        if !holds {
            assert!(world.requests.len() > requests, "what was told is written");
            order(&mut world, 4, What::Erase, "ann");
            assert_eq!(world.store.is_pruned(call()), Ok(true));
        }
        let (whole, left) = (world.journal.clone(), left(&world));
        let tells = |store: &Memory| (store.is_pruned(call()), store.record(call()), store.hold(call()), store.erasure(call()));
        for journal in [&whole, &left] {
            assert_eq!(tells(&anew(&mut world, journal, 2)), tells(&world.store), "{holds}");
        }
    }
}

/// Carriers use SIP Call-IDs again: what was told under one is of the call that bore it then.
#[test]
fn what_was_told_under_a_name_that_a_later_call_bears_goes_with_the_call_that_it_was_told_to() {
    let mut world = settled();
    world.post(2, &told("w2", "trunk-leg@sip", "he asked for pity"));
    let later: CallId = "019b8d99-6ce8-7000-8000-000000000002".parse().expect("a call id");
    for (sequence, kind) in (1..).zip(life()) {
        world.write_down(entry(&Event { call_id: later, sequence, time: world.now().wall, at_ms: 0, kind }));
    }
    world.post(3, &told("w3", "trunk-leg@sip", "he asked for grace"));
    world.until(10 * SECOND);
    assert_eq!(world.store.named("trunk-leg@sip"), Ok(Some(later)));
    order(&mut world, 4, What::Erase, "ann");
    let (whole, left) = (world.journal.clone(), left(&world));
    let stand = |journal: &[(Position, Entry)]| ["mercy", "pity", "grace"].map(|word| holds(journal, word));
    assert_eq!((stand(&whole), stand(&left)), ([true; 3], [false, false, true]));
    for batch in [1, 4, 99] {
        let tells = |store: &Memory| (store.record(call()), store.writes(call()), store.record(later), store.named("trunk-leg@sip"));
        assert_eq!(tells(&anew(&mut world, &whole, batch)), tells(&world.store), "{batch}");
        assert_eq!(tells(&anew(&mut world, &left, batch)), tells(&world.store), "{batch}");
    }
}

#[test]
fn a_call_under_way_is_not_erased_nor_one_that_an_earlier_one_hangs_on() {
    let mut world = World::new();
    world.events(life().into_iter().take(2).collect());
    world.settle();
    order(&mut world, 1, What::Erase, "ann");
    assert_eq!(world.responses, [(1, 409)]);

    let mut world = people::scored();
    people::person(&mut world, CALLER);
    world.call();
    let later: CallId = "019b8d99-6ce8-7000-8000-000000000002".parse().expect("a call id");
    for (sequence, kind) in (1..).zip(life()) {
        world.write_down(entry(&Event { call_id: later, sequence, time: world.now().wall, at_ms: 0, kind }));
    }
    let body =
        json!({"id": "s", "type": "sentiment.scored", "call_id": later, "time": "2026-01-05T10:00:00Z", "data": {"sentiment_score": 0.5}});
    world.post(2, &body.to_string());
    world.until(600 * SECOND);
    let erase = |world: &mut World, reply, call| {
        let now = world.now();
        world.pipeline.order(now, &world.store, reply, Order { call, what: What::Erase, by: "ann".into(), reason: None }).expect("stored");
        world.settle();
    };
    erase(&mut world, 3, later);
    assert_eq!((world.responses.last(), world.store.is_pruned(later)), (Some(&(3, 409)), Ok(false)));
    erase(&mut world, 4, call());
    erase(&mut world, 5, later);
    assert_eq!((world.store.is_pruned(call()), world.store.is_pruned(later)), (Ok(true), Ok(true)));
    let (whole, left) = (world.journal.clone(), left(&world));
    assert_eq!(anew(&mut world, &whole, 3), world.store);
    assert_eq!(anew(&mut world, &left, 3), world.store);
}
