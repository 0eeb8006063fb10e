//! The tables in memory, for tests and simulation.

use std::collections::BTreeMap;

use super::{
    Activation, Record, Traffic,
    retention::{Erasure, Hold},
    store::{Aside, Changes, Counts, Orphan, State, Store, StoreError, Write},
    webhook::{Drift, Payload},
};
use crate::{event::CallId, journal::Position, time::Wall};

/// A store in memory, for tests and simulation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    position: Position,
    records: BTreeMap<CallId, (Record, Option<Wall>)>,
    writes: BTreeMap<(String, CallId), Write>,
    pulls: BTreeMap<(String, CallId), Wall>,
    names: BTreeMap<String, CallId>,
    seen: BTreeMap<String, String>,
    orphans: Vec<Orphan>,
    asides: BTreeMap<Position, Aside>,
    drifts: BTreeMap<String, Drift>,
    spent: BTreeMap<(String, i64), u64>,
    activations: BTreeMap<String, (Activation, Wall)>,
    holds: BTreeMap<CallId, Hold>,
    erasures: BTreeMap<CallId, Erasure>,
    swept: Option<Wall>,
}

impl Store for Memory {
    fn position(&self) -> Result<Position, StoreError> {
        Ok(self.position)
    }

    fn commit(&mut self, changes: Changes) -> Result<(), StoreError> {
        self.position = changes.position.unwrap_or(self.position);
        if let Some(before) = changes.swept {
            self.swept = self.swept.max(Some(before));
            self.asides.retain(|_, aside| aside.time >= before);
            self.orphans.retain(|orphan| orphan.came >= before);
            self.drifts.retain(|_, drift| drift.last >= before);
            self.spent.retain(|(_, day), _| *day >= before.day());
        }
        let pruned = |call: &CallId| changes.records.get(call).is_some_and(|(record, _)| record.is_pruned());
        self.writes.retain(|(_, call), _| !pruned(call));
        self.records.extend(changes.records);
        self.writes.extend(changes.writes);
        for (key, due) in changes.pulls {
            match due {
                Some(due) => drop(self.pulls.insert(key, due)),
                None => drop(self.pulls.remove(&key)),
            }
        }
        self.names.extend(changes.names);
        self.seen.extend(changes.seen);
        self.orphans.retain(|o| !changes.adopted.contains(&o.payload.call_id));
        self.orphans.extend(changes.orphans);
        self.asides.extend(changes.asides.into_iter().map(|aside| (aside.position, aside)));
        self.drifts.extend(changes.drifts);
        self.spent.extend(changes.spent);
        self.activations.extend(changes.activations);
        self.holds.extend(changes.holds);
        self.erasures.extend(changes.erasures);
        Ok(())
    }

    fn record(&self, call: CallId) -> Result<Option<Record>, StoreError> {
        Ok(self.records.get(&call).map(|(record, _)| record.clone()))
    }

    fn knows(&self, call: CallId) -> Result<bool, StoreError> {
        Ok(self.records.contains_key(&call))
    }

    fn named(&self, name: &str) -> Result<Option<CallId>, StoreError> {
        Ok(self.names.get(name).copied())
    }

    fn write(&self, crm: &str, call: CallId) -> Result<Option<Write>, StoreError> {
        Ok(self.writes.get(&(crm.to_owned(), call)).cloned())
    }

    fn writes(&self, call: CallId) -> Result<Vec<Write>, StoreError> {
        Ok(self.writes.values().filter(|w| w.call_id == call).cloned().collect())
    }

    fn seen(&self, id: &str) -> Result<Option<String>, StoreError> {
        Ok(self.seen.get(id).cloned())
    }

    fn asides(&self, most: usize) -> Result<Vec<Aside>, StoreError> {
        Ok(self.asides.values().rev().take(most).cloned().collect())
    }

    fn aside(&self, position: Position) -> Result<Option<Aside>, StoreError> {
        Ok(self.asides.get(&position).cloned())
    }

    fn drift(&self, key: &str) -> Result<Option<Drift>, StoreError> {
        Ok(self.drifts.get(key).cloned())
    }

