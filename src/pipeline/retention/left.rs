//! What is left in the journal of entries that held something of pruned calls: nothing of what was said, and all that the fold needs to make the same store.

use serde::{Deserialize, Serialize};

use super::super::{
    Answered, Attempt, Pipeline,
    inbound::{self, keys, names, unnamed},
    overlay::Overlay,
    record::{Record, names_in},
    store::{Aside, Store, StoreError, Why},
    webhook::{Drift, Reading, Received},
};
use crate::{
    event::{CallId, Event},
    journal::{Entry, EntryKind, Position},
    time::Wall,
};

/// The first octet of what is left of a webhook: JSON follows.
const FORM: u8 = 2;

/// What is left of an event: the SIP Call-IDs that it told of.
#[derive(Debug, Serialize, Deserialize)]
struct Names {
    names: Vec<String>,
}

/// What is left of a webhook.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::pipeline) struct Left {
    /// By what it is known again, and the mark of its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<(String, String)>,
    /// Whose it was, and by which names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call: Option<CallId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    /// What was odd about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drifts: Vec<Drift>,
    /// Why it is in no record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aside: Option<(Why, String)>,
    /// It is the end of an asking, and told of its call whatever it says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pulled: bool,
}

impl Left {
    /// Out of an entry's body, where it is what is left of one.
    pub(in crate::pipeline) fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(of_webhook(body)?).ok()
    }
}

/// What is left of a webhook, as JSON; none where `body` is a webhook's own.
pub fn of_webhook(body: &[u8]) -> Option<&[u8]> {
    body.strip_prefix(&[FORM])
}

/// The call of an event of which the names are left.
pub(in crate::pipeline) fn event(entry: &Entry) -> Option<(CallId, Vec<String>)> {
    let call = entry.key.parse().ok()?;
    if entry.body.is_empty() {
        return Some((call, Vec::new()));
    }
    let Names { names } = serde_json::from_slice(&entry.body).ok()?;
    Some((call, names))
}

impl Pipeline {
    /// What is left of a webhook: it is known again, its names mean its call, and what was odd stays odd.
    pub(in crate::pipeline) fn fold_left<S: Store>(
        &mut self,
        overlay: &mut Overlay<'_, S>,
        position: Position,
        source: &str,
        time: Wall,
        left: Left,
    ) -> Result<(), StoreError> {
        let Left { seen, call, names, drifts, aside, pulled } = left;
        if let Some((why, detail)) = aside {
            overlay.changes.asides.push(Aside { position, source: source.to_owned(), time, why, detail });
        }
        let mut fresh = false;
        if let Some((key, mark)) = seen
            && overlay.seen(&key)?.is_none()
        {
            fresh = true;
            overlay.changes.seen.insert(key, mark);
            for drift in drifts {
                self.drifted(overlay, Drift { position, ..drift })?;
            }
        }
        let Some(call) = call.filter(|_| fresh || pulled) else { return Ok(()) };
        let mut record = overlay.record(call)?.unwrap_or_else(|| Record::lost(call));
        if !record.is_pruned() || record.is_skeleton() {
            return Ok(());
        }
        for name in unnamed(overlay, names.iter())? {
            overlay.changes.names.insert(name.clone(), call);
            overlay.adopt(&mut record, name)?;
        }
        record.told_at(position);
        overlay.touch(record, time);
        Ok(())
    }

    /// What is to be left of an entry whose calls are pruned in `store`, or that belongs to no call and is older than what was swept; none where it stays as it is.
    /// Everything up to the entry is folded.
    pub fn left_of(&self, store: &impl Store, at: Position, entry: &Entry) -> Result<Option<Vec<u8>>, StoreError> {
        let left = match entry.kind {
            EntryKind::Event => match Event::from_cloudevent(&entry.body) {
                Ok(event) if store.is_pruned(event.call_id)? => {
                    let names: Vec<_> = names_in(&event.kind).map(str::to_owned).collect();
                    if names.is_empty() { Some(Vec::new()) } else { Some(json(&Names { names })) }
                }
                _ => None,
            },
            EntryKind::Webhook => self.left_of_webhook(store, at, entry)?,
            EntryKind::Attempt => match serde_json::from_slice::<Attempt>(&entry.body) {
                Ok(Attempt { crm, step, job, cost, writes, pruned }) => without_pruned(store, writes, pruned, |w| w.call_id)?
                    .map(|(writes, pruned)| json(&Attempt { crm, step, job, cost, writes, pruned })),
                Err(_) => None,
            },
            EntryKind::Answer => match serde_json::from_slice::<Answered>(&entry.body) {
                Ok(Answered { crm, step, status, writes, pruned }) => without_pruned(store, writes, pruned, |w| w.call_id)?
                    .map(|(writes, pruned)| json(&Answered { crm, step, status, writes, pruned })),
                Err(_) => None,
            },
            EntryKind::Review => match entry.key.parse() {
                Ok(call) if !entry.body.is_empty() && store.is_pruned(call)? => Some(Vec::new()),
                _ => None,
            },
            _ => None,
        };
        Ok(left)
    }

