//! A mapping: which field of a call record goes into which field of the CRM, and in what form. A file that a CRM administrator reads and signs off.
//!
//! ```toml
//! version = 1
//! object = "calls"
//! key = "offhook_key"             # the unique field that holds the call's key
//!
//! [[field]]
//! to = "hs_call_status"
//! from = "outcome"
//! values = { answered = "COMPLETED", busy = "BUSY" }
//! default = "FAILED"              # for a value that is not in the list
//! ```

pub mod diff;
pub mod signature;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Fields, contact};
use crate::time::Wall;

/// A mapping as its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Raised by whoever changes it.
    pub version: u32,
    /// Object type in the CRM.
    pub object: String,
    /// The CRM's unique field that holds the call's key.
    pub key: String,
    /// Its rules.
    #[serde(rename = "field")]
    pub rules: Vec<Rule>,
    /// Which events are written while a call is under way.
    #[serde(default)]
    pub on: On,
    /// How the person behind a call is found and linked; without it records name nobody.
    #[serde(default)]
    pub contact: Option<contact::Rule>,
}

/// What an event of a call under way does. What comes when the call is over, or later, is always written: the record would be wrong without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct On {
    /// The call began: its record is made, with the status `in_progress`.
    #[serde(rename = "call.started")]
    pub started: Action,
    /// Somebody or something took it.
    #[serde(rename = "call.answered")]
    pub answered: Action,
    /// It was handed over: the disposition is `TRANSFERRED`, with the context in the note.
    #[serde(rename = "call.transferred")]
    pub transferred: Action,
}

impl Default for On {
    fn default() -> Self {
        Self { started: Action::Write, answered: Action::Wait, transferred: Action::Write }
    }
}

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The record is written as it is then.
    Write,
    /// It is written with the next event that is.
    Wait,
}

impl Action {
    /// Whether something is written.
    pub fn writes(self) -> bool {
        self == Self::Write
    }
}

/// One field of the CRM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The CRM's name for it.
    pub to: String,
    /// The call record's name for it; without one, `default` is written always.
    #[serde(default)]
    pub from: Option<String>,
    /// In which form.
    #[serde(default, rename = "as")]
    pub form: Form,
    /// What becomes of each value; others become `default`, or are not written.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// Written where the record has no value, or none of `values`.
    #[serde(default)]
    pub default: Option<String>,
    /// Longest text that the field takes, in characters; a longer one is cut, with an ellipsis at its end.
    #[serde(default)]
    pub max_chars: Option<usize>,
    /// The CRM's workflow that reads the field, for whoever changes the rule.
    #[serde(default)]
    pub workflow: Option<String>,
    /// Who owns that workflow.
    #[serde(default)]
    pub owner: Option<String>,
    /// A field that the CRM does not have from the start: its type there. For people and tools that set an account up.
    #[serde(default)]
    pub custom: Option<String>,
}

/// In which form a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As it is.
    #[default]
    Text,
    /// A time, as a number of milliseconds since 1970.
    EpochMs,
    /// Keys: the terminator of each run left out.
    Digits,
    /// A number.
    Number,
    /// Whole seconds of a value in milliseconds.
    Seconds,
    /// Minutes of a value in milliseconds, a started one counted.
    Minutes,
    /// True or false.
    Boolean,
    /// The date of a time, in UTC.
    Date,
}

/// What a mapping reads of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The mapping's version.
    pub version: u32,
    /// Each field that comes of one of the record's.
    pub fields: Vec<Read>,
}

/// A field that comes of one of the record's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The record's.
    pub from: String,
    /// The CRM's, as `OBJECT.FIELD`, with the workflow that reads it and its owner.
    pub to: String,
    /// The values that are foreseen; none: any.
    pub values: Option<BTreeSet<String>>,
}

