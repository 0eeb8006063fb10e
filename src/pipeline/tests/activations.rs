//! Which content of a mapping is in use, and what a store made anew makes of what an earlier one wrote.

use super::*;
use crate::{crm::mapping::Formed, pipeline::activation::Activation};

fn activation(version: u32) -> Activation {
    Activation { target: "crm".into(), version, sha256: format!("hash of {version}"), signed_by: Some("ann".into()), signed_at: None }
}

/// A content of the mapping that writes its own number, beside what the others write too.
fn of_version(version: u32) -> Pipeline {
    let mut config = pipeline().config;
    let crm = &mut config.crms[0];
    crm.activation = Some(activation(version));
    crm.mapping = Box::new(move |record| {
        let fields = ["call_id", "disposition_code", "needs_review"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), record.get(name)?.clone())));
        fields.chain([("version".to_owned(), json!(version))]).collect::<Formed>()
    });
    Pipeline::new(config, Chance::from_seed(7))
}

impl World {
    /// The gateway stops, and starts with that content.
    fn starts_with(&mut self, version: u32) {
        self.pipeline = of_version(version);
        self.settle();
    }

    /// The store is made anew, as `offhook rebuild` does it, by the content in use; entries come in batches of so many.
    fn rebuild(&mut self, version: u32, batch: usize) {
        let (mut pipeline, mut anew) = (of_version(version), Memory::default());
        for batch in self.journal[..self.folded].chunks(batch) {
            let next = Position { offset: batch[batch.len() - 1].0.offset + 1, segment: 1 };
            pipeline.fold(&mut anew, batch, next).expect("folded");
        }
        while pipeline.end_waits(self.now(), &mut anew).expect("ended") {}
        self.store = anew;
        self.starts_with(version);
    }

    /// The versions that requests since the last look bore; none where one bore no version.
    fn versions(&mut self) -> Vec<Option<u64>> {
        std::mem::take(&mut self.requests).iter().map(|(_, fields)| fields.get("version").and_then(Value::as_u64)).collect()
    }
}

/// A call that the first content has written whole.
fn written() -> World {
    let mut world = World::new();
    world.starts_with(1);
    world.call();
    world.webhook(1, "w1", "PAID");
    world.until(2 * SECOND);
    assert_eq!(world.write().state, State::Done);
    assert_eq!(world.write().written["version"], json!(1));
    world.versions();
    world
}

#[test]
fn which_mapping_is_in_use_is_on_record_once_for_each_content() {
    let mut world = World::new();
    let mut live = |version: u32| {
        world.starts_with(version);
        let known = world.store.activation("crm").expect("stored").map(|(activation, _)| activation);
        let written = world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Activation).count();
        (known.map(|a| a.version), written)
    };
    assert_eq!([live(1), live(1), live(2), live(2), live(1)], [(Some(1), 1), (Some(1), 1), (Some(2), 2), (Some(2), 2), (Some(1), 3)]);
}

#[test]
fn a_store_made_anew_writes_no_history_by_a_mapping_that_was_never_taken_over_it() {
    for batch in [1, 3, 1000] {
        let mut world = written();
        world.ms += 60 * SECOND;
        world.starts_with(2);
        world.until(world.ms + 600 * SECOND);
        let running = world.write();
        world.rebuild(2, batch);
        world.until(world.ms + 600 * SECOND);
        assert_eq!(world.versions(), [], "nothing is sent");
        let anew = world.write();
        assert_eq!((anew.state, &anew.written, &anew.id), (running.state, &running.written, &running.id));
        assert_eq!((anew.document()["wanted"].clone(), running.document()["wanted"].clone()), (json!({}), json!({})));

        // What becomes known of the call is written by the content in use, as it would be without.
        world.webhook(2, "w2", "BROKEN_PROMISE");
        world.until(world.ms + 2 * SECOND);
        assert_eq!((world.versions(), &world.write().written["version"]), (vec![Some(2)], &json!(2)));
        world.rebuild(2, batch);
        assert_eq!((world.versions(), world.write().state), (vec![], State::Done));
    }
}

