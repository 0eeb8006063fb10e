//! `offhook webhooks list`: webhooks that were taken and are in no record: conflicts, types without a rule, bodies that cannot be read.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde_json::json;

use super::{FAILED, OK, WRONG_USE};
use crate::{
    config::Config,
    pipeline::{Store, store::Aside},
    shell::store::Sqlite,
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
    /// List what is in no record, the latest first; `offhook journal cat --from POSITION` shows a body. Once a schema has a rule for it,
    /// `offhook rebuild` takes it. Status 1 where there is any.
    List {
        /// No more than so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// Does what is asked.
pub fn run(args: Args) -> ExitCode {
    let Command::List { limit, json } = args.command;
    let found = Config::load_without_secrets(&args.config).map_err(|e| e.to_string()).and_then(|config| {
        let path = config.data.directory.join("store.sqlite");
        let store = Sqlite::reader(&path)
            .map_err(|_| format!("{} cannot be read: has a gateway with this configuration ever run?", path.display()))?;
        store.asides(limit).map_err(|e| e.to_string())
    });
    match found {
        Ok(found) => {
            found.iter().for_each(|aside| println!("{}", if json { line(aside) } else { text(aside) }));
            if found.is_empty() && !json {
                println!("none");
            }
            if found.is_empty() { OK.into() } else { FAILED.into() }
        }
        Err(why) => {
            eprintln!("offhook webhooks: {why}");
            WRONG_USE.into()
        }
    }
}

fn line(aside: &Aside) -> String {
    let Aside { position, source, time, why, detail } = aside;
    json!({"position": position.to_string(), "source": source, "time": time, "why": why, "detail": detail}).to_string()
}

fn text(aside: &Aside) -> String {
    let Aside { position, source, time, why, detail } = aside;
    format!("{position:<14} {time} {source} {}: {detail}", why.name())
}
