//! Log lines: to standard error, or to a file where a test or the demo asks for one.

use std::{
    fs::File,
    io::{self, IsTerminal},
    path::PathBuf,
    sync::Arc,
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging for the process; the second call changes nothing. `level` is a filter such as `info,offhook::sip=debug`; one that
/// cannot be read counts as `info`. Colour only on a terminal, and not where `NO_COLOR` is set.
pub fn start(format: Format, level: &str, to: Option<PathBuf>) -> io::Result<()> {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    match to {
        None => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            begin(format, filter, colour, io::stderr);
        }
        Some(path) => begin(format, filter, false, Arc::new(File::create(path)?)),
    }
    Ok(())
}

fn begin(format: Format, filter: EnvFilter, colour: bool, to: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) {
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(to);
    // Started already: the first one stays, which is right for tests that share a process.
    let _ = match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
}
