//! Webhooks on their way into the journal: verified and appended by the HTTP server's own threads, answered by the journal's. Neither waits for the fold, nor for
//! anybody's CRM.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    journal::Entry,
    pipeline::webhook::{self, Refusal, Request},
    shell::{
        clock::Clock,
        disk::Lane,
        http::{Answer, Problem},
        quarantine::{Desk, Head, Held},
        telemetry::Metrics,
    },
};

/// What it takes. Copies share it.
#[derive(Clone)]
pub(super) struct Ingest {
    sources: Arc<webhook::Ingest>,
    lane: Lane,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Where webhooks with a wrong signature go; none: nowhere.
    quarantine: Option<Desk>,
    /// What may still wait for the disk, KiB.
    room: Arc<Semaphore>,
}

/// A webhook as it came.
pub(super) struct Came {
    pub(super) source: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) query: String,
    pub(super) body: Bytes,
}

impl Ingest {
    pub(super) fn new(sources: webhook::Ingest, lane: Lane, clock: Clock, metrics: Arc<Metrics>, quarantine: Option<Desk>) -> Self {
        Self { sources: Arc::new(sources), lane, clock, metrics, quarantine, room: Arc::new(Semaphore::new(ROOM)) }
    }

    /// The answer, once it is on disk or refused.
    pub(super) async fn take(&self, came: Came) -> Answer {
        // At least one each, however short.
        let room = u32::try_from(came.body.len() / KIB).unwrap_or(u32::MAX).saturating_add(1);
        let Ok(_room) = self.room.try_acquire_many(room) else {
            self.metrics.webhook("refused");
            let hint = "send it again in a second, and not more at a time";
            return Err(Problem::new(429, format!("{} MiB of webhooks wait to be written already", ROOM / KIB), hint));
        };
        let Came { source, headers, query, body } = came;
        let signed = self.clock.system_wall();
        let request = Request { headers: &headers, query: &query, body: &body };
        match self.sources.take(self.clock.wall(), signed, &source, &request) {
            Ok(entry) => self.append(entry).await,
            Err(refusal) => {
                refusal.result.into_iter().for_each(|result| self.metrics.webhook(result));
                if refusal.quarantine {
                    let held = Held { head: Head { time: signed, headers, query }, body: body.to_vec() };
                    match &self.quarantine {
                        Some(desk) => desk.keep(source, held),
                        None => self.metrics.quarantine_lost.add(1),
                    }
                }
                Err(problem(refusal))
            }
        }
    }

    /// Verifies one of the quarantine again. The answer is as with [`Self::take`], but it counts as no further attempt.
    pub(super) async fn release(&self, source: &str, held: &Held) -> Answer {
        let request = Request { headers: &held.head.headers, query: &held.head.query, body: &held.body };
        match self.sources.release(self.clock.wall(), held.head.time, source, &request) {
            Ok(entry) => self.append(entry).await,
            Err(refusal) => Err(problem(refusal)),
        }
    }

    async fn append(&self, entry: Entry) -> Answer {
        let (told, synced) = oneshot::channel();
        let queued = self.lane.append(entry, move |result| drop(told.send(result))).map_err(|refused| refused.to_string());
        let written = match queued {
            Ok(()) => synced.await.unwrap_or_else(|_| Err("its writer has ended".into())),
            Err(refused) => Err(refused),
        };
        written.map(|_| json!({"ok": true})).map_err(|why| {
            self.metrics.webhook("refused");
            Problem::new(503, format!("the webhook could not be written: {why}"), "send it again later")
        })
    }
}

fn problem(refusal: Refusal) -> Problem {
    Problem::new(refusal.status, refusal.detail, refusal.hint)
}

/// Webhooks that may wait for the disk at a time, KiB: as much as 256 of the longest. Octets are bounded and not their number, so that no burst of short ones is
/// refused.
const ROOM: usize = 256 * KIB;
const KIB: usize = 1024;
