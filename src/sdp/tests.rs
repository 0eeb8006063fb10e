use std::{fs, path::Path};

use proptest::prelude::*;

use super::{negotiate::*, *};
use crate::codec::Codec;

const OFFER: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 198.51.100.1\r\ns=\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 18 8 0 96\r\na=rtpmap:18 G729/8000\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\na=ptime:30\r\n\
    m=video 51372 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n";

fn parse(text: &str) -> Session {
    Session::parse(text.as_bytes()).expect("a session description")
}

fn all() -> Capabilities {
    Capabilities { codecs: vec![Codec::Pcmu, Codec::Pcma, Codec::G722], telephone_event: true }
}

fn origin() -> Origin {
    Origin { user: "-".into(), id: "1".into(), version: "1".into(), host: "192.0.2.1".into() }
}

fn ours() -> std::net::SocketAddr {
    "192.0.2.1:20000".parse().expect("an address")
}

fn answered(offer: &str, capabilities: &Capabilities) -> Result<Answer, Refused> {
    answer(&parse(offer), capabilities, ours(), origin(), Direction::SendRecv)
}

#[test]
fn the_answer_takes_the_offers_first_codec_of_ours_and_refuses_the_rest() {
    let Answer { session, agreed } = answered(OFFER, &all()).expect("an answer");
    assert_eq!(
        session.emit(),
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 8 96\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\na=ptime:20\r\na=sendrecv\r\nm=video 0 RTP/AVP 31\r\n"
    );
    assert_eq!((agreed.codec, agreed.pt, agreed.recv), (Codec::Pcma, 8, vec![(8, Codec::Pcma)]));
    assert_eq!(agreed.telephone_event, Some(TelephoneEvent { send: 96, recv: 96, clock: 8000 }));
    assert_eq!((agreed.remote.to_string().as_str(), agreed.ptime_ms, agreed.index), ("198.51.100.1:49170", 30, 0));
}

#[test]
fn no_agreement_says_what_was_offered() {
    let g722 = Capabilities { codecs: vec![Codec::G722], telephone_event: true };
    let refused = answered(OFFER, &g722).expect_err("nothing in common");
    assert!(
        refused.to_string().contains("offered are G729/8000, PCMA/8000, PCMU/8000, telephone-event/8000, this leg takes G722"),
        "{refused}"
    );
    let secure = OFFER.replace("RTP/AVP 18", "RTP/SAVP 18");
    let refused = answered(&secure, &all()).expect_err("no SRTP yet");
    assert!(refused.to_string().contains("audio RTP/SAVP port 49170, video RTP/AVP port 51372"), "{refused}");
    assert_eq!(answered(&OFFER.replace("c=IN IP4 198.51.100.1", "c=IN IP4 host.example.com"), &all()), Err(Refused::NoAddress));
}

#[test]
fn a_hold_stops_our_sending_in_both_its_forms() {
    for (held, expected) in [
        (format!("{OFFER}a=sendonly\r\n").replace("m=video 51372 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n", ""), Direction::RecvOnly),
        (OFFER.replace("c=IN IP4 198.51.100.1", "c=IN IP4 0.0.0.0"), Direction::RecvOnly),
        (OFFER.replace("t=0 0\r\n", "t=0 0\r\na=inactive\r\n"), Direction::Inactive),
    ] {
        assert_eq!(answered(&held, &all()).expect("an answer").agreed.direction, expected, "{held}");
    }
}

#[test]
fn our_offer_is_settled_by_numbers_of_both_sides() {
    let offered = offer(&all(), ours(), origin());
    assert_eq!(offered.media[0].formats, ["0", "8", "9", "101"]);
    let theirs = parse(
        "v=0\r\no=- 5 5 IN IP4 203.0.113.9\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 9 0 97\r\nc=IN IP4 203.0.113.9\r\n\
         a=rtpmap:97 telephone-event/8000\r\na=recvonly\r\n",
    );
    let agreed = settle(&offered, &theirs).expect("settled");
    assert_eq!((agreed.codec, agreed.pt), (Codec::G722, 9));
    assert_eq!(agreed.recv, [(0, Codec::Pcmu), (9, Codec::G722)]);
    assert_eq!(agreed.telephone_event, Some(TelephoneEvent { send: 97, recv: 101, clock: 8000 }));
    assert_eq!(agreed.direction, Direction::SendOnly);
    let refused = parse("v=0\r\no=- 5 5 IN IP4 203.0.113.9\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n");
    assert!(matches!(settle(&offered, &refused), Err(Refused::NoAudio(_))));
}

