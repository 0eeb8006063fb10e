//! `offhook recover`: calls of a span are planned again out of the journal and told again to their CRMs.

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};

use super::{
    FAILED, OK, finished,
    gateway::{Access, Gateway, detail},
    kept::store,
    reconcile::{keep, list, pages},
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
/// keys, so that writing twice is writing once. What somebody has changed in the CRM since is read first, shown, and left alone for as long as the mapping's
/// own value is what it was. The gateway must run.
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
    /// Read nothing first, and write over what somebody has changed: where the CRM has lost what it was told of fields, as after a restored backup, or does
    /// not answer now.
    #[arg(long)]
    overwrite: bool,
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
    let mut found = Changed::default();
    if !args.dry_run {
        let gateway = Gateway::of(&config, &args.access)?;
        if !args.overwrite {
            for crm in config.crms.iter().filter(|crm| args.target.as_ref().is_none_or(|t| *t == crm.name)) {
                found.keep(&gateway, &crm.name, args)?;
            }
        }
        let body = json!({"since": args.since, "target": args.target, "by": args.by});
        let (status, problem) = gateway.ask("POST", "/v1/recover", &body)?;
        if status != 200 {
            eprintln!("{status} {}", detail(&problem));
            return Ok(FAILED);
        }
    }
    if args.json {
        println!(
            "{:#}",
            json!({"since": args.since, "target": args.target, "dry_run": args.dry_run, "calls": calls, "writes": writes, "pruned": pruned,
                "kept": found.kept.len(), "changed": found.kept, "overwritten": found.lost, "unread": found.unread})
        );
    } else {
        found.kept.iter().for_each(|one| println!("changed by somebody else, left alone: {one}"));
        found.lost.iter().for_each(|one| println!("changed by somebody else, and told again, since it waits for a decision: {one}"));
        found.unread.iter().for_each(|why| println!("not read first: {why}"));
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

/// What somebody has changed in the CRMs.
#[derive(Default)]
struct Changed {
    /// Counts as edits now.
    kept: Vec<Value>,
    /// Could not, since of these calls something is in review, or given up.
    lost: Vec<Value>,
    /// CRMs that cannot be read back, each with the reason.
    unread: Vec<String>,
}

impl Changed {
    /// Reads what `name` holds of the calls since then. Decisions are in the journal before the recovery is, which plans by them.
    fn keep(&mut self, gateway: &Gateway, name: &str, args: &Args) -> Result<(), String> {
        let unread = pages(gateway, name, Some(CallId::first_of(args.since)), |page| {
            for one in list(page, "changed") {
                let of = if keep(gateway, name, &one, &args.by)? > 0 { &mut self.kept } else { &mut self.lost };
                of.push(one);
            }
            Ok(())
        });
        let unread =
            unread.map_err(|why| format!("{why}; nothing is told again: try later, or with --overwrite, which reads nothing first"))?;
        self.unread.extend(unread.map(|why| format!("{name}: {why}")));
        Ok(())
    }
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
