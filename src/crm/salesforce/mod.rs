//! Salesforce: records by upsert of sObject Collections, of Composite requests where a second one stands beside each, or of a bulk job, with a unique external id;
//! people by SOQL; OAuth2 with client credentials, a refresh token or a signed assertion.

mod bulk;
mod composite;
pub mod jwt;
mod people;
mod read;
mod setup;

use std::{fmt, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    Budget, Change, Connector, HttpAnswer, HttpRequest, OAuth, Token, Verdict, bulk::Bulk, contact::People, form, mapping::Beside, query,
    reader::Reader, setup::Setup,
};
use crate::time::Wall;
use jwt::Signer;

/// How an org is reached.
#[derive(Clone)]
pub struct Salesforce {
    /// The org's own domain, without a slash at its end; what a token's answer names instead counts.
    pub base_url: String,
    /// Where tokens are given.
    pub token_url: String,
    /// The external client app.
    pub client_id: String,
    /// By what it gets its tokens.
    pub grant: Grant,
    /// Version of the API in its addresses, such as [`VERSION`].
    pub version: String,
    /// Object type.
    pub object: String,
    /// The external id field that holds the call's key: external id *and* unique, or two calls at once make two records.
    pub key: String,
    /// The field that names a record's person, where one does.
    pub link: Option<String>,
    /// The object of which a record is written with each.
    pub beside: Option<Beside>,
}

/// By what an app gets access tokens.
#[derive(Clone)]
pub enum Grant {
    /// Its own secret: it works as the user that the administrator has given it.
    ClientCredentials(Zeroizing<String>),
    /// Its own secret, with the refresh token of a user who let it.
    RefreshToken(Zeroizing<String>),
    /// An assertion signed with its private key, for a user whom the administrator let it work for.
    Jwt(Arc<Signer>),
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientCredentials(_) => "ClientCredentials(..)",
            Self::RefreshToken(_) => "RefreshToken(..)",
            Self::Jwt(_) => "Jwt(..)",
        })
    }
}

impl fmt::Debug for Salesforce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salesforce({}, {})", self.base_url, self.object)
    }
}

/// The API's version where the configuration names none.
pub const VERSION: &str = "v62.0";
/// Records that a collection may hold.
const BATCH_MAX: usize = 200;
/// An org does not tell how long a session lasts, two hours by default; its end is learnt by 401, and this renews most before.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// Wait where the day's requests are used up: they come back over 24 hours, little by little.
const DAILY_WAIT: Duration = Duration::from_secs(300);
/// The code of a refusal for the sake of another record, which is there no more or is not shown to the app's user.
const OUT_OF_REACH: &str = "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY";
/// Characters of an id that say which record it is; where there are three more, they only check its case.
const SHORT_ID: usize = 15;
/// A refresh that runs beside another one is over soon.
const CONCURRENT_WAIT: Duration = Duration::from_secs(2);

impl Connector for Salesforce {
    fn batch_max(&self) -> usize {
        if self.beside.is_some() { composite::CHANGES_MAX } else { BATCH_MAX }
    }

    fn upsert(&self, changes: &[Change], token: &Token) -> HttpRequest {
        if let Some(beside) = &self.beside {
            return self.upsert_pairs(beside, changes, token);
        }
        let record = |change: &Change| {
            let mut record =
                Map::from_iter([("attributes".to_owned(), json!({"type": self.object})), (self.key.clone(), json!(change.key))]);
            record.extend(change.fields.clone());
            Value::Object(record)
        };
        let body = json!({"allOrNone": false, "records": changes.iter().map(record).collect::<Vec<_>>()});
        self.request("PATCH", &format!("composite/sobjects/{}/{}", self.object, self.key), body.to_string().into_bytes(), token)
    }

    fn verdicts(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        match &self.beside {
            Some(beside) => self.of_pairs(beside, changes, answer),
            None => self.of_a_collection(changes, answer),
        }
    }

    fn budgets(&self, answer: &HttpAnswer) -> Vec<Budget> {
        // `api-usage=10018/100000`, among others: the whole org's, over 24 hours.
        let usage = |part: &str| part.trim().strip_prefix("api-usage=")?.split_once('/').map(|(used, most)| (used.parse(), most.parse()));
        let told = answer.header("sforce-limit-info").unwrap_or_default().split(';').find_map(usage);
        let Some((Ok(used), Ok(most))) = told else { return Vec::new() };
        vec![Budget::Day { used, most }]
    }

    fn oauth(&self) -> Option<&dyn OAuth> {
        Some(self)
    }

    fn reader(&self) -> Option<&dyn Reader> {
        Some(self)
    }

    fn setup(&self) -> Option<&dyn Setup> {
        Some(self)
    }

    fn people(&self) -> Option<&dyn People> {
        Some(self)
    }

