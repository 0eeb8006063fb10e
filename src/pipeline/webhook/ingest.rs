//! What stands between a webhook's request and the journal: whether it is taken, and as which entry. It knows nothing of what it says; that is the fold's
//! business. It has no state, so that no webhook waits for another, nor for the fold.

use std::collections::BTreeMap;

use super::{Request, Source, received};
use crate::{
    journal::{Entry, EntryKind},
    time::Wall,
};

/// Who may send webhooks, by name.
#[derive(Clone, Debug)]
pub struct Ingest(BTreeMap<String, Source>);

/// Why a webhook is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// What is wrong.
    pub detail: String,
    /// What to do.
    pub hint: &'static str,
    /// What is counted, by the contract's word; none where it was counted when it came.
    pub result: Option<&'static str>,
    /// It belongs into the quarantine: the signature is wrong, but the secret may be.
    pub quarantine: bool,
}

impl Ingest {
    /// From these sources.
    pub fn new(sources: BTreeMap<String, Source>) -> Self {
        Self(sources)
    }

    /// A webhook came at `now`: the entry that has to be on disk before it is answered 200. `signed`: the system's wall clock as it is, steps and all, which the
    /// window of the signature is held against.
    pub fn take(&self, now: Wall, signed: Wall, source: &str, request: &Request<'_>) -> Result<Entry, Refusal> {
        self.entry(now, source, request, signed, None)
    }

    /// A webhook of the quarantine, which came at `came`, is verified with the keys of today. What is refused stays where it is.
    pub fn release(&self, now: Wall, came: Wall, source: &str, request: &Request<'_>) -> Result<Entry, Refusal> {
        self.entry(now, source, request, came, Some(came)).map_err(|refusal| Refusal { quarantine: false, result: None, ..refusal })
    }

    fn entry(&self, now: Wall, source: &str, request: &Request<'_>, signed: Wall, came: Option<Wall>) -> Result<Entry, Refusal> {
        let Some(known) = self.0.get(source) else {
            return Err(Refusal {
                status: 404,
                detail: format!("no [[webhook]] has source = \"{source}\""),
                hint: "see the sources in the configuration",
                result: Some("refused"),
                quarantine: false,
            });
        };
        known.verify(request, signed).map_err(|bad| Refusal {
            status: 401,
            detail: bad.to_string(),
            hint: "the key is the one in this source's secret_file",
            result: Some("bad_signature"),
            quarantine: true,
        })?;
        let body = received::write(known, request, came);
        Ok(Entry { kind: EntryKind::Webhook, time: now, id: source.to_owned(), key: String::new(), body })
    }
}
