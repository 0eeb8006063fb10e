//! What the demo prints is what passed on the wire: tshark, listening on the loopback meanwhile, has the same ladders and the same codecs.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

use super::harness::folder;

/// A message as both sides can tell it: sender, receiver, method or status.
type Message = (String, String, String);

fn tshark(file: &Path, decode: &[String], filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields", "-E", "separator=;", "-E", "occurrence=a", "-E", "aggregator=,"]);
    for rule in decode {
        command.args(["-d", rule]);
    }
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark is installed: tests/run does it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.split(';').map(str::to_owned).collect()).collect()
}

fn counted(messages: impl Iterator<Item = Message>) -> BTreeMap<Message, usize> {
    let mut counts = BTreeMap::new();
    for message in messages {
        *counts.entry(message).or_default() += 1;
    }
    counts
}

#[test]
fn the_demo_agrees_with_tshark() {
    let at = folder("agrees");
    let file = at.join("loopback.pcap");
    let log = File::create(at.join("tshark.log")).expect("a file");
    let mut capture = Command::new("tshark")
        .args(["-q", "-i", "lo", "-F", "pcap", "-f", "udp or tcp", "-w"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("tshark is installed: tests/run does it");
    for _ in 0..50 {
        sleep(Duration::from_millis(100));
        if capture.try_wait().expect("its state").is_some() {
            eprintln!("this user may not capture on the loopback: {}", fs::read_to_string(at.join("tshark.log")).unwrap_or_default());
            return;
        }
        if file.is_file() {
            break;
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_offhook"))
        .args(["demo", "--json", "--data"])
        .arg(at.join("demo"))
        .stderr(Stdio::inherit())
        .output()
        .expect("the demo runs");
    sleep(Duration::from_millis(500));
    let _ = Command::new("kill").args(["-INT", &capture.id().to_string()]).status();
    let _ = capture.wait();
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(0), "{report:#}");

    for call in report["calls"].as_array().expect("calls") {
        let scenario = call["scenario"].as_str().expect("a name");
        let participants = call["participants"].as_array().expect("participants");
        let addresses = |p: &Value| {
            p["addresses"].as_array().expect("addresses").iter().map(|a| a.as_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        // Phones, with the gateway's own ports left to the capture.
        let phones: Vec<String> = participants.iter().filter(|p| p["name"] != "offhook").flat_map(addresses).collect();
        let ports: Vec<&str> = phones.iter().filter_map(|a| a.rsplit(':').next()).collect();
        let decode: Vec<String> = ports.iter().flat_map(|p| [format!("udp.port=={p},sip"), format!("tcp.port=={p},sip")]).collect();
        let on_ports = ports.iter().map(|p| format!("udp.port=={p} or tcp.port=={p}")).collect::<Vec<_>>().join(" or ");
        let filter = format!("sip and ({on_ports})");
        let rows = tshark(
            &file,
            &decode,
            &filter,
            &["ip.src", "udp.srcport", "tcp.srcport", "ip.dst", "udp.dstport", "tcp.dstport", "sip.Method", "sip.Status-Code", "sdp.media"],
        );
        let seen = rows.iter().flat_map(|row| {
            let [src, us, ts, dst, ud, td, methods, statuses, ..] = row.as_slice() else { return Vec::new() };
            let (from, to) = (format!("{src}:{us}{ts}"), format!("{dst}:{ud}{td}"));
            let words = methods.split(',').chain(statuses.split(',')).filter(|w| !w.is_empty());
            words.map(|word| (from.clone(), to.clone(), word.to_owned())).collect()
        });
        let told = call["ladder"].as_array().expect("a ladder").iter().map(|step| {
            let text = |name: &str| step[name].as_str().expect("text").to_owned();
            (text("from"), text("to"), text("summary").split(' ').next().unwrap_or_default().to_owned())
        });
        assert_eq!(counted(told), counted(seen), "{scenario}");

        // The codec of a leg is what its 200 OK takes: first format of its m= line.
        let caller = addresses(&participants[0]);
        let taken = |to_caller: bool| {
            let row = rows.iter().find(|row| {
                row[7].contains("200") && !row[8].is_empty() && caller.contains(&format!("{}:{}{}", row[3], row[4], row[5])) == to_caller
            });
            let media = row.map(|row| row[8].clone()).unwrap_or_default();
            match media.split(' ').nth(3) {
                Some("0") => "PCMU",
                Some("8") => "PCMA",
                Some("9") => "G722",
                _ => "none",
            }
        };
        assert_eq!(
            (taken(true), taken(false)),
            (call["codec"]["trunk"].as_str().expect("x"), call["codec"]["platform"].as_str().expect("x")),
            "{scenario}"
        );
    }
}
