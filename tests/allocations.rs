//! Nothing is allocated per packet: relayed, recorded, transcoded or hidden. A test binary of its own, since it counts what the whole process allocates.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{alloc::System, net::SocketAddr};

use offhook::{
    chance::Chance,
    codec::Codec,
    event::{CallId, DtmfMethod, Leg},
    media::{Command, Config, Media, Port, Stream, Tap, Wire},
    rtp,
    time::Instant,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Default)]
struct Sink {
    sent: u64,
    tapped: u64,
}

impl Wire for Sink {
    fn send(&mut self, _: Port, _: SocketAddr, _: &[u8]) {
        self.sent += 1;
    }

    fn tap(&mut self, _: Tap) -> bool {
        self.tapped += 1;
        true
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

const PACKETS: u32 = 1000;

/// Allocations while so many packets pass each way, after ten of warm-up; all must have been sent, and recorded where they may be.
fn allocations(caller: Codec, platform: Codec, secure: bool) -> usize {
    let (mut media, mut sink) = (Media::new(Config::default(), Chance::from_seed(2)), Sink::default());
    let call = CallId("0197b0a0-7d4c-7000-8000-000000000001".parse().expect("an id"));
    let mut command = |command| media.handle_command(Instant::ORIGIN, command, &mut sink);
    for (leg, codec) in [(Leg::Caller, caller), (Leg::Callee, platform)] {
        command(Command::Open { call, leg, local: address(20_000) });
        let agreed = Stream {
            remote: address(4000),
            signalling: address(4000).ip(),
            codec,
            pt: codec.payload_type(),
            recv: vec![(codec.payload_type(), codec)],
            event_send: Some(101),
            event_recv: vec![101],
            dtmf: Some(DtmfMethod::Rfc4733),
            send: true,
            receive: true,
            ptime_ms: 20,
        };
        command(Command::Agree { call, leg, agreed });
        command(Command::Watch { call, leg, silence_ms: 3_600_000, no_media_ms: 3_600_000 });
    }
    command(Command::Record { call, file: String::new(), invited: Instant::ORIGIN });
    command(Command::Secure { call, ask: 1, on: secure, reason: None });
    command(Command::Bridge { call, on: true });
    media.handle_bound(Port(0), Ok(()));
    media.handle_bound(Port(1), Ok(()));
    while media.poll_output().is_some() {}

    let mut pass = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            for (port, codec) in [(0, caller), (1, platform)] {
                let mut packet = [0x55; rtp::HEADER_OCTETS + 160];
                let sequence = u16::try_from(number).expect("few");
                rtp::write(&mut packet, 0, false, codec.payload_type(), sequence, number * 160, port);
                media.handle_packet(Instant::from_millis(u64::from(number) * 20), Port(port), address(4000), &mut packet, &mut sink);
            }
        }
    };
    pass(0..10);
    let region = Region::new(COUNTED);
    pass(10..10 + PACKETS);
    let change = region.change();
    let all = u64::from(10 + PACKETS) * 2;
    assert_eq!(sink.sent, all);
    assert!(if secure { sink.tapped < 5 } else { sink.tapped > all });
    change.allocations + change.reallocations
}

/// One test, since others beside it would be counted too.
#[test]
fn no_packet_allocates() {
    for (caller, platform) in
        [(Codec::Pcmu, Codec::Pcmu), (Codec::Pcmu, Codec::Pcma), (Codec::Pcma, Codec::G722), (Codec::G722, Codec::G722)]
    {
        for secure in [false, true] {
            // The harness's own thread is counted too, and now and then has something to say on a busy machine: what the packets do, they do each time.
            let counted = (0..5).map(|_| allocations(caller, platform, secure)).min();
            assert_eq!(counted, Some(0), "{caller} and {platform}, secure: {secure}");
        }
    }
    let region = Region::new(COUNTED);
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert_eq!(region.change().allocations, 1, "the counter counts");
}
