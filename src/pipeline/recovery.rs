//! Recovery: the calls of a span are planned again, as the mapping is now, and told again to their CRMs, whatever those have acknowledged.
//!
//! ```text
//! asked ─► what a CRM holds is read, a page at a time ─► Append(keep: what people changed) ─ synced ─► Append(recovery) ─ fold ─► told again
//! ```
//! Reading takes as long as the CRM does, so that whoever asked is told an operation's name at once, and asks by that how it stands. Where the program dies
//! before the recovery is in the journal, nothing is told again, and nobody knows the operation any more.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Decision, Output, Pipeline, Waiting,
    decision::decided,
    overlay::Overlay,
    reconcile::{Asker, Found, Unread},
    store::{State, Store, StoreError},
};
use crate::{
    event::CallId,
    journal::{Entry, EntryKind, Position},
    time::{Instant, Now, Wall},
};

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recover {
    /// Calls that began since then.
    pub since: Wall,
    /// One CRM; none: all.
    pub target: Option<String>,
    /// Nothing is read first, and what people have changed is written over.
    pub overwrite: bool,
    /// Who asks, as he says.
    pub by: String,
}

/// Body of an entry that asks for a recovery.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Recovery {
    /// Tells this one from others: a second recovery of the same calls is wanted, not a duplicate.
    operation: String,
    since: Wall,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    by: String,
}

/// Those that this life of the program was asked for.
#[derive(Default)]
pub(super) struct Recoveries {
    reading: Option<Reading>,
    /// What became of the latest ones, by operation, the oldest first.
    over: VecDeque<(String, Value)>,
}

/// One that reads first.
struct Reading {
    recovery: Recovery,
    /// CRMs that are still to be read, the one under way first.
    crms: VecDeque<String>,
    /// What is behind this call is still to be read of it.
    after: CallId,
    /// Whether a page was asked for that has not come.
    asked: bool,
    /// When the next page may be asked for.
    next: Instant,
    /// When it is given up, unless a page comes before.
    until: Instant,
    /// Decisions on their way to the disk.
    unsynced: usize,
    /// Whether its entry is on its way to the disk: nothing more is read.
    whole: bool,
    kept: Kept,
}

/// What people have changed, and what nobody knows whether they have.
#[derive(Clone, Default)]
struct Kept {
    /// Records with changes.
    records: usize,
    /// The first of them.
    shown: Vec<Value>,
    /// CRMs that cannot be read back, each with why.
    unread: BTreeMap<String, String>,
}

impl Kept {
    fn document(&self, operation: &str, state: &str, why: Option<&str>) -> Value {
        json!({"operation": operation, "state": state, "kept": self.records, "changed": self.shown, "unread": self.unread, "why": why})
    }
}

impl Recoveries {
    fn end(&mut self, operation: &str, state: &str, why: Option<&str>) -> Value {
        let kept = self.reading.take_if(|reading| reading.recovery.operation == operation).map(|reading| reading.kept).unwrap_or_default();
        let document = kept.document(operation, state, why);
        if self.over.len() >= REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back((operation.to_owned(), document.clone()));
        document
    }
}

impl Pipeline {
    /// Asks that calls be told again. The answer is [`Output::Tell`] with `reply`: the operation, and its state, which is `reading` while it reads what the CRMs
    /// hold, and `told` once it is in the journal.
    pub fn recover(&mut self, now: Now, reply: u64, recover: Recover) {
        let Recover { since, target, overwrite, by } = recover;
        if let Some(target) = target.as_ref().filter(|t| self.config.crm(t).is_none()) {
            return self.respond_unread(reply, &Unread::Unknown(target.clone()));
        }
        let recovery = Recovery { operation: format!("recovery-{}", self.chance.token()), since, target, by };
        if overwrite {
            return self.append_recovery(now, &recovery, Some(reply));
        }
        if let Some(other) = &self.recoveries.reading {
            let what = format!("{} reads still what the CRMs hold", other.recovery.operation);
            return self.respond(reply, 409, Some((what, "GET /v1/recover/OPERATION tells how it stands; ask again once it is over")));
        }
        let wanted = |name: &&String| recovery.target.as_ref().is_none_or(|target| target == *name);
        let reading = Reading {
            crms: self.config.crms.iter().map(|crm| &crm.name).filter(wanted).cloned().collect(),
            after: CallId::first_of(since),
            asked: false,
            next: now.mono,
            until: now.mono + PATIENCE,
            unsynced: 0,
            whole: false,
            kept: Kept::default(),
            recovery,
        };
        let document = reading.kept.document(&reading.recovery.operation, "reading", None);
        self.recoveries.reading = Some(reading);
        self.outputs.push_back(Output::Tell { reply, document });
    }

