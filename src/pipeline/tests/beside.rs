//! A Task beside each call's record, written and linked in one request, against Salesforce's double.

use super::{
    salesforce::{ask, connector, faults},
    *,
};
use crate::crm::{mapping::Mapping, salesforce::Salesforce};

fn mapping() -> Mapping {
    serde_json::from_value(json!({
        "version": 1, "object": "Voice_Call__c", "key": "Key__c",
        "field": [{"to": "Name", "from": "call_id"}, {"to": "Code__c", "from": "disposition_code"}],
        "beside": {"object": "Task", "key": "Key__c", "link": "WhatId", "person": "WhoId", "field": [
            {"to": "Subject", "from": "from"},
            {"to": "Status", "from": "disposition_code", "values": {"PAID": "Completed", "ODD": "No Such Word"}, "default": "In Progress"}
        ]},
        "contact": {"by": "from", "object": "Contact", "fields": ["Phone"], "nobody": "leave", "link": {"to": "Contact__c"}}
    }))
    .expect("a mapping")
}

fn world() -> World {
    world_of(mapping())
}

fn world_of(mapping: Mapping) -> World {
    let mut world = World::new();
    world.account = Double::of("salesforce", sandbox::Options::default(), Chance::from_seed(1));
    let key = json!({"type": "Text", "length": 40, "externalId": true, "unique": true});
    for (name, metadata) in [
        ("Voice_Call__c.Key__c", key.clone()),
        ("Activity.Key__c", key),
        ("Voice_Call__c.Code__c", json!({"type": "Text", "length": 20})),
        ("Voice_Call__c.Contact__c", json!({"type": "Lookup"})),
        ("Voice_Call__c.Account__c", json!({"type": "Lookup"})),
        ("Contact.Key__c", json!({"type": "Text", "length": 40, "externalId": true, "unique": true})),
    ] {
        assert_eq!(
            ask(&mut world, "POST", "tooling/sobjects/CustomField", &json!({"FullName": name, "Metadata": metadata}))["success"],
            true
        );
    }
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    crm.connector = Box::new(Salesforce { link: Some("Contact__c".into()), beside: mapping.beside.clone(), ..connector() });
    let rule = mapping.contact.clone().expect("a rule");
    crm.contacts =
        Some(Contacts { rule, links: mapping.person_links(), maker: Box::new(Salesforce { object: "Contact".into(), ..connector() }) });
    crm.writes = mapping.writes();
    crm.mapping = Box::new(move |record| mapping.apply(record));
    world
}

/// The one record of the call, and the one Task, which is linked with it.
fn pair(world: &mut World) -> (Value, Value) {
    let one = |world: &mut World, object: &str, fields: &str| {
        let found = ask(world, "GET", &format!("query?q=SELECT+Id,Key__c,{fields}+FROM+{object}"), &Value::Null);
        assert_eq!(found["totalSize"], 1, "{object}");
        found["records"][0].clone()
    };
    let (call, task) = (one(world, "Voice_Call__c", "Name,Code__c,Contact__c"), one(world, "Task", "Subject,Status,WhatId,WhoId"));
    assert_eq!((&call["Key__c"], &call["Key__c"]), (&json!(record_key(self::call())), &task["Key__c"]));
    assert_eq!(task["WhatId"], call["Id"], "linked");
    (call, task)
}

fn decide(world: &mut World, decision: Decision) {
    let now = world.now();
    world.pipeline.decide(now, &world.store, 9, "crm", call(), decision, "anna").expect("stored");
    world.until(world.ms + 10 * SECOND);
}

fn reconciled(world: &mut World) -> Value {
    let now = world.now();
    world.pipeline.reconcile(now, &world.store, 8, "crm", None).expect("read");
    world.settle();
    world.told.pop().expect("told")
}

fn delete(world: &mut World, object: &str) {
    let found = ask(world, "GET", &format!("query?q=SELECT+Id+FROM+{object}"), &Value::Null);
    let id = found["records"][0]["Id"].as_str().expect("an id").to_owned();
    ask(world, "DELETE", &format!("sobjects/{object}/{id}"), &Value::Null);
}

#[test]
fn both_records_are_written_linked_and_name_the_caller() {
    let mut world = world();
    let caller = ask(&mut world, "POST", "sobjects/Contact", &json!({"LastName": "Doe", "Phone": CALLER}))["id"].clone();
    world.call();
    world.until(10 * SECOND);
    world.webhook(1, "w1", "PAID");
    world.until(20 * SECOND);
    let (call, task) = pair(&mut world);
    assert_eq!((&call["Code__c"], &task["Status"], &task["Subject"]), (&json!("PAID"), &json!("Completed"), &json!(CALLER)));
    assert_eq!((&call["Contact__c"], &task["WhoId"]), (&caller, &caller));
    assert_eq!((world.write().state, world.write().id), (State::Done, call["Id"].as_str().map(str::to_owned)));
    let found = reconciled(&mut world);
    assert_eq!((&found["written"], &found["missing"], &found["changed"]), (&json!(1), &json!([]), &json!([])));
    // A colleague has moved the Task to another record: what comes later leaves that alone.
    let case = ask(&mut world, "POST", "sobjects/Case", &json!({"Subject": "x"}))["id"].clone();
    let path = format!("sobjects/Task/{}", task["Id"].as_str().expect("an id"));
    ask(&mut world, "PATCH", &path, &json!({"WhatId": case}));
    world.webhook(2, "w2", "SOLD");
    world.until(30 * SECOND);
    let moved = ask(&mut world, "GET", &path, &Value::Null);
    assert_eq!((&moved["Status"], &moved["WhatId"]), (&json!("In Progress"), &case));
}

