//! An object type of the account: its properties, its records, and what a record may hold.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, invalid, refused};
use crate::time::Wall;

#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) properties: BTreeMap<String, Property>,
    pub(super) records: BTreeMap<u64, Record>,
}

#[derive(Clone, Debug)]
pub(super) struct Property {
    pub(super) kind: String,
    pub(super) field: String,
    pub(super) label: String,
    pub(super) group: String,
    pub(super) unique: bool,
    pub(super) options: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) values: BTreeMap<String, String>,
    pub(super) created: Wall,
    pub(super) updated: Wall,
}

/// An input that may be written.
pub(super) struct Write {
    pub(super) key: String,
    /// The record that has the key already.
    pub(super) found: Option<u64>,
    pub(super) values: BTreeMap<String, String>,
}

impl Object {
    /// Of these properties, all in one group.
    pub(super) fn of(group: &str, properties: impl IntoIterator<Item = (String, Property)>) -> Self {
        let grouped = |(name, property): (String, Property)| (name, Property { group: group.to_owned(), ..property });
        Self { properties: properties.into_iter().map(grouped).collect(), records: BTreeMap::new() }
    }

    /// The record with that id, or with that value of a property.
    pub(super) fn find(&self, by: Option<&str>, value: &str) -> Option<u64> {
        match by {
            None | Some("hs_object_id") => value.parse().ok().filter(|id| self.records.contains_key(id)),
            Some(name) => self.records.iter().find(|(_, r)| r.values.get(name).is_some_and(|v| v == value)).map(|(id, _)| *id),
        }
    }

    /// The properties of an input, each held against its definition.
    pub(super) fn values(&self, properties: Option<&Value>) -> Result<BTreeMap<String, String>, Answer> {
        let mut values = BTreeMap::new();
        for (name, value) in properties.and_then(Value::as_object).cloned().unwrap_or_default() {
            let Some(property) = self.properties.get(&name) else {
                return Err(invalid(&name, "PROPERTY_DOESNT_EXIST", &format!("Property \"{name}\" does not exist")));
            };
            // All values are texts on the wire; numbers and booleans are taken as such.
            let value = value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned);
            property.judge(&name, &value)?;
            values.insert(name, value);
        }
        Ok(values)
    }

    pub(super) fn judge(&self, input: &Value) -> Result<Write, Answer> {
        let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
        let (by, key) = (text("idProperty"), text("id"));
        if key.is_empty() {
            return Err(refused(400, "VALIDATION_ERROR", "Invalid input JSON: id is required"));
        }
        match self.properties.get(by) {
            Some(property) if property.unique => {}
            Some(_) => {
                return Err(refused(400, "VALIDATION_ERROR", &format!("Unable to perform update/upsert by non-unique 0-48 property {by}")));
            }
            None => return Err(invalid(by, "PROPERTY_DOESNT_EXIST", &format!("Property \"{by}\" does not exist"))),
        }
        let mut values = self.values(input.get("properties"))?;
        values.insert(by.to_owned(), key.to_owned());
        let found = self.find(Some(by), key);
        for required in ["hs_timestamp", "hs_pipeline_stage"] {
            if found.is_none() && self.properties.contains_key(required) && !values.contains_key(required) {
                return Err(invalid(required, "REQUIRED", &format!("{required} is required")));
            }
        }
        Ok(Write { key: key.to_owned(), found, values })
    }
}

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

impl Property {
    pub(super) fn show(&self, name: &str) -> Value {
        let label =
            |word: &String| super::DISPOSITIONS.iter().find(|(id, _)| id == word).map_or(word.clone(), |(_, label)| (*label).to_owned());
        let option = |(place, word): (usize, &String)| json!({"label": label(word), "value": word, "displayOrder": place, "hidden": false});
        json!({"name": name, "label": self.label, "groupName": self.group, "description": "", "type": self.kind, "fieldType": self.field,
            "hasUniqueValue": self.unique, "options": self.options.iter().enumerate().map(option).collect::<Vec<_>>()})
    }

    pub(super) fn judge(&self, name: &str, value: &str) -> Result<(), Answer> {
        if value.is_empty() {
            return Ok(());
        }
        let fault = match self.kind.as_str() {
            "number" if value.parse::<f64>().is_err() => Some(("INVALID_LONG", format!("{value} was not a valid number."))),
            "datetime" if value.parse::<i64>().is_err() && Wall::parse(value).is_none() => {
                Some(("INVALID_DATE", format!("{value} was not a valid date.")))
            }
            // Midnight in UTC, or the day itself.
            "date" if value.parse::<i64>().map_or(true, |ms| ms % DAY_MS != 0) && value.parse::<jiff::civil::Date>().is_err() => {
                Some(("INVALID_DATE", format!("{value} was not a valid date.")))
            }
            "bool" if !matches!(value, "true" | "false") => {
                Some(("INVALID_OPTION", format!("{value} was not one of the allowed options: [true, false]")))
            }
            "enumeration" if !self.options.iter().any(|o| o == value) => {
                Some(("INVALID_OPTION", format!("{value} was not one of the allowed options: [{}]", self.options.join(", "))))
            }
            "string" if value.chars().count() > 65_536 => Some(("PROPERTY_VALUE_TOO_LONG", "the value is too long".into())),
            _ => None,
        };
        fault.map_or(Ok(()), |(code, message)| Err(invalid(name, code, &message)))
    }
}

impl Record {
    pub(super) fn show(&self, id: u64, wanted: Option<&[String]>) -> Value {
        let mut values: BTreeMap<String, Value> = match wanted {
            // What was asked for and never set is null.
            Some(wanted) => wanted.iter().map(|name| (name.clone(), json!(self.values.get(name)))).collect(),
            None => self.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
        };
        values.insert("hs_object_id".into(), json!(id.to_string()));
        json!({"id": id.to_string(), "properties": values, "createdAt": self.created, "updatedAt": self.updated, "archived": false})
    }
}
