use super::*;

const INVITE: &str = "INVITE sip:+4930@gw;x=y SIP/2.0\r\nv: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKa;rport\r\nVia: SIP/2.0/UDP [2001:db8::9];branch=z9hG4bKb, SIP/2.0/TCP c\r\n\
    f: \"A \\\"<b>\\\", c\" <sip:a@b>;tag=1\r\nTo: sip:+4930@gw;x=1\r\ni: 1@2\r\nCSeq: 7 INVITE\r\nSubject: one\r\n\ttwo\r\nX-Own: a: b\r\nm: <sip:a@192.0.2.1:5070>\r\nl: 3\r\n\r\nabcEXTRA";

fn request(text: &str) -> Request {
    match Message::parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn compact_folded_and_listed_headers_are_read() {
    let invite = request(INVITE);
    let via = invite.via().expect("a via");
    assert_eq!((via.host.as_str(), via.port, via.branch(), via.param("rport")), ("192.0.2.1", Some(5070), Some("z9hG4bKa"), Some("")));
    assert_eq!(invite.headers.values("Via").count(), 3);
    assert_eq!(invite.from().expect("from").display.as_deref(), Some("A \"<b>\", c"));
    assert_eq!(invite.to().expect("to").param("x"), Some("1"));
    assert_eq!(invite.header("subject"), Some("one two"));
    assert_eq!(&invite.body[..], b"abc");
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut invite = request(INVITE);
    invite.headers.remove("Content-Length");
    let mut again = request(std::str::from_utf8(&invite.to_bytes()).expect("text"));
    again.headers.remove("Content-Length");
    let lines = |r: &Request| r.headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect::<Vec<_>>();
    assert_eq!((lines(&again), &again.body, &again.uri), (lines(&invite), &invite.body, &invite.uri));
}

#[test]
fn an_answer_copies_what_the_rfc_says() {
    let answer = request(INVITE).response(180, None, Some("gw"));
    assert_eq!(answer.reason, "Ringing");
    assert_eq!(answer.to().expect("to").tag(), Some("gw"));
    assert_eq!(answer.headers.all("Via").count(), 2);
    assert_eq!(answer.cseq().expect("cseq"), (7, Method::INVITE));
}

#[test]
fn a_fault_has_a_status_and_can_be_answered() {
    for (from, to, status) in [
        ("CSeq: 7 INVITE", "CSeq: 7 BYE", 400),
        ("CSeq: 7 INVITE", "CSeq: 4294967296 INVITE", 400),
        ("l: 3", "l: 300", 400),
        ("l: 3", "l: -3", 400),
        ("SIP/2.0\r\nv", "SIP/7.0\r\nv", 505),
        ("f: \"A \\\"<b>\\\", c\" <sip:a@b>;tag=1\r\n", "", 400),
        ("Subject: one", "Subject one", 400),
    ] {
        let fault = Message::parse(INVITE.replace(from, to).as_bytes()).expect_err(to);
        assert_eq!(fault.error.status, status, "{to}: {}", fault.error.why);
        assert!(fault.request.is_some(), "{to}");
    }
}

#[test]
fn the_top_via_can_be_edited_in_a_list() {
    let mut invite = request(INVITE);
    let via = invite.via().expect("a via").with_param("received", "198.51.100.7").with_param("rport", "99");
    invite.headers.replace_first("Via", &via.to_string());
    assert_eq!(invite.via().expect("a via").param("rport"), Some("99"));
    assert_eq!(invite.headers.values("Via").count(), 3);
}

proptest::proptest! {
    #[test]
    fn no_octets_panic(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = Message::parse(&octets);
    }

    #[test]
    fn no_damage_panics_and_what_parses_reads_back(at in 0..INVITE.len(), octet: u8) {
        let mut damaged = INVITE.as_bytes().to_vec();
        damaged[at] = octet;
        if let Ok(message) = Message::parse(&damaged) {
            let again = Message::parse(&message.to_bytes()).expect("what we wrote");
            proptest::prop_assert_eq!(again.to_bytes(), message.to_bytes());
        }
    }
}
