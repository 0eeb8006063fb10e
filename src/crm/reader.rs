//! The part of a CRM's contract that reads records back by their keys.

use serde_json::Value;

use super::{Fields, HttpAnswer, HttpRequest, Token, Verdict};
use crate::time::Wall;

/// A record as it stands in the CRM.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The key that it bears.
    pub key: String,
    /// The CRM's id.
    pub id: String,
    /// Those of the fields that were asked for which are set.
    pub fields: Fields,
}

/// Reads records back.
pub trait Reader {
    /// Keys that one request may ask for.
    fn read_max(&self) -> usize;
    /// Asks for the records that bear these keys, with these fields.
    fn read(&self, keys: &[String], fields: &[String], token: &Token) -> HttpRequest;
    /// What is there; what is not is left out. Two with one key are two.
    fn read_back(&self, answer: &HttpAnswer) -> Result<Vec<Standing>, Verdict>;
}

/// Whether what the CRM holds is what was written: some hold every value as text, and some write times in a form of their own, cut to the second (Salesforce Object
/// Reference, "Primitive Data Types").
pub fn same(written: &Value, held: &Value) -> bool {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (written, held) = (text(written), text(held));
    if written == held {
        return true;
    }
    let number = |text: &str| text.parse::<f64>().ok();
    let stamp = |text: &str| Wall::parse(text).map(Wall::as_millis);
    let time = |text: &str| stamp(text).or_else(|| text.parse().ok().filter(|ms: &i64| *ms > MILLISECONDS_FROM));
    let cut = |at: i64| (at.div_euclid(SECOND), 0);
    let split = |at: i64| (at.div_euclid(SECOND), at.rem_euclid(SECOND));
    matches!((number(&written), number(&held)), (Some(a), Some(b)) if (a - b).abs() < 1e-9)
        || matches!((time(&written), time(&held)), (Some(a), Some(b)) if a == b)
        || matches!((stamp(&written), stamp(&held)), (Some(a), Some(b)) if cut(a) == split(b))
}

/// Milliseconds of a second.
const SECOND: i64 = 1000;
/// Smaller numbers are no milliseconds since 1970.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_value_in_another_form_is_the_same() {
        for (written, held) in [
            (json!("PAID"), json!("PAID")),
            (json!(7), json!("7")),
            (json!(0.5), json!("0.50")),
            (json!(true), json!("true")),
            (json!(1_767_607_200_123_i64), json!("2026-01-05T10:00:00.123Z")),
            (json!("2026-01-05T10:00:00.123Z"), json!("2026-01-05T10:00:00.000+0000")),
            (json!("2026-01-05T10:00:00.999Z"), json!("2026-01-05T10:00:00Z")),
        ] {
            assert!(same(&written, &held), "{written} {held}");
        }
        for (written, held) in [
            (json!("PAID"), json!("paid")),
            (json!(7), json!(8)),
            (json!(false), json!("")),
            (json!("2"), json!("2026-01-05T10:00:00Z")),
            // Nobody cuts to a later second, nor adds what was not said.
            (json!("2026-01-05T10:00:00.999Z"), json!("2026-01-05T10:00:01.000+0000")),
            (json!("2026-01-05T10:00:00.000Z"), json!("2026-01-05T10:00:00.123Z")),
            (json!("2026-01-05T10:00:00.123Z"), json!("2026-01-05T10:00:00.456Z")),
            // A long number is not a time because another is near it.
            (json!(123_456_789_012_i64), json!(123_456_789_000_i64)),
        ] {
            assert!(!same(&written, &held), "{written} {held}");
        }
    }
}
