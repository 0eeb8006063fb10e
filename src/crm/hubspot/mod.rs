//! HubSpot: call records by batch upsert with a unique property, OAuth2 with refresh.

mod people;
mod read;
mod setup;

use std::{fmt, time::Duration};

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Budget, Change, Connector, HttpAnswer, HttpRequest, OAuth, Token, Verdict, contact, form, reader::Reader, setup::Setup};
use crate::time::Wall;

/// How an account is reached.
#[derive(Clone)]
pub struct HubSpot {
    /// Base of the API, without a slash at its end.
    pub base_url: String,
    /// Where a refresh token becomes an access token.
    pub token_url: String,
    /// OAuth client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Zeroizing<String>,
    /// Version of the API in its addresses, such as [`VERSION`].
    pub version: String,
    /// Object type.
    pub object: String,
    /// The unique property that holds the call's key.
    pub key: String,
}

impl fmt::Debug for HubSpot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubSpot({}, {})", self.base_url, self.object)
    }
}

/// The API's version where the configuration names none: HubSpot's addresses are dated.
pub const VERSION: &str = "2026-03";
/// Inputs that a batch may hold.
const BATCH_MAX: usize = 100;
/// Wait where the ten-second quota is used up and no `Retry-After` says otherwise.
const TEN_SECONDS: Duration = Duration::from_secs(10);
/// Wait where the daily quota is used up: it comes back at midnight in the account's own time zone, which is not known here.
const DAILY_WAIT: Duration = Duration::from_secs(900);
/// A locked record is free again after two seconds at the earliest.
const LOCKED_WAIT: Duration = Duration::from_secs(2);
/// Life of a token where the answer does not tell: HubSpot's live half an hour.
const TOKEN_LIFE: Duration = Duration::from_secs(1500);

impl Connector for HubSpot {
    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn upsert(&self, changes: &[Change], token: &Token) -> HttpRequest {
        // The trace id is what an error or a shuffled result names its input by.
        let input = |change: &Change| json!({"idProperty": self.key, "id": change.key, "properties": properties(change), "objectWriteTraceId": change.key});
        let body = json!({"inputs": changes.iter().map(input).collect::<Vec<_>>()});
        self.post(format!("crm/objects/{}/{}/batch/upsert", self.version, self.object), &body, token)
    }

    fn verdicts(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        match answer.status {
            200..=299 => changes.iter().map(|change| self.of_its_own(change, changes.len(), answer, &body)).collect(),
            _ => self.of_a_refused_batch(changes, refused(answer, &body), &body),
        }
    }

    fn budgets(&self, answer: &HttpAnswer) -> Vec<Budget> {
        let number = |name: &str| answer.header(&format!("x-hubspot-ratelimit-{name}")).and_then(|text| text.parse::<u64>().ok());
        let window = || {
            let length = Duration::from_millis(number("interval-milliseconds")?);
            Some(Budget::Window { left: number("remaining")?, most: number("max")?, length })
        };
        let day = || {
            let most = number("daily")?;
            Some(Budget::Day { used: most.saturating_sub(number("daily-remaining")?), most })
        };
        window().into_iter().chain(day()).collect()
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

    fn people(&self) -> Option<&dyn contact::People> {
        Some(self)
    }
}

impl OAuth for HubSpot {
    fn grant(&self, refresh_token: &str, _: Wall) -> HttpRequest {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.client_id),
            ("client_secret", &self.client_secret),
            ("refresh_token", refresh_token),
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
            return Ok(Token {
                access: Zeroizing::new(access.to_owned()),
                expires,
                refresh: text("refresh_token").map(|t| Zeroizing::new(t.to_owned())),
                base_url: None,
            });
        }
        let why = text("message").or_else(|| text("error_description")).or_else(|| text("error")).unwrap_or("no reason given");
        let why = format!("{} at the token address: {why}", answer.status);
        Err(match answer.status {
            // Two refreshes at once are no revoked grant.
            400 if why.contains("already being processed") => Verdict::Retry { after: Some(LOCKED_WAIT), why },
            400 | 401 | 403 => Verdict::Auth { why },
            429 => Verdict::Throttled { after: answer.retry_after().or(Some(TEN_SECONDS)), why },
            _ => Verdict::Retry { after: answer.retry_after(), why },
        })
    }
}

