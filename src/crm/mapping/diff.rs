//! What another version of a mapping changes, by the CRM's fields and whoever reads them.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Beside, Mapping, Rule};
use crate::crm::contact::{self, Kind, Link};

/// What becomes of one field of the CRM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The CRM's field.
    pub field: String,
    /// `added`, `removed` or `changed`.
    pub what: &'static str,
    /// Before and after, for people.
    pub detail: String,
    /// Workflows of the CRM that read it, by either version.
    pub workflows: BTreeSet<String>,
    /// Whoever owns it, by either version.
    pub owners: BTreeSet<String>,
}

/// What `new` does otherwise than `old`, in the order of the new version's fields.
pub fn diff(old: &Mapping, new: &Mapping) -> Vec<Difference> {
    let of = |mapping: &'_ Mapping, to: &str| all(mapping).find(|(name, _)| name == to).map(|(_, rule)| rule.clone());
    let mut names: Vec<_> = all(new).map(|(name, _)| name).collect();
    names.extend(all(old).map(|(name, _)| name).filter(|to| of(new, to).is_none()));
    let field = |to: String| {
        let (before, after) = (of(old, &to), of(new, &to));
        let (what, detail) = match (&before, &after) {
            (Some(before), Some(after)) if before == after => return None,
            (Some(before), Some(after)) => ("changed", format!("{} became {}", before.says(), after.says())),
            (None, Some(after)) => ("added", after.says()),
            (Some(before), None) => ("removed", format!("{}; what the CRM has stays there", before.says())),
            (None, None) => return None,
        };
        let both = || before.iter().chain(&after);
        let workflows = both().filter_map(|rule| rule.workflow.clone()).collect();
        let owners = both().filter_map(|rule| rule.owner.clone()).collect();
        Some(Difference { field: to, what, detail, workflows, owners })
    };
    let mut differences: Vec<_> = names.into_iter().filter_map(field).collect();
    let whole = |what: &str, old: String, new: String| Difference {
        field: what.to_owned(),
        what: "changed",
        detail: format!("{old} became {new}"),
        workflows: BTreeSet::new(),
        owners: BTreeSet::new(),
    };
    if old.object != new.object {
        differences.push(whole("object", old.object.clone(), format!("{}: every record is made anew there", new.object)));
    }
    if old.key != new.key {
        differences.push(whole(
            "key",
            old.key.clone(),
            format!("{}: records under the old key are found no more, and made again", new.key),
        ));
    }
    if old.on != new.on {
        differences.push(whole("on", under_way(old), under_way(new)));
    }
    if old.only != new.only {
        differences.push(whole("only", conditions(old), conditions(new)));
    }
    if told(old) != told(new) {
        differences.push(whole("contact", told(old), told(new)));
    }
    if beside(old) != beside(new) {
        differences.push(whole("beside", beside(old), beside(new)));
    }
    differences
}

fn beside(mapping: &Mapping) -> String {
    mapping.beside.as_ref().map_or_else(
        || "nothing is written beside".to_owned(),
        |Beside { object, key, link, person, .. }| {
            let of = person.as_ref().map(|person| format!(", its person by {person}")).unwrap_or_default();
            format!("{object} by {key}, linked by {link}{of}")
        },
    )
}

fn under_way(mapping: &Mapping) -> String {
    let on = mapping.on;
    let each = [("call.started", on.started), ("call.answered", on.answered), ("call.transferred", on.transferred)];
    let written: Vec<_> = each.iter().filter(|(_, action)| action.writes()).map(|(name, _)| *name).collect();
    if written.is_empty() { "nothing of a call under way is written".to_owned() } else { format!("{} written", written.join(", ")) }
}

fn conditions(mapping: &Mapping) -> String {
    let says = |c: &super::Condition| {
        let is = if c.is.is_empty() { String::new() } else { format!(" is {}", c.is.join(" or ")) };
        format!("{}{is}{}", c.field, c.at_least.map(|least| format!(" at least {least}")).unwrap_or_default())
    };
    let all: Vec<_> = mapping.only.iter().map(says).collect();
    if all.is_empty() { "every call".to_owned() } else { format!("calls with {}", all.join(", or ")) }
}

