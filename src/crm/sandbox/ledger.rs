//! What was asked of a double and what changed by it.

use serde_json::{Value, json};

use super::Request;
use crate::time::Wall;

/// The lines, a JSON object each, numbered from 1.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    lines: u64,
    pending: Vec<Value>,
}

/// What changed of one record. `before` is null where it was made, `after` where it was taken away.
pub struct Change<'a> {
    /// `create`, `update` or `delete`.
    pub what: &'a str,
    /// Type of the record, by the vendor's name.
    pub object: &'a str,
    /// The external key that it was named by.
    pub key: Option<&'a str>,
    /// The CRM's id of it.
    pub id: &'a str,
    /// Its fields before.
    pub before: Value,
    /// Its fields after.
    pub after: Value,
}

impl Ledger {
    pub(super) fn request(&mut self, now: Wall, request: &Request, status: Option<u16>) {
        // No body and no token: the ledger is a file like any other.
        let line = json!({"kind": "request", "what": format!("{} {}", request.method, request.path), "status": status});
        self.line(now, line);
    }

    /// Something changed.
    pub fn mutation(&mut self, now: Wall, change: Change<'_>) {
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
    pub(super) fn take(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.pending)
    }
}
