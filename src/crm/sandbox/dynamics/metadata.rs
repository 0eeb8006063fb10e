//! `EntityDefinitions`: what the tables are, and how columns and keys are added to them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Answer, Body, Change, Dynamics, Ledger, Refusal, Request,
    odata::{self, Filter, KeyPart},
    schema::{Column, Key, Kind, Table},
};
use crate::time::Wall;

/// How long the index of a new key is built.
const KEY_BUILD: Duration = Duration::from_millis(1500);
/// After so long it is no longer pending but in progress.
const KEY_PENDING: Duration = Duration::from_millis(500);

impl Dynamics {
    pub(super) fn definitions(
        &mut self,
        now: Wall,
        request: &Request,
        path: &[&str],
        body: &Value,
        ledger: &mut Ledger,
    ) -> Result<Answer, Refusal> {
        let [first, rest @ ..] = path else { return Err(unknown(path)) };
        let Some((_, key)) = odata::segment(first) else { return Err(unknown(path)) };
        let Some(key) = key else { return self.list(now, request) };
        let set = self.named(&key).ok_or_else(|| unknown(path))?;
        let Some(table) = self.tables.get(&set) else { return Err(unknown(path)) };
        match (request.method.as_str(), rest) {
            ("GET", []) => Ok(Answer::new(200, definition(now, &set, table))),
            ("GET", ["Keys"]) => Ok(Answer::new(200, json!({"value": keys(now, table)}))),
            ("GET", ["Attributes", ..]) => {
                let shown: Vec<_> = table.columns.iter().map(|(name, column)| attribute(&table.logical, name, column)).collect();
                match rest.get(1).and_then(|segment| odata::segment(segment)) {
                    None => Ok(Answer::new(200, json!({"value": shown}))),
                    Some((_, Some(KeyPart::Alternate(pairs)))) => {
                        let wanted = pairs.first().map(|(_, value)| value);
                        let found = shown.into_iter().find(|shown| shown.get("LogicalName") == wanted);
                        found.map(|found| Answer::new(200, found)).ok_or_else(|| unknown(path))
                    }
                    // A cast, such as to PicklistAttributeMetadata: columns of that type.
                    Some((cast, None)) => {
                        let kind = cast.trim_start_matches("Microsoft.Dynamics.CRM.").trim_end_matches("AttributeMetadata");
                        let of_kind = |shown: &Value| shown.get("AttributeType").and_then(Value::as_str) == Some(kind);
                        let shown = shown.into_iter().filter(of_kind).map(|shown| asked(shown, request));
                        Ok(Answer::new(200, json!({"value": shown.collect::<Vec<_>>()})))
                    }
                    Some(_) => Err(unknown(path)),
                }
            }
            ("POST", ["Attributes"]) => self.add_column(now, request, &set, body, ledger),
            ("POST", ["Keys"]) => self.add_key(now, request, &set, body, ledger),
            _ => Err(unknown(path)),
        }
    }

    fn list(&self, now: Wall, request: &Request) -> Result<Answer, Refusal> {
        let filter = request
            .parameter("$filter")
            .map(|text| Filter::read(&text).ok_or_else(|| Refusal::new(400, "0x80060888", &text)))
            .transpose()?;
        let expand = request.parameter("$expand").unwrap_or_default();
        let shown = self.tables.iter().map(|(set, table)| {
            let mut shown = definition(now, set, table);
            if let Some(shown) = shown.as_object_mut() {
                if expand.contains("Attributes(") {
                    // What columns of all types have; the rest is told by a cast.
                    let columns = table.columns.iter().map(|(name, column)| {
                        let mut shown = attribute(&table.logical, name, column);
                        if let Some(shown) = shown.as_object_mut() {
                            shown.retain(|name, _| COMMON.contains(&name.as_str()));
                        }
                        shown
                    });
                    shown.insert("Attributes".into(), json!(columns.collect::<Vec<_>>()));
                }
                if expand.contains("ManyToOneRelationships(") {
                    let relations = table.bindings.iter().map(|(property, (to, _))| {
                        json!({"ReferencingEntityNavigationPropertyName": property, "ReferencedEntity": to.trim_end_matches('s')})
                    });
                    shown.insert("ManyToOneRelationships".into(), json!(relations.collect::<Vec<_>>()));
                }
            }
            shown
        });
        let wanted = |definition: &Value| definition.as_object().is_some_and(|d| filter.as_ref().is_none_or(|f| f.holds(d)));
        Ok(Answer::new(200, json!({"value": shown.filter(wanted).collect::<Vec<_>>()})))
    }

