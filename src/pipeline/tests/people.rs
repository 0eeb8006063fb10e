//! Whose call it was: found, made, chosen, linked, against HubSpot's double.

use super::*;
use crate::crm::{
    contact::{Contact, Rule, Standing},
    hubspot,
};

fn connector(object: &str, key: &str) -> Box<hubspot::HubSpot> {
    Box::new(hubspot::HubSpot {
        base_url: "http://crm".into(),
        token_url: "http://crm/oauth/v1/token".into(),
        client_id: sandbox::CLIENT_ID.into(),
        client_secret: Zeroizing::new(sandbox::CLIENT_SECRET.into()),
        version: hubspot::VERSION.into(),
        object: object.into(),
        key: key.into(),
    })
}

/// A world whose CRM looks for people by this rule.
pub(super) fn world(rule: &Value) -> World {
    let mut world = World::new();
    let mut account = Double::hubspot(sandbox::Options::default(), Chance::from_seed(1));
    account.take_ledger();
    world.account = Some(account);
    fields(&mut world);
    world.pipeline.lanes.insert("crm".into(), Lane::new(Zeroizing::new(sandbox::REFRESH_TOKEN.into())));
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    let rule: Rule = serde_json::from_value(rule.clone()).expect("a rule");
    crm.connector = connector("calls", "offhook_key");
    crm.contacts = Some(Contacts { links: rule.link.iter().cloned().collect(), rule, maker: connector("contacts", "offhook_number_key") });
    crm.mapping = Box::new(|record| {
        let started = record.get("started_at").and_then(Value::as_str).and_then(Wall::parse).map(|at| json!(at.as_millis()));
        let from = record.get("from").cloned();
        [("hs_timestamp", started), ("from", from)].into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    });
    world
}

/// The account's fields that are not there from the start.
pub(super) fn fields(world: &mut World) {
    for (object, name, unique) in [("calls", "offhook_key", true), ("calls", "from", false), ("contacts", "offhook_number_key", true)] {
        let property = json!({"name": name, "type": "string", "fieldType": "text", "hasUniqueValue": unique});
        assert_eq!(post(world, &format!("/crm/v3/properties/{object}"), &property)["name"], json!(name));
    }
}

pub(super) fn post(world: &mut World, path: &str, body: &Value) -> Value {
    ask(world, "POST", path, body)
}

fn ask(world: &mut World, method: &str, path: &str, body: &Value) -> Value {
    let form = format!(
        "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={}",
        sandbox::CLIENT_ID,
        sandbox::CLIENT_SECRET,
        sandbox::REFRESH_TOKEN
    );
    let token = world.ask("POST", "http://crm/oauth/v1/token", Vec::new(), form.into_bytes()).expect("answered").body;
    let token: Value = serde_json::from_slice(&token).expect("JSON");
    let headers = vec![("authorization".to_owned(), format!("Bearer {}", token["access_token"].as_str().expect("a token")))];
    let answer = world.ask(method, &format!("http://crm{path}"), headers, body.to_string().into_bytes()).expect("answered");
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

pub(super) fn person(world: &mut World, phone: &str) -> String {
    let made = post(world, "/crm/v3/objects/contacts", &json!({"properties": {"phone": phone}}));
    made["id"].as_str().expect("an id").to_owned()
}

pub(super) fn rule() -> Value {
    json!({"by": "from", "object": "contacts", "fields": ["phone", "mobilephone"]})
}

fn with(mut rule: Value, name: &str, value: Value) -> Value {
    rule[name] = value;
    rule
}

/// The ends of links that the CRM has made.
fn links(world: &mut World) -> Vec<(String, String)> {
    let text = |line: &Value, name: &str| line["after"][name].as_str().expect("an id").to_owned();
    let ledger = world.account.as_mut().expect("a double").take_ledger();
    ledger.iter().filter(|l| l["object"] == "associations").map(|l| (text(l, "from_id"), text(l, "to_id"))).collect()
}

#[test]
fn the_caller_is_found_and_linked_once() {
    let mut world = world(&rule());
    let caller = person(&mut world, CALLER);
    person(&mut world, "+15559999999");
    world.call();
    world.until(100 * SECOND);
    let write = world.write();
    assert_eq!((write.state, write.contact.person()), (State::Done, Some(caller.as_str())));
    assert_eq!(links(&mut world), [(write.id.expect("an id"), caller)]);
    // A later fact changes the record, and neither looks nor links again.
    let requests = world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Attempt).count();
    world.webhook(1, "w1", "PAID");
    world.until(200 * SECOND);
    assert_eq!(links(&mut world), []);
    assert_eq!(world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Attempt).count(), requests, "its mapping takes nothing of that");
}

