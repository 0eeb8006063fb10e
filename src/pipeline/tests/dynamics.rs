//! What stands on the ids of rows, against Dataverse's double, whose answers to upserts name none of themselves.

use super::*;
use crate::crm::{
    contact::{Link, Rule},
    dynamics::{Dynamics, VERSION},
};

const LINK: &str = "regardingobjectid_contact_phonecall@odata.bind";

fn connector(set: &str, key: &str) -> Dynamics {
    Dynamics {
        base_url: "http://crm".into(),
        token_url: "http://crm/tenant/oauth2/v2.0/token".into(),
        client_id: sandbox::CLIENT_ID.into(),
        client_secret: Zeroizing::new(sandbox::CLIENT_SECRET.into()),
        version: VERSION.into(),
        set: set.into(),
        key: key.into(),
        link: (set == "phonecalls").then(|| Link { to: LINK.into(), value: "/contacts({id})".into() }),
    }
}

/// A world whose environment looks for people, and makes them where `nobody` says so.
fn world(nobody: &str) -> World {
    let mut world = World::new();
    world.account = Some(Double::of("dynamics", sandbox::Options::default(), Chance::from_seed(1)).expect("a double"));
    for (table, name) in [("phonecall", "offhook_key"), ("contact", "offhook_number_key")] {
        let column = json!({"@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata", "SchemaName": name, "MaxLength": 100});
        ask(&mut world, "POST", &format!("EntityDefinitions(LogicalName='{table}')/Attributes"), &column);
        let key = json!({"SchemaName": format!("{name}_key"), "KeyAttributes": [name]});
        ask(&mut world, "POST", &format!("EntityDefinitions(LogicalName='{table}')/Keys"), &key);
    }
    // Until the keys' indexes are built.
    world.ms = 10_000;
    let rule = json!({"by": "from", "object": "contacts", "fields": ["telephone1", "mobilephone"], "nobody": nobody,
        "key": "offhook_number_key", "field": [{"to": "mobilephone", "from": "from"}, {"to": "lastname", "default": "Unknown"}]});
    let rule: Rule = serde_json::from_value(rule).expect("a rule");
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    let calls = connector("phonecalls", "offhook_key");
    crm.contacts =
        Some(Contacts { links: calls.link.iter().cloned().collect(), rule, maker: Box::new(connector("contacts", "offhook_number_key")) });
    crm.connector = Box::new(calls);
    crm.mapping = Box::new(|record| {
        let complete = record.get("complete") == Some(&json!(true));
        let told = record.get("disposition_code").and_then(Value::as_str);
        let fields = [
            // Without it no row is made: where one is gone, a change that holds it makes the row anew.
            ("subject", Some(json!(format!("a call: {}", told.unwrap_or("nothing told"))))),
            ("phonenumber", record.get("from").cloned()),
            ("description", told.map(|told| json!(told))),
            ("statecode", Some(json!(i64::from(complete)))),
            ("statuscode", complete.then(|| json!(4))),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    });
    world
}

/// As an administrator asks it.
fn ask(world: &mut World, method: &str, path: &str, body: &Value) -> Value {
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope=http%3A%2F%2Fcrm%2F.default",
        sandbox::CLIENT_ID,
        sandbox::CLIENT_SECRET
    );
    let token = world.ask("POST", "http://crm/tenant/oauth2/v2.0/token", Vec::new(), form.into_bytes()).expect("answered").body;
    let token: Value = serde_json::from_slice(&token).expect("JSON");
    let headers = vec![("authorization".to_owned(), format!("Bearer {}", token["access_token"].as_str().expect("a token")))];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = world.ask(method, &format!("http://crm/api/data/v9.2/{path}"), headers, body).expect("answered");
    assert!(answer.is_success(), "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

fn rows(world: &mut World, set: &str) -> Vec<Value> {
    ask(world, "GET", set, &Value::Null)["value"].as_array().expect("rows").clone()
}

fn person(world: &mut World) {
    ask(world, "POST", "contacts", &json!({"lastname": "Doe", "telephone1": CALLER}));
}

/// The CRM has one call, of this id and in all its columns.
fn is_whole(world: &mut World, id: &str) {
    let calls = rows(world, "phonecalls");
    let [row] = calls.as_slice() else { panic!("{calls:?}") };
    let people = rows(world, "contacts");
    let of = |name: &str| row[name].clone();
    assert_eq!(of("activityid"), id);
    assert_eq!((of("subject"), of("phonenumber"), of("statecode")), (json!("a call: PROMISED"), json!(CALLER), json!(1)));
    assert_eq!((of("description"), of("_regardingobjectid_value")), (json!("PROMISED"), people[0]["contactid"].clone()));
}

#[test]
fn a_caller_whom_nobody_knows_is_made_once_and_bound() {
    let mut world = world("create");
    world.call();
    world.webhook(1, "w1", "PROMISED");
    world.until(100 * SECOND);
    let people = rows(&mut world, "contacts");
    let [made] = people.as_slice() else { panic!("{people:?}") };
    assert_eq!((&made["mobilephone"], &made["lastname"]), (&json!(CALLER), &json!("Unknown")));
    let write = world.write();
    assert_eq!((write.state, write.contact.person()), (State::Done, made["contactid"].as_str()));
    is_whole(&mut world, &write.id.expect("an id"));
}

/// A contract whose answers tell no id of what was made.
struct Silent(Dynamics);

impl Connector for Silent {
    fn batch_max(&self) -> usize {
        self.0.batch_max()
    }

    fn upsert(&self, changes: &[Change], token: &Token) -> HttpRequest {
        self.0.upsert(changes, token)
    }

    fn verdicts(&self, changes: &[Change], _: &HttpAnswer) -> Vec<Verdict> {
        vec![Verdict::Done { id: None }; changes.len()]
    }

    fn oauth(&self) -> Option<&dyn OAuth> {
        self.0.oauth()
    }
}

#[test]
fn a_person_who_was_made_without_an_id_is_not_made_for_ever() {
    let mut world = world("create");
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    crm.contacts.as_mut().expect("people").maker = Box::new(Silent(connector("contacts", "offhook_number_key")));
    world.call();
    world.until(100 * SECOND);
    let write = world.write();
    assert_eq!((write.state, write.why.as_deref()), (State::Review, Some("the person was made, but the CRM did not tell his id")));
    // Tried again, he is found.
    let now = world.now();
    world.pipeline.decide(now, &world.store, 7, "crm", call(), Decision::Retry, "ann").expect("stored");
    world.until(200 * SECOND);
    assert_eq!((world.write().state, rows(&mut world, "contacts").len()), (State::Done, 1));
}

#[test]
fn a_row_that_was_deleted_is_made_whole_by_the_next_change() {
    // Where the store knows its id, and where an earlier version had learnt none.
    for known in [true, false] {
        let mut world = world("leave");
        person(&mut world);
        world.call();
        world.webhook(1, "w1", "PAID");
        world.until(100 * SECOND);
        let mut write = world.write();
        let before = write.id.clone().expect("an id");
        if !known {
            write.id = None;
            let changes = super::super::store::Changes { writes: [(("crm".to_owned(), call()), write)].into(), ..Default::default() };
            world.store.commit(changes).expect("stored");
        }
        ask(&mut world, "DELETE", &format!("phonecalls({before})"), &Value::Null);
        world.webhook(2, "w2", "PROMISED");
        world.until(200 * SECOND);
        let after = world.write();
        assert_eq!((after.state, after.why), (State::Done, None), "known: {known}");
        let id = after.id.expect("an id");
        assert_ne!(id, before);
        is_whole(&mut world, &id);
    }
}

#[test]
fn a_call_left_without_one_of_several_people_takes_what_comes_later() {
    let mut world = world("leave");
    person(&mut world);
    person(&mut world);
    world.call();
    world.until(30 * SECOND);
    let write = world.write();
    assert!(write.state == State::Review && write.why.as_ref().is_some_and(|why| why.contains("is had by several")), "{write:?}");
    let now = world.now();
    world.pipeline.decide(now, &world.store, 7, "crm", call(), Decision::Drop, "ann").expect("stored");
    world.settle();
    assert_eq!(world.write().state, State::Done, "the record stands");
    world.webhook(1, "w1", "PROMISED");
    world.until(100 * SECOND);
    let calls = rows(&mut world, "phonecalls");
    let [row] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((&row["description"], &row["_regardingobjectid_value"]), (&json!("PROMISED"), &Value::Null));
}

#[test]
fn a_day_is_spent_by_operations_of_which_a_completed_record_takes_three() {
    let mut world = world("leave");
    world.pipeline.config.expects.clear();
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    crm.contacts = None;
    crm.pace = Pace { per_day: Some(30), concurrency: 1, batch: 2, ..Pace::default() };
    (1..=15).for_each(|n| world.short_call(n));
    world.until(3600 * SECOND);
    let calls = rows(&mut world, "phonecalls");
    assert!(calls.iter().all(|row| row["statecode"] == 1), "{calls:?}");
    assert_eq!(calls.len(), 10, "each was opened, written and closed");
    world.until(15 * 3600 * SECOND);
    assert_eq!(rows(&mut world, "phonecalls").len(), 15, "the rest went the next day");
}

#[test]
fn a_search_is_one_operation_and_each_person_who_is_made_another() {
    let world = world("create");
    let crm = &world.pipeline.config.crms[0];
    let change = Change { key: "k".into(), id: None, fields: Fields::from([("lastname".into(), json!("Doe"))]), written: Fields::new() };
    let sought = (CALLER.to_owned(), Vec::new());
    assert_eq!(step::Parts::Find(vec![sought.clone(), sought]).cost(crm), 1);
    assert_eq!(step::Parts::Make(vec![change.clone(), change.clone()]).cost(crm), 2);
    assert_eq!(step::Parts::Tell(vec![change]).cost(crm), 1);
}
