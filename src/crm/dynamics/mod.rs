//! Dynamics 365 (Dataverse Web API): rows by upsert with an alternate key, several to a `$batch`; people by `$filter`; tokens of Entra by client credentials.
//!
//! # Completed activities are read-only
//! A phone call or a task that is completed takes no change but one of its state, and its state is not valid for create. So where the mapping names `statecode`,
//! that is never written with the rest: the row is written while it is open, and completed by a request of its own afterwards. What is learnt later still belongs
//! into the row's own columns, where people and reports look for it, so the row is opened again, written and closed. A note beside it would keep the row closed,
//! but notes have no alternate key: written twice after a lost answer, they would be two.
//!
//! # Ids
//! The address in the answer to an upsert by an alternate key names that key again, and no id. So each upsert asks to be shown the row: the answer then holds the
//! id, and its status tells whether the row was made (Dataverse developer guide, "Use Upsert to Create or Update a record").

mod batch;
mod people;
mod read;
mod setup;

use std::{fmt, time::Duration};

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    Change, Connector, Fields, HttpAnswer, HttpRequest, OAuth, Token, Verdict,
    contact::{Link, People},
    form,
    reader::Reader,
    setup::Setup,
};
use crate::time::Wall;

/// How an environment is reached.
#[derive(Clone)]
pub struct Dynamics {
    /// The environment's address, `https://ORG.crm4.dynamics.com`, without a slash at its end.
    pub base_url: String,
    /// Where Entra gives tokens, `https://login.microsoftonline.com/TENANT/oauth2/v2.0/token`.
    pub token_url: String,
    /// The registered app, which must be an application user of the environment.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Zeroizing<String>,
    /// Version of the API in its addresses, such as [`VERSION`].
    pub version: String,
    /// The entity set, such as `phonecalls`.
    pub set: String,
    /// The column of its alternate key that holds the call's key; the key's index has to be Active.
    pub key: String,
    /// The property that binds a row to its person, where one does.
    pub link: Option<Link>,
}

impl fmt::Debug for Dynamics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dynamics({}, {})", self.base_url, self.set)
    }
}

/// The API's version where the configuration names none.
pub const VERSION: &str = "v9.2";
/// Records to a batch where the configuration names no number: the vendor advises to begin so low.
pub const BATCH: usize = 10;
/// Records that a batch may hold: a thousand requests, and a record takes up to three.
const BATCH_MAX: usize = 333;
/// Columns that hold the state of a row.
const STATE: &str = "statecode";
/// Its reason, which goes with it.
const REASON: &str = "statuscode";
/// The state of a row that can be changed.
const OPEN: i64 = 0;
/// Numbers in one query, each in up to four forms: an address has a longest length.
const FIND_MAX: usize = 20;
/// People in one answer.
const PAGE: usize = 5000;
/// A token that does not say how long it is good.
const TOKEN_LIFE: Duration = Duration::from_secs(3599);

/// One request of those that a change takes.
struct Needed {
    what: What,
    body: Map<String, Value>,
}

/// What it is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// The row is opened, where it is there.
    Reopen,
    /// Its columns are written, or it is made.
    Upsert,
    /// Its state is set.
    Close,
}

impl Connector for Dynamics {
    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn upsert(&self, changes: &[Change], token: &Token) -> HttpRequest {
        let mut parts = Vec::new();
        for change in changes {
            let url = format!("{}/api/data/{}/{}({}={})", self.base_url, self.version, self.set, self.key, literal(&change.key));
            for needed in needs(change) {
                let upsert = needed.what == What::Upsert;
                parts.push(batch::Request {
                    method: "PATCH",
                    // Of a row its id is shown always, beside what is selected.
                    url: if upsert { format!("{url}?$select={}", self.key) } else { url.clone() },
                    // A change of state that made a row would make an empty one.
                    only_there: !upsert,
                    shown: upsert,
                    body: Value::Object(needed.body).to_string(),
                });
            }
        }
        self.batch(&parts, token)
    }

    fn verdicts(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let Some(parts) = batch::read(answer) else {
            return match answer.status {
                200..=299 => vec![Verdict::Ambiguous { why: format!("{} without the answers of the batch", answer.status) }; changes.len()],
                413 if changes.len() > 1 => vec![Verdict::Split { why: "413: the batch is too large".into() }; changes.len()],
                _ => vec![self.refused(None, answer); changes.len()],
            };
        };
        let stopped = parts.last().is_some_and(|part| part.status >= 400);
        let mut parts = parts.into_iter();
        changes.iter().map(|change| self.verdict(change, &mut parts, stopped)).collect()
    }

