//! The journal's disk: what was written, how much of it is synced, and what a crash leaves.

use crate::{
    chance::Chance,
    journal::{self, Entry, Position},
};

/// One segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) octets: Vec<u8>,
    synced: usize,
    batch: u32,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) segments: Vec<Segment>,
}

impl Disk {
    /// Begins a segment numbered above everything seen; its header is synced at once.
    pub(super) fn begin(&mut self) {
        let number = self.segments.last().map_or(1, |s| s.number + 1);
        let octets = journal::write_header(number).to_vec();
        let synced = octets.len();
        self.segments.push(Segment { number, octets, synced, batch: 0 });
    }

    /// Writes a batch; nobody may be told of it before [`Self::sync`].
    pub(super) fn write(&mut self, entries: &[Entry]) {
        if let Some(segment) = self.segments.last_mut() {
            segment.batch += 1;
            journal::encode_batch(entries, segment.batch, &mut segment.octets);
        }
    }

    /// What was written is there for good.
    pub(super) fn sync(&mut self) {
        if let Some(segment) = self.segments.last_mut() {
            segment.synced = segment.octets.len();
        }
    }

    /// The sync failed: what was written since the last one is cut off, as the writer does before it goes on elsewhere.
    pub(super) fn cut(&mut self) {
        if let Some(segment) = self.segments.last_mut() {
            segment.octets.truncate(segment.synced);
        }
    }

    /// A crash: of what was not synced a part may have reached the disk, and that part may be torn anywhere.
    pub(super) fn crash(&mut self, chance: &mut Chance) {
        if let Some(segment) = self.segments.last_mut() {
            let unsynced = segment.octets.len() - segment.synced;
            let left = usize::try_from(chance.below(unsynced as u64 + 1)).unwrap_or(0);
            segment.octets.truncate(segment.synced + left);
            segment.synced = segment.octets.len();
        }
    }

    /// At a start: a torn tail is cut off; where a planted fault says otherwise, it is taken for whole. `Err` names damage.
    pub(super) fn recover(&mut self, cut: bool) -> Result<(), String> {
        let count = self.segments.len();
        for (index, segment) in self.segments.iter_mut().enumerate() {
            // A segment that a crash ended is followed by the next life's; its tail was cut off then.
            let found = journal::scan(segment.number, &segment.octets, index + 1 == count, |_, _| {});
            match found.end {
                journal::End::Whole => {}
                journal::End::Torn { .. } if !cut => {}
                journal::End::Torn { offset, .. } => {
                    segment.octets.truncate(usize::try_from(offset).unwrap_or(0));
                    segment.synced = segment.octets.len();
                }
                journal::End::Damaged { offset, why } => return Err(format!("segment {} is damaged at {offset}: {why}", segment.number)),
            }
        }
        Ok(())
    }

    /// The synced entries from `from` on, and the position behind the last.
    pub(super) fn read(&self, from: Position) -> (Vec<(Position, Entry)>, Position) {
        let (mut entries, mut next) = (Vec::new(), from);
        for segment in self.segments.iter().filter(|s| s.number >= from.segment) {
            let synced = segment.octets.get(..segment.synced).unwrap_or_default();
            let found = journal::scan(segment.number, synced, false, |at, frame| {
                if at >= from {
                    entries.push((at, frame.entry));
                }
            });
            next = next.max(Position { segment: segment.number, offset: found.length });
        }
        (entries, next)
    }
}
