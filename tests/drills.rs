//! The six ways in which write-back fails elsewhere, each rehearsed, and chaos over all of them.
//!
//! A drill holds the CRM against its generator's script, which shares no code with the gateway's fold. They stand apart from the other product tests, whose calls
//! are in real time: a thousand calls beside them would be heard.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test ends where its world breaks

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// A new folder below `target/`.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Holds a drill; its report.
fn drill(name: &str, more: &[&str]) -> Value {
    let folder = folder(&format!("drill-{name}{}", more.join("")));
    let out = Command::new(env!("CARGO_BIN_EXE_offhook"))
        .args(["drill", name, "--json", "--data"])
        .arg(folder.join("data"))
        .args(more)
        .output()
        .expect("a drill");
    serde_json::from_slice(&out.stdout).unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&out.stderr)))
}

fn held(report: &Value) {
    assert_eq!(
        (&report["ok"], &report["lost"], &report["doubled"], &report["wrong"], &report["dead"]),
        (&true.into(), &0.into(), &0.into(), &0.into(), &0.into()),
        "{report:#}"
    );
}

#[test]
fn duplicate_records_from_webhook_retries() {
    let report = drill("ordering", &["--runs", "2", "--seed", "3"]);
    held(&report);
    let sent = report["webhooks"].as_u64().expect("a count");
    assert!(sent > 2 * 3 * 12, "webhooks were sent more than once: {sent}");
}

#[test]
fn silent_loss_from_delivery_failures() {
    held(&drill("outage", &["--seed", "4"]));
}

#[test]
fn rate_limits_under_campaign_load() {
    held(&drill("throttle", &["--runs", "2", "--seed", "5"]));
}

/// Each of the three refusals waits for a person, with the field and what the CRM said.
fn nothing_is_discarded(kind: &str, said: [&str; 3]) {
    let report = drill("rejected", &["--seed", "6", "--kind", kind]);
    held(&report);
    assert_eq!(report["review"], 6, "{report:#}");
    let shown = |field: &str| {
        report["checks"]
            .as_array()
            .expect("checks")
            .iter()
            .any(|c| c["ok"] == true && c["detail"].as_str().is_some_and(|d| d.contains(field)))
    };
    for said in said {
        assert!(shown(said), "{said}: {report:#}");
    }
}

#[test]
fn validation_that_silently_discards() {
    nothing_is_discarded(
        "hubspot",
        [
            "offhook_disposition: NO SUCH WORD was not one of the allowed options",
            "offhook_next_action: the day after tomorrow was not a valid date",
            "company: nobody in `contacts`",
        ],
    );
}

#[test]
fn validation_that_silently_discards_in_salesforce() {
    nothing_is_discarded(
        "salesforce",
        [
            "Disposition__c: Disposition__c: bad value for restricted picklist field: NO SUCH WORD",
            "Next_Action__c: Cannot deserialize instance of datetime",
            "Customer_Number__c: nobody in `Contact`",
        ],
    );
}

#[test]
fn validation_that_silently_discards_in_dynamics() {
    nothing_is_discarded(
        "dynamics",
        [
            "'offhook_disposition' on record of type 'phonecall' is outside the valid range",
            "offhook_next_action: Cannot convert the literal 'the day after tomorrow' to the expected type 'Edm.DateTimeOffset'",
            "offhook_customer_number: nobody in `contacts`",
        ],
    );
}

#[test]
fn tokens_that_end_in_mid_campaign() {
    held(&drill("expiry", &["--runs", "2", "--seed", "7"]));
}

#[test]
fn event_order_that_leaves_records_incomplete() {
    held(&drill("ordering", &["--seed", "8"]));
}

#[test]
fn a_thousand_lost_records_are_recovered() {
    let report = drill("lost", &["--seed", "11"]);
    held(&report);
    assert_eq!(report["calls"], 1000, "{report:#}");
}

