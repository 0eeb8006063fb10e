//! SIP over TCP out of captured segments: each direction put together in order, then framed.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use crate::{
    pcap::Packet,
    sip::framing::{Frame, Framer},
    time::Wall,
};

/// Both directions of every connection.
#[derive(Default)]
pub(super) struct Streams(BTreeMap<(SocketAddr, SocketAddr), Direction>);

#[derive(Default)]
struct Direction {
    /// When a segment of it was last seen.
    seen: Wall,
    /// Number of the next octet; none until something of it was seen.
    next: Option<u32>,
    /// What came too early.
    early: BTreeMap<u32, Vec<u8>>,
    framer: Framer,
    broken: bool,
}

/// Segments that wait for one that is missing.
const EARLY_MAX: usize = 64;

impl Streams {
    /// A segment was captured: the messages that are whole with it.
    pub(super) fn segment(&mut self, at: Wall, packet: &Packet<'_>, sequence: u32, syn: bool) -> Vec<Vec<u8>> {
        let direction = self.0.entry((packet.from, packet.to)).or_default();
        if syn {
            *direction = Direction { next: Some(sequence.wrapping_add(1)), ..Direction::default() };
        }
        direction.seen = at;
        if packet.payload.is_empty() || direction.broken {
            return Vec::new();
        }
        direction.next.get_or_insert(sequence);
        direction.early.insert(sequence, packet.payload.to_vec());
        direction.push_what_fits();
        if direction.early.len() > EARLY_MAX {
            // What is missing was not captured: goes on with what is there.
            direction.next = direction.early.keys().next().copied();
            direction.framer = Framer::default();
            direction.push_what_fits();
        }
        let mut messages = Vec::new();
        loop {
            match direction.framer.next_frame() {
                Ok(Some(Frame::Message(octets))) => messages.push(octets.to_vec()),
                Ok(Some(Frame::Ping)) => {}
                Ok(None) => return messages,
                // No SIP on this connection, or not from here.
                Err(_) => {
                    direction.broken = true;
                    return messages;
                }
            }
        }
    }
}

impl Streams {
    /// Lets go of connections that have been still for so long; one that goes on is read from its next segment.
    pub(super) fn forget(&mut self, now: Wall, after: Duration) {
        self.0.retain(|_, direction| now < direction.seen + after);
    }
}

impl Direction {
    fn push_what_fits(&mut self) {
        while let Some(next) = self.next {
            // The first that begins at or before what is wanted, around the wrap.
            let found = self.early.iter().find(|(start, _)| next.wrapping_sub(**start) < 0x8000_0000).map(|(start, _)| *start);
            let Some(octets) = found.and_then(|start| self.early.remove(&start).map(|octets| (start, octets))) else { return };
            let known = usize::try_from(next.wrapping_sub(octets.0)).unwrap_or(usize::MAX);
            if let Some(new) = octets.1.get(known..) {
                self.framer.push(new);
                self.next = Some(next.wrapping_add(u32::try_from(new.len()).unwrap_or(0)));
            }
        }
    }
}
