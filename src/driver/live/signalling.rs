//! The gateway's loop: a thread with a runtime of its own, the SIP sockets on it.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant as Moment},
};

use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{Error, Options, compose, events::Events};
use crate::{
    call::SecureAnswer,
    chance::Chance,
    config::Config,
    event::{CallId, Event},
    gateway::{Command, Gateway, JournalWord, Output},
    journal::{Entry, EntryKind},
    media::{self, Report, Sink},
    shell::{
        clock::Clock,
        disk::{Lane, Notice},
        http::{self, Problem},
        media_io::MediaIo,
        net::{Input, Listener, Net},
        recorder::Recorder,
        telemetry::{Health, Heart, Metrics},
    },
    sip::endpoint::Transmit,
    time::Instant,
};

/// What the loop is told from outside.
pub(super) enum Order {
    /// Switch a secure phase.
    Secure { call: CallId, on: bool, reason: String, reply: oneshot::Sender<http::Answer> },
    /// No new calls; end within that time, then say so.
    Drain(Duration, oneshot::Sender<()>),
    /// End all calls now.
    EndCalls,
    /// A target's name has another address.
    Moved { target: usize, address: SocketAddr },
}

/// What the loop works with.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) targets: Vec<SocketAddr>,
    pub(super) options: Options,
    pub(super) chance: Chance,
    pub(super) clock: Clock,
    pub(super) lane: Lane,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Health,
}

/// The loop's handle.
pub(super) struct Signalling {
    pub(super) listeners: Vec<Listener>,
    pub(super) orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

impl Signalling {
    /// Starts the thread; on return its sockets are open.
    pub(super) async fn start(
        parts: Parts,
        orders: mpsc::Sender<Order>,
        ordered: mpsc::Receiver<Order>,
        noticed: mpsc::UnboundedReceiver<Notice>,
    ) -> Result<Self, Error> {
        let refused = |what, e| Error::System(what, e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| refused("a runtime", e))?;
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("gateway".into())
            .spawn(move || {
                runtime.block_on(async move {
                    match Loop::open(parts, ordered, noticed).await {
                        Ok(mut turning) => {
                            if ready.send(Ok(turning.net.listeners().to_vec())).is_ok() {
                                turning.run().await;
                            }
                        }
                        Err(error) => drop(ready.send(Err(error))),
                    }
                });
            })
            .map_err(|e| refused("a thread for the gateway", e))?;
        let listeners = started.await.map_err(|_| refused("the gateway's thread", io::Error::other("it ended")))??;
        Ok(Self { listeners, orders, thread })
    }

