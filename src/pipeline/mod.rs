//! THE write-back machine: raw entries of the journal become call records, records mapped fields, fields due writes.
//!
//! ```text
//! journal batch ─ fold ─► records, writes (one transaction with the position)
//! turn ─► due write ─► Append(attempt) ─ synced ─► Send ─ answer ─► Append(answer) ─► comes back with the next batch
//! webhook ─ Ingest: signature good ─► on disk ─► 200, by the driver: nobody waits for the machine
//! ```
//! What is in the store came from the journal, and nothing else decides what is sent: delete the store, and the same entries make it anew
//! without a request. It knows no socket and no SQL; the driver hands it a [`Store`].
//!
//! | file | what it decides |
//! |---|---|
//! | `fold`, `overlay` | what a batch of entries makes of the store |
//! | [`record`], `note`, [`expect`] | what is known of a call, and what is still to come of it |
//! | [`pull`] | what a webhook lost and a platform's API is asked for |
//! | [`webhook`], `inbound` | who may tell something, what it says, whether it was told before |
//! | `step` | what a write needs next: person, record, link, what is said of the person |
//! | [`schedule`], [`batch`] | when that is due, and what became of a batch |
//! | `pace`, `lane`, `token` | how fast one CRM is asked, and what its answers mean for the next request |
//! | `attempt` | what the journal holds of a request and of its answer |
//! | `job` | many records as one job of the CRM |
//! | [`decision`], `reconcile` | what people decide, and what a CRM holds beside what it was told |
//! | [`recovery`] | what is told again, and what of it is left as people have changed it |
//! | [`retention`] | what is taken away of calls, and when, who holds or erases one, and what of the journal stays |
//! | [`activation`], [`restart`] | what is written down, and closed, at a start |
//! | [`store`], `memory` | the tables, and those of tests |

mod pace;
pub mod record;
pub mod restart;
pub mod schedule;
pub mod store;
pub mod webhook;

pub mod activation;
mod attempt;
pub mod batch;
pub mod decision;
pub mod expect;
mod fold;
mod inbound;
mod job;
mod lane;
mod memory;
mod note;
mod overlay;
pub mod pull;
mod reconcile;
pub mod recovery;
pub mod retention;
mod step;
#[cfg(test)]
mod tests;
mod token;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{
    chance::Chance,
    crm::{
        Connector, HttpAnswer, HttpRequest, Verdict,
        mapping::{Formed, Reads},
    },
    event::CallId,
    journal::Entry,
    time::{Instant, Now, Wall},
};

pub use activation::Activation;
pub use attempt::attempted;
pub use decision::Decision;
pub use expect::Expect;
pub use memory::Memory;
pub use pace::{Pace, Traffic};
pub use pull::Pull;
pub use record::Record;
pub use recovery::Recover;
pub use retention::Order;
pub use schedule::Schedule;
pub use store::{Counts, Store, StoreError};
pub use webhook::{Key, Source};

pub use step::{Contacts, Step};

use attempt::{Answered, Attempt, Attempted, Settled};
use lane::Lane;
use step::Request;

/// How a record becomes fields.
pub type Mapping = Box<dyn Fn(&Map<String, Value>) -> Formed + Send>;

/// One CRM.
pub struct Crm {
    /// Its name in tables and metrics.
    pub name: String,
    /// Its contract.
    pub connector: Box<dyn Connector>,
    /// The mapping.
    pub mapping: Mapping,
    /// The fields that the mapping writes: people may put other values into these, and into no others.
    pub writes: Vec<String>,
    /// What the mapping reads, for whoever has to say what a change concerns.
    pub reads: Reads,
    /// How the people behind its calls are found; none: records name nobody.
    pub contacts: Option<Contacts>,
    /// The refresh token to begin with.
    pub refresh_token: Zeroizing<String>,
    /// How hard it may be worked.
    pub pace: Pace,
    /// When calls are written.
    pub schedule: Schedule,
    /// Which content of the mapping this is, where that is to be on record.
    pub activation: Option<Activation>,
}

/// What the pipeline goes by.
pub struct Config {
    /// Where records are written.
    pub crms: Vec<Crm>,
    /// Who may send webhooks.
    pub sources: BTreeMap<String, Source>,
    /// What marks of their bodies are made with.
    pub marks: webhook::Marks,
    /// What webhooks are to bring of a call; without sources nobody waits for it.
    pub expects: Vec<Expect>,
    /// Attempts before a write is given up.
    pub attempts_max: u32,
    /// How long behind its end a call is kept whole, once everything of it is settled; none: for ever.
    pub keep: Option<Duration>,
}

