//! What the org's objects are made of, and what a record may hold.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::fault;
use crate::time::Wall;

/// An object type with its records, by their ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    pub(super) fields: BTreeMap<String, Field>,
    pub(super) records: BTreeMap<String, Map<String, Value>>,
    /// Records that bear a value, by field and value, of fields that are external ids or unique.
    bearers: BTreeMap<(String, String), BTreeSet<String>>,
}

/// A field.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) external: bool,
    pub(super) unique: bool,
}

/// Its type.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A text of so many characters at most.
    Text(usize),
    Number,
    Boolean,
    Date,
    DateTime,
    /// One of these; others are refused where it is restricted.
    Picklist(Vec<String>, bool),
    /// The id of another record.
    Reference,
}

fn field(kind: Kind) -> Field {
    Field { kind, required: false, external: false, unique: false }
}

/// First characters of an object's ids.
pub(super) fn prefix(object: &str) -> &'static str {
    match object {
        "Task" => "00T",
        "Contact" => "003",
        "Lead" => "00Q",
        "Case" => "500",
        _ => "a00",
    }
}

/// The org's objects.
pub(super) fn org() -> BTreeMap<String, Object> {
    let words = |words: &[&str], restricted| Kind::Picklist(words.iter().map(|w| (*w).to_owned()).collect(), restricted);
    let mut objects = BTreeMap::new();
    let mut object = |name: &str, fields: Vec<(&str, Kind)>, required: &[&str]| {
        let common =
            [("Id", Kind::Text(18)), ("CreatedDate", Kind::DateTime), ("LastModifiedDate", Kind::DateTime), ("OwnerId", Kind::Reference)];
        let fields = common.into_iter().chain(fields).map(|(name, kind)| {
            let required = required.contains(&name);
            (name.to_owned(), Field { required, ..field(kind) })
        });
        objects.insert(name.to_owned(), Object { fields: fields.collect(), ..Object::default() });
    };
    object(
        "Task",
        vec![
            ("Subject", Kind::Text(255)),
            ("Description", Kind::Text(32_000)),
            ("Status", words(&["Not Started", "In Progress", "Completed", "Waiting on someone else", "Deferred"], true)),
            ("Priority", words(&["High", "Normal", "Low"], true)),
            ("ActivityDate", Kind::Date),
            ("TaskSubtype", words(&["Task", "Email", "Call"], true)),
            ("CallType", words(&["Internal", "Inbound", "Outbound"], true)),
            ("CallDisposition", Kind::Text(255)),
            ("CallDurationInSeconds", Kind::Number),
            ("CallObject", Kind::Text(255)),
            ("WhoId", Kind::Reference),
            ("WhatId", Kind::Reference),
        ],
        &[],
    );
    let person = || {
        vec![
            ("FirstName", Kind::Text(40)),
            ("LastName", Kind::Text(80)),
            ("Email", Kind::Text(80)),
            ("Phone", Kind::Text(40)),
            ("MobilePhone", Kind::Text(40)),
        ]
    };
    object("Contact", person(), &["LastName"]);
    let mut lead = person();
    lead.extend([
        ("Company", Kind::Text(255)),
        ("Status", words(&["Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted"], true)),
        ("Rating", words(&["Hot", "Warm", "Cold"], false)),
    ]);
    object("Lead", lead, &["LastName", "Company"]);
    object(
        "Case",
        vec![
            ("Subject", Kind::Text(255)),
            ("Description", Kind::Text(32_000)),
            ("Status", words(&["New", "Working", "Escalated", "Closed"], true)),
            ("Origin", words(&["Phone", "Email", "Web"], false)),
            ("Priority", words(&["High", "Medium", "Low"], true)),
            ("ContactId", Kind::Reference),
            ("SuppliedPhone", Kind::Text(40)),
        ],
        &[],
    );
    // What an administrator has made by hand for the shipped mappings: a custom object begins with its name alone.
    for name in ["Voice_Call__c", "Appointment__c", "Lead_Qualification__c"] {
        object(name, vec![("Name", Kind::Text(80))], &[]);
    }
    objects
}

