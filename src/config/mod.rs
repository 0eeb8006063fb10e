//! Reads TOML and environment once, and names every fault of a file at once: where it stands, what is wrong, what to write instead.
//!
//! What is here says what a file may hold; [`crate::driver::live`] turns it into the rooms' own configurations.

mod expect;
mod fault;
mod overlap;
mod peers;
mod pull;
mod schedule;
mod secret;
mod server;
mod table;
mod webhook;
mod writeback;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

pub use fault::Fault;
pub use peers::{Codec, Dtmf, Peer, Route, Secure, Silence, Target, Trunk};
pub use server::{Data, Http, Log, Media, OnJournalFailure, Overload, Sip, Tls};
pub use webhook::Webhook;
pub use writeback::{Api, Crm, Quarantine, WriteBack};

use crate::pipeline::Expect;
use table::{File, Table};

/// A configuration without a fault.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[sip]`
    pub sip: Sip,
    /// `[media]`
    pub media: Media,
    /// `[http]`
    pub http: Http,
    /// `[data]`
    pub data: Data,
    /// `[log]`
    pub log: Log,
    /// `[[trunk]]`, in the file's order.
    pub trunks: Vec<Trunk>,
    /// `[[target]]`
    pub targets: Vec<Target>,
    /// `[[route]]`, the first that fits takes the call.
    pub routes: Vec<Route>,
    /// `[writeback]`
    pub writeback: WriteBack,
    /// `[[expect]]`
    pub expects: Vec<Expect>,
    /// `[[crm]]`
    pub crms: Vec<Crm>,
    /// `[quarantine]`
    pub quarantine: Quarantine,
    /// `[[webhook]]`
    pub webhooks: Vec<Webhook>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: {source}: give the configuration's path with --config FILE")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file has faults: all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faults(Vec<Fault>),
}

impl Config {
    /// Reads `path`. Relative paths in it start at its own directory.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// The same for whoever talks to nobody, such as a capture's play: secrets need not be there, no program is run for one, and they are left empty.
    pub fn load_without_secrets(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        Self::parse_file(File::new(path, &text, false))
    }

    /// Reads `text`, which stands in `path`. Files that it names are looked at.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        Self::parse_file(File::new(path, text, true))
    }

    fn parse_file(file: File<'_>) -> Result<Self, Error> {
        let (document, broken) = DeTable::parse_recoverable(file.text);
        for error in &broken {
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            file.fault(&error.span().unwrap_or(0..0), what, "this is not TOML, see https://toml.io");
        }
        if !broken.is_empty() {
            // What stands behind a broken line would be reported as missing.
            return Err(Error::Faults(file.into_faults()));
        }
        let config = Self::read(file.path, Table::root(&file, document.get_ref()));
        let faults = file.into_faults();
        if faults.is_empty() { Ok(config) } else { Err(Error::Faults(faults)) }
    }

    fn read(path: &Path, mut root: Table<'_>) -> Self {
        let directory = path.parent().unwrap_or(Path::new(""));
        let sip = Sip::read(root.table("sip"));
        let media = Media::read(root.table("media"));
        let http = Http::read(root.table("http"), directory);
        let data = Data::read(root.table("data"), directory);
        let log = Log::read(root.table("log"));
        let trunks = peers::trunks(&mut root, &sip);
        let targets = peers::targets(&mut root, &sip);
        let routes = peers::routes(&mut root, &trunks, &targets);
        let writeback = WriteBack::read(root.table("writeback"));
        let expects = expect::read(&mut root, writeback.outcome_wait);
        let crms = writeback::crms(&mut root, directory);
        let quarantine = Quarantine::read(root.table("quarantine"), directory, &data.directory);
        let webhooks = webhook::webhooks(&mut root, directory);
        root.finish();
        Self { path: path.to_owned(), sip, media, http, data, log, trunks, targets, routes, writeback, expects, crms, quarantine, webhooks }
    }
}
