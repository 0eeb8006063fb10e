//! Phases in which nothing of the caller is heard or kept.

use super::*;
use crate::event::SecureBy;

#[test]
fn a_phase_is_acknowledged_when_every_sink_has_confirmed() {
    let mut w = World::new(config());
    let (_, asked) = w.answered();
    w.wants_secrecy(&asked, 1);
    w.response(PLATFORM, 200);
    w.secure(7, true, "again");
    assert_eq!(w.secured, [(7, SecureAnswer::Already)]);
    w.pass(3000);
    w.secure(8, false, "");
    assert!(matches!(w.secured[1], (8, SecureAnswer::Confirmed { media_from_ms: 3000, .. })), "{:?}", w.secured);
    let Kind::SecureEnded { reason, .. } = &w.events.last().expect("an event").kind else { panic!("ended") };
    assert_eq!(reason, "payment");
}

#[test]
fn a_recorder_that_hangs_gets_no_phase_acknowledged_and_nothing_more_to_record() {
    let mut w = World::new(config());
    let (_, asked) = w.answered();
    w.sinks = vec![Sink::Media];
    w.wants_secrecy(&asked, 1);
    w.quiet();
    // Who asks meanwhile is not told that it stands.
    w.wants_secrecy(&asked, 9);
    w.response(PLATFORM, 503);
    w.pass(1500);
    w.response(PLATFORM, 503);
    assert!(matches!(w.media.last(), Some(media::Command::Unrecord { .. })));
    assert!(!w.names().contains(&"call.secure.started"));
    // Without the recorder, the next ask stands.
    w.wants_secrecy(&asked, 10);
    w.response(PLATFORM, 200);
    assert_eq!(w.names().last(), Some(&"call.secure.started"));
}

#[test]
fn the_callers_keys_switch_a_phase_that_outlives_the_platform_and_ends_with_a_transfer() {
    let mut w = World::new(config());
    let (_, asked) = w.answered();
    w.reports(|call, at| Report::KeySequence { call, on: true, at });
    assert!(matches!(w.events.last().map(|e| &e.kind), Some(Kind::SecureStarted { by: SecureBy::Keys, .. })));
    w.refers(&asked, 1, &format!("sip:anna@{HUMAN}"));
    let opened = w.media.iter().rev().find_map(|c| if let media::Command::Secure { on, .. } = c { Some(*on) } else { None });
    assert_eq!(opened, Some(false), "the human hears the caller");
    assert!(matches!(w.events.last().map(|e| &e.kind), Some(Kind::SecureEnded { by: SecureBy::Rule, .. })));

    let mut w = World::new(config());
    w.answered();
    w.secure(1, true, "payment");
    w.target_falls_silent();
    w.pass(4000);
    let second = w.invited(SECOND);
    w.answer(SECOND, &second, 200, Some(&sdp(SECOND, "0")));
    assert!(!w.names().contains(&"call.secure.ended"), "the caller may be reading a card");
    w.secure(2, false, "");
    assert_eq!(w.names().last(), Some(&"call.secure.ended"));
}
