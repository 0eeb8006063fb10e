//! RTP ports: even ones of a range, each resting after use, so that a late talker is not heard in the next call.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::RangeInclusive,
    time::Duration,
};

use crate::{chance::Chance, time::Instant};

/// The ports of a gateway.
#[derive(Clone, Debug)]
pub struct Ports {
    free: VecDeque<u16>,
    resting: VecDeque<(Instant, u16)>,
    used: BTreeSet<u16>,
}

impl Ports {
    /// The even ports of `range`: RTP takes them, the odd one above is RTCP's (RFC 3550 §11). They begin anywhere: after a crash those who talk on into
    /// the old calls' ports are not heard in the first new ones.
    pub fn new(range: RangeInclusive<u16>, chance: &mut Chance) -> Self {
        let mut free: VecDeque<u16> = range.filter(|p| p % 2 == 0).collect();
        let start = usize::try_from(chance.below(free.len().max(1) as u64)).unwrap_or(0);
        free.rotate_left(start);
        Self { free, resting: VecDeque::new(), used: BTreeSet::new() }
    }

    /// A port that nobody uses.
    pub fn take(&mut self, now: Instant) -> Option<u16> {
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            self.free.extend(self.resting.pop_front().map(|(_, port)| port));
        }
        let port = self.free.pop_front()?;
        self.used.insert(port);
        Some(port)
    }

    /// Gives one back.
    pub fn give(&mut self, now: Instant, port: u16) {
        if self.used.remove(&port) {
            self.resting.push_back((now + REST, port));
        }
    }

    /// How many are used.
    pub fn in_use(&self) -> usize {
        self.used.len()
    }
}

/// Longer than a peer goes on sending after a BYE that was lost once or twice.
const REST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_rests_before_it_is_used_again() {
        let at = Instant::from_millis;
        let mut ports = Ports::new(20_001..=20_004, &mut Chance::from_seed(1));
        let both: BTreeSet<_> = [ports.take(at(0)), ports.take(at(0))].into();
        assert_eq!((both, ports.take(at(0))), ([Some(20_002), Some(20_004)].into(), None));
        ports.give(at(100), 20_002);
        ports.give(at(100), 20_002);
        assert_eq!((ports.take(at(5000)), ports.in_use()), (None, 1));
        assert_eq!(ports.take(at(5100)), Some(20_002));
        assert_eq!(ports.take(at(5100)), None, "given back once");
    }
}
