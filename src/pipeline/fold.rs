//! What a batch of the journal makes of the store. The same entries give the same tables, whenever they are folded.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::{
    Answered, Attempt, Attempted, Count, Crm, Pipeline, Settled, Step,
    activation::{self, Era},
    overlay::Overlay,
    record::{Record, Text},
    retention::left,
    schedule::Due,
    store::{State, Store, StoreError, Write},
};
use crate::{
    event::{CallId, Event, Kind},
    journal::{Entry, EntryKind, Position},
    time::Wall,
};

impl Pipeline {
    /// Folds a batch into the store; `next` is committed with it. Behind a recovery, a batch that somebody asked for, a pruning or an erasure, its part goes on as a batch of
    /// its own: were the process to die within it, the whole of it would come again.
    pub fn fold(&mut self, store: &mut impl Store, entries: &[(Position, Entry)], next: Position) -> Result<(), StoreError> {
        let mut rest = entries;
        while let Some(place) = rest
            .iter()
            .position(|(_, e)| matches!(e.kind, EntryKind::Recovery | EntryKind::Run | EntryKind::Retention | EntryKind::Erasure))
        {
            let (before, from) = rest.split_at(place);
            let Some(((at, asked), after)) = from.split_first() else { break };
            self.fold_part(store, before, *at)?;
            match asked.kind {
                EntryKind::Run => self.fold_run(store, asked)?,
                EntryKind::Retention => self.fold_retention(store, asked)?,
                EntryKind::Erasure => self.fold_erasure(store, asked)?,
                _ => self.fold_recovery(store, *at, asked)?,
            }
            rest = after;
        }
        self.fold_part(store, rest, next)
    }

    fn fold_part(&mut self, store: &mut impl Store, entries: &[(Position, Entry)], next: Position) -> Result<(), StoreError> {
        let mut overlay = Overlay::over(&*store);
        overlay.changes.position = Some(next);
        let (mut finished, mut pulled, mut ordered) = (Vec::new(), Vec::new(), Vec::new());
        for (at, entry) in entries {
            match entry.kind {
                EntryKind::Event => self.fold_event(&mut overlay, *at, entry)?,
                EntryKind::Webhook => pulled.extend(self.fold_webhook(&mut overlay, *at, entry)?),
                EntryKind::Attempt => {
                    // What was attempted, or decided on, is what was planned then, wherever batches begin.
                    self.plan_touched(&mut overlay)?;
                    self.fold_attempt(&mut overlay, *at, entry)?;
                }
                EntryKind::Answer => finished.extend(self.fold_answer(&mut overlay, *at, entry)?),
                EntryKind::Review => {
                    self.plan_touched(&mut overlay)?;
                    self.fold_decision(&mut overlay, *at, entry)?;
                }
                EntryKind::Activation => {
                    self.plan_touched(&mut overlay)?;
                    activation::fold(&mut overlay, entry);
                }
                EntryKind::Hold => ordered.extend(self.fold_hold(&mut overlay, entry)?),
                EntryKind::Alarm
                | EntryKind::Recovery
                | EntryKind::Run
                | EntryKind::Retention
                | EntryKind::Erasure
                | EntryKind::Other(_) => {}
            }
        }
        self.plan_touched(&mut overlay)?;
        let changes = overlay.changes;
        store.commit(changes)?;
        // Only now: were the commit to fail, the entries come again.
        for (crm, call) in finished {
            if let Some(lane) = self.lanes.get_mut(&crm) {
                lane.busy.remove(&call);
            }
        }
        for (source, call) in pulled {
            self.pull_folded(&source, call);
        }
        for came in ordered {
            self.ordered(came);
        }
        Ok(())
    }

