//! What the fold makes of a webhook: told to its call's record, known already, or kept aside for somebody to look at.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Count, Pipeline,
    overlay::Overlay,
    record::Record,
    retention::left::Left,
    store::{Aside, Orphan, Store, StoreError, Why},
    webhook::{Drift, Odd, Payload, Reading, Received, drift::What, pulled::Pulled},
};
use crate::{
    event::CallId,
    journal::{Entry, Position},
    time::Wall,
};

impl Pipeline {
    /// The call that a platform's API was asked for, where the entry is the end of that.
    pub(super) fn fold_webhook<S: Store>(
        &mut self,
        overlay: &mut Overlay<'_, S>,
        at: Position,
        entry: &Entry,
    ) -> Result<Option<(String, CallId)>, StoreError> {
        // Entries of before bear more than the source's name.
        let name = entry.id.split('/').next().unwrap_or_default();
        if let Some(left) = Left::read(&entry.body) {
            self.fold_left(overlay, at, name, entry.time, left)?;
            return Ok(None);
        }
        let received = Received::read(&entry.body);
        if let Some(pulled) = &received.head.pulled {
            self.fold_pulled(overlay, at, entry, name, &received, pulled)?;
            return Ok(Some((name.to_owned(), pulled.call)));
        }
        let source = self.config.sources.get(name);
        let reading = match source {
            Some(source) => source.reading(&received, entry.time),
            None => Reading::Unreadable(format!("no [[webhook]] has source = \"{name}\" any more")),
        };
        let aside = |why, detail: String| Aside { position: at, source: name.to_owned(), time: entry.time, why, detail };
        let (mut payload, odd) = match reading {
            Reading::Told(payload, odd) => (payload, odd),
            Reading::Nothing => {
                self.counted("accepted");
                return Ok(None);
            }
            Reading::Unknown(kind) => {
                overlay.changes.asides.push(aside(Why::UnknownType, format!("the schema has no type \"{kind}\"")));
                self.counted("accepted");
                return Ok(None);
            }
            Reading::Unreadable(detail) => {
                overlay.changes.asides.push(aside(Why::Unreadable, detail));
                self.counted("accepted");
                return Ok(None);
            }
        };
        if source.is_some_and(|source| source.pull.is_some()) {
            payload.source = name.to_owned();
        } else {
            payload.asked_as = None;
        }
        let marks = self.config.marks.of(received.body);
        match first_sight(overlay, name, &payload, &marks)? {
            Sight::Again => self.counted("duplicate"),
            Sight::Conflict => {
                let detail = format!("another webhook with id \"{}\" was taken before", payload.id);
                overlay.changes.asides.push(aside(Why::Conflict, detail));
                self.counted("conflict");
            }
            Sight::First => {
                self.counted("accepted");
                for drift in self.findings(at, name, entry.time, &payload, odd) {
                    self.drifted(overlay, drift)?;
                }
                if let Some(call) = told(overlay, at, entry.time, payload)? {
                    overlay.changes.asides.push(aside(Why::Pruned, format!("it is of {call}, which was pruned before it came")));
                }
            }
        }
        Ok(None)
    }

