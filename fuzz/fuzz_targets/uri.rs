//! A URI from anybody: read or refused; what is read is written as it came and read again as the same, and its parts are parts of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::sip::Uri;

fuzz_target!(|text: &str| {
    if let Ok(uri) = text.parse::<Uri>() {
        let again: Uri = uri.as_str().parse().expect("reads what it wrote");
        assert_eq!(again, uri);
        assert_eq!((again.user(), again.host_port(), again.port(), again.headers()), (uri.user(), uri.host_port(), uri.port(), uri.headers()));
        assert!(uri.as_str().contains(uri.host()) && uri.user().is_none_or(|user| uri.as_str().contains(user)));
        let plain = uri.without_headers();
        assert!(plain.headers().is_empty());
        assert_eq!(plain.host_port(), uri.host_port());
    }
});
