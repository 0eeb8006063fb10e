//! Records that somebody deleted, and calls that are to be told again: found, told, and each once.

use std::process::Command;

use serde_json::{Value, json};

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp},
};

fn offhook(bench: &Bench, arguments: &[&str]) -> Value {
    let config = bench.folder.join("offhook.toml");
    let out = Command::new(env!("CARGO_BIN_EXE_offhook")).args(arguments).arg("--config").arg(config).output().expect("runs");
    serde_json::from_slice(&out.stdout).unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&out.stderr)))
}

/// Five calls that have come to their end, in the CRM too.
fn played(name: &str) -> Bench {
    let platform_at = free_port();
    let bench = Bench::start(name, &Setup::to(&format!("sip:platform@{platform_at};transport=udp")));
    let _taker = Sipp::start(
        &bench.folder,
        &Options { scenario: "platform_answer", to: None, at: platform_at, transport: "u1", calls: (5, 5), calls_from: None },
    );
    let lines: String = (0..5).map(|n| format!("+4930231251{n:02};+493023125201;1;\n")).collect();
    let caller = Options {
        scenario: "carrier_plain",
        to: Some(bench.sip),
        at: free_port(),
        transport: "u1",
        calls: (5, 5),
        calls_from: Some(&lines),
    };
    let _caller = Sipp::start(&bench.folder, &caller);
    bench.wait_for_records(5);
    bench.wait_until_at_rest();
    bench
}

#[test]
fn a_record_that_was_deleted_is_missed_and_made_again_on_demand() {
    let bench = played("reconcile");
    let whole = offhook(&bench, &["reconcile", "--json"]);
    assert_eq!(
        (&whole["written"], &whole["missing"], &whole["doubled"], &whole["changed"]),
        (&json!(5), &json!(0), &json!(0), &json!([])),
        "{whole:#}"
    );
    let (id, record) = bench.records().into_iter().next().expect("a record");
    let changed = bench.records().into_values().nth(1).expect("another record");
    bench.change_record(&changed["offhook_key"], "hs_call_title", "rang about the bill");
    bench.delete_record(&id);
    let found = offhook(&bench, &["reconcile", "--json"]);
    assert_eq!((&found["written"], &found["missing"]), (&json!(4), &json!(1)));
    assert_eq!(found["missing_calls"][0], record["offhook_call_id"].as_str());
    let repaired = offhook(&bench, &["reconcile", "--repair", "--json", "--by", "anna"]);
    assert_eq!((&repaired["repaired"], &repaired["kept"]), (&json!(1), &json!(1)), "{repaired:#}");
    bench.wait("the record is there again", || (offhook(&bench, &["reconcile", "--json"])["written"] == 5).then_some(()));
    // What somebody has changed outlives a recovery.
    offhook(&bench, &["recover", "--since", "2020-01-01", "--json", "--by", "anna"]);
    let whole = bench.wait("all are told again", || {
        let found = offhook(&bench, &["reconcile", "--json"]);
        (found["written"] == 5).then_some(found)
    });
    assert_eq!(whole["changed"], json!([]), "{whole:#}");
    let standing = bench.records().into_values().find(|r| r.get("offhook_key") == changed.get("offhook_key")).expect("the record");
    assert_eq!(standing["hs_call_title"], "rang about the bill");
}

