//! Which content of a mapping is in use: journaled when a gateway begins to use another one, so that it can be told which approved version wrote what.

use serde::{Deserialize, Serialize};

use super::{
    Pipeline, Waiting,
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
    overlay.changes.activations.insert(activation.target.clone(), (activation, entry.time));
}
