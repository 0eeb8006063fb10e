//! The simulator's own: it is deterministic, clean seeds are clean, and each planted fault is found.

use super::*;

/// Seeds that every run of the tests goes through; ten thousand by hand: `cargo run --release -- simulate --seeds 0..10000`.
const SEEDS: u64 = 300;

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..5 {
        let (a, b) = (run(seed, &Options::default()), run(seed, &Options::default()));
        assert_eq!((a.trace, a.events, a.crashes), (b.trace, b.events, b.crashes));
    }
}

#[test]
fn seeds_are_clean() {
    for seed in 0..SEEDS {
        let run = run(seed, &Options::default());
        assert!(run.failed.is_empty(), "repeat: offhook simulate --seed {seed}: {:#?}", run.failed);
    }
}

/// Each fault, with a seed that is known to find it and what it breaks.
#[cfg(feature = "planted-faults")]
const FOUND: [(Plant, u64, &str); 10] = [
    (Plant::LostAckRetransmission, 76, "every answer is acknowledged"),
    (Plant::DroppedDedupMark, 0, "a webhook is remembered"),
    (Plant::LeakedPort, 0, "every leg, port and timer is released"),
    (Plant::SentBeforeSync, 0, "durable, then sent"),
    (Plant::DigitInSecurePhase, 1, "no card digit leaves a secure phase"),
    (Plant::TimerOnWallClock, 5, "everything comes to rest"),
    (Plant::StaleTarget, 0, "whoever took the call hears the caller"),
    (Plant::EventOutOfSequence, 0, "sequence numbers without a gap"),
    (Plant::TornEntryTaken, 493, "the journal can be read after any crash"),
    (Plant::DoubleTerminal, 0, "one terminal event a call"),
];

#[cfg(feature = "planted-faults")]
#[test]
fn each_planted_fault_is_found() {
    assert_eq!(FOUND.len(), Plant::ALL.len());
    for (plant, seed, property) in FOUND {
        let run = run(seed, &Options { plant: Some(plant), ..Options::default() });
        assert!(run.failed.iter().any(|f| f.property == property), "{plant:?} on seed {seed}: {:?}", run.failed);
    }
}
