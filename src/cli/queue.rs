//! `offhook queue status|show|retry|drop`: the CRM writes that are not done, and what a person decides of them.
//!
//! `status` and `show` read the store beside a running gateway, or without one. `retry` and `drop` ask the running gateway, which writes the decision
//! into the journal: a store that is made anew holds it too.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    FAILED, OK,
    crm::named,
    finished,
    gateway::{Access, Gateway, detail},
    kept::store,
    who::Who,
};
use crate::{
    config::Config,
    event::CallId,
    pipeline::{
        Store,
        store::{State, Write},
    },
    shell::clock::Clock,
};

/// Arguments of `offhook queue`.
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
    /// How many writes stand how, and how long the oldest waits. Status 1 where any waits for a person.
    Status {
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// List writes, those that wait longest first.
    Show {
        /// Only those that stand so: queued, in_flight, retrying, review, dead, dropped. Default: review and dead.
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<State>,
        /// No more than so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Try writes again that a CRM refused or that were given up.
    Retry(Which),
    /// Do not write them; what the CRM has stays as it is.
    Drop(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Their calls.
    #[arg(value_name = "CALL_ID", required_unless_present = "all")]
    calls: Vec<CallId>,
    /// All that stand so: review, dead or dropped.
    #[arg(long, value_name = "STATE", value_parser = state, conflicts_with = "calls")]
    all: Option<State>,
    /// Only those of this CRM, by its name in the configuration.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    access: Access,
}

fn state(text: &str) -> Result<State, String> {
    text.parse().map_err(|()| "one of queued, in_flight, retrying, review, dead, dropped, done".to_owned())
}

/// Does what is asked.
pub fn run(args: Args) -> ExitCode {
    let done = Config::load_without_secrets(&args.config).map_err(|e| e.to_string()).and_then(|config| match args.command {
        Command::Status { json } => status(&config, json),
        Command::Show { state, limit, json } => show(&config, state, limit, json),
        Command::Retry(which) => decide(&config, &which, "retry"),
        Command::Drop(which) => decide(&config, &which, "drop"),
    });
    finished("queue", done)
}

fn status(config: &Config, as_json: bool) -> Result<u8, String> {
    let counts = store(config)?.counts().map_err(|e| e.to_string())?;
    let document = counts.document(Clock::new().system_wall());
    if as_json {
        println!("{document:#}");
    } else {
        println!(
            "{} queued, {} in flight, {} retrying; {} in review, {} given up",
            counts.queued, counts.in_flight, counts.retrying, counts.review, counts.dead
        );
        if let Some(ms) = document.get("oldest_ms").and_then(Value::as_i64) {
            println!("the oldest waits for {} s", ms / 1000);
        }
    }
    Ok(if counts.review + counts.dead == 0 { OK } else { FAILED })
}

fn writes(config: &Config, states: &[State], most: usize) -> Result<Vec<Write>, String> {
    let store = store(config)?;
    let mut found = Vec::new();
    for state in states {
        found.extend(store.writes_in(*state, most).map_err(|e| e.to_string())?);
    }
    found.truncate(most);
    Ok(found)
}

fn show(config: &Config, state: Option<State>, limit: usize, as_json: bool) -> Result<u8, String> {
    let wanted = state.map_or(vec![State::Review, State::Dead], |state| vec![state]);
    let found = writes(config, &wanted, limit)?;
    for write in &found {
        if as_json {
            println!("{}", write.document());
        } else {
            println!("{}  {}  {}  {} attempts, since {}", write.call_id, write.crm, write.state.name(), write.attempts, write.since);
            println!("    {}", write.why.as_deref().unwrap_or("nothing was said"));
        }
    }
    if found.is_empty() && !as_json {
        println!("none");
    }
    Ok(OK)
}

fn decide(config: &Config, which: &Which, action: &str) -> Result<u8, String> {
    let of_target = |write: &Write| which.target.as_ref().is_none_or(|target| *target == write.crm);
    let store = store(config)?;
    let mut found = Vec::new();
    match which.all {
        Some(state) => found.extend(store.writes_in(state, usize::MAX).map_err(|e| e.to_string())?),
        None => {
            for call in &which.calls {
                let writes = store.writes(*call).map_err(|e| e.to_string())?;
                if writes.is_empty() {
                    return Err(format!("no write of the call {call} is known; `offhook queue show` lists those that wait"));
                }
                let waits = |w: &Write| matches!(w.state, State::Review | State::Dead | State::Dropped);
                let (waiting, rest): (Vec<_>, Vec<_>) = writes.into_iter().filter(of_target).partition(waits);
                if waiting.is_empty() && !rest.is_empty() {
                    let each: Vec<_> = rest.iter().map(|w| format!("{} at {}", w.state.name(), w.crm)).collect();
                    return Err(format!(
                        "the call {call} is {}: only what is in review, dead or dropped can be decided on",
                        each.join(", ")
                    ));
                }
                found.extend(waiting);
            }
        }
    }
    found.retain(of_target);
    // Writes of a CRM that is not configured any more can be decided on.
    if let (Some(target), []) = (&which.target, found.as_slice()) {
        named(config, target)?;
    }
    let by = which.who.name()?;
    let gateway = Gateway::of(config, &which.access)?;
    let mut refused = false;
    for write in &found {
        let body = json!({"target": write.crm, "call_id": write.call_id, "action": action, "by": by});
        match gateway.ask("POST", "/v1/queue", &body)? {
            (200, _) => println!("{}  {}", write.call_id, write.crm),
            (status, problem) => {
                refused = true;
                eprintln!("{}  {}: {status} {}", write.call_id, write.crm, detail(&problem));
            }
        }
    }
    println!("{} of {} decided", if refused { "some" } else { "all" }, found.len());
    Ok(if refused { FAILED } else { OK })
}
