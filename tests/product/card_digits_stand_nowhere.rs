//! A card number keyed in a secure phase, by RFC 4733 and by INFO, with audible tones under both, stands in no file and is heard by nobody; and the same
//! search finds it when the mask is planted off, so that it is known to look in the right places.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use offhook::driver::demo::card::{Card, search_files};
use serde_json::Value;

/// None of its runs of five digits is a number that a system gives to a port by itself.
const CARD: &str = "9078697687080060";

/// Runs the demo into `folder`; its exit status and its JSON.
fn demo(folder: &Path, extra: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_offhook"))
        .args(["demo", "--json", "--card", CARD, "--data"])
        .arg(folder)
        .args(extra)
        .stderr(Stdio::inherit())
        .output()
        .expect("the demo runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    std::fs::write(folder.with_extension("json"), &text).expect("a file for the report");
    let json = serde_json::from_str(&text).unwrap_or_else(|why| panic!("no JSON on standard output: {why}: {text}"));
    (output.status.code(), json)
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn collected(report: &Value) -> &Value {
    report["calls"].as_array().expect("calls").iter().find(|c| c["scenario"] == "dtmf_collected").expect("the call with the card")
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["checks"].as_array().expect("checks");
    all.iter().find(|c| c["name"].as_str().is_some_and(|n| n.contains(name))).unwrap_or_else(|| panic!("no check about {name}: {all:?}"))
}

/// Keys that multimon-ng hears in a channel of a recording between two times.
fn keys_heard(file: &str, channel: &str, from_ms: i64, to_ms: i64) -> String {
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let sox = Command::new("sox")
        .args([file, "-t", "raw", "-r", "22050", "-e", "signed", "-b", "16", "-c", "1", "-", "remix", channel, "trim"])
        .args([seconds(from_ms.max(0)), format!("={}", seconds(to_ms.max(0)))])
        .output()
        .expect("sox is installed: tests/run does it");
    assert!(sox.status.success(), "{}", String::from_utf8_lossy(&sox.stderr));
    let mut multimon = Command::new("multimon-ng")
        .args(["-q", "-t", "raw", "-a", "DTMF", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("multimon-ng is installed: tests/run does it");
    let mut input = multimon.stdin.take().expect("its input");
    let writer = std::thread::spawn(move || input.write_all(&sox.stdout));
    let output = multimon.wait_with_output().expect("it ends");
    let _ = writer.join();
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|l| l.strip_prefix("DTMF: ")).collect()
}

#[test]
fn card_digits_stand_nowhere() {
    let folder = folder("masked");
    let (status, report) = demo(&folder, &[]);
    assert_eq!(status, Some(0), "{report:#}");
    assert_eq!(check(&report, "card digits")["ok"], true, "{report:#}");

    let card = Card::parse(CARD).expect("a card number");
    let searched = search_files(&card, &folder).expect("the folder is read");
    assert!(searched.files > 10 && searched.octets > 100_000, "{searched:?}");
    assert_eq!(searched.leaking, Vec::<String>::new());
    assert_eq!(card.search(report.to_string().as_bytes()).leaks, 0, "the report itself");

    // What the call's events say of keys, joined in order.
    let call = collected(&report);
    let keyed: String = call["events"].as_array().expect("events").iter().filter_map(|e| e["data"]["digits"].as_str()).collect();
    assert_eq!(keyed.trim_end_matches('#'), "2047815");
    assert!(!card.is_in(&keyed));

    let recording = &call["recording"];
    let (file, starts) = (recording["file"].as_str().expect("a recording"), recording["starts_at_ms"].as_i64().expect("its start"));
    let spans = recording["masked"].as_array().expect("spans");
    assert_eq!(spans.len(), 1, "{recording}");
    let (from, to) = (spans[0]["from_ms"].as_i64().expect("from"), spans[0]["to_ms"].as_i64().expect("to"));
    assert!(to - from > 3000, "sixteen keys take longer: {from} to {to}");
    for channel in ["1", "2"] {
        assert_eq!(keys_heard(file, channel, from - starts, to - starts), "", "channel {channel}");
    }
    // The same ear hears the reference number, which was keyed before: it is not deaf.
    assert!(keys_heard(file, "1", 0, from - starts).contains("2047815"), "{}", keys_heard(file, "1", 0, from - starts));
}

#[cfg(feature = "planted-faults")]
#[test]
fn the_same_search_finds_them_when_nothing_is_masked() {
    let folder = folder("unmasked");
    let (status, report) = demo(&folder, &["--plant", "mask-off"]);
    assert_eq!(status, Some(1), "a demo without a mask must fail");
    assert_eq!(check(&report, "card digits")["ok"], false, "{report:#}");

    let recording = &collected(&report)["recording"];
    let file = recording["file"].as_str().expect("a recording");
    let heard = keys_heard(file, "1", 0, 3_600_000);
    let card = Card::parse(CARD).expect("a card number");
    assert!(card.is_in(&heard), "the tones are audible in the recording: {heard}");
}
