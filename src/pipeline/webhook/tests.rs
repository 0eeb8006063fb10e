//! Vectors of the schemes' own documents, and what must not be believed.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{scheme::Algorithm, *};

const NOW: i64 = 1_700_000_000_000;

fn source(scheme: &str, keys: &[&str]) -> Source {
    let keys = keys.iter().map(|key| Key::parse(key).expect("a key")).collect();
    Source {
        scheme: Scheme::named(scheme).expect("a scheme"),
        schema: Schema::generic(),
        keys,
        header: None,
        timestamp_header: None,
        public_url: Some("https://mycompany.com/myapp.php".into()),
        pull: None,
    }
}

fn verdict(source: &Source, headers: &[(&str, &str)], query: &str, body: &[u8]) -> Result<(), Bad> {
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    source.verify(&Request { headers: &headers, query, body }, Wall::from_millis(NOW))
}

fn code(key: &str, parts: &[&[u8]]) -> Vec<u8> {
    Key::parse(key).expect("a key").code(Algorithm::HmacSha256, parts).expect("a code")
}

#[test]
fn a_signature_of_the_standards_own_example_is_good() {
    // The vector that the Standard Webhooks libraries test with.
    let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
    let body = br#"{"test": 2432232314}"#;
    let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", Wall::from_millis(1_614_265_330_000), body);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn what_is_not_signed_so_is_refused() {
    let plain = source("standard-webhooks", &["raw:hush"]);
    let good = Key::parse("raw:hush").expect("a key").sign("msg_1", Wall::from_millis(NOW), b"body");
    let sent = |signature: &str, at: &str, body: &[u8]| {
        verdict(&plain, &[("Webhook-Id", "msg_1"), ("webhook-timestamp", at), ("webhook-signature", signature)], "", body)
    };
    let at = "1700000000";
    let forged = || Err(Bad::Signature(scheme::STANDARD_WEBHOOKS.hint));
    assert_eq!(sent(&good, at, b"body"), Ok(()));
    assert_eq!(sent(&format!("v1,AAAA {good}"), at, b"body"), Ok(()), "one of several");
    assert_eq!(sent(&good, at, b"bodY"), forged());
    assert_eq!(sent(&good, "1700000001", b"body"), forged());
    assert_eq!(sent(&good, "1699999699", b"body"), Err(Bad::Old(301, 300)));
    assert_eq!(sent(&good, "soon", b"body"), Err(Bad::Timestamp));
    assert_eq!(verdict(&plain, &[], "", b"body"), Err(Bad::Missing("webhook-signature".into(), "standard-webhooks")));
}

#[test]
fn while_keys_are_changed_both_sign() {
    let both = source("standard-webhooks", &["raw:new", "raw:old"]);
    for key in ["raw:new", "raw:old", "raw:older"] {
        let signature = Key::parse(key).expect("a key").sign("m", Wall::from_millis(NOW), b"body");
        let headers = [("webhook-id", "m"), ("webhook-timestamp", "1700000000"), ("webhook-signature", signature.as_str())];
        assert_eq!(verdict(&both, &headers, "", b"body").is_ok(), key != "raw:older", "{key}");
    }
}

#[test]
fn codes_over_the_body_come_in_hex_and_base64_with_a_time_and_without() {
    let sum = code("raw:hush", &[b"body"]);
    for (scheme, value) in [
        ("hmac-hex", hex::encode(&sum)),
        ("hmac-hex", format!("sha256={}", hex::encode(&sum).to_uppercase())),
        ("hmac-base64", STANDARD.encode(&sum)),
    ] {
        let source = source(scheme, &["raw:hush"]);
        assert_eq!(verdict(&source, &[("X-Signature", &value)], "", b"body"), Ok(()), "{scheme} {value}");
        assert!(verdict(&source, &[("X-Signature", &value)], "", b"other").is_err());
    }
    let timed = hex::encode(code("raw:hush", &[b"1700000000.body"]));
    let source = source("hmac-hex-timestamp", &["raw:hush"]);
    assert_eq!(verdict(&source, &[("X-Signature", &timed), ("X-Timestamp", "1700000000")], "", b"body"), Ok(()));
    assert_eq!(verdict(&source, &[("X-Signature", &timed), ("X-Timestamp", "1600000000")], "", b"body"), Err(Bad::Old(100_000_000, 300)));
}

#[test]
fn pairs_hold_the_time_and_the_signature() {
    let t = format!("t=1700000000,v0={}", hex::encode(code("raw:hush", &[b"1700000000.body"])));
    assert_eq!(verdict(&source("t-v0", &["raw:hush"]), &[("ElevenLabs-Signature", &t)], "", b"body"), Ok(()));
    // In milliseconds, behind the body.
    let v = format!("v=1700000000123,d={}", hex::encode(code("raw:hush", &[b"body1700000000123"])));
    let retell = source("v-d", &["raw:hush"]);
    assert_eq!(verdict(&retell, &[("X-Retell-Signature", &v)], "", b"body"), Ok(()));
    assert!(verdict(&retell, &[("X-Retell-Signature", &v)], "", b"bod").is_err());
    assert_eq!(verdict(&retell, &[("X-Retell-Signature", "d=00")], "", b"body"), Err(Bad::Timestamp));
}

