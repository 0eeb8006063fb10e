//! Vectors of the schemes' own documents, and what must not be believed.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    scheme::{Fault, Hash, Proof, Written},
    template::{Form, Part},
    *,
};

const NOW: i64 = 1_700_000_000_000;

fn source(scheme: &str, keys: &[&str]) -> Source {
    let keys = keys.iter().map(|key| Key::parse(key).expect("a key")).collect();
    let scheme = Scheme::shipped(scheme).expect("a scheme");
    Source { scheme, schema: Schema::generic(), keys, public_url: Some("https://mycompany.com/myapp.php".into()), pull: None }
}

fn verdict(source: &Source, headers: &[(&str, &str)], query: &str, body: &[u8]) -> Result<(), Bad> {
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    source.verify(&Request { headers: &headers, query, body }, Wall::from_millis(NOW))
}

fn code(key: &str, parts: &[&[u8]]) -> Vec<u8> {
    Key::parse(key).expect("a key").code(Hash::Sha256, parts).expect("a code")
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
    let forged = || Err(Bad::Signature(Scheme::standard_webhooks().hint));
    assert_eq!(sent(&good, at, b"body"), Ok(()));
    assert_eq!(sent(&format!("v1,AAAA {good}"), at, b"body"), Ok(()), "one of several");
    assert_eq!(sent(&good, at, b"bodY"), forged());
    assert_eq!(sent(&good, "1700000001", b"body"), forged());
    assert_eq!(sent(&good, "1699999699", b"body"), Err(Bad::Old(301, 300)));
    assert_eq!(sent(&good, "soon", b"body"), Err(Bad::Timestamp));
    assert_eq!(verdict(&plain, &[], "", b"body"), Err(Bad::Missing("webhook-signature".into(), "standard-webhooks".into())));
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
    let sum = Key::parse("raw:12345").expect("a key").code(Hash::Sha1, &[address.as_bytes()]).expect("a code");
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
    let mut acme = source("hmac-hex", &["raw:hush"]);
    acme.scheme.header = "X-Acme-Signature".into();
    let sum = hex::encode(code("raw:hush", &[b"body"]));
    assert_eq!(verdict(&acme, &[("x-acme-signature", &sum)], "", b"body"), Ok(()));
    assert_eq!(verdict(&acme, &[("x-signature", &sum)], "", b"body"), Err(Bad::Missing("X-Acme-Signature".into(), "hmac-hex".into())));
}

