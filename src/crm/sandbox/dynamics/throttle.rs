//! The three limits that protect the service: requests, time and concurrency of one user over five minutes.

use std::{collections::VecDeque, time::Duration};

use super::{Answer, Refusal};
use crate::time::Wall;

/// What one user has asked for.
#[derive(Debug)]
pub(super) struct Throttle {
    pub(super) requests_max: usize,
    /// When each request of the window came, and when it was over.
    window: VecDeque<(Wall, Wall)>,
    /// Refusals in a row: the longer a client keeps on, the longer it has to wait.
    refused: u32,
}

/// The window.
const WINDOW: Duration = Duration::from_secs(300);
/// Requests in a window.
const REQUESTS_MAX: usize = 6000;
/// All requests of a window may take so long together.
const TIME_MAX: Duration = Duration::from_secs(1200);
/// Requests at a time.
const CONCURRENT_MAX: usize = 52;
/// The longest wait that is asked for, seconds.
const WAIT_MAX_S: u64 = 300;

impl Default for Throttle {
    fn default() -> Self {
        Self { requests_max: REQUESTS_MAX, window: VecDeque::new(), refused: 0 }
    }
}

impl Throttle {
    /// A request that takes so long: the answer where it is over a limit.
    pub(super) fn take(&mut self, now: Wall, takes: Duration) -> Option<Answer> {
        while self.window.front().is_some_and(|(came, _)| *came + WINDOW <= now) {
            self.window.pop_front();
        }
        let span =
            |(from, to): &(Wall, Wall)| Duration::from_millis(u64::try_from(to.as_millis().saturating_sub(from.as_millis())).unwrap_or(0));
        let time: Duration = self.window.iter().map(span).sum();
        let at_once = self.window.iter().filter(|(_, over)| *over > now).count();
        let over = if self.window.len() >= self.requests_max {
            let most = self.requests_max;
            Some(("0x80072322", format!("Number of requests exceeded the limit of {most} over time window of 300 seconds.")))
        } else if time > TIME_MAX {
            let text = "Combined execution time of incoming requests exceeded limit of 1,200,000 milliseconds over time window of 300 seconds. Decrease number of concurrent requests or reduce the duration of requests and try again later.";
            Some(("0x80072321", text.to_owned()))
        } else if at_once >= CONCURRENT_MAX {
            Some(("0x80072326", format!("Number of concurrent requests exceeded the limit of {CONCURRENT_MAX}.")))
        } else {
            None
        };
        match over {
            Some((code, message)) => Some(self.over(code, &message)),
            None => {
                self.refused = 0;
                self.window.push_back((now, now + takes));
                None
            }
        }
    }

    /// The answer over the limit of requests.
    pub(super) fn refuse(&mut self) -> Answer {
        self.over("0x80072322", "Number of requests exceeded the limit of 6000 over time window of 300 seconds.")
    }

    fn over(&mut self, code: &'static str, message: &str) -> Answer {
        let wait = 1_u64.checked_shl(self.refused).unwrap_or(WAIT_MAX_S).min(WAIT_MAX_S);
        self.refused = self.refused.saturating_add(1);
        let mut answer = Refusal::new(429, code, message).answer();
        answer.headers.push(("retry-after", wait.to_string()));
        answer
    }

    /// What is left, as every answer tells.
    pub(super) fn remaining(&self) -> [(&'static str, String); 1] {
        [("x-ms-ratelimit-burst-remaining-xrm-requests", self.requests_max.saturating_sub(self.window.len()).to_string())]
    }
}
