//! What a platform's API tells of a call: how a schema says it, and how the answer stands in the journal.
//!
//! ```toml
//! [pull]
//! url = "https://api.acme.example/call/{id}"   # unless the configuration says another
//! auth = "bearer"                     # or "basic"
//! id = "/call/id"                     # where its webhooks bear the name by which the API knows a call
//! type = "/status"                    # of the document
//! call = ["/metadata/offhook_call"]   # what else the document calls it; may be left out
//! ignored = ["ongoing"]               # a call that the platform has not done with: it is asked again
//!
//! [pull.event.ended]
//! as = "call.ended"
//! also = { "transcription.complete" = "/analysis" }   # this too, where that is there
//! data.transcript = "/transcript"
//! ```
//! A document is the state of a call, no event: it has no id, and its time is that of the asking. A schema without this part has documents that are what
//! its webhooks are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schema::Rule;
use crate::{event::CallId, time::Wall};

/// The part `[pull]` of a schema.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The API's address, with `{id}`.
    #[serde(default)]
    pub url: Option<String>,
    /// How the API wants its secret.
    #[serde(default)]
    pub auth: Auth,
    /// Where webhooks bear the name by which the API knows a call.
    #[serde(default)]
    pub id: Option<String>,
    /// Where the document's type stands.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where names of the call stand in the document.
    #[serde(default)]
    pub call: Vec<String>,
    /// Types of a call that the platform has not done with.
    #[serde(default)]
    pub ignored: Vec<String>,
    /// What each type is.
    #[serde(rename = "event")]
    pub events: BTreeMap<String, Rule>,
}

/// How an API wants its secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// `Authorization: Bearer SECRET` (RFC 6750).
    #[default]
    Bearer,
    /// `Authorization: Basic`, of a user and the secret (RFC 7617).
    Basic,
}

/// Of which asking an entry is the end. It stands in the entry's head: what it makes of a record is then the fold's, whenever it is folded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// Whose call was asked for.
    pub call: CallId,
    /// What was to come until then is what was asked for.
    pub until: Wall,
    /// The answer's status; none where nothing was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there is no document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
