//! Retention: some time behind its end, once everything of it is settled, what a call held is taken away, and its skeleton stays.
//!
//! ```text
//! turn ─► Append(retention: skeletons of calls) ─ fold ─► records and writes are skeletons ─► the journal's bodies go ([`left`])
//! ```
//! The entry holds the skeletons themselves, so that a journal without the bodies gives the same store. Whether a call's is taken depends on nothing but where
//! entries stand in the journal: it is not where something was told of the call, or decided on it, behind what the entry was made from. Hence it is taken or not
//! alike while the gateway runs, when the store is made anew by whatever mapping, and on a journal that has lost the bodies in any part of its segments.

mod erasure;
mod hold;
pub mod left;
mod order;

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

pub use erasure::Erasure;
pub use hold::Hold;
pub use order::{Order, What};
pub(super) use order::{Orders, why_gone};

use super::{
    Output, Pipeline, Waiting,
    overlay::Overlay,
    record::Record,
    store::{Changes, State, Store, StoreError, Write},
};
use crate::{
    event::{CallId, Terminal},
    journal::{Entry, EntryKind, Position},
    time::{Instant, Now, Wall},
};

/// Body of an entry: calls that ended before `before` become skeletons, and what belongs to no call and came before then goes.
#[derive(Debug, Serialize, Deserialize)]
struct Retention {
    before: Wall,
    /// What stood before this was folded when the skeletons were made.
    to: Position,
    calls: Vec<Bones>,
}

/// What stays of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bones {
    pub(super) call_id: CallId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) started_at: Option<Wall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<Wall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trunk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<String>,
    pub(super) terminal: Terminal,
    /// The names it is known by.
    names: Vec<String>,
    writes: Vec<Written>,
    /// Calls that become skeletons first, or this does not either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    behind: Vec<CallId>,
    /// The first and the last segment of the journal that hold something of it.
    segments: (u64, u64),
}

/// The segments that may hold something of the calls which an entry at `at` prunes, call by call; none for any other entry.
pub fn segments(at: Position, entry: &Entry) -> Vec<RangeInclusive<u64>> {
    if entry.kind == EntryKind::Erasure {
        // What came again, and was told to nobody, stands anywhere before it.
        return erasure::begins(entry).map(|first| first..=at.segment).into_iter().collect();
    }
    if entry.kind != EntryKind::Retention {
        return Vec::new();
    }
    let calls = serde_json::from_slice::<Retention>(&entry.body).map(|retention| retention.calls).unwrap_or_default();
    calls.into_iter().map(|Bones { segments: (first, last), .. }| first..=last).collect()
}

/// What stays of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    crm: String,
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    revision: u32,
}

/// When calls are looked through.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// When the next round begins, or this one goes on.
    next: Instant,
    /// The round under way: calls that ended before this, those behind that one.
    round: Option<(Wall, Option<CallId>)>,
    /// An entry is on its way: until it is folded nothing is known of its calls.
    asked: bool,
}

impl Rounds {
    /// The journal did not take the entry.
    pub(super) fn refused(&mut self, now: Instant) {
        (self.asked, self.round, self.next) = (false, None, now + REFUSED_PAUSE);
    }
}

