//! What people decide: journaled, so that a store made anew holds it too.

use super::*;

fn decide(world: &mut World, decision: Decision) {
    let now = world.now();
    world.pipeline.decide(now, &world.store, 9, "crm", call(), decision, "anna").expect("stored");
    world.settle();
}

fn rebuilt(world: &World) -> Write {
    let mut anew = Memory::default();
    pipeline().fold(&mut anew, &world.journal, Position { segment: 1, offset: 999 }).expect("folded");
    anew.write("crm", call()).expect("read").expect("a write")
}

/// A call whose disposition the CRM refuses.
fn refused() -> World {
    let mut world = World::new();
    world.status = Some(400);
    world.call();
    world.webhook(1, "w1", "SOLD");
    world.until(10 * SECOND);
    assert_eq!(world.write().state, State::Review);
    world
}

#[test]
fn what_was_refused_is_mended_and_sent() {
    let mut world = refused();
    let fields = Fields::from([("disposition_code".to_owned(), json!("SALE"))]);
    decide(&mut world, Decision::Edit { fields });
    assert_eq!(world.write().state, State::Review, "it waits until somebody approves");
    world.status = Some(200);
    decide(&mut world, Decision::Retry);
    world.until(20 * SECOND);
    assert_eq!((world.write().state, &world.write().written["disposition_code"]), (State::Done, &json!("SALE")));
    // Something else becomes known: the edit stays.
    world.event(9, Kind::Transferred { to: "x".into(), by: crate::event::Leg::Callee, context: None });
    world.until(30 * SECOND);
    assert_eq!(world.write().written["disposition_code"], "SALE");
    assert_eq!((rebuilt(&world).written, rebuilt(&world).edits), (world.write().written, world.write().edits));
    // The platform says something else than it did then: that counts.
    world.webhook(2, "w2", "NO SALE");
    world.until(40 * SECOND);
    assert_eq!((&world.write().written["disposition_code"], world.write().edits.len()), (&json!("NO SALE"), 0));
}

/// A CRM refuses a record for ever whose field it does not know, and its key is the call's.
#[test]
fn an_edit_of_a_field_that_the_mapping_does_not_write_is_refused() {
    let mut world = refused();
    let entries = world.journal.len();
    for field in ["nosuch", "key", "disposition"] {
        decide(&mut world, Decision::Edit { fields: [(field.to_owned(), json!("X"))].into() });
        assert_eq!(world.responses.last(), Some(&(9, 400)), "{field}");
    }
    assert_eq!((world.write().edits.len(), world.journal.len()), (0, entries));
}

#[test]
fn an_edit_is_taken_back_and_the_mappings_own_value_goes_out() {
    let mut world = refused();
    let edit = |value: Value| Decision::Edit { fields: [("disposition_code".to_owned(), value)].into() };
    decide(&mut world, edit(Value::Null));
    assert_eq!(world.responses.last(), Some(&(9, 400)), "nobody has edited it");
    decide(&mut world, edit(json!("SLAE")));
    decide(&mut world, edit(Value::Null));
    assert_eq!(world.responses.last(), Some(&(9, 200)));
    assert_eq!((&world.write().wanted["disposition_code"], world.write().edits.len()), (&json!("SOLD"), 0));
    world.status = Some(200);
    decide(&mut world, Decision::Retry);
    world.until(20 * SECOND);
    assert_eq!((world.write().state, &world.write().written["disposition_code"]), (State::Done, &json!("SOLD")));
    assert_eq!((rebuilt(&world).written, rebuilt(&world).edits), (world.write().written, world.write().edits));
}

/// What an earlier offhook took into a field that no mapping writes: it is known, and taken back.
#[test]
fn an_edit_that_was_taken_of_an_unknown_field_is_taken_back_too() {
    let mut world = refused();
    let now = world.now();
    let slip = Decision::Edit { fields: [("nosuch".to_owned(), json!("X"))].into() };
    world.write_down(super::super::decision::decided(now.wall, "crm", call(), slip, "anna"));
    world.settle();
    assert_eq!(world.write().wanted["nosuch"], "X");
    decide(&mut world, Decision::Edit { fields: [("nosuch".to_owned(), Value::Null)].into() });
    world.status = Some(200);
    decide(&mut world, Decision::Retry);
    world.until(20 * SECOND);
    let write = world.write();
    assert_eq!((write.state, write.written.get("nosuch"), write.edits.len()), (State::Done, None, 0));
}

