//! The gateway is killed in mid-load and started again: what it acknowledged is there, nothing is doubled, and calls that were open are closed as failed.

use std::{collections::BTreeSet, thread::sleep, time::Duration};

use serde_json::json;

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp},
};

#[test]
fn nothing_acknowledged_is_lost_and_nothing_doubled() {
    let platform_at = free_port();
    let mut bench = Bench::start("killed", &Setup::to(&format!("sip:platform@{platform_at};transport=udp")));
    let _taker = Sipp::start(
        &bench.folder,
        &Options { scenario: "platform_answer", to: None, at: platform_at, transport: "u1", calls: (40, 40), calls_from: None },
    );
    let lines: String = (0..40).map(|n| format!("+4930231251{n:02};+493023125201;1;\n")).collect();
    let _caller = Sipp::start(
        &bench.folder,
        &Options {
            scenario: "carrier_plain",
            to: Some(bench.sip),
            at: free_port(),
            transport: "u1",
            calls: (40, 10),
            calls_from: Some(&lines),
        },
    );
    // Some calls are over, some stand, some have not begun.
    sleep(Duration::from_millis(2500));
    let before = bench.records();
    let told = before.values().next().map(|r| r["offhook_call_id"].clone()).expect("a call has reached the CRM");
    let body = json!({"id": "msg-1", "type": "call.ended", "call_id": told, "time": "2027-01-01T00:00:00Z", "data": {"disposition_code": "RESOLVED"}});
    assert_eq!(bench.webhook("msg-1", &body), 200);
    bench.kill();
    drop(_caller);
    drop(_taker);
    bench.start_gateway();

    bench.wait("every call closed in the CRM", || {
        let records = bench.records();
        let open = records.values().filter(|r| !r.contains_key("offhook_ended_as")).count();
        let acknowledged =
            records.values().any(|r| r["offhook_call_id"] == told && r.get("offhook_disposition").is_some_and(|d| d == "RESOLVED"));
        (open == 0 && acknowledged).then_some(())
    });
    let records = bench.records();
    let calls: BTreeSet<_> = records.values().map(|r| r["offhook_call_id"].as_str()).collect();
    assert_eq!(calls.len(), records.len(), "no call has two records");
    for (id, record) in &before {
        assert_eq!(records[id]["offhook_call_id"], record["offhook_call_id"], "a record stays that of its call");
    }
    let restarted: Vec<_> =
        records.values().filter(|r| r.get("offhook_reason").is_some_and(|why| why.contains("gateway_restart"))).collect();
    assert!(!restarted.is_empty(), "calls stood when it was killed: {records:#?}");
    assert!(restarted.iter().all(|r| r["offhook_ended_as"] == "failed"));
    bench.wait_until_at_rest();
}
