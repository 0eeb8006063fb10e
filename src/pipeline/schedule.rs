//! When what is known of a call is written to a CRM: as it happens, in batches, or by rule some of it at once and the rest in batches.

use std::time::Duration;

use serde_json::{Map, Value};

use super::webhook::FIELDS;
use crate::{
    crm::mapping::{Condition, On},
    event::Kind,
    time::Wall,
};

/// When calls are written to one CRM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// Which calls are written at all: those of which one of these is true; all where there is none.
    pub only: Vec<Condition>,
    /// Which calls wait for a batch.
    pub model: Model,
    /// Which events are written while a call is under way.
    pub on: On,
}

/// Which calls wait for a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Model {
    /// None.
    #[default]
    RealTime,
    /// All.
    Batch(Runs),
    /// All but those that one of the rules takes out.
    Hybrid(Runs, Vec<Condition>),
}

/// When batches run: every so often, counted from a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// From one to the next.
    pub every: Duration,
    /// After midnight, UTC.
    pub at: Duration,
}

/// When a write is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Wall,
    /// Behind those of calls as they happen.
    pub(super) backlog: bool,
}

impl Runs {
    /// The last run at or before `at`.
    pub fn until(&self, at: Wall) -> Wall {
        let every = i64::try_from(self.every.as_micros()).unwrap_or(i64::MAX).max(1);
        let offset = i64::try_from(self.at.as_micros()).unwrap_or(0);
        let since = at.as_micros().saturating_sub(offset);
        Wall::from_micros(since.div_euclid(every).saturating_mul(every).saturating_add(offset))
    }

    /// The first run behind `at`.
    pub fn after(&self, at: Wall) -> Wall {
        self.until(at) + self.every
    }

    /// The run before one.
    pub fn before(&self, run: Wall) -> Wall {
        run - self.every
    }
}

impl Schedule {
    /// When its batches run; none where there are none.
    pub fn runs(&self) -> Option<&Runs> {
        match &self.model {
            Model::RealTime => None,
            Model::Batch(runs) | Model::Hybrid(runs, _) => Some(runs),
        }
    }

    /// Whether this call is written at all.
    pub fn takes(&self, record: &Map<String, Value>) -> bool {
        self.only.is_empty() || self.only.iter().any(|condition| condition.holds(record))
    }

    /// Whether a call may be written of which a platform tells `data`. A condition on what platforms tell is judged by that: who tells a call's disposition
    /// tells what belongs to it. One on what the gateway knows stays open.
    pub(super) fn may_take(&self, data: &Map<String, Value>) -> bool {
        let open = |condition: &Condition| !condition.field.split('.').next().is_some_and(|name| FIELDS.contains(&name));
        self.only.is_empty() || self.only.iter().any(|condition| open(condition) || condition.holds(data))
    }

    /// When the record of a call that is over is due, of which something became known at `at`.
    pub(super) fn due(&self, record: &Map<String, Value>, at: Wall) -> Due {
        match &self.model {
            Model::RealTime => Due { at, backlog: false },
            Model::Hybrid(_, urgent) if urgent.iter().any(|rule| rule.holds(record)) => Due { at, backlog: false },
            Model::Batch(runs) | Model::Hybrid(runs, _) => Due { at: runs.after(at), backlog: true },
        }
    }

    /// When the record of a call under way is due, of which `event` became known at `at`; none where that is not written before the call's end.
    pub(super) fn under_way(&self, event: &Kind, at: Wall) -> Option<Due> {
        let writes = match event {
            Kind::Started { .. } => self.on.started.writes(),
            Kind::Answered { .. } => self.on.answered.writes(),
            Kind::Transferred { .. } => self.on.transferred.writes(),
            _ => false,
        };
        (writes && self.model == Model::RealTime).then(|| Due { at: at + SETTLING, backlog: false })
    }
}

/// A call that is over within this time is written once, not twice: most that nobody takes are.
const SETTLING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(h: u64) -> Duration {
        Duration::from_secs(h * 3600)
    }

    #[test]
    fn runs_are_counted_from_a_time_of_day() {
        let at = |text: &str| Wall::parse(text).expect("a time");
        let daily = Runs { every: hours(24), at: hours(2) };
        assert_eq!(daily.after(at("2026-01-05T01:59:59Z")), at("2026-01-05T02:00:00Z"));
        assert_eq!(daily.after(at("2026-01-05T02:00:00Z")), at("2026-01-06T02:00:00Z"));
        assert_eq!(daily.until(at("2026-01-05T02:00:00Z")), at("2026-01-05T02:00:00Z"));
        let quarterly = Runs { every: hours(6), at: hours(2) };
        assert_eq!(quarterly.after(at("2026-01-05T15:00:00Z")), at("2026-01-05T20:00:00Z"));
    }
}
