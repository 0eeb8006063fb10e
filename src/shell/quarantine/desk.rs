//! The quarantine's thread: it writes to disk while nobody waits, and hands out pages to be verified again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Error, Held, Quarantine};
use crate::{
    shell::{
        clock::Clock,
        telemetry::{Health, Metrics},
    },
    time::Wall,
};

/// What the thread is told.
enum Told {
    Keep(String, Held),
    Page { source: Option<String>, after: Option<(String, String)>, most: usize, reply: oneshot::Sender<Page> },
    Remove(String, String),
    Stop,
}

/// Some of those that are kept: source, name, and the webhook where it can be read.
pub type Page = Vec<(String, String, Result<Held, Error>)>;

/// The thread's handle. Copies share it.
#[derive(Clone, Debug)]
pub struct Desk {
    told: mpsc::Sender<Told>,
    /// Octets on the way to the disk.
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    thread: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl Desk {
    /// Starts the thread.
    pub fn start(quarantine: Quarantine, metrics: Arc<Metrics>, health: Health, clock: Clock) -> std::io::Result<Self> {
        let (told, inbox) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut keeper = Keeper {
            quarantine,
            metrics: metrics.clone(),
            health,
            waiting: waiting.clone(),
            said: BTreeMap::new(),
            failing: None,
            shown: None,
        };
        let thread = std::thread::Builder::new().name("quarantine".into()).spawn(move || keeper.run(&inbox, &clock))?;
        Ok(Self { told, waiting, metrics, thread: Arc::new(std::sync::Mutex::new(Some(thread))) })
    }

    /// Keeps one, soon.
    pub fn keep(&self, source: String, held: Held) {
        let octets = held.octets();
        if self.waiting.fetch_add(octets, Ordering::Relaxed).saturating_add(octets) > WAITING_MAX
            || self.told.send(Told::Keep(source, held)).is_err()
        {
            self.waiting.fetch_sub(octets, Ordering::Relaxed);
            self.metrics.quarantine_lost.add(1);
        }
    }

    /// At most `most` of those behind `after`, read; none where the thread has ended.
    pub async fn page(&self, source: Option<String>, after: Option<(String, String)>, most: usize) -> Page {
        let (reply, answer) = oneshot::channel();
        let _ = self.told.send(Told::Page { source, after, most, reply });
        answer.await.unwrap_or_default()
    }

    /// Takes one away.
    pub fn remove(&self, source: String, id: String) {
        let _ = self.told.send(Told::Remove(source, id));
    }

    /// Ends the thread once everything before is on disk.
    pub fn stop(&self) {
        let _ = self.told.send(Told::Stop);
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    quarantine: Quarantine,
    metrics: Arc<Metrics>,
    health: Health,
    waiting: Arc<AtomicUsize>,
    /// When each source's last line in the log was written.
    said: BTreeMap<String, Wall>,
    /// Why the disk takes none.
    failing: Option<String>,
    /// What metrics and health show.
    shown: Option<(usize, Option<String>)>,
}

impl Keeper {
    fn run(&mut self, inbox: &mpsc::Receiver<Told>, clock: &Clock) {
        loop {
            let expired = self.quarantine.sweep(clock.system_wall());
            self.lose(expired, "they were older than `days` of [quarantine]");
            self.show();
            match inbox.recv_timeout(SWEEP) {
                Ok(Told::Keep(source, held)) => {
                    self.waiting.fetch_sub(held.octets(), Ordering::Relaxed);
                    self.keep(&source, &held, clock.system_wall());
                }
                Ok(Told::Page { source, after, most, reply }) => {
                    let after = after.as_ref().map(|(source, id)| (source.as_str(), id.as_str()));
                    let found = self.quarantine.behind(source.as_deref(), after, most).into_iter();
                    let page = found.map(|(source, id)| {
                        let held = self.quarantine.read(&source, &id);
                        (source, id, held)
                    });
                    let _ = reply.send(page.collect());
                }
                Ok(Told::Remove(source, id)) => self.quarantine.remove(&source, &id),
                Ok(Told::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn keep(&mut self, source: &str, held: &Held, now: Wall) {
        let mut left_out = None;
        match self.quarantine.keep(source, held) {
            Ok(gone) => {
                self.failing = None;
                self.lose(gone, "they were the oldest, and `megabytes` of [quarantine] was reached");
            }
            Err(error) => {
                self.metrics.quarantine_lost.add(1);
                if !matches!(error, Error::TooMany | Error::TooLarge) {
                    self.failing = Some(error.to_string());
                }
                left_out = Some(error.to_string());
            }
        }
        if self.said.get(source).is_none_or(|said| now.as_millis().saturating_sub(said.as_millis()) >= SAY_MS) {
            self.said.insert(source.to_owned(), now);
            let kept = self.quarantine.len();
            tracing::error!(
                source,
                kept,
                left_out,
                "a webhook's signature is wrong; once the secret is mended, `offhook webhooks quarantine release` takes what is kept"
            );
        }
    }

    fn lose(&mut self, count: usize, why: &'static str) {
        if count > 0 {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.metrics.quarantine_lost.add(count);
            tracing::error!(count, "webhooks with a wrong signature are gone: {why}");
        }
    }

    fn show(&mut self) {
        let state = (self.quarantine.len(), self.failing.clone());
        if self.shown.as_ref() == Some(&state) {
            return;
        }
        self.metrics.webhooks_quarantined.set(state.0);
        match &state {
            (_, Some(why)) => self.health.say("quarantine", Err(why.clone())),
            (0, None) => self.health.say("quarantine", Ok(())),
            // A note, no fault: whoever sends nonsense may not make this gateway look unwell to its load balancer.
            (kept, None) => {
                self.health
                    .note("quarantine", format!("{kept} webhooks with a wrong signature wait; see `offhook webhooks quarantine list`"));
            }
        }
        self.shown = Some(state);
    }
}

/// Octets that may wait for the disk: what two hundred whole transcripts take.
const WAITING_MAX: usize = 32 << 20;
/// How often what is too old is looked for while nothing comes.
const SWEEP: Duration = Duration::from_secs(60);
/// Between two lines in the log, however many come.
const SAY_MS: i64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::{
        files::tests::Scratch,
        quarantine::{Head, Key, Limits},
    };

    fn held(headers: usize) -> Held {
        let headers = (0..headers).map(|n| (format!("x-{n}"), "x".repeat(3000))).collect();
        Held { head: Head { time: Wall::from_millis(0), headers, query: "q".repeat(2000) }, body: Vec::new() }
    }

    #[test]
    fn what_waits_for_the_disk_is_bounded_whether_it_is_head_or_body() {
        // Its thread stands still.
        let (told, inbox) = mpsc::channel();
        let metrics = Arc::new(Metrics::new());
        let desk = Desk { told, waiting: Arc::default(), metrics: metrics.clone(), thread: Arc::default() };
        let octets = held(10).octets();
        assert!((32_000..40_000).contains(&octets), "{octets}");
        let most = WAITING_MAX / octets;
        (0..most + 7).for_each(|_| desk.keep("platform".into(), held(10)));
        assert_eq!(inbox.try_iter().count(), most);
        assert!(metrics.render().contains("offhook_webhooks_quarantine_lost_total 7\n"), "{}", metrics.render());
    }

    #[test]
    fn what_is_on_disk_waits_no_more() {
        let scratch = Scratch::new("desk");
        let data = scratch.0.join("data");
        std::fs::create_dir(&data).expect("made");
        let key = Key::at(&scratch.0.join("key"), &data).expect("a key");
        let limits = Limits { bytes: 1 << 20, age: Duration::from_secs(3600) };
        let clock = Clock::new();
        let quarantine = Quarantine::open(&data, key, limits).expect("opened");
        let desk = Desk::start(quarantine, Arc::new(Metrics::new()), Health::new(clock.clone()), clock).expect("started");
        (0..3).for_each(|_| desk.keep("platform".into(), held(2)));
        desk.stop();
        assert_eq!(desk.waiting.load(Ordering::Relaxed), 0);
    }
}
