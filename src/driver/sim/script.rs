//! What each phone of a seed will do, drawn before anything runs, and what must come of it.

use crate::chance::Chance;

/// A caller, and the platform's part in his call.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// When he dials, ms.
    pub(super) at_ms: u64,
    /// Which targets the number has: `0` to both, `1` to the second alone.
    pub(super) number: &'static str,
    /// He gives up after so long, if nobody has answered.
    pub(super) patience_ms: u64,
    /// What the first target does.
    pub(super) first: Manner,
    /// What the second does, where it is asked.
    pub(super) second: Manner,
    /// Keyed before the phase, ended by `#`.
    pub(super) reference: String,
    /// Keyed within a phase that the platform asks for.
    pub(super) card: Option<String>,
    /// How long they talk after the last key, ms.
    pub(super) talk_ms: u64,
    /// Whether the platform hangs up.
    pub(super) platform_hangs_up: bool,
    /// He calls over TCP.
    pub(super) tcp: bool,
    /// What its webhook says, and how often it is sent.
    pub(super) disposition: Option<(&'static str, u64)>,
}

/// Dispositions that the CRM's list has.
pub(super) const DISPOSITIONS: [&str; 3] = ["PAID", "PROMISED", "WRONG NUMBER"];
/// One that it does not have: the record is refused by validation.
pub(super) const UNHEARD_OF: &str = "UNHEARD OF";

/// What a target does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Rings, and answers after so many ms.
    Answers(u64),
    /// Refuses with a status.
    Refuses(u16),
    /// Rings for ever.
    Rings,
    /// Answers, and falls silent for good so many ms later.
    Dies(u64),
}

impl Manner {
    fn of(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0 => Self::Refuses(503),
            1 => Self::Refuses(486),
            2 => Self::Rings,
            3 => Self::Dies(1500 + chance.below(2000)),
            _ => Self::Answers(200 + chance.below(2500)),
        }
    }
}

/// Draws the scripts of a seed.
pub(super) fn scripts(chance: &mut Chance) -> Vec<Script> {
    (0..2 + chance.below(5)).map(|_| script(chance)).collect()
}

fn script(chance: &mut Chance) -> Script {
    let digits = |chance: &mut Chance, count: u64| {
        (0..count).filter_map(|_| char::from_digit(u32::try_from(chance.below(10)).ok()?, 10)).collect::<String>()
    };
    let reference = if chance.percent(60) { format!("{}#", digits(chance, 4)) } else { String::new() };
    let card = chance.percent(40).then(|| digits(chance, 16));
    let disposition = chance.percent(75).then(|| {
        let word = DISPOSITIONS.get(usize::try_from(chance.below(3)).unwrap_or(0)).copied().unwrap_or("PAID");
        let word = if chance.percent(10) { UNHEARD_OF } else { word };
        (word, 1 + chance.below(3))
    });
    Script {
        at_ms: 1000 + chance.below(12_000),
        number: if chance.percent(75) { "0" } else { "1" },
        patience_ms: 4000 + chance.below(12_000),
        first: Manner::of(chance),
        second: Manner::of(chance),
        reference,
        card,
        talk_ms: 300 + chance.below(2000),
        platform_hangs_up: chance.percent(30),
        tcp: chance.percent(25),
        disposition,
    }
}
