//! A capture file, in the capture's own time: what SIP, RTP and keys it holds, as the contract's JSON.
//!
//! Observing answers nothing and hides nothing; [`drive`] puts the gateway between the far ends. Bytes in, a report out.

mod calls;
pub mod drive;
pub mod expect;
mod observer;
#[cfg(feature = "shell")]
pub mod page;
mod sounds;
mod source;
mod streams;
mod tcp;
#[cfg(feature = "shell")]
pub mod verdict;

use std::{collections::BTreeMap, net::SocketAddr};

use serde::Serialize;

use crate::{
    event::{DtmfMethod, Leg, Outcome},
    pcap,
    sip::message::{Message, Method},
    time::Wall,
};

pub use observer::Observer;

/// What a capture holds.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Frames read.
    pub frames: u64,
    /// Where it can be read no further.
    pub stopped: Option<Stopped>,
    /// Frames that carry nothing of ours; the first thousand.
    pub ignored: Vec<Ignored>,
    /// How many more there were.
    pub ignored_more: u64,
    /// RTCP packets.
    pub rtcp: u64,
    /// Its SIP.
    pub sip: Sip,
    /// One a dialog.
    pub calls: Vec<Call>,
    /// RTP that no signalling in the file explains.
    pub unassigned: Unassigned,
}

/// Where a file can be read no further.
#[derive(Debug, Serialize)]
pub struct Stopped {
    /// Last frame read.
    pub frame: u64,
    /// Octets from the start.
    pub offset: u64,
    /// What is wrong.
    pub why: &'static str,
}

/// A frame that carries nothing of ours.
#[derive(Debug, Serialize)]
pub struct Ignored {
    /// Its number.
    pub frame: u64,
    /// Why.
    pub why: &'static str,
}

/// Counts over all SIP messages.
#[derive(Debug, Default, Serialize)]
pub struct Sip {
    /// All of them.
    pub messages: u64,
    /// Requests by method.
    pub requests: BTreeMap<String, u64>,
    /// Responses by status.
    pub responses: BTreeMap<u16, u64>,
    /// Different Call-IDs.
    pub call_ids: usize,
    /// Call-IDs with an INVITE.
    pub invite_dialogs: usize,
    /// Of those, answered with 2xx.
    pub answered: usize,
    /// Messages by transport.
    pub transports: BTreeMap<&'static str, u64>,
}

/// One dialog.
#[derive(Debug, Serialize)]
pub struct Call {
    /// Its SIP Call-ID.
    pub call_id: String,
    /// When its first INVITE was captured.
    pub invite_at: Wall,
    /// INVITE to its first 2xx, ms.
    pub answer_ms: Option<i64>,
    /// INVITE to BYE or final refusal, ms.
    pub end_ms: Option<i64>,
    /// How it was met.
    pub outcome: Option<Outcome>,
    /// How it ended.
    pub ended_as: &'static str,
    /// The other leg, where the file holds both.
    pub peer_call_id: Option<String>,
    /// The dialog that a gateway makes this one for; of several such a peer names one only.
    #[serde(skip)]
    pub parent_call_id: Option<String>,
    /// What the answer took.
    pub codec: Option<String>,
    /// How keys travel.
    pub dtmf: Option<DtmfMethod>,
    /// Every message.
    pub ladder: Vec<Step>,
    /// Every key.
    pub digits: Vec<Digit>,
    /// When each leg spoke and when it was silent.
    pub sounds: Vec<Span>,
    /// RTP.
    pub streams: Vec<Stream>,
    /// What the same call would have raised live; empty until the core is driven.
    pub events: Vec<serde_json::Value>,
    /// What the gateway made of it, where it was driven.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub play: Option<drive::Play>,
}

/// One message of a ladder.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Since the INVITE.
    pub at_ms: i64,
    /// In which frame it ended; none where no file holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<u64>,
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// Seen before, octet for octet, between the same two.
    pub retransmission: bool,
    /// In a few words.
    pub summary: String,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digit {
    /// Who pressed it; none where no signalling tells.
    pub leg: Option<Leg>,
    /// Which; absent where a secure phase of the configuration hides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digit: Option<String>,
    /// A secure phase hides it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
    /// Since the INVITE, or since the file's first frame.
    pub at_ms: i64,
    /// How long it was held.
    pub duration_ms: u32,
    /// How it came.
    pub method: DtmfMethod,
    /// Whether its end was seen.
    pub complete: bool,
}

/// A span of one leg's sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Whose.
    pub leg: Leg,
    /// `speech` or `silence`: a detector that tells no more apart.
    pub kind: &'static str,
    /// Its start since the INVITE.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
}

/// One SSRC and payload type from one address to another.
#[derive(Debug, Serialize)]
pub struct Stream {
    /// Who sends it; none where no signalling tells.
    pub leg: Option<Leg>,
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// Source.
    pub ssrc: String,
    /// Payload type.
    pub pt: u8,
    /// What that stands for; none where nothing tells.
    pub codec: Option<String>,
    /// Packets that arrived, doubles too.
    pub packets: u64,
    /// Octets of payload.
    pub octets: u64,
    /// Sequence number of the first.
    pub first_seq: u16,
    /// Of the last.
    pub last_seq: u16,
    /// Missing.
    pub lost: u64,
    /// Came twice.
    pub duplicates: u64,
    /// Came late.
    pub reordered: u64,
    /// RFC 3550 §6.4.1, ms.
    pub jitter_ms: f64,
    /// Of the payloads in sequence order, doubles once.
    pub payload_sha256: String,
    /// Of all payloads in the order of capture.
    pub captured_sha256: String,
    /// Of the audio, where the codec is one of ours.
    pub audio_sha256: Option<String>,
}

/// What no signalling explains.
#[derive(Debug, Default, Serialize)]
pub struct Unassigned {
    /// RTP.
    pub streams: Vec<Stream>,
    /// Keys.
    pub digits: Vec<Digit>,
}

/// Names for dynamic payload types of RTP that no signalling explains, and the Hz of their clocks.
pub type Rtpmap = BTreeMap<u8, (String, u32)>;

/// Looks at a whole capture that is in memory.
pub fn observe(file: &[u8], rtpmap: &Rtpmap) -> Result<Report, pcap::Stopped> {
    let mut observer = Observer::new(rtpmap.clone());
    observer.push(file);
    let calls = std::iter::from_fn(|| observer.next_call()).collect::<Vec<_>>();
    let (report, rest) = observer.finish()?;
    let mut calls = calls.into_iter().chain(rest).collect::<Vec<_>>();
    calls.sort_by_key(|(place, _)| *place);
    Ok(Report { calls: calls.into_iter().map(|(_, call)| call).collect(), ..report })
}

/// A datagram as a SIP message; not every datagram that could be one is.
fn sip(octets: &[u8]) -> Option<Message> {
    let line = octets.split(|o| *o == b'\r' || *o == b'\n').next()?;
    let is_status = line.starts_with(b"SIP/2.0 ");
    let is_request = line.ends_with(b" SIP/2.0");
    (is_status || is_request).then(|| Message::parse(octets).ok()).flatten()
}

fn call_id(message: &Message) -> &str {
    match message {
        Message::Request(request) => request.call_id(),
        Message::Response(response) => response.call_id(),
    }
}

fn is_invite(message: &Message) -> bool {
    let method = match message {
        Message::Request(request) => request.cseq(),
        Message::Response(response) => response.cseq(),
    };
    method.is_ok_and(|(_, method)| method == Method::INVITE)
}

#[cfg(test)]
mod tests;