    fn drifts(&self) -> Result<Vec<Drift>, StoreError> {
        Ok(self.drifts.values().cloned().collect())
    }

    fn orphans(&self, name: &str) -> Result<Vec<Orphan>, StoreError> {
        Ok(self.orphans.iter().filter(|o| o.payload.call_id == name).cloned().collect())
    }

    fn unmatched(&self, most: usize) -> Result<Vec<Payload>, StoreError> {
        Ok(self.orphans.iter().rev().take(most).map(|o| o.payload.clone()).collect())
    }

    fn due(&self, crm: &str, at: Wall, traffic: Traffic, most: usize, taken: impl Fn(CallId) -> bool) -> Result<Vec<Write>, StoreError> {
        let mut due = self.waiting(crm, traffic).filter(|w| w.due <= at && !taken(w.call_id)).cloned().collect::<Vec<_>>();
        due.sort_by_key(|w| (w.backlog, w.due, w.call_id));
        due.truncate(most);
        Ok(due)
    }

    fn next_due(&self, crm: &str, traffic: Traffic) -> Result<Option<Wall>, StoreError> {
        Ok(self.waiting(crm, traffic).map(|w| w.due).min())
    }

    fn backlog(&self, crm: &str, at: Wall, most: usize) -> Result<usize, StoreError> {
        Ok(self.waiting(crm, Traffic::All).filter(|w| w.backlog && w.due <= at).take(most).count())
    }

    fn spent(&self, crm: &str, day: i64) -> Result<u64, StoreError> {
        Ok(self.spent.get(&(crm.to_owned(), day)).copied().unwrap_or(0))
    }

    fn activation(&self, crm: &str) -> Result<Option<(Activation, Wall)>, StoreError> {
        Ok(self.activations.get(crm).cloned())
    }

    fn writes_in(&self, state: State, most: usize) -> Result<Vec<Write>, StoreError> {
        let mut found = self.writes.values().filter(|w| w.state == state).cloned().collect::<Vec<_>>();
        found.sort_by_key(|w| (w.since, w.call_id));
        found.truncate(most);
        Ok(found)
    }

    fn waited(&self, at: Wall, most: usize) -> Result<Vec<Record>, StoreError> {
        Ok(self.records.values().filter(|(_, wait)| wait.is_some_and(|w| w <= at)).map(|(r, _)| r.clone()).take(most).collect())
    }

    fn next_wait(&self) -> Result<Option<Wall>, StoreError> {
        Ok(self.records.values().filter_map(|(_, wait)| *wait).min())
    }

    fn pulls_due(&self, source: &str, at: Wall, most: usize) -> Result<Vec<CallId>, StoreError> {
        let mut due: Vec<_> =
            self.pulls.iter().filter(|((s, _), due)| s == source && **due <= at).map(|((_, c), due)| (*due, *c)).collect();
        due.sort();
        Ok(due.into_iter().map(|(_, call)| call).take(most).collect())
    }

    fn pull(&self, source: &str, call: CallId) -> Result<Option<Wall>, StoreError> {
        Ok(self.pulls.get(&(source.to_owned(), call)).copied())
    }

    fn next_pull(&self, source: &str, at: Wall) -> Result<Option<Wall>, StoreError> {
        Ok(self.pulls.iter().filter(|((s, _), due)| s == source && **due > at).map(|(_, due)| *due).min())
    }

