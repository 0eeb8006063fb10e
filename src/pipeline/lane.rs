//! One CRM's lane: its token, its pauses, what is under way, and when what is tried again.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    Answered, Attempt, Attempted, Count, NoAnswer, Pipeline, Settled, Step, Store, StoreError, Traffic, Waiting,
    attempt::{PARTS_OCTETS_MAX, apart, entry, octets},
    batch, job,
    pace::{self, Leave},
    step::{self, Parts, Request},
    store::{State, Write},
    token::AUTH_PAUSE,
};
use crate::{
    crm::{Budget, HttpAnswer, Token, Verdict},
    event::CallId,
    journal::{ENTRY_BYTES_MAX, EntryKind},
    time::{Instant, Now, Wall},
};

/// What is known of one CRM while the process lives.
pub(super) struct Lane {
    pub(super) refresh_token: Zeroizing<String>,
    pub(super) token: Option<Token>,
    /// Tokens given so far: a request that was refused says something of the one that it bore.
    pub(super) tokens: u64,
    /// When the token was given and until when it is used.
    pub(super) given: Instant,
    pub(super) until: Instant,
    pub(super) refreshing: bool,
    /// Failed refreshes in a row.
    pub(super) refused: u32,
    paused: Option<Instant>,
    /// Calls with an attempt that is not folded to its end.
    pub(super) busy: BTreeSet<CallId>,
    /// Requests between their attempt and their answer.
    pub(super) requests: usize,
    /// What goes as jobs.
    pub(super) jobs: job::Jobs,
    /// Batches that were refused for one of their records, in halves: each is sent by itself.
    halves: VecDeque<Vec<CallId>>,
    /// Requests in a row that failed without a word on any record: unanswered, or with a status of the CRM's own failure, if only on each part.
    failures: u32,
    /// When the next request may leave under [`super::Pace::per_second`].
    pub(super) next_start: Instant,
    /// What its answers told of its day.
    pub(super) day: Option<pace::Day>,
    /// What might go when that was last said.
    said: Option<Traffic>,
    /// When the next search for people may leave.
    next_find: Instant,
    /// The last batch of a CRM that is written in batches.
    pub(super) run: Option<batch::Watched>,
}

/// What an answer says of one call: what it means, and whom a search has found.
type Told = (Verdict, Option<Vec<String>>);

impl Lane {
    pub(super) fn new(refresh_token: Zeroizing<String>) -> Self {
        Self {
            refresh_token,
            token: None,
            tokens: 0,
            given: Instant::ORIGIN,
            until: Instant::ORIGIN,
            refreshing: false,
            refused: 0,
            paused: None,
            busy: BTreeSet::new(),
            requests: 0,
            jobs: job::Jobs::default(),
            halves: VecDeque::new(),
            failures: 0,
            next_start: Instant::ORIGIN,
            day: None,
            said: Some(Traffic::All),
            next_find: Instant::ORIGIN,
            run: None,
        }
    }

    pub(super) fn pause(&mut self, now: Instant, by: Duration) {
        let until = now + by;
        self.paused = Some(self.paused.map_or(until, |p| p.max(until)));
    }

    pub(super) fn token(&self) -> Option<Token> {
        self.token.clone()
    }

    /// The token, where it is good for a while.
    pub(super) fn fresh_token(&self, now: Instant) -> Option<Token> {
        self.token.clone().filter(|_| now < self.until)
    }

    /// Whether the CRM is to be left alone for now.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused.is_some_and(|until| now < until)
    }

    /// An attempt that the journal did not take.
    pub(super) fn unsent(&mut self, calls: &[CallId]) {
        for call in calls {
            self.busy.remove(call);
        }
        self.requests = self.requests.saturating_sub(1);
    }

    /// Whether a search for people may leave now; then the next one may not, for a while.
    fn may_find(&mut self, now: Instant, per_second: u32) -> bool {
        let may = now >= self.next_find;
        if may {
            self.next_find = now + Duration::from_secs(1) / per_second.max(1);
        }
        may
    }

    /// The circuit breaker: a CRM that failed several times in a row is asked by one request at a time.
    pub(super) fn is_broken(&self) -> bool {
        self.failures >= BREAKER_FAILURES
    }

    /// A batch that was refused whole comes again in two.
    fn split(&mut self, calls: &[CallId]) {
        let (first, second) = calls.split_at(calls.len().div_ceil(2));
        self.halves.extend([first, second].into_iter().filter(|half| !half.is_empty()).map(<[CallId]>::to_vec));
    }
}

