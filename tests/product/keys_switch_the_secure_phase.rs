//! The caller's own keys start and end a secure phase: what he keys between reaches neither the platform, nor an event, nor the CRM.

use std::{
    collections::BTreeSet,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use offhook::rtp::Packet;

use super::{
    harness::{Bench, Setup, free_port},
    sipp::{Options, Sipp},
};

/// Keys as telephone-event packets spell them, each once.
fn hear(socket: UdpSocket, stop: Arc<AtomicBool>) -> String {
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    let (mut keys, mut seen, mut buffer) = (String::new(), BTreeSet::new(), [0; 2048]);
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let Ok(packet) = Packet::parse(&buffer[..length]) else { continue };
        if packet.payload_type == 101 && seen.insert((packet.ssrc, packet.timestamp)) {
            keys.extend("0123456789*#ABCD".chars().nth(usize::from(packet.payload[0])));
        }
    }
    keys
}

#[test]
fn what_is_keyed_between_the_sequences_goes_nowhere() {
    let ear = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = format!("{}\n", ear.local_addr().expect("an address").port());
    let stop = Arc::new(AtomicBool::new(false));
    let listening = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || hear(ear, stop)
    });
    let platform_at = free_port();
    let setup = Setup {
        route_more: "record = true\nsecure_keys = { start = \"*7\", end = \"*8\" }",
        ..Setup::to(&format!("sip:platform@{platform_at}"))
    };
    let bench = Bench::start("keys", &setup);
    let platform = Options {
        scenario: "platform_hears_elsewhere",
        to: None,
        at: platform_at,
        transport: "u1",
        calls: (1, 1),
        calls_from: Some(&port),
    };
    let taker = Sipp::start(&bench.folder, &platform);
    // A `*` that begins no sequence is held back a moment and goes on.
    let line = "+493023125101;+493023125201;12*3#*74556*89#;\n";
    let carrier =
        Options { scenario: "carrier_keys", to: Some(bench.sip), at: free_port(), transport: "u1", calls: (1, 1), calls_from: Some(line) };
    Sipp::start(&bench.folder, &carrier).finish();
    taker.finish();
    let record = bench.wait_for_records(1).remove(0);
    stop.store(true, Ordering::Relaxed);
    assert_eq!(listening.join().expect("the ear"), "12*3#9#", "the platform gets what stands outside, and neither sequence");
    assert_eq!(record["offhook_digits"], "12*3 9");
    let (_, call) = bench.get(&format!("/v1/calls/{}", record["offhook_call_id"]));
    let call: serde_json::Value = serde_json::from_str(&call).expect("json");
    let events = call["events"].as_array().expect("events");
    let of = |name: &str| events.iter().filter(|e| e["type"] == name).collect::<Vec<_>>();
    assert_eq!(of("call.secure.started")[0]["data"]["by"], "keys");
    assert_eq!(of("call.secure.ended")[0]["data"]["by"], "keys");
    let hidden: u64 = of("call.dtmf").iter().filter_map(|e| e["data"]["count"].as_u64()).sum();
    assert_eq!(hidden, 4, "4556, which nobody is told: {events:#?}");
    bench.wait_until_at_rest();
}