/// A call whose record somebody deletes after it was told "PAID"; then it is told "PROMISED". `whole`: that changes all that a record must have.
fn deleted(whole: bool) -> (World, String, String) {
    let mut world = world(&rule());
    post(&mut world, "/crm/v3/properties/calls", &json!({"name": "disposition", "type": "string", "fieldType": "text"}));
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    let mapping = std::mem::replace(&mut crm.mapping, Box::new(|_| Fields::new().into()));
    crm.mapping = Box::new(move |record| {
        let mut fields = mapping(record);
        let told = record.get("disposition_code").cloned();
        if whole && told == Some(json!("PROMISED")) {
            fields.fields.insert("hs_timestamp".to_owned(), json!(1_767_607_200_001_i64));
        }
        fields.fields.extend(told.map(|told| ("disposition".to_owned(), told)));
        fields
    });
    let caller = person(&mut world, CALLER);
    world.call();
    world.webhook(1, "w1", "PAID");
    world.until(100 * SECOND);
    let before = world.write().id.expect("an id");
    assert_eq!(links(&mut world), [(before.clone(), caller.clone())]);
    ask(&mut world, "DELETE", &format!("/crm/v3/objects/calls/{before}"), &Value::Null);
    world.webhook(2, "w2", "PROMISED");
    world.until(200 * SECOND);
    (world, before, caller)
}

/// The CRM holds all of the record under another id, and its link.
fn is_whole(world: &mut World, before: &str, caller: &str) {
    let after = world.write().id.expect("an id");
    assert_ne!(after, before);
    let asked = json!({"idProperty": "offhook_key", "inputs": [{"id": record_key(call())}], "properties": ["from", "disposition"]});
    let read = post(world, "/crm/v3/objects/calls/batch/read", &asked);
    let properties = &read["results"][0]["properties"];
    assert_eq!((&properties["from"], &properties["disposition"]), (&json!(CALLER), &json!("PROMISED")), "{read:#}");
    assert_eq!((world.write().state, links(world)), (State::Done, vec![(after, caller.to_owned())]));
}

fn reconciled(world: &mut World) -> Value {
    let now = world.now();
    world.pipeline.reconcile(now, &world.store, 8, "crm", None).expect("read");
    world.settle();
    world.told.pop().expect("told")
}

#[test]
fn a_record_that_was_deleted_is_made_whole_by_the_next_change() {
    let (mut world, before, caller) = deleted(true);
    is_whole(&mut world, &before, &caller);
    let found = reconciled(&mut world);
    assert_eq!((&found["written"], &found["missing"]), (&json!(1), &json!([])));
}

#[test]
fn a_record_that_was_deleted_and_cannot_be_made_of_a_change_is_missing_and_told_again() {
    let (mut world, before, caller) = deleted(false);
    let write = world.write();
    assert_eq!((write.state, write.why.as_deref()), (State::Review, Some("hs_timestamp: hs_timestamp is required (REQUIRED)")));
    let found = reconciled(&mut world);
    assert_eq!((&found["written"], &found["rejected"], &found["missing"]), (&json!(0), &json!(0), &json!([call()])));
    let now = world.now();
    world.pipeline.decide(now, &world.store, 7, "crm", call(), Decision::Resend, "ann").expect("stored");
    world.until(300 * SECOND);
    is_whole(&mut world, &before, &caller);
}

