//! What a mapping needs of a CRM, and the part of a CRM's contract that makes it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    HttpAnswer, HttpRequest, Token, Verdict,
    contact::Nobody,
    mapping::{Mapping, Rule},
};

/// A field that a mapping writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The CRM's name for it.
    pub name: String,
    /// Its type where an account does not have it from the start; none where it has.
    pub kind: Option<Kind>,
    /// Whether no two records may share a value: a key.
    pub unique: bool,
    /// Values that are written into it, where those are known.
    pub words: Vec<String>,
    /// What those of them stand for that the mapping makes of other words: the numbers of a choice.
    pub meanings: BTreeMap<String, String>,
    /// What is written into it; none where it is read alone.
    pub writes: Option<Writes>,
}

/// What a rule writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// What may be a text, a number or a time, of so many characters at most; none where that is not known.
    Anything(Option<usize>),
    /// What is neither a number nor a time.
    Text(Option<usize>),
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A point in time, or a day.
    Time,
}

/// What a field holds, as the CRM describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stored {
    /// A text of so many characters at most, where that is told.
    Text(Option<usize>),
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A point in time, or a day.
    Time,
    /// Nothing that is compared.
    #[default]
    Other,
}

/// Type of a field that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text of so many characters at most.
    Text(usize),
    /// A text of many lines.
    LongText,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A point in time.
    Time,
    /// A day.
    Date,
    /// One of the field's words.
    Picklist,
    /// The id of a record of that object.
    Lookup(String),
}

/// A field as the CRM describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Whether records can be written by it and no two share a value.
    pub key: bool,
    /// The only values that it takes, where it is so.
    pub words: Option<Vec<String>>,
    /// Those of them that people see by another name, by that name: ids of an account's own, such as HubSpot's of dispositions.
    pub by_label: BTreeMap<String, String>,
    /// What it holds.
    pub stored: Stored,
    /// Whether the CRM alone writes it.
    pub read_only: bool,
}

/// Whether a description says no to each of these: whether a field may be written is told for making and for changing apart.
pub(super) fn denies(field: &Value, flags: [&str; 2]) -> bool {
    flags.iter().all(|flag| field.get(flag).and_then(Value::as_bool) == Some(false))
}

/// Describes objects and makes fields.
pub trait Setup {
    /// Asks for an object's fields.
    fn describe(&self, object: &str, token: &Token) -> HttpRequest;
    /// The fields in the answer to that.
    fn described(&self, answer: &HttpAnswer) -> Result<Vec<Described>, Verdict>;
    /// Asks for what that answer does not tell of an object's fields: such as how long a text may be. Nothing where it tells all.
    fn describe_more(&self, _object: &str, _token: &Token) -> Vec<HttpRequest> {
        Vec::new()
    }
    /// Puts to `fields` what the answer to one of these tells.
    fn described_more(&self, _fields: &mut [Described], _answer: &HttpAnswer) -> Result<(), Verdict> {
        Ok(())
    }
    /// Asks for a field to be made; none where the vendor lets nobody make one of that name.
    fn make(&self, object: &str, field: &Field, token: &Token) -> Option<HttpRequest>;
    /// Whether it is there now: made, or made by somebody else before.
    fn made(&self, answer: &HttpAnswer) -> Result<(), Verdict>;
    /// What the gateway must be permitted, and nothing more, a line each; then what only a set-up must be.
    fn permissions(&self, mapping: &Mapping) -> (Vec<String>, Vec<String>);
}

/// What the value stands for that is written for any word which a rule does not list, and for none.
const OTHER: &str = "other or none";
/// The key has so many characters.
const KEY_CHARS: usize = 40;
/// A text of more characters is one of many lines: Salesforce's short ones end here.
const TEXT_CHARS: usize = 255;

impl Kind {
    /// The type that a mapping's `custom` names.
    fn parse(word: &str, max_chars: Option<usize>) -> Option<Self> {
        Some(match word {
            "string" if max_chars.is_some_and(|most| most > TEXT_CHARS) => Self::LongText,
            "string" => Self::Text(max_chars.unwrap_or(TEXT_CHARS)),
            "text" => Self::LongText,
            "number" => Self::Number,
            "bool" => Self::Boolean,
            "datetime" => Self::Time,
            "date" => Self::Date,
            "enumeration" => Self::Picklist,
            _ => return None,
        })
    }
}

/// What is wrong with the type that a rule's `custom` names.
pub(super) fn unknown_type(rule: &Rule) -> Option<String> {
    let word = rule.custom.as_ref().filter(|word| Kind::parse(word, rule.max_chars).is_none())?;
    Some(format!("custom = \"{word}\" is no type: write string, text, number, bool, datetime, date or enumeration"))
}