/// Its rules, those of people among them.
fn all(mapping: &Mapping) -> impl Iterator<Item = (String, &Rule)> {
    let contact = mapping.contact.iter();
    let people = contact.flat_map(|contact| [("contact.field", &contact.rules), ("contact.update", &contact.updates)]);
    mapping.named().chain(people.flat_map(|(section, rules)| rules.iter().map(move |rule| (format!("{section}.{}", rule.to), rule))))
}

/// All of `[contact]` but its rules.
fn told(mapping: &Mapping) -> String {
    let Some(rule) = &mapping.contact else { return "nobody is looked for".to_owned() };
    // Each is named here, so that none is added and not told.
    let contact::Rule { by, kind, country, object, fields, several, nobody, key, rules: _, updates: _, link } = rule;
    let mut text = format!("{object} by {by}");
    if *kind == Kind::Reference {
        text.push_str(", a reference,");
    }
    text.push_str(&format!(" in {}", fields.join(", ")));
    text.extend(country.iter().map(|country| format!(", national numbers by {country}")));
    text.push_str(&format!(", several: {several:?}, nobody: {nobody:?}").to_lowercase());
    text.extend(key.iter().map(|key| format!(", made by {key}")));
    text.extend(link.iter().map(|Link { to, value }| format!(", linked by {to} = {value}")));
    text
}

