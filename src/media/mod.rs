//! THE packet machine: relays RTP between the legs of calls, transcodes where it must, decides and regenerates keys, notices silence, and holds the secure
//! gate that nothing of a card gets past.
//!
//! Commands come keyed by call, packets by port; nothing is allocated per packet. It knows no SIP, no SDP and no socket: what to send and what to record
//! goes out through [`Wire`], what happened through [`Media::poll_output`].

mod call;
mod leg;
mod machine;
mod outbound;
pub mod tap;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

pub use machine::{Config, Media, Output, Port, Wire};
pub use tap::{Tap, TapFrame};

use crate::{
    codec::Codec,
    dtmf::Digit,
    event::{CallId, DtmfMethod, Leg},
    time::Instant,
};

/// What signalling wants done.
#[derive(Clone, Debug)]
pub enum Command {
    /// A leg needs a port. Answered by [`Report::Opened`] or [`Report::BindFailed`].
    Open {
        /// Whose.
        call: CallId,
        /// Which side.
        leg: Leg,
        /// Address and port, chosen by the gateway.
        local: SocketAddr,
    },
    /// Offer and answer are through, for the first time or again.
    Agree {
        /// Whose.
        call: CallId,
        /// Which side.
        leg: Leg,
        /// What was agreed on.
        agreed: Stream,
    },
    /// Lets sound and keys through between the legs, or stops them.
    Bridge {
        /// Whose.
        call: CallId,
        /// Whether they pass.
        on: bool,
    },
    /// A leg is gone (failover, transfer); another may open in its place.
    Close {
        /// Whose.
        call: CallId,
        /// Which side.
        leg: Leg,
    },
    /// A key that came by INFO, to be sent to a leg as telephone-event.
    Digit {
        /// Whose.
        call: CallId,
        /// To which side.
        to: Leg,
        /// Which key.
        digit: Digit,
        /// How long it was held, ms.
        duration_ms: u32,
    },
    /// Shuts the gate or opens it. Every sink answers with [`Report::Secured`] or [`Report::SinkFailed`].
    Secure {
        /// Whose.
        call: CallId,
        /// Comes back with the answers.
        ask: u32,
        /// Whether it is shut.
        on: bool,
        /// Why, for the recording's sidecar.
        reason: Option<String>,
    },
    /// Sequences of the caller's keys that shut and open the gate; empty for none.
    Keys {
        /// Whose.
        call: CallId,
        /// Shuts it.
        start: Vec<Digit>,
        /// Opens it.
        end: Vec<Digit>,
    },
    /// What is to be noticed about a leg; 0 for not at all.
    Watch {
        /// Whose.
        call: CallId,
        /// Which side.
        leg: Leg,
        /// Silence longer than this is reported, ms.
        silence_ms: u32,
        /// No packet for longer than this is reported, ms.
        no_media_ms: u32,
    },
    /// What passes from now on is recorded.
    Record {
        /// Whose.
        call: CallId,
        /// Name of the recording.
        file: String,
        /// When the call's INVITE came: times in the sidecar count from it.
        invited: Instant,
    },
    /// The recorder is not to be trusted any more: nothing goes to it from now on.
    Unrecord {
        /// Whose.
        call: CallId,
    },
    /// Whether the platform hears the caller during a secure phase. Default is that it does not.
    PassAudio {
        /// Whose.
        call: CallId,
        /// Whether it does.
        on: bool,
    },
    /// The call is over: ports go back. Answered by [`Report::Ended`].
    End {
        /// Whose.
        call: CallId,
    },
}

