//! A call that somebody holds keeps what it holds, in the journal and in the store, while one beside it loses it to retention: by a word that its webhook told,
//! looked for in every octet of the data directory. One that is erased loses it at once, for good.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp},
};

/// Words that nothing else writes.
const WORDS: [&str; 2] = ["quixotically", "zygomorphic"];

fn offhook(bench: &Bench, arguments: &[&str]) -> (Option<i32>, String) {
    let config = bench.folder.join("offhook.toml");
    let out = Command::new(env!("CARGO_BIN_EXE_offhook")).args(arguments).arg("--config").arg(config).output().expect("runs");
    let said = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// The files below `folder` that hold `text`.
fn files_with(text: &str, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    // One that goes meanwhile holds nothing.
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(files_with(text, &entry));
        } else if fs::read(&entry).is_ok_and(|octets| octets.windows(text.len()).any(|part| part == text.as_bytes())) {
            found.push(entry.display().to_string());
        }
    }
    found
}

/// Which of the words stand anywhere in the data directory.
fn standing(bench: &Bench) -> [bool; 2] {
    WORDS.map(|word| !files_with(word, &bench.folder.join("data")).is_empty())
}

/// Two calls at their end, of each of which the platform told one of the words; their ids.
fn told(name: &str) -> (Bench, [String; 2]) {
    let platform_at = free_port();
    let bench = Bench::start(name, &Setup::to(&format!("sip:platform@{platform_at};transport=udp")));
    let answer = Options { scenario: "platform_answer", to: None, at: platform_at, transport: "u1", calls: (2, 2), calls_from: None };
    let _taker = Sipp::start(&bench.folder, &answer);
    let lines = "+493023125101;+493023125201;1;\n+493023125102;+493023125201;1;\n";
    let caller = Options {
        scenario: "carrier_plain",
        to: Some(bench.sip),
        at: free_port(),
        transport: "u1",
        calls: (2, 2),
        calls_from: Some(lines),
    };
    let _caller = Sipp::start(&bench.folder, &caller);
    bench.wait_for_records(2);
    bench.wait_until_at_rest();
    let calls: Value = serde_json::from_str(&bench.get("/v1/calls").1).expect("JSON");
    let ids = [0, 1].map(|n: usize| calls["calls"][n]["call_id"].as_str().expect("an id").to_owned());
    for ((id, word), nth) in ids.iter().zip(WORDS).zip(["msg-1", "msg-2"]) {
        let data = json!({"disposition_code": "SALE", "call_summary": format!("he spoke {word}")});
        let body = json!({"id": nth, "type": "call.ended", "call_id": id, "time": "2026-01-05T10:00:00Z", "data": data});
        assert_eq!(bench.webhook(nth, &body), 200);
    }
    let told = |id: &String| bench.get(&format!("/v1/calls/{id}")).1.contains("he spoke");
    bench.wait("both are told", || ids.iter().all(told).then_some(()));
    bench.wait_until_at_rest();
    (bench, ids)
}

