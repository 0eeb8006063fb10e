//! Jobs: where a batch has very many records for a CRM that takes jobs, they go as one, and not by the hundred.
//!
//! ```text
//! make ─► gather ─► Append(attempts, each with the job's id) ─ synced ─► fill ─► close ─► look … ─► written ─► refused ─► Append(answers)
//! ```
//! A job's id stands in the attempts before anything is in the job, so that whoever folds them knows what is under way: after a restart the job is looked at,
//! and no record of it goes another way before it has told. No call is in two jobs, nor in a job and a request: rows are written in any order.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Answered, Asked, Attempt, Attempted, Crm, NoAnswer, Output, Pipeline, Settled, Step, Store, StoreError, Traffic, Waiting,
    attempt::{apart, entry, octets},
    lane::{Lane, backoff},
    step::Parts,
    store::Write,
};
use crate::{
    crm::{
        Change, HttpAnswer, Verdict,
        bulk::{Ask, Standing},
        record_key,
    },
    event::CallId,
    journal::EntryKind,
    time::{Instant, Now},
};

/// A lane's jobs.
#[derive(Default)]
pub(super) struct Jobs {
    under_way: Vec<Job>,
    /// The CRM makes none, or one failed: none is asked for until then.
    none_until: Option<Instant>,
}

/// One job.
struct Job {
    number: u64,
    /// The CRM's name for it; none before it is made.
    id: String,
    stage: Stage,
    /// The calls whose answer is owed, by their keys.
    calls: BTreeMap<String, CallId>,
    /// Its rows, until the CRM has them.
    changes: Vec<Change>,
    /// The CRM has its rows, and it is to be closed.
    filled: bool,
    /// When it is gone on with.
    next: Instant,
    /// Requests of its stage so far.
    tries: u32,
    /// A request is under way.
    asked: bool,
    /// Attempts on their way to the disk.
    appends: usize,
    /// Why it is aborted.
    why: String,
}

/// What comes next of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Make,
    Gather,
    Journal,
    Fill,
    Close,
    Look,
    Written,
    Refused,
    Abort,
}

/// What an answer says of a job.
enum Told {
    Made(String),
    Taken,
    Stands(Standing),
    Rows(Vec<(String, Verdict)>),
}

impl Jobs {
    fn of(&mut self, number: u64) -> Option<&mut Job> {
        self.under_way.iter_mut().find(|job| job.number == number)
    }

    fn begin(&mut self, number: u64, id: String, stage: Stage, now: Instant) {
        let (calls, changes, why) = (BTreeMap::new(), Vec::new(), String::new());
        self.under_way.push(Job { number, id, stage, calls, changes, filled: false, next: now, tries: 0, asked: false, appends: 0, why });
    }
}

impl Job {
    fn go(&mut self, stage: Stage, at: Instant) {
        (self.stage, self.next, self.tries) = (stage, at, 0);
    }

    /// The same again, later each time.
    fn again(&mut self, now: Instant, place: u16) {
        self.tries = self.tries.saturating_add(1);
        self.next = now + backoff(self.tries, place).min(LOOK_MAX);
    }

    fn abort(&mut self, at: Instant, why: String) {
        self.filled = false;
        self.why = why;
        self.go(Stage::Abort, at);
    }
}

impl Crm {
    /// From how many records on a batch goes as a job; none where nothing does.
    fn job_from(&self) -> Option<usize> {
        (self.connector.bulk().is_some() && self.schedule.runs().is_some()).then_some(self.pace.bulk_from.max(1))
    }

    /// Whether a job may carry this.
    fn is_row(&self, write: &Write) -> bool {
        write.backlog && self.next_step(write) == Some(Step::Write)
    }
}

/// Whether the backlog is left to a job: one is being put together, or what is left is enough for another one.
pub(super) fn holds_backlog(now: Now, store: &impl Store, crm: &Crm, lane: &Lane) -> Result<bool, StoreError> {
    let Some(from) = crm.job_from().filter(|_| !lane.jobs.under_way.is_empty()) else { return Ok(false) };
    let begun = lane.jobs.under_way.iter().any(|job| matches!(job.stage, Stage::Make | Stage::Gather | Stage::Journal));
    Ok(begun || store.backlog(&crm.name, now.wall, from)? >= from)
}

