//! `offhook journal verify|cat|export`: what the journal holds, and whether it is whole. Reads only; a running gateway is not disturbed.
//! `offhook journal salvage`: what a damaged segment still holds.

mod salvage;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Subcommand, builder::PossibleValuesParser};
use serde_json::{Value, json};

use super::{FAILED, OK, WRONG_USE};
use crate::{
    config::Config,
    journal::{End, Entry, EntryKind, Fault, Position},
    pipeline::{retention::left, webhook::Received},
    shell::disk,
};

/// Arguments of `offhook journal`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration that names the data directory.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG", global = true)]
    config: PathBuf,
    /// Data directory, in place of a configuration.
    #[arg(long, value_name = "DIRECTORY", global = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read every segment and say which are whole. Status 1 where one is damaged.
    Verify {
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Print entries for people, one a line.
    Cat(Which),
    /// Print entries as JSON, one object a line: position, time, kind, call_id, body.
    Export(Which),
    /// Recover what a damaged segment still holds, and name what it has lost. Status 1 where something is lost.
    Salvage(salvage::Salvage),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Begin at this position, SEGMENT:OFFSET as printed.
    #[arg(long, value_name = "POSITION", default_value_t = Position::default())]
    from: Position,
    /// Only entries of this call.
    #[arg(long, value_name = "CALL_ID")]
    call: Option<String>,
    /// Only entries of this kind.
    #[arg(long, value_parser = PossibleValuesParser::new(EntryKind::names()))]
    kind: Option<String>,
}

/// Runs the subcommand.
pub fn run(args: Args) -> ExitCode {
    if let Command::Salvage(args) = &args.command {
        return salvage::run(args);
    }
    let data = match args.data {
        Some(data) => data,
        None => match Config::load_without_secrets(&args.config) {
            Ok(config) => config.data.directory,
            Err(error) => {
                eprintln!("{error}\n(or name the data directory with --data)");
                return WRONG_USE.into();
            }
        },
    };
    let directory = data.join("journal");
    match args.command {
        Command::Verify { json } => verify(&directory, json),
        Command::Cat(which) => print(&directory, &which, text),
        Command::Export(which) => print(&directory, &which, |position, entry| line(position, entry).to_string()),
        Command::Salvage(args) => salvage::run(&args),
    }
}

/// What an entry says: of a webhook, what was sent; where that was taken away, what is left of it.
fn body(entry: &Entry) -> &[u8] {
    if let (EntryKind::Webhook, Some(left)) = (entry.kind, left::of_webhook(&entry.body)) {
        return left;
    }
    if entry.kind == EntryKind::Webhook { Received::read(&entry.body).body } else { &entry.body }
}

/// An entry for people.
fn text(position: Position, entry: &Entry) -> String {
    let body = body(entry);
    let body = if body.is_empty() { "(pruned)".into() } else { String::from_utf8_lossy(body) };
    format!("{position:<14} {} {:<8} {} {} {body}", entry.time, entry.kind.name(), entry.key, entry.id)
}

/// An entry as the contract exports it.
fn line(position: Position, entry: &Entry) -> Value {
    let octets = body(entry);
    // Of what was pruned to nothing there is none.
    let text = || if octets.is_empty() { Value::Null } else { json!(String::from_utf8_lossy(octets)) };
    let body = serde_json::from_slice(octets).unwrap_or_else(|_| text());
    let call = (!entry.key.is_empty()).then_some(&entry.key);
    json!({"position": position.to_string(), "time": entry.time, "kind": entry.kind.name(), "call_id": call, "id": entry.id, "body": body})
}

fn print(directory: &std::path::Path, which: &Which, show: impl Fn(Position, &Entry) -> String) -> ExitCode {
    let mut tail = disk::read(directory, which.from);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut names = which.call.clone().map(|call| vec![call]);
    loop {
        match tail.next_batch(BATCH) {
            Ok(None) => return out.flush().map_or(FAILED, |()| OK).into(),
            Ok(Some(batch)) => {
                for (position, entry) in &batch.entries {
                    let other_call = names.as_mut().is_some_and(|names| !concerns(entry, names));
                    let other_kind = which.kind.as_ref().is_some_and(|k| k != entry.kind.name());
                    // Who reads may have seen enough: `| head`.
                    if !other_call && !other_kind && writeln!(out, "{}", show(*position, entry)).is_err() {
                        return OK.into();
                    }
                }
            }
            Err(error) => {
                let _ = out.flush();
                eprintln!("{error}");
                return WRONG_USE.into();
            }
        }
    }
}

