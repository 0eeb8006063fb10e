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
        // What is sent again may hold less than what waits, or more.
        let waiting = direction.early.entry(sequence).or_default();
        if waiting.len() < packet.payload.len() {
            *waiting = packet.payload.to_vec();
        }
        direction.push_what_fits();
        if direction.early.len() > EARLY_MAX {
            // What is missing was not captured: goes on with what is there.
            let wanted = direction.next.unwrap_or(sequence);
            direction.next = direction.early.keys().min_by_key(|start| start.wrapping_sub(wanted)).copied();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcap::Transport;

    const BYE: &[u8] = b"BYE sip:a@b SIP/2.0\r\nContent-Length: 4\r\n\r\nbody";

    /// Segments by where they begin and end in the octets, behind a SYN just before the wrap of the sequence numbers.
    fn messages(pieces: &[(usize, usize)]) -> Vec<Vec<u8>> {
        let first = u32::MAX - 9;
        let mut streams = Streams::default();
        let mut segment = |sequence: u32, syn: bool, payload: &[u8]| {
            let (from, to) = ("192.0.2.1:5060".parse().expect("x"), "192.0.2.2:5060".parse().expect("x"));
            let packet = Packet { from, to, transport: Transport::Tcp { sequence, syn }, payload: payload.into() };
            streams.segment(Wall::from_micros(0), &packet, sequence, syn)
        };
        segment(first, true, b"");
        let begin = |at: usize| first.wrapping_add(1).wrapping_add(u32::try_from(at).expect("short"));
        pieces.iter().flat_map(|(from, to)| segment(begin(*from), false, &BYE[*from..*to])).collect()
    }

    #[test]
    fn segments_come_together_in_any_order_and_however_often() {
        let end = BYE.len();
        for pieces in [
            vec![(0, end)],
            vec![(20, end), (0, 20)],
            vec![(30, end), (5, 30), (0, 5)],
            vec![(0, 20), (0, 20), (20, end)],
            vec![(20, end), (20, 25), (0, 20)],
            vec![(0, 25), (10, end)],
        ] {
            assert_eq!(messages(&pieces), [BYE.to_vec()], "{pieces:?}");
        }
    }
}
