//! What stands in the journal, and where.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::time::Wall;

/// A place in the journal: a segment and an offset in it. Segment numbers are never used again. Written `SEGMENT:OFFSET`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// From 1; 0 is before everything.
    pub segment: u64,
    /// Octets from the start of the segment.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// Not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no position in the journal: expected SEGMENT:OFFSET, such as 3:4096")]
pub struct NoPosition(String);

impl FromStr for Position {
    type Err = NoPosition;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (segment, offset) = text.split_once(':')?;
            Some(Self { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
        };
        read().ok_or_else(|| NoPosition(text.to_owned()))
    }
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// What happened on a call: a CloudEvent.
    Event,
    /// A webhook whose signature was good.
    Webhook,
    /// A request to a CRM that is about to be sent.
    Attempt,
    /// What the CRM answered, or that nothing came back.
    Answer,
    /// A write that waits for a person, or a person's decision on it.
    Review,
    /// Something that an operator has to know.
    Alarm,
    /// Somebody asks that calls be told again to their CRMs.
    Recovery,
    /// Somebody asks for a batch now.
    Run,
    /// Another content of a mapping is in use.
    Activation,
    /// What calls held is taken away, but for their skeletons.
    Retention,
    /// Somebody says that nothing of a call may be taken away, or that it may be again.
    Hold,
    /// Somebody has what a call held taken away at once.
    Erasure,
    /// Of a later version: kept, not understood.
    Other(u8),
}

impl EntryKind {
    const NAMED: [(Self, u8, &'static str); 12] = [
        (Self::Event, 1, "event"),
        (Self::Webhook, 2, "webhook"),
        (Self::Attempt, 3, "attempt"),
        (Self::Answer, 4, "answer"),
        (Self::Review, 5, "review"),
        (Self::Alarm, 6, "alarm"),
        (Self::Recovery, 7, "recovery"),
        (Self::Run, 8, "run"),
        (Self::Activation, 9, "activation"),
        (Self::Retention, 10, "retention"),
        (Self::Hold, 11, "hold"),
        (Self::Erasure, 12, "erasure"),
    ];

    /// Its octet in a frame.
    pub fn code(self) -> u8 {
        match self {
            Self::Other(code) => code,
            named => Self::NAMED.iter().find(|(kind, ..)| *kind == named).map_or(0, |(_, code, _)| *code),
        }
    }

    /// From a frame's octet.
    pub fn from_code(code: u8) -> Self {
        Self::NAMED.iter().find(|(_, c, _)| *c == code).map_or(Self::Other(code), |(kind, ..)| *kind)
    }

    /// The contract's words for all of them, the last for those of a later version.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMED.iter().map(|(.., name)| *name).chain(["other"])
    }

    /// The contract's word.
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(kind, ..)| *kind == self).map_or("other", |(.., name)| name)
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub kind: EntryKind,
    /// When, by the wall clock.
    pub time: Wall,
    /// What makes it the same entry wherever it turns up again, such as an event's id. At most 255 octets; the rest is cut.
    pub id: String,
    /// What it belongs to: a call id as far as it was known. At most 255 octets; the rest is cut.
    pub key: String,
    /// Its content, most often JSON.
    pub body: Vec<u8>,
}