#[test]
fn that_nobody_told_of_a_call_is_no_news_to_the_mapping_that_wrote_it() {
    let mut world = World::new();
    world.starts_with(1);
    world.call();
    world.until(120 * SECOND);
    assert_eq!((world.write().state, &world.write().written["needs_review"]), (State::Done, &json!(true)), "the wait was over");
    world.versions();
    world.starts_with(2);
    world.rebuild(2, 2);
    world.until(world.ms + 600 * SECOND);
    assert_eq!((world.versions(), world.write().state), (vec![], State::Done));
}

#[test]
fn what_was_not_written_yet_is_written_by_the_mapping_in_use() {
    let mut world = World::new();
    world.starts_with(1);
    world.status = Some(503);
    world.call();
    world.webhook(1, "w1", "PAID");
    world.until(SECOND);
    world.starts_with(2);
    world.rebuild(2, 2);
    world.versions();
    world.status = Some(200);
    world.until(world.ms + 600 * SECOND);
    assert_eq!((world.write().state, &world.write().written["version"]), (State::Done, &json!(2)));

    // So is what changed behind the last answer.
    let mut world = written();
    world.status = None;
    world.webhook(2, "w2", "BROKEN_PROMISE");
    world.settle();
    world.status = Some(200);
    world.rebuild(2, 2);
    world.until(world.ms + 600 * SECOND);
    let write = world.write();
    assert_eq!(
        (write.state, &write.written["disposition_code"], &write.written["version"]),
        (State::Done, &json!("BROKEN_PROMISE"), &json!(2))
    );
}

#[test]
fn what_became_known_while_an_answer_was_on_its_way_is_not_taken_for_written() {
    let mut world = written();
    world.hold = Some("");
    world.webhook(2, "w2", "PROMISED");
    world.ms += SECOND;
    world.webhook(3, "w3", "BROKEN_PROMISE");
    let (request, _) = world.held.pop().expect("on its way");
    let now = world.now();
    world.pipeline.answer(now, request, Ok(HttpAnswer { status: 200, headers: Vec::new(), body: Vec::new() }));
    world.settle();
    // The gateway dies before it writes down that the rest is sent.
    while world.journal.pop_if(|(_, entry)| entry.kind == EntryKind::Attempt).is_some() {}
    world.folded = world.journal.len();
    (world.hold, world.held) = (None, Vec::new());
    world.rebuild(2, 1);
    world.until(world.ms + 600 * SECOND);
    assert_eq!(world.write().written["disposition_code"], json!("BROKEN_PROMISE"));
}

#[test]
fn a_recovery_takes_the_mapping_in_use_over_history_that_was_made_anew() {
    let mut world = written();
    world.starts_with(2);
    world.rebuild(2, 1000);
    let now = world.now();
    world.pipeline.recover(now, 9, recovery(Wall::from_millis(0)));
    world.until(world.ms + 600 * SECOND);
    assert_eq!((world.versions(), &world.write().written["version"]), (vec![Some(2)], &json!(2)));
    world.rebuild(2, 1);
    assert_eq!((world.versions(), world.write().state), (vec![], State::Done));
}

#[test]
fn of_calls_before_a_crm_was_configured_nothing_is_planned() {
    let mut world = World::new();
    let mut nobody = pipeline().config;
    nobody.crms.clear();
    world.pipeline = Pipeline::new(nobody, Chance::from_seed(7));
    world.call();
    world.until(120 * SECOND);
    world.starts_with(1);
    world.until(world.ms + 600 * SECOND);
    assert_eq!(world.store.write("crm", call()), Ok(None));
    world.rebuild(1, 3);
    world.until(world.ms + 600 * SECOND);
    assert_eq!((world.store.write("crm", call()), world.versions()), (Ok(None), vec![]));
    // What comes to be known of it afterwards is written.
    world.webhook(1, "w1", "PAID");
    world.until(world.ms + 600 * SECOND);
    assert_eq!(world.write().state, State::Done);
}
