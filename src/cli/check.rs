//! `offhook check`: every fault of a configuration, then what the machine lacks to carry it.

use std::{path::PathBuf, process::ExitCode};

/// Arguments of `offhook check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration to look at.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
    pub config: PathBuf,
    /// One JSON document on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Prints what it finds; status 1 where anything must be mended.
pub fn run(_args: Args) -> ExitCode {
    todo!()
}
