//! Pairs of records: what is asked, what each answer means, and both against the double.

use super::*;
use crate::{
    chance::Chance,
    crm::{
        Fields,
        sandbox::{self, Double, Fault, Outcome},
    },
    time::Now,
};

fn beside() -> Beside {
    serde_json::from_value(json!({"object": "Task", "key": "Key__c", "link": "WhatId", "person": "WhoId"})).expect("a section")
}

fn connector() -> Salesforce {
    Salesforce { beside: Some(beside()), ..tests::connector() }
}

fn fields(told: Value) -> Fields {
    told.as_object().expect("fields").clone().into_iter().collect()
}

fn change(key: &str, told: Value) -> Change {
    Change { key: key.into(), id: None, fields: fields(told), written: Fields::new() }
}

fn parts(changes: &[Change]) -> Vec<Value> {
    let request = connector().upsert(changes, &Token::standing());
    assert!(request.method == "POST" && request.url.ends_with("/composite"), "{request:?}");
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!((&body["allOrNone"], &body["collateSubrequests"]), (&json!(false), &json!(false)));
    body["compositeRequest"].as_array().expect("parts").clone()
}

fn told(changes: &[Change], results: &[(&str, u16, Value)]) -> Vec<Verdict> {
    let result =
        |(name, status, body): &(&str, u16, Value)| json!({"referenceId": name, "httpStatusCode": status, "httpHeaders": {}, "body": body});
    let body = json!({"compositeResponse": results.iter().map(result).collect::<Vec<_>>()}).to_string().into_bytes();
    connector().verdicts(changes, &HttpAnswer { status: 200, headers: Vec::new(), body })
}

fn one(change: &Change, results: &[(&str, u16, Value)]) -> Verdict {
    told(std::slice::from_ref(change), results).remove(0)
}

fn error(code: &str, fields: &[&str]) -> Value {
    json!([{"errorCode": code, "message": "m", "fields": fields}])
}

fn done(id: &str) -> Value {
    json!({"id": id, "success": true, "errors": [], "created": true})
}

const HALTED: &str = "PROCESSING_HALTED";

#[test]
fn each_record_is_told_what_is_its_own_and_the_second_by_what_the_first_answers() {
    let fresh = change("k1", json!({"Name": "call", "Task.Subject": "call"}));
    let asked = parts(&[fresh, change("k2", json!({"Task.Subject": "x"}))]);
    let at = |part: &Value| part["url"].as_str().expect("an address").trim_start_matches("/services/data/v62.0/sobjects/").to_owned();
    assert_eq!(
        asked.iter().map(at).collect::<Vec<_>>(),
        ["Voice_Call__c/Key__c/k1", "Task/Key__c/k1", "Voice_Call__c/Key__c/k2", "Task/Key__c/k2"]
    );
    assert_eq!((&asked[0]["body"], &asked[1]["body"]), (&json!({"Name": "call"}), &json!({"Subject": "call", "WhatId": "@{first0.id}"})));
    assert_eq!(
        (&asked[2]["body"], &asked[3]["body"]["WhatId"]),
        (&json!({}), &json!("@{first1.id}")),
        "it is made, or there is nothing to name"
    );
    assert!(asked.iter().all(|part| part["method"] == "PATCH"));
}

#[test]
fn the_first_is_named_by_a_reference_or_by_its_id_and_once() {
    let known = |told: Value, written: Value| Change { id: Some("a01".into()), written: fields(written), ..change("k", told) };
    // The second was never written: of the first nothing is to be told.
    let [task] = parts(&[known(json!({"Task.Subject": "x"}), json!({"Name": "call"}))]).try_into().expect("one part");
    assert_eq!(task["body"], json!({"Subject": "x", "WhatId": "a01"}));
    // Both are there: whoever has linked the Task with something else since meant it.
    let written = json!({"Name": "call", "Task.Subject": "x"});
    let both = parts(&[known(json!({"Name": "other", "Task.Subject": "y"}), written.clone())]);
    assert_eq!((both.len(), &both[1]["body"]), (2, &json!({"Subject": "y"})));
    let [call] = parts(&[known(json!({"Name": "other"}), written)]).try_into().expect("one part");
    assert_eq!(call["body"], json!({"Name": "other"}));
}

#[test]
fn a_request_holds_no_more_parts_than_it_may() {
    let changes: Vec<_> =
        (0..connector().batch_max()).map(|n| change(&format!("k{n}"), json!({"Name": "x", "Task.Subject": "y"}))).collect();
    assert!(parts(&changes).len() <= 25);
    assert_eq!(changes.len(), 12);
    assert!(connector().bulk().is_none(), "a job's row is of one object");
    assert!(Salesforce { beside: None, ..connector() }.bulk().is_some());
}