impl Pipeline {
    /// Journals skeletons of calls that are to be pruned, some at a time: about once an hour, and at a start.
    pub(super) fn retain(&mut self, now: Now, store: &impl Store) -> Result<(), StoreError> {
        if self.rounds.asked {
            return Ok(());
        }
        if now.mono < self.rounds.next {
            self.wake_in(now, self.rounds.next.since(now.mono));
            return Ok(());
        }
        let Some(keep) = self.config.keep else {
            return self.look_for_late(now, store);
        };
        let (before, after) = *self.rounds.round.get_or_insert((now.wall - keep, None));
        let page = store.prunable(before, after, EXAMINED_AT_ONCE)?;
        let (mut calls, mut earlier, mut octets, mut seen) = (Vec::new(), BTreeSet::new(), 0_usize, after);
        for record in &page {
            if octets > ENTRY_OCTETS {
                break;
            }
            seen = Some(record.call_id);
            if let Some(bones) = self.bones(store, record, before, &earlier)? {
                octets = octets.saturating_add(serde_json::to_vec(&bones).map_or(0, |json| json.len()));
                earlier.insert(record.call_id);
                calls.push(bones);
            }
        }
        let over = page.len() < EXAMINED_AT_ONCE && seen == page.last().map(|record| record.call_id).or(after);
        self.rounds.round = Some((before, seen)).filter(|_| !over);
        if over {
            self.rounds.next = now.mono + PERIOD;
        } else if calls.is_empty() {
            self.wake_in(now, Duration::ZERO);
            return Ok(());
        }
        let id = format!("retention/{} calls", calls.len());
        let body = serde_json::to_vec(&Retention { before, to: store.position()?, calls }).unwrap_or_default();
        self.rounds.asked = true;
        self.append(Entry { kind: EntryKind::Retention, time: now.wall, id, key: String::new(), body }, Waiting::Retention);
        Ok(())
    }

    /// What is to stay of a call, where it may be pruned: it ended before `before`, nobody holds it, every write of it is settled, and nothing is left that would be decided
    /// otherwise without it. `earlier`: calls that are pruned with the same entry.
    fn bones(&self, store: &impl Store, record: &Record, before: Wall, earlier: &BTreeSet<CallId>) -> Result<Option<Bones>, StoreError> {
        let Some((ended, terminal)) = record.end().filter(|(ended, _)| *ended < before) else { return Ok(None) };
        if store.hold(record.call_id)?.is_some_and(|hold| hold.held) {
            return Ok(None);
        }
        let writes = store.writes(record.call_id)?;
        if !writes.iter().all(|write| matches!(write.state, State::Done | State::Dropped)) {
            return Ok(None);
        }
        let mut behind = Vec::new();
        for call in self.behind(store, record)? {
            if earlier.contains(&call) {
                behind.push(call);
            } else if !store.is_pruned(call)? {
                return Ok(None);
            }
        }
        if behind.len() > BEHIND_MAX {
            return Ok(None);
        }
        Ok(Some(Bones { behind, ..Bones::of(store, record, ended, terminal, writes)? }))
    }
}

impl Bones {
    /// Of a call that ended so, with `writes`, behind no other.
    fn of(store: &impl Store, record: &Record, ended: Wall, terminal: &Terminal, writes: Vec<Write>) -> Result<Self, StoreError> {
        let mut names = Vec::new();
        for name in record.sip_call_ids.iter().chain(&record.names).chain([&record.call_id.to_string()]) {
            if store.named(name)? == Some(record.call_id) {
                names.push(name.clone());
            }
        }
        // A reason may be a text of the carrier's.
        let terminal = Terminal { reason: None, ..terminal.clone() };
        let (trunk, route) = record.way();
        let (first, last) = record.span.unwrap_or_default();
        let last = writes.iter().filter_map(|write| write.touched).fold(last, Position::max);
        let written = |Write { crm, state, id, revision, .. }| Written { crm, state, id, revision };
        Ok(Self {
            call_id: record.call_id,
            started_at: record.started_at,
            ended_at: Some(ended),
            trunk,
            route,
            terminal,
            names,
            writes: writes.into_iter().map(written).collect(),
            behind: Vec::new(),
            segments: (first.segment, last.segment),
        })
    }
}

