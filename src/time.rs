//! Time as the core knows it: handed in, never asked for.
//!
//! Timers, lag and order use [`Instant`] (monotonic, one origin for all machines of a process); event stamps, ids, token life and
//! replay windows use [`Wall`]. A step of the wall clock within a run changes no timer.

use std::{
    fmt,
    ops::{Add, AddAssign, Sub},
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Monotonic time in microseconds since an arbitrary origin shared by all machines of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The origin itself.
    pub const ORIGIN: Self = Self(0);

    /// An instant `us` microseconds after the origin.
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// An instant `ms` milliseconds after the origin.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1000))
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to here; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds from `origin` to here, negative when `origin` is later.
    pub fn millis_since(self, origin: Self) -> i64 {
        let ms = |us: u64| i64::try_from(us / 1000).unwrap_or(i64::MAX);
        if self >= origin { ms(self.0 - origin.0) } else { -ms(origin.0 - self.0) }
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Wall-clock time in microseconds since 1970-01-01T00:00:00Z. Prints and serialises as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(i64);

impl Wall {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(us: i64) -> Self {
        Self(us)
    }

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The day it is in, counted from 1970-01-01, UTC.
    pub const fn day(self) -> i64 {
        self.0.div_euclid(DAY_MICROS)
    }

    /// How long it is until the next midnight, UTC.
    pub const fn next_midnight(self) -> Duration {
        Duration::from_micros(DAY_MICROS.saturating_sub(self.0.rem_euclid(DAY_MICROS)).unsigned_abs())
    }

    /// Reads an RFC 3339 time, whatever its offset; `None` where it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_microsecond()))
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

impl Add<Duration> for Wall {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Wall {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.as_millis()) {
            Ok(stamp) => write!(f, "{stamp:.3}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl Serialize for Wall {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wall {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected a time in RFC 3339, such as 2026-01-05T10:00:00.123Z"))
    }
}

/// Both clocks at one moment: what every machine is handed with each input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: timers, lag, order.
    pub mono: Instant,
    /// Wall clock: stamps and ids.
    pub wall: Wall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_prints_rfc3339_utc_with_milliseconds() {
        let at = Wall::parse("2026-01-05T11:00:00.1234+01:00").expect("a time");
        assert_eq!(at.to_string(), "2026-01-05T10:00:00.123Z");
        assert_eq!(serde_json::to_string(&at).expect("json"), "\"2026-01-05T10:00:00.123Z\"");
    }

    #[test]
    fn milliseconds_between_instants_have_a_sign() {
        let (a, b) = (Instant::from_millis(1500), Instant::from_millis(200));
        assert_eq!(a.millis_since(b), 1300);
        assert_eq!(b.millis_since(a), -1300);
        assert_eq!(b.since(a), Duration::ZERO);
    }
}
