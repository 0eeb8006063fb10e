//! `[[expect]]`: what platforms are to send of a call, and until when.

use std::time::Duration;

use super::{peers::millis, table::Table};
use crate::{event::Outcome, pipeline::Expect};

/// The file's own, and that somebody tells how a call went where it says nothing else of that.
pub(super) fn read(root: &mut Table<'_>, outcome_wait: Duration) -> Vec<Expect> {
    let disposition = Expect::disposition(outcome_wait);
    let mut expects: Vec<Expect> = Vec::new();
    for mut t in root.tables("expect") {
        let (what, span) = t.required("what", "\"transcription.complete\"").unwrap_or_else(|| (String::new(), t.span.clone()));
        if let Err(instead) = Expect::check(&what)
            && !what.is_empty()
        {
            t.fault(&span, format!("`what` is \"{what}\", which no webhook brings"), instead);
        }
        if expects.iter().any(|e| e.what == what) {
            t.fault(&span, format!("\"{what}\" is expected twice"), "write its outcomes into one [[expect]]");
        }
        let mut outcomes = Vec::new();
        for (word, span) in t.texts("outcomes", "[\"answered\"]").unwrap_or_default() {
            match serde_json::from_value::<Outcome>(word.clone().into()) {
                Ok(outcome) => outcomes.push(outcome),
                Err(_) => t.fault(
                    &span,
                    format!("`outcomes` holds \"{word}\""),
                    "write answered, busy, no_answer, rejected, invalid_number, machine, congestion, cancelled or failed",
                ),
            }
        }
        let within = millis(&mut t, "within_ms", 0, WITHIN_MAX_MS, 60_000);
        t.finish();
        expects.push(Expect { what, outcomes, within });
    }
    if !expects.iter().any(|e| e.what == disposition.what) {
        expects.push(disposition);
    }
    expects
}

/// A week: what comes later is taken all the same, but nobody waits for it.
const WITHIN_MAX_MS: u64 = 7 * 86_400_000;