/// Five outcomes into Salesforce, each a record with a Task beside it: every mapped field of both right, no other touched, each Task linked with its call, both
/// with the right person.
#[test]
fn the_five_outcomes_reach_salesforce() {
    let report = drill("ordering", &["--kind", "salesforce", "--seed", "10"]);
    held(&report);
    let untouched = |check: &Value| check["name"] == "no other field was touched" && check["ok"] == true;
    assert!(report["checks"].as_array().expect("checks").iter().any(untouched), "{report:#}");
    // What was read back were Tasks as well as calls.
    let ledger = std::fs::read_to_string(Path::new(report["data"].as_str().expect("a folder")).join("crm-ledger.jsonl")).expect("a ledger");
    let made = |object: &str| {
        let lines = ledger.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|line| line["what"] == "create" && line["object"] == object).count()
    };
    assert_eq!((made("Voice_Call__c"), made("Task")), (20, 20));
}

/// The same into Dynamics 365: phone calls written while open, completed last.
#[test]
fn the_five_outcomes_reach_dynamics() {
    held(&drill("ordering", &["--kind", "dynamics", "--seed", "11"]));
}

#[test]
fn chaos_of_all_at_once() {
    let report = drill("chaos", &["--runs", "20", "--seed", "9"]);
    held(&report);
    assert!(report["kills"].as_u64().expect("a count") >= 8, "{report:#}");
}

/// The same while each call is two records that are written and linked in one request.
#[test]
fn chaos_of_pairs_of_records() {
    let report = drill("chaos", &["--kind", "salesforce", "--runs", "6", "--seed", "13"]);
    held(&report);
    assert!(report["kills"].as_u64().expect("a count") >= 2, "{report:#}");
}

/// Calls wait for batches, which go to Salesforce as jobs, while the gateway is killed and requests about the jobs fail.
#[test]
fn batches_go_as_jobs_through_kills_and_failures() {
    let report = drill("batch", &["--kind", "salesforce", "--runs", "4", "--seed", "12"]);
    held(&report);
    assert!(report["kills"].as_u64().expect("a count") >= 2, "{report:#}");
}

/// A drill that could not fail would prove nothing.
#[test]
fn a_mapping_that_writes_the_wrong_value_is_found() {
    let folder = folder("drill-wrong");
    let mapping = include_str!("../examples/mapping.toml").replace("from = \"ended_as\"", "from = \"ended_by\"");
    std::fs::write(folder.join("mapping.toml"), mapping).expect("a mapping");
    std::fs::write(folder.join("offhook.toml"), "[[crm]]\nkind = \"hubspot\"\nmapping = \"mapping.toml\"\n").expect("a configuration");
    let expected = folder.join("expected.jsonl");
    let config = |path: &Path| path.to_str().expect("text").to_owned();
    let report = drill("ordering", &["--config", &config(&folder.join("offhook.toml")), "--expect-out", &config(&expected)]);
    assert_eq!((&report["ok"], &report["wrong"]), (&false.into(), &20.into()), "{report:#}");
    let line: Value = serde_json::from_str(&std::fs::read_to_string(expected).expect("what must stand")).expect("JSON");
    assert_eq!((&line["object"], &line["match"]), (&"calls".into(), &"offhook_call_id".into()));
    assert_eq!(line["calls"].as_object().expect("calls").len(), 20);
}

#[test]
fn a_mapping_that_writes_the_wrong_value_beside_is_found() {
    let folder = folder("drill-wrong-beside");
    let (first, beside) = include_str!("../examples/mapping-salesforce.toml").split_once("[beside]").expect("a Task");
    let beside = beside.replace("to = \"CallDisposition\"\nfrom = \"disposition_code\"", "to = \"CallDisposition\"\nfrom = \"outcome\"");
    std::fs::write(folder.join("mapping.toml"), format!("{first}[beside]{beside}")).expect("a mapping");
    std::fs::write(folder.join("offhook.toml"), "[[crm]]\nkind = \"salesforce\"\nmapping = \"mapping.toml\"\n").expect("a configuration");
    let path = |name: &str| folder.join(name).to_str().expect("text").to_owned();
    let report = drill("ordering", &["--kind", "salesforce", "--config", &path("offhook.toml"), "--expect-out", &path("expected.jsonl")]);
    assert_eq!((&report["ok"], &report["wrong"], &report["lost"]), (&false.into(), &20.into(), &0.into()), "{report:#}");
    let expected = std::fs::read_to_string(folder.join("expected.jsonl")).expect("what must stand");
    let objects: Vec<Value> = expected.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["object"].clone()).collect();
    assert_eq!(objects, ["Voice_Call__c", "Task"]);
}
