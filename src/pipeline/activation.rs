//! Which content of a mapping is in use: journaled when a gateway begins to use another one, so that it can be told which approved version wrote what.
//!
//! Whoever folds the journal anew has the present mapping alone. So that the store is made as it was, and no history is written by a mapping that was never taken
//! over it, what an earlier content wrote stays as that one wanted it, and of calls before a CRM had any mapping nothing is planned.

use serde::{Deserialize, Serialize};

use super::{
    Crm, Pipeline, Waiting,
    overlay::Overlay,
    store::{Store, StoreError},
};
use crate::{
    journal::{Entry, EntryKind},
    time::{Now, Wall},
};

/// A mapping in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// Of which CRM.
    pub target: String,
    /// The mapping's own version.
    pub version: u32,
    /// SHA-256 of its file, in hex.
    pub sha256: String,
    /// Who approved this content, the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// When he did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Wall>,
}

/// Whose time a part of the journal is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    /// Of the content that is configured now.
    Present,
    /// Of another content.
    Another,
    /// Before the one in use: of another one, or of none.
    Before,
}

impl<S: Store> Overlay<'_, S> {
    /// Whose time it is for `crm` at this place of the journal, or was when a wait ended.
    pub(super) fn era(&mut self, crm: &Crm) -> Result<Era, StoreError> {
        let Some(present) = &crm.activation else { return Ok(Era::Present) };
        let in_use = match self.in_use.get(&crm.name) {
            Some(in_use) => *in_use,
            None => {
                let known = match self.changes.activations.get(&crm.name) {
                    Some(known) => Some(known.clone()),
                    None => self.store.activation(&crm.name)?,
                };
                // Who signed it makes no other content of it.
                let in_use = known.map(|(known, since)| (known.sha256 == present.sha256, since));
                self.in_use.insert(crm.name.clone(), in_use);
                in_use
            }
        };
        Ok(match in_use {
            None => Era::Before,
            Some((_, since)) if self.wait_over.is_some_and(|at| at < since) => Era::Before,
            Some((true, _)) => Era::Present,
            Some((false, _)) => Era::Another,
        })
    }
}

impl Pipeline {
    /// Journals which mappings are in use, where that is not what the journal has.
    pub(super) fn activate(&mut self, now: Now, store: &impl Store) -> Result<(), StoreError> {
        let configured: Vec<_> = self.config.crms.iter().filter_map(|crm| crm.activation.clone()).collect();
        for activation in configured {
            if store.activation(&activation.target)?.is_some_and(|(known, _)| known == activation) {
                continue;
            }
            let body = serde_json::to_vec(&activation).unwrap_or_default();
            let id = format!("{}/{}", activation.target, activation.version);
            let entry = Entry { kind: EntryKind::Activation, time: now.wall, id, key: String::new(), body };
            self.append(entry.clone(), Waiting::Answer(entry));
        }
        Ok(())
    }
}

pub(super) fn fold<S>(overlay: &mut Overlay<'_, S>, entry: &Entry) {
    // What an earlier version could not write a later one may not be able to read; the journal keeps it.
    let Ok(activation) = serde_json::from_slice::<Activation>(&entry.body) else { return };
    overlay.in_use.remove(&activation.target);
    overlay.changes.activations.insert(activation.target.clone(), (activation, entry.time));
}