    fn open(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.records.values().filter(|(r, _)| !r.is_over()).map(|(r, _)| r.clone()).collect())
    }

    fn recent(&self, most: usize) -> Result<Vec<Record>, StoreError> {
        // A call id is a UUIDv7: its order is that of time.
        Ok(self.records.values().rev().map(|(r, _)| r.clone()).take(most).collect())
    }

    fn since(&self, at: Wall, after: Option<CallId>, most: usize) -> Result<Vec<Record>, StoreError> {
        let behind = |call: &CallId| *call >= CallId::first_of(at) && after.is_none_or(|after| *call > after);
        Ok(self.records.iter().filter(|(call, _)| behind(call)).map(|(_, (r, _))| r.clone()).take(most).collect())
    }

    fn writes_of(&self, crm: &str, after: Option<CallId>, most: usize) -> Result<Vec<Write>, StoreError> {
        let behind = |write: &&Write| write.crm == crm && after.is_none_or(|after| write.call_id > after);
        Ok(self.writes.values().filter(behind).take(most).cloned().collect())
    }

    fn of_number(&self, number: &str, most: usize) -> Result<Vec<Record>, StoreError> {
        let with = |record: &&Record| record.numbers().iter().any(|n| n == number);
        Ok(self.records.values().rev().map(|(r, _)| r).filter(with).take(most).cloned().collect())
    }

    fn prunable(&self, before: Wall, after: Option<CallId>, most: usize) -> Result<Vec<Record>, StoreError> {
        let may = |(call, (record, wait)): &(&CallId, &(Record, Option<Wall>))| {
            let between = **call < CallId::first_of(before) && after.is_none_or(|after| **call > after);
            between && record.is_over() && !record.is_pruned() && wait.is_none()
        };
        Ok(self.records.iter().filter(may).map(|(_, (record, _))| record.clone()).take(most).collect())
    }

    fn is_pruned(&self, call: CallId) -> Result<bool, StoreError> {
        Ok(self.records.get(&call).is_some_and(|(record, _)| record.is_pruned()))
    }

    fn older_of_number(&self, number: &str, call: CallId, most: usize) -> Result<Vec<CallId>, StoreError> {
        let with = |(_, (record, _)): &(&CallId, &(Record, Option<Wall>))| record.numbers().iter().any(|n| n == number);
        Ok(self.records.range(..call).filter(with).map(|(call, _)| *call).take(most).collect())
    }

    fn hold(&self, call: CallId) -> Result<Option<Hold>, StoreError> {
        Ok(self.holds.get(&call).cloned())
    }

    fn holds(&self, most: usize) -> Result<Vec<Hold>, StoreError> {
        let mut held: Vec<_> = self.holds.values().filter(|hold| hold.held).cloned().collect();
        held.sort_by_key(|hold| (hold.at, hold.call_id));
        held.truncate(most);
        Ok(held)
    }

    fn held(&self) -> Result<usize, StoreError> {
        Ok(self.holds.values().filter(|hold| hold.held).count())
    }

    fn erasure(&self, call: CallId) -> Result<Option<Erasure>, StoreError> {
        Ok(self.erasures.get(&call).cloned())
    }

    fn erasures(&self, most: usize) -> Result<Vec<Erasure>, StoreError> {
        let mut found: Vec<_> = self.erasures.values().cloned().collect();
        found.sort_by_key(|erasure| std::cmp::Reverse((erasure.at, erasure.call_id)));
        found.truncate(most);
        Ok(found)
    }

    fn erased(&self) -> Result<usize, StoreError> {
        Ok(self.erasures.len())
    }

    fn swept(&self) -> Result<Option<Wall>, StoreError> {
        Ok(self.swept)
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        for write in self.writes.values() {
            let count = match write.state {
                State::Done | State::Dropped => continue,
                State::Queued => &mut counts.queued,
                State::Retrying => &mut counts.retrying,
                State::InFlight => &mut counts.in_flight,
                State::Review => &mut counts.review,
                State::Dead => &mut counts.dead,
            };
            *count = count.saturating_add(1);
            if !matches!(write.state, State::Review | State::Dead) {
                counts.oldest = Some(counts.oldest.map_or(write.since, |o| o.min(write.since)));
            }
        }
        Ok(counts)
    }
}

impl Memory {
    /// Forgets which webhooks it has seen: what a lost mark would do.
    pub fn forget_webhooks(&mut self) {
        self.seen.clear();
    }

    fn waiting(&self, crm: &str, traffic: Traffic) -> impl Iterator<Item = &Write> {
        let may = move |w: &&Write| traffic == Traffic::All || !w.backlog;
        self.writes.values().filter(move |w| w.crm == crm && matches!(w.state, State::Queued | State::Retrying)).filter(may)
    }
}
