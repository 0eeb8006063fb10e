//! `offhook simulate`: the seeded world, seed after seed.

use std::{
    collections::BTreeSet,
    ops::Range,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use serde_json::{Value, json};

use super::{FAILED, OK, WRONG_USE};
use crate::driver::sim::{Failure, Options, Plant, Run, run as run_seed};

/// Run calls, crashes, a failing network, disk and CRM in virtual time, and check that what must hold does.
///
/// The same seed gives the same run, octet by octet. Exit status 1 where a property did not hold.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One seed.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds from FROM up to, not including, TO.
    #[arg(long, value_name = "FROM..TO", value_parser = range, default_value = "0..100")]
    seeds: Range<u64>,
    /// Plant a fault that the checks must find; `list` names them. Only in a build with the feature `planted-faults`.
    #[arg(long, value_name = "FAULT")]
    plant: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.trim().parse().ok()?..to.trim().parse().ok()?));
    parsed.filter(|r: &Range<u64>| !r.is_empty()).ok_or_else(|| "write FROM..TO, such as 0..1000".into())
}

/// Runs the seeds.
pub fn run(args: Args) -> ExitCode {
    let plant = match plant(args.plant.as_deref()) {
        Ok(plant) => plant,
        Err(Listed) => return OK.into(),
        Err(Unknown(why)) => {
            eprintln!("offhook simulate: {why}");
            return WRONG_USE.into();
        }
    };
    let seeds = args.seed.map_or(args.seeds, |seed| seed..seed.saturating_add(1));
    let begun = Instant::now();
    let mut all = simulate(seeds.clone(), plant);
    all.failed.sort_by_key(|(seed, _)| *seed);
    let seconds = begun.elapsed().as_secs_f64();
    let failed: Vec<Value> =
        all.failed.iter().take(REDUCED_MAX).map(|(seed, failure)| told(*seed, failure, plant, args.plant.as_deref())).collect();
    let ok = all.failed.is_empty();
    if args.json {
        let count = seeds.end - seeds.start;
        let seconds = (seconds * 10.0).round() / 10.0;
        println!(
            "{:#}",
            json!({"ok": ok, "seeds": count, "seconds": seconds, "calls": all.calls, "crashes": all.crashes, "events": all.events, "failed": failed})
        );
    } else {
        people(&seeds, seconds, &all, &failed);
    }
    if ok { OK.into() } else { FAILED.into() }
}

/// A failing seed is reduced and shown; more than a few say the same.
const REDUCED_MAX: usize = 5;

enum NoPlant {
    Listed,
    Unknown(String),
}
use NoPlant::{Listed, Unknown};

fn plant(name: Option<&str>) -> Result<Option<Plant>, NoPlant> {
    let Some(name) = name else { return Ok(None) };
    if cfg!(not(feature = "planted-faults")) {
        return Err(Unknown(
            "faults can be planted only in a build with the feature planted-faults: cargo build --features planted-faults".into(),
        ));
    }
    if name == "list" {
        for (_, name, sentence) in Plant::ALL {
            println!("{name:<26} {sentence}");
        }
        return Err(Listed);
    }
    let found = Plant::ALL.iter().find(|(_, known, _)| *known == name).map(|(plant, ..)| Some(*plant));
    found.ok_or_else(|| Unknown(format!("no fault is named \"{name}\"; `--plant list` names them")))
}

#[derive(Default)]
struct All {
    calls: u64,
    crashes: u64,
    events: u64,
    failed: Vec<(u64, Failure)>,
}

/// As many threads as there are cores, each with the next seed.
fn simulate(seeds: Range<u64>, plant: Option<Plant>) -> All {
    let next = AtomicU64::new(seeds.start);
    let options = Options { plant, ..Options::default() };
    let work = || {
        let mut all = All::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return all;
            }
            let Run { calls, crashes, events, failed, .. } = run_seed(seed, &options);
            all.calls += calls;
            all.crashes += crashes;
            all.events += events;
            // One property a seed: the first is the cause of the others as a rule.
            all.failed.extend(failed.into_iter().take(1).map(|failure| (seed, failure)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).fold(All::default(), |mut sum, one| {
            sum.calls += one.calls;
            sum.crashes += one.crashes;
            sum.events += one.events;
            sum.failed.extend(one.failed);
            sum
        })
    })
}

/// A failing seed with the fewest of its calls that still fail, and what they sent.
fn told(seed: u64, failure: &Failure, plant: Option<Plant>, name: Option<&str>) -> Value {
    let fails = |only: &BTreeSet<usize>| {
        let found = run_seed(seed, &Options { plant, only: Some(only.clone()), ladder: true });
        found.failed.iter().any(|f| f.property == failure.property).then_some(found.ladder)
    };
    let mut only: BTreeSet<usize> = (0..CALLS_MAX).collect();
    let mut ladder = fails(&only).unwrap_or_default();
    for call in 0..CALLS_MAX {
        let mut fewer = only.clone();
        fewer.remove(&call);
        if let Some(shorter) = fails(&fewer) {
            (only, ladder) = (fewer, shorter);
        }
    }
    let plant = name.map(|n| format!(" --plant {n}")).unwrap_or_default();
    json!({"seed": seed, "property": failure.property, "at_ms": failure.at_ms, "detail": failure.detail, "ladder": ladder,
        "repeat": format!("offhook simulate --seed {seed}{plant}")})
}

/// Calls of a seed at most.
const CALLS_MAX: usize = 8;

fn people(seeds: &Range<u64>, seconds: f64, all: &All, failed: &[Value]) {
    for one in failed {
        println!("seed {}: {} does not hold: {}", one["seed"], text(&one["property"]), text(&one["detail"]));
        for line in one["ladder"].as_array().into_iter().flatten() {
            println!("  {}", text(line));
        }
        println!("  repeat: {}\n", text(&one["repeat"]));
    }
    let count = seeds.end - seeds.start;
    println!(
        "{count} seeds in {seconds:.1} s: {} calls, {} crashes, {} events; {} seeds failed",
        all.calls,
        all.crashes,
        all.events,
        all.failed.len()
    );
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
