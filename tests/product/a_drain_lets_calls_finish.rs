//! SIGTERM: calls that stand may finish, new ones are refused, and everything is written before the process ends.

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp},
};

#[test]
fn the_call_ends_as_its_caller_wants_and_the_next_is_refused() {
    let platform_at = free_port();
    let mut bench = Bench::start("drain", &Setup::to(&format!("sip:platform@{platform_at}")));
    let taker = Sipp::start(
        &bench.folder,
        &Options { scenario: "platform_answer", to: None, at: platform_at, transport: "u1", calls: (1, 1), calls_from: None },
    );
    let line = "+493023125101;+493023125201;1;\n";
    let call =
        |scenario| Options { scenario, to: Some(bench.sip), at: free_port(), transport: "u1", calls: (1, 1), calls_from: Some(line) };
    let caller = Sipp::start(&bench.folder, &call("carrier_talks_long"));
    bench.call_that_is_up();
    bench.terminate();
    // Refused with 503, which this scenario asks for.
    Sipp::start(&bench.folder, &call("carrier_is_refused")).finish();
    caller.finish();
    taker.finish();
    bench.wait_for_end();
    bench.start_gateway();
    let record = bench.wait_for_records(1).remove(0);
    assert_eq!((record["offhook_outcome"].as_str(), record["offhook_ended_as"].as_str()), ("answered", "completed"));
    assert_eq!(bench.records().len(), 1, "a refused call has no record");
}