    fn bulk(&self) -> Option<&dyn Bulk> {
        // A row is of one object, and cannot refer to another row.
        self.beside.is_none().then_some(self as &dyn Bulk)
    }

    fn writes_in_parts(&self) -> bool {
        self.beside.is_some()
    }
}

impl OAuth for Salesforce {
    fn grant(&self, refresh_token: &str, at: Wall) -> HttpRequest {
        let client = |secret| [("client_id", self.client_id.as_str()), ("client_secret", secret)];
        let assertion;
        let fields = match &self.grant {
            Grant::ClientCredentials(secret) => [&[("grant_type", "client_credentials")][..], &client(secret.as_str())].concat(),
            Grant::RefreshToken(secret) => {
                [&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)][..], &client(secret.as_str())].concat()
            }
            Grant::Jwt(signer) => {
                assertion = signer.assertion(&self.client_id, at);
                vec![("grant_type", jwt::GRANT), ("assertion", assertion.as_str())]
            }
        };
        HttpRequest { method: "POST", url: self.token_url.clone(), headers: form::headers(), body: form::body(&fields) }
    }

    fn token(&self, answer: &HttpAnswer) -> Result<Token, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        if answer.status == 200 {
            let Some(access) = text("access_token") else {
                return Err(Verdict::Retry { after: None, why: "a token answer without a token".into() });
            };
            return Ok(Token {
                access: Zeroizing::new(access.to_owned()),
                expires: TOKEN_LIFE,
                refresh: text("refresh_token").map(|t| Zeroizing::new(t.to_owned())),
                base_url: text("instance_url").map(|url| url.trim_end_matches('/').to_owned()),
            });
        }
        let described = text("error_description").unwrap_or("no reason given");
        let why = format!("{} at the token address: {} ({described})", answer.status, text("error").unwrap_or("no error named"));
        Err(match answer.status {
            // Two refreshes at once: no revoked grant, although it is called invalid_grant. Said of an assertion, the older text means a clock that is off.
            400 if described.contains("already being processed")
                || (described.contains("expired authorization code") && matches!(self.grant, Grant::RefreshToken(_))) =>
            {
                Verdict::Retry { after: Some(CONCURRENT_WAIT), why }
            }
            400 if text("error") == Some("rate_limit_exceeded") => Verdict::Throttled { after: Some(DAILY_WAIT), why },
            400 | 401 | 403 => Verdict::Auth { why },
            _ => Verdict::Retry { after: None, why },
        })
    }
}

impl Salesforce {
    fn request(&self, method: &'static str, path: &str, body: Vec<u8>, token: &Token) -> HttpRequest {
        let base = token.base_url.as_deref().unwrap_or(&self.base_url);
        HttpRequest {
            method,
            url: format!("{base}/services/data/{}/{path}", self.version),
            headers: vec![
                ("authorization".into(), format!("Bearer {}", token.access.as_str())),
                ("content-type".into(), "application/json".into()),
                ("accept".into(), "application/json".into()),
            ],
            body,
        }
    }

    /// What the answer to a collection means for each of its records.
    fn of_a_collection(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let results = body.as_array().map(Vec::as_slice).unwrap_or_default();
        match answer.status {
            // Results come in the order of the request.
            200..=299 if results.len() == changes.len() => {
                changes.iter().zip(results).map(|(change, result)| self.of_its_own(answer.status, change, result)).collect()
            }
            200..=299 => {
                let why = format!("{} with {} results for {} records", answer.status, results.len(), changes.len());
                vec![Verdict::Ambiguous { why }; changes.len()]
            }
            status => {
                let error = results.first().unwrap_or(&Value::Null);
                match changes {
                    // The request cannot be read for the sake of one value: a date that is none keeps all others from being looked at.
                    [_, _, ..] if status == 400 && error.get("errorCode").and_then(Value::as_str) == Some(UNREADABLE) => {
                        let why = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
                        vec![Verdict::Split { why: format!("{why} ({UNREADABLE})") }; changes.len()]
                    }
                    [one] => vec![self.refused(answer, &self.placed(error, one, None))],
                    several => vec![self.refused(answer, error); several.len()],
                }
            }
        }
    }

    /// An error with the fields whose value it quotes, `Cannot deserialize instance of date from VALUE_STRING value … or request …`: it names none, and a person
    /// has to know which. Of the record `beside` where one is meant.
    fn placed(&self, error: &Value, change: &Change, beside: Option<&Beside>) -> Value {
        let mut error = error.clone();
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
        let rest = message.strip_prefix(CANNOT_READ).and_then(|rest| Some(rest.split_once(" value ")?.1));
        let quoted = rest.and_then(|rest| rest.rsplit_once(" or request may be").or_else(|| rest.rsplit_once(" at [line:")));
        let Some((quoted, _)) = quoted else { return error };
        let own = |name: &str| match (beside, &self.beside) {
            (Some(beside), _) => beside.field(name).map(str::to_owned),
            (None, Some(other)) if other.field(name).is_some() => None,
            (None, _) => Some(name.to_owned()),
        };
        let fields: Vec<_> = change.holding(quoted).into_iter().filter_map(own).collect();
        if let Some(error) = error.as_object_mut().filter(|error| error.get("fields").and_then(Value::as_array).is_none_or(Vec::is_empty)) {
            error.insert("fields".into(), json!(fields));
        }
        error
    }

