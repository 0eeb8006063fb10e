//! The metrics of the contract, all starting `offhook_`.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::pipeline::batch::Report;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    target: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BatchCalls {
    target: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Quantile {
    quantile: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pull {
    source: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTarget {
    target: String,
    quantile: &'static str,
}

/// Counts by outcome, absolute since the start.
pub type Outcomes<'a> = &'a [(&'static str, u64)];

/// Everything that is counted. Gauges and totals are set from the machines' own figures after each of their turns, so that a machine needs
/// to know nothing of metrics.
pub struct Metrics {
    registry: Registry,
    /// Calls admitted and not ended.
    pub calls_active: Level,
    /// SIP dialogs.
    pub dialogs_active: Level,
    /// SIP transactions.
    pub transactions_active: Level,
    /// RTP ports bound.
    pub rtp_ports_in_use: Level,
    /// CRM writes that wait.
    pub outbox_depth: Level,
    /// Writes whose retries are exhausted.
    pub dead_letters: Level,
    /// Writes that wait for a person.
    pub review_depth: Level,
    /// Age of the oldest write that waits, in seconds; 0 without one.
    pub oldest_undelivered_seconds: Level,
    /// Calls that are held: retention takes nothing of them.
    pub retention_held: Level,
    /// Webhooks with a wrong signature that are kept.
    pub webhooks_quarantined: Level,
    /// Oddities of payloads: not what schema or mapping were written for.
    pub webhook_drifts: Total,
    /// Webhooks with a wrong signature that were not kept, or no longer.
    pub quarantine_lost: Total,
    /// Whether the journal takes events: 1 or 0.
    pub journal_open: Level,
    /// Entries that the journal acknowledged.
    pub journal_appends: Total,
    /// Calls whose outcome should come by webhook.
    pub webhooks_expected: Total,
    /// Calls of which what they held was taken away.
    pub retention_calls: Total,
    /// Calls that somebody had erased.
    pub retention_erasures: Total,
    /// Octets of the journal that were taken away with it, or by their own age.
    pub retention_octets: Total,
    calls: Family<Outcome, Counter>,
    webhooks_received: Family<WebhookResult, Counter>,
    webhook_pulls: Family<Pull, Counter>,
    crm_writes: Family<Write, Counter>,
    batch_calls: Family<BatchCalls, Gauge<i64, AtomicI64>>,
    refused: Family<Cause, Counter>,
    malformed: Family<Cause, Counter>,
    lost: Family<Cause, Counter>,
    delivery_lag: Histogram,
    journal_sync: Family<Quantile, Gauge<f64, AtomicU64>>,
    crm_latency: Family<OfTarget, Gauge<f64, AtomicU64>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

/// A figure that rises and falls.
#[derive(Clone, Debug, Default)]
pub struct Level(Gauge<i64, AtomicI64>);

impl Level {
    /// It stands at `value`.
    pub fn set(&self, value: usize) {
        self.0.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

/// A figure that only rises.
#[derive(Clone, Debug, Default)]
pub struct Total(Counter<u64, AtomicU64>);

impl Total {
    /// It has come to `value` since the start.
    pub fn set(&self, value: u64) {
        self.0.inner().store(value, Ordering::Relaxed);
    }

    /// `by` more.
    pub fn add(&self, by: u64) {
        self.0.inc_by(by);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All figures at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("offhook");
        let mut level = |name: &str, help: &str| {
            let level = Level::default();
            registry.register(name, help, level.0.clone());
            level
        };
        let calls_active = level("calls_active", "Calls admitted and not ended");
        let dialogs_active = level("dialogs_active", "SIP dialogs");
        let transactions_active = level("transactions_active", "SIP transactions");
        let rtp_ports_in_use = level("rtp_ports_in_use", "RTP ports bound");
        let outbox_depth = level("outbox_depth", "CRM writes that wait");
        let dead_letters = level("dead_letters", "CRM writes whose retries are exhausted");
        let review_depth = level("review_depth", "CRM writes that wait for a person");
        let oldest_undelivered_seconds = level("oldest_undelivered_seconds", "Age of the oldest CRM write that waits");
        let retention_held = level("retention_held", "Calls that are held: retention takes nothing of them");
        let webhooks_quarantined = level("webhooks_quarantined", "Webhooks with a wrong signature that are kept");
        let journal_open = level("journal_open", "Whether the journal takes events");
        let mut total = |name: &str, help: &str| {
            let total = Total::default();
            registry.register(name, help, total.0.clone());
            total
        };
        let webhook_drifts = total("webhook_drifts", "Payloads that are not what their schema or mapping was written for");
        let quarantine_lost = total("webhooks_quarantine_lost", "Webhooks with a wrong signature that were not kept, or no longer");
        let journal_appends = total("journal_appends", "Entries that the journal acknowledged");
        let webhooks_expected = total("webhooks_expected", "Calls whose outcome should come by webhook");
        let retention_calls = total("retention_calls", "Calls of which what they held was taken away");
        let retention_erasures = total("retention_erasures", "Calls that somebody had erased");
        let retention_octets = total("retention_octets", "Octets that retention has taken out of the journal's segments");
        let calls = Family::default();
        registry.register("calls", "Calls ended, by how they were met", calls.clone());
        let webhooks_received = Family::default();
        registry.register("webhooks_received", "Webhooks received, by result", webhooks_received.clone());
        let webhook_pulls = Family::default();
        let help = "Calls that a platform's API was asked for since a webhook was missing, by source and result";
        registry.register("webhook_pulls", help, webhook_pulls.clone());
        let crm_writes = Family::default();
        registry.register("crm_writes", "CRM writes answered, by target and outcome", crm_writes.clone());
        let batch_calls = Family::default();
        registry.register("batch_calls", "Calls of each CRM's last batch that was looked at, by what became of them", batch_calls.clone());
        let refused = Family::default();
        registry.register("calls_refused", "Calls refused before admission, by cause", refused.clone());
        let malformed = Family::default();
        registry.register("sip_malformed", "SIP messages that could not be used, by cause", malformed.clone());
        let lost = Family::default();
        registry.register("sip_lost", "SIP datagrams and connections given up, by cause", lost.clone());
        let delivery_lag = Histogram::new(DELIVERY_LAG_BUCKETS);
        registry.register("delivery_lag_seconds", "From call.ended to the CRM's acknowledgement", delivery_lag.clone());
        let journal_sync = Family::default();
        registry.register(
            "journal_sync_seconds",
            "How long fdatasync of the journal took in the last minutes, by quantile",
            journal_sync.clone(),
        );
        let crm_latency = Family::default();
        registry.register("crm_latency_seconds", "How long each CRM took to answer in the last minutes, by quantile", crm_latency.clone());
        let metrics = Self {
            registry,
            calls_active,
            dialogs_active,
            transactions_active,
            rtp_ports_in_use,
            outbox_depth,
            dead_letters,
            review_depth,
            oldest_undelivered_seconds,
            retention_held,
            webhooks_quarantined,
            webhook_drifts,
            quarantine_lost,
            journal_open,
            journal_appends,
            webhooks_expected,
            retention_calls,
            retention_erasures,
            retention_octets,
            calls,
            webhooks_received,
            webhook_pulls,
            crm_writes,
            batch_calls,
            refused,
            malformed,
            lost,
            delivery_lag,
            journal_sync,
            crm_latency,
        };
        // A series that is there from the start can be alerted on; one that appears with its first count cannot.
        metrics.set_calls(&OUTCOMES.map(|o| (o, 0)));
        metrics.set_webhooks(&WEBHOOK_RESULTS.map(|r| (r, 0)));
        metrics
    }

    /// Calls ended, by outcome.
    pub fn set_calls(&self, counts: Outcomes<'_>) {
        for &(outcome, count) in counts {
            set(&self.calls, &Outcome { outcome }, count);
        }
    }

    /// Webhooks received, by result.
    pub fn set_webhooks(&self, counts: Outcomes<'_>) {
        for &(result, count) in counts {
            set(&self.webhooks_received, &WebhookResult { result }, count);
        }
    }

    /// One webhook more.
    pub fn webhook(&self, result: &'static str) {
        self.webhooks_received.get_or_create(&WebhookResult { result }).inc();
    }

    /// A platform's API was asked for what a webhook lost.
    pub fn pull(&self, source: &str, result: &'static str) {
        self.webhook_pulls.get_or_create(&Pull { source: source.to_owned(), result }).inc();
    }

    /// What became of a CRM's last batch.
    pub fn batch(&self, report: &Report) {
        let Report { target, written, pending, rejected, missing, .. } = report;
        for (state, count) in [("written", written), ("pending", pending), ("rejected", rejected), ("missing", missing)] {
            let labels = BatchCalls { target: target.clone(), state: state.to_owned() };
            self.batch_calls.get_or_create(&labels).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// One answer of a CRM more.
    pub fn crm_write(&self, target: &str, outcome: impl Into<String>) {
        self.crm_writes.get_or_create(&Write { target: target.to_owned(), outcome: outcome.into() }).inc();
    }

    /// Calls refused before admission, by cause.
    pub fn set_refused(&self, counts: Outcomes<'_>) {
        for &(cause, count) in counts {
            set(&self.refused, &Cause { cause }, count);
        }
    }

    /// SIP messages that could not be used, by cause.
    pub fn set_malformed(&self, counts: Outcomes<'_>) {
        for &(cause, count) in counts {
            set(&self.malformed, &Cause { cause }, count);
        }
    }

    /// SIP datagrams and connections given up, by cause.
    pub fn set_lost(&self, counts: Outcomes<'_>) {
        for &(cause, count) in counts {
            set(&self.lost, &Cause { cause }, count);
        }
    }

    /// A call's record was acknowledged so long after its end.
    pub fn delivered(&self, lag: std::time::Duration) {
        self.delivery_lag.observe(lag.as_secs_f64());
    }

    /// How long the journal's syncs took lately, by quantile.
    pub fn set_journal_sync(&self, quantiles: &[(&'static str, std::time::Duration)]) {
        for &(quantile, took) in quantiles {
            self.journal_sync.get_or_create(&Quantile { quantile }).set(took.as_secs_f64());
        }
    }

    /// How long a CRM took to answer.
    pub fn set_crm_latency(&self, target: &str, quantiles: &[(&'static str, std::time::Duration)]) {
        for &(quantile, took) in quantiles {
            self.crm_latency.get_or_create(&OfTarget { target: target.to_owned(), quantile }).set(took.as_secs_f64());
        }
    }

    /// In the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // A `String` takes whatever it is given.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn set<L: Clone + Eq + std::hash::Hash>(family: &Family<L, Counter>, labels: &L, count: u64) {
    family.get_or_create(labels).inner().store(count, Ordering::Relaxed);
}

/// Upper bounds in seconds: from a CRM next door to a day's outage.
pub const DELIVERY_LAG_BUCKETS: [f64; 14] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0];
/// How a call was met: the contract's words.
const OUTCOMES: [&str; 9] = ["answered", "busy", "no_answer", "rejected", "invalid_number", "machine", "congestion", "cancelled", "failed"];
/// What became of a webhook: the contract's words.
const WEBHOOK_RESULTS: [&str; 5] = ["accepted", "duplicate", "conflict", "bad_signature", "refused"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_contract_is_rendered() {
        let metrics = Metrics::new();
        metrics.crm_write("hubspot", "done");
        metrics.crm_write("hubspot", "done");
        metrics.delivered(std::time::Duration::from_millis(300));
        metrics.calls_active.set(3);
        metrics.journal_appends.set(7);
        metrics.retention_calls.add(2);
        let text = metrics.render();
        for line in [
            "offhook_calls_active 3",
            "offhook_dialogs_active 0",
            "offhook_transactions_active 0",
            "offhook_rtp_ports_in_use 0",
            "offhook_calls_total{outcome=\"no_answer\"} 0",
            "offhook_journal_appends_total 7",
            "offhook_outbox_depth 0",
            "offhook_retention_calls_total 2",
            "offhook_retention_held 0",
            "offhook_retention_erasures_total 0",
            "offhook_retention_octets_total 0",
            "offhook_dead_letters 0",
            "offhook_review_depth 0",
            "offhook_delivery_lag_seconds_bucket{le=\"0.5\"} 1",
            "offhook_oldest_undelivered_seconds 0",
            "offhook_webhooks_expected_total 0",
            "offhook_webhooks_received_total{result=\"bad_signature\"} 0",
            "offhook_crm_writes_total{target=\"hubspot\",outcome=\"done\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
    }
}
