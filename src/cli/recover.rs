//! `offhook recover`: calls of a span are planned again out of the journal and told again to their CRMs.

use std::{path::PathBuf, process::ExitCode, thread::sleep, time::Duration};

use serde_json::{Value, json};

use super::{
    FAILED, OK,
    crm::named,
    finished,
    gateway::{Access, Gateway, detail},
    kept::store,
    reconcile::list,
    who::Who,
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
/// keys, so that writing twice is writing once. What somebody has changed in the CRM since is read first, shown, and left alone until the mapping says something
/// else than it does now. The gateway must run.
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
    #[command(flatten)]
    who: Who,
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
    if let Some(target) = &args.target {
        named(&config, target)?;
    }
    if !args.dry_run {
        args.who.name()?;
    }
    let Counted { calls, writes, pruned } = count(&config, args)?;
    let told = if args.dry_run { Value::Null } else { tell_again(&Gateway::of(&config, &args.access)?, args)? };
    let why = told.get("why").and_then(Value::as_str);
    let kept = told.get("kept").and_then(Value::as_u64).unwrap_or(0);
    if args.json {
        println!(
            "{:#}",
            json!({"since": args.since, "target": args.target, "dry_run": args.dry_run, "calls": calls, "writes": writes, "pruned": pruned,
                "operation": told.get("operation"), "kept": kept, "changed": list(&told, "changed"), "unread": told.get("unread"), "why": why})
        );
    } else {
        let changed = list(&told, "changed");
        changed.iter().for_each(|one| println!("changed by somebody else, left alone: {one}"));
        if u64::try_from(changed.len()).is_ok_and(|shown| shown < kept) {
            println!("… {kept} records in all");
        }
        for (name, why) in told.get("unread").and_then(Value::as_object).into_iter().flatten() {
            println!("not read first: {name}: {}", why.as_str().unwrap_or_default());
        }
        if why.is_none() {
            println!("{writes} writes of {calls} calls since {} {} told again", args.since, if args.dry_run { "would be" } else { "are" });
        }
        if pruned > 0 {
            println!("{pruned} calls are left out: what they held is older than keep_days and was taken away");
        }
    }
    if let Some(why) = why {
        eprintln!("{why}: try later, or with --overwrite, which reads nothing first");
    }
    Ok(if why.is_some() { FAILED } else { OK })
}

/// Asks for it, and waits until the gateway has read what it has to read: how it came out.
fn tell_again(gateway: &Gateway, args: &Args) -> Result<Value, String> {
    let body = json!({"since": args.since, "target": args.target, "overwrite": args.overwrite, "by": args.who.name()?});
    let (mut status, mut told) = gateway.ask("POST", "/v1/recover", &body)?;
    let operation = told.get("operation").and_then(Value::as_str).unwrap_or_default().to_owned();
    while matches!(status, 200 | 202) && told.get("state").and_then(Value::as_str) == Some("reading") {
        sleep(LOOK);
        (status, told) = gateway.ask("GET", &format!("/v1/recover/{operation}"), &Value::Null)?;
    }
    if matches!(status, 200 | 202) { Ok(told) } else { Err(format!("{status} {}", detail(&told))) }
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
/// How often the gateway is asked how far it has come.
const LOOK: Duration = Duration::from_millis(300);
