//! When a `[[crm]]` is written: `model`, `batch_every_ms`, `batch_at`, `[[crm.real_time]]`.

use std::time::Duration;

use super::{peers::millis, table::Table};
use crate::{
    crm::mapping::{Condition, Mapping},
    pipeline::schedule::{Model, Runs, Schedule},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    RealTime,
    Batch,
    Hybrid,
}

/// `mapping`: says which calls there are for it, and what of them is written while they are under way.
pub(super) fn read(t: &mut Table<'_>, mapping: Option<&Mapping>) -> Schedule {
    let words = [("real_time", Word::RealTime), ("batch", Word::Batch), ("hybrid", Word::Hybrid)];
    let word = t.choice("model", &words).unwrap_or(Word::RealTime);
    if word == Word::RealTime {
        for key in ["batch_every_ms", "batch_at", "real_time"] {
            if t.has(key) {
                let span = t.span.clone();
                t.fault(
                    &span,
                    format!("`{key}` says when batches run, and `model` is \"real_time\""),
                    "write model = \"batch\" or \"hybrid\"",
                );
            }
        }
    }
    let every = millis(t, "batch_every_ms", 60_000, 7 * 86_400_000, 3_600_000);
    let at = t.text("batch_at", "\"02:00\", in UTC");
    let at = at.and_then(|(text, span)| {
        let read = time_of_day(&text);
        if read.is_none() {
            t.fault(&span, format!("`batch_at` is \"{text}\""), "write a time of day in UTC, such as \"02:00\"");
        }
        read
    });
    let runs = Runs { every, at: at.unwrap_or_default() };
    let urgent = urgent(t);
    let model = match word {
        Word::RealTime => Model::RealTime,
        Word::Batch => Model::Batch(runs),
        Word::Hybrid => Model::Hybrid(runs, urgent.clone()),
    };
    if (word == Word::Hybrid) == urgent.is_empty() {
        let span = t.span.clone();
        match word {
            Word::Hybrid => t.fault(
                &span,
                "`model` is \"hybrid\", and no rule says which calls are written at once",
                "add a [[crm.real_time]] with field, and is or at_least",
            ),
            Word::RealTime => {}
            Word::Batch => {
                t.fault(&span, "[[crm.real_time]] takes calls out of the batch, and `model` is \"batch\"", "write model = \"hybrid\"")
            }
        }
    }
    let (on, only) = mapping.map(|m| (m.on, m.only.clone())).unwrap_or_default();
    Schedule { only, model, on }
}

fn urgent(t: &mut Table<'_>) -> Vec<Condition> {
    let mut rules = Vec::new();
    for mut rule in t.tables("real_time") {
        let (field, span) = rule.required("field", "\"disposition_code\"").unwrap_or_else(|| (String::new(), rule.span.clone()));
        let is = rule.texts("is", "[\"PAID\"]").unwrap_or_default().into_iter().map(|(text, _)| text).collect();
        let at_least = rule.integer("at_least", 0..=u64::from(u32::MAX)).and_then(|n| u32::try_from(n).ok()).map(f64::from);
        let condition = Condition { field, is, at_least };
        if let (false, Some(what)) = (condition.field.is_empty(), condition.fault()) {
            let never = format!("[[crm.real_time]] with `field` = \"{}\" takes no call out of the batch", condition.field);
            rule.fault(&span, never, what);
        }
        rule.finish();
        rules.push(condition);
    }
    rules
}

fn time_of_day(text: &str) -> Option<Duration> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (hours.parse::<u64>().ok().filter(|h| *h < 24)?, minutes.parse::<u64>().ok().filter(|m| *m < 60)?);
    Some(Duration::from_secs(hours * 3600 + minutes * 60))
}