    fn fold_event<S: Store>(&mut self, overlay: &mut Overlay<'_, S>, at: Position, entry: &Entry) -> Result<(), StoreError> {
        let Some((event, text)) = Event::from_cloudevent(&entry.body).ok().zip(Text::of(&entry.body)) else {
            // What an earlier version could not write a later one may not be able to read; the journal keeps it.
            let Some((call, names)) = left::event(entry) else { return Ok(()) };
            let known = overlay.record(call)?;
            let before = known.as_ref().map(|known| known.sip_call_ids.clone());
            let mut record = known.unwrap_or_else(|| Record::lost(call));
            return if record.lose(names) { overlay.happened(at, entry.time, before, record) } else { Ok(()) };
        };
        let (known, wait) = overlay.take(event.call_id)?;
        let before = known.as_ref().map(|known| known.sip_call_ids.clone());
        let mut record = known.unwrap_or_else(|| Record::new(event.call_id));
        if !record.apply_as(&event, text) {
            // As it was, where it had changed before.
            overlay.changes.records.extend(wait.map(|wait| (event.call_id, (record, wait))));
            return Ok(());
        }
        if self.live && matches!(event.kind, Kind::Answered { .. }) && !self.config.sources.is_empty() {
            self.count(Count::Expected);
        }
        overlay.happened(at, entry.time, before, record)?;
        self.plan_under_way(overlay, &event, entry.time)
    }

    fn fold_attempt<S: Store>(&self, overlay: &mut Overlay<'_, S>, at: Position, entry: &Entry) -> Result<(), StoreError> {
        let Ok(attempt) = serde_json::from_slice::<Attempt>(&entry.body) else { return Ok(()) };
        if self.config.crm(&attempt.crm).is_some() {
            overlay.spend(&attempt.crm, entry.time.day(), attempt.cost)?;
        }
        for Attempted { call_id, fields, person, .. } in attempt.writes {
            let mut write = match overlay.take_write(&attempt.crm, call_id)? {
                Some(known) => known,
                None if overlay.is_pruned(call_id)? => continue,
                None => Write::new(&attempt.crm, call_id, entry.time),
            };
            if write.pruned || write.is_behind(entry.time) {
                overlay.put_write(write);
                continue;
            }
            write.touched = Some(at);
            // What an attempt carried whose answer never came, since the process died, may have been taken.
            write.doubt_sent();
            write.state = State::InFlight;
            write.job.clone_from(&attempt.job);
            match attempt.step {
                Step::Write => (write.sent, write.sent_at, write.by_another) = (fields, write.revision, false),
                // Said or not, nobody knows before the answer: it is what an answer of success acknowledges.
                Step::Tell => write.contact.saying = fields,
                Step::Find | Step::Make => write.contact.asked = person,
                Step::Link => {}
            }
            overlay.put_write(write);
        }
        Ok(())
    }

    fn fold_answer<S: Store>(
        &mut self,
        overlay: &mut Overlay<'_, S>,
        at: Position,
        entry: &Entry,
    ) -> Result<Vec<(String, CallId)>, StoreError> {
        let Ok(answered) = serde_json::from_slice::<Answered>(&entry.body) else { return Ok(Vec::new()) };
        let mut finished = Vec::new();
        for settled in answered.writes {
            let call = settled.call_id;
            let Some(mut write) = overlay.take_write(&answered.crm, call)? else { continue };
            if write.pruned || write.is_behind(entry.time) {
                overlay.put_write(write);
                continue;
            }
            write.touched = Some(at);
            if answered.step.is_write() && settled.outcome == "done" && write.id.is_none() && write.written.is_empty() && self.live {
                self.delivered(overlay, call, entry.time)?;
            }
            let crm = self.config.crm(&answered.crm);
            let all_of_it = answered.step.is_write() && settled.outcome == "done" && write.sent_at == write.revision;
            write.by_another = match crm.filter(|_| all_of_it) {
                Some(crm) => overlay.era(crm)? != Era::Present,
                None => write.by_another,
            };
            write.settle(crm, answered.step, settled, entry.time, self.config.attempts_max);
            overlay.put_write(write);
            finished.push((answered.crm.clone(), call));
        }
        Ok(finished)
    }

