//! The live gateway: real sockets, real disk, real time under the three machines.
//!
//! | loop | where |
//! |---|---|
//! | gateway | a thread with a runtime of its own, SIP sockets on it: [`signalling`] |
//! | media | threads of `shell::media_io`, one a core |
//! | pipeline | a thread, with the store beside it: [`writeback`] |
//! | webhooks, until they are on disk | the HTTP server's threads: [`ingest`] |
//! | journal, recorder | a thread each |
//! | HTTP, requests to CRMs | the runtime that called [`Live::start`] |
//!
//! Start: lock the data directory, recover the journal, fold all of it, close the calls that were open when the process died, and only then open
//! sockets. End: no new calls, calls finish or are ended at the limit, the journal is synced, the rest waits safely in the store.

mod api;
mod compose;
mod events;
mod ingest;
mod latency;
mod pruning;
mod rebuild;
mod signalling;
mod writeback;

pub(crate) use compose::connector_of;
pub use compose::on_a_stage;
pub use rebuild::{Rebuilt, rebuild};
pub(crate) use signalling::entry as entry_of;

#[cfg(test)]
mod starting_points_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, mpsc as std_mpsc},
    time::Duration,
};

use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    chance::Chance,
    config::Config,
    event::Event,
    journal::{Entry, EntryKind, Position},
    pipeline::{Pipeline, Store, StoreError, restart, webhook::Ingest},
    shell::{
        clock::Clock,
        disk::{self, Journal, Notice, Recovery},
        files, http,
        net::{self, Listener, Tap},
        quarantine::{self, Desk},
        secrets::{self, Kept},
        store::Sqlite,
        telemetry::{Health, Metrics},
    },
};

