//! What the recorder is told: packets from behind the gate, and the marks that say when it is shut, in one order.

use std::fmt;

use crate::{
    codec::{Codec, FRAME_OCTETS_MAX},
    event::{CallId, Leg},
    time::Instant,
};

/// One thing for the recorder, in the order in which it happened.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant)] // frames are what passes; boxing them would allocate each
pub enum Tap {
    /// A recording begins.
    Start {
        /// Whose.
        call: CallId,
        /// Under which its frames come.
        slot: u32,
        /// Name of the recording.
        file: String,
        /// When the call's INVITE came.
        invited: Instant,
        /// Whether a leg speaks wide band.
        wide: bool,
        /// When.
        at: Instant,
    },
    /// A packet.
    Frame(TapFrame),
    /// From here on nothing more comes of either leg, or everything again. The recorder confirms it.
    Secure {
        /// Whose.
        call: CallId,
        /// Under which its frames come.
        slot: u32,
        /// To be given back with the confirmation.
        ask: u32,
        /// Shut or open.
        on: bool,
        /// Why.
        reason: Option<String>,
        /// When.
        at: Instant,
    },
    /// The recording ends.
    End {
        /// Whose.
        call: CallId,
        /// Under which its frames came.
        slot: u32,
        /// Frames that the queue did not take.
        dropped: u64,
        /// When.
        at: Instant,
    },
}

/// A packet's payload, as it came. Of a fixed size, so that the queue to the recorder allocates nothing.
#[derive(Clone)]
pub struct TapFrame {
    /// The recording that it belongs to.
    pub slot: u32,
    /// Who sent it.
    pub leg: Leg,
    /// RTP source.
    pub ssrc: u32,
    /// RTP time stamp.
    pub timestamp: u32,
    /// When it came.
    pub arrival: Instant,
    /// How it is coded.
    pub codec: Codec,
    /// Octets used.
    len: u16,
    octets: [u8; FRAME_OCTETS_MAX],
}

impl TapFrame {
    /// A frame of a payload; what is longer than 60 ms is cut.
    pub fn new(slot: u32, leg: Leg, ssrc: u32, timestamp: u32, arrival: Instant, codec: Codec, payload: &[u8]) -> Self {
        let mut octets = [0; FRAME_OCTETS_MAX];
        let mut len = 0;
        for (to, from) in octets.iter_mut().zip(payload) {
            *to = *from;
            len += 1;
        }
        Self { slot, leg, ssrc, timestamp, arrival, codec, len, octets }
    }

    /// What it carries.
    pub fn payload(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for TapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Sound is nobody's business in a log.
        write!(f, "TapFrame({:?}, {} octets of {})", self.leg, self.len, self.codec)
    }
}
