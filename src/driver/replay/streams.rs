//! The RTP of a capture, put to the calls whose signalling explains it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{
    Digit, Rtpmap, Span, Stream, Unassigned,
    calls::Calls,
    sounds::Sounds,
    source::{CLOCK, Source},
};
use crate::{
    codec::Codec,
    event::Leg,
    pcap::Packet,
    rtp::{Header, rtcp},
    time::Wall,
};

/// What a datagram is.
pub(super) enum Sort {
    Rtp,
    Rtcp,
    Other(&'static str),
}

/// A source, between two addresses, in a call or in none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    call: Option<usize>,
    from: SocketAddr,
    to: SocketAddr,
    ssrc: u32,
}

/// Packets of a source that no signalling explains yet; it may follow.
struct Early {
    packets: Vec<(Wall, Vec<u8>)>,
}

/// Everything that may be RTP.
#[derive(Default)]
pub(super) struct Streams {
    sources: BTreeMap<Key, Source>,
    sounds: BTreeMap<(usize, Leg), Sounds>,
    early: BTreeMap<(SocketAddr, SocketAddr, u32), Early>,
    unassigned: Unassigned,
    origin: Option<Wall>,
}

/// Fewer packets than this, with no signalling to explain them, are something else that looks like RTP.
const PACKETS_MIN: u64 = 3;
/// Signalling follows its sound within so many packets, ten seconds of sound, or not at all.
const EARLY_MAX: usize = 500;
/// The same in time.
const EARLY_PATIENCE: Duration = Duration::from_secs(30);

/// What a call's sources came to.
#[derive(Default)]
pub(super) struct Found {
    pub(super) streams: Vec<Stream>,
    pub(super) digits: Vec<Digit>,
    pub(super) sounds: Vec<Span>,
}

impl Streams {
    pub(super) fn packet(&mut self, at: Wall, packet: &Packet<'_>, calls: &mut Calls, rtpmap: &Rtpmap) -> Sort {
        match rtcp::parse(&packet.payload) {
            Ok(_) => return Sort::Rtcp,
            // Its type is RTCP's and no payload type with a marker (RFC 5761 §4): cut short, or followed by what is not.
            Err(rtcp::Error::Length | rtcp::Error::Padding) if packet.payload.get(1).is_some_and(|kind| (200..208).contains(kind)) => {
                return Sort::Other("RTCP that is not whole");
            }
            Err(_) => {}
        }
        let Ok(header) = Header::parse(&packet.payload) else { return Sort::Other("neither SIP nor RTP") };
        self.origin.get_or_insert(at);
        let (from, to, ssrc) = (packet.from, packet.to, header.ssrc);
        match calls.explaining(at, from, to) {
            Some((call, leg)) => {
                for (at, octets) in self.early.remove(&(from, to, ssrc)).into_iter().flat_map(|e| e.packets) {
                    if let Ok(header) = Header::parse(&octets) {
                        self.heard(at, Key { call: Some(call), from, to, ssrc }, leg, &header, &octets, calls, rtpmap);
                    }
                }
                self.heard(at, Key { call: Some(call), from, to, ssrc }, leg, &header, &packet.payload, calls, rtpmap);
            }
            None if self.sources.contains_key(&Key { call: None, from, to, ssrc }) => {
                self.heard(at, Key { call: None, from, to, ssrc }, None, &header, &packet.payload, calls, rtpmap);
            }
            None => {
                let early = self.early.entry((from, to, ssrc)).or_insert_with(|| Early { packets: Vec::new() });
                early.packets.push((at, packet.payload.to_vec()));
                let first = early.packets.first().map_or(at, |(at, _)| *at);
                if early.packets.len() > EARLY_MAX || first + EARLY_PATIENCE < at {
                    self.unexplained((from, to, ssrc), calls, rtpmap);
                }
            }
        }
        Sort::Rtp
    }

    #[expect(clippy::too_many_arguments, reason = "a packet, where it belongs, and who names its payload types")]
    fn heard(&mut self, at: Wall, key: Key, leg: Option<Leg>, header: &Header, packet: &[u8], calls: &Calls, rtpmap: &Rtpmap) {
        // A payload type means what its receiver said; asymmetric ones are rare and then the sender's word counts.
        let name = |number: u8| {
            let described = key.call.and_then(|call| calls.name(call, key.to, number).or_else(|| calls.name(call, key.from, number)));
            let fixed = || Codec::of_payload_type(number).map(|c| (c.name().to_owned(), CLOCK));
            described.or_else(|| rtpmap.get(&number).cloned()).or_else(fixed).or_else(|| (number == 13).then(|| ("CN".to_owned(), CLOCK)))
        };
        let source = self.sources.entry(key).or_insert_with(|| Source::new(key.from, key.to, key.ssrc, leg));
        let sounds = key.call.zip(leg).map(|place| self.sounds.entry(place).or_default());
        source.packet(at, header, packet, &name, sounds);
    }

    /// No signalling came for it in time.
    fn unexplained(&mut self, (from, to, ssrc): (SocketAddr, SocketAddr, u32), calls: &Calls, rtpmap: &Rtpmap) {
        for (at, octets) in self.early.remove(&(from, to, ssrc)).into_iter().flat_map(|e| e.packets) {
            if let Ok(header) = Header::parse(&octets) {
                self.heard(at, Key { call: None, from, to, ssrc }, None, &header, &octets, calls, rtpmap);
            }
        }
    }

    /// What belongs to a call, once it is over. `zero`: its INVITE.
    pub(super) fn of(&mut self, call: usize, zero: Wall) -> Found {
        let mut found = Found::default();
        let first = |ip: std::net::IpAddr| SocketAddr::new(ip, 0);
        let lowest = first(std::net::Ipv4Addr::UNSPECIFIED.into());
        let from = Key { call: Some(call), from: lowest, to: lowest, ssrc: 0 };
        let mine = self.sources.range(from..).take_while(|(key, _)| key.call == Some(call)).map(|(key, _)| *key).collect::<Vec<_>>();
        for key in mine {
            let Some(source) = self.sources.remove(&key) else { continue };
            let sounds = source.leg.and_then(|leg| self.sounds.get_mut(&(call, leg)));
            let (streams, digits) = source.finish(zero, sounds);
            found.streams.extend(streams);
            found.digits.extend(digits);
        }
        for leg in [Leg::Caller, Leg::Callee] {
            if let Some(sounds) = self.sounds.remove(&(call, leg)) {
                found.sounds.extend(sounds.finish(leg, zero));
            }
        }
        found
    }

    /// What belongs to none.
    pub(super) fn rest(mut self, calls: &Calls, rtpmap: &Rtpmap) -> Unassigned {
        let early = self.early.keys().copied().collect::<Vec<_>>();
        for key in early {
            self.unexplained(key, calls, rtpmap);
        }
        let origin = self.origin.unwrap_or_default();
        for (_, source) in
            std::mem::take(&mut self.sources).into_iter().filter(|(key, source)| key.call.is_none() && source.packets() >= PACKETS_MIN)
        {
            let (streams, digits) = source.finish(origin, None);
            self.unassigned.streams.extend(streams);
            self.unassigned.digits.extend(digits);
        }
        self.unassigned
    }
}
