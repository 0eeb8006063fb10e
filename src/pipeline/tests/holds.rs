//! A call that somebody holds loses nothing until it is released; the store, and a store made anew out of what is left of the journal, are the same.

use super::{
    retention::{DAY, anew, cut, holds, keeping, told},
    *,
};
use crate::pipeline::retention::What;

pub(super) fn order(world: &mut World, reply: u64, what: What, by: &str) {
    let now = world.now();
    let order = Order { call: call(), what, by: by.to_owned(), reason: Some("matter 7".to_owned()) };
    world.pipeline.order(now, &world.store, reply, order).expect("stored");
    world.settle();
}

/// The call that is settled, with a word that can be looked for.
pub(super) fn settled() -> World {
    let mut world = keeping(World::new());
    world.call();
    world.post(1, &told("w1", "platform-leg@sip", "he asked for mercy"));
    world
}

#[test]
fn what_is_held_stays_whole_however_old_it_is_and_goes_once_it_is_released() {
    let mut world = settled();
    order(&mut world, 2, What::Hold, "ann");
    let said = world.told.last().cloned().expect("an answer");
    assert_eq!((&said["held"], &said["by"], &said["reason"]), (&json!(true), &json!("ann"), &json!("matter 7")));
    world.until(30 * DAY);
    assert_eq!((world.store.is_pruned(call()), world.store.held()), (Ok(false), Ok(1)));
    let mut left = world.journal.clone();
    let count = left.len();
    cut(&world, &mut left, count);
    assert_eq!(left, world.journal, "nothing is taken out of the journal");
    assert_eq!(anew(&mut world, &left, 3), world.store);

    order(&mut world, 3, What::Release, "bob");
    assert_eq!((world.store.held(), world.store.holds(9)), (Ok(0), Ok(Vec::new())));
    world.until(31 * DAY);
    assert_eq!(world.store.is_pruned(call()), Ok(true));
    let whole = world.journal.clone();
    let mut left = whole.clone();
    cut(&world, &mut left, whole.len());
    assert_eq!((holds(&whole, "mercy"), holds(&left, "mercy"), holds(&left, "matter 7")), (true, false, true));
    for batch in [1, 4, 99] {
        assert_eq!(anew(&mut world, &whole, batch), world.store, "{batch}");
        assert_eq!(anew(&mut world, &left, batch), world.store, "{batch}");
    }
    assert_eq!(world.store.hold(call()).expect("stored").map(|hold| (hold.held, hold.by)), Some((false, "bob".to_owned())));
}

/// The skeletons are on their way to the disk, and the hold comes before them.
#[test]
fn a_hold_that_comes_while_the_skeleton_is_on_its_way_keeps_the_call() {
    let mut world = settled();
    world.until(DAY - SECOND);
    world.ms = DAY + 2 * 3600 * SECOND;
    let now = world.now();
    world.pipeline.turn(now, &mut world.store, true).expect("turned");
    let Some(Output::Append { append, entry }) = world.pipeline.poll_output() else { panic!("nothing is appended") };
    assert_eq!(entry.kind, EntryKind::Retention);
    let held = Order { call: call(), what: What::Hold, by: "ann".to_owned(), reason: None };
    world.pipeline.order(now, &world.store, 2, held).expect("stored");
    let Some(Output::Append { append: second, entry: hold }) = world.pipeline.poll_output() else { panic!("nothing is appended") };
    let late = Entry { id: "late".into(), ..hold.clone() };
    world.write_down(hold);
    world.write_down(entry);
    for append in [append, second] {
        world.pipeline.synced(now, append, Ok(()));
    }
    world.settle();
    assert_eq!((world.store.is_pruned(call()), world.told.len()), (Ok(false), 1));
    order(&mut world, 3, What::Release, "ann");
    world.until(DAY + 4 * 3600 * SECOND);
    assert_eq!(world.store.is_pruned(call()), Ok(true));
    // It comes again, out of a salvaged segment, behind the release; and what is held when nothing is there any more.
    world.write_down(late.clone());
    let time = world.now().wall;
    let body = String::from_utf8_lossy(&late.body).replace(&now.wall.to_string(), &time.to_string()).into_bytes();
    world.write_down(Entry { time, body, ..late });
    world.settle();
    assert_eq!(world.store.held(), Ok(0));
    let journal = world.journal.clone();
    assert_eq!(anew(&mut world, &journal, 2), world.store);
}

#[test]
fn what_cannot_be_ordered_is_refused_and_writes_nothing() {
    let mut world = settled();
    let entries = world.journal.len();
    order(&mut world, 2, What::Release, "ann");
    let now = world.now();
    let other = "01960000-0000-7000-8000-000000000099".parse().expect("a call id");
    let unknown = Order { call: other, what: What::Hold, by: "ann".to_owned(), reason: None };
    world.pipeline.order(now, &world.store, 4, unknown).expect("stored");
    world.settle();
    assert_eq!(world.journal.len(), entries);
    order(&mut world, 5, What::Hold, "ann");
    order(&mut world, 6, What::Hold, "bob");
    world.disk_full = true;
    order(&mut world, 7, What::Release, "ann");
    world.disk_full = false;
    assert_eq!(world.store.held(), Ok(1));
    order(&mut world, 8, What::Release, "ann");
    world.until(3 * DAY);
    order(&mut world, 9, What::Hold, "ann");
    assert_eq!(world.responses[1..], [(2, 409), (4, 404), (6, 409), (7, 503), (9, 409)]);
}

/// What a later call of one person says keeps the earlier one from saying it: it stays as long as that one does.
#[test]
fn with_a_held_call_stay_the_later_calls_of_its_person() {
    let mut world = keeping(people::scored());
    people::person(&mut world, CALLER);
    world.call();
    world.settle();
    order(&mut world, 1, What::Hold, "ann");
    let later: CallId = "019b8d99-6ce8-7000-8000-000000000002".parse().expect("a call id");
    for (sequence, kind) in (1..).zip(life()) {
        world.write_down(entry(&Event { call_id: later, sequence, time: world.now().wall, at_ms: 0, kind }));
    }
    let body =
        json!({"id": "s", "type": "sentiment.scored", "call_id": later, "time": "2026-01-05T10:00:00Z", "data": {"sentiment_score": 0.5}});
    world.post(2, &body.to_string());
    world.until(3 * DAY);
    assert_eq!((world.store.is_pruned(call()), world.store.is_pruned(later)), (Ok(false), Ok(false)));
    order(&mut world, 3, What::Release, "ann");
    world.until(4 * DAY);
    assert_eq!((world.store.is_pruned(call()), world.store.is_pruned(later)), (Ok(true), Ok(true)));
}
