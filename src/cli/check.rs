//! `offhook check`: every fault of a configuration, then what the machine lacks to carry it.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;
use serde_json::json;

use super::{FAILED, OK, WRONG_USE};
use crate::{
    config::{Config, Error, Fault},
    shell::{clock::Clock, files, net::Transport},
    time::Wall,
};

/// Arguments of `offhook check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration to look at.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
    pub config: PathBuf,
    /// Look at the file only, not at this machine: for a configuration that is to run elsewhere.
    #[arg(long)]
    pub file_only: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    pub json: bool,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    ok: bool,
    detail: String,
    /// What to do, where it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

fn well(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding { name, ok: true, detail: detail.into(), hint: None }
}

fn bad(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding { name, ok: false, detail: detail.into(), hint: Some(hint.into()) }
}

/// Prints what it finds; status 1 where anything must be mended.
pub fn run(args: Args) -> ExitCode {
    let (faults, findings) = match Config::load(&args.config) {
        Ok(_) if args.file_only => (Vec::new(), Vec::new()),
        Ok(config) => (Vec::new(), machine(&config)),
        Err(Error::Faults(faults)) => (faults, Vec::new()),
        Err(error) => {
            eprintln!("{error}");
            return WRONG_USE.into();
        }
    };
    let ok = faults.is_empty() && findings.iter().all(|f| f.ok);
    if args.json {
        println!("{}", json!({"ok": ok, "faults": faults, "machine": findings}));
    } else {
        people(&args.config, &faults, &findings);
    }
    if ok { OK.into() } else { FAILED.into() }
}

fn people(config: &Path, faults: &[Fault], findings: &[Finding]) {
    for fault in faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        println!("{}: {} to mend; the machine is looked at once the file has none", config.display(), faults.len());
        return;
    }
    println!("{}: no fault", config.display());
    for finding in findings {
        println!("{:<4} {}: {}", if finding.ok { "ok" } else { "BAD" }, finding.name, finding.detail);
        if let Some(hint) = &finding.hint {
            println!("     {hint}");
        }
    }
}

/// What the machine lacks for `config`.
fn machine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![file_limit(config), ports(config), clock()];
    findings.extend(listeners(config));
    findings.extend(disk(&config.data.directory));
    findings
}

fn file_limit(config: &Config) -> Finding {
    let name = "file limit";
    let pairs = config.media.ports.len() / 4;
    let calls = config.sip.calls_max.min(pairs);
    let needed = u64::try_from(calls.saturating_mul(FILES_PER_CALL).saturating_add(FILES_BESIDE)).unwrap_or(u64::MAX);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    // `serve` raises the soft limit to the hard one.
    if hard >= needed {
        return well(name, format!("{soft} open files, {hard} at most; {calls} calls take {needed}"));
    }
    let hint = format!("set LimitNOFILE={needed} in the unit (or `ulimit -Hn {needed}`), or lower `calls_max` of [sip]");
    bad(name, format!("{hard} open files at most, and {calls} calls take {needed}"), hint)
}

fn ports(config: &Config) -> Finding {
    let name = "media ports";
    let (first, last) = (*config.media.ports.start(), *config.media.ports.end());
    let carried = config.media.ports.len() / 4;
    let ip = config.sip.listen.first().map_or(IpAddr::from([127, 0, 0, 1]), |l| l.address.ip());
    let taken = config.media.ports.clone().filter(|p| p % 2 == 0).filter(|p| UdpSocket::bind((ip, *p)).is_err()).collect::<Vec<_>>();
    if let Some(example) = taken.first().filter(|_| taken.len() > PORTS_TAKEN_MAX) {
        let hint =
            format!("see who has them with `ss -ulpn`, or choose another range in `ports` of [media]; port {example} on {ip} is one");
        return bad(name, format!("{} of the even ports {first}-{last} cannot be bound on {ip}", taken.len()), hint);
    }
    if let Some((low, high)) = ephemeral()
        && first <= high
        && last >= low
    {
        let hint = format!("choose ports outside {low}-{high}, or narrow net.ipv4.ip_local_port_range: other programs take theirs from it");
        return bad(name, format!("{first}-{last} overlaps the ports that the system hands out, {low}-{high}"), hint);
    }
    if carried < config.sip.calls_max {
        let detail = format!("{first}-{last} carries {carried} calls at a time, below calls_max = {}", config.sip.calls_max);
        return well(name, format!("{detail}: the ports are the limit"));
    }
    well(name, format!("{first}-{last} carries {carried} calls at a time"))
}

