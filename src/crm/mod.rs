//! CRMs as pure translators: a change becomes a request value, an answer a verdict. Nothing here sends.

pub mod bulk;
pub mod contact;
pub mod dynamics;
pub(crate) mod form;
pub mod http;
pub mod hubspot;
pub mod mapping;
pub mod reader;
pub mod salesforce;
pub mod sandbox;
pub mod setup;

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{event::CallId, time::Wall};

/// A request to a CRM. Authorisation and call data are in it, so it does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// The whole address.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpRequest({} {}, {} octets)", self.method, self.url, self.body.len())
    }
}

/// What a CRM answered.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether it did as it was asked.
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// How long it asks to be left alone (RFC 9110 §10.2.3): so many seconds, or until a date, which counts from the answer's own `Date` (§6.6.1), since the
    /// sender's clock made both. Whoever receives an answer without a `Date` puts the time of receipt there.
    pub fn retry_after(&self) -> Option<Duration> {
        let asked = self.header("retry-after")?.trim();
        let date = |text: &str| httpdate::parse_http_date(text.trim()).ok();
        let until = || Some(date(asked)?.duration_since(date(self.header("date")?)?).unwrap_or_default());
        let wait = asked.parse().ok().map(Duration::from_secs).or_else(until)?;
        Some(wait.min(RETRY_AFTER_MAX))
    }
}

impl fmt::Debug for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpAnswer({}, {} octets)", self.status, self.body.len())
    }
}

/// What an answer means for the write that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Written; the CRM's id of the record where it told one.
    Done {
        /// The id.
        id: Option<String>,
    },
    /// Written, and a record was made of it that should have been there: somebody has taken it away. All that it is to hold is told again.
    Anew {
        /// As with [`Self::Done`].
        id: Option<String>,
    },
    /// Not written for now: try again.
    Retry {
        /// When the CRM says so.
        after: Option<Duration>,
        /// For people.
        why: String,
    },
    /// Not written, since the CRM does not work for now (408 and 5xx, of the whole or of this record's part of it): try again. Where it says so of all that it was
    /// asked, the circuit breaker counts it.
    Down {
        /// When the CRM says so.
        after: Option<Duration>,
        /// For people.
        why: String,
    },
    /// Not written, over quota: the whole lane waits; costs no attempt.
    Throttled {
        /// When the CRM says so.
        after: Option<Duration>,
        /// For people.
        why: String,
    },
    /// The access token is refused.
    Auth {
        /// For people.
        why: String,
    },
    /// The record is refused by validation: a person has to look.
    Rejected {
        /// The CRM's reason.
        why: String,
    },
    /// Another record stands in the way, and nothing was written: somebody made the same one at the same moment, or it bears a value that only one may bear.
    /// Written again a moment later, the first is an update; where that is refused so too, a person has to look.
    Conflict {
        /// The CRM's reason.
        why: String,
    },
    /// The request is refused for the sake of one of its records, nobody knows which: nothing was written, and each half is sent by itself.
    Split {
        /// For people.
        why: String,
    },
    /// What should be written to is gone, or the set-up is wrong: a person has to look.
    Gone {
        /// The CRM's reason.
        why: String,
    },
    /// The person whom the record names is there no more: he is looked for again.
    PersonGone {
        /// The CRM's reason.
        why: String,
    },
    /// Nobody knows whether it was written; writing it again is harmless, since it bears the same key.
    Ambiguous {
        /// For people.
        why: String,
    },
}

impl Verdict {
    /// The contract's word; a split is a retry in smaller parts, a conflict one more try, and what was made anew is written.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Done { .. } | Self::Anew { .. } => "done",
            Self::Retry { .. } | Self::Down { .. } | Self::Split { .. } | Self::Conflict { .. } => "retry",
            Self::Throttled { .. } => "throttled",
            Self::Auth { .. } => "auth",
            Self::Rejected { .. } => "rejected",
            Self::Gone { .. } | Self::PersonGone { .. } => "gone",
            Self::Ambiguous { .. } => "ambiguous",
        }
    }

    /// What the CRM said, for people; none where it was written.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Done { .. } | Self::Anew { .. } => None,
            Self::Retry { why, .. }
            | Self::Down { why, .. }
            | Self::Throttled { why, .. }
            | Self::Auth { why }
            | Self::Rejected { why }
            | Self::Conflict { why }
            | Self::Split { why }
            | Self::Gone { why }
            | Self::PersonGone { why }
            | Self::Ambiguous { why } => Some(why),
        }
    }
}

/// The fields of one record, by the CRM's names: texts, numbers, true and false, as the mapping forms them. A connector whose API takes only texts
/// writes them as such.
pub type Fields = BTreeMap<String, Value>;

/// What of `wanted` is not in `has` as it should be.
pub fn difference(wanted: &Fields, has: &Fields) -> Fields {
    wanted.iter().filter(|(name, value)| has.get(*name) != Some(*value)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What is to be changed of one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The key that the record bears, [`record_key`].
    pub key: String,
    /// The CRM's id of it, where an earlier answer told one.
    pub id: Option<String>,
    /// Fields that differ from what the CRM has.
    pub fields: Fields,
    /// What the CRM has acknowledged so far.
    pub written: Fields,
}

impl Change {
    /// The fields whose value is this, as text: of a refusal that quotes a value and names no field.
    fn holding(&self, quoted: &str) -> Vec<&str> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.fields.iter().filter(|(_, value)| text(value) == quoted).map(|(name, _)| name.as_str()).collect()
    }
}

/// The key that a call bears in every CRM: 40 hex digits, since CRM keys refuse characters that call ids of other makers hold.
pub fn record_key(call: CallId) -> String {
    key_of(&call.to_string())
}

