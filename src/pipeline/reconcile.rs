//! What the CRM holds beside what it was told: read back by key, some calls at a time, with the lane's own token.
//!
//! Nothing changes: whoever asked decides what is told again. What a page costs of the CRM's day is journaled before it is asked for, as with a write.

use serde::Serialize;
use serde_json::Value;

use super::{
    Asked, NoAnswer, Output, Pipeline, Traffic, Waiting, attempt,
    decision::{Edit, Edits},
    store::{State, Store, StoreError, Write},
};
use crate::{
    crm::{
        HttpAnswer,
        reader::{Standing, same},
        record_key,
    },
    event::CallId,
    time::Now,
};

/// Who asked for a page.
pub(super) enum Asker {
    /// Somebody who waits for it.
    Reply(u64),
    /// A recovery, by its operation.
    Recovery(String),
}

/// A page that waits for the CRM's answer.
pub(super) struct Page {
    asker: Asker,
    crm: String,
    /// The number of the lane's token that it bears.
    token: u64,
    /// Those of which the CRM has acknowledged something.
    told: Vec<Write>,
    found: Found,
}

/// What a CRM holds of some calls, beside what it was told.
#[derive(Debug, Default, Serialize)]
pub(super) struct Found {
    /// Acknowledged and there.
    written: usize,
    /// Waiting, or on their way.
    pending: usize,
    /// In review, given up or dropped.
    rejected: usize,
    /// What they held was taken away: they are not looked for.
    pruned: usize,
    /// Acknowledged and not there.
    missing: Vec<CallId>,
    /// There more than once.
    doubled: Vec<CallId>,
    /// Changed by somebody else.
    pub(super) changed: Vec<Changed>,
    /// The call to go on behind; none: there are no more.
    pub(super) next: Option<CallId>,
}

/// Fields of a record that somebody else has changed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Changed {
    pub(super) call_id: CallId,
    /// The CRM's id of it.
    pub(super) id: String,
    /// What the CRM holds, in place of what it was told; null where it holds nothing.
    pub(super) fields: Edits,
}

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    #[error("no [[crm]] has the name \"{0}\"")]
    Unknown(String),
    #[error("what \"{0}\" holds cannot be read back over its API")]
    Unreadable(String),
    #[error("the CRM is over quota, down, or refuses the grant")]
    Paused,
    #[error("an access token is being asked for")]
    NoToken,
    #[error("what may be asked of \"{0}\" on one day is used up")]
    DaySpent(String),
    #[error("what batches and recoveries may ask of \"{0}\" on one day is used up, and calls keep the rest")]
    ShareSpent(String),
    #[error("the journal did not take it: {0}")]
    Unwritten(String),
    #[error("the CRM did not tell what it holds: {0}")]
    Refused(String),
}

impl Unread {
    /// Status, and what to do.
    pub(super) fn answer(&self) -> (u16, &'static str) {
        match self {
            Self::Unknown(_) => (404, "see the targets in the configuration"),
            Self::Unreadable(_) => (409, "compare it with GET /v1/calls/CALL_ID by hand"),
            Self::Paused => (503, "ask again later; GET /v1/calls and the log tell more"),
            Self::NoToken => (503, "ask again in a second"),
            Self::DaySpent(_) => (503, "ask again after midnight, UTC; see per_day and day_share of this [[crm]]"),
            Self::ShareSpent(_) => (
                503,
                "ask again after midnight, UTC, or with --overwrite, which reads nothing; see per_day and backlog_share of this [[crm]]",
            ),
            Self::Unwritten(_) | Self::Refused(_) => (503, "ask again later"),
        }
    }
}

impl Pipeline {
    /// Compares the next calls behind `after` with what `crm` holds. The answer is [`Output::Tell`] with `reply`: how many are `written`, how many were `pruned` and so are not looked for, which are `missing`,
    /// `doubled` or `changed` by somebody else (each field with what it was told), and the call to go on behind.
    pub fn reconcile(&mut self, now: Now, store: &impl Store, reply: u64, crm: &str, after: Option<CallId>) -> Result<(), StoreError> {
        self.read_page(now, store, Asker::Reply(reply), crm, after)
    }

