//! A bridged call with a key sequence and a recording, and any packets at any time: nothing panics, and in a secure phase nothing of the caller gets out.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use offhook::{
    chance::Chance,
    codec::Codec,
    dtmf::Digit,
    event::{CallId, DtmfMethod, Leg},
    media::{Command, Config, Media, Output, Port, Report, Stream, Tap, Wire},
    rtp::Header,
    time::Instant,
};

/// Counts what gets out.
#[derive(Default)]
struct Out {
    frames: usize,
    events_to_platform: usize,
}

impl Wire for Out {
    fn send(&mut self, port: Port, _: SocketAddr, packet: &[u8]) {
        let header = Header::parse(packet).expect("what is sent is RTP");
        self.events_to_platform += usize::from(port == Port(1) && header.payload_type == 101);
    }

    fn tap(&mut self, tap: Tap) -> bool {
        self.frames += usize::from(matches!(tap, Tap::Frame(_)));
        true
    }
}

fuzz_target!(|input: &[u8]| {
    let [first, second, steps @ ..] = input else { return };
    let codec = |n: &u8| Codec::ALL[usize::from(*n) % Codec::ALL.len()];
    let call = CallId("0197b0a0-7d4c-7000-8000-000000000001".parse().expect("an id"));
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut media = Media::new(Config::default(), Chance::from_seed(1));
    let mut out = Out::default();
    let mut now = Instant::ORIGIN;
    for (leg, number, codec) in [(Leg::Caller, 0, codec(first)), (Leg::Callee, 1, codec(second))] {
        media.handle_command(now, Command::Open { call, leg, local: address(20_000) }, &mut out);
        media.handle_bound(Port(number), Ok(()));
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
        media.handle_command(now, Command::Agree { call, leg, agreed }, &mut out);
    }
    let keys = |text| Digit::parse_all(text).expect("keys");
    media.handle_command(now, Command::Keys { call, start: keys("*7"), end: keys("*8") }, &mut out);
    media.handle_command(now, Command::Record { call, file: String::new(), invited: now }, &mut out);
    media.handle_command(now, Command::Watch { call, leg: Leg::Caller, silence_ms: 100, no_media_ms: 500 }, &mut out);
    media.handle_command(now, Command::Bridge { call, on: true }, &mut out);

    let mut shut = false;
    let mut rest = steps;
    // A step: what, after how many milliseconds, how many octets follow.
    while let [what, wait, length, tail @ ..] = rest {
        let (octets, after) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = after;
        now += std::time::Duration::from_millis(u64::from(*wait));
        while media.next_timeout().is_some_and(|at| at <= now) {
            let at = media.next_timeout().expect("it was asked");
            media.handle_timeout(at, &mut out);
        }
        while media.poll_output().is_some() {}
        if what & 0x70 == 0x70 {
            shut = what & 1 == 0;
            media.handle_command(now, Command::Secure { call, ask: 1, on: shut, reason: None }, &mut out);
            continue;
        }
        let frames = out.frames;
        let mut packet = octets.to_vec();
        media.handle_packet(now, Port(u32::from(what & 1)), address(4000), &mut packet, &mut out);
        assert!(!shut || out.frames == frames, "a frame reached the recorder in a phase");
        while let Some(output) = media.poll_output() {
            if let Output::Report(report) = output {
                shut |= matches!(report, Report::KeySequence { .. });
                let told = matches!(report, Report::Digit { leg: Leg::Caller, digit: Some(_), .. });
                assert!(!(told && shut), "a key was told in a phase");
            }
        }
    }
});
