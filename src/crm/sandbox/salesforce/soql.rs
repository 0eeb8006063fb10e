//! As much of SOQL as a connector and a checker ask for: `SELECT a, b FROM Object WHERE x = 'v' OR y IN ('v', 'w') LIMIT n`.

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) fields: Vec<String>,
    pub(super) object: String,
    /// Any of these holds.
    pub(super) any: Vec<(String, Vec<String>)>,
    pub(super) limit: usize,
}

/// Records that a query gives where it does not say how many.
const LIMIT: usize = 2000;

impl Query {
    /// Reads one; none where it is not of this form.
    pub(super) fn read(text: &str) -> Option<Self> {
        let words = words(text)?;
        let mut words = words.iter().map(String::as_str).peekable();
        let is = |word: Option<&str>, wanted: &str| word.is_some_and(|w| w.eq_ignore_ascii_case(wanted));
        if !is(words.next(), "SELECT") {
            return None;
        }
        let mut fields = Vec::new();
        loop {
            fields.push(words.next()?.to_owned());
            match words.next()? {
                "," => {}
                from if from.eq_ignore_ascii_case("FROM") => break,
                _ => return None,
            }
        }
        let object = words.next()?.to_owned();
        let mut query = Self { fields, object, any: Vec::new(), limit: LIMIT };
        while let Some(word) = words.next() {
            match word.to_ascii_uppercase().as_str() {
                "WHERE" | "OR" => {
                    let field = words.next()?.to_owned();
                    let values = match words.next()? {
                        "=" => vec![literal(words.next()?)?],
                        list if list.eq_ignore_ascii_case("IN") => {
                            let mut values = Vec::new();
                            let mut next = words.next().filter(|w| *w == "(").and(words.next())?;
                            loop {
                                values.push(literal(next)?);
                                match words.next()? {
                                    "," => next = words.next()?,
                                    ")" => break values,
                                    _ => return None,
                                }
                            }
                        }
                        _ => return None,
                    };
                    query.any.push((field, values));
                }
                "LIMIT" => query.limit = words.next()?.parse().ok()?,
                _ => return None,
            }
        }
        Some(query)
    }
}

fn literal(word: &str) -> Option<String> {
    word.strip_prefix('\'').map(str::to_owned)
}

/// Words, signs, and literals, these with one quotation mark before them and unescaped.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            c if c.is_whitespace() => {}
            ',' | '(' | ')' | '=' => words.push(first.to_string()),
            '\'' => {
                let mut word = String::from('\'');
                loop {
                    match rest.next()? {
                        '\'' => break,
                        '\\' => word.push(rest.next()?),
                        other => word.push(other),
                    }
                }
                words.push(word);
            }
            other => {
                let mut word = String::from(other);
                while let Some(next) = rest.next_if(|c| !c.is_whitespace() && !",()='".contains(*c)) {
                    word.push(next);
                }
                words.push(word);
            }
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_and_nothing_else() {
        let query = Query::read("SELECT Id, Phone FROM Contact WHERE Phone IN ('+49','it\\'s') OR Name = 'x' LIMIT 5").expect("a query");
        assert_eq!(
            (query.fields.as_slice(), query.object.as_str(), query.limit),
            (&["Id".to_owned(), "Phone".to_owned()][..], "Contact", 5)
        );
        assert_eq!(query.any, [("Phone".to_owned(), vec!["+49".to_owned(), "it's".to_owned()]), ("Name".to_owned(), vec!["x".to_owned()])]);
        for bad in ["", "DELETE FROM Contact", "SELECT Id", "SELECT Id FROM C WHERE a > 'b'", "SELECT Id FROM C WHERE a = 'b"] {
            assert_eq!(Query::read(bad), None, "{bad}");
        }
    }
}
