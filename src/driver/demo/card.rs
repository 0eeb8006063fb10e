//! The card number that is keyed in the secure phase, and the search for what may have been left of it.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::chance::Chance;

/// A card number: never printed, wiped when it goes.
pub struct Card(Zeroizing<String>);

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Card(..)")
    }
}

/// Why a text is no card number.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something else than digits, or too few or too many.
    #[error("--card takes 12 to 19 digits")]
    NotDigits,
}

/// Longest run of the card's digits that may stand in a file: four are what a receipt shows.
pub const RUN_MAX: usize = 4;
/// From this length on a run is no accident, wherever it stands. Shorter ones, inside a longer number or a name in hexadecimal, are met by chance: about one
/// in a hundred thousand five-digit places is one of a card's twelve runs.
const RUN_SURE: usize = 7;

/// Draws before a number is taken as it is.
const DRAWS: u32 = 1000;

impl Card {
    /// As given.
    pub fn parse(digits: &str) -> Result<Self, Error> {
        let ok = (12..=19).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        ok.then(|| Self(Zeroizing::new(digits.to_owned()))).ok_or(Error::NotDigits)
    }

    /// A test number of 16 digits with the right check digit (ISO/IEC 7812-1), none of whose runs stands in `control`: what was written before it
    /// is keyed cannot be mistaken for it afterwards.
    pub fn draw(chance: &mut Chance, control: &[u8]) -> Self {
        let taken: BTreeSet<&[u8]> = control.windows(RUN_MAX + 1).filter(|w| w.iter().all(u8::is_ascii_digit)).collect();
        let mut card = Self::random(chance);
        for _ in 0..DRAWS {
            if card.runs().iter().all(|run| !taken.contains(run.as_bytes())) {
                break;
            }
            card = Self::random(chance);
        }
        card
    }

    fn random(chance: &mut Chance) -> Self {
        let mut digits = Zeroizing::new(String::from("4"));
        for _ in 0..14 {
            digits.push(char::from(b'0' + u8::try_from(chance.below(10)).unwrap_or(0)));
        }
        let sum: u32 = digits
            .bytes()
            .rev()
            .enumerate()
            .map(|(n, b)| {
                let d = u32::from(b - b'0');
                if n % 2 == 0 { d * 2 / 10 + d * 2 % 10 } else { d }
            })
            .sum();
        digits.push(char::from(b'0' + u8::try_from((10 - sum % 10) % 10).unwrap_or(0)));
        Self(digits)
    }

    /// To be keyed.
    pub(crate) fn digits(&self) -> &str {
        &self.0
    }

    /// Each run of one digit more than may be seen.
    fn runs(&self) -> BTreeSet<String> {
        let bytes = self.0.as_bytes();
        bytes.windows(RUN_MAX + 1).map(|w| w.iter().map(|b| char::from(*b)).collect()).collect()
    }

    /// How many runs of the card stand in `text`.
    pub fn search(&self, text: &[u8]) -> Found {
        let mut found = Found::default();
        let card = self.0.as_bytes();
        let mut at = 0;
        while at < text.len() {
            let rest = text.get(at..).unwrap_or_default();
            if !rest.first().is_some_and(u8::is_ascii_digit) {
                at += 1;
                continue;
            }
            let longest = (0..card.len())
                .map(|from| card.get(from..).unwrap_or_default().iter().zip(rest).take_while(|(a, b)| a == b).count())
                .max()
                .unwrap_or(0);
            if longest <= RUN_MAX {
                at += 1;
                continue;
            }
            let before = at.checked_sub(1).and_then(|b| text.get(b));
            let after = rest.get(longest);
            let alone = |b: Option<&u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric());
            if longest >= RUN_SURE || (alone(before) && alone(after)) {
                found.leaks += 1;
            } else {
                found.accidents += 1;
            }
            at += longest;
        }
        found
    }

    /// Whether digits, taken in order, hold a run of the card.
    pub fn is_in(&self, digits: &str) -> bool {
        self.runs().iter().any(|run| digits.contains(run.as_str()))
    }
}

/// What a search met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Runs of five digits or more that stand for themselves, or of seven or more anywhere.
    pub leaks: u64,
    /// Runs of five or six inside a longer number or name, as chance has it.
    pub accidents: u64,
}

/// What was searched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Files read.
    pub files: u64,
    /// Their octets.
    pub octets: u64,
    /// Sum of what they hold.
    pub found: Found,
    /// Files with a leak.
    pub leaking: Vec<String>,
}

/// Searches each file below `folder`.
pub fn search_files(card: &Card, folder: &Path) -> io::Result<Searched> {
    let mut all = Searched::default();
    for file in files(folder)? {
        let text = std::fs::read(&file)?;
        let found = card.search(&text);
        all.files += 1;
        all.octets += u64::try_from(text.len()).unwrap_or(0);
        all.found.leaks += found.leaks;
        all.found.accidents += found.accidents;
        if found.leaks > 0 {
            all.leaking.push(file.display().to_string());
        }
    }
    Ok(all)
}

/// All that stands in files below `folder`, one after the other; what cannot be read is left out.
pub(crate) fn everything_in(folder: &Path) -> Vec<u8> {
    let files = files(folder).unwrap_or_default();
    files.iter().filter_map(|file| std::fs::read(file).ok()).flatten().collect()
}

/// Each file below `folder`, in order of their names.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_number_has_a_check_digit_and_avoids_the_control() {
        let mut chance = Chance::from_seed(3);
        let first = Card::draw(&mut chance.clone(), b"");
        let second = Card::draw(&mut chance, first.digits().as_bytes());
        assert_ne!(first.digits(), second.digits());
        assert!(!second.is_in(first.digits()));
        let luhn = |digits: &str| {
            digits
                .bytes()
                .rev()
                .enumerate()
                .map(|(n, b)| u32::from(b - b'0') * if n % 2 == 1 { 2 } else { 1 })
                .map(|d| d / 10 + d % 10)
                .sum::<u32>()
                % 10
        };
        assert_eq!((luhn(first.digits()), luhn(second.digits()), luhn("4111111111111111")), (0, 0, 0));
    }

    #[test]
    fn five_digits_alone_or_seven_anywhere_are_a_leak() {
        let card = Card::parse("4539578763621486").expect("a number");
        let leaks = |text: &str| card.search(text.as_bytes()).leaks;
        assert_eq!(leaks(r#"{"digits":"45395"}"#), 1);
        assert_eq!(leaks("keyed 4539578763621486 now"), 1);
        assert_eq!(leaks("a7f45395e"), 0);
        assert_eq!(card.search(b"a7f45395e").accidents, 1);
        assert_eq!(leaks("a7f4539578e"), 1);
        assert_eq!(leaks("4539 5787 6362 1486"), 0, "four are what a receipt shows");
        assert!(card.is_in("0057876399") && !card.is_in("4539"));
        assert_eq!(Card::parse("12345").err(), Some(Error::NotDigits));
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", Card::parse("4539578763621486")), "Ok(Card(..))");
    }
}
