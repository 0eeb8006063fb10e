//! baresip calls through the gateway as any phone would, and tshark reads what passed without finding a malformed packet.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp},
};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn modules() -> PathBuf {
    let found = ["/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules", "/usr/lib/aarch64-linux-gnu/baresip/modules"];
    found
        .iter()
        .map(PathBuf::from)
        .find(|p| p.join("g711.so").is_file())
        .expect("baresip is installed: tests/run does it (Debian package baresip-core)")
}

/// A stereo file is none of a phone's: half a minute of a tone, mono, 8 kHz.
fn tone(file: &Path) {
    let samples: Vec<u8> = (0..8000 * 30_u32)
        .flat_map(|n| {
            let wave: i16 = if (n / 9) % 2 == 0 { 4000 } else { -4000 };
            wave.to_le_bytes()
        })
        .collect();
    let octets = u32::try_from(samples.len()).expect("small");
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + octets).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(8000_u32.to_le_bytes());
    wav.extend(16_000_u32.to_le_bytes());
    wav.extend([2, 0, 16, 0]);
    wav.extend(b"data");
    wav.extend(octets.to_le_bytes());
    wav.extend(samples);
    fs::write(file, wav).expect("a file");
}

/// A call of eight seconds.
fn baresip(folder: &Path, gateway: SocketAddr, number: &str) -> Running {
    fs::create_dir_all(folder).expect("a folder");
    tone(&folder.join("tone.wav"));
    let port = free_port().port();
    let config = format!(
        "sip_listen 127.0.0.1:{port}\nmodule_path {}\nmodule g711.so\nmodule aufile.so\nmodule_tmp account.so\nmodule_app menu.so\naudio_source aufile,{}\n",
        modules().display(),
        folder.join("tone.wav").display()
    );
    fs::write(folder.join("config"), config).expect("a file");
    fs::write(folder.join("accounts"), format!("<sip:+493023125101@127.0.0.1:{port};transport=udp>;regint=0;audio_codecs=PCMA/8000/1\n"))
        .expect("a file");
    fs::write(folder.join("contacts"), "").expect("a file");
    let log = File::create(folder.join("log.txt")).expect("a file");
    let child = Command::new("baresip")
        .arg("-f")
        .arg(folder)
        .args(["-t", "8", "-e", &format!("/dial sip:{number}@{gateway}")])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("baresip is installed: tests/run does it");
    Running(child)
}

/// A capture of what passes through one gateway; none where this user may not take one.
fn capture(file: &Path, filter: &str) -> Option<Running> {
    let log = File::create(file.with_extension("log")).expect("a file");
    let child = Command::new("tshark")
        .args(["-q", "-i", "lo", "-F", "pcap", "-f", filter, "-w"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let mut running = Running(child.expect("tshark is installed: tests/run does it"));
    for _ in 0..50 {
        sleep(Duration::from_millis(100));
        if running.0.try_wait().expect("its state").is_some() {
            eprintln!("this user may not capture on the loopback: {}", fs::read_to_string(file.with_extension("log")).unwrap_or_default());
            return None;
        }
        if file.is_file() {
            break;
        }
    }
    Some(running)
}

#[test]
fn an_ordinary_phone_calls_and_nothing_that_passes_is_malformed() {
    let platform_at = free_port();
    let bench = Bench::start("phone", &Setup::to(&format!("sip:platform@{platform_at};transport=udp")));
    let file = bench.folder.join("call.pcap");
    let filter =
        format!("udp portrange {}-{} or udp port {} or udp port {}", bench.rtp, bench.rtp + 399, bench.sip.port(), platform_at.port());
    let running = capture(&file, &filter);
    let _taker = Sipp::start(
        &bench.folder,
        &Options { scenario: "platform_hangs_up", to: None, at: platform_at, transport: "u1", calls: (1, 1), calls_from: None },
    );
    let _phone = baresip(&bench.folder.join("baresip"), bench.sip, "+493023125201");
    let record = bench.wait_for_records(1).remove(0);
    assert_eq!((record["offhook_outcome"].as_str(), record["offhook_ended_as"].as_str()), ("answered", "completed"), "{record:?}");
    assert_eq!(record["hs_call_from_number"], "+493023125101");
    let Some(mut running) = running else { return };
    sleep(Duration::from_millis(500));
    // Ended as by Ctrl-C, so that the file is whole.
    let _ = Command::new("kill").args(["-INT", &running.0.id().to_string()]).status();
    let _ = running.0.wait();

    let tshark = |filter: &str| {
        let ports = [bench.sip, platform_at].map(|a| format!("udp.port=={},sip", a.port()));
        let output =
            Command::new("tshark").arg("-r").arg(&file).args(["-d", &ports[0], "-d", &ports[1], "-Y", filter]).output().expect("tshark");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(tshark("_ws.malformed"), Vec::<String>::new());
    assert!(tshark("sip.Method == \"INVITE\"").len() >= 2, "both legs");
    assert!(tshark("rtp").len() > 50, "sound on both legs");

    // The program's own eyes see the same.
    let output = Command::new(env!("CARGO_BIN_EXE_offhook")).args(["replay", "--json"]).arg(&file).output().expect("replay");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["sip"]["invite_dialogs"], 2, "{}", report["sip"]);
    assert_eq!(report["sip"]["messages"].as_u64().map(|n| n as usize), Some(tshark("sip").len()));
    let legs = report["calls"].as_array().expect("calls");
    assert!(legs.iter().all(|c| c["ended_as"] == "completed" && !c["streams"].as_array().expect("streams").is_empty()), "{report:#}");
}
