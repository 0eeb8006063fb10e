//! A target that is written in batches: a call waits for the next one, or for whoever says that the campaign has ended.

use serde_json::Value;

use super::{
    a_crm_that_is_down_loses_nothing::{calls, offhook},
    harness::{Bench, Setup, free_port},
};

#[test]
fn and_is_written_at_once_when_somebody_asks() {
    let platform_at = free_port();
    let mut setup = Setup::to(&format!("sip:platform@{platform_at};transport=udp"));
    // Once a week: no batch begins while this runs, or as good as none.
    setup.crm_more = "model = \"batch\"\nbatch_every_ms = 604800000\nbatch_at = \"03:07\"";
    let bench = Bench::start("batch", &setup);
    calls(&bench, platform_at, 3);
    // The time in which their outcome could have come is over as well: nothing more happens by itself.
    bench.wait("three writes that wait", || (bench.metric("offhook_outbox_depth") == Some(3.0)).then_some(()));
    assert_eq!(upserts(&bench), 0);
    assert_eq!(status(&bench), (0, 3));

    assert_eq!(offhook(&bench, "batch", &["run", "--target", "nobody", "--by", "anna"]).0, Some(1), "404");
    assert_eq!(offhook(&bench, "batch", &["run", "--target", "hubspot", "--by", "anna"]).0, Some(0));
    let records = bench.wait_for_records(3);
    assert_eq!(records.len(), 3);
    bench.wait("nothing waits", || (bench.metric("offhook_outbox_depth") == Some(0.0)).then_some(()));
    assert_eq!(status(&bench), (3, 0));
    assert!(upserts(&bench) <= 2, "three calls in one request, and one more where an outcome was still waited for");
}

fn upserts(bench: &Bench) -> usize {
    let is = |line: &&Value| line["kind"] == "request" && line["what"].as_str().is_some_and(|what| what.contains("upsert"));
    bench.ledger().iter().filter(is).count()
}

/// Calls that are written and that wait, of the last batch and the next.
fn status(bench: &Bench) -> (u64, u64) {
    let (_, told) = offhook(bench, "batch", &["status", "--json"]);
    let told: Value = serde_json::from_str(&told).expect("a document");
    let sum = |name: &str| ["last", "next"].iter().filter_map(|run| told["targets"][0][run][name].as_u64()).sum();
    assert_eq!((sum("missing"), sum("rejected")), (0, 0), "{told}");
    (sum("written"), sum("pending"))
}
