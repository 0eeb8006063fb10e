//! Webhooks: which are taken ([`Ingest`]), whether who sent one may be believed ([`scheme`], `verify`), how one stands in the journal ([`received`]), whether it was there
//! before ([`Marks`]), and what it tells ([`schema`]); and what is asked of a platform where one was lost ([`pulled`]).

pub mod drift;
mod ingest;
mod key;
mod mark;
mod mask;
pub mod pulled;
pub mod received;
pub mod schema;
#[cfg(test)]
mod schema_tests;
pub mod scheme;
pub mod template;
#[cfg(test)]
mod tests;
mod verify;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Pull;
use crate::time::Wall;

pub use drift::{Drift, Odd};
pub use ingest::{Ingest, Refusal};
pub use key::Key;
pub use mark::Marks;
pub use received::Received;
pub use schema::{Reading, Schema};
pub use scheme::Scheme;
pub use verify::Bad;

/// Somebody who sends webhooks.
#[derive(Clone, Debug)]
pub struct Source {
    /// How he signs.
    pub scheme: Scheme,
    /// Where his webhooks say what.
    pub schema: Schema,
    /// What he signs with: while keys are changed, the new one and the old one.
    pub keys: Vec<Key>,
    /// The address that he was given, as he sees it, without query: some sign it.
    pub public_url: Option<String>,
    /// How his API is asked for what a webhook lost, where it is.
    pub pull: Option<Pull>,
}

impl Source {
    /// One that signs as Standard Webhooks has it and sends what offhook itself asks for.
    pub fn standard(key: Key) -> Self {
        Self { scheme: Scheme::standard_webhooks(), schema: Schema::generic(), keys: vec![key], public_url: None, pull: None }
    }

    /// Whether one of the keys signed it; `now` is the system's wall clock as it is.
    pub fn verify(&self, request: &Request<'_>, now: Wall) -> Result<(), Bad> {
        let mut last = None;
        for key in &self.keys {
            match self.scheme.verify(key, self.public_url.as_deref(), request, now) {
                Ok(()) => return Ok(()),
                Err(bad) => last = Some(bad),
            }
        }
        Err(last.unwrap_or_else(|| Bad::Signature(self.scheme.hint.clone())))
    }

    /// What an entry of his tells, which was journaled at `at`: a webhook, or what his API has answered.
    pub(super) fn reading(&self, received: &Received<'_>, at: Wall) -> Reading {
        match &received.head.pulled {
            None => self.schema.read(received, received.head.came.unwrap_or(at)),
            Some(pulled) if pulled.why.is_some() => Reading::Nothing,
            Some(pulled) => self.schema.read_document(received.body, pulled.call, at),
        }
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
    /// The sender's name for it: the same id is the same webhook. Empty where he gives none.
    pub id: String,
    /// Such as `call.ended`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ours or the platform's own.
    pub call_id: String,
    /// What else names the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// When, by the sender's clock.
    pub time: Wall,
    /// The fields that a record takes.
    #[serde(default)]
    pub data: Map<String, Value>,
    /// What else it is, by the catalogue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// By which name the sender's API knows the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_as: Option<String>,
    /// Who told it, where his API may be asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// What a record takes from a webhook.
pub(super) const FIELDS: [&str; 8] =
    ["disposition_code", "call_summary", "call_outcome", "intent", "sentiment_score", "next_action_date", "transcript", "entities"];
