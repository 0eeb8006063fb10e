//! Salesforce's double: OAuth without `expires_in`, upsert by external id one by one, in collections, in Composite requests and in bulk jobs, describe, SOQL,
//! custom fields by the Tooling API.
//!
//! What is not built answers 404 in Salesforce's form. Its org has Task, Contact, Lead, Case and the custom objects that the shipped mappings name.

mod composite;
mod jobs;
mod schema;
mod soql;
mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::{Action, Answer, Body, Change, Ledger, Request, Standing, Tokens, Vendor};
use crate::{chance::Chance, time::Wall};
use schema::{Field, Object};
use soql::Query;

/// The org.
#[derive(Debug)]
pub struct Salesforce {
    tokens: Tokens,
    /// For assertions, DER of a SubjectPublicKeyInfo.
    public_key: Option<Vec<u8>>,
    /// Until when the last refresh is under way: the org refuses another one beside it.
    refreshing: Wall,
    objects: BTreeMap<String, Object>,
    /// Ids of records that somebody took away, or merged into others.
    deleted: BTreeSet<String>,
    jobs: BTreeMap<String, jobs::Job>,
    /// The next Composite request finds its records locked.
    locked: bool,
    next_id: u64,
    /// Requests of the day, of so many.
    used: u64,
    daily: u64,
}

/// Life of a session: an org's setting, which no answer tells.
const SESSION_LIFE: Duration = Duration::from_secs(7200);
/// Records of a collection.
const COLLECTION_MAX: usize = 200;
/// What is said of a locked record.
const LOCKED: &str = "unable to obtain exclusive access to this record";
/// Requests a day of a small org.
const DAILY: u64 = 100_000;

impl Salesforce {
    /// An org with nothing in it.
    pub fn new(rotate_tokens: bool, chance: Chance) -> Self {
        Self {
            tokens: Tokens::new(rotate_tokens, SESSION_LIFE, chance),
            public_key: None,
            refreshing: Wall::from_millis(0),
            objects: schema::org(),
            deleted: BTreeSet::new(),
            jobs: BTreeMap::new(),
            locked: false,
            next_id: 1,
            used: 0,
            daily: DAILY,
        }
    }

    /// An org whose requests of the day are used up after so many.
    #[must_use]
    pub fn with_daily_limit(mut self, daily: u64) -> Self {
        self.daily = daily;
        self
    }
}

