//! What the pipeline keeps: call records, writes to CRMs, names of calls, ids seen. The journal can give all of it again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Activation, Traffic,
    decision::Edits,
    record::Record,
    retention::{Erasure, Hold},
    webhook::{Drift, Payload},
};
use crate::{
    crm::{Fields, contact::Contact, difference},
    event::CallId,
    journal::Position,
    time::Wall,
};

/// Where a write stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The CRM has everything.
    Done,
    /// Waits for its turn.
    Queued,
    /// Was attempted and waits for the next time.
    Retrying,
    /// An attempt stands in the journal, its answer does not.
    InFlight,
    /// Rejected: a person has to look.
    Review,
    /// Given up.
    Dead,
    /// A person decided that it is not written.
    Dropped,
}

impl State {
    /// Its word in tables and outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Queued => "queued",
            Self::Retrying => "retrying",
            Self::InFlight => "in_flight",
            Self::Review => "review",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
        }
    }
}

impl std::str::FromStr for State {
    type Err = ();
    fn from_str(name: &str) -> Result<Self, ()> {
        let all = [Self::Done, Self::Queued, Self::Retrying, Self::InFlight, Self::Review, Self::Dead, Self::Dropped];
        all.into_iter().find(|state| state.name() == name).ok_or(())
    }
}

/// What one CRM has and should have of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// Name of the CRM.
    pub crm: String,
    /// Which call.
    pub call_id: CallId,
    /// Where it stands.
    pub state: State,
    /// When it is due, while queued or retrying.
    pub due: Wall,
    /// Since when something waits.
    pub since: Wall,
    /// It waits behind those of calls as they happen: a batch or a recovery brings it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backlog: bool,
    /// Rises with each change of what should be there.
    pub revision: u32,
    /// Attempts since something was last written.
    pub attempts: u32,
    /// What should be there.
    pub wanted: Fields,
    /// What an attempt without an answer carries.
    pub sent: Fields,
    /// The revision that the last attempt was made at.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sent_at: u32,
    /// Another content of the mapping was in use when all that it wanted was written: what the present one would want besides, it wants once something of the
    /// call changes, or somebody has it told again ([`super::activation`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_another: bool,
    /// The CRM's name for the job that carries it, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// What is there.
    pub written: Fields,
    /// The CRM's id.
    pub id: Option<String>,
    /// Whose call it was.
    #[serde(default)]
    pub contact: Contact,
    /// Values that people have put in the place of the mapping's.
    #[serde(default, skip_serializing_if = "Edits::is_empty")]
    pub edits: Edits,
    /// Fields that the mapping could not write, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unformed: BTreeMap<String, String>,
    /// Those of them that a person has let pass.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub condoned: BTreeMap<String, String>,
    /// Another record stood in its way, and nothing was acknowledged since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub conflicted: bool,
    /// What went wrong last.
    pub why: Option<String>,
    /// When the last answer was given.
    #[serde(default)]
    pub answered_at: Option<Wall>,
    /// Where the last attempt, answer or decision stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<Position>,
    /// Whether what it held was taken away ([`super::retention`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pruned: bool,
}

impl Write {
    /// Of a call that the CRM has heard nothing of.
    pub fn new(crm: &str, call_id: CallId, at: Wall) -> Self {
        let (wanted, sent, written) = (Fields::new(), Fields::new(), Fields::new());
        Self {
            crm: crm.into(),
            call_id,
            state: State::Done,
            due: at,
            since: at,
            backlog: false,
            revision: 0,
            attempts: 0,
            wanted,
            sent,
            sent_at: 0,
            by_another: false,
            job: None,
            written,
            id: None,
            contact: Contact::default(),
            edits: Edits::default(),
            unformed: BTreeMap::new(),
            condoned: BTreeMap::new(),
            conflicted: false,
            why: None,
            answered_at: None,
            touched: None,
            pruned: false,
        }
    }

