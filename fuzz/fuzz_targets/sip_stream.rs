//! A stream cut anywhere: the same frames come out however it was cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::sip::framing::{Frame, Framer};

fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, bool) {
    let mut framer = Framer::default();
    let mut frames = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fuzz_target!(|octets: &[u8]| {
    let Some((cut, stream)) = octets.split_first() else { return };
    let (a, b) = stream.split_at(usize::from(*cut).min(stream.len()));
    assert_eq!(frames(&[stream]), frames(&[a, b]));
});
