//! `offhook reconcile`: what the CRMs hold beside what they were told, and what is missing told again.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, thread::sleep, time::Duration};

use serde_json::{Value, json};

use super::{
    FAILED, OK, WRONG_USE,
    crm::named,
    finished,
    gateway::{Access, Gateway, detail},
    who::Who,
};
use crate::config::Config;

/// Read every record back by its key and compare. The gateway must run: its token is used, and its pace kept.
///
/// `missing` are records that the CRM had acknowledged and does not hold any more; `--repair` tells it of them again. `changed` are fields that somebody has
/// changed in the CRM since: they are left alone, and `--repair` has them count as edits, so that no recovery overwrites them. Status 1 where anything is missing or doubled, 2 where a CRM could
/// not be read.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
    config: PathBuf,
    /// Only this CRM, by its name in the configuration.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Tell the CRM again what is missing, and keep what somebody has changed there.
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    who: Who,
    /// One JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(Default)]
struct Found {
    written: u64,
    pending: u64,
    /// What these calls held was taken away: they are not compared.
    pruned: u64,
    rejected: u64,
    missing: Vec<Value>,
    doubled: Vec<Value>,
    changed: Vec<Value>,
    repaired: u64,
    kept: u64,
    /// Those of which not everything could be read, and why.
    unread: BTreeMap<String, String>,
}

/// Does it.
pub fn run(args: Args) -> ExitCode {
    finished("reconcile", reconcile(&args))
}

fn reconcile(args: &Args) -> Result<u8, String> {
    let config = Config::load_without_secrets(&args.config).map_err(|e| e.to_string())?;
    let gateway = Gateway::of(&config, &args.access)?;
    let names: Vec<_> = match &args.target {
        Some(target) => vec![&named(&config, target)?.name],
        None => config.crms.iter().map(|c| &c.name).collect(),
    };
    if names.is_empty() {
        return Err("the configuration has no [[crm]]".to_owned());
    }
    if args.repair {
        args.who.name()?;
    }
    let mut found = Found::default();
    for name in names {
        // What was found of the others, and done to them, is told all the same.
        if let Err(why) = of_target(&gateway, name, args, &mut found) {
            found.unread.insert(name.clone(), why);
        }
    }
    let Found { written, pending, pruned, rejected, missing, doubled, changed, repaired, kept, unread } = &found;
    let bad = !missing.is_empty() || !doubled.is_empty();
    if args.json {
        let (missing_calls, doubled_calls) = (missing, doubled);
        println!(
            "{:#}",
            json!({"written": written, "pending": pending, "pruned": pruned, "rejected": rejected, "missing": missing.len(), "doubled": doubled.len(),
                "missing_calls": missing_calls, "doubled_calls": doubled_calls, "changed": changed, "repaired": repaired, "kept": kept, "unread": unread})
        );
    } else {
        println!("{written} written, {pending} pending, {rejected} rejected, {} missing, {} doubled", missing.len(), doubled.len());
        if *pruned > 0 {
            println!("{pruned} are not compared: what they held is older than keep_days and was taken away");
        }
        missing.iter().for_each(|call| println!("missing  {call}"));
        doubled.iter().for_each(|call| println!("doubled  {call}"));
        changed.iter().for_each(|one| println!("changed by somebody else, left alone: {one}"));
        if args.repair {
            println!("{repaired} told again, {kept} with changes kept");
        }
    }
    for (name, why) in unread {
        eprintln!("{name} was not read, or not to its end: {why}");
    }
    Ok(if !unread.is_empty() {
        WRONG_USE
    } else if bad {
        FAILED
    } else {
        OK
    })
}

fn of_target(gateway: &Gateway, name: &str, args: &Args, found: &mut Found) -> Result<(), String> {
    pages(gateway, name, |page| {
        let number = |field: &str| page.get(field).and_then(Value::as_u64).unwrap_or(0);
        found.written += number("written");
        found.pending += number("pending");
        found.pruned += number("pruned");
        found.rejected += number("rejected");
        let (missing, changed) = (list(page, "missing"), list(page, "changed"));
        if args.repair {
            for call in &missing {
                found.repaired += decide(gateway, &json!({"target": name, "call_id": call, "action": "resend", "by": args.who.name()?}))?;
            }
            for one in &changed {
                found.kept += keep(gateway, name, one, args.who.name()?)?;
            }
        }
        found.missing.extend(missing);
        found.doubled.extend(list(page, "doubled"));
        found.changed.extend(changed);
        Ok(())
    })
}

/// A list of a page.
pub(super) fn list(page: &Value, field: &str) -> Vec<Value> {
    page.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// What somebody has changed of a record, as a page tells it, counts as an edit: how many decisions were taken.
fn keep(gateway: &Gateway, name: &str, changed: &Value, by: &str) -> Result<u64, String> {
    let (call, fields) = (changed.get("call_id"), changed.get("fields"));
    decide(gateway, &json!({"target": name, "call_id": call, "action": "keep", "fields": fields, "by": by}))
}

/// What `name` holds, a page at a time.
fn pages(gateway: &Gateway, name: &str, mut take: impl FnMut(&Value) -> Result<(), String>) -> Result<(), String> {
    let mut after = String::new();
    loop {
        let page = page(gateway, name, &after)?;
        take(&page)?;
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = format!("?after={next}"),
            None => return Ok(()),
        }
    }
}

/// How many decisions were taken: one, or none where the gateway refuses it.
fn decide(gateway: &Gateway, what: &Value) -> Result<u64, String> {
    let (status, problem) = gateway.ask("POST", "/v1/queue", what)?;
    if status != 200 {
        eprintln!("{}: {status} {}", what.get("call_id").and_then(Value::as_str).unwrap_or_default(), detail(&problem));
    }
    Ok(u64::from(status == 200))
}

/// One page; asked for again while the gateway gets a token or the CRM is over quota.
fn page(gateway: &Gateway, name: &str, after: &str) -> Result<Value, String> {
    let mut last = String::new();
    for _ in 0..PATIENCE {
        match gateway.ask("GET", &format!("/v1/reconcile/{name}{after}"), &Value::Null)? {
            (200, page) => return Ok(page),
            (503, problem) => last = detail(&problem),
            (409, problem) => return Err(detail(&problem)),
            (status, problem) => return Err(format!("{status} {}", detail(&problem))),
        }
        sleep(PAUSE);
    }
    Err(last)
}

/// A page is asked for so often.
const PATIENCE: usize = 30;
/// Before it is asked for again.
const PAUSE: Duration = Duration::from_secs(1);
