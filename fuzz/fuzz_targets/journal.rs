//! A segment after a crash: scanned to its last good entry, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::journal::{decode, scan};

fuzz_target!(|octets: &[u8]| {
    let _ = decode(octets);
    for last in [false, true] {
        let _ = scan(1, octets, last, |_, _| {});
    }
});
