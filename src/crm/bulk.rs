//! Many records as one job of the CRM: it is made, filled, closed, looked at until it is over, and tells of each row what became of it.
//!
//! A CRM works a job's rows off in any order and beside each other: no key may be in two jobs at a time, nor in a job and another request.

use super::{Change, HttpAnswer, HttpRequest, Token, Verdict};

/// What is asked about a job.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// That there be one, with nothing in it.
    Make,
    /// That it take these rows, no two with one key.
    Fill(&'a str, &'a [Change]),
    /// That it be worked off: nothing happens before.
    Close(&'a str),
    /// How it stands.
    Look(&'a str),
    /// Which rows were written.
    Written(&'a str),
    /// Which rows were refused.
    Refused(&'a str),
    /// That it never be worked off.
    Abort(&'a str),
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not closed: nothing of it was written.
    Open,
    /// It waits for its turn or is worked off.
    Running,
    /// It is worked off, and its results can be asked for.
    Over,
    /// It came to nothing: what of it was written nobody knows, and what is wrong with it a request may tell of each record.
    Failed {
        /// For people.
        why: String,
    },
    /// Somebody aborted it, or the CRM knows it no more: what of it was written nobody knows.
    Lost {
        /// For people.
        why: String,
    },
}

/// How a CRM takes jobs.
pub trait Bulk {
    /// Most rows of a job.
    fn rows_max(&self) -> usize;
    /// Whether a row can say this.
    fn takes(&self, change: &Change) -> bool;
    /// The request.
    fn ask(&self, ask: Ask<'_>, token: &Token) -> HttpRequest;
    /// The id of the job that was made.
    fn begun(&self, answer: &HttpAnswer) -> Result<String, Verdict>;
    /// Whether a job was filled, closed or aborted.
    fn taken(&self, answer: &HttpAnswer) -> Result<(), Verdict>;
    /// How a job stands.
    fn standing(&self, answer: &HttpAnswer) -> Result<Standing, Verdict>;
    /// Keys of rows, in any order, each with what became of it. A key that is in neither result was not worked off.
    fn results(&self, answer: &HttpAnswer) -> Result<Vec<(String, Verdict)>, Verdict>;
}