impl Field {
    /// As the Tooling API's metadata describes it.
    pub(super) fn of_metadata(metadata: &Value) -> Option<Self> {
        let flag = |name: &str| metadata.get(name).and_then(Value::as_bool).unwrap_or(false);
        let kind = match metadata.get("type").and_then(Value::as_str)? {
            "Text" => Kind::Text(metadata.get("length").and_then(Value::as_u64).and_then(|l| usize::try_from(l).ok()).unwrap_or(255)),
            "LongTextArea" | "TextArea" => Kind::Text(32_768),
            "Number" => Kind::Number,
            "Checkbox" => Kind::Boolean,
            "Date" => Kind::Date,
            "DateTime" => Kind::DateTime,
            "Lookup" => Kind::Reference,
            "Picklist" => {
                let set = metadata.get("valueSet");
                let list = set.and_then(|s| s.pointer("/valueSetDefinition/value")).and_then(Value::as_array).cloned().unwrap_or_default();
                let words = list.iter().filter_map(|v| Some(v.get("fullName")?.as_str()?.to_owned())).collect();
                Kind::Picklist(words, set.and_then(|s| s.get("restricted")).and_then(Value::as_bool).unwrap_or(false))
            }
            _ => return None,
        };
        Some(Self { kind, required: flag("required"), external: flag("externalId"), unique: flag("unique") })
    }
}

impl Object {
    /// Records that have that value, in a field that is an external id or unique; it is compared without regard to case.
    pub(super) fn bearing(&self, field: &str, value: &str) -> impl Iterator<Item = &str> {
        self.bearers.get(&(field.to_owned(), value.to_ascii_lowercase())).into_iter().flatten().map(String::as_str)
    }

    /// Writes `fields` to the record `id`, which is made where there is none; null empties a field.
    pub(super) fn put(&mut self, now: Wall, id: &str, fields: Map<String, Value>) {
        let fresh = || Map::from_iter([("Id".to_owned(), json!(id)), ("CreatedDate".to_owned(), json!(now))]);
        let mut record = self.take(id).unwrap_or_else(fresh);
        for (name, value) in fields.into_iter().filter(|(name, _)| name != "attributes") {
            if value.is_null() {
                record.remove(&name)
            } else {
                let held = self.fields.get(&name).map_or_else(|| value.clone(), |field| field.held(&value));
                record.insert(name, held)
            };
        }
        record.insert("LastModifiedDate".into(), json!(now));
        for key in self.keys(&record) {
            self.bearers.entry(key).or_default().insert(id.to_owned());
        }
        self.records.insert(id.to_owned(), record);
    }

    /// Takes a record away.
    pub(super) fn take(&mut self, id: &str) -> Option<Map<String, Value>> {
        let record = self.records.remove(id)?;
        for key in self.keys(&record) {
            if let Some(bearers) = self.bearers.get_mut(&key) {
                bearers.remove(id);
            }
        }
        Some(record)
    }

    fn keys(&self, record: &Map<String, Value>) -> Vec<(String, String)> {
        let key = |(name, field): (&String, &Field)| {
            let value = record.get(name).and_then(Value::as_str).filter(|_| field.external || field.unique)?;
            Some((name.clone(), value.to_ascii_lowercase()))
        };
        self.fields.iter().filter_map(key).collect()
    }

