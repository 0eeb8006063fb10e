//! Erasures: what a call held is taken away at once, as retention would some day, and nothing of it is written to a CRM any more. Its skeleton stays.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    super::{
        Output, Pipeline,
        overlay::Overlay,
        record::Record,
        store::{State, Store, StoreError, Write},
    },
    Bones,
    order::{Came, Ordered, gone},
};
use crate::{
    event::CallId,
    journal::{Entry, Position},
    time::{Now, Wall},
};

/// Of a call that somebody had erased: all that is known of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Which call.
    pub call_id: CallId,
    /// Who had it erased.
    pub by: String,
    /// Why, in his words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: Wall,
    /// CRMs that were to be told something still, and are not.
    pub dropped: Vec<String>,
    /// What is left in CRMs: each one's id of its record.
    pub left: BTreeMap<String, String>,
}

/// Body of an entry: the call becomes its skeleton.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    erasure: Erasure,
    /// What stood before this was folded when the skeleton was made.
    to: Position,
    bones: Bones,
}

/// The first segment that holds something of the call that an entry erases.
pub(super) fn begins(entry: &Entry) -> Option<u64> {
    serde_json::from_slice::<Body>(&entry.body).ok().map(|body| body.bones.segments.0)
}

impl fmt::Display for Erasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, reason, at, .. } = self;
        write!(f, "erased on {at} by {by}")?;
        reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

impl Pipeline {
    /// The body of the entry that erases a call of which nothing is on its way; else what stands in the way.
    pub(super) fn erasure(
        &self,
        now: Now,
        store: &impl Store,
        call: CallId,
        by: String,
        reason: Option<String>,
    ) -> Result<Result<Vec<u8>, Came>, StoreError> {
        let refused = |why: String, hint| Ok(Err(Came::Refused(why, hint)));
        let record = store.record(call)?;
        let Some((record, (ended, terminal))) = record.as_ref().and_then(|record| Some((record, record.end()?))) else {
            return refused("this call is under way".to_owned(), "order it once the call has ended");
        };
        let mut writes = store.writes(call)?;
        if self.lanes.values().any(|lane| lane.busy.contains(&call)) || writes.iter().any(|write| write.state == State::InFlight) {
            return refused("a request with it is on its way to a CRM, whose answer is awaited".to_owned(), "order it again in a moment");
        }
        let mut whole = Vec::new();
        for earlier in self.behind(store, record)? {
            if !store.is_pruned(earlier)? {
                whole.push(earlier.to_string());
            }
        }
        if !whole.is_empty() {
            let why = format!("what is known of its person, or came under its SIP Call-ID, hangs on calls before it: {}", whole.join(", "));
            return refused(why, "erase these first, or with it");
        }
        let mut dropped = Vec::new();
        for Write { crm, state, .. } in writes.iter_mut().filter(|write| !matches!(write.state, State::Done | State::Dropped)) {
            *state = State::Dropped;
            dropped.push(crm.clone());
        }
        let left = writes.iter().filter_map(|write| Some((write.crm.clone(), write.id.clone()?))).collect();
        let erasure = Erasure { call_id: call, by, reason, at: now.wall, dropped, left };
        let bones = Bones::of(store, record, ended, terminal, writes)?;
        Ok(Ok(serde_json::to_vec(&Body { erasure, to: store.position()?, bones }).unwrap_or_default()))
    }

    /// Puts the skeleton in the place of the call, unless it is held by now, or something was told of it.
    pub(in crate::pipeline) fn fold_erasure(&mut self, store: &mut impl Store, entry: &Entry) -> Result<(), StoreError> {
        // What an earlier version could not write a later one may not be able to read; the journal keeps it.
        let Ok(Body { erasure, to, bones }) = serde_json::from_slice(&entry.body) else { return Ok(()) };
        let call = erasure.call_id;
        let mut overlay = Overlay::over(&*store);
        let held = overlay.store.hold(call)?.filter(|hold| hold.held);
        let came = if overlay.record(call)?.as_ref().is_some_and(Record::is_skeleton) {
            gone(overlay.store, call)?
        } else if bones.fold(&mut overlay, to)? {
            let came = Came::Done(serde_json::json!(erasure));
            overlay.changes.erasures.insert(call, erasure);
            came
        } else if let Some(hold) = held {
            Came::Refused(hold.to_string(), "a hold wins: whoever holds it releases it first")
        } else {
            Came::Refused("something was told of this call, or decided on it, in that moment".to_owned(), "order it again")
        };
        let changes = overlay.changes;
        let erased = !changes.erasures.is_empty();
        store.commit(changes)?;
        if self.live && erased {
            self.outputs.push_back(Output::Erased(call));
        }
        self.ordered(Ordered { id: entry.id.clone(), came });
        Ok(())
    }
}
