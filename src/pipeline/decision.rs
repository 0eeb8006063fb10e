//! What people decide of writes: journaled, then folded, so that a store made anew holds it too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Crm, Pipeline, Waiting,
    overlay::Overlay,
    retention::why_gone,
    store::{State, Store, StoreError, Write},
};
use crate::{
    crm::{Fields, contact::Standing},
    event::CallId,
    journal::{Entry, EntryKind, Position},
    time::{Now, Wall},
};

/// Why nothing is decided where [`who`] finds nobody.
pub const NOBODY: &str = "nobody is named who decides";

/// Who decides or asks, as he says, to be named in the journal for good; none where that is nobody.
pub fn who(by: &str) -> Option<&str> {
    Some(by.trim()).filter(|name| !name.is_empty())
}

/// What a person decides of one write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// What was refused or given up is tried again from the start.
    Retry,
    /// It is not written; what the CRM has stays as it is.
    Drop,
    /// Other values are written than the mapping's, for as long as the mapping's stay what they are; it still waits.
    Edit {
        /// The CRM's fields; null takes back what somebody has put into one.
        fields: Fields,
    },
    /// Whatever the CRM has been told is told again: the record has gone there, or is in doubt.
    Resend,
    /// Somebody has changed fields in the CRM: they count as edits.
    Keep {
        /// What the CRM holds, in place of what it was told; null where it holds nothing.
        fields: Edits,
    },
}

/// A value that a person has put in the place of the mapping's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// What the mapping said then: once it says something else, that counts again.
    pub instead_of: Option<Value>,
    /// What is written.
    pub value: Value,
}

/// Values that people have put in, by the CRM's fields.
pub type Edits = BTreeMap<String, Edit>;

/// Body of an entry that holds a decision.
#[derive(Debug, Serialize, Deserialize)]
struct Decided {
    crm: String,
    call_id: CallId,
    #[serde(flatten)]
    decision: Decision,
    /// Who decided, as he says.
    by: String,
}

/// The entry that holds a decision.
pub(super) fn decided(at: Wall, crm: &str, call_id: CallId, decision: Decision, by: &str) -> Entry {
    let decided = Decided { crm: crm.to_owned(), call_id, decision, by: by.to_owned() };
    let body = serde_json::to_vec(&decided).unwrap_or_default();
    Entry { kind: EntryKind::Review, time: at, id: format!("{crm}/{call_id}"), key: call_id.to_string(), body }
}

impl Decision {
    /// Whether it may be taken of a write that stands so; otherwise why not.
    fn fits(&self, state: State) -> Result<(), &'static str> {
        match self {
            Self::Resend if matches!(state, State::Done | State::Review | State::Dead) => Ok(()),
            Self::Resend => Err("only what is done, in review or dead can be told again"),
            Self::Keep { .. } if state != State::Dropped => Ok(()),
            Self::Keep { .. } => Err("what was dropped is not told, so that nothing needs to be kept from it"),
            _ if state.waits_for_a_person() => Ok(()),
            _ => Err("only what is in review, dead or dropped can be decided on"),
        }
    }
}

/// What an edit cannot do: a CRM refuses a record for ever whose field it does not know.
fn misplaced(fields: &Fields, crm: &Crm, write: &Write) -> Option<(String, &'static str)> {
    let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    fields.iter().find_map(|(field, value)| match value {
        Value::Null if write.edits.contains_key(field) => None,
        Value::Null => {
            let edited = list(write.edits.keys().map(String::as_str).collect());
            Some((format!("nobody has put a value into `{field}` of this record; edited is: {edited}"), "take back only what was edited"))
        }
        _ if crm.writes.contains(field) => None,
        _ => {
            let writes = list(crm.writes.iter().map(String::as_str).collect());
            Some((format!("the mapping of \"{}\" writes no field `{field}`; it writes: {writes}", crm.name), "edit one of these"))
        }
    })
}

impl Pipeline {
    /// A person decides on a write. The answer is [`super::Output::Respond`] with `reply`, once the decision is on disk.
    #[expect(clippy::too_many_arguments, reason = "who decides what about which record of which CRM")]
    pub fn decide(
        &mut self,
        now: Now,
        store: &impl Store,
        reply: u64,
        crm: &str,
        call_id: CallId,
        decision: Decision,
        by: &str,
    ) -> Result<(), StoreError> {
        let Some(write) = store.write(crm, call_id)? else {
            let what = format!("\"{crm}\" has no write of this call");
            self.respond(reply, 404, Some((what, "`offhook queue show` lists what waits, with target and call")));
            return Ok(());
        };
        if write.pruned {
            let gone = why_gone(store, call_id)?;
            self.respond(reply, 409, Some(gone));
            return Ok(());
        }
        if let Err(hint) = decision.fits(write.state) {
            let what = format!("this write is {}", write.state.name());
            self.respond(reply, 409, Some((what, hint)));
            return Ok(());
        }
        if let (Decision::Edit { fields }, Some(configured)) = (&decision, self.config.crm(crm))
            && let Some(why) = misplaced(fields, configured, &write)
        {
            self.respond(reply, 400, Some(why));
            return Ok(());
        }
        self.append(decided(now.wall, crm, call_id, decision, by), Waiting::Decision { reply });
        Ok(())
    }

