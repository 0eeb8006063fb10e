//! telephone-event payloads (RFC 4733 §2.3), and the receiver that makes one key of many packets.

use std::time::Duration;

use super::Digit;
use crate::time::Instant;

/// One payload: four octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Event code: 0 to 15 are keys, 16 hook flash, others tones of lines and modems.
    pub event: u8,
    /// The event is over.
    pub end: bool,
    /// Level in -dBm0, 0 to 63.
    pub volume: u8,
    /// Ticks since the event's start.
    pub duration: u16,
}

/// Level that is written: what telephones send.
pub const VOLUME: u8 = 10;

impl Payload {
    /// Reads the first four octets; what follows is more events of a redundant form that nobody of ours negotiates.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let [event, flags, high, low, ..] = *payload else { return None };
        Some(Self { event, end: flags & 0x80 != 0, volume: flags & 0x3f, duration: u16::from_be_bytes([high, low]) })
    }

    /// As it goes on the wire.
    pub const fn emit(self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.event, if self.end { 0x80 } else { 0 } | self.volume & 0x3f, high, low]
    }
}

/// A key that was let go, or of which nothing more came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// Which key.
    pub digit: Digit,
    /// When it went down: the arrival of its first packet.
    pub at: Instant,
    /// How long it was held, ms.
    pub duration_ms: u32,
    /// Whether its end was seen.
    pub complete: bool,
}

/// Makes keys of the telephone-event packets of one stream, whatever is lost or comes twice.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    now: Option<Held>,
    /// Time stamp and key of the last event that is over, so that its repeated ends are known (RFC 4733 §2.5.1.4 sends three).
    over: Option<(u32, Digit)>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    timestamp: u32,
    digit: Digit,
    at: Instant,
    last: Instant,
    ticks: u16,
    /// Ticks of the segments before this one.
    before: u32,
}

/// A key of which nothing was heard for so long has been let go: packets come every 20 to 50 ms while it is held (RFC 4733 §2.5.2.2 leaves the wait to us).
pub const LOST_AFTER: Duration = Duration::from_millis(250);
/// How far apart the time stamps of two segments of one long key are: the duration field is full, or nearly (RFC 4733 §2.5.1.3).
const SEGMENT_TICKS: std::ops::RangeInclusive<u32> = 64_000..=65_536;
/// Ticks a millisecond of telephone-event at 8000 Hz.
const TICKS_PER_MS: u32 = 8;

impl Receiver {
    /// A packet came. `timestamp` is its RTP time stamp, the same for all packets of an event. Up to two keys come of it: one whose end was lost, and one
    /// that ends with this packet.
    pub fn handle(&mut self, now: Instant, timestamp: u32, payload: Payload) -> [Option<Pressed>; 2] {
        let Some(digit) = Digit::from_code(payload.event) else { return [None, None] };
        if self.over.is_some_and(|(over, before)| older(timestamp, over) || timestamp == over && digit == before) {
            return [None, None];
        }
        let mut lost = None;
        match &mut self.now {
            // Some send every key under one time stamp; another key under the same is another event all the same.
            Some(held) if held.timestamp == timestamp && held.digit == digit => {
                held.last = now;
                held.ticks = held.ticks.max(payload.duration);
            }
            Some(held) if held.digit == digit && SEGMENT_TICKS.contains(&timestamp.wrapping_sub(held.timestamp)) => {
                held.before = held.before.saturating_add(timestamp.wrapping_sub(held.timestamp));
                held.timestamp = timestamp;
                held.ticks = payload.duration;
                held.last = now;
            }
            Some(held) if older(timestamp, held.timestamp) => return [None, None],
            _ => {
                lost = self.finish(false);
                self.now = Some(Held { timestamp, digit, at: now, last: now, ticks: payload.duration, before: 0 });
            }
        }
        [lost, if payload.end { self.finish(true) } else { None }]
    }

    /// Another source speaks from here on, under times of its own; a key that is down is let go.
    pub fn anew(&mut self) -> Option<Pressed> {
        let held = self.finish(false);
        self.over = None;
        held
    }

    /// A key of which nothing more came.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Pressed> {
        self.next_timeout().filter(|at| *at <= now).and_then(|_| self.finish(false))
    }

    /// When to ask for it.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.now.map(|held| held.last + LOST_AFTER)
    }

    /// Whether a key is down.
    pub const fn is_down(&self) -> bool {
        self.now.is_some()
    }

    fn finish(&mut self, complete: bool) -> Option<Pressed> {
        let held = self.now.take()?;
        self.over = Some((held.timestamp, held.digit));
        let ticks = held.before.saturating_add(u32::from(held.ticks));
        Some(Pressed { digit: held.digit, at: held.at, duration_ms: ticks / TICKS_PER_MS, complete })
    }
}

