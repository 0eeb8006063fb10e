//! `offhook batch`: what became of the calls of each batch, and one batch now.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;

use super::{
    FAILED, OK, finished,
    gateway::{Access, Gateway, detail},
    kept::store,
    who::Who,
};
use crate::{
    config::{Config, Crm},
    pipeline::{batch::Report, schedule::Runs},
    shell::clock::Clock,
};

/// Batches of the CRMs whose configuration has `model = "batch"` or "hybrid".
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Tell what became of the calls of the last run, and what waits for the next: written, pending, rejected, missing.
    Status {
        #[command(flatten)]
        place: Place,
        /// Only this CRM, by its name in the configuration.
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
    },
    /// Write what waits for the next run now: a campaign has ended. The gateway must run.
    Run {
        #[command(flatten)]
        place: Place,
        /// Which CRM, by its name in the configuration.
        #[arg(long, value_name = "NAME")]
        target: String,
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        access: Access,
    },
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
    config: PathBuf,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// Does it. Status 1 where something of the last run is pending, rejected or missing.
pub fn run(args: Args) -> ExitCode {
    let done = match args.action {
        Action::Status { place, target } => status(&place, target.as_deref()),
        Action::Run { place, target, who, access } => now(&place, &target, &who, &access),
    };
    finished("batch", done)
}

fn status(place: &Place, target: Option<&str>) -> Result<u8, String> {
    let config = Config::load_without_secrets(&place.config).map_err(|e| e.to_string())?;
    let store = store(&config)?;
    let at = Clock::new().system_wall();
    let wanted = |crm: &&Crm| target.is_none_or(|t| t == crm.name);
    let batched: Vec<(&Crm, &Runs)> = config.crms.iter().filter(wanted).filter_map(|crm| Some((crm, crm.schedule.runs()?))).collect();
    if batched.is_empty() {
        return Err("no such [[crm]] has model = \"batch\" or \"hybrid\"".to_owned());
    }
    let (mut documents, mut whole) = (Vec::new(), true);
    for (crm, runs) in batched {
        let last = runs.until(at);
        let report = |from, run| Report::of(&store, &crm.name, &crm.schedule, from, run).map_err(|e| e.to_string());
        let (ran, waiting) = (report(runs.before(last), last)?, report(last, runs.after(at))?);
        whole &= ran.pending == 0 && ran.rejected == 0 && ran.missing == 0;
        if !place.json {
            println!("{}", crm.name);
            for (what, r) in [("last run", &ran), ("next run", &waiting)] {
                let run = r.run.map(|run| run.to_string()).unwrap_or_default();
                println!("  {what} {run}: {} written, {} pending, {} rejected, {} missing", r.written, r.pending, r.rejected, r.missing);
            }
        }
        documents.push(json!({"target": crm.name, "last": ran, "next": waiting}));
    }
    if place.json {
        println!("{:#}", json!({"ok": whole, "targets": documents}));
    }
    Ok(if whole { OK } else { FAILED })
}

fn now(place: &Place, target: &str, who: &Who, access: &Access) -> Result<u8, String> {
    let config = Config::load_without_secrets(&place.config).map_err(|e| e.to_string())?;
    let body = json!({"target": target, "by": who.name()?});
    let (status, problem) = Gateway::of(&config, access)?.ask("POST", "/v1/batch", &body)?;
    if place.json {
        println!("{:#}", json!({"ok": status == 200, "target": target, "status": status}));
    }
    if status != 200 {
        eprintln!("{status} {}", detail(&problem));
        return Ok(FAILED);
    }
    if !place.json {
        println!("what waited for the next batch of {target} is due now; `offhook batch status` tells what became of it");
    }
    Ok(OK)
}
