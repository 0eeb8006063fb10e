//! The journal's form: entries into octets and back, batch by batch, and what a segment is worth after a crash.
//!
//! A journal is a row of segments, each a header and then frames. A frame is one [`Entry`]: a skeleton (kind, time, ids, hash of the body)
//! and a body, checksummed apart (CRC-32C), so that a body may one day be encrypted or erased without touching the rest. Frames are
//! written in batches, one sync a batch; each frame says which batch it belongs to and whether it ends it, and so a torn tail (the last
//! batch, never acknowledged) can be told from damage (a batch with a later one behind it). What stands behind damage is found again by
//! [`salvage`].
//!
//! Behind its last frame, the segment that is written to has room: zeros, written and synced ahead, so that a batch changes octets of the file and nothing else of
//! it. Once another segment is begun, or the journal closed, they are gone.
//!
//! Octets come in, octets go out; `shell::disk` writes and syncs them.

mod entry;
mod frame;
mod prune;
#[cfg(test)]
mod prune_tests;
mod salvage;
#[cfg(test)]
mod salvage_tests;
mod scan;
#[cfg(test)]
mod tests;

pub use entry::{Entry, EntryKind, Position};
pub use frame::{
    Decoded, ENTRY_BYTES_MAX, Fault, HEADER_BYTES, Skeleton, decode, decode_skeleton, encode, encode_batch, end_batch, read_header,
    write_header,
};
pub use prune::{Pruned, prune};
pub use salvage::{Piece, salvage};
pub use scan::{End, Scan, scan, written};