/// An API that describes nothing cannot be compared: what was found of the others, and done, is told all the same.
#[test]
fn a_target_that_cannot_be_read_takes_nothing_from_the_report_of_the_others() {
    let mut bench = played("unread");
    bench.stop();
    let config = bench.folder.join("offhook.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let archive = format!(
        "[[crm]]\nname = \"archive\"\nkind = \"http\"\nurl = \"http://127.0.0.1:9/{{key}}\"\nmapping = \"{}/mapping.toml\"\n\n[[webhook]]",
        bench.folder.display()
    );
    std::fs::write(&config, text.replacen("[[webhook]]", &archive, 1)).expect("written");
    bench.start_gateway();
    let (id, _) = bench.records().into_iter().next().expect("a record");
    bench.delete_record(&id);
    let arguments = ["reconcile", "--repair", "--json", "--by", "anna", "--config"];
    let out = Command::new(env!("CARGO_BIN_EXE_offhook")).args(arguments).arg(config).output().expect("runs");
    let (said, told) = (String::from_utf8_lossy(&out.stderr), serde_json::from_slice::<Value>(&out.stdout));
    let told = told.unwrap_or_else(|why| panic!("{why}: {said}"));
    assert_eq!((&told["written"], &told["missing"], &told["repaired"]), (&json!(4), &json!(1), &json!(1)), "{told:#}");
    assert!(told["unread"]["archive"].is_string() && said.contains("archive was not read"), "{told:#} {said}");
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn a_recovery_writes_every_call_again_and_none_twice() {
    let bench = played("recover");
    let writes =
        || bench.ledger().iter().filter(|l| l["kind"] == "request" && l["what"].as_str().is_some_and(|w| w.contains("upsert"))).count();
    let before = writes();
    let dry = offhook(&bench, &["recover", "--since", "2020-01-01", "--dry-run", "--json"]);
    assert_eq!((&dry["calls"], &dry["writes"]), (&json!(5), &json!(5)));
    for id in bench.records().keys().take(3) {
        bench.delete_record(id);
    }
    for _ in 0..2 {
        assert_eq!(offhook(&bench, &["recover", "--since", "2020-01-01", "--json", "--by", "anna"])["writes"], 5);
        bench.wait("all are told again", || (offhook(&bench, &["reconcile", "--json"])["written"] == 5).then_some(()));
    }
    assert!(writes() > before);
    let whole = offhook(&bench, &["reconcile", "--json"]);
    assert_eq!((&whole["written"], &whole["doubled"]), (&json!(5), &json!(0)), "{whole:#}");
    // What somebody has changed, and nobody has reconciled, is read first and left alone; unless it is to be written over.
    let title = |key: &str| bench.records().into_values().find(|r| r["offhook_key"] == key).expect("there")["hs_call_title"].clone();
    let records: Vec<_> = bench.records().into_values().collect();
    bench.change_record(&records[0]["offhook_key"], "hs_call_title", "rang about the bill");
    let kept = offhook(&bench, &["recover", "--since", "2020-01-01", "--json", "--by", "anna"]);
    assert_eq!(
        (&kept["kept"], &kept["changed"][0]["fields"]["hs_call_title"]["value"]),
        (&json!(1), &json!("rang about the bill")),
        "{kept:#}"
    );
    bench.wait("all are told again", || (offhook(&bench, &["reconcile", "--json"])["written"] == 5).then_some(()));
    assert_eq!(title(&records[0]["offhook_key"]), "rang about the bill");
    bench.change_record(&records[1]["offhook_key"], "hs_call_title", "a title that is in the way");
    assert_eq!(offhook(&bench, &["recover", "--since", "2020-01-01", "--overwrite", "--json", "--by", "anna"])["kept"], 0);
    bench.wait("all are told again", || (offhook(&bench, &["reconcile", "--json"])["written"] == 5).then_some(()));
    assert_eq!(title(&records[1]["offhook_key"]), records[1]["hs_call_title"]);
    assert_eq!(title(&records[0]["offhook_key"]), "rang about the bill", "an edit stands");
    // A program that asks over the API is as careful.
    bench.change_record(&records[2]["offhook_key"], "hs_call_title", "rang twice");
    let (status, asked) = bench.post("/v1/recover", &json!({"since": "2020-01-01T00:00:00Z", "by": "a program"}));
    let asked: Value = serde_json::from_str(&asked).expect("JSON");
    assert_eq!((status, &asked["state"]), (202, &json!("reading")), "{asked:#}");
    let operation = format!("/v1/recover/{}", asked["operation"].as_str().expect("an operation"));
    let told = bench.wait("it has read", || {
        let told: Value = serde_json::from_str(&bench.get(&operation).1).expect("JSON");
        (told["state"] == "told").then_some(told)
    });
    assert_eq!((&told["kept"], &told["changed"][0]["target"]), (&json!(1), &json!("hubspot")), "{told:#}");
    bench.wait("all are told again", || (offhook(&bench, &["reconcile", "--json"])["written"] == 5).then_some(()));
    assert_eq!(title(&records[2]["offhook_key"]), "rang twice");
    assert_eq!(bench.post("/v1/recover", &json!({"since": "yesterday"})).0, 400);
    // A dialler asks whether this person was reached.
    let (status, attempts) = bench.get("/v1/contacts/%2B493023125103/attempts");
    let attempts: Value = serde_json::from_str(&attempts).expect("JSON");
    assert_eq!(
        (status, &attempts["reached"], &attempts["attempts"][0]["outcome"]),
        (200, &json!(true), &json!("answered")),
        "{attempts:#}"
    );
    let attempts = |number: &str| serde_json::from_str::<Value>(&bench.get(&format!("/v1/contacts/{number}/attempts")).1).expect("JSON");
    assert_eq!((&attempts("00493023125103")["reached"], &attempts("+4930999")["reached"]), (&json!(true), &json!(false)));
}