    /// Whether what happened at `at` was answered and folded long ago: it comes again, behind what came after it, from a salvaged segment. Attempts
    /// of a write alternate with their answers, and none is made before the last answer is folded.
    pub(super) fn is_behind(&self, at: Wall) -> bool {
        self.answered_at.is_some_and(|last| at < last)
    }

    /// What stands, and what is to be told beside it.
    pub fn document(&self) -> Value {
        if self.pruned {
            let Self { crm, call_id, state, revision, id, .. } = self;
            return json!({"target": crm, "call_id": call_id, "state": state, "revision": revision, "id": id, "pruned": true});
        }
        json!({"target": self.crm, "call_id": self.call_id, "state": self.state, "revision": self.revision, "attempts": self.attempts, "since": self.since,
            "due": self.due, "id": self.id, "person": self.contact.person(), "why": self.why, "written": self.written, "wanted": self.difference(),
            "edits": self.edits.iter().map(|(field, edit)| (field, &edit.value)).collect::<BTreeMap<_, _>>()})
    }

    /// Nobody knows whether what was sent last was taken: whatever of it should be there is sent again, even where it is what the CRM had before.
    pub(super) fn doubt_sent(&mut self) {
        for name in std::mem::take(&mut self.sent).into_keys() {
            self.written.remove(&name);
        }
    }

    /// The fields in which what is there differs from what should be.
    pub fn difference(&self) -> Fields {
        if self.by_another { Fields::new() } else { difference(&self.wanted, &self.written) }
    }
}

/// Whether a number that most entries and rows have as zero is left out of them.
pub(super) fn is_zero<N: PartialEq + From<u8>>(number: &N) -> bool {
    *number == N::from(0)
}

/// Figures for metrics and `queue status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Writes that wait for their turn.
    pub queued: usize,
    /// Writes whose answer is awaited.
    pub in_flight: usize,
    /// Writes that wait for their next attempt.
    pub retrying: usize,
    /// Writes given up.
    pub dead: usize,
    /// Writes that wait for a person.
    pub review: usize,
    /// Since when the oldest of the first three waits.
    pub oldest: Option<Wall>,
}

impl Counts {
    /// The contract's document: how many stand how, and for how long the oldest waits, ms.
    pub fn document(&self, now: Wall) -> Value {
        let Self { queued, in_flight, retrying, dead, review, oldest } = self;
        let oldest_ms = oldest.map(|at| now.as_millis().saturating_sub(at.as_millis()).max(0));
        json!({"queued": queued, "in_flight": in_flight, "retrying": retrying, "dead": dead, "review": review, "oldest_ms": oldest_ms})
    }
}

/// A webhook that is in no record: kept for somebody to look at. Its body stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Where it stands.
    pub position: Position,
    /// Who sent it.
    pub source: String,
    /// When it came.
    pub time: Wall,
    /// Why it is here.
    pub why: Why,
    /// For people.
    pub detail: String,
}

/// Why a webhook is in no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Another one with its id was taken before.
    Conflict,
    /// The schema has no such type: once it has, the store made anew takes it.
    UnknownType,
    /// It cannot be read by the schema.
    Unreadable,
    /// What its call held was taken away before it came.
    Pruned,
}

impl Why {
    /// Its word in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::UnknownType => "unknown_type",
            Self::Unreadable => "unreadable",
            Self::Pruned => "pruned",
        }
    }
}

/// A webhook under a name that no call has yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Orphan {
    /// What it tells, of the call of this name.
    pub payload: Payload,
    /// When it came.
    pub came: Wall,
    /// Where it stands.
    pub position: Position,
}

