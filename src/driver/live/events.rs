//! Events of calls on their way into the journal. What it does not take, since it is closed or a sync has failed, is kept and handed over again: a call whose
//! end were lost would be closed at the next start as failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::signalling::entry;
use crate::{
    driver::unwritten::Unwritten,
    event::Event,
    shell::disk::{Lane, Refused},
};

/// See the module.
pub(super) struct Events {
    lane: Lane,
    // The journal's thread gives back under the same lock under which an event is handed over. So none overtakes another: the journal opens only once all that
    // it refused is given back.
    unwritten: Arc<Mutex<Unwritten>>,
    /// Told of each event that is on disk, or lost.
    done: mpsc::UnboundedSender<()>,
    lost: u64,
}

fn lock(unwritten: &Mutex<Unwritten>) -> MutexGuard<'_, Unwritten> {
    unwritten.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    /// Over `lane`; `done` is told of each event that is on disk, or lost.
    pub(super) fn new(lane: Lane, done: mpsc::UnboundedSender<()>) -> Self {
        Self { lane, unwritten: Arc::default(), done, lost: 0 }
    }

    /// Hands `event` to the journal, behind those that it did not take yet.
    pub(super) fn hand_over(&mut self, event: Event) {
        let unwritten = self.unwritten.clone();
        let mut unwritten = lock(&unwritten);
        let place = unwritten.place();
        let left = if unwritten.is_empty() { self.append(place, event) } else { Some((event, "others wait before it".to_owned())) };
        if let Some((event, why)) = left {
            if unwritten.len() < KEPT_MAX {
                unwritten.keep(place, event);
            } else {
                self.lose(&event, &why);
            }
        }
    }

    /// Hands over what is kept, as far as the journal takes it.
    pub(super) fn hand_over_again(&mut self) {
        let unwritten = self.unwritten.clone();
        let mut unwritten = lock(&unwritten);
        let before = unwritten.len();
        while let Some((place, event)) = unwritten.take() {
            if let Some((event, _)) = self.append(place, event) {
                unwritten.keep(place, event);
                break;
            }
        }
        if before > 0 && unwritten.is_empty() {
            tracing::warn!(events = before, "events of calls that the journal had not taken are handed to it again");
        }
    }

    /// Events that are not on disk and that it holds at present.
    pub(super) fn waiting(&self) -> usize {
        self.lane.waiting()
    }

    /// Events that it did not take yet.
    pub(super) fn kept(&self) -> usize {
        lock(&self.unwritten).len()
    }

    /// Events that are lost, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// What is kept is lost: the process ends.
    pub(super) fn give_up(&mut self) {
        let unwritten = self.unwritten.clone();
        let mut unwritten = lock(&unwritten);
        while let Some((_, event)) = unwritten.take() {
            self.lose(&event, "offhook ends while the journal is closed");
        }
    }

    /// Back what the journal does not take now, and why.
    fn append(&mut self, place: u64, event: Event) -> Option<(Event, String)> {
        let (done, back, copy) = (self.done.clone(), self.unwritten.clone(), event.clone());
        let appended = self.lane.append(entry(&event), move |result| match result {
            Ok(_) => drop(done.send(())),
            Err(_) => lock(&back).keep(place, copy),
        });
        match appended {
            Ok(()) => None,
            Err(refused @ Refused::TooLong(_)) => {
                self.lose(&event, &refused.to_string());
                None
            }
            Err(refused @ (Refused::Full(_) | Refused::Closed(_))) => Some((event, refused.to_string())),
        }
    }

    fn lose(&mut self, event: &Event, why: &str) {
        self.lost = self.lost.saturating_add(1);
        tracing::error!(call = %event.call_id, sequence = event.sequence, kind = event.kind.name(), %why, "an event is lost to write-back");
        let _ = self.done.send(());
    }
}

