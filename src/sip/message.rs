//! One SIP message: read from octets, and written.
//!
//! Headers are found by one scan over the octets and kept verbatim, in order, unknown ones too; what a transaction or a dialog
//! needs is read from them on demand. `rsip` gives the methods; its own header and URI models lose unknown methods, URI headers and
//! quoted angle brackets, so those are read here (RFC 3261 §7.3, §25).

mod address;
mod header;
mod method;
mod read;
#[cfg(test)]
mod round_trip_tests;
mod status;
#[cfg(test)]
mod tests;
mod via;

use bytes::Bytes;

use super::uri::Uri;

pub use address::NameAddr;
pub use header::{Header, Headers};
pub use method::Method;
pub use status::reason_phrase;
pub use via::Via;

pub(super) use header::long_name;
pub(super) use read::split_head;

use header::has_empty_part;

/// Longest message read, in bytes. Above the largest INVITE of real carriers, below one UDP datagram (65,507).
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 - 1;

/// What is wrong with a message: the status to answer, and one sentence with the RFC section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Error {
    /// The status to answer a request with.
    pub status: u16,
    /// What was expected and what came, for the far end's engineer.
    pub why: String,
}

impl Error {
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self { status: 400, why: why.into() }
    }

    pub(super) fn uri(why: impl Into<String>) -> Self {
        Self::bad(why)
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, 100 to 699.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

/// A message of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

/// What could not be read, with what is needed to answer it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub error: Error,
    /// The request as far as it could be read, if an answer can be formed from it.
    pub request: Option<Box<Request>>,
}

