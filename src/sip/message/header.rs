//! The header section: lines kept verbatim and in order, and the values of those that are lists (RFC 3261 §7.3).

use super::Error;

/// Most header lines read. Far above real messages; it bounds what one datagram can cost.
const HEADERS_MAX: usize = 256;

/// One header line. The name is in its long form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name, long, as written where it was not compact.
    pub name: String,
    /// Whether it came in its compact form (RFC 3261 §7.3.3).
    pub compact: bool,
    /// The value after unfolding, without surrounding white space; octets that are no UTF-8 as the characters U+0080 to U+00FF.
    pub value: String,
}

/// The header section, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }

    /// The first line of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }

    /// Every line of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }

    /// Every value of a list header, over all its lines, split at commas outside quotes and angle brackets (RFC 3261 §7.3.1).
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(split_list)
    }

    /// Adds a line at the end.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        // A line break in a value would start a header of somebody else's choosing.
        let value: String = value.into().replace(['\r', '\n'], " ");
        self.0.push(Header { name: name.into(), compact: false, value });
    }

    /// Adds a line before all others.
    pub fn push_front(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.push(name, value);
        self.0.rotate_right(1);
    }

    /// Replaces every line of that name by one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Removes every line of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|h| !h.name.eq_ignore_ascii_case(name));
    }

    /// Replaces the first value of a list header, such as the top Via.
    pub(in crate::sip) fn replace_first(&mut self, name: &str, with: &str) {
        if let Some(line) = self.0.iter_mut().find(|h| h.name.eq_ignore_ascii_case(name)) {
            let first_len =
                split_list(&line.value).next().map_or(0, |first| first.as_ptr() as usize - line.value.as_ptr() as usize + first.len());
            let rest = line.value.get(first_len..).unwrap_or_default().to_owned();
            line.value = format!("{with}{rest}");
        }
    }
}

/// Splits at commas outside quotes and angle brackets.
fn split_list(value: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    value
        .split(move |c: char| {
            if escaped {
                escaped = false;
                return false;
            }
            match c {
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '<' if !quoted => angle = true,
                '>' if !quoted => angle = false,
                ',' if !quoted && !angle => return true,
                _ => {}
            }
            false
        })
        .map(str::trim)
        .filter(|v| !v.is_empty())
}

/// Whether a separator has nothing behind it, or a comma nothing before it: `a;;b`, `a,`, `,a`.
pub(super) fn has_empty_part(value: &str) -> bool {
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    // As if a comma stood before the value.
    let mut open = true;
    for c in value.chars() {
        if escaped {
            escaped = false;
            continue;
        }
        let outside = !quoted && !angle;
        match c {
            '\\' if quoted => escaped = true,
            '"' if !angle => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            ';' | ',' if outside && open => return true,
            ';' | ',' if outside => {
                open = true;
                continue;
            }
            _ => {}
        }
        open &= c.is_whitespace();
    }
    open
}

/// Reads the lines behind the start line. With a fault, what could be read all the same.
pub(super) fn read_headers<'a>(lines: impl Iterator<Item = &'a str>) -> (Headers, Option<Error>) {
    let mut headers: Vec<Header> = Vec::new();
    let mut fault = None;
    for line in lines {
        if line.starts_with([' ', '\t']) {
            // RFC 3261 §7.3.1: a folded line goes on with one space.
            match headers.last_mut() {
                Some(last) => last.value = format!("{} {}", last.value, line.trim()).trim().to_owned(),
                None => fault = fault.or_else(|| Some(Error::bad("a folded line before the first header (RFC 3261 §7.3.1)"))),
            }
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            fault = fault.or_else(|| Some(Error::bad("a header line without a colon (RFC 3261 §7.3.1)")));
            continue;
        };
        if headers.len() >= HEADERS_MAX {
            return (Headers(headers), Some(Error { status: 513, why: "more than 256 header lines".into() }));
        }
        let name = name.trim_end();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            fault = fault.or_else(|| Some(Error::bad("a header name that is not a token (RFC 3261 §7.3.1)")));
            continue;
        }
        let long = long_name(name);
        headers.push(Header { name: long.to_owned(), compact: long.len() != name.len(), value: value.trim().to_owned() });
    }
    (Headers(headers), fault)
}

/// The long form of a compact name (RFC 3261 §7.3.3 and the RFCs that define the others).
pub(in crate::sip) fn long_name(name: &str) -> &str {
    match name.as_bytes() {
        [letter] => match letter.to_ascii_lowercase() {
            b'v' => "Via",
            b'f' => "From",
            b't' => "To",
            b'i' => "Call-ID",
            b'm' => "Contact",
            b'l' => "Content-Length",
            b'c' => "Content-Type",
            b'e' => "Content-Encoding",
            b's' => "Subject",
            b'k' => "Supported",
            b'r' => "Refer-To",
            b'b' => "Referred-By",
            b'o' => "Event",
            b'u' => "Allow-Events",
            b'x' => "Session-Expires",
            b'y' => "Identity",
            _ => name,
        },
        _ => name,
    }
}
