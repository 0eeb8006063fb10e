//! A capture file from anybody, looked at whole: frames, SIP, TCP, RTP, keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::driver::replay::{Rtpmap, observe};

fuzz_target!(|file: &[u8]| {
    let _ = observe(file, &Rtpmap::new());
});