    fn cost(&self, changes: &[Change]) -> u64 {
        // The daily entitlement counts operations, batched or not. Its headers on shorter limits are not to be steered by: `Retry-After` is.
        let parts: usize = changes.iter().map(|change| needs(change).len()).sum();
        u64::try_from(parts).unwrap_or(u64::MAX)
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
}

/// The requests that a change takes, in their order.
fn needs(change: &Change) -> Vec<Needed> {
    let number = |fields: &Fields, name: &str| fields.get(name).and_then(Value::as_i64);
    let (had, has) = (number(&change.written, STATE), number(&change.fields, STATE));
    let wanted = has.or(had).unwrap_or(OPEN);
    let mut body: Map<String, Value> = change.fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    body.remove(STATE);
    // Of an open row its reason is a column like others.
    let closed = had.is_some_and(|state| state != OPEN);
    let moves = wanted != OPEN || closed;
    let reason = if moves { body.remove(REASON).or_else(|| change.written.get(REASON).cloned()) } else { None };
    let mut needs = Vec::new();
    let writes = !body.is_empty() || change.written.is_empty();
    // Where nobody knows whether an earlier attempt has closed it, as after a lost answer, it counts as closed.
    let maybe_closed = closed || (had.is_none() && wanted != OPEN);
    if writes && maybe_closed {
        needs.push(Needed { what: What::Reopen, body: Map::from_iter([(STATE.to_owned(), json!(OPEN))]) });
    }
    if writes {
        needs.push(Needed { what: What::Upsert, body });
    }
    if moves {
        let mut body = Map::from_iter([(STATE.to_owned(), json!(wanted))]);
        body.extend(reason.map(|reason| (REASON.to_owned(), reason)));
        needs.push(Needed { what: What::Close, body });
    }
    needs
}

impl Dynamics {
    fn request(&self, method: &'static str, path: &str, content: &str, body: Vec<u8>, token: &Token) -> HttpRequest {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        HttpRequest {
            method,
            url: format!("{}/api/data/{}/{path}", self.base_url, self.version),
            headers: vec![
                ("authorization".into(), format!("Bearer {}", token.access.as_str())),
                header("content-type", content),
                header("accept", "application/json"),
                header("odata-version", "4.0"),
                header("odata-maxversion", "4.0"),
                header("if-none-match", "null"),
            ],
            body,
        }
    }

    fn batch(&self, parts: &[batch::Request], token: &Token) -> HttpRequest {
        let (boundary, body) = batch::write(parts);
        let mut request = self.request("POST", "$batch", &format!("multipart/mixed; boundary=\"{boundary}\""), body, token);
        // Without it the first refusal would keep all that come after from being looked at.
        request.headers.push(("prefer".into(), "odata.continue-on-error".into()));
        request
    }

    /// What the answers to a change's requests come to: the first that is none of success decides.
    fn verdict(&self, change: &Change, parts: &mut impl Iterator<Item = HttpAnswer>, stopped: bool) -> Verdict {
        let (mut id, mut anew) = (change.id.clone(), false);
        let mut failed = None;
        for needed in needs(change) {
            let verdict = match (parts.next(), needed.what) {
                (None, _) if stopped => Some(Verdict::Retry { after: None, why: "the batch stopped before this record".into() }),
                (None, _) => Some(Verdict::Ambiguous { why: "the batch's answer does not speak of this record".into() }),
                (Some(part), What::Upsert) if part.is_success() => {
                    id = batch::id(&part, &id_column(&self.set)).or(id.take());
                    // Made, although it had been acknowledged: somebody has deleted it.
                    anew = part.status == 201 && !change.written.is_empty();
                    None
                }
                (Some(part), _) if part.is_success() => None,
                // It is not there yet.
                (Some(part), What::Reopen) if part.status == 404 => None,
                (Some(part), What::Upsert) => Some(self.refused(Some(change), &part)),
                (Some(part), _) => Some(self.refused(None, &part)),
            };
            failed = failed.or(verdict);
        }
        failed.unwrap_or(if anew { Verdict::Anew { id } } else { Verdict::Done { id } })
    }

