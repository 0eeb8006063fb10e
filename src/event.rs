//! What happened on a call: the wall between telephony and CRM.
//!
//! The gateway emits [`Event`]s, the pipeline folds them; neither knows the other. On the wire and in the journal an event is a
//! CloudEvent 1.0 in structured JSON ([`Event::to_cloudevent`], [`Event::from_cloudevent`]); the names are a contract: a field may be added, none is
//! renamed or changes its meaning. Times are whole milliseconds since the call's INVITE unless the name says otherwise.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use crate::time::Wall;

/// The gateway's own name for a call: a UUIDv7 made at admission. SIP Call-IDs stand beside it, since carriers reuse them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub Uuid);

impl CallId {
    /// The least that a call may have which begins at `at`: ids are UUIDs of version 7 (RFC 9562 §5.7), whose order is that of time.
    pub fn first_of(at: Wall) -> Self {
        let ms = u128::try_from(at.as_millis()).unwrap_or(0);
        Self(Uuid::from_u128(ms << 80))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CallId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One side of a call: who sent the INVITE, or who got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// The trunk's side: who sent the INVITE. Left in a recording.
    Caller,
    /// The platform's side: who got the INVITE. Right in a recording.
    Callee,
}

impl Leg {
    /// The opposite side.
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    /// The contract's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
        }
    }
}

/// How a call was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Somebody or something took the call.
    Answered,
    /// 486, 600.
    Busy,
    /// 408, 480, or the ring time ran out.
    NoAnswer,
    /// 403, 603, 607, 608.
    Rejected,
    /// 404, 410, 484, 604.
    InvalidNumber,
    /// An answering machine took it.
    Machine,
    /// 503.
    Congestion,
    /// The caller gave up before an answer.
    Cancelled,
    /// Anything else.
    Failed,
}

impl Outcome {
    /// The contract's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Rejected => "rejected",
            Self::InvalidNumber => "invalid_number",
            Self::Machine => "machine",
            Self::Congestion => "congestion",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedAs {
    /// By a BYE of either side.
    Completed,
    /// Handed to somebody else, and ended there.
    Transferred,
    /// By the caller before an answer.
    Cancelled,
    /// By a fault.
    Failed,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The trunk's side.
    Caller,
    /// The platform's side.
    Callee,
    /// The gateway itself.
    Gateway,
}

/// How a digit travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DtmfMethod {
    /// RTP telephone-event (RFC 4733).
    Rfc4733,
    /// SIP INFO with `application/dtmf-relay` or `application/dtmf`.
    Info,
    /// Audible tones.
    Inband,
}

/// Who switched a secure phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecureBy {
    /// The HTTP API.
    Api,
    /// A SIP INFO from the platform.
    Info,
    /// A key sequence of the caller.
    Keys,
    /// A rule of the gateway: a longest time, or the end of the call.
    Rule,
}

/// A value for each side of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerSide<T> {
    /// On the trunk's leg.
    pub trunk: T,
    /// On the platform's leg.
    pub platform: T,
}

/// The SIP Call-IDs of a call's legs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipCallIds {
    /// The trunk's leg.
    pub caller: String,
    /// The platform's leg; none before a target was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callee: Option<String>,
}

