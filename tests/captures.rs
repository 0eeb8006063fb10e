//! The captures in `pcap/` against the answers beside them, both ways of running: as observed, and played against the gateway.
//!
//! `pcap/README.md` tells how each capture was made. tshark, where it is installed, has to read the same out of the same files.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use offhook::{
    config::Config,
    driver::{
        live,
        replay::{
            Rtpmap,
            drive::{self, Setup},
            expect, observe,
        },
    },
};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pcap")
}

/// Captures with an answer of that kind: their names.
fn captures(kind: &str) -> Vec<String> {
    let files = fs::read_dir(folder()).expect("pcap/").flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<_> = files.filter_map(|f| f.strip_suffix(&format!(".{kind}.json")).map(str::to_owned)).collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

fn capture(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.pcap"))).expect("a capture")
}

fn expectation(name: &str, kind: &str) -> Value {
    expect::parse(&fs::read_to_string(folder().join(format!("{name}.{kind}.json"))).expect("an expectation")).expect("JSON")
}

fn setup() -> Setup {
    let config = Config::load_without_secrets(&folder().join("drive.toml")).unwrap_or_else(|e| panic!("{e}"));
    live::on_a_stage(&config)
}

fn observed(file: &[u8]) -> Value {
    serde_json::to_value(observe(file, &Rtpmap::default()).expect("readable")).expect("JSON")
}

fn driven(file: &[u8]) -> Value {
    serde_json::to_value(drive::drive(file, &Rtpmap::default(), &setup()).expect("readable")).expect("JSON")
}

/// What is not as expected.
fn told(expected: &Value, found: &Value) -> Vec<String> {
    expect::differences(expected, found).iter().map(ToString::to_string).collect()
}

#[test]
fn each_capture_holds_what_stands_beside_it() {
    for name in captures("expect") {
        assert_eq!(told(&expectation(&name, "expect"), &observed(&capture(&name))), [""; 0], "{name}");
    }
}

#[test]
fn played_against_the_gateway_each_gives_what_stands_beside_it_and_every_rule_holds() {
    for name in captures("drive") {
        let found = driven(&capture(&name));
        let rules = found["calls"].as_array().expect("calls").iter().filter_map(|c| c["rules"].as_array()).flatten();
        let broken = rules.filter(|r| r["ok"] != true).map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(broken, [""; 0], "{name}");
        assert_eq!(told(&expectation(&name, "drive"), &found), [""; 0], "{name}");
    }
}

#[test]
fn with_a_configuration_the_keys_of_a_phase_are_masked_on_both_legs() {
    let report =
        serde_json::to_value(drive::masked(&capture("secure-phase"), &Rtpmap::default(), &setup()).expect("readable")).expect("JSON");
    let calls = report["calls"].as_array().expect("calls");
    assert_eq!(calls.len(), 2, "both legs");
    for call in calls {
        let digits = call["digits"].as_array().expect("digits");
        let shown: String = digits.iter().filter(|d| d["leg"] == "caller").filter_map(|d| d["digit"].as_str()).collect();
        assert_eq!(shown, "77#", "{}", call["call_id"]);
    }
    assert_eq!(calls[0]["digits"].as_array().expect("digits").iter().filter(|d| d["masked"] == true).count(), 16);
    assert!(calls[0]["events"].as_array().expect("events").iter().any(|e| e["type"] == "call.secure.started"));
}

/// A classic capture as its head and its records.
fn records(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (head, mut rest) = file.split_at(24);
    let mut records = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().expect("four")) as usize;
        let (record, more) = rest.split_at(16 + length);
        records.push(record.to_vec());
        rest = more;
    }
    (head.to_vec(), records)
}

fn file(head: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    [head, &records.concat()].concat()
}

