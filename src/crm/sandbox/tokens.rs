//! Life of a double's tokens: given out, at their end, rotated, taken away.

use std::{collections::BTreeMap, time::Duration};

use super::REFRESH_TOKEN;
use crate::{chance::Chance, time::Wall};

#[derive(Debug)]
pub(super) struct Tokens {
    /// Each refresh gives out a new refresh token.
    rotate: bool,
    /// How long an access token is good.
    life: Duration,
    refresh: String,
    /// Access tokens and when they end.
    access: BTreeMap<String, Wall>,
    chance: Chance,
}

/// What an access token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// It was good once.
    Ended,
    /// Never given out, or taken away.
    Unknown,
}

impl Tokens {
    pub(super) fn new(rotate: bool, life: Duration, chance: Chance) -> Self {
        Self { rotate, life, refresh: REFRESH_TOKEN.into(), access: BTreeMap::new(), chance }
    }

    pub(super) const fn life(&self) -> Duration {
        self.life
    }

    /// A new access token.
    pub(super) fn give(&mut self, now: Wall) -> String {
        let access = format!("sim-access-{}{}", self.chance.token(), self.chance.token());
        self.access.retain(|_, ends| *ends > now);
        self.access.insert(access.clone(), now + self.life);
        access
    }

    /// A new access token for a refresh token, and the refresh token that is good from now on; none where it is not the latest.
    pub(super) fn refresh(&mut self, now: Wall, refresh: &str) -> Option<(String, String)> {
        if refresh != self.refresh {
            return None;
        }
        if self.rotate {
            self.refresh = format!("sim-refresh-{}", self.chance.token());
        }
        Some((self.give(now), self.refresh.clone()))
    }

    pub(super) fn standing(&self, now: Wall, access: Option<&str>) -> Standing {
        match access.and_then(|token| self.access.get(token)) {
            Some(ends) if *ends > now => Standing::Good,
            Some(_) => Standing::Ended,
            None => Standing::Unknown,
        }
    }

    pub(super) fn expire(&mut self) {
        self.access.clear();
    }
}
