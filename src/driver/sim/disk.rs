//! The journal's disk: what was written, how much of it is synced, and what a crash leaves.

use crate::{
    chance::Chance,
    journal::{self, Entry, Position},
};

/// One segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// The file: frames, and behind them room that was written ahead.
    pub(super) octets: Vec<u8>,
    /// Where the frames end.
    written: usize,
    /// As far as they are there for good.
    synced: usize,
    /// As far as the file's length is.
    sure: usize,
    batch: u32,
}

impl Segment {
    /// The frames end at `end`, and the file with them, for good.
    fn cut(&mut self, end: usize) {
        self.octets.truncate(end);
        (self.written, self.synced, self.sure) = (end, end, end);
    }
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
        let end = octets.len();
        self.segments.push(Segment { number, octets, written: end, synced: end, sure: end, batch: 0 });
    }

    /// Writes a batch into the room there is, or with more room; nobody may be told of it before [`Self::sync`].
    pub(super) fn write(&mut self, entries: &[Entry]) {
        if let Some(segment) = self.segments.last_mut() {
            segment.batch += 1;
            let mut frames = Vec::new();
            journal::encode_batch(entries, segment.batch, &mut frames);
            let end = segment.written + frames.len();
            if end > segment.octets.len() {
                segment.octets.resize(end + ROOM, 0);
            }
            segment.octets.splice(segment.written..end, frames);
            segment.written = end;
        }
    }

    /// What was written is there for good.
    pub(super) fn sync(&mut self) {
        if let Some(segment) = self.segments.last_mut() {
            (segment.synced, segment.sure) = (segment.written, segment.octets.len());
        }
    }

    /// The sync failed: what was written since the last one is cut off, as the writer does before it goes on elsewhere.
    pub(super) fn cut(&mut self) {
        if let Some(segment) = self.segments.last_mut() {
            segment.cut(segment.synced);
        }
    }

    /// A crash: of what was not synced a part may have reached the disk, torn anywhere, or any sectors of it; and the file may be shorter than it was made.
    pub(super) fn crash(&mut self, chance: &mut Chance) {
        let Some(segment) = self.segments.last_mut() else { return };
        let mut below = |n: usize| usize::try_from(chance.below(n as u64 + 1)).unwrap_or(0);
        let unsynced = segment.synced..segment.written;
        if below(1) == 0 {
            let left = unsynced.start + below(unsynced.len());
            segment.octets.get_mut(left..unsynced.end).unwrap_or_default().fill(0);
        } else {
            // The first may hold what was synced before.
            let mut from = unsynced.start;
            while from < unsynced.end {
                let to = (from / SECTOR * SECTOR + SECTOR).min(unsynced.end);
                if below(1) == 0 {
                    segment.octets.get_mut(from..to).unwrap_or_default().fill(0);
                }
                from = to;
            }
        }
        let grown = segment.octets.len() - segment.sure;
        segment.octets.truncate(segment.sure + below(grown));
        (segment.written, segment.synced, segment.sure) = (segment.octets.len(), segment.octets.len(), segment.octets.len());
    }

    /// At a start: a torn tail is cut off, and room; where a planted fault says otherwise, it is taken for whole. `Err` names damage.
    pub(super) fn recover(&mut self, cut: bool) -> Result<(), String> {
        let count = self.segments.len();
        for (index, segment) in self.segments.iter_mut().enumerate() {
            // A segment that a crash ended is followed by the next life's; its tail was cut off then.
            let found = journal::scan(segment.number, &segment.octets, index + 1 == count, |_, _| {});
            match found.end {
                journal::End::Whole => segment.cut(segment.octets.len() - usize::try_from(found.room).unwrap_or(0)),
                journal::End::Torn { .. } if !cut => {}
                journal::End::Torn { offset, .. } => segment.cut(usize::try_from(offset).unwrap_or(0)),
                journal::End::Later { offset, version } => {
                    return Err(format!("segment {} has a frame of version {version} at {offset}", segment.number));
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

/// Octets written ahead at a time: little, so that a file grows often.
const ROOM: usize = 4096;
/// Octets that reach the disk together.
const SECTOR: usize = 512;
