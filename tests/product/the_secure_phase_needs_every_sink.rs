//! A phase stands when every sink has confirmed it; a recorder that hangs makes it fail, aloud, and the call goes on.

use serde_json::json;

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp},
};

#[test]
fn a_recorder_that_hangs_is_found_out() {
    let platform_at = free_port();
    let setup = Setup { route_more: "record = true", plant: Some("recorder-hangs"), ..Setup::to(&format!("sip:platform@{platform_at}")) };
    let mut bench = Bench::start("recorder_hangs", &setup);
    let taker = Sipp::start(
        &bench.folder,
        &Options { scenario: "platform_answer", to: None, at: platform_at, transport: "u1", calls: (1, 1), calls_from: None },
    );
    let line = "+493023125101;+493023125201;1;\n";
    let caller = Sipp::start(
        &bench.folder,
        &Options {
            scenario: "carrier_talks_long",
            to: Some(bench.sip),
            at: free_port(),
            transport: "u1",
            calls: (1, 1),
            calls_from: Some(line),
        },
    );
    let call = bench.call_that_is_up();
    let secure = format!("/v1/calls/{call}/secure");
    let (status, problem) = bench.post(&secure, &json!({"action": "start", "reason": "payment"}));
    assert_eq!(status, 503, "{problem}");
    assert!(problem.contains("recorder"), "the sink is named: {problem}");
    let (_, record) = bench.get(&format!("/v1/calls/{call}"));
    assert!(!record.contains("call.secure.started"), "nobody is told that it stands: {record}");
    assert!(bench.log().contains("the secure phase is not confirmed"), "an alarm: {}", bench.log());
    let (status, health) = bench.get("/healthz");
    assert_eq!(status, 503, "and who watches sees it: {health}");
    // With the recording closed, the phase can stand.
    let (status, answer) = bench.post(&secure, &json!({"action": "start", "reason": "payment"}));
    assert_eq!(status, 200, "{answer}");
    assert!(!answer.contains("recorder"), "{answer}");
    caller.finish();
    taker.finish();
    let record = bench.wait_for_records(1).remove(0);
    assert_eq!(record["offhook_ended_as"], "completed");
    bench.wait_until_at_rest();
    bench.stop();
}
