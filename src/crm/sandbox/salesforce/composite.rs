//! Composite: several requests in one, each of which may refer to what an earlier one was answered.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Answer, Body, LOCKED, Ledger, Request, Salesforce, Wall, not_found, refused};

/// Subrequests of one request.
const SUBREQUESTS_MAX: usize = 25;
/// Those among them that are queries or collections.
const QUERIES_MAX: usize = 5;
/// Headers that a subrequest has of the request, and may not have of its own.
const INHERITED: [&str; 3] = ["accept", "authorization", "content-type"];

/// A subrequest, whose form has been looked at.
struct Part {
    method: String,
    url: String,
    reference: String,
    body: Value,
}

impl Salesforce {
    /// One request of the day, whatever it holds.
    pub(super) fn composite(&mut self, now: Wall, request: &Request, body: &Value, ledger: &mut Ledger) -> Answer {
        let parts = match parts(body) {
            Ok(parts) => parts,
            Err(answer) => return *answer,
        };
        let locked = std::mem::take(&mut self.locked);
        let all = body.get("allOrNone").and_then(Value::as_bool).unwrap_or(false);
        let before = all.then(|| (self.objects.clone(), ledger.clone()));
        // What each part was answered; nothing where it failed.
        let mut answers: BTreeMap<String, Option<Value>> = BTreeMap::new();
        let mut results: Vec<(String, Answer)> = Vec::new();
        for part in parts {
            let answer = match part.resolved(&answers) {
                Err(what) => refused(400, "PROCESSING_HALTED", &what, &[]),
                Ok(_) if locked => refused(400, "UNABLE_TO_LOCK_ROW", LOCKED, &[]),
                Ok((url, body)) => self.of_part(now, request, &part.method, &url, &body, ledger),
            };
            let told = (200..=299).contains(&answer.status).then(|| answer.json().clone());
            answers.insert(part.reference.clone(), told);
            results.push((part.reference, answer));
        }
        let failed = |answer: &Answer| answer.status >= 300;
        if let Some((objects, lines)) = before.filter(|_| results.iter().any(|(_, answer)| failed(answer))) {
            (self.objects, *ledger) = (objects, lines);
            let rolled_back = "The transaction was rolled back since another operation in the same transaction failed.";
            for (_, answer) in results.iter_mut().filter(|(_, answer)| !failed(answer)) {
                *answer = refused(400, "PROCESSING_HALTED", rolled_back, &[]);
            }
        }
        let shown = |(reference, answer): (String, Answer)| {
            let body = if answer.body == Body::Empty { Value::Null } else { answer.json().clone() };
            json!({"body": body, "httpHeaders": {}, "httpStatusCode": answer.status, "referenceId": reference})
        };
        Answer::new(200, json!({"compositeResponse": results.into_iter().map(shown).collect::<Vec<_>>()}))
    }

    /// What a part is answered, as if it had been asked by itself.
    fn of_part(&mut self, now: Wall, request: &Request, method: &str, url: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let asked =
            Request { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), headers: request.headers.clone(), body };
        let parts = asked.parts();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        // Records, queries and collections; nothing else may be part of one.
        match parts.get(3..).unwrap_or_default() {
            rest @ (["sobjects", ..] | ["query"] | ["composite", "sobjects", ..]) => self.served(now, &asked, rest, ledger),
            _ => not_found(),
        }
    }
}