    /// The set of the table that a key names.
    fn named(&self, key: &KeyPart) -> Option<String> {
        let is = |(_, table): &(&String, &Table)| match key {
            KeyPart::Id(id) => metadata_id(&table.logical) == *id,
            KeyPart::Alternate(pairs) => {
                pairs.iter().all(|(name, value)| name == "LogicalName" && value.as_str() == Some(table.logical.as_str()))
            }
        };
        self.tables.iter().find(is).map(|(set, _)| set.clone())
    }

    fn add_column(&mut self, now: Wall, request: &Request, set: &str, body: &Value, ledger: &mut Ledger) -> Result<Answer, Refusal> {
        let name = schema_name(body)?;
        let number = |name: &str| body.get(name).and_then(Value::as_i64);
        let most = |usual: i64| usize::try_from(number("MaxLength").unwrap_or(usual)).unwrap_or(0);
        let kind = body.get("@odata.type").and_then(Value::as_str).unwrap_or_default();
        let kind = match kind.strip_prefix("Microsoft.Dynamics.CRM.").and_then(|kind| kind.strip_suffix("AttributeMetadata")) {
            Some("String") => Kind::Text(most(100)),
            Some("Memo") => Kind::Memo(most(2000)),
            Some("Integer") => {
                Kind::Integer(number("MinValue").unwrap_or(i64::from(i32::MIN)), number("MaxValue").unwrap_or(i64::from(i32::MAX)))
            }
            Some("Double" | "Decimal") => Kind::Double,
            Some("Boolean") => Kind::Boolean,
            // Without a behaviour it is the user's local time (`behavior-format-date-time-attribute`), whatever the format shows.
            Some("DateTime") if body.pointer("/DateTimeBehavior/Value").and_then(Value::as_str) == Some("DateOnly") => Kind::Date,
            Some("DateTime") => Kind::DateTime,
            Some("Picklist") => {
                let options = body.pointer("/OptionSet/Options").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                Kind::Choice(options.iter().filter_map(|option| option.get("Value").and_then(Value::as_i64)).collect())
            }
            _ => return Err(Refusal::new(400, "0x80048d19", &format!("no column can be made of {kind}"))),
        };
        let Some(table) = self.tables.get_mut(set) else { return Err(unknown(&[set])) };
        let logical = name.to_lowercase();
        if table.columns.contains_key(&logical) {
            // [U] its code.
            let message = format!("An attribute with the name {logical} already exists on {}.", table.logical);
            return Err(Refusal::new(400, "0x80047013", &message));
        }
        table.columns.insert(logical.clone(), Column { kind, required: false });
        let id = metadata_id(&format!("{}.{logical}", table.logical));
        let change =
            Change { what: "create", object: "AttributeMetadata", key: Some(&logical), id: &id, before: Value::Null, after: body.clone() };
        ledger.mutation(now, change);
        Ok(made(request, &format!("{}/Attributes({id})", definition_address(&table.logical))))
    }

    fn add_key(&mut self, now: Wall, request: &Request, set: &str, body: &Value, ledger: &mut Ledger) -> Result<Answer, Refusal> {
        let name = schema_name(body)?;
        let columns = body.get("KeyAttributes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let columns: Vec<String> = columns.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let Some(table) = self.tables.get_mut(set) else { return Err(unknown(&[set])) };
        let fits = |column: &String| {
            table
                .columns
                .get(column)
                .is_some_and(|c| matches!(c.kind, Kind::Text(_) | Kind::Integer(..) | Kind::DateTime | Kind::Choice(_)))
        };
        if columns.is_empty() || !columns.iter().all(fits) {
            return Err(Refusal::new(
                400,
                "0x80060890",
                "KeyAttributes name columns that are not there, or of a type that no key may have.",
            ));
        }
        if table.keys.iter().any(|key| key.name.eq_ignore_ascii_case(name)) {
            return Err(Refusal::new(
                400,
                "0x80060893",
                &format!("An entity key with the name {name} already exists on {}.", table.logical),
            ));
        }
        let held = |row: &super::Row| columns.iter().map(|c| row.columns.get(c).map(ToString::to_string)).collect::<Option<Vec<_>>>();
        let mut values: Vec<_> = table.rows.values().filter_map(held).collect();
        values.sort();
        if values.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(Refusal::new(412, "0x80060892", "Rows with one key value are there already: the index cannot be built."));
        }
        let id = metadata_id(&format!("{}.key.{}", table.logical, name.to_lowercase()));
        table.keys.push(Key { name: name.to_owned(), columns, active: now + KEY_BUILD });
        let change =
            Change { what: "create", object: "EntityKeyMetadata", key: Some(name), id: &id, before: Value::Null, after: body.clone() };
        ledger.mutation(now, change);
        Ok(made(request, &format!("{}/Keys({id})", definition_address(&table.logical))))
    }
}

fn schema_name(body: &Value) -> Result<&str, Refusal> {
    let name = body.get("SchemaName").and_then(Value::as_str).unwrap_or_default();
    if name.contains('_') {
        return Ok(name);
    }
    Err(Refusal::new(400, "0x80044359", &format!("The name '{name}' has no publisher's prefix.")))
}