/// Events kept: as many as admission reserves room for. More come only of calls that are carried without a journal; at a kilobyte each it is 64 MB.
const KEPT_MAX: usize = super::EVENTS_LANE;

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use tokio::net::UdpSocket;

    use super::*;
    use crate::{
        driver::live::{Live, tests},
        event::{CallId, DtmfMethod, Kind, Leg},
        journal::{EntryKind, Position},
        shell::{
            disk::{self, Journal},
            files::tests::Scratch,
        },
        time::Wall,
    };

    fn event(sequence: u32) -> Event {
        let call_id: CallId = "01960000-0000-7000-8000-000000000001".parse().expect("a call id");
        let kind = Kind::Dtmf { leg: Leg::Caller, digits: None, count: Some(1), method: DtmfMethod::Info, from_ms: 0, to_ms: 0 };
        Event { call_id, sequence, time: Wall::from_millis(1000), at_ms: 0, kind }
    }

    fn journal(directory: &Path) -> Journal {
        let options = disk::Options {
            directory: directory.to_owned(),
            from: Position::default(),
            start_after_damage: true,
            notify: Box::new(|_| {}),
        };
        Journal::open(options).expect("opened").0
    }

    /// Sequences and types of the events in it.
    fn written(journal: &Journal) -> Vec<(u64, String)> {
        let mut tail = journal.tail(Position::default());
        let batches = std::iter::from_fn(|| tail.next_batch(1000).expect("readable"));
        let entries = batches.flat_map(|batch| batch.entries.into_iter().map(|(_, entry)| entry));
        let events = entries.filter(|entry| entry.kind == EntryKind::Event);
        let bodies = events.map(|entry| serde_json::from_slice::<serde_json::Value>(&entry.body).expect("json"));
        bodies.map(|e| (e["sequence"].as_u64().expect("a number"), e["type"].as_str().expect("a type").to_owned())).collect()
    }

    /// Twenty seconds at most.
    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..2000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}");
    }

    #[tokio::test]
    async fn what_a_closed_journal_did_not_take_is_written_in_order_once_it_is_open() {
        let scratch = Scratch::new("events");
        let journal = journal(&scratch.0);
        let (done, mut told) = mpsc::unbounded_channel();
        let mut events = Events::new(journal.lane(100), done);
        (1..=3).for_each(|n| events.hand_over(event(n)));
        until("on disk", || events.waiting() == 0).await;
        journal.fail_sync(true);
        (4..=5).for_each(|n| events.hand_over(event(n)));
        until("given back", || events.kept() == 2).await;
        (6..=8).for_each(|n| events.hand_over(event(n)));
        events.hand_over_again();
        assert_eq!((events.kept(), written(&journal).len()), (5, 3));
        journal.fail_sync(false);
        until("handed over again", || {
            events.hand_over_again();
            events.kept() == 0 && events.waiting() == 0
        })
        .await;
        assert_eq!(written(&journal).into_iter().map(|(n, _)| n).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
        assert_eq!((std::iter::from_fn(|| told.try_recv().ok()).count(), events.lost()), (8, 0));
    }

    #[tokio::test]
    async fn what_is_kept_has_a_bound_and_what_is_lost_is_counted() {
        let scratch = Scratch::new("events-bound");
        let journal = journal(&scratch.0);
        journal.fail_sync(true);
        let (done, mut told) = mpsc::unbounded_channel();
        let mut events = Events::new(journal.lane(1), done);
        events.hand_over(event(1));
        until("given back", || events.kept() == 1).await;
        let more = u32::try_from(KEPT_MAX).expect("a small number");
        (2..=more.saturating_add(2)).for_each(|n| events.hand_over(event(n)));
        assert_eq!((events.kept(), events.lost()), (KEPT_MAX, 2));
        events.give_up();
        assert_eq!((events.kept(), events.lost()), (0, u64::from(more) + 2));
        assert_eq!(std::iter::from_fn(|| told.try_recv().ok()).count(), KEPT_MAX + 2, "the gateway's room is free again");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_that_ends_while_the_disk_fails_has_one_terminal_event() {
        let scratch = Scratch::new("live-events");
        let config = tests::config(&scratch, "http://127.0.0.1:1");
        let data = config.data.directory.clone();
        let live = Live::start(config, Default::default()).await.expect("started");
        let caller = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let (us, them) = (caller.local_addr().expect("an address"), live.sip()[0].address);
        let request = |method: &str, body: &str| {
            format!(
                "{method} sip:1@{them} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:2@{us}>;tag=c\r\nTo: <sip:1@{them}>\r\n\
                 Call-ID: c1\r\nCSeq: 1 {method}\r\nContact: <sip:{us}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let sdp =
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";
        caller.send_to(request("INVITE", sdp).as_bytes(), them).await.expect("sent");
        until("the call's start is on disk", || written(&live.journal).iter().any(|(_, kind)| kind == "call.started")).await;
        live.journal.fail_sync(true);
        caller.send_to(request("CANCEL", "").as_bytes(), them).await.expect("sent");
        until("the journal is closed", || live.journal.closed().is_some()).await;
        live.journal.fail_sync(false);
        until("the call's end is on disk", || written(&live.journal).len() > 1).await;
        live.stop_within(Duration::from_secs(5)).await;
        let again = journal(&data.join("journal"));
        assert_eq!(written(&again), [(1, "call.started".to_owned()), (2, "call.ended".to_owned())]);
    }
}
