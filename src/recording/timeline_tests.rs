//! Clicks sent on both legs, and where they stand.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{chance::Chance, codec::Encoder, recording::wav::Wave};

const INVITED: Instant = Instant::from_millis(1000);

fn at(ms: u64) -> Instant {
    INVITED + Duration::from_millis(ms)
}

fn call() -> CallId {
    "01960000-0000-7000-8000-000000000001".parse().expect("a call id")
}

fn timeline(start_ms: u64, rate: SampleRate) -> Timeline {
    Timeline::new(call(), "x.wav", INVITED, at(start_ms), Wall::from_millis(1_767_607_200_000), rate)
}

/// The file as the writes so far leave it.
#[derive(Default)]
struct File(Vec<u8>);

impl File {
    fn take(&mut self, timeline: &mut Timeline) {
        while let Some(write) = timeline.poll_output() {
            let from = usize::try_from(write.offset).expect("fits");
            self.0.resize(self.0.len().max(from + write.bytes.len()), 0);
            self.0[from..from + write.bytes.len()].copy_from_slice(&write.bytes);
        }
    }

    fn wave(&self) -> Wave {
        Wave::parse(&self.0).expect("a recording")
    }
}

fn finish(mut timeline: Timeline, end_ms: u64) -> (Wave, Manifest) {
    timeline.end(at(end_ms), 0);
    let mut file = File::default();
    file.take(&mut timeline);
    (file.wave(), timeline.manifest())
}

/// 20 ms of a square wave at 1 kHz, or of silence.
fn payload(codec: Codec, loud: bool) -> Vec<u8> {
    let rate = codec.sample_rate().hz();
    let samples: Vec<i16> = (0..rate / 50)
        .map(|n| {
            if !loud {
                0
            } else if n % (rate / 1000) < rate / 2000 {
                12_000
            } else {
                -12_000
            }
        })
        .collect();
    let mut octets = vec![0; 160];
    Encoder::new(codec).encode(&samples, &mut octets);
    octets
}

/// Where each click begins, in ms from the start of the file: a loud sample after 100 ms of none.
fn clicks(samples: &[i16], rate: u32) -> Vec<i64> {
    let mut found = Vec::new();
    let mut last = -1_000_000_i64;
    for (n, _) in samples.iter().enumerate().filter(|(_, s)| s.unsigned_abs() > 4000) {
        let ms = i64::try_from(n).expect("fits") * 1000 / i64::from(rate);
        if ms - last > 100 {
            found.push(ms);
        }
        last = ms;
    }
    found
}

#[test]
fn each_leg_stands_where_its_first_packet_came() {
    let mut timeline = timeline(2104, SampleRate::Hz8000);
    timeline.packet(Leg::Caller, 1, 5000, at(2204), Codec::Pcmu, &payload(Codec::Pcmu, true));
    timeline.packet(Leg::Callee, 9, 77, at(3304), Codec::Pcma, &payload(Codec::Pcma, true));
    let (wave, manifest) = finish(timeline, 4104);
    assert_eq!((wave.rate, wave.caller.len()), (8000, 16_000));
    assert_eq!((clicks(&wave.caller, 8000), clicks(&wave.platform, 8000)), (vec![100], vec![1200]));
    assert_eq!((manifest.starts_at_ms, manifest.duration_ms, manifest.complete, manifest.degraded), (2104, 2000, true, false));
    assert_eq!(manifest.codecs, PerSide { trunk: vec!["PCMU".to_owned()], platform: vec!["PCMA".to_owned()] });
}

#[test]
fn packets_out_of_order_and_late_by_jitter_find_their_place() {
    let mut timeline = timeline(0, SampleRate::Hz8000);
    let sound = |n: u32| payload(Codec::Pcmu, n == 2);
    // The third comes after the fifth, 130 ms late.
    for (n, ms) in [(0, 100), (1, 120), (3, 160), (4, 180), (2, 270)] {
        timeline.packet(Leg::Caller, 1, n * 160, at(ms), Codec::Pcmu, &sound(n));
    }
    let (wave, manifest) = finish(timeline, 1000);
    assert_eq!(clicks(&wave.caller, 8000), [140]);
    assert_eq!(manifest.frames.trunk.late, 0);
}

#[test]
fn what_comes_after_the_window_is_counted_and_leaves_silence() {
    let mut timeline = timeline(0, SampleRate::Hz8000);
    let loud = payload(Codec::Pcmu, true);
    timeline.packet(Leg::Callee, 2, 0, at(100), Codec::Pcmu, &payload(Codec::Pcmu, false));
    timeline.packet(Leg::Caller, 1, 0, at(100), Codec::Pcmu, &payload(Codec::Pcmu, false));
    timeline.packet(Leg::Callee, 2, 160 * 70, at(1500), Codec::Pcmu, &payload(Codec::Pcmu, false));
    timeline.packet(Leg::Caller, 1, 160 * 25, at(1500), Codec::Pcmu, &loud);
    let (wave, manifest) = finish(timeline, 2000);
    assert!(clicks(&wave.caller, 8000).is_empty());
    assert_eq!((manifest.frames.trunk.late, manifest.degraded), (1, true));
}