/// What a test or the demo may ask for beside a configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// Sees every SIP message on the wire.
    pub tap: Option<Tap>,
    /// A planted fault: a secure phase hides nothing.
    #[cfg(feature = "planted-faults")]
    pub mask_off: bool,
    /// A planted fault: the recorder stops at its first mark of a phase.
    #[cfg(feature = "planted-faults")]
    pub recorder_hangs: bool,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error(transparent)]
    Data(#[from] files::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] disk::Error),
    /// What was durable cannot be read.
    #[error(transparent)]
    Damaged(#[from] disk::Damaged),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// SIP.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// HTTP.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// Tokens.
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    /// A target's name has no address.
    #[error("target \"{0}\": {1} cannot be looked up: {2}; see its uri, or the resolver of this machine")]
    Name(String, String, std::io::Error),
    /// The mapping of a CRM.
    #[error("{0}")]
    Mapping(String),
    /// A thread, a runtime, entropy.
    #[error("the operating system refused {0}: {1}")]
    System(&'static str, std::io::Error),
}

/// A running gateway.
pub struct Live {
    sip: Vec<Listener>,
    http: SocketAddr,
    metrics: Arc<Metrics>,
    clock: Clock,
    signalling: signalling::Signalling,
    writeback: writeback::WriteBack,
    journal: Journal,
    pruning: pruning::Pruning,
    quarantine: Option<Desk>,
    names: tokio::task::JoinHandle<()>,
    drain: Duration,
    // Dropped last: the API answers to the end, and the lock goes when everything is written.
    server: http::Server,
    _lock: files::Lock,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live(sip {:?}, http {})", self.sip, self.http)
    }
}

impl Live {
    /// Starts everything. On return calls are taken.
    pub async fn start(config: Config, options: Options) -> Result<Self, Error> {
        let runtime = Handle::current();
        let clock = Clock::new();
        let metrics = Arc::new(Metrics::new());
        let health = Health::new(clock.clone());
        let mut chance = entropy()?;
        let lock = files::lock(&config.data.directory)?;
        let kept = Kept::open(&config.data.directory)?;

        // The journal and what it holds.
        let store_path = config.data.directory.join("store.sqlite");
        let making = config.data.directory.join(rebuild::MAKING);
        Sqlite::remove(&making).map_err(|error| Error::System("the files of a rebuild that was killed removed", error))?;
        let mut store = Sqlite::open(&store_path)?;
        let (told, inbox) = std_mpsc::channel();
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (notices, noticed) = mpsc::unbounded_channel();
        let to_pipeline = told.clone();
        let (journal, recovery) = Journal::open(disk::Options {
            directory: config.data.directory.join("journal"),
            from: store.position()?,
            start_after_damage: config.data.start_after_damage,
            notify: Box::new(move |notice| {
                // A receiver that is gone belongs to a loop that has ended.
                match &notice {
                    Notice::Durable(_) => drop(to_pipeline.send(writeback::Told::Durable)),
                    Notice::Opened => drop(to_pipeline.send(writeback::Told::JournalOpened)),
                    Notice::Closed(_) => {}
                }
                if !matches!(notice, Notice::Durable(_)) {
                    drop(notices.send(notice));
                }
            }),
        })?;
        if let Some(last) = recovery.last_time {
            clock.not_before(last);
        }
        report(&recovery, &health);
        let pipeline_config = compose::pipeline(&config, &kept)?;
        let pruning_config = compose::pipeline(&config, &kept)?;
        let sources = Ingest::new(pipeline_config.sources.clone());
        let mut pipeline = Pipeline::new(pipeline_config, chance.split());
        let mut tail = journal.tail(store.position()?);
        while let Some(batch) = tail.next_batch(FOLD_BATCH)? {
            pipeline.fold(&mut store, &batch.entries, batch.next)?;
        }
        pipeline.begin(clock.now(), &mut store)?;
        let lane = journal.lane(PIPELINE_LANE);
        close_open_calls(&lane, &recovery, restart::close_open_calls(&store, clock.wall())?, &clock);

        // From here on it talks to the world.
        let mut crms = BTreeMap::new();
        let client =
            || http::Client::new(config.writeback.request_timeout).map_err(|e| Error::System("an HTTP client", std::io::Error::other(e)));
        for crm in &config.crms {
            crms.insert(crm.name.clone(), (client()?, crm.refresh_token.clone()));
        }
        let mut platforms = BTreeMap::new();
        for webhook in config.webhooks.iter().filter(|webhook| webhook.pull.is_some()) {
            platforms.insert(webhook.source.clone(), client()?);
        }
        let quarantine = quarantine(&config, &metrics, &health, &clock)?;
        let (prunings, asks) = std_mpsc::channel();
        let parts = pruning::Parts {
            pipeline: Pipeline::new(pruning_config, Chance::from_seed(0)),
            store: store_path.clone(),
            state: config.data.directory.join("retention.json"),
            tail: journal.tail(Position::default()),
            pruner: journal.pruner(),
            health: health.clone(),
            taken: metrics.retention_octets.clone(),
        };
        let pruning = pruning::Pruning::start(parts, asks).map_err(|e| Error::System("a thread for retention", e))?;
        let parts = writeback::Parts {
            pipeline,
            store,
            tail,
            lane,
            clock: clock.clone(),
            crms,
            platforms,
            kept,
            metrics: metrics.clone(),
            pruning: prunings,
            health: health.clone(),
            runtime,
        };
        let writeback =
            writeback::WriteBack::start(parts, told.clone(), inbox).map_err(|e| Error::System("a thread for the pipeline", e))?;
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let tls = config.http.tls.as_ref().map(|t| (t.cert_file.clone(), t.key_file.clone()));
        let http_options = http::Options {
            listen: config.http.listen,
            tokens: config.http.tokens.clone(),
            tls,
            proxies: config.http.proxies.clone(),
            doors: compose::doors(&config),
        };
        let webhooks = journal.lane(WEBHOOKS_LANE);
        let ingest = ingest::Ingest::new(sources, webhooks, clock.clone(), metrics.clone(), quarantine.clone());
        let door = ingest.clone();
        let server =
            http::Server::start(http_options, Arc::new(move |webhook| door.take(webhook)), asks, metrics.clone(), health.clone()).await?;
        let targets = compose::targets(&config).await?;
        let signalling = signalling::Signalling::start(
            signalling::Parts {
                config: config.clone(),
                targets: targets.clone(),
                options,
                chance: chance.split(),
                clock: clock.clone(),
                lane: journal.lane(EVENTS_LANE),
                metrics: metrics.clone(),
                health: health.clone(),
            },
            orders.clone(),
            ordered,
            noticed,
        )
        .await?;
        let names = tokio::spawn(compose::follow_names(config.clone(), targets, orders.clone()));
        let rules = config.crms.iter().filter_map(|crm| crm.mapping.contact.clone()).collect();
        let to = api::To { ingest, pipeline: told, gateway: orders, store: store_path, quarantine: quarantine.clone(), rules };
        tokio::spawn(api::serve(asked, to, clock.clone()));
        let live = Self {
            sip: signalling.listeners.clone(),
            http: server.address,
            metrics,
            clock,
            signalling,
            writeback,
            journal,
            pruning,
            quarantine,
            names,
            drain: config.sip.drain,
            server,
            _lock: lock,
        };
        live.metrics.journal_open.set(1);
        for listener in &live.sip {
            tracing::info!(%listener, "SIP");
        }
        tracing::info!(http = %live.http, data = %config.data.directory.display(), "offhook stands");
        Ok(live)
    }

    /// The SIP addresses really bound, in the configuration's order.
    pub fn sip(&self) -> &[Listener] {
        &self.sip
    }

    /// The HTTP address really bound.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// A way into the journal as calls have it, for whoever plays their events.
    pub(crate) fn events_lane(&self) -> disk::Lane {
        self.journal.lane(EVENTS_LANE)
    }

    /// A way to end calls at once while [`Self::stop`] waits for them.
    pub fn hurry(&self) -> Hurry {
        Hurry(self.signalling.orders.clone())
    }

    /// Ends it: calls may finish within the configured time, then they are ended; everything queued is on disk on return.
    pub async fn stop(self) {
        let drain = self.drain;
        self.stop_within(drain).await;
    }

    /// As [`Self::stop`], with another limit.
    pub async fn stop_within(self, drain: Duration) {
        let Self { signalling, writeback, journal, pruning, quarantine, names, clock, server, _lock, .. } = self;
        names.abort();
        signalling.drain(drain).await;
        let stopped = tokio::task::spawn_blocking(move || {
            writeback.stop(clock.mono() + WRITEBACK_GRACE);
            pruning.stop();
            journal.close();
            quarantine.iter().for_each(Desk::stop);
        });
        let _ = stopped.await;
        drop(server);
        tracing::info!("offhook has ended");
    }
}

/// See [`Live::hurry`].
#[derive(Clone)]
pub struct Hurry(mpsc::Sender<signalling::Order>);

impl std::fmt::Debug for Hurry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hurry(..)")
    }
}