/// Each object that a mapping names, with the fields that it needs there; or a type of `custom` that nobody knows.
pub fn needs(mapping: &Mapping) -> Result<Vec<(&str, Vec<Field>)>, String> {
    let rule = |rule: &Rule| {
        if let Some(why) = unknown_type(rule) {
            return Err(format!("field `{}`: {why}", rule.to));
        }
        let kind = rule.custom.as_ref().and_then(|word| Kind::parse(word, rule.max_chars));
        // What comes out of a list of values is known before any call; `default` alone may be any text.
        let mut words: Vec<_> = rule.values.values().cloned().collect();
        if !words.is_empty() || rule.from.is_none() || kind == Some(Kind::Picklist) {
            words.extend(rule.default.clone());
        }
        words.sort();
        words.dedup();
        let mut meanings: BTreeMap<String, String> = BTreeMap::new();
        for (told, value) in &rule.values {
            meanings.entry(value.clone()).and_modify(|others| *others = format!("{others} / {told}")).or_insert_with(|| told.clone());
        }
        if let Some(value) = rule.default.as_ref().filter(|_| !rule.values.is_empty()) {
            meanings.entry(value.clone()).or_insert_with(|| OTHER.to_owned());
        }
        Ok(Field { name: rule.to.clone(), kind, words, meanings, writes: Some(rule.writes()), ..Field::default() })
    };
    let written = Some(Writes::Text(Some(KEY_CHARS)));
    let key =
        |name: &str| Field { name: name.to_owned(), kind: Some(Kind::Text(KEY_CHARS)), unique: true, writes: written, ..Field::default() };
    let plain = |name: &String| Field { name: name.clone(), ..Field::default() };

    let mut records = vec![key(&mapping.key)];
    records.extend(mapping.rules.iter().map(rule).collect::<Result<Vec<_>, String>>()?);
    let lookup =
        |name: &String, to: &String| Field { kind: Some(Kind::Lookup(to.clone())), writes: Some(Writes::Anything(None)), ..plain(name) };
    let mut objects = Vec::new();
    if let Some(beside) = &mapping.beside {
        let mut fields = vec![key(&beside.key), lookup(&beside.link, &mapping.object)];
        fields.extend(beside.person.iter().zip(&mapping.contact).map(|(person, contact)| lookup(person, &contact.object)));
        fields.extend(beside.rules.iter().map(rule).collect::<Result<Vec<_>, String>>()?);
        objects.push((beside.object.as_str(), fields));
    }
    let Some(contact) = &mapping.contact else {
        objects.insert(0, (&mapping.object, records));
        return Ok(objects);
    };
    records.extend(contact.link.iter().map(|link| lookup(&link.to, &contact.object)));
    objects.insert(0, (&mapping.object, records));
    let mut people: Vec<_> = contact.fields.iter().map(plain).collect();
    if contact.nobody == Nobody::Create {
        people.extend(contact.key.as_deref().map(key));
        people.extend(contact.rules.iter().map(rule).collect::<Result<Vec<_>, String>>()?);
    }
    people.extend(contact.updates.iter().map(rule).collect::<Result<Vec<_>, String>>()?);
    people.dedup_by(|a, b| a.name == b.name);
    objects.push((&contact.object, people));
    Ok(objects)
}

/// What is wrong with a field that is there.
pub fn fault(wanted: &Field, there: &Described) -> Option<String> {
    if wanted.unique && !there.key {
        return Some(
            "is there and is no unique key: two calls at once would make two records; name another field as the key, or make this one anew"
                .into(),
        );
    }
    if let Some(why) = wanted.writes.and_then(|writes| writes.misfit(there)) {
        return Some(why);
    }
    let words = there.words.as_ref()?;
    let lacking: Vec<_> = wanted.words.iter().filter(|word| !words.contains(word)).map(String::as_str).collect();
    let (labels, lacking): (Vec<_>, Vec<_>) = lacking.into_iter().partition(|word| there.by_label.contains_key(*word));
    let values: Vec<_> = labels.iter().filter_map(|label| Some(format!("{} for {label}", there.by_label.get(*label)?))).collect();
    let labels = (!values.is_empty()).then(|| format!("takes its values and not the names that people see: write {}", values.join(", ")));
    let lacks =
        (!lacking.is_empty()).then(|| format!("takes only its own values, and lacks {}: an administrator adds them", lacking.join(", ")));
    let faults: Vec<_> = labels.into_iter().chain(lacks).collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}

