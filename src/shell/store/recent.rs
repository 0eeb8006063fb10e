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
        self.records.take(call).map(|(record, _)| record)
    }

    pub(super) fn take_write(&mut self, crm: &str, call: CallId) -> Option<Write> {
        let (mut writes, octets) = self.writes.take(call)?;
        let place = writes.iter().position(|write| write.crm == crm);
        let write = place.map(|place| writes.swap_remove(place));
        if !writes.is_empty() {
            self.writes.put(call, writes, octets);
        }
        write
    }

    /// It was committed, in so many octets.
    pub(super) fn keep_record(&mut self, record: Record, octets: usize) {
        if record.is_pruned() {
            // Its writes have gone with it.
            drop(self.writes.take(record.call_id));
        }
        self.numbers.put(record.call_id, record.numbers(), 0);
        self.records.put(record.call_id, record, octets);
    }

    /// It was committed, behind the records, in so many octets. What is settled is seldom asked for again.
    pub(super) fn keep_write(&mut self, write: Write, octets: usize) {
        let call = write.call_id;
        let (mut writes, others) = self.writes.take(call).unwrap_or_default();
        writes.retain(|known| known.crm != write.crm);
        if matches!(write.state, State::Queued | State::Retrying | State::InFlight) {
            writes.push(write);
        }
        if !writes.is_empty() {
            // Of several CRMs the longest counts: what they are told of a call is much the same.
            self.writes.put(call, writes, octets.max(others));
        }
    }
}

/// Values by call in two generations: once the younger one is full, the older one goes.
#[derive(Debug)]
struct Aged<V> {
    young: HashMap<CallId, (V, usize)>,
    old: HashMap<CallId, (V, usize)>,
    /// Octets of the younger one, as its values were written into their rows.
    octets: usize,
}

impl<V> Default for Aged<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), octets: 0 }
    }
}

impl<V> Aged<V> {
    fn get(&self, call: CallId) -> Option<&V> {
        self.young.get(&call).or_else(|| self.old.get(&call)).map(|(value, _)| value)
    }

    /// The value, and its octets.
    fn take(&mut self, call: CallId) -> Option<(V, usize)> {
        match self.young.remove(&call) {
            Some((value, octets)) => {
                self.octets = self.octets.saturating_sub(octets);
                Some((value, octets))
            }
            None => self.old.remove(&call),
        }
    }

    fn put(&mut self, call: CallId, value: V, octets: usize) {
        drop(self.take(call));
        self.young.insert(call, (value, octets));
        self.octets = self.octets.saturating_add(octets);
        if self.young.len() >= CALLS_MAX || self.octets >= OCTETS_MAX {
            (self.old, self.octets) = (std::mem::take(&mut self.young), 0);
        }
    }
}

/// Calls of one generation: those of the last seconds at the pace that one thread can hold, in some 20 MB.
const CALLS_MAX: usize = 4096;
/// Octets of one generation: a transcript may have a megabyte.
const OCTETS_MAX: usize = 16 << 20;

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
        recent.keep_record(Record::new(call(0)), 9);
        recent.keep_write(write(0, "one", 1), 9);
        recent.keep_write(write(0, "two", 2), 9);
        recent.keep_write(write(0, "one", 3), 9);
        let revision = |recent: &Recent, crm: &str| recent.write(crm, call(0)).map(|write| write.revision);
        assert_eq!((revision(&recent, "one"), revision(&recent, "two"), revision(&recent, "three")), (Some(3), Some(2), None));
        let passed = u128::try_from(CALLS_MAX).expect("fits") * 2;
        for n in 1..=passed {
            recent.keep_write(write(n, "one", 1), 9);
            assert!(recent.writes.young.len() + recent.writes.old.len() <= 2 * CALLS_MAX);
        }
        assert_eq!((revision(&recent, "one"), recent.write("one", call(passed)).is_some()), (None, true));
        assert!(recent.record(call(0)).is_some(), "of records none came since");
        let taken = (recent.take_record(call(0)).is_some(), recent.take_write("two", call(passed)), recent.take_write("one", call(passed)));
        assert_eq!(taken, (true, None, Some(write(passed, "one", 1))));
        assert!(recent.record(call(0)).is_none() && recent.write("one", call(passed)).is_none());
        assert!(recent.has_numbers(call(0), &[]) && !recent.has_numbers(call(0), &["1".to_owned()]) && !recent.has_numbers(call(1), &[]));
    }

    /// A record may hold a transcript.
    #[test]
    fn a_generation_is_over_by_octets_too_and_what_was_taken_out_does_not_count() {
        let mut recent = Recent::default();
        let half = OCTETS_MAX / 2;
        for n in 0..100 {
            recent.keep_record(Record::new(call(1)), half);
            assert!(recent.record(call(1)).is_some(), "{n}: one call, however often it changes");
        }
        for n in 2..=5 {
            recent.keep_record(Record::new(call(n)), half);
        }
        let there = (1..=5).filter(|n| recent.record(call(*n)).is_some()).collect::<Vec<_>>();
        assert_eq!(there, [3, 4, 5], "two calls fill a generation");
    }

    #[test]
    fn with_a_call_that_is_pruned_go_its_writes_and_those_that_are_settled_go_too() {
        let mut recent = Recent::default();
        let write = |state| Write { state, ..Write::new("one", call(1), Wall::from_millis(1)) };
        recent.keep_write(write(State::InFlight), 9);
        assert!(recent.write("one", call(1)).is_some());
        recent.keep_record(Record::lost(call(1)), 9);
        assert!(recent.write("one", call(1)).is_none());
        recent.keep_write(write(State::Queued), 9);
        recent.keep_write(write(State::Done), 9);
        assert!(recent.write("one", call(1)).is_none(), "nor is it there as it was before it was settled");
    }
}