/// Whether an entry is of the call with these names, of which its own id is the first: it bears it, or, as webhooks and requests with several records do, names
/// it in its body. What an event tells of other names is learnt on the way.
fn concerns(entry: &Entry, names: &mut Vec<String>) -> bool {
    if !entry.key.is_empty() {
        let is_its_own = names.first().is_some_and(|id| *id == entry.key);
        if is_its_own && entry.kind == EntryKind::Event {
            let event = serde_json::from_slice::<Value>(&entry.body).unwrap_or_default();
            let told = ["/data/sip_call_ids/caller", "/data/sip_call_ids/callee", "/data/sip_call_id"];
            names.extend(told.iter().filter_map(|at| event.pointer(at)?.as_str().map(str::to_owned)).filter(|name| !name.is_empty()));
        }
        return is_its_own;
    }
    let body = String::from_utf8_lossy(body(entry));
    names.iter().any(|name| body.contains(name.as_str()))
}

fn verify(directory: &std::path::Path, as_json: bool) -> ExitCode {
    let segments = match disk::verify(directory) {
        Ok(segments) => segments,
        Err(error) => {
            eprintln!("{error}");
            return WRONG_USE.into();
        }
    };
    let damaged = segments.iter().any(|s| matches!(s.end, End::Damaged { .. } | End::Later { .. }));
    let rows = segments.iter().map(|s| {
        let (state, offset, why) = match &s.end {
            End::Whole => ("whole", None, None),
            End::Torn { offset, why } => ("torn", Some(*offset), Some(why.to_string())),
            End::Damaged { offset, why } => ("damaged", Some(*offset), Some(why.clone())),
            End::Later { offset, version } => ("later", Some(*offset), Some(Fault::Version(*version).to_string())),
        };
        (s, state, offset, why)
    });
    if as_json {
        let segments = rows
            .map(|(s, state, offset, why)| {
                json!({"segment": s.segment, "state": state, "entries": s.entries, "octets": s.octets, "offset": offset, "why": why})
            })
            .collect::<Vec<_>>();
        println!("{}", json!({"ok": !damaged, "segments": segments}));
    } else {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(["segment", "state", "entries", "octets", ""]);
        for (s, state, offset, why) in rows {
            let what = offset.zip(why).map(|(offset, why)| format!("octet {offset}: {why}")).unwrap_or_default();
            table.add_row([s.segment.to_string(), state.into(), s.entries.to_string(), s.octets.to_string(), what]);
        }
        println!("{table}");
        if damaged {
            println!(
                "A damaged segment is set aside at the next start, one of a later version is left alone. Restore it from a copy if there is one, or see what `offhook journal"
            );
            println!("salvage` recovers of it.");
        }
    }
    if damaged { FAILED.into() } else { OK.into() }
}

/// Entries read at once.
const BATCH: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    #[test]
    fn a_call_is_found_in_webhooks_and_in_requests_with_several_records() {
        let entry = |kind, key: &str, body: &str| Entry {
            kind,
            time: Wall::from_millis(0),
            id: String::new(),
            key: key.into(),
            body: body.as_bytes().to_vec(),
        };
        let started = entry(
            EntryKind::Event,
            "ours",
            r#"{"type": "call.started", "data": {"sip_call_ids": {"caller": "a@carrier", "callee": null}}}"#,
        );
        let mut names = vec!["ours".to_owned()];
        let found = [
            started,
            entry(EntryKind::Event, "other", r#"{"data": {"sip_call_ids": {"caller": "b@carrier"}}}"#),
            entry(EntryKind::Webhook, "", r#"{"call_id": "a@carrier"}"#),
            entry(EntryKind::Webhook, "", r#"{"call_id": "b@carrier"}"#),
            entry(EntryKind::Attempt, "", r#"{"writes": [{"call_id": "other"}, {"call_id": "ours"}]}"#),
            entry(EntryKind::Answer, "other", r#"{"writes": [{"call_id": "other"}]}"#),
        ]
        .map(|entry| concerns(&entry, &mut names));
        assert_eq!(found, [true, false, true, false, true, false]);
    }
}