/// Starts the gateway again so that whatever is settled goes at once.
fn keep_nothing(bench: &mut Bench) {
    bench.stop();
    let config = bench.folder.join("offhook.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replacen("[data]\n", "[data]\nkeep_days = 0\n", 1)).expect("written");
    bench.start_gateway();
}

#[test]
fn a_call_that_is_held_stays_whole_beside_one_that_goes() {
    let (mut bench, [held, other]) = told("held");
    assert_eq!(standing(&bench), [true, true]);
    let (status, said) = offhook(&bench, &["retention", "hold", &held, "--by", "ann", "--reason", "matter 7"]);
    assert!(status == Some(0) && said.contains("by ann: matter 7"), "{said}");
    let (status, said) = offhook(&bench, &["retention", "hold", &held, "--by", "bob"]);
    assert!(status == Some(1) && said.contains("409") && said.contains("matter 7"), "{said}");
    keep_nothing(&mut bench);
    let pruned = |id: &str| serde_json::from_str::<Value>(&bench.get(&format!("/v1/calls/{id}")).1).expect("JSON")["pruned"] == true;
    bench.wait("the other one has gone", || (pruned(&other) && standing(&bench) == [true, false]).then_some(()));
    assert!(!pruned(&held));
    let shown: Value = serde_json::from_str(&bench.get("/v1/retention").1).expect("JSON");
    assert_eq!(
        (&shown["held_total"], &shown["held"][0]["call_id"], &shown["held"][0]["reason"]),
        (&json!(1), &json!(held), &json!("matter 7"))
    );
    assert_eq!(bench.metric("offhook_retention_held"), Some(1.0));

    // What is made anew out of the journal holds it too.
    bench.stop();
    let (status, said) = offhook(&bench, &["rebuild"]);
    assert_eq!((status, standing(&bench)), (Some(0), [true, false]), "{said}");
    let (status, said) = offhook(&bench, &["retention", "list"]);
    assert!(status == Some(0) && said.starts_with(&format!("{held}  held since ")) && said.contains("ann"), "{said}");
    let writes = bench.ledger().len();
    bench.start_gateway();
    let pruned = |id: &str| serde_json::from_str::<Value>(&bench.get(&format!("/v1/calls/{id}")).1).expect("JSON")["pruned"] == true;
    assert!(!pruned(&held) && pruned(&other));

    // Released, it goes as soon as somebody looks: here at a start.
    let (status, said) = offhook(&bench, &["retention", "release", &held, "--by", "ann"]);
    assert!(status == Some(0) && said.contains("released"), "{said}");
    bench.stop();
    bench.start_gateway();
    bench.wait("it has gone too", || (standing(&bench) == [false, false]).then_some(()));
    let sent = |line: &&Value| line["kind"] == "mutation";
    assert_eq!(bench.ledger().iter().skip(writes).filter(sent).count(), 0, "nothing is sent again");
}

#[test]
fn a_call_that_is_erased_stands_nowhere_and_is_written_no_more() {
    let (mut bench, [erased, other]) = told("erased");
    let (status, said) = offhook(&bench, &["retention", "hold", &erased, "--by", "ann", "--reason", "matter 7"]);
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = offhook(&bench, &["retention", "erase", &erased, "--by", "bob"]);
    assert!(status == Some(1) && said.contains("409") && said.contains("matter 7"), "a hold wins: {said}");
    assert_eq!(offhook(&bench, &["retention", "release", &erased, "--by", "ann"]).0, Some(0));
    let (status, said) = offhook(&bench, &["retention", "erase", &erased, "--by", "bob", "--reason", "asked for"]);
    assert!(status == Some(0) && said.contains("by bob: asked for") && said.contains("left in hubspot: "), "{said}");
    let writes = bench.ledger().len();
    // Neither a restart nor anything else is needed.
    bench.wait("it has gone", || (standing(&bench) == [false, true]).then_some(()));
    assert_eq!(bench.metric("offhook_retention_erasures_total"), Some(1.0));
    let shown: Value = serde_json::from_str(&bench.get(&format!("/v1/calls/{erased}")).1).expect("JSON");
    assert_eq!((&shown["pruned"], &shown["erased"]["by"], &shown["writes"][0]["state"]), (&json!(true), &json!("bob"), &json!("done")));

    // The platform tells it again, and something else.
    for id in ["msg-1", "msg-9"] {
        let data = json!({"disposition_code": "SALE", "call_summary": format!("he spoke {}", WORDS[0])});
        let body = json!({"id": id, "type": "call.ended", "call_id": erased, "time": "2026-01-05T10:00:00Z", "data": data});
        assert_eq!(bench.webhook(id, &body), 200);
    }
    bench.stop();
    bench.start_gateway();
    bench.wait("what came late has gone", || (standing(&bench) == [false, true]).then_some(()));
    let (status, said) = offhook(&bench, &["retention", "erase", &erased, "--by", "ann"]);
    assert!(status == Some(1) && said.contains("by bob: asked for"), "{said}");
    bench.kill();
    bench.start_gateway();
    bench.stop();
    let (status, said) = offhook(&bench, &["rebuild"]);
    assert_eq!((status, standing(&bench)), (Some(0), [false, true]), "{said}");
    let (status, said) = offhook(&bench, &["retention", "list", "--erased"]);
    assert!(status == Some(0) && said.contains(&erased) && said.contains("asked for"), "{said}");
    bench.start_gateway();
    let pruned = |id: &str| serde_json::from_str::<Value>(&bench.get(&format!("/v1/calls/{id}")).1).expect("JSON")["pruned"] == true;
    assert!(pruned(&erased) && !pruned(&other));
    let sent = |line: &&Value| line["kind"] == "mutation";
    assert_eq!(bench.ledger().iter().skip(writes).filter(sent).count(), 0, "nothing is sent again");
}
