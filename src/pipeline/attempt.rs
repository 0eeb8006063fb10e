//! What the journal holds of a request and of its answer, in entries that it takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Step,
    lane::THROTTLE_PAUSE,
    store::{Write, is_zero},
    token::AUTH_PAUSE,
};
use crate::{
    crm::{Fields, Verdict},
    event::CallId,
    journal::{Entry, EntryKind},
    time::Wall,
};

/// Body of an attempt entry: one request, and what it carries.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) crm: String,
    #[serde(default, skip_serializing_if = "Step::is_write")]
    pub(super) step: Step,
    /// The CRM's name for the job that carries this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<String>,
    /// What it costs of the day.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(super) cost: u64,
    /// Nothing where it only reads.
    pub(super) writes: Vec<Attempted>,
    /// Calls that it carried too, of which what it held was taken away.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) pruned: usize,
}

/// The entry of a request that reads a page of what a CRM holds: it carries nothing, and counts against the CRM's day.
pub(super) fn read(at: Wall, crm: &str) -> Entry {
    let attempt = Attempt { crm: crm.to_owned(), step: Step::default(), job: None, cost: one(), writes: Vec::new(), pruned: 0 };
    entry(EntryKind::Attempt, at, crm, &[], "", &attempt)
}

/// What an attempt carries of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempted {
    pub(super) call_id: CallId,
    pub(super) revision: u32,
    /// What is written of the record, or of its person; none with the other steps.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub(super) fields: Fields,
    /// Who is looked for, made or linked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) person: Option<String>,
}

/// Body of an answer entry: what came of one request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answered {
    pub(super) crm: String,
    #[serde(default, skip_serializing_if = "Step::is_write")]
    pub(super) step: Step,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    pub(super) writes: Vec<Settled>,
    /// Calls that it settled too, of which what it held was taken away.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) pruned: usize,
}

const fn one() -> u64 {
    1
}

fn is_one(cost: &u64) -> bool {
    *cost == 1
}

/// What came of an attempt for one call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settled {
    pub(super) call_id: CallId,
    /// The contract's word.
    pub(super) outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// When to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry_at: Option<Wall>,
    /// Whom a search has found, as far as the rule leaves them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) people: Option<Vec<String>>,
    /// Whether the person whom the record names is there no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) person_gone: bool,
    /// Whether a record was made of it that should have been there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) anew: bool,
    /// Whether another record stood in its way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) conflict: bool,
    /// Whether it counts as one of the attempts; then the place of the next one within its backoff, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) counts: Option<u16>,
}

/// The calls that an attempt entry carries; none for any other.
pub fn attempted(entry: &Entry) -> Vec<CallId> {
    if entry.kind != EntryKind::Attempt {
        return Vec::new();
    }
    serde_json::from_slice::<Attempt>(&entry.body).map_or_else(|_| Vec::new(), |a| a.writes.iter().map(|w| w.call_id).collect())
}

/// An entry on one request: of one call it bears the call's name, of several none.
pub(super) fn entry(kind: EntryKind, time: Wall, crm: &str, calls: &[CallId], revision: &str, body: &impl Serialize) -> Entry {
    let (id, key) = match calls {
        [one] => (format!("{crm}/{one}{revision}"), one.to_string()),
        several => (format!("{crm}/{} records", several.len()), String::new()),
    };
    Entry { kind, time, id, key, body: serde_json::to_vec(body).unwrap_or_default() }
}

/// `parts`, each of so many octets, taken apart into entries that the journal takes; one that is longer than an entry stands alone.
pub(super) fn apart<T>(parts: Vec<T>, octets: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut entries, mut left) = (Vec::<Vec<T>>::new(), 0_usize);
    for part in parts {
        let size = octets(&part);
        match entries.last_mut().filter(|_| size <= left) {
            Some(entry) => entry.push(part),
            None => {
                left = PARTS_OCTETS_MAX;
                entries.push(vec![part]);
            }
        }
        left = left.saturating_sub(size);
    }
    entries
}

/// `batch`, all of which needs `step`, taken apart into requests of which the journal takes the attempts.
pub(super) fn requests(step: Step, batch: Vec<Write>) -> Vec<Vec<Write>> {
    // Most are so short that nobody has to look closely.
    if batch.iter().map(Attempted::octets_most).fold(0, usize::saturating_add) <= PARTS_OCTETS_MAX {
        return vec![batch];
    }
    apart(batch, |write| octets(&Attempted::of(step, write)))
}

/// How long a part of an entry is.
pub(super) fn octets(part: &impl Serialize) -> usize {
    serde_json::to_vec(part).map_or(0, |json| json.len())
}

