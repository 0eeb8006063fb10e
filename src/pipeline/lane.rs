//! One CRM's lane: its token, its pauses, what is under way, and when what is tried again.

use std::{collections::BTreeSet, time::Duration};

use zeroize::Zeroizing;

use super::{Answered, Asked, Attempt, Count, NoAnswer, Output, Pipeline, Store, StoreError, Waiting, store::State};
use crate::{
    crm::{HttpAnswer, Token, Verdict},
    event::CallId,
    journal::{Entry, EntryKind},
    time::{Instant, Now, Wall},
};

/// What is known of one CRM while the process lives.
pub(super) struct Lane {
    refresh_token: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
    /// When the token was given and until when it is used.
    given: Instant,
    until: Instant,
    refreshing: bool,
    /// Failed refreshes in a row.
    refused: u32,
    paused: Option<Instant>,
    /// Calls with an attempt that is not folded to its end.
    pub(super) busy: BTreeSet<CallId>,
}

impl Lane {
    pub(super) fn new(refresh_token: Zeroizing<String>) -> Self {
        Self {
            refresh_token,
            token: None,
            given: Instant::ORIGIN,
            until: Instant::ORIGIN,
            refreshing: false,
            refused: 0,
            paused: None,
            busy: BTreeSet::new(),
        }
    }

    pub(super) fn pause(&mut self, now: Instant, by: Duration) {
        let until = now + by;
        self.paused = Some(self.paused.map_or(until, |p| p.max(until)));
    }

    pub(super) fn token(&self) -> Option<Zeroizing<String>> {
        self.token.clone()
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
        if !self.live {
            self.resume(now, store)?;
            self.live = true;
        }
        while self.end_waits(now, store)? {}
        self.wake_at(now, store.next_wait()?);
        let names = self.lanes.keys().cloned().collect::<Vec<_>>();
        for crm in names {
            self.drive(now, store, &crm)?;
        }
        Ok(())
    }

