//! Webhooks on their way into the journal: verified and appended by the HTTP server's own threads, answered by the journal's. Neither waits for the fold, nor for
//! anybody's CRM.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    journal::Entry,
    pipeline::webhook::{self, Refusal, Request},
    shell::{
        clock::Clock,
        disk::Lane,
        http::{Answer, Problem, Webhook},
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

impl Ingest {
    pub(super) fn new(sources: webhook::Ingest, lane: Lane, clock: Clock, metrics: Arc<Metrics>, quarantine: Option<Desk>) -> Self {
        Self { sources: Arc::new(sources), lane, clock, metrics, quarantine, room: Arc::new(Semaphore::new(ROOM)) }
    }

    /// Verifies it and has it written. It is answered once it is on disk or refused.
    pub(super) fn take(&self, webhook: Webhook) {
        let Webhook { source, headers, query, body, reply } = webhook;
        let signed = self.clock.system_wall();
        let head = Head { time: signed, headers, query };
        // At least one each, however short.
        let room = u32::try_from(head.octets().saturating_add(body.len()) / KIB).unwrap_or(u32::MAX).saturating_add(1);
        let Ok(room) = self.room.clone().try_acquire_many_owned(room) else {
            self.metrics.webhook("refused");
            let hint = "send it again in a second, and not more at a time";
            let full = Problem::new(429, format!("{} MiB of webhooks wait to be written already", ROOM / KIB), hint);
            return drop(reply.send(Err(full)));
        };
        let request = Request { headers: &head.headers, query: &head.query, body: &body };
        match self.sources.take(self.clock.wall(), signed, &source, &request) {
            Ok(entry) => self.append(entry, Some(room), reply),
            Err(refusal) => {
                refusal.result.into_iter().for_each(|result| self.metrics.webhook(result));
                if refusal.quarantine {
                    let held = Held { head, body: body.to_vec() };
                    match &self.quarantine {
                        Some(desk) => desk.keep(source, held),
                        None => self.metrics.quarantine_lost.add(1),
                    }
                }
                let _ = reply.send(Err(problem(refusal)));
            }
        }
    }

    /// Verifies one of the quarantine again. The answer is as with [`Self::take`], but it counts as no further attempt.
    pub(super) async fn release(&self, source: &str, held: &Held) -> Answer {
        let request = Request { headers: &held.head.headers, query: &held.head.query, body: &held.body };
        let entry = self.sources.release(self.clock.wall(), held.head.time, source, &request).map_err(problem)?;
        let (reply, written) = oneshot::channel();
        self.append(entry, None, reply);
        written.await.unwrap_or_else(|_| Err(Problem::busy()))
    }

    /// The journal's thread answers, and gives `room` back.
    fn append(&self, entry: Entry, room: Option<OwnedSemaphorePermit>, reply: oneshot::Sender<Answer>) {
        let metrics = self.metrics.clone();
        self.lane.append_or_tell(entry, move |written| {
            drop(room);
            let answer = written.map(|_| json!({"ok": true})).map_err(|why| {
                metrics.webhook("refused");
                Problem::new(503, format!("the webhook could not be written: {why}"), "send it again later")
            });
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        });
    }
}

fn problem(refusal: Refusal) -> Problem {
    Problem::new(refusal.status, refusal.detail, refusal.hint)
}

/// Webhooks that may wait for the disk at a time, KiB: as much as 256 of the longest. Octets are bounded and not their number, so that no burst of short ones is
/// refused.
const ROOM: usize = 256 * KIB;
const KIB: usize = 1024;

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;
    use crate::{
        journal::{EntryKind, Position},
        pipeline::{Key, Source},
        shell::{
            disk::{Journal, Options},
            files::tests::Scratch,
        },
    };

    /// A webhook of so many KiB and a head of less than one, signed; its answer.
    fn came(ingest: &Ingest, id: &str, kib: usize) -> oneshot::Receiver<Answer> {
        let (body, now) = (vec![b'x'; kib * KIB], Clock::new().system_wall());
        let signature = Key::parse("raw:hush").expect("a key").sign(id, now, &body);
        let seconds = (now.as_millis() / 1000).to_string();
        let headers = [("webhook-id", id), ("webhook-timestamp", &seconds), ("webhook-signature", &signature)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let (reply, answer) = oneshot::channel();
        ingest.take(Webhook { source: "platform".into(), headers, query: String::new(), body: body.into(), reply });
        answer
    }

    #[tokio::test]
    async fn what_waits_for_the_disk_is_bounded_by_octets() {
        let scratch = Scratch::new("room");
        let options =
            Options { directory: scratch.0.clone(), from: Position::default(), start_after_damage: false, notify: Box::new(|_| {}) };
        let (journal, _) = Journal::open(options).expect("a journal");
        let sources = webhook::Ingest::new([("platform".to_owned(), Source::standard(Key::parse("raw:hush").expect("a key")))].into());
        let (clock, metrics) = (Clock::new(), Arc::new(Metrics::new()));
        let ingest = Ingest::new(sources, journal.lane(8), clock.clone(), metrics.clone(), None);
        // The disk stands still: the writer is held up in the callback of an entry before.
        let (hold, held) = mpsc::channel::<()>();
        let (reached, there) = mpsc::channel();
        let wait = move |_| {
            let _ = reached.send(());
            let _ = held.recv_timeout(Duration::from_secs(20));
        };
        let before = Entry { kind: EntryKind::Alarm, time: clock.wall(), id: String::new(), key: String::new(), body: Vec::new() };
        journal.lane(1).append(before, wait).expect("taken");
        there.recv_timeout(Duration::from_secs(20)).expect("the writer is there");

        // Others of 256 MiB but 1 MiB wait already.
        let others = ingest.room.try_acquire_many(255 * 1024).expect("room");
        let (mut first, mut second) = (came(&ingest, "m1", 600), came(&ingest, "m2", 400));
        let refused = came(&ingest, "m3", 100).await.expect("answered").expect_err("no room for so many octets");
        assert_eq!((refused.status, refused.detail.as_str()), (429, "256 MiB of webhooks wait to be written already"));
        assert!(metrics.render().contains("offhook_webhooks_received_total{result=\"refused\"} 1\n"), "it is counted");
        // A shorter one has room.
        let third = came(&ingest, "m4", 10);
        assert!(first.try_recv().is_err() && second.try_recv().is_err(), "what waits for the disk is not answered");
        drop(hold);
        for written in [first, second, third] {
            assert_eq!(written.await.expect("answered"), Ok(json!({"ok": true})));
        }
        assert!(came(&ingest, "m3", 600).await.expect("answered").is_ok(), "what is on disk takes no room");
        drop(others);
    }
}
