//! `offhook retention list|hold|release`: calls of which nothing may be taken away, however old they are.
//!
//! `list` reads the store beside a running gateway, or without one. The others ask the running gateway, which writes each order into the journal, with whoever gave
//! it and why: a store that is made anew holds it too.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde_json::json;

use super::{
    FAILED, OK, finished,
    gateway::{Access, Gateway, detail},
    kept::store,
    who::Who,
};
use crate::{
    config::Config,
    event::CallId,
    pipeline::{Store, retention::Hold},
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
        Command::List { limit, json } => list(&config, limit, json),
        Command::Hold(which) => order(&config, &which, "hold"),
        Command::Release(which) => order(&config, &which, "release"),
    });
    finished("retention", done)
}

fn list(config: &Config, limit: usize, as_json: bool) -> Result<u8, String> {
    let found = store(config)?.holds(limit).map_err(|e| e.to_string())?;
    for hold in &found {
        if as_json {
            println!("{}", json!(hold));
        } else {
            println!("{}  {hold}", hold.call_id);
        }
    }
    if found.is_empty() && !as_json {
        println!("none");
    }
    Ok(OK)
}

fn order(config: &Config, which: &Which, action: &str) -> Result<u8, String> {
    let by = which.who.name()?;
    let gateway = Gateway::of(config, &which.access)?;
    let mut status = OK;
    for call in &which.calls {
        let body = json!({"call_id": call, "action": action, "by": by, "reason": which.reason});
        match gateway.ask("POST", "/v1/retention", &body)? {
            (200, document) => match serde_json::from_value::<Hold>(document) {
                Ok(hold) => println!("{call}  {hold}"),
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