    fn wake_at(&mut self, now: Now, at: Option<Wall>) {
        if let Some(at) = at {
            let ms = at.as_millis().saturating_sub(now.wall.as_millis());
            self.wake_in(now, Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        }
    }

    fn wake_in(&mut self, now: Now, by: Duration) {
        // A millisecond more, since wall times are cut to milliseconds.
        let at = now.mono + by + Duration::from_millis(1);
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    /// Attempts of the last run whose answer nobody heard are made again: the key makes that harmless.
    fn resume(&mut self, now: Now, store: &mut impl Store) -> Result<(), StoreError> {
        let mut changes = super::store::Changes::default();
        for mut write in store.in_flight()? {
            write.state = State::Retrying;
            write.due = now.wall;
            write.why = Some("the program ended before the CRM's answer came".into());
            changes.writes.insert((write.crm.clone(), write.call_id), write);
        }
        store.commit(changes)
    }

    fn drive(&mut self, now: Now, store: &impl Store, crm: &str) -> Result<(), StoreError> {
        let Some(lane) = self.lanes.get_mut(crm) else { return Ok(()) };
        if let Some(paused) = lane.paused {
            if now.mono < paused {
                self.wake_in(now, paused.since(now.mono));
                return Ok(());
            }
            lane.paused = None;
        }
        let free = IN_FLIGHT_MAX.saturating_sub(lane.busy.len());
        if free == 0 {
            // The next answer wakes.
            return Ok(());
        }
        let busy = lane.busy.clone();
        let due = store.due(crm, now.wall, IN_FLIGHT_MAX.saturating_mul(2))?;
        let due = due.into_iter().filter(|w| !busy.contains(&w.call_id)).take(free).collect::<Vec<_>>();
        if due.is_empty() {
            let next = store.next_due(crm)?.filter(|at| *at > now.wall);
            self.wake_at(now, next);
            return Ok(());
        }
        let Some(lane) = self.lanes.get_mut(crm) else { return Ok(()) };
        if lane.token.is_none() || now.mono >= lane.until {
            self.refresh(crm);
            return Ok(());
        }
        for write in due {
            let fields = write.difference();
            let attempt = Attempt { crm: crm.to_owned(), call_id: write.call_id, revision: write.revision, fields };
            if let Some(lane) = self.lanes.get_mut(crm) {
                lane.busy.insert(write.call_id);
            }
            let entry = Entry {
                kind: EntryKind::Attempt,
                time: now.wall,
                id: format!("{crm}/{}/{}", write.call_id, write.revision),
                key: write.call_id.to_string(),
                body: serde_json::to_vec(&attempt).unwrap_or_default(),
            };
            self.append(entry, Waiting::Attempt(attempt));
        }
        Ok(())
    }

    /// Asks for a token; one request at a time, since a refresh token may be good only once.
    fn refresh(&mut self, crm: &str) {
        let Some(lane) = self.lanes.get_mut(crm).filter(|l| !l.refreshing) else { return };
        lane.refreshing = true;
        let refresh_token = lane.refresh_token.clone();
        let Some(http) = self.config.crms.iter().find(|c| c.name == crm).map(|c| c.connector.refresh(&refresh_token)) else { return };
        let request = self.id();
        self.asked.insert(request, Asked::Token { crm: crm.to_owned() });
        self.outputs.push_back(Output::Send { request, crm: crm.to_owned(), http });
    }

    pub(super) fn token_answered(&mut self, now: Now, crm: &str, answer: Result<HttpAnswer, NoAnswer>) {
        let Some(connector) = self.config.crms.iter().find(|c| c.name == crm).map(|c| &c.connector) else { return };
        let told = match answer {
            Ok(answer) => connector.token(&answer),
            Err(NoAnswer { why, .. }) => Err(Verdict::Retry { after: None, why }),
        };
        let jitter = self.chance.below(1000);
        let Some(lane) = self.lanes.get_mut(crm) else { return };
        lane.refreshing = false;
        match told {
            Ok(Token { access, expires, refresh }) => {
                lane.refused = 0;
                lane.token = Some(access);
                lane.given = now.mono;
                lane.until = now.mono + expires.saturating_sub(EARLY).max(expires / 2);
                if let Some(token) = refresh.filter(|t| *t != lane.refresh_token) {
                    lane.refresh_token = token.clone();
                    self.outputs.push_back(Output::KeepToken { crm: crm.to_owned(), token });
                }
            }
            Err(verdict) => {
                lane.refused = lane.refused.saturating_add(1);
                let after = match &verdict {
                    Verdict::Throttled { after, .. } | Verdict::Retry { after, .. } => *after,
                    _ => Some(AUTH_PAUSE),
                };
                lane.pause(now.mono, after.unwrap_or_else(|| backoff(lane.refused, jitter)));
                tracing::warn!(crm, outcome = verdict.name(), "no access token; writes wait");
            }
        }
    }

    pub(super) fn write_answered(&mut self, now: Now, crm: String, call_id: CallId, answer: Result<HttpAnswer, NoAnswer>) {
        let status = answer.as_ref().ok().map(|a| a.status);
        let verdict = match answer {
            Ok(answer) => match self.config.crms.iter().find(|c| c.name == crm) {
                Some(found) => found.connector.verdict(&answer),
                None => return,
            },
            Err(NoAnswer { maybe_sent: true, why }) => Verdict::Ambiguous { why },
            Err(NoAnswer { maybe_sent: false, why }) => Verdict::Retry { after: None, why },
        };
        let jitter = self.chance.below(1000);
        let Some(lane) = self.lanes.get_mut(&crm) else { return };
        let outcome = verdict.name();
        let mut answered =
            Answered { crm: crm.clone(), call_id, outcome: outcome.into(), status, id: None, why: None, retry_at: None, counts: false };
        let mut again = |by: Duration, why: String| {
            answered.retry_at = Some(now.wall + by);
            answered.why = Some(why);
        };
        match verdict {
            Verdict::Done { id } => answered.id = id,
            Verdict::Retry { after, why } => {
                again(after.unwrap_or_else(|| backoff(1, jitter)), why);
                answered.counts = true;
            }
            Verdict::Ambiguous { why } => {
                again(backoff(1, jitter), why);
                answered.counts = true;
            }
            Verdict::Throttled { after, why } => {
                let by = after.unwrap_or(THROTTLE_PAUSE);
                lane.pause(now.mono, by);
                again(by, why);
            }
            Verdict::Auth { why } => {
                // A token that is refused although it is new means that a new one will not help.
                if now.mono.since(lane.given) < FRESH {
                    lane.pause(now.mono, AUTH_PAUSE);
                    again(AUTH_PAUSE, why);
                } else {
                    again(Duration::ZERO, why);
                }
                lane.token = None;
            }
            Verdict::Rejected { why } | Verdict::Gone { why } => answered.why = Some(why),
        }
        self.count(Count::Write { crm: crm.clone(), outcome: outcome.into() });
        let entry = Entry {
            kind: EntryKind::Answer,
            time: now.wall,
            id: format!("{crm}/{call_id}"),
            key: call_id.to_string(),
            body: serde_json::to_vec(&answered).unwrap_or_default(),
        };
        self.append(entry.clone(), Waiting::Answer(entry));
    }
}

/// Doubles with each attempt, with up to a second of jitter, so that what failed together does not come back together.
pub(super) fn backoff(attempts: u32, jitter_ms: u64) -> Duration {
    let seconds = 1_u64.checked_shl(attempts.saturating_sub(1).min(16)).unwrap_or(u64::MAX);
    BACKOFF_MAX.min(Duration::from_secs(seconds)) + Duration::from_millis(jitter_ms)
}

/// Writes of one CRM under way at a time.
const IN_FLIGHT_MAX: usize = 16;
/// A token is renewed so long before it ends, so that none ends under way.
const EARLY: Duration = Duration::from_secs(60);
/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A CRM over quota that does not say for how long.
const THROTTLE_PAUSE: Duration = Duration::from_secs(10);
/// A refused grant is a person's work; asked again so often.
const AUTH_PAUSE: Duration = Duration::from_secs(30);
/// A token younger than this that is refused is not an old one.
const FRESH: Duration = Duration::from_secs(5);
