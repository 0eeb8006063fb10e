//! HubSpot's properties: described, and made.

use serde_json::{Value, json};

use super::{HubSpot, refused};
use crate::crm::{
    HttpAnswer, HttpRequest, Token, Verdict,
    contact::Nobody,
    mapping::Mapping,
    setup::{Described, Field, Kind, Setup, Stored},
};

/// Characters of a text, in one line or many, as HubSpot's "Property field types" has it; no answer of its API tells.
const TEXT_CHARS_MAX: usize = 65_536;

impl Setup for HubSpot {
    fn describe(&self, object: &str, token: &Token) -> HttpRequest {
        let asked = self.post(format!("crm/properties/{}/{object}", self.version), &Value::Null, token);
        HttpRequest { method: "GET", body: Vec::new(), ..asked }
    }

    fn described(&self, answer: &HttpAnswer) -> Result<Vec<Described>, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let Some(results) = body.get("results").and_then(Value::as_array).filter(|_| answer.status == 200) else {
            return Err(refused(answer, &body));
        };
        let described = |property: &Value| {
            let text = |name: &str| property.get(name).and_then(Value::as_str);
            let options = property.get("options").and_then(Value::as_array).into_iter().flatten();
            let options = options.filter_map(|o| Some((o.get("value")?.as_str()?, o.get("label")?.as_str()?)));
            // Dispositions are ids, which each portal adds its own to.
            let by_label =
                options.clone().filter(|(value, label)| value != label).map(|(value, label)| (label.to_owned(), value.to_owned()));
            let words = options.clone().map(|(value, _)| value.to_owned()).collect();
            Some(Described {
                name: text("name")?.to_owned(),
                key: property.get("hasUniqueValue").and_then(Value::as_bool).unwrap_or(false),
                words: (text("type") == Some("enumeration")).then_some(words),
                by_label: by_label.collect(),
                stored: match text("type") {
                    Some("string") => Stored::Text(Some(TEXT_CHARS_MAX)),
                    Some("number") => Stored::Number,
                    Some("bool") => Stored::Boolean,
                    Some("date" | "datetime") => Stored::Time,
                    _ => Stored::Other,
                },
                read_only: property.pointer("/modificationMetadata/readOnlyValue").and_then(Value::as_bool).unwrap_or(false),
            })
        };
        Ok(results.iter().filter_map(described).collect())
    }

    fn make(&self, object: &str, field: &Field, token: &Token) -> Option<HttpRequest> {
        let (kind, input) = match field.kind.as_ref()? {
            Kind::Text(_) => ("string", "text"),
            Kind::LongText => ("string", "textarea"),
            Kind::Number => ("number", "number"),
            Kind::Boolean => ("bool", "booleancheckbox"),
            Kind::Time => ("datetime", "date"),
            Kind::Date => ("date", "date"),
            Kind::Picklist => ("enumeration", "select"),
            // It links by associations.
            Kind::Lookup(_) => return None,
        };
        let words = if kind == "bool" { vec!["true".to_owned(), "false".to_owned()] } else { field.words.clone() };
        let option = |(place, word): (usize, &String)| json!({"label": word, "value": word, "displayOrder": place, "hidden": false});
        let options: Vec<_> = words.iter().enumerate().map(option).collect();
        // The group that the account's own properties of that object stand in; one that is not there is refused.
        let group = match object {
            "calls" | "tasks" | "notes" | "meetings" | "emails" => object.trim_end_matches('s').to_owned(),
            "companies" => "companyinformation".to_owned(),
            "contacts" | "deals" | "tickets" => format!("{}information", object.trim_end_matches('s')),
            custom => format!("{custom}_information"),
        };
        let body = json!({"name": field.name, "label": field.name, "groupName": group, "type": kind, "fieldType": input,
            "hasUniqueValue": field.unique, "options": options});
        Some(self.post(format!("crm/properties/{}/{object}", self.version), &body, token))
    }

    fn made(&self, answer: &HttpAnswer) -> Result<(), Verdict> {
        match answer.status {
            // 409: it is there already.
            200..=299 | 409 => Ok(()),
            _ => Err(refused(answer, &serde_json::from_slice(&answer.body).unwrap_or(Value::Null))),
        }
    }

    fn permissions(&self, mapping: &Mapping) -> (Vec<String>, Vec<String>) {
        // Calls and tasks have no scopes of their own: those of contacts permit them.
        let scopes = |object: &str| match object {
            "calls" | "tasks" | "notes" => "contacts".to_owned(),
            other => other.to_owned(),
        };
        let records = scopes(&mapping.object);
        let mut always = vec!["oauth".to_owned(), format!("crm.objects.{records}.read"), format!("crm.objects.{records}.write")];
        let mut setup = vec![format!("crm.schemas.{records}.read"), format!("crm.schemas.{records}.write")];
        if let Some(contact) = &mapping.contact {
            let people = scopes(&contact.object);
            always.push(format!("crm.objects.{people}.read"));
            if contact.nobody == Nobody::Create || !contact.updates.is_empty() {
                always.push(format!("crm.objects.{people}.write"));
                setup.push(format!("crm.schemas.{people}.write"));
            }
            setup.push(format!("crm.schemas.{people}.read"));
        }
        for list in [&mut always, &mut setup] {
            list.sort();
            list.dedup();
        }
        (always, setup)
    }
}