    /// No new calls; returns when the last call has ended, at the latest a little after `limit`.
    pub(super) async fn drain(self, limit: Duration) {
        let (done, ended) = oneshot::channel();
        if self.orders.send(Order::Drain(limit, done)).await.is_ok() {
            let _ = ended.await;
        }
        drop(self.orders);
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

/// A drain under way.
struct Draining {
    /// Calls are ended then.
    calls_until: Instant,
    /// And then nothing is waited for any more.
    until: Instant,
    ended: bool,
    done: Option<oneshot::Sender<()>>,
}

struct Loop {
    gateway: Gateway,
    net: Net,
    // Before the recorder, which ends when nobody can tap any more.
    media: MediaIo,
    _recorder: Recorder,
    reports: mpsc::UnboundedReceiver<Report>,
    ordered: mpsc::Receiver<Order>,
    noticed: mpsc::UnboundedReceiver<Notice>,
    events: Events,
    synced: mpsc::UnboundedReceiver<()>,
    replies: BTreeMap<u64, oneshot::Sender<http::Answer>>,
    next_ask: u64,
    draining: Option<Draining>,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Health,
    heart: Heart,
    /// When metrics were last set.
    shown: Instant,
    /// Something may have changed since.
    stale: bool,
}

impl Loop {
    async fn open(parts: Parts, ordered: mpsc::Receiver<Order>, noticed: mpsc::UnboundedReceiver<Notice>) -> Result<Self, Error> {
        let Parts { config, targets, options, mut chance, clock, lane, metrics, health } = parts;
        let net = Net::bind(&config.sip.listen, config.sip.tcp_idle, clock.clone(), options.tap).await?;
        let (to_gateway, reports) = mpsc::unbounded_channel();
        let report = move |report| drop(to_gateway.send(report));
        let media_config = media::Config {
            #[cfg(feature = "planted-faults")]
            mask_off: options.mask_off,
        };
        let recorder = Recorder::start(config.data.directory.join("recordings"), clock.clone(), report.clone())
            .map_err(|e| Error::System("a thread for recordings", e))?;
        #[cfg(feature = "planted-faults")]
        if options.recorder_hangs {
            recorder.hang();
        }
        let media = MediaIo::start(config.media.workers, &media_config, &clock, &mut chance, recorder.queue(), report)
            .map_err(|e| Error::System("threads for media", e))?;
        let gateway = Gateway::new(compose::gateway(&config, &targets, net.listeners()), chance.split());
        let (on_synced, synced) = mpsc::unbounded_channel();
        let heart = health.heart("gateway");
        let (replies, next_ask, draining) = (BTreeMap::new(), 0, None);
        Ok(Self {
            gateway,
            net,
            media,
            _recorder: recorder,
            reports,
            ordered,
            noticed,
            events: Events::new(lane, on_synced),
            synced,
            replies,
            next_ask,
            draining,
            clock,
            metrics,
            health,
            heart,
            shown: Instant::ORIGIN,
            stale: false,
        })
    }

    async fn run(&mut self) {
        loop {
            self.turn();
            if self.drained() {
                self.health.forget("gateway");
                return;
            }
            let wake = self.gateway.next_timeout().map_or(Heart::PERIOD, |at| self.clock.until(at).min(Heart::PERIOD));
            let wake = if self.stale { wake.min(SHOW_PERIOD) } else { wake };
            let wake = if self.draining.is_some() { wake.min(DRAIN_PERIOD) } else { wake };
            let wake = tokio::time::Instant::from_std(Moment::now() + wake);
            tokio::select! {
                input = self.net.next() => self.input(input),
                Some(report) = self.reports.recv() => self.report(report),
                Some(order) = self.ordered.recv() => self.order(order),
                Some(notice) = self.noticed.recv() => self.notice(&notice),
                Some(()) = self.synced.recv() => self.gateway.handle_journal(JournalWord::Done(1)),
                () = tokio::time::sleep_until(wake) => {}
            }
            // What waits beside it goes into the same turn; the bound keeps timers on time.
            for _ in 0..INPUTS_A_TURN {
                let Some(input) = self.net.try_next() else { break };
                self.input(input);
            }
            while let Ok(report) = self.reports.try_recv() {
                self.report(report);
            }
            let mut done = 0_usize;
            while self.synced.try_recv().is_ok() {
                done = done.saturating_add(1);
            }
            self.gateway.handle_journal(JournalWord::Done(done));
        }
    }

    /// Runs what is due, does what is to be done, shows how things stand.
    fn turn(&mut self) {
        self.heart.beat();
        let now = self.clock.now();
        if self.gateway.next_timeout().is_some_and(|at| at <= now.mono) {
            self.gateway.handle_timeout(now);
        }
        while let Some(output) = self.gateway.poll_output() {
            self.perform(output);
        }
        self.events.hand_over_again();
        self.show();
    }

    fn input(&mut self, input: Input) {
        let now = self.clock.now();
        match input {
            Input::Datagram { listener, remote, bytes } => self.gateway.handle_datagram(now, listener, remote, &bytes),
            Input::Connected { connection, listener, remote, .. } => self.gateway.handle_connected(now, connection, remote, listener),
            Input::Stream { connection, bytes } => self.gateway.handle_stream(now, connection, &bytes),
            Input::Closed { connection, why } => {
                tracing::debug!(connection, %why, "a SIP connection is closed");
                self.gateway.handle_closed(now, connection);
            }
        }
        // An answer that goes out now is a retransmission less.
        while let Some(output) = self.gateway.poll_output() {
            self.perform(output);
        }
    }

    fn report(&mut self, report: Report) {
        match &report {
            Report::SinkFailed { call, sink: Sink::Recorder, why, .. } => self.health.say(RECORDER, Err(format!("call {call}: {why}"))),
            // It works again, or for others.
            Report::Secured { sink: Sink::Recorder, .. } => self.health.say(RECORDER, Ok(())),
            _ => {}
        }
        self.gateway.handle_report(self.clock.now(), report);
    }

    fn order(&mut self, order: Order) {
        let now = self.clock.now();
        match order {
            Order::Secure { call, on, reason, reply } => {
                self.next_ask = self.next_ask.wrapping_add(1);
                self.replies.insert(self.next_ask, reply);
                self.gateway.handle_command(now, Command::Secure { ask: self.next_ask, call, on, reason });
            }
            Order::Drain(limit, done) => {
                let calls_until = now.mono + limit;
                self.gateway.handle_command(now, Command::Drain);
                self.draining = Some(Draining { calls_until, until: calls_until + BYES, ended: false, done: Some(done) });
            }
            Order::EndCalls => {
                if let Some(draining) = &mut self.draining {
                    draining.calls_until = now.mono;
                    draining.until = now.mono + BYES;
                }
                self.gateway.handle_command(now, Command::EndCalls);
            }
            Order::Moved { target, address } => self.gateway.handle_command(now, Command::Moved { target, address }),
        }
    }

    fn notice(&mut self, notice: &Notice) {
        let word = match notice {
            Notice::Durable(_) => return,
            Notice::Opened => {
                self.health.say("journal", Ok(()));
                JournalWord::Opened
            }
            Notice::Closed(why) => {
                self.health.say("journal", Err(why.clone()));
                JournalWord::Closed
            }
        };
        self.metrics.journal_open.set(usize::from(word == JournalWord::Opened));
        self.gateway.handle_journal(word);
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Transmit(Transmit::Datagram { listener, to, bytes }) => self.net.datagram(listener, to, &bytes),
            Output::Transmit(Transmit::Connect { connection, to, listener }) => self.net.connect(connection, to, listener),
            Output::Transmit(Transmit::Stream { connection, bytes }) => self.net.stream(connection, bytes),
            Output::Transmit(Transmit::Close { connection }) => self.net.close(connection),
            Output::Media(command) => {
                if let media::Command::Unrecord { call } = &command {
                    self.health.say(RECORDER, Err(format!("call {call}: it did not confirm a secure phase; the recording is closed")));
                }
                self.media.send(command);
            }
            Output::Event(event) => self.events.hand_over(event),
            Output::Secured { ask, answer } => {
                if let Some(reply) = self.replies.remove(&ask) {
                    let _ = reply.send(secured(answer));
                }
            }
        }
    }

    /// Whether the drain has come to its end.
    fn drained(&mut self) -> bool {
        let now = self.clock.now();
        let Some(draining) = &mut self.draining else { return false };
        let calls = self.gateway.live_calls();
        if calls > 0 && now.mono >= draining.calls_until && !draining.ended {
            draining.ended = true;
            tracing::warn!(calls, "the drain's limit is reached: calls are ended");
            self.gateway.handle_command(now, Command::EndCalls);
            return false;
        }
        // A BYE that was just sent may want to be sent again.
        let quiet = calls == 0 && (self.gateway.next_timeout().is_none() || now.mono >= draining.until);
        let quiet = quiet || (calls == 0 && now.mono.since(draining.calls_until) >= BYES);
        let early = calls == 0 && !draining.ended && now.mono < draining.calls_until;
        // A journal that is closed may open until then.
        let unwritten = self.events.kept() > 0 && now.mono < draining.until;
        if !(quiet || early) || self.events.waiting() > 0 || unwritten {
            return false;
        }
        self.events.give_up();
        if let Some(done) = draining.done.take() {
            let _ = done.send(());
        }
        true
    }

    /// Sets metrics from the gateway's own figures.
    fn show(&mut self) {
        let now = self.clock.mono();
        self.stale = now.since(self.shown) < SHOW_PERIOD;
        if self.stale {
            return;
        }
        self.shown = now;
        let stats = self.gateway.stats();
        let metrics = &self.metrics;
        metrics.calls_active.set(stats.calls);
        metrics.dialogs_active.set(stats.dialogs);
        metrics.transactions_active.set(stats.transactions);
        metrics.rtp_ports_in_use.set(stats.ports);
        let ended = stats.ended.iter().map(|(outcome, n)| (outcome.name(), *n)).collect::<Vec<_>>();
        metrics.set_calls(&ended);
        metrics.set_refused(&stats.refused.iter().map(|(cause, n)| (*cause, *n)).collect::<Vec<_>>());
        metrics.set_malformed(&[("unreadable", stats.malformed)]);
        let counters = self.net.counters();
        let load = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
        metrics.set_lost(&[
            ("received", load(&counters.received_lost)),
            ("sent", load(&counters.sent_lost)),
            ("peer_stuck", load(&counters.peers_stuck)),
            ("connection", load(&counters.connections_refused)),
            ("event", self.events.lost()),
        ]);
    }
}

/// What became of a secure phase, as the API tells it.
fn secured(answer: SecureAnswer) -> http::Answer {
    let list = |sinks: Vec<crate::call::Confirmed>| {
        sinks.iter().map(|s| json!({"name": s.sink.name(), "confirmed": s.confirmed})).collect::<Vec<_>>()
    };
    match answer {
        SecureAnswer::Confirmed { media_from_ms, sinks } => Ok(json!({"media_from_ms": media_from_ms, "sinks": list(sinks)})),
        SecureAnswer::NoCall => {
            Err(Problem::new(404, "no such call stands", "GET /v1/calls lists those that do; a phase needs an answered call"))
        }
        SecureAnswer::Already => Err(Problem::new(409, "it is so already", "look at the call's events for the phase that stands")),
        SecureAnswer::NotConfirmed { sinks, why } => {
            let hint = "do not let the caller key a card: the phase does not stand. Ask again; if it lasts, look at GET /healthz";
            Err(Problem::new(503, why, hint).with("sinks", json!(list(sinks))))
        }
    }
}

/// An event as the journal keeps it.
pub(crate) fn entry(event: &Event) -> Entry {
    let body = event.to_cloudevent().to_string().into_bytes();
    Entry { kind: EntryKind::Event, time: event.time, id: event.id(), key: event.call_id.to_string(), body }
}

/// The recorder's name in `/healthz`.
const RECORDER: &str = "recorder";
/// SIP inputs handled before timers and outputs have their turn: at 20 µs each, about 5 ms.
const INPUTS_A_TURN: usize = 256;
/// How often metrics are set: not more often than somebody could look.
const SHOW_PERIOD: Duration = Duration::from_millis(100);
/// How often a draining loop looks whether it is done.
const DRAIN_PERIOD: Duration = Duration::from_millis(50);
/// How long BYEs may be repeated after the drain's limit.
const BYES: Duration = Duration::from_secs(2);