    fn left_of_webhook(&self, store: &impl Store, at: Position, entry: &Entry) -> Result<Option<Vec<u8>>, StoreError> {
        if of_webhook(&entry.body).is_some() {
            return Ok(None);
        }
        let name = entry.id.split('/').next().unwrap_or_default();
        let received = Received::read(&entry.body);
        let source = self.config.sources.get(name);
        let reading = source.map(|source| source.reading(&received, entry.time));
        let pulled = received.head.pulled.as_ref().map(|pulled| pulled.call);
        let told = match reading {
            Some(Reading::Told(payload, odd)) => {
                let call = match pulled {
                    Some(call) => Some(call),
                    None => match inbound::whose(&payload, |name| bearer(store, name))? {
                        Some(call) => Some(bearer_at(store, at, call)?),
                        None => None,
                    },
                };
                Some((payload, odd, call))
            }
            _ => None,
        };
        let aside = store.aside(at)?;
        let call = told.as_ref().map_or(pulled, |(.., call)| *call);
        let goes = match (call, &told) {
            (Some(call), _) => store.is_pruned(call)?,
            (None, told) => {
                let waits = match told {
                    Some((payload, ..)) => store.orphans(&payload.call_id)?.iter().any(|orphan| orphan.position == at),
                    None => false,
                };
                store.swept()?.is_some_and(|swept| entry.time < swept) && aside.is_none() && !waits
            }
        };
        if !goes {
            return Ok(None);
        }
        let mut left =
            Left { aside: aside.map(|Aside { why, detail, .. }| (why, detail)), call, pulled: pulled.is_some(), ..Left::default() };
        if let Some((payload, odd, _)) = told {
            for (key, mark) in keys(name, &payload, &self.config.marks.of(received.body)) {
                if store.seen(&key)?.as_ref() == Some(mark) {
                    left.seen = Some((key, mark.clone()));
                    break;
                }
            }
            if left.seen.is_some() {
                // Not those that never became names of the call, since it was swept before that came.
                for name in names(&payload).filter(|_| call.is_some()) {
                    if store.named(name)? == call {
                        left.names.push(name.clone());
                    }
                }
                left.drifts = self.findings(at, name, entry.time, &payload, odd);
            }
        }
        // What has drifted so long ago that nobody is told any more shows no value either.
        let mut known = Vec::new();
        for drift in left.drifts {
            if store.drift(&drift.key())?.is_some() {
                known.push(drift);
            }
        }
        left.drifts = known;
        let mut body = vec![FORM];
        body.extend(json(&left));
        Ok(Some(body))
    }
}

/// The parts of a request without those of pruned calls, of which there are `pruned` so far; none where there is none.
fn without_pruned<W>(
    store: &impl Store,
    parts: Vec<W>,
    pruned: usize,
    call: impl Fn(&W) -> CallId,
) -> Result<Option<(Vec<W>, usize)>, StoreError> {
    let (before, mut kept) = (parts.len(), Vec::with_capacity(parts.len()));
    for part in parts {
        if !store.is_pruned(call(&part))? {
            kept.push(part);
        }
    }
    let gone = before.saturating_sub(kept.len());
    Ok((gone > 0).then(|| (kept, pruned.saturating_add(gone))))
}

/// The call of a name: its own id, or another that it is known by.
fn bearer(store: &impl Store, name: &str) -> Result<Option<CallId>, StoreError> {
    match name.parse() {
        Ok(call) if store.knows(call)? => Ok(Some(call)),
        _ => store.named(name),
    }
}

/// The call that what stands at `at` was told to under a name that `call` bears now: carriers use SIP Call-IDs again, and nothing was told of `call` before its first
/// entry.
fn bearer_at(store: &impl Store, at: Position, call: CallId) -> Result<CallId, StoreError> {
    let Some(record) = store.record(call)?.filter(|record| record.span.is_some_and(|(first, _)| at < first)) else { return Ok(call) };
    // Of several nobody can tell: it stays as long as this one does.
    let mut former = record.took_from.iter();
    Ok(former.next().copied().filter(|_| former.next().is_none()).unwrap_or(call))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