#[test]
fn what_somebody_has_changed_in_the_crm_outlives_a_recovery() {
    let mut world = world(&rule());
    person(&mut world, CALLER);
    world.call();
    world.until(100 * SECOND);
    let id = world.write().id.expect("an id");
    let from = |world: &mut World| {
        let asked = json!({"idProperty": "offhook_key", "inputs": [{"id": record_key(call())}], "properties": ["from"]});
        post(world, "/crm/v3/objects/calls/batch/read", &asked)["results"][0]["properties"]["from"].clone()
    };
    let input = json!({"idProperty": "offhook_key", "id": record_key(call()), "properties": {"from": "the desk"}});
    post(&mut world, "/crm/v3/objects/calls/batch/upsert", &json!({"inputs": [input]}));
    assert_eq!(from(&mut world), "the desk");
    let found = reconciled(&mut world);
    let fields = &found["changed"][0]["fields"];
    assert_eq!(*fields, json!({"from": {"instead_of": CALLER, "value": "the desk"}}));
    let keep = |world: &mut World, fields: &Value| {
        let now = world.now();
        let fields = serde_json::from_value(fields.clone()).expect("fields");
        world.pipeline.decide(now, &world.store, 7, "crm", call(), Decision::Keep { fields }, "ann").expect("stored");
        world.settle();
    };
    keep(&mut world, &json!({"from": {"instead_of": "what was written long ago", "value": "a stale look"}}));
    keep(&mut world, fields);
    assert_eq!(reconciled(&mut world)["changed"], json!([]));
    let now = world.now();
    world.pipeline.recover(now, 5, recovery(Wall::parse("2020-01-01T00:00:00Z").expect("a time")));
    world.until(200 * SECOND);
    let write = world.write();
    assert_eq!((write.state, write.id, from(&mut world)), (State::Done, Some(id), json!("the desk")));
}

#[test]
fn a_token_that_a_read_was_refused_with_is_replaced() {
    let mut world = world(&rule());
    person(&mut world, CALLER);
    world.call();
    world.until(100 * SECOND);
    let fault = json!([{"match": {"path": "batch/read", "nth": 1}, "action": {"expire_tokens": true}}]);
    world.account.as_mut().expect("a double").set_faults(serde_json::from_value(fault).expect("faults"));
    let asked = |world: &mut World| {
        let now = world.now();
        world.pipeline.reconcile(now, &world.store, 8, "crm", None).expect("read");
        world.settle();
        world.responses.last().copied()
    };
    assert_eq!(asked(&mut world), Some((8, 503)), "the CRM does not know the token any more");
    asked(&mut world);
    assert_eq!(reconciled(&mut world)["written"], 1);
}

#[test]
fn nobody_with_the_number_goes_to_review_with_the_record_written() {
    let mut world = world(&rule());
    world.call();
    world.until(100 * SECOND);
    let write = world.write();
    assert_eq!((write.state, write.id.is_some()), (State::Review, true));
    assert_eq!(write.why.as_deref(), Some(format!("phone, mobilephone: nobody in `contacts` has {CALLER}").as_str()));
    // Somebody adds him, and has it tried again.
    let caller = person(&mut world, CALLER);
    let now = world.now();
    world.pipeline.decide(now, &world.store, 7, "crm", call(), Decision::Retry, "ann").expect("stored");
    world.until(200 * SECOND);
    assert_eq!((world.write().state, world.write().contact.person()), (State::Done, Some(caller.as_str())));
}

