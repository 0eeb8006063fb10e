//! Dataverse's columns and alternate keys: described by `EntityDefinitions`, and made there.

use serde_json::{Value, json};

use super::{Dynamics, batch, entity, literal};
use crate::crm::{
    HttpAnswer, HttpRequest, Token, Verdict,
    contact::Nobody,
    mapping::Mapping,
    query,
    setup::{Described, Field, Kind, Setup, Stored, denies},
};

/// Characters of a text of many lines: a long transcript.
const LONG_TEXT_CHARS: usize = 100_000;
/// Numbers of a column reach from minus this to this: Dataverse's own begin at nought.
const NUMBER_MAX: i64 = 100_000_000_000;

impl Setup for Dynamics {
    fn describe(&self, object: &str, token: &Token) -> HttpRequest {
        let expand = "Attributes($select=LogicalName,AttributeType,IsValidForCreate,IsValidForUpdate),Keys($select=KeyAttributes,EntityKeyIndexStatus),\
                      ManyToOneRelationships($select=ReferencingEntityNavigationPropertyName)";
        let filter = format!("EntitySetName eq {}", literal(object));
        let path = format!("EntityDefinitions?{}", query(&[("$select", "LogicalName"), ("$filter", &filter), ("$expand", expand)]));
        self.request("GET", &path, "application/json", Vec::new(), token)
    }