/// What a record may offer, by the names that `from` takes.
pub const RECORD_FIELDS: [&str; 36] = [
    "answered_at",
    "call_id",
    "call_key",
    "call_outcome",
    "call_summary",
    "codec_platform",
    "codec_trunk",
    "complete",
    "digits",
    "disposition_code",
    "ended_as",
    "ended_at",
    "ended_by",
    "entities",
    "from",
    "intent",
    "missing",
    "needs_review",
    "next_action_date",
    "note",
    "outcome",
    "reason",
    "ring_ms",
    "route",
    "secure_ms",
    "sentiment_score",
    "sip_status",
    "started_at",
    "status",
    "talk_ms",
    "target",
    "to",
    "transcript",
    "transfer_context",
    "transferred_to",
    "trunk",
];

impl Mapping {
    /// What is wrong with it beside its form.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen = Vec::new();
        for rule in &self.rules {
            let to = &rule.to;
            match &rule.from {
                Some(from) if !RECORD_FIELDS.contains(&from.as_str()) => {
                    faults.push(format!("field `{to}`: a call record has no `{from}`; it has {}", RECORD_FIELDS.join(", ")));
                }
                None if rule.default.is_none() => {
                    faults.push(format!("field `{to}`: needs `from` or `default`, or nothing is ever written"))
                }
                _ => {}
            }
            for value in rule.default.iter().chain(rule.values.values()).filter(|value| rule.form.write(value).is_none()) {
                faults.push(format!("field `{to}`: \"{value}\" cannot be written in the form that `as` names, and would be left out"));
            }
            if rule.max_chars == Some(0) {
                faults.push(format!("field `{to}`: max_chars = 0 leaves nothing of it"));
            }
            if seen.contains(&to) {
                faults.push(format!("field `{to}` is there twice: the second would overwrite the first"));
            }
            if *to == self.key {
                faults.push(format!("field `{to}` is the key, which is written by itself"));
            }
            seen.push(to);
        }
        faults.extend(self.contact.iter().flat_map(contact::Rule::faults));
        faults
    }

    /// The fields of a record, by the CRM's names.
    pub fn apply(&self, record: &Map<String, Value>) -> Fields {
        apply(&self.rules, record)
    }

    /// What it reads.
    pub fn reads(&self) -> Reads {
        let read = |rule: &Rule| {
            let values = (!rule.values.is_empty()).then(|| rule.values.keys().cloned().collect());
            let read_by = match (&rule.workflow, &rule.owner) {
                (None, None) => String::new(),
                (Some(workflow), None) => format!(" (workflow {workflow})"),
                (None, Some(owner)) => format!(" (of {owner})"),
                (Some(workflow), Some(owner)) => format!(" (workflow {workflow}, of {owner})"),
            };
            Some(Read { from: rule.from.clone()?, to: format!("{}.{}{read_by}", self.object, rule.to), values })
        };
        Reads { version: self.version, fields: self.rules.iter().filter_map(read).collect() }
    }
}

/// What rules make of a record.
pub(super) fn apply(rules: &[Rule], record: &Map<String, Value>) -> Fields {
    rules.iter().filter_map(|rule| Some((rule.to.clone(), rule.value(record)?))).collect()
}

impl Rule {
    fn value(&self, record: &Map<String, Value>) -> Option<Value> {
        let value = self.from.as_ref().and_then(|from| record.get(from)).filter(|v| !v.is_null()).map(text);
        let value = match value {
            Some(value) if self.values.is_empty() => Some(value),
            Some(value) => self.values.get(&value).cloned(),
            None => None,
        };
        let value = value.or_else(|| self.default.clone()).and_then(|value| self.form.write(&value))?;
        Some(match (self.max_chars, value) {
            (Some(most), Value::String(text)) if text.chars().count() > most => Value::String(cut(&text, most)),
            (_, value) => value,
        })
    }
}

/// A text of `most` characters at most, the last of them an ellipsis where it is cut.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most.saturating_sub(1)).chain(['…']).take(most).collect()
}

