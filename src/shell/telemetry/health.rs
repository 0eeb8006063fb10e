//! Whether the parts of a running gateway are well.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use crate::shell::clock::Clock;

/// One part, as `/healthz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// What is wrong, and since when where that is known; of a part that is well, what somebody should look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// All parts. Copies share them.
#[derive(Clone, Debug)]
pub struct Health {
    clock: Clock,
    parts: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

#[derive(Debug)]
enum State {
    Beats(Arc<AtomicU64>),
    Said(Result<(), String>),
    Noted(String),
}

/// A loop shows that it turns.
#[derive(Clone, Debug)]
pub struct Heart {
    clock: Clock,
    last: Arc<AtomicU64>,
}

impl Heart {
    /// Called each turn, at least every [`PERIOD`].
    pub fn beat(&self) {
        self.last.store(self.clock.mono().as_micros(), Ordering::Relaxed);
    }

    /// How often a loop has to turn even when there is nothing to do.
    pub const PERIOD: Duration = Duration::from_secs(1);
}

impl Health {
    /// Without parts, hence well.
    pub fn new(clock: Clock) -> Self {
        Self { clock, parts: Arc::default() }
    }

    /// A loop that has to beat from now on.
    pub fn heart(&self, name: &'static str) -> Heart {
        let heart = Heart { clock: self.clock.clone(), last: Arc::default() };
        heart.beat();
        self.with(|parts| parts.insert(name, State::Beats(heart.last.clone())));
        heart
    }

    /// What a part says of itself.
    pub fn say(&self, name: &'static str, state: Result<(), String>) {
        self.with(|parts| parts.insert(name, State::Said(state)));
    }

    /// A part is well, and somebody should look at something all the same.
    pub fn note(&self, name: &'static str, what: String) {
        self.with(|parts| parts.insert(name, State::Noted(what)));
    }

    /// Takes a part out: it ended as it should.
    pub fn forget(&self, name: &'static str) {
        self.with(|parts| parts.remove(name));
    }

    /// All parts, by name.
    pub fn parts(&self) -> Vec<Part> {
        let now = self.clock.mono();
        self.with(|parts| {
            let part = |(name, state): (&&'static str, &State)| {
                let why = match state {
                    State::Noted(what) => return Part { name, ok: true, why: Some(what.clone()) },
                    State::Said(said) => said.clone().err(),
                    State::Beats(last) => {
                        let quiet = now.since(crate::time::Instant::from_micros(last.load(Ordering::Relaxed)));
                        (quiet > STUCK).then(|| format!("has not turned for {} s", quiet.as_secs()))
                    }
                };
                Part { name, ok: why.is_none(), why }
            };
            parts.iter().map(part).collect()
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<&'static str, State>) -> T) -> T {
        f(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A loop that has not turned for so long is stuck; several of its periods, so that a stalled disk does not make it flicker.
const STUCK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_well_until_it_says_otherwise() {
        let health = Health::new(Clock::new());
        let heart = health.heart("gateway");
        health.say("journal", Err("no space left".into()));
        let bad = |h: &Health| h.parts().into_iter().filter(|p| !p.ok).map(|p| p.name).collect::<Vec<_>>();
        health.note("quarantine", "look at it".into());
        assert_eq!(bad(&health), ["journal"]);
        health.say("journal", Ok(()));
        assert_eq!(bad(&health), [""; 0]);
        // Its clock's origin lies a second back; a beat there is a second old, one further back is not to be had.
        heart.last.store(0, Ordering::Relaxed);
        assert_eq!(bad(&health), [""; 0], "a second is not stuck");
    }
}
