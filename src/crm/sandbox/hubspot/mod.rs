//! HubSpot's double: OAuth with refresh, properties, call records with upsert by a unique property, people and their links.
//!
//! Both families of addresses are served, `/crm/v3/objects/calls` and `/crm/objects/2026-03/calls`. What is not built answers 404 in HubSpot's form.

mod object;
mod people;
mod quota;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use object::{Object, Property, Record, Write};

use super::{Action, Answer, CLIENT_ID, CLIENT_SECRET, Change, Ledger, Request, Standing, Tokens, Vendor};
use crate::{chance::Chance, time::Wall};

/// The CRM.
#[derive(Debug)]
pub struct HubSpot {
    tokens: Tokens,
    objects: BTreeMap<String, Object>,
    links: people::Links,
    next_id: u64,
    /// What the app may do; none: whatever it wants.
    quota: Option<quota::Quota>,
}

/// Life of an access token.
const TOKEN_LIFE: Duration = Duration::from_secs(1800);
/// Inputs of a batch.
const BATCH_MAX: usize = 100;
/// First record id: HubSpot's are long.
const FIRST_ID: u64 = 80_100_000_001;

/// Outcomes of a call that an account has from the start: id and label.
const DISPOSITIONS: [(&str, &str); 6] = [
    ("9d9162e7-6cf3-4944-bf63-4dff82258764", "Busy"),
    ("f240bbac-87c9-4f6e-bf70-924b57d47db7", "Connected"),
    ("a4c4c377-d246-4b32-a13b-75a56a4cd0ff", "Left live message"),
    ("b2cf5968-551e-4856-9783-52b3da59a7d0", "Left voicemail"),
    ("73a0d17f-1163-4015-bdd5-ec830791da20", "No answer"),
    ("17b47fee-58de-441e-a44c-c6300d46f273", "Wrong number"),
];

const STATUSES: [&str; 10] =
    ["BUSY", "CALLING_CRM_USER", "CANCELED", "COMPLETED", "CONNECTING", "FAILED", "IN_PROGRESS", "NO_ANSWER", "QUEUED", "RINGING"];

impl HubSpot {
    /// An account with nothing in it.
    pub fn new(rotate_tokens: bool, chance: Chance) -> Self {
        let property = |kind: &str, options: &[&str]| Property {
            kind: kind.into(),
            field: "text".into(),
            label: String::new(),
            group: String::new(),
            unique: false,
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        };
        let dispositions = DISPOSITIONS.map(|(id, _)| id);
        let standard = [
            ("hs_timestamp", property("datetime", &[])),
            ("hs_call_title", property("string", &[])),
            ("hs_call_body", property("string", &[])),
            ("hs_call_direction", property("enumeration", &["INBOUND", "OUTBOUND"])),
            ("hs_call_duration", property("number", &[])),
            ("hs_call_from_number", property("string", &[])),
            ("hs_call_to_number", property("string", &[])),
            ("hs_call_recording_url", property("string", &[])),
            ("hs_call_status", property("enumeration", &STATUSES)),
            ("hs_call_disposition", property("enumeration", &dispositions)),
            ("hs_call_callee_object_id", property("number", &[])),
            ("hs_call_callee_object_type", property("string", &[])),
            ("hubspot_owner_id", property("number", &[])),
        ];
        let calls = Object::of("call", standard.map(|(n, p)| (n.to_owned(), p)));
        Self {
            tokens: Tokens::new(rotate_tokens, TOKEN_LIFE, chance),
            objects: BTreeMap::from([
                ("calls".to_owned(), calls),
                ("contacts".to_owned(), people::contacts()),
                ("tickets".to_owned(), work::tickets()),
                ("tasks".to_owned(), work::tasks()),
            ]),
            links: people::Links::new(),
            next_id: FIRST_ID,
            quota: None,
        }
    }
}