    /// Reads the next page for whoever asked.
    pub(super) fn read_page(
        &mut self,
        now: Now,
        store: &impl Store,
        asker: Asker,
        crm: &str,
        after: Option<CallId>,
    ) -> Result<(), StoreError> {
        let Some(reader) = self.config.crm(crm).map(|known| known.connector.reader()) else {
            self.paged(now, asker, Err(Unread::Unknown(crm.to_owned())));
            return Ok(());
        };
        let Some(reader) = reader else {
            self.paged(now, asker, Err(Unread::Unreadable(crm.to_owned())));
            return Ok(());
        };
        let writes = store.writes_of(crm, after, reader.read_max())?;
        let next = writes.last().map(|w| w.call_id);
        let (pruned, writes): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.pruned);
        let count = |states: &[State]| writes.iter().filter(|w| states.contains(&w.state)).count();
        let pending = count(&PENDING);
        let rejected = count(&[State::Review, State::Dead, State::Dropped]);
        let found = Found { pending, rejected, pruned: pruned.len(), next, ..Found::default() };
        // A change that was refused may have been so since its record is gone; one that waits is of a record that somebody may have changed.
        let held = |w: &Write| w.state == State::Done || w.state != State::Dropped && !w.written.is_empty();
        let told: Vec<_> = writes.into_iter().filter(held).collect();
        if told.is_empty() {
            self.paged(now, asker, Ok(found));
            return Ok(());
        }
        if self.lanes.get(crm).is_some_and(|lane| lane.is_paused(now.mono)) {
            self.paged(now, asker, Err(Unread::Paused));
            return Ok(());
        }
        let spent = match (self.leave(now, store, crm)?.traffic, &asker) {
            (None, _) => Some(Unread::DaySpent(crm.to_owned())),
            (Some(Traffic::Live), Asker::Recovery(_)) => Some(Unread::ShareSpent(crm.to_owned())),
            _ => None,
        };
        if let Some(spent) = spent {
            self.paged(now, asker, Err(spent));
            return Ok(());
        }
        if self.lanes.get(crm).and_then(|lane| lane.fresh_token(now.mono)).is_none() {
            self.refresh(now, crm);
            self.paged(now, asker, Err(Unread::NoToken));
            return Ok(());
        }
        let per_second = self.config.crm(crm).and_then(|known| known.pace.per_second);
        if let (Some(per_second), Some(lane)) = (per_second, self.lanes.get_mut(crm)) {
            lane.started(now.mono, per_second);
        }
        self.append(attempt::read(now.wall, crm), Waiting::Page(Page { asker, crm: crm.to_owned(), token: 0, told, found }));
        Ok(())
    }

    /// What a page costs is on disk, or is not; then it is asked for.
    pub(super) fn page_synced(&mut self, now: Now, mut page: Page, result: Result<(), String>) {
        if let Err(why) = result {
            return self.paged(now, page.asker, Err(Unread::Unwritten(why)));
        }
        let Some((token, number)) = self.lanes.get(&page.crm).and_then(|lane| Some((lane.token()?, lane.tokens))) else {
            // Another request was refused with it meanwhile.
            return self.paged(now, page.asker, Err(Unread::NoToken));
        };
        page.token = number;
        let keys: Vec<_> = page.told.iter().map(|w| record_key(w.call_id)).collect();
        let mut fields: Vec<_> = page.told.iter().flat_map(|w| w.written.keys().cloned()).collect();
        fields.sort();
        fields.dedup();
        let Some(http) = self.config.crm(&page.crm).and_then(|c| Some(c.connector.reader()?.read(&keys, &fields, &token))) else { return };
        let request = self.id();
        self.outputs.push_back(Output::Send { request, crm: page.crm.clone(), http });
        self.asked.insert(request, Asked::Read(page));
    }

    pub(super) fn read_answered(&mut self, now: Now, page: Page, answer: Result<HttpAnswer, NoAnswer>) {
        let Page { asker, crm, token, told, mut found } = page;
        let connector = self.config.crm(&crm).map(|c| &c.connector);
        if let (Some(connector), Ok(answer), Some(lane)) = (connector, &answer, self.lanes.get_mut(&crm)) {
            lane.learn_budgets(now.mono, &connector.budgets(answer));
        }
        let read = match (answer, connector.and_then(|c| c.reader())) {
            (Ok(answer), Some(reader)) => reader.read_back(&answer).map_err(|verdict| {
                // A refused token is not used again, and a quota holds for writes too.
                if let Some(lane) = self.lanes.get_mut(&crm) {
                    lane.refused_a_read(now.mono, &verdict, token);
                }
                verdict.why().unwrap_or_default().to_owned()
            }),
            (Err(NoAnswer { why, .. }), _) => Err(why),
            (Ok(_), None) => Err("its connector has gone".to_owned()),
        };
        let read = read.map(|held| {
            found.compare(&told, &held);
            found
        });
        self.paged(now, asker, read.map_err(Unread::Refused));
    }

    fn paged(&mut self, now: Now, asker: Asker, page: Result<Found, Unread>) {
        match (asker, page) {
            (Asker::Recovery(operation), page) => self.read_for(now, &operation, page),
            (Asker::Reply(reply), Ok(found)) => {
                let document = serde_json::to_value(&found).unwrap_or(Value::Null);
                self.outputs.push_back(Output::Tell { reply, document });
            }
            (Asker::Reply(reply), Err(unread)) => self.respond_unread(reply, &unread),
        }
    }

    pub(super) fn respond_unread(&mut self, reply: u64, unread: &Unread) {
        let (status, hint) = unread.answer();
        self.respond(reply, status, Some((unread.to_string(), hint)));
    }
}

impl Found {
    /// Puts what is held beside what was told.
    fn compare(&mut self, told: &[Write], held: &[Standing]) {
        for write in told {
            let key = record_key(write.call_id);
            let found: Vec<_> = held.iter().filter(|standing| standing.key == key).collect();
            let [one, rest @ ..] = found.as_slice() else {
                // What waits is told anyway, and told whole where its record has gone.
                if !PENDING.contains(&write.state) {
                    self.missing.push(write.call_id);
                    // Whose record is gone counts as missing alone.
                    self.rejected = self.rejected.saturating_sub(usize::from(write.state != State::Done));
                }
                continue;
            };
            self.written = self.written.saturating_add(usize::from(write.state == State::Done));
            if !rest.is_empty() {
                self.doubled.push(write.call_id);
            }
            let held = |name: &String| one.fields.get(name).cloned().unwrap_or_default();
            // What is on its way may be there already.
            let differs = |(name, value): &(&String, &Value)| !write.sent.contains_key(*name) && !same(value, &held(name));
            let edit = |(name, value): (&String, &Value)| (name.clone(), Edit { instead_of: Some(value.clone()), value: held(name) });
            let fields: Edits = write.written.iter().filter(differs).map(edit).collect();
            if !fields.is_empty() {
                self.changed.push(Changed { call_id: write.call_id, id: one.id.clone(), fields });
            }
        }
    }
}

/// What is told by itself.
const PENDING: [State; 3] = [State::Queued, State::Retrying, State::InFlight];