impl Pipeline {
    /// Does what is due: ends waits for an outcome, sends writes. `caught_up`: everything durable is folded; before that nothing may be sent,
    /// since what is still to be folded may be the answer.
    pub fn turn(&mut self, now: Now, store: &mut impl Store, caught_up: bool) -> Result<(), StoreError> {
        self.wake = None;
        if !caught_up {
            return Ok(());
        }
        self.begin(now, store)?;
        if !self.again.is_empty() {
            if now.mono >= self.again_from {
                self.journal_opened();
            } else {
                self.wake_in(now, self.again_from.since(now.mono));
            }
        }
        if now.mono >= self.waits_from {
            let mut ended = false;
            while self.end_waits(now, store)? {
                ended = true;
            }
            if ended {
                self.waits_from = now.mono + WAITS_PAUSE;
            }
        }
        match store.next_wait()? {
            Some(over) if over <= now.wall => self.wake_in(now, self.waits_from.since(now.mono)),
            next => self.wake_at(now, next),
        }
        self.pull(now, store)?;
        let names = self.lanes.keys().cloned().collect::<Vec<_>>();
        for crm in names {
            self.drive(now, store, &crm)?;
            self.watch_run(now, store, &crm)?;
        }
        // Behind the writes, which so have the first of what may leave in a second.
        self.read_on(now, store)?;
        self.retain(now, store)?;
        Ok(())
    }

    /// Everything that is durable at a start is folded: from here on things are counted, and sent. What comes to the journal afterwards is news.
    pub fn begin(&mut self, now: Now, store: &mut impl Store) -> Result<(), StoreError> {
        if !self.live {
            self.resume(now, store)?;
            self.activate(now, store)?;
            self.live = true;
        }
        Ok(())
    }

