//! A webhook from anybody, and a scheme that somebody has written: read or refused, never a panic, and nobody is believed who has not the key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::{
    pipeline::{
        Key, Source,
        webhook::{
            Request, Scheme,
            scheme::{Algorithm, Encoding, Written},
        },
    },
    time::Wall,
};

const NOW: Wall = Wall::from_millis(1_700_000_000_000);

fuzz_target!(|webhook: (&str, &str, &str, &str, &[u8])| {
    let (signed, value, header, query, body) = webhook;
    let Some(key) = Key::parse("raw:a key that nobody finds by trying") else { return };
    let own = |encoding, timestamp_header| Written {
        name: "own".to_owned(),
        algorithm: Algorithm::HmacSha256,
        signed: Some(signed.to_owned()),
        header: "x-own".to_owned(),
        value: Some(value.to_owned()),
        encoding: Some(encoding),
        timestamp_header,
        id_header: signed.contains("{id}").then(|| "x-id".to_owned()),
        tolerance_s: None,
        claim: None,
    };
    let timed = || Some("x-timestamp".to_owned());
    let own = [own(Encoding::Hex, None), own(Encoding::Base64, timed())];
    for written in Written::shipped().iter().chain(&own).filter(|written| written.algorithm != Algorithm::Secret) {
        let Ok(scheme) = Scheme::new(written) else { continue };
        let names = [Some(&scheme.header), scheme.timestamp_header.as_ref(), scheme.id_header.as_ref()];
        // The time is good, so that what comes behind it is reached.
        let text = |name: &String| if Some(name) == scheme.timestamp_header.as_ref() { "1700000000" } else { header };
        let headers: Vec<_> = names.into_iter().flatten().map(|name| (name.clone(), text(name).to_owned())).collect();
        let public_url = Some("https://calls.example.com/v1/webhooks/own".to_owned());
        let source = Source { scheme, public_url, ..Source::standard(key.clone()) };
        assert!(source.verify(&Request { headers: &headers, query, body }, NOW).is_err(), "{}", written.name);
    }
});
