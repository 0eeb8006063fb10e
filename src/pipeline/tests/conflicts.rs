//! Another record stands in the way of one, and what refusals of single records say of their CRM: nothing.

use super::{
    salesforce::{ask, connector, faults},
    *,
};

/// Salesforce's double, whose records bear a caller's number that no other one may bear. Before the calls, somebody has written down theirs.
fn world() -> World {
    let mut world = World::new();
    world.account = Double::of("salesforce", sandbox::Options::default(), Chance::from_seed(1));
    for (name, metadata) in [
        ("Key__c", json!({"type": "Text", "length": 40, "externalId": true, "unique": true})),
        ("Number__c", json!({"type": "Text", "length": 40, "unique": true})),
    ] {
        let field = json!({"FullName": format!("Voice_Call__c.{name}"), "Metadata": metadata});
        assert_eq!(ask(&mut world, "POST", "tooling/sobjects/CustomField", &field)["success"], true);
    }
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    crm.connector = Box::new(connector());
    crm.mapping = Box::new(|record| {
        let fields = [("Name", "call_id"), ("Number__c", "from")];
        fields.into_iter().filter_map(|(to, from)| Some((to.to_owned(), record.get(from)?.clone()))).collect()
    });
    world.pipeline.config.attempts_max = 50;
    world
}

fn standing_in_the_way() -> World {
    let mut world = world();
    let other = json!({"records": [{"attributes": {"type": "Voice_Call__c"}, "Key__c": "other", "Number__c": CALLER}]});
    assert_eq!(ask(&mut world, "PATCH", "composite/sobjects/Voice_Call__c/Key__c", &other)[0]["success"], true);
    world
}

fn attempts_of(world: &World, call: CallId) -> usize {
    world.journal.iter().filter(|(_, entry)| attempted(entry).contains(&call)).count()
}

#[test]
fn a_record_that_another_one_stands_in_the_way_of_is_tried_once_more_and_then_waits_for_a_person() {
    let mut world = standing_in_the_way();
    world.call();
    world.until(5 * SECOND);
    let write = world.write();
    assert_eq!((write.state, attempts_of(&world, call())), (State::Review, 2));
    assert!(write.why.as_deref().is_some_and(|why| why.contains("duplicate value found: Number__c")), "{:?}", write.why);
    let other = super::batches::rush(&mut world, 1)[0];
    world.until(6 * SECOND);
    assert_eq!(world.store.write("crm", other).expect("read").expect("a write").state, State::Done);
    // Whoever decides that it is tried again, has it tried as before.
    let now = world.now();
    world.pipeline.decide(now, &world.store, 1, "crm", call(), Decision::Retry, "ann").expect("stored");
    world.until(12 * SECOND);
    assert_eq!((world.write().state, attempts_of(&world, call())), (State::Review, 4));
}

#[test]
fn who_comes_second_with_a_record_that_somebody_makes_just_now_updates_it() {
    let mut world = world();
    let refused = json!([{"success": false, "errors": [{"statusCode": "DUPLICATE_VALUE", "message": "duplicate value found: Key__c", "fields": []}]}]);
    faults(&mut world, &json!([{"match": {"path": "composite", "nth": 1}, "action": {"status": 200, "body": refused}}]));
    world.call();
    world.until(3 * SECOND);
    assert_eq!((world.write().state, attempts_of(&world, call())), (State::Done, 2));
}