/// Whether RTP time `a` lies before `b`, around the wrap. More than half an hour before is a new clock, not an old packet.
const fn older(a: u32, b: u32) -> bool {
    let behind = b.wrapping_sub(a);
    behind > 0 && behind < 8000 * 1800
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(event: u8, end: bool, duration: u16) -> Payload {
        Payload { event, end, volume: VOLUME, duration }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn what_is_written_is_read() {
        let payload = packet(11, true, 800);
        assert_eq!(Payload::parse(&payload.emit()), Some(payload));
        assert_eq!(Payload::parse(&[1, 2, 3]), None);
    }

    proptest::proptest! {
        #[test]
        fn any_payload_reads_back(event: u8, end: bool, volume in 0_u8..64, duration: u16, reserved: bool, more in proptest::collection::vec(0_u8.., 0..5)) {
            let payload = Payload { event, end, volume, duration };
            let mut octets = payload.emit().to_vec();
            octets.extend(more);
            proptest::prop_assert_eq!(Payload::parse(&octets), Some(payload));
            // RFC 4733 §2.3: the reserved bit is ignored.
            octets[1] |= if reserved { 0x40 } else { 0 };
            proptest::prop_assert_eq!(Payload::parse(&octets), Some(payload));
        }
    }

    #[test]
    fn one_key_however_often_its_packets_come() {
        let mut receiver = Receiver::default();
        for n in 1..=4 {
            assert_eq!(receiver.handle(at(u64::from(n) * 20), 1000, packet(5, false, n * 160)), [None, None]);
        }
        let [lost, pressed] = receiver.handle(at(100), 1000, packet(5, true, 800));
        assert_eq!(lost, None);
        assert_eq!(pressed, Some(Pressed { digit: Digit::from_char('5').expect("a key"), at: at(20), duration_ms: 100, complete: true }));
        for ms in [120, 140] {
            assert_eq!(receiver.handle(at(ms), 1000, packet(5, true, 800)), [None, None], "its end comes three times");
        }
        assert_eq!(receiver.handle(at(150), 1000, packet(5, false, 640)), [None, None], "and a late packet is no new key");
    }

    #[test]
    fn a_lost_end_is_made_up_for_by_time_or_by_the_next_key() {
        let mut receiver = Receiver::default();
        receiver.handle(at(0), 1000, packet(1, false, 160));
        let [lost, now] = receiver.handle(at(200), 2600, packet(1, false, 160));
        assert!(lost.is_some_and(|p| !p.complete) && now.is_none(), "the same key twice is two keys");
        assert_eq!(receiver.next_timeout(), Some(at(450)));
        assert_eq!(receiver.handle_timeout(at(449)), None);
        assert!(receiver.handle_timeout(at(450)).is_some());
        assert_eq!(receiver.handle_timeout(at(900)), None);
    }

    #[test]
    fn a_key_held_for_ten_seconds_is_one_key() {
        let mut receiver = Receiver::default();
        let mut heard = Vec::new();
        for n in 1..=500_u32 {
            // The field is full after 409 packets: from there on a second segment under a later time stamp.
            let (timestamp, ticks) = if n <= 409 { (1000, n * 160) } else { (1000 + 65_440, (n - 409) * 160) };
            let payload = packet(7, n == 500, u16::try_from(ticks).expect("fits"));
            heard.extend(receiver.handle(at(u64::from(n) * 20), timestamp, payload).into_iter().flatten());
        }
        assert!(matches!(*heard, [Pressed { duration_ms: 10_000, complete: true, .. }]), "{heard:?}");
    }

    #[test]
    fn another_source_or_a_reused_time_stamp_hides_no_key() {
        let mut receiver = Receiver::default();
        receiver.handle(at(0), 9000, packet(1, true, 800));
        assert!(receiver.handle(at(200), 9000, packet(2, true, 800))[1].is_some(), "another key under the same time stamp");
        assert_eq!(receiver.handle(at(400), 100, packet(3, true, 800)), [None, None], "late");
        assert_eq!(receiver.anew(), None);
        assert!(receiver.handle(at(400), 100, packet(3, true, 800))[1].is_some());
        receiver.handle(at(500), 2000, packet(4, false, 160));
        assert!(receiver.anew().is_some_and(|p| !p.complete), "what was down is let go");
    }

    /// Keys back to back through loss, doubling and swaps of neighbours: each of which a packet arrived is told once, in order, and none else.
    #[test]
    fn keys_are_exact_under_loss_doubles_and_swaps() {
        let mut chance = crate::chance::Chance::from_seed(11);
        for burst in [1, 4] {
            let (mut sent, mut heard) = (Vec::new(), Vec::new());
            let mut receiver = Receiver::default();
            let (mut clock, mut losing) = (0_u64, 0);
            for _ in 0..2000 {
                let event = u8::try_from(chance.below(16)).expect("a key");
                let timestamp = u32::try_from(clock * 8).expect("small");
                let mut packets: Vec<_> = (1..=5).map(|n| packet(event, false, n * 160)).chain([packet(event, true, 800); 3]).collect();
                packets.retain(|_| {
                    if losing == 0 && chance.percent(20 / burst) {
                        losing = burst;
                    }
                    losing = u64::saturating_sub(losing, 1);
                    losing == 0
                });
                if chance.percent(20) && packets.len() > 1 {
                    packets.swap(0, 1);
                }
                if chance.percent(20) {
                    packets.extend(packets.last().copied());
                }
                sent.extend((!packets.is_empty()).then_some(event));
                for one in packets {
                    clock += 20;
                    heard.extend(receiver.handle_timeout(at(clock)));
                    heard.extend(receiver.handle(at(clock), timestamp, one).into_iter().flatten());
                }
                clock += 60;
            }
            heard.extend(receiver.handle_timeout(at(clock + 1000)));
            let heard: Vec<u8> = heard.iter().map(|p| p.digit.code()).collect();
            assert_eq!(heard, sent, "bursts of {burst}");
        }
    }

    #[test]
    fn only_ends_arrive_and_still_one_key() {
        let mut receiver = Receiver::default();
        let [_, pressed] = receiver.handle(at(0), 77, packet(3, true, 800));
        assert!(pressed.is_some_and(|p| p.duration_ms == 100));
        assert_eq!(receiver.handle(at(1), 77, packet(3, true, 800)), [None, None]);
        assert_eq!(receiver.handle(at(2), 99, packet(70, true, 800)), [None, None], "a modem's tone is no key");
    }
}
