//! Any HTTP API that takes one record a request: address and body from templates, and a key that makes a second sending harmless.
//!
//! `{key}` in the address and the body is the record's key; `{record}` in the body all of its fields as a JSON object, `{changed}` those that changed. Each request
//! bears an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header) that is the same for the same content of the same record.

use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Change, Connector, Fields, HttpAnswer, HttpRequest, OAuth, Token, Verdict};

/// How it is asked.
#[derive(Clone)]
pub struct Http {
    /// `PUT`, `POST` or `PATCH`.
    pub method: &'static str,
    /// The address, with `{key}`.
    pub url: String,
    /// The body, with `{key}`, `{record}`, `{changed}`.
    pub body: String,
    /// A header with a standing secret: its name and value.
    pub secret: Option<(String, Zeroizing<String>)>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Http({} {})", self.method, self.url)
    }
}

/// The body where the configuration has none.
pub const BODY: &str = r#"{"key": "{key}", "fields": {record}}"#;

impl Http {
    /// What is wrong with the templates: a record must be told apart from others, and its fields must be said.
    pub fn fault(url: &str, body: &str) -> Option<&'static str> {
        if !url.contains("{key}") && !body.contains("{key}") {
            return Some("neither `url` nor `body` has {key}: every call would be one record");
        }
        if !body.contains("{record}") && !body.contains("{changed}") {
            return Some("`body` has neither {record} nor {changed}: no field would be written");
        }
        let filled = fill(body, "k", &Fields::new(), &Fields::new());
        serde_json::from_str::<Value>(&filled).is_err().then_some("`body` is no JSON once it is filled in")
    }
}

fn fill(template: &str, key: &str, record: &Fields, changed: &Fields) -> String {
    // A value may itself look like a place: each place is filled once, in one pass.
    let mut filled = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        let place = ["{key}", "{record}", "{changed}"].into_iter().find(|place| from.starts_with(place));
        match place {
            Some("{key}") => filled.push_str(key),
            Some("{record}") => filled.push_str(&json!(record).to_string()),
            Some(_) => filled.push_str(&json!(changed).to_string()),
            None => filled.push('{'),
        }
        rest = from.get(place.map_or(1, str::len)..).unwrap_or_default();
    }
    filled.push_str(rest);
    filled
}

impl Connector for Http {
    fn batch_max(&self) -> usize {
        1
    }

    fn upsert(&self, changes: &[Change], _: &Token) -> HttpRequest {
        let nothing = Change { key: String::new(), id: None, fields: Fields::new(), written: Fields::new() };
        let change = changes.first().unwrap_or(&nothing);
        let mut record = change.written.clone();
        record.extend(change.fields.clone());
        let body = fill(&self.body, &change.key, &record, &change.fields);
        let content = Sha256::new().chain_update(&change.key).chain_update(json!(record).to_string()).finalize();
        let mut headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("accept".to_owned(), "application/json".to_owned()),
            ("idempotency-key".to_owned(), hex::encode(content.get(..16).unwrap_or(&content))),
        ];
        headers.extend(self.secret.iter().map(|(name, value)| (name.clone(), value.to_string())));
        HttpRequest {
            method: self.method,
            url: fill(&self.url, &change.key, &Fields::new(), &Fields::new()),
            headers,
            body: body.into_bytes(),
        }
    }

    fn verdicts(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let said = ["detail", "message", "error", "title"].into_iter().find_map(|name| body.get(name)?.as_str());
        let why = format!("{}: {}", answer.status, said.unwrap_or("no reason given"));
        let after = answer.retry_after();
        let id = || match body.get("id") {
            Some(Value::String(id)) => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        let verdict = match answer.status {
            200..=299 => Verdict::Done { id: id() },
            401 | 403 => Verdict::Auth { why },
            404 | 405 | 410 => Verdict::Gone { why },
            409 | 423 | 425 => Verdict::Retry { after, why },
            408 | 500..=599 => Verdict::Down { after, why },
            429 => Verdict::Throttled { after, why },
            _ => Verdict::Rejected { why },
        };
        vec![verdict; changes.len()]
    }

    fn oauth(&self) -> Option<&dyn OAuth> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(body: &str) -> Http {
        let secret = Some(("x-api-key".to_owned(), Zeroizing::new("hush".to_owned())));
        Http { method: "PUT", url: "https://crm.example.com/calls/{key}".into(), body: body.into(), secret }
    }

    fn change(note: &str) -> Change {
        let fields = |name: &str, value: Value| Fields::from([(name.to_owned(), value)]);
        Change { key: "ab12".into(), id: None, fields: fields("note", json!(note)), written: fields("talk_ms", json!(5)) }
    }

    #[test]
    fn a_record_fills_the_templates_once() {
        let sent = connector(r#"{"id": "{key}", "all": {record}, "new": {changed}}"#)
            .upsert(&[change("a {key} \" and {record}")], &Token::standing());
        assert_eq!((sent.method, sent.url.as_str()), ("PUT", "https://crm.example.com/calls/ab12"));
        let body: Value = serde_json::from_slice(&sent.body).expect("JSON");
        let note = "a {key} \" and {record}";
        assert_eq!(body, json!({"id": "ab12", "all": {"note": note, "talk_ms": 5}, "new": {"note": note}}));
        assert!(sent.headers.contains(&("x-api-key".to_owned(), "hush".to_owned())));
    }

    #[test]
    fn the_same_content_has_the_same_key_and_another_has_another() {
        let key = |note: &str| {
            let sent = connector(BODY).upsert(&[change(note)], &Token::standing());
            sent.headers.into_iter().find(|(name, _)| name == "idempotency-key").expect("a key").1
        };
        assert_eq!(key("paid"), key("paid"));
        assert_ne!(key("paid"), key("promised"));
    }

    #[test]
    fn templates_that_cannot_work_are_named() {
        assert_eq!(Http::fault("https://x/{key}", BODY), None);
        assert!(Http::fault("https://x/", r#"{"fields": {record}}"#).expect("a fault").contains("{key}"));
        assert!(Http::fault("https://x/{key}", r#"{"a": 1}"#).expect("a fault").contains("{record}"));
        assert!(Http::fault("https://x/{key}", "{record").is_some());
        assert!(Http::fault("https://x/{key}", "{\"a\": {record}").expect("a fault").contains("no JSON"));
    }

    #[test]
    fn each_status_has_its_verdict() {
        let verdict = |status, body: &str| {
            let headers = vec![("retry-after".to_owned(), "7".to_owned())];
            connector(BODY).verdicts(&[change("x")], &HttpAnswer { status, headers, body: body.into() }).remove(0)
        };
        assert_eq!(verdict(201, r#"{"id": 7}"#), Verdict::Done { id: Some("7".into()) });
        assert_eq!(verdict(204, ""), Verdict::Done { id: None });
        assert_eq!(
            verdict(429, ""),
            Verdict::Throttled { after: Some(std::time::Duration::from_secs(7)), why: "429: no reason given".into() }
        );
        assert_eq!(verdict(422, r#"{"detail": "note is too long"}"#), Verdict::Rejected { why: "422: note is too long".into() });
        for (status, word) in [(401, "auth"), (404, "gone"), (409, "retry"), (503, "retry"), (400, "rejected")] {
            assert_eq!(verdict(status, "{}").name(), word, "{status}");
        }
    }
}