#[test]
fn what_was_said_on_a_call_refers_to_no_other_call() {
    let said = change("k", json!({"Name": "mail me @{first1.id} or a@{b", "Task.Subject": "@{first0.id}"}));
    let asked = parts(&[said]);
    assert_eq!(asked[0]["body"]["Name"], "mail me @(first1.id} or a@(b");
    assert_eq!(asked[1]["body"], json!({"Subject": "@(first0.id}", "WhatId": "@{first0.id}"}));
}

#[test]
fn a_pair_is_done_where_both_are() {
    let change = change("k", json!({"Name": "call", "Task.Subject": "call"}));
    let a01 = Verdict::Done { id: Some("a01".into()) };
    assert_eq!(one(&change, &[("first0", 201, done("a01")), ("beside0", 201, done("00T"))]), a01);
    let updated = json!({"id": "a01", "success": true, "errors": [], "created": false});
    assert_eq!(one(&change, &[("beside0", 200, done("00T")), ("first0", 200, updated)]), a01, "in whatever order they are told");
    // Before v46 a record that was there is answered without a body.
    let known = Change { id: Some("a01".into()), written: fields(json!({"Task.Subject": "x"})), ..change.clone() };
    assert_eq!(one(&known, &[("first0", 204, Value::Null), ("beside0", 204, Value::Null)]), a01);
    assert_eq!(one(&change, &[("first0", 201, done("a01"))]).name(), "ambiguous", "a part of which nothing is said");
    assert_eq!(told(&[change.clone(), change.clone()], &[]).iter().map(Verdict::name).collect::<Vec<_>>(), ["ambiguous"; 2]);
}

#[test]
fn the_worse_of_two_counts_and_names_the_object() {
    let change = change("k", json!({"Name": "call", "Task.Status": "Done"}));
    let pair = |first: (u16, Value), second: (u16, Value)| one(&change, &[("first0", first.0, first.1), ("beside0", second.0, second.1)]);
    let ok = || (201, done("a01"));
    let picklist = "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST";
    assert_eq!(pair(ok(), (400, error(picklist, &["Status"]))), Verdict::Rejected { why: format!("Task.Status: m ({picklist})") });
    assert_eq!(pair(ok(), (400, error("DUPLICATES_DETECTED", &[]))), Verdict::Rejected { why: "Task: m (DUPLICATES_DETECTED)".into() });
    for (second, word) in [
        ((400, error("UNABLE_TO_LOCK_ROW", &[])), "retry"),
        ((400, error("DUPLICATE_VALUE", &[])), "retry"),
        ((401, error("INVALID_SESSION_ID", &[])), "auth"),
        ((403, error("REQUEST_LIMIT_EXCEEDED", &[])), "throttled"),
        ((404, error("NOT_FOUND", &[])), "gone"),
        ((503, error("SERVER_UNAVAILABLE", &[])), "retry"),
    ] {
        assert_eq!(pair(ok(), second.clone()).name(), word, "{second:?}");
    }
    assert!(matches!(pair(ok(), (400, error("ENTITY_IS_DELETED", &["WhoId"]))), Verdict::PersonGone { .. }));
    assert!(matches!(pair((400, error("ENTITY_IS_DELETED", &["Contact__c"])), (400, error(HALTED, &[]))), Verdict::PersonGone { .. }));
    // Which field names somebody who is gone is seldom told.
    let named = |name: &str| {
        let mut told = change.clone();
        told.fields.insert(name.to_owned(), json!("003A"));
        told
    };
    let gone = error("ENTITY_IS_DELETED", &[]);
    let second = |change: &Change| one(change, &[("first0", 201, done("a01")), ("beside0", 400, gone.clone())]);
    assert!(matches!(second(&named("Task.WhoId")), Verdict::PersonGone { .. }));
    assert_eq!(second(&named("Contact__c")).name(), "rejected", "the second names nobody");
    let first = one(&named("Contact__c"), &[("first0", 400, gone.clone()), ("beside0", 400, error(HALTED, &[]))]);
    assert!(matches!(first, Verdict::PersonGone { .. }), "{first:?}");
    // Of two refusals he who looks is shown both.
    let stands = Change { id: Some("a01".into()), written: fields(json!({"Task.Status": "x"})), ..change.clone() };
    let both = [("first0", 400, error("STRING_TOO_LONG", &["Name"])), ("beside0", 400, error(picklist, &["Status"]))];
    assert_eq!(one(&stands, &both), Verdict::Rejected { why: format!("Name: m (STRING_TOO_LONG); Task.Status: m ({picklist})") });
    let locked = [("first0", 400, error("STRING_TOO_LONG", &["Name"])), ("beside0", 400, error("UNABLE_TO_LOCK_ROW", &[]))];
    assert_eq!(one(&stands, &locked).name(), "rejected");
}

