//! Digits: gathered into runs for the record, and passed on as INFO where the other leg takes them so.

use std::time::Duration;

use super::{Call, Purpose, State, World};
use crate::{
    dtmf::{Digit, info},
    event::{DtmfMethod, Kind, Leg as Side},
    sip::Method,
    time::Instant,
};

/// One run of keys under way.
pub(super) struct Run {
    digits: Vec<Digit>,
    hidden: u32,
    method: DtmfMethod,
    from: Instant,
    to: Instant,
}

impl Run {
    /// When it is over unless another key comes.
    pub(super) fn ends_at(&self) -> Instant {
        self.to + PAUSE
    }
}

impl Call {
    /// A key was let go; none: a phase hides which.
    pub(super) fn digit(
        &mut self,
        world: &mut World<'_>,
        side: Side,
        digit: Option<Digit>,
        at: Instant,
        duration_ms: u32,
        method: DtmfMethod,
    ) {
        if self.state != State::Up {
            return;
        }
        // Whatever media let through just before its gate shut is not written down either.
        let digit = digit.filter(|_| !(side == Side::Caller && self.phase.hides()));
        let up = at + Duration::from_millis(u64::from(duration_ms));
        if self.runs.get(&side).is_some_and(|r| digit.is_some() != (r.hidden == 0)) {
            self.end_run(world, side);
        }
        let run = self.runs.entry(side).or_insert_with(|| Run { digits: Vec::new(), hidden: 0, method, from: at, to: up });
        run.to = run.to.max(up);
        match digit {
            Some(digit) => run.digits.push(digit),
            None => run.hidden = run.hidden.saturating_add(1),
        }
        let long = run.digits.len() >= RUN_MAX;
        if digit == Some(Digit::Pound) || long {
            self.end_run(world, side);
        }
        if let Some(digit) = digit {
            self.pass_on(world, side.other(), digit, duration_ms);
        }
    }

    /// Towards a leg that takes digits as INFO.
    fn pass_on(&mut self, world: &mut World<'_>, to: Side, digit: Digit, duration_ms: u32) {
        if self.leg(to).and_then(super::Leg::method) != Some(DtmfMethod::Info) {
            return;
        }
        self.send(world, to, Method::INFO, Purpose::Other, |request| {
            request.set_body(info::RELAY, info::body(digit, duration_ms));
        });
    }

    /// Writes a run down.
    pub(super) fn end_run(&mut self, world: &mut World<'_>, side: Side) {
        let Some(run) = self.runs.remove(&side) else { return };
        let ms = |at: Instant| at.millis_since(self.invited.mono);
        let kind = Kind::Dtmf {
            leg: side,
            digits: (run.hidden == 0).then(|| Self::keys(&run.digits)),
            count: (run.hidden > 0).then_some(run.hidden),
            method: run.method,
            from_ms: ms(run.from),
            to_ms: ms(run.to),
        };
        self.emit(world, kind);
    }

    pub(super) fn end_runs(&mut self, world: &mut World<'_>, now: Instant) {
        let over = self.runs.iter().filter(|(_, run)| run.ends_at() <= now).map(|(side, _)| *side).collect::<Vec<_>>();
        for side in over {
            self.end_run(world, side);
        }
    }

    pub(super) fn end_all_runs(&mut self, world: &mut World<'_>) {
        for side in [Side::Caller, Side::Callee] {
            self.end_run(world, side);
        }
    }
}

/// A run is over so long after its last key: longer than people take to find the next one.
const PAUSE: Duration = Duration::from_secs(3);
/// Keys in one run; more make another.
const RUN_MAX: usize = 64;
