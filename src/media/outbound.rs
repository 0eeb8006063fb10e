//! One outgoing stream: our own source, numbers and time, whatever comes in, and the keys that are sent between the packets.

use std::{collections::VecDeque, time::Duration};

use super::{Port, Wire};
use crate::{
    chance::Chance,
    codec::{Codec, Encoder, Resampler},
    dtmf::{Digit, event},
    rtp,
    time::Instant,
};
use std::net::SocketAddr;

/// What is sent to a leg.
#[derive(Debug)]
pub(super) struct Outbound {
    ssrc: u32,
    /// Next sequence number of ours.
    next: u16,
    /// Time stamp of ours at `at`.
    timestamp: u32,
    at: Option<Instant>,
    /// How far ours are ahead of those that come in; none until the first packet of a source.
    shift: Option<Shift>,
    keys: VecDeque<Key>,
    pub(super) encoder: Option<Encoder>,
    pub(super) resampler: Option<Resampler>,
    pub(super) sent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Shift {
    source: u32,
    /// Packets of the source before this number belong to no number of ours: they would take that of another.
    since: u16,
    sequence: u16,
    timestamp: u32,
}

/// A key that waits or is being sent.
#[derive(Clone, Copy, Debug)]
struct Key {
    digit: Digit,
    ticks: u16,
    /// RTP time of its start, once it is down.
    timestamp: Option<u32>,
    /// Ticks told so far.
    told: u16,
    ends: u8,
    due: Instant,
}

/// A packet of an event.
const STEP: Duration = Duration::from_millis(20);
/// Ticks of a step.
const STEP_TICKS: u16 = 160;
/// How often the last packet of an event is sent (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;
/// Quiet after a key: above the 40 ms that receivers ask for between two (ITU-T Q.24).
const PAUSE: Duration = Duration::from_millis(60);
/// Shortest and longest key that is sent: what receivers take for one (ITU-T Q.24), and what the duration field holds less a step.
const TICKS_MIN: u16 = 50 * 8;
const TICKS_MAX: u16 = 8000;
/// Keys that wait at most; what exceeds it is not typed by a person.
const KEYS_MAX: usize = 64;

impl Outbound {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let [a, b, ..] = chance.u32().to_be_bytes();
        Self {
            ssrc: chance.u32(),
            next: u16::from_be_bytes([a, b]),
            timestamp: chance.u32(),
            at: None,
            shift: None,
            keys: VecDeque::new(),
            encoder: None,
            resampler: None,
            sent: 0,
        }
    }

    /// What comes next stands in no order with what came before: numbers go on without a gap.
    pub(super) fn anew(&mut self) {
        self.shift = None;
    }

    /// Where its encoder stands; made anew when the codec changes.
    pub(super) fn encoder(&mut self, codec: Codec) -> &mut Encoder {
        if self.encoder.as_ref().is_none_or(|e| e.codec() != codec) {
            self.encoder = None;
            self.resampler = None;
        }
        self.encoder.get_or_insert_with(|| Encoder::new(codec))
    }

    /// Our time stamp at `now`.
    fn timestamp_at(&self, now: Instant) -> u32 {
        let passed = self.at.map_or(0, |at| now.since(at).as_micros() * 8 / 1000);
        // Wraps as RTP time does.
        self.timestamp.wrapping_add(u32::try_from(passed & u128::from(u32::MAX)).unwrap_or(0))
    }

    /// A packet of the source that is not sent on, such as one of a key: those after it move up, so that nobody takes it for lost.
    pub(super) fn skip(&mut self, header: &rtp::Header) {
        if let Some(shift) = self.shift.as_mut().filter(|s| s.source == header.ssrc && !before(header.sequence, s.since)) {
            shift.sequence = shift.sequence.wrapping_sub(1);
            shift.since = header.sequence.wrapping_add(1);
        }
    }

    /// Whether a key is being sent just now; sound has to wait for its end.
    pub(super) fn is_keying(&self) -> bool {
        self.keys.front().is_some_and(|key| key.timestamp.is_some() && key.ends < ENDS)
    }

