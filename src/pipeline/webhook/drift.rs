//! Drift: payloads that are no longer what the schema, or the mapping behind it, was written for. Nothing is refused for it; somebody has to look.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{journal::Position, time::Wall};

/// In which way a payload is another than it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A field is not there that always was.
    Vanished,
    /// A field is of another type.
    Type,
    /// A field of a closed set holds a value that is not in it.
    Value,
}

impl What {
    /// Its word in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vanished => "vanished",
            Self::Type => "type",
            Self::Value => "value",
        }
    }
}

/// What is odd about one field of one payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    /// The record's field, or `id` or `time`.
    pub field: String,
    /// In which way.
    pub what: What,
    /// The type or the value found.
    pub found: Option<String>,
}

impl Odd {
    pub(in crate::pipeline) fn new(field: &str, what: What, found: Option<&str>) -> Self {
        // Enough to know it by; what stands where a closed set should may be anything.
        Self { field: field.to_owned(), what, found: found.map(|f| f.chars().take(FOUND_CHARS).collect()) }
    }
}

/// What has drifted, since when, and whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Who sends it.
    pub source: String,
    /// What it was held against: `schema NAME VERSION` or `mapping TARGET VERSION`.
    pub against: String,
    /// The type, by the catalogue.
    #[serde(rename = "type")]
    pub kind: String,
    /// The record's field, or `id` or `time`.
    pub field: String,
    /// In which way.
    pub what: What,
    /// Types or values found, the first ones.
    pub found: BTreeSet<String>,
    /// Fields of CRMs that are made of it, as `TARGET OBJECT.FIELD`, with the workflows that read them.
    pub affects: Vec<String>,
    /// When it came first.
    pub first: Wall,
    /// When it came last.
    pub last: Wall,
    /// Payloads so far.
    pub count: u64,
    /// Where the first one stands in the journal.
    pub position: Position,
}

impl Drift {
    /// Its key in the store.
    pub fn key(&self) -> String {
        format!("{}/{}/{}/{}/{}", self.source, self.against, self.kind, self.field, self.what.name())
    }

    /// The same, seen once more.
    pub(in crate::pipeline) fn again(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.position = self.position.min(other.position);
        if self.what == What::Value {
            // Each value concerns the fields that do not foresee it.
            let more: Vec<_> = other.affects.into_iter().filter(|field| !self.affects.contains(field)).collect();
            self.affects.extend(more);
        } else {
            self.affects = other.affects;
        }
        self.found.extend(other.found);
        while self.found.len() > FOUND_MAX {
            self.found.pop_last();
        }
    }
}

/// The type that each field of a record has, and what else passes for it.
pub(super) fn fits(field: &str, value: &Value) -> bool {
    match (field, value) {
        ("entities", value) => value.is_array(),
        ("sentiment_score", Value::String(text)) => text.trim().parse::<f64>().is_ok(),
        ("sentiment_score", value) => value.is_number(),
        (_, value) => !value.is_array() && !value.is_object(),
    }
}

/// The name of a value's type.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Characters kept of a value.
const FOUND_CHARS: usize = 80;
/// Values kept of a field.
const FOUND_MAX: usize = 10;