/// What one batch changes, committed at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// What was read of the journal, if anything.
    pub position: Option<Position>,
    /// Records as they are now, each with when its wait for an outcome ends, if it waits. With one that is pruned go its numbers and all writes of its call; those
    /// that stay stand in `writes`.
    pub records: BTreeMap<CallId, (Record, Option<Wall>)>,
    /// Writes as they are now.
    pub writes: BTreeMap<(String, CallId), Write>,
    /// When which source's API is to be asked of which call; none: not any more.
    pub pulls: BTreeMap<(String, CallId), Option<Wall>>,
    /// Other names of calls.
    pub names: BTreeMap<String, CallId>,
    /// Ids of webhooks seen, with the mark of their body.
    pub seen: BTreeMap<String, String>,
    /// Webhooks under a name that no call has yet.
    pub orphans: Vec<Orphan>,
    /// Names whose call turned up: their orphans are folded.
    pub adopted: BTreeSet<String>,
    /// Webhooks that are in no record.
    pub asides: Vec<Aside>,
    /// What has drifted, by its key, as it is now.
    pub drifts: BTreeMap<String, Drift>,
    /// What was spent on each CRM on a day, as it is now.
    pub spent: BTreeMap<(String, i64), u64>,
    /// The mapping that each CRM is written by, and since when.
    pub activations: BTreeMap<String, (Activation, Wall)>,
    /// What was said last of whether calls are held.
    pub holds: BTreeMap<CallId, Hold>,
    /// Calls that somebody had erased.
    pub erasures: BTreeMap<CallId, Erasure>,
    /// What belongs to no call goes that came before this, and what was spent on days before it; done before all else.
    pub swept: Option<Wall>,
}

/// Why the store failed; the pipeline stops until it works again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store failed: {0}; it can be deleted while offhook is stopped, and is made anew from the journal")]
pub struct StoreError(pub String);