    /// Tells how a recovery stands: `reading`, `told` or `failed`, then with `why`. The answer is [`Output::Tell`] with `reply`.
    pub fn recovery(&mut self, reply: u64, operation: &str) {
        let Recoveries { reading, over } = &self.recoveries;
        let reading = reading.as_ref().filter(|reading| reading.recovery.operation == operation);
        let known = match reading {
            Some(reading) => Some(reading.kept.document(operation, "reading", None)),
            None => over.iter().find(|(known, _)| known == operation).map(|(_, document)| document.clone()),
        };
        match known {
            Some(document) => self.outputs.push_back(Output::Tell { reply, document }),
            None => {
                let hint = "one that was still reading when the gateway ended has told nothing again: ask for it anew, which is safe";
                self.respond(reply, 404, Some(("no such recovery since the gateway started".to_owned(), hint)));
            }
        }
    }

    /// Goes on with what the CRMs hold; once all is read, and what people changed is on disk, the recovery follows.
    pub(super) fn read_on(&mut self, now: Now, store: &impl Store) -> Result<(), StoreError> {
        let Some(reading) = self.recoveries.reading.as_mut().filter(|reading| !reading.asked && !reading.whole) else { return Ok(()) };
        let Some(crm) = reading.crms.front().cloned() else {
            if reading.unsynced == 0 {
                reading.whole = true;
                let recovery = reading.recovery.clone();
                self.append_recovery(now, &recovery, None);
            }
            return Ok(());
        };
        let start = self.lanes.get(&crm).map_or(Instant::ORIGIN, |lane| lane.next_start);
        if now.mono < start {
            // It is we who hold back, not the CRM that tells nothing.
            reading.until = reading.until.max(start + PATIENCE);
        }
        let next = reading.next.max(start);
        if now.mono < next {
            let wait = next.since(now.mono);
            self.wake_in(now, wait);
            return Ok(());
        }
        reading.asked = true;
        let (operation, after) = (reading.recovery.operation.clone(), reading.after);
        self.read_page(now, store, Asker::Recovery(operation), &crm, Some(after))?;
        // Where nothing had to be asked, the next page is due by itself.
        self.wake_in(now, Duration::ZERO);
        Ok(())
    }

    /// A page has come, or there is none.
    pub(super) fn read_for(&mut self, now: Now, operation: &str, page: Result<Found, Unread>) {
        let Some(reading) = self.recoveries.reading.as_mut().filter(|reading| reading.recovery.operation == operation) else { return };
        reading.asked = false;
        let Some(crm) = reading.crms.front().cloned() else { return };
        let found = match page {
            Ok(found) => found,
            Err(unread @ (Unread::Unreadable(_) | Unread::Unknown(_))) => {
                reading.kept.unread.insert(crm, unread.to_string());
                return reading.next_crm(now);
            }
            Err(unread) if now.mono >= reading.until => {
                let (_, hint) = unread.answer();
                let why = format!("{crm}: {unread}; nothing is told again; {hint}");
                tracing::warn!(operation, why, "a recovery is given up");
                self.recoveries.end(operation, "failed", Some(&why));
                return;
            }
            Err(_) => {
                reading.next = now.mono + PAUSE;
                return;
            }
        };
        reading.until = now.mono + PATIENCE;
        let by = reading.recovery.by.clone();
        reading.kept.records = reading.kept.records.saturating_add(found.changed.len());
        reading.unsynced = reading.unsynced.saturating_add(found.changed.len());
        for one in found.changed.iter().take(SHOWN_MAX.saturating_sub(reading.kept.shown.len())) {
            reading.kept.shown.push(json!({"target": crm, "call_id": one.call_id, "id": one.id, "fields": one.fields}));
        }
        match found.next {
            Some(next) => reading.after = next,
            None => reading.next_crm(now),
        }
        for one in found.changed {
            let entry = decided(now.wall, &crm, one.call_id, Decision::Keep { fields: one.fields }, &by);
            self.append(entry, Waiting::Keep { operation: operation.to_owned() });
        }
    }