/// Of what is `due`, what goes by requests: without the rows of a job, where there are enough for one. That begins once nothing before them waits for its
/// person; `number` is its.
pub(super) fn sift(
    now: Now,
    store: &impl Store,
    crm: &Crm,
    lane: &mut Lane,
    mut due: Vec<Write>,
    number: u64,
) -> Result<Vec<Write>, StoreError> {
    let (Some(from), Some(bulk)) = (crm.job_from(), crm.connector.bulk()) else { return Ok(due) };
    let refused = lane.jobs.none_until.is_some_and(|until| now.mono < until);
    if refused || !lane.jobs.under_way.is_empty() || !due.iter().any(|w| crm.is_row(w)) || store.backlog(&crm.name, now.wall, from)? < from
    {
        return Ok(due);
    }
    if due.iter().any(|w| w.backlog && !crm.is_row(w)) {
        // Whoever was found stands at the end of the queue: once its front has only rows, all of them are there.
        due.retain(|w| !crm.is_row(w));
        return Ok(due);
    }
    let all = store.due(&crm.name, now.wall, Traffic::All, bulk.rows_max(), |call| lane.busy.contains(&call))?;
    if all.iter().filter(|w| crm.is_row(w)).count() < from {
        return Ok(due);
    }
    due.retain(|w| !crm.is_row(w));
    lane.jobs.begin(number, String::new(), Stage::Make, now.mono);
    Ok(due)
}

impl Pipeline {
    /// Whether a job can be gone on with now; else it wakes when one can.
    pub(super) fn job_waits(&mut self, now: Now, crm: &str) -> bool {
        let Some(lane) = self.lanes.get(crm) else { return false };
        let ready = |job: &&Job| !job.asked && job.stage != Stage::Journal;
        let Some(next) = lane.jobs.under_way.iter().filter(ready).map(|job| job.next).min() else { return false };
        if now.mono < next {
            self.wake_in(now, next.since(now.mono));
            return false;
        }
        true
    }

    /// Goes on with what jobs there are, by `free` requests at most; how many it took.
    pub(super) fn drive_jobs(&mut self, now: Now, store: &impl Store, crm: &str, free: usize) -> Result<usize, StoreError> {
        let numbers: Vec<_> = self.lanes.get(crm).map(|l| l.jobs.under_way.iter().map(|job| job.number).collect()).unwrap_or_default();
        let mut sent = 0_usize;
        for number in numbers {
            let Some(job) = self.lanes.get_mut(crm).and_then(|lane| lane.jobs.of(number)) else { continue };
            match job.stage {
                Stage::Gather => self.gather(now, store, crm, number)?,
                Stage::Journal => {}
                _ if !job.asked && now.mono >= job.next && sent < free => {
                    self.ask_job(crm, number);
                    sent = sent.saturating_add(1);
                }
                _ => {}
            }
        }
        self.job_waits(now, crm);
        Ok(sent)
    }