impl Pipeline {
    /// The calls that have to be pruned with this one or before it. What a call says of its person keeps earlier calls
    /// from saying it, and a webhook under a name that had two calls may have told either.
    fn behind(&self, store: &impl Store, record: &Record) -> Result<BTreeSet<CallId>, StoreError> {
        let facts = record.fields();
        let mut behind = record.took_from.clone();
        let rules = self.config.crms.iter().filter_map(|crm| crm.contacts.as_ref()).map(|contacts| &contacts.rule);
        for rule in rules.filter(|rule| !rule.updates_of(&facts).is_empty()) {
            for number in rule.sought(&facts).map(|sought| rule.spellings(&sought)).unwrap_or_default() {
                behind.extend(store.older_of_number(&number, record.call_id, BEHIND_MAX.saturating_add(1))?);
            }
        }
        Ok(behind)
    }

    /// Without `keep` nothing goes by its age; what has come late of erased calls goes all the same, about once an hour, and at a start.
    fn look_for_late(&mut self, now: Now, store: &impl Store) -> Result<(), StoreError> {
        self.rounds.next = now.mono + PERIOD;
        if store.erased()? > 0 {
            self.outputs.push_back(Output::Late);
        }
        self.wake_in(now, PERIOD);
        Ok(())
    }

    /// Puts skeletons in the place of calls, and sweeps.
    pub(super) fn fold_retention(&mut self, store: &mut impl Store, entry: &Entry) -> Result<(), StoreError> {
        self.rounds.asked = false;
        let Ok(Retention { before, to, calls }) = serde_json::from_slice(&entry.body) else { return Ok(()) };
        let mut overlay = Overlay::over(&*store);
        for bones in calls {
            let _ = bones.fold(&mut overlay, to)?;
        }
        let pruned = overlay.changes.records.len();
        let changes = Changes { swept: Some(before), ..overlay.changes };
        store.commit(changes)?;
        if self.live {
            self.outputs.push_back(Output::Pruned { calls: pruned, before });
        }
        Ok(())
    }
}

impl Bones {
    /// Takes the call's place, unless something was told of it since what stood before `to`, or it is held; whether it did.
    fn fold<S: Store>(self, overlay: &mut Overlay<'_, S>, to: Position) -> Result<bool, StoreError> {
        let known = overlay.record(self.call_id)?;
        if known.as_ref().is_some_and(Record::is_skeleton) {
            return Ok(false);
        }
        if overlay.store.hold(self.call_id)?.is_some_and(|hold| hold.held) {
            return Ok(false);
        }
        let asked: Vec<_> = known.iter().flat_map(|record| record.pulls.sources().cloned()).collect();
        let told = known.and_then(|record| record.span).map(|(_, last)| last);
        let decided = overlay.store.writes(self.call_id)?.into_iter().filter_map(|write| write.touched);
        if told.into_iter().chain(decided).any(|at| at >= to) {
            return Ok(false);
        }
        for call in &self.behind {
            if !overlay.record(*call)?.is_some_and(|record| record.is_skeleton()) {
                return Ok(false);
            }
        }
        overlay.changes.records.insert(self.call_id, (Record::skeleton(&self), None));
        overlay.changes.pulls.extend(asked.into_iter().map(|source| ((source, self.call_id), None)));
        overlay.changes.names.extend(self.names.iter().map(|name| (name.clone(), self.call_id)));
        let at = self.ended_at.unwrap_or(Wall::from_micros(0));
        for Written { crm, state, id, revision } in self.writes {
            let write = Write { state, id, revision, pruned: true, ..Write::new(&crm, self.call_id, at) };
            overlay.changes.writes.insert((crm, self.call_id), write);
        }
        Ok(true)
    }
}

/// Calls whose records are read in one turn.
const EXAMINED_AT_ONCE: usize = 500;
/// Octets of skeletons in an entry, beyond which no further one begins: well below what an entry may hold.
const ENTRY_OCTETS: usize = 512 << 10;
/// From the end of a round to the next.
const PERIOD: Duration = Duration::from_secs(3600);
/// A journal that takes no entry is asked again after this.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// Earlier calls of one person that go with a call in one entry.
const BEHIND_MAX: usize = 100;
