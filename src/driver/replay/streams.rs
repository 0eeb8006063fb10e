//! The RTP of a capture: one stream a source, payload type and pair of addresses, with what it lost and what it carried.

use std::{collections::BTreeMap, net::SocketAddr};

use sha2::{Digest as _, Sha256};

use super::{Digit, Rtpmap, Stream, Unassigned, calls::Calls};
use crate::{
    codec::{Codec, Decoder, FRAME_SAMPLES_MAX},
    dtmf::event,
    event::DtmfMethod,
    pcap::Packet,
    rtp::Header,
    time::{Instant, Wall},
};

/// What a datagram is.
pub(super) enum Sort {
    Rtp,
    Rtcp,
    Other(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    from: SocketAddr,
    to: SocketAddr,
    ssrc: u32,
}

struct Heard {
    at: Wall,
    /// Sequence number counted on beyond its 16 bits.
    sequence: i64,
    timestamp: u32,
    payload_type: u8,
    payload: Vec<u8>,
}

/// Everything that may be RTP.
#[derive(Default)]
pub(super) struct Streams(BTreeMap<Source, Vec<Heard>>);

/// Fewer packets than this, with no signalling to explain them, are something else that looks like RTP.
const PACKETS_MIN: usize = 3;

impl Streams {
    pub(super) fn packet(&mut self, at: Wall, packet: &Packet<'_>) -> Sort {
        if let [first, 200..=204, ..] = packet.payload
            && first >> 6 == 2
        {
            return Sort::Rtcp;
        }
        let Ok(header) = Header::parse(packet.payload) else { return Sort::Other("neither SIP nor RTP") };
        let source = Source { from: packet.from, to: packet.to, ssrc: header.ssrc };
        let heard = self.0.entry(source).or_default();
        let sequence = match heard.last() {
            Some(last) => last.sequence + i64::from(header.sequence.wrapping_sub(low(last.sequence)).cast_signed()),
            None => i64::from(header.sequence),
        };
        let payload = packet.payload.get(header.payload.clone()).unwrap_or_default().to_vec();
        heard.push(Heard { at, sequence, timestamp: header.timestamp, payload_type: header.payload_type, payload });
        Sort::Rtp
    }

    /// What the packets of one side come to, by the names of its payload types.
    pub(super) fn describe(self, leg: &'static str, zero: Wall, name: &dyn Fn(u8) -> Option<String>) -> (Vec<Stream>, Vec<Digit>) {
        let (mut found, mut keys) = (Vec::new(), Vec::new());
        for (source, heard) in self.0 {
            found.extend(streams(source, Some(leg), &heard, name));
            keys.extend(digits(Some(leg), &heard, zero, name));
        }
        (found, keys)
    }