    /// Chooses the rows of a job that was made, and writes them down: it is filled once that is durable.
    fn gather(&mut self, now: Now, store: &impl Store, crm: &str, number: u64) -> Result<(), StoreError> {
        let Some(known) = self.config.crm(crm) else { return Ok(()) };
        let (Some(bulk), Some(lane)) = (known.connector.bulk(), self.lanes.get_mut(crm)) else { return Ok(()) };
        let due = store.due(crm, now.wall, Traffic::All, bulk.rows_max(), |call| lane.busy.contains(&call))?;
        let Some(job) = lane.jobs.under_way.iter_mut().find(|job| job.number == number) else { return Ok(()) };
        let (mut rows, mut carried, mut sum) = (Vec::new(), Vec::new(), 0_usize);
        for write in due.into_iter().filter(|write| known.is_row(write)) {
            let attempted = Attempted::of(Step::Write, &write);
            // Longer than its line of CSV, since it says the names of its fields.
            let size = octets(&attempted);
            // A request tells what is wrong with it.
            if size > ROW_OCTETS_MAX {
                continue;
            }
            sum = sum.saturating_add(size);
            if sum > OCTETS_MAX {
                break;
            }
            carried.push((attempted, size));
            rows.push(write);
        }
        let Parts::Write(changes) = Parts::of(Step::Write, &rows, known) else { return Ok(()) };
        // What no row can say goes by a request.
        job.changes = changes.into_iter().filter(|change| bulk.takes(change)).collect();
        let by_key: BTreeMap<_, _> = rows.iter().map(|w| (record_key(w.call_id), w.call_id)).collect();
        job.calls = job.changes.iter().filter_map(|c| Some((c.key.clone(), *by_key.get(&c.key)?))).collect();
        carried.retain(|(attempted, _)| job.calls.contains_key(&record_key(attempted.call_id)));
        let entries = apart(carried, |(_, size)| *size);
        if entries.is_empty() {
            // What is left, if anything, no job can say.
            job.abort(now.mono, "nothing is left to be written".into());
            self.no_jobs_for_now(now, crm);
            return Ok(());
        }
        job.go(Stage::Journal, now.mono);
        job.appends = entries.len();
        lane.busy.extend(job.calls.values());
        let id = job.id.clone();
        for (place, writes) in entries.into_iter().enumerate() {
            let writes: Vec<_> = writes.into_iter().map(|(attempted, _)| attempted).collect();
            let calls: Vec<_> = writes.iter().map(|w| w.call_id).collect();
            let cost = if place == 0 { COST } else { 0 };
            let attempt = Attempt { crm: crm.to_owned(), step: Step::Write, job: Some(id.clone()), cost, writes, pruned: 0 };
            let entry = entry(EntryKind::Attempt, now.wall, crm, &calls, "", &attempt);
            self.append(entry, Waiting::Rows { crm: crm.to_owned(), job: number, calls });
        }
        Ok(())
    }

    /// Attempts of a job are on disk, or were not taken: then it goes without them.
    pub(super) fn rows_synced(&mut self, now: Now, crm: &str, number: u64, calls: &[CallId], taken: bool) {
        let Some(lane) = self.lanes.get_mut(crm) else { return };
        if !taken {
            lane.busy.retain(|call| !calls.contains(call));
            lane.pause(now.mono, super::JOURNAL_PAUSE);
        }
        let Some(job) = lane.jobs.of(number) else { return };
        if !taken {
            job.calls.retain(|_, call| !calls.contains(call));
            job.changes.retain(|change| job.calls.contains_key(&change.key));
        }
        job.appends = job.appends.saturating_sub(1);
        match (job.appends, job.calls.is_empty()) {
            (0, false) => job.go(Stage::Fill, now.mono),
            // It took none: the job waits for its rows.
            (0, true) => job.go(Stage::Gather, now.mono),
            _ => {}
        }
    }

    fn ask_job(&mut self, crm: &str, number: u64) {
        let request = self.id();
        let Some(known) = self.config.crm(crm) else { return };
        let (Some(bulk), Some(lane)) = (known.connector.bulk(), self.lanes.get_mut(crm)) else { return };
        let Some(token) = lane.token() else { return };
        let Some(job) = lane.jobs.of(number) else { return };
        let ask = match job.stage {
            Stage::Make => Ask::Make,
            Stage::Fill => Ask::Fill(&job.id, &job.changes),
            Stage::Close => Ask::Close(&job.id),
            Stage::Look => Ask::Look(&job.id),
            Stage::Written => Ask::Written(&job.id),
            Stage::Refused => Ask::Refused(&job.id),
            Stage::Abort => Ask::Abort(&job.id),
            Stage::Gather | Stage::Journal => return,
        };
        let http = bulk.ask(ask, &token);
        job.asked = true;
        lane.requests = lane.requests.saturating_add(1);
        self.asked.insert(request, Asked::Job { crm: crm.to_owned(), job: number, token: lane.tokens });
        self.outputs.push_back(Output::Send { request, crm: crm.to_owned(), http });
    }

