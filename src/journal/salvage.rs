//! What is left of a damaged segment: every entry that the damage did not touch, and a name for everything that it did.
//!
//! A frame has no mark to search for, and needs none: version, lengths and the checksum of head and skeleton fit at some offset by chance
//! once in 2^80 octets. The search goes on inside a damaged body too, since octets may be missing there and the next frame
//! come early. No frame can be mistaken for one there: bodies are JSON, which holds no octet 0, and every frame does.

use super::{
    frame::{BODY_SUM_BYTES, Decoded, Fault, HEADER_BYTES, Skeleton, decode, decode_skeleton, read_header},
    scan::written,
};

/// A part of a segment, in its order. Together the pieces cover all of its octets behind the header, but for room at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An entry as it was written.
    Entry {
        /// Octets from the start of the segment.
        offset: usize,
        /// It.
        frame: Decoded,
    },
    /// An entry of which the body is lost.
    Skeleton {
        /// Octets from the start of the segment.
        offset: usize,
        /// What is known of it.
        skeleton: Skeleton,
        /// Where the next piece begins: what is lost lies before it.
        to: usize,
        /// What is wrong with the body.
        why: Fault,
    },
    /// Octets that tell nothing.
    Lost {
        /// Where they begin, in octets from the start of the segment.
        from: usize,
        /// Where the next piece begins.
        to: usize,
        /// What is wrong at `from`; none: the segment's header is.
        why: Option<Fault>,
    },
}

/// Reads what can be read of a segment, whatever happened to it, and hands each piece to `each`. Of a whole one these are its entries.
pub fn salvage(octets: &[u8], mut each: impl FnMut(Piece)) {
    // Room is zeros, and so may be what ends a frame: it is in the octets as long as a frame is read.
    let end = written(octets);
    let mut at = 0;
    if read_header(octets).is_some() {
        at = HEADER_BYTES;
    } else {
        let to = search(octets, 0);
        if to > 0 {
            each(Piece::Lost { from: 0, to, why: None });
        }
        at = at.max(to);
    }
    while let Some(rest) = octets.get(at..).filter(|_| at < end) {
        let offset = at;
        let piece = match decode(rest) {
            Ok(frame) => {
                at = at.saturating_add(frame.length);
                Piece::Entry { offset, frame }
            }
            Err(why) => match decode_skeleton(rest) {
                Ok(skeleton) => {
                    // Octets may be missing from the body's checksum on.
                    at = search(octets, at.saturating_add(skeleton.body.start).saturating_sub(BODY_SUM_BYTES));
                    Piece::Skeleton { offset, skeleton, to: at, why }
                }
                Err(why) => {
                    at = search(octets, at.saturating_add(1));
                    Piece::Lost { from: offset, to: at, why: Some(why) }
                }
            },
        };
        each(piece);
    }
}

/// The first place from `from` on where a frame begins; the end where there is none.
fn search(octets: &[u8], from: usize) -> usize {
    let begins = |at: &usize| octets.get(*at..).is_some_and(|rest| matches!(rest, [1, _, 0..=3, 0, ..]) && decode_skeleton(rest).is_ok());
    (from..octets.len()).find(begins).unwrap_or(octets.len())
}
