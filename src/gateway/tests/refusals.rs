//! What is not taken, and with which answer.

use super::*;

#[test]
fn what_comes_wrong_gets_the_right_answer() {
    let uri = format!("sip:+4930@{US}");
    let offer = sdp(CARRIER, "0");
    let invite_with = |headers: &str| request("INVITE", &uri, 1, headers, &offer);
    let plain = invite("+4930", Some(&offer));
    let cases = [
        (invite("0800", Some(&offer)), 404, "number"),
        (plain.replace("Max-Forwards: 70", "Max-Forwards: 0"), 483, ""),
        (invite_with("Require: 100rel\r\n"), 420, ""),
        (plain.replace(&format!("INVITE {uri}"), "INVITE tel:+4930"), 416, ""),
        (plain.replace("application/sdp", "text/plain"), 415, "body"),
        (plain.replace("m=audio 4000", "m=audio 4x00"), 400, "sdp"),
        (invite("+4930", Some(&sdp(CARRIER, "18"))), 488, "codec"),
        (request("REGISTER", &uri, 1, "", ""), 405, ""),
        (request("FROBNICATE", &uri, 1, "", ""), 501, ""),
        (request("BYE", &uri, 1, "", ""), 481, ""),
        (request("OPTIONS", &uri, 1, "", ""), 200, ""),
        (plain.replace(&format!("To: <{uri}>"), &format!("To: <{uri}>;tag=nobody")), 481, ""),
    ];
    for (text, status, cause) in cases {
        let mut w = World::new(config());
        w.send(CARRIER, &text);
        let first = text.lines().next().unwrap_or_default().to_owned();
        match w.next(CARRIER) {
            Message::Response(response) => assert_eq!(response.status, status, "{first}"),
            Message::Request(request) => panic!("{} for {first}", request.method),
        }
        assert_eq!(w.names(), [""; 0], "a refused call has no event");
        let refused = w.gateway.stats().refused;
        assert_eq!(refused.get(cause).copied().unwrap_or(0), u64::from(!cause.is_empty()), "{first}: {refused:?}");
        assert_eq!(w.gateway.stats().ports, 0);
    }
    let mut w = World::new(config());
    w.send("198.51.100.1:5060", &invite("+4930", None));
    let Some((_, Message::Response(response))) = w.wire.pop_front() else { panic!("an answer") };
    assert_eq!((response.status, w.gateway.stats().refused.get("stranger")), (403, Some(&1)));
}

#[test]
fn too_much_is_refused_with_the_status_of_the_configuration() {
    let mut config = config();
    (config.calls_max, config.overload_status, config.retry_after_s) = (0, 480, Some(9));
    let mut w = World::new(config);
    assert_eq!(w.dials_as("c1", 480).header("Retry-After"), Some("9"));

    for (word, carry, status) in [(JournalWord::Closed, false, 503), (JournalWord::Closed, true, 100), (JournalWord::Opened, false, 100)] {
        let mut config = self::config();
        config.carry_without_journal = carry;
        let mut w = World::new(config);
        w.gateway.handle_journal(word);
        w.dials_as("c1", status);
    }

    let mut config = self::config();
    config.events_max = usize::try_from(EVENTS_MAX).expect("fits") + 1;
    let mut w = World::new(config);
    w.dials("0");
    w.dials_as("c2", 503);
    assert_eq!(w.gateway.stats().refused.get("events"), Some(&1), "the first call's events are spoken for");
}

#[test]
fn a_drain_takes_no_call_and_ends_those_there_are_when_told() {
    let mut w = World::new(config());
    w.answered();
    w.command(Command::Drain);
    w.dials_as("c2", 503);
    assert_eq!(w.gateway.live_calls(), 1);
    w.command(Command::EndCalls);
    w.request(CARRIER, &Method::BYE);
    w.request(PLATFORM, &Method::BYE);
    assert_eq!((w.gateway.live_calls(), w.terminal().reason.as_deref()), (0, Some("gateway_stopped")));
}