impl HubSpot {
    fn post(&self, path: String, body: &Value, token: &Token) -> HttpRequest {
        HttpRequest {
            method: "POST",
            url: format!("{}/{path}", self.base_url),
            headers: vec![
                ("authorization".into(), format!("Bearer {}", token.access.as_str())),
                ("content-type".into(), "application/json".into()),
                ("accept".into(), "application/json".into()),
            ],
            body: body.to_string().into_bytes(),
        }
    }

    /// What the refusal of a batch, `verdict`, means for each of its changes.
    fn of_a_refused_batch(&self, changes: &[Change], verdict: Verdict, body: &Value) -> Vec<Verdict> {
        let holds = |change: &Change, names: &[String]| change.fields.keys().any(|field| names.contains(field));
        let verdict = match (verdict, missing(body)) {
            // One bad record has the whole batch refused, and the answer seldom says which.
            (Verdict::Rejected { why } | Verdict::Conflict { why }, _) if changes.len() > 1 => Verdict::Split { why },
            // A property that only some write is theirs alone, and all that holds the others back is they; the key is everybody's.
            (Verdict::Gone { why }, Some(names)) if changes.len() > 1 && !names.contains(&self.key) => {
                let of = |change: &Change| match holds(change, &names) {
                    true => Verdict::Gone { why: why.clone() },
                    false => Verdict::Split { why: why.clone() },
                };
                return changes.iter().map(of).collect();
            }
            (verdict, _) => verdict,
        };
        vec![verdict; changes.len()]
    }

    /// What a batch that was taken up says of one of its changes: results come in any order, and bear the key.
    fn of_its_own(&self, change: &Change, changes: usize, answer: &HttpAnswer, body: &Value) -> Verdict {
        let list = |name: &str| body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let named = |at: Option<&Value>| match at {
            Some(Value::String(id)) => *id == change.key,
            Some(Value::Array(ids)) => ids.iter().any(|id| id.as_str() == Some(&change.key)),
            _ => false,
        };
        let result = list("results")
            .iter()
            .find(|r| named(r.get("objectWriteTraceId")) || named(r.get("properties").and_then(|p| p.get(&self.key))));
        let only = |name: &str| if changes == 1 { list(name).first() } else { None };
        if let Some(id) = result.or(only("results")).and_then(|r| r.get("id")?.as_str()) {
            return Verdict::Done { id: Some(id.to_owned()) };
        }
        let error = list("errors").iter().find(|e| {
            let context = e.get("context");
            named(context.and_then(|c| c.get("objectWriteTraceId"))) || named(context.and_then(|c| c.get("ids")))
        });
        match error.or(only("errors")) {
            // 207: the batch was taken up, this input was not.
            Some(error) => refused(answer, error),
            None => Verdict::Ambiguous { why: format!("{} without a result for this record", answer.status) },
        }
    }
}

fn properties(change: &Change) -> Map<String, Value> {
    change.fields.iter().map(|(name, value)| (name.clone(), json!(text(value)))).collect()
}

/// As HubSpot takes every value.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a refusal means. `error` is HubSpot's error body, of the whole answer or of one input.
fn refused(answer: &HttpAnswer, error: &Value) -> Verdict {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let why = match text("message") {
        "" => format!("{} without a reason", answer.status),
        message => reasons(message),
    };
    let status = match (answer.status, text("category")) {
        (207, "VALIDATION_ERROR") => 400,
        (207, "CONFLICT") => 409,
        (207, "RATE_LIMITS") => 429,
        (207, "OBJECT_NOT_FOUND") => 404,
        (207, MISSING_SCOPES) => 403,
        (207, "INTERNAL_ERROR") => 500,
        (status, _) => status,
    };
    match status {
        401 => Verdict::Auth { why },
        // The set-up is wrong, not the record: a missing property, a missing scope.
        400 if text("message").contains(NO_PROPERTY) || text("message").contains("non-unique") => Verdict::Gone { why },
        403 | 404 | 410 => Verdict::Gone { why },
        // Of its key, where somebody made the record at the same moment, or of another unique property: written again, the first is an update.
        409 => Verdict::Conflict { why },
        // Refused by itself, for a reason that HubSpot does not document: the record's own, so that its attempts run out.
        207 => Verdict::Retry { after: answer.retry_after(), why },
        423 => Verdict::Retry { after: answer.retry_after().or(Some(LOCKED_WAIT)), why },
        429 => {
            let wait = if text("policyName") == "DAILY" { DAILY_WAIT } else { TEN_SECONDS };
            Verdict::Throttled { after: answer.retry_after().or(Some(wait)), why }
        }
        408 | 477 | 500..=599 => Verdict::Down { after: answer.retry_after(), why },
        _ => Verdict::Rejected { why },
    }
}