    /// A CRM has a record of this call for the first time.
    fn delivered<S: Store>(&mut self, overlay: &Overlay<'_, S>, call: CallId, at: Wall) -> Result<(), StoreError> {
        if let Some(ended) = overlay.record(call)?.and_then(|r| r.ended_at) {
            let ms = at.as_millis().saturating_sub(ended.as_millis());
            self.count(Count::Delivered(Duration::from_millis(u64::try_from(ms).unwrap_or(0))));
        }
        Ok(())
    }

    fn plan_touched<S: Store>(&self, overlay: &mut Overlay<'_, S>) -> Result<(), StoreError> {
        for (call, at) in std::mem::take(&mut overlay.touched) {
            self.plan(overlay, call, at)?;
        }
        Ok(())
    }

    /// Settles what each CRM should have of a record, and how long it waits for its outcome.
    pub(super) fn plan<S: Store>(&self, overlay: &mut Overlay<'_, S>, call: CallId, at: Wall) -> Result<(), StoreError> {
        let Some((record, wait)) = overlay.changes.records.get_mut(&call).filter(|(r, _)| !r.is_pruned()) else { return Ok(()) };
        *wait = record.expect(&self.config.expects, &self.config.sources);
        for (source, due) in record.plan_pulls(&self.config.expects, &self.config.sources) {
            overlay.changes.pulls.insert((source, call), due);
        }
        if !record.is_over() {
            return Ok(());
        }
        let fields = record.fields();
        for crm in &self.config.crms {
            want(overlay, crm, call, &fields, at, crm.schedule.due(&fields, at))?;
        }
        Ok(())
    }

    /// Settles what each CRM should have of a call that is not over, where `event` is one that is written then: at once, so that it does not matter where
    /// batches of the journal begin.
    fn plan_under_way<S: Store>(&self, overlay: &mut Overlay<'_, S>, event: &Event, at: Wall) -> Result<(), StoreError> {
        let dues: Vec<_> = self.config.crms.iter().filter_map(|crm| Some((crm, crm.schedule.under_way(&event.kind, at)?))).collect();
        let Some((record, _)) = overlay.changes.records.get(&event.call_id).filter(|(r, _)| !dues.is_empty() && !r.is_over()) else {
            return Ok(());
        };
        let fields = record.fields();
        for (crm, due) in dues {
            want(overlay, crm, event.call_id, &fields, at, due)?;
        }
        Ok(())
    }

    /// Ends waits that are over, which no entry tells; true where there may be more. What that changes bears the time at which each was over, whenever this is
    /// asked.
    pub fn end_waits(&mut self, now: crate::time::Now, store: &mut impl Store) -> Result<bool, StoreError> {
        let over = store.waited(now.wall, WAITS_A_TURN)?;
        if over.is_empty() {
            return Ok(false);
        }
        let mut overlay = Overlay::over(&*store);
        for mut record in over {
            let (call, at) = (record.call_id, record.expect(&self.config.expects, &self.config.sources).unwrap_or(now.wall));
            record.give_up(&self.config.expects, &self.config.sources, at);
            overlay.touch(record, at);
            overlay.wait_over = Some(at);
            self.plan(&mut overlay, call, at)?;
        }
        let changes = overlay.changes;
        store.commit(changes)?;
        Ok(true)
    }
}

