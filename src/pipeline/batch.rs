//! Batches: one run now, in place of the next by schedule; what became of a run's calls; whether it is behind.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Count, Pipeline, Schedule, Traffic, Waiting,
    overlay::Overlay,
    store::{State, Store, StoreError},
};
use crate::{
    event::CallId,
    journal::{Entry, EntryKind},
    time::{Instant, Now, Wall},
};

/// What became of the calls that ended between two runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which CRM.
    pub target: String,
    /// Calls that ended from then on …
    pub from: Option<Wall>,
    /// … and until the run.
    pub run: Option<Wall>,
    /// The CRM has acknowledged all of it.
    pub written: usize,
    /// Waits for its turn, its next attempt or its answer.
    pub pending: usize,
    /// Waits for a person, was given up, or dropped by somebody.
    pub rejected: usize,
    /// Calls of which nothing was ever planned: there should be none.
    pub missing: usize,
}

/// A run that is looked after until nothing of it is left.
pub(super) struct Watched {
    run: Wall,
    /// When it is looked at next.
    next: Instant,
    /// Nothing is left of it.
    over: bool,
    /// It was said that it is behind.
    behind: bool,
}

/// Body of an entry that asks for a batch now.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    operation: String,
    target: String,
    by: String,
}

impl Report {
    /// Of the calls that ended between `from` and `run`, as far as `schedule` takes them. Each call counts once: a CRM has one write of it.
    pub fn of(store: &impl Store, target: &str, schedule: &Schedule, from: Wall, run: Wall) -> Result<Self, StoreError> {
        let mut report = Self { target: target.to_owned(), from: Some(from), run: Some(run), ..Self::default() };
        let mut after = None;
        loop {
            // A call that ended in the span may have begun before it.
            let page = store.since(from - LONGEST, after, READ_AT_ONCE)?;
            let Some(last) = page.last() else { return Ok(report) };
            after = Some(last.call_id);
            for record in page.iter().filter(|r| r.ended_at.is_some_and(|at| from <= at && at < run)) {
                let count = match store.write(target, record.call_id)?.map(|w| w.state) {
                    // What a pruned call was nobody can tell any more; it was settled.
                    None if record.is_pruned() || !schedule.takes(&record.fields()) => continue,
                    Some(State::Done) => &mut report.written,
                    Some(State::Queued | State::Retrying | State::InFlight) => &mut report.pending,
                    Some(State::Review | State::Dead | State::Dropped) => &mut report.rejected,
                    None => &mut report.missing,
                };
                *count = count.saturating_add(1);
            }
        }
    }
}

impl Pipeline {
    /// What waits for the next batch of a CRM is due now: a campaign has ended. The answer is [`super::Output::Respond`] with `reply`.
    pub fn run_batch(&mut self, now: Now, reply: u64, target: &str, by: &str) {
        match self.config.crm(target) {
            None => {
                let what = format!("no [[crm]] has the name \"{target}\"");
                return self.respond(reply, 404, Some((what, "see the targets in the configuration")));
            }
            Some(crm) if crm.schedule.runs().is_none() => {
                let what = format!("\"{target}\" is written as calls end, and waits for no batch");
                return self.respond(reply, 409, Some((what, "write model = \"batch\" or \"hybrid\" into its [[crm]] for that")));
            }
            Some(_) => {}
        }
        let run = Run { operation: format!("run-{}", self.chance.token()), target: target.to_owned(), by: by.to_owned() };
        let body = serde_json::to_vec(&run).unwrap_or_default();
        let entry = Entry { kind: EntryKind::Run, time: now.wall, id: run.operation, key: String::new(), body };
        self.append(entry, Waiting::Decision { reply });
    }

    /// Makes due what waits for a batch; some at a time, since it may be much.
    pub(super) fn fold_run(&mut self, store: &mut impl Store, entry: &Entry) -> Result<(), StoreError> {
        let Ok(Run { target, .. }) = serde_json::from_slice(&entry.body) else { return Ok(()) };
        let mut after = None::<CallId>;
        loop {
            let page = store.writes_of(&target, after, READ_AT_ONCE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.call_id);
            let mut overlay = Overlay::over(&*store);
            for mut write in page.into_iter().filter(|w| w.state == State::Queued && w.due > entry.time) {
                (write.due, write.since) = (entry.time, entry.time);
                overlay.changes.writes.insert((target.clone(), write.call_id), write);
            }
            let changes = overlay.changes;
            store.commit(changes)?;
        }
    }

    /// Looks after the last run of a CRM that is written in batches: says what became of it once nothing of it waits, and that it is behind where something
    /// waits for too long.
    pub(super) fn watch_run(&mut self, now: Now, store: &impl Store, crm: &str) -> Result<(), StoreError> {
        let Some(schedule) = self.config.crm(crm).map(|c| &c.schedule) else { return Ok(()) };
        let Some(runs) = schedule.runs().copied() else { return Ok(()) };
        let Some(lane) = self.lanes.get_mut(crm) else { return Ok(()) };
        let run = runs.until(now.wall);
        let watched = lane.run.get_or_insert(Watched { run, next: now.mono, over: false, behind: false });
        if watched.run != run {
            *watched = Watched { run, next: now.mono, over: false, behind: false };
        }
        if !watched.over && now.mono >= watched.next {
            watched.next = now.mono + LOOKED_AT;
            let late = now.wall >= run + LATE && !watched.behind;
            let waits = !lane.busy.is_empty() || store.next_due(crm, Traffic::All)?.is_some_and(|due| due <= now.wall);
            if late || !waits {
                let report = Report::of(store, crm, schedule, runs.before(run), run)?;
                watched.over = report.pending == 0;
                watched.behind |= late && !watched.over;
                if watched.over || late {
                    self.count(Count::Batch(report));
                }
            }
        }
        let next = self.lanes.get(crm).and_then(|l| l.run.as_ref()).filter(|w| !w.over).map(|w| w.next.since(now.mono));
        match next {
            Some(wait) => self.wake_in(now, wait),
            None => self.wake_at(now, Some(runs.after(now.wall))),
        }
        Ok(())
    }
}

/// Longest that a call may last to count in the span in which it ends.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Records and writes that are read at once.
const READ_AT_ONCE: usize = 500;
/// How often a run is looked at while something of it waits.
const LOOKED_AT: Duration = Duration::from_secs(10);
/// A run of which something waits so long is behind.
const LATE: Duration = Duration::from_secs(15 * 60);
