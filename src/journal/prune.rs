//! A segment without the bodies that retention takes away.
//!
//! A pruned frame says how long its body was, so that a position, which counts octets as they were written, goes on naming the same entry.

use super::{
    entry::{Entry, Position},
    frame::{HEADER_BYTES, decode, pruned, read_header},
};

/// What became of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pruned {
    /// Nothing of it goes.
    Same,
    /// These octets are to take its place.
    Anew(Vec<u8>),
    /// It cannot be read: nothing is done.
    Damaged {
        /// Where, in octets of the file.
        offset: u64,
        /// How.
        why: String,
    },
}

/// Asks `left` of each entry of a closed segment what is to be left of it; none: it stays as it is.
pub fn prune<E>(segment: u64, octets: &[u8], mut left: impl FnMut(Position, &Entry) -> Result<Option<Vec<u8>>, E>) -> Result<Pruned, E> {
    let damaged = |at: usize, why: String| Ok(Pruned::Damaged { offset: u64::try_from(at).unwrap_or(u64::MAX), why });
    if read_header(octets) != Some(segment) {
        return damaged(0, format!("no header of segment {segment}"));
    }
    let mut out: Option<Vec<u8>> = None;
    let (mut at, mut stands) = (HEADER_BYTES, HEADER_BYTES);
    while let Some(rest) = octets.get(at..).filter(|rest| !rest.is_empty()) {
        let frame = match decode(rest) {
            Ok(frame) => frame,
            Err(why) => return damaged(at, why.to_string()),
        };
        let position = Position { segment, offset: u64::try_from(stands).unwrap_or(u64::MAX) };
        let whole = rest.get(..frame.length).unwrap_or(rest);
        match left(position, &frame.entry)?.and_then(|body| pruned(whole, &body)) {
            Some(frame) => out.get_or_insert_with(|| octets.get(..at).unwrap_or_default().to_vec()).extend(frame),
            None => {
                if let Some(out) = &mut out {
                    out.extend_from_slice(whole);
                }
            }
        }
        at = at.saturating_add(frame.length);
        stands = stands.saturating_add(frame.stood);
    }
    Ok(out.map_or(Pruned::Same, Pruned::Anew))
}
