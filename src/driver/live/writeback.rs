//! The pipeline's thread: reads the journal, folds, does what is due, and carries requests to CRMs and answers back.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use serde_json::json;
use tokio::{runtime::Handle, sync::oneshot};

use super::latency::Latencies;
use crate::{
    crm::{HttpAnswer, HttpRequest},
    event::CallId,
    pipeline::{Count, Decision, NoAnswer, Order, Output, Pipeline, Recover, Store, StoreError, batch, webhook},
    shell::{
        clock::Clock,
        disk::{Lane, Tail},
        http::{self, Problem},
        secrets::{Kept, Secret},
        store::Sqlite,
        telemetry::{Health, Heart, Metrics},
    },
    time::{Instant, Now},
};

/// What the thread is told.
pub(super) enum Told {
    /// More of the journal is durable.
    Durable,
    /// The journal takes entries again.
    JournalOpened,
    /// A person decides on a write.
    Decide { target: String, call: CallId, decision: Decision, by: String, reply: oneshot::Sender<http::Answer> },
    /// Somebody orders something of what is kept of a call.
    Order { order: Order, reply: oneshot::Sender<http::Answer> },
    /// Calls are to be told again.
    Recover { recover: Recover, reply: oneshot::Sender<http::Answer> },
    /// Somebody asks how that stands.
    Recovery { operation: String, reply: oneshot::Sender<http::Answer> },
    /// What waits for a batch is to be written now.
    Batch { target: String, by: String, reply: oneshot::Sender<http::Answer> },
    /// What a CRM holds is to be compared.
    Reconcile { target: String, after: Option<CallId>, reply: oneshot::Sender<http::Answer> },
    /// An entry is on disk, or not.
    Synced(u64, Result<(), String>),
    /// A CRM answered, or a platform, or did not.
    Answered(u64, Result<HttpAnswer, NoAnswer>),
    /// A CRM took so long to answer.
    Took(String, Duration),
    /// End once nothing is under way, or at that time.
    Stop(Instant),
}

/// What the thread works with.
pub(super) struct Parts {
    pub(super) pipeline: Pipeline,
    pub(super) store: Sqlite,
    pub(super) tail: Tail,
    pub(super) lane: Lane,
    pub(super) clock: Clock,
    /// One client a CRM, and the refresh token that its kept one descends from.
    pub(super) crms: BTreeMap<String, (http::Client, Secret)>,
    /// One client for each platform whose API is asked.
    pub(super) platforms: BTreeMap<String, http::Client>,
    pub(super) kept: Kept,
    pub(super) metrics: Arc<Metrics>,
    /// Who takes bodies out of the journal.
    pub(super) pruning: mpsc::Sender<()>,
    pub(super) health: Health,
    pub(super) runtime: Handle,
}

/// The thread's handle.
pub(super) struct WriteBack {
    told: mpsc::Sender<Told>,
    thread: Option<JoinHandle<()>>,
}

impl WriteBack {
    /// Starts the thread.
    pub(super) fn start(parts: Parts, told: mpsc::Sender<Told>, inbox: mpsc::Receiver<Told>) -> std::io::Result<Self> {
        let heart = parts.health.heart("pipeline");
        let back = told.clone();
        let replies = BTreeMap::new();
        let (latencies, unkept, vacuum_at) = (Latencies::default(), Unkept::default(), Some(parts.clock.now().mono));
        let mut turns = Loop {
            parts,
            heart,
            back,
            replies,
            next_reply: 0,
            stop: None,
            shown: Instant::ORIGIN,
            latencies,
            unkept,
            scrub_at: None,
            vacuum_at,
        };
        // Which mappings are in use stands in the journal before whatever is written by them.
        turns.perform();
        let thread = std::thread::Builder::new().name("pipeline".into()).spawn(move || {
            // Of the thread alone, on Linux. It may be refused; then it is as urgent as everybody.
            let _ = rustix::process::nice(YIELDS);
            turns.run(&inbox);
        })?;
        Ok(Self { told, thread: Some(thread) })
    }