/// Settles what `crm` should have of a call, of which something became known at `at` and is `due` then.
fn want<S: Store>(
    overlay: &mut Overlay<'_, S>,
    crm: &Crm,
    call: CallId,
    fields: &Map<String, Value>,
    at: Wall,
    due: Due,
) -> Result<(), StoreError> {
    let era = overlay.era(crm)?;
    let mut write = match overlay.write(&crm.name, call)? {
        Some(known) => known,
        None if era != Era::Before && crm.schedule.takes(fields) => Write::new(&crm.name, call, at),
        None => return Ok(()),
    };
    let mut changed = crm.want(&mut write, fields);
    // That a wait was over before the last answer was known to whoever wrote.
    let news = changed && (overlay.wait_over.is_none() || write.answered_at.is_none_or(|last| last < at));
    if write.by_another && (news || era == Era::Present) {
        write.by_another = false;
        changed |= crm.next_step(&write).is_some();
    }
    yield_to_later_calls(overlay, crm, &mut write)?;
    // A rule may have become true that does not wait, or the call is over.
    let sooner = write.state == State::Queued && due.at < write.due;
    if !changed && !sooner {
        return Ok(());
    }
    write.revision = write.revision.saturating_add(u32::from(changed));
    match (write.state, crm.next_step(&write).is_some()) {
        // Its answer looks again; what a person has dropped stays so.
        (State::InFlight | State::Dropped, _) | (State::Retrying, true) => {}
        (State::Queued, true) if sooner => write.wait(due),
        (State::Queued, true) => {}
        (State::Done | State::Review | State::Dead, true) => {
            write.state = State::Queued;
            write.wait(due);
            write.attempts = 0;
        }
        // Everything is written: what is left is whether somebody has to look.
        (State::Queued | State::Retrying | State::Done | State::Review, false) => (write.state, write.why) = crm.rest(&write),
        (State::Dead, false) => {}
    }
    overlay.changes.writes.insert((crm.name.clone(), call), write);
    Ok(())
}

/// Of what several calls say of one person, the latest call's counts: `write` says nothing that a later call says, and what earlier ones have not said yet
/// of that they say no more.
fn yield_to_later_calls<S: Store>(overlay: &mut Overlay<'_, S>, crm: &Crm, write: &mut Write) -> Result<(), StoreError> {
    let says = !write.contact.says.is_empty();
    let Some((contacts, sought)) = crm.contacts.as_ref().zip(write.contact.sought.clone()).filter(|_| says) else { return Ok(()) };
    let rule = &contacts.rule;
    // One who calls from 030… and from +4930… is one person.
    let numbers = rule.spellings(&sought);
    let mut others = BTreeMap::new();
    for number in &numbers {
        others.extend(overlay.store.of_number(number, SAME_PERSON_MAX)?.into_iter().map(|other| (other.call_id, other)));
    }
    others.retain(|call, _| !overlay.changes.records.contains_key(call));
    let bears = |record: &&Record| record.numbers().iter().any(|number| numbers.contains(number));
    others.extend(overlay.changes.records.values().map(|(r, _)| r).filter(bears).map(|other| (other.call_id, other.clone())));
    others.remove(&write.call_id);
    // Later calls first, so that the same is left however the entries come in batches.
    for other in others.into_values().rev().take(SAME_PERSON_MAX) {
        let facts = other.fields();
        if rule.sought(&facts).as_ref() != Some(&sought) {
            continue;
        }
        if other.call_id > write.call_id {
            let later = rule.updates_of(&facts);
            write.contact.says.retain(|name, _| !later.contains_key(name));
        } else if let Some(mut earlier) = overlay.write(&crm.name, other.call_id)? {
            let said = std::mem::take(&mut earlier.contact.says);
            let kept = |name: &String| !write.contact.says.contains_key(name) || earlier.contact.said.contains_key(name);
            earlier.contact.says = said.clone().into_iter().filter(|(name, _)| kept(name)).collect();
            if earlier.contact.says != said {
                // Nothing is left to try, nor to look at, where that was all.
                if !matches!(earlier.state, State::InFlight | State::Dropped) && crm.next_step(&earlier).is_none() {
                    (earlier.state, earlier.why) = crm.rest(&earlier);
                }
                overlay.changes.writes.insert((crm.name.clone(), other.call_id), earlier);
            }
        }
    }
    Ok(())
}

