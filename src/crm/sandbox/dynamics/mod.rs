//! Dataverse's double: Entra's token address, the Web API v9.2 with alternate keys and `$batch`, and as much metadata as a set-up needs.
//!
//! Its environment has phone calls, tasks, contacts, leads, cases and the custom table `offhook_voicecall`. What is not built answers 404 or 501 in Dataverse's form: change
//! sets, `$expand` beside that of keys, the bulk actions. Shapes that no vendor's page confirms are marked `[U]` where they are made.

mod batch;
mod metadata;
mod odata;
mod schema;
mod throttle;

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use super::{Action, Answer, Body, CLIENT_ID, CLIENT_SECRET, Change, Ledger, Request, Standing, Tokens, Vendor};
use crate::{chance::Chance, time::Wall};
use odata::{Filter, KeyPart};
use schema::{Row, Table};
use throttle::Throttle;

/// The environment.
#[derive(Debug)]
pub struct Dynamics {
    tokens: Tokens,
    tables: BTreeMap<String, Table>,
    throttle: Throttle,
    next_id: u64,
    version: u64,
    /// Number of the request that is being answered; a batch is one.
    asked: u64,
}

/// A refusal in Dataverse's form.
#[derive(Clone, Debug)]
struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned() }
    }

    fn answer(&self) -> Answer {
        let mut answer = Answer::new(self.status, json!({"error": {"code": self.code, "message": self.message}}));
        answer.headers.push(("odata-version", "4.0".to_owned()));
        answer
    }
}

/// Life of an access token.
const TOKEN_LIFE: Duration = Duration::from_secs(3599);
/// Rows of a page where the client wants no smaller one.
const PAGE_MAX: usize = 5000;

impl Dynamics {
    /// An environment with nothing in it.
    pub fn new(chance: Chance) -> Self {
        let tokens = Tokens::new(false, TOKEN_LIFE, chance);
        Self { tokens, tables: schema::environment(), throttle: Throttle::default(), next_id: 1, version: 1000, asked: 0 }
    }

    /// An environment that takes so many requests in five minutes.
    #[must_use]
    pub fn with_requests_max(mut self, requests: usize) -> Self {
        self.throttle.requests_max = requests;
        self
    }
}

impl Vendor for Dynamics {
    fn answer(&mut self, now: Wall, takes: Duration, request: &Request, ledger: &mut Ledger) -> Answer {
        let parts = request.parts();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let rest = match parts.as_slice() {
            [_, "oauth2", "v2.0", "token"] if request.method == "POST" => return self.token(now, request),
            [tenant, "v2.0", ".well-known", "openid-configuration"] => return openid(request, tenant),
            ["api", "data", version, rest @ ..] if version.starts_with("v9.") => rest,
            _ => return not_found(),
        };
        if self.tokens.standing(now, request.bearer()) != Standing::Good {
            return unauthorized();
        }
        if let Some(answer) = self.throttle.take(now, takes) {
            return answer;
        }
        self.asked += 1;
        let mut answer = if rest == ["$batch"] && request.method == "POST" {
            self.batch(now, takes, request, ledger)
        } else {
            self.served(now, takes, request, ledger)
        };
        answer.headers.extend(self.throttle.remaining());
        answer
    }

    fn planned(&mut self, action: &Action, _: &Request) -> Option<Answer> {
        let status = action.status.or(action.lock.then_some(500))?;
        let (code, message) = match status {
            401 => return Some(unauthorized()),
            // [U] what a row's lock comes to.
            500 => ("0x80044151", "Sql timeout expired."),
            503 => ("0x80072324", "The service is temporarily unavailable."),
            _ => ("0x80040216", "An unexpected error occurred."),
        };
        let mut answer = match status {
            429 => self.throttle.refuse(),
            _ => Refusal::new(status, code, message).answer(),
        };
        if let Some(body) = &action.body {
            answer.body = Body::Json(body.clone());
        }
        if let Some(seconds) = action.retry_after_s {
            answer.headers.retain(|(name, _)| *name != "retry-after");
            answer.headers.push(("retry-after", seconds.to_string()));
        }
        Some(answer)
    }