/// The properties of which a refusal says that the account has none such, as far as it names them; none where it is another refusal.
fn missing(error: &Value) -> Option<Vec<String>> {
    let message = error.get("message").and_then(Value::as_str).filter(|message| message.contains(NO_PROPERTY))?;
    let list = listed(message).map(|(_, list)| list).unwrap_or_default();
    let of_none = list.iter().filter(|entry| entry.get("error").and_then(Value::as_str) == Some(NO_PROPERTY));
    Some(of_none.filter_map(|entry| Some(entry.get("name")?.as_str()?.to_owned())).collect())
}

/// The category of what the app was not granted.
const MISSING_SCOPES: &str = "MISSING_SCOPES";

/// The code of a property that the account does not have.
const NO_PROPERTY: &str = "PROPERTY_DOESNT_EXIST";

/// The list that hides in the text of HubSpot's message, and where it begins.
fn listed(message: &str) -> Option<(usize, Vec<Value>)> {
    let at = message.find('[')?;
    Some((at, serde_json::from_str(message.get(at..)?).ok()?))
}

/// HubSpot's message, with its list made readable: `property: reason`.
fn reasons(message: &str) -> String {
    let Some((start, list)) = listed(message) else { return message.to_owned() };
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let named: Vec<_> = list
        .iter()
        .map(|e| format!("{}: {} ({})", text(e, "name"), text(e, "message"), text(e, "error")))
        .filter(|e| e.len() > 6)
        .collect();
    if named.is_empty() { message.get(..start).unwrap_or(message).to_owned() } else { named.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chance::Chance,
        crm::{
            Fields,
            sandbox::{self, Outcome},
        },
        time::{Now, Wall},
    };

    pub(super) fn connector() -> HubSpot {
        HubSpot {
            base_url: "http://crm".into(),
            token_url: "http://crm/oauth/v1/token".into(),
            client_id: "sim-client".into(),
            client_secret: Zeroizing::new("sim-secret".into()),
            version: VERSION.into(),
            object: "calls".into(),
            key: "offhook_key".into(),
        }
    }

    fn change(key: &str, fields: &[(&str, Value)]) -> Change {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Change { key: key.into(), id: None, fields, written: Fields::new() }
    }

    fn token(access: &str) -> Token {
        Token { access: Zeroizing::new(access.into()), expires: TOKEN_LIFE, refresh: None, base_url: None }
    }

    #[test]
    fn a_batch_is_told_record_by_record_and_refused_whole_it_is_split() {
        let batch = [change("k1", &[]), change("k2", &[]), change("k3", &[])];
        let body = json!({
            "results": [{"id": "9", "properties": {"offhook_key": "k3"}}, {"id": "7", "objectWriteTraceId": "k1"}],
            "errors": [{"category": "VALIDATION_ERROR", "message": "no", "context": {"objectWriteTraceId": ["k2"]}}],
        });
        let verdicts = connector().verdicts(&batch, &answer(207, &body.to_string()));
        let done = |id: &str| Verdict::Done { id: Some(id.into()) };
        assert_eq!(verdicts, [done("7"), Verdict::Rejected { why: "no".into() }, done("9")]);
        let refused = json!({"category": "VALIDATION_ERROR", "message": "one of them is wrong"}).to_string();
        let split = Verdict::Split { why: "one of them is wrong".into() };
        assert_eq!(connector().verdicts(&batch, &answer(400, &refused)), vec![split; 3]);
        let lost = json!({"results": [{"id": "7", "objectWriteTraceId": "k1"}]}).to_string();
        let names = connector().verdicts(&batch, &answer(200, &lost)).iter().map(Verdict::name).collect::<Vec<_>>();
        assert_eq!(names, ["done", "ambiguous", "ambiguous"]);
    }

    #[test]
    fn a_property_that_only_some_records_have_is_theirs_alone() {
        let batch = [change("k1", &[("a", json!("1"))]), change("k2", &[("a", json!("1")), ("dispositon", json!("x"))])];
        let verdicts = |message: &str| {
            let body = json!({"category": "VALIDATION_ERROR", "message": message}).to_string();
            connector().verdicts(&batch, &answer(400, &body)).into_iter().map(|v| matches!(v, Verdict::Split { .. })).collect::<Vec<_>>()
        };
        let entry = |name: &str| json!({"isValid": false, "message": "m", "error": "PROPERTY_DOESNT_EXIST", "name": name});
        let unknown = |names: &[&str]| {
            format!("Property values were not valid: {}", Value::from(names.iter().map(|name| entry(name)).collect::<Vec<_>>()))
        };
        assert_eq!(verdicts(&unknown(&["dispositon"])), [true, false]);
        assert_eq!(verdicts(&unknown(&["a", "dispositon"])), [false, false]);
        assert_eq!(verdicts(&unknown(&["offhook_key"])), [false, false], "the key is everybody's");
        assert_eq!(verdicts(&unknown(&["another"])), [true, true], "nobody knows whose that is");
        assert_eq!(verdicts("PROPERTY_DOESNT_EXIST"), [true, true]);
        assert_eq!(verdicts("Unable to perform update/upsert by non-unique 0-48 property offhook_key"), [false, false]);
        let alone = json!({"category": "VALIDATION_ERROR", "message": unknown(&["another"])}).to_string();
        assert_eq!(connector().verdicts(&batch[..1], &answer(400, &alone))[0].name(), "gone", "there is nothing left to split");
    }

    pub(super) fn answer(status: u16, body: &str) -> HttpAnswer {
        HttpAnswer { status, headers: vec![("retry-after".into(), "7".into())], body: body.into() }
    }

    /// Results come in any order; without a trace id of its own an error names no input.
    #[test]
    fn every_input_bears_its_trace_id() {
        let changes = [change("k1", &[("a", json!("1"))]), change("k2", &[("a", json!("2"))])];
        let traced = |http: HttpRequest| {
            let body: Value = serde_json::from_slice(&http.body).expect("JSON");
            let inputs = body.get("inputs").and_then(Value::as_array).cloned().unwrap_or_default();
            inputs.iter().filter_map(|i| i.get("objectWriteTraceId")?.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(traced(connector().upsert(&changes, &Token::standing())), ["k1", "k2"]);
        let people = connector();
        let update = people.people().and_then(|p| p.update("contacts", &changes, &Token::standing())).expect("a request");
        assert_eq!(traced(update), ["k1", "k2"]);
    }

    #[test]
    fn each_kind_of_answer_has_its_verdict() {
        let verdict = |answer: &HttpAnswer| connector().verdicts(&[change("k1", &[])], answer).remove(0);
        let name = |status, body: &str| verdict(&answer(status, body)).name();
        assert_eq!(name(200, r#"{"results": [{"id": "7", "new": true}]}"#), "done");
        assert_eq!(name(200, "<html>"), "ambiguous");
        let invalid = |code: &str| json!({"category": "VALIDATION_ERROR", "message": format!("Property values were not valid: [{{\"message\":\"X was not allowed\",\"error\":\"{code}\",\"name\":\"p\"}}]")});
        assert_eq!(name(400, &invalid("INVALID_OPTION").to_string()), "rejected");
        assert_eq!(name(400, &invalid("PROPERTY_DOESNT_EXIST").to_string()), "gone");
        assert_eq!(name(207, &json!({"results": [], "errors": [invalid("INVALID_OPTION")]}).to_string()), "rejected");
        let apart = |category: &str| json!({"results": [], "errors": [{"category": category, "message": "no"}]}).to_string();
        assert_eq!(name(207, &apart(MISSING_SCOPES)), "gone");
        assert!(matches!(verdict(&answer(207, &apart("INTERNAL_ERROR"))), Verdict::Down { .. }));
        assert!(matches!(verdict(&answer(207, &apart("SOMETHING"))), Verdict::Retry { .. }));
        for (status, word) in [
            (401, "auth"),
            (403, "gone"),
            (404, "gone"),
            (409, "retry"),
            (423, "retry"),
            (429, "throttled"),
            (503, "retry"),
            (418, "rejected"),
        ] {
            assert_eq!(name(status, "{}"), word, "{status}");
        }
        assert!(matches!(verdict(&answer(409, "{}")), Verdict::Conflict { .. }));
        let batch = [change("k1", &[]), change("k2", &[])];
        assert!(connector().verdicts(&batch, &answer(409, "{}")).iter().all(|v| matches!(v, Verdict::Split { .. })), "nobody knows whose");
        assert_eq!(
            verdict(&answer(429, "{}")),
            Verdict::Throttled { after: Some(Duration::from_secs(7)), why: "429 without a reason".into() }
        );
        let Verdict::Rejected { why } = verdict(&answer(400, &invalid("INVALID_OPTION").to_string())) else { panic!("rejected") };
        assert_eq!(why, "p: X was not allowed (INVALID_OPTION)");
    }

    #[test]
    fn tokens_are_read_and_refusals_told_apart() {
        let token = connector().token(&answer(200, r#"{"access_token": "a", "refresh_token": "r", "expires_in": 60}"#)).expect("a token");
        assert_eq!((token.access.as_str(), token.expires), ("a", Duration::from_secs(60)));
        let refused = |status, body: &str| connector().token(&answer(status, body)).expect_err("none").name();
        assert_eq!(refused(400, r#"{"error": "invalid_grant"}"#), "auth");
        assert_eq!(refused(400, r#"{"error_description": "token request is already being processed"}"#), "retry");
        assert_eq!(refused(502, "<html>"), "retry");
    }

    /// The connector against the sandbox, without a socket between them.
    #[test]
    fn a_record_written_twice_is_one_record() {
        let mut crm = sandbox::Double::hubspot(sandbox::Options::default(), Chance::from_seed(1));
        let now = Now { wall: Wall::from_millis(1_767_607_200_000), ..Now::default() };
        let mut send = |request: HttpRequest| {
            let path = request.url.strip_prefix("http://crm").expect("its address").to_owned();
            let asked = sandbox::Request {
                method: request.method.into(),
                path,
                query: String::new(),
                headers: request.headers,
                body: request.body,
            };
            match crm.handle(now, &asked) {
                Outcome::Answer(answer, _) => HttpAnswer { status: answer.status, headers: Vec::new(), body: answer.body.octets() },
                Outcome::Drop(_) => panic!("no fault was planted"),
            }
        };
        let connector = connector();
        let access = connector.token(&send(connector.grant("sim-refresh", now.wall))).expect("a token");
        let wanted = [change("k1", &[("hs_timestamp", json!("1767607200000"))])];
        assert_eq!(
            connector.verdicts(&wanted, &send(connector.upsert(&wanted, &access))).remove(0).name(),
            "gone",
            "the account has no such property yet"
        );
        let property = json!({"name": "offhook_key", "type": "string", "hasUniqueValue": true}).to_string().into_bytes();
        let headers = vec![("authorization".to_owned(), format!("Bearer {}", access.access.as_str()))];
        assert_eq!(
            send(HttpRequest { method: "POST", url: "http://crm/crm/v3/properties/calls".into(), headers, body: property }).status,
            201
        );
        let first = connector.verdicts(&wanted, &send(connector.upsert(&wanted, &access)));
        let again = connector.verdicts(&wanted, &send(connector.upsert(&wanted, &access)));
        assert_eq!(first, again);
        assert!(matches!(first.as_slice(), [Verdict::Done { id: Some(_) }]));
        assert_eq!(connector.verdicts(&wanted, &send(connector.upsert(&wanted, &token("stale")))).remove(0).name(), "auth");
    }
}