#[test]
fn a_phase_is_silence_of_the_same_length_whatever_comes_for_it() {
    let mut timeline = timeline(0, SampleRate::Hz8000);
    let loud = payload(Codec::Pcmu, true);
    for n in 0..50_u32 {
        for leg in [Leg::Caller, Leg::Callee] {
            timeline.packet(leg, 1, n * 160, at(u64::from(n) * 20), Codec::Pcmu, &loud);
        }
    }
    // The mark comes 5 ms into the packet of 980 ms.
    timeline.secure(true, INVITED + Duration::from_micros(985_400), None);
    assert!(timeline.is_masked());
    timeline.packet(Leg::Caller, 1, 51 * 160, at(1020), Codec::Pcmu, &loud);
    timeline.secure(true, at(1030), Some("payment"));
    timeline.secure(false, INVITED + Duration::from_micros(1_500_300), None);
    // Late, and of the phase.
    timeline.packet(Leg::Caller, 1, 74 * 160, at(1510), Codec::Pcmu, &loud);
    // Its first 1 ms is of the phase.
    timeline.packet(Leg::Caller, 1, 75 * 160, at(1520), Codec::Pcmu, &loud);
    let (wave, manifest) = finish(timeline, 2000);
    assert_eq!(manifest.masked, [Masked { from_ms: 985, to_ms: Some(1501), reason: "payment".into() }]);
    assert_eq!(wave.caller.len(), 16_000);
    for side in [&wave.caller, &wave.platform] {
        assert!(side[985 * 8..1501 * 8].iter().all(|s| *s == 0));
        assert!(side[984 * 8..985 * 8].iter().all(|s| *s != 0), "and not a sample more");
    }
    assert!(wave.caller[1501 * 8..1520 * 8].iter().all(|s| *s != 0), "sound is back at once");
}

#[test]
fn a_phase_that_was_asked_for_late_takes_back_what_was_written() {
    let mut timeline = timeline(0, SampleRate::Hz8000);
    for n in 0..150_u32 {
        timeline.packet(Leg::Caller, 1, n * 160, at(u64::from(n) * 20), Codec::Pcmu, &payload(Codec::Pcmu, true));
    }
    timeline.secure(true, at(1000), Some("card"));
    let (wave, manifest) = finish(timeline, 3000);
    assert!(wave.caller[8000..].iter().all(|s| *s == 0) && wave.caller[7999] != 0);
    assert_eq!(manifest.masked, [Masked { from_ms: 1000, to_ms: Some(3000), reason: "card".into() }]);
}

#[test]
fn a_crash_leaves_a_file_that_reads_up_to_the_last_patch() {
    let mut timeline = timeline(0, SampleRate::Hz8000);
    let mut file = File::default();
    file.take(&mut timeline);
    assert!(file.wave().caller.is_empty(), "the header stands before the first sound");
    for n in 0..500_u32 {
        timeline.packet(Leg::Caller, 1, n * 160, at(u64::from(n) * 20), Codec::Pcmu, &payload(Codec::Pcmu, true));
        file.take(&mut timeline);
    }
    let ms = file.wave().caller.len() / 8;
    assert!(ms >= 10_000 - 5000 - 1000, "{ms} ms");
    assert!(!timeline.manifest().complete);
}

#[test]
fn wide_and_narrow_band_share_a_file_of_the_rate_fixed_at_its_start() {
    for rate in [SampleRate::Hz8000, SampleRate::Hz16000] {
        let mut timeline = timeline(0, rate);
        for n in 0..40_u32 {
            for (leg, codec) in [(Leg::Caller, Codec::G722), (Leg::Callee, Codec::Pcma)] {
                timeline.packet(leg, 1, n * 160, at(u64::from(n) * 20), codec, &payload(codec, n == 20));
            }
        }
        let (wave, _) = finish(timeline, 800);
        assert_eq!((wave.rate, wave.caller.len()), (rate.hz(), usize::try_from(rate.hz()).expect("fits") * 8 / 10));
        for side in [&wave.caller, &wave.platform] {
            let found = clicks(side, rate.hz());
            assert!(found.len() == 1 && (found[0] - 400).abs() <= 5, "{rate:?}: {found:?}");
        }
    }
}