/// The pipeline's tables.
pub trait Store {
    /// Everything before it is in the tables.
    fn position(&self) -> Result<Position, StoreError>;
    /// All of `changes`, or nothing.
    fn commit(&mut self, changes: Changes) -> Result<(), StoreError>;
    /// A call's record.
    fn record(&self, call: CallId) -> Result<Option<Record>, StoreError>;
    /// As [`Self::record`], of one that is committed anew at once: the store need not hold on to what it has of it in memory.
    fn take_record(&self, call: CallId) -> Result<Option<Record>, StoreError> {
        self.record(call)
    }
    /// Whether there is a record of that call.
    fn knows(&self, call: CallId) -> Result<bool, StoreError>;
    /// The call of that name.
    fn named(&self, name: &str) -> Result<Option<CallId>, StoreError>;
    /// One write.
    fn write(&self, crm: &str, call: CallId) -> Result<Option<Write>, StoreError>;
    /// As [`Self::write`], of one that is committed anew at once.
    fn take_write(&self, crm: &str, call: CallId) -> Result<Option<Write>, StoreError> {
        self.write(crm, call)
    }
    /// All writes of a call.
    fn writes(&self, call: CallId) -> Result<Vec<Write>, StoreError>;
    /// The mark of the webhook's body, if that id was seen.
    fn seen(&self, id: &str) -> Result<Option<String>, StoreError>;
    /// Webhooks that are in no record, the latest first.
    fn asides(&self, most: usize) -> Result<Vec<Aside>, StoreError>;
    /// The webhook at `position`, where it is in no record.
    fn aside(&self, position: Position) -> Result<Option<Aside>, StoreError>;
    /// What has drifted, by its key.
    fn drift(&self, key: &str) -> Result<Option<Drift>, StoreError>;
    /// All that has drifted, by key.
    fn drifts(&self) -> Result<Vec<Drift>, StoreError>;
    /// Webhooks under a name that no call had.
    fn orphans(&self, name: &str) -> Result<Vec<Orphan>, StoreError>;
    /// Webhooks under names that no call has, the latest first. One that bears several names is there once for each.
    fn unmatched(&self, most: usize) -> Result<Vec<Payload>, StoreError>;
    /// Writes of `crm` due at `at` but for those that are `taken`: those of calls as they happen first, then the backlog if it may go, of each the earliest
    /// first.
    fn due(&self, crm: &str, at: Wall, traffic: Traffic, most: usize, taken: impl Fn(CallId) -> bool) -> Result<Vec<Write>, StoreError>;
    /// When the next queued or retrying write of `crm` that may go is due.
    fn next_due(&self, crm: &str, traffic: Traffic) -> Result<Option<Wall>, StoreError>;
    /// How much of the backlog of `crm` is due at `at`, counted up to `most`.
    fn backlog(&self, crm: &str, at: Wall, most: usize) -> Result<usize, StoreError>;
    /// What was spent on `crm` on that day ([`Wall::day`]), as its attempts tell.
    fn spent(&self, crm: &str, day: i64) -> Result<u64, StoreError>;
    /// The mapping that `crm` is written by, and since when.
    fn activation(&self, crm: &str) -> Result<Option<(Activation, Wall)>, StoreError>;
    /// Writes that stand so, those that wait longest first.
    fn writes_in(&self, state: State, most: usize) -> Result<Vec<Write>, StoreError>;
    /// Records whose wait for an outcome ends at or before `at`.
    fn waited(&self, at: Wall, most: usize) -> Result<Vec<Record>, StoreError>;
    /// When the next such wait ends.
    fn next_wait(&self) -> Result<Option<Wall>, StoreError>;
    /// Calls of which `source`'s API is to be asked at or before `at`, the earliest first.
    fn pulls_due(&self, source: &str, at: Wall, most: usize) -> Result<Vec<CallId>, StoreError>;
    /// When `source`'s API is to be asked of `call`, if it is.
    fn pull(&self, source: &str, call: CallId) -> Result<Option<Wall>, StoreError>;
    /// When it is to be asked next, behind `at`.
    fn next_pull(&self, source: &str, at: Wall) -> Result<Option<Wall>, StoreError>;
    /// Records without a terminal event.
    fn open(&self) -> Result<Vec<Record>, StoreError>;
    /// The latest records, newest first.
    fn recent(&self, most: usize) -> Result<Vec<Record>, StoreError>;
    /// Records of calls that began at or after `at`, behind the call `after`, in the order of their ids.
    fn since(&self, at: Wall, after: Option<CallId>, most: usize) -> Result<Vec<Record>, StoreError>;
    /// Writes to `crm`, behind the call `after`, in the order of their calls.
    fn writes_of(&self, crm: &str, after: Option<CallId>, most: usize) -> Result<Vec<Write>, StoreError>;
    /// Records of calls that this number made or was called by, the latest first.
    fn of_number(&self, number: &str, most: usize) -> Result<Vec<Record>, StoreError>;
    /// Records that may be pruned: of calls behind `after` that began before `before`, are over and wait for nothing, in the order of their ids.
    fn prunable(&self, before: Wall, after: Option<CallId>, most: usize) -> Result<Vec<Record>, StoreError>;
    /// Whether a call's record is pruned.
    fn is_pruned(&self, call: CallId) -> Result<bool, StoreError>;
    /// Calls before `call` of that number that are not pruned, the first ones.
    fn older_of_number(&self, number: &str, call: CallId, most: usize) -> Result<Vec<CallId>, StoreError>;
    /// What was said last of whether a call is held.
    fn hold(&self, call: CallId) -> Result<Option<Hold>, StoreError>;
    /// The holds that stand, the longest ones first.
    fn holds(&self, most: usize) -> Result<Vec<Hold>, StoreError>;
    /// How many calls are held.
    fn held(&self) -> Result<usize, StoreError>;
    /// By whom a call was erased, if it was.
    fn erasure(&self, call: CallId) -> Result<Option<Erasure>, StoreError>;
    /// The erasures, the latest first.
    fn erasures(&self, most: usize) -> Result<Vec<Erasure>, StoreError>;
    /// How many calls were erased.
    fn erased(&self) -> Result<usize, StoreError>;
    /// What belongs to no call has gone that came before this.
    fn swept(&self) -> Result<Option<Wall>, StoreError>;
    /// Figures.
    fn counts(&self) -> Result<Counts, StoreError>;
}