    pub(super) fn job_answered(&mut self, now: Now, crm: &str, number: u64, token: u64, answer: Result<HttpAnswer, NoAnswer>) {
        let place = u16::try_from(self.chance.below(1001)).unwrap_or(1000);
        let Some(known) = self.config.crm(crm) else { return };
        let (Some(bulk), Some(lane)) = (known.connector.bulk(), self.lanes.get_mut(crm)) else { return };
        lane.requests = lane.requests.saturating_sub(1);
        if let Ok(answer) = &answer {
            lane.learn_budgets(now.mono, &known.connector.budgets(answer));
        }
        let Some(job) = lane.jobs.of(number) else { return };
        job.asked = false;
        let stage = job.stage;
        let status = answer.as_ref().ok().map(|answer| answer.status);
        let told = match answer {
            Err(NoAnswer { why, .. }) => Err(Verdict::Ambiguous { why }),
            Ok(answer) => match stage {
                Stage::Make => bulk.begun(&answer).map(Told::Made),
                Stage::Look => bulk.standing(&answer).map(Told::Stands),
                Stage::Written | Stage::Refused => bulk.results(&answer).map(Told::Rows),
                Stage::Fill | Stage::Close | Stage::Abort | Stage::Gather | Stage::Journal => bulk.taken(&answer).map(|()| Told::Taken),
            },
        };
        lane.learn(now.mono, &[(told.as_ref().err().cloned().unwrap_or(Verdict::Done { id: None }), None)], status, token, place);
        match told {
            Ok(told) => self.job_goes_on(now, crm, number, told, place),
            Err(verdict) => self.job_failed(now, crm, number, &verdict, place),
        }
    }

    fn job_goes_on(&mut self, now: Now, crm: &str, number: u64, told: Told, place: u16) {
        let Some(job) = self.lanes.get_mut(crm).and_then(|lane| lane.jobs.of(number)) else { return };
        match (job.stage, told) {
            (_, Told::Made(id)) => {
                job.id = id;
                job.go(Stage::Gather, now.mono);
            }
            (Stage::Fill, Told::Taken) => {
                job.filled = true;
                job.go(Stage::Close, now.mono);
            }
            (Stage::Close, Told::Taken) => {
                tracing::info!(crm, job = job.id, rows = job.calls.len(), "a batch is under way as a job");
                job.changes.clear();
                job.go(Stage::Look, now.mono + LOOK_FIRST);
            }
            (_, Told::Taken) => {
                let why = std::mem::take(&mut job.why);
                self.end_job(now, crm, number, &Verdict::Retry { after: None, why });
            }
            // That it be closed was not heard; or nobody knows its rows any more, since the program ended: they go again.
            (_, Told::Stands(Standing::Open)) if job.filled && job.tries < TRIES => job.stage = Stage::Close,
            (_, Told::Stands(Standing::Open)) => {
                job.filled = false;
                (job.stage, job.why) = (Stage::Abort, "the job was not filled to its end".into());
            }
            (_, Told::Stands(Standing::Running)) => {
                job.tries = job.tries.saturating_add(1);
                job.next = now.mono + (LOOK_FIRST * job.tries).min(LOOK_MAX);
            }
            (_, Told::Stands(Standing::Over)) => job.go(Stage::Written, now.mono),
            (_, Told::Stands(Standing::Failed { why })) => {
                tracing::error!(crm, job = job.id, why, "a job failed; its records go by requests, which tell what is wrong with each");
                self.end_job(now, crm, number, &Verdict::Ambiguous { why });
                self.no_jobs_for_now(now, crm);
            }
            (_, Told::Stands(Standing::Lost { why })) => {
                tracing::warn!(crm, job = job.id, why, "a job came to nothing; its records go again");
                self.end_job(now, crm, number, &Verdict::Ambiguous { why });
            }
            (stage, Told::Rows(rows)) => {
                let calls: Vec<_> = rows.into_iter().filter_map(|(key, verdict)| Some((job.calls.remove(&key)?, verdict))).collect();
                job.go(Stage::Refused, now.mono);
                self.settle_rows(now, crm, calls, place);
                if stage == Stage::Refused {
                    let why = "the job's results do not name it".to_owned();
                    self.end_job(now, crm, number, &Verdict::Ambiguous { why });
                }
            }
        }
    }