#[test]
fn without_a_person_by_decision_it_stays_so() {
    let mut world = world(&rule());
    world.call();
    world.until(100 * SECOND);
    let now = world.now();
    world.pipeline.decide(now, &world.store, 7, "crm", call(), Decision::Drop, "ann").expect("stored");
    world.until(200 * SECOND);
    let write = world.write();
    assert_eq!((write.state, write.why, links(&mut world)), (State::Done, None, Vec::new()));
}

/// The CRM refuses to link the person, or what the call says of him: a person lets the record stand without that, and it is not asked for again.
#[test]
fn a_link_or_a_score_that_is_refused_and_dropped_is_not_told_again() {
    for (mut world, path) in [(world(&rule()), "/associations/"), (scored(), "/contacts/batch/update")] {
        let faults = json!([{"match": {"path": path}, "action": {"status": 400}}]);
        world.account.as_mut().expect("a double").set_faults(serde_json::from_value(faults).expect("faults"));
        person(&mut world, CALLER);
        world.call();
        scores(&mut world, 1, call(), 0.5);
        world.until(100 * SECOND);
        let attempts = |world: &World| world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Attempt).count();
        assert_eq!((world.write().state, world.write().id.is_some()), (State::Review, true), "{path}");
        let asked = attempts(&world);
        let now = world.now();
        world.pipeline.decide(now, &world.store, 7, "crm", call(), Decision::Drop, "ann").expect("stored");
        world.until(200 * SECOND);
        assert_eq!((world.write().state, world.write().why, attempts(&world)), (State::Done, None, asked), "{path}");
    }
}

#[test]
fn several_with_one_number_wait_for_a_choice_or_go_by_rule() {
    let ids = |rule: Value| {
        let mut world = world(&rule);
        let people = [person(&mut world, CALLER), person(&mut world, CALLER)];
        world.call();
        world.until(100 * SECOND);
        let write = world.write();
        (write.state, write.contact.person().map(|p| people.iter().position(|id| id == p)), write.why)
    };
    let (state, found, why) = ids(rule());
    assert_eq!((state, found), (State::Review, None));
    assert!(why.expect("a reason").contains("is had by several"));
    assert_eq!(ids(with(rule(), "several", json!("newest"))), (State::Done, Some(Some(1)), None));
    assert_eq!(ids(with(rule(), "several", json!("oldest"))), (State::Done, Some(Some(0)), None));
}

#[test]
fn a_caller_is_made_once_however_many_of_his_calls_end_at_a_time() {
    let create = json!([{"to": "phone", "from": "from"}]);
    let mut world = world(&with(with(with(rule(), "nobody", json!("create")), "key", json!("offhook_number_key")), "field", create));
    let second: CallId = "01960000-0000-7000-8000-000000000002".parse().expect("a call id");
    world.call();
    for (sequence, kind) in (1..).zip(life()) {
        let event = Event { call_id: second, sequence, time: world.now().wall, at_ms: 0, kind };
        world.write_down(entry(&event));
    }
    world.until(100 * SECOND);
    let people =
        [call(), second].map(|id| world.store.write("crm", id).expect("stored").expect("a write").contact.person().map(str::to_owned));
    assert!(people[0].is_some());
    assert_eq!(people[0], people[1]);
    let ledger = world.account.as_mut().expect("a double").take_ledger();
    let made: Vec<_> = ledger.iter().filter(|l| l["object"] == "contacts" && l["what"] == "create").collect();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["after"]["phone"], json!(CALLER));
}

#[test]
fn a_person_who_was_merged_away_is_looked_for_again() {
    let mut world = world(&with(rule(), "several", json!("oldest")));
    let people = [person(&mut world, CALLER), person(&mut world, CALLER)];
    // Searches go on finding who is gone for a while; linking with him fails.
    let gone = json!([{"match": {"path": "/crm/v4/associations/calls/contacts/batch/associate/default", "nth": 1},
        "action": {"status": 404, "body": {"category": "OBJECT_NOT_FOUND", "message": "no such contact"}}}]);
    world.account.as_mut().expect("a double").set_faults(serde_json::from_value(gone).expect("faults"));
    world.call();
    world.until(300 * SECOND);
    let write = world.write();
    assert_eq!((write.state, write.contact.person()), (State::Done, Some(people[1].as_str())));
    assert_eq!(links(&mut world), [(write.id.expect("an id"), people[1].clone())]);
}

