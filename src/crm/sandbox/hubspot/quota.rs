//! Requests that an app may make: so many in ten seconds, so many in a day, told with each answer.

use serde_json::json;

use super::{Answer, error};
use crate::time::Wall;

/// What an app may do, and has done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    window: u64,
    day: u64,
    in_window: (i64, u64),
    in_day: (i64, u64),
}

impl Quota {
    pub(super) fn new(window: u64, day: u64) -> Self {
        Self { window, day, in_window: (0, 0), in_day: (0, 0) }
    }

    /// Counts a request; the refusal where it is one too many.
    pub(super) fn count(&mut self, now: Wall) -> Option<Answer> {
        for (kept, current) in [(&mut self.in_window, now.as_millis().div_euclid(WINDOW_MS)), (&mut self.in_day, now.day())] {
            let used = if kept.0 == current { kept.1 } else { 0 };
            *kept = (current, used + 1);
        }
        let policy = if self.in_day.1 > self.day { "DAILY" } else { "TEN_SECONDLY_ROLLING" };
        if self.in_day.1 <= self.day && self.in_window.1 <= self.window {
            return None;
        }
        let mut body = error("RATE_LIMITS", &format!("You have reached your {} limit.", policy.to_lowercase()));
        if let Some(body) = body.as_object_mut() {
            body.insert("policyName".into(), json!(policy));
            body.insert("errorType".into(), json!("RATE_LIMIT"));
        }
        Some(Answer::new(429, body))
    }

    /// What each answer tells.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        vec![
            ("x-hubspot-ratelimit-max", self.window.to_string()),
            ("x-hubspot-ratelimit-remaining", self.window.saturating_sub(self.in_window.1).to_string()),
            ("x-hubspot-ratelimit-interval-milliseconds", WINDOW_MS.to_string()),
            ("x-hubspot-ratelimit-daily", self.day.to_string()),
            ("x-hubspot-ratelimit-daily-remaining", self.day.saturating_sub(self.in_day.1).to_string()),
        ]
    }
}

/// The window of HubSpot's short limit.
const WINDOW_MS: i64 = 10_000;