impl Vendor for HubSpot {
    fn answer(&mut self, now: Wall, _: Duration, request: &Request, ledger: &mut Ledger) -> Answer {
        let parts = request.parts();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if let ["oauth", _, "token"] = parts.as_slice() {
            return self.token(now, request);
        }
        if let Some(refusal) = self.refusal(now, request.bearer()) {
            return refusal;
        }
        let over = self.quota.as_mut().and_then(|quota| quota.count(now));
        let mut answer = over.unwrap_or_else(|| self.served(now, &parts, request, ledger));
        answer.headers.extend(self.quota.iter().flat_map(quota::Quota::headers));
        answer
    }

    /// The answer that a fault asks for.
    fn planned(&mut self, action: &Action, _: &Request) -> Option<Answer> {
        let status = action.status.or(action.lock.then_some(423))?;
        let (category, message) = match status {
            401 => ("EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired 0 second(s) ago."),
            403 => ("MISSING_SCOPES", "This app hasn't been granted all required scopes to make this call."),
            423 => ("LOCKED", "The resource is locked"),
            429 => ("RATE_LIMITS", "You have reached your ten_secondly_rolling limit."),
            _ => ("INTERNAL_ERROR", "internal error"),
        };
        let mut body = error(category, message);
        if status == 429
            && let Some(body) = body.as_object_mut()
        {
            body.insert("policyName".into(), json!("TEN_SECONDLY_ROLLING"));
            body.insert("errorType".into(), json!("RATE_LIMIT"));
        }
        let mut answer = Answer::new(status, action.body.clone().unwrap_or(body));
        answer.headers.extend(action.retry_after_s.map(|s| ("retry-after", s.to_string())));
        Some(answer)
    }

    fn expire_tokens(&mut self) {
        self.tokens.expire();
    }
}

impl HubSpot {
    /// So many requests in ten seconds, and in a day.
    pub fn with_quota(mut self, window: u64, day: u64) -> Self {
        self.quota = Some(quota::Quota::new(window, day));
        self
    }

    fn served(&mut self, now: Wall, parts: &[&str], request: &Request, ledger: &mut Ledger) -> Answer {
        // Both families of addresses: `crm/v3/objects/…` and `crm/objects/2026-03/…`.
        let rest = match parts {
            ["crm", "v3" | "v4", rest @ ..] => rest.to_vec(),
            ["crm", family, version, rest @ ..] if version.starts_with("20") => [&[*family], rest].concat(),
            ["calling", "v1", "dispositions"] => {
                return Answer::new(200, DISPOSITIONS.iter().map(|(id, label)| json!({"id": id, "label": label})).collect());
            }
            _ => return not_found(),
        };
        let body: Value = if request.body.is_empty() {
            Value::Null
        } else {
            match serde_json::from_slice(&request.body) {
                Ok(body) => body,
                Err(why) => return refused(400, "VALIDATION_ERROR", &format!("Invalid input JSON: {why}")),
            }
        };
        match (request.method.as_str(), rest.as_slice()) {
            ("GET", ["properties", object]) => self.list_properties(object),
            ("GET", ["properties", object, name]) => self.show_property(object, name),
            ("POST", ["properties", object]) => self.make_property(now, object, &body, ledger),
            ("POST", ["objects", object, "batch", "upsert"]) => self.upsert(now, object, &body, ledger),
            ("POST", ["objects", object, "batch", "update"]) => self.update(now, object, &body, ledger),
            ("POST", ["objects", object, "batch", "read"]) => self.read(object, &body),
            ("POST", ["objects", object, "search"]) => self.search(object, &body),
            ("POST", ["objects", object]) => self.create(now, object, &body, ledger),
            ("GET", ["objects", object, id]) => self.show(object, id, request),
            ("DELETE", ["objects", object, id]) => self.archive(now, object, id, ledger),
            ("GET", ["objects", object, id, "associations", to]) => self.associations(object, id, to),
            ("POST", ["associations", from, to, "batch", "associate", "default"]) => self.associate(now, from, to, &body, ledger),
            _ => not_found(),
        }
    }