impl Form {
    fn write(self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(json!(text)),
            Self::EpochMs => Wall::parse(text).map(|at| json!(at.as_millis())),
            Self::Digits => Some(json!(text.split(' ').map(|run| run.trim_end_matches('#')).collect::<Vec<_>>().join(" "))),
            Self::Number => text.parse::<serde_json::Number>().ok().map(Value::Number),
            Self::Seconds => text.parse::<i64>().ok().map(|ms| json!(ms.div_euclid(1000))),
            // A started minute counts, as on a bill.
            Self::Minutes => text.parse::<i64>().ok().map(|ms| json!(ms.saturating_add(59_999).div_euclid(60_000))),
            Self::Boolean => text.parse::<bool>().ok().map(Value::Bool),
            Self::Date => text.get(..10).map(|date| json!(date)),
        }
    }
}

/// A value of a record as text.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(rules: Value) -> Mapping {
        serde_json::from_value(json!({"version": 1, "object": "calls", "key": "offhook_key", "field": rules})).expect("a mapping")
    }

    #[test]
    fn values_are_translated_formed_and_defaulted() {
        let mapping = mapping(json!([
            {"to": "hs_call_status", "from": "outcome", "values": {"answered": "COMPLETED"}, "default": "FAILED"},
            {"to": "hs_timestamp", "from": "started_at", "as": "epoch_ms"},
            {"to": "digits", "from": "digits", "as": "digits"},
            {"to": "review", "from": "needs_review", "as": "boolean"},
            {"to": "seconds", "from": "talk_ms", "as": "seconds"},
            {"to": "hs_call_direction", "default": "INBOUND"},
            {"to": "hs_call_body", "from": "call_summary"}
        ]));
        assert_eq!(mapping.faults(), Vec::<String>::new());
        let record = json!({"outcome": "busy", "started_at": "2026-01-05T10:00:00.123Z", "digits": "2047815# 1", "needs_review": true, "talk_ms": 61999});
        let fields = mapping.apply(record.as_object().expect("a record"));
        let wanted = [
            ("digits", json!("2047815 1")),
            ("hs_call_direction", json!("INBOUND")),
            ("hs_call_status", json!("FAILED")),
            ("hs_timestamp", json!(1_767_607_200_123_i64)),
            ("review", json!(true)),
            ("seconds", json!(61)),
        ];
        assert_eq!(fields, wanted.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn what_a_rule_can_never_write_is_a_fault() {
        let mapping = mapping(json!([
            {"to": "a", "from": "talk_ms", "as": "number", "default": "abc"},
            {"to": "b", "from": "outcome", "as": "boolean", "values": {"answered": "yes"}},
            {"to": "c", "from": "trunk"}
        ]));
        let faults = mapping.faults().join("\n");
        assert!(faults.contains("`a`: \"abc\"") && faults.contains("`b`: \"yes\"") && !faults.contains("`c`"), "{faults}");
    }

    #[test]
    fn a_text_that_the_field_does_not_take_is_cut_at_a_character() {
        let mapping = mapping(json!([{"to": "body", "from": "call_summary", "max_chars": 5}]));
        let cut = |text: &str| mapping.apply(json!({"call_summary": text}).as_object().expect("a record"))["body"].clone();
        assert_eq!((cut("äöüßé"), cut("äöüßéx")), (json!("äöüßé"), json!("äöüß…")));
    }

    #[test]
    fn faults_say_what_to_write_instead() {
        let mapping = mapping(
            json!([{"to": "a", "from": "outcom"}, {"to": "a", "from": "outcome"}, {"to": "b"}, {"to": "offhook_key", "from": "call_key"}]),
        );
        let faults = mapping.faults().join("\n");
        for part in ["no `outcom`", "`a` is there twice", "`b`: needs", "is the key"] {
            assert!(faults.contains(part), "{part}: {faults}");
        }
    }
}
