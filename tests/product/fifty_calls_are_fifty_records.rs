//! Fifty calls with RTP and keys over UDP, over one TCP connection and over a connection a call: fifty records each, equal to SIPp's own log.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp, logged},
};

/// Calls, and calls a second. `OFFHOOK_TEST_CALLS=500` plays five hundred at 50/s, which is for a machine of one's own.
fn load() -> (u32, u32) {
    match std::env::var("OFFHOOK_TEST_CALLS").ok().and_then(|n| n.parse().ok()) {
        Some(calls) => (calls, 50),
        None => (50, 10),
    }
}

fn fifty(name: &str, carrier: &str, platform: &str) {
    let (calls, rate) = load();
    let platform_at = free_port();
    let transport = if platform.starts_with('t') { "tcp" } else { "udp" };
    let bench = Bench::start(name, &Setup::to(&format!("sip:platform@{platform_at};transport={transport}")));
    let taker = Sipp::start(
        &bench.folder,
        &Options { scenario: "platform_answer", to: None, at: platform_at, transport: platform, calls: (calls, calls), calls_from: None },
    );
    // Different callers, numbers and keys, so that a record that got another call's fields shows.
    let lines: String = (0..calls).map(|n| format!("+493023{n:06};+493024{:06};{}#;\n", n % 10, 1000 + n * 37)).collect();
    let caller = Sipp::start(
        &bench.folder,
        &Options {
            scenario: "carrier_call",
            to: Some(bench.sip),
            at: free_port(),
            transport: carrier,
            calls: (calls, rate),
            calls_from: Some(&lines),
        },
    );
    let log = logged(&caller.finish());
    taker.finish();
    assert_eq!(log.len(), usize::try_from(calls).expect("small"), "SIPp's own log");

    let records = bench.wait_for_records(log.len());
    assert_eq!(records.len(), log.len(), "one record a call and not one more");
    let by_caller: BTreeMap<_, _> = records.iter().map(|r| (r["hs_call_from_number"].clone(), r)).collect();
    let ids: BTreeSet<_> = records.iter().map(|r| &r["offhook_call_id"]).collect();
    assert_eq!(ids.len(), log.len());
    for call in &log {
        let record = by_caller.get(&call.from).unwrap_or_else(|| panic!("no record of {}", call.from));
        let digits = call.digits.trim_end_matches('#');
        assert_eq!(record.get("offhook_digits").map(String::as_str), Some(digits), "{call:?}: {record:?}");
        assert_eq!((record["hs_call_to_number"].as_str(), record["offhook_outcome"].as_str()), (call.to.as_str(), "answered"), "{call:?}");
        assert_eq!(record["offhook_ended_as"], "completed");
        let talked: i64 = record["hs_call_duration"].parse().expect("ms");
        assert!((talked - call.talked_ms).abs() <= 100, "{talked} ms in the record, {} ms in SIPp's log", call.talked_ms);
    }
    bench.wait_until_at_rest();
}

#[test]
fn over_udp() {
    fifty("fifty-udp", "u1", "u1");
}

#[test]
fn over_one_tcp_connection() {
    fifty("fifty-t1", "t1", "t1");
}

#[test]
fn over_a_tcp_connection_a_call() {
    fifty("fifty-tn", "tn", "u1");
}
