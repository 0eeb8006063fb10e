//! Faults that a sandbox is told to have: which requests they hit, and what happens to those.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Request;

/// One rule. The first that hits a request decides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What it hits; without one it hits everything.
    #[serde(default, rename = "match")]
    pub hits: Match,
    /// What happens.
    pub action: Action,
    /// Requests of its kind so far.
    #[serde(skip)]
    seen: u64,
}

/// Which requests. All that is named must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// HTTP method.
    pub method: Option<String>,
    /// A part of the path.
    pub path: Option<String>,
    /// Only the nth request of that method and path, from 1.
    pub nth: Option<u64>,
    /// Each nth of them.
    pub every: Option<u64>,
    /// From so many seconds after the start.
    pub from_s: Option<f64>,
    /// Until so many seconds after the start.
    pub to_s: Option<f64>,
}

/// What happens to a request that is hit.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Action {
    /// It is answered with this and nothing is done.
    pub status: Option<u16>,
    /// The body of that answer; default is the vendor's own for the status.
    pub body: Option<Value>,
    /// `Retry-After` of that answer.
    pub retry_after_s: Option<u64>,
    /// It takes so much longer.
    pub delay_ms: u64,
    /// The connection is closed and nothing is done.
    pub drop: bool,
    /// It is done, and then the connection is closed.
    pub apply_then_drop: bool,
    /// All access tokens given out so far are worth nothing any more.
    pub expire_tokens: bool,
    /// What it writes to is locked, in the vendor's form.
    pub lock: bool,
}

impl Action {
    /// How much longer it takes.
    pub const fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }
}

/// What the rules say of a request that came so long after the start.
pub fn decide(faults: &mut [Fault], request: &Request, since_start: Duration) -> Option<Action> {
    let seconds = since_start.as_secs_f64();
    let mut decided = None;
    for fault in faults {
        let hits = &fault.hits;
        let of_its_kind = hits.method.as_ref().is_none_or(|m| m.eq_ignore_ascii_case(&request.method))
            && hits.path.as_ref().is_none_or(|p| request.path.contains(p.as_str()))
            && hits.from_s.is_none_or(|from| seconds >= from)
            && hits.to_s.is_none_or(|to| seconds < to);
        if !of_its_kind {
            continue;
        }
        fault.seen += 1;
        let counted = hits.nth.is_none_or(|nth| fault.seen == nth) && hits.every.is_none_or(|n| n > 0 && fault.seen.is_multiple_of(n));
        if counted && decided.is_none() {
            decided = Some(fault.action.clone());
        }
    }
    decided
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_hits_what_it_names_and_counts_its_own_kind() {
        let mut faults: Vec<Fault> = serde_json::from_str(
            r#"[{"match": {"method": "post", "path": "upsert", "nth": 2}, "action": {"status": 503}},
                {"match": {"every": 3, "from_s": 1}, "action": {"drop": true}}]"#,
        )
        .expect("rules");
        let request = |method: &str, path: &str| Request {
            method: method.into(),
            path: path.into(),
            query: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let mut hit = |method, path, ms| decide(&mut faults, &request(method, path), Duration::from_millis(ms)).map(|a| (a.status, a.drop));
        assert_eq!(hit("POST", "/x/upsert", 0), None);
        assert_eq!(hit("GET", "/x/upsert", 0), None);
        assert_eq!(hit("POST", "/x/upsert", 0), Some((Some(503), false)));
        assert_eq!(hit("POST", "/x/upsert", 1000), None);
        assert_eq!(hit("GET", "/y", 1500), None);
        assert_eq!(hit("GET", "/y", 2000), Some((None, true)));
    }

    #[test]
    fn a_rule_with_a_word_that_nobody_knows_is_refused() {
        assert!(serde_json::from_str::<Vec<Fault>>(r#"[{"action": {"statsu": 503}}]"#).is_err());
    }
}