    fn expire_tokens(&mut self) {
        self.tokens.expire();
    }
}

impl Dynamics {
    fn token(&mut self, now: Wall, request: &Request) -> Answer {
        let field = |name: &str| request.field(name);
        let wrong = |status: u16, error: &str, number: u64, text: &str| {
            let body = json!({"error": error, "error_description": format!("AADSTS{number}: {text}"), "error_codes": [number], "timestamp": now,
                "trace_id": guid(number), "correlation_id": guid(number), "error_uri": format!("https://login.microsoftonline.com/error?code={number}")});
            Answer::new(status, body)
        };
        if field("grant_type") != "client_credentials" {
            return wrong(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.");
        }
        if field("client_id") != CLIENT_ID {
            let text = format!("Application with identifier '{}' was not found in the directory.", field("client_id"));
            return wrong(400, "unauthorized_client", 700_016, &text);
        }
        if field("client_secret") != CLIENT_SECRET {
            return wrong(401, "invalid_client", 7_000_215, "Invalid client secret provided.");
        }
        if !field("scope").ends_with("/.default") {
            return wrong(
                400,
                "invalid_scope",
                1_002_012,
                "The provided value for scope is not valid. Client credential flows must have a scope value with /.default.",
            );
        }
        let life = self.tokens.life().as_secs();
        let access = self.tokens.give(now);
        Answer::new(200, json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": access}))
    }

    fn batch(&mut self, now: Wall, takes: Duration, request: &Request, ledger: &mut Ledger) -> Answer {
        let requests = match batch::read(request) {
            Ok(requests) => requests,
            Err(batch::Malformed(why)) => return Refusal::new(400, "0x80048d19", why).answer(),
        };
        if requests.len() > batch::PARTS_MAX {
            let message = format!("The batch holds {} requests; at most {} are allowed.", requests.len(), batch::PARTS_MAX);
            return Refusal::new(400, "0x80048d19", &message).answer();
        }
        let goes_on = request.header("prefer").is_some_and(|prefer| prefer.contains("odata.continue-on-error"));
        let mut answers = Vec::new();
        let mut status = 200;
        for part in &requests {
            let answer = self.served(now, takes, part, ledger);
            ledger.request(now, part, Some(answer.status));
            let failed = answer.status >= 400;
            let of_part = answer.status;
            answers.push(answer);
            if failed && !goes_on {
                status = of_part;
                break;
            }
        }
        self.version += 1;
        batch::answer(status, &answers, self.version)
    }

    fn served(&mut self, now: Wall, takes: Duration, request: &Request, ledger: &mut Ledger) -> Answer {
        let parts = request.parts();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let Some(rest) = parts.get(3..) else { return not_found() };
        let body: Value = match request.body.as_slice() {
            [] => Value::Null,
            octets => match serde_json::from_slice(octets) {
                Ok(body) => body,
                Err(why) => return Refusal::new(400, "0x80048d19", &why.to_string()).answer(),
            },
        };
        let done = match (request.method.as_str(), rest) {
            ("GET", ["WhoAmI" | "WhoAmI()"]) => {
                Ok(Answer::new(200, json!({"BusinessUnitId": guid(1), "UserId": guid(2), "OrganizationId": guid(3)})))
            }
            (_, [definitions, ..]) if definitions.starts_with("EntityDefinitions") => self.definitions(now, request, rest, &body, ledger),
            ("GET", [segment]) => self.read(now, request, segment),
            ("POST", [set]) => self.create(now, takes, request, set, &body, ledger),
            ("PATCH", [segment]) => self.patch(now, takes, request, segment, &body, ledger),
            ("DELETE", [segment]) => self.delete(now, segment, ledger),
            (method, path) => {
                Err(Refusal::new(404, "0x8006088a", &format!("Resource not found for the segment '{}' ({method})", path.join("/"))))
            }
        };
        done.unwrap_or_else(|refusal| refusal.answer())
    }

    fn table(&self, set: &str) -> Result<&Table, Refusal> {
        self.tables.get(set).ok_or_else(|| Refusal::new(404, "0x8006088a", &format!("Resource not found for the segment '{set}'.")))
    }

    /// The row that a key names, where there is one.
    fn find(&self, now: Wall, table: &Table, key: &KeyPart) -> Result<Option<String>, Refusal> {
        match key {
            KeyPart::Id(id) => Ok(table.rows.contains_key(id).then(|| id.clone())),
            KeyPart::Alternate(pairs) => {
                let named = |columns: &[String]| columns.len() == pairs.len() && pairs.iter().all(|(name, _)| columns.contains(name));
                if !table.keys.iter().any(|key| key.active <= now && named(&key.columns)) {
                    let message = format!("The specified key attributes are not a defined key for the {} entity", table.logical);
                    return Err(Refusal::new(400, "0x80060888", &message));
                }
                if pairs.iter().any(|(_, value)| !odata::usable(value)) {
                    // [U] its words: an address with such a value is not understood.
                    return Err(Refusal::new(400, "0x80060888", "Bad Request - Error in query syntax."));
                }
                Ok(table.bearing(pairs).next().map(str::to_owned))
            }
        }
    }

    fn create(
        &mut self,
        now: Wall,
        takes: Duration,
        request: &Request,
        set: &str,
        body: &Value,
        ledger: &mut Ledger,
    ) -> Result<Answer, Refusal> {
        self.shows(request, set)?;
        let id = self.write(now, takes, set, (None, None), body, ledger)?;
        let address = format!("{}/api/data/v9.2/{set}({id})", request.origin());
        Ok(self.written(request, set, (&id, address), true))
    }

    fn patch(
        &mut self,
        now: Wall,
        takes: Duration,
        request: &Request,
        segment: &str,
        body: &Value,
        ledger: &mut Ledger,
    ) -> Result<Answer, Refusal> {
        let (set, key) = keyed(segment)?;
        let table = self.shows(request, set)?;
        let found = self.find(now, table, &key)?;
        let row = found.as_ref().and_then(|id| table.rows.get(id));
        match (request.header("if-match"), row) {
            (Some(_), None) => return Err(missing(table, &key)),
            (Some(tag), Some(row)) if tag != "*" && tag != etag(row) => {
                let message = "The version of the existing record doesn't match the RowVersion property provided.";
                return Err(Refusal::new(412, "0x80060882", message));
            }
            _ => {}
        }
        if let (Some("*"), Some(_)) = (request.header("if-none-match"), row) {
            return Err(Refusal::new(412, "0x80040237", "A record with matching key values already exists."));
        }
        // The transaction that makes the row is not over: this one began to make it as well, and loses.
        if let (KeyPart::Alternate(pairs), Some(row)) = (&key, row)
            && now < row.made
            && row.by != self.asked
            && let Some(key) = table.keys.iter().find(|k| k.columns.iter().all(|c| pairs.iter().any(|(name, _)| name == c)))
        {
            return Err(table.violated(key));
        }
        let made = found.is_none();
        let id = self.write(now, takes, set, (found, Some(key)), body, ledger)?;
        // The row's address is the one that it was asked by: after an alternate key, that key and no id.
        let address = format!("{}{}", request.origin(), request.path);
        Ok(self.written(request, set, (&id, address), made))
    }

    /// The table, where it has the columns that the client wants to see.
    fn shows(&self, request: &Request, set: &str) -> Result<&Table, Refusal> {
        let table = self.table(set)?;
        match selected(request).into_iter().find(|name| !table.columns.contains_key(name)) {
            Some(unknown) => Err(no_property(table, &unknown)),
            None => Ok(table),
        }
    }

    /// Writes `body` to a row, or to a new one; its id.
    fn write(
        &mut self,
        now: Wall,
        takes: Duration,
        set: &str,
        (id, key): (Option<String>, Option<KeyPart>),
        body: &Value,
        ledger: &mut Ledger,
    ) -> Result<String, Refusal> {
        let table = self.table(set)?;
        let mut body = body.as_object().cloned().unwrap_or_default();
        let mut external = None;
        if let Some(KeyPart::Alternate(pairs)) = &key {
            external = pairs.first().and_then(|(_, value)| value.as_str()).map(str::to_owned);
            // A new row takes the key from the address, where the body does not say otherwise: the body wins.
            for (name, value) in pairs.iter().filter(|_| id.is_none()) {
                body.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let exists = |set: &str, id: &str| self.tables.get(set).is_some_and(|t| t.rows.contains_key(id));
        let columns = table.judge(now, id.as_deref(), &body, &exists)?;
        self.version += 1;
        let id = id.unwrap_or_else(|| match key {
            Some(KeyPart::Id(id)) => id,
            _ => {
                self.next_id += 1;
                guid(self.next_id)
            }
        });
        let (version, asked) = (self.version, self.asked);
        let Some(table) = self.tables.get_mut(set) else { return Err(Refusal::new(404, "0x8006088a", set)) };
        let column = table.id.clone();
        let before = table.rows.get(&id).map_or(Value::Null, |row| json!(row.columns));
        let row = table.rows.entry(id.clone()).or_insert_with(|| Row {
            columns: Map::from_iter([(column, json!(id)), ("createdon".to_owned(), json!(now))]),
            version,
            made: now + takes,
            by: asked,
        });
        row.version = version;
        row.columns.extend(columns);
        row.columns.insert("modifiedon".into(), json!(now));
        let after = json!(row.columns);
        let what = if before.is_null() { "create" } else { "update" };
        ledger.mutation(now, Change { what, object: set, key: external.as_deref(), id: &id, before, after });
        Ok(id)
    }

    /// 204 whether it was made or changed; only a client that wants to see the row is told which.
    fn written(&self, request: &Request, set: &str, (id, address): (&str, String), made: bool) -> Answer {
        let version = ("OData-Version", "4.0".to_owned());
        let shown = request.header("prefer").is_some_and(|prefer| prefer.contains("return=representation"));
        match self.tables.get(set).and_then(|t| Some((t, t.rows.get(id)?))) {
            Some((table, row)) if shown => {
                let headers = vec![("ETag", etag(row)), ("Preference-Applied", "return=representation".to_owned()), version];
                let body = show(table, row, &selected(request));
                Answer { status: if made { 201 } else { 200 }, headers, body: Body::Json(body) }
            }
            _ => Answer { status: 204, headers: vec![version, ("OData-EntityId", address)], body: Body::Empty },
        }
    }

    fn read(&self, now: Wall, request: &Request, segment: &str) -> Result<Answer, Refusal> {
        let Some((set, key)) = odata::segment(segment) else { return Err(syntax(segment)) };
        let (table, columns) = (self.shows(request, set)?, selected(request));
        if let Some(key) = key {
            let row = self.find(now, table, &key)?.and_then(|id| table.rows.get(&id)).ok_or_else(|| missing(table, &key))?;
            return Ok(Answer::new(200, show(table, row, &columns)));
        }
        let filter = match request.parameter("$filter") {
            Some(text) => Some(Filter::read(&text).ok_or_else(|| syntax(&text))?),
            None => None,
        };
        if let Some(unknown) = filter.iter().flat_map(Filter::columns).find(|name| !table.columns.contains_key(*name)) {
            return Err(no_property(table, unknown));
        }
        let number = |name: &str| request.parameter(name).and_then(|n| n.parse::<usize>().ok());
        let page = request.header("prefer").and_then(|prefer| prefer.split("odata.maxpagesize=").nth(1)).and_then(|rest| {
            let digits: String = rest.trim_matches('"').chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().ok()
        });
        let (page, skip) = (page.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX), number("$skiptoken").unwrap_or(0));
        let found: Vec<_> = table.rows.values().filter(|row| filter.as_ref().is_none_or(|f| f.holds(&row.columns))).collect();
        let most = number("$top").unwrap_or(usize::MAX);
        let shown: Vec<_> = found.iter().take(most).skip(skip).take(page).map(|row| show(table, row, &columns)).collect();
        let next = skip + shown.len();
        let mut body = json!({"@odata.context": format!("{}/api/data/v9.2/$metadata#{set}", request.origin())});
        if let Some(body) = body.as_object_mut() {
            if request.parameter("$count").as_deref() == Some("true") {
                body.insert("@odata.count".into(), json!(found.len()));
            }
            if next < found.len().min(most) {
                let others: Vec<_> = request.query.split('&').filter(|p| !p.starts_with("$skiptoken") && !p.is_empty()).collect();
                let link = format!("{}{}?{}&$skiptoken={next}", request.origin(), request.path, others.join("&"));
                body.insert("@odata.nextLink".into(), json!(link));
            }
            body.insert("value".into(), json!(shown));
        }
        Ok(Answer::new(200, body))
    }

    fn delete(&mut self, now: Wall, segment: &str, ledger: &mut Ledger) -> Result<Answer, Refusal> {
        let (set, key) = keyed(segment)?;
        let table = self.table(set)?;
        let id = self.find(now, table, &key)?.ok_or_else(|| missing(table, &key))?;
        let row = self.tables.get_mut(set).and_then(|t| t.rows.remove(&id));
        let before = row.map_or(Value::Null, |row| json!(row.columns));
        ledger.mutation(now, Change { what: "delete", object: set, key: None, id: &id, before, after: Value::Null });
        Ok(Answer { status: 204, headers: Vec::new(), body: Body::Empty })
    }
}

fn keyed(segment: &str) -> Result<(&str, KeyPart), Refusal> {
    match odata::segment(segment) {
        Some((set, Some(key))) => Ok((set, key)),
        _ => Err(syntax(segment)),
    }
}

fn syntax(what: &str) -> Refusal {
    Refusal::new(400, "0x80060888", &format!("Bad Request - Error in query syntax: {what}"))
}

fn no_property(table: &Table, name: &str) -> Refusal {
    let message = format!("Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{}'.", table.logical);
    Refusal::new(400, "0x0", &message)
}

fn missing(table: &Table, key: &KeyPart) -> Refusal {
    match key {
        KeyPart::Id(id) => Refusal::new(404, "0x80040217", &format!("Entity '{}' With Id = {id} Does Not Exist", table.logical)),
        KeyPart::Alternate(_) => {
            Refusal::new(404, "0x80060891", &format!("A record with the specified key values does not exist in {} entity", table.logical))
        }
    }
}

/// The columns that the client wants to see; none: all of them.
fn selected(request: &Request) -> Vec<String> {
    let wanted = request.parameter("$select").unwrap_or_default();
    wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn etag(row: &Row) -> String {
    format!("W/\"{}\"", row.version)
}

/// A row as it is shown: its id and etag always, empty columns as null.
fn show(table: &Table, row: &Row, columns: &[String]) -> Value {
    let wanted = |name: &String| columns.is_empty() || columns.contains(name) || *name == table.id;
    let fields = table.columns.keys().filter(|name| wanted(name)).map(|n| (n.clone(), row.columns.get(n).cloned().unwrap_or(Value::Null)));
    Value::Object(std::iter::once(("@odata.etag".to_owned(), json!(etag(row)))).chain(fields).collect())
}

fn guid(n: u64) -> String {
    format!("d0000000-0000-4000-8000-{n:012x}")
}

fn openid(request: &Request, tenant: &str) -> Answer {
    let base = format!("{}/{tenant}", request.origin());
    Answer::new(
        200,
        json!({"issuer": format!("{base}/v2.0"), "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"), "jwks_uri": format!("{base}/discovery/v2.0/keys")}),
    )
}

fn unauthorized() -> Answer {
    // No body: the front door answers before the Web API is reached.
    let challenge = "Bearer error=\"invalid_token\", error_description=\"Error during token validation!\"".to_owned();
    Answer { status: 401, headers: vec![("www-authenticate", challenge)], body: Body::Empty }
}

fn not_found() -> Answer {
    Refusal::new(404, "0x8006088a", "Resource not found.").answer()
}

#[cfg(test)]
mod tests;
