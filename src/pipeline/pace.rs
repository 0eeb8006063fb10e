//! How hard a CRM may be worked: what its configuration says, what its answers tell of its own budget, and who goes first where there is not enough.

use std::time::Duration;

use super::{Pipeline, Store, StoreError};
use crate::{
    crm::Budget,
    time::{Instant, Now, Wall},
};

/// How hard a CRM may be worked, beside what its answers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Requests under way at a time.
    pub concurrency: usize,
    /// Records a request carries at most; the connector's own limit stands beside it.
    pub batch: usize,
    /// Requests a second on the average; none: as fast as they are answered.
    pub per_second: Option<u32>,
    /// What may be asked of it between two midnights, UTC, as the CRM counts it ([`crate::crm::Connector::cost`]); none: whatever it allows.
    pub per_day: Option<u64>,
    /// Of the budget that the CRM tells, percent: used that far, by whomever, nothing more is asked, so that people and other software can go on.
    pub day_share: u8,
    /// Of that budget and of `per_day`, percent: used that far, batches and recoveries wait, and calls go on.
    pub backlog_share: u8,
    /// Due records of a batch from which on they go as one job, where the CRM takes jobs.
    pub bulk_from: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { concurrency: 4, batch: 100, per_second: None, per_day: None, day_share: 95, backlog_share: 80, bulk_from: BULK_FROM }
    }
}

/// Which writes may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// Those of calls as they happen.
    Live,
    /// Those of batches and recoveries too, behind the others.
    All,
}

/// What may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leave {
    /// None: nothing.
    pub(super) traffic: Option<Traffic>,
    /// Where not all may: when to look again.
    pub(super) again: Option<Duration>,
}

/// What a CRM's answers told of its day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day {
    /// Percent of it that is used.
    used: u64,
    told: Instant,
}

impl Pipeline {
    /// What `crm` may be asked now.
    pub(super) fn leave(&self, now: Now, store: &impl Store, crm: &str) -> Result<Leave, StoreError> {
        let (Some(pace), Some(lane)) = (self.config.crm(crm).map(|c| c.pace), self.lanes.get(crm)) else { return Ok(Leave::ALL) };
        let spent = if pace.per_day.is_some() { store.spent(crm, now.wall.day())? } else { 0 };
        // What was sent and is not folded yet will cost something too.
        let spent = spent.saturating_add(u64::try_from(lane.requests).unwrap_or(u64::MAX));
        Ok(pace.leave(now.mono, now.wall, spent, lane.day))
    }
}

impl Pace {
    /// What the day's budgets leave. `spent`: of `per_day`.
    pub(super) fn leave(&self, now: Instant, wall: Wall, spent: u64, day: Option<Day>) -> Leave {
        let share = |percent: u8, of: u64| of.saturating_mul(u64::from(percent)) / 100;
        let mut leave = Leave::ALL;
        if let Some(per_day) = self.per_day {
            let midnight = wall.next_midnight();
            if spent >= per_day {
                leave.narrow(None, midnight);
            } else if spent >= share(self.backlog_share, per_day) {
                leave.narrow(Some(Traffic::Live), midnight);
            }
        }
        // What was told long ago may be otherwise by now: one request asks.
        if let Some(day) = day.filter(|day| now.since(day.told) < DAY_TOLD) {
            let again = DAY_TOLD.saturating_sub(now.since(day.told));
            if day.used >= u64::from(self.day_share) {
                leave.narrow(None, again);
            } else if day.used >= u64::from(self.backlog_share) {
                leave.narrow(Some(Traffic::Live), again);
            }
        }
        leave
    }
}

impl Leave {
    const ALL: Self = Self { traffic: Some(Traffic::All), again: None };

    fn narrow(&mut self, traffic: Option<Traffic>, again: Duration) {
        if traffic < self.traffic {
            (self.traffic, self.again) = (traffic, Some(again));
        } else if traffic == self.traffic {
            self.again = Some(self.again.map_or(again, |a| a.max(again)));
        }
    }
}

/// What an answer tells: of the day, and how long nothing is to be asked since a window is all but used up.
pub(super) fn learn(now: Instant, budgets: &[Budget]) -> (Option<Day>, Option<Duration>) {
    let (mut day, mut pause) = (None, None);
    for budget in budgets {
        match *budget {
            Budget::Day { used, most } if most > 0 => day = Some(Day { used: used.saturating_mul(100) / most, told: now }),
            Budget::Window { left, most, length } if left.saturating_mul(100) < most.saturating_mul(WINDOW_SPARED) => {
                pause = Some(length.min(WINDOW_MAX))
            }
            _ => {}
        }
    }
    (day, pause)
}

/// Salesforce recommends jobs from about so many records on: below that, requests are fewer.
const BULK_FROM: usize = 2000;
/// How long what a CRM told of its day is gone by, before it is asked again.
const DAY_TOLD: Duration = Duration::from_secs(900);
/// Percent of a window that are left to others: the window turns before they are used.
const WINDOW_SPARED: u64 = 5;
/// No window is longer.
const WINDOW_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn leave(pace: Pace, spent: u64, used: Option<u64>) -> (Option<Traffic>, Option<Duration>) {
        let now = Instant::from_millis(1_000_000);
        let wall = Wall::parse("2026-01-05T23:50:00Z").expect("a time");
        let (day, _) = used.map_or((None, None), |used| learn(now, &[Budget::Day { used, most: 1000 }]));
        let Leave { traffic, again } = pace.leave(now, wall, spent, day);
        (traffic, again)
    }

    #[test]
    fn a_days_budget_ends_at_midnight_and_backlog_waits_before_calls_do() {
        let pace = Pace { per_day: Some(1000), ..Pace::default() };
        assert_eq!(leave(pace, 799, None), (Some(Traffic::All), None));
        assert_eq!(leave(pace, 800, None), (Some(Traffic::Live), Some(10 * MINUTE)));
        assert_eq!(leave(pace, 1000, None), (None, Some(10 * MINUTE)));
        assert_eq!(leave(Pace::default(), u64::MAX, None), (Some(Traffic::All), None));
    }

    #[test]
    fn what_the_crm_tells_of_its_day_holds_for_a_while() {
        assert_eq!(leave(Pace::default(), 0, Some(799)), (Some(Traffic::All), None));
        assert_eq!(leave(Pace::default(), 0, Some(800)), (Some(Traffic::Live), Some(15 * MINUTE)));
        assert_eq!(leave(Pace::default(), 0, Some(950)), (None, Some(15 * MINUTE)));
        let stale = learn(Instant::ORIGIN, &[Budget::Day { used: 1000, most: 1000 }]).0;
        let later = Instant::ORIGIN + DAY_TOLD;
        assert_eq!(Pace::default().leave(later, Wall::from_millis(0), 0, stale).traffic, Some(Traffic::All), "then one request asks again");
        assert_eq!(leave(Pace { per_day: Some(1000), ..Pace::default() }, 1000, Some(800)).0, None, "the narrower of both");
    }

    #[test]
    fn a_window_that_is_all_but_used_up_is_waited_for() {
        let window = |left| Budget::Window { left, most: 100, length: Duration::from_secs(10) };
        assert_eq!(learn(Instant::ORIGIN, &[window(5)]).1, None);
        assert_eq!(learn(Instant::ORIGIN, &[window(4)]).1, Some(Duration::from_secs(10)));
    }
}