    fn token(&mut self, now: Wall, request: &Request) -> Answer {
        let field = |name: &str| request.field(name);
        if field("grant_type") != "refresh_token" || field("client_id") != CLIENT_ID || field("client_secret") != CLIENT_SECRET {
            return Answer::new(
                400,
                json!({"status": "BAD_CLIENT_ID", "message": "missing or unknown client id or secret", "error": "invalid_client"}),
            );
        }
        let Some((access, refresh)) = self.tokens.refresh(now, &field("refresh_token")) else {
            return Answer::new(
                400,
                json!({"status": "BAD_REFRESH_TOKEN", "message": "missing or unknown refresh token", "error": "invalid_grant"}),
            );
        };
        let seconds = self.tokens.life().as_secs();
        Answer::new(
            200,
            json!({"token_type": "bearer", "access_token": access, "refresh_token": refresh, "expires_in": seconds, "hub_id": 1}),
        )
    }

    fn refusal(&self, now: Wall, bearer: Option<&str>) -> Option<Answer> {
        let message = match self.tokens.standing(now, bearer) {
            Standing::Good => return None,
            Standing::Ended => "The OAuth token used to make this call expired 0 second(s) ago.",
            Standing::Unknown => "The OAuth token used to make this call is not valid any more.",
        };
        Some(refused(401, "EXPIRED_AUTHENTICATION", message))
    }

    fn make_property(&mut self, now: Wall, object: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = text("name");
        let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !named || !matches!(text("type").as_str(), "string" | "number" | "datetime" | "date" | "enumeration" | "bool") {
            return refused(
                400,
                "VALIDATION_ERROR",
                "Property name and type are required; names hold lower-case letters, digits and underscores",
            );
        }
        let Some(object_type) = self.objects.get_mut(object) else { return not_found() };
        if object_type.properties.contains_key(&name) {
            return refused(409, "OBJECT_ALREADY_EXISTS", &format!("A property named '{name}' already exists."));
        }
        let options = body.get("options").and_then(Value::as_array).into_iter().flatten();
        let property = Property {
            kind: text("type"),
            field: text("fieldType"),
            label: text("label"),
            group: text("groupName"),
            unique: body.get("hasUniqueValue").and_then(Value::as_bool).unwrap_or(false),
            options: options.filter_map(|o| Some(o.get("value")?.as_str()?.to_owned())).collect(),
        };
        let shown = property.show(&name);
        object_type.properties.insert(name.clone(), property);
        let change = Change { what: "create", object: "properties", key: None, id: &name, before: Value::Null, after: shown.clone() };
        ledger.mutation(now, change);
        Answer::new(201, shown)
    }

    fn list_properties(&self, object: &str) -> Answer {
        let Some(object) = self.objects.get(object) else { return not_found() };
        let all: Vec<_> = object.properties.iter().map(|(name, property)| property.show(name)).collect();
        Answer::new(200, json!({"results": all}))
    }

    fn show_property(&self, object: &str, name: &str) -> Answer {
        let property = self.objects.get(object).and_then(|o| o.properties.get(name));
        property.map_or_else(not_found, |property| Answer::new(200, property.show(name)))
    }