/// The subrequests, or why there is nothing to be done at all.
fn parts(body: &Value) -> Result<Vec<Part>, Box<Answer>> {
    let wrong = |code: &str, message: &str| Box::new(refused(400, code, message, &[]));
    let Some(asked) = body.get("compositeRequest").and_then(Value::as_array) else {
        return Err(wrong("JSON_PARSER_ERROR", "compositeRequest is missing"));
    };
    if asked.len() > SUBREQUESTS_MAX {
        return Err(wrong("LIMIT_EXCEEDED", &format!("at most {SUBREQUESTS_MAX} subrequests")));
    }
    let mut parts: Vec<Part> = Vec::new();
    for one in asked {
        let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (method, url, reference) = (text("method"), text("url"), text("referenceId"));
        let is_word = reference.bytes().all(|o| o.is_ascii_alphanumeric() || o == b'_');
        if !is_word || !reference.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            let what = "must start with a letter or a number, and it can contain only letters, numbers and underscores ('_').";
            return Err(wrong("JSON_PARSER_ERROR", &format!("Provided referenceId ('{reference}') {what}")));
        }
        if parts.iter().any(|part| part.reference == reference) {
            return Err(wrong("JSON_PARSER_ERROR", &format!("Duplicate referenceId: {reference}")));
        }
        if !["POST", "PUT", "PATCH", "GET", "DELETE"].contains(&method.as_str()) {
            return Err(wrong("JSON_PARSER_ERROR", &format!("no such method: {method}")));
        }
        if !url.starts_with("/services/data/v") {
            return Err(wrong("JSON_PARSER_ERROR", &format!("the url of {reference} does not start with /services/data/vXX.X/")));
        }
        let own = one.get("httpHeaders").and_then(Value::as_object).cloned().unwrap_or_default();
        if own.keys().any(|name| INHERITED.contains(&name.to_ascii_lowercase().as_str())) {
            return Err(wrong("JSON_PARSER_ERROR", &format!("{reference} has a header that it inherits")));
        }
        parts.push(Part { method, url, reference, body: one.get("body").cloned().unwrap_or(Value::Null) });
    }
    let many = parts.iter().filter(|part| part.url.contains("/query") || part.url.contains("/composite/sobjects")).count();
    if many > QUERIES_MAX {
        return Err(wrong("LIMIT_EXCEEDED", &format!("at most {QUERIES_MAX} subrequests that are queries or collections")));
    }
    Ok(parts)
}

impl Part {
    /// Address and body, with each reference replaced by what it refers to; why one refers to nothing.
    fn resolved(&self, answers: &BTreeMap<String, Option<Value>>) -> Result<(String, Value), String> {
        Ok((text(&self.url, answers)?, value(&self.body, answers)?))
    }
}

fn value(body: &Value, answers: &BTreeMap<String, Option<Value>>) -> Result<Value, String> {
    Ok(match body {
        Value::String(told) => Value::String(text(told, answers)?),
        Value::Array(list) => Value::Array(list.iter().map(|one| value(one, answers)).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let field = |(name, one): (&String, &Value)| Ok((name.clone(), value(one, answers)?));
            Value::Object(fields.iter().map(field).collect::<Result<Map<_, _>, String>>()?)
        }
        other => other.clone(),
    })
}

/// A text in which `@{reference.path}` stands for a part of an answer, wherever it stands.
fn text(told: &str, answers: &BTreeMap<String, Option<Value>>) -> Result<String, String> {
    let (mut resolved, mut rest) = (String::new(), told);
    while let Some((before, after)) = rest.split_once("@{") {
        let (path, behind) = after.split_once('}').unwrap_or((after, ""));
        let reference = path.split(['.', '[']).next().unwrap_or_default();
        let found =
            answers.get(reference).and_then(Option::as_ref).and_then(|answer| answer.pointer(&pointer(path.get(reference.len()..)?)));
        let Some(found) = found.filter(|found| !found.is_null()) else {
            return Err(format!("Invalid reference specified. No value for {path} found in {reference}"));
        };
        resolved.push_str(before);
        resolved.push_str(&found.as_str().map_or_else(|| found.to_string(), str::to_owned));
        rest = behind;
    }
    Ok(resolved + rest)
}

/// `.records[0].Id` as JSON pointers have it (RFC 6901).
fn pointer(path: &str) -> String {
    path.replace('[', "/").replace(']', "").replace('.', "/")
}