    /// Whether these fields may be written to `id`, or to a new record. `named`: whether a field may name the record of that id.
    pub(super) fn judge(
        &self,
        id: Option<&str>,
        fields: &Map<String, Value>,
        named: &dyn Fn(&str) -> Result<(), Value>,
    ) -> Result<(), Value> {
        for (name, value) in fields.iter().filter(|(name, _)| *name != "attributes") {
            let Some(field) = self.fields.get(name) else {
                return Err(fault("INVALID_FIELD", &format!("No such column '{name}' on sobject"), &[name]));
            };
            if value.is_null() {
                continue;
            }
            field.judge(name, value, named)?;
            if field.unique
                && let Some(text) = value.as_str()
                && let Some(other) = self.bearing(name, text).find(|other| Some(*other) != id)
            {
                let message = format!("duplicate value found: {name} duplicates value on record with id: {other}");
                return Err(fault("DUPLICATE_VALUE", &message, &[]));
            }
        }
        let missing: Vec<_> =
            self.fields.iter().filter(|(n, f)| f.required && id.is_none() && !fields.contains_key(*n)).map(|(n, _)| n.as_str()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(fault("REQUIRED_FIELD_MISSING", &format!("Required fields are missing: [{}]", missing.join(", ")), &missing))
    }

    /// Whether a record of a request can be read at all: each value is of its field's type. Where one is not, nothing of the request is looked at.
    pub(super) fn read(&self, fields: &Map<String, Value>) -> Result<(), Value> {
        let typed = |(name, value): (&String, &Value)| match self.fields.get(name).filter(|_| !value.is_null()) {
            Some(field) => field.judge(name, value, &|_| Ok(())).err().filter(|fault| fault.get("errorCode") == Some(&json!(UNREADABLE))),
            None => None,
        };
        fields.iter().find_map(typed).map_or(Ok(()), Err)
    }

    /// The answer to `describe`.
    pub(super) fn describe(&self, name: &str) -> Value {
        let field = |(name, field): (&String, &Field)| {
            let (kind, length, words, restricted) = match &field.kind {
                Kind::Text(length) => ("string", *length, &[][..], false),
                Kind::Number => ("double", 0, &[][..], false),
                Kind::Boolean => ("boolean", 0, &[][..], false),
                Kind::Date => ("date", 0, &[][..], false),
                Kind::DateTime => ("datetime", 0, &[][..], false),
                Kind::Reference => ("reference", 18, &[][..], false),
                Kind::Picklist(words, restricted) => ("picklist", 255, words.as_slice(), *restricted),
            };
            let kept = ["Id", "CreatedDate", "LastModifiedDate", "SystemModstamp"].contains(&name.as_str());
            let values: Vec<_> = words.iter().map(|w| json!({"active": true, "label": w, "value": w})).collect();
            json!({"name": name, "label": name, "type": kind, "length": length, "nillable": !field.required, "externalId": field.external,
                "idLookup": field.external, "unique": field.unique, "restrictedPicklist": restricted, "picklistValues": values, "createable": !kept, "updateable": !kept})
        };
        json!({"name": name, "custom": name.ends_with("__c"), "fields": self.fields.iter().map(field).collect::<Vec<_>>()})
    }
}

/// What is said of a value that is none of its field's type.
const UNREADABLE: &str = "JSON_PARSER_ERROR";

impl Field {
    /// What a field keeps of a value: of a time no more than the second, in the API's own form.
    fn held(&self, value: &Value) -> Value {
        let time = value.as_str().filter(|_| matches!(self.kind, Kind::DateTime)).and_then(Wall::parse);
        let second = time.and_then(|at| jiff::Timestamp::from_second(at.as_millis().div_euclid(1000)).ok());
        second.map_or_else(|| value.clone(), |at| json!(at.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string()))
    }

    fn judge(&self, name: &str, value: &Value, named: &dyn Fn(&str) -> Result<(), Value>) -> Result<(), Value> {
        // [C] the words, which name no field.
        let wrong = |what: &str| {
            let (kind, text) = match value {
                Value::String(text) => ("VALUE_STRING", text.clone()),
                Value::Number(number) => ("VALUE_NUMBER_INT", number.to_string()),
                Value::Bool(flag) => (if *flag { "VALUE_TRUE" } else { "VALUE_FALSE" }, flag.to_string()),
                Value::Array(_) => ("START_ARRAY", "[".to_owned()),
                Value::Object(_) | Value::Null => ("START_OBJECT", "{".to_owned()),
            };
            let message = format!(
                "Cannot deserialize instance of {what} from {kind} value {text} or request may be missing a required field at [line:1, column:1]"
            );
            Err(fault(UNREADABLE, &message, &[]))
        };
        match (&self.kind, value) {
            (Kind::Text(most), Value::String(text)) if text.chars().count() > *most => {
                Err(fault("STRING_TOO_LONG", &format!("{name}: data value too large (max length={most})"), &[name]))
            }
            (Kind::Text(_), Value::String(_)) | (Kind::Number, Value::Number(_)) | (Kind::Boolean, Value::Bool(_)) => Ok(()),
            (Kind::Text(_), _) => wrong("string"),
            (Kind::Number, _) => wrong("double"),
            (Kind::Boolean, _) => wrong("boolean"),
            (Kind::Date, Value::String(text)) if text.parse::<jiff::civil::Date>().is_ok() => Ok(()),
            (Kind::DateTime, Value::String(text)) if Wall::parse(text).is_some() => Ok(()),
            (Kind::Date, _) => wrong("date"),
            (Kind::DateTime, _) => wrong("datetime"),
            (Kind::Picklist(words, true), Value::String(text)) if !words.contains(text) => {
                let message = format!("{name}: bad value for restricted picklist field: {text}");
                Err(fault("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", &message, &[name]))
            }
            (Kind::Picklist(..), Value::String(_)) => Ok(()),
            (Kind::Picklist(..), _) => wrong("picklist"),
            (Kind::Reference, Value::String(id)) => named(id),
            (Kind::Reference, _) => wrong("reference"),
        }
    }
}