impl Rule {
    /// In a sentence.
    fn says(&self) -> String {
        let mut text = self.from.clone().map_or_else(|| "always".to_owned(), |from| format!("from {from}"));
        if self.form != super::Form::Text {
            text.push_str(&format!(" as {:?}", self.form).to_lowercase());
        }
        for (word, told) in [("in", &self.zone), ("in", &self.currency)] {
            text.extend(told.iter().map(|told| format!(" {word} {told}")));
        }
        if !self.values.is_empty() {
            let values: Vec<_> = self.values.iter().map(|(from, to)| format!("{from}→{to}")).collect();
            text.push_str(&format!(" [{}]", values.join(", ")));
        }
        if let Some(default) = &self.default {
            text.push_str(&format!(", else \"{default}\"{}", if self.review { " for review" } else { "" }));
        }
        if let Some(most) = self.max_chars {
            text.push_str(&format!(", at most {most} characters"));
        }
        for (word, told) in [("read by", &self.workflow), ("of", &self.owner), ("made as", &self.custom)] {
            text.extend(told.iter().map(|told| format!(", {word} {told}")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mapping(rules: Value) -> Mapping {
        serde_json::from_value(json!({"version": 1, "object": "calls", "key": "k", "field": rules})).expect("a mapping")
    }

    #[test]
    fn each_field_that_changes_is_named_with_who_reads_it() {
        let old = mapping(json!([
            {"to": "status", "from": "outcome", "values": {"busy": "BUSY"}, "workflow": "call back", "owner": "sales"},
            {"to": "body", "from": "call_summary"},
            {"to": "gone", "from": "digits"}
        ]));
        let new = mapping(json!([
            {"to": "status", "from": "outcome", "values": {"busy": "BUSY"}, "default": "FAILED", "workflow": "call back", "owner": "ops"},
            {"to": "body", "from": "call_summary"},
            {"to": "mood", "from": "sentiment_score", "as": "number"}
        ]));
        let found = diff(&old, &new);
        let told: Vec<_> = found.iter().map(|d| (d.field.as_str(), d.what)).collect();
        assert_eq!(told, [("status", "changed"), ("mood", "added"), ("gone", "removed")]);
        assert_eq!(found[0].workflows, BTreeSet::from(["call back".to_owned()]));
        assert_eq!(found[0].owners, BTreeSet::from(["ops".to_owned(), "sales".to_owned()]));
        let after = "became from outcome [busy→BUSY], else \"FAILED\", read by call back, of ops";
        assert!(found[0].detail.ends_with(after), "{}", found[0].detail);
        assert_eq!(diff(&new, &new), []);
    }

    #[test]
    fn another_owner_and_other_calls_are_changes_that_are_told() {
        let rule = |owner: &str| json!([{"to": "status", "from": "outcome", "owner": owner}]);
        let (old, mut new) = (mapping(rule("sales")), mapping(rule("ops")));
        new.only = vec![super::super::Condition { field: "talk_ms".into(), is: Vec::new(), at_least: Some(1000.0) }];
        new.on.started = super::super::Action::Wait;
        let told: Vec<_> = diff(&old, &new).into_iter().map(|d| format!("{}: {}", d.field, d.detail)).collect();
        let wanted = [
            "status: from outcome, of sales became from outcome, of ops",
            "on: call.started, call.transferred written became call.transferred written",
            "only: every call became calls with talk_ms at least 1000",
        ];
        assert_eq!(told, wanted);
    }

    /// Whoever signs a version has read what it does with people: every key, and every rule.
    #[test]
    fn each_key_of_a_contact_and_each_rule_of_a_person_is_told() {
        let with = |changed: Value| {
            let mut contact = json!({"by": "from", "object": "contacts", "fields": ["phone"], "nobody": "create", "key": "k",
                "link": {"to": "WhoId"}, "field": [{"to": "LastName", "default": "Unknown"}], "update": [{"to": "Mood", "from": "intent"}]});
            contact.as_object_mut().expect("an object").extend(changed.as_object().expect("an object").clone());
            let mut mapping = mapping(json!([{"to": "Subject", "from": "outcome"}]));
            mapping.contact = Some(serde_json::from_value(contact).expect("a section"));
            mapping
        };
        let old = with(json!({}));
        for (changed, field, before, after) in [
            (json!({"nobody": "leave"}), "contact", "nobody: create", "nobody: leave"),
            (json!({"several": "newest"}), "contact", "several: review", "several: newest"),
            (json!({"country": "+49"}), "contact", "in phone, several", "in phone, national numbers by +49"),
            (json!({"kind": "reference"}), "contact", "by from in", "by from, a reference, in"),
            (json!({"key": "l"}), "contact", "made by k", "made by l"),
            (json!({"link": {"to": "WhatId"}}), "contact", "linked by WhoId = {id}", "linked by WhatId = {id}"),
            (json!({"link": {"to": "WhoId", "value": "/c({id})"}}), "contact", "= {id}", "= /c({id})"),
            (json!({"field": [{"to": "LastName", "default": "?"}]}), "contact.field.LastName", "else \"Unknown\"", "else \"?\""),
            (json!({"update": [{"to": "Mood", "from": "note"}]}), "contact.update.Mood", "from intent", "from note"),
        ] {
            let found = diff(&old, &with(changed));
            let [Difference { field: told, what: "changed", detail, .. }] = found.as_slice() else { panic!("{field}: {found:?}") };
            let (was, is) = detail.split_once(" became ").expect("both");
            assert_eq!(told, field);
            assert!(was.contains(before) && is.contains(after) && !was.contains(after), "{detail}");
        }
    }

    #[test]
    fn what_stands_beside_is_told_by_its_object() {
        let with = |subject: &str, key: &str| {
            let mut mapping = mapping(json!([{"to": "Subject", "from": "outcome"}]));
            let rules = json!([{"to": "Subject", "from": subject, "owner": "ann"}]);
            let beside = json!({"object": "Task", "key": key, "link": "WhatId", "person": "WhoId", "field": rules});
            mapping.beside = Some(serde_json::from_value(beside).expect("a section"));
            mapping
        };
        let told: Vec<_> =
            diff(&with("intent", "K__c"), &with("note", "L__c")).into_iter().map(|d| format!("{}: {}", d.field, d.detail)).collect();
        let wanted = [
            "Task.Subject: from intent, of ann became from note, of ann",
            "beside: Task by K__c, linked by WhatId, its person by WhoId became Task by L__c, linked by WhatId, its person by WhoId",
        ];
        assert_eq!(told, wanted);
        let none = mapping(json!([{"to": "Subject", "from": "outcome"}]));
        let told: Vec<_> = diff(&none, &with("intent", "K__c")).into_iter().map(|d| (d.field, d.what)).collect();
        assert_eq!(told, [("Task.Subject".to_owned(), "added"), ("beside".to_owned(), "changed")]);
    }
}
