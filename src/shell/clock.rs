//! The operating system's clocks as the core knows them: one monotonic origin, wall stamps that never run behind the journal.

use std::{
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::time::{Instant, Now, Wall};

/// The clock of a process. Copies share the origin and the floor.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: std::time::Instant,
    floor: Arc<AtomicI64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Starts now; its origin lies a second back, so that a machine may look a little behind it.
    pub fn new() -> Self {
        let now = std::time::Instant::now();
        Self { origin: now.checked_sub(Duration::from_secs(1)).unwrap_or(now), floor: Arc::new(AtomicI64::new(i64::MIN)) }
    }

    /// Monotonic time since the origin.
    pub fn mono(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Wall time, never before the floor.
    pub fn wall(&self) -> Wall {
        let us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
        Wall::from_micros(us.max(self.floor.load(Ordering::Relaxed)))
    }

    /// Both at once.
    pub fn now(&self) -> Now {
        Now { mono: self.mono(), wall: self.wall() }
    }

    /// No later wall stamp is earlier than `last`: the journal's last stamp, at start.
    pub fn not_before(&self, last: Wall) {
        self.floor.fetch_max(last.as_micros(), Ordering::Relaxed);
    }

    /// `at` as the runtime's own instant, for a timer.
    pub fn runtime(&self, at: Instant) -> std::time::Instant {
        self.origin.checked_add(Duration::from_micros(at.as_micros())).unwrap_or_else(|| std::time::Instant::now() + FAR)
    }

    /// How long from now until `at`; zero when it is past.
    pub fn until(&self, at: Instant) -> Duration {
        at.since(self.mono())
    }
}

/// A wake-up that never matters: what a timer beyond the clock's range becomes.
const FAR: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_never_runs_behind_its_floor() {
        let clock = Clock::new();
        let ahead = clock.wall() + Duration::from_secs(3600);
        clock.clone().not_before(ahead);
        assert_eq!(clock.wall(), ahead);
        clock.not_before(Wall::from_millis(1));
        assert_eq!(clock.wall(), ahead, "a floor never sinks");
    }

    #[test]
    fn the_runtimes_instant_is_the_same_moment() {
        let clock = Clock::new();
        let at = clock.mono() + Duration::from_secs(5);
        let ahead = clock.runtime(at).saturating_duration_since(std::time::Instant::now());
        assert!(ahead <= Duration::from_secs(5) && ahead > Duration::from_secs(4), "{ahead:?}");
    }
}