#[test]
fn a_time_of_signing_may_stand_in_a_header_of_another_name() {
    type Write = fn(Vec<u8>) -> String;
    for (scheme, write) in [("hmac-hex-timestamp", hex::encode as Write), ("hmac-base64-timestamp", |code| STANDARD.encode(code))] {
        let mut acme = source(scheme, &["raw:hush"]);
        (acme.scheme.header, acme.scheme.timestamp_header) = ("X-Acme-Signature".to_owned(), Some("X-Acme-Timestamp".to_owned()));
        let signed = |time: &str| write(code("raw:hush", &[time.as_bytes(), b".body"]));
        let sent = |name: &str, time: &str, signature: &str| verdict(&acme, &[("x-acme-signature", signature), (name, time)], "", b"body");
        assert_eq!(sent("x-acme-timestamp", "1700000000", &signed("1700000000")), Ok(()), "{scheme}");
        assert_eq!(sent("x-acme-timestamp", "1700000000000", &format!("sha256={}", signed("1700000000000"))), Ok(()), "{scheme}");
        assert!(matches!(sent("x-acme-timestamp", "1700000001", &signed("1700000000")), Err(Bad::Signature(_))), "the time is signed");
        assert_eq!(sent("x-acme-timestamp", "1600000000", &signed("1600000000")), Err(Bad::Old(100_000_000, 300)));
        assert_eq!(sent("x-timestamp", "1700000000", &signed("1700000000")), Err(Bad::Missing("X-Acme-Timestamp".into(), scheme.into())));
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
    let pairs = super::verify::form_pairs(b"a=x+y%2B&b=%+f%zz%4&&c&d=%C3%BC%ff=");
    let wanted = [("a", "x y+"), ("b", "% f%zz%4"), ("c", ""), ("d", "\u{fc}\u{fffd}=")];
    assert_eq!(pairs, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

/// The schemes of examples/schemes.toml, as a configuration has them.
fn examples() -> Vec<Written> {
    #[derive(serde::Deserialize)]
    struct Examples {
        scheme: Vec<Written>,
    }
    toml::from_str::<Examples>(include_str!("../../../examples/schemes.toml")).expect("schemes").scheme
}

/// Slack, Square and GitHub publish an example with its key; the others were signed with `openssl dgst -hmac`, all at one time with the key `hush`.
#[test]
fn the_examples_verify_what_their_senders_sign() {
    let slack = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&\
         user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
         96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let body = "{\"call\":\"1\"}";
    let sent = [
        (
            "slack",
            "raw:8f742231b10e8888abcd99yyyzzz85a5",
            1_531_420_618,
            slack,
            vec![
                ("X-Slack-Request-Timestamp", "1531420618"),
                ("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
            ],
        ),
        (
            "square",
            "raw:asdf1234",
            0,
            "{\"hello\":\"world\"}",
            vec![("x-square-hmacsha256-signature", "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og=")],
        ),
        (
            "github",
            "raw:It's a Secret to Everybody",
            0,
            "Hello, World!",
            vec![("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")],
        ),
        (
            "zoom",
            "raw:hush",
            1_700_000_000,
            body,
            vec![
                ("x-zm-request-timestamp", "1700000000"),
                ("x-zm-signature", "v0=770a2bf26bc5516e96e59699565a9028342f97f3f56cbd008cfcf370f8bf6b39"),
            ],
        ),
        (
            "hubspot",
            "raw:hush",
            1_700_000_000,
            body,
            vec![
                ("X-HubSpot-Request-Timestamp", "1700000000000"),
                ("X-HubSpot-Signature-v3", "+K9pHYY5lZyQUQHOSjjMjHXWpH4EpIwXkCT14VOR4hY="),
            ],
        ),
        (
            "stripe",
            "raw:hush",
            1_700_000_000,
            body,
            vec![("Stripe-Signature", "t=1700000000,v1=560b69f85fe6ba77cae6b4f4fa169c0fbed62ff24f8a188c721fc943ebdbf3bb")],
        ),
        (
            "zendesk",
            "raw:hush",
            1_700_000_000,
            body,
            vec![
                ("X-Zendesk-Webhook-Signature-Timestamp", "2023-11-14T22:13:20Z"),
                ("X-Zendesk-Webhook-Signature", "Ge6drXd8mq8zQ00vU8I9oG1QzuA6XT8GGYPX5MSnvx8="),
            ],
        ),
        (
            "paddle",
            "raw:hush",
            1_700_000_000,
            body,
            vec![("Paddle-Signature", "ts=1700000000;h1=7b805af580028a5a57249c0180fb89a84a2930d9d606e03ef6fcb2178d97407d")],
        ),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (name, key, seconds, body, headers) in sent {
        let written = examples().into_iter().find(|written| written.name == name).expect("an example");
        let source = Source {
            scheme: Scheme::new(&written).expect("no fault"),
            public_url: Some("https://example.com/webhook".into()),
            ..Source::standard(Key::parse(key).expect("a key"))
        };
        let verdict = |body: &[u8], headers: &[(&str, &str)], at: i64| {
            let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_ascii_lowercase(), (*v).to_owned())).collect();
            source.verify(&Request { headers: &headers, query: "", body }, Wall::from_millis(at * 1000))
        };
        assert_eq!(verdict(body.as_bytes(), &headers, seconds), Ok(()), "{name}");
        let other = [body.as_bytes(), b"\xff"].concat();
        assert!(matches!(verdict(&other, &headers, seconds), Err(Bad::Signature(_))), "{name}: the octets are signed");
        let old = verdict(body.as_bytes(), &headers, seconds + 301);
        assert_eq!(old, if written.is_timed() { Err(Bad::Old(301, 300)) } else { Ok(()) }, "{name}");
        if let Some(time) = written.timestamp_header {
            // The window is of the signed time, whatever the header says.
            let later = (seconds + 301).to_string();
            let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, if *n == time { later.as_str() } else { *v })).collect();
            assert!(matches!(verdict(body.as_bytes(), &headers, seconds + 301), Err(Bad::Signature(_))), "{name}");
        }
        seen.insert(name.to_owned());
    }
    assert_eq!(seen, examples().into_iter().map(|written| written.name).collect(), "each of them");
}

#[test]
fn every_shipped_scheme_is_read_and_stands_for_what_it_always_did() {
    let shipped = Written::shipped();
    assert_eq!(shipped.len(), 10);
    for written in &shipped {
        Scheme::new(written).unwrap_or_else(|faults| panic!("{}: {faults:?}", written.name));
    }
    let standard = Scheme::standard_webhooks();
    assert_eq!(
        (standard.name.as_str(), standard.tolerance_s, standard.id_header.as_deref()),
        ("standard-webhooks", 300, Some("webhook-id"))
    );
    let dot = || Part::Text(".".into());
    let Proof::Code { signed, form, .. } = standard.proof else { panic!("a code") };
    assert_eq!((signed, form), (vec![Part::Id, dot(), Part::Timestamp, dot(), Part::Body], Form::Words("v1,".into())));
    let hint = Scheme::shipped("twilio").expect("a scheme").hint;
    assert!(["HMAC-SHA-1", "in base64", "raw:TEXT", "`public_url`"].iter().all(|part| hint.contains(part)), "{hint}");
}

#[test]
fn a_value_is_a_word_before_the_signature_or_two_pairs() {
    let pairs = |between, time: &str, signature: &str| Some(Form::Pairs { between, time: time.into(), signature: signature.into() });
    for (template, form) in [
        ("{signature}", Some(Form::Words(String::new()))),
        ("v1,{signature}", Some(Form::Words("v1,".into()))),
        ("t={timestamp},v1={signature}", pairs(',', "t", "v1")),
        ("h1={signature}; ts={timestamp}", pairs(';', "ts", "h1")),
        ("", None),
        ("sha256=", None),
        ("{signature}=", None),
        ("{signature}{signature}", None),
        ("t={timestamp}", None),
        ("t={timestamp},{signature}", None),
        ("t={timestamp},v1={signature},v0={signature}", None),
        ("={timestamp},v1={signature}", None),
        ("{timestamp}.{signature}", None),
    ] {
        assert_eq!(Form::read(template), form, "{template}");
    }
    // Of several signatures under one name any may fit.
    let form = Form::read("t={timestamp},v1={signature}").expect("a form");
    assert_eq!(form.signatures("t=1,v1=aa, v1=bb,v0=cc").collect::<Vec<_>>(), ["aa", "bb"]);
    assert_eq!((form.time("v1=aa,t=1"), form.time("v1=aa")), (Some(Some("1")), Some(None)));
    let form = Form::read("v1,{signature}").expect("a form");
    assert_eq!(form.signatures("v1,aa v1a,bb cc").collect::<Vec<_>>(), ["aa", "v1a,bb", "cc"]);
    let form = Form::read("HMAC-SHA256 Signature={signature}").expect("a form");
    assert_eq!(form.signatures("HMAC-SHA256 Signature=aa").collect::<Vec<_>>(), ["aa"]);
}

#[test]
fn a_scheme_that_proves_nothing_or_lacks_something_is_a_fault_at_its_key() {
    let faults = |keys: &str| {
        let written: Written = toml::from_str(&format!("name = \"acme\"\nheader = \"X-Acme\"\n{keys}")).expect("keys that are known");
        let told = |faults: Vec<Fault>| faults.into_iter().map(|fault| (fault.key, fault.what)).collect::<Vec<_>>();
        Scheme::new(&written).map_or_else(told, |_| Vec::new())
    };
    for (keys, wanted) in [
        ("algorithm = \"hmac-sha256\"", vec![("signed", "nothing says what the code is over")]),
        (
            "algorithm = \"hmac-sha256\"\nsigned = \"{method}{body}\"",
            vec![("signed", "`signed` has {method}, which is none of a webhook's parts")],
        ),
        ("algorithm = \"hmac-sha256\"\nsigned = \"{id}.{url}\"\nid_header = \"X-Id\"", vec![("signed", "`signed` has no {body}")]),
        ("algorithm = \"hmac-sha1\"\nsigned = \"{form}\"", vec![("signed", "`signed` has {form} without {url}")]),
        ("algorithm = \"hmac-sha512\"\nsigned = \"{timestamp}.{body}\"", vec![("signed", "`signed` has {timestamp}, and nothing says")]),
        (
            "algorithm = \"hmac-sha256\"\nsigned = \"{body}\"\ntimestamp_header = \"X-Time\"\ntolerance_s = 60",
            vec![("timestamp_header", "`timestamp_header` says where the time of signing stands, and that is not signed")],
        ),
        (
            "algorithm = \"hmac-sha256\"\nsigned = \"{body}\"\nvalue = \"t={timestamp},v1={signature}\"",
            vec![("value", "`value` says where the time of signing stands, and that is not signed")],
        ),
        (
            "algorithm = \"hmac-sha256\"\nsigned = \"{timestamp}{body}\"\nvalue = \"t={timestamp},v1={signature}\"\ntimestamp_header = \"X-Time\"",
            vec![("timestamp_header", "the time of signing stands in `value` and in a header of its own")],
        ),
        ("algorithm = \"hmac-sha256\"\nsigned = \"{body}\"\ntolerance_s = 60", vec![("tolerance_s", "`tolerance_s` says how old")]),
        ("algorithm = \"hmac-sha256\"\nsigned = \"{id}{body}\"", vec![("signed", "`signed` has {id}, and nothing says where")]),
        (
            "algorithm = \"hmac-sha256\"\nsigned = \"{body}\"\nid_header = \"X-Id\"",
            vec![("id_header", "`id_header` names an id that is not signed")],
        ),
        (
            "algorithm = \"hmac-sha256\"\nsigned = \"{body}\"\nvalue = \"{signature}!\"\nclaim = \"sha256\"",
            vec![("claim", "a code has no claims"), ("value", "`value` is \"{signature}!\"")],
        ),
        (
            "algorithm = \"jwt-hs256\"\nencoding = \"hex\"",
            vec![("encoding", "`encoding` is of codes"), ("claim", "nothing says which claim")],
        ),
        (
            "algorithm = \"secret\"\nsigned = \"{body}\"\nclaim = \"x\"\ntolerance_s = 9",
            vec![
                ("signed", "`signed` is of codes"),
                ("claim", "a secret has no `claim`"),
                ("tolerance_s", "a secret has no `tolerance_s`"),
            ],
        ),
        (
            "algorithm = \"hmac-sha256\"\nsigned = \"{body}\"\nvalue = \"{timestamp}.{signature}\"",
            vec![("value", "`value` is \"{timestamp}.{signature}\""), ("value", "`value` says where the time of signing stands")],
        ),
        ("algorithm = \"secret\"", vec![]),
        ("algorithm = \"jwt-hs256\"\nclaim = \"body\"\ntolerance_s = 60", vec![]),
        ("algorithm = \"hmac-sha512\"\nsigned = \"{url}{body}\"", vec![]),
    ] {
        let told = faults(keys);
        let fits =
            told.len() == wanted.len() && told.iter().zip(&wanted).all(|((key, what), (at, said))| key == at && what.starts_with(said));
        assert!(fits, "{keys}: {told:?}");
    }
}

/// Sent as a program would: the code is made here, over octets that are no text.
#[test]
fn what_a_template_names_is_signed_octet_for_octet_in_its_order() {
    let keys = "name = \"acme\"\nalgorithm = \"hmac-sha512\"\nheader = \"X-Sign\"\nencoding = \"base64\"\nid_header = \"X-Id\"\n\
        timestamp_header = \"X-Time\"\nsigned = \"POST {url}\\n{id}:{timestamp}:{body}\"";
    let scheme = Scheme::new(&toml::from_str(keys).expect("keys")).expect("a scheme");
    let acme = Source { scheme, ..source("bearer", &["raw:hush"]) };
    let (time, body) = ("2023-11-14T22:13:20Z", &b"\xff{\"a\":  1}\0"[..]);
    let whole = [b"POST https://mycompany.com/myapp.php?a=%20b\ni 1:", time.as_bytes(), b":", body].concat();
    let sum = Key::parse("raw:hush").expect("a key").code(Hash::Sha512, &[&whole]).expect("a code");
    let headers = [("x-sign", STANDARD.encode(sum)), ("x-id", "i 1".to_owned()), ("x-time", time.to_owned())];
    let sent = |query: &str, body: &[u8]| {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        verdict(&acme, &headers, query, body)
    };
    assert_eq!(sent("a=%20b", body), Ok(()));
    assert!(matches!(sent("a= b", body), Err(Bad::Signature(_))));
    assert!(matches!(sent("a=%20b", b"\xff{\"a\": 1}\0"), Err(Bad::Signature(_))));
    let nowhere = Source { public_url: None, ..acme.clone() };
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(verdict(&nowhere, &headers, "", body), Err(Bad::NoAddress));
}