#[test]
fn what_has_gone_from_the_crm_is_told_again_whole() {
    let mut world = World::new();
    world.call();
    world.until(100 * SECOND);
    let whole = world.write().written;
    decide(&mut world, Decision::Resend);
    world.until(110 * SECOND);
    assert_eq!(world.requests.last().expect("a request").1, whole);
    assert_eq!(world.write().state, State::Done);
    // What is on its way is not told twice.
    world.status = None;
    world.webhook(1, "w1", "SALE");
    decide(&mut world, Decision::Resend);
    assert_eq!(world.responses.last(), Some(&(9, 409)));
}

#[test]
fn a_person_tries_a_refused_record_again_or_drops_it() {
    let mut world = World::new();
    world.status = Some(400);
    world.call();
    world.settle();
    assert_eq!(world.write().state, State::Review);
    let decide = |world: &mut World, reply, decision| {
        let now = world.now();
        world.pipeline.decide(now, &world.store, reply, "crm", call(), decision, "anna").expect("stored");
        world.settle();
    };
    world.status = Some(200);
    decide(&mut world, 1, Decision::Retry);
    assert_eq!((world.write().state, world.write().attempts, world.requests.len()), (State::Done, 0, 2));
    decide(&mut world, 2, Decision::Retry);
    assert_eq!(world.responses, [(1, 200), (2, 409)], "what is done waits for nobody");

    let mut world = World::new();
    world.status = Some(400);
    world.call();
    world.settle();
    decide(&mut world, 1, Decision::Drop);
    world.status = Some(200);
    world.webhook(2, "late", "SALE");
    assert_eq!((world.write().state, world.requests.len()), (State::Dropped, 1), "what comes later changes nothing");
    decide(&mut world, 3, Decision::Retry);
    assert_eq!((world.write().state, world.requests.len()), (State::Done, 2));
    assert_eq!(world.write().written["disposition_code"], "SALE");
}

/// A mapping that writes `day` where the platform told a date, and says so where it told something else.
fn dated() -> World {
    let mut world = World::new();
    let rules = json!({"version": 1, "object": "calls", "key": "key", "field": [
        {"to": "day", "from": "next_action_date", "as": "date"},
        {"to": "intent", "from": "intent"},
        {"to": "needs_review", "from": "needs_review", "as": "boolean"}
    ]});
    let mapping: crate::crm::mapping::Mapping = serde_json::from_value(rules).expect("a mapping");
    world.pipeline.config.crms[0].writes = mapping.writes();
    world.pipeline.config.crms[0].mapping = Box::new(move |record| mapping.apply(record));
    world.pipeline.config.expects.clear();
    world
}

#[test]
fn a_value_without_its_form_is_left_out_named_and_for_a_person_who_mends_it_or_lets_it_pass() {
    let told = |world: &mut World, reply: u64, day: &str| {
        let time = world.now().wall;
        let id = format!("d{reply}");
        let data = json!({"next_action_date": day, "intent": "pay"});
        world.post(reply, &json!({"id": id, "type": "call.ended", "call_id": call(), "time": time, "data": data}).to_string());
        world.settle();
    };
    let decide = |world: &mut World, reply: u64, decision| {
        let now = world.now();
        world.pipeline.decide(now, &world.store, reply, "crm", call(), decision, "anna").expect("stored");
        world.settle();
    };
    let begin = |tells_ids: bool| {
        let mut world = dated();
        world.status = Some(if tells_ids { 200 } else { 204 });
        world.call();
        told(&mut world, 1, "the day after tomorrow");
        let write = world.write();
        assert_eq!((write.state, write.why.as_deref()), (State::Review, Some("day: `next_action_date` is not a date, such as 2026-01-05")));
        assert_eq!((&write.written["intent"], &write.written["needs_review"]), (&json!("pay"), &json!(true)), "all else is written");
        world
    };
    let mut world = begin(true);
    decide(&mut world, 2, Decision::Edit { fields: [("day".to_owned(), json!("2026-01-07"))].into() });
    decide(&mut world, 3, Decision::Retry);
    assert_eq!((world.write().state, &world.write().written["day"]), (State::Done, &json!("2026-01-07")));

    // So it is in a CRM that tells no ids of its records.
    for tells_ids in [true, false] {
        let mut world = begin(tells_ids);
        assert_eq!(world.write().id.is_some(), tells_ids);
        decide(&mut world, 2, Decision::Drop);
        assert_eq!(world.write().state, State::Done);
        told(&mut world, 3, "some day");
        assert_eq!(world.write().state, State::Done, "the same fault is let pass again");
    }

    let mut world = begin(true);
    world.ms += 1000;
    told(&mut world, 2, "2026-01-08");
    let write = world.write();
    assert_eq!((write.state, &write.written["day"], &write.written["needs_review"]), (State::Done, &json!("2026-01-08"), &json!(false)));
}
