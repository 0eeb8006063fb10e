//! Doubles of CRMs: they answer as the vendor's API is documented to, keep what is written, and fail where they are told to.
//!
//! Pure: a request and a time go in, an answer and lines of a ledger come out. `shell::sandbox` gives it a socket.

pub mod fault;
pub mod hubspot;

use std::{fmt, time::Duration};

use serde_json::{Value, json};

pub use fault::Fault;
pub use hubspot::HubSpot;

use crate::time::Wall;

/// A request as it reached the CRM.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path, without query.
    pub path: String,
    /// Query, without question mark.
    pub query: String,
    /// Token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// Body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {}, {} octets)", self.method, self.path, self.body.len())
    }
}

/// An answer as it leaves the CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names and values beside Content-Type, which is JSON.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Value,
}

impl Answer {
    fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, after a while.
    Answer(Answer, Duration),
    /// The connection is closed without a word, after a while. Whether something was written is what nobody can tell from outside.
    Drop(Duration),
}

/// What was asked of the CRM and what changed by it, a JSON object a line.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    lines: u64,
    pending: Vec<Value>,
}

impl Ledger {
    fn request(&mut self, now: Wall, request: &Request, status: Option<u16>) {
        // No body and no token: the ledger is a file like any other.
        let line = json!({"kind": "request", "what": format!("{} {}", request.method, request.path), "status": status});
        self.line(now, line);
    }

    fn mutation(&mut self, now: Wall, change: Change<'_>) {
        let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let (before, after) = (fields(&change.before), fields(&change.after));
        let changed: Vec<_> = after.iter().filter(|(name, value)| before.get(*name) != Some(value)).map(|(name, _)| name.clone()).collect();
        let line = json!({"kind": "mutation", "what": change.what, "object": change.object, "key": change.key, "id": change.id,
            "before": change.before, "after": change.after, "changed": changed});
        self.line(now, line);
    }

    fn line(&mut self, now: Wall, mut line: Value) {
        self.lines += 1;
        if let Some(line) = line.as_object_mut() {
            line.insert("seq".into(), json!(self.lines));
            line.insert("time".into(), json!(now));
        }
        self.pending.push(line);
    }

    /// The lines since the last time this was asked.
    pub fn take(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.pending)
    }
}

struct Change<'a> {
    what: &'a str,
    object: &'a str,
    key: Option<&'a str>,
    id: &'a str,
    before: Value,
    after: Value,
}
