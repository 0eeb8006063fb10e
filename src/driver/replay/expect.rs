//! Expectations: the report's own JSON with whatever its author keeps. What it names must be equal, what it leaves out is not looked at.

use std::fmt;

use serde_json::{Map, Value};

/// Where a report is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Such as `calls[0].digits[2].digit`.
    pub path: String,
    /// What the expectation names; none for something that it does not have.
    pub expected: Option<Value>,
    /// What the report holds.
    pub found: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.path, shown(self.expected.as_ref()), shown(self.found.as_ref()))
    }
}

/// Longer values are cut in a line for people.
const SHOWN_MAX: usize = 160;

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".into() };
    // Of a message in a ladder its summary says most.
    let text = match value.get("summary").and_then(Value::as_str) {
        Some(summary) => format!("\"{summary}\" at {} ms", value.get("at_ms").unwrap_or(&Value::Null)),
        None => value.to_string(),
    };
    if text.chars().count() <= SHOWN_MAX { text } else { text.chars().take(SHOWN_MAX).chain("…".chars()).collect() }
}

/// Everything in which `found` is not as `expected` says.
pub fn differences(expected: &Value, found: &Value) -> Vec<Difference> {
    let mut all = Vec::new();
    compare("", expected, Some(found), &mut all);
    all
}

fn compare(path: &str, expected: &Value, found: Option<&Value>, all: &mut Vec<Difference>) {
    match (expected, found) {
        (Value::Object(expected), Some(Value::Object(found))) => {
            for (name, value) in expected {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                // What is absent is null.
                compare(&path, value, Some(found.get(name).unwrap_or(&Value::Null)), all);
            }
        }
        (Value::Array(expected), Some(Value::Array(found))) => {
            let (starts, ends) = alike(expected, found);
            let middle = |all: &[Value]| all.len().saturating_sub(ends);
            for index in starts..middle(expected).max(middle(found)) {
                let path = format!("{path}[{index}]");
                let of = |all: &'_ [Value]| all.get(index).filter(|_| index < middle(all)).cloned();
                match (of(expected), of(found)) {
                    (Some(value), Some(found)) => compare(&path, &value, Some(&found), all),
                    (expected, found) => all.push(Difference { path, expected, found }),
                }
            }
        }
        (expected, found) => {
            if found != Some(expected) {
                all.push(Difference { path: path.to_owned(), expected: Some(expected.clone()), found: found.cloned() });
            }
        }
    }
}

/// How many entries of two lists agree at the start, and at the end of lists of unlike length: one that is missing in the middle is told once, not
/// with all that follow.
fn alike(expected: &[Value], found: &[Value]) -> (usize, usize) {
    let same = |(a, b): &(&Value, &Value)| differences(a, b).is_empty();
    let starts = expected.iter().zip(found).take_while(same).count();
    let rest = if expected.len() == found.len() { 0 } else { expected.len().min(found.len()).saturating_sub(starts) };
    (starts, expected.iter().rev().zip(found.iter().rev()).take(rest).take_while(same).count())
}

/// An expectation of everything in a report that is the same on every run: chance gives call ids, tags and RTP sources anew with each version of
/// the gateway, so that they are left out where it made them.
pub fn bless(report: &Value) -> Value {
    let mut blessed = report.clone();
    let calls = blessed.get_mut("calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
        let ids = call.get("events").and_then(Value::as_array).into_iter().flatten().filter_map(|e| e.get("subject")?.as_str());
        let ids = ids.map(str::to_owned).collect::<Vec<_>>();
        for made in ["events", "forwarded", "writes", "sent"] {
            if let Some(value) = call.get_mut(made) {
                without_chance(value, &ids);
            }
        }
        // Its own ports are drawn too.
        for stream in call.get_mut("forwarded").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
            stream.remove("from");
        }
        if call.get("events").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            call.remove("events");
        }
    }
    blessed
}

/// What chance or the clock of the process gives.
const BY_CHANCE: [&str; 9] = ["id", "subject", "time", "call_id", "sip_call_id", "sip_call_ids", "ssrc", "first_seq", "last_seq"];

fn without_chance(value: &mut Value, ids: &[String]) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| !BY_CHANCE.contains(&name.as_str()) && name != "key" && !names(value, ids));
            fields.values_mut().for_each(|value| without_chance(value, ids));
        }
        Value::Array(all) => all.iter_mut().for_each(|value| without_chance(value, ids)),
        _ => {}
    }
}

fn names(value: &Value, ids: &[String]) -> bool {
    value.as_str().is_some_and(|text| ids.iter().any(|id| text.contains(id.as_str())))
}

/// Reads an expectation.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<Map<String, Value>>(text).map(Value::Object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(expected: &Value, found: &Value) -> Vec<String> {
        differences(expected, found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_left_out_is_not_looked_at() {
        let found = json!({"frames": 7, "calls": [{"codec": "PCMU", "digits": [{"digit": "5", "at_ms": 3}]}]});
        assert_eq!(told(&json!({"calls": [{"digits": [{"digit": "5"}]}]}), &found), [""; 0]);
        assert_eq!(told(&json!({"calls": [{"peer_call_id": null}]}), &found), [""; 0], "absent is null");
        assert_eq!(told(&json!({"calls": [{"codec": "PCMA"}]}), &found), [r#"calls[0].codec: expected "PCMA", found "PCMU""#]);
    }

    #[test]
    fn what_is_missing_in_the_middle_is_told_once() {
        let ladder = |words: &[&str]| json!({"ladder": words.iter().map(|w| json!({"at_ms": 1, "summary": w})).collect::<Vec<_>>()});
        let whole = ladder(&["INVITE", "200 OK", "ACK", "BYE", "200 OK"]);
        assert_eq!(told(&whole, &ladder(&["INVITE", "200 OK", "ACK", "200 OK"])), [r#"ladder[3]: expected "BYE" at 1 ms, found nothing"#]);
        assert_eq!(told(&whole, &ladder(&["INVITE", "ACK", "200 OK", "BYE", "200 OK"])).len(), 2, "two places exchanged");
        let more = ladder(&["INVITE", "200 OK", "ACK", "BYE", "200 OK", "BYE"]);
        assert_eq!(told(&whole, &more), [r#"ladder[5]: expected nothing, found "BYE" at 1 ms"#]);
    }

    #[test]
    fn a_blessed_report_is_met_by_itself_and_holds_nothing_of_chance() {
        let report = json!({"frames": 3, "calls": [{"call_id": "a@b", "events": [{"id": "X/1", "subject": "X", "type": "call.ended", "data": {"call_id": "X", "talk_ms": 5}}],
            "writes": [{"crm": "c", "key": "ab", "fields": {"offhook_call_id": "X", "talk": 5}}]}]});
        let blessed = bless(&report);
        assert_eq!(told(&blessed, &report), [""; 0]);
        assert_eq!(
            blessed,
            json!({"frames": 3, "calls": [{"call_id": "a@b", "events": [{"type": "call.ended", "data": {"talk_ms": 5}}], "writes": [{"crm": "c", "fields": {"talk": 5}}]}]})
        );
    }
}
