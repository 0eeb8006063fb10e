//! The CRM is down for a while, refuses a record, and the store is lost: every record stands once, with what it should hold.

use serde_json::json;

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp},
};

/// Plays so many plain calls to one platform.
pub fn calls(bench: &Bench, platform_at: std::net::SocketAddr, count: u32) {
    let taker = Sipp::start(
        &bench.folder,
        &Options { scenario: "platform_answer", to: None, at: platform_at, transport: "u1", calls: (count, count), calls_from: None },
    );
    let lines: String = (0..count).map(|n| format!("+49302312510{n};+493023125201;1;\n")).collect();
    let caller = Sipp::start(
        &bench.folder,
        &Options {
            scenario: "carrier_plain",
            to: Some(bench.sip),
            at: free_port(),
            transport: "u1",
            calls: (count, 5),
            calls_from: Some(&lines),
        },
    );
    caller.finish();
    taker.finish();
}

#[test]
fn it_answers_503_and_comes_back() {
    let platform_at = free_port();
    let mut setup = Setup::to(&format!("sip:platform@{platform_at};transport=udp"));
    // From the test's own sign-in on, for ten seconds.
    setup.faults = r#"[{"match": {"path": "upsert", "from_s": 0, "to_s": 10}, "action": {"status": 503}}]"#;
    let bench = Bench::start("crm-503", &setup);
    calls(&bench, platform_at, 5);
    let records = bench.wait_for_records(5);
    assert_eq!(records.len(), 5, "none is written twice");
    let refused = bench.ledger().iter().filter(|l| l["kind"] == "request" && l["status"] == 503).count();
    assert!(refused > 0, "the CRM was down while calls ended");
    bench.wait_until_at_rest();
    assert_eq!(queue(&bench, &["retry", &records[0]["offhook_call_id"], "--by", "anna"]).0, Some(2), "what is done waits for nobody");
}

#[test]
fn a_record_that_it_rejects_goes_to_review_with_its_reason() {
    let platform_at = free_port();
    let bench = Bench::start("crm-rejects", &Setup::to(&format!("sip:platform@{platform_at};transport=udp")));
    calls(&bench, platform_at, 1);
    let record = bench.wait_for_records(1).remove(0);
    let call_id = &record["offhook_call_id"];
    // A number field does not take a word.
    let body = json!({"id": "msg-1", "type": "sentiment.scored", "call_id": call_id, "time": "2027-01-01T00:00:00Z", "data": {"sentiment_score": "splendid"}});
    assert_eq!(bench.webhook("msg-1", &body), 200);
    bench.wait("one record in review", || (bench.metric("offhook_review_depth") == Some(1.0)).then_some(()));
    let (_, call) = bench.get(&format!("/v1/calls/{call_id}"));
    assert!(call.contains("INVALID_LONG") || call.contains("not a valid number"), "the CRM's own words: {call}");

    // What a person does with it, from the command line.
    let (status, listed) = queue(&bench, &["show", "--json"]);
    let line: serde_json::Value = serde_json::from_str(&listed).expect("one line");
    assert_eq!((status, &line["call_id"], &line["state"]), (Some(0), &json!(call_id), &json!("review")));
    assert_eq!(line["wanted"]["offhook_sentiment"], "splendid");
    let requests = || bench.ledger().iter().filter(|l| l["kind"] == "request").count();
    let before = requests();
    assert_eq!(queue(&bench, &["retry", call_id, "--by", "anna"]).0, Some(0));
    bench.wait("a second refusal", || (requests() > before && bench.metric("offhook_review_depth") == Some(1.0)).then_some(()));
    assert_eq!(queue(&bench, &["status", "--json"]).0, Some(1), "somebody has to look");
    assert_eq!(queue(&bench, &["drop", "--all", "review", "--by", "anna"]).0, Some(0));
    bench.wait("nothing in review", || (bench.metric("offhook_review_depth") == Some(0.0)).then_some(()));
    let (status, counts) = queue(&bench, &["status", "--json"]);
    let counts: serde_json::Value = serde_json::from_str(&counts).expect("a document");
    assert_eq!((status, counts), (Some(0), json!({"queued": 0, "in_flight": 0, "retrying": 0, "dead": 0, "review": 0, "oldest_ms": null})));
}

fn queue(bench: &Bench, arguments: &[&str]) -> (Option<i32>, String) {
    offhook(bench, "queue", arguments)
}

/// A command beside the gateway, with its configuration: its exit status and what it prints.
pub fn offhook(bench: &Bench, command: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_offhook"));
    process.arg(command).args(arguments).arg("--config").arg(bench.folder.join("offhook.toml"));
    let output = process.output().expect("it runs");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_store_that_is_lost_is_made_anew_without_a_request() {
    let platform_at = free_port();
    let mut bench = Bench::start("store-lost", &Setup::to(&format!("sip:platform@{platform_at};transport=udp")));
    calls(&bench, platform_at, 3);
    bench.wait_for_records(3);
    bench.wait_until_at_rest();
    let calls = |bench: &Bench| bench.get("/v1/calls").1;
    let (before, listed) = (bench.ledger().len(), calls(&bench));
    bench.stop();
    let stores: Vec<_> = std::fs::read_dir(bench.folder.join("data"))
        .expect("the data folder")
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains(".db") || n.to_string_lossy().contains("sqlite")))
        .collect();
    assert!(!stores.is_empty(), "the store's files");
    for file in stores {
        std::fs::remove_file(file).expect("removed");
    }
    bench.start_gateway();
    bench.wait("the calls as they were", || (calls(&bench) == listed).then_some(()));
    // What it has to do it does within a second; a request would show.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let after = bench.ledger();
    assert_eq!(after.len(), before, "{:#?}", &after[before.min(after.len())..]);

    // The same by hand, beside a gateway that does not run: one that runs holds the lock.
    let rebuild = |bench: &Bench| offhook(bench, "rebuild", &["--json"]);
    assert_eq!(rebuild(&bench).0, Some(1), "the gateway runs");
    bench.stop();
    // It sends nothing, so that it runs no program for a secret either.
    let (config, ran) = (bench.folder.join("offhook.toml"), bench.folder.join("ran"));
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let secret = format!("client_secret_file = \"{}\"", bench.folder.join("client-secret").display());
    let asking = text.replace(&secret, &format!("client_secret_command = [\"touch\", \"{}\"]", ran.display()));
    assert_ne!(asking, text);
    std::fs::write(&config, asking).expect("written");
    let (status, told) = rebuild(&bench);
    assert!(!ran.exists(), "a program was run");
    std::fs::write(&config, text).expect("written");
    let told: serde_json::Value = serde_json::from_str(&told).expect("a document");
    assert_eq!((status, &told["queued"], &told["review"]), (Some(0), &json!(0), &json!(0)));
    assert!(told["entries"].as_u64().expect("a number") > 9, "three calls and their writes: {told}");
    bench.start_gateway();
    bench.wait("the calls as they were, again", || (calls(&bench) == listed).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(bench.ledger().len(), before, "nothing was sent");
}