    /// Waits until what is under way has come to its end, `grace` at most.
    pub(super) fn stop(mut self, until: Instant) {
        let _ = self.told.send(Told::Stop(until));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Loop {
    parts: Parts,
    heart: Heart,
    back: mpsc::Sender<Told>,
    replies: BTreeMap<u64, oneshot::Sender<http::Answer>>,
    next_reply: u64,
    stop: Option<Instant>,
    /// When gauges were last set.
    shown: Instant,
    latencies: Latencies,
    unkept: Unkept,
    /// When the store's log is ended, in which stands still what was taken away.
    scrub_at: Option<Instant>,
    /// When its tables are written anew, which may hold copies of what erased calls held.
    vacuum_at: Option<Instant>,
}

/// CRMs whose newest token could not be kept, and why.
#[derive(Default)]
struct Unkept(BTreeMap<String, String>);

impl Unkept {
    /// How tokens stand, now that one of `crm` was kept or not.
    fn hear(&mut self, crm: String, kept: Result<(), String>) -> Result<(), String> {
        match kept {
            Ok(()) => self.0.remove(&crm),
            Err(why) => self.0.insert(crm, why),
        };
        self.0.values().next().map_or(Ok(()), |why| Err(why.clone()))
    }
}

impl Loop {
    fn run(mut self, inbox: &mpsc::Receiver<Told>) {
        loop {
            self.heart.beat();
            let now = self.parts.clock.now();
            let wait = match self.parts.pipeline.next_timeout() {
                Some(at) => self.parts.clock.until(at).min(Heart::PERIOD),
                None => Heart::PERIOD,
            };
            if let Some(until) = self.stop
                && (now.mono >= until || self.parts.pipeline.under_way() == 0)
            {
                self.parts.health.forget("pipeline");
                return;
            }
            let wait = if self.stop.is_some() { wait.min(STOPPING_PERIOD) } else { wait };
            let first = inbox.recv_timeout(wait).ok();
            let mut failed = None;
            for told in first.into_iter().chain(std::iter::from_fn(|| inbox.try_recv().ok()).take(TOLD_A_TURN)) {
                failed = self.hear(told).err().or(failed);
            }
            if let Err(error) = failed.map_or_else(|| self.turn(), Err) {
                // What was not committed is read again; the store may work again by then.
                tracing::error!(%error, "write-back stands still");
                self.parts.health.say("store", Err(error.to_string()));
                std::thread::sleep(STORE_PAUSE);
                if let Ok(position) = self.parts.store.position() {
                    self.parts.tail.seek(position);
                    self.parts.health.say("store", Ok(()));
                }
            }
            self.perform();
            self.scrub();
            self.vacuum();
            self.show();
        }
    }

    fn hear(&mut self, told: Told) -> Result<(), StoreError> {
        let now = self.parts.clock.now();
        match told {
            Told::Durable => {}
            Told::JournalOpened => self.parts.pipeline.journal_opened(),
            Told::Synced(append, result) => self.parts.pipeline.synced(now, append, result),
            Told::Answered(request, answer) => self.parts.pipeline.answer(now, request, answer),
            Told::Took(crm, took) => self.latencies.record(&crm, took),
            Told::Stop(until) => self.stop = Some(until),
            Told::Decide { target, call, decision, by, reply } => {
                let reply = self.wait(reply);
                let Parts { pipeline, store, .. } = &mut self.parts;
                pipeline.decide(now, store, reply, &target, call, decision, &by)?;
            }
            Told::Order { order, reply } => {
                let reply = self.wait(reply);
                let Parts { pipeline, store, .. } = &mut self.parts;
                pipeline.order(now, store, reply, order)?;
            }
            Told::Recover { recover, reply } => {
                let reply = self.wait(reply);
                self.parts.pipeline.recover(now, reply, recover);
            }
            Told::Recovery { operation, reply } => {
                let reply = self.wait(reply);
                self.parts.pipeline.recovery(reply, &operation);
            }
            Told::Batch { target, by, reply } => {
                let reply = self.wait(reply);
                self.parts.pipeline.run_batch(now, reply, &target, &by);
            }
            Told::Reconcile { target, after, reply } => {
                let reply = self.wait(reply);
                let Parts { pipeline, store, .. } = &mut self.parts;
                pipeline.reconcile(now, store, reply, &target, after)?;
            }
        }
        Ok(())
    }

    /// Keeps whoever waits for an answer; the number that it comes with.
    fn wait(&mut self, reply: oneshot::Sender<http::Answer>) -> u64 {
        self.next_reply = self.next_reply.wrapping_add(1);
        self.replies.insert(self.next_reply, reply);
        self.next_reply
    }

    fn turn(&mut self) -> Result<(), StoreError> {
        let Parts { pipeline, store, tail, clock, .. } = &mut self.parts;
        let (mut entries, mut next, mut caught_up) = (Vec::new(), None, false);
        while entries.len() < BATCH && !caught_up {
            match tail.next_batch(BATCH.saturating_sub(entries.len())).map_err(|damaged| StoreError(damaged.to_string()))? {
                Some(mut batch) => {
                    entries.append(&mut batch.entries);
                    next = Some(batch.next);
                }
                None => caught_up = true,
            }
        }
        if let Some(next) = next {
            pipeline.fold(store, &entries, next)?;
        }
        if !caught_up {
            // Come again at once.
            let _ = self.back.send(Told::Durable);
        }
        // While stopping, nothing new is begun: what is queued is safe in the store.
        if self.stop.is_none() { pipeline.turn(clock.now(), store, caught_up) } else { Ok(()) }
    }

    fn perform(&mut self) {
        while let Some(output) = self.parts.pipeline.poll_output() {
            let now = self.parts.clock.now();
            match output {
                Output::Append { append, entry } => self.append(now, append, entry),
                Output::Send { request, crm, http } => self.send(now, request, &crm, http),
                Output::Ask { request, source, http } => {
                    let client = self.parts.platforms.get(&source).cloned();
                    self.request(now, request, client, &source, None, http);
                }
                Output::Respond { reply, status, problem } => {
                    if let Some(waiting) = self.replies.remove(&reply) {
                        let answer = match problem {
                            None => Ok(json!({"ok": true})),
                            Some((detail, hint)) => Err(Problem::new(status, detail, hint)),
                        };
                        let _ = waiting.send(answer);
                    }
                }
                Output::Tell { reply, document } => {
                    if let Some(waiting) = self.replies.remove(&reply) {
                        let _ = waiting.send(Ok(document));
                    }
                }
                Output::KeepToken { crm, token } => {
                    let Some((_, first)) = self.parts.crms.get(&crm) else { continue };
                    let kept = self.parts.kept.keep(&crm, first, &Secret::new(token.to_string()));
                    if let Err(error) = &kept {
                        // The old one may be good no more: without this line nobody would know why the next start fails.
                        tracing::error!(%crm, %error, "a rotated refresh token could not be kept");
                    }
                    self.parts.health.say("secrets", self.unkept.hear(crm, kept.map_err(|e| e.to_string())));
                }
                Output::Pruned { calls, before } => {
                    self.parts.metrics.retention_calls.add(u64::try_from(calls).unwrap_or(u64::MAX));
                    tracing::info!(calls, %before, "calls are skeletons: what they held is taken away");
                    self.scrub_at = self.scrub_at.or((calls > 0).then_some(now.mono));
                    // A thread that has ended looks again at the next start.
                    let _ = self.parts.pruning.send(());
                }
                Output::Erased(call) => {
                    self.parts.metrics.retention_erasures.add(1);
                    tracing::info!(%call, "a call is erased: what it held is taken away");
                    self.vacuum_at = self.vacuum_at.or(Some(now.mono));
                    let _ = self.parts.pruning.send(());
                }
                Output::Late => drop(self.parts.pruning.send(())),
                Output::Count(count) => self.count(count),
            }
        }
    }

    fn append(&mut self, now: Now, append: u64, entry: crate::journal::Entry) {
        let back = self.back.clone();
        let on_synced = move |result: Result<_, String>| {
            let _ = back.send(Told::Synced(append, result.map(drop)));
        };
        if let Err(refused) = self.parts.lane.append(entry, on_synced) {
            self.parts.pipeline.synced(now, append, Err(refused.to_string()));
        }
    }

    fn send(&mut self, now: Now, request: u64, crm: &str, http: HttpRequest) {
        let client = self.parts.crms.get(crm).map(|(client, _)| client.clone());
        self.request(now, request, client, crm, Some(crm.to_owned()), http);
    }

    /// `timed`: whose latency it tells of.
    fn request(&mut self, now: Now, request: u64, client: Option<http::Client>, whom: &str, timed: Option<String>, http: HttpRequest) {
        let Some(client) = client else {
            let why = format!("no client for {whom}");
            self.parts.pipeline.answer(now, request, Err(NoAnswer { maybe_sent: false, why }));
            return;
        };
        let (back, began) = (self.back.clone(), std::time::Instant::now());
        self.parts.runtime.spawn(async move {
            let HttpRequest { method, url, headers, body } = http;
            let sent = client.send(http::Request { method: method.into(), url, headers, body }).await;
            let answer = match sent {
                Ok(http::Reply { status, headers, body }) => Ok(HttpAnswer { status, headers, body }),
                Err(http::Failed { maybe_sent, why }) => Err(NoAnswer { maybe_sent, why }),
            };
            if let Some(crm) = timed.filter(|_| answer.is_ok()) {
                let _ = back.send(Told::Took(crm, began.elapsed()));
            }
            let _ = back.send(Told::Answered(request, answer));
        });
    }

    fn count(&self, count: Count) {
        let metrics = &self.parts.metrics;
        match count {
            Count::Webhook(result) => metrics.webhook(result),
            Count::Drift { drift } => {
                metrics.webhook_drifts.add(1);
                if let Some(drift) = drift {
                    let webhook::Drift { source, against, kind, field, what, found, affects, .. } = &*drift;
                    let (what, affects) = (what.name(), affects.join(", "));
                    tracing::error!(%source, %against, r#type = %kind, %field, what, ?found, %affects, "webhooks have drifted; see `offhook webhooks drift`");
                }
            }
            Count::Expected => metrics.webhooks_expected.add(1),
            Count::Pull { source, result } => metrics.pull(&source, result),
            Count::Write { crm, outcome } => metrics.crm_write(&crm, outcome),
            Count::Batch(report) => {
                metrics.batch(&report);
                let batch::Report { target, from, run, written, pending, rejected, missing } = report;
                let (from, run) = (from.map(|at| at.to_string()), run.map(|at| at.to_string()));
                if pending.saturating_add(rejected).saturating_add(missing) == 0 {
                    tracing::info!(%target, ?from, ?run, written, "a batch is written");
                } else {
                    tracing::error!(%target, ?from, ?run, written, pending, rejected, missing, "a batch is not whole; see `offhook batch status`");
                }
            }
            Count::Delivered(lag) => metrics.delivered(lag),
        }
    }

    /// Has nothing that was taken away stand in the store's log; what keeps it from that goes by itself.
    fn scrub(&mut self) {
        let now = self.parts.clock.now().mono;
        if self.scrub_at.is_none_or(|at| now < at) {
            return;
        }
        let done = self.parts.store.scrub().unwrap_or_else(|error| {
            tracing::warn!(%error, "what was taken away stands in the store's log still; it is tried again");
            false
        });
        self.scrub_at = (!done).then_some(now + SCRUB_PAUSE);
    }

    /// Writes the store's tables anew behind erasures, some of them at once. Writes to CRMs wait meanwhile; calls and webhooks do not.
    fn vacuum(&mut self) {
        let now = self.parts.clock.now().mono;
        if self.vacuum_at.is_none_or(|at| now < at) {
            return;
        }
        let (store, heart) = (&mut self.parts.store, &self.heart);
        let done = std::thread::scope(|scope| {
            let running = scope.spawn(|| store.vacuum());
            while !running.is_finished() {
                heart.beat();
                std::thread::sleep(STOPPING_PERIOD.min(Heart::PERIOD));
            }
            running.join().unwrap_or_else(|_| Err(StoreError("the thread that writes it anew ended early".to_owned())))
        });
        let done = done.and_then(|done| if done { Ok(()) } else { Err(StoreError("somebody reads it".to_owned())) });
        self.vacuum_at = done.is_err().then(|| self.parts.clock.now().mono + VACUUM_PAUSE);
        match done {
            Ok(()) => self.parts.health.forget("erasure"),
            Err(error) => {
                tracing::warn!(%error, "copies of what erased calls held may stand in the store's files; it is tried again");
                self.parts.health.say("erasure", Err(format!("copies of what erased calls held may stand in the store's files: {error}")));
            }
        }
    }

    /// Sets the gauges, not more often than somebody could look.
    fn show(&mut self) {
        let now = self.parts.clock.now();
        if now.mono.since(self.shown) < SHOW_PERIOD {
            return;
        }
        self.shown = now.mono;
        self.parts.metrics.journal_appends.set(self.parts.lane.appends());
        self.latencies.show(&self.parts.metrics);
        self.parts.metrics.set_journal_sync(&self.parts.lane.sync_times());
        let (Ok(counts), Ok(held)) = (self.parts.store.counts(), self.parts.store.held()) else { return };
        // With a million writes that wait, counting them takes a while: it must not become what this thread does.
        self.shown = now.mono + self.parts.clock.now().mono.since(now.mono) * COUNTING_SHARE;
        let metrics = &self.parts.metrics;
        metrics.outbox_depth.set(counts.queued.saturating_add(counts.retrying).saturating_add(counts.in_flight));
        metrics.dead_letters.set(counts.dead);
        metrics.review_depth.set(counts.review);
        metrics.retention_held.set(held);
        let age = counts.oldest.map_or(0, |oldest| now.wall.as_millis().saturating_sub(oldest.as_millis()).max(0) / 1000);
        metrics.oldest_undelivered_seconds.set(usize::try_from(age).unwrap_or(usize::MAX));
    }
}

/// How much it gives way, where the processors are busy, to calls and to whoever waits for an answer: what is in the journal is safe, and can wait.
const YIELDS: i32 = 5;
/// Entries folded in one transaction, before answers are heard and requests leave. A page that many entries touch is written once in each: the further behind the
/// thread is, the less an entry costs.
const BATCH: usize = 4096;
/// Messages heard before the journal has a turn.
const TOLD_A_TURN: usize = 256;
/// After a failure of the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Whoever reads the store keeps its log from being ended: a command that lists a million rows takes a while, and each try may wait for it.
const SCRUB_PAUSE: Duration = Duration::from_secs(10);
/// A store that could not be written anew, since somebody reads it or the disk is full, is tried again after this.
const VACUUM_PAUSE: Duration = Duration::from_secs(60);
/// How often a stopping thread looks whether it is done.
const STOPPING_PERIOD: Duration = Duration::from_millis(50);
/// Counting takes at most one part in so many of the thread's time.
const COUNTING_SHARE: u32 = 50;
/// How often gauges are set.
const SHOW_PERIOD: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_well_again_once_each_crm_has_kept_one() {
        let mut unkept = Unkept::default();
        let full = || Err("the disk is full".to_owned());
        assert_eq!(unkept.hear("a".into(), full()), full());
        assert_eq!(unkept.hear("b".into(), full()), full());
        assert_eq!(unkept.hear("a".into(), Ok(())), full(), "that of b is not on disk yet");
        assert_eq!(unkept.hear("b".into(), Ok(())), Ok(()));
    }
}
