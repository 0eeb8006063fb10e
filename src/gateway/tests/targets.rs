//! Who is tried next, and what the caller hears of it.

use super::*;

#[test]
fn a_target_that_fails_is_followed_by_the_next_and_the_caller_hears_one_ringing() {
    let mut w = World::new(config());
    w.dials("0 101");
    let first = w.invited(PLATFORM);
    w.rings(PLATFORM, &first);
    w.refuses(PLATFORM, &first, 503);
    let second = w.invited(SECOND);
    w.answer(SECOND, &second, 180, None);
    w.takes(SECOND, &second, "0");
    w.response(CARRIER, 200);
    w.quiet();
    let Kind::Answered { target, dtmf, .. } = &w.events[1].kind else { panic!("answered") };
    assert_eq!((target.as_str(), dtmf.platform), ("second", Some(DtmfMethod::Info)));
}

#[test]
fn the_networks_own_cause_tells_how_a_call_was_met_and_the_operator_knows_better() {
    let met = |outcomes: Outcomes| {
        let mut config = config();
        config.table.trunks[0].outcomes = outcomes;
        config.table.routes[0].targets = vec![0];
        let mut w = World::new(config);
        w.dials("0");
        let asked = w.invited(PLATFORM);
        let mut refused = asked.response(480, None, Some("t"));
        refused.headers.push("Reason", "SIP;cause=480, Q.850;cause=17;text=\"User busy\"");
        w.send(PLATFORM, std::str::from_utf8(&refused.to_bytes()).expect("text"));
        w.request(PLATFORM, &Method::ACK);
        w.response(CARRIER, 480);
        w.terminal().outcome
    };
    assert_eq!(met(Outcomes::default()), Outcome::Busy);
    assert_eq!(met(Outcomes::with([(480, Outcome::Rejected)].into())), Outcome::Rejected);
}

#[test]
fn a_busy_target_is_an_answer_and_silence_is_not() {
    let mut w = World::new(config());
    w.dials("0");
    let asked = w.invited(PLATFORM);
    w.refuses(PLATFORM, &asked, 486);
    w.response(CARRIER, 486);
    assert_eq!((w.terminal().outcome, w.terminal().sip_status), (Outcome::Busy, Some(486)));
    assert_eq!(serde_json::to_value(w.terminal()).expect("JSON")["outcome_table"], crate::route::outcome::VERSION);
    assert!(w.terminal().reason.expect("a reason").contains("target \"platform\": 486"));

    let mut w = World::new(config());
    w.dials("0");
    let first = w.invited(PLATFORM);
    w.rings(PLATFORM, &first);
    w.pass(20_000);
    let cancel = w.request(PLATFORM, &Method::CANCEL);
    w.answer(PLATFORM, &cancel, 200, None);
    w.refuses(PLATFORM, &first, 487);
    let second = w.invited(SECOND);
    w.answer(SECOND, &second, 180, None);
    w.pass(20_000);
    w.request(SECOND, &Method::CANCEL);
    w.response(CARRIER, 480);
    assert_eq!((w.terminal().outcome, w.events.len()), (Outcome::NoAnswer, 2));
}

/// Found by seed 4488 of the simulator: all peers of a maker may have one tag.
#[test]
fn a_late_answer_of_a_target_that_was_given_up_is_ended_whatever_its_tag() {
    let mut w = World::new(config());
    w.dials("0");
    let first = w.invited(PLATFORM);
    w.rings(PLATFORM, &first);
    w.pass(20_000);
    w.request(PLATFORM, &Method::CANCEL);
    let second = w.invited(SECOND);
    w.takes(SECOND, &second, "0");
    w.response(CARRIER, 200);
    w.takes(PLATFORM, &first, "0");
    w.request(PLATFORM, &Method::BYE);
    w.quiet();
}

#[test]
fn a_platform_that_dies_in_mid_call_is_noticed_and_one_more_target_tried() {
    let mut w = World::new(config());
    w.answered();
    w.target_falls_silent();
    w.request(PLATFORM, &Method::OPTIONS);
    w.pass(4000);
    // Repetitions of the OPTIONS, and a BYE in case it hears again.
    w.wire.retain(|(to, _)| to.to_string() != PLATFORM);
    let second = w.invited(SECOND);
    w.refuses(SECOND, &second, 500);
    let bye = w.request(CARRIER, &Method::BYE);
    assert!(bye.header("Reason").expect("a reason").contains("the platform is gone and no target is left"));
    let terminal = w.terminal();
    assert_eq!((terminal.outcome, terminal.ended_as, terminal.ended_by), (Outcome::Answered, EndedAs::Failed, EndedBy::Gateway));
    assert_eq!(w.names(), ["call.started", "call.answered", "call.silence", "call.failed"]);
}