#[test]
fn a_store_made_anew_knows_the_same_people_without_asking() {
    let mut world = world(&rule());
    person(&mut world, CALLER);
    world.call();
    world.until(100 * SECOND);
    let mut anew = Memory::default();
    let mut other = super::super::Pipeline::new(
        Config {
            crms: std::mem::take(&mut world.pipeline.config.crms),
            sources: BTreeMap::new(),
            marks: marks(),
            expects: vec![Expect::disposition(Duration::from_secs(60))],
            attempts_max: 3,
            keep: None,
        },
        Chance::from_seed(2),
    );
    other.fold(&mut anew, &world.journal, Position { segment: 1, offset: 99 }).expect("folded");
    assert_eq!(anew.write("crm", call()).expect("stored").expect("a write").contact, world.write().contact);
    assert!(other.poll_output().is_none(), "nothing is sent");
}

fn score(world: &mut World, person: &str) -> Value {
    let path = format!("/crm/v3/objects/contacts/{person}?properties=offhook_score");
    ask(world, "GET", &path, &Value::Null)["properties"]["offhook_score"].clone()
}

/// A world in which the caller's score is kept with him.
pub(super) fn scored() -> World {
    let update = json!([{"to": "offhook_score", "from": "sentiment_score"}]);
    let mut world = world(&with(with(rule(), "update", update), "country", json!("+49")));
    let property = json!({"name": "offhook_score", "type": "number", "fieldType": "number"});
    post(&mut world, "/crm/v3/properties/contacts", &property);
    world.pipeline.config.expects.clear();
    world
}

/// A platform scores the `n`th call of the caller.
fn scores(world: &mut World, reply: u64, call: CallId, score: f64) {
    let time = world.now().wall;
    let body =
        json!({"id": format!("s{reply}"), "type": "sentiment.scored", "call_id": call, "time": time, "data": {"sentiment_score": score}});
    world.post(reply, &body.to_string());
}

fn second() -> CallId {
    "019b8d99-6ce8-7000-8000-000000000002".parse().expect("a call id")
}

fn second_call(world: &mut World) {
    second_call_from(world, CALLER);
}

fn second_call_from(world: &mut World, number: &str) {
    for (sequence, mut kind) in (1..).zip(life()) {
        if let Kind::Started { from, .. } = &mut kind {
            *from = number.to_owned();
        }
        let event = Event { call_id: second(), sequence, time: world.now().wall, at_ms: 0, kind };
        world.write_down(entry(&event));
    }
}

#[test]
fn a_score_is_written_to_the_person_and_a_person_who_is_merged_away_is_looked_for_again() {
    let mut world = scored();
    let person = person(&mut world, CALLER);
    world.call();
    world.settle();
    assert_eq!(score(&mut world, &person), Value::Null);
    scores(&mut world, 1, call(), 0.5);
    world.until(10 * SECOND);
    assert_eq!((score(&mut world, &person), world.write().state), (json!("0.5"), State::Done));
    world.ms += 1000;
    scores(&mut world, 2, call(), 0.75);
    world.until(20 * SECOND);
    assert_eq!(score(&mut world, &person), json!("0.75"));
    ask(&mut world, "DELETE", &format!("/crm/v3/objects/contacts/{person}"), &Value::Null);
    let other = self::person(&mut world, CALLER);
    world.ms += 1000;
    scores(&mut world, 3, call(), 1.0);
    world.until(40 * SECOND);
    assert_eq!((score(&mut world, &other), world.write().state), (json!("1.0"), State::Done), "{:?}", world.write());
}

