//! What a demo found out: the document that `--json` prints, field by field as the contract has it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::event::{DtmfMethod, PerSide};

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every check of every call, and every check over all of them, held.
    pub ok: bool,
    /// How long it took.
    pub seconds: f64,
    /// The folder that holds everything the run wrote.
    pub data: String,
    /// The journal's folder.
    pub journal: String,
    /// The log files.
    pub logs: Vec<String>,
    /// The CRM sandbox's ledger; none when the CRM is somebody else's.
    pub ledger: Option<String>,
    /// The gateway's HTTP address.
    pub http: String,
    /// What holds over all calls.
    pub checks: Vec<Check>,
    /// One entry a call.
    pub calls: Vec<CallReport>,
}

/// One thing that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What should hold.
    pub name: String,
    /// Whether it did.
    pub ok: bool,
    /// What was looked at, or what was found instead.
    pub detail: String,
}

impl Check {
    /// A check with its finding.
    pub fn new(name: impl Into<String>, ok: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok, detail: detail.into() }
    }

    /// A check that holds when both say the same; says what was found where they do not.
    pub fn equal(name: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let (found, expected) = (found.into(), expected.into());
        let ok = found == expected;
        let detail = if ok { found } else { format!("found {found:?}, expected {expected:?}") };
        Self::new(name, ok, detail)
    }
}

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct CallReport {
    /// `completed`, `transferred`, `hung_up`, `failed` or `dtmf_collected`.
    pub scenario: String,
    /// What the call is meant to show, in a sentence.
    pub story: String,
    /// Whether all its checks held.
    pub ok: bool,
    /// The gateway's name for it; none when no event came.
    pub call_id: Option<String>,
    /// The codec that each leg negotiated, by the phones' own account.
    pub codec: PerSide<Option<String>>,
    /// How digits travel on each leg.
    pub dtmf: PerSide<Option<DtmfMethod>>,
    /// Who took part, in the order of the ladder's columns.
    pub participants: Vec<Participant>,
    /// Every SIP message of the call on the wire.
    pub ladder: Vec<Step>,
    /// The CloudEvents of the call.
    pub events: Vec<Value>,
    /// What stands in the CRM.
    pub crm: Option<Crm>,
    /// Its recording.
    pub recording: Option<Recording>,
    /// What was verified.
    pub checks: Vec<Check>,
}

/// Somebody in a ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Participant {
    /// What stands above the line.
    pub name: String,
    /// Its SIP addresses as the steps write them.
    pub addresses: Vec<String>,
}

/// One SIP message on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Milliseconds since the call's INVITE.
    pub at_ms: i64,
    /// Sender.
    pub from: String,
    /// Receiver.
    pub to: String,
    /// `udp` or `tcp`.
    pub transport: String,
    /// Whether the same message was sent before.
    pub retransmission: bool,
    /// Method or status, and what its body offers.
    pub summary: String,
}

/// The CRM record of a call.
#[derive(Clone, Debug, Serialize)]
pub struct Crm {
    /// Connector.
    pub target: String,
    /// Object type.
    pub object: String,
    /// The CRM's own id of the record.
    pub id: String,
    /// How often it was written.
    pub writes: u64,
    /// Field by field.
    pub fields: BTreeMap<String, Value>,
}

/// The recording of a call.
#[derive(Clone, Debug, Serialize)]
pub struct Recording {
    /// The stereo WAV.
    pub file: String,
    /// The sidecar.
    pub manifest: String,
    /// The waveform as a picture.
    pub image: Option<String>,
    /// Where the file begins, ms since the call's INVITE.
    pub starts_at_ms: i64,
    /// Samples a second and channel.
    pub sample_rate: u32,
    /// Spans that hold nothing, ms since the call's INVITE.
    pub masked: Vec<Masked>,
}

/// One masked span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Masked {
    /// Its start.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
    /// Why.
    pub reason: String,
}
