//! The part of a CRM's contract that reads records back by their keys.

use serde_json::Value;

use super::{Fields, HttpAnswer, HttpRequest, Token, Verdict};

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

/// Whether what the CRM holds is what was written: some hold every value as text, and some write times in a form of their own.
pub fn same(written: &Value, held: &Value) -> bool {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (written, held) = (text(written), text(held));
    if written == held {
        return true;
    }
    let number = |text: &str| text.parse::<f64>().ok();
    let time = |text: &str| {
        crate::time::Wall::parse(text)
            .map(crate::time::Wall::as_millis)
            .or_else(|| text.parse().ok().filter(|ms: &i64| *ms > MILLISECONDS_FROM))
    };
    matches!((number(&written), number(&held)), (Some(a), Some(b)) if (a - b).abs() < 1e-9)
        || matches!((time(&written), time(&held)), (Some(a), Some(b)) if a == b)
}

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
        ] {
            assert!(same(&written, &held), "{written} {held}");
        }
        for (written, held) in
            [(json!("PAID"), json!("paid")), (json!(7), json!(8)), (json!(false), json!("")), (json!("2"), json!("2026-01-05T10:00:00Z"))]
        {
            assert!(!same(&written, &held), "{written} {held}");
        }
    }
}
