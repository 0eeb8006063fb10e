//! What an environment's tables are made of, and what a row may hold.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Refusal;
use crate::time::Wall;

/// A table with its rows, by their ids.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Its name in metadata, such as `phonecall`.
    pub(super) logical: String,
    /// Column of its rows' ids.
    pub(super) id: String,
    /// Whether its rows are activities: read-only once they are completed or cancelled.
    pub(super) activity: bool,
    pub(super) columns: BTreeMap<String, Column>,
    /// Properties that bind a row to another: the set whose row it is, and the column that then holds its id.
    pub(super) bindings: BTreeMap<String, (String, String)>,
    pub(super) keys: Vec<Key>,
    pub(super) rows: BTreeMap<String, Row>,
}

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) columns: Map<String, Value>,
    /// What its etag tells.
    pub(super) version: u64,
    /// The transaction that made it is over then: who names its key before is its rival.
    pub(super) made: Wall,
    /// The request that made it, which is no rival of its own.
    pub(super) by: u64,
}

/// An alternate key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    /// When its index is built.
    pub(super) active: Wall,
}

/// A column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// Its type.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A text of so many characters at most.
    Text(usize),
    /// The same, in several lines.
    Memo(usize),
    /// A whole number from the first to the second.
    Integer(i64, i64),
    Double,
    Boolean,
    /// A point in time.
    DateTime,
    /// A day, by the column's `DateTimeBehavior`.
    Date,
    /// A number of these.
    Choice(Vec<i64>),
    /// State of a row, and the reasons that go with it: each with the state that it belongs to.
    State,
    Status(&'static [(i64, i64)]),
    /// Who took part in an activity.
    Parties,
    /// Written by the environment alone.
    Kept,
}

