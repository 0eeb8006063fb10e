//! People of a HubSpot account, and which records they are linked with.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Answer, Change, HubSpot, Ledger, Object, Property, Record, error, not_found, refused};
use crate::time::Wall;

/// Default association of a call with a contact.
const CALL_TO_CONTACT: u32 = 194;
/// The same between any other two types; HubSpot has a number for each pair.
const UNLABELLED: u32 = 1;

/// Links: type and id of a record, type and id of the other.
pub(super) type Links = BTreeSet<(String, u64, String, u64)>;

/// Contacts as an account has them from the start.
pub(super) fn contacts() -> Object {
    let text = ["firstname", "lastname", "phone", "mobilephone", "company", "createdate"];
    let property = |name: &str, unique: bool| {
        let property = Property {
            kind: "string".into(),
            field: "text".into(),
            label: String::new(),
            group: String::new(),
            unique,
            options: Vec::new(),
        };
        (name.to_owned(), property)
    };
    let properties = text.into_iter().map(|name| property(name, false)).chain([property("email", true)]);
    Object::of("contactinformation", properties)
}

impl HubSpot {
    /// Makes one record, of whatever type.
    pub(super) fn create(&mut self, now: Wall, object: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        let Some(object_type) = self.objects.get_mut(object) else { return not_found() };
        let values = match object_type.values(body.get("properties")) {
            Ok(values) => values,
            Err(fault) => return fault,
        };
        let taken = object_type.records.iter().find(|(_, other)| {
            values
                .iter()
                .any(|(name, value)| object_type.properties.get(name).is_some_and(|p| p.unique) && other.values.get(name) == Some(value))
        });
        if let Some((id, _)) = taken {
            return refused(409, "CONFLICT", &format!("Contact already exists. Existing ID: {id}"));
        }
        let id = self.next_id;
        self.next_id += 1;
        let record = Record { values, created: now, updated: now };
        let shown = record.show(id, None);
        let change = Change { what: "create", object, key: None, id: &id.to_string(), before: Value::Null, after: json!(record.values) };
        ledger.mutation(now, change);
        object_type.records.insert(id, record);
        Answer::new(201, shown)
    }

    /// Links pairs; what is linked already stays so. One that does not exist fails its pair.
    pub(super) fn associate(&mut self, now: Wall, from: &str, to: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        let id = |input: &Value, side: &str| input.get(side).and_then(|s| s.get("id")).and_then(Value::as_str).map(str::to_owned);
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for input in body.get("inputs").and_then(Value::as_array).into_iter().flatten() {
            let (left, right) = (id(input, "from").unwrap_or_default(), id(input, "to").unwrap_or_default());
            match self.associate_one(now, (from, &left), (to, &right), ledger) {
                Some(result) => results.push(result),
                None => errors.push(error("OBJECT_NOT_FOUND", &format!("No {from} {left} or no {to} {right}"))),
            }
        }
        let status = if errors.is_empty() { 200 } else { 207 };
        Answer::new(
            status,
            json!({"status": "COMPLETE", "results": results, "errors": errors, "numErrors": errors.len(), "startedAt": now, "completedAt": now}),
        )
    }

    fn associate_one(&mut self, now: Wall, from: (&str, &str), to: (&str, &str), ledger: &mut Ledger) -> Option<Value> {
        let exists = |(object, id): (&str, &str)| self.objects.get(object)?.find(None, id);
        let (left, right) = (exists(from)?, exists(to)?);
        if self.links.insert((from.0.to_owned(), left, to.0.to_owned(), right)) {
            self.links.insert((to.0.to_owned(), right, from.0.to_owned(), left));
            let after = json!({"from": from.0, "from_id": from.1, "to": to.0, "to_id": to.1});
            ledger.mutation(now, Change { what: "create", object: "associations", key: None, id: from.1, before: Value::Null, after });
        }
        let kind = if (from.0, to.0) == ("calls", "contacts") { CALL_TO_CONTACT } else { UNLABELLED };
        let spec = json!({"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind});
        Some(json!({"from": {"id": from.1}, "to": {"id": to.1}, "associationSpec": spec}))
    }

    /// Whom a record is linked with.
    pub(super) fn associations(&self, object: &str, id: &str, to: &str) -> Answer {
        let Some(id) = self.objects.get(object).and_then(|o| o.find(None, id)) else { return not_found() };
        let linked = self.links.iter().filter(|(o, i, t, _)| o == object && *i == id && t == to).map(|(.., other)| {
            let kind = if (object, to) == ("calls", "contacts") { CALL_TO_CONTACT } else { UNLABELLED };
            json!({"toObjectId": other, "associationTypes": [{"category": "HUBSPOT_DEFINED", "typeId": kind, "label": null}]})
        });
        Answer::new(200, json!({"results": linked.collect::<Vec<_>>()}))
    }

    /// Takes a record away, and its links with it.
    pub(super) fn archive(&mut self, now: Wall, object: &str, id: &str, ledger: &mut Ledger) -> Answer {
        let taken = self.objects.get_mut(object).and_then(|o| o.find(None, id).and_then(|id| Some((id, o.records.remove(&id)?))));
        if let Some((number, record)) = taken {
            self.links.retain(|(left, l, right, r)| (left != object || *l != number) && (right != object || *r != number));
            ledger.mutation(now, Change { what: "delete", object, key: None, id, before: json!(record.values), after: Value::Null });
        }
        Answer { status: 204, headers: Vec::new(), body: super::super::Body::Empty }
    }
}
