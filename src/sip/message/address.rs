//! Addresses as From, To and Contact have them (RFC 3261 §20.10).

use std::fmt;

use super::Error;
use crate::sip::uri::{self, Uri};

/// `"Display" <uri>;params`, or a bare URI with the header's parameters (RFC 3261 §20.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name, quotes and escapes undone.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    params: String,
}

impl NameAddr {
    /// A bare address in angle brackets.
    pub fn new(uri: Uri) -> Self {
        Self { display: None, uri, params: String::new() }
    }

    /// Reads one value.
    pub fn parse(value: &str) -> Result<Self, Error> {
        let value = value.trim();
        let open = find_unquoted(value, '<');
        let Some(open) = open else {
            // RFC 3261 §20.10: without angle brackets the parameters are the header's, not the URI's.
            let (uri, params) = value.split_at_checked(value.find(';').unwrap_or(value.len())).unwrap_or((value, ""));
            return Ok(Self { display: None, uri: uri.parse()?, params: params.to_owned() });
        };
        let (display, after) = value.split_at_checked(open).unwrap_or((value, ""));
        let Some((uri, params)) = after.get(1..).and_then(|a| a.split_once('>')) else {
            return Err(Error::bad("an address whose angle bracket is not closed (RFC 3261 §20.10)"));
        };
        let display = display.trim();
        let display = match display.strip_prefix('"') {
            Some(rest) => Some(unquote(
                rest.strip_suffix('"').ok_or_else(|| Error::bad("a display name whose quote is not closed (RFC 3261 §25.1)"))?,
            )),
            None => (!display.is_empty()).then(|| display.to_owned()),
        };
        Ok(Self { display, uri: uri.parse()?, params: params.trim().to_owned() })
    }

    /// A header parameter's value, `""` for a flag.
    pub fn param(&self, name: &str) -> Option<&str> {
        uri::param(&self.params, name)
    }

    /// All parameters in order, `None` for a flag.
    pub fn params(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        uri::params(&self.params)
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.param("tag")
    }

    /// With a tag.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        if self.tag().is_none() {
            self.params.push_str(&format!(";tag={tag}"));
        }
        self
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "\"{}\" ", display.replace('\\', "\\\\").replace('"', "\\\""))?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

fn find_unquoted(text: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(at, c)| {
        if escaped {
            escaped = false;
            return None;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return Some(at),
            _ => {}
        }
        None
    })
}

fn unquote(text: &str) -> String {
    let mut escaped = false;
    text.chars()
        .filter(|c| {
            let keep = escaped || *c != '\\';
            escaped = !keep;
            keep
        })
        .collect()
}