#[test]
fn twilios_own_example_is_good_and_a_body_stands_by_its_hash() {
    // The example of Twilio's security documentation, which its libraries test with.
    let twilio = source("twilio", &["raw:12345"]);
    let form = b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
    let signature = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
    assert_eq!(verdict(&twilio, &[("X-Twilio-Signature", signature)], "foo=1&bar=2", form), Ok(()));
    let shuffled = b"To=%2B18005551212&Digits=1234&CallSid=CA1234567890ABCDE&From=%2B14158675309&Caller=%2B14158675309";
    assert_eq!(verdict(&twilio, &[("X-Twilio-Signature", signature)], "foo=1&bar=2", shuffled), Ok(()), "by name");
    assert!(verdict(&twilio, &[("X-Twilio-Signature", signature)], "foo=1&bar=3", form).is_err());

    let query = format!("bodySHA256={}", hex::encode(Sha256::digest(b"{}")));
    let address = format!("https://mycompany.com/myapp.php?{query}");
    let sum = Key::parse("raw:12345").expect("a key").code(Algorithm::HmacSha1, &[address.as_bytes()]).expect("a code");
    let headers = [("X-Twilio-Signature", &*STANDARD.encode(sum))];
    assert_eq!(verdict(&twilio, &headers, &query, b"{}"), Ok(()));
    assert!(verdict(&twilio, &headers, &query, b"{ }").is_err());
    let nowhere = Source { public_url: None, ..twilio };
    assert_eq!(verdict(&nowhere, &headers, &query, b"{}"), Err(Bad::NoAddress));
}

#[test]
fn a_token_stands_for_its_body_and_its_time() {
    let livekit = source("livekit", &["raw:secret"]);
    let token = |alg: &str, body: &[u8], exp: i64, key: &str| {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"iss": "APIkey", "exp": exp, "nbf": 1_699_999_000, "sha256": STANDARD.encode(Sha256::digest(body))});
        let signed = format!("{}.{}", part(json!({"alg": alg, "typ": "JWT"})), part(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(code(key, &[signed.as_bytes()])))
    };
    let sent = |token: &str| verdict(&livekit, &[("Authorization", token)], "", b"{}");
    assert_eq!(sent(&token("HS256", b"{}", 1_700_000_300, "raw:secret")), Ok(()));
    assert!(sent(&token("HS256", b"[]", 1_700_000_300, "raw:secret")).is_err(), "another body");
    assert!(sent(&token("HS256", b"{}", 1_700_000_300, "raw:other")).is_err(), "another secret");
    assert!(sent(&token("none", b"{}", 1_700_000_300, "raw:secret")).is_err(), "another algorithm");
    assert_eq!(sent(&token("HS256", b"{}", 1_699_000_000, "raw:secret")), Err(Bad::Old(1_000_000, 300)));
    assert!(sent("nothing").is_err());
}

#[test]
fn a_header_may_have_another_name() {
    let acme = Source { header: Some("X-Acme-Signature".into()), ..source("hmac-hex", &["raw:hush"]) };
    let sum = hex::encode(code("raw:hush", &[b"body"]));
    assert_eq!(verdict(&acme, &[("x-acme-signature", &sum)], "", b"body"), Ok(()));
    assert_eq!(verdict(&acme, &[("x-signature", &sum)], "", b"body"), Err(Bad::Missing("X-Acme-Signature".into(), "hmac-hex")));
}

#[test]
fn a_time_of_signing_may_stand_in_a_header_of_another_name() {
    type Write = fn(Vec<u8>) -> String;
    for (scheme, write) in [("hmac-hex-timestamp", hex::encode as Write), ("hmac-base64-timestamp", |code| STANDARD.encode(code))] {
        let names = (Some("X-Acme-Signature".to_owned()), Some("X-Acme-Timestamp".to_owned()));
        let acme = Source { header: names.0, timestamp_header: names.1, ..source(scheme, &["raw:hush"]) };
        let signed = |time: &str| write(code("raw:hush", &[time.as_bytes(), b".body"]));
        let sent = |name: &str, time: &str, signature: &str| verdict(&acme, &[("x-acme-signature", signature), (name, time)], "", b"body");
        assert_eq!(sent("x-acme-timestamp", "1700000000", &signed("1700000000")), Ok(()), "{scheme}");
        assert_eq!(sent("x-acme-timestamp", "1700000000000", &format!("sha256={}", signed("1700000000000"))), Ok(()), "{scheme}");
        assert!(matches!(sent("x-acme-timestamp", "1700000001", &signed("1700000000")), Err(Bad::Signature(_))), "the time is signed");
        assert_eq!(sent("x-acme-timestamp", "1600000000", &signed("1600000000")), Err(Bad::Old(100_000_000, 300)));
        assert_eq!(sent("x-timestamp", "1700000000", &signed("1700000000")), Err(Bad::Missing("X-Acme-Timestamp".into(), scheme)));
    }
}

#[test]
fn a_secret_is_compared_whole() {
    let bearer = source("bearer", &["raw:open sesame"]);
    assert_eq!(verdict(&bearer, &[("Authorization", "Bearer open sesame")], "", b""), Ok(()));
    assert!(verdict(&bearer, &[("Authorization", "Bearer open")], "", b"").is_err());
    assert!(verdict(&bearer, &[("Authorization", "open sesame")], "", b"").is_err());
}

#[test]
fn a_form_is_read_as_senders_write_it_and_what_is_no_escape_stays() {
    let pairs = super::scheme::form_pairs(b"a=x+y%2B&b=%+f%zz%4&&c&d=%C3%BC%ff=");
    let wanted = [("a", "x y+"), ("b", "% f%zz%4"), ("c", ""), ("d", "\u{fc}\u{fffd}=")];
    assert_eq!(pairs, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
}