    /// The end of an asking: whatever it tells is told to the call that was asked for, once.
    fn fold_pulled<S: Store>(
        &mut self,
        overlay: &mut Overlay<'_, S>,
        at: Position,
        entry: &Entry,
        name: &str,
        received: &Received<'_>,
        pulled: &Pulled,
    ) -> Result<(), StoreError> {
        // One that is not known was never asked for; its journal has lost its events.
        // Of one whose skeleton stands nothing is told any more.
        let Some(mut record) = overlay.record(pulled.call)?.filter(|record| !record.is_skeleton()) else { return Ok(()) };
        record.pulls.end(name, pulled.until);
        record.told_at(at);
        overlay.touch(record, entry.time);
        let reading = match self.config.sources.get(name) {
            Some(source) => source.reading(received, entry.time),
            None => Reading::Unreadable(format!("no [[webhook]] has source = \"{name}\" any more")),
        };
        let aside = |why, detail: String| Aside { position: at, source: name.to_owned(), time: entry.time, why, detail };
        match reading {
            Reading::Nothing => {}
            Reading::Unknown(kind) => {
                let detail = format!("pulled: the schema has no type \"{kind}\"");
                overlay.changes.asides.push(aside(Why::UnknownType, detail));
            }
            Reading::Unreadable(detail) => overlay.changes.asides.push(aside(Why::Unreadable, format!("pulled: {detail}"))),
            Reading::Told(payload, odd) => {
                for other in &payload.names {
                    if let Some(other) = overlay.named(other)?.filter(|other| *other != pulled.call) {
                        let detail = format!("pulled: it is the document of another call, {other}");
                        overlay.changes.asides.push(aside(Why::Unreadable, detail));
                        return Ok(());
                    }
                }
                let marks = self.config.marks.of(received.body);
                if matches!(first_sight(overlay, name, &payload, &marks)?, Sight::First) {
                    for drift in self.findings(at, name, entry.time, &payload, odd) {
                        self.drifted(overlay, drift)?;
                    }
                    told(overlay, at, entry.time, payload)?;
                }
            }
        }
        Ok(())
    }

    /// What is odd about a payload: held against its schema, and against the value sets of the mappings that may take its call. It is judged by the payload
    /// alone, so that it is found to be the same when the record holds more, or nothing any more.
    pub(super) fn findings(&self, position: Position, source: &str, time: Wall, payload: &Payload, odd: Vec<Odd>) -> Vec<Drift> {
        let Some(schema) = self.config.sources.get(source).map(|s| &s.schema) else { return Vec::new() };
        let mut found = Vec::new();
        for odd in odd {
            let reads = self.config.crms.iter().flat_map(|crm| crm.reads.fields.iter().map(move |read| (crm, read)));
            let affects = reads.filter(|(_, read)| read.from == odd.field).map(|(crm, read)| format!("{} {}", crm.name, read.to)).collect();
            found.push((format!("schema {} {}", schema.name, schema.version), odd, affects));
        }
        for crm in self.config.crms.iter().filter(|crm| crm.schedule.may_take(&payload.data)) {
            let mut lacking = BTreeMap::<_, (_, Vec<_>)>::new();
            for read in &crm.reads.fields {
                let told = payload.data.get(&read.from).and_then(Value::as_str).zip(read.values.as_ref());
                if let Some((value, _)) = told.filter(|(value, values)| !values.contains(*value)) {
                    lacking.entry(&read.from).or_insert((value, Vec::new())).1.push(format!("{} {}", crm.name, read.to));
                }
            }
            let against = format!("mapping {} {}", crm.name, crm.reads.version);
            found.extend(
                lacking.into_iter().map(|(field, (value, affects))| (against.clone(), Odd::new(field, What::Value, Some(value)), affects)),
            );
        }
        let drift = |(against, Odd { field, what, found }, affects)| {
            let (source, kind, found) = (source.to_owned(), payload.kind.clone(), found.into_iter().collect());
            Drift { source, against, kind, field, what, found, affects, first: time, last: time, count: 1, position }
        };
        found.into_iter().map(drift).collect()
    }

    pub(super) fn drifted<S: Store>(&mut self, overlay: &mut Overlay<'_, S>, drift: Drift) -> Result<(), StoreError> {
        let key = drift.key();
        let known = match overlay.changes.drifts.get(&key) {
            Some(drift) => Some(drift.clone()),
            None => overlay.store.drift(&key)?,
        };
        let fresh = known.is_none();
        let drift = match known {
            Some(mut known) => {
                known.again(drift);
                known
            }
            None => drift,
        };
        if self.live {
            self.count(Count::Drift { drift: fresh.then(|| Box::new(drift.clone())) });
        }
        overlay.changes.drifts.insert(key, drift);
        Ok(())
    }

