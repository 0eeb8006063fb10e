//! A rule: which field of a record becomes which field of the CRM, and what stands there where there is none.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Form, RECORD_FIELDS, form, holds::Holds};
use crate::crm::setup::Writes;

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
    /// `default` in place of a value is for somebody to look at: `needs_review` is true then.
    #[serde(default)]
    pub review: bool,
    /// The IANA time zone of dates, and of times that name none; without one UTC.
    #[serde(default)]
    pub zone: Option<String>,
    /// The currency of an amount (ISO 4217): one in another is not written.
    #[serde(default)]
    pub currency: Option<String>,
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

/// Whether a record may have such a field.
pub(super) fn is_of_a_record(from: &str) -> bool {
    let kind = from.strip_prefix(ENTITIES).map(|rest| rest.strip_suffix(CURRENCY).unwrap_or(rest));
    kind.map_or_else(|| RECORD_FIELDS.contains(&from), |kind| !kind.is_empty() && !kind.contains('.'))
}

/// `entities.KIND`: the value of the first entity of that kind which the platform took out of the call; `entities.KIND.currency`: its currency.
pub(super) const ENTITIES: &str = "entities.";
const CURRENCY: &str = ".currency";

/// Fields of a record that are as long as whoever told them made them.
const LONG: [&str; 3] = ["call_summary", "note", "transcript"];
/// As long as they may well be, where no rule cuts them: half an hour of talk, and no more than a CRM's long texts take.
const LONG_CHARS: usize = 32_768;

/// The record's field of that name.
pub(super) fn field<'r>(record: &'r Map<String, Value>, from: &str) -> Option<&'r Value> {
    let Some(kind) = from.strip_prefix(ENTITIES) else { return record.get(from) };
    let (kind, part) = kind.strip_suffix(CURRENCY).map_or((kind, "value"), |kind| (kind, "currency"));
    entity(record, kind)?.get(part)
}

fn entity<'r>(record: &'r Map<String, Value>, kind: &str) -> Option<&'r Value> {
    record.get("entities")?.as_array()?.iter().find(|e| e.get("kind").and_then(Value::as_str) == Some(kind))
}

impl Rule {
    /// Why it never writes what it is meant to, whatever a call is like.
    pub(super) fn never(&self) -> Option<String> {
        let from = self.from.as_deref()?;
        let holds = Holds::of(from);
        if self.values.is_empty() {
            let why = || format!("`{from}` is {}, and `as` asks for {}: nothing would ever be written", holds.what(), self.form.wants());
            return (!holds.has(self.form)).then(why);
        }
        self.values.keys().find_map(|value| Some(format!("`{from}` is never \"{value}\": {}", holds.never(value)?)))
    }

    /// What is written, as far as that is known before any call.
    pub(in crate::crm) fn writes(&self) -> Writes {
        let longest = |words: &mut dyn Iterator<Item = &String>| words.map(|word| word.chars().count()).max();
        let known =
            if self.values.is_empty() && self.from.is_some() { None } else { longest(&mut self.values.values().chain(&self.default)) };
        let most = self.max_chars.or(known);
        match (self.form, self.from.as_deref()) {
            (Form::Number | Form::Seconds | Form::Minutes, _) => Writes::Number,
            (Form::Boolean, _) => Writes::Boolean,
            (Form::Date | Form::Datetime, _) => Writes::Time,
            (Form::EpochMs, _) => Writes::Anything(None),
            (Form::Digits, _) => Writes::Text(most),
            (Form::Text, Some(from)) if self.values.is_empty() => match Holds::of(from) {
                _ if LONG.contains(&from) => Writes::Text(Some(most.unwrap_or(LONG_CHARS))),
                Holds::Word(_) | Holds::Text => Writes::Text(most),
                _ => Writes::Anything(most),
            },
            (Form::Text, _) => Writes::Anything(most),
        }
    }

    /// What is written, and whether somebody told it; nothing where there is nothing to write; why it cannot be where there is.
    pub(super) fn value(&self, record: &Map<String, Value>) -> Result<Option<(Value, bool)>, String> {
        let from = self.from.as_deref();
        let told = from.and_then(|from| field(record, from)).filter(|v| !v.is_null()).map(text);
        if let (Some(_), Some(wanted)) = (&told, &self.currency) {
            self.same_currency(record, wanted)?;
        }
        let told = told.and_then(|told| if self.values.is_empty() { Some(told) } else { self.values.get(&told).cloned() });
        let (value, is_told) = match (told, &self.default) {
            (Some(told), _) => (told, true),
            (None, Some(default)) => (default.clone(), false),
            (None, None) => return Ok(None),
        };
        let zone = self.zone.as_deref().and_then(form::zone).unwrap_or(TimeZone::UTC);
        let value =
            self.form.write(&value, &zone).ok_or_else(|| format!("`{}` is not {}", from.unwrap_or("default"), self.form.wants()))?;
        let value = match (self.max_chars, value) {
            (Some(most), Value::String(text)) if text.chars().count() > most => Value::String(cut(&text, most)),
            (_, value) => value,
        };
        Ok(Some((value, is_told)))
    }

    /// An amount without a currency is in that of the field.
    fn same_currency(&self, record: &Map<String, Value>, wanted: &str) -> Result<(), String> {
        let kind = self.from.as_deref().and_then(|from| from.strip_prefix(ENTITIES)).unwrap_or_default();
        match entity(record, kind).and_then(|e| e.get("currency")).and_then(Value::as_str) {
            Some(found) if !found.eq_ignore_ascii_case(wanted) => Err(format!("the {kind} is in another currency than {wanted}")),
            _ => Ok(()),
        }
    }
}

/// A text of `most` characters at most, the last of them an ellipsis where it is cut.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most.saturating_sub(1)).chain(['…']).take(most).collect()
}

/// A value of a record as text.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
