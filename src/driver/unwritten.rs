//! Events of calls that the journal did not take: kept in the order in which calls told them, until it takes them.

use std::collections::BTreeMap;

use crate::event::Event;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    told: u64,
    kept: BTreeMap<u64, Event>,
}

impl Unwritten {
    /// The place of the next event among all that are told.
    pub(super) fn place(&mut self) -> u64 {
        self.told = self.told.wrapping_add(1);
        self.told
    }

    /// Keeps an event that did not go, whatever came back before it.
    pub(super) fn keep(&mut self, place: u64, event: Event) {
        self.kept.insert(place, event);
    }

    /// Takes out the one that is to go first.
    pub(super) fn take(&mut self) -> Option<(u64, Event)> {
        self.kept.pop_first()
    }

    /// How many are kept. Where there are any, a new one goes behind them.
    #[cfg(feature = "shell")] // the simulator only asks whether there are any
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
