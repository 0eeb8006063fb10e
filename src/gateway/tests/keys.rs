//! Keys that the caller presses, and what of them is written down.

use super::*;

#[test]
fn keys_are_runs_and_what_a_phase_hides_is_counted() {
    let mut w = World::new(config());
    let (ok, _) = w.answered();
    for key in "47#11".chars() {
        w.presses(key, 100);
        w.pass(200);
    }
    w.secure(1, true, "payment");
    // The card by INFO: nothing of it goes anywhere.
    let before = w.media.len();
    for cseq in 2..6 {
        let body = "Signal=4\r\nDuration=100\r\n";
        let info = in_dialog(&ok, "INFO", cseq, "", body).replace("application/sdp", "application/dtmf-relay");
        w.send(CARRIER, &info);
        w.response(CARRIER, 200);
    }
    assert_eq!(w.media.len(), before, "no key for the platform");
    w.pass(4000);
    let runs = w.events.iter().filter_map(|e| match &e.kind {
        Kind::Dtmf { digits, count, .. } => Some((digits.as_deref(), *count)),
        _ => None,
    });
    assert_eq!(runs.collect::<Vec<_>>(), [(Some("47#"), None), (Some("11"), None), (None, Some(4))]);
    w.quiet();
}

#[test]
fn keys_cross_to_the_method_of_the_other_leg() {
    let mut config = config();
    config.table.routes[0].targets = vec![1];
    let mut w = World::new(config);
    w.dials("0 101");
    let asked = w.invited(SECOND);
    assert!(!String::from_utf8_lossy(&asked.body).contains("telephone-event"), "this target takes INFO");
    w.takes(SECOND, &asked, "0");
    w.response(CARRIER, 200);
    w.presses('5', 120);
    let info = w.request(SECOND, &Method::INFO);
    assert_eq!(info.body, "Signal=5\r\nDuration=120\r\n");
}

#[test]
fn a_call_writes_no_more_than_its_share_and_always_its_last_word() {
    let mut w = World::new(config());
    let (ok, _) = w.answered();
    for _ in 0..100 {
        w.presses('#', 50);
    }
    w.wire.clear();
    w.send(CARRIER, &in_dialog(&ok, "BYE", 2, "", ""));
    let written = u32::try_from(w.events.len()).expect("fits");
    assert_eq!((written, w.terminal().omitted), (EVENTS_MAX + 1, 102 - EVENTS_MAX));
}