    fn described(&self, answer: &HttpAnswer) -> Result<Vec<Described>, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let Some(table) = body.pointer("/value/0").filter(|_| answer.status == 200) else {
            return Err(match answer.status {
                200 => Verdict::Gone { why: "there is no such entity set; `object` is the set, such as phonecalls".into() },
                _ => self.refused(None, answer),
            });
        };
        let list = |name: &str| table.get(name).and_then(Value::as_array).into_iter().flatten();
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        // A key counts for nothing until its index is built.
        let active = |key: &&Value| text(key, "EntityKeyIndexStatus").as_deref() == Some("Active");
        let alone = |key: &Value| match key.get("KeyAttributes")?.as_array()?.as_slice() {
            [one] => one.as_str().map(str::to_owned),
            _ => None,
        };
        let keys: Vec<_> = list("Keys").filter(active).filter_map(alone).collect();
        let column = |column: &Value| {
            let name = text(column, "LogicalName")?;
            // How long a text may be, and which choices there are, is told by a request for each type of column.
            let stored = match text(column, "AttributeType").as_deref() {
                Some("String" | "Memo") => Stored::Text(None),
                Some("Integer" | "BigInt" | "Decimal" | "Double" | "Money" | "Picklist" | "State" | "Status") => Stored::Number,
                Some("Boolean") => Stored::Boolean,
                Some("DateTime") => Stored::Time,
                _ => Stored::Other,
            };
            let read_only = denies(column, ["IsValidForCreate", "IsValidForUpdate"]);
            Some(Described { key: keys.contains(&name), name, stored, read_only, ..Described::default() })
        };
        let binding = |relation: &Value| {
            let property = text(relation, "ReferencingEntityNavigationPropertyName")?;
            Some(Described { name: format!("{property}@odata.bind"), ..Described::default() })
        };
        Ok(list("Attributes").filter_map(column).chain(list("ManyToOneRelationships").filter_map(binding)).collect())
    }

    /// An expansion of the attributes holds what all types have; what only one has is asked by a cast to that type ("Query table definitions using the Web API").
    fn describe_more(&self, object: &str, token: &Token) -> Vec<HttpRequest> {
        let length = [("$select", "LogicalName,MaxLength")];
        let options = [("$select", "LogicalName"), ("$expand", "OptionSet($select=Options),GlobalOptionSet($select=Options)")];
        let of = |(kind, asked): (&str, &[(&str, &str)])| {
            let table = literal(&entity(object));
            let path = format!(
                "EntityDefinitions(LogicalName={table})/Attributes/Microsoft.Dynamics.CRM.{kind}AttributeMetadata?{}",
                query(asked)
            );
            self.request("GET", &path, "application/json", Vec::new(), token)
        };
        [("String", &length[..]), ("Memo", &length), ("Picklist", &options), ("Status", &options)].map(of).into()
    }

    fn described_more(&self, fields: &mut [Described], answer: &HttpAnswer) -> Result<(), Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let Some(columns) = body.get("value").and_then(Value::as_array).filter(|_| answer.status == 200) else {
            return Err(self.refused(None, answer));
        };
        for column in columns {
            let name = column.get("LogicalName").and_then(Value::as_str).unwrap_or_default();
            let Some(field) = fields.iter_mut().find(|field| field.name == name) else { continue };
            if let Some(most) = column.get("MaxLength").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok()) {
                field.stored = Stored::Text(Some(most));
            }
            // One of the two is empty: a choice has options of its own, or those that several share.
            let options = ["OptionSet", "GlobalOptionSet"].iter().find_map(|set| column.get(*set)?.get("Options")?.as_array());
            if let Some(options) = options {
                let value = |option: &Value| Some(option.get("Value")?.as_i64()?.to_string());
                field.words = Some(options.iter().filter_map(value).collect());
            }
        }
        Ok(())
    }

    fn make(&self, object: &str, field: &Field, token: &Token) -> Option<HttpRequest> {
        // A name of one's own bears the publisher's prefix.
        let label = label(&field.name.split_once('_').filter(|(prefix, _)| !prefix.is_empty())?.1.replace('_', " "));
        let (kind, more) = match field.kind.as_ref()? {
            Kind::Text(chars) => ("String", json!({"MaxLength": chars, "FormatName": {"Value": "Text"}})),
            Kind::LongText => ("Memo", json!({"MaxLength": LONG_TEXT_CHARS, "Format": "TextArea"})),
            Kind::Number => ("Double", json!({"Precision": 5, "MinValue": -NUMBER_MAX, "MaxValue": NUMBER_MAX})),
            Kind::Boolean => {
                let option = |value: u8, word: &str| json!({"Value": value, "Label": self::label(word)});
                (
                    "Boolean",
                    json!({"OptionSet": {"TrueOption": option(1, "Yes"), "FalseOption": option(0, "No"), "OptionSetType": "Boolean"}}),
                )
            }
            Kind::Time => ("DateTime", json!({"Format": "DateAndTime"})),
            // By its behaviour and not by its format alone: else it is midnight in UTC, which is the day before for whoever lives west of it.
            Kind::Date => ("DateTime", json!({"Format": "DateOnly", "DateTimeBehavior": {"Value": "DateOnly"}})),
            // Its values are numbers, which a mapping makes of words: these are what people see.
            Kind::Picklist => {
                let seen = |word: &String| self::label(field.meanings.get(word).unwrap_or(word));
                let option = |word: &String| Some(json!({"Value": word.parse::<i64>().ok()?, "Label": seen(word)}));
                let options: Vec<_> = field.words.iter().map(option).collect::<Option<_>>()?;
                ("Picklist", json!({"OptionSet": {"IsGlobal": false, "OptionSetType": "Picklist", "Options": options}}))
            }
            // A lookup is a relationship, which an administrator makes.
            Kind::Lookup(_) => return None,
        };
        let mut column = json!({"@odata.type": format!("Microsoft.Dynamics.CRM.{kind}AttributeMetadata"), "SchemaName": field.name,
            "DisplayName": label, "RequiredLevel": {"Value": "None", "CanBeChanged": true}});
        if let (Some(column), Value::Object(more)) = (column.as_object_mut(), more) {
            column.extend(more);
        }
        let definition = format!("{}/api/data/{}/EntityDefinitions(LogicalName={})", self.base_url, self.version, literal(&entity(object)));
        let post = |path: &str, body: &Value| batch::Request {
            method: "POST",
            url: format!("{definition}/{path}"),
            only_there: false,
            shown: false,
            body: body.to_string(),
        };
        let mut parts = vec![post("Attributes", &column)];
        if field.unique {
            let name = format!("{}_alternate", field.name);
            parts.push(post("Keys", &json!({"SchemaName": name, "DisplayName": label, "KeyAttributes": [field.name]})));
        }
        Some(self.batch(&parts, token))
    }

    fn made(&self, answer: &HttpAnswer) -> Result<(), Verdict> {
        let parts = batch::read(answer).unwrap_or_else(|| vec![answer.clone()]);
        let there = |part: &HttpAnswer| part.is_success() || batch::refusal(part).1.contains("already exists");
        parts.iter().find(|part| !there(part)).map_or(Ok(()), |part| Err(self.refused(None, part)))
    }

    fn permissions(&self, mapping: &Mapping) -> (Vec<String>, Vec<String>) {
        let mut always = vec![
            "app registration: a client secret; no API permission of Entra's".to_owned(),
            "environment: the app as an application user with a security role of its own".to_owned(),
            format!("role, {}: Create, Read, Write, Append", mapping.object),
        ];
        if let Some(contact) = &mapping.contact {
            let may = match (contact.nobody, contact.updates.is_empty()) {
                (Nobody::Create, _) => "Create, Read, Write, Append To",
                (_, false) => "Read, Write, Append To",
                (_, true) => "Read, Append To",
            };
            always.push(format!("role, {}: {may}", contact.object));
        }
        (always, vec!["role of who sets up: System Customizer, for columns and keys".to_owned()])
    }
}

fn label(text: &str) -> Value {
    json!({"@odata.type": "Microsoft.Dynamics.CRM.Label",
        "LocalizedLabels": [{"@odata.type": "Microsoft.Dynamics.CRM.LocalizedLabel", "Label": text, "LanguageCode": 1033}]})
}
