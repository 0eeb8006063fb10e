//! The account, asked as its clients do.

use super::{
    super::{Double, Options, Outcome, REFRESH_TOKEN},
    *,
};
use crate::time::Now;

struct Account {
    crm: Double,
    token: String,
    now: Now,
}

impl Account {
    fn new(options: Options) -> Self {
        let now = Now { wall: Wall::from_millis(1_767_607_200_000), ..Now::default() };
        let mut account = Self { crm: Double::hubspot(options, Chance::from_seed(1)), token: String::new(), now };
        let form = format!("grant_type=refresh_token&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&refresh_token={REFRESH_TOKEN}");
        let answer = account.raw("POST", "/oauth/v1/token", form.into_bytes());
        account.token = answer.json()["access_token"].as_str().expect("a token").to_owned();
        let unique = json!({"name": "offhook_key", "type": "string", "fieldType": "text", "hasUniqueValue": true});
        assert_eq!(account.post("/crm/v3/properties/calls", &unique).status, 201);
        account
    }

    fn raw(&mut self, method: &str, path: &str, body: Vec<u8>) -> Answer {
        let headers = vec![("authorization".to_owned(), format!("Bearer {}", self.token))];
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match self.crm.handle(self.now, &Request { method: method.into(), path: path.into(), query: query.into(), headers, body }) {
            Outcome::Answer(answer, _) => answer,
            Outcome::Drop(_) => Answer::new(0, Value::Null),
        }
    }

    fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.raw("POST", path, body.to_string().into_bytes())
    }

    fn upsert(&mut self, inputs: &[(&str, &str, Value)]) -> Answer {
        let inputs: Vec<_> = inputs
            .iter()
            .map(|(key, trace, properties)| {
                let mut input = json!({"idProperty": "offhook_key", "id": key, "properties": properties});
                if !trace.is_empty() {
                    input["objectWriteTraceId"] = json!(trace);
                }
                input
            })
            .collect();
        self.post("/crm/v3/objects/calls/batch/upsert", &json!({"inputs": inputs}))
    }
}

fn call(status: &str) -> Value {
    json!({"hs_timestamp": "1767607200000", "hs_call_status": status})
}

#[test]
fn the_same_key_is_the_same_record_in_both_families_of_addresses() {
    let mut account = Account::new(Options::default());
    let first = account.upsert(&[("k1", "", call("COMPLETED"))]);
    assert_eq!((first.status, &first.json()["results"][0]["new"]), (200, &json!(true)));
    let again = account.post(
        "/crm/objects/2026-03/calls/batch/upsert",
        &json!({"inputs": [{"idProperty": "offhook_key", "id": "k1", "properties": {"hs_call_status": "BUSY"}}]}),
    );
    assert_eq!(again.json()["results"][0]["new"], json!(false));
    assert_eq!(again.json()["results"][0]["id"], first.json()["results"][0]["id"]);
    let read = account.post(
        "/crm/v3/objects/calls/batch/read",
        &json!({"idProperty": "offhook_key", "inputs": [{"id": "k1"}], "properties": ["hs_call_status", "hs_call_title"]}),
    );
    let properties = &read.json()["results"][0]["properties"];
    assert_eq!((&properties["hs_call_status"], &properties["hs_call_title"]), (&json!("BUSY"), &Value::Null));
    let found = account.post(
        "/crm/v3/objects/calls/search",
        &json!({"filterGroups": [{"filters": [{"propertyName": "offhook_key", "operator": "EQ", "value": "k1"}]}]}),
    );
    assert_eq!(found.json()["total"], json!(1));
    let ledger = account.crm.take_ledger();
    let kinds: Vec<_> = ledger.iter().filter(|l| l["kind"] == "mutation").map(|l| l["what"].as_str().expect("what")).collect();
    assert_eq!(kinds, ["create", "create", "update"], "the property, then the record twice");
    assert_eq!(ledger.iter().find(|l| l["what"] == "update").expect("an update")["changed"], json!(["hs_call_status"]));
    assert!(ledger.iter().zip(1..).all(|(line, n)| line["seq"] == json!(n)), "numbered without a gap");
}

