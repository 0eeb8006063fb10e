//! `offhook recover`: calls of a span are planned again out of the journal and told again to their CRMs.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;

use super::{
    FAILED, OK, finished,
    gateway::{Access, Gateway, detail},
    kept::store,
};
use crate::{
    config::Config,
    event::CallId,
    pipeline::{Store, store::State},
    time::Wall,
};

/// Tell CRMs again what they should hold of every call since a time, by the mapping as it is now.
///
/// For what was lost behind an acknowledgement, or a mapping that was wrong. Each run is an operation of its own, and safe to repeat: records bear their
/// keys, so that writing twice is writing once. The gateway must run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
    config: PathBuf,
    /// Since when: a date or a time, RFC 3339 in UTC.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Wall,
    /// Only this CRM, by its name in the configuration.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Only tell how many writes that would be.
    #[arg(long)]
    dry_run: bool,
    /// Who asks, for the journal.
    #[arg(long, env = "USER", default_value = "")]
    by: String,
    /// One JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

/// A date or a time, RFC 3339 in UTC.
pub(super) fn since(text: &str) -> Result<Wall, String> {
    Wall::parse(text)
        .or_else(|| Wall::parse(&format!("{text}T00:00:00Z")))
        .ok_or_else(|| "write it as 2026-01-05 or 2026-01-05T10:00:00Z".to_owned())
}

/// Does it.
pub fn run(args: Args) -> ExitCode {
    finished("recover", recover(&args))
}

fn recover(args: &Args) -> Result<u8, String> {
    let config = Config::load_without_secrets(&args.config).map_err(|e| e.to_string())?;
    let Counted { calls, writes, pruned } = count(&config, args)?;
    if !args.dry_run {
        let body = json!({"since": args.since, "target": args.target, "by": args.by});
        let (status, problem) = Gateway::of(&config, &args.access)?.ask("POST", "/v1/recover", &body)?;
        if status != 200 {
            eprintln!("{status} {}", detail(&problem));
            return Ok(FAILED);
        }
    }
    if args.json {
        println!(
            "{:#}",
            json!({"since": args.since, "target": args.target, "dry_run": args.dry_run, "calls": calls, "writes": writes, "pruned": pruned})
        );
    } else {
        println!("{writes} writes of {calls} calls since {} {} told again", args.since, if args.dry_run { "would be" } else { "are" });
        if pruned > 0 {
            println!("{pruned} calls are left out: what they held is older than keep_days and was taken away");
        }
    }
    Ok(OK)
}

/// What is told again.
#[derive(Default)]
struct Counted {
    calls: usize,
    writes: usize,
    /// Calls of which nothing can be told any more.
    pruned: usize,
}

/// Calls since then, and the writes of theirs that are told again.
fn count(config: &Config, args: &Args) -> Result<Counted, String> {
    let store = store(config)?;
    let (mut counted, mut after) = (Counted::default(), None::<CallId>);
    loop {
        let page = store.since(args.since, after, PAGE).map_err(|e| e.to_string())?;
        let Some(last) = page.last() else { return Ok(counted) };
        after = Some(last.call_id);
        for record in page {
            if record.is_pruned() {
                counted.pruned += 1;
                continue;
            }
            counted.calls += 1;
            let of_call = store.writes(record.call_id).map_err(|e| e.to_string())?;
            let told = of_call.iter().filter(|w| w.state != State::Dropped && args.target.as_ref().is_none_or(|t| *t == w.crm));
            counted.writes += told.count();
        }
    }
}

/// Calls that are read at once.
const PAGE: usize = 500;
