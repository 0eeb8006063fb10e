//! Composite: a record and the one beside it, each by its key, in one request; the second names the first by a reference to what that part answers.

use serde_json::{Map, Value, json};

use super::Salesforce;
use crate::crm::{Change, HttpAnswer, HttpRequest, Token, Verdict, mapping::Beside};

/// Subrequests that one request may hold.
const SUBREQUESTS_MAX: usize = 25;
/// Changes that one request may hold: each is two subrequests at most.
pub(super) const CHANGES_MAX: usize = SUBREQUESTS_MAX / 2;

/// What is asked of one change: each of its two records, where there is anything to be told of it.
struct Pair {
    first: Option<Map<String, Value>>,
    beside: Option<Map<String, Value>>,
    link: Link,
}

/// How the record beside is told which the first is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Link {
    /// By what the first answers: it is written in the same request.
    Reference,
    /// By the first's id, of which nothing is to be told.
    Id(String),
    /// Not at all: it was told before, and whoever has linked it with something else since meant it.
    Stands,
}

impl Salesforce {
    /// Writes pairs.
    pub(super) fn upsert_pairs(&self, beside: &Beside, changes: &[Change], token: &Token) -> HttpRequest {
        let mut subrequests = Vec::new();
        for (number, change) in changes.iter().enumerate() {
            let Pair { first, beside: second, link } = pair(beside, change);
            let mut ask = |reference: String, object: &str, key: &str, body: Map<String, Value>| {
                let url = format!("/services/data/{}/sobjects/{object}/{key}/{}", self.version, change.key);
                subrequests.push(json!({"method": "PATCH", "url": url, "referenceId": reference, "body": body}));
            };
            if let Some(body) = first {
                ask(of_first(number), &self.object, &self.key, body);
            }
            if let Some(mut body) = second {
                match link {
                    // The name of the field in the answer is `id`, in lower case.
                    Link::Reference => drop(body.insert(beside.link.clone(), json!(format!("@{{{}.id}}", of_first(number))))),
                    Link::Id(id) => drop(body.insert(beside.link.clone(), json!(id))),
                    Link::Stands => {}
                }
                ask(of_beside(number), &beside.object, &beside.key, body);
            }
        }
        // Parts that do not depend on each other must not share a fate, and a record must not overtake the one that it names.
        let body = json!({"allOrNone": false, "collateSubrequests": false, "compositeRequest": subrequests});
        self.request("POST", "composite", body.to_string().into_bytes(), token)
    }

    /// What the answer means for each pair: it is written where both are, otherwise the worse of the two counts.
    pub(super) fn of_pairs(&self, beside: &Beside, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let (200..=299, Some(results)) = (answer.status, body.get("compositeResponse").and_then(Value::as_array)) else {
            let verdict = match answer.status {
                200..=299 => Verdict::Ambiguous { why: format!("{} without a word on any part", answer.status) },
                _ => self.refused(answer, body.get(0).unwrap_or(&Value::Null)),
            };
            return vec![verdict; changes.len()];
        };
        let of = |reference: String| results.iter().find(|r| r.get("referenceId").and_then(Value::as_str) == Some(&reference));
        let verdict = |(number, change): (usize, &Change)| {
            let asked = pair(beside, change);
            let first = asked.first.is_some().then(|| self.of_part(of(of_first(number)), change, None));
            let second = asked.beside.is_some().then(|| self.of_part(of(of_beside(number)), change, Some(beside)));
            self.of_pair(beside, change, &asked.link, first, second)
        };
        changes.iter().enumerate().map(verdict).collect()
    }

    /// What becomes of a pair by what became of its parts; a part that was not asked for says nothing.
    fn of_pair(&self, beside: &Beside, change: &Change, link: &Link, first: Option<Part>, second: Option<Part>) -> Verdict {
        let written = |part: &Option<Part>| part.as_ref().is_none_or(|part| matches!(part, Part::Written { .. }));
        // What names the first was not looked at where that failed, whatever is said of it.
        let second = second.filter(|_| *link != Link::Reference || written(&first));
        let told = match &first {
            Some(Part::Written { id, .. }) => id.clone(),
            _ => None,
        };
        match (first, second) {
            (first, Some(Part::Halted { why })) if written(&first) => match (link, told) {
                (Link::Reference, None) => Verdict::Gone {
                    why: format!(
                        "{}: the answer on {} tells no id that it could name; write api_version = \"v46.0\" or later",
                        beside.name(&beside.link),
                        self.object
                    ),
                },
                _ => Verdict::Retry { after: None, why },
            },
            (first, second) => {
                let is_another = change.id.is_some() && told.is_some() && told != change.id;
                let was_gone = matches!(&second, Some(Part::Written { created: true, .. })) && *link == Link::Stands;
                let id = told.or_else(|| change.id.clone());
                let parts = [first, second].into_iter().flatten().filter_map(Part::failure);
                parts.reduce(worse).unwrap_or(if is_another || was_gone { Verdict::Anew { id } } else { Verdict::Done { id } })
            }
        }
    }

