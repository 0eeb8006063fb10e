//! `offhook serve`: the gateway for real peers.

use std::{path::PathBuf, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

use super::{FAILED, OK, WRONG_USE};
use crate::{
    config::Config,
    driver::live::{Live, Options},
    shell::telemetry,
};

/// Arguments of `offhook serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGTERM or SIGINT drains: no new calls, those there are may finish within `drain_s` of [sip]; a second signal ends them at once."
)]
pub struct Args {
    /// Configuration to run with; `offhook check` looks at it first.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG")]
    pub config: PathBuf,
    /// Run with a fault planted, to prove that tests find it: `mask-off` records and relays what a secure phase hides,
    /// `recorder-hangs` lets the recorder stop at its first mark of a phase.
    #[cfg(feature = "planted-faults")]
    #[arg(long, value_name = "FAULT", value_parser = ["mask-off", "recorder-hangs"])]
    pub plant: Option<String>,
}

/// Runs until it is told to stop: status 0 after a drain, 1 where it cannot start, 2 where the configuration has faults.
pub fn run(args: Args) -> ExitCode {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return WRONG_USE.into();
        }
    };
    let level = std::env::var("OFFHOOK_LOG").unwrap_or_else(|_| config.log.level.clone());
    if let Err(error) = telemetry::start(config.log.format, &level, None) {
        eprintln!("no log: {error}");
        return FAILED.into();
    }
    raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return FAILED.into();
        }
    };
    #[cfg(feature = "planted-faults")]
    let planted = |fault: &str| args.plant.as_deref() == Some(fault);
    #[cfg(feature = "planted-faults")]
    let options = Options { mask_off: planted("mask-off"), recorder_hangs: planted("recorder-hangs"), ..Options::default() };
    #[cfg(not(feature = "planted-faults"))]
    let options = Options::default();
    match runtime.block_on(serve(config, options)) {
        Ok(()) => OK.into(),
        Err(error) => {
            eprintln!("{error}");
            FAILED.into()
        }
    }
}

async fn serve(config: Config, options: Options) -> Result<(), Box<dyn std::error::Error>> {
    // Before sockets are open, so that no signal is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let live = Live::start(config, options).await?;
    let hurry = live.hurry();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("told to stop: no new calls; those there are may finish");
    let again = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("told again: calls are ended now");
        hurry.now().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = live.stop() => {}
        () = again => {}
    }
    Ok(())
}

/// A call takes up to four files; the limit that the system sets for ordinary programs would be reached at 200 calls.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised; see `offhook check`");
    }
}
