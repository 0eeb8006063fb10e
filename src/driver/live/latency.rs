//! How long CRMs take to answer, and when that is too long: what is slow today is down tomorrow, and lag grows before anything fails.

use std::{collections::BTreeMap, time::Duration};

use crate::shell::{recent_times::RecentTimes, telemetry::Metrics};

/// Each CRM's answers of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Latencies(BTreeMap<String, Latency>);

#[derive(Debug, Default)]
struct Latency {
    times: RecentTimes,
    /// It was said that it is slow.
    slow: bool,
}

/// What is to be said.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Slow,
    Well,
}

impl Latencies {
    /// An answer came after so long.
    pub(super) fn record(&mut self, crm: &str, took: Duration) {
        match self.0.get_mut(crm) {
            Some(latency) => latency.times.record(took),
            None => self.0.entry(crm.to_owned()).or_default().times.record(took),
        }
    }

    /// Sets the gauges, and says once where a CRM has become slow.
    pub(super) fn show(&mut self, metrics: &Metrics) {
        for (crm, latency) in &mut self.0 {
            let quantiles = latency.times.quantiles();
            metrics.set_crm_latency(crm, &quantiles);
            let [_, (_, p99), _] = quantiles;
            let p99_ms = p99.as_millis();
            match latency.turn(p99) {
                Some(Turn::Slow) => tracing::warn!(%crm, p99_ms, "the CRM answers slowly; writes fall behind if it lasts"),
                Some(Turn::Well) => tracing::info!(%crm, p99_ms, "the CRM answers as it should again"),
                None => {}
            }
        }
    }
}

impl Latency {
    fn turn(&mut self, p99: Duration) -> Option<Turn> {
        let slow = if self.slow { p99 > WELL } else { p99 > SLOW };
        let turn = (slow != self.slow).then_some(if slow { Turn::Slow } else { Turn::Well });
        self.slow = slow;
        turn
    }
}

/// The 99th percentile above which a CRM is slow: from there on a queue of ten writes takes seconds.
const SLOW: Duration = Duration::from_millis(500);
/// Below this it is well again; in between nothing is said, so that a CRM on the edge is not told of every minute.
const WELL: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_that_a_crm_is_slow_and_once_that_it_is_well_again() {
        let mut latency = Latency::default();
        let turns = [300, 501, 700, 450, 399, 450].map(|ms| latency.turn(Duration::from_millis(ms)));
        assert_eq!(turns, [None, Some(Turn::Slow), None, None, Some(Turn::Well), None]);
    }

    #[test]
    fn one_slow_answer_in_a_thousand_is_none() {
        let mut latencies = Latencies::default();
        (0..999).for_each(|_| latencies.record("crm", Duration::from_millis(20)));
        latencies.record("crm", Duration::from_secs(5));
        latencies.show(&Metrics::default());
        assert!(!latencies.0["crm"].slow);
        (0..20).for_each(|_| latencies.record("crm", Duration::from_secs(5)));
        latencies.show(&Metrics::default());
        assert!(latencies.0["crm"].slow);
    }
}
