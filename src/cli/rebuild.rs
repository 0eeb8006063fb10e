//! `offhook rebuild`: the store made anew out of the journal, without a request to anybody.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;

use super::{FAILED, OK, WRONG_USE};
use crate::{config::Config, driver::live};

/// Arguments of `offhook rebuild`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration of the gateway, which must not run.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
    config: PathBuf,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// Makes it anew: status 1 where it cannot be, and the old one stays.
pub fn run(args: Args) -> ExitCode {
    // Nothing is sent, so that no secret is read and no program is run for one.
    let config = match Config::load_without_secrets(&args.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return WRONG_USE.into();
        }
    };
    match live::rebuild(&config) {
        Ok(rebuilt) => {
            let counts = rebuilt.counts;
            if args.json {
                println!(
                    "{:#}",
                    json!({"entries": rebuilt.entries, "queued": counts.queued, "retrying": counts.retrying, "review": counts.review, "dead": counts.dead})
                );
            } else {
                println!(
                    "{} entries of the journal folded; {} writes queued, {} in review, {} given up",
                    rebuilt.entries, counts.queued, counts.review, counts.dead
                );
            }
            OK.into()
        }
        Err(error) => {
            eprintln!("offhook rebuild: {error}");
            FAILED.into()
        }
    }
}