/// A key that several records bear says that the set-up is wrong, not the record.
#[test]
fn a_key_that_is_not_unique_is_the_set_ups_fault() {
    let change = change("k", json!({"Name": "call", "Task.Status": "Done"}));
    let addresses = json!(["/services/data/v62.0/sobjects/Task/00T1", "/services/data/v62.0/sobjects/Task/00T2"]);
    let verdict = one(&change, &[("first0", 201, done("a01")), ("beside0", 300, addresses)]);
    assert!(matches!(&verdict, Verdict::Gone { why } if why.starts_with("Task.Key__c: several records bear this key")), "{verdict:?}");
}

#[test]
fn what_was_not_looked_at_is_not_refused() {
    let change = change("k", json!({"Name": "call", "Task.Status": "Done"}));
    let locked = [("first0", 400, error("UNABLE_TO_LOCK_ROW", &[])), ("beside0", 400, error(HALTED, &[]))];
    assert_eq!(one(&change, &locked), Verdict::Retry { after: None, why: "m (UNABLE_TO_LOCK_ROW)".into() });
    let other = [("first0", 400, error("UNABLE_TO_LOCK_ROW", &[])), ("beside0", 400, error("INVALID_INPUT", &[]))];
    assert_eq!(one(&change, &other).name(), "retry", "by whatever code");
    let alone = [("first0", 201, done("a01")), ("beside0", 400, error(HALTED, &[]))];
    assert_eq!(one(&change, &alone).name(), "retry");
    // An update that tells no id leaves nothing to refer to, however often it is tried.
    let verdict = one(&change, &[("first0", 204, Value::Null), ("beside0", 400, error(HALTED, &[]))]);
    assert!(matches!(&verdict, Verdict::Gone { why } if why.contains("api_version")), "{verdict:?}");
}

#[test]
fn what_somebody_took_away_is_told_whole_again() {
    let stands =
        |told: Value| Change { id: Some("a01".into()), written: fields(json!({"Name": "x", "Task.Subject": "x"})), ..change("k", told) };
    let task = stands(json!({"Task.Subject": "y"}));
    assert_eq!(one(&task, &[("beside0", 201, done("00T"))]), Verdict::Anew { id: Some("a01".into()) });
    let updated = json!({"id": "00T", "success": true, "errors": [], "created": false});
    assert_eq!(one(&task, &[("beside0", 200, updated)]), Verdict::Done { id: Some("a01".into()) });
    let call = stands(json!({"Name": "y"}));
    assert_eq!(one(&call, &[("first0", 201, done("a02"))]), Verdict::Anew { id: Some("a02".into()) });
}

#[test]
fn a_request_that_fails_whole_is_read_as_a_collections_is() {
    let changes = [change("k1", json!({"Name": "x"})), change("k2", json!({"Name": "x"}))];
    for (status, code, word) in [
        (401, "INVALID_SESSION_ID", "auth"),
        (403, "REQUEST_LIMIT_EXCEEDED", "throttled"),
        (429, "", "throttled"),
        (500, "UNKNOWN_EXCEPTION", "retry"),
        (503, "SERVER_UNAVAILABLE", "retry"),
        (404, "NOT_FOUND", "gone"),
    ] {
        let answer = HttpAnswer { status, headers: Vec::new(), body: error(code, &[]).to_string().into_bytes() };
        let verdicts = connector().verdicts(&changes, &answer);
        assert_eq!(verdicts.iter().map(Verdict::name).collect::<Vec<_>>(), [word; 2], "{status} {code}");
    }
    let page = HttpAnswer { status: 200, headers: Vec::new(), body: b"<html>".to_vec() };
    assert!(connector().verdicts(&changes, &page).iter().all(|verdict| verdict.name() == "ambiguous"));
}

/// The org's double, without a socket between.
struct Org(Double);