    /// What a person decided of a write.
    pub(super) fn fold_decision<S: Store>(&self, overlay: &mut Overlay<'_, S>, at: Position, entry: &Entry) -> Result<(), StoreError> {
        let Ok(Decided { crm: name, call_id, decision, .. }) = serde_json::from_slice(&entry.body) else {
            return overlay.told_of_lost(at, entry);
        };
        let Some(mut write) = overlay.write(&name, call_id)?.filter(|w| !w.pruned) else { return overlay.told_of_lost(at, entry) };
        write.touched = Some(at);
        if decision.fits(write.state).is_err() {
            // An answer came first.
            overlay.changes.writes.insert((name, call_id), write);
            return Ok(());
        }
        let crm = self.config.crm(&name);
        match decision {
            Decision::Retry => {
                // Who was not found, or found too often, is looked for again, whoever was lost: what the CRM refused may have been mended.
                if write.contact.person().is_none() {
                    write.contact.standing = Standing::Unsought;
                    write.contact.lost.clear();
                }
                write.begin_anew(entry.time);
                write.by_another = false;
                (write.state, write.why) = crm.map_or((State::Queued, None), |crm| crm.rest(&write));
            }
            // Only whose call it was is open, what is said of him, or what could not be written: the record stands, whether the CRM told its id or not, and stays
            // without that.
            Decision::Drop if write.state == State::Review && !write.written.is_empty() && write.difference().is_empty() => {
                write.contact.leave();
                write.condoned = write.unformed.clone();
                (write.state, write.why) = crm.map_or((State::Done, None), |crm| crm.rest(&write));
            }
            Decision::Drop => write.state = State::Dropped,
            Decision::Edit { fields } => {
                for (field, value) in fields {
                    if value.is_null() {
                        write.take_back(&field);
                        continue;
                    }
                    let before = write.edits.get(&field).map_or_else(|| write.wanted.get(&field).cloned(), |edit| edit.instead_of.clone());
                    write.wanted.insert(field.clone(), value.clone());
                    write.edits.insert(field, Edit { instead_of: before, value });
                }
            }
            Decision::Resend => write.tell_again(entry.time),
            Decision::Keep { fields } => {
                write.keep(fields);
                // Nothing is left to tell where that was all.
                if let Some(crm) =
                    crm.filter(|crm| matches!(write.state, State::Queued | State::Retrying) && crm.next_step(&write).is_none())
                {
                    (write.state, write.why) = crm.rest(&write);
                }
            }
        }
        overlay.changes.writes.insert((name, call_id), write);
        Ok(())
    }
}

impl Write {
    /// Its attempts are counted from now on.
    fn begin_anew(&mut self, at: Wall) {
        (self.attempts, self.conflicted, self.due, self.since) = (0, false, at, at);
    }

    /// The mapping's own value counts again.
    fn take_back(&mut self, field: &str) {
        if let Some(edit) = self.edits.remove(field) {
            put(&mut self.wanted, field, &edit.instead_of.unwrap_or_default());
        }
    }

    /// What somebody has put in the place of what was written counts as written, unless something else was written meanwhile.
    fn keep(&mut self, fields: Edits) {
        for (field, Edit { instead_of, value }) in fields {
            if instead_of.is_none() || self.written.get(&field) != instead_of.as_ref() {
                continue;
            }
            let before = self.edits.get(&field).map_or_else(|| self.wanted.get(&field).cloned(), |edit| edit.instead_of.clone());
            for fields in [&mut self.wanted, &mut self.written] {
                put(fields, &field, &value);
            }
            self.edits.insert(field, Edit { instead_of: before, value });
        }
    }

    /// Nothing of what the CRM acknowledged counts any more, nor what it is to acknowledge.
    pub(super) fn forget(&mut self) {
        (self.written, self.sent, self.by_another) = (Fields::new(), Fields::new(), false);
        (self.id, self.contact.linked) = (None, None);
        self.contact.said.clear();
    }

    /// The CRM is told everything, from the start.
    pub(super) fn tell_again(&mut self, at: Wall) {
        self.forget();
        self.begin_anew(at);
        (self.state, self.why) = (State::Queued, None);
    }
}

/// Puts people's values in the place of the mapping's, where those are still what they were.
pub(super) fn edited(wanted: &mut Fields, edits: &mut Edits) {
    edits.retain(|field, edit| wanted.get(field) == edit.instead_of.as_ref());
    for (field, edit) in edits.iter() {
        put(wanted, field, &edit.value);
    }
}

/// What holds nothing is not written.
fn put(fields: &mut Fields, field: &str, value: &Value) {
    match value {
        Value::Null => fields.remove(field),
        value => fields.insert(field.to_owned(), value.clone()),
    };
}
