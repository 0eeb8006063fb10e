//! What people order of what is kept of a call: journaled, then folded, and answered only then, since what came first into the journal decides.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{
        Output, Pipeline, Waiting,
        store::{Store, StoreError},
    },
    Hold,
};
use crate::{
    event::CallId,
    journal::{Entry, EntryKind},
    time::Now,
};

/// What somebody orders of what is kept of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which call.
    pub call: CallId,
    /// What.
    pub what: What,
    /// Who, as he says.
    pub by: String,
    /// Why, in his words.
    pub reason: Option<String>,
}

/// What may be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Nothing of it is taken away.
    Hold,
    /// It may be again.
    Release,
    /// It is, at once.
    Erase,
}

/// Who waits for an order to be folded, by the id of its entry.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Orders(BTreeMap<String, Waits>);

#[derive(Debug)]
struct Waits {
    reply: u64,
    /// A call that is written to no CRM meanwhile.
    erasing: Option<CallId>,
}

/// An order was folded.
#[derive(Debug)]
pub(in crate::pipeline) struct Ordered {
    /// The id of its entry.
    pub(super) id: String,
    pub(super) came: Came,
}

/// What came of an order.
#[derive(Debug)]
pub(super) enum Came {
    /// It is done: a document.
    Done(Value),
    /// It is not: what stands in its way, and what to do.
    Refused(String, &'static str),
}

/// Nothing is left of what an order is about.
pub(super) fn gone(store: &impl Store, call: CallId) -> Result<Came, StoreError> {
    let (why, hint) = why_gone(store, call)?;
    Ok(Came::Refused(why, hint))
}

/// Why nothing is left of what a call held, and what there is to know of that.
pub(in crate::pipeline) fn why_gone(store: &impl Store, call: CallId) -> Result<(String, &'static str), StoreError> {
    Ok(match store.erasure(call)? {
        Some(erasure) => (erasure.to_string(), "`offhook retention list --erased` lists those erased"),
        None => ("what this call held was taken away by retention".to_owned(), "see keep_days in [data]"),
    })
}

impl Pipeline {
    /// Somebody orders something of what is kept of a call. The answer is [`Output::Tell`] with `reply` once it is done, else [`Output::Respond`]: 404 no
    /// such call, 409 with what stands in its way, 503 where the journal does not take it.
    pub fn order(&mut self, now: Now, store: &impl Store, reply: u64, order: Order) -> Result<(), StoreError> {
        let Order { call, what, by, reason } = order;
        if !store.knows(call)? {
            let hint = "GET /v1/calls lists those known; a call is there once its first event is on disk";
            self.respond(reply, 404, Some(("no such call".to_owned(), hint)));
            return Ok(());
        }
        if let Some(came) = in_the_way(store, call, what)? {
            self.answer_order(reply, came);
            return Ok(());
        }
        let (kind, body) = match what {
            What::Erase => match self.erasure(now, store, call, by, reason)? {
                Ok(body) => (EntryKind::Erasure, body),
                Err(came) => {
                    self.answer_order(reply, came);
                    return Ok(());
                }
            },
            What::Hold | What::Release => {
                let hold = Hold { call_id: call, held: what == What::Hold, by, reason, at: now.wall };
                (EntryKind::Hold, serde_json::to_vec(&hold).unwrap_or_default())
            }
        };
        let id = format!("{}-{}", kind.name(), self.chance.token());
        let erasing = (what == What::Erase).then_some(call);
        self.lanes.values_mut().for_each(|lane| lane.busy.extend(erasing));
        self.orders.0.insert(id.clone(), Waits { reply, erasing });
        self.append(Entry { kind, time: now.wall, id: id.clone(), key: call.to_string(), body }, Waiting::Order { id });
        Ok(())
    }

    /// The journal did not take it.
    pub(in crate::pipeline) fn order_refused(&mut self, id: &str, why: &str) {
        if let Some(reply) = self.waited(id) {
            self.respond(reply, 503, Some((format!("the order could not be written: {why}"), "order it again later")));
        }
    }

    /// It is folded: whoever waits is told what came of it.
    pub(in crate::pipeline) fn ordered(&mut self, Ordered { id, came }: Ordered) {
        if let Some(reply) = self.waited(&id) {
            self.answer_order(reply, came);
        }
    }

    /// Who has waited; the call may be written again, where anything of it is left.
    fn waited(&mut self, id: &str) -> Option<u64> {
        let Waits { reply, erasing } = self.orders.0.remove(id)?;
        for lane in self.lanes.values_mut() {
            lane.busy.retain(|busy| Some(*busy) != erasing);
        }
        Some(reply)
    }

    fn answer_order(&mut self, reply: u64, came: Came) {
        match came {
            Came::Done(document) => self.outputs.push_back(Output::Tell { reply, document }),
            Came::Refused(why, hint) => self.respond(reply, 409, Some((why, hint))),
        }
    }
}

/// What stands in the way of an order, as the store is now.
fn in_the_way(store: &impl Store, call: CallId, what: What) -> Result<Option<Came>, StoreError> {
    let hold = store.hold(call)?.filter(|hold| hold.held);
    Ok(match (what, hold) {
        _ if store.is_pruned(call)? => Some(gone(store, call)?),
        (What::Erase, Some(hold)) => Some(Came::Refused(hold.to_string(), "a hold wins: whoever holds it releases it first")),
        (What::Hold, Some(hold)) => {
            Some(Came::Refused(hold.to_string(), "one hold stands for a call: release it first where yours is to stand in its place"))
        }
        (What::Release, None) => Some(Came::Refused("nobody holds this call".to_owned(), "`offhook retention list` lists those held")),
        (What::Hold | What::Erase, None) | (What::Release, Some(_)) => None,
    })
}