/// Reasons of a phone call's states, each with its state.
const PHONECALL: &[(i64, i64)] = &[(1, 0), (2, 1), (4, 1), (3, 2)];
/// Of a task's.
const TASK: &[(i64, i64)] = &[(2, 0), (3, 0), (4, 0), (7, 0), (5, 1), (6, 2)];
/// Of a case's.
const INCIDENT: &[(i64, i64)] = &[(1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (1000, 1), (6, 2), (2000, 2)];
/// Of a lead's: new, contacted; qualified; and four ways to be lost.
const LEAD: &[(i64, i64)] = &[(1, 0), (2, 0), (3, 1), (4, 2), (5, 2), (6, 2), (7, 2)];
/// Of everything else's.
const ORDINARY: &[(i64, i64)] = &[(1, 0), (2, 1)];

/// The environment's tables, by their sets.
pub(super) fn environment() -> BTreeMap<String, Table> {
    let text = Kind::Text;
    let whole = || Kind::Integer(0, i64::from(i32::MAX));
    let priority = || Kind::Choice(vec![0, 1, 2]);
    let regarding = |table: &str| {
        let to =
            |kind: &str, set: &str| (format!("regardingobjectid_{kind}_{table}"), (set.to_owned(), "_regardingobjectid_value".to_owned()));
        vec![to("contact", "contacts"), to("incident", "incidents"), to("lead", "leads")]
    };
    let mut tables = BTreeMap::new();
    let mut table =
        |set: &str, (logical, id): (&str, &str), status, columns: Vec<(&str, Kind)>, bindings: Vec<(String, (String, String))>| {
            let common = [
                (id, Kind::Kept),
                ("createdon", Kind::Kept),
                ("modifiedon", Kind::Kept),
                ("statecode", Kind::State),
                ("statuscode", Kind::Status(status)),
            ];
            let held =
                bindings.iter().map(|(_, (_, column))| (column.clone(), Column { kind: Kind::Kept, required: false })).collect::<Vec<_>>();
            let columns = common.into_iter().chain(columns).map(|(name, kind)| {
                let required =
                    matches!((logical, name), ("phonecall" | "task", "subject") | ("incident", "title") | ("contact", "lastname"));
                (name.to_owned(), Column { kind, required })
            });
            let table = Table {
                logical: logical.to_owned(),
                id: id.to_owned(),
                activity: id == "activityid",
                columns: columns.chain(held).collect(),
                bindings: bindings.into_iter().collect(),
                keys: Vec::new(),
                rows: BTreeMap::new(),
            };
            tables.insert(set.to_owned(), table);
        };
    table(
        "phonecalls",
        ("phonecall", "activityid"),
        PHONECALL,
        vec![
            ("subject", text(200)),
            ("description", Kind::Memo(2000)),
            ("phonenumber", text(200)),
            ("directioncode", Kind::Boolean),
            ("leftvoicemail", Kind::Boolean),
            ("actualdurationminutes", whole()),
            ("actualstart", Kind::DateTime),
            ("actualend", Kind::DateTime),
            ("scheduledend", Kind::DateTime),
            ("prioritycode", priority()),
            ("phonecall_activity_parties", Kind::Parties),
        ],
        regarding("phonecall"),
    );
    table(
        "tasks",
        ("task", "activityid"),
        TASK,
        vec![("subject", text(200)), ("description", Kind::Memo(2000)), ("scheduledend", Kind::DateTime), ("prioritycode", priority())],
        regarding("task"),
    );
    table(
        "contacts",
        ("contact", "contactid"),
        ORDINARY,
        vec![
            ("firstname", text(50)),
            ("lastname", text(50)),
            ("telephone1", text(50)),
            ("telephone2", text(50)),
            ("mobilephone", text(50)),
            ("emailaddress1", text(100)),
        ],
        Vec::new(),
    );
    table(
        "leads",
        ("lead", "leadid"),
        LEAD,
        vec![
            ("subject", text(300)),
            ("firstname", text(50)),
            ("lastname", text(50)),
            ("companyname", text(100)),
            ("telephone1", text(50)),
            ("telephone2", text(50)),
            ("mobilephone", text(20)),
            ("emailaddress1", text(100)),
        ],
        Vec::new(),
    );
    let to_contact = |name: &str, column: &str| (name.to_owned(), ("contacts".to_owned(), column.to_owned()));
    table(
        "incidents",
        ("incident", "incidentid"),
        INCIDENT,
        vec![
            ("title", text(200)),
            ("description", Kind::Memo(2000)),
            ("prioritycode", Kind::Choice(vec![1, 2, 3])),
            ("caseorigincode", Kind::Choice(vec![1, 2, 3])),
        ],
        vec![to_contact("customerid_contact", "_customerid_value"), to_contact("primarycontactid", "_primarycontactid_value")],
    );
    table(
        "offhook_voicecalls",
        ("offhook_voicecall", "offhook_voicecallid"),
        ORDINARY,
        vec![("offhook_name", text(100))],
        vec![to_contact("offhook_Contact", "_offhook_contact_value")],
    );
    tables
}

impl Table {
    /// Rows in which each of these columns holds its value; texts are compared without regard to case, as the database does.
    pub(super) fn bearing<'a>(&'a self, columns: &'a [(String, Value)]) -> impl Iterator<Item = &'a str> {
        let bears = |row: &Row| columns.iter().all(|(name, value)| row.columns.get(name).is_some_and(|held| same(held, value)));
        self.rows.iter().filter(move |(_, row)| bears(row)).map(|(id, _)| id.as_str())
    }

    /// Whether `body` may be written to `id`, or to a new row; what it comes to, by columns.
    pub(super) fn judge(
        &self,
        now: Wall,
        id: Option<&str>,
        body: &Map<String, Value>,
        exists: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Map<String, Value>, Refusal> {
        let old = id.and_then(|id| self.rows.get(id)).map(|row| &row.columns);
        let closed = self.activity && old.and_then(|row| row.get("statecode")).and_then(Value::as_i64).unwrap_or(0) != 0;
        if closed && body.keys().any(|name| name != "statecode" && name != "statuscode") {
            // [C] the words, [U] the code.
            return Err(Refusal::new(400, "0x80040203", "Cannot update Closed or Cancelled Activity"));
        }
        let mut columns = Map::new();
        for (name, value) in body.iter().filter(|(name, _)| !name.starts_with('@')) {
            if let Some(property) = name.strip_suffix("@odata.bind") {
                let (column, target) = self.bound(property, value, exists)?;
                columns.insert(column, target);
                continue;
            }
            let Some(column) = self.columns.get(name) else { return Err(self.undeclared(name)) };
            column.judge(&self.logical, name, value)?;
            columns.insert(name.clone(), column.held(value));
        }
        if id.is_none() {
            // Not valid for create: it is passed over, and a reason is held against the open state.
            columns.remove("statecode");
            let missing = self.columns.iter().find(|(name, column)| column.required && columns.get(*name).is_none_or(Value::is_null));
            if let Some((name, _)) = missing {
                return Err(Refusal::new(400, "0x80040203", &format!("Attribute '{name}' cannot be NULL")));
            }
            if self.logical == "incident" && columns.get("_customerid_value").is_none_or(Value::is_null) {
                // [C] the words, [U] the code.
                return Err(Refusal::new(400, "0x80040203", "You should specify a parent contact or account."));
            }
        }
        self.settle_state(old, &mut columns)?;
        for key in self.keys.iter().filter(|key| key.columns.iter().any(|c| columns.contains_key(c))) {
            let held = |name: &String| columns.get(name).or_else(|| old?.get(name)).map(|value| (name.clone(), value.clone()));
            let Some(values) = key.columns.iter().map(held).collect::<Option<Vec<_>>>() else { continue };
            if key.active <= now && self.bearing(&values).any(|other| Some(other) != id) {
                return Err(self.violated(key));
            }
        }
        Ok(columns)
    }

    pub(super) fn violated(&self, key: &Key) -> Refusal {
        let message = format!(
            "Entity Key {} violated. A record with the same value for {} already exists. A duplicate record cannot be created. Select one or more unique values and try again.",
            key.name,
            key.columns.join(", ")
        );
        Refusal::new(412, "0x80060892", &message)
    }

    /// State and reason go together: of a state alone the first reason is taken.
    fn settle_state(&self, old: Option<&Map<String, Value>>, columns: &mut Map<String, Value>) -> Result<(), Refusal> {
        let Some(Column { kind: Kind::Status(reasons), .. }) = self.columns.get("statuscode") else { return Ok(()) };
        let of = |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_i64);
        let state = of(columns, "statecode").or_else(|| old.and_then(|old| of(old, "statecode"))).unwrap_or(0);
        let moves = of(columns, "statecode").is_some() || old.is_none();
        let first = || reasons.iter().find(|(_, of)| *of == state).map(|(reason, _)| *reason);
        match of(columns, "statuscode") {
            Some(reason) if !reasons.contains(&(reason, state)) => {
                // [U] the code.
                let message = format!("{reason} is not a valid status code for state code {state} on {}.", self.logical);
                return Err(Refusal::new(400, "0x80048408", &message));
            }
            None if moves => {
                let Some(reason) = first() else {
                    return Err(Refusal::new(400, "0x80048408", &format!("{state} is not a valid state code on {}.", self.logical)));
                };
                columns.insert("statuscode".into(), json!(reason));
            }
            _ => {}
        }
        if old.is_none() {
            columns.insert("statecode".into(), json!(0));
        }
        Ok(())
    }

    fn bound(&self, property: &str, value: &Value, exists: &dyn Fn(&str, &str) -> bool) -> Result<(String, Value), Refusal> {
        let Some((set, column)) = self.bindings.get(property) else { return Err(self.undeclared(property)) };
        let (named, id) = value
            .as_str()
            .and_then(|v| v.trim_start_matches('/').trim_end_matches(')').split_once('('))
            .ok_or_else(|| Refusal::new(400, "0x80048d19", &format!("Resource not found for the segment {value}")))?;
        if named != set {
            return Err(Refusal::new(400, "0x80048d19", &format!("A row of {named} cannot be bound to {property}")));
        }
        if !exists(set, id) {
            let logical = set.trim_end_matches('s');
            return Err(Refusal::new(404, "0x80040217", &format!("Entity '{logical}' With Id = {id} Does Not Exist")));
        }
        Ok((column.clone(), json!(id)))
    }

    pub(super) fn undeclared(&self, name: &str) -> Refusal {
        let message = format!(
            "Error identified in Payload provided by the user for Entity :'{0}'. InnerException : Microsoft.OData.ODataException: An undeclared property '{name}' which only has property annotations in the payload but no property value was found in the payload, or the property does not exist on type 'Microsoft.Dynamics.CRM.{0}'.",
            self.logical
        );
        Refusal::new(400, "0x80048d19", &message)
    }
}

/// Whether the database takes two values for one.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.eq_ignore_ascii_case(b),
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// Characters of `2026-01-05`, the one form of a day.
const DATE_CHARS: usize = 10;

impl Column {
    /// What the column keeps of a value: of a day, where it holds points in time, its midnight in UTC.
    fn held(&self, value: &Value) -> Value {
        let day = value.as_str().filter(|_| matches!(self.kind, Kind::DateTime)).and_then(|text| text.parse::<jiff::civil::Date>().ok());
        day.filter(|_| value.as_str().is_some_and(|text| text.len() == DATE_CHARS))
            .map_or_else(|| value.clone(), |day| json!(format!("{day}T00:00:00Z")))
    }

    fn judge(&self, table: &str, name: &str, value: &Value) -> Result<(), Refusal> {
        let wrong = |edm: &str| {
            // [C] the words, which name no column.
            let literal = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Err(Refusal::new(400, "0x80048d19", &format!("Cannot convert the literal '{literal}' to the expected type '{edm}'.")))
        };
        let text = |most: usize| match value {
            Value::String(text) if text.chars().count() > most => {
                let message = format!(
                    "A validation error occurred. The length of the '{name}' attribute of the '{table}' entity exceeded the maximum allowed length of '{most}'."
                );
                Err(Refusal::new(400, "0x80044331", &message))
            }
            Value::String(_) => Ok(()),
            _ => wrong("Edm.String"),
        };
        let outside = |accepted: &str| {
            let message = format!(
                "A validation error occurred. The value {value} of '{name}' on record of type '{table}' is outside the valid range. Accepted Values: {accepted}"
            );
            Err(Refusal::new(400, "0x8004431a", &message))
        };
        match (&self.kind, value) {
            (Kind::Kept, _) => Err(Refusal::new(400, "0x80048d19", &format!("'{name}' is read-only"))),
            (_, Value::Null) => Ok(()),
            (Kind::Text(most) | Kind::Memo(most), _) => text(*most),
            (Kind::Integer(least, most), _) => match value.as_i64() {
                Some(n) if (*least..=*most).contains(&n) => Ok(()),
                Some(_) => outside(&format!("{least} to {most}")),
                None => wrong("Edm.Int32"),
            },
            (Kind::Choice(words), _) => match value.as_i64() {
                Some(n) if words.contains(&n) => Ok(()),
                Some(_) => outside(&words.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
                None => wrong("Edm.Int32"),
            },
            (Kind::State, _) => match value.as_i64() {
                Some(0..=2) => Ok(()),
                Some(_) => outside("0,1,2"),
                None => wrong("Edm.Int32"),
            },
            (Kind::Status(_), Value::Number(_))
            | (Kind::Double, Value::Number(_))
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::Parties, Value::Array(_)) => Ok(()),
            (Kind::Status(_), _) => wrong("Edm.Int32"),
            (Kind::Double, _) => wrong("Edm.Double"),
            (Kind::Boolean, _) => wrong("Edm.Boolean"),
            (Kind::Parties, _) => wrong("Collection(Microsoft.Dynamics.CRM.activityparty)"),
            (Kind::Date, Value::String(text)) if text.parse::<jiff::civil::Date>().is_ok() && text.len() == DATE_CHARS => Ok(()),
            (Kind::Date, _) => wrong("Edm.Date"),
            (Kind::DateTime, Value::String(text)) if Wall::parse(text).is_some() || text.parse::<jiff::civil::Date>().is_ok() => Ok(()),
            (Kind::DateTime, _) => wrong("Edm.DateTimeOffset"),
        }
    }
}
