//! The org, asked as its clients do.

use super::{
    super::{CLIENT_ID, CLIENT_SECRET, Double, Fault, Options, Outcome, REFRESH_TOKEN},
    *,
};
use crate::time::Now;

struct Org {
    crm: Double,
    token: String,
}

impl Org {
    fn new(salesforce: Salesforce) -> Self {
        let mut org = Self { crm: Double::new(Box::new(salesforce), Vec::new()), token: String::new() };
        let form = format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}");
        let answer = org.raw("POST", "/services/oauth2/token", form.into_bytes());
        assert_eq!(answer.json().get("expires_in"), None, "an org does not tell");
        org.token = answer.json()["access_token"].as_str().expect("a token").to_owned();
        let key =
            json!({"FullName": "Voice_Call__c.Key__c", "Metadata": {"type": "Text", "length": 40, "externalId": true, "unique": true}});
        assert_eq!(org.json("POST", "tooling/sobjects/CustomField", &key).status, 201);
        org
    }

    fn raw(&mut self, method: &str, path: &str, body: Vec<u8>) -> Answer {
        let headers = vec![("authorization".to_owned(), format!("Bearer {}", self.token))];
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let now = Now { wall: Wall::from_millis(1_767_607_200_000), ..Now::default() };
        match self.crm.handle(now, &Request { method: method.into(), path: path.into(), query: query.into(), headers, body }) {
            Outcome::Answer(answer, _) => answer,
            Outcome::Drop(_) => Answer::new(0, Value::Null),
        }
    }

    fn json(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.raw(method, &format!("/services/data/v62.0/{path}"), body)
    }
}

fn org() -> Org {
    Org::new(Salesforce::new(false, Chance::from_seed(1)))
}

#[test]
fn one_key_is_one_record_whatever_its_case() {
    let mut org = org();
    let made = org.json("PATCH", "sobjects/Voice_Call__c/Key__c/ab12", &json!({"Name": "x"}));
    assert_eq!((made.status, &made.json()["created"]), (201, &json!(true)));
    let again = org.json("PATCH", "sobjects/Voice_Call__c/Key__c/AB12", &json!({"Name": "y"}));
    assert_eq!((again.status, &again.json()["id"]), (200, &made.json()["id"]));
    assert_eq!(org.json("PATCH", "sobjects/Voice_Call__c/Name/ab12", &json!({})).status, 404, "no external id");
    let second = org.json("POST", "sobjects/Voice_Call__c", &json!({"Key__c": "ab12"}));
    assert_eq!(second.json()[0]["errorCode"], "DUPLICATE_VALUE");
}

#[test]
fn a_collection_tells_each_record_apart_and_errors_by_another_name() {
    let mut org = org();
    let record = |key: &str, name: Value| json!({"attributes": {"type": "Voice_Call__c"}, "Key__c": key, "Name": name});
    let body = json!({"allOrNone": false, "records": [record("k1", json!("a")), record("k2", json!("x".repeat(81)))]});
    let answer = org.json("PATCH", "composite/sobjects/Voice_Call__c/Key__c", &body);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()[0]["success"], true);
    assert_eq!(answer.json()[1]["errors"][0]["statusCode"], "STRING_TOO_LONG");
    // One value that is none of its field's type, and nothing is looked at.
    let unreadable = json!({"allOrNone": false, "records": [record("k3", json!("a")), record("k4", json!(7))]});
    let refused = org.json("PATCH", "composite/sobjects/Voice_Call__c/Key__c", &unreadable);
    assert_eq!(
        (refused.status, &refused.json()[0]["errorCode"], &refused.json()[0]["fields"]),
        (400, &json!("JSON_PARSER_ERROR"), &json!([]))
    );
    assert_eq!(org.json("GET", "sobjects/Voice_Call__c/Key__c/k3", &Value::Null).status, 404);
    assert!(answer.headers.iter().any(|(n, v)| *n == "sforce-limit-info" && v.starts_with("api-usage=")));
}