    /// What somebody has changed is on disk as an edit, or is not.
    pub(super) fn kept(&mut self, operation: &str, result: Result<(), String>) {
        let Some(reading) = self.recoveries.reading.as_mut().filter(|reading| reading.recovery.operation == operation) else { return };
        match result {
            Ok(()) => reading.unsynced = reading.unsynced.saturating_sub(1),
            Err(why) => {
                drop(self.recoveries.end(operation, "failed", Some(&format!("the journal did not take it: {why}; nothing is told again"))))
            }
        }
    }

    fn append_recovery(&mut self, now: Now, recovery: &Recovery, reply: Option<u64>) {
        let body = serde_json::to_vec(recovery).unwrap_or_default();
        let operation = recovery.operation.clone();
        let entry = Entry { kind: EntryKind::Recovery, time: now.wall, id: operation.clone(), key: String::new(), body };
        self.append(entry, Waiting::Recovery { operation, reply });
    }

    /// A recovery is on disk, or is not.
    pub(super) fn recovery_synced(&mut self, operation: &str, reply: Option<u64>, result: Result<(), String>) {
        match (result, reply) {
            (Ok(()), reply) => {
                let document = self.recoveries.end(operation, "told", None);
                self.outputs.extend(reply.map(|reply| Output::Tell { reply, document }));
            }
            (Err(why), Some(reply)) => {
                self.respond(reply, 503, Some((format!("the recovery could not be written: {why}"), "ask again later")));
            }
            (Err(why), None) => {
                self.recoveries.end(operation, "failed", Some(&format!("the journal did not take it: {why}; nothing is told again")));
            }
        }
    }

    /// Plans every call since the asked time again, and has it told again; some at a time, since there may be many. Doing it twice is doing it once.
    pub(super) fn fold_recovery(&mut self, store: &mut impl Store, at: Position, entry: &Entry) -> Result<(), StoreError> {
        let Ok(Recovery { since, target, .. }) = serde_json::from_slice(&entry.body) else { return Ok(()) };
        let mut after = None;
        loop {
            let calls = store.since(since, after, RECOVERED_AT_ONCE)?;
            let Some(last) = calls.last() else { return Ok(()) };
            after = Some(last.call_id);
            let mut overlay = Overlay::over(&*store);
            for mut record in calls.into_iter().filter(|record| !record.is_skeleton()) {
                let call = record.call_id;
                record.told_at(at);
                for crm in self.config.crms.iter().filter(|c| target.as_ref().is_none_or(|t| *t == c.name)) {
                    let Some(mut write) = overlay.write(&crm.name, call)? else { continue };
                    match write.state {
                        State::Dropped => continue,
                        // What is on its way is part of a record that may be gone: its answer looks again.
                        State::InFlight => write.forget(),
                        _ => write.tell_again(entry.time),
                    }
                    write.backlog = true;
                    overlay.changes.writes.insert((crm.name.clone(), call), write);
                }
                overlay.touch(record, entry.time);
                self.plan(&mut overlay, call, entry.time)?;
            }
            let changes = overlay.changes;
            store.commit(changes)?;
        }
    }
}

impl Reading {
    /// The CRM at the head is read.
    fn next_crm(&mut self, now: Now) {
        self.crms.pop_front();
        (self.after, self.until) = (CallId::first_of(self.recovery.since), now.mono + PATIENCE);
    }
}

/// Calls whose writes are planned again in one transaction.
const RECOVERED_AT_ONCE: usize = 500;
/// A CRM that tells nothing for so long is down, or over quota for longer than anybody waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before a page is asked for again: a token comes in less.
const PAUSE: Duration = Duration::from_millis(500);
/// Recoveries that can be asked after: more than anybody looks back at in one night.
const REMEMBERED: usize = 32;
/// Changed records that are shown one by one; all of them are kept, and stand in the journal.
const SHOWN_MAX: usize = 1000;