/// What a leg's audio is, as offer and answer have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Where the other side wants its packets.
    pub remote: SocketAddr,
    /// Where its signalling comes from: behind a NAT its packets do too.
    pub signalling: IpAddr,
    /// What is sent to it.
    pub codec: Codec,
    /// Under which payload type.
    pub pt: u8,
    /// What may come from it.
    pub recv: Vec<(u8, Codec)>,
    /// Payload type of telephone-event that is sent to it; none where it takes none.
    pub event_send: Option<u8>,
    /// Payload types of telephone-event that may come from it.
    pub event_recv: Vec<u8>,
    /// How keys travel on this leg.
    pub dtmf: Option<DtmfMethod>,
    /// Whether anything is sent to it: neither `recvonly` nor `inactive` on our side.
    pub send: bool,
    /// Whether what it sends is taken.
    pub receive: bool,
    /// Milliseconds of sound in a packet.
    pub ptime_ms: u16,
}

/// Whoever sees sound or keys and has to say that he does not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sink {
    /// The media path itself: the other leg.
    Media,
    /// The recorder.
    Recorder,
}

impl Sink {
    /// Its name in answers of the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Recorder => "recorder",
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The port is bound.
    Opened {
        /// Whose.
        call: CallId,
        /// Which side.
        leg: Leg,
    },
    /// It could not be bound.
    BindFailed {
        /// Whose.
        call: CallId,
        /// Which side.
        leg: Leg,
        /// What the system says.
        why: String,
    },
    /// A key was let go.
    Digit {
        /// Whose.
        call: CallId,
        /// Who pressed it.
        leg: Leg,
        /// Which; none where a secure phase hides it.
        digit: Option<Digit>,
        /// When it went down.
        at: Instant,
        /// How long it was held, ms.
        duration_ms: u32,
        /// How it came.
        method: DtmfMethod,
    },
    /// A sequence of the caller's keys is whole. The gate is shut already when `on`; it opens by [`Command::Secure`].
    KeySequence {
        /// Whose.
        call: CallId,
        /// Start or end.
        on: bool,
        /// When.
        at: Instant,
    },
    /// A sink has switched: from `at` on it sees nothing, or everything again.
    Secured {
        /// Whose.
        call: CallId,
        /// As in the command.
        ask: u32,
        /// Who.
        sink: Sink,
        /// Shut or open.
        on: bool,
        /// From when.
        at: Instant,
    },
    /// A sink could not be reached or has failed.
    SinkFailed {
        /// Whose.
        call: CallId,
        /// As in the command; none where nobody asked.
        ask: Option<u32>,
        /// Who.
        sink: Sink,
        /// What is known of it.
        why: String,
    },
    /// A leg was silent for longer than it was to be watched for.
    Silence {
        /// Whose.
        call: CallId,
        /// Which side.
        leg: Leg,
        /// Since when.
        from: Instant,
        /// Until now.
        to: Instant,
    },
    /// No packet came from a leg for longer than it was to be watched for.
    NoMedia {
        /// Whose.
        call: CallId,
        /// Which side.
        leg: Leg,
        /// Since when.
        since: Instant,
    },
    /// Packets come again.
    MediaBack {
        /// Whose.
        call: CallId,
        /// Which side.
        leg: Leg,
        /// Since when.
        at: Instant,
    },
    /// All ports of the call are free.
    Ended {
        /// Whose.
        call: CallId,
        /// What passed.
        stats: Stats,
    },
}

/// What passed on both legs of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// From and to the caller.
    pub caller: LegStats,
    /// From and to the platform.
    pub callee: LegStats,
}

/// What passed on one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegStats {
    /// Packets that came and were taken.
    pub received: u64,
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that came and were not taken: wrong source, wrong payload type, not RTP.
    pub refused: u64,
    /// Missing from the sequence numbers that came.
    pub lost: u64,
}

impl Report {
    /// Whose it is.
    pub const fn call(&self) -> CallId {
        match self {
            Self::Opened { call, .. }
            | Self::BindFailed { call, .. }
            | Self::Digit { call, .. }
            | Self::KeySequence { call, .. }
            | Self::Secured { call, .. }
            | Self::SinkFailed { call, .. }
            | Self::Silence { call, .. }
            | Self::NoMedia { call, .. }
            | Self::MediaBack { call, .. }
            | Self::Ended { call, .. } => *call,
        }
    }
}