fn ephemeral() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = text.split_whitespace().filter_map(|n| n.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn clock() -> Finding {
    let name = "clock";
    let now = Clock::new().wall();
    if now < BUILT {
        let hint = "set it, and keep it with chrony or systemd-timesyncd: event times, tokens and webhook signatures depend on it";
        return bad(name, format!("{now}, before this program was made"), hint);
    }
    if fs::exists("/run/systemd/timesync").unwrap_or(false) && !fs::exists("/run/systemd/timesync/synchronized").unwrap_or(true) {
        return bad(
            name,
            format!("{now}, not synchronised"),
            "see `timedatectl`: webhook signatures more than five minutes off are refused",
        );
    }
    well(name, now.to_string())
}

fn listeners(config: &Config) -> Vec<Finding> {
    let sip = config.sip.listen.iter().map(|listener| {
        let bound = match listener.transport {
            Transport::Udp => UdpSocket::bind(listener.address).map(drop),
            Transport::Tcp => TcpListener::bind(listener.address).map(drop),
        };
        (listener.to_string(), listener.address, bound)
    });
    let http =
        std::iter::once((format!("http:{}", config.http.listen), config.http.listen, TcpListener::bind(config.http.listen).map(drop)));
    sip.chain(http).map(|(what, address, bound)| listener(&what, address, bound)).collect()
}

fn listener(what: &str, address: SocketAddr, bound: io::Result<()>) -> Finding {
    let name = "listener";
    match bound {
        Ok(()) => well(name, what),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("another program has the port, maybe a running offhook: `ss -lpn sport = {}`", address.port())
                }
                io::ErrorKind::AddrNotAvailable => format!("{} is no address of this machine: `ip addr` shows those it has", address.ip()),
                io::ErrorKind::PermissionDenied => "ports below 1024 take CAP_NET_BIND_SERVICE: take a higher one".into(),
                _ => "see the address in the configuration".into(),
            };
            bad(name, format!("{what}: {error}"), hint)
        }
    }
}

fn disk(directory: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The directory is made by `serve`; until then its nearest parent tells the same of the disk.
    let there = directory.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("."));
    match files::free_bytes(there) {
        Ok(free) if free < FREE_BYTES_MIN => findings.push(bad(
            "disk space",
            format!("{} MB free below {}", free >> 20, there.display()),
            format!("make room for at least {} MB, or move `directory` of [data]: a full disk closes the journal", FREE_BYTES_MIN >> 20),
        )),
        Ok(free) => findings.push(well("disk space", format!("{} MB free below {}", free >> 20, there.display()))),
        Err(error) => findings.push(bad("disk space", error.to_string(), "see `directory` of [data]")),
    }
    match files::sync_latency(there, SYNCS) {
        Ok(times) => {
            let at = |index: usize| times.get(index).copied().unwrap_or_default();
            let (p50, worst) = (at(SYNCS / 2), at(SYNCS - 1));
            let detail = format!("fdatasync takes {:.1} ms, {:.1} ms at worst of {SYNCS}", ms(p50), ms(worst));
            findings.push(if p50 > SYNC_MAX {
                bad("disk latency", detail, "put `directory` of [data] on a local SSD: each webhook's answer waits for one sync")
            } else {
                well("disk latency", detail)
            });
        }
        Err(error) => findings.push(bad("disk latency", error.to_string(), "see `directory` of [data]")),
    }
    findings
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Two media sockets, and a recording with its sidecar.
const FILES_PER_CALL: usize = 4;
/// Listeners, connections, journal, store, and what the runtime keeps.
const FILES_BESIDE: usize = 512;
/// Ports of the range that others may hold: a few are passed over when a call is given its own.
const PORTS_TAKEN_MAX: usize = 16;
/// A day of 500,000 events, as recordings are apart.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Syncs measured.
const SYNCS: usize = 50;
/// Above this the pipeline still works, but every webhook waits.
const SYNC_MAX: Duration = Duration::from_millis(50);
/// No clock is right that shows less: 2026-01-01.
const BUILT: Wall = Wall::from_millis(1_767_225_600_000);

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = include_str!("../../examples/least.toml");

    #[test]
    fn a_taken_listener_and_a_bad_address_are_told_apart() {
        let taken = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let text = LEAST.replace("udp:127.0.0.1:5060", &format!("udp:{}", taken.local_addr().expect("an address")));
        let text = text.replace("tcp:127.0.0.1:5060", "tcp:192.0.2.77:5060");
        let config = Config::parse(Path::new("offhook.toml"), &text).expect("no fault");
        let hints = listeners(&config).into_iter().filter_map(|f| f.hint).collect::<Vec<_>>();
        assert!(hints.iter().any(|h| h.contains("another program has the port")), "{hints:?}");
        assert!(hints.iter().any(|h| h.contains("no address of this machine")), "{hints:?}");
    }

    #[test]
    fn ports_that_the_system_hands_out_are_not_for_media() {
        let Some((low, _)) = ephemeral() else { return };
        let text = format!("{LEAST}\n[media]\nports = \"{}-{}\"\n", low, low + 99);
        let config = Config::parse(Path::new("offhook.toml"), &text).expect("no fault");
        assert!(ports(&config).detail.contains("overlaps"), "{:?}", ports(&config));
    }

    #[test]
    fn the_machine_is_looked_at_from_all_sides() {
        let config = Config::parse(Path::new("/tmp/offhook.toml"), LEAST).expect("no fault");
        let names = machine(&config).iter().map(|f| f.name).collect::<Vec<_>>();
        for name in ["file limit", "media ports", "clock", "listener", "disk space", "disk latency"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
    }
}