#[test]
fn fields_are_held_against_their_types() {
    let mut org = org();
    let mut code = |fields: Value| org.json("POST", "sobjects/Task", &fields).json()[0]["errorCode"].as_str().unwrap_or("made").to_owned();
    assert_eq!(code(json!({"Status": "Done"})), "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST");
    assert_eq!(code(json!({"ActivityDate": "tomorrow"})), "JSON_PARSER_ERROR");
    assert_eq!(code(json!({"CallDurationInSeconds": "7"})), "JSON_PARSER_ERROR");
    assert_eq!(code(json!({"WhoId": "003000000000099AAA"})), "INVALID_CROSS_REFERENCE_KEY");
    assert_eq!(code(json!({"WhoId": 7})), "JSON_PARSER_ERROR");
    assert_eq!(code(json!({"Colour": "red"})), "INVALID_FIELD");
    assert_eq!(code(json!({"Status": "Completed", "ActivityDate": "2026-01-05", "CallDurationInSeconds": 7})), "made");
    let gone = org.json("POST", "sobjects/Contact", &json!({"LastName": "Doe"})).json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(org.json("DELETE", &format!("sobjects/Contact/{gone}"), &Value::Null).status, 204);
    let refused = org.json("POST", "sobjects/Task", &json!({"WhoId": gone}));
    assert_eq!(refused.json()[0], json!({"message": "entity is deleted", "errorCode": "ENTITY_IS_DELETED", "fields": []}));
    let missing = org.json("POST", "sobjects/Contact", &json!({"Phone": "+49"}));
    assert_eq!(missing.json()[0]["errorCode"], "REQUIRED_FIELD_MISSING");
}

#[test]
fn people_are_found_and_sessions_end() {
    let mut org = org();
    org.json("POST", "sobjects/Contact", &json!({"LastName": "Doe", "Phone": "+4930123456"}));
    let found = org.json("GET", "query?q=SELECT+Id,+Phone+FROM+Contact+WHERE+Phone+IN+('%2B4930123456')", &Value::Null);
    assert_eq!((&found.json()["totalSize"], &found.json()["records"][0]["Phone"]), (&json!(1), &json!("+4930123456")));
    assert_eq!(org.json("GET", "query?q=SELECT+Fax+FROM+Contact", &Value::Null).json()[0]["errorCode"], "INVALID_FIELD");
    let described = org.json("GET", "sobjects/Voice_Call__c/describe", &Value::Null);
    let key = described.json()["fields"].as_array().expect("fields").iter().find(|f| f["name"] == "Key__c").expect("the key").clone();
    assert_eq!((&key["externalId"], &key["unique"]), (&json!(true), &json!(true)));
    org.token = "stale".into();
    let ended = org.json("GET", "limits", &Value::Null);
    assert_eq!((ended.status, &ended.json()[0]["errorCode"]), (401, &json!("INVALID_SESSION_ID")));
}

#[test]
fn the_days_requests_come_to_an_end() {
    let mut org = Org::new(Salesforce::new(false, Chance::from_seed(1)).with_daily_limit(2));
    assert_eq!(org.json("GET", "limits", &Value::Null).status, 200);
    let over = org.json("GET", "limits", &Value::Null);
    assert_eq!((over.status, &over.json()[0]["errorCode"]), (403, &json!("REQUEST_LIMIT_EXCEEDED")));
    let account = Double::of("salesforce", Options::default(), Chance::from_seed(2));
    assert!(account.is_some());
}

/// A refresh beside another one is refused, and the grant stands.
#[test]
fn two_refreshes_at_once_are_one() {
    let slow: Fault = serde_json::from_value(json!({"action": {"delay_ms": 500}})).expect("a fault");
    let mut org = Org { crm: Double::new(Box::new(Salesforce::new(false, Chance::from_seed(1))), vec![slow]), token: String::new() };
    let form = format!("grant_type=refresh_token&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&refresh_token={REFRESH_TOKEN}");
    let asked = |crm: &mut Double, ms: i64| {
        let now = Now { wall: Wall::from_millis(1_767_607_200_000 + ms), ..Now::default() };
        let request = Request {
            method: "POST".into(),
            path: "/services/oauth2/token".into(),
            query: String::new(),
            headers: Vec::new(),
            body: form.clone().into_bytes(),
        };
        match crm.handle(now, &request) {
            Outcome::Answer(answer, _) => (answer.status, answer.json()["error_description"].as_str().unwrap_or_default().to_owned()),
            Outcome::Drop(_) => (0, String::new()),
        }
    };
    assert_eq!(asked(&mut org.crm, 0).0, 200);
    assert_eq!(asked(&mut org.crm, 499), (400, "token request is already being processed".into()));
    assert_eq!(asked(&mut org.crm, 500).0, 200);
}

