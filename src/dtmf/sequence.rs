//! Knows a sequence of keys, such as `*7`, and holds back what may still belong to it.

use std::{collections::VecDeque, time::Duration};

use super::Digit;
use crate::time::Instant;

/// Watches for one sequence. `T` is whatever comes along with a key and is given back with it.
#[derive(Clone, Debug)]
pub struct Matcher<T> {
    sequence: Vec<Digit>,
    held: VecDeque<(Digit, T)>,
    last: Option<Instant>,
}

/// What a key comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched<T> {
    /// Keys that belong to no sequence, oldest first: they may go on.
    pub free: Vec<(Digit, T)>,
    /// The sequence is whole; its keys are gone.
    pub whole: bool,
}

/// How long a key is held back for the next of its sequence: longer than a person hesitates between two.
pub const HOLD: Duration = Duration::from_secs(2);

impl<T> Matcher<T> {
    /// A matcher for `sequence`; an empty one never matches and holds nothing.
    pub const fn new(sequence: Vec<Digit>) -> Self {
        Self { sequence, held: VecDeque::new(), last: None }
    }

    /// A key came.
    pub fn handle(&mut self, now: Instant, digit: Digit, with: T) -> Matched<T> {
        let mut free = self.handle_timeout(now);
        self.held.push_back((digit, with));
        self.last = Some(now);
        // What is held is always the longest end of the keys so far that begins the sequence.
        while !self.sequence.iter().zip(&self.held).all(|(a, (b, _))| a == b) || self.held.len() > self.sequence.len() {
            match self.held.pop_front() {
                Some(key) => free.push(key),
                None => break,
            }
        }
        let whole = !self.sequence.is_empty() && self.held.len() == self.sequence.len();
        if whole {
            self.held.clear();
        }
        Matched { free, whole }
    }

    /// Keys whose sequence did not go on.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<(Digit, T)> {
        match self.next_timeout() {
            Some(at) if at <= now => self.release(),
            _ => Vec::new(),
        }
    }

    /// When to ask for them.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.last.filter(|_| !self.held.is_empty()).map(|last| last + HOLD)
    }

    /// Gives back all that is held, oldest first.
    pub fn release(&mut self) -> Vec<(Digit, T)> {
        self.held.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(matcher: &mut Matcher<()>, text: &str) -> (String, u32) {
        let mut free = Vec::new();
        let mut whole = 0;
        for digit in Digit::parse_all(text).expect("keys") {
            let matched = matcher.handle(Instant::from_millis(0), digit, ());
            free.extend(matched.free.into_iter().map(|(d, ())| d));
            whole += u32::from(matched.whole);
        }
        (super::super::to_text(&free), whole)
    }

    fn matcher(text: &str) -> Matcher<()> {
        Matcher::new(Digit::parse_all(text).expect("keys"))
    }

    #[test]
    fn a_key_is_held_only_while_it_may_belong() {
        assert_eq!(keys(&mut matcher("*7"), "12*"), ("12".into(), 0));
        assert_eq!(keys(&mut matcher("*7"), "12*3"), ("12*3".into(), 0));
        assert_eq!(keys(&mut matcher("*7"), "1*79"), ("19".into(), 1));
        assert_eq!(keys(&mut matcher("*7"), "**7*7"), ("*".into(), 2));
        assert_eq!(keys(&mut matcher("1121"), "1112112"), ("112".into(), 1), "the first 1 is one too many, and 12 begins nothing");
        assert_eq!(keys(&mut matcher(""), "12"), ("12".into(), 0));
    }

    #[test]
    fn a_sequence_that_does_not_go_on_is_given_back() {
        let mut matcher = matcher("*7");
        assert_eq!(keys(&mut matcher, "*"), (String::new(), 0));
        assert_eq!(matcher.next_timeout(), Some(Instant::from_millis(2000)));
        assert!(matcher.handle_timeout(Instant::from_millis(1999)).is_empty());
        assert_eq!(matcher.handle_timeout(Instant::from_millis(2000)).len(), 1);
        assert_eq!(matcher.next_timeout(), None);
    }
}
