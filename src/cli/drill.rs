//! `offhook drill NAME`: rehearses what goes wrong, and proves what came of it.

use std::{path::PathBuf, process::ExitCode};

use super::{FAILED, OK, WRONG_USE};
use crate::driver::drill::{self, Drill, Kind, Load, Options};

/// Arguments of `offhook drill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which: chaos, outage, throttle, expiry, rejected, ordering, lost, batch, burst, load.
    #[arg(value_name = "NAME", value_parser = name)]
    drill: Drill,
    /// How often it is played on the one scratch instance.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Of everything that is drawn; the same seed plays the same calls, faults and kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hold it with the mapping of this gateway's first target of that kind.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Somebody else's server of the same contract in place of the built-in sandbox (client sim-client, secret sim-secret, refresh token sim-refresh).
    /// What the drill cannot do to it, its faults, is left to it.
    #[arg(long, value_name = "URL")]
    crm: Option<String>,
    /// Whose contract the CRM keeps: hubspot, salesforce, dynamics.
    #[arg(long, value_name = "KIND", default_value = "hubspot", value_parser = kind)]
    kind: Kind,
    /// Folder for everything the drill writes; must be empty or absent.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Write what must stand in the CRM, by the script, to this file: a JSON object a line.
    #[arg(long, value_name = "FILE")]
    expect_out: Option<PathBuf>,
    /// With `load`: calls that end in a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// With `load`: for how long.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<Drill, String> {
    let known = Drill::ALL.map(|(name, _)| name).join(", ");
    Drill::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, drill)| drill).ok_or_else(|| format!("one of {known}"))
}

fn kind(text: &str) -> Result<Kind, String> {
    let known = Kind::ALL.map(|(name, _)| name).join(", ");
    Kind::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, kind)| kind).ok_or_else(|| format!("one of {known}"))
}

/// Holds it.
pub fn run(args: Args) -> ExitCode {
    match hold(args) {
        Ok(true) => OK.into(),
        Ok(false) => FAILED.into(),
        Err(why) => {
            eprintln!("offhook drill: {why}");
            WRONG_USE.into()
        }
    }
}

fn hold(args: Args) -> Result<bool, String> {
    let mapping = args.config.as_deref().map(|path| mapping(path, args.kind)).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|why| why.to_string())?;
    let options = Options {
        drill: args.drill,
        runs: args.runs,
        seed: args.seed,
        kind: args.kind,
        crm: args.crm,
        data: args.data,
        mapping,
        expect_out: args.expect_out,
        load: Load { rate: args.rate.max(1), seconds: args.seconds },
    };
    let report = runtime.block_on(drill::run(options, |line| eprintln!("{line}"))).map_err(|why| why.to_string())?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|why| why.to_string())?);
        return Ok(report.ok);
    }
    println!(
        "{} with seed {}: {} runs in {} s, {} kills, {} calls, {} webhooks",
        report.drill, report.seed, report.runs, report.seconds, report.kills, report.calls, report.webhooks
    );
    println!(
        "{} lost, {} doubled, {} wrong; {} in review, {} given up",
        report.lost, report.doubled, report.wrong, report.review, report.dead
    );
    println!("ms from call to record {}, from webhook to answer {}", report.lag_ms, report.ack_ms);
    if let Some(load) = &report.load {
        println!("{load}");
    }
    for check in &report.checks {
        println!("{} {} ({})", if check.ok { "ok    " } else { "FAILED" }, check.name, check.detail);
    }
    println!("everything it wrote is in {}", report.data);
    Ok(report.ok)
}

/// The text of the mapping of a configuration's first target of that kind.
fn mapping(path: &std::path::Path, kind: Kind) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let table: toml::Table = text.parse().map_err(|why| format!("{}: {why}", path.display()))?;
    let crms = table.get("crm").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let of_kind = crms.iter().find(|crm| crm.get("kind").and_then(toml::Value::as_str) == Some(kind.name()));
    let name = of_kind
        .and_then(|crm| crm.get("mapping")?.as_str())
        .ok_or_else(|| format!("{} has no [[crm]] of kind \"{}\" with a mapping", path.display(), kind.name()))?;
    let mapping = path.parent().unwrap_or(std::path::Path::new(".")).join(name);
    std::fs::read_to_string(&mapping).map_err(|why| format!("{}: {why}", mapping.display()))
}
