//! Webhooks of schema `generic`: whether their signature is good (Standard Webhooks), and what they tell.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::time::Wall;

/// A signing key.
#[derive(Clone)]
pub struct Key(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Reads `whsec_BASE64`, `BASE64` or `raw:TEXT`; none where it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let octets = match text.strip_prefix("raw:") {
            Some(raw) => raw.as_bytes().to_vec(),
            None => STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok()?,
        };
        (!octets.is_empty()).then(|| Self(Zeroizing::new(octets)))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        Some(mac)
    }

    /// The value of `webhook-signature` for this body.
    pub fn sign(&self, id: &str, at: Wall, body: &[u8]) -> String {
        let timestamp = at.as_millis().div_euclid(1000).to_string();
        let mac = self.mac(id, &timestamp, body).map(|m| m.finalize().into_bytes().to_vec()).unwrap_or_default();
        format!("v1,{}", STANDARD.encode(mac))
    }

    /// Whether the headers sign `body`; its id where they do.
    pub fn verify<'h>(&self, headers: &'h [(String, String)], body: &[u8], now: Wall) -> Result<&'h str, Bad> {
        let header = |name: &'static str| {
            headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).ok_or(Bad::Missing(name))
        };
        let (id, timestamp, signatures) = (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
        let seconds: i64 = timestamp.parse().map_err(|_| Bad::Timestamp)?;
        let off = now.as_millis().div_euclid(1000).saturating_sub(seconds);
        if off.saturating_abs() > TOLERANCE_S {
            return Err(Bad::Old(off));
        }
        let expected = self.mac(id, timestamp, body).ok_or(Bad::Signature)?.finalize().into_bytes();
        // Several signatures stand side by side while a key is changed.
        let fits = |signature: &str| {
            signature.strip_prefix("v1,").and_then(|s| STANDARD.decode(s).ok()).is_some_and(|given| bool::from(given.ct_eq(&expected[..])))
        };
        if signatures.split(' ').any(fits) { Ok(id) } else { Err(Bad::Signature) }
    }
}

/// Why a webhook is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// A header is missing.
    #[error("the header {0} is missing; sign as Standard Webhooks says: webhook-id, webhook-timestamp, webhook-signature")]
    Missing(&'static str),
    /// The timestamp is no number.
    #[error("webhook-timestamp is no number of seconds since 1970")]
    Timestamp,
    /// Too old or from the future: it may be a recording.
    #[error("webhook-timestamp is {0} s off; more than 300 are refused: see both clocks, and sign each retry anew")]
    Old(i64),
    /// None of the signatures fits.
    #[error("no signature fits; sign ID.TIMESTAMP.BODY with HMAC-SHA256 and the key of this source's secret_file")]
    Signature,
}

/// What a webhook tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// The sender's name for it: the same id is the same webhook.
    pub id: String,
    /// Such as `call.ended`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ours or the platform's own.
    pub call_id: String,
    /// When, by the sender's clock.
    pub time: Wall,
    /// The fields that a record takes.
    #[serde(default)]
    pub data: Map<String, Value>,
}

/// Not a payload of schema `generic`.
#[derive(Debug, thiserror::Error)]
#[error("the body cannot be used: {0}; expected {{\"id\", \"type\", \"call_id\", \"time\", \"data\": {{…}}}}")]
pub struct Malformed(#[from] serde_json::Error);

impl Payload {
    /// Reads a body; fields that a record does not take are left out.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut payload: Self = serde_json::from_slice(body)?;
        payload.data.retain(|name, value| FIELDS.contains(&name.as_str()) && !value.is_null());
        Ok(payload)
    }
}

/// What a record takes from a webhook.
const FIELDS: [&str; 8] =
    ["disposition_code", "call_summary", "call_outcome", "intent", "sentiment_score", "next_action_date", "transcript", "entities"];
/// How far the sender's clock may be off: as Standard Webhooks' libraries have it.
const TOLERANCE_S: i64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(signature: &str, timestamp: &str) -> Vec<(String, String)> {
        [("webhook-id", "msg_1"), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .to_vec()
    }

    #[test]
    fn a_signature_of_the_standards_own_example_is_good() {
        // The vector that the Standard Webhooks libraries test with.
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let now = Wall::from_millis(1_614_265_330_000);
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        assert_eq!(key.sign(id, now, body), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_not_signed_so_is_refused() {
        let key = Key::parse("raw:hush").expect("a key");
        let now = Wall::from_millis(1_700_000_000_000);
        let good = key.sign("msg_1", now, b"body");
        let at = "1700000000";
        assert_eq!(key.verify(&headers(&good, at), b"body", now), Ok("msg_1"));
        assert_eq!(key.verify(&headers(&format!("v1,AAAA {good}"), at), b"body", now), Ok("msg_1"), "one of several");
        assert_eq!(key.verify(&headers(&good, at), b"bodY", now), Err(Bad::Signature));
        assert_eq!(key.verify(&headers(&good, "1700000001"), b"body", now), Err(Bad::Signature));
        assert_eq!(key.verify(&headers(&good, at), b"body", Wall::from_millis(1_700_000_301_000)), Err(Bad::Old(301)));
        assert_eq!(key.verify(&[], b"body", now), Err(Bad::Missing("webhook-id")));
        let other = Key::parse("raw:other").expect("a key");
        assert_eq!(other.verify(&headers(&good, at), b"body", now), Err(Bad::Signature));
    }

    #[test]
    fn a_payload_keeps_the_fields_that_a_record_takes() {
        let body = br#"{"id":"1","type":"call.ended","call_id":"c","time":"2026-01-05T10:00:00Z","data":{"intent":"buy","card":"4111","call_summary":null}}"#;
        let payload = Payload::parse(body).expect("a payload");
        assert_eq!(payload.data.keys().collect::<Vec<_>>(), ["intent"]);
        assert!(Payload::parse(b"{}").is_err());
    }
}