    /// What is folded again at a start was counted then.
    fn counted(&mut self, result: &'static str) {
        if self.live {
            self.count(Count::Webhook(result));
        }
    }
}

/// By what a webhook is known again, with the mark of its body: with an id of its own, by that; without one, by everything that it says. One for each key of
/// marks, the one in use first.
pub(super) fn keys<'m>(source: &str, payload: &Payload, marks: &'m [String]) -> impl Iterator<Item = (String, &'m String)> {
    let Payload { id, kind, call_id, .. } = payload;
    let key = move |mark: &String| if id.is_empty() { format!("{source}//{kind}/{call_id}/{mark}") } else { format!("{source}/{id}") };
    marks.iter().map(move |mark| (key(mark), mark))
}

enum Sight {
    First,
    Again,
    Conflict,
}

/// Whether a webhook was seen before. The same id with another body is a conflict.
fn first_sight<S: Store>(overlay: &mut Overlay<'_, S>, source: &str, payload: &Payload, marks: &[String]) -> Result<Sight, StoreError> {
    for (key, _) in keys(source, payload, marks) {
        match overlay.seen(&key)? {
            Some(before) if marks.contains(&before) => return Ok(Sight::Again),
            Some(_) => return Ok(Sight::Conflict),
            None => {}
        }
    }
    overlay.changes.seen.extend(keys(source, payload, marks).next().map(|(key, mark)| (key, mark.clone())));
    Ok(Sight::First)
}

/// Tells a payload to its call's record. A call that has no record yet, nor any of whose names is known, has it kept under each of its names. Where what its call
/// held was taken away, it is told to nobody, and that call comes back.
fn told<S: Store>(overlay: &mut Overlay<'_, S>, at: Position, came: Wall, payload: Payload) -> Result<Option<CallId>, StoreError> {
    let Some(call) = whose(&payload, |name| overlay.named(name))? else {
        // Whichever of its names turns up first.
        let names: Vec<_> = names(&payload).cloned().collect();
        for name in &names {
            let others = names.iter().filter(|other| *other != name).cloned().collect();
            let payload = Payload { call_id: name.clone(), names: others, ..payload.clone() };
            overlay.changes.orphans.push(Orphan { payload, came, position: at });
        }
        return Ok(None);
    };
    let unnamed = unnamed(overlay, names(&payload))?;
    let (known, wait) = overlay.take(call)?;
    let mut record = known.unwrap_or_else(|| Record::new(call));
    if record.is_skeleton() {
        overlay.changes.records.extend(wait.map(|wait| (call, (record, wait))));
        return Ok(Some(call));
    }
    record.tell(&payload);
    for name in unnamed {
        overlay.changes.names.insert(name.clone(), call);
        overlay.adopt(&mut record, name)?;
    }
    record.told_at(at);
    overlay.touch(record, came);
    Ok(None)
}

/// What else a webhook calls its call: those that bear one of these names alone belong to it, those that came before too.
pub(super) fn unnamed<'n, S: Store>(
    overlay: &Overlay<'_, S>,
    names: impl Iterator<Item = &'n String>,
) -> Result<Vec<&'n String>, StoreError> {
    let mut unnamed = Vec::new();
    for name in names {
        if overlay.named(name)?.is_none() {
            unnamed.push(name);
        }
    }
    Ok(unnamed)
}

/// The names by which a webhook may mean its call.
pub(super) fn names(payload: &Payload) -> impl Iterator<Item = &String> {
    std::iter::once(&payload.call_id).chain(&payload.names)
}

/// The call that a webhook is of, where `named` knows one of its names.
pub(super) fn whose(payload: &Payload, named: impl Fn(&str) -> Result<Option<CallId>, StoreError>) -> Result<Option<CallId>, StoreError> {
    for name in names(payload) {
        if let Some(call) = named(name)? {
            return Ok(Some(call));
        }
    }
    Ok(None)
}
