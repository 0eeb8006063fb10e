//! Records and writes as they were committed lately: a call changes several times within seconds, and is not read out of its row for each.

use std::collections::HashMap;

use crate::{
    event::CallId,
    pipeline::{
        Record,
        store::{State, Write},
    },
};

/// What the one who writes has committed lately.
#[derive(Debug, Default)]
pub(super) struct Recent {
    records: Aged<Record>,
    /// The numbers of calls, which stand in rows of their own.
    numbers: Aged<Vec<String>>,
    /// Of each call the writes that were committed, which may not be all.
    writes: Aged<Vec<Write>>,
}

impl Recent {
    pub(super) fn record(&self, call: CallId) -> Option<&Record> {
        self.records.get(call)
    }

    pub(super) fn write(&self, crm: &str, call: CallId) -> Option<&Write> {
        self.writes.get(call)?.iter().find(|write| write.crm == crm)
    }

    /// Whether these numbers of a call stand in their rows.
    pub(super) fn has_numbers(&self, call: CallId, numbers: &[String]) -> bool {
        self.numbers.get(call).is_some_and(|known| known == numbers)
    }

    pub(super) fn take_record(&mut self, call: CallId) -> Option<Record> {
        self.records.take(call)
    }

    pub(super) fn take_write(&mut self, crm: &str, call: CallId) -> Option<Write> {
        let mut writes = self.writes.take(call)?;
        let place = writes.iter().position(|write| write.crm == crm);
        let write = place.map(|place| writes.swap_remove(place));
        if !writes.is_empty() {
            self.writes.put(call, writes);
        }
        write
    }

    /// It was committed.
    pub(super) fn keep_record(&mut self, record: Record) {
        if record.is_pruned() {
            // Its writes have gone with it.
            drop(self.writes.take(record.call_id));
        }
        self.numbers.put(record.call_id, record.numbers());
        self.records.put(record.call_id, record);
    }

    /// It was committed, behind the records. What is settled is seldom asked for again.
    pub(super) fn keep_write(&mut self, write: Write) {
        let call = write.call_id;
        let mut writes = self.writes.take(call).unwrap_or_default();
        writes.retain(|known| known.crm != write.crm);
        if matches!(write.state, State::Queued | State::Retrying | State::InFlight) {
            writes.push(write);
        }
        if !writes.is_empty() {
            self.writes.put(call, writes);
        }
    }
}

/// Values by call in two generations: once the younger one is full, the older one goes.
#[derive(Debug)]
struct Aged<V> {
    young: HashMap<CallId, V>,
    old: HashMap<CallId, V>,
}

impl<V> Default for Aged<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V> Aged<V> {
    fn get(&self, call: CallId) -> Option<&V> {
        self.young.get(&call).or_else(|| self.old.get(&call))
    }

    fn take(&mut self, call: CallId) -> Option<V> {
        self.young.remove(&call).or_else(|| self.old.remove(&call))
    }

    fn put(&mut self, call: CallId, value: V) {
        self.old.remove(&call);
        self.young.insert(call, value);
        if self.young.len() >= CALLS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

/// Calls of one generation: those of the last seconds at the pace that one thread can hold, in some 20 MB.
const CALLS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    fn call(n: u128) -> CallId {
        CallId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn what_was_committed_last_is_there_and_what_was_committed_long_ago_is_not() {
        let mut recent = Recent::default();
        let write = |n, crm: &str, revision| {
            let mut write = Write::new(crm, call(n), Wall::from_millis(1));
            (write.revision, write.state) = (revision, State::Queued);
            write
        };
        recent.keep_record(Record::new(call(0)));
        recent.keep_write(write(0, "one", 1));
        recent.keep_write(write(0, "two", 2));
        recent.keep_write(write(0, "one", 3));
        let revision = |recent: &Recent, crm: &str| recent.write(crm, call(0)).map(|write| write.revision);
        assert_eq!((revision(&recent, "one"), revision(&recent, "two"), revision(&recent, "three")), (Some(3), Some(2), None));
        let passed = u128::try_from(CALLS_MAX).expect("fits") * 2;
        for n in 1..=passed {
            recent.keep_write(write(n, "one", 1));
            assert!(recent.writes.young.len() + recent.writes.old.len() <= 2 * CALLS_MAX);
        }
        assert_eq!((revision(&recent, "one"), recent.write("one", call(passed)).is_some()), (None, true));
        assert!(recent.record(call(0)).is_some(), "of records none came since");
        let taken = (recent.take_record(call(0)).is_some(), recent.take_write("two", call(passed)), recent.take_write("one", call(passed)));
        assert_eq!(taken, (true, None, Some(write(passed, "one", 1))));
        assert!(recent.record(call(0)).is_none() && recent.write("one", call(passed)).is_none());
        assert!(recent.has_numbers(call(0), &[]) && !recent.has_numbers(call(0), &["1".to_owned()]) && !recent.has_numbers(call(1), &[]));
    }

    #[test]
    fn with_a_call_that_is_pruned_go_its_writes_and_those_that_are_settled_go_too() {
        let mut recent = Recent::default();
        let write = |state| Write { state, ..Write::new("one", call(1), Wall::from_millis(1)) };
        recent.keep_write(write(State::InFlight));
        assert!(recent.write("one", call(1)).is_some());
        recent.keep_record(Record::lost(call(1)));
        assert!(recent.write("one", call(1)).is_none());
        recent.keep_write(write(State::Queued));
        recent.keep_write(write(State::Done));
        assert!(recent.write("one", call(1)).is_none(), "nor is it there as it was before it was settled");
    }
}