/// A world in which the caller was found, and is gone before the record names him: merged into somebody else.
fn merged_away(mapping: Mapping) -> (World, Value) {
    let mut world = world_of(mapping);
    ask(&mut world, "POST", "sobjects/Contact", &json!({"LastName": "Old", "Phone": CALLER}));
    faults(&mut world, &json!([{"match": {"path": "/composite", "nth": 1}, "action": {"status": 503}}]));
    world.call();
    world.webhook(1, "w1", "PAID");
    world.settle();
    assert_eq!((world.write().state, world.write().written.len()), (State::Retrying, 0));
    delete(&mut world, "Contact");
    let caller = ask(&mut world, "POST", "sobjects/Contact", &json!({"LastName": "New", "Phone": CALLER}))["id"].clone();
    faults(&mut world, &json!([]));
    world.until(100 * SECOND);
    (world, caller)
}

#[test]
fn a_caller_who_was_deleted_is_looked_for_again_for_both() {
    let (mut world, caller) = merged_away(mapping());
    let (call, task) = pair(&mut world);
    assert_eq!((world.write().state, &call["Contact__c"], &task["WhoId"]), (State::Done, &caller, &caller));
}

#[test]
fn a_caller_who_was_deleted_is_looked_for_again_for_a_record_alone() {
    let (mut world, caller) = merged_away(Mapping { beside: None, ..mapping() });
    let found = ask(&mut world, "GET", "query?q=SELECT+Contact__c+FROM+Voice_Call__c", &Value::Null);
    assert_eq!(
        (world.write().state, &found["records"]),
        (State::Done, &json!([{"attributes": {"type": "Voice_Call__c"}, "Contact__c": caller}]))
    );
}

/// A reference that is wrong by the mapping is refused as somebody who is gone is: it ends with a person, and takes the caller away for no longer than that.
#[test]
fn another_reference_that_is_refused_waits_for_a_person_and_the_caller_comes_back() {
    for nobody in ["leave", "review", "create"] {
        let mut mapping = Mapping { beside: None, ..mapping() };
        let rule = mapping.contact.as_mut().expect("a rule");
        let more =
            json!({"key": "Key__c", "nobody": nobody, "field": [{"to": "LastName", "from": "from"}, {"to": "Phone", "from": "from"}]});
        let mut changed = json!({"by": "from", "object": "Contact", "fields": ["Phone"], "link": {"to": "Contact__c"}});
        changed.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        *rule = serde_json::from_value(changed).expect("a rule");
        let account = ask(&mut world_of(mapping.clone()), "POST", "sobjects/Case", &json!({}))["id"].clone();
        mapping.rules.push(serde_json::from_value(json!({"to": "Account__c", "default": account})).expect("a rule"));
        let mut world = world_of(mapping);
        if nobody != "create" {
            ask(&mut world, "POST", "sobjects/Contact", &json!({"LastName": "Doe", "Phone": CALLER}));
        }
        world.call();
        world.until(100 * SECOND);
        let write = world.write();
        assert_eq!((write.state, write.id), (State::Review, None), "{nobody}");
        assert_eq!(write.why.as_deref(), Some("invalid cross reference id (INVALID_CROSS_REFERENCE_KEY)"), "{nobody}");
        // The administrator makes what was missing, which has that id in his org.
        let made = ask(&mut world, "POST", "sobjects/Case", &json!({}))["id"].clone();
        decide(&mut world, Decision::Edit { fields: Fields::from([("Account__c".to_owned(), made)]) });
        decide(&mut world, Decision::Retry);
        let found = ask(&mut world, "GET", "query?q=SELECT+Contact__c+FROM+Voice_Call__c", &Value::Null);
        let person = world.write().contact.person().map(str::to_owned);
        assert!(person.is_some(), "{nobody}");
        assert_eq!((world.write().state, &found["records"][0]["Contact__c"]), (State::Done, &json!(person)), "{nobody}");
    }
}