#[test]
fn of_two_calls_of_one_person_the_later_ones_score_stands_whichever_came_first() {
    for first in [call(), second()] {
        let mut world = scored();
        let person = person(&mut world, CALLER);
        world.call();
        second_call(&mut world);
        world.settle();
        let value = |of: CallId| if of == call() { 0.25 } else { 0.75 };
        let last = if first == call() { second() } else { call() };
        scores(&mut world, 1, first, value(first));
        world.until(10 * SECOND);
        assert_eq!(score(&mut world, &person), json!(value(first).to_string()));
        scores(&mut world, 2, last, value(last));
        world.until(20 * SECOND);
        assert_eq!(score(&mut world, &person), json!("0.75"), "{first} was scored first");
    }
}

#[test]
fn of_two_calls_of_one_person_the_later_ones_score_stands_however_the_number_came() {
    for number in ["030123456", "030 / 123456", "0049 30 123456", "4930123456"] {
        let mut world = scored();
        let person = person(&mut world, CALLER);
        world.call();
        second_call_from(&mut world, number);
        world.settle();
        scores(&mut world, 1, second(), 0.75);
        world.until(10 * SECOND);
        scores(&mut world, 2, call(), 0.25);
        world.until(20 * SECOND);
        assert_eq!(score(&mut world, &person), json!("0.75"), "{number}");
    }
}

#[test]
fn a_score_that_waits_gives_way_to_that_of_a_later_call() {
    let mut world = scored();
    let person = person(&mut world, CALLER);
    world.call();
    second_call(&mut world);
    world.settle();
    let down = json!([{"match": {"path": "batch"}, "action": {"status": 503}}]);
    world.account.as_mut().expect("an account").set_faults(serde_json::from_value(down).expect("faults"));
    scores(&mut world, 1, call(), 0.25);
    world.until(5 * SECOND);
    scores(&mut world, 2, second(), 0.75);
    world.until(6 * SECOND);
    world.account.as_mut().expect("an account").set_faults(Vec::new());
    world.until(900 * SECOND);
    assert_eq!(score(&mut world, &person), json!("0.75"));
    assert!([call(), second()].iter().all(|call| world.store.write("crm", *call).expect("stored").expect("a write").state == State::Done));
}

/// As many requests for people as a few attempts would make: what is asked again and again asks more.
const FINDS_MAX: usize = 3;

/// Attempts to find somebody.
fn finds(world: &World) -> usize {
    let find = |(_, e): &&(Position, Entry)| e.kind == EntryKind::Attempt && String::from_utf8_lossy(&e.body).contains("\"step\":\"find\"");
    world.journal.iter().filter(find).count()
}

#[test]
fn a_number_that_more_people_have_than_an_answer_holds_waits_for_a_person_with_the_record_written() {
    for several in ["review", "newest", "oldest"] {
        let mut world = world(&with(rule(), "several", json!(several)));
        for _ in 0..201 {
            person(&mut world, CALLER);
        }
        world.call();
        world.until(60 * SECOND);
        let write = world.write();
        assert_eq!((write.state, write.id.is_some(), write.contact.person()), (State::Review, true, None), "{several}");
        let why = write.why.unwrap_or_default();
        assert!(why.contains("is had by several") && why.ends_with(", …"), "{why}");
        assert!(finds(&world) <= FINDS_MAX, "{}", finds(&world));
    }
}

/// Another call that is looked for with it gets its person.
#[test]
fn a_number_that_too_many_have_holds_nobody_else() {
    let mut world = world(&rule());
    for _ in 0..201 {
        person(&mut world, CALLER);
    }
    let other = person(&mut world, "+4930999999");
    world.call();
    second_call_from(&mut world, "+4930999999");
    world.until(60 * SECOND);
    assert_eq!(world.write().state, State::Review);
    let second = world.store.write("crm", second()).expect("stored").expect("a write");
    assert_eq!((second.state, second.contact.person()), (State::Done, Some(other.as_str())));
}

