//! Salesforce's fields: described, and made by the Tooling API.

use serde_json::{Value, json};

use super::{Grant, Salesforce};
use crate::crm::{
    HttpAnswer, HttpRequest, Token, Verdict,
    contact::Nobody,
    mapping::{Beside, Mapping, Rule},
    setup::{Described, Field, Kind, Setup, Stored, denies},
};

/// Characters of a long text area: the most that Salesforce gives without asking.
const LONG_TEXT_CHARS: usize = 32_768;

impl Setup for Salesforce {
    fn describe(&self, object: &str, token: &Token) -> HttpRequest {
        self.request("GET", &format!("sobjects/{object}/describe"), Vec::new(), token)
    }

    fn described(&self, answer: &HttpAnswer) -> Result<Vec<Described>, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let Some(fields) = body.get("fields").and_then(Value::as_array).filter(|_| answer.status == 200) else {
            return Err(self.refused(answer, body.get(0).unwrap_or(&Value::Null)));
        };
        let described = |field: &Value| {
            let flag = |name: &str| field.get(name).and_then(Value::as_bool).unwrap_or(false);
            let length = field.get("length").and_then(Value::as_u64).and_then(|chars| usize::try_from(chars).ok());
            let values = field.get("picklistValues").and_then(Value::as_array).into_iter().flatten();
            let active = values.filter(|v| v.get("active").and_then(Value::as_bool) != Some(false));
            let words = active.filter_map(|v| Some(v.get("value")?.as_str()?.to_owned())).collect();
            Some(Described {
                name: field.get("name")?.as_str()?.to_owned(),
                // An external id alone lets two calls at once make two records.
                key: flag("externalId") && flag("unique"),
                words: flag("restrictedPicklist").then_some(words),
                stored: match field.get("type").and_then(Value::as_str) {
                    Some("string" | "textarea" | "phone" | "email" | "url") => Stored::Text(length.filter(|chars| *chars > 0)),
                    Some("int" | "double" | "currency" | "percent") => Stored::Number,
                    Some("boolean") => Stored::Boolean,
                    Some("date" | "datetime") => Stored::Time,
                    _ => Stored::Other,
                },
                read_only: denies(field, ["createable", "updateable"]),
                ..Described::default()
            })
        };
        Ok(fields.iter().filter_map(described).collect())
    }

    fn make(&self, object: &str, field: &Field, token: &Token) -> Option<HttpRequest> {
        let label = field.name.strip_suffix("__c")?.replace('_', " ");
        let mut metadata = match field.kind.as_ref()? {
            Kind::Text(length) if field.unique => {
                json!({"type": "Text", "length": length, "externalId": true, "unique": true, "caseSensitive": false})
            }
            Kind::Text(length) => json!({"type": "Text", "length": length}),
            Kind::LongText => json!({"type": "LongTextArea", "length": LONG_TEXT_CHARS, "visibleLines": 5}),
            Kind::Number => json!({"type": "Number", "precision": 18, "scale": 4}),
            Kind::Boolean => json!({"type": "Checkbox", "defaultValue": "false"}),
            Kind::Time => json!({"type": "DateTime"}),
            Kind::Date => json!({"type": "Date"}),
            Kind::Picklist => {
                let words: Vec<_> = field.words.iter().map(|word| json!({"fullName": word, "label": word, "default": false})).collect();
                json!({"type": "Picklist", "valueSet": {"restricted": true, "valueSetDefinition": {"sorted": false, "value": words}}})
            }
            Kind::Lookup(to) => {
                let relation = object.trim_end_matches("__c");
                json!({"type": "Lookup", "referenceTo": to, "relationshipName": format!("{relation}s"), "deleteConstraint": "SetNull"})
            }
        };
        metadata.as_object_mut()?.insert("label".into(), json!(label));
        // A Task's fields are those of all activities.
        let owner = if matches!(object, "Task" | "Event") { "Activity" } else { object };
        let body = json!({"FullName": format!("{owner}.{}", field.name), "Metadata": metadata});
        Some(self.request("POST", "tooling/sobjects/CustomField", body.to_string().into_bytes(), token))
    }

    fn made(&self, answer: &HttpAnswer) -> Result<(), Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        match (answer.status, body.pointer("/0/errorCode").and_then(Value::as_str)) {
            (200..=299, _) | (_, Some("DUPLICATE_DEVELOPER_NAME")) => Ok(()),
            _ => Err(self.refused(answer, body.get(0).unwrap_or(&Value::Null))),
        }
    }

    fn permissions(&self, mapping: &Mapping) -> (Vec<String>, Vec<String>) {
        let mut always = vec!["OAuth scope: api".to_owned()];
        if matches!(self.grant, Grant::RefreshToken(_) | Grant::Jwt(_)) {
            always.push("OAuth scope: refresh_token".to_owned());
        }
        always.push("integration user: API Enabled".to_owned());
        let of_an_object = |object: &str, rules: &[Rule], key: &str, links: Vec<&str>| {
            let mut fields: Vec<_> = rules.iter().map(|rule| rule.to.as_str()).filter(|name| name.ends_with("__c")).collect();
            fields.push(key);
            fields.extend(links);
            [
                format!("integration user, {object}: Read, Create, Edit"),
                format!("integration user, fields of {object}: Read and Edit of {}", fields.join(", ")),
            ]
        };
        let links = mapping.contact.iter().flat_map(|c| &c.link).map(|link| link.to.as_str());
        always.extend(of_an_object(&mapping.object, &mapping.rules, &mapping.key, links.collect()));
        if let Some(Beside { object, key, link, person, rules }) = &mapping.beside {
            let links = [link].into_iter().chain(person).map(String::as_str);
            always.extend(of_an_object(object, rules, key, links.collect()));
        }
        if let Some(contact) = &mapping.contact {
            let may = match (contact.nobody, contact.updates.is_empty()) {
                (Nobody::Create, _) => "Read, Create, Edit",
                (_, false) => "Read, Edit",
                (_, true) => "Read",
            };
            always.push(format!("integration user, {}: {may}, and Read of {}", contact.object, contact.fields.join(", ")));
        }
        (always, vec!["user that sets up: Customize Application, View Setup and Configuration".to_owned()])
    }
}
