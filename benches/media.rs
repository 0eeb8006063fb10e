//! A packet's way through the media machine, and the codecs beside it; with allocations.
//! `cargo bench --bench media`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::net::SocketAddr;

use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use offhook::{
    chance::Chance,
    codec::{Codec, Decoder, Encoder},
    event::{CallId, DtmfMethod, Leg},
    media::{Command, Config, Media, Port, Stream, Tap, Wire},
    rtp::{self, Header},
    time::Instant,
};

/// Counts what each bench allocates: none a packet is the aim.
#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Sockets and recorder that take everything.
struct Sink;

impl Wire for Sink {
    fn send(&mut self, _: Port, _: SocketAddr, packet: &[u8]) {
        black_box(packet);
    }

    fn tap(&mut self, tap: Tap) -> bool {
        black_box(&tap);
        true
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// So many bridged calls; the caller of call `n` is on port `2n`.
fn bridged(calls: u32, caller: Codec, platform: Codec, recorded: bool) -> Media {
    let (now, mut chance) = (Instant::ORIGIN, Chance::from_seed(1));
    let mut media = Media::new(Config::default(), Chance::from_seed(2));
    for number in 0..calls {
        let call = CallId(chance.uuid_v7(offhook::time::Wall::from_millis(1_767_607_200_000)));
        for (leg, port, codec) in [(Leg::Caller, number * 2, caller), (Leg::Callee, number * 2 + 1, platform)] {
            media.handle_command(now, Command::Open { call, leg, local: address(20_000) }, &mut Sink);
            media.handle_bound(Port(port), Ok(()));
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
            media.handle_command(now, Command::Agree { call, leg, agreed }, &mut Sink);
        }
        if recorded {
            media.handle_command(now, Command::Record { call, file: "bench".into(), invited: now }, &mut Sink);
        }
        media.handle_command(now, Command::Bridge { call, on: true }, &mut Sink);
    }
    while media.poll_output().is_some() {}
    media
}

/// Packets from all callers in turn, 20 ms apart; one iteration is one packet.
fn packets(bencher: Bencher<'_, '_>, calls: u32, caller: Codec, platform: Codec, recorded: bool) {
    let mut media = bridged(calls, caller, platform, recorded);
    let mut packet = [0x55; rtp::HEADER_OCTETS + 160];
    let mut number = 0_u32;
    bencher.counter(ItemsCount::new(1_u32)).bench_local(move || {
        let (call, round) = (number % calls, number / calls);
        number = number.wrapping_add(1);
        let sequence = u16::try_from(round & 0xffff).unwrap_or(0);
        rtp::write(&mut packet, 0, false, caller.payload_type(), sequence, round.wrapping_mul(160), call);
        media.handle_packet(Instant::from_millis(u64::from(round) * 20), Port(call * 2), address(4000), &mut packet, &mut Sink);
    });
}

#[divan::bench]
fn header_read(bencher: Bencher<'_, '_>) {
    let mut packet = [0x55; rtp::HEADER_OCTETS + 160];
    rtp::write(&mut packet, 0, false, 0, 1, 2, 3);
    bencher.bench_local(move || Header::parse(black_box(&packet)));
}

#[divan::bench]
fn header_written(bencher: Bencher<'_, '_>) {
    let mut packet = [0x55; rtp::HEADER_OCTETS + 160];
    bencher.bench_local(move || rtp::write(black_box(&mut packet), 0, false, 0, 1, 2, 3));
}

#[divan::bench(args = [1, 1000])]
fn relay(bencher: Bencher<'_, '_>, calls: u32) {
    packets(bencher, calls, Codec::Pcmu, Codec::Pcmu, false);
}

#[divan::bench]
fn relay_recorded(bencher: Bencher<'_, '_>) {
    packets(bencher, 1, Codec::Pcmu, Codec::Pcmu, true);
}

#[divan::bench]
fn transcode_pcmu_to_pcma(bencher: Bencher<'_, '_>) {
    packets(bencher, 1, Codec::Pcmu, Codec::Pcma, false);
}

#[divan::bench]
fn transcode_pcmu_to_g722(bencher: Bencher<'_, '_>) {
    packets(bencher, 1, Codec::Pcmu, Codec::G722, false);
}

#[divan::bench]
fn transcode_g722_to_pcmu(bencher: Bencher<'_, '_>) {
    packets(bencher, 1, Codec::G722, Codec::Pcmu, false);
}

/// A sine of 440 Hz, 20 ms.
fn samples(codec: Codec) -> Vec<i16> {
    let rate = f64::from(codec.sample_rate().hz());
    #[expect(clippy::cast_possible_truncation)]
    (0..160 * codec.samples_per_octet()).map(|n| (8000.0 * (std::f64::consts::TAU * 440.0 * n as f64 / rate).sin()) as i16).collect()
}

#[divan::bench(args = Codec::ALL)]
fn encode_20_ms(bencher: Bencher<'_, '_>, codec: Codec) {
    let (samples, mut encoder, mut out) = (samples(codec), Encoder::new(codec), [0; 160]);
    bencher.bench_local(move || encoder.encode(black_box(&samples), &mut out));
}

#[divan::bench(args = Codec::ALL)]
fn decode_20_ms(bencher: Bencher<'_, '_>, codec: Codec) {
    let mut payload = [0; 160];
    Encoder::new(codec).encode(&samples(codec), &mut payload);
    let (mut decoder, mut out) = (Decoder::new(codec), [0; 320]);
    bencher.bench_local(move || decoder.decode(black_box(&payload), &mut out));
}