    /// The numbers under which a packet of a source goes on: a gap or a late packet stays what it was. None where it is too late for any.
    pub(super) fn renumber(&mut self, now: Instant, header: &rtp::Header) -> Option<Numbers> {
        let known = self.shift.filter(|s| s.source == header.ssrc);
        let first = known.is_none();
        let shift = known.unwrap_or_else(|| Shift {
            source: header.ssrc,
            since: header.sequence,
            sequence: self.next.wrapping_sub(header.sequence),
            timestamp: self.timestamp_at(now).wrapping_sub(header.timestamp),
        });
        if before(header.sequence, shift.since) {
            return None;
        }
        self.shift = Some(shift);
        let sequence = header.sequence.wrapping_add(shift.sequence);
        let timestamp = header.timestamp.wrapping_add(shift.timestamp);
        let after = sequence.wrapping_add(1);
        // Late packets do not set the clock back.
        if after.wrapping_sub(self.next) < 0x8000 {
            self.next = after;
            self.timestamp = timestamp;
            self.at = Some(now);
        }
        Some(Numbers { marker: header.marker || first, sequence, timestamp, ssrc: self.ssrc })
    }

    /// A key to be sent when those before it are through.
    pub(super) fn press(&mut self, now: Instant, digit: Digit, duration_ms: u32) {
        if self.keys.len() < KEYS_MAX {
            let ticks = u16::try_from(duration_ms.saturating_mul(8)).unwrap_or(TICKS_MAX).clamp(TICKS_MIN, TICKS_MAX);
            self.keys.push_back(Key { digit, ticks, timestamp: None, told: 0, ends: 0, due: now });
        }
    }

    /// Keys that wait are not sent: what they belong to is not meant for this leg.
    pub(super) fn forget_keys(&mut self) {
        self.keys.clear();
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.keys.front().map(|key| key.due)
    }

    /// Sends what is due of the key that is down.
    pub(super) fn handle_timeout(&mut self, now: Instant, payload_type: Option<u8>, port: Port, to: SocketAddr, wire: &mut impl Wire) {
        // Where no sound goes out, our clock starts with the first key.
        self.at.get_or_insert(now);
        let clock = self.timestamp_at(now);
        let Some(key) = self.keys.front_mut().filter(|key| key.due <= now) else { return };
        // The leg takes no events any more: its keys go nowhere.
        let Some(payload_type) = payload_type else {
            self.keys.clear();
            return;
        };
        if key.ends >= ENDS {
            let due = now;
            self.keys.pop_front();
            if let Some(next) = self.keys.front_mut() {
                next.due = due;
            }
            return self.handle_timeout(now, Some(payload_type), port, to, wire);
        }
        let first = key.timestamp.is_none();
        let timestamp = *key.timestamp.get_or_insert(clock);
        key.told = key.told.saturating_add(STEP_TICKS).min(key.ticks);
        let end = key.told >= key.ticks;
        let payload = event::Payload { event: key.digit.code(), end, volume: event::VOLUME, duration: key.told };
        let times = if end { ENDS } else { 1 };
        if end {
            key.ends = ENDS;
        }
        key.due = now + if end { PAUSE } else { STEP };
        for _ in 0..times {
            let mut packet = [0; rtp::HEADER_OCTETS + 4];
            rtp::write(&mut packet, 0, first, payload_type, self.next, timestamp, self.ssrc);
            if let Some(body) = packet.last_chunk_mut::<4>() {
                *body = payload.emit();
            }
            wire.send(port, to, &packet);
            self.next = self.next.wrapping_add(1);
            self.sent += 1;
            if let Some(shift) = &mut self.shift {
                shift.sequence = shift.sequence.wrapping_add(1);
            }
        }
    }
}

/// Whether sequence number `a` lies before `b`, around the wrap.
const fn before(a: u16, b: u16) -> bool {
    a.wrapping_sub(b) >= 0x8000
}

/// Under which a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) marker: bool,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
}