fn made(request: &Request, path: &str) -> Answer {
    let entity = ("OData-EntityId", format!("{}/api/data/v9.2/{path}", request.origin()));
    Answer { status: 204, headers: vec![("OData-Version", "4.0".to_owned()), entity], body: Body::Empty }
}

fn definition_address(logical: &str) -> String {
    format!("EntityDefinitions({})", metadata_id(logical))
}

/// The same name has the same id.
fn metadata_id(name: &str) -> String {
    let number = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("e0000000-0000-4000-8000-{:012x}", number & 0xffff_ffff_ffff)
}

fn definition(now: Wall, set: &str, table: &Table) -> Value {
    let name = table.columns.keys().find(|c| c.ends_with("_name") || *c == "subject" || *c == "title" || *c == "lastname");
    json!({"MetadataId": metadata_id(&table.logical), "LogicalName": table.logical, "SchemaName": table.logical, "EntitySetName": set,
        "PrimaryIdAttribute": table.id, "PrimaryNameAttribute": name, "IsActivity": table.activity, "IsPrivate": false, "Keys": keys(now, table)})
}

fn keys(now: Wall, table: &Table) -> Vec<Value> {
    let status = |key: &Key| {
        if key.active <= now {
            "Active"
        } else if key.active <= now + (KEY_BUILD - KEY_PENDING) {
            "InProgress"
        } else {
            "Pending"
        }
    };
    let shown = |key: &Key| {
        json!({"MetadataId": metadata_id(&format!("{}.key.{}", table.logical, key.name.to_lowercase())), "SchemaName": key.name,
            "LogicalName": key.name.to_lowercase(), "KeyAttributes": key.columns, "EntityKeyIndexStatus": status(key)})
    };
    table.keys.iter().map(shown).collect()
}

fn attribute(table: &str, name: &str, column: &Column) -> Value {
    let (kind, more) = match &column.kind {
        Kind::Text(most) => ("String", json!({"MaxLength": most})),
        Kind::Memo(most) => ("Memo", json!({"MaxLength": most})),
        Kind::Integer(least, most) => ("Integer", json!({"MinValue": least, "MaxValue": most})),
        Kind::Double => ("Double", json!({})),
        Kind::Boolean => ("Boolean", json!({})),
        Kind::DateTime => ("DateTime", json!({"DateTimeBehavior": {"Value": "UserLocal"}})),
        Kind::Date => ("DateTime", json!({"Format": "DateOnly", "DateTimeBehavior": {"Value": "DateOnly"}})),
        Kind::Choice(words) => {
            let options: Vec<_> = words.iter().map(|word| json!({"Value": word})).collect();
            ("Picklist", json!({"OptionSet": {"Options": options}}))
        }
        Kind::State => ("State", json!({})),
        Kind::Status(reasons) => {
            let options: Vec<_> = reasons.iter().map(|(reason, state)| json!({"Value": reason, "State": state})).collect();
            ("Status", json!({"OptionSet": {"Options": options}}))
        }
        Kind::Parties => ("PartyList", json!({})),
        Kind::Kept => ("Uniqueidentifier", json!({})),
    };
    let kept = matches!(column.kind, Kind::Kept);
    let required = if column.required { "SystemRequired" } else { "None" };
    let mut shown = json!({"MetadataId": metadata_id(&format!("{table}.{name}")), "LogicalName": name, "SchemaName": name, "AttributeType": kind,
        "RequiredLevel": {"Value": required}, "IsValidForCreate": !kept && !matches!(column.kind, Kind::State), "IsValidForUpdate": !kept});
    if let (Some(shown), Value::Object(more)) = (shown.as_object_mut(), more) {
        shown.extend(more);
    }
    shown
}

/// What of a column a client asks for: its id always, all of it where nothing is selected.
fn asked(mut shown: Value, request: &Request) -> Value {
    let list = |name: &str| request.parameter(name).unwrap_or_default();
    let (select, expand) = (list("$select"), list("$expand"));
    let is_wanted =
        |name: &String| select.split(',').any(|wanted| wanted == name) || expand.contains(&format!("{name}(")) || *name == "MetadataId";
    if let Some(shown) = shown.as_object_mut().filter(|_| !select.is_empty()) {
        shown.retain(|name, _| is_wanted(name));
    }
    shown
}

/// Properties of columns of whatever type.
const COMMON: [&str; 7] =
    ["MetadataId", "LogicalName", "SchemaName", "AttributeType", "RequiredLevel", "IsValidForCreate", "IsValidForUpdate"];

fn unknown(path: &[&str]) -> Refusal {
    Refusal::new(404, "0x80060888", &format!("{} could not be found in metadata", path.join("/")))
}
