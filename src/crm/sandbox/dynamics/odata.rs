//! As much of OData's addresses as a connector and a checker ask for: keys in parentheses, `$filter` with comparisons, `and`, `or`.

use serde_json::{Map, Value};

use super::schema::same;

/// What stands in the parentheses after a set.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum KeyPart {
    /// The id of a row.
    Id(String),
    /// An alternate key: columns and values.
    Alternate(Vec<(String, Value)>),
}

/// Characters that make a key's value unusable in an address.
const FORBIDDEN: [char; 10] = ['/', '<', '>', '*', '%', '&', ':', '\\', '?', '+'];

/// Splits `set(key)` into set and key; none where it is not of this form.
pub(super) fn segment(text: &str) -> Option<(&str, Option<KeyPart>)> {
    let Some((set, rest)) = text.split_once('(') else { return Some((text, None)) };
    let inner = rest.strip_suffix(')')?;
    if !inner.contains('=') {
        return Some((set, Some(KeyPart::Id(inner.trim_matches('\'').to_ascii_lowercase()))));
    }
    let mut words = words(inner)?.into_iter();
    let mut pairs = Vec::new();
    loop {
        let (Word::Name(name), Word::Name(sign)) = (words.next()?, words.next()?) else { return None };
        let value = (sign == "=").then(|| words.next()).flatten()?.value();
        pairs.push((name, value));
        match words.next() {
            None => return Some((set, Some(KeyPart::Alternate(pairs)))),
            Some(Word::Name(comma)) if comma == "," => {}
            Some(_) => return None,
        }
    }
}

/// Whether a key's value can be named in an address.
pub(super) fn usable(value: &Value) -> bool {
    value.as_str().is_none_or(|text| !text.is_empty() && !text.contains(FORBIDDEN))
}

/// A condition on rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    Is(String, Comparison, Value),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

/// How a column compares with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Filter {
    /// Reads one; none where it is not of this form.
    pub(super) fn read(text: &str) -> Option<Self> {
        let words = words(text)?;
        let mut rest = words.as_slice();
        let filter = any(&mut rest)?;
        rest.is_empty().then_some(filter)
    }

    /// The columns that it asks of.
    pub(super) fn columns(&self) -> Vec<&str> {
        match self {
            Self::Is(column, ..) => vec![column],
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::columns).collect(),
        }
    }

    /// Whether a row fulfils it.
    pub(super) fn holds(&self, row: &Map<String, Value>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(row)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(row)),
            Self::Is(column, comparison, value) => {
                let held = row.get(column).unwrap_or(&Value::Null);
                let order = match (held, value) {
                    (Value::String(a), Value::String(b)) => Some(a.to_lowercase().cmp(&b.to_lowercase())),
                    _ => held.as_f64().zip(value.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
                };
                match comparison {
                    Comparison::Equal => same(held, value),
                    Comparison::Unequal => !same(held, value),
                    Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
                    Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
                    Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
                    Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
                }
            }
        }
    }
}

fn any(words: &mut &[Word]) -> Option<Filter> {
    let mut parts = vec![all(words)?];
    while taken(words, "or") {
        parts.push(all(words)?);
    }
    Some(if parts.len() == 1 { parts.remove(0) } else { Filter::Any(parts) })
}

fn all(words: &mut &[Word]) -> Option<Filter> {
    let mut parts = vec![one(words)?];
    while taken(words, "and") {
        parts.push(one(words)?);
    }
    Some(if parts.len() == 1 { parts.remove(0) } else { Filter::All(parts) })
}

fn one(words: &mut &[Word]) -> Option<Filter> {
    if taken(words, "(") {
        let filter = any(words)?;
        return taken(words, ")").then_some(filter);
    }
    let [Word::Name(column), Word::Name(comparison), value, rest @ ..] = words else { return None };
    let comparison = match comparison.as_str() {
        "eq" => Comparison::Equal,
        "ne" => Comparison::Unequal,
        "lt" => Comparison::Less,
        "le" => Comparison::LessOrEqual,
        "gt" => Comparison::Greater,
        "ge" => Comparison::GreaterOrEqual,
        _ => return None,
    };
    let filter = Filter::Is(column.clone(), comparison, value.clone().value());
    *words = rest;
    Some(filter)
}

fn taken(words: &mut &[Word], wanted: &str) -> bool {
    match words {
        [Word::Name(word), rest @ ..] if word == wanted => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[derive(Clone, Debug)]
enum Word {
    /// A name, a sign, a number, a date.
    Name(String),
    /// A text in quotation marks.
    Text(String),
}

impl Word {
    fn value(self) -> Value {
        match self {
            Self::Text(text) => Value::String(text),
            Self::Name(word) => match word.as_str() {
                "null" => Value::Null,
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => word.parse::<serde_json::Number>().map_or(Value::String(word), Value::Number),
            },
        }
    }
}

fn words(text: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            c if c.is_whitespace() => {}
            '(' | ')' | ',' | '=' => words.push(Word::Name(first.to_string())),
            '\'' => {
                let mut word = String::new();
                loop {
                    match rest.next()? {
                        '\'' if rest.next_if_eq(&'\'').is_some() => word.push('\''),
                        '\'' => break,
                        other => word.push(other),
                    }
                }
                words.push(Word::Text(word));
            }
            other => {
                let mut word = String::from(other);
                while let Some(next) = rest.next_if(|c| !c.is_whitespace() && !"(),='".contains(*c)) {
                    word.push(next);
                }
                words.push(Word::Name(word));
            }
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_an_id_or_columns() {
        assert_eq!(segment("tasks"), Some(("tasks", None)));
        assert_eq!(segment("tasks(0A-1)"), Some(("tasks", Some(KeyPart::Id("0a-1".into())))));
        let alternate = KeyPart::Alternate(vec![("a".into(), json!("it's")), ("b".into(), json!(5))]);
        assert_eq!(segment("tasks(a='it''s',b=5)"), Some(("tasks", Some(alternate))));
        for bad in ["tasks(a='x'", "tasks(a='x)", "tasks(a=)", "tasks(a='x'b='y')"] {
            assert_eq!(segment(bad), None, "{bad}");
        }
        assert!(usable(&json!("ab12")) && !usable(&json!("a+b")) && !usable(&json!("")));
    }

    #[test]
    fn a_filter_is_read_and_nothing_else() {
        let row = json!({"a": "X", "n": 3, "at": "2026-01-05T10:00:00Z"});
        let row = row.as_object().expect("a row");
        let holds = |text: &str| Filter::read(text).map(|filter| filter.holds(row));
        assert_eq!(holds("a eq 'x' or b eq 'y'"), Some(true));
        assert_eq!(holds("a eq 'x' and b eq 'y'"), Some(false));
        assert_eq!(holds("(a eq 'z' or n ge 3) and at gt 2026-01-05T09:00:00Z"), Some(true));
        assert_eq!(holds("b eq null and a ne null"), Some(true));
        for bad in ["", "a", "a eq", "a is 'x'", "(a eq 'x'", "a eq 'x' b eq 'y'", "contains(a,'x')"] {
            assert_eq!(Filter::read(bad), None, "{bad}");
        }
    }
}