/// Accessors that both kinds share.
macro_rules! shared {
    ($kind:ty) => {
        impl $kind {
            /// The top Via.
            pub fn via(&self) -> Result<Via, Error> {
                let value = self.headers.values("Via").next().ok_or_else(|| Error::bad("no Via (RFC 3261 §8.1.1.7)"))?;
                Via::parse(value).ok_or_else(|| Error::bad("an unreadable Via (RFC 3261 §20.42)"))
            }

            /// The Call-ID.
            pub fn call_id(&self) -> &str {
                self.headers.get("Call-ID").unwrap_or_default()
            }

            /// CSeq's number and method (RFC 3261 §20.16).
            pub fn cseq(&self) -> Result<(u32, Method), Error> {
                let value = self.headers.get("CSeq").ok_or_else(|| Error::bad("no CSeq (RFC 3261 §8.1.1.5)"))?;
                let mut parts = value.split_ascii_whitespace();
                match (parts.next().map(str::parse::<u32>), parts.next(), parts.next()) {
                    (Some(Ok(number)), Some(method), None) if number < 1 << 31 => Ok((number, Method::parse(method))),
                    _ => Err(Error::bad("CSeq is not a number below 2^31 and a method (RFC 3261 §8.1.1.5)")),
                }
            }

            /// From.
            pub fn from(&self) -> Result<NameAddr, Error> {
                NameAddr::parse(self.headers.get("From").ok_or_else(|| Error::bad("no From (RFC 3261 §8.1.1.3)"))?)
            }

            /// To.
            pub fn to(&self) -> Result<NameAddr, Error> {
                NameAddr::parse(self.headers.get("To").ok_or_else(|| Error::bad("no To (RFC 3261 §8.1.1.2)"))?)
            }

            /// The first Contact.
            pub fn contact(&self) -> Option<NameAddr> {
                NameAddr::parse(self.headers.values("Contact").next()?).ok()
            }

            /// A header's first line.
            pub fn header(&self, name: &str) -> Option<&str> {
                self.headers.get(name)
            }

            /// The media type of the body without parameters, lower case.
            pub fn content_type(&self) -> Option<String> {
                let value = self.headers.get("Content-Type")?;
                Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
            }

            /// Sets body and type.
            pub fn set_body(&mut self, content_type: &str, body: impl Into<Bytes>) {
                self.headers.set("Content-Type", content_type);
                self.body = body.into();
            }

            fn emit_section(&self, out: &mut Vec<u8>) {
                for Header { name, value, .. } in self.headers.iter().filter(|h| !h.name.eq_ignore_ascii_case("Content-Length")) {
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(value.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
                out.extend_from_slice(&self.body);
            }
        }
    };
}
shared!(Request);
shared!(Response);

impl Request {
    /// A request with nothing but its start line.
    pub fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, headers: Headers::default(), body: Bytes::new() }
    }

    /// As octets. Content-Length is always ours.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(512 + self.body.len());
        out.extend_from_slice(format!("{} {} SIP/2.0\r\n", self.method, self.uri).as_bytes());
        self.emit_section(&mut out);
        out.into()
    }

    /// An answer to it: Via, From, To, Call-ID and CSeq are copied (RFC 3261 §8.2.6.2); `tag` is set on To where it has none, but not on a 100.
    pub fn response(&self, status: u16, reason: Option<&str>, tag: Option<&str>) -> Response {
        let mut headers = Headers::default();
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in self.headers.all(name) {
                let tagged = (name == "To" && status > 100)
                    .then(|| {
                        tag.and_then(|tag| NameAddr::parse(value).ok().filter(|a| a.tag().is_none()).map(|a| a.with_tag(tag).to_string()))
                    })
                    .flatten();
                headers.push(name, tagged.unwrap_or_else(|| value.to_owned()));
            }
        }
        // RFC 3261 §12.1.1: a response that makes a dialog copies Record-Route.
        if (101..300).contains(&status) && self.method == Method::INVITE {
            for value in self.headers.all("Record-Route") {
                headers.push("Record-Route", value);
            }
        }
        Response { status, reason: reason.unwrap_or_else(|| reason_phrase(status)).to_owned(), headers, body: Bytes::new() }
    }

    /// Max-Forwards; an error where it is no number (RFC 3261 §20.22).
    pub fn max_forwards(&self) -> Result<Option<u8>, Error> {
        self.headers
            .get("Max-Forwards")
            .map(|v| v.trim().parse::<u8>().map_err(|_| Error::bad("Max-Forwards is not a number from 0 to 255 (RFC 3261 §20.22)")))
            .transpose()
    }

    /// What must hold for a request before anything looks at it (RFC 3261 §8.1.1, §8.2).
    fn validate(&self) -> Result<(), Error> {
        for name in ["From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length"] {
            if self.headers.all(name).count() > 1 {
                return Err(Error::bad(format!("more than one {name} (RFC 3261 §7.3.1)")));
            }
        }
        for name in ["Via", "From", "To", "Contact"] {
            if self.headers.all(name).any(has_empty_part) {
                return Err(Error::bad(format!("an empty value or parameter in {name} (RFC 3261 §25.1)")));
            }
        }
        self.via()?;
        if self.call_id().is_empty() {
            return Err(Error::bad("no Call-ID (RFC 3261 §8.1.1.4)"));
        }
        let from = self.from().map_err(|e| Error::bad(format!("From: {}", e.why)))?;
        self.to().map_err(|e| Error::bad(format!("To: {}", e.why)))?;
        // RFC 2543 elements may send none; RFC 3261 §8.1.1.3 says it must be there, §12.1.1 says to be ready for its absence.
        let _ = from.tag();
        let (_, method) = self.cseq()?;
        if method != self.method {
            return Err(Error::bad(format!("CSeq says {method}, the start line {} (RFC 3261 §8.1.1.5)", self.method)));
        }
        self.max_forwards()?;
        for contact in self.headers.values("Contact").filter(|c| *c != "*") {
            NameAddr::parse(contact).map_err(|e| Error::bad(format!("Contact: {}", e.why)))?;
        }
        Ok(())
    }
}

impl Response {
    /// As octets. Content-Length is always ours.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(512 + self.body.len());
        out.extend_from_slice(format!("SIP/2.0 {} {}\r\n", self.status, self.reason).as_bytes());
        self.emit_section(&mut out);
        out.into()
    }
}

impl Message {
    /// As octets.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}
