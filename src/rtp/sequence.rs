//! What sequence numbers tell of a stream: how many packets are missing, and which came twice or late.

/// Follows one source's sequence numbers.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// Source, first and highest number counted on beyond 16 bits, and packets since.
    now: Option<Run>,
    /// Lost on sources before.
    lost_before: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    ssrc: u32,
    first: u64,
    highest: u64,
    received: u64,
}

/// Where a packet stands among those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// First of a source, or so far ahead that the source must have started anew.
    First,
    /// The next one, or further on with so many missing between.
    Next {
        /// Missing.
        gap: u16,
    },
    /// Late or double.
    Late,
}

/// A step forward of more than this is a new start, not a loss: 1 minute at 20 ms (RFC 3550 appendix A.1 has MAX_DROPOUT 3000).
const GAP_MAX: u16 = 3000;
/// A step back of more than this is a new start, not lateness: 2 s (RFC 3550 appendix A.1 has MAX_MISORDER 100).
const LATE_MAX: u16 = 100;

impl Sequence {
    /// A packet came.
    pub fn handle(&mut self, ssrc: u32, sequence: u16) -> Place {
        let start = |lost_before: u64| {
            let number = u64::from(sequence);
            (Some(Run { ssrc, first: number, highest: number, received: 1 }), lost_before)
        };
        let Some(run) = self.now.as_mut().filter(|run| run.ssrc == ssrc) else {
            (self.now, self.lost_before) = start(self.lost());
            return Place::First;
        };
        let [.., high, low] = run.highest.to_be_bytes();
        let ahead = sequence.wrapping_sub(u16::from_be_bytes([high, low]));
        if (1..=GAP_MAX).contains(&ahead) {
            run.highest += u64::from(ahead);
            run.received += 1;
            return Place::Next { gap: ahead - 1 };
        }
        if ahead == 0 || ahead.wrapping_neg() <= LATE_MAX {
            // A double is not told from a late one; either way no more is missing than before.
            run.received = (run.received + u64::from(ahead != 0)).min(run.highest - run.first + 1);
            return Place::Late;
        }
        (self.now, self.lost_before) = start(self.lost());
        Place::First
    }

    /// Packets missing so far.
    pub fn lost(&self) -> u64 {
        self.lost_before + self.now.map_or(0, |run| (run.highest - run.first + 1).saturating_sub(run.received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_across_the_wrap() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.handle(1, 65_534), Place::First);
        assert_eq!(sequence.handle(1, 65_535), Place::Next { gap: 0 });
        assert_eq!(sequence.handle(1, 2), Place::Next { gap: 2 });
        assert_eq!(sequence.lost(), 2);
        assert_eq!(sequence.handle(1, 1), Place::Late);
        assert_eq!(sequence.handle(1, 2), Place::Late);
        assert_eq!(sequence.lost(), 1, "a late one is not lost, a double changes nothing");
    }

    #[test]
    fn a_new_source_or_a_leap_is_a_new_start() {
        let mut sequence = Sequence::default();
        sequence.handle(1, 10);
        sequence.handle(1, 12);
        assert_eq!(sequence.handle(2, 500), Place::First);
        assert_eq!(sequence.handle(2, 20_000), Place::First);
        assert_eq!(sequence.lost(), 1);
    }
}