impl Writes {
    /// Why the CRM would refuse it, or cut it.
    fn misfit(self, there: &Described) -> Option<String> {
        if there.read_only {
            return Some("is written by the CRM alone: name another field".into());
        }
        let holds = match there.stored {
            Stored::Text(Some(most)) => {
                let (Self::Anything(chars) | Self::Text(chars)) = self else { return None };
                return (chars? > most)
                    .then(|| format!("takes {most} characters, and more may be written: set max_chars = {most} in its rule"));
            }
            Stored::Text(None) | Stored::Other => return None,
            Stored::Number => "a number",
            Stored::Boolean => "true or false",
            Stored::Time => "a time",
        };
        let (written, fits) = match self {
            Self::Anything(_) => return None,
            Self::Text(_) => ("a text", false),
            Self::Number => ("a number", there.stored == Stored::Number),
            Self::Boolean => ("true or false", there.stored == Stored::Boolean),
            Self::Time => ("a time", there.stored == Stored::Time),
        };
        (!fits).then(|| format!("holds {holds}, and {written} is written: see `as` of its rule, or name another field"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_names_what_it_needs() {
        let text = include_str!("../../examples/mapping-salesforce.toml");
        let mapping: Mapping = toml::from_str(text).expect("the shipped mapping");
        let needs = needs(&mapping).expect("types that are known");
        let [("Voice_Call__c", records), ("Task", tasks), ("Contact", people)] = needs.as_slice() else { panic!("{needs:?}") };
        let of = |name: &str| records.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((&of("Offhook_Key__c").kind, of("Offhook_Key__c").unique), (&Some(Kind::Text(40)), true));
        assert_eq!((&of("Summary__c").kind, &of("Name").kind), (&Some(Kind::LongText), &None));
        assert_eq!(of("Contact__c").kind, Some(Kind::Lookup("Contact".into())));
        assert_eq!(people.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["Phone", "MobilePhone"]);
        let task = |name: &str| tasks.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((&task("Offhook_Key__c").kind, task("Offhook_Key__c").unique), (&Some(Kind::Text(40)), true));
        assert_eq!(
            (task("Status").words.as_slice(), &task("Status").kind),
            (&["Completed".to_owned(), "In Progress".to_owned()][..], &None)
        );
        assert_eq!(
            (&task("WhatId").kind, &task("WhoId").kind),
            (&Some(Kind::Lookup("Voice_Call__c".into())), &Some(Kind::Lookup("Contact".into())))
        );
        let odd: Mapping = toml::from_str(&text.replace("\"bool\"", "\"boolean\"")).expect("a mapping");
        assert!(super::needs(&odd).expect_err("no such type").contains("Needs_Review__c"));
    }

    #[test]
    fn a_field_that_is_there_has_to_do() {
        let wanted = |unique, words: &[&str]| Field {
            name: "f".into(),
            unique,
            words: words.iter().map(|w| (*w).to_owned()).collect(),
            ..Field::default()
        };
        let there = |key, words: Option<&[&str]>| Described {
            name: "f".into(),
            key,
            words: words.map(|w| w.iter().map(|w| (*w).to_owned()).collect()),
            by_label: [("Busy".to_owned(), "B".to_owned())].into(),
            ..Described::default()
        };
        let labels = fault(&wanted(false, &["A", "Busy", "C"]), &there(false, Some(&["A", "B"]))).expect("a fault");
        assert!(labels.contains("write B for Busy; takes only its own values, and lacks C:"), "{labels}");
        assert_eq!(fault(&wanted(true, &[]), &there(true, None)), None);
        assert!(fault(&wanted(true, &[]), &there(false, None)).expect("a fault").contains("no unique key"));
        assert_eq!(fault(&wanted(false, &["A"]), &there(false, Some(&["A", "B"]))), None);
        assert!(fault(&wanted(false, &["A", "C"]), &there(false, Some(&["A", "B"]))).expect("a fault").contains("lacks C:"));
        assert_eq!(fault(&wanted(false, &["C"]), &there(false, None)), None);
    }

    #[test]
    fn what_a_rule_writes_has_to_fit_what_the_field_holds() {
        let rule = |text: &str| -> Rule { toml::from_str(&format!("to = \"f\"\n{text}")).expect("a rule") };
        let found = |text: &str, stored, read_only| {
            let there = Described { name: "f".into(), stored, read_only, ..Described::default() };
            rule(text).writes().misfit(&there)
        };
        let (summary, short) = ("from = \"call_summary\"", "from = \"call_summary\"\nmax_chars = 80");
        assert!(found(summary, Stored::Text(Some(80)), false).expect("too long").contains("max_chars = 80"));
        assert!(found("from = \"outcome\"\nvalues = { busy = \"rang and rang\" }", Stored::Text(Some(4)), false).is_some());
        for (text, stored) in [
            (summary, Stored::Text(None)),
            (short, Stored::Text(Some(80))),
            ("from = \"talk_ms\"\nas = \"seconds\"", Stored::Number),
            ("from = \"talk_ms\"", Stored::Number),
            ("from = \"started_at\"\nas = \"epoch_ms\"", Stored::Time),
            ("from = \"started_at\"", Stored::Time),
            ("from = \"needs_review\"\nas = \"boolean\"", Stored::Boolean),
            ("from = \"disposition_code\"", Stored::Number),
            ("from = \"outcome\"\nvalues = { busy = \"1\" }\nas = \"number\"", Stored::Number),
        ] {
            assert_eq!(found(text, stored, false), None, "{text}: {stored:?}");
        }
        for (text, stored) in [
            ("from = \"transcript\"", Stored::Number),
            ("from = \"outcome\"", Stored::Time),
            ("from = \"note\"", Stored::Boolean),
            ("from = \"talk_ms\"\nas = \"seconds\"", Stored::Time),
            ("from = \"started_at\"\nas = \"date\"", Stored::Number),
        ] {
            assert!(found(text, stored, false).is_some(), "{text}: {stored:?}");
        }
        assert!(found(short, Stored::Text(None), true).expect("read only").contains("the CRM alone"));
    }
}