/// The datagram of a record with another payload, at another time.
fn again(record: &[u8], at_us: i64, payload: &str) -> Vec<u8> {
    let mut record = record[..PAYLOAD].to_vec();
    let length = |more: usize| u16::try_from(payload.len() + more).expect("short");
    let captured = u32::from(length(14 + 20 + 8)).to_le_bytes();
    record[0..4].copy_from_slice(&u32::try_from(at_us / 1_000_000).expect("fits").to_le_bytes());
    record[4..8].copy_from_slice(&u32::try_from(at_us % 1_000_000).expect("fits").to_le_bytes());
    record[8..12].copy_from_slice(&captured);
    record[12..16].copy_from_slice(&captured);
    record[16 + 14 + 2..16 + 14 + 4].copy_from_slice(&length(20 + 8).to_be_bytes());
    record[16 + 14 + 20 + 4..16 + 14 + 20 + 6].copy_from_slice(&length(8).to_be_bytes());
    record[16 + 14 + 20 + 6..PAYLOAD].copy_from_slice(&[0, 0]);
    record.extend(payload.as_bytes());
    record
}

/// A gateway that turns to another target in mid-call has made two dialogs for its caller; a peer names one.
#[test]
fn the_keys_of_a_phase_are_masked_on_every_leg_that_was_made_for_the_caller() {
    let capture = capture("secure-phase");
    let plain = observed(&capture);
    let plain = plain["calls"].as_array().expect("calls").clone();
    let (caller, callee) = (&plain[0], &plain[1]);
    let keyed =
        caller["digits"].as_array().expect("digits").iter().find(|d| d["digit"] == "4").expect("a key of the card")["at_ms"].as_i64();
    let began = caller["invite_at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok()).expect("a time").as_microsecond();
    let (head, mut records) = records(&capture);
    let id = callee["call_id"].as_str().expect("a Call-ID");
    let place = records.iter().position(|r| is_a(r, "INVITE ") && String::from_utf8_lossy(r).contains(id)).expect("the second INVITE");
    let invite = records[place].clone();
    let text = String::from_utf8(invite[PAYLOAD..].to_vec()).expect("text").replace(id, "the-first-target");
    let at = |record: &[u8]| {
        let field = |from: usize| i64::from(u32::from_le_bytes(record[from..from + 4].try_into().expect("four")));
        field(0) * 1_000_000 + field(4)
    };
    // The first target was called just before the second and would not have the call; still it heard a key of the card by INFO.
    let (start, _) = text.split_once("\r\n\r\n").expect("headers");
    let headers: Vec<_> = start.split("\r\n").skip(1).filter(|h| !h.starts_with("Content-") && !h.starts_with("CSeq")).collect();
    let refusal = format!("SIP/2.0 503 Service Unavailable\r\n{}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n", headers.join("\r\n"));
    let back = records.iter().find(|r| is_a(r, "SIP/2.0 ") && String::from_utf8_lossy(r).contains(id)).expect("an answer").clone();
    let (called, refused) =
        (again(&invite, at(&invite), &text), again(&back, at(&invite), &refusal.replacen("To: ", "To: <sip:x>;tag=y\r\nX-Was: ", 1)));
    records.splice(place..place, [called, refused]);
    let body = "Signal=4\r\nDuration=100\r\n";
    let info = format!(
        "INFO sip:x SIP/2.0\r\n{}\r\nCSeq: 2 INFO\r\nContent-Type: application/dtmf-relay\r\nContent-Length: {}\r\n\r\n{body}",
        headers.join("\r\n"),
        body.len()
    );
    let when = began + keyed.expect("a time") * 1000;
    let later = records.iter().position(|r| at(r) > when).expect("more follows");
    records.insert(later, again(&invite, when, &info));
    let file = file(&head, &records);
    let first = |report: &Value| {
        let calls = report["calls"].as_array().expect("calls").clone();
        calls.into_iter().find(|c| c["call_id"] == "the-first-target").expect("its dialog")["digits"][0].clone()
    };
    assert_eq!(first(&observed(&file))["digit"], "4", "without a configuration what the file holds is printed");
    let masked = serde_json::to_value(drive::masked(&file, &Rtpmap::default(), &setup()).expect("readable")).expect("JSON");
    assert_eq!((&first(&masked)["digit"], &first(&masked)["masked"]), (&Value::Null, &Value::Bool(true)));
}

/// Ethernet, IPv4 and UDP before it.
const PAYLOAD: usize = 16 + 14 + 20 + 8;

fn is_a(record: &[u8], start: &str) -> bool {
    record.get(PAYLOAD..).is_some_and(|payload| payload.starts_with(start.as_bytes()))
}

#[test]
fn a_dropped_bye_is_caught() {
    let (head, mut records) = records(&capture("digits-rfc4733"));
    let before = records.len();
    records.retain(|r| !is_a(r, "BYE "));
    assert!(records.len() < before);
    let file = file(&head, &records);
    let differences = told(&expectation("digits-rfc4733", "expect"), &observed(&file));
    assert!(differences.iter().any(|d| d.starts_with("calls[0].ladder[") && d.contains("BYE")), "{differences:#?}");
    let found = driven(&file);
    let differences = told(&expectation("digits-rfc4733", "drive"), &found);
    assert!(differences.iter().any(|d| d.starts_with("calls[0].sent[") && d.contains("BYE")), "{differences:#?}");
}

#[test]
fn a_changed_digit_is_caught() {
    let (head, mut records) = records(&capture("digits-rfc4733"));
    let mut changed = 0;
    for record in &mut records {
        // Every packet of the 4, as payload type 120, becomes one of a 9.
        if let Some([0x80, pt, .., _, _, _]) = record.get(PAYLOAD..).filter(|p| p.len() == 16)
            && pt & 0x7f == 120
            && record[PAYLOAD + 12] == 4
        {
            record[PAYLOAD + 12] = 9;
            changed += 1;
        }
    }
    assert!(changed > 5);
    let file = file(&head, &records);
    let differences = told(&expectation("digits-rfc4733", "expect"), &observed(&file));
    assert!(differences.contains(&r#"calls[0].digits[2].digit: expected "4", found "9""#.to_owned()), "{differences:#?}");
    let differences = told(&expectation("digits-rfc4733", "drive"), &driven(&file));
    assert!(differences.iter().any(|d| d.contains(r#"expected "2047#", found "2097#""#)), "{differences:#?}");
}

#[test]
fn a_reordered_ladder_is_caught() {
    let (head, mut records) = records(&capture("transfer"));
    // The platform's OK to the INVITE before its ringing: the records keep their times, what they carry is exchanged.
    let from_platform = |r: &Vec<u8>, start: &str| is_a(r, start) && r[16 + 14 + 12..16 + 14 + 16] == [127, 0, 2, 3];
    let ringing = records.iter().position(|r| from_platform(r, "SIP/2.0 180")).expect("ringing");
    let answer = records.iter().position(|r| from_platform(r, "SIP/2.0 200")).expect("an answer");
    let (first, second) = (records[ringing].clone(), records[answer].clone());
    let exchanged = |time: &[u8], what: &[u8]| [&time[..8], &what[8..]].concat();
    records[ringing] = exchanged(&first, &second);
    records[answer] = exchanged(&second, &first);
    let file = file(&head, &records);
    assert!(!told(&expectation("transfer", "expect"), &observed(&file)).is_empty());
    let differences = told(&expectation("transfer", "drive"), &driven(&file));
    assert!(differences.iter().any(|d| d.starts_with("calls[0].sent")), "{differences:#?}");
}

/// Lines of tshark; none where it is not installed.
fn tshark(name: &str, arguments: &[&str]) -> Option<Vec<String>> {
    let ports = ["-d", "udp.port==5060,sip", "-d", "udp.port==5061,sip", "-d", "udp.port==5063,sip", "-d", "tcp.port==5060,sip"];
    let output = Command::new("tshark").arg("-r").arg(folder().join(format!("{name}.pcap"))).args(ports).args(arguments).output();
    match output {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()),
        Err(why) => {
            eprintln!("tshark is not here ({why}): nothing is compared with it; tests/run installs it");
            None
        }
    }
}

#[test]
fn ladders_are_those_that_tshark_reads() {
    for name in captures("expect") {
        let fields = ["-Y", "sip", "-T", "fields", "-e", "frame.number", "-e", "sip.Call-ID", "-e", "sip.Method", "-e", "sip.Status-Code"];
        let Some(lines) = tshark(&name, &fields) else { return };
        // A frame of a stream may hold several messages: tshark joins their fields by commas.
        let mut theirs = Vec::new();
        for line in lines {
            let fields: Vec<&str> = line.split('\t').collect();
            let word = if fields[2].is_empty() { fields[3] } else { fields[2] };
            theirs.push((fields[1].to_owned(), fields[0].to_owned(), word.to_owned()));
        }
        let mut ours = Vec::new();
        for call in observed(&capture(&name))["calls"].as_array().expect("calls") {
            for step in call["ladder"].as_array().expect("steps") {
                let word = step["summary"].as_str().expect("text").split(' ').next().expect("a word").to_owned();
                ours.push((call["call_id"].as_str().expect("text").to_owned(), step["frame"].to_string(), word));
            }
        }
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn packets_and_losses_are_those_that_tshark_counts() {
    for name in captures("expect") {
        let Some(lines) = tshark(&name, &["-o", "rtp.heuristic_rtp:TRUE", "-q", "-z", "rtp,streams"]) else { return };
        // start end, addresses and ports, SSRC, payload, packets, lost (percent)
        let mut theirs: BTreeMap<String, (u64, i64)> = BTreeMap::new();
        for line in lines.iter().filter(|l| l.contains("0x")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ssrc = words.iter().position(|w| w.starts_with("0x")).expect("an SSRC");
            let lost = words.iter().position(|w| w.starts_with('(')).expect("a share of losses");
            let key = format!("{} {} {}", words[ssrc - 3], words[ssrc - 1], words[ssrc].to_lowercase());
            theirs.insert(key, (words[lost - 2].parse().expect("packets"), words[lost - 1].parse().expect("lost")));
        }
        let mut ours: BTreeMap<String, (u64, i64)> = BTreeMap::new();
        for call in observed(&capture(&name))["calls"].as_array().expect("calls") {
            for stream in call["streams"].as_array().expect("streams") {
                let port = |end: &str| stream[end].as_str().and_then(|a| a.rsplit(':').next()).expect("a port").to_owned();
                let key = format!("{} {} {}", port("from"), port("to"), stream["ssrc"].as_str().expect("text"));
                let sum = ours.entry(key).or_default();
                sum.0 += stream["packets"].as_u64().expect("a number");
                sum.1 += stream["lost"].as_i64().expect("a number");
            }
        }
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn keys_are_those_that_tshark_reads() {
    for name in captures("expect") {
        let fields = [
            "-o",
            "rtp.heuristic_rtp:TRUE",
            "-Y",
            "rtpevent",
            "-T",
            "fields",
            "-e",
            "ip.src",
            "-e",
            "rtpevent.event_id",
            "-e",
            "rtp.timestamp",
        ];
        let Some(lines) = tshark(&name, &fields) else { return };
        // A key is what one source sends under one time stamp.
        let mut theirs: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for line in lines {
            let fields: Vec<&str> = line.split('\t').collect();
            let digit = match fields[1] {
                "10" => "*",
                "11" => "#",
                digit => digit,
            };
            let keys = theirs.entry(fields[0].to_owned()).or_default();
            let key = (fields[2].parse().expect("a time stamp"), digit.to_owned());
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut ours: BTreeMap<String, String> = BTreeMap::new();
        for call in observed(&capture(&name))["calls"].as_array().expect("calls") {
            for digit in call["digits"].as_array().expect("digits").iter().filter(|d| d["method"] == "rfc4733") {
                let stream = call["streams"].as_array().expect("streams").iter().find(|s| s["leg"] == digit["leg"]).expect("its stream");
                let from = stream["from"].as_str().expect("text").rsplit_once(':').expect("a port").0.to_owned();
                ours.entry(from).or_default().push_str(digit["digit"].as_str().expect("text"));
            }
        }
        // A gateway stands in two calls with one address: its keys are those of both.
        let theirs: BTreeMap<_, _> =
            theirs.into_iter().map(|(from, keys)| (from, keys.into_iter().map(|(_, d)| d).collect::<String>())).collect();
        let sorted = |keys: &BTreeMap<String, String>| {
            let each = keys.iter().map(|(from, digits)| {
                let mut digits: Vec<char> = digits.chars().collect();
                digits.sort_unstable();
                (from.clone(), digits.into_iter().collect::<String>())
            });
            each.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(sorted(&ours), sorted(&theirs), "{name}");
        if theirs.len() < 3 {
            assert_eq!(ours, theirs, "{name}");
        }
    }
}
