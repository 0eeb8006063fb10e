//! How a call that nobody took was met: the table from the final SIP status, and the network's own cause where one came along.

use std::collections::BTreeMap;

use crate::event::Outcome;

/// Rises with each change of the table below, so that reports over a change can be told apart.
pub const VERSION: u32 = 1;

/// The table, with what a trunk's operator knows better.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes(BTreeMap<u16, Outcome>);

impl Outcomes {
    /// The table with other outcomes for some statuses.
    pub fn with(overrides: BTreeMap<u16, Outcome>) -> Self {
        Self(overrides)
    }

    /// How a call was met that ended with `status` before an answer. `cause`: of Q.850, from the Reason header (RFC 3326) of that status: the far
    /// network's own word, which a gateway on the way may have turned into a coarser status.
    pub fn met(&self, status: u16, cause: Option<u8>) -> Outcome {
        self.0.get(&status).copied().or_else(|| cause.and_then(of_cause)).unwrap_or_else(|| of_status(status))
    }
}

/// RFC 3261 §21, RFC 8197 (607), RFC 8688 (608).
const fn of_status(status: u16) -> Outcome {
    match status {
        200..=299 => Outcome::Answered,
        486 | 600 => Outcome::Busy,
        408 | 480 => Outcome::NoAnswer,
        403 | 603 | 607 | 608 => Outcome::Rejected,
        404 | 410 | 484 | 604 => Outcome::InvalidNumber,
        487 => Outcome::Cancelled,
        503 => Outcome::Congestion,
        _ => Outcome::Failed,
    }
}

/// ITU-T Q.850 §2.2.5 to §2.2.7; those that tell no more than the status does are left to it.
const fn of_cause(cause: u8) -> Option<Outcome> {
    Some(match cause {
        17 => Outcome::Busy,
        // No user responding, no answer, subscriber absent.
        18..=20 => Outcome::NoAnswer,
        21 => Outcome::Rejected,
        // Unallocated, no route to the destination, number changed, invalid number format.
        1 | 3 | 22 | 28 => Outcome::InvalidNumber,
        // No circuit, out of order, temporary failure, congestion, channel and resources unavailable.
        34 | 38 | 41 | 42 | 44 | 47 => Outcome::Congestion,
        _ => return None,
    })
}

/// The Q.850 cause in a Reason header's values, such as `Q.850;cause=17;text="User busy"`.
pub fn q850<'v>(mut reasons: impl Iterator<Item = &'v str>) -> Option<u8> {
    reasons.find_map(|reason| {
        let mut parts = reason.split(';').map(str::trim);
        parts.next().filter(|protocol| protocol.eq_ignore_ascii_case("Q.850"))?;
        parts.find_map(|part| part.strip_prefix("cause=")?.trim().parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_knows_better_than_the_network_and_the_network_better_than_the_status() {
        let table = Outcomes::default();
        let met = |status, cause| table.met(status, cause);
        assert_eq!([met(486, None), met(600, None)], [Outcome::Busy; 2]);
        assert_eq!((met(480, None), met(404, None), met(603, None)), (Outcome::NoAnswer, Outcome::InvalidNumber, Outcome::Rejected));
        assert_eq!((met(503, None), met(487, None), met(500, None)), (Outcome::Congestion, Outcome::Cancelled, Outcome::Failed));
        assert_eq!((met(480, Some(17)), met(500, Some(1)), met(486, Some(16))), (Outcome::Busy, Outcome::InvalidNumber, Outcome::Busy));
        let ours = Outcomes::with([(480, Outcome::Rejected)].into());
        assert_eq!((ours.met(480, Some(17)), ours.met(486, None)), (Outcome::Rejected, Outcome::Busy));
    }

    #[test]
    fn a_cause_is_found_among_reasons() {
        let reason = |values: &[&str]| q850(values.iter().copied());
        assert_eq!(reason(&["SIP;cause=480", "q.850 ; cause=21 ;text=\"Call rejected\""]), Some(21));
        assert_eq!(reason(&["Q.850;text=\"none\"", "SIP;cause=17"]), None);
        assert_eq!(reason(&["Q.850;cause=999"]), None);
    }
}