impl Org {
    fn new() -> Self {
        let mut org = Self(Double::of("salesforce", sandbox::Options::default(), Chance::from_seed(1)).expect("a double"));
        let token = org.token();
        let key = json!({"type": "Text", "length": 40, "externalId": true, "unique": true});
        for name in ["Voice_Call__c.Key__c", "Activity.Key__c"] {
            let body = json!({"FullName": name, "Metadata": key}).to_string().into_bytes();
            assert_eq!(org.send(connector().request("POST", "tooling/sobjects/CustomField", body, &token)).status, 201);
        }
        org
    }

    fn token(&mut self) -> Token {
        let connector = connector();
        connector.token(&self.send(connector.grant("", Wall::from_millis(1_767_607_200_000)))).expect("a token")
    }

    fn send(&mut self, request: HttpRequest) -> HttpAnswer {
        let now = Now { wall: Wall::from_millis(1_767_607_200_000), ..Now::default() };
        let (path, query) = request.url.strip_prefix("http://crm").map(|p| p.split_once('?').unwrap_or((p, ""))).expect("its address");
        let asked = sandbox::Request {
            method: request.method.into(),
            path: path.into(),
            query: query.into(),
            headers: request.headers,
            body: request.body,
        };
        match self.0.handle(now, &asked) {
            Outcome::Answer(answer, _) => HttpAnswer { status: answer.status, headers: Vec::new(), body: answer.body.octets() },
            Outcome::Drop(_) => panic!("no such fault was planted"),
        }
    }

    fn write(&mut self, changes: &[Change]) -> Vec<Verdict> {
        let token = self.token();
        connector().verdicts(changes, &self.send(connector().upsert(changes, &token)))
    }

    fn get(&mut self, path: &str) -> Value {
        let token = self.token();
        serde_json::from_slice(&self.send(connector().request("GET", path, Vec::new(), &token)).body).expect("JSON")
    }
}

#[test]
fn a_pair_written_twice_is_one_pair_and_linked() {
    let mut org = Org::new();
    let wanted = [
        change("k1", json!({"Name": "one", "Task.Subject": "one"})),
        change("k2", json!({"Name": "two", "Task.Status": "no such word"})),
        change("k3", json!({"Name": "x".repeat(81), "Task.Subject": "three"})),
        change("k4", json!({"Name": "@{first0.id}", "Task.Subject": "four"})),
    ];
    let first = org.write(&wanted);
    assert_eq!(first.iter().map(Verdict::name).collect::<Vec<_>>(), ["done", "rejected", "rejected", "done"], "{first:?}");
    assert_eq!(org.write(&wanted), first);
    let (call, task) = (org.get("sobjects/Voice_Call__c/Key__c/k1"), org.get("sobjects/Task/Key__c/k1"));
    assert_eq!((&call["Name"], &task["Subject"], &task["WhatId"]), (&json!("one"), &json!("one"), &call["Id"]));
    assert_eq!(org.get("query?q=SELECT+Id+FROM+Task")["totalSize"], 2, "nothing of what failed is linked with nothing");
    assert_eq!(org.get("sobjects/Voice_Call__c/Key__c/k4")["Name"], "@(first0.id}");

    let locked: Vec<Fault> = serde_json::from_value(json!([{"match": {"path": "/composite"}, "action": {"lock": true}}])).expect("faults");
    org.0.set_faults(locked);
    assert!(org.write(&wanted).iter().all(|verdict| matches!(verdict, Verdict::Retry { .. })));
}

#[test]
fn a_pair_is_read_back_whole_or_not_at_all() {
    let mut org = Org::new();
    let wanted = [change("k1", json!({"Name": "one", "Task.Subject": "uno"})), change("k2", json!({"Name": "two", "Task.Subject": "due"}))];
    assert!(org.write(&wanted).iter().all(|verdict| verdict.name() == "done"));
    let (keys, names) = (["k1", "k2", "k3"].map(str::to_owned), ["Name", "Task.Subject", "Task.Status"].map(str::to_owned));
    let token = org.token();
    let read = |org: &mut Org| connector().read_back(&org.send(connector().read(&keys, &names, &token))).expect("read");
    let found = read(&mut org);
    assert_eq!(found.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["k1", "k2"]);
    assert_eq!(found[0].fields, fields(json!({"Name": "one", "Task.Subject": "uno"})));
    let task = org.get("sobjects/Task/Key__c/k2")["Id"].as_str().expect("an id").to_owned();
    org.send(connector().request("DELETE", &format!("sobjects/Task/{task}"), Vec::new(), &token));
    assert_eq!(read(&mut org).iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["k1"], "told again, both are there");
}
