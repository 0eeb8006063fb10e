//! A capture file from anybody, looked at whole and in pieces: frames, SIP, TCP, RTP, keys are the same however the file comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::driver::replay::{Observer, Rtpmap, observe};

fuzz_target!(|file: &[u8]| {
    let whole = observe(file, &Rtpmap::new());
    let mut observer = Observer::new(Rtpmap::new());
    for piece in file.chunks(usize::from(file.first().copied().unwrap_or(0)) + 1) {
        observer.push(piece);
    }
    let mut calls = Vec::new();
    while let Some(call) = observer.next_call() {
        calls.push(call);
    }
    match (whole, observer.finish()) {
        (Ok(whole), Ok((report, rest))) => {
            assert_eq!((whole.frames, whole.rtcp, whole.sip.messages), (report.frames, report.rtcp, report.sip.messages));
            assert_eq!(whole.calls.len(), calls.len() + rest.len());
            assert_eq!(whole.unassigned.streams.len(), report.unassigned.streams.len());
            assert_eq!(whole.stopped.map(|s| (s.frame, s.offset)), report.stopped.map(|s| (s.frame, s.offset)));
        }
        (Err(whole), Err(pieces)) => assert_eq!(whole, pieces),
        (whole, pieces) => panic!("{} whole, {} in pieces", whole.is_ok(), pieces.is_ok()),
    }
});