#[test]
fn one_bad_input_fails_the_batch_unless_each_bears_a_write_id() {
    let mut account = Account::new(Options::default());
    let bad = account.upsert(&[("k1", "", call("COMPLETED")), ("k2", "", call("NONSENSE"))]);
    assert_eq!(bad.status, 400);
    assert!(bad.json()["message"].as_str().expect("words").contains("INVALID_OPTION"), "{}", bad.json());
    let partly = account.upsert(&[("k1", "a", call("COMPLETED")), ("k2", "b", call("NONSENSE"))]);
    assert_eq!((partly.status, &partly.json()["numErrors"]), (207, &json!(1)));
    assert_eq!(partly.json()["errors"][0]["context"]["objectWriteTraceId"], json!(["b"]));
    let strange = account.upsert(&[("k1", "a", call("COMPLETED")), ("k2", "b", json!({"hs_timestamp": "1767607200000", "no_such": "x"}))]);
    assert_eq!(strange.status, 400, "a property that nobody made");
    let twice = account.upsert(&[("k1", "a", call("BUSY")), ("k1", "b", call("BUSY"))]);
    assert_eq!(twice.status, 400, "a record may be named once");
    let unknown = account.upsert(&[("k3", "", json!({"hs_timestamp": "1767607200000", "no_such": "x"}))]);
    assert!(unknown.json()["message"].as_str().expect("words").contains("PROPERTY_DOESNT_EXIST"));
    let untimed = account.upsert(&[("k4", "", json!({"hs_call_status": "BUSY"}))]);
    assert!(untimed.json()["message"].as_str().expect("words").contains("hs_timestamp"));
}

#[test]
fn people_are_made_found_in_any_case_linked_once_and_taken_away() {
    let mut account = Account::new(Options::default());
    let made = account.post("/crm/v3/objects/contacts", &json!({"properties": {"phone": "+1555", "email": "Al@x"}}));
    let person = made.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(account.post("/crm/v3/objects/contacts", &json!({"properties": {"email": "Al@x"}})).status, 409);
    let filter = json!({"propertyName": "email", "operator": "IN", "values": ["al@x"]});
    let found = account.post("/crm/objects/2026-03/contacts/search", &json!({"filterGroups": [{"filters": [filter]}]}));
    assert_eq!(found.json()["results"][0]["id"], json!(person));
    let record = account.upsert(&[("k1", "", call("BUSY"))]).json()["results"][0]["id"].as_str().expect("an id").to_owned();
    let pair = |person: &str| json!({"inputs": [{"from": {"id": record}, "to": {"id": person}}]});
    let path = "/crm/v4/associations/calls/contacts/batch/associate/default";
    assert_eq!((account.post(path, &pair(&person)).status, account.post(path, &pair(&person)).status), (200, 200));
    assert_eq!(account.post(path, &pair("1")).json()["numErrors"], json!(1));
    let linked = account.raw("GET", &format!("/crm/v4/objects/contacts/{person}/associations/calls"), Vec::new());
    assert_eq!(linked.json()["results"][0]["toObjectId"].to_string(), record);
    let links = account.crm.take_ledger().iter().filter(|l| l["object"] == "associations").count();
    assert_eq!(links, 1, "linking again changes nothing");
    assert_eq!(account.raw("DELETE", &format!("/crm/v3/objects/contacts/{person}"), Vec::new()).status, 204);
    assert_eq!(
        account.raw("GET", &format!("/crm/v4/objects/calls/{record}/associations/contacts"), Vec::new()).json()["results"],
        json!([])
    );
}

#[test]
fn tokens_end_rotate_and_are_taken_away() {
    let mut account = Account::new(Options { rotate_tokens: true, ..Options::default() });
    let form = format!("grant_type=refresh_token&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&refresh_token={REFRESH_TOKEN}");
    assert_eq!(
        account.raw("POST", "/oauth/v1/token", form.into_bytes()).json()["error"],
        json!("invalid_grant"),
        "used once, worth nothing"
    );
    account.now.wall = account.now.wall + TOKEN_LIFE;
    let late = account.upsert(&[("k1", "", call("BUSY"))]);
    assert_eq!((late.status, &late.json()["category"]), (401, &json!("EXPIRED_AUTHENTICATION")));
}

#[test]
fn faults_refuse_lock_and_swallow() {
    let faults = serde_json::from_str(
        r#"[{"match": {"path": "upsert", "nth": 1}, "action": {"status": 429, "retry_after_s": 3}},
            {"match": {"path": "upsert", "nth": 2}, "action": {"apply_then_drop": true}},
            {"match": {"path": "upsert", "nth": 3}, "action": {"lock": true}}]"#,
    )
    .expect("rules");
    let mut account = Account::new(Options { faults, ..Options::default() });
    let throttled = account.upsert(&[("k1", "", call("BUSY"))]);
    assert_eq!((throttled.status, throttled.headers), (429, vec![("retry-after", "3".to_owned())]));
    assert_eq!(account.upsert(&[("k1", "", call("BUSY"))]).status, 0, "no answer");
    assert_eq!(account.upsert(&[("k1", "", call("BUSY"))]).status, 423);
    assert_eq!(account.upsert(&[("k1", "", call("BUSY"))]).json()["results"][0]["new"], json!(false), "it was written all the same");
}