    /// Batch upsert. One bad input fails the whole batch, unless every input bears a write id of its own: then the good ones are written and the bad ones named.
    /// A property that the account does not have fails it all the same `[U]`: HubSpot promises parts of a batch for its creation alone.
    fn upsert(&mut self, now: Wall, object: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        let Some(inputs) = body.get("inputs").and_then(Value::as_array).filter(|i| !i.is_empty()) else {
            return refused(400, "VALIDATION_ERROR", "Invalid input JSON: inputs is required");
        };
        if inputs.len() > BATCH_MAX {
            return refused(400, "VALIDATION_ERROR", &format!("The maximum batch size is {BATCH_MAX}"));
        }
        let Some(object_type) = self.objects.get(object) else { return not_found() };
        let traces: BTreeSet<_> = inputs.iter().filter_map(|i| i.get("objectWriteTraceId")?.as_str()).collect();
        let apart = traces.len() == inputs.len();
        let mut keys = BTreeSet::new();
        let mut judged = Vec::new();
        for input in inputs {
            let write = match object_type.judge(input) {
                Ok(write) => write,
                Err(fault) => {
                    judged.push((input, Err(fault)));
                    continue;
                }
            };
            if !keys.insert(write.found.map_or_else(|| write.key.clone(), |id| id.to_string())) {
                return refused(400, "VALIDATION_ERROR", "Duplicate IDs found in batch input: each record may be named once");
            }
            judged.push((input, Ok(write)));
        }
        let mut faults = judged.iter().filter_map(|(_, judged)| judged.as_ref().err());
        if let Some(fault) = faults.find(|fault| !apart || is_of_no_property(fault)) {
            return fault.clone();
        }
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for (input, judged) in judged {
            let trace = input.get("objectWriteTraceId").cloned().unwrap_or(Value::Null);
            match judged {
                Ok(write) => results.push(self.write(now, object, write, trace, ledger)),
                Err(fault) => {
                    errors.push(of_an_input(fault.json().clone(), json!({"objectWriteTraceId": [trace]})));
                }
            }
        }
        let mut answer = json!({"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now});
        if errors.is_empty() {
            return Answer::new(200, answer);
        }
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("numErrors".into(), json!(errors.len()));
            answer.insert("errors".into(), json!(errors));
        }
        Answer::new(207, answer)
    }

    fn write(&mut self, now: Wall, object: &str, write: Write, trace: Value, ledger: &mut Ledger) -> Value {
        let id = write.found.unwrap_or(self.next_id);
        if write.found.is_none() {
            self.next_id += 1;
        }
        let Some(object_type) = self.objects.get_mut(object) else { return Value::Null };
        let known = object_type.records.contains_key(&id);
        let record = object_type.records.entry(id).or_insert_with(|| Record { created: now, ..Record::default() });
        let before = if known { json!(record.values) } else { Value::Null };
        for (name, value) in write.values {
            // An empty text empties a property.
            if value.is_empty() {
                record.values.remove(&name)
            } else {
                record.values.insert(name, value)
            };
        }
        record.updated = now;
        let after = json!(record.values);
        let mut shown = record.show(id, None);
        let text = id.to_string();
        let what = if known { "update" } else { "create" };
        ledger.mutation(now, Change { what, object, key: Some(&write.key), id: &text, before, after });
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("new".into(), json!(!known));
            shown.insert("objectWriteTraceId".into(), trace);
        }
        shown
    }

    /// Records by their ids; one that is not there has the others written and is told apart.
    fn update(&mut self, now: Wall, object: &str, body: &Value, ledger: &mut Ledger) -> Answer {
        let inputs = body.get("inputs").and_then(Value::as_array).cloned().unwrap_or_default();
        if inputs.len() > BATCH_MAX {
            return refused(400, "VALIDATION_ERROR", &format!("The maximum batch size is {BATCH_MAX}"));
        }
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for input in &inputs {
            let id = input.get("id").and_then(Value::as_str).unwrap_or_default();
            let trace = input.get("objectWriteTraceId").cloned().unwrap_or(Value::Null);
            let Some(object_type) = self.objects.get(object) else { return not_found() };
            let Some(found) = object_type.find(None, id) else {
                let why = format!("Could not get some {object} objects, they may be deleted or not exist.");
                errors.push(of_an_input(error("OBJECT_NOT_FOUND", &why), json!({"ids": [id], "objectWriteTraceId": [trace]})));
                continue;
            };
            match object_type.values(input.get("properties")) {
                Ok(values) => {
                    let write = Write { key: id.to_owned(), found: Some(found), values };
                    results.push(self.write(now, object, write, trace, ledger));
                }
                Err(fault) => return fault,
            }
        }
        let status = if errors.is_empty() { 200 } else { 207 };
        Answer::new(status, json!({"status": "COMPLETE", "results": results, "numErrors": errors.len(), "errors": errors}))
    }

    fn read(&self, object: &str, body: &Value) -> Answer {
        let Some(object) = self.objects.get(object) else { return not_found() };
        let by = body.get("idProperty").and_then(Value::as_str);
        let wanted = names(body.get("properties"));
        let mut results = Vec::new();
        let mut missing = 0;
        for id in body.get("inputs").and_then(Value::as_array).into_iter().flatten().filter_map(|i| i.get("id")?.as_str()) {
            match object.find(by, id).and_then(|found| Some((found, object.records.get(&found)?))) {
                Some((found, record)) => results.push(record.show(found, Some(&wanted))),
                None => missing += 1,
            }
        }
        let status = if missing == 0 { 200 } else { 207 };
        Answer::new(status, json!({"status": "COMPLETE", "results": results, "numErrors": missing}))
    }