    /// What became of one part.
    fn of_part(&self, result: Option<&Value>, change: &Change, beside: Option<&Beside>) -> Part {
        let status = result.and_then(|r| r.get("httpStatusCode")?.as_u64()).and_then(|status| u16::try_from(status).ok());
        let (Some(status), Some(body)) = (status, result.and_then(|r| r.get("body"))) else {
            return Part::Failed(Verdict::Ambiguous { why: "the answer says nothing of a part of it".into() });
        };
        let (object, key) = beside.map_or((&self.object, &self.key), |beside| (&beside.object, &beside.key));
        match (status, body.get(0).unwrap_or(body)) {
            // Where a record was there already, older versions answer without a body.
            (200..=299, _) => {
                let id = body.get("id").and_then(Value::as_str).map(str::to_owned);
                let created = status == 201 || body.get("created").and_then(Value::as_bool) == Some(true);
                Part::Written { id, created }
            }
            (300, _) => {
                let why =
                    format!("{object}.{key}: several records bear this key: the field is no unique one; make it one, and keep one record");
                Part::Failed(Verdict::Gone { why })
            }
            (_, error) if error.get("errorCode").and_then(Value::as_str) == Some("PROCESSING_HALTED") => {
                let why = error.get("message").and_then(Value::as_str).unwrap_or("another part of the request failed");
                Part::Halted { why: format!("{object}: {why} (PROCESSING_HALTED)") }
            }
            (_, error) => {
                let error = self.placed(error, change, beside);
                Part::Failed(self.refusal(status, &error, beside, self.named_by(change, beside)))
            }
        }
    }
}

/// What became of one part of a pair.
enum Part {
    Written {
        id: Option<String>,
        created: bool,
    },
    /// Not looked at, for the sake of another part.
    Halted {
        why: String,
    },
    Failed(Verdict),
}

impl Part {
    fn failure(self) -> Option<Verdict> {
        match self {
            Self::Written { .. } => None,
            Self::Halted { why } => Some(Verdict::Retry { after: None, why }),
            Self::Failed(verdict) => Some(verdict),
        }
    }
}

/// Names of parts: letters and digits, the first of them too.
fn of_first(number: usize) -> String {
    format!("first{number}")
}

fn of_beside(number: usize) -> String {
    format!("beside{number}")
}

/// What is to be asked of a change.
fn pair(beside: &Beside, change: &Change) -> Pair {
    let (mut first, mut second) = (Map::new(), Map::new());
    for (name, value) in &change.fields {
        match beside.field(name) {
            Some(field) => second.insert(field.to_owned(), literal(value)),
            None => first.insert(name.clone(), literal(value)),
        };
    }
    let stands = change.written.keys().any(|name| beside.field(name).is_some());
    let first = Some(first).filter(|fields| !fields.is_empty() || change.id.is_none());
    let link = match (&change.id, &first) {
        _ if stands => Link::Stands,
        (Some(id), None) => Link::Id(id.clone()),
        _ => Link::Reference,
    };
    Pair { first, beside: Some(second).filter(|fields| !fields.is_empty() || !stands), link }
}

/// A value that says nothing but itself. `@{…}` anywhere in a text is a reference to another part of the request, that is to another call, and nothing
/// escapes it: what somebody has said so is written with another bracket.
fn literal(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("@{", "@(")),
        other => other.clone(),
    }
}

/// Of two parts that failed the one that counts: first what concerns the whole lane, then what a person has to look at, of which he is shown all.
fn worse(one: Verdict, other: Verdict) -> Verdict {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Auth { .. } => 8,
        Verdict::Throttled { .. } => 7,
        Verdict::Gone { .. } => 6,
        Verdict::Rejected { .. } => 5,
        Verdict::PersonGone { .. } => 4,
        Verdict::Ambiguous { .. } => 3,
        Verdict::Conflict { .. } => 2,
        Verdict::Retry { .. } | Verdict::Down { .. } | Verdict::Split { .. } => 1,
        Verdict::Done { .. } | Verdict::Anew { .. } => 0,
    };
    match (one, other) {
        (Verdict::Rejected { why }, Verdict::Rejected { why: too }) => Verdict::Rejected { why: format!("{why}; {too}") },
        (Verdict::Rejected { why } | Verdict::Gone { why }, Verdict::Rejected { why: too } | Verdict::Gone { why: too }) => {
            Verdict::Gone { why: format!("{why}; {too}") }
        }
        (one, other) if rank(&other) > rank(&one) => other,
        (one, _) => one,
    }
}
