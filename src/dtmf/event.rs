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
    /// Time stamp of the last event that is over, so that its repeated ends are known (RFC 4733 §2.5.1.4 sends three).
    over: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    timestamp: u32,
    digit: Digit,
    at: Instant,
    last: Instant,
    ticks: u16,
}

/// A key of which nothing was heard for so long has been let go: packets come every 20 to 50 ms while it is held (RFC 4733 §2.5.2.2 leaves the wait to us).
pub const LOST_AFTER: Duration = Duration::from_millis(250);
/// Ticks a millisecond of telephone-event at 8000 Hz.
const TICKS_PER_MS: u32 = 8;

impl Receiver {
    /// A packet came. `timestamp` is its RTP time stamp, the same for all packets of an event. Up to two keys come of it: one whose end was lost, and one
    /// that ends with this packet.
    pub fn handle(&mut self, now: Instant, timestamp: u32, payload: Payload) -> [Option<Pressed>; 2] {
        let Some(digit) = Digit::from_code(payload.event) else { return [None, None] };
        if self.over.is_some_and(|over| timestamp == over || older(timestamp, over)) {
            return [None, None];
        }
        let mut lost = None;
        match &mut self.now {
            Some(held) if held.timestamp == timestamp => {
                held.last = now;
                held.ticks = held.ticks.max(payload.duration);
            }
            Some(held) if older(timestamp, held.timestamp) => return [None, None],
            _ => {
                lost = self.finish(false);
                self.now = Some(Held { timestamp, digit, at: now, last: now, ticks: payload.duration });
            }
        }
        [lost, if payload.end { self.finish(true) } else { None }]
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
        self.over = Some(held.timestamp);
        Some(Pressed { digit: held.digit, at: held.at, duration_ms: u32::from(held.ticks) / TICKS_PER_MS, complete })
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
    fn only_ends_arrive_and_still_one_key() {
        let mut receiver = Receiver::default();
        let [_, pressed] = receiver.handle(at(0), 77, packet(3, true, 800));
        assert!(pressed.is_some_and(|p| p.duration_ms == 100));
        assert_eq!(receiver.handle(at(1), 77, packet(3, true, 800)), [None, None]);
        assert_eq!(receiver.handle(at(2), 99, packet(70, true, 800)), [None, None], "a modem's tone is no key");
    }
}
