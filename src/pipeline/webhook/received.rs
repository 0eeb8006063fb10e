//! A webhook as the journal holds it: its body octet for octet, and of its headers those that say what the body is.
//!
//! ```text
//! 0x01  length of the head (4 octets, big endian)  head as JSON  body
//! ```
//! The first octet tells it from bodies that were journaled alone, which begin with a brace.

use serde::{Deserialize, Serialize};

use super::{Request, Scheme, Source, mask, pulled::Pulled};
use crate::time::Wall;

/// The form's first octet.
const FORM: u8 = 1;

/// A webhook out of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<'e> {
    /// What stood around the body.
    pub head: Head,
    /// The body as it came.
    pub body: &'e [u8],
}

/// What stands around a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Headers that say what the body is and which message it is; never a signature or a secret.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The query of its address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// When it came, where it was written down later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came: Option<Wall>,
    /// That it did not come: the platform's API was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Pulled>,
}

impl Head {
    /// What a request shows.
    pub(super) fn of(source: &Source, request: &Request<'_>) -> Self {
        let Scheme { id_header, timestamp_header, .. } = &source.scheme;
        let kept = ["content-type", "user-agent"].into_iter().chain(id_header.as_deref()).chain(timestamp_header.as_deref());
        let headers = kept.filter_map(|name| Some((name.to_ascii_lowercase(), request.header(name)?.to_owned()))).collect();
        Self { headers, query: request.query.to_owned(), ..Self::default() }
    }

    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// The octets for the journal; `came`: when, where that was not just now.
pub(in crate::pipeline) fn write(source: &Source, request: &Request<'_>, came: Option<Wall>) -> Vec<u8> {
    form(&Head { came, ..Head::of(source, request) }, request.body)
}

/// The octets for the journal of what an API has answered; empty where there is no document.
pub(in crate::pipeline) fn write_pulled(pulled: Pulled, content_type: Option<&str>, body: &[u8]) -> Vec<u8> {
    let headers = content_type.map(|kind| ("content-type".to_owned(), kind.to_owned())).into_iter().collect();
    form(&Head { headers, pulled: Some(pulled), ..Head::default() }, body)
}

fn form(head: &Head, body: &[u8]) -> Vec<u8> {
    let head = serde_json::to_vec(head).unwrap_or_default();
    let length = u32::try_from(head.len()).unwrap_or(0).to_be_bytes();
    [&[FORM], &length[..], &head, &mask::masked(body)].concat()
}

impl<'e> Received<'e> {
    /// Out of an entry's body. What is in no form of ours is the body itself.
    pub fn read(octets: &'e [u8]) -> Self {
        let parts = || {
            let (length, rest) = octets.strip_prefix(&[FORM])?.split_first_chunk::<4>()?;
            let (head, body) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            Some(Self { head: serde_json::from_slice(head).ok()?, body })
        };
        parts().unwrap_or_else(|| Self { head: Head::default(), body: octets })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Key, *};

    #[test]
    fn a_body_comes_back_octet_for_octet_without_its_signature() {
        let source = Source::standard(Key::parse("raw:x").expect("a key"));
        let headers = [("Webhook-Id", "m1"), ("webhook-signature", "v1,secret"), ("Content-Type", "application/json")];
        let headers = headers.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let body = b"{\"a\":  1}\xff";
        let octets = write(&source, &Request { headers: &headers, query: "q=1", body }, None);
        let read = Received::read(&octets);
        assert_eq!((read.body, read.head.query.as_str()), (&body[..], "q=1"));
        assert_eq!((read.head.header("webhook-id"), read.head.header("content-type")), (Some("m1"), Some("application/json")));
        assert!(!String::from_utf8_lossy(&octets).contains("secret"));
        // A header of another name for the time of signing is kept as the scheme's own is.
        let mut source = source;
        source.scheme.timestamp_header = Some("X-Acme-Time".into());
        let headers = [("x-acme-time", "1700000000"), ("webhook-timestamp", "1")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let octets = write(&source, &Request { headers: &headers, query: "", body }, None);
        assert_eq!(Received::read(&octets).head.headers, [("x-acme-time".to_owned(), "1700000000".to_owned())]);
        for whole in [&b"{\"id\": 1}"[..], b"", b"\x01", b"\x01\xff\xff\xff\xff{}"] {
            assert_eq!(Received::read(whole).body, whole, "journaled without a head");
        }
    }
}
