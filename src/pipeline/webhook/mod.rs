//! Webhooks: whether who sent one may be believed ([`scheme`]), and what one of schema `generic` tells.

mod key;
pub mod scheme;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::Wall;

pub use key::Key;
pub use scheme::{Bad, Scheme};

/// Somebody who sends webhooks.
#[derive(Clone, Debug)]
pub struct Source {
    /// How he signs.
    pub scheme: Scheme,
    /// What he signs with: while keys are changed, the new one and the old one.
    pub keys: Vec<Key>,
    /// The header that holds the signature, where it is not the scheme's own.
    pub header: Option<String>,
    /// The address that he was given, as he sees it, without query: some sign it.
    pub public_url: Option<String>,
}

impl Source {
    /// One that signs as Standard Webhooks has it.
    pub fn standard(key: Key) -> Self {
        Self { scheme: scheme::STANDARD_WEBHOOKS, keys: vec![key], header: None, public_url: None }
    }

    /// Whether one of the keys signed it; `now` is the system's wall clock as it is.
    pub fn verify(&self, request: &Request<'_>, now: Wall) -> Result<(), Bad> {
        let mut last = Bad::Signature(self.scheme.hint);
        for key in &self.keys {
            match self.scheme.verify(key, self, request, now) {
                Ok(()) => return Ok(()),
                Err(bad) => last = bad,
            }
        }
        Err(last)
    }
}

/// A webhook as it came.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    /// Names in any case, and values.
    pub headers: &'r [(String, String)],
    /// What follows the question mark of its address, as it came; empty without.
    pub query: &'r str,
    /// Its body, as it came.
    pub body: &'r [u8],
}

impl Request<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
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