    /// What a refusal means; `change` where it is one of its columns.
    fn refused(&self, change: Option<&Change>, part: &HttpAnswer) -> Verdict {
        let (code, mut message) = batch::refusal(part);
        let columns = change.map(|change| holding(change, &message)).unwrap_or_default();
        if !columns.is_empty() {
            message = format!("{}: {message}", columns.join(", "));
        }
        let why = if code.is_empty() { format!("{}: {message}", part.status) } else { format!("{message} ({code})") };
        let linked = self.link.as_ref().is_some_and(|link| change.is_some_and(|change| change.fields.contains_key(&link.to)));
        match (part.status, code.as_str()) {
            (401, _) => Verdict::Auth { why },
            (429, _) => Verdict::Throttled { after: part.retry_after(), why },
            (408 | 500..=599, _) => Verdict::Down { after: part.retry_after(), why },
            // Of its key, where somebody made the row at the same moment, or of another one: written again, the first is an update.
            (412, "0x80060892") => Verdict::Conflict { why },
            (412, _) => Verdict::Rejected { why },
            // The row that it names as its person's: an upsert has no other that could be missing.
            (404, "0x80040217") if linked => Verdict::PersonGone { why },
            // A value that is none of its column's type, not a column that is not there.
            (400, "0x80048d19") if message.contains("Cannot convert") => Verdict::Rejected { why },
            // Columns and keys that are not there: the set-up is wrong, not the record.
            (400, "0x80048d19" | "0x80060888" | "0x0" | "") => Verdict::Gone { why },
            (403..=405 | 413, _) => Verdict::Gone { why },
            _ => Verdict::Rejected { why },
        }
    }
}

impl OAuth for Dynamics {
    fn grant(&self, _: &str, _: Wall) -> HttpRequest {
        let scope = format!("{}/.default", self.base_url);
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.as_str()),
            ("scope", scope.as_str()),
        ];
        HttpRequest { method: "POST", url: self.token_url.clone(), headers: form::headers(), body: form::body(&fields) }
    }

    fn token(&self, answer: &HttpAnswer) -> Result<Token, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        if answer.status == 200 {
            let Some(access) = text("access_token") else {
                return Err(Verdict::Retry { after: None, why: "a token answer without a token".into() });
            };
            let expires = body.get("expires_in").and_then(Value::as_u64).map_or(TOKEN_LIFE, Duration::from_secs);
            return Ok(Token { access: Zeroizing::new(access.to_owned()), expires, refresh: None, base_url: None });
        }
        // By `error`, since Entra's numbers may change; they stand in the description for people.
        let error = text("error").unwrap_or("no error named");
        let why = format!("{} at the token address: {error} ({})", answer.status, text("error_description").unwrap_or("no reason given"));
        let after = answer.retry_after();
        Err(match (answer.status, error) {
            (429, _) => Verdict::Throttled { after, why },
            (_, "temporarily_unavailable") => Verdict::Retry { after, why },
            (400 | 401 | 403, _) => Verdict::Auth { why },
            _ => Verdict::Retry { after, why },
        })
    }
}

/// The columns whose value a refusal quotes, `Cannot convert the literal '…' to the expected type`: it names none, and a person has to know which.
fn holding<'c>(change: &'c Change, message: &str) -> Vec<&'c str> {
    let quoted = message.split_once(CANNOT_CONVERT).and_then(|(_, rest)| Some(rest.rsplit_once("' to the expected type")?.0));
    quoted.map(|quoted| change.holding(quoted)).unwrap_or_default()
}

/// How the refusal of a value begins that is none of its column's type.
const CANNOT_CONVERT: &str = "Cannot convert the literal '";

/// A text in a filter or a key.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Sets whose rows are activities: these have one column for their ids.
const ACTIVITIES: [&str; 6] = ["phonecalls", "tasks", "emails", "appointments", "letters", "faxes"];

/// The column of a row's id, by the name of its set: `contacts` have `contactid`.
fn id_column(set: &str) -> String {
    if ACTIVITIES.contains(&set) {
        return "activityid".to_owned();
    }
    format!("{}id", entity(set))
}

/// The name of a table, by the name of its set.
fn entity(set: &str) -> String {
    set.strip_suffix("ies").map(|stem| format!("{stem}y")).unwrap_or_else(|| set.strip_suffix('s').unwrap_or(set).to_owned())
}

#[cfg(test)]
mod tests;