/// The key of whatever bears that name.
pub fn key_of(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    hex::encode(digest.get(..KEY_OCTETS).unwrap_or(&digest))
}

/// 160 bits: no two calls share them.
const KEY_OCTETS: usize = 20;

/// A query of these parameters, for an address.
fn query(parameters: &[(&str, &str)]) -> String {
    parameters.iter().map(|(name, value)| format!("{name}={}", form::encoded(value))).collect::<Vec<_>>().join("&")
}

/// An access token.
#[derive(Clone)]
pub struct Token {
    /// Goes with each request.
    pub access: zeroize::Zeroizing<String>,
    /// How long it is good.
    pub expires: Duration,
    /// The refresh token that replaces the one used, where the CRM rotates them.
    pub refresh: Option<zeroize::Zeroizing<String>>,
    /// Where its requests go, where the answer names another address than the configured one (Salesforce's `instance_url`).
    pub base_url: Option<String>,
}

impl Token {
    /// What stands for a token where a standing secret goes with each request: it does not end by itself.
    pub fn standing() -> Self {
        Self { access: zeroize::Zeroizing::default(), expires: Duration::from_secs(365 * 86_400), refresh: None, base_url: None }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What an answer tells of how much more may be asked, by everybody who shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Requests of a window that turns over soon.
    Window {
        /// Left in it.
        left: u64,
        /// Of so many.
        most: u64,
        /// How long it lasts.
        length: Duration,
    },
    /// Of a day.
    Day {
        /// Used so far.
        used: u64,
        /// Of so many.
        most: u64,
    },
}

/// A CRM's contract: how changes are asked for, and what an answer means.
pub trait Connector: Send {
    /// Most changes that one request may carry.
    fn batch_max(&self) -> usize;
    /// Writes `changes`, no two with one key, each to the record that bears its key, made where it is missing.
    fn upsert(&self, changes: &[Change], token: &Token) -> HttpRequest;
    /// What the answer to an upsert of `changes` means for each of them, in their order.
    fn verdicts(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict>;
    /// What the answer to any request tells of the CRM's budgets.
    fn budgets(&self, _answer: &HttpAnswer) -> Vec<Budget> {
        Vec::new()
    }
    /// What a request that writes `changes` costs of a day's budget.
    fn cost(&self, _changes: &[Change]) -> u64 {
        1
    }
    /// Whether a change is written in parts, so that what is refused may be written in part.
    fn writes_in_parts(&self) -> bool {
        false
    }
    /// How access tokens are got; none where the CRM takes a standing secret.
    fn oauth(&self) -> Option<&dyn OAuth>;
    /// Who reads its records back; none where it has no way to.
    fn reader(&self) -> Option<&dyn reader::Reader> {
        None
    }
    /// Who describes its objects and makes fields; none where it has no way to.
    fn setup(&self) -> Option<&dyn setup::Setup> {
        None
    }
    /// Who takes many records as one job; none where there are no jobs.
    fn bulk(&self) -> Option<&dyn bulk::Bulk> {
        None
    }
    /// Who knows its people; none where it has none that can be searched.
    fn people(&self) -> Option<&dyn contact::People> {
        None
    }
}

/// How a CRM gives access tokens (RFC 6749).
pub trait OAuth {
    /// Asks for an access token. `refresh_token`: the latest that the CRM gave, where its grant uses one; `at`: the wall clock, for grants that are signed.
    fn grant(&self, refresh_token: &str, at: Wall) -> HttpRequest;
    /// The token in the answer to that, or why there is none.
    fn token(&self, answer: &HttpAnswer) -> Result<Token, Verdict>;
}

/// Longest wait that is believed: no quota is of more than a day, and a wrong clock may ask for years.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_a_date() {
        let asked = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            HttpAnswer { status: 429, headers, body: Vec::new() }.retry_after()
        };
        let date = ("date", "Fri, 31 Dec 1999 23:59:00 GMT");
        let seconds = |n| Some(Duration::from_secs(n));
        for (value, wanted) in [
            ("37", seconds(37)),
            (" 0 ", seconds(0)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", seconds(59)),
            // The forms of old that a recipient must read (RFC 9110 §5.6.7).
            ("Friday, 31-Dec-99 23:59:59 GMT", seconds(59)),
            ("Fri Dec 31 23:59:59 1999", seconds(59)),
            ("Fri, 31 Dec 1999 23:00:00 GMT", seconds(0)),
            ("Thu, 31 Dec 2099 23:59:59 GMT", seconds(86_400)),
            ("99999999999", seconds(86_400)),
            ("soon", None),
            ("-3", None),
            ("1.5", None),
        ] {
            assert_eq!(asked(&[date, ("retry-after", value)]), wanted, "{value}");
        }
        assert_eq!(asked(&[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")]), None, "nobody knows from when on");
        assert_eq!(asked(&[date]), None);
    }

    /// Salesforce compares external ids without regard to case, and a key is part of an address: nothing but one alphabet of hex digits is safe everywhere.
    #[test]
    fn a_key_is_of_lower_case_hex_digits_and_tells_calls_apart() {
        let call = |n: u8| -> CallId { format!("019b8d99-6ce8-7000-8000-0000000000{n:02}").parse().expect("a call id") };
        let keys: std::collections::BTreeSet<_> = (0..50).map(|n| record_key(call(n))).collect();
        assert_eq!(keys.len(), 50);
        for key in keys.iter().chain([&key_of("+4930123456"), &key_of("Größe/x?y&z")]) {
            assert!(key.len() == 40 && key.bytes().all(|o| matches!(o, b'0'..=b'9' | b'a'..=b'f')), "{key}");
        }
        assert_eq!(record_key(call(1)), record_key(call(1)));
    }
}