impl Config {
    /// The CRM of that name.
    fn crm(&self, name: &str) -> Option<&Crm> {
        self.crms.iter().find(|crm| crm.name == name)
    }
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Output {
    /// Write to the journal, then call [`Pipeline::synced`].
    Append {
        /// Comes back.
        append: u64,
        /// What.
        entry: Entry,
    },
    /// Send to a CRM, then call [`Pipeline::answer`].
    Send {
        /// Comes back.
        request: u64,
        /// Which CRM.
        crm: String,
        /// What.
        http: HttpRequest,
    },
    /// Ask a platform's API, then call [`Pipeline::answer`].
    Ask {
        /// Comes back.
        request: u64,
        /// Whose webhooks are missing.
        source: String,
        /// What.
        http: HttpRequest,
    },
    /// Answer whoever asked for something.
    Respond {
        /// As given with it.
        reply: u64,
        /// HTTP status.
        status: u16,
        /// What is wrong and what to do, where it is refused.
        problem: Option<(String, &'static str)>,
    },
    /// Answer a question with what was found.
    Tell {
        /// As given with it.
        reply: u64,
        /// What was found.
        document: Value,
    },
    /// Keep a rotated refresh token on disk before anything else is sent to this CRM.
    KeepToken {
        /// Which CRM.
        crm: String,
        /// The new token.
        token: Zeroizing<String>,
    },
    /// What the journal still holds of pruned calls, or of webhooks of no call that are old, may go ([`Pipeline::left_of`]).
    Pruned {
        /// Calls that became skeletons just now.
        calls: usize,
        /// They ended before this.
        before: Wall,
    },
    /// Somebody had this call erased: what the journal still holds of it goes ([`Pipeline::left_of`]), and no copy of it may stand in the store's files.
    Erased(CallId),
    /// What has come late of erased calls may stand in the journal, and goes.
    Late,
    /// Something to count.
    Count(Count),
}

/// What is counted while the pipeline runs; what is folded again at a start was counted then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    /// A webhook that was taken, by the contract's result.
    Webhook(&'static str),
    /// A payload that is not what its schema or mapping was written for.
    Drift {
        /// Which, where it is the first of its kind.
        drift: Option<Box<webhook::Drift>>,
    },
    /// A call was answered and its outcome is expected.
    Expected,
    /// A platform's API was asked for what a webhook lost, to the end.
    Pull {
        /// Whose.
        source: String,
        /// `filled`, `nothing`, `unreadable` or `failed`.
        result: &'static str,
    },
    /// A CRM's answer, by the contract's outcome.
    Write {
        /// Which CRM.
        crm: String,
        /// What it said.
        outcome: String,
    },
    /// A batch has come to its end, or is behind: something of it still waits.
    Batch(batch::Report),
    /// A record was acknowledged so long after its call's end, for the first time.
    Delivered(Duration),
}

/// Nothing came back from a CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// Whether the request may have reached it.
    pub maybe_sent: bool,
    /// For people.
    pub why: String,
}

/// Who waits for an entry to be on disk.
enum Waiting {
    Decision { reply: u64 },
    Keep { operation: String },
    Recovery { operation: String, reply: Option<u64> },
    Attempt(Request),
    Page(reconcile::Page),
    Rows { crm: String, job: u64, calls: Vec<CallId> },
    Pull(pull::End),
    Answer(Entry),
    Retention,
    Order { id: String },
}

/// Who waits for an answer of a CRM, or of a platform.
enum Asked {
    Write(Request),
    Pull(pull::Question),
    Job { crm: String, job: u64, token: u64 },
    Read(reconcile::Page),
    Token { crm: String },
}

/// The machine.
pub struct Pipeline {
    config: Config,
    chance: Chance,
    lanes: BTreeMap<String, Lane>,
    apis: BTreeMap<String, pull::Api>,
    waiting: BTreeMap<u64, Waiting>,
    asked: BTreeMap<u64, Asked>,
    /// Answers that the journal did not take, to be appended again.
    again: Vec<Entry>,
    /// When that is due, should nobody tell that the journal takes entries again.
    again_from: Instant,
    /// The journal did not take the last entry.
    refused: bool,
    outputs: VecDeque<Output>,
    next_id: u64,
    /// Everything durable was folded once: from here on things are sent and counted.
    live: bool,
    wake: Option<Instant>,
    /// When waits for an outcome may be ended again.
    waits_from: Instant,
    rounds: retention::Rounds,
    orders: retention::Orders,
    recoveries: recovery::Recoveries,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipeline(..)")
    }
}