#[test]
fn a_clock_that_jumps_or_stood_still_in_a_pause_is_anchored_anew() {
    let mut timeline = timeline(0, SampleRate::Hz8000);
    timeline.packet(Leg::Caller, 1, 1000, at(0), Codec::Pcmu, &payload(Codec::Pcmu, true));
    timeline.packet(Leg::Caller, 1, 0x8000_0000, at(1000), Codec::Pcmu, &payload(Codec::Pcmu, true));
    // Three seconds of pause, and the clock has moved on by one packet.
    timeline.packet(Leg::Caller, 1, 0x8000_00a0, at(4000), Codec::Pcmu, &payload(Codec::Pcmu, true));
    let (wave, _) = finish(timeline, 5000);
    assert_eq!(clicks(&wave.caller, 8000), [0, 1000, 4000]);
}

/// Issue: clicks 200 ms apart on both legs, ten minutes, 2 % of the packets lost, one leg pausing without packets, jitter, a time stamp
/// that wraps.
#[test]
fn after_ten_minutes_both_legs_still_stand_within_20_ms() {
    let mut chance = Chance::from_seed(7);
    let mut timeline = timeline(0, SampleRate::Hz8000);
    let mut file = File::default();
    let (quiet, loud) = (payload(Codec::Pcmu, false), payload(Codec::Pcmu, true));
    let mut queue: Vec<(u64, Leg, u32, bool)> = Vec::new();
    let mut sent = 0;
    for n in 0..30_000_u32 {
        let click = n % 10 == 0;
        for (leg, base) in [(Leg::Caller, u32::MAX - 100_000), (Leg::Callee, 40)] {
            // The caller's phone sends nothing for five seconds of each twenty.
            let pause = leg == Leg::Caller && n % 1000 >= 750;
            // First packets arrive at once: anchors are what is compared.
            let lost = n > 0 && chance.percent(2);
            if !pause && !lost {
                sent += u64::from(click);
                let jitter = if n == 0 { 0 } else { chance.below(40) };
                queue.push((u64::from(n) * 20 + jitter, leg, base.wrapping_add(n * 160), click));
            }
        }
    }
    queue.sort_by_key(|(ms, ..)| *ms);
    for (ms, leg, timestamp, click) in queue {
        timeline.packet(leg, 3, timestamp, at(ms), Codec::Pcmu, if click { &loud } else { &quiet });
        file.take(&mut timeline);
    }
    timeline.end(at(600_000), 0);
    file.take(&mut timeline);
    let wave = file.wave();
    assert_eq!(wave.caller.len(), 600 * 8000);
    let (caller, platform) = (clicks(&wave.caller, 8000), clicks(&wave.platform, 8000));
    assert_eq!(u64::try_from(caller.len() + platform.len()).expect("fits"), sent, "no click is lost on its way into the file");
    for click in caller.iter().chain(&platform) {
        let off = (click + 10).rem_euclid(200) - 10;
        assert!(off.abs() <= 1, "a click at {click} ms");
    }
    assert!(caller.last() > Some(&590_000) || platform.last() > Some(&590_000));
    let manifest = timeline.manifest();
    let lost = manifest.frames.trunk.lost + manifest.frames.platform.lost;
    assert!((800..1300).contains(&lost), "2 % of 52,500: {lost}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes and in whatever order: the length is exact, spans are silent, nothing panics.
    #[test]
    fn any_order_of_packets_and_marks_keeps_length_and_silence(
        steps in prop::collection::vec((0_u64..400, 0_u8..12, any::<u32>(), 0_usize..500, any::<bool>()), 1..60),
    ) {
        let mut timeline = timeline(50, SampleRate::Hz8000);
        let mut file = File::default();
        let mut ms = 0;
        for (wait, what, timestamp, length, near) in steps {
            ms += wait;
            let leg = if what % 2 == 0 { Leg::Caller } else { Leg::Callee };
            match what {
                0 => timeline.secure(true, at(ms), Some("card")),
                1 => timeline.secure(false, at(ms), None),
                _ => {
                    let timestamp = if near { u32::try_from(ms).expect("small") * 8 } else { timestamp };
                    timeline.packet(leg, u32::from(what), timestamp, at(ms), Codec::Pcma, &vec![0x2a; length]);
                }
            }
            file.take(&mut timeline);
        }
        timeline.end(at(ms.max(50) + 10), 0);
        file.take(&mut timeline);
        let (wave, manifest) = (file.wave(), timeline.manifest());
        prop_assert_eq!(u64::try_from(wave.caller.len()).expect("fits"), (ms.max(50) + 10 - 50) * 8);
        prop_assert_eq!(file.0.len(), wav::HEADER_BYTES + wave.caller.len() * 4);
        for span in &manifest.masked {
            let place = |ms: i64| usize::try_from((ms - 50) * 8).expect("in the file");
            let (from, to) = (place(span.from_ms), place(span.to_ms.expect("closed")));
            prop_assert!(wave.caller[from..to].iter().chain(&wave.platform[from..to]).all(|s| *s == 0));
        }
    }
}
