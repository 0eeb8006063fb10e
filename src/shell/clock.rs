//! The operating system's clocks as the core knows them: one monotonic origin, wall stamps that neither jump within a run nor run behind the journal.

use std::{
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::time::{Instant, Now, Wall};

/// The clock of a process. Copies share the origin, the floor and the offset.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: std::time::Instant,
    floor: Arc<AtomicI64>,
    /// Wall time at the origin, microseconds.
    offset: Arc<AtomicI64>,
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
        let clock = Self {
            origin: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
            floor: Arc::new(AtomicI64::new(i64::MIN)),
            offset: Arc::default(),
        };
        clock.offset.store(system().saturating_sub(clock.elapsed()), Ordering::Relaxed);
        clock
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// Monotonic time since the origin.
    pub fn mono(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Wall time for stamps and whatever is reckoned from them: it follows the system's as long as that is corrected gently, and goes on evenly where that is
    /// stepped, so that a step within a run changes no due time. Never before the floor.
    pub fn wall(&self) -> Wall {
        let (elapsed, offset) = (self.elapsed(), self.offset.load(Ordering::Relaxed));
        let followed = follow(offset, system().saturating_sub(elapsed));
        if followed != offset {
            self.offset.store(followed, Ordering::Relaxed);
        }
        Wall::from_micros(followed.saturating_add(elapsed).max(self.floor.load(Ordering::Relaxed)))
    }

    /// Wall time as the system has it, steps and all: what the window of a signature is held against.
    pub fn system_wall(&self) -> Wall {
        Wall::from_micros(system())
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

/// The system's wall time, microseconds since 1970.
fn system() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// The offset from now on: the system's where it is near, the one before where the system's was stepped.
fn follow(offset: i64, system: i64) -> i64 {
    if system.abs_diff(offset) <= STEP_US { system } else { offset }
}

/// What differs by more since the last look is a step, not the slewing of a clock that is kept in time.
const STEP_US: u64 = 500_000;
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
    fn a_step_is_not_followed_and_slewing_is() {
        const HOUR: i64 = 3_600_000_000;
        assert_eq!(follow(1000, 1000 + HOUR), 1000);
        assert_eq!(follow(1000, 1000 - HOUR), 1000);
        assert_eq!(follow(1000, 1400), 1400);
        let clock = Clock::new();
        let apart = clock.system_wall().as_millis() - clock.wall().as_millis();
        assert!(apart.abs() < 100, "{apart} ms");
    }

    #[test]
    fn the_runtimes_instant_is_the_same_moment() {
        let clock = Clock::new();
        let at = clock.mono() + Duration::from_secs(5);
        let ahead = clock.runtime(at).saturating_duration_since(std::time::Instant::now());
        assert!(ahead <= Duration::from_secs(5) && ahead > Duration::from_secs(4), "{ahead:?}");
    }
}
