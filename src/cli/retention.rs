//! `offhook retention list|hold|release|erase`: calls of which nothing may be taken away, however old they are, and calls of which all is, at once.
//!
//! `list` reads the store beside a running gateway, or without one. The others ask the running gateway, which writes each order into the journal, with whoever gave
//! it and why: a store that is made anew holds it too.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    FAILED, OK, finished,
    gateway::{Access, Gateway, detail},
    kept::store,
    who::Who,
};
use crate::{
    config::Config,
    event::CallId,
    pipeline::{
        Store,
        retention::{Erasure, Hold},
    },
};

/// Arguments of `offhook retention`.
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
    /// List the calls that are held, the longest ones first, with who holds them and why.
    List {
        /// Those that were erased in place of those that are held, the latest first.
        #[arg(long)]
        erased: bool,
        /// No more than so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Hold calls: `keep_days` takes nothing of them away. Status 1 where one cannot be.
    Hold(Which),
    /// Release calls: they go by `keep_days` again. Status 1 where one cannot be.
    Release(Which),
    /// Take away at once what calls held, for good: no CRM is told of them any more, and their skeletons stay. What CRMs hold of them is named, and stays there; so do
    /// recordings. Status 1 where one cannot be.
    Erase(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Their ids.
    #[arg(value_name = "CALL_ID", required = true)]
    calls: Vec<CallId>,
    /// Why, for the journal, where it stands for good: name the matter, not the person.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    access: Access,
}

/// Does what is asked.
pub fn run(args: Args) -> ExitCode {
    let done = Config::load_without_secrets(&args.config).map_err(|e| e.to_string()).and_then(|config| match args.command {
        Command::List { erased, limit, json } => list(&config, erased, limit, json),
        Command::Hold(which) => order(&config, &which, "hold"),
        Command::Release(which) => order(&config, &which, "release"),
        Command::Erase(which) => order(&config, &which, "erase"),
    });
    finished("retention", done)
}

fn list(config: &Config, erased: bool, limit: usize, as_json: bool) -> Result<u8, String> {
    let store = store(config)?;
    let found: Vec<_> = if erased {
        let found = store.erasures(limit).map_err(|e| e.to_string())?;
        found.iter().map(|erasure| (json!(erasure), text(erasure))).collect()
    } else {
        let found = store.holds(limit).map_err(|e| e.to_string())?;
        found.iter().map(|hold| (json!(hold), format!("{}  {hold}", hold.call_id))).collect()
    };
    for (document, text) in &found {
        println!("{}", if as_json { document.to_string() } else { text.clone() });
    }
    if found.is_empty() && !as_json {
        println!("none");
    }
    Ok(OK)
}

/// What became of a call that was erased.
fn text(erasure: &Erasure) -> String {
    let Erasure { call_id, dropped, left, .. } = erasure;
    let mut text = format!("{call_id}  {erasure}");
    if !dropped.is_empty() {
        text.push_str(&format!("\n    not written any more: {}", dropped.join(", ")));
    }
    left.iter().for_each(|(crm, id)| text.push_str(&format!("\n    left in {crm}: {id}")));
    text
}

fn order(config: &Config, which: &Which, action: &str) -> Result<u8, String> {
    let by = which.who.name()?;
    let gateway = Gateway::of(config, &which.access)?;
    let mut status = OK;
    // The earlier ones first: a later call of a person may hang on them.
    for call in which.calls.iter().collect::<BTreeSet<_>>() {
        let body = json!({"call_id": call, "action": action, "by": by, "reason": which.reason});
        match gateway.ask("POST", "/v1/retention", &body)? {
            (200, document) => match told(action, document) {
                Ok(text) => println!("{text}"),
                Err(error) => return Err(format!("the gateway answers in another form: {error}; is it of this version?")),
            },
            (refused, problem) => {
                status = FAILED;
                eprintln!("{call}: {refused} {}", detail(&problem));
            }
        }
    }
    Ok(status)
}

fn told(action: &str, document: Value) -> Result<String, serde_json::Error> {
    if action == "erase" {
        return serde_json::from_value(document).map(|erasure: Erasure| text(&erasure));
    }
    serde_json::from_value(document).map(|hold: Hold| format!("{}  {hold}", hold.call_id))
}
