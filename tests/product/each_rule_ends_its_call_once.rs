//! One SIPp scenario a rule of RFC 3261: whatever happens on the way, the call ends, once, with the right event, and nothing of it is left.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp},
};
use offhook::chance::Chance;

/// Plays one scenario; the record that stands in the CRM afterwards must say `outcome` and `ended_as`.
fn rule(carrier: &str, platform: &str, outcome: &str, ended_as: &str) {
    let platform_at = free_port();
    let bench = Bench::start(carrier, &Setup::to(&format!("sip:platform@{platform_at};transport=udp")));
    play(&bench, carrier, platform, platform_at, bench.sip, outcome, ended_as);
}

fn play(bench: &Bench, carrier: &str, platform: &str, platform_at: SocketAddr, to: SocketAddr, outcome: &str, ended_as: &str) {
    let taker = Sipp::start(
        &bench.folder,
        &Options { scenario: platform, to: None, at: platform_at, transport: "u1", calls: (1, 1), calls_from: None },
    );
    let line = "+493023125101;+493023125201;1;\n";
    let caller = Sipp::start(
        &bench.folder,
        &Options { scenario: carrier, to: Some(to), at: free_port(), transport: "u1", calls: (1, 1), calls_from: Some(line) },
    );
    caller.finish();
    taker.finish();
    let record = bench.wait("the record", || {
        let records = bench.records();
        records.into_values().find(|r| r.contains_key("offhook_ended_as"))
    });
    assert_eq!((record["offhook_outcome"].as_str(), record["offhook_ended_as"].as_str()), (outcome, ended_as), "{record:?}");
    assert_eq!(bench.records().len(), 1, "one call is one record");
    let (status, call) = bench.get(&format!("/v1/calls/{}", record["offhook_call_id"]));
    assert_eq!(status, 200);
    let terminal = call.matches("\"call.ended\"").count() + call.matches("\"call.failed\"").count();
    assert_eq!(terminal, 1, "{call}");
    bench.wait_until_at_rest();
}

#[test]
fn a_plain_call() {
    rule("carrier_plain", "platform_answer", "answered", "completed");
}

#[test]
fn retransmissions_are_answered_and_not_taken_for_new_requests() {
    rule("carrier_retransmits", "platform_answer", "answered", "completed");
}

#[test]
fn a_call_that_is_cancelled_while_it_rings() {
    rule("carrier_cancels", "platform_rings", "cancelled", "cancelled");
}

#[test]
fn a_cancel_that_crosses_the_200_changes_nothing() {
    rule("carrier_cancel_crosses", "platform_answer", "answered", "completed");
}

#[test]
fn a_call_that_is_held_and_taken_back() {
    rule("carrier_reinvites", "platform_answer", "answered", "completed");
}

#[test]
fn proxies_that_want_to_stay_on_the_path() {
    rule("carrier_record_route", "platform_hangs_up", "answered", "completed");
}

#[test]
fn a_carrier_behind_nat() {
    rule("carrier_behind_nat", "platform_answer", "answered", "completed");
}

#[test]
fn options_in_and_out_of_a_dialog_and_keys_by_info() {
    let platform_at = free_port();
    let bench = Bench::start("info", &Setup::to(&format!("sip:platform@{platform_at};transport=udp")));
    play(&bench, "carrier_asks_and_keys_by_info", "platform_listens", platform_at, bench.sip, "answered", "completed");
    let record = bench.wait_for_records(1).remove(0);
    assert_eq!(record["offhook_digits"], "42");
}

/// The platform asks for a transfer to a human whose phone plays `human`; the record of the call.
fn transfer(human: &str, ended_as: &str) -> std::collections::BTreeMap<String, String> {
    let (platform_at, human_at) = (free_port(), free_port());
    let to = |at: SocketAddr| vec![format!("sip:{at};transport=udp")];
    let setup = Setup { routes: vec![("*", to(platform_at)), ("+499", to(human_at))], ..Setup::to("") };
    let bench = Bench::start(human, &setup);
    let at = |scenario, at, calls_from| Options { scenario, to: None, at, transport: "u1", calls: (1, 1), calls_from };
    let refer_to = format!("{human_at}\n");
    let phones = [
        Sipp::start(&bench.folder, &at(human, human_at, None)),
        Sipp::start(&bench.folder, &at("platform_refers", platform_at, Some(&refer_to))),
    ];
    let line = "+493023125101;+493023125201;1;\n";
    let caller =
        Options { scenario: "carrier_talks", to: Some(bench.sip), at: free_port(), transport: "u1", calls: (1, 1), calls_from: Some(line) };
    Sipp::start(&bench.folder, &caller).finish();
    phones.into_iter().for_each(|phone| drop(phone.finish()));
    let record = bench.wait_for_records(1).remove(0);
    assert_eq!(record["offhook_ended_as"], ended_as, "{record:?}");
    bench.wait_until_at_rest();
    record
}

#[test]
fn a_transfer_that_a_human_takes() {
    let record = transfer("platform_answer", "transferred");
    assert!(record["offhook_transferred_to"].contains("anna"), "{record:?}");
}

#[test]
fn a_transfer_that_nobody_takes() {
    let record = transfer("platform_is_busy", "completed");
    assert_eq!(record.get("offhook_transferred_to"), None);
}

/// A tenth of the datagrams lost, both ways, by a seed of its own.
#[test]
fn a_tenth_of_the_datagrams_lost() {
    let platform_at = free_port();
    let bench = Bench::start("lossy", &Setup::to(&format!("sip:platform@{platform_at};transport=udp")));
    for seed in 1..=3 {
        let wire = Lossy::start(bench.sip, seed);
        let taker = Sipp::start(
            &bench.folder,
            &Options { scenario: "platform_answer", to: None, at: platform_at, transport: "u1", calls: (1, 1), calls_from: None },
        );
        let line = format!("+49302312510{seed};+493023125201;1;\n");
        let caller = Sipp::start(
            &bench.folder,
            &Options {
                scenario: "carrier_plain",
                to: Some(wire.address),
                at: free_port(),
                transport: "u1",
                calls: (1, 1),
                calls_from: Some(&line),
            },
        );
        caller.finish();
        taker.finish();
    }
    let records = bench.wait_for_records(3);
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|r| r["offhook_ended_as"] == "completed"), "{records:?}");
    bench.wait_until_at_rest();
}

/// A wire between one carrier and the gateway that loses a tenth of what passes.
struct Lossy {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Lossy {
    fn start(gateway: SocketAddr, seed: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        let address = socket.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut chance = Chance::from_seed(seed);
            let mut carrier = None;
            let mut buffer = [0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let to = if from == gateway {
                    carrier
                } else {
                    carrier = Some(from);
                    Some(gateway)
                };
                if let Some(to) = to.filter(|_| !chance.percent(10)) {
                    let _ = socket.send_to(&buffer[..length], to);
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