/// What both terminal events say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// How the call was met.
    pub outcome: Outcome,
    /// The version of the table of outcomes by which it was judged, so that reports over a change of it can be told apart; none of a call that a restart
    /// ended, and in events of before there was such a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_table: Option<u32>,
    /// How it ended.
    pub ended_as: EndedAs,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// Why, in one place: the rule, the header, the trunk that nearly matched, or a word such as `gateway_restart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The final SIP status of the call, where one was seen or given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_status: Option<u16>,
    /// INVITE to answer, ms; none without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_ms: Option<i64>,
    /// Answer to end, ms; 0 without an answer.
    pub talk_ms: i64,
    /// Sum of all secure phases, ms.
    pub secure_ms: i64,
    /// Events over the call's cap, counted and not written.
    pub omitted: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Kind {
    /// A call was admitted.
    #[serde(rename = "call.started")]
    Started {
        /// The caller's number or user.
        from: String,
        /// The number or user dialled.
        to: String,
        /// The trunk it came from.
        trunk: String,
        /// The route that took it.
        route: String,
        /// The legs' SIP Call-IDs.
        sip_call_ids: SipCallIds,
    },
    /// A target answered and the caller was told.
    #[serde(rename = "call.answered")]
    Answered {
        /// The target that answered.
        target: String,
        /// Codec of each leg.
        codec: PerSide<String>,
        /// DTMF method of each leg; none where none was negotiated.
        dtmf: PerSide<Option<DtmfMethod>>,
        /// INVITE to answer, ms.
        ring_ms: i64,
        /// The platform leg's SIP Call-ID.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sip_call_id: Option<String>,
    },
    /// One finished run of digits.
    #[serde(rename = "call.dtmf")]
    Dtmf {
        /// Who keyed them.
        leg: Leg,
        /// The digits; absent where a secure phase hides them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digits: Option<String>,
        /// How many were hidden; absent where none were.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
        /// How they travelled.
        method: DtmfMethod,
        /// First key down, ms.
        from_ms: i64,
        /// Last key up, ms.
        to_ms: i64,
    },
    /// Every sink has confirmed that it sees nothing any more.
    #[serde(rename = "call.secure.started")]
    SecureStarted {
        /// As given by whoever asked.
        reason: String,
        /// Who asked.
        by: SecureBy,
        /// Media time from which nothing is seen, ms.
        media_ms: i64,
    },
    /// The phase is over.
    #[serde(rename = "call.secure.ended")]
    SecureEnded {
        /// As given at the start.
        reason: String,
        /// Who ended it.
        by: SecureBy,
        /// Media time from which audio is seen again, ms.
        media_ms: i64,
    },
    /// A leg was silent for longer than the route allows.
    #[serde(rename = "call.silence")]
    Silence {
        /// The silent leg.
        leg: Leg,
        /// `silence`, or `no_media` where not even packets came.
        kind: String,
        /// Start of the span, ms.
        from_ms: i64,
        /// Its end so far, ms.
        to_ms: i64,
    },
    /// The caller was handed to somebody else.
    #[serde(rename = "call.transferred")]
    Transferred {
        /// Whereto: the target's URI or number.
        to: String,
        /// Who asked.
        by: Leg,
        /// What went along (User-to-User, X- headers).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// Terminal: a fault ended the call.
    #[serde(rename = "call.failed")]
    Failed(Terminal),
    /// Terminal: the call ended.
    #[serde(rename = "call.ended")]
    Ended(Terminal),
}

impl Kind {
    /// Its CloudEvents type.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "call.started",
            Self::Answered { .. } => "call.answered",
            Self::Dtmf { .. } => "call.dtmf",
            Self::SecureStarted { .. } => "call.secure.started",
            Self::SecureEnded { .. } => "call.secure.ended",
            Self::Silence { .. } => "call.silence",
            Self::Transferred { .. } => "call.transferred",
            Self::Failed(_) => "call.failed",
            Self::Ended(_) => "call.ended",
        }
    }

    /// Whether it is the call's last word.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Ended(_))
    }
}

/// One event of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub call_id: CallId,
    /// From 1 without a gap within a call, given when the event is accepted.
    pub sequence: u32,
    /// When, by the wall clock.
    pub time: Wall,
    /// When, in ms since the call's INVITE.
    pub at_ms: i64,
    /// What.
    pub kind: Kind,
}

/// Why a CloudEvent could not be read as one of ours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("not a call event: {0}; expected a CloudEvent 1.0 with type, subject, time, sequence and data")]
    Shape(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Envelope<'e> {
    subject: CallId,
    sequence: u32,
    time: Wall,
    #[serde(rename = "type", borrow)]
    name: Cow<'e, str>,
    #[serde(borrow)]
    data: &'e RawValue,
}

/// What `data` says of every kind.
#[derive(Deserialize)]
struct Common {
    #[serde(default)]
    at_ms: i64,
}

impl Event {
    /// The id that makes it the same event wherever it turns up again: `CALL_ID/SEQUENCE`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.call_id, self.sequence)
    }

    /// As a CloudEvent 1.0 in structured JSON.
    pub fn to_cloudevent(&self) -> Value {
        let mut data = match serde_json::to_value(&self.kind) {
            Ok(Value::Object(mut tagged)) => tagged.remove("data").unwrap_or_else(|| json!({})),
            _ => json!({}),
        };
        if let Value::Object(fields) = &mut data {
            fields.insert("call_id".into(), json!(self.call_id));
            fields.insert("at_ms".into(), json!(self.at_ms));
        }
        json!({
            "specversion": "1.0",
            "id": self.id(),
            "source": "/offhook/gateway",
            "type": self.kind.name(),
            "subject": self.call_id,
            "time": self.time,
            "sequence": self.sequence,
            "datacontenttype": "application/json",
            "data": data,
        })
    }

    /// Reads what [`Self::to_cloudevent`] wrote.
    pub fn from_cloudevent(json: &[u8]) -> Result<Self, Error> {
        let Envelope { subject, sequence, time, name, data } = serde_json::from_slice(json)?;
        let Common { at_ms } = serde_json::from_str(data.get())?;
        // The type stands first, so that what follows is read into its own shape at once.
        let kind = serde_json::from_str(&format!("{{\"type\":{},\"data\":{data}}}", json!(name)))?;
        Ok(Self { call_id: subject, sequence, time, at_ms, kind })
    }
}
