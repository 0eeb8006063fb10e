//! A segment after a crash: scanned to its last good entry, never a panic; salvage finds at least what the scan does, and names the rest without a gap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::journal::{self, Piece, decode, scan};

fuzz_target!(|octets: &[u8]| {
    let _ = decode(octets);
    let mut scanned = Vec::new();
    for last in [false, true] {
        scanned.clear();
        let _ = scan(1, octets, last, |at, frame| scanned.push((at.offset, frame)));
    }
    // Its pieces lie one behind the other.
    let (mut found, mut next) = (Vec::new(), None);
    journal::salvage(octets, |piece| {
        let (from, to) = match &piece {
            Piece::Entry { offset, frame } => (*offset, offset + frame.length),
            Piece::Skeleton { offset, to, .. } => (*offset, *to),
            Piece::Lost { from, to, .. } => (*from, *to),
        };
        assert!(from < to && to <= octets.len() && next.is_none_or(|next| next == from));
        next = Some(to);
        if let Piece::Entry { offset, frame } = piece {
            found.push((offset as u64, frame));
        }
    });
    for entry in &scanned {
        assert!(found.contains(entry), "the scan has an entry that salvage has not");
    }
});
