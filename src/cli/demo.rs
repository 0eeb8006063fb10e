//! `offhook demo`: five calls over real sockets, and what was verified.

use std::{path::PathBuf, process::ExitCode};

use crate::driver::demo::{self, card::Card};

/// Plays five calls over real sockets on the loopback into a CRM sandbox, and shows what was verified.
///
/// Starts a gateway with its embedded store, a carrier's phones, voice-AI platforms and a CRM sandbox, each on sockets of its own. Needs no service,
/// account, root or configuration. Exit status 1 when a check fails.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document instead of the page.
    #[arg(long)]
    json: bool,
    /// Card number to key in the secure phase, 12 to 19 digits; it is never printed. Default: a number drawn for the run.
    #[arg(long, value_name = "DIGITS", hide_env_values = true)]
    card: Option<String>,
    /// A server of HubSpot's contract instead of the built-in sandbox (client sim-client, secret sim-secret, refresh token sim-refresh).
    #[arg(long, value_name = "URL")]
    crm: Option<String>,
    /// Folder for everything the run writes; must be empty or absent. Default: a new one below the system's folder for temporary files.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Leave gateway and sandbox running afterwards, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Run with a fault planted; `mask-off` leaves the secure phase unmasked.
    #[cfg(feature = "planted-faults")]
    #[arg(long, value_name = "FAULT", value_parser = ["mask-off"])]
    plant: Option<String>,
}

/// Runs it.
pub fn run(args: Args) -> ExitCode {
    let card = match args.card.as_deref().map(Card::parse).transpose() {
        Ok(card) => card,
        Err(why) => {
            eprintln!("offhook demo: {why}");
            return ExitCode::from(2);
        }
    };
    #[cfg(feature = "planted-faults")]
    let mask_off = args.plant.as_deref() == Some("mask-off");
    #[cfg(not(feature = "planted-faults"))]
    let mask_off = false;
    let options = demo::Options { card, crm: args.crm, data: args.data, keep: args.keep, json: args.json, mask_off };
    match demo::run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("offhook demo: {why}");
            ExitCode::from(1)
        }
    }
}