    pub(super) fn wake_at(&mut self, now: Now, at: Option<Wall>) {
        if let Some(at) = at {
            let ms = at.as_millis().saturating_sub(now.wall.as_millis());
            self.wake_in(now, Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        }
    }

    pub(super) fn wake_in(&mut self, now: Now, by: Duration) {
        // A millisecond more, since wall times are cut to milliseconds.
        let at = now.mono + by + Duration::from_millis(1);
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    /// Attempts of the last run whose answer nobody heard are made again: the key makes that harmless. What is in a job stays there until that has told.
    fn resume(&mut self, now: Now, store: &mut impl Store) -> Result<(), StoreError> {
        let mut changes = super::store::Changes::default();
        for mut write in store.writes_in(State::InFlight, usize::MAX)? {
            if self.resume_job(now, &write) {
                continue;
            }
            write.doubt_sent();
            write.state = State::Retrying;
            write.due = now.wall;
            write.why = Some("the program ended before the CRM's answer came".into());
            changes.writes.insert((write.crm.clone(), write.call_id), write);
        }
        store.commit(changes)
    }

    fn drive(&mut self, now: Now, store: &impl Store, crm: &str) -> Result<(), StoreError> {
        let Some(pace) = self.config.crm(crm).map(|c| c.pace) else { return Ok(()) };
        let Some(lane) = self.lanes.get_mut(crm) else { return Ok(()) };
        if let Some(paused) = lane.paused {
            if lane.is_paused(now.mono) {
                self.wake_in(now, paused.since(now.mono));
                return Ok(());
            }
            lane.paused = None;
        }
        let concurrency = if lane.is_broken() { 1 } else { pace.concurrency };
        let mut free = concurrency.saturating_sub(lane.requests);
        if free == 0 {
            // The next answer wakes.
            return Ok(());
        }
        if pace.per_second.is_some() {
            if now.mono < lane.next_start {
                let wait = lane.next_start.since(now.mono);
                self.wake_in(now, wait);
                return Ok(());
            }
            free = 1;
        }
        let Leave { traffic, again } = self.leave(now, store, crm)?;
        let Some(lane) = self.lanes.get_mut(crm) else { return Ok(()) };
        if traffic != lane.said {
            lane.said = traffic;
            match traffic {
                None => tracing::error!(crm, "the CRM's budget of the day is used up; its writes wait"),
                Some(Traffic::Live) => tracing::warn!(crm, "the CRM's budget of the day runs low; batches and recoveries wait"),
                Some(Traffic::All) => tracing::info!(crm, "the CRM's budget of the day suffices again"),
            }
        }
        if let Some(again) = again {
            self.wake_in(now, again);
        }
        let Some(traffic) = traffic else { return Ok(()) };
        let job = self.job_waits(now, crm);
        let Some(lane) = self.lanes.get_mut(crm) else { return Ok(()) };
        let next = store.next_due(crm, traffic)?;
        if lane.halves.is_empty() && !job && next.is_none_or(|at| at > now.wall) {
            self.wake_at(now, next);
            return Ok(());
        }
        if lane.token.is_none() || now.mono >= lane.until {
            self.refresh(now, crm);
            if self.lanes.get(crm).is_none_or(|lane| lane.token.is_none()) {
                return Ok(());
            }
        }
        // From here on whatever is taken out of the lane is sent.
        let batches = self.batches(now, store, crm, traffic, free)?;
        let mut sent = batches.len();
        for (step, batch) in batches {
            self.attempt(now, crm, step, batch);
        }
        sent = sent.saturating_add(self.drive_jobs(now, store, crm, free.saturating_sub(sent))?);
        if let (Some(per_second), Some(lane), true) = (pace.per_second, self.lanes.get_mut(crm), sent > 0) {
            lane.started(now.mono, per_second);
        }
        Ok(())
    }

    /// What `free` requests may carry now: halves of refused batches by themselves, and of all else what is due and may go: calls as they happen
    /// first, then the backlog, the earliest of each first.
    fn batches(
        &mut self,
        now: Now,
        store: &impl Store,
        crm: &str,
        traffic: Traffic,
        free: usize,
    ) -> Result<Vec<(Step, Vec<Write>)>, StoreError> {
        let number = self.id();
        let Some(crm) = self.config.crm(crm) else { return Ok(Vec::new()) };
        let Some(lane) = self.lanes.get_mut(&crm.name) else { return Ok(Vec::new()) };
        let ready = |write: &Write| matches!(write.state, State::Queued | State::Retrying) && write.due <= now.wall;
        let mut batches = Vec::new();
        let mut waiting = VecDeque::new();
        while let Some(half) = lane.halves.pop_front() {
            if batches.len() >= free || half.iter().any(|call| lane.busy.contains(call)) {
                waiting.push_back(half);
                continue;
            }
            let mut due = Vec::new();
            for call in half {
                due.extend(store.write(&crm.name, call)?.filter(ready));
            }
            batches.extend(step::batches(crm, due));
        }
        lane.halves = waiting;
        let left = free.saturating_sub(batches.len());
        if left > 0 {
            let begun = batches.iter().flat_map(|(_, batch)| batch).map(|w| w.call_id);
            let apart = lane.halves.iter().flatten().copied().chain(begun).collect::<BTreeSet<_>>();
            let traffic = if job::holds_backlog(now, store, crm, lane)? { Traffic::Live } else { traffic };
            let most = left.saturating_mul(crm.batch_max(Step::Write));
            let taken = |call: CallId| lane.busy.contains(&call) || apart.contains(&call);
            let due = store.due(&crm.name, now.wall, traffic, most, taken)?;
            let due = if traffic == Traffic::All { job::sift(now, store, crm, lane, due, number)? } else { due };
            batches.extend(step::batches(crm, due));
        }
        let (mut wake, mut later) = (None, Vec::new());
        if let Some(per_second) = crm.connector.people().and_then(|people| people.finds_per_second()) {
            let (may, wait): (Vec<_>, Vec<_>) =
                batches.into_iter().partition(|(step, _)| *step != Step::Find || lane.may_find(now.mono, per_second));
            (batches, later) = (may, wait);
            wake = Some(lane.next_find).filter(|at| now.mono < *at);
        }
        later.extend(batches.drain(free.min(batches.len())..));
        // A half that does not go now stays apart: with the others it would be refused again.
        lane.halves.extend(later.into_iter().map(|(_, batch)| batch.into_iter().map(|w| w.call_id).collect()));
        if let Some(at) = wake {
            self.wake_in(now, at.since(now.mono));
        }
        Ok(batches)
    }

    /// Journals an attempt that carries `batch`; it is sent once that is durable.
    fn attempt(&mut self, now: Now, crm: &str, step: Step, batch: Vec<Write>) {
        let Some(known) = self.config.crm(crm) else { return };
        let Some(lane) = self.lanes.get_mut(crm) else { return };
        lane.requests = lane.requests.saturating_add(1);
        lane.busy.extend(batch.iter().map(|w| w.call_id));
        let writes = batch.iter().map(|write| Attempted::of(step, write)).collect();
        let calls = batch.iter().map(|w| w.call_id).collect();
        let request = Request { crm: crm.to_owned(), calls, parts: Parts::of(step, &batch, known), token: lane.tokens };
        let attempt = Attempt { crm: crm.to_owned(), step, job: None, cost: request.parts.cost(known), writes, pruned: 0 };
        let revision = attempt.writes.first().map_or(0, |w| w.revision);
        let entry = entry(EntryKind::Attempt, now.wall, crm, &request.calls, &format!("/{revision}"), &attempt);
        if entry.body.len() > ENTRY_BYTES_MAX {
            // Of one record, since several are taken apart: nothing but a shorter one would help.
            let why =
                format!("{} octets are to be written, and {ENTRY_BYTES_MAX} are the most; see max_chars in the mapping", entry.body.len());
            return self.settle(now, &request, None, vec![(Verdict::Rejected { why }, None); request.calls.len()]);
        }
        self.append(entry, Waiting::Attempt(request));
    }

    pub(super) fn write_answered(&mut self, now: Now, request: Request, answer: Result<HttpAnswer, NoAnswer>) {
        let Some(crm) = self.config.crm(&request.crm) else { return };
        let count = request.calls.len();
        let status = answer.as_ref().ok().map(|a| a.status);
        let budgets = answer.as_ref().map(|answer| crm.connector.budgets(answer)).unwrap_or_default();
        if let Some(lane) = self.lanes.get_mut(&request.crm) {
            lane.learn_budgets(now.mono, &budgets);
        }
        let verdicts = match answer {
            Ok(answer) => request.parts.verdicts(crm, &answer),
            Err(NoAnswer { maybe_sent: true, why }) => vec![(Verdict::Ambiguous { why }, None); count],
            Err(NoAnswer { maybe_sent: false, why }) => vec![(Verdict::Retry { after: None, why }, None); count],
        };
        self.settle(now, &request, status, verdicts);
    }

    /// Journals what came of a request, and lets the lane learn from it.
    pub(super) fn settle(&mut self, now: Now, request: &Request, status: Option<u16>, told: Vec<Told>) {
        let crm = &request.crm;
        let place = u16::try_from(self.chance.below(1001)).unwrap_or(1000);
        let Some(lane) = self.lanes.get_mut(crm) else { return };
        lane.requests = lane.requests.saturating_sub(1);
        // While the CRM is down, a failure is none of the record's: it uses up no attempt.
        let counts = (!lane.is_broken() || !are_down(&told, status)).then_some(place);
        lane.learn(now.mono, &told, status, request.token, place);
        if told.iter().all(|(verdict, _)| matches!(verdict, Verdict::Split { .. })) {
            lane.split(&request.calls);
        }
        let fresh = request.token == lane.tokens && now.mono.since(lane.given) < FRESH;
        let settled =
            |(call, (verdict, people)): (&CallId, Told)| Settled { people, ..Settled::of(*call, verdict, now.wall, counts, fresh) };
        let writes = request.calls.iter().zip(told).map(settled);
        let answered = Answered { crm: crm.clone(), step: request.parts.step(), status, writes: writes.collect(), pruned: 0 };
        self.answered(now, answered);
    }

    /// Counts and journals what came of writes.
    pub(super) fn answered(&mut self, now: Now, Answered { crm, step, status, writes, .. }: Answered) {
        for settled in &writes {
            self.count(Count::Write { crm: crm.clone(), outcome: settled.outcome.clone() });
        }
        if writes.is_empty() {
            return;
        }
        let told = |writes: Vec<Settled>| {
            let calls: Vec<_> = writes.iter().map(|w| w.call_id).collect();
            let answered = Answered { crm: crm.clone(), step, status, writes, pruned: 0 };
            (entry(EntryKind::Answer, now.wall, &crm, &calls, "", &answered), answered.writes)
        };
        let (whole, writes) = told(writes);
        let entries = if whole.body.len() <= PARTS_OCTETS_MAX {
            vec![whole]
        } else {
            apart(writes, octets).into_iter().map(|writes| told(writes).0).collect()
        };
        for entry in entries {
            self.append(entry.clone(), Waiting::Answer(entry));
        }
    }
}

impl Lane {
    /// A request leaves, of so many that may in a second.
    pub(super) fn started(&mut self, now: Instant, per_second: u32) {
        self.next_start = now + Duration::from_secs(1) / per_second.max(1);
    }

    /// What a read that failed tells of the CRM itself; it says nothing of whether writes fail.
    pub(super) fn refused_a_read(&mut self, now: Instant, verdict: &Verdict, token: u64) {
        match verdict {
            Verdict::Throttled { after, .. } => self.pause(now, after.unwrap_or(THROTTLE_PAUSE)),
            Verdict::Auth { .. } => _ = self.refuse_token(token),
            _ => {}
        }
    }

    /// The token of that number was refused; true where it is the one in use, which is used no more. An earlier one was given up already.
    fn refuse_token(&mut self, token: u64) -> bool {
        token == self.tokens && self.token.take().is_some()
    }

    /// What an answer tells of the CRM's budgets.
    pub(super) fn learn_budgets(&mut self, now: Instant, budgets: &[Budget]) {
        let (day, pause) = pace::learn(now, budgets);
        self.day = day.or(self.day);
        if let Some(pause) = pause {
            self.pause(now, pause);
        }
    }

    /// What a request's verdicts tell of the CRM itself. `status`: of its answer; none: nothing was answered, or nothing sent. `token`: the number of
    /// the one that it bore. `place`: of the backoff, in thousandths.
    pub(super) fn learn(&mut self, now: Instant, told: &[Told], status: Option<u16>, token: u64, place: u16) {
        for (verdict, _) in told {
            match verdict {
                Verdict::Throttled { after, .. } => self.pause(now, after.unwrap_or(THROTTLE_PAUSE)),
                // A token that is refused although it is new means that a new one will not help.
                Verdict::Auth { .. } if self.refuse_token(token) && now.since(self.given) < FRESH => self.pause(now, AUTH_PAUSE),
                _ => {}
            }
        }
        if are_down(told, status) {
            self.failures = self.failures.saturating_add(1);
            if self.is_broken() {
                self.pause(now, backoff(self.failures.saturating_sub(BREAKER_FAILURES).saturating_add(1), place).min(BREAKER_PAUSE_MAX));
            }
        } else if status.is_some() {
            self.failures = 0;
        }
    }
}

/// Whether a CRM does not work: it answered nothing (no `status`), or says so of each record, whatever the status of the whole is (207 of a batch). Any other
/// answer tells of what was asked.
fn are_down(told: &[Told], status: Option<u16>) -> bool {
    told.iter().all(|(verdict, _)| match verdict {
        Verdict::Down { .. } => true,
        Verdict::Retry { .. } | Verdict::Ambiguous { .. } => status.is_none(),
        _ => false,
    })
}

/// The wait before the next attempt, with full jitter: `place` (thousandths) of a span that doubles with each attempt, so that what failed together does
/// not come back together; a moment at the least.
pub(super) fn backoff(attempts: u32, place: u16) -> Duration {
    let seconds = 1_u64.checked_shl(attempts.min(16)).unwrap_or(u64::MAX);
    (BACKOFF_MAX.min(Duration::from_secs(seconds)) * u32::from(place) / 1000).max(BACKOFF_MIN)
}

/// Waits for an outcome end so long after others did at the earliest: many in one transaction.
const WAITS_PAUSE: Duration = Duration::from_millis(50);
/// Failed requests in a row after which a CRM counts as down.
const BREAKER_FAILURES: u32 = 5;
/// A CRM that is down is asked at least so often whether it is back.
const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Shortest pause between two attempts.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A CRM over quota that does not say for how long.
pub(super) const THROTTLE_PAUSE: Duration = Duration::from_secs(10);
/// A token younger than this that is refused is not an old one.
const FRESH: Duration = Duration::from_secs(5);