    /// What the packets come to, put to the calls whose signalling explains them.
    pub(super) fn finish(self, calls: &Calls, rtpmap: &Rtpmap, origin: Wall) -> Found {
        let mut found = Found::default();
        for (source, heard) in self.0 {
            let by_target = calls.describing(source.to);
            let by_sender = calls.describing(source.from);
            let call = by_target.or(by_sender).map(|(call, _)| call);
            let leg = by_sender.map(|(_, d)| d.leg).or_else(|| by_target.map(|(_, d)| if d.leg == "caller" { "callee" } else { "caller" }));
            if call.is_none() && heard.len() < PACKETS_MIN {
                continue;
            }
            // A payload type means what its receiver said; asymmetric ones are rare and then the sender's word counts.
            let name = |number: u8| {
                let described = [by_target, by_sender].into_iter().flatten().find_map(|(_, d)| d.names.get(&number).cloned());
                let fixed = || Codec::of_payload_type(number).map(|c| c.name().to_owned());
                described.or_else(|| rtpmap.get(&number).cloned()).or_else(fixed).or_else(|| (number == 13).then(|| "CN".to_owned()))
            };
            let zero = call.and_then(|c| calls.invite_at(c)).unwrap_or(origin);
            for stream in streams(source, leg, &heard, &name) {
                found.streams.push((call, stream));
            }
            for digit in digits(leg, &heard, zero, &name) {
                found.digits.push((call, digit));
            }
        }
        found
    }
}

/// The lower 16 bits of a number that was counted on.
fn low(sequence: i64) -> u16 {
    u16::try_from(sequence.rem_euclid(65_536)).unwrap_or(0)
}

fn streams(source: Source, leg: Option<&'static str>, heard: &[Heard], name: &dyn Fn(u8) -> Option<String>) -> Vec<Stream> {
    // What is missing stands with the payload type that was heard before the gap.
    let mut ordered: Vec<&Heard> = heard.iter().collect();
    ordered.sort_by_key(|h| h.sequence);
    ordered.dedup_by_key(|h| h.sequence);
    let mut lost: BTreeMap<u8, u64> = BTreeMap::new();
    for pair in ordered.windows(2) {
        if let [a, b] = pair {
            *lost.entry(a.payload_type).or_default() += u64::try_from(b.sequence - a.sequence - 1).unwrap_or(0);
        }
    }
    let mut types: Vec<u8> = Vec::new();
    for packet in heard {
        if !types.contains(&packet.payload_type) {
            types.push(packet.payload_type);
        }
    }
    let made = types.into_iter().filter_map(|number| {
        let mine: Vec<&Heard> = heard.iter().filter(|h| h.payload_type == number).collect();
        let once: Vec<&&Heard> = ordered.iter().filter(|h| h.payload_type == number).collect();
        let (first, last) = (mine.first()?, mine.last()?);
        let codec = name(number);
        let mut highest = i64::MIN;
        let reordered = mine
            .iter()
            .filter(|h| {
                let late = h.sequence < highest;
                highest = highest.max(h.sequence);
                late
            })
            .count();
        let of_ours = codec.as_deref().and_then(|c| c.parse::<Codec>().ok());
        Some(Stream {
            leg,
            from: source.from,
            to: source.to,
            ssrc: format!("{:#010x}", source.ssrc),
            pt: number,
            packets: count(mine.len()),
            octets: mine.iter().map(|h| count(h.payload.len())).sum(),
            first_seq: low(first.sequence),
            last_seq: low(last.sequence),
            lost: lost.get(&number).copied().unwrap_or(0),
            duplicates: count(mine.len() - once.len()),
            reordered: count(reordered),
            jitter_ms: jitter(&mine),
            payload_sha256: digest(once.iter().map(|h| h.payload.as_slice())),
            captured_sha256: digest(mine.iter().map(|h| h.payload.as_slice())),
            audio_sha256: of_ours.map(|codec| audio(codec, once.iter().map(|h| h.payload.as_slice()))),
            codec,
        })
    });
    made.collect()
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn digest<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> String {
    let mut sha = Sha256::new();
    for payload in payloads {
        sha.update(payload);
    }
    hex(&sha.finalize())
}

fn audio<'a>(codec: Codec, payloads: impl Iterator<Item = &'a [u8]>) -> String {
    let mut decoder = Decoder::new(codec);
    let mut sha = Sha256::new();
    let mut samples = [0; FRAME_SAMPLES_MAX];
    for piece in payloads.flat_map(|p| p.chunks(FRAME_SAMPLES_MAX / codec.samples_per_octet())) {
        let n = decoder.decode(piece, &mut samples);
        for sample in samples.get(..n).unwrap_or_default() {
            sha.update(sample.to_le_bytes());
        }
    }
    hex(&sha.finalize())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}

/// Interarrival jitter (RFC 3550 §6.4.1) at its end, in ms with one decimal; all clocks are 8000 Hz.
#[expect(clippy::cast_precision_loss)]
fn jitter(heard: &[&Heard]) -> f64 {
    let mut jitter = 0.0_f64;
    for pair in heard.windows(2) {
        if let [a, b] = pair {
            let arrived = (b.at.as_micros() - a.at.as_micros()) as f64 / 125.0;
            let sent = f64::from(b.timestamp.wrapping_sub(a.timestamp).cast_signed());
            jitter += ((arrived - sent).abs() - jitter) / 16.0;
        }
    }
    (jitter / 8.0 * 10.0).round() / 10.0
}

fn digits(leg: Option<&'static str>, heard: &[Heard], zero: Wall, name: &dyn Fn(u8) -> Option<String>) -> Vec<Digit> {
    let mut receiver = event::Receiver::default();
    let mut pressed = Vec::new();
    let micros = |at: Wall| Instant::from_micros(u64::try_from(at.as_micros()).unwrap_or(0));
    for packet in heard {
        let now = micros(packet.at);
        pressed.extend(receiver.handle_timeout(now));
        if name(packet.payload_type).is_some_and(|n| n.eq_ignore_ascii_case("telephone-event"))
            && let Some(payload) = event::Payload::parse(&packet.payload)
        {
            pressed.extend(receiver.handle(now, packet.timestamp, payload).into_iter().flatten());
        }
    }
    pressed.extend(receiver.next_timeout().and_then(|at| receiver.handle_timeout(at)));
    let digit = |p: event::Pressed| Digit {
        leg,
        digit: p.digit.to_string(),
        at_ms: p.at.millis_since(micros(zero)),
        duration_ms: p.duration_ms,
        method: DtmfMethod::Rfc4733,
        complete: p.complete,
    };
    pressed.into_iter().map(digit).collect()
}

/// Streams and keys with the calls that they belong to.
#[derive(Default)]
pub(super) struct Found {
    streams: Vec<(Option<usize>, Stream)>,
    digits: Vec<(Option<usize>, Digit)>,
}

impl Found {
    pub(super) fn streams_of(&mut self, call: usize) -> Vec<Stream> {
        let (mine, rest) = std::mem::take(&mut self.streams).into_iter().partition(|(c, _)| *c == Some(call));
        self.streams = rest;
        mine.into_iter().map(|(_, stream): (_, Stream)| stream).collect()
    }

    pub(super) fn digits_of(&mut self, call: usize) -> Vec<Digit> {
        self.digits.iter().filter(|(c, _)| *c == Some(call)).map(|(_, digit)| digit.clone()).collect()
    }

    /// What belongs to none.
    pub(super) fn rest(self) -> Unassigned {
        let digits = self.digits.into_iter().filter(|(call, _)| call.is_none()).map(|(_, digit)| digit).collect();
        Unassigned { streams: self.streams.into_iter().map(|(_, stream)| stream).collect(), digits }
    }
}
