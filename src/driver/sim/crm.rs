//! The CRM of the world: the sandbox's account, with the faults of the seed; and the request that reaches it.

#![allow(clippy::indexing_slicing, reason = "a JSON value is null where it has no such field")]

use std::time::Duration;

use serde_json::{Value, json};

use super::script::DISPOSITIONS;
use crate::{
    chance::Chance,
    crm::{
        Fields, HttpAnswer, HttpRequest,
        sandbox::{self, Double, Fault, Outcome, Request},
    },
    pipeline::record::{FAILED_NO_DISPOSITION, NO_DISPOSITION},
    time::{Instant, Now, Wall},
};

/// Where the gateway's connector thinks that it is.
pub(super) const URL: &str = "http://crm";
/// The unique property.
pub(super) const KEY: &str = "offhook_key";
/// What the mapping writes beside the key.
pub(super) const FIELDS: [&str; 7] = [
    "hs_timestamp",
    "offhook_call_id",
    "offhook_outcome",
    "offhook_ended_as",
    "offhook_disposition",
    "offhook_digits",
    "offhook_needs_review",
];

/// The mapping of the world: what the record says, under the CRM's names.
pub(super) fn mapping(record: &serde_json::Map<String, Value>) -> Fields {
    let from = ["started_at", "call_id", "outcome", "ended_as", "disposition_code", "digits", "needs_review"];
    FIELDS.iter().zip(from).filter_map(|(to, from)| Some(((*to).to_owned(), record.get(from)?.clone()))).collect()
}

/// An account with the properties that the mapping needs, and the faults of a seed, all over by `until_s`.
pub(super) fn account(chance: &mut Chance, until_s: u64) -> Double {
    let mut account = Double::hubspot(sandbox::Options::default(), chance.split());
    let now = Now { mono: Instant::ORIGIN, wall: Wall::from_millis(START_MS) };
    let form = format!(
        "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={}",
        sandbox::CLIENT_ID,
        sandbox::CLIENT_SECRET,
        sandbox::REFRESH_TOKEN
    );
    let token = ask(&mut account, now, "/oauth/v1/token", None, form.into_bytes());
    let bearer = token["access_token"].as_str();
    for name in FIELDS.iter().skip(1).chain([&KEY]) {
        let mut property = json!({"name": name, "label": name, "groupName": "call", "type": "string", "fieldType": "text", "hasUniqueValue": *name == KEY});
        if *name == "offhook_disposition" {
            let known = DISPOSITIONS.iter().chain(&[NO_DISPOSITION, FAILED_NO_DISPOSITION]);
            property["type"] = json!("enumeration");
            property["fieldType"] = json!("select");
            property["options"] = known.map(|word| json!({"label": word, "value": word})).collect();
        }
        ask(&mut account, now, "/crm/v3/properties/calls", bearer, property.to_string().into_bytes());
    }
    account.take_ledger();
    account.set_faults(faults(chance, until_s));
    account
}

fn ask(account: &mut Double, now: Now, path: &str, bearer: Option<&str>, body: Vec<u8>) -> Value {
    let headers = bearer.map(|token| ("authorization".to_owned(), format!("Bearer {token}"))).into_iter().collect();
    let request = Request { method: "POST".into(), path: path.into(), query: String::new(), headers, body };
    match account.handle(now, &request) {
        Outcome::Answer(answer, _) => answer.json().clone(),
        Outcome::Drop(_) => Value::Null,
    }
}

fn faults(chance: &mut Chance, until_s: u64) -> Vec<Fault> {
    let actions = [
        json!({"status": 503}),
        json!({"status": 500}),
        json!({"status": 429, "retry_after_s": 3}),
        json!({"apply_then_drop": true}),
        json!({"drop": true}),
        json!({"expire_tokens": true}),
        json!({"delay_ms": 4000}),
        json!({"lock": true}),
    ];
    let count = if chance.percent(30) { 0 } else { 1 + chance.below(4) };
    let fault = |chance: &mut Chance| {
        let action = actions.get(usize::try_from(chance.below(actions.len() as u64)).unwrap_or(0))?;
        let from = chance.below(until_s);
        let hits = json!({"every": 1 + chance.below(3), "from_s": from, "to_s": (from + 1 + chance.below(20)).min(until_s)});
        serde_json::from_value(json!({"match": hits, "action": action})).ok()
    };
    (0..count).filter_map(|_| fault(chance)).collect()
}

/// A request as the CRM gets it.
pub(super) fn request(http: &HttpRequest) -> Request {
    let path = http.url.strip_prefix(URL).unwrap_or(&http.url).to_owned();
    Request { method: http.method.into(), path, query: String::new(), headers: http.headers.clone(), body: http.body.clone() }
}

/// What comes back, and after how long; `None` where the connection breaks.
pub(super) fn answer(outcome: Outcome) -> (Option<HttpAnswer>, Duration) {
    match outcome {
        Outcome::Drop(after) => (None, after),
        Outcome::Answer(answer, after) => {
            let headers = answer.headers.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
            (Some(HttpAnswer { status: answer.status, headers, body: answer.body.octets() }), after)
        }
    }
}

/// 2026-01-05T10:00:00Z.
pub(super) const START_MS: i64 = 1_767_607_200_000;