impl State {
    /// Whether it goes no further by itself.
    pub(super) const fn waits_for_a_person(self) -> bool {
        matches!(self, Self::Review | Self::Dead | Self::Dropped)
    }
}

impl Write {
    fn wait(&mut self, due: Due) {
        (self.due, self.since, self.backlog) = (due.at, due.at, due.backlog);
    }

    /// What an answer makes of it.
    fn settle(&mut self, crm: Option<&Crm>, step: Step, settled: Settled, at: Wall, attempts_max: u32) {
        (self.answered_at, self.job) = (Some(at), None);
        // An answer on somebody else says nothing of him who is sought.
        let answers = self.contact.asked.take() == self.contact.sought;
        // A CRM that fails, or falls silent, may have done it before, and one that writes in parts a part of it.
        let in_parts = step.is_write() && settled.outcome != "done" && crm.is_some_and(|crm| crm.connector.writes_in_parts());
        if in_parts || matches!(settled.outcome.as_str(), "ambiguous" | "retry") {
            self.doubt_sent();
        }
        self.why = settled.why;
        let conflicts_again = settled.conflict && self.conflicted;
        self.conflicted = settled.outcome != "done" && (settled.conflict || self.conflicted) && !conflicts_again;
        match settled.outcome.as_str() {
            "done" => {
                match (step, crm) {
                    (Step::Write, _) => {
                        // Another record bears the key now: the one before is gone, and this one holds what was sent just now.
                        let by_key = crm.is_some_and(|crm| crm.connector.reader().is_some());
                        if by_key && self.id.is_some() && settled.id.is_some() && self.id != settled.id {
                            self.written.clear();
                            self.contact.linked = None;
                        }
                        // What was sent just now says not all that belongs to it, such as what links it with the other.
                        if settled.anew {
                            self.written.clear();
                            self.sent.clear();
                        }
                        self.written.append(&mut self.sent);
                        self.id = settled.id.or(self.id.take());
                    }
                    (Step::Find, Some(crm)) if answers => crm.meet(self, settled.people.unwrap_or_default()),
                    (Step::Make, Some(crm)) if answers => crm.meet(self, settled.id.into_iter().collect()),
                    (Step::Tell, _) => {
                        let mut saying = std::mem::take(&mut self.contact.saying);
                        self.contact.said.append(&mut saying);
                    }
                    // A record that is to be told again is linked again then.
                    (Step::Link, _) => self.contact.linked = self.contact.person().filter(|_| self.id.is_some()).map(str::to_owned),
                    // Or its CRM stands in no configuration any more.
                    (Step::Find | Step::Make, _) => {}
                }
                self.attempts = 0;
                self.due = at;
                self.since = at;
                (self.state, self.why) = crm.map_or((State::Done, None), |crm| crm.rest(self));
                self.backlog &= self.state == State::Queued;
            }
            // One who is found again although he was refused before, by his key, is not the one whom the CRM misses.
            "gone" if settled.person_gone && self.contact.person().is_some_and(|person| !self.contact.is_lost(person)) => {
                if let Some(crm) = crm {
                    crm.estrange(self);
                }
                (self.state, self.due) = (State::Retrying, at);
            }
            "rejected" | "gone" => self.state = State::Review,
            // It is nobody who made the same record at the same moment.
            _ if conflicts_again => self.state = State::Review,
            _ => {
                self.attempts = self.attempts.saturating_add(u32::from(settled.counts.is_some()));
                self.state = if self.attempts >= attempts_max { State::Dead } else { State::Retrying };
                // What the answer says, and longer with each attempt.
                let later = settled.counts.map_or(at, |place| at + super::lane::backoff(self.attempts, place));
                self.due = settled.retry_at.unwrap_or(later).max(later);
            }
        }
    }
}

/// Calls of one number that are looked at, the latest.
const SAME_PERSON_MAX: usize = 50;
/// Waits ended in one transaction.
const WAITS_A_TURN: usize = 200;