impl Attempted {
    /// What is carried of `write`, which needs `step`.
    pub(super) fn of(step: Step, write: &Write) -> Self {
        let fields = match step {
            Step::Write => write.difference(),
            Step::Tell => write.contact.unsaid(),
            _ => Fields::new(),
        };
        let person = match step {
            Step::Find | Step::Make => write.contact.sought.clone(),
            Step::Link | Step::Tell => write.contact.person().map(str::to_owned),
            Step::Write => None,
        };
        Self { call_id: write.call_id, revision: write.revision, fields, person }
    }

    /// How long what is carried of `write` is at most, whatever it needs, without putting it into JSON.
    fn octets_most(write: &Write) -> usize {
        let value = |value: &Value| match value {
            Value::String(text) => text.len().saturating_mul(ESCAPED),
            Value::Null | Value::Bool(_) | Value::Number(_) => SCALAR,
            Value::Array(_) | Value::Object(_) => PARTS_OCTETS_MAX,
        };
        let fields = write.wanted.iter().chain(&write.contact.says);
        let texts = write.contact.sought.iter().map(String::as_str).chain(write.contact.person());
        let fields = fields.map(|(name, held)| name.len().saturating_mul(ESCAPED).saturating_add(value(held)).saturating_add(SCALAR));
        fields.chain(texts.map(|text| text.len().saturating_mul(ESCAPED))).fold(AROUND, usize::saturating_add)
    }
}

impl Settled {
    pub(super) fn of(call_id: CallId, verdict: Verdict, at: Wall, attempt: Option<u16>, fresh: bool) -> Self {
        let outcome = verdict.name().to_owned();
        let (mut id, mut why, mut retry_at, mut counts) = (None, None, None, None);
        let person_gone = matches!(verdict, Verdict::PersonGone { .. });
        let anew = matches!(verdict, Verdict::Anew { .. });
        let conflict = matches!(verdict, Verdict::Conflict { .. });
        match verdict {
            Verdict::Done { id: told } | Verdict::Anew { id: told } => id = told,
            Verdict::Rejected { why: told } | Verdict::Gone { why: told } | Verdict::PersonGone { why: told } => why = Some(told),
            Verdict::Retry { after, why: told } | Verdict::Down { after, why: told } => {
                retry_at = after.map(|by| at + by);
                (why, counts) = (Some(told), attempt);
            }
            Verdict::Ambiguous { why: told } => (why, counts) = (Some(told), attempt),
            // Waiting for a quota, for a token or for the other half uses up no attempt, nor does a conflict, which has one more.
            Verdict::Throttled { after, why: told } => (why, retry_at) = (Some(told), Some(at + after.unwrap_or(THROTTLE_PAUSE))),
            Verdict::Auth { why: told } => (why, retry_at) = (Some(told), fresh.then_some(at + AUTH_PAUSE)),
            Verdict::Conflict { why: told } => (why, retry_at) = (Some(told), Some(at + CONFLICT_PAUSE)),
            Verdict::Split { why: told } => why = Some(told),
        }
        Self { call_id, outcome, id, why: why.map(shortened), retry_at, people: None, person_gone, anew, conflict, counts }
    }
}

/// A CRM's reason as far as people read it.
fn shortened(mut why: String) -> String {
    if let Some((at, _)) = why.char_indices().nth(WHY_CHARS_MAX) {
        why.truncate(at);
        why.push('…');
    }
    why
}

/// Parts of one entry, of which the journal takes [`crate::journal::ENTRY_BYTES_MAX`].
pub(super) const PARTS_OCTETS_MAX: usize = 1 << 20;
/// Salesforce is said to refuse so what it is still about to make for an earlier request, for a second or less.
const CONFLICT_PAUSE: Duration = Duration::from_secs(2);
/// Octets that JSON makes of one at most, as in `\u0001`.
const ESCAPED: usize = 6;
/// What is no text is shorter than this, and so is what stands around a field.
const SCALAR: usize = 32;
/// What stands around an attempt's fields is shorter than this.
const AROUND: usize = 256;
/// A CRM may list all that it would have taken, and the store keeps it of each record.
const WHY_CHARS_MAX: usize = 2000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_carried_is_never_longer_than_was_thought() {
        let call = "019b8d99-6ce8-7000-8000-000000000001".parse().expect("a call id");
        for text in ["", "plain", "\u{1}\u{1f}\"\\", "ü€😀", &"\u{1}".repeat(5000)] {
            let mut write = Write::new("crm", call, Wall::from_millis(1));
            let number = json!(-1.797_693_134_862_315_7e308);
            let fields: Fields = [(text.to_owned(), json!(text)), ("n".into(), number), ("b".into(), json!(false))].into_iter().collect();
            (write.wanted, write.contact.says) = (fields.clone(), fields);
            write.contact.sought = Some(text.to_owned());
            write.revision = u32::MAX;
            for step in [Step::Find, Step::Make, Step::Write, Step::Link, Step::Tell] {
                assert!(octets(&Attempted::of(step, &write)) <= Attempted::octets_most(&write), "{step:?} {text}");
            }
        }
    }
}
