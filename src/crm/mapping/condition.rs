//! Which calls a rule is about: what a field of their record holds.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    holds::Holds,
    rule::{field, is_of_a_record, text},
};

/// What a field of a record has to hold.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The record's field, which has to be there.
    pub field: String,
    /// One of these; empty: anything.
    #[serde(default)]
    pub is: Vec<String>,
    /// A number that is not below this.
    #[serde(default)]
    pub at_least: Option<f64>,
}

impl Condition {
    /// Whether it is true of `record`.
    pub fn holds(&self, record: &Map<String, Value>) -> bool {
        let Some(value) = field(record, &self.field).filter(|v| !v.is_null()) else { return false };
        let told = text(value);
        let number = || value.as_f64().or_else(|| told.parse().ok());
        (self.is.is_empty() || self.is.contains(&told)) && self.at_least.is_none_or(|least| number().is_some_and(|n| n >= least))
    }

    /// What is wrong with it: it could never be true.
    pub fn fault(&self) -> Option<String> {
        let field = &self.field;
        if !is_of_a_record(field) {
            return Some(format!("a call record has no `{field}`; it has {}", super::RECORD_FIELDS.join(", ")));
        }
        let holds = Holds::of(field);
        if self.at_least.is_some() && !holds.counts() {
            return Some(format!("`{field}` is {}, and at_least needs a number", holds.what()));
        }
        self.is.iter().find_map(|value| Some(format!("`{field}` is never \"{value}\": {}", holds.never(value)?)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_holds_of_what_is_long_what_is_listed_and_what_is_there_at_all() {
        let condition = |field: &str, is: &[&str], at_least| Condition {
            field: field.into(),
            is: is.iter().map(|s| (*s).to_owned()).collect(),
            at_least,
        };
        let record =
            json!({"talk_ms": 60_000, "disposition_code": "PAID", "call_outcome": "12.5", "entities": [{"kind": "amount", "value": 7}]});
        let record = record.as_object().expect("a record");
        for (condition, holds) in [
            (condition("talk_ms", &[], Some(60_000.0)), true),
            (condition("talk_ms", &[], Some(60_001.0)), false),
            (condition("disposition_code", &["PAID", "PROMISED"], None), true),
            (condition("disposition_code", &["REFUSED"], None), false),
            (condition("disposition_code", &[], Some(1.0)), false),
            (condition("call_outcome", &[], Some(12.0)), true),
            (condition("entities.amount", &[], Some(7.0)), true),
            (condition("intent", &[], None), false),
        ] {
            assert_eq!(condition.holds(record), holds, "{condition:?}");
        }
        assert!(condition("talk", &[], None).fault().is_some() && condition("talk_ms", &[], None).fault().is_none());
    }
}
