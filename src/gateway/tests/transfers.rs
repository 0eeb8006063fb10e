//! The platform hands the caller to a human.

use super::*;

#[test]
fn a_caller_is_handed_to_a_human_with_the_context() {
    let mut w = World::new(config());
    let (ok, asked) = w.answered();
    let trying = w.refers(&asked, 1, &format!("sip:anna@{HUMAN}?User-to-User=order%2042&Subject=no"));
    assert_eq!(trying.body, "SIP/2.0 100 Trying\r\n");
    w.answer(PLATFORM, &trying, 200, None);
    let human = w.invited(HUMAN);
    assert_eq!((human.header("User-to-User"), human.header("Subject")), (Some("order 42"), None));
    w.takes(HUMAN, &human, "0 101");
    let done = w.request(PLATFORM, &Method::NOTIFY);
    assert!(done.header("Subscription-State").expect("a state").starts_with("terminated"));
    w.request(PLATFORM, &Method::BYE);
    w.quiet();
    w.hangs_up(&ok);
    w.request(HUMAN, &Method::BYE);
    assert_eq!(w.names(), ["call.started", "call.answered", "call.transferred", "call.ended"]);
    assert_eq!(w.terminal().ended_as, EndedAs::Transferred);

    let mut w = World::new(config());
    let (_, asked) = w.answered();
    w.send(PLATFORM, &from_platform(&asked, "REFER", 1, "Refer-To: <sip:900@198.51.100.7>\r\n", ""));
    w.response(PLATFORM, 403);
}

#[test]
fn a_transfer_that_nobody_takes_hands_the_caller_back() {
    let mut w = World::new(config());
    let (ok, asked) = w.answered();
    let opened = |w: &World| {
        w.media
            .iter()
            .filter_map(|c| if let media::Command::Open { leg: Side::Callee, local, .. } = c { Some(*local) } else { None })
            .collect::<Vec<_>>()
    };
    w.refers(&asked, 1, &format!("sip:anna@{HUMAN}"));
    let human = w.invited(HUMAN);
    w.refuses(HUMAN, &human, 486);
    let told = w.request(PLATFORM, &Method::NOTIFY);
    assert_eq!(told.body, "SIP/2.0 486 Busy Here\r\n");
    assert!(told.header("Subscription-State").expect("a state").starts_with("terminated"));
    w.quiet();
    let ports = opened(&w);
    assert_eq!((ports.len(), ports.first()), (3, ports.last()), "the platform has the port that its SDP knows");
    assert!(w.media.iter().rev().any(|c| matches!(c, media::Command::Bridge { on: true, .. })));
    assert_eq!(w.gateway.stats().ports, 2);
    // The platform may try again, and hang up in the end.
    w.refers(&asked, 2, &format!("sip:anna@{HUMAN}"));
    w.invited(HUMAN);
    w.pass(20_000);
    w.wire.retain(|(to, _)| to.to_string() == CARRIER);
    w.hangs_up(&ok);
    w.request(PLATFORM, &Method::BYE);
    assert_eq!(w.names(), ["call.started", "call.answered", "call.ended"]);
    assert_eq!((w.terminal().ended_as, w.gateway.stats().ports), (EndedAs::Completed, 0));
}

#[test]
fn a_transfer_that_nobody_takes_ends_the_call_where_the_platform_has_hung_up() {
    let mut w = World::new(config());
    let (_, asked) = w.answered();
    w.refers(&asked, 1, &format!("sip:anna@{HUMAN}"));
    let human = w.invited(HUMAN);
    w.send(PLATFORM, &from_platform(&asked, "BYE", 2, "", ""));
    w.response(PLATFORM, 200);
    w.refuses(HUMAN, &human, 486);
    let bye = w.request(CARRIER, &Method::BYE);
    assert!(bye.header("Reason").expect("a reason").contains("the platform has hung up"));
    w.quiet();
    assert_eq!((w.names().last(), w.gateway.stats().ports), (Some(&"call.failed"), 0));
}
