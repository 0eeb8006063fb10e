//! A batch of the journal under way: what it has changed so far lies over the store, and is committed at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    record::Record,
    store::{Changes, Store, StoreError, Write},
};
use crate::{
    event::CallId,
    journal::{Entry, Position},
    time::Wall,
};

/// A batch under way: what it has changed so far lies over the store.
pub(super) struct Overlay<'s, S> {
    pub(super) store: &'s S,
    pub(super) changes: Changes,
    /// Calls whose record changed, and when that last happened.
    pub(super) touched: BTreeMap<CallId, Wall>,
    /// By CRM, as far as somebody has asked: whether the content of a mapping in use is the configured one, and since when.
    pub(super) in_use: BTreeMap<String, Option<(bool, Wall)>>,
    /// When the wait was over that ends here: no entry tells that, and others may be folded already that came later.
    pub(super) wait_over: Option<Wall>,
}

impl<'s, S: Store> Overlay<'s, S> {
    /// Over `store`, before anything has changed.
    pub(super) fn over(store: &'s S) -> Self {
        Self { store, changes: Changes::default(), touched: BTreeMap::new(), in_use: BTreeMap::new(), wait_over: None }
    }

    pub(super) fn record(&self, call: CallId) -> Result<Option<Record>, StoreError> {
        match self.changes.records.get(&call) {
            Some((record, _)) => Ok(Some(record.clone())),
            None => self.store.record(call),
        }
    }

    /// The record itself, to be changed and [touched](Self::touch): it grows with each event, and copies cost. With it, how long it waited, where it has
    /// changed already.
    pub(super) fn take(&mut self, call: CallId) -> Result<(Option<Record>, Option<Option<Wall>>), StoreError> {
        match self.changes.records.remove(&call) {
            Some((record, wait)) => Ok((Some(record), Some(wait))),
            None => Ok((self.store.take_record(call)?, None)),
        }
    }

    pub(super) fn write(&self, crm: &str, call: CallId) -> Result<Option<Write>, StoreError> {
        match self.changes.writes.get(&(crm.to_owned(), call)) {
            Some(write) => Ok(Some(write.clone())),
            None => self.store.write(crm, call),
        }
    }

    /// The write itself, to be changed and put back.
    pub(super) fn take_write(&mut self, crm: &str, call: CallId) -> Result<Option<Write>, StoreError> {
        match self.changes.writes.remove(&(crm.to_owned(), call)) {
            Some(write) => Ok(Some(write)),
            None => self.store.take_write(crm, call),
        }
    }

    pub(super) fn put_write(&mut self, write: Write) {
        self.changes.writes.insert((write.crm.clone(), write.call_id), write);
    }

    /// Whether what a call held was taken away.
    pub(super) fn is_pruned(&self, call: CallId) -> Result<bool, StoreError> {
        match self.changes.records.get(&call) {
            Some((record, _)) => Ok(record.is_pruned()),
            None => self.store.is_pruned(call),
        }
    }

    /// The call of a name: its own id or a SIP Call-ID of one of its legs.
    pub(super) fn named(&self, name: &str) -> Result<Option<CallId>, StoreError> {
        if let Some(call) = name.parse().ok()
            && (self.changes.records.contains_key(&call) || self.store.knows(call)?)
        {
            return Ok(Some(call));
        }
        self.bearer(name)
    }

    /// The call that has taken that name.
    fn bearer(&self, name: &str) -> Result<Option<CallId>, StoreError> {
        match self.changes.names.get(name) {
            Some(call) => Ok(Some(*call)),
            None => self.store.named(name),
        }
    }

    /// Tells `record` what came under `name` while nobody had it, and under whatever other names that gives the call.
    pub(super) fn adopt(&mut self, record: &mut Record, name: &str) -> Result<(), StoreError> {
        let mut names = vec![name.to_owned()];
        while let Some(name) = names.pop() {
            let early = self.changes.orphans.iter().filter(|o| o.payload.call_id == name).cloned();
            let orphans = self.store.orphans(&name)?.into_iter().chain(early).collect::<Vec<_>>();
            if orphans.is_empty() || !self.changes.adopted.insert(name.clone()) {
                continue;
            }
            for orphan in &orphans {
                record.tell(&orphan.payload);
                record.told_at(orphan.position);
                for other in &orphan.payload.names {
                    self.changes.names.insert(other.clone(), record.call_id);
                    names.push(other.clone());
                }
            }
            self.changes.orphans.retain(|o| o.payload.call_id != name);
        }
        Ok(())
    }

    /// An event at `at` has made `record` out of one that bore the SIP Call-IDs `before`; none: there was none.
    pub(super) fn happened(
        &mut self,
        at: Position,
        time: Wall,
        before: Option<BTreeSet<String>>,
        mut record: Record,
    ) -> Result<(), StoreError> {
        let call = record.call_id;
        let fresh = before.is_none();
        let mut turned_up: BTreeSet<String> = record.sip_call_ids.difference(&before.unwrap_or_default()).cloned().collect();
        for name in &turned_up {
            record.took_from.extend(self.bearer(name)?.filter(|former| *former != call));
        }
        self.changes.names.extend(turned_up.iter().map(|name| (name.clone(), call)));
        if fresh {
            turned_up.insert(call.to_string());
        }
        for name in turned_up {
            self.adopt(&mut record, &name)?;
        }
        record.told_at(at);
        self.touch(record, time);
        Ok(())
    }

    /// Somebody decided at `at` on a call of which the journal has lost what was decided: that he did is known.
    pub(super) fn told_of_lost(&mut self, at: Position, entry: &Entry) -> Result<(), StoreError> {
        let Ok(call) = entry.key.parse() else { return Ok(()) };
        if let Some(mut record) = self.record(call)?.filter(|record| record.is_pruned() && !record.is_skeleton()) {
            record.told_at(at);
            self.changes.records.insert(call, (record, None));
        }
        Ok(())
    }

    /// The mark of the webhook that is known by that key.
    pub(super) fn seen(&self, key: &str) -> Result<Option<String>, StoreError> {
        match self.changes.seen.get(key) {
            Some(mark) => Ok(Some(mark.clone())),
            None => self.store.seen(key),
        }
    }

    /// Counts what an attempt costs of a CRM's day.
    pub(super) fn spend(&mut self, crm: &str, day: i64, cost: u64) -> Result<(), StoreError> {
        let spent = match self.changes.spent.get(&(crm.to_owned(), day)) {
            Some(spent) => *spent,
            None => self.store.spent(crm, day)?,
        };
        self.changes.spent.insert((crm.to_owned(), day), spent.saturating_add(cost));
        Ok(())
    }

    pub(super) fn touch(&mut self, record: Record, at: Wall) {
        let call = record.call_id;
        self.changes.records.insert(call, (record, None));
        self.touched.insert(call, at);
    }
}
