//! Chance as an input: a generator seeded by the operating system at each start, by the seed in simulation.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use uuid::Uuid;

use crate::time::Wall;

/// A seeded source of tags, branches, SSRCs and ids. The same seed gives the same sequence.
#[derive(Clone)]
pub struct Chance(ChaCha12Rng);

impl std::fmt::Debug for Chance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its state would tell the tags and ids to come.
        f.write_str("Chance(..)")
    }
}

impl Chance {
    /// From 32 octets of entropy.
    pub fn from_entropy(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// From a number, for simulation and tests.
    pub fn from_seed(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// A generator of its own, split off this one.
    pub fn split(&mut self) -> Self {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        Self::from_entropy(seed)
    }

    /// 32 random bits.
    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// 64 random bits.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..below`; 0 when `below` is 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0.next_u64().checked_rem(below).unwrap_or(0)
    }

    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// 64 random bits as 16 lower-case hex digits: a SIP tag or branch (RFC 3261 §19.3 asks for at least 32 bits).
    pub fn token(&mut self) -> String {
        format!("{:016x}", self.0.next_u64())
    }

    /// A UUIDv7 (RFC 9562 §5.7) stamped `wall`.
    pub fn uuid_v7(&mut self, wall: Wall) -> Uuid {
        let mut random = [0; 10];
        self.0.fill_bytes(&mut random);
        uuid::Builder::from_unix_timestamp_millis(u64::try_from(wall.as_millis()).unwrap_or(0), &random).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let (mut a, mut b) = (Chance::from_seed(7), Chance::from_seed(7));
        assert_eq!(a.uuid_v7(Wall::from_millis(1)), b.uuid_v7(Wall::from_millis(1)));
        assert_eq!(a.token(), b.token());
        assert_ne!(a.token(), a.token());
    }
}
