//! How long something took in the last minutes: the journal's disk, a CRM.

use std::{
    fmt,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// Times of the last one to two windows of a minute.
pub struct RecentTimes {
    recent: Histogram<u64>,
    before: Histogram<u64>,
    since: Instant,
}

impl Default for RecentTimes {
    fn default() -> Self {
        Self { recent: empty(), before: empty(), since: Instant::now() }
    }
}

impl fmt::Debug for RecentTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecentTimes({} times)", self.recent.len())
    }
}

impl RecentTimes {
    /// One more.
    pub fn record(&mut self, took: Duration) {
        if self.since.elapsed() >= WINDOW {
            self.since = Instant::now();
            std::mem::swap(&mut self.recent, &mut self.before);
            self.recent.reset();
        }
        // What is longer than the range counts as its end.
        self.recent.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST_US).max(1));
    }

    /// Half of them took no longer, all but one in a hundred, and none.
    pub fn quantiles(&self) -> [(&'static str, Duration); 3] {
        let mut both = self.before.clone();
        // Both have one range, so that nothing can fall outside.
        let _ = both.add(&self.recent);
        [("0.5", 0.5), ("0.99", 0.99), ("1", 1.0)].map(|(name, q)| (name, Duration::from_micros(both.value_at_quantile(q))))
    }
}

#[allow(clippy::expect_used, reason = "both arguments are constants within the type's bounds, and the unit test makes one")]
fn empty() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_US, 2).expect("a range and a precision that the type takes")
}

/// What takes more than a minute has failed.
const LONGEST_US: u64 = 60_000_000;
/// An alert on the 99th percentile should forget a stall after a few minutes.
const WINDOW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_shows_in_the_longest_and_not_in_the_median() {
        let mut times = RecentTimes::default();
        (0..99).for_each(|_| times.record(Duration::from_millis(1)));
        times.record(Duration::from_secs(2));
        let [(_, p50), (_, p99), (_, worst)] = times.quantiles();
        assert_eq!((p50.as_millis(), p99.as_millis()), (1, 1));
        assert!((1_980..=2_020).contains(&worst.as_millis()), "{worst:?}");
    }
}
