//! `offhook webhooks list`: webhooks that were taken and are in no record: conflicts, types without a rule, bodies that cannot be read.
//! `offhook webhooks drift`: payloads that are not what their schema or the mapping behind it was written for.
//! `offhook webhooks quarantine list|release`: those that were not taken, since their signature was wrong.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    FAILED, OK, finished,
    gateway::{Access, Gateway, detail},
    kept::store,
};
use crate::{
    config::Config,
    pipeline::{
        Store,
        store::Aside,
        webhook::{Drift, Payload},
    },
    shell::quarantine,
};

/// Arguments of `offhook webhooks`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what is in no record, the latest first, and what names a call that is not known (yet); `offhook journal cat --from POSITION` shows a body. Once a schema has a rule for it,
    /// `offhook rebuild` takes it. Status 1 where there is any.
    List {
        /// No more than so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// List what is no longer as the schema, or the mapping behind it, was written for, and the CRM fields that it concerns. A raised version of the schema or
    /// the mapping begins anew. Status 1 where there is any.
    Drift {
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Webhooks whose signature was wrong.
    #[command(subcommand)]
    Quarantine(Quarantine),
}

#[derive(Debug, Subcommand)]
enum Quarantine {
    /// List them by source, the oldest first. Status 1 where there is any.
    List {
        /// Only those of this source.
        #[arg(long)]
        source: Option<String>,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Have the running gateway verify them again, with the secrets that it has now: what is good is taken as if it had just come, the rest stays. Status 1 where
    /// any stays.
    Release {
        /// Only those of this source.
        #[arg(long)]
        source: Option<String>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
}

/// Does what is asked.
pub fn run(args: Args) -> ExitCode {
    let done = Config::load_without_secrets(&args.config).map_err(|e| e.to_string()).and_then(|config| match args.command {
        Command::List { limit, json } => asides(&config, limit, json),
        Command::Drift { json } => drifts(&config, json),
        Command::Quarantine(Quarantine::List { source, json }) => kept(&config, source.as_deref(), json),
        Command::Quarantine(Quarantine::Release { source, json, access }) => release(&config, source.as_deref(), &access, json),
    });
    finished("webhooks", done)
}

fn drifts(config: &Config, json: bool) -> Result<u8, String> {
    let mut found = store(config)?.drifts().map_err(|e| e.to_string())?;
    // What an earlier version was held against is mended, or known.
    found.retain(|drift| {
        let source = config.webhooks.iter().find(|w| w.source == drift.source);
        let schema = source.map(|w| format!("schema {} {}", w.schema.name, w.schema.version));
        let mut mappings = config.crms.iter().map(|crm| format!("mapping {} {}", crm.name, crm.mapping.version));
        source.is_some() && (schema.as_ref() == Some(&drift.against) || mappings.any(|mapping| mapping == drift.against))
    });
    for drift in &found {
        if json {
            println!("{}", json!(drift));
            continue;
        }
        let Drift { source, against, kind, field, what, found, affects, first, last, count, position } = drift;
        let found = found.iter().map(|f| format!(" \"{f}\"")).collect::<String>();
        println!("{source} {kind} {field}: {}{found}, {count} since {first}, last {last}, first at {position}; {against}", what.name());
        println!("    {}", if affects.is_empty() { "no CRM field comes of it".to_owned() } else { affects.join(", ") });
    }
    Ok(verdict(found.is_empty(), json))
}

fn asides(config: &Config, limit: usize, json: bool) -> Result<u8, String> {
    let store = store(config)?;
    let found = store.asides(limit).map_err(|e| e.to_string())?;
    found.iter().for_each(|aside| println!("{}", if json { line(aside) } else { text(aside) }));
    let mut unmatched = store.unmatched(limit).map_err(|e| e.to_string())?;
    // Once, under the first of its names.
    unmatched.retain(|payload| payload.names.iter().all(|name| payload.call_id <= *name));
    for Payload { id, kind, call_id, names, time, .. } in &unmatched {
        let names = std::iter::once(call_id).chain(names).map(String::as_str).collect::<Vec<_>>().join(", ");
        let detail = format!("{kind} {id} names {names}, which no call is called");
        if json {
            println!("{}", json!({"position": null, "source": null, "time": time, "why": "no_call", "detail": detail}));
        } else {
            println!("{:<14} {time} no_call: {detail}", "");
        }
    }
    Ok(verdict(found.is_empty() && unmatched.is_empty(), json))
}

/// What a list says where there is nothing, and its status.
fn verdict(empty: bool, json: bool) -> u8 {
    if empty && !json {
        println!("none");
    }
    if empty { OK } else { FAILED }
}

fn kept(config: &Config, source: Option<&str>, json: bool) -> Result<u8, String> {
    let mut found = quarantine::list(&config.data.directory).map_err(|e| e.to_string())?;
    known(config, source, &found)?;
    found.retain(|kept| source.is_none_or(|source| source == kept.source));
    for kept in &found {
        if json {
            println!("{}", json!(kept));
        } else {
            println!("{} {} {} ({} octets)", kept.source, kept.time, kept.id, kept.bytes);
        }
    }
    Ok(verdict(found.is_empty(), json))
}

/// Whether there is such a source: it is configured, or was when something of it was kept.
fn known(config: &Config, source: Option<&str>, found: &[quarantine::Kept]) -> Result<(), String> {
    let configured = || config.webhooks.iter().map(|w| w.source.as_str());
    match source {
        Some(source) if !configured().chain(found.iter().map(|kept| kept.source.as_str())).any(|known| known == source) => {
            Err(format!("the configuration has no [[webhook]] of that source; it has {}", configured().collect::<Vec<_>>().join(", ")))
        }
        _ => Ok(()),
    }
}

fn release(config: &Config, source: Option<&str>, access: &Access, as_json: bool) -> Result<u8, String> {
    if source.is_some() {
        known(config, source, &quarantine::list(&config.data.directory).map_err(|e| e.to_string())?)?;
    }
    let gateway = Gateway::of(config, access)?;
    let (mut released, mut bad, mut unreadable) = (0, 0, 0);
    let mut after = Value::Null;
    loop {
        let (status, page) = gateway.ask("POST", "/v1/quarantine", &json!({"source": source, "after": after}))?;
        if status != 200 {
            return Err(format!("the gateway refuses: {status} {}", detail(&page)));
        }
        let count = |name: &str| page.get(name).and_then(Value::as_u64).unwrap_or(0);
        released += count("released");
        bad += count("bad");
        unreadable += count("unreadable");
        after = page.get("next").cloned().unwrap_or_default();
        if after.is_null() {
            break;
        }
    }
    if as_json {
        println!("{:#}", json!({"released": released, "bad": bad, "unreadable": unreadable}));
    } else {
        println!("{released} taken; {bad} bear a wrong signature still, {unreadable} cannot be read");
    }
    Ok(if bad + unreadable == 0 { OK } else { FAILED })
}

fn line(aside: &Aside) -> String {
    let Aside { position, source, time, why, detail } = aside;
    json!({"position": position.to_string(), "source": source, "time": time, "why": why, "detail": detail}).to_string()
}

fn text(aside: &Aside) -> String {
    let Aside { position, source, time, why, detail } = aside;
    format!("{position:<14} {time} {source} {}: {detail}", why.name())
}
