//! `offhook serve`: the gateway for real peers.

use std::{path::PathBuf, process::ExitCode};

/// Arguments of `offhook serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration to run with.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
    pub config: PathBuf,
}

/// Runs until it is told to stop.
pub fn run(_args: Args) -> ExitCode {
    todo!()
}