impl Hurry {
    /// Ends all calls now.
    pub async fn now(&self) {
        let _ = self.0.send(signalling::Order::EndCalls).await;
    }
}

/// The quarantine, where there are sources. Without a key nothing is kept, and that is said: calls and good webhooks do not depend on it.
fn quarantine(config: &Config, metrics: &Arc<Metrics>, health: &Health, clock: &Clock) -> Result<Option<Desk>, Error> {
    if config.webhooks.is_empty() {
        return Ok(None);
    }
    let data = &config.data.directory;
    let opened = quarantine::Key::at(&config.quarantine.key_file, data)
        .and_then(|key| quarantine::Quarantine::open(data, key, config.quarantine.limits));
    match opened {
        Ok(opened) => {
            let desk = Desk::start(opened, metrics.clone(), health.clone(), clock.clone());
            desk.map(Some).map_err(|e| Error::System("a thread for the quarantine", e))
        }
        Err(error) => {
            tracing::error!(%error, "webhooks with a wrong signature will not be kept");
            health.note("quarantine", format!("webhooks with a wrong signature are not kept: {error}"));
            Ok(None)
        }
    }
}

fn entropy() -> Result<Chance, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| Error::System("entropy", std::io::Error::other(e)))?;
    Ok(Chance::from_entropy(seed))
}

/// Says what recovery found; damage stays in `/healthz` until somebody restarts with a whole journal.
fn report(recovery: &Recovery, health: &Health) {
    if let Some(torn) = &recovery.torn {
        tracing::warn!(position = %torn.position, octets = torn.octets, "the journal's tail was torn and is cut off; nothing of it had been acknowledged");
    }
    for (path, why) in &recovery.set_aside {
        tracing::error!(path = %path.display(), %why, "a damaged segment of the journal is set aside; restore it from a copy");
    }
    if let Some((path, why)) = recovery.set_aside.first() {
        health.say("journal segments", Err(format!("{} is set aside: {why}", path.display())));
    }
}

/// Gives open calls their terminal event, and alarms their entry.
fn close_open_calls(lane: &disk::Lane, recovery: &Recovery, events: Vec<Event>, clock: &Clock) {
    let alarms = recovery.set_aside.iter().map(|(path, why)| Entry {
        kind: EntryKind::Alarm,
        time: clock.wall(),
        id: "journal.damaged".into(),
        key: String::new(),
        body: serde_json::json!({"path": path.display().to_string(), "why": why}).to_string().into_bytes(),
    });
    let closed = events.len();
    for entry in alarms.chain(events.iter().map(signalling::entry)) {
        // More open calls than the lane holds: the next start closes the rest.
        if lane.append(entry, |_| {}).is_err() {
            break;
        }
    }
    if closed > 0 {
        tracing::warn!(calls = closed, "calls were open when the process died; they are closed as failed, reason gateway_restart");
    }
}

/// Entries that the pipeline may have on the way to the disk.
const PIPELINE_LANE: usize = 8192;
/// Webhooks that may be on the way to the disk; it is their octets that are bounded first.
const WEBHOOKS_LANE: usize = 65_536;
/// Events that calls may have on the way to the disk, reserved ones not counted.
const EVENTS_LANE: usize = 65_536;
/// Entries folded at once at the start.
const FOLD_BATCH: usize = 1000;
/// Questions of the API that wait.
const ASKS_MAX: usize = 1024;
/// Orders to the gateway that wait.
const ORDERS_MAX: usize = 1024;
/// How long a stopping pipeline waits for answers of CRMs.
const WRITEBACK_GRACE: Duration = Duration::from_secs(5);