impl Pipeline {
    /// Before the first batch.
    pub fn new(mut config: Config, chance: Chance) -> Self {
        if config.sources.is_empty() {
            config.expects.iter_mut().for_each(|expect| expect.within = Duration::ZERO);
        }
        let lanes = config.crms.iter().map(|crm| (crm.name.clone(), Lane::new(crm.refresh_token.clone()))).collect();
        Self {
            config,
            chance,
            lanes,
            apis: BTreeMap::new(),
            waiting: BTreeMap::new(),
            asked: BTreeMap::new(),
            again: Vec::new(),
            again_from: Instant::ORIGIN,
            refused: false,
            outputs: VecDeque::new(),
            next_id: 0,
            live: false,
            wake: None,
            waits_from: Instant::ORIGIN,
            rounds: retention::Rounds::default(),
            orders: retention::Orders::default(),
            recoveries: recovery::Recoveries::default(),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::turn`] is due although nothing happened.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Appends and requests under way, for a clean end.
    pub fn under_way(&self) -> usize {
        self.waiting.len().saturating_add(self.asked.len())
    }

    fn id(&mut self) -> u64 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    fn append(&mut self, entry: Entry, waiting: Waiting) {
        let append = self.id();
        self.waiting.insert(append, waiting);
        self.outputs.push_back(Output::Append { append, entry });
    }

    fn respond(&mut self, reply: u64, status: u16, problem: Option<(String, &'static str)>) {
        self.outputs.push_back(Output::Respond { reply, status, problem });
    }

    fn count(&mut self, count: Count) {
        self.outputs.push_back(Output::Count(count));
    }

    /// An entry is on disk, or was not taken.
    pub fn synced(&mut self, now: Now, append: u64, result: Result<(), String>) {
        if let Some(why) = result.as_ref().err().filter(|_| !self.refused) {
            tracing::error!(why, "the journal does not take what the write-back has to say; it comes again");
        }
        self.refused = result.is_err();
        match (self.waiting.remove(&append), result) {
            // What somebody orders of what is kept is answered once it is folded.
            (None, _) | (Some(Waiting::Answer(_) | Waiting::Retention | Waiting::Order { .. }), Ok(())) => {}
            (Some(Waiting::Retention), Err(_)) => self.rounds.refused(now.mono),
            (Some(Waiting::Decision { reply }), Ok(())) => self.respond(reply, 200, None),
            (Some(Waiting::Decision { reply }), Err(why)) => {
                self.respond(reply, 503, Some((format!("the decision could not be written: {why}"), "decide again later")));
            }
            (Some(Waiting::Order { id }), Err(why)) => self.order_refused(&id, &why),
            (Some(Waiting::Keep { operation }), result) => self.kept(&operation, result),
            (Some(Waiting::Recovery { operation, reply }), result) => self.recovery_synced(&operation, reply, result),
            (Some(Waiting::Rows { crm, job, calls }), result) => self.rows_synced(now, &crm, job, &calls, result.is_ok()),
            (Some(Waiting::Attempt(request)), Ok(())) => self.send(now, request),
            (Some(Waiting::Attempt(request)), Err(_)) => {
                if let Some(lane) = self.lanes.get_mut(&request.crm) {
                    lane.unsent(&request.calls);
                    lane.pause(now.mono, JOURNAL_PAUSE);
                }
            }
            (Some(Waiting::Page(page)), result) => self.page_synced(now, page, result),
            (Some(Waiting::Pull(end)), result) => self.pull_synced(now, end, result.is_ok()),
            (Some(Waiting::Answer(entry)), Err(_)) => {
                self.again.push(entry);
                self.again_from = now.mono + JOURNAL_PAUSE;
            }
        }
    }

    /// The journal takes entries again.
    pub fn journal_opened(&mut self) {
        for entry in std::mem::take(&mut self.again) {
            self.append(entry.clone(), Waiting::Answer(entry));
        }
    }

    fn send(&mut self, now: Now, mut request: Request) {
        let id = self.id();
        let Some(crm) = self.config.crm(&request.crm) else { return };
        request.token = self.lanes.get(&request.crm).map_or(0, |lane| lane.tokens);
        let Some(token) = self.lanes.get(&request.crm).and_then(Lane::token) else {
            // It was refused while the attempt was on its way to the disk: the same as a refusal of the request.
            let why = "the access token was refused before this was sent".to_owned();
            return self.settle(now, &request, None, vec![(Verdict::Auth { why }, None); request.calls.len()]);
        };
        let Some(http) = request.parts.request(crm, &token) else {
            let why = "this CRM knows no people; take [contact] out of its mapping".to_owned();
            return self.settle(now, &request, None, vec![(Verdict::Gone { why }, None); request.calls.len()]);
        };
        self.outputs.push_back(Output::Send { request: id, crm: request.crm.clone(), http });
        self.asked.insert(id, Asked::Write(request));
    }

    /// A CRM answered, or a platform, or did not.
    pub fn answer(&mut self, now: Now, request: u64, answer: Result<HttpAnswer, NoAnswer>) {
        match self.asked.remove(&request) {
            None => {}
            Some(Asked::Job { crm, job, token }) => self.job_answered(now, &crm, job, token, answer),
            Some(Asked::Pull(question)) => self.pull_answered(now, question, answer),
            Some(Asked::Read(page)) => self.read_answered(now, page, answer),
            Some(Asked::Token { crm }) => self.token_answered(now, &crm, answer),
            Some(Asked::Write(request)) => self.write_answered(now, request, answer),
        }
    }
}

/// A lane waits so long when the journal does not take its attempts, and so does an answer that it did not take.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);
