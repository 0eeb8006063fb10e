//! Holds: a call that somebody holds loses nothing, however old it is, until somebody releases it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    super::{
        Pipeline,
        overlay::Overlay,
        record::Record,
        store::{Store, StoreError},
    },
    order::{Came, Ordered, gone},
};
use crate::{event::CallId, journal::Entry, time::Wall};

/// What was said last of whether a call is held. It is the body of its entry too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which call.
    pub call_id: CallId,
    /// Whether it is; else it was released.
    pub held: bool,
    /// Who said it.
    pub by: String,
    /// Why, in his words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: Wall,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, by, reason, at, .. } = self;
        write!(f, "{} {at} by {by}", if *held { "held since" } else { "released on" })?;
        reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

impl Pipeline {
    /// What was said counts from here on; where what the call held has gone already, there is nothing to be held.
    pub(in crate::pipeline) fn fold_hold<S: Store>(
        &self,
        overlay: &mut Overlay<'_, S>,
        entry: &Entry,
    ) -> Result<Option<Ordered>, StoreError> {
        // What an earlier version could not write a later one may not be able to read; the journal keeps it.
        let Ok(hold) = serde_json::from_slice::<Hold>(&entry.body) else { return Ok(None) };
        let ordered = |came| Some(Ordered { id: entry.id.clone(), came });
        let known = match overlay.changes.holds.get(&hold.call_id) {
            Some(known) => Some(known.clone()),
            None => overlay.store.hold(hold.call_id)?,
        };
        // It comes again, from a salvaged segment, behind what was said after it.
        if known.is_some_and(|known| hold.at < known.at) {
            return Ok(None);
        }
        if overlay.record(hold.call_id)?.as_ref().is_some_and(Record::is_skeleton) {
            return Ok(ordered(gone(overlay.store, hold.call_id)?));
        }
        let came = Came::Done(serde_json::json!(hold));
        overlay.changes.holds.insert(hold.call_id, hold);
        Ok(ordered(came))
    }
}
