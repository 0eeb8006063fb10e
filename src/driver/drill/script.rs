//! What is played, and what must stand in the CRM for it: written from the script alone. It shares no code with the fold or the mapping.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::phones::Manner;
use crate::chance::Chance;

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Story {
    /// The caller's number, another for each call.
    pub(super) from: String,
    /// The number that he dials.
    pub(super) number: String,
    pub(super) manner: Manner,
    /// How long they talk.
    pub(super) talk: Duration,
    /// What the platform tells of it.
    pub(super) told: Vec<Told>,
    /// The CRM's id of the caller, where he is somebody whom it knows.
    pub(super) person: Option<String>,
    /// The CRM refuses a value: its record waits for a person, and this is what he must be shown.
    pub(super) refused: Option<String>,
}

/// One webhook.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) data: Value,
    /// How often it is sent.
    pub(super) copies: u64,
    pub(super) when: When,
}

/// When a webhook is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// So long after the call's end.
    After(Duration),
    /// So long after the platform was called, whether the call is over or not.
    Early(Duration),
    /// So long after the run's beginning.
    At(Duration),
}

/// The five calls, in the order in which they take turns.
pub(super) const KINDS: usize = 5;

/// A call of one of the five kinds. `index` numbers all calls of a drill.
pub(super) fn story(index: usize, human: &str, ordering: bool, chance: &mut Chance) -> Story {
    let (from, number) = (format!("+49301{index:07}"), "+493023125200".to_owned());
    let talk = Duration::from_millis(20 + chance.below(250));
    let manner = match index % KINDS {
        0 => Manner::Completed,
        1 => Manner::Transferred { to: human.to_owned() },
        2 => Manner::HungUp,
        3 => Manner::Failed,
        _ => Manner::Keyed(format!("{}#", 1_000_000 + index)),
    };
    let mut told = Vec::new();
    if matches!(manner, Manner::Completed | Manner::Transferred { .. } | Manner::Keyed(_)) {
        let disposition = if matches!(manner, Manner::Transferred { .. }) { "TRANSFERRED" } else { "RESOLVED" };
        let facts = [
            ("call.ended", json!({"disposition_code": disposition, "intent": format!("matter {index}")})),
            ("transcription.complete", json!({"call_summary": format!("summary {index}")})),
            ("sentiment.scored", json!({"sentiment_score": 0.5})),
        ];
        for (kind, data) in facts {
            let copies = 1 + chance.below(3);
            let after = Duration::from_millis(chance.below(900));
            let when = if ordering && chance.percent(50) { When::Early(after) } else { When::After(after) };
            told.push(Told { id: format!("{kind}-{index}"), kind, data, copies, when });
        }
        if ordering {
            told.reverse();
        }
    }
    Story { from, number, manner, talk, told, person: None, refused: None }
}

/// A call of which most becomes known while its record is under way to the CRM, or is there.
pub(super) fn late(index: usize, human: &str, chance: &mut Chance) -> Story {
    let mut story = story(index, human, false, chance);
    for told in &mut story.told {
        told.when = When::After(Duration::from_millis(chance.below(9000)));
    }
    story
}

/// A call as it should be, with one webhook.
pub(super) fn plain(index: usize, chance: &mut Chance) -> Story {
    let mut story = story(index * KINDS, "", false, chance);
    story.told.truncate(1);
    for told in &mut story.told {
        (told.copies, told.when) = (1, When::After(Duration::ZERO));
    }
    story
}

/// A call of a burst: its one webhook comes at once with a third of all others, while calls end.
pub(super) fn burst(index: usize, chance: &mut Chance) -> Story {
    let mut story = plain(index, chance);
    story.talk = Duration::from_millis(1200);
    for told in &mut story.told {
        let wave = u64::try_from(index % 3).unwrap_or(0);
        (told.copies, told.when) = (1, When::At(Duration::from_millis(1300 + 250 * wave)));
    }
    story
}

/// What the journal says of a call that a kill cut through: whose end nobody but the gateway could know.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut {
    pub(super) outcome: String,
    pub(super) ended_as: String,
    pub(super) reason: Option<String>,
    pub(super) answered: bool,
    pub(super) transferred: bool,
    pub(super) digits: Vec<String>,
}

/// What must stand in the CRM, by names of the script's own.
pub(super) fn expected(story: &Story, call_id: &str, cut: Option<&Cut>) -> BTreeMap<&'static str, String> {
    let whole = |outcome: &str, ended_as: &str| (outcome.to_owned(), ended_as.to_owned());
    let (outcome, ended_as) = match (cut, &story.manner) {
        (Some(cut), _) => (cut.outcome.clone(), cut.ended_as.clone()),
        (None, Manner::Failed) => whole("congestion", "failed"),
        (None, Manner::Transferred { .. }) => whole("answered", "transferred"),
        (None, _) => whole("answered", "completed"),
    };
    let status = match outcome.as_str() {
        "answered" => "COMPLETED",
        "busy" => "BUSY",
        "no_answer" => "NO_ANSWER",
        "cancelled" => "CANCELED",
        _ => "FAILED",
    };
    let mut fields = BTreeMap::from([
        ("direction", "INBOUND".to_owned()),
        ("way", "Inbound".to_owned()),
        ("from", story.from.clone()),
        ("to", story.number.clone()),
        ("status", status.to_owned()),
        ("title", "Call taken by the voice platform".to_owned()),
        ("call_id", call_id.to_owned()),
        ("outcome", outcome.clone()),
        ("ended_as", ended_as.clone()),
        ("needs_review", "false".to_owned()),
        // Where a record has a state, it is the one of what is over: nothing more is waited for.
        ("completed", "1".to_owned()),
        ("progress", "Completed".to_owned()),
    ]);
    if let Some(person) = &story.person {
        fields.insert("person", person.clone());
    }
    for told in &story.told {
        for (name, field) in
            [("disposition_code", "disposition"), ("intent", "title"), ("call_summary", "summary"), ("sentiment_score", "sentiment")]
        {
            if let Some(value) = told.data.get(name) {
                fields.insert(field, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
    }
    let answered = cut.map_or(outcome == "answered", |cut| cut.answered);
    let handed = cut.map_or(matches!(story.manner, Manner::Transferred { .. }), |cut| cut.transferred) && ended_as != "failed";
    if !fields.contains_key("disposition") && handed {
        fields.insert("disposition", "TRANSFERRED".to_owned());
    } else if !fields.contains_key("disposition") && (answered || ended_as == "failed") {
        let word = if ended_as == "failed" { "FAILED — NO DISPOSITION" } else { "NO_DISPOSITION" };
        fields.insert("disposition", word.to_owned());
        fields.insert("needs_review", "true".to_owned());
    }
    let digits = match (cut, &story.manner) {
        (Some(cut), _) => cut.digits.iter().map(|run| run.trim_end_matches('#')).collect::<Vec<_>>().join(" "),
        (None, Manner::Keyed(keys)) => keys.trim_end_matches('#').to_owned(),
        (None, _) => String::new(),
    };
    if !digits.is_empty() {
        fields.insert("digits", digits);
    }
    fields
}
