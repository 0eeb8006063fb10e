//! One leg's media: its port, what was agreed on, what comes from it, and what is sent to it.

use std::{net::SocketAddr, time::Duration};

use super::{LegStats, Stream, outbound::Outbound};
use crate::{
    chance::Chance,
    codec::{Codec, Decoder},
    detect::Silence,
    dtmf::event,
    rtp::{Header, Sequence},
    time::Instant,
};

#[derive(Debug)]
pub(super) struct LegMedia {
    /// The port is bound.
    pub(super) open: bool,
    pub(super) stream: Option<Stream>,
    /// Where its packets come from, learnt from the first (symmetric RTP, RFC 4961).
    pub(super) source: Option<SocketAddr>,
    pub(super) sequence: Sequence,
    pub(super) events: event::Receiver,
    /// Source of the last key.
    pub(super) key_ssrc: Option<u32>,
    /// Source of the last sound.
    pub(super) sound_ssrc: Option<u32>,
    pub(super) decoder: Option<Decoder>,
    pub(super) out: Outbound,
    pub(super) watch: Watch,
    pub(super) received: u64,
    pub(super) refused: u64,
}

/// What is noticed about a leg.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) silence: Option<Silence>,
    pub(super) no_media: Option<Duration>,
    /// Last packet, or when the watch began.
    pub(super) last: Option<Instant>,
    /// It was told that nothing comes.
    pub(super) missing: bool,
}

/// What a packet is for the leg that it came from.
pub(super) enum Sort {
    Sound(Codec),
    Event,
}

/// A source that has said nothing for so long may be replaced by another: a phone behind a NAT that was given a new port.
const SOURCE_STALE: Duration = Duration::from_secs(2);

impl LegMedia {
    pub(super) fn new(chance: &mut Chance) -> Self {
        Self {
            open: false,
            stream: None,
            source: None,
            sequence: Sequence::default(),
            events: event::Receiver::default(),
            key_ssrc: None,
            sound_ssrc: None,
            decoder: None,
            out: Outbound::new(chance),
            watch: Watch::default(),
            received: 0,
            refused: 0,
        }
    }

    pub(super) fn agree(&mut self, agreed: Stream) {
        if self.stream.as_ref().is_none_or(|s| s.remote != agreed.remote) {
            self.source = None;
        }
        self.stream = Some(agreed);
    }

    /// Whether a packet from there is taken: from the host that was agreed on, or from where the signalling comes, since a NAT shows only its own
    /// address. The first tells where the other side really sends from; after that another port is not heard, unless it is the one that was agreed on,
    /// or the known one has gone quiet. A host that is neither is never heard: it may be the late talker of somebody else's call.
    pub(super) fn admit(&mut self, now: Instant, from: SocketAddr) -> bool {
        let Some(stream) = self.stream.as_ref().filter(|s| s.receive) else { return false };
        if from.ip() != stream.remote.ip() && from.ip() != stream.signalling {
            return false;
        }
        let stale = || self.watch.last.is_none_or(|last| now.since(last) > SOURCE_STALE);
        if self.source.is_none_or(|known| known == from || from == stream.remote || stale()) {
            self.source = Some(from);
            return true;
        }
        false
    }

    pub(super) fn sort(&self, header: &Header) -> Option<Sort> {
        let stream = self.stream.as_ref()?;
        if stream.event_recv.contains(&header.payload_type) {
            return Some(Sort::Event);
        }
        stream.recv.iter().find(|(number, _)| *number == header.payload_type).map(|(_, codec)| Sort::Sound(*codec))
    }

    /// Where packets to it go, and whether any go at all.
    pub(super) fn destination(&self) -> Option<(SocketAddr, &Stream)> {
        let stream = self.stream.as_ref().filter(|s| s.send && self.open)?;
        Some((self.source.unwrap_or(stream.remote), stream))
    }

    pub(super) fn decoder(&mut self, codec: Codec) -> &mut Decoder {
        if self.decoder.as_ref().is_some_and(|d| d.codec() != codec) {
            self.decoder = None;
        }
        self.decoder.get_or_insert_with(|| Decoder::new(codec))
    }

    pub(super) fn stats(&self) -> LegStats {
        LegStats { received: self.received, sent: self.out.sent, refused: self.refused, lost: self.sequence.lost() }
    }
}