    fn job_failed(&mut self, now: Now, crm: &str, number: u64, verdict: &Verdict, place: u16) {
        let Some(lane) = self.lanes.get_mut(crm) else { return };
        let Some(job) = lane.jobs.of(number) else { return };
        match (job.stage, verdict) {
            // It was not done, and is asked again once the lane goes on.
            (_, Verdict::Auth { .. } | Verdict::Throttled { .. }) => job.next = now.mono,
            (Stage::Make, Verdict::Retry { .. } | Verdict::Down { .. } | Verdict::Ambiguous { .. }) if job.tries < TRIES => {
                job.again(now.mono, place)
            }
            (Stage::Make, _) => {
                tracing::error!(crm, outcome = verdict.name(), "the CRM makes no job; its batch goes by requests");
                lane.jobs.under_way.retain(|job| job.number != number);
                self.no_jobs_for_now(now, crm);
            }
            // Taken or not, it was not closed: once it is aborted nothing of it will be written.
            (Stage::Fill, verdict) => {
                job.abort(now.mono, "the job could not be filled".into());
                if !matches!(verdict, Verdict::Retry { .. } | Verdict::Down { .. } | Verdict::Ambiguous { .. }) {
                    tracing::error!(crm, outcome = verdict.name(), "the CRM takes no rows into a job; its batch goes by requests");
                    self.no_jobs_for_now(now, crm);
                }
            }
            (Stage::Close | Stage::Abort, _) => {
                job.again(now.mono, place);
                job.stage = Stage::Look;
            }
            (Stage::Written | Stage::Refused, Verdict::Gone { why }) => {
                let why = why.clone();
                self.end_job(now, crm, number, &Verdict::Ambiguous { why });
            }
            _ => job.again(now.mono, place),
        }
    }

    fn no_jobs_for_now(&mut self, now: Now, crm: &str) {
        if let Some(lane) = self.lanes.get_mut(crm) {
            lane.jobs.none_until = Some(now.mono + NONE_FOR);
        }
    }

    /// What is left of a job came out so.
    fn end_job(&mut self, now: Now, crm: &str, number: u64, verdict: &Verdict) {
        let place = u16::try_from(self.chance.below(1001)).unwrap_or(1000);
        let Some(lane) = self.lanes.get_mut(crm) else { return };
        let Some(at) = lane.jobs.under_way.iter().position(|job| job.number == number) else { return };
        let job = lane.jobs.under_way.remove(at);
        self.settle_rows(now, crm, job.calls.into_values().map(|call| (call, verdict.clone())).collect(), place);
    }

    /// Journals what came of rows.
    fn settle_rows(&mut self, now: Now, crm: &str, rows: Vec<(CallId, Verdict)>, place: u16) {
        let Some(lane) = self.lanes.get(crm) else { return };
        let counts = (!lane.is_broken()).then_some(place);
        let writes = rows.into_iter().map(|(call, verdict)| Settled::of(call, verdict, now.wall, counts, false)).collect();
        self.answered(now, Answered { crm: crm.to_owned(), step: Step::Write, status: None, writes, pruned: 0 });
    }

    /// A write that was under way in a job when the program ended: the job is looked at. False where it was in none.
    pub(super) fn resume_job(&mut self, now: Now, write: &Write) -> bool {
        let Some(id) = write.job.as_ref() else { return false };
        let number = self.id();
        let takes_jobs = self.config.crm(&write.crm).is_some_and(|c| c.connector.bulk().is_some());
        let Some(lane) = self.lanes.get_mut(&write.crm).filter(|_| takes_jobs) else { return false };
        if !lane.jobs.under_way.iter().any(|job| job.id == *id) {
            lane.jobs.begin(number, id.clone(), Stage::Look, now.mono);
        }
        if let Some(job) = lane.jobs.under_way.iter_mut().find(|job| job.id == *id) {
            job.calls.insert(record_key(write.call_id), write.call_id);
        }
        lane.busy.insert(write.call_id);
        true
    }
}

/// A job's rows, as JSON: request and results are whole in memory, and through within one request's time.
const OCTETS_MAX: usize = 6 << 20;
/// One row: with it the entry of its attempt is one that the journal takes.
const ROW_OCTETS_MAX: usize = 1 << 20;
/// Requests of a job, counted against the day: made, filled, closed, looked at some times, two results.
const COST: u64 = 10;
/// A job is looked at so long after it is closed, then less often each time …
const LOOK_FIRST: Duration = Duration::from_secs(5);
/// … down to this.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Times that a job is asked to be made, or to be closed.
const TRIES: u32 = 5;
/// A CRM that makes no job, or fails one, is asked for none for so long: its batches go by requests.
const NONE_FOR: Duration = Duration::from_secs(900);
