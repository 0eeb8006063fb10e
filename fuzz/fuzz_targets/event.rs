//! What a journal or a webhook hands over as a call event: read or refused, never a panic, and what is read is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::event::Event;

fuzz_target!(|json: &[u8]| {
    if let Ok(event) = Event::from_cloudevent(json) {
        let again = Event::from_cloudevent(event.to_cloudevent().to_string().as_bytes()).expect("reads what it wrote");
        assert_eq!(again.kind, event.kind);
    }
});