    /// What a collection says of one of its records.
    fn of_its_own(&self, status: u16, change: &Change, result: &Value) -> Verdict {
        if result.get("success").and_then(Value::as_bool) == Some(true) {
            return Verdict::Done { id: result.get("id").and_then(Value::as_str).map(str::to_owned) };
        }
        match result.pointer("/errors/0") {
            Some(error) => self.refusal(status, &self.placed(error, change, None), None, self.named_by(change, None)),
            None => Verdict::Ambiguous { why: format!("{status} without a word on this record") },
        }
    }

    /// The id of the person whom a change names; with `beside`, in the record beside.
    fn named_by<'c>(&self, change: &'c Change, beside: Option<&Beside>) -> Option<&'c str> {
        let link = match beside {
            None => self.link.clone()?,
            Some(beside) => beside.name(beside.person.as_deref()?),
        };
        change.fields.get(&link)?.as_str()
    }

    /// What the refusal of a whole answer means.
    fn refused(&self, answer: &HttpAnswer, error: &Value) -> Verdict {
        match (self.refusal(answer.status, error, None, None), answer.retry_after()) {
            (Verdict::Throttled { why, .. }, Some(after)) => Verdict::Throttled { after: Some(after), why },
            (verdict, _) => verdict,
        }
    }

    /// What a refusal means. `error` is Salesforce's: of a whole answer with `errorCode`, of one record with `statusCode`; of the record `beside` where one is
    /// meant, whose fields bear its object. `named`: the person whom what was refused names, by his id.
    fn refusal(&self, status: u16, error: &Value, beside: Option<&Beside>, named: Option<&str>) -> Verdict {
        let text = |name: &str| error.get(name).and_then(Value::as_str);
        let code = text("errorCode").or_else(|| text("statusCode")).unwrap_or_default();
        let fields: Vec<_> = error.get("fields").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let message = text("message").unwrap_or("no reason given");
        let places = match beside {
            None => fields.join(", "),
            Some(beside) if fields.is_empty() => beside.object.clone(),
            Some(beside) => fields.iter().map(|field| beside.name(field)).collect::<Vec<_>>().join(", "),
        };
        let why = if places.is_empty() { format!("{message} ({code})") } else { format!("{places}: {message} ({code})") };
        let link = beside.map_or(self.link.as_deref(), |beside| beside.person.as_deref());
        // Mostly no field is told, and of a record that is out of reach its id.
        let person = match (fields.is_empty(), named) {
            (false, _) => link.is_some_and(|link| fields.contains(&link)),
            (true, None) => false,
            (true, Some(id)) => code != OUT_OF_REACH || message.contains(id.get(..SHORT_ID).unwrap_or(id)),
        };
        match code {
            "INVALID_SESSION_ID" => Verdict::Auth { why },
            "REQUEST_LIMIT_EXCEEDED" => Verdict::Throttled { after: Some(DAILY_WAIT), why },
            // The record is written by somebody else just now.
            "UNABLE_TO_LOCK_ROW" => Verdict::Retry { after: None, why },
            // Of its key, where somebody made the record at the same moment, or of another unique field: written again, the first is an update.
            "DUPLICATE_VALUE" => Verdict::Conflict { why },
            "INVALID_CROSS_REFERENCE_KEY" | "ENTITY_IS_DELETED" | OUT_OF_REACH if person => Verdict::PersonGone { why },
            // Another part of the request failed, and this one was not looked at.
            "PROCESSING_HALTED" => Verdict::Retry { after: None, why },
            // The set-up is wrong, not the record.
            "INVALID_FIELD" | "INVALID_TYPE" | "NOT_FOUND" | "API_DISABLED_FOR_ORG" => Verdict::Gone { why },
            _ => match status {
                401 => Verdict::Auth { why },
                403 | 404 => Verdict::Gone { why },
                429 => Verdict::Throttled { after: None, why },
                408 | 500..=599 => Verdict::Down { after: None, why },
                _ => Verdict::Rejected { why },
            },
        }
    }
}

/// What is said of a request of which a value cannot be read: it is none of its field's type.
const UNREADABLE: &str = "JSON_PARSER_ERROR";
/// How the message begins that quotes the value.
const CANNOT_READ: &str = "Cannot deserialize instance of ";

/// A text in SOQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\r', "\\r"))
}

#[cfg(test)]
mod composite_tests;
#[cfg(test)]
mod people_tests;
#[cfg(test)]
mod tests;
