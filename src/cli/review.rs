//! `offhook review list|edit|approve`: what a CRM refused, mended by a person and sent.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{
    FAILED, OK, finished,
    gateway::{Access, Gateway, detail},
    kept::store,
    who::Who,
};
use crate::{
    config::Config,
    event::CallId,
    pipeline::{Store, store::State},
};

/// Arguments of `offhook review`.
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
    /// List what waits for a person, with the CRM's own words. Status 1 where anything waits.
    List {
        /// No more than so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Put other values in the place of the mapping's, or take them back. They stay for as long as the mapping's are what they were.
    Edit {
        #[command(flatten)]
        which: Which,
        /// A field that the mapping writes and its value; several times for several.
        #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = pair, required_unless_present = "unset")]
        set: Vec<(String, String)>,
        /// A field whose value was put in and is the mapping's again; several times for several.
        #[arg(long = "unset", value_name = "FIELD")]
        unset: Vec<String>,
    },
    /// Send it as it is now.
    Approve {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The call.
    #[arg(value_name = "CALL_ID")]
    call: CallId,
    /// The CRM, by its name in the configuration; needed where there are several.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    access: Access,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "write FIELD=VALUE".to_owned())
}

/// Does what is asked.
pub fn run(args: Args) -> ExitCode {
    let done = Config::load_without_secrets(&args.config).map_err(|e| e.to_string()).and_then(|config| match args.command {
        Command::List { limit, json } => list(&config, limit, json),
        Command::Edit { which, set, unset } => {
            let set = set.into_iter().map(|(name, value)| (name, typed(&value)));
            let fields: Map<String, Value> = set.chain(unset.into_iter().map(|name| (name, Value::Null))).collect();
            decide(&config, &which, &json!({"action": "edit", "fields": fields}))
        }
        Command::Approve { which } => decide(&config, &which, &json!({"action": "retry"})),
    });
    finished("review", done)
}

/// A number, true and false as such; all else as text.
fn typed(text: &str) -> Value {
    serde_json::from_str(text).ok().filter(|v: &Value| v.is_number() || v.is_boolean()).unwrap_or_else(|| json!(text))
}

fn list(config: &Config, limit: usize, as_json: bool) -> Result<u8, String> {
    let store = store(config)?;
    let found = store.writes_in(State::Review, limit).map_err(|e| e.to_string())?;
    for write in &found {
        if as_json {
            println!("{}", write.document());
        } else {
            println!("{}  {}  since {}: {}", write.call_id, write.crm, write.since, write.why.as_deref().unwrap_or("nothing was said"));
            write.edits.iter().for_each(|(field, edit)| println!("    {field} = {} (edited)", edit.value));
        }
    }
    if found.is_empty() && !as_json {
        println!("none");
    }
    Ok(if found.is_empty() { OK } else { FAILED })
}

fn decide(config: &Config, which: &Which, what: &Value) -> Result<u8, String> {
    let target = match (&which.target, config.crms.as_slice()) {
        (Some(target), _) => target,
        (None, [one]) => &one.name,
        (None, _) => return Err("several CRMs are configured: name one with --target".to_owned()),
    };
    let mut body = json!({"target": target, "call_id": which.call, "by": which.who.name()?});
    if let (Some(body), Some(what)) = (body.as_object_mut(), what.as_object()) {
        body.extend(what.clone());
    }
    match Gateway::of(config, &which.access)?.ask("POST", "/v1/queue", &body)? {
        (200, _) => {
            println!("{}  {target}", which.call);
            Ok(OK)
        }
        (status, problem) => {
            eprintln!("{}  {target}: {status} {}", which.call, detail(&problem));
            Ok(FAILED)
        }
    }
}