/// One of those looked for at a time cannot be asked for: the other is found all the same.
#[test]
fn a_search_that_is_refused_is_made_for_each_by_himself() {
    let mut world = world(&rule());
    let once = json!([{"match": {"path": "/search", "nth": 1}, "action": {"status": 400}}]);
    world.account.as_mut().expect("a double").set_faults(serde_json::from_value(once).expect("faults"));
    let (caller, other) = (person(&mut world, CALLER), person(&mut world, "+4930999999"));
    world.call();
    second_call_from(&mut world, "+4930999999");
    world.until(60 * SECOND);
    let second = world.store.write("crm", second()).expect("stored").expect("a write");
    assert_eq!((world.write().contact.person(), second.contact.person()), (Some(caller.as_str()), Some(other.as_str())));
    assert_eq!((world.write().state, second.state, finds(&world)), (State::Done, State::Done, 3));
}

#[test]
fn a_search_that_counts_people_and_shows_none_makes_nobody() {
    let mut world = world(&with(with(rule(), "nobody", json!("create")), "key", json!("offhook_number_key")));
    let none = json!([{"match": {"path": "/search", "nth": 1}, "action": {"status": 200, "body": {"total": 201, "results": []}}}]);
    world.account.as_mut().expect("a double").set_faults(serde_json::from_value(none).expect("faults"));
    let caller = person(&mut world, CALLER);
    world.call();
    world.until(60 * SECOND);
    assert_eq!((world.write().state, world.write().contact.person()), (State::Done, Some(caller.as_str())));
}

#[test]
fn what_was_answered_under_another_rule_says_nothing_of_him_who_is_sought_now() {
    const NATIONAL: &str = "030123456";
    let leave = with(rule(), "nobody", json!("leave"));
    let mut world = world(&leave);
    let caller = person(&mut world, CALLER);
    second_call_from(&mut world, NATIONAL);
    world.until(100 * SECOND);
    let write = |world: &World| world.store.write("crm", second()).expect("stored").expect("a write");
    assert_eq!((write(&world).state, write(&world).contact.standing), (State::Done, Standing::Nobody));
    // The country is told, and the store made anew.
    let contacts = world.pipeline.config.crms[0].contacts.as_mut().expect("contacts");
    contacts.rule = serde_json::from_value(with(leave, "country", json!("+49"))).expect("a rule");
    world.store = Memory::default();
    let (journal, next) = (world.journal.clone(), Position { segment: 1, offset: u64::try_from(world.journal.len()).expect("fits") });
    world.pipeline.fold(&mut world.store, &journal, next).expect("folded");
    assert_eq!(write(&world).contact, Contact { sought: Some(CALLER.into()), ..Contact::default() });
    world.until(200 * SECOND);
    assert_eq!((write(&world).state, write(&world).contact.person()), (State::Done, Some(caller.as_str())));
    assert_eq!(links(&mut world).last().map(|(_, person)| person.clone()), Some(caller));
}

#[test]
fn who_is_sought_by_a_later_fact_is_not_given_the_answer_on_another() {
    let mut world = world(&with(with(rule(), "by", json!("disposition_code")), "kind", json!("reference")));
    let [first, second] = ["K-1", "K-2"].map(|reference| person(&mut world, reference));
    world.call();
    world.hold = Some("/search");
    world.webhook(1, "w1", "K-1");
    world.until(10 * SECOND);
    world.webhook(2, "w2", "K-2");
    world.let_go();
    world.until(100 * SECOND);
    assert_ne!(first, second);
    assert_eq!((world.write().state, world.write().contact.person()), (State::Done, Some(second.as_str())));
    assert_eq!(links(&mut world).into_iter().map(|(_, person)| person).collect::<Vec<_>>(), [second]);
}
