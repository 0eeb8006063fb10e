//! What a platform is expected to send of a call, by how the call ended, and until when. What did not come by then is missing: the record is written as it is,
//! and flagged.
//!
//! Where the platform's API may be asked for it ([`super::pull`]), it is given up when the asking has ended, which stands in the journal, or else at a time that
//! the configuration sets: how long the network took decides nothing.

use std::time::Duration;

use super::{pull::Sources, record::Record, webhook::FIELDS};
use crate::{
    event::{EndedAs, Outcome},
    time::Wall,
};

/// Something that webhooks bring of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// A type of the catalogue, such as `transcription.complete`, or a field, such as `disposition_code`.
    pub what: String,
    /// Of calls that ended so; empty: of those that somebody took, and of those that a fault ended. Of all others nothing is expected: a platform that was
    /// never connected has nothing to tell.
    pub outcomes: Vec<Outcome>,
    /// How long after the call's end it may still come.
    pub within: Duration,
}

impl Expect {
    /// That somebody tells how a call went.
    pub fn disposition(within: Duration) -> Self {
        Self { what: DISPOSITION.to_owned(), outcomes: Vec::new(), within }
    }

    /// Whether a record can hold such a thing; otherwise what it may be.
    pub fn check(what: &str) -> Result<(), String> {
        let known = super::webhook::schema::CATALOGUE.into_iter().chain(FIELDS);
        if known.clone().any(|k| k == what) || what.starts_with("custom.") {
            return Ok(());
        }
        Err(format!("write one of {}, or a type that begins with custom.", known.collect::<Vec<_>>().join(", ")))
    }

    /// Until when `record` waits for it; none where it does not.
    pub(super) fn until(&self, record: &Record) -> Option<Wall> {
        let (ended, terminal) = record.end()?;
        let taken = record.answered_at().is_some() || terminal.ended_as == EndedAs::Failed;
        let wanted = if self.outcomes.is_empty() { taken } else { self.outcomes.contains(&terminal.outcome) };
        (wanted && !record.has_come(&self.what)).then(|| ended + self.within)
    }

    /// When `record` gives it up: when its time is over, and a while later while a platform's API is asked for it.
    fn given_up(&self, record: &Record, sources: &Sources) -> Option<Wall> {
        let until = self.until(record)?;
        Some(until + record.patience(&self.what, until, sources))
    }
}

impl Record {
    /// Settles what is awaited from here on, and until when the next of it may come.
    pub fn expect(&mut self, expects: &[Expect], sources: &Sources) -> Option<Wall> {
        // What came late is missing no more, as if it had come in time.
        let mut missing = std::mem::take(&mut self.missing);
        missing.retain(|what| !self.has_come(what));
        self.missing = missing;
        let open = |e: &&Expect| !self.missing.contains(&e.what);
        let awaited: Vec<_> = expects.iter().filter(open).filter_map(|e| Some((e.what.clone(), e.given_up(self, sources)?))).collect();
        let next = awaited.iter().map(|(_, until)| *until).min();
        self.awaited = awaited.into_iter().map(|(what, _)| what).collect();
        next
    }

    /// What was to come until `at` comes no more.
    pub fn give_up(&mut self, expects: &[Expect], sources: &Sources, at: Wall) {
        let over = expects
            .iter()
            .filter(|e| e.given_up(self, sources).is_some_and(|until| until <= at))
            .map(|e| e.what.clone())
            .collect::<Vec<_>>();
        self.missing.extend(over);
    }
}

/// How it went, in the platform's words.
pub(super) const DISPOSITION: &str = "disposition_code";
