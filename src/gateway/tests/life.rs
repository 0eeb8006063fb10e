//! A call from its INVITE to its last word.

use super::*;

#[test]
fn a_call_from_invite_to_bye() {
    let mut w = World::new(config());
    w.dials("8 0 101");
    let asked = w.invited(PLATFORM);
    assert_eq!(asked.uri.to_string(), format!("sip:+4930@{PLATFORM}"));
    assert_eq!(asked.header("X-Offhook-Call"), Some(w.call().to_string().as_str()));
    assert_eq!(asked.max_forwards().expect("a number"), Some(69));
    w.rings(PLATFORM, &asked);
    w.pass(2000);
    w.takes(PLATFORM, &asked, "0 101");
    let ok = w.response(CARRIER, 200);
    assert!(String::from_utf8_lossy(&ok.body).contains("RTP/AVP 0 101"), "the platform's codec, so that nothing is transcoded");
    w.send(CARRIER, &in_dialog(&ok, "ACK", 1, "", ""));
    assert_eq!((w.gateway.stats().calls, w.gateway.stats().dialogs, w.gateway.stats().ports), (1, 2, 2));
    w.pass(5000);
    w.hangs_up(&ok);
    let bye = w.request(PLATFORM, &Method::BYE);
    w.answer(PLATFORM, &bye, 200, None);
    w.quiet();
    assert_eq!(w.names(), ["call.started", "call.answered", "call.ended"]);
    let terminal = w.terminal();
    assert_eq!((terminal.outcome, terminal.ended_as, terminal.ended_by), (Outcome::Answered, EndedAs::Completed, EndedBy::Caller));
    assert_eq!((terminal.ring_ms, terminal.talk_ms), (Some(2000), 5000));
    assert!(w.events.iter().zip(1..).all(|(e, n)| e.sequence == n), "a sequence without a gap");
    w.pass(60_000);
    let stats = w.gateway.stats();
    assert_eq!((stats.calls, stats.dialogs, stats.transactions, stats.ports), (0, 0, 0, 0));
    assert_eq!(w.gateway.endpoint.transactions(), 0, "and nothing lingers");
}

#[test]
fn an_invite_without_an_offer_gets_ours() {
    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", None));
    w.response(CARRIER, 100);
    let asked = w.invited(PLATFORM);
    w.takes(PLATFORM, &asked, "0 101");
    let ok = w.response(CARRIER, 200);
    assert!(String::from_utf8_lossy(&ok.body).contains("RTP/AVP 0 8 9 101"));
    w.send(CARRIER, &in_dialog(&ok, "ACK", 1, "", &sdp(CARRIER, "8 101")));
    assert!(matches!(w.media.last(), Some(media::Command::Agree { leg: Side::Caller, agreed, .. }) if agreed.codec == Codec::Pcma));
}

#[test]
fn a_hold_is_answered_and_media_told() {
    let mut w = World::new(config());
    let (ok, _) = w.answered();
    let hold = format!("{}a=sendonly\r\n", sdp(CARRIER, "8 101"));
    w.send(CARRIER, &in_dialog(&ok, "INVITE", 2, "", &hold));
    let held = w.response(CARRIER, 200);
    let body = String::from_utf8_lossy(&held.body).into_owned();
    assert!(body.contains("a=recvonly") && body.contains("RTP/AVP 8 101"), "{body}");
    assert!(matches!(w.media.last(), Some(media::Command::Agree { leg: Side::Caller, agreed, .. }) if !agreed.send));
    // A CSeq that does not rise is refused.
    w.send(CARRIER, &in_dialog(&ok, "INFO", 1, "", ""));
    w.response(CARRIER, 500);
}

#[test]
fn a_cancel_ends_the_call_even_where_it_crosses_the_answer() {
    let mut w = World::new(config());
    w.dials("0");
    let asked = w.invited(PLATFORM);
    w.rings(PLATFORM, &asked);
    let cancel = request("CANCEL", &format!("sip:+4930@{US}"), 1, "", "").replace("z9hG4bKCANCEL1", "z9hG4bKINVITE1");
    w.send(CARRIER, &cancel);
    w.response(CARRIER, 200);
    w.response(CARRIER, 487);
    w.request(PLATFORM, &Method::CANCEL);
    assert_eq!((w.terminal().outcome, w.terminal().ended_as), (Outcome::Cancelled, EndedAs::Cancelled));
    // The platform had just answered: its dialog is acknowledged and ended.
    w.takes(PLATFORM, &asked, "0");
    w.request(PLATFORM, &Method::BYE);
    assert_eq!(w.names(), ["call.started", "call.ended"]);
}

#[test]
fn an_answer_that_nobody_acknowledges_ends_the_call() {
    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
    let asked = w.invited(PLATFORM);
    w.answer(PLATFORM, &asked, 200, Some(&sdp(PLATFORM, "0")));
    w.pass(32_500);
    assert!(w.terminal().reason.expect("a reason").contains("never acknowledged"));
    assert_eq!(w.gateway.stats().calls, 0);
}
