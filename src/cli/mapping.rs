//! `offhook mapping lint|diff|preview|sign`: for the CRM administrator who signs off what goes into which field.

mod history;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{FAILED, OK, finished, kept::store, who};
use crate::{
    config::Config,
    crm::mapping::{
        self, Mapping,
        diff::diff,
        signature::{self, Signature},
    },
    event::CallId,
    pipeline::Store,
    shell::{clock::Clock, files},
    time::Wall,
};

/// Arguments of `offhook mapping`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name every fault of a mapping; with --target also what the CRM itself has otherwise. Status 1 where there is any.
    Lint {
        /// The mapping.
        #[arg(value_name = "FILE")]
        mapping: PathBuf,
        /// Ask this CRM what fields, keys and values it has, by its name in the configuration.
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// Configuration of the gateway that has this target.
        #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
        config: PathBuf,
        /// An access token, in a file, in place of the target's own grant.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Name the CRM's fields that another version changes, and the workflows that read them. Status 1 where any does.
    Diff {
        /// The version that is in use.
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// The other one.
        #[arg(value_name = "NEW")]
        new: PathBuf,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Show what a mapping makes of a call that the gateway has carried; with --all, --since or --limit of all of them: for each field how many records have it
    /// filled, defaulted, or not at all, with a call for each.
    Preview {
        /// The mapping.
        #[arg(value_name = "FILE")]
        mapping: PathBuf,
        /// The call; without one, the latest.
        #[arg(value_name = "CALL_ID", conflicts_with_all = ["all", "since", "limit"])]
        call: Option<CallId>,
        /// Every call.
        #[arg(long)]
        all: bool,
        /// Every call that began then or later: a date or a time, RFC 3339 in UTC.
        #[arg(long, value_name = "TIME", value_parser = super::recover::since)]
        since: Option<Wall>,
        /// So many calls at most, the earliest first.
        #[arg(long, value_name = "NUMBER")]
        limit: Option<usize>,
        /// Configuration of the gateway that carried it.
        #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
        config: PathBuf,
        /// One JSON document; of all calls an object a line.
        #[arg(long)]
        json: bool,
    },
    /// Tell by which content of its mapping each CRM is written, since when, and who approved it. Status 1 where the configuration has another one, which the
    /// next start takes.
    Active {
        /// Configuration of the gateway.
        #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
        config: PathBuf,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Write down that this version is approved, and by whom. With `require_signed` the gateway starts with no other.
    Sign {
        /// The mapping.
        #[arg(value_name = "FILE")]
        mapping: PathBuf,
        /// Who approves.
        #[arg(long, value_name = "NAME")]
        by: String,
        /// What he has to say to it.
        #[arg(long, default_value = "")]
        note: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// Does what is asked.
pub fn run(args: Args) -> ExitCode {
    let done = match args.command {
        Command::Lint { mapping, target, config, token_file, json } => {
            let asked = |mapping: &Mapping| match &target {
                Some(target) => super::crm::faults(&config, target, mapping, token_file.as_deref()),
                None => Ok(Vec::new()),
            };
            lint(&mapping, asked, json)
        }
        Command::Diff { old, new, json } => differences(&old, &new, json),
        Command::Preview { mapping, config, all, since, limit, json, .. } if all || since.is_some() || limit.is_some() => {
            let span = history::Span { since: since.unwrap_or(Wall::from_millis(0)), most: limit.unwrap_or(usize::MAX) };
            of_all(&mapping, &span, &config, json)
        }
        Command::Preview { mapping, call, config, json, .. } => preview(&mapping, call, &config, json),
        Command::Active { config, json } => active(&config, json),
        Command::Sign { mapping, by, note, json } => sign(&mapping, &by, note, json),
    };
    finished("mapping", done)
}

fn text_of(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))
}

fn read(path: &Path) -> Result<(String, Mapping), String> {
    let text = text_of(path)?;
    let mapping = toml::from_str(&text).map_err(|why| format!("{}: {why}see examples/mapping.toml", path.display()))?;
    Ok((text, mapping))
}

/// `asked`: what the CRM says to a mapping that has no fault of its own.
fn lint(path: &Path, asked: impl FnOnce(&Mapping) -> Result<Vec<String>, String>, as_json: bool) -> Result<u8, String> {
    let text = text_of(path)?;
    let (faults, version) = match toml::from_str::<Mapping>(&text) {
        Ok(mapping) => {
            let own = mapping.faults();
            let faults = if own.is_empty() { asked(&mapping)? } else { own };
            (faults, Some(mapping.version))
        }
        Err(why) => (vec![why.to_string().trim_end().to_owned()], None),
    };
    let signed = signatures(path).ok().and_then(|s| signature::of(&s, &text).map(|s| json!({"by": s.by, "at": s.at})));
    if as_json {
        println!(
            "{:#}",
            json!({"ok": faults.is_empty(), "version": version, "sha256": signature::hash(&text), "signed": signed, "faults": faults})
        );
    } else {
        for fault in &faults {
            let line = text.get(..mapping::place(&text, fault).start).map_or(1, |before| before.matches('\n').count() + 1);
            println!("{}:{line}: {fault}", path.display());
        }
        if let (true, Some(version)) = (faults.is_empty(), version) {
            let by = signed
                .as_ref()
                .and_then(|s| s.get("by"))
                .and_then(Value::as_str)
                .map_or("signed by nobody".to_owned(), |by| format!("signed by {by}"));
            println!("{}: version {version} has no fault, {by}", path.display());
        }
    }
    Ok(if faults.is_empty() { OK } else { FAILED })
}

fn differences(old: &Path, new: &Path, as_json: bool) -> Result<u8, String> {
    let ((_, before), (_, after)) = (read(old)?, read(new)?);
    let found = diff(&before, &after);
    let same_version = !found.is_empty() && before.version >= after.version;
    if as_json {
        println!(
            "{:#}",
            json!({"from": before.version, "to": after.version, "version_raised": after.version > before.version, "fields": found})
        );
    } else {
        for one in &found {
            println!("{:<8} {}: {}", one.what, one.field, one.detail);
            let list = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
            if !one.workflows.is_empty() || !one.owners.is_empty() {
                println!("         read by {}; owned by {}", list(&one.workflows), list(&one.owners));
            }
        }
        if same_version {
            println!("`version` has to be raised: {} is not above {}", after.version, before.version);
        }
        if found.is_empty() {
            println!("no field changes");
        }
    }
    Ok(if found.is_empty() { OK } else { FAILED })
}

fn of_all(path: &Path, span: &history::Span, config: &Path, as_json: bool) -> Result<u8, String> {
    let (_, mapping) = read(path)?;
    let config = Config::load_without_secrets(config).map_err(|e| e.to_string())?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    history::preview(&store(&config)?, &mapping, span, as_json, &mut out).map(|()| OK)
}

fn preview(path: &Path, call: Option<CallId>, config: &Path, as_json: bool) -> Result<u8, String> {
    let (_, mapping) = read(path)?;
    let config = Config::load_without_secrets(config).map_err(|e| e.to_string())?;
    let store = store(&config)?;
    let record = match call {
        Some(call) => store.record(call),
        None => store.recent(1).map(|records| records.into_iter().next()),
    };
    let record = record.map_err(|e| e.to_string())?.ok_or("no such call; GET /v1/calls lists those known")?;
    let facts = record.fields();
    let formed = mapping.apply(&facts);
    let rows: Vec<_> = mapping.named().map(|(field, rule)| {
        let from = rule.from.as_deref();
        let fact = from.and_then(|from| facts.get(from));
        json!({"field": field, "value": formed.fields.get(&field), "fault": formed.faults.get(&field), "from": from, "fact": fact, "workflow": rule.workflow, "owner": rule.owner})
    }).collect();
    let person = mapping.contact.as_ref().and_then(|rule| rule.sought(&facts));
    if as_json {
        println!(
            "{:#}",
            json!({"call_id": record.call_id, "object": mapping.object, "version": mapping.version, "complete": record.is_complete(), "person": person, "fields": rows})
        );
        return Ok(OK);
    }
    println!(
        "{} of call {}, version {}{}",
        mapping.object,
        record.call_id,
        mapping.version,
        if record.is_complete() { "" } else { ", not complete yet" }
    );
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["field", "value", "from", "which is"]);
    for row in &rows {
        let text = |name: &str| {
            row.get(name)
                .filter(|v| !v.is_null())
                .map_or_else(|| "–".to_owned(), |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
        };
        table.add_row([text("field"), text("value"), text("from"), text("fact")]);
    }
    println!("{table}");
    for (field, why) in &formed.faults {
        println!("not written, for review: {field}: {why}");
    }
    if let Some(person) = person {
        println!("looked for: {person}");
    }
    Ok(OK)
}

fn active(config: &Path, as_json: bool) -> Result<u8, String> {
    let config = Config::load_without_secrets(config).map_err(|e| e.to_string())?;
    let store = store(&config)?;
    let (mut rows, mut same) = (Vec::new(), true);
    for crm in &config.crms {
        let known = store.activation(&crm.name).map_err(|e| e.to_string())?;
        let configured = known.as_ref().is_some_and(|(active, _)| *active == crm.activation);
        same &= configured;
        if !as_json {
            let text = known.as_ref().map_or("none yet".to_owned(), |(active, since)| {
                let by = active.signed_by.as_deref().map_or("signed by nobody".to_owned(), |by| format!("signed by {by}"));
                let hash = active.sha256.get(..12).unwrap_or_default();
                format!("version {} ({hash}…), {by}, since {since}", active.version)
            });
            println!("{}: {text}{}", crm.name, if configured { "" } else { "; the configuration has another one" });
        }
        let (active, since) = known.unzip();
        rows.push(json!({"target": crm.name, "active": active, "since": since, "configured": configured}));
    }
    if as_json {
        println!("{:#}", json!({"ok": same, "targets": rows}));
    }
    Ok(if same { OK } else { FAILED })
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(signature::file_name(&name))
}

fn signatures(path: &Path) -> Result<Vec<Signature>, String> {
    let file = beside(path);
    match fs::read_to_string(&file) {
        Ok(text) => signature::read(&text).map_err(|why| format!("{}: {why}", file.display())),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(why) => Err(format!("{}: {why}", file.display())),
    }
}

fn sign(path: &Path, by: &str, note: String, as_json: bool) -> Result<u8, String> {
    let by = who::name(by)?;
    let (text, mapping) = read(path)?;
    let faults = mapping.faults();
    if !faults.is_empty() {
        return Err(format!("it has faults, and is not signed:\n{}", faults.join("\n")));
    }
    let mut all = signatures(path)?;
    let sha256 = signature::hash(&text);
    if all.iter().any(|s| s.version == mapping.version && s.sha256 != sha256) {
        return Err(format!("another content with version {} was signed before: raise `version`", mapping.version));
    }
    all.push(Signature { version: mapping.version, sha256: sha256.clone(), by: by.to_owned(), at: Clock::new().system_wall(), note });
    let file = beside(path);
    let list = serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?;
    files::replace(&file, format!("{list}\n").as_bytes()).map_err(|e| e.to_string())?;
    if as_json {
        println!("{:#}", json!({"ok": true, "version": mapping.version, "sha256": sha256, "by": by, "file": file}));
        return Ok(OK);
    }
    println!("version {} ({}…) is approved by {by}, in {}", mapping.version, sha256.get(..12).unwrap_or_default(), file.display());
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::files::tests::Scratch;

    const MAPPING: &str = "version = 1\nobject = \"calls\"\nkey = \"k\"\n[[field]]\nto = \"a\"\nfrom = \"outcome\"\n";

    #[test]
    fn a_version_is_signed_once_and_a_changed_one_needs_another_number() {
        let scratch = Scratch::new("sign");
        let path = scratch.0.join("mapping.toml");
        fs::write(&path, MAPPING).expect("written");
        assert_eq!(sign(&path, "ann", String::new(), false), Ok(OK));
        let signed = signatures(&path).expect("read");
        assert_eq!(signature::of(&signed, MAPPING).map(|s| s.by.as_str()), Some("ann"));
        let changed = MAPPING.replace("outcome", "ended_as");
        fs::write(&path, &changed).expect("written");
        assert!(sign(&path, "ann", String::new(), false).expect_err("refused").contains("raise `version`"));
        fs::write(&path, changed.replace("version = 1", "version = 2")).expect("written");
        assert_eq!(sign(&path, "bob", "as agreed".into(), false), Ok(OK));
        assert_eq!(signatures(&path).expect("read").len(), 2);
        fs::write(&path, MAPPING.replace("outcome", "outcom")).expect("written");
        assert!(sign(&path, "ann", String::new(), false).expect_err("refused").contains("no `outcom`"));
        assert_eq!(lint(&path, |_| Ok(Vec::new()), true), Ok(FAILED));
    }
}