#[test]
fn the_app_may_name_itself_by_basic() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let mut crm = Double::of("salesforce", Options::default(), Chance::from_seed(1)).expect("a double");
    let mut asked = |pair: &str| {
        let headers = vec![("authorization".to_owned(), format!("Basic {}", BASE64_STANDARD.encode(pair)))];
        let body = b"grant_type=client_credentials".to_vec();
        let request = Request { method: "POST".into(), path: "/services/oauth2/token".into(), query: String::new(), headers, body };
        match crm.handle(Now::default(), &request) {
            Outcome::Answer(answer, _) => answer.status,
            Outcome::Drop(_) => 0,
        }
    };
    assert_eq!((asked("sim-client:sim-secret"), asked("sim-client:other"), asked("other:sim-secret")), (200, 400, 400));
}

#[test]
fn a_tasks_fields_are_those_of_all_activities() {
    let mut org = org();
    let make = |owner: &str| json!({"FullName": format!("{owner}.Key__c"), "Metadata": {"type": "Text", "length": 40, "externalId": true, "unique": true}});
    assert_eq!(org.json("POST", "tooling/sobjects/CustomField", &make("Task")).status, 400);
    assert_eq!(org.json("POST", "tooling/sobjects/CustomField", &make("Activity")).status, 201);
    assert_eq!(org.json("PATCH", "sobjects/Task/Key__c/k1", &json!({"Subject": "call"})).status, 201);
}

impl Org {
    fn at(&mut self, second: i64, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        let headers = vec![("authorization".to_owned(), format!("Bearer {}", self.token)), ("content-type".to_owned(), kind.to_owned())];
        let now = Now { wall: Wall::from_millis(1_767_607_200_000 + second * 1000), ..Now::default() };
        let path = format!("/services/data/v62.0/jobs/ingest{path}");
        match self.crm.handle(now, &Request { method: method.into(), path, query: String::new(), headers, body: body.into() }) {
            Outcome::Answer(answer, _) => answer,
            Outcome::Drop(_) => Answer::new(0, Value::Null),
        }
    }

    fn job(&mut self) -> String {
        let job = json!({"object": "Voice_Call__c", "operation": "upsert", "externalIdFieldName": "Key__c", "contentType": "CSV"});
        let made = self.at(0, "POST", "", "application/json", &job.to_string());
        assert_eq!((made.status, &made.json()["state"]), (200, &json!("Open")));
        made.json()["id"].as_str().expect("an id").to_owned()
    }

