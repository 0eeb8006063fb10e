//! `[beside]`: a second record, of another object, that is written with the first and linked with it.

use serde::Deserialize;

use super::{Mapping, Rule};
use crate::crm::contact::Link;

/// The object beside the first, with its rules. Its fields stand among those of the first as `OBJECT.FIELD`, which is the name of no field of the first.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// Its object type in the CRM.
    pub object: String,
    /// Its unique field that holds the call's key, as the first's does.
    pub key: String,
    /// Its field that names the first record.
    pub link: String,
    /// Its field that names the person behind the call, where it has one.
    #[serde(default)]
    pub person: Option<String>,
    /// Its rules.
    #[serde(default, rename = "field")]
    pub rules: Vec<Rule>,
}

impl Beside {
    /// The name among all fields of one of its own: `Task.Subject`.
    pub fn name(&self, field: &str) -> String {
        format!("{}.{field}", self.object)
    }

    /// Its own field that has that name among all fields; none where that is one of the first record.
    pub fn field<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(&self.object)?.strip_prefix('.')
    }

    /// What is wrong with it beside `mapping` and its own rules' form.
    pub(super) fn faults(&self, mapping: &Mapping) -> Vec<String> {
        let mut faults = Vec::new();
        if self.object == mapping.object {
            faults.push(format!("[beside] object: is \"{}\", which is the first already; name another object", self.object));
        }
        for rule in mapping.rules.iter().filter(|rule| self.field(&rule.to).is_some()) {
            faults.push(format!("field `{}`: is named as fields of [beside] are; write it into a [[beside.field]]", rule.to));
        }
        let written_by_itself = [(&self.key, "key"), (&self.link, "field that names the first record")].into_iter();
        for (field, what) in written_by_itself.chain(self.person.iter().map(|person| (person, "field that names the person"))) {
            if self.rules.iter().any(|rule| rule.to == *field) {
                faults.push(format!("field `{}` is the {what}, which is written by itself", self.name(field)));
            }
        }
        if self.person.is_some() && mapping.contact.is_none() {
            faults.push("[beside] person: names a person, and without [contact] nobody is looked for".to_owned());
        }
        faults
    }
}

impl Mapping {
    /// The fields that name the person behind a call: the first record's, and that of the one beside.
    pub fn person_links(&self) -> Vec<Link> {
        let beside = self.beside.as_ref().and_then(|beside| Some(beside.name(beside.person.as_ref()?)));
        let first = self.contact.as_ref().and_then(|contact| contact.link.clone());
        first.into_iter().chain(beside.map(Link::plain)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::crm::mapping::Way;

    fn mapping(rules: Value, beside: Value) -> Mapping {
        let mut mapping = json!({"version": 3, "object": "Call__c", "key": "Key__c", "field": rules, "beside": beside});
        mapping["contact"] = json!({"by": "from", "object": "Contact", "fields": ["Phone"], "link": {"to": "Contact__c"}});
        serde_json::from_value(mapping).expect("a mapping")
    }

    #[test]
    fn fields_of_both_records_stand_side_by_side_under_names_of_their_own() {
        let beside = json!({"object": "Task", "key": "Key__c", "link": "WhatId", "person": "WhoId", "field": [
            {"to": "Name", "from": "outcome", "workflow": "call list"},
            {"to": "Due", "from": "next_action_date", "as": "date"},
            {"to": "Status", "from": "disposition_code", "values": {"PAID": "Completed"}, "default": "Not Started", "review": true}
        ]});
        let mapping =
            mapping(json!([{"to": "Name", "from": "intent"}, {"to": "Review__c", "from": "needs_review", "as": "boolean"}]), beside);
        assert_eq!(mapping.faults(), Vec::<String>::new());
        let record = json!({"intent": "pay", "outcome": "answered", "next_action_date": "soon", "needs_review": false});
        let record = record.as_object().expect("a record");
        let formed = mapping.apply(record);
        let fields =
            [("Name", json!("pay")), ("Review__c", json!(true)), ("Task.Name", json!("answered")), ("Task.Status", json!("Not Started"))];
        assert_eq!(formed.fields, fields.map(|(name, value)| (name.to_owned(), value)).into());
        assert_eq!(formed.faults.keys().collect::<Vec<_>>(), ["Task.Due"], "and somebody looks, at either record");
        let ways = mapping.ways(record);
        assert!(ways.contains(&("Task.Due".into(), Way::Unformed)) && ways.contains(&("Task.Status".into(), Way::Flagged)), "{ways:?}");
        let read: Vec<_> = mapping.reads().fields.into_iter().map(|read| read.to).collect();
        assert_eq!(read, ["Call__c.Name", "Call__c.Review__c", "Task.Name (workflow call list)", "Task.Due", "Task.Status"]);
        let links: Vec<_> = mapping.person_links().into_iter().map(|link| link.to).collect();
        assert_eq!(links, ["Contact__c", "Task.WhoId"]);
        let beside = mapping.beside.expect("a section");
        assert_eq!((beside.field("Task.Name"), beside.field("TaskName"), beside.field("Name")), (Some("Name"), None, None));
    }

    #[test]
    fn faults_name_the_object_and_what_to_write_instead() {
        let rules = |field: &str| json!([{"to": field, "from": "outcome"}, {"to": "b", "from": "outcom"}]);
        let beside = json!({"object": "Call__c", "key": "Key__c", "link": "WhatId", "person": "WhoId", "field": rules("Key__c")});
        let mut mapping = mapping(json!([{"to": "Call__c.b", "from": "intent"}]), beside);
        let faults = mapping.faults().join("\n");
        for part in [
            "[beside] object: is \"Call__c\"",
            "`Call__c.b`: a call record has no `outcom`",
            "`Call__c.b`: is named",
            "`Call__c.Key__c` is the key",
            "`Call__c.b` is there twice",
        ] {
            assert!(faults.contains(part), "{part}: {faults}");
        }
        mapping.contact = None;
        assert!(mapping.faults().join("\n").contains("[beside] person: names a person"));
    }
}
