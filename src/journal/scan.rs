//! What a segment is worth: whole, torn at its end, or damaged.

use super::{
    entry::Position,
    frame::{Decoded, Fault, HEADER_BYTES, decode, read_header},
};
use crate::time::Wall;

/// How a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last frame, or with the room behind it that was written ahead.
    Whole,
    /// In a batch that was never acknowledged: what lies behind `offset` may be cut off. Offsets are those of the file.
    Torn {
        /// End of the last good frame's batch.
        offset: u64,
        /// What is wrong there.
        why: Fault,
    },
    /// In a batch that had been acknowledged, since a later one stands behind it: the disk has lost something.
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// In a frame of a version that this program does not know: a later one may have written it, and been told that it stands.
    Later {
        /// Where.
        offset: u64,
        /// The frame's version.
        version: u8,
    },
}

/// The outcome of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// How it ends.
    pub end: End,
    /// Good frames before that.
    pub entries: u64,
    /// Latest stamp among them.
    pub last_time: Option<Wall>,
    /// End of the last good frame, as positions count.
    pub length: u64,
    /// Octets of room behind that, written ahead for frames to come: only in the last segment, whose writer did not close it.
    pub room: u64,
}

/// Reads all of a segment and hands each entry to `each`. `last`: whether it is the journal's last segment; any other one was whole when the
/// next was begun, so that a fault in it is damage.
pub fn scan(segment: u64, octets: &[u8], last: bool, mut each: impl FnMut(Position, Decoded)) -> Scan {
    let mut found = Scan { end: End::Whole, entries: 0, last_time: None, length: 0, room: 0 };
    if read_header(octets) != Some(segment) {
        // The header is synced before the first batch is written.
        found.end = if last && octets.len() <= HEADER_BYTES {
            End::Torn { offset: 0, why: Fault::Short }
        } else {
            End::Damaged { offset: 0, why: format!("no header of segment {segment}") }
        };
        return found;
    }
    let (mut at, mut stands) = (HEADER_BYTES, HEADER_BYTES);
    found.length = length(stands);
    let mut batch = 0_u32;
    let mut ended = true;
    while let Some(rest) = octets.get(at..).filter(|r| !r.is_empty()) {
        if last && rest.first() == Some(&0) && written(rest) == 0 {
            found.room = length(rest.len());
            return found;
        }
        match decode(rest) {
            Ok(frame) => {
                let position = Position { segment, offset: length(stands) };
                at = at.saturating_add(frame.length);
                stands = stands.saturating_add(frame.stood);
                found.entries = found.entries.saturating_add(1);
                found.length = length(stands);
                found.last_time = found.last_time.max(Some(frame.entry.time));
                (batch, ended) = (frame.batch, frame.ends_batch);
                each(position, frame);
            }
            Err(why) => {
                let broken = if ended { batch.saturating_add(1) } else { batch };
                found.end = if let Fault::Version(version @ 2..=VERSION_MAX) = why {
                    End::Later { offset: length(at), version }
                } else if !last || later_batch(rest, broken) {
                    End::Damaged { offset: length(at), why: why.to_string() }
                } else {
                    End::Torn { offset: length(at), why }
                };
                return found;
            }
        }
    }
    found
}

/// How many of `octets` were written as part of a frame, as far as that can be told: what follows is room, which is zeros.
pub fn written(octets: &[u8]) -> usize {
    octets.iter().rposition(|octet| *octet != 0).map_or(0, |place| place.saturating_add(1))
}

/// Whether a good frame of a batch behind `broken` stands anywhere in `octets`.
fn later_batch(octets: &[u8], broken: u32) -> bool {
    (1..octets.len())
        .any(|at| octets.get(at..).is_some_and(|rest| rest.first() == Some(&1) && decode(rest).is_ok_and(|f| f.batch > broken)))
}

fn length(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}

/// Versions that may come: they are counted, one a change of the form. What is above is no version, but damage.
const VERSION_MAX: u8 = 15;
