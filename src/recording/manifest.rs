//! The sidecar: what stands beside a recording as JSON. Times are whole milliseconds since the call's INVITE, as in events.

use serde::{Deserialize, Serialize};

use crate::{
    event::{CallId, PerSide},
    time::Wall,
};

/// A span in which both channels are silent because a secure phase was on. What `from_ms..to_ms` covers holds no sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masked {
    /// Its start, rounded down.
    pub from_ms: i64,
    /// Its end, rounded up; absent while the phase lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<i64>,
    /// As given by whoever asked for the phase.
    pub reason: String,
}

/// Packets of one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Put into the recording.
    pub written: u64,
    /// Missing: their place is silence.
    pub lost: u64,
    /// Come too late to be put in their place.
    pub late: u64,
}

/// What the sidecar says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Whose.
    pub call_id: CallId,
    /// Name of the WAV beside it.
    pub file: String,
    /// When the first sample was, by the wall clock.
    pub starts_at: Wall,
    /// The same, ms since the INVITE.
    pub starts_at_ms: i64,
    /// Length, ms.
    pub duration_ms: i64,
    /// Samples a second of the file.
    pub sample_rate: u32,
    /// What stands left and what right.
    pub channels: [String; 2],
    /// Codecs heard on each leg, in order of first appearance.
    pub codecs: PerSide<Vec<String>>,
    /// What is masked, in order.
    pub masked: Vec<Masked>,
    /// Packets of each leg.
    pub frames: PerSide<Frames>,
    /// Packets that the recorder was too slow to take, of both legs.
    pub dropped: u64,
    /// Whether sound is missing that the gateway had: packets dropped or too late, or a write that failed.
    pub degraded: bool,
    /// Whether the recording was closed in order. False in what a crash leaves.
    pub complete: bool,
    /// SHA-256 of the closed WAV, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Manifest {
    /// As the text of the sidecar.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads what [`Self::to_json`] wrote.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(Error)
    }
}

/// A file that is no sidecar.
#[derive(Debug, thiserror::Error)]
#[error("not the sidecar of a recording: {0}; expected the JSON that stands beside the WAV under the same name")]
pub struct Error(serde_json::Error);
