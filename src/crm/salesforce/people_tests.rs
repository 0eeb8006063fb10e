//! Searches for people: one query for a few numbers, several in one request for many, and what is made of their answers.

use serde_json::{Value, json};

use super::{tests::connector, *};
use crate::{
    chance::Chance,
    crm::{
        contact::{Found, Search},
        sandbox::{self, Double, Outcome},
    },
    time::{Now, Wall},
};

/// An org in which those of `people` have their numbers; what it is asked for so many of them, and what it answers.
fn asked(numbers: usize, people: &[usize]) -> (HttpRequest, HttpAnswer) {
    let mut crm = Double::of("salesforce", sandbox::Options::default(), Chance::from_seed(1)).expect("a double");
    let now = Now { wall: Wall::from_millis(1_767_607_200_000), ..Now::default() };
    let mut send = |request: &HttpRequest| {
        let (path, query) = request.url.strip_prefix("http://crm").map(|p| p.split_once('?').unwrap_or((p, ""))).expect("its address");
        let (headers, body) = (request.headers.clone(), request.body.clone());
        let asked = sandbox::Request { method: request.method.into(), path: path.into(), query: query.into(), headers, body };
        match crm.handle(now, &asked) {
            Outcome::Answer(answer, _) => HttpAnswer { status: answer.status, headers: Vec::new(), body: answer.body.octets() },
            Outcome::Drop(_) => panic!("no fault was planted"),
        }
    };
    let token = connector().token(&send(&connector().grant("", now.wall))).expect("a token");
    for n in people {
        let person = json!({"LastName": "Doe", "MobilePhone": format!("0301{n:06}")}).to_string().into_bytes();
        assert_eq!(send(&connector().request("POST", "sobjects/Contact", person, &token)).status, 201);
    }
    let request = with(numbers, |search| connector().find(search, &token));
    let answer = send(&request);
    (request, answer)
}

/// With a search for so many numbers, each with a plus, with a zero, bare, and by its digits.
fn with<T>(numbers: usize, what: impl FnOnce(&Search<'_>) -> T) -> T {
    let forms = |n: usize| [format!("+49301{n:06}"), format!("0301{n:06}"), format!("301{n:06}"), format!("49301{n:06}")];
    let (fields, values) = (["Phone".to_owned(), "MobilePhone".to_owned()], (0..numbers).flat_map(forms).collect::<Vec<_>>());
    what(&Search { object: "Contact", fields: &fields, values: &values })
}

fn found(numbers: usize, answer: &HttpAnswer) -> Result<Found, Verdict> {
    with(numbers, |search| connector().found(search, answer))
}

fn numbers(found: &Found) -> Vec<&str> {
    found.people.iter().flat_map(|person| &person.handles).map(String::as_str).collect()
}

#[test]
fn a_few_numbers_are_one_query() {
    let (request, answer) = asked(20, &[3, 19]);
    assert!(request.method == "GET" && request.url.starts_with("http://crm/services/data/v62.0/query?q="), "{request:?}");
    let found = found(20, &answer).expect("people");
    assert_eq!((numbers(&found), found.more), (vec!["0301000003", "0301000019"], false));
}

#[test]
fn a_hundred_numbers_are_one_request_in_which_each_finds_its_people() {
    assert_eq!(connector().find_max(), 100);
    let (request, answer) = asked(100, &[0, 19, 20, 55, 99]);
    assert_eq!((request.method, request.url.as_str()), ("POST", "http://crm/services/data/v62.0/composite"));
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let queries: Vec<_> = body["compositeRequest"].as_array().expect("queries").iter().map(|q| q["url"].as_str().expect("one")).collect();
    // An address is held to 16,384 octets with its headers.
    assert!(
        queries.len() == 5 && queries.iter().all(|query| query.len() < 8192),
        "{:?}",
        queries.iter().map(|q| q.len()).collect::<Vec<_>>()
    );
    let found = found(100, &answer).expect("people");
    let of = ["0301000000", "0301000019", "0301000020", "0301000055", "0301000099"];
    assert_eq!((numbers(&found), found.more), (of.to_vec(), false));
}

/// Whoever is not found because a query failed would be made a second time.
#[test]
fn a_query_that_failed_fails_the_search() {
    let (_, answer) = asked(100, &[0, 99]);
    let changed = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        change(body["compositeResponse"].as_array_mut().expect("parts"));
        found(100, &HttpAnswer { body: body.to_string().into_bytes(), ..answer.clone() })
    };
    let refused = |status: u16, code: &str| {
        let error = json!({"httpStatusCode": status, "referenceId": "people2", "body": [{"errorCode": code, "message": "m"}]});
        changed(&move |parts| parts[2] = error.clone()).expect_err("a refusal").name()
    };
    assert_eq!(refused(401, "INVALID_SESSION_ID"), "auth");
    assert_eq!(refused(403, "REQUEST_LIMIT_EXCEEDED"), "throttled");
    assert_eq!(refused(503, "SERVER_UNAVAILABLE"), "retry");
    assert_eq!(refused(400, "INVALID_FIELD"), "gone");
    assert_eq!(changed(&|parts| drop(parts.pop())).expect_err("one is missing").name(), "retry");
    assert_eq!(changed(&|parts| drop(parts[4]["body"].take())).expect_err("one says nothing").name(), "retry");
    let found = changed(&|parts| parts[1]["body"]["done"] = json!(false)).expect("people");
    assert!(found.more, "one has more than it shows");
}