    fn show(&self, object: &str, id: &str, request: &Request) -> Answer {
        let wanted: Vec<String> = request.parameter("properties").unwrap_or_default().split(',').map(str::to_owned).collect();
        let Some(object) = self.objects.get(object) else { return not_found() };
        match object.find(request.parameter("idProperty").as_deref(), id).and_then(|found| Some((found, object.records.get(&found)?))) {
            Some((found, record)) => Answer::new(200, record.show(found, Some(&wanted))),
            None => not_found(),
        }
    }

    /// Search with EQ and IN filters, all of a group and any group; paged by `after`.
    fn search(&self, object: &str, body: &Value) -> Answer {
        let Some(object) = self.objects.get(object) else { return not_found() };
        let wanted = names(body.get("properties"));
        let limit = body.get("limit").and_then(Value::as_u64).and_then(|l| usize::try_from(l).ok()).unwrap_or(10).min(200);
        let after = body.get("after").and_then(|a| a.as_str().map_or_else(|| a.as_u64(), |t| t.parse().ok())).unwrap_or(0);
        let groups = body.get("filterGroups").and_then(Value::as_array).cloned().unwrap_or_default();
        let holds = |record: &Record, filter: &Value| {
            let text = |name: &str| filter.get(name).and_then(Value::as_str).unwrap_or_default();
            match text("operator") {
                // Values of `IN` must be in lower case, and are compared without it.
                "IN" => record.values.get(text("propertyName")).is_some_and(|v| names(filter.get("values")).contains(&v.to_lowercase())),
                "EQ" => record.values.get(text("propertyName")).is_some_and(|v| v == text("value")),
                "HAS_PROPERTY" => record.values.contains_key(text("propertyName")),
                _ => false,
            }
        };
        let in_group =
            |record: &Record, group: &Value| group.get("filters").and_then(Value::as_array).into_iter().flatten().all(|f| holds(record, f));
        let found: Vec<_> =
            object.records.iter().filter(|(_, record)| groups.is_empty() || groups.iter().any(|group| in_group(record, group))).collect();
        let from = usize::try_from(after).unwrap_or(usize::MAX);
        let page: Vec<_> = found.iter().skip(from).take(limit).map(|(id, record)| record.show(**id, Some(&wanted))).collect();
        let mut answer = json!({"total": found.len(), "results": page});
        if from.saturating_add(limit) < found.len()
            && let Some(answer) = answer.as_object_mut()
        {
            answer.insert("paging".into(), json!({"next": {"after": (from + limit).to_string()}}));
        }
        Answer::new(200, answer)
    }
}

fn names(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(|n| n.as_str().map(str::to_owned)).collect()
}

fn not_found() -> Answer {
    refused(404, "OBJECT_NOT_FOUND", "resource not found")
}

fn refused(status: u16, category: &str, message: &str) -> Answer {
    Answer::new(status, error(category, message))
}

fn error(category: &str, message: &str) -> Value {
    json!({"status": "error", "message": message, "correlationId": "00000000-0000-4000-8000-000000000000", "category": category})
}

/// An error of a batch that was taken up, of one of its inputs.
fn of_an_input(mut error: Value, context: Value) -> Value {
    if let Some(error) = error.as_object_mut() {
        error.insert("context".into(), context);
        error.insert("errors".into(), json!([]));
        error.insert("links".into(), json!({}));
    }
    error
}

fn is_of_no_property(fault: &Answer) -> bool {
    fault.json().get("message").and_then(Value::as_str).is_some_and(|message| message.contains("PROPERTY_DOESNT_EXIST"))
}

/// HubSpot puts a JSON array into the message's text.
fn invalid(name: &str, code: &str, message: &str) -> Answer {
    let list = json!([{"isValid": false, "message": message, "error": code, "name": name}]);
    refused(400, "VALIDATION_ERROR", &format!("Property values were not valid: {list}"))
}

#[cfg(test)]
mod tests;
