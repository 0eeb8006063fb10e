//! What the CRM holds beside what it was told: read back by key, some calls at a time, with the lane's own token.
//!
//! Nothing is journaled and nothing changes: whoever asked decides what is told again.

use serde_json::{Map, Value, json};

use super::{
    Asked, NoAnswer, Output, Pipeline,
    store::{State, Store, StoreError, Write},
};
use crate::{
    crm::{
        HttpAnswer, Verdict,
        reader::{Standing, same},
        record_key,
    },
    event::CallId,
    time::Now,
};

/// A page of a reconciliation that waits for its answer.
pub(super) struct Page {
    reply: u64,
    crm: String,
    /// Those that the CRM has acknowledged.
    told: Vec<Write>,
    document: Value,
}

impl Pipeline {
    /// Compares the next calls behind `after` with what `crm` holds. The answer is [`Output::Tell`] with `reply`: how many are `written`, how many were `pruned` and so are not looked for, which are `missing`,
    /// `doubled` or `changed` by somebody else (each field with what it was told), and the call to go on behind.
    pub fn reconcile(&mut self, now: Now, store: &impl Store, reply: u64, crm: &str, after: Option<CallId>) -> Result<(), StoreError> {
        let Some(known) = self.config.crm(crm) else {
            let what = format!("no [[crm]] has the name \"{crm}\"");
            self.respond(reply, 404, Some((what, "see the targets in the configuration")));
            return Ok(());
        };
        let Some(reader) = known.connector.reader() else {
            let what = format!("what \"{crm}\" holds cannot be read back over its API");
            self.respond(reply, 409, Some((what, "compare it with GET /v1/calls/CALL_ID by hand")));
            return Ok(());
        };
        let writes = store.writes_of(crm, after, reader.read_max())?;
        let next = writes.last().map(|w| w.call_id);
        let (pruned, writes): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.pruned);
        let count = |states: &[State]| writes.iter().filter(|w| states.contains(&w.state)).count();
        let pending = count(&[State::Queued, State::Retrying, State::InFlight]);
        let rejected = count(&[State::Review, State::Dead, State::Dropped]);
        // A change that was refused may have been so since its record is gone.
        let held = |w: &Write| w.state == State::Done || matches!(w.state, State::Review | State::Dead) && !w.written.is_empty();
        let document = json!({"written": 0, "pending": pending, "rejected": rejected, "missing": [], "doubled": [], "changed": [], "pruned": pruned.len(), "next": next});
        let told: Vec<_> = writes.into_iter().filter(held).collect();
        if told.is_empty() {
            self.outputs.push_back(Output::Tell { reply, document });
            return Ok(());
        }
        if self.lanes.get(crm).is_some_and(|lane| lane.is_paused(now.mono)) {
            let what = "the CRM is over quota, down, or refuses the grant".to_owned();
            self.respond(reply, 503, Some((what, "ask again later; GET /v1/calls and the log tell more")));
            return Ok(());
        }
        let Some(token) = self.lanes.get(crm).and_then(|lane| lane.fresh_token(now.mono)) else {
            self.refresh(now, crm);
            let what = "an access token is being asked for".to_owned();
            self.respond(reply, 503, Some((what, "ask again in a second")));
            return Ok(());
        };
        let keys: Vec<_> = told.iter().map(|w| record_key(w.call_id)).collect();
        let mut fields: Vec<_> = told.iter().flat_map(|w| w.written.keys().cloned()).collect();
        fields.sort();
        fields.dedup();
        let Some(http) = self.config.crm(crm).and_then(|c| Some(c.connector.reader()?.read(&keys, &fields, &token))) else {
            return Ok(());
        };
        let request = self.id();
        self.outputs.push_back(Output::Send { request, crm: crm.to_owned(), http });
        self.asked.insert(request, Asked::Read(Page { reply, crm: crm.to_owned(), told, document }));
        Ok(())
    }

    pub(super) fn read_answered(&mut self, now: Now, page: Page, answer: Result<HttpAnswer, NoAnswer>) {
        let Page { reply, crm, told, mut document } = page;
        let connector = self.config.crm(&crm).map(|c| &c.connector);
        if let (Some(connector), Ok(answer), Some(lane)) = (connector, &answer, self.lanes.get_mut(&crm)) {
            lane.learn_budgets(now.mono, &connector.budgets(answer));
        }
        let read = match (answer, connector.and_then(|c| c.reader())) {
            (Ok(answer), Some(reader)) => reader.read_back(&answer).map_err(|verdict| {
                // A refused token is not used again, and a quota holds for writes too.
                if let Some(lane) = self.lanes.get_mut(&crm) {
                    lane.refused_a_read(now.mono, &verdict);
                }
                why(&verdict)
            }),
            (Err(NoAnswer { why, .. }), _) => Err(why),
            (Ok(_), None) => Err("its connector has gone".to_owned()),
        };
        match read {
            Ok(held) => {
                compare(&told, &held, &mut document);
                self.outputs.push_back(Output::Tell { reply, document });
            }
            Err(why) => self.respond(reply, 503, Some((format!("the CRM did not tell what it holds: {why}"), "ask again later"))),
        }
    }
}

fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Done { .. } => String::new(),
        Verdict::Retry { why, .. }
        | Verdict::Throttled { why, .. }
        | Verdict::Auth { why }
        | Verdict::Rejected { why }
        | Verdict::Split { why }
        | Verdict::Gone { why }
        | Verdict::PersonGone { why }
        | Verdict::Ambiguous { why } => why.clone(),
    }
}

fn compare(told: &[Write], held: &[Standing], document: &mut Value) {
    let (mut written, mut refused, mut missing, mut doubled, mut changed) = (0_usize, 0_u64, Vec::new(), Vec::new(), Vec::new());
    for write in told {
        let key = record_key(write.call_id);
        let found: Vec<_> = held.iter().filter(|standing| standing.key == key).collect();
        match found.as_slice() {
            [] => {
                missing.push(json!(write.call_id));
                refused += u64::from(write.state != State::Done);
            }
            [one, rest @ ..] => {
                written += usize::from(write.state == State::Done);
                if !rest.is_empty() {
                    doubled.push(json!(write.call_id));
                }
                let held = |name: &String| one.fields.get(name).cloned().unwrap_or_default();
                let differs = |(name, value): &(&String, &Value)| !same(value, &held(name));
                let both = |(name, value): (&String, &Value)| (name.clone(), json!({"instead_of": value, "value": held(name)}));
                let fields: Map<_, _> = write.written.iter().filter(differs).map(both).collect();
                if !fields.is_empty() {
                    changed.push(json!({"call_id": write.call_id, "id": one.id, "fields": fields}));
                }
            }
        }
    }
    if let Some(document) = document.as_object_mut() {
        // Whose record is gone counts as missing alone.
        let rejected = document.get("rejected").and_then(Value::as_u64).unwrap_or(0).saturating_sub(refused);
        document.insert("rejected".into(), json!(rejected));
        document.insert("written".into(), json!(written));
        document.insert("missing".into(), json!(missing));
        document.insert("doubled".into(), json!(doubled));
        document.insert("changed".into(), json!(changed));
    }
}
