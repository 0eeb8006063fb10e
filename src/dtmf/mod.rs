//! Keys: what they are, how telephone-event (RFC 4733) and SIP INFO write them, and how a sequence of them is known.

pub mod event;
pub mod info;
pub mod sequence;

use std::fmt;

pub use sequence::Matcher;

/// A key of a telephone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digit {
    /// `0` to `9`; holds 0 to 9.
    Number(Number),
    /// `*`
    Star,
    /// `#`
    Pound,
    /// `A`
    A,
    /// `B`
    B,
    /// `C`
    C,
    /// `D`
    D,
    /// Hook flash, event 16.
    Flash,
}

/// A number from 0 to 9.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u8);

impl Digit {
    /// The key that is printed as `c`.
    pub const fn from_char(c: char) -> Option<Self> {
        Some(match c {
            '0'..='9' => Self::Number(Number(c as u8 - b'0')),
            '*' => Self::Star,
            '#' => Self::Pound,
            'A' | 'a' => Self::A,
            'B' | 'b' => Self::B,
            'C' | 'c' => Self::C,
            'D' | 'd' => Self::D,
            _ => return None,
        })
    }

    /// The key of a telephone-event code (RFC 4733 §3.2 table 3).
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0..=9 => Self::Number(Number(code)),
            10 => Self::Star,
            11 => Self::Pound,
            12 => Self::A,
            13 => Self::B,
            14 => Self::C,
            15 => Self::D,
            16 => Self::Flash,
            _ => return None,
        })
    }

    /// Its telephone-event code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Number(Number(n)) => n,
            Self::Star => 10,
            Self::Pound => 11,
            Self::A => 12,
            Self::B => 13,
            Self::C => 14,
            Self::D => 15,
            Self::Flash => 16,
        }
    }

    /// As it is printed; none for hook flash, which is no character.
    pub const fn as_char(self) -> Option<char> {
        Some(match self {
            Self::Number(Number(n)) => (b'0' + n) as char,
            Self::Star => '*',
            Self::Pound => '#',
            Self::A => 'A',
            Self::B => 'B',
            Self::C => 'C',
            Self::D => 'D',
            Self::Flash => return None,
        })
    }

    /// A text of keys, such as `*7`; none where a character is no key.
    pub fn parse_all(text: &str) -> Option<Vec<Self>> {
        text.chars().map(Self::from_char).collect()
    }
}

impl fmt::Display for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_char() {
            Some(c) => write!(f, "{c}"),
            None => f.write_str("flash"),
        }
    }
}

impl fmt::Debug for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What somebody keys is nobody's business in a log.
        f.write_str("Digit(..)")
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Number(..)")
    }
}

/// A text of keys, hook flash left out.
pub fn to_text(digits: &[Digit]) -> String {
    digits.iter().filter_map(|d| d.as_char()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_as_code_and_as_character() {
        for code in 0..=15 {
            let digit = Digit::from_code(code).expect("a key");
            assert_eq!(digit.code(), code);
            assert_eq!(Digit::from_char(digit.as_char().expect("printed")), Some(digit));
        }
        assert_eq!(Digit::from_code(16), Some(Digit::Flash));
        assert_eq!((Digit::from_code(17), Digit::from_char('x')), (None, None));
        assert_eq!(to_text(&Digit::parse_all("*7#a").expect("keys")), "*7#A");
    }

    #[test]
    fn debug_tells_no_key() {
        assert_eq!(format!("{:?}", Digit::parse_all("41")), "Some([Digit(..), Digit(..)])");
    }
}
