//! A body from anybody: read or refused; what is read is written, and read again as the same; an answer to it can be written too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::sdp::Session;

fuzz_target!(|body: &[u8]| {
    if let Ok(session) = Session::parse(body) {
        let again = Session::parse(session.emit().as_bytes()).expect("reads what it wrote");
        assert_eq!(again, session);
    }
});