    fn close(&mut self, job: &str) -> u16 {
        self.at(0, "PATCH", &format!("/{job}"), "application/json", r#"{"state": "UploadComplete"}"#).status
    }

    fn state(&mut self, second: i64, job: &str) -> String {
        self.at(second, "GET", &format!("/{job}"), "", "").json()["state"].as_str().expect("a state").to_owned()
    }

    fn rows(&mut self, second: i64, job: &str, results: &str) -> String {
        String::from_utf8(self.at(second, "GET", &format!("/{job}/{results}"), "", "").body.octets()).expect("text")
    }
}

#[test]
fn a_job_is_worked_off_a_while_after_it_was_closed_the_last_row_first() {
    let mut org = org();
    let job = org.job();
    assert_eq!(org.close(&job), 400, "nothing is in it");
    let csv = format!("Key__c,Name\nk1,one\nk2,{}\nk3,three\nk1,\nk4,#N/A\n", "x".repeat(81));
    let upload = format!("/{job}/batches");
    assert_eq!(org.at(0, "PUT", &upload, "application/json", &csv).status, 415);
    assert_eq!(org.at(0, "PUT", &upload, "text/csv", &csv).status, 201);
    assert_eq!(org.at(0, "PUT", &upload, "text/csv", &csv).status, 400, "once a job");
    assert_eq!(org.state(30, &job), "Open", "nothing runs before it is closed");
    assert_eq!(org.close(&job), 200);
    let states: Vec<_> = [2, 3, 11, 12].into_iter().map(|second| org.state(second, &job)).collect();
    assert_eq!(states, ["UploadComplete", "InProgress", "InProgress", "JobComplete"]);
    let written = org.rows(12, &job, "successfulResults");
    let keys: Vec<_> = written.lines().map(|line| line.split(',').skip(1).take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(keys, ["\"sf__Created\" \"Key__c\"", "\"true\" \"k4\"", "\"true\" \"k1\"", "\"true\" \"k3\"", "\"false\" \"k1\""]);
    let refused = org.rows(12, &job, "failedResults");
    assert!(refused.contains("\"STRING_TOO_LONG:Name: data value too large (max length=80):Name --\",\"k2\""), "{refused}");
    assert_eq!(org.rows(12, &job, "unprocessedrecords"), "\"Key__c\",\"Name\"\n");
    let held = org.json("GET", "sobjects/Voice_Call__c/Key__c/k1", &Value::Null);
    assert_eq!(held.json()["Name"], "one", "an empty column changes nothing");
}

#[test]
fn the_second_of_two_jobs_overtakes_the_first() {
    let mut org = org();
    let (first, second) = (org.job(), org.job());
    for (job, name) in [(&first, "older"), (&second, "newer")] {
        assert_eq!(org.at(0, "PUT", &format!("/{job}/batches"), "text/csv", &format!("Key__c,Name\nk1,{name}\n")).status, 201);
        assert_eq!(org.close(job), 200);
    }
    assert_eq!((org.state(4, &first), org.state(4, &second)), ("InProgress".to_owned(), "JobComplete".to_owned()));
    assert_eq!(org.state(12, &first), "JobComplete");
    assert_eq!(org.json("GET", "sobjects/Voice_Call__c/Key__c/k1", &Value::Null).json()["Name"], "older", "one key in two jobs at a time");
}

#[test]
fn a_job_of_fields_that_are_not_there_fails_and_an_aborted_one_is_never_worked_off() {
    let mut org = org();
    let (unknown, aborted) = (org.job(), org.job());
    for (job, column) in [(&unknown, "Colour"), (&aborted, "Name")] {
        assert_eq!(org.at(0, "PUT", &format!("/{job}/batches"), "text/csv", &format!("Key__c,{column}\nk1,x\n")).status, 201);
        assert_eq!(org.close(job), 200);
    }
    assert_eq!(org.at(1, "PATCH", &format!("/{aborted}"), "application/json", r#"{"state": "Aborted"}"#).status, 200);
    assert_eq!((org.state(12, &unknown), org.state(12, &aborted)), ("Failed".to_owned(), "Aborted".to_owned()));
    assert_eq!(org.at(12, "GET", &format!("/{unknown}"), "", "").json()["errorMessage"], "InvalidBatch : Field name not found : Colour");
    assert_eq!(org.json("GET", "sobjects/Voice_Call__c/Key__c/k1", &Value::Null).status, 404);
    assert_eq!(org.at(9, "GET", "/750x", "", "").status, 404);
    assert_eq!(
        org.at(9, "POST", "", "application/json", r#"{"object": "Voice_Call__c", "operation": "upsert", "externalIdFieldName": "Name"}"#)
            .status,
        400
    );
}

impl Org {
    /// Makes a field.
    fn field(&mut self, name: &str, kind: &Value) {
        assert_eq!(self.json("POST", "tooling/sobjects/CustomField", &json!({"FullName": name, "Metadata": kind})).status, 201, "{name}");
    }

    /// A Composite request of these methods, addresses, references and bodies; of each part its status, and its body or the code of its error.
    fn composite(&mut self, all: bool, parts: &[(&str, &str, &str, Value)]) -> Vec<(u64, Value)> {
        let part = |(method, url, reference, body): &(&str, &str, &str, Value)| json!({"method": method, "url": format!("/services/data/v62.0/{url}"), "referenceId": reference, "body": body});
        let body = json!({"allOrNone": all, "collateSubrequests": false, "compositeRequest": parts.iter().map(part).collect::<Vec<_>>()});
        let answer = self.json("POST", "composite", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let results = answer.json()["compositeResponse"].as_array().expect("results").clone();
        let names: Vec<_> = results.iter().map(|r| r["referenceId"].as_str().expect("a name").to_owned()).collect();
        assert_eq!(names, parts.iter().map(|part| part.2).collect::<Vec<_>>());
        let shown =
            |r: &Value| (r["httpStatusCode"].as_u64().expect("a status"), r["body"].pointer("/0/errorCode").unwrap_or(&r["body"]).clone());
        results.iter().map(shown).collect()
    }
}

const CALL: &str = "sobjects/Voice_Call__c/Key__c";

#[test]
fn a_part_refers_to_what_an_earlier_one_was_answered_and_is_left_out_where_that_failed() {
    let mut org = org();
    org.field("Activity.Key__c", &json!({"type": "Text", "length": 40, "externalId": true, "unique": true}));
    let task = |of: &str| json!({"Subject": format!("of {of}"), "WhatId": of});
    let at = |object: &str, key: &str| format!("sobjects/{object}/Key__c/{key}");
    let results = org.composite(
        false,
        &[
            ("PATCH", &at("Voice_Call__c", "k1"), "call", json!({"Name": "one"})),
            ("PATCH", &at("Task", "k1"), "task", task("@{call.id}")),
            ("PATCH", &at("Voice_Call__c", "k2"), "bad", json!({"Name": "x".repeat(81)})),
            ("PATCH", &at("Task", "k2"), "orphan", task("@{bad.id}")),
            ("PATCH", &at("Task", "k3"), "miscalled", task("@{call.Id}")),
            ("PATCH", &at("Task", "k4"), "too_early", task("@{later.id}")),
            ("PATCH", &at("Voice_Call__c", "k1"), "later", json!({"Name": "two"})),
            ("GET", "query?q=SELECT+Subject+FROM+Task+WHERE+WhatId+=+'@{later.id}'", "found", Value::Null),
        ],
    );
    let statuses: Vec<_> = results.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [201, 201, 400, 400, 400, 400, 200, 200], "{results:?}");
    let call = results[0].1["id"].as_str().expect("an id").to_owned();
    assert_eq!(results[2].1, "STRING_TOO_LONG");
    for left_out in [3, 4, 5] {
        assert_eq!(results[left_out].1, "PROCESSING_HALTED");
    }
    assert_eq!(results[7].1["records"][0]["Subject"], format!("of {call}"));
    for (key, status) in [("k1", 200), ("k2", 404), ("k3", 404), ("k4", 404)] {
        assert_eq!(org.json("GET", &at("Task", key), &Value::Null).status, status, "{key}");
    }
}

#[test]
fn of_all_or_none_nothing_stays_where_one_fails_and_the_innocent_say_so() {
    let mut org = org();
    org.crm.take_ledger();
    let at = |key: &str| format!("{CALL}/{key}");
    let parts = [("PATCH", at("k1"), "one", json!({"Name": "x"})), ("PATCH", at("k2"), "two", json!({"Name": "x".repeat(81)}))];
    let parts: Vec<_> = parts.iter().map(|(method, url, name, body)| (*method, url.as_str(), *name, body.clone())).collect();
    let codes: Vec<_> = org.composite(true, &parts).into_iter().map(|(_, code)| code).collect();
    assert_eq!(codes, ["PROCESSING_HALTED", "STRING_TOO_LONG"]);
    assert_eq!(org.json("GET", &at("k1"), &Value::Null).status, 404);
    assert!(org.crm.take_ledger().iter().all(|line| line["kind"] == "request"), "nothing changed");
    assert_eq!(org.composite(false, &parts).iter().map(|(status, _)| *status).collect::<Vec<_>>(), [201, 400]);
    let lines = org.crm.take_ledger();
    assert_eq!(lines.iter().filter(|line| line["kind"] == "mutation" && line["key"] == "k1").count(), 1);
}

#[test]
fn a_composite_request_has_its_limits_and_counts_once() {
    let mut org = org();
    let part = |n: usize| json!({"method": "PATCH", "url": format!("/services/data/v62.0/{CALL}/k{n}"), "referenceId": format!("r{n}"), "body": {"Name": "x"}});
    let mut asked = |parts: Vec<Value>| {
        let answer = org.json("POST", "composite", &json!({"compositeRequest": parts}));
        let usage = answer.headers.iter().find(|(n, _)| *n == "sforce-limit-info").map(|(_, v)| v.clone()).expect("usage");
        (answer.status, answer.json().pointer("/0/errorCode").cloned().unwrap_or_default(), usage)
    };
    let (status, _, before) = asked((0..25).map(part).collect());
    assert_eq!(status, 200);
    let (status, code, after) = asked((0..26).map(part).collect());
    assert_eq!((status, code), (400, json!("LIMIT_EXCEEDED")));
    let used = |usage: &str| usage["api-usage=".len()..].split('/').next().expect("a number").parse::<u64>().expect("a number");
    assert_eq!(used(&after), used(&before) + 1, "25 parts are one request");
    let with = |name: &str, value: Value| {
        let mut part = part(1);
        part[name] = value;
        part
    };
    let query =
        |n: usize| json!({"method": "GET", "url": "/services/data/v62.0/query?q=SELECT+Id+FROM+Task", "referenceId": format!("q{n}")});
    for wrong in [
        vec![with("referenceId", json!("call[1]"))],
        vec![with("referenceId", json!("_call"))],
        vec![part(1), part(1)],
        vec![with("method", json!("patch"))],
        vec![with("url", json!("/sobjects/Task"))],
        vec![with("httpHeaders", json!({"Accept": "application/json"}))],
        (0..6).map(query).collect(),
    ] {
        assert_eq!(asked(wrong.clone()).0, 400, "{wrong:?}");
    }
    assert_eq!(asked((0..5).map(query).collect()).0, 200);
}

/// An external id that is not unique may be borne by two records: then nobody can tell which is meant.
#[test]
fn a_key_of_several_records_is_answered_with_their_addresses() {
    let mut org = org();
    org.field("Voice_Call__c.Loose__c", &json!({"type": "Text", "length": 40, "externalId": true}));
    for _ in 0..2 {
        assert_eq!(org.json("POST", "sobjects/Voice_Call__c", &json!({"Loose__c": "k1"})).status, 201);
    }
    let answer = org.json("PATCH", "sobjects/Voice_Call__c/Loose__c/k1", &json!({"Name": "x"}));
    assert_eq!((answer.status, answer.json().as_array().map(Vec::len)), (300, Some(2)));
    assert!(answer.json()[0].as_str().expect("an address").starts_with("/services/data/v62.0/sobjects/Voice_Call__c/a00"));
}

/// A lock is found by each part that writes, and what refers to one of them is not looked at.
#[test]
fn a_locked_composite_request_tells_it_part_by_part_and_writes_nothing() {
    let mut org = org();
    org.crm.set_faults(serde_json::from_value(json!([{"match": {"path": "/composite"}, "action": {"lock": true}}])).expect("faults"));
    let at = format!("{CALL}/k1");
    let parts = [("PATCH", at.as_str(), "call", json!({"Name": "x"})), ("POST", "sobjects/Task", "task", json!({"WhatId": "@{call.id}"}))];
    let codes: Vec<_> = org.composite(false, &parts).into_iter().map(|(_, code)| code).collect();
    assert_eq!(codes, ["UNABLE_TO_LOCK_ROW", "PROCESSING_HALTED"]);
    org.crm.set_faults(Vec::new());
    assert_eq!(org.json("GET", &at, &Value::Null).status, 404);
    assert_eq!(org.composite(false, &parts).iter().map(|(status, _)| *status).collect::<Vec<_>>(), [201, 201]);
}