#[test]
fn telephone_event_of_another_clock_is_not_ours() {
    let wide = OFFER.replace("telephone-event/8000", "telephone-event/16000");
    assert_eq!(answered(&wide, &all()).expect("an answer").agreed.telephone_event, None);
}

#[test]
fn a_broken_line_is_named() {
    let broken = OFFER.replace("m=audio 49170", "m=audio 4917O");
    let error = Session::parse(broken.as_bytes()).expect_err("no port");
    assert!(matches!(error, Error::Line { line: 6, .. }), "{error}");
    assert_eq!(Session::parse(b"INVITE"), Err(Error::NotSdp));
    assert!(matches!(Session::parse(b"v=0\r\ns=-\r\n"), Err(Error::Missing(_))));
}

/// Every description of the corpora is read, and read back from what we write.
#[test]
fn descriptions_of_real_phones_and_of_the_rfcs_read_back() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora");
    let (mut folders, mut seen) = (vec![corpora.join("sdp-rfc"), corpora.join("sdp-endpoints")], 0);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            eprintln!("{} is absent: nothing read", folder.display());
            continue;
        };
        for path in entries.flatten().map(|e| e.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "sdp") {
                let bytes = fs::read(&path).expect("a file");
                let session = Session::parse(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                assert_eq!(parse(&session.emit()), session, "{}", path.display());
                seen += 1;
            }
        }
    }
    eprintln!("{seen} descriptions read");
}

fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
    prop::collection::vec(("[a-z0-9-]{1,8}", prop::option::of("([ -~ä€\t]{0,20}[!-~])?")), 0..6)
        .prop_map(|attributes| attributes.into_iter().map(|(name, value)| Attribute { name, value }).collect())
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]([a-z0-9.-]{0,12}[a-z0-9])?",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
    ]
}

fn session() -> impl Strategy<Value = Session> {
    let media =
        ("[a-z]{1,8}", any::<u16>(), "[A-Z/]{1,9}", prop::collection::vec("[0-9a-z-]{1,6}", 1..5), prop::option::of(host()), attributes())
            .prop_map(|(kind, port, protocol, formats, connection, attributes)| Media {
                kind,
                port,
                protocol,
                formats,
                connection,
                attributes,
            });
    let origin =
        ("[!-~]{1,8}", "[0-9]{1,20}", "[0-9]{1,20}", host()).prop_map(|(user, id, version, host)| Origin { user, id, version, host });
    (origin, "[!-~]([ -~€]{0,10}[!-~])?", prop::option::of(host()), attributes(), prop::collection::vec(media, 0..4))
        .prop_map(|(origin, name, connection, attributes, media)| Session { origin, name, connection, attributes, media })
}

proptest! {
    #[test]
    fn whatever_is_emitted_reads_back(session in session(), lf: bool, unknown in prop::collection::vec(("[bektrz]", "[ -~]{0,12}"), 0..5), at in any::<prop::sample::Index>()) {
        let text = session.emit();
        prop_assert_eq!(Session::parse(text.as_bytes()), Ok(session.clone()));
        // Lines that mean nothing to us, anywhere behind the first, and line ends of one octet.
        let mut lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
        for (kind, value) in unknown {
            lines.insert(1 + at.index(lines.len()), format!("{kind}={value}"));
        }
        let text = lines.join(if lf { "\n" } else { "\r\n" });
        prop_assert_eq!(Session::parse(text.as_bytes()), Ok(session));
    }

    #[test]
    fn no_octets_panic(body in prop::collection::vec(any::<u8>(), 0..300), cut in 0..400_usize, put in any::<u8>()) {
        let _ = Session::parse(&body);
        let mut changed = OFFER.as_bytes().to_vec();
        if let Some(octet) = changed.get_mut(cut) { *octet = put; }
        if let Ok(session) = Session::parse(&changed) {
            let _ = answer(&session, &all(), ours(), origin(), Direction::SendRecv);
            let _ = settle(&session, &session);
        }
    }
}