#[test]
fn what_is_refused_of_the_second_waits_for_a_person_who_mends_it_by_its_name() {
    let mut world = world();
    world.call();
    world.webhook(1, "w1", "ODD");
    world.until(10 * SECOND);
    let write = world.write();
    let why = write.why.clone().unwrap_or_default();
    assert_eq!(write.state, State::Review);
    assert!(why.starts_with("Task.Status: Status: bad value for restricted picklist field: No Such Word"), "{why}");
    assert_eq!(ask(&mut world, "GET", "query?q=SELECT+Id+FROM+Task", &Value::Null)["totalSize"], 0);
    decide(&mut world, Decision::Edit { fields: Fields::from([("Task.Status".to_owned(), json!("Deferred"))]) });
    decide(&mut world, Decision::Retry);
    let (call, task) = pair(&mut world);
    assert_eq!((world.write().state, &call["Code__c"], &task["Status"]), (State::Done, &json!("ODD"), &json!("Deferred")));
}

/// A refusal of one of two leaves the other written: once the record says again what it said before, the CRM must hold that too.
#[test]
fn what_was_written_of_a_refused_pair_is_not_taken_for_unwritten() {
    let mut world = world();
    world.call();
    world.webhook(1, "w1", "PAID");
    world.until(10 * SECOND);
    world.webhook(2, "w2", "ODD");
    world.until(20 * SECOND);
    assert_eq!(world.write().state, State::Review);
    let held = ask(&mut world, "GET", "query?q=SELECT+Code__c+FROM+Voice_Call__c", &Value::Null)["records"][0]["Code__c"].clone();
    assert_eq!(held, "ODD", "the first of the two was written");
    world.webhook(3, "w3", "PAID");
    world.until(30 * SECOND);
    let (call, task) = pair(&mut world);
    assert_eq!((world.write().state, &call["Code__c"], &task["Status"]), (State::Done, &json!("PAID"), &json!("Completed")));
}

#[test]
fn a_record_that_somebody_took_away_is_made_whole_by_the_next_change() {
    for gone in ["Task", "Voice_Call__c"] {
        let mut world = world();
        world.call();
        world.webhook(1, "w1", "PAID");
        world.until(10 * SECOND);
        delete(&mut world, gone);
        assert_eq!(reconciled(&mut world)["missing"], json!([call()]), "{gone}");
        world.webhook(2, "w2", "SOLD");
        world.until(20 * SECOND);
        let (call, task) = pair(&mut world);
        assert_eq!(
            (&call["Code__c"], &task["Status"], &task["Subject"]),
            (&json!("SOLD"), &json!("In Progress"), &json!(CALLER)),
            "{gone}"
        );
        assert_eq!(call["Name"], json!(self::call()), "{gone}");
        assert_eq!(reconciled(&mut world)["written"], 1, "{gone}");
    }
}

#[test]
fn a_pair_that_is_missing_is_told_again_whole() {
    let mut world = world();
    world.call();
    world.webhook(1, "w1", "PAID");
    world.until(10 * SECOND);
    delete(&mut world, "Task");
    decide(&mut world, Decision::Resend);
    let (call, task) = pair(&mut world);
    assert_eq!((&call["Code__c"], &task["Status"], world.write().state), (&json!("PAID"), &json!("Completed"), State::Done));
}

/// Locks, failures, a lost answer and tokens that end: one pair in the end.
#[test]
fn a_pair_whose_answer_was_lost_is_one_pair() {
    for fault in [
        json!({"apply_then_drop": true}),
        json!({"drop": true}),
        json!({"status": 503}),
        json!({"lock": true}),
        json!({"expire_tokens": true}),
        json!({"status": 429}),
    ] {
        let mut world = world();
        faults(&mut world, &json!([{"match": {"path": "/composite", "nth": 1}, "action": fault}]));
        world.call();
        world.webhook(1, "w1", "PAID");
        world.until(400 * SECOND);
        let (call, task) = pair(&mut world);
        assert_eq!((world.write().state, &call["Code__c"], &task["Status"]), (State::Done, &json!("PAID"), &json!("Completed")), "{fault}");
    }
}

#[test]
fn what_has_drifted_names_the_fields_of_both_objects() {
    let fields: Vec<_> = mapping().reads().fields.into_iter().filter(|read| read.from == "disposition_code").map(|read| read.to).collect();
    assert_eq!(fields, ["Voice_Call__c.Code__c", "Task.Status"]);
}

#[test]
fn a_number_that_more_people_have_than_an_answer_holds_waits_for_a_person_with_both_written() {
    let mut world = world();
    for _ in 0..2001 {
        ask(&mut world, "POST", "sobjects/Contact", &json!({"LastName": "Doe", "Phone": CALLER}));
    }
    world.call();
    world.webhook(1, "w1", "PAID");
    world.until(10 * SECOND);
    let (call, task) = pair(&mut world);
    let attempts = world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Attempt).count();
    assert_eq!((world.write().state, &call["Contact__c"], &task["WhoId"], attempts), (State::Review, &Value::Null, &Value::Null, 2));
    assert!(world.write().why.is_some_and(|why| why.contains("is had by several")));
}
