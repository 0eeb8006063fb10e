//! SIPp as carrier and as platform, with real RTP.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The next RTP port of a SIPp, below those that the system hands out and above the gateways'.
static MEDIA: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(10_000);

/// A SIPp process in a folder of its own.
pub struct Sipp {
    child: Child,
    folder: PathBuf,
    name: String,
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a SIPp is to do.
pub struct Options<'a> {
    /// Scenario below `sip-fixtures/sipp`, without `.xml`.
    pub scenario: &'a str,
    /// Where its calls go; none where it is called.
    pub to: Option<SocketAddr>,
    /// Its own SIP address.
    pub at: SocketAddr,
    /// `u1`, `t1` (one connection) or `tn` (a connection a call).
    pub transport: &'a str,
    /// Calls, and calls a second.
    pub calls: (u32, u32),
    /// Lines of `caller;dialled;digits`.
    pub calls_from: Option<&'a str>,
}

impl Sipp {
    /// Starts it. A platform (`to` is none) is waited for until it listens.
    pub fn start(below: &Path, options: &Options<'_>) -> Self {
        let name = format!("{}-{}", options.scenario, options.at.port());
        let folder = below.join(&name);
        fs::create_dir_all(&folder).expect("a folder");
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/sipp").join(format!("{}.xml", options.scenario));
        fs::write(folder.join("speech.ulaw"), speech()).expect("speech");
        let output = File::create(folder.join("screen.txt")).expect("a file");
        let ip = options.at.ip().to_string();
        let mut command = Command::new("sipp");
        command.current_dir(&folder).env("TERM", "dumb").stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output);
        command.args(["-sf".as_ref(), scenario.as_os_str()]);
        command.args(["-i", &ip, "-mi", &ip, "-p", &options.at.port().to_string(), "-t", options.transport, "-nostdin"]);
        command.args(["-m", &options.calls.0.to_string(), "-r", &options.calls.1.to_string()]);
        command.args(["-trace_err", "-trace_logs", "-trace_msg", "-timeout", "90", "-timeout_error", "-max_socket", "5000"]);
        // RTP of its own beside the other SIPps on this machine.
        let media = MEDIA.fetch_add(40, std::sync::atomic::Ordering::Relaxed) + u16::try_from(std::process::id() % 50).expect("small") * 20;
        command.args(["-mp", &media.to_string()]);
        if let Some(lines) = options.calls_from {
            fs::write(folder.join("calls.csv"), format!("SEQUENTIAL\n{lines}")).expect("calls");
            command.args(["-inf", "calls.csv"]);
        }
        match options.to {
            Some(to) => command.arg(to.to_string()),
            // What a platform hears it says again, keys too; not the one that only listens.
            None if options.scenario == "platform_listens" => &mut command,
            None => command.arg("-rtp_echo"),
        };
        let child = command.spawn().expect("sipp is installed: tests/run does it (Debian package sip-tester)");
        if options.to.is_none() {
            sleep(Duration::from_millis(400));
        }
        Self { child, folder, name }
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(mut self) -> String {
        let until = Instant::now() + Duration::from_secs(100);
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                assert!(status.success(), "{} ended with {status}: {}", self.name, self.trouble());
                return self.logs("logs");
            }
            assert!(Instant::now() < until, "{} does not end: {}", self.name, self.trouble());
            sleep(Duration::from_millis(100));
        }
    }

    fn logs(&self, kind: &str) -> String {
        let files = fs::read_dir(&self.folder).expect("its folder").flatten().map(|e| e.path());
        let mine = files.filter(|f| f.to_string_lossy().contains(&format!("_{kind}.log")));
        mine.filter_map(|f| fs::read_to_string(f).ok()).collect()
    }

    fn trouble(&self) -> String {
        let errors: String = self.logs("errors").chars().take(3000).collect();
        let screen = fs::read_to_string(self.folder.join("screen.txt")).unwrap_or_default();
        let lines: Vec<_> = screen.lines().filter(|line| !line.trim().is_empty()).collect();
        format!("{errors}\n{}", lines[lines.len().saturating_sub(4)..].join("\n"))
    }
}

/// What a caller says: the payloads of a capture in `pcap/`, one after the other.
fn speech() -> Vec<u8> {
    let speech = offhook::driver::demo::speech::Speech::named("caller-appointment").expect("a clip");
    speech.frames.concat()
}

/// A line of the carrier's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub from: String,
    pub to: String,
    pub digits: String,
    /// Answer to BYE, ms.
    pub talked_ms: i64,
}

/// Calls of a carrier's log: `caller;dialled;digits;answered|ended;ms` a line.
pub fn logged(log: &str) -> Vec<Logged> {
    let mut answered = std::collections::BTreeMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let parts: Vec<_> = line.trim().split(';').collect();
        let [from, to, digits, what, at] = parts.as_slice() else { continue };
        let at: i64 = at.parse().expect("a time");
        if *what == "answered" {
            answered.insert((*from).to_owned(), at);
        } else {
            let talked_ms = at - answered.get(*from).copied().unwrap_or(at);
            calls.push(Logged { from: (*from).into(), to: (*to).into(), digits: (*digits).into(), talked_ms });
        }
    }
    calls
}