impl Vendor for Salesforce {
    fn answer(&mut self, now: Wall, takes: Duration, request: &Request, ledger: &mut Ledger) -> Answer {
        self.work_off(now, ledger);
        let parts = request.parts();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let rest = match parts.as_slice() {
            ["services", "oauth2", "token"] => return self.token(now, takes, request),
            ["services", "data"] => {
                return Answer::new(200, json!([{"label": "Double", "url": "/services/data/v62.0", "version": "62.0"}]));
            }
            ["services", "data", version, rest @ ..] if version.starts_with('v') => rest,
            _ => return not_found(),
        };
        if self.tokens.standing(now, request.bearer()) != Standing::Good {
            return refused(401, "INVALID_SESSION_ID", "Session expired or invalid", &[]);
        }
        self.used += 1;
        let mut answer = if self.used > self.daily {
            refused(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", &[])
        } else {
            self.served(now, request, rest, ledger)
        };
        answer.headers.push(("sforce-limit-info", format!("api-usage={}/{}", self.used.min(self.daily), self.daily)));
        answer
    }

    fn planned(&mut self, action: &Action, request: &Request) -> Option<Answer> {
        if action.lock && action.status.is_none() && request.path.contains("/composite/sobjects/") {
            // A collection is taken up, and each of its records tells its own lock.
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let records = body.get("records").and_then(Value::as_array).map_or(0, Vec::len);
            let error = json!({"statusCode": "UNABLE_TO_LOCK_ROW", "message": LOCKED, "fields": []});
            return Some(Answer::new(200, json!(vec![json!({"success": false, "errors": [error]}); records])));
        }
        if action.lock && action.status.is_none() && request.path.ends_with("/composite") {
            self.locked = true;
            return None;
        }
        if action.lock
            && action.status.is_none()
            && let Some(job) = request.parts().get(5).and_then(|id| self.jobs.get_mut(id))
        {
            // A job is taken up too, and finds its rows locked.
            job.locked = true;
            return None;
        }
        let status = action.status.or(action.lock.then_some(400))?;
        let (code, message) = match status {
            400 => ("UNABLE_TO_LOCK_ROW", LOCKED),
            401 => ("INVALID_SESSION_ID", "Session expired or invalid"),
            403 | 429 => ("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
            503 => ("SERVER_UNAVAILABLE", "The server is temporarily unavailable"),
            _ => ("UNKNOWN_EXCEPTION", "An unexpected error occurred"),
        };
        // Salesforce has no 429: what is over quota is forbidden.
        let status = if status == 429 { 403 } else { status };
        let body = action.body.clone().unwrap_or_else(|| errors(code, message, &[]));
        let mut answer = Answer::new(status, body);
        answer.headers.extend(action.retry_after_s.map(|s| ("retry-after", s.to_string())));
        Some(answer)
    }

    fn expire_tokens(&mut self) {
        self.tokens.expire();
    }

    fn trust(&mut self, public_key: Vec<u8>) -> bool {
        self.public_key = Some(public_key);
        true
    }
}

impl Salesforce {
    fn served(&mut self, now: Wall, request: &Request, rest: &[&str], ledger: &mut Ledger) -> Answer {
        if let ["jobs", "ingest", rest @ ..] = rest {
            return self.ingest(now, request, rest);
        }
        let body: Value = match request.body.as_slice() {
            [] => Value::Null,
            octets => match serde_json::from_slice(octets) {
                Ok(body) => body,
                Err(why) => return refused(400, "JSON_PARSER_ERROR", &why.to_string(), &[]),
            },
        };
        match (request.method.as_str(), rest) {
            ("GET", ["limits"]) => {
                Answer::new(200, json!({"DailyApiRequests": {"Max": self.daily, "Remaining": self.daily.saturating_sub(self.used)}}))
            }
            ("GET", ["query"]) => self.query(&request.parameter("q").unwrap_or_default()),
            ("GET", ["sobjects", object, "describe"]) => {
                self.objects.get(*object).map_or_else(not_found, |o| Answer::new(200, o.describe(object)))
            }
            ("POST", ["composite"]) => self.composite(now, request, &body, ledger),
            ("PATCH", ["composite", "sobjects"]) => self.update_collection(now, &body, ledger),
            ("PATCH", ["composite", "sobjects", object, key]) => self.collection(now, object, key, &body, ledger),
            ("POST", ["tooling", "sobjects", "CustomField"]) => self.make_field(now, &body, ledger),
            ("POST", ["sobjects", object]) => self.create(now, object, &body, ledger),
            ("PATCH", ["sobjects", object, key, value]) => self.upsert_one(now, object, key, value, &body, ledger),
            ("PATCH", ["sobjects", object, id]) => self.update(now, object, id, &body, ledger),
            ("GET", ["sobjects", object, key, value]) => self.show(object, Some(key), value),
            ("GET", ["sobjects", object, id]) => self.show(object, None, id),
            ("DELETE", ["sobjects", object, id]) => self.delete(now, object, id, ledger),
            _ => not_found(),
        }
    }

    fn make_field(&mut self, now: Wall, body: &Value, ledger: &mut Ledger) -> Answer {
        let name = body.get("FullName").and_then(Value::as_str).unwrap_or_default();
        // A Task's fields are made on what it shares with events, and nowhere else.
        let owner = |object| match object {
            "Activity" => Some("Task"),
            "Task" => None,
            other => Some(other),
        };
        let Some((object, field)) = name.split_once('.').and_then(|(o, f)| Some((self.objects.get_mut(owner(o)?)?, f))) else {
            return refused(400, "INVALID_CROSS_REFERENCE_KEY", &format!("no such object: {name}"), &["FullName"]);
        };
        if !field.ends_with("__c") {
            return refused(400, "FIELD_INTEGRITY_EXCEPTION", "The name of a custom field ends with __c", &["FullName"]);
        }
        if object.fields.contains_key(field) {
            let message =
                format!("There is already a field named {} on {}.", field.trim_end_matches("__c"), name.split('.').next().unwrap_or(""));
            return refused(400, "DUPLICATE_DEVELOPER_NAME", &message, &["DeveloperName"]);
        }
        let Some(made) = Field::of_metadata(body.get("Metadata").unwrap_or(&Value::Null)) else {
            return refused(400, "INVALID_TYPE", "Metadata.type is none that can be made", &["Metadata"]);
        };
        object.fields.insert(field.to_owned(), made);
        let change = Change { what: "create", object: "CustomField", key: None, id: name, before: Value::Null, after: body.clone() };
        ledger.mutation(now, change);
        Answer::new(201, json!({"id": self.id("00N"), "success": true, "errors": []}))
    }

    fn collection(&mut self, now: Wall, object: &str, key: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        let Some(records) = body.get("records").and_then(Value::as_array) else {
            return refused(400, "JSON_PARSER_ERROR", "records is missing", &[]);
        };
        if records.len() > COLLECTION_MAX {
            return refused(400, "LIMIT_EXCEEDED", &format!("at most {COLLECTION_MAX} records in a collection"), &[]);
        }
        if !self.objects.get(object).is_some_and(|o| o.fields.get(key).is_some_and(|f| f.external)) {
            return not_found();
        }
        if let Some(fault) = self.unreadable(records, |_| object.to_owned()) {
            return Answer::new(400, json!([fault]));
        }
        let all = body.get("allOrNone").and_then(Value::as_bool).unwrap_or(false);
        let mut results = Vec::new();
        for record in records {
            let fields = record.as_object().cloned().unwrap_or_default();
            let value = fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            results.push(self.upsert(now, object, key, &value, fields, ledger));
        }
        let failed = results.iter().any(Result::is_err);
        let shown = results.into_iter().map(|result| match result {
            Ok((id, created)) => json!({"id": id, "success": true, "errors": [], "created": created}),
            Err(fault) => refused_in_a_collection(fault),
        });
        let shown: Vec<_> = shown.collect();
        if all && failed {
            return refused(400, "NOT_BUILT", "allOrNone that fails is not built", &[]);
        }
        Answer::new(200, json!(shown))
    }

    /// The first value of a collection that cannot be read, for the sake of which all of it is refused.
    fn unreadable(&self, records: &[Value], of_type: impl Fn(&Value) -> String) -> Option<Value> {
        records.iter().find_map(|record| self.objects.get(&of_type(record))?.read(record.as_object()?).err())
    }

    /// Records by their ids, of whatever objects.
    fn update_collection(&mut self, now: Wall, body: &Value, ledger: &mut Ledger) -> Answer {
        let records = body.get("records").and_then(Value::as_array).cloned().unwrap_or_default();
        if records.len() > COLLECTION_MAX {
            return refused(400, "LIMIT_EXCEEDED", &format!("at most {COLLECTION_MAX} records in a collection"), &[]);
        }
        let of_type = |record: &Value| record.pointer("/attributes/type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(fault) = self.unreadable(&records, of_type) {
            return Answer::new(400, json!([fault]));
        }
        let mut shown = Vec::new();
        for record in &records {
            let mut fields = record.as_object().cloned().unwrap_or_default();
            let id = fields.remove("id").and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
            let object = of_type(record);
            let there = self.objects.get(&object).is_some_and(|o| o.records.contains_key(&id));
            let written = if there {
                self.write(now, &object, None, Some(&id), fields, ledger)
            } else {
                Err(fault("ENTITY_IS_DELETED", "entity is deleted", &[]))
            };
            shown.push(match written {
                Ok(id) => json!({"id": id, "success": true, "errors": []}),
                Err(fault) => refused_in_a_collection(fault),
            });
        }
        Answer::new(200, json!(shown))
    }

    fn upsert_one(&mut self, now: Wall, object: &str, key: &str, value: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        if !self.objects.get(object).is_some_and(|o| o.fields.get(key).is_some_and(|f| f.external)) {
            return not_found();
        }
        let mut fields = body.as_object().cloned().unwrap_or_default();
        fields.insert(key.to_owned(), json!(value));
        match self.upsert(now, object, key, value, fields, ledger) {
            Ok((id, created)) => {
                Answer::new(if created { 201 } else { 200 }, json!({"id": id, "success": true, "errors": [], "created": created}))
            }
            Err(fault) if fault.get("errorCode").and_then(Value::as_str) == Some("MULTIPLE_CHOICES") => {
                choices(object, fault.get("message").and_then(Value::as_str).unwrap_or_default())
            }
            Err(fault) => Answer::new(400, json!([fault])),
        }
    }

    /// One record by its external id; the id and whether it was made, or the error.
    fn upsert(
        &mut self,
        now: Wall,
        object: &str,
        key: &str,
        value: &str,
        fields: Map<String, Value>,
        ledger: &mut Ledger,
    ) -> Result<(String, bool), Value> {
        if value.is_empty() {
            return Err(fault("MISSING_ARGUMENT", &format!("{key} not specified"), &[key]));
        }
        let Some(known) = self.objects.get(object) else { return Err(fault("INVALID_TYPE", object, &[])) };
        let bearers: Vec<_> = known.bearing(key, value).map(str::to_owned).collect();
        match bearers.as_slice() {
            [] => self.write(now, object, Some((key, value)), None, fields, ledger).map(|id| (id, true)),
            [id] => self.write(now, object, Some((key, value)), Some(id), fields, ledger).map(|id| (id, false)),
            // The field is an external id and not unique: nobody can tell which.
            several => Err(fault("MULTIPLE_CHOICES", &several.join(", "), &[key])),
        }
    }

    fn create(&mut self, now: Wall, object: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        if !self.objects.contains_key(object) {
            return not_found();
        }
        match self.write(now, object, None, None, body.as_object().cloned().unwrap_or_default(), ledger) {
            Ok(id) => Answer::new(201, json!({"id": id, "success": true, "errors": []})),
            Err(fault) => Answer::new(400, json!([fault])),
        }
    }

    fn update(&mut self, now: Wall, object: &str, id: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        if !self.objects.get(object).is_some_and(|o| o.records.contains_key(id)) {
            return not_found();
        }
        match self.write(now, object, None, Some(id), body.as_object().cloned().unwrap_or_default(), ledger) {
            Ok(_) => Answer { status: 204, headers: Vec::new(), body: Body::Empty },
            Err(fault) => Answer::new(400, json!([fault])),
        }
    }

    fn write(
        &mut self,
        now: Wall,
        object: &str,
        key: Option<(&str, &str)>,
        id: Option<&str>,
        fields: Map<String, Value>,
        ledger: &mut Ledger,
    ) -> Result<String, Value> {
        let fresh = id.is_none().then(|| self.id(schema::prefix(object)));
        // Ids of other objects' records may be named by a field, and every user; which field names a wrong one the org does not tell.
        let named = |id: &str| match self.objects.values().any(|o| o.records.contains_key(id)) || id.starts_with("005") {
            true => Ok(()),
            false if self.deleted.contains(id) => Err(fault("ENTITY_IS_DELETED", "entity is deleted", &[])),
            false => Err(fault("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", &[])),
        };
        let Some(known) = self.objects.get(object) else { return Err(fault("INVALID_TYPE", object, &[])) };
        known.judge(id, &fields, &named)?;
        let Some(known) = self.objects.get_mut(object) else { return Err(fault("INVALID_TYPE", object, &[])) };
        let id = id.map(str::to_owned).or(fresh).unwrap_or_default();
        let before = known.records.get(&id).map_or(Value::Null, |record| json!(record));
        known.put(now, &id, fields);
        let after = known.records.get(&id).map_or(Value::Null, |record| json!(record));
        let what = if before.is_null() { "create" } else { "update" };
        ledger.mutation(now, Change { what, object, key: key.map(|(_, value)| value), id: &id, before, after });
        Ok(id)
    }

    fn show(&self, object: &str, key: Option<&str>, value: &str) -> Answer {
        let Some(known) = self.objects.get(object) else { return not_found() };
        let id = match key {
            None => Some(value),
            Some(key) => known.bearing(key, value).next(),
        };
        id.and_then(|id| known.records.get(id)).map_or_else(not_found, |record| Answer::new(200, json!(record)))
    }

    fn delete(&mut self, now: Wall, object: &str, id: &str, ledger: &mut Ledger) -> Answer {
        let Some(record) = self.objects.get_mut(object).and_then(|o| o.take(id)) else { return not_found() };
        self.deleted.insert(id.to_owned());
        ledger.mutation(now, Change { what: "delete", object, key: None, id, before: json!(record), after: Value::Null });
        Answer { status: 204, headers: Vec::new(), body: Body::Empty }
    }

    fn query(&self, text: &str) -> Answer {
        let Some(query) = Query::read(text) else { return refused(400, "MALFORMED_QUERY", &format!("unexpected token in {text}"), &[]) };
        let Some(object) = self.objects.get(&query.object) else {
            return refused(400, "INVALID_TYPE", &format!("sObject type '{}' is not supported.", query.object), &[]);
        };
        let asked = query.fields.iter().chain(query.any.iter().map(|(field, _)| field));
        if let Some(unknown) = asked.clone().find(|field| !object.fields.contains_key(*field)) {
            return refused(400, "INVALID_FIELD", &format!("No such column '{unknown}' on entity '{}'.", query.object), &[]);
        }
        let holds = |record: &Map<String, Value>| {
            let is = |(field, values): &(String, Vec<String>)| {
                // SOQL compares texts without regard to case.
                let held = record.get(field).and_then(Value::as_str).unwrap_or_default();
                values.iter().any(|value| value.eq_ignore_ascii_case(held))
            };
            query.any.is_empty() || query.any.iter().any(is)
        };
        let found: Vec<_> = object.records.values().filter(|record| holds(record)).take(query.limit).collect();
        let show = |record: &&Map<String, Value>| {
            let fields = query.fields.iter().map(|field| (field.clone(), record.get(field).cloned().unwrap_or(Value::Null)));
            let attributes = ("attributes".to_owned(), json!({"type": query.object}));
            Value::Object(std::iter::once(attributes).chain(fields).collect())
        };
        let records: Vec<_> = found.iter().map(show).collect();
        Answer::new(200, json!({"totalSize": records.len(), "done": true, "records": records}))
    }

    /// A record's id: three characters of its object, fifteen in all, three to check.
    fn id(&mut self, prefix: &str) -> String {
        self.next_id += 1;
        format!("{prefix}{:012}AAA", self.next_id)
    }
}

/// Within a collection an error's code is called by another name.
fn refused_in_a_collection(mut fault: Value) -> Value {
    if let Some(fault) = fault.as_object_mut()
        && let Some(code) = fault.remove("errorCode")
    {
        fault.insert("statusCode".into(), code);
    }
    json!({"success": false, "errors": [fault]})
}

fn fault(code: &str, message: &str, fields: &[&str]) -> Value {
    json!({"message": message, "errorCode": code, "fields": fields})
}

fn errors(code: &str, message: &str, fields: &[&str]) -> Value {
    json!([fault(code, message, fields)])
}

fn refused(status: u16, code: &str, message: &str, fields: &[&str]) -> Answer {
    Answer::new(status, errors(code, message, fields))
}

/// Where several records bear one key: their addresses.
fn choices(object: &str, ids: &str) -> Answer {
    Answer::new(300, ids.split(", ").map(|id| json!(format!("/services/data/v62.0/sobjects/{object}/{id}"))).collect())
}

fn not_found() -> Answer {
    refused(404, "NOT_FOUND", "The requested resource does not exist", &[])
}

#[cfg(test)]
mod tests;
