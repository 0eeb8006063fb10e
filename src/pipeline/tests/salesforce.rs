//! Salesforce's double, asked beside the machine, and the connector that writes to it.

use super::*;
use crate::crm::{
    salesforce::{Grant, Salesforce, VERSION},
    sandbox::Fault,
};

pub(super) fn connector() -> Salesforce {
    Salesforce {
        base_url: "http://crm".into(),
        token_url: "http://crm/services/oauth2/token".into(),
        client_id: sandbox::CLIENT_ID.into(),
        grant: Grant::ClientCredentials(Zeroizing::new(sandbox::CLIENT_SECRET.into())),
        version: VERSION.into(),
        object: "Voice_Call__c".into(),
        key: "Key__c".into(),
        link: None,
        beside: None,
    }
}

/// As an administrator asks it.
pub(super) fn ask(world: &mut World, method: &str, path: &str, body: &Value) -> Value {
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", sandbox::CLIENT_ID, sandbox::CLIENT_SECRET);
    let token = world.ask("POST", "http://crm/services/oauth2/token", Vec::new(), form.into_bytes()).expect("answered").body;
    let token: Value = serde_json::from_slice(&token).expect("JSON");
    let headers = vec![("authorization".to_owned(), format!("Bearer {}", token["access_token"].as_str().expect("a token")))];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = world.ask(method, &format!("http://crm/services/data/v62.0/{path}"), headers, body).expect("answered");
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

pub(super) fn faults(world: &mut World, rules: &Value) {
    let rules: Vec<Fault> = serde_json::from_value(rules.clone()).expect("rules");
    world.account.as_mut().expect("a double").set_faults(rules);
}

/// The mapping that is shipped begins so: when the call began, to the millisecond.
#[test]
fn a_time_that_the_crm_cuts_to_the_second_is_nobodys_change() {
    let mut world = World::new();
    world.account = Double::of("salesforce", sandbox::Options::default(), Chance::from_seed(1));
    let key = json!({"type": "Text", "length": 40, "externalId": true, "unique": true});
    for (name, metadata) in [("Key__c", key), ("Started_At__c", json!({"type": "DateTime"}))] {
        let field = json!({"FullName": format!("Voice_Call__c.{name}"), "Metadata": metadata});
        assert_eq!(ask(&mut world, "POST", "tooling/sobjects/CustomField", &field)["success"], true);
    }
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    crm.connector = Box::new(connector());
    crm.mapping = Box::new(|record| {
        let fields = [("Name", record.get("call_id")), ("Started_At__c", record.get("started_at"))];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone()))).collect()
    });
    world.ms = 10_123;
    for (sequence, kind) in (1..).zip(life()) {
        let event = Event { call_id: call(), sequence, time: world.now().wall, at_ms: 0, kind };
        world.write_down(entry(&event));
    }
    world.until(100 * SECOND);
    let held =
        |world: &mut World| ask(world, "GET", "query?q=SELECT+Id,Started_At__c+FROM+Voice_Call__c", &Value::Null)["records"][0].clone();
    let row = held(&mut world);
    assert_eq!(row["Started_At__c"], "2026-01-05T10:00:10.000+0000");
    assert_eq!(world.write().written["Started_At__c"], "2026-01-05T10:00:10.123Z");
    let reconciled = |world: &mut World| {
        let now = world.now();
        world.pipeline.reconcile(now, &world.store, 8, "crm", None).expect("read");
        world.settle();
        world.told.pop().expect("told")
    };
    let found = reconciled(&mut world);
    assert_eq!((&found["written"], &found["changed"]), (&json!(1), &json!([])));
    let now = world.now();
    let since = Wall::parse("2020-01-01T00:00:00Z").expect("a time");
    world.pipeline.recover(now, 5, Recover { overwrite: false, ..recovery(since) });
    world.until(200 * SECOND);
    assert_eq!((world.write().state, world.write().edits.len()), (State::Done, 0));
    // Somebody's change is still one.
    let path = format!("sobjects/Voice_Call__c/{}", row["Id"].as_str().expect("an id"));
    ask(&mut world, "PATCH", &path, &json!({"Started_At__c": "2026-01-05T10:00:11.000Z"}));
    let changed = reconciled(&mut world)["changed"].clone();
    assert_eq!(changed[0]["fields"]["Started_At__c"]["value"], "2026-01-05T10:00:11.000+0000");
}

#[test]
fn one_date_that_is_none_keeps_no_other_record_of_its_batch_from_the_crm() {
    let mut world = World::new();
    world.account = Double::of("salesforce", sandbox::Options::default(), Chance::from_seed(1));
    let key = json!({"type": "Text", "length": 40, "externalId": true, "unique": true});
    for (name, metadata) in [("Key__c", key), ("Due__c", json!({"type": "Date"}))] {
        let field = json!({"FullName": format!("Voice_Call__c.{name}"), "Metadata": metadata});
        assert_eq!(ask(&mut world, "POST", "tooling/sobjects/CustomField", &field)["success"], true);
    }
    let id = |n: u8| -> CallId { format!("019b8d99-6ce8-7000-8000-00000000000{n}").parse().expect("a call id") };
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    crm.connector = Box::new(connector());
    crm.mapping = Box::new(move |record| {
        let call = record.get("call_id").cloned().unwrap_or_default();
        let due = if call == json!(id(3)) { "soon" } else { "2026-01-05" };
        [("Name".to_owned(), call), ("Due__c".to_owned(), json!(due))].into_iter().collect()
    });
    // All of them become due at once.
    for n in 1..=5 {
        for (sequence, kind) in (1..).zip(life()) {
            let event = Event { call_id: id(n), sequence, time: world.now().wall, at_ms: 0, kind };
            world.write_down(entry(&event));
        }
    }
    world.until(100 * SECOND);
    let writes = (1..=5).map(|n| world.store.write("crm", id(n)).expect("stored").expect("a write")).collect::<Vec<_>>();
    let states: Vec<_> = writes.iter().map(|write| write.state).collect();
    assert_eq!(states, [State::Done, State::Done, State::Review, State::Done, State::Done]);
    let why = writes[2].why.as_deref().unwrap_or_default();
    assert!(why.starts_with("Due__c: Cannot deserialize instance of date from VALUE_STRING value soon"), "{why}");
}
