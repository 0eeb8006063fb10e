//! One SIP message: read from octets, and written.
//!
//! Headers are found by one scan over the octets and kept verbatim, in order, unknown ones too; what a transaction or a dialog
//! needs is read from them on demand. `rsip` gives the methods; its own header and URI models lose unknown methods, URI headers and
//! quoted angle brackets, so those are read here (RFC 3261 §7.3, §25).

use std::fmt;

use bytes::Bytes;

use super::uri::{self, Uri};

/// Longest message read, in bytes. Above the largest INVITE of real carriers, below one UDP datagram (65,507).
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 - 1;
/// Most header lines read. Far above real messages; it bounds what one datagram can cost.
const HEADERS_MAX: usize = 256;

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

/// A request method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// One that `rsip` knows.
    Known(rsip::Method),
    /// Any other token, kept as written.
    Other(String),
}

/// The methods by their names.
#[allow(missing_docs)]
impl Method {
    pub const INVITE: Self = Self::Known(rsip::Method::Invite);
    pub const ACK: Self = Self::Known(rsip::Method::Ack);
    pub const BYE: Self = Self::Known(rsip::Method::Bye);
    pub const CANCEL: Self = Self::Known(rsip::Method::Cancel);
    pub const OPTIONS: Self = Self::Known(rsip::Method::Options);
    pub const INFO: Self = Self::Known(rsip::Method::Info);
    pub const REFER: Self = Self::Known(rsip::Method::Refer);
    pub const NOTIFY: Self = Self::Known(rsip::Method::Notify);
    pub const UPDATE: Self = Self::Known(rsip::Method::Update);
    pub const PRACK: Self = Self::Known(rsip::Method::PRack);

    fn parse(token: &str) -> Self {
        // A method is compared with regard to case (RFC 3261 §7.1), which rsip does not do.
        rsip::Method::all().into_iter().find(|known| known.to_string() == token).map_or_else(|| Self::Other(token.to_owned()), Self::Known)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(method) => method.fmt(f),
            Self::Other(token) => f.write_str(token),
        }
    }
}

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
    pub(super) fn replace_first(&mut self, name: &str, with: &str) {
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

/// A `Via` value (RFC 3261 §20.42).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS` …, as written.
    pub transport: String,
    /// Host (without brackets) of sent-by.
    pub host: String,
    /// Port of sent-by.
    pub port: Option<u16>,
    params: String,
}

impl Via {
    /// Reads one value.
    pub fn parse(value: &str) -> Option<Self> {
        let (head, params) = value.split_at_checked(value.find(';').unwrap_or(value.len()))?;
        let (protocol, sent_by) = head.trim().rsplit_once(|c: char| c.is_ascii_whitespace()).map(|(p, s)| (p.trim(), s))?;
        // `SIP / 2.0 / UDP host : port`: white space may stand around each slash and colon (RFC 4475 §3.1.1.1).
        let (protocol, sent_by) = match sent_by.strip_prefix(':').or_else(|| sent_by.parse::<u16>().ok().map(|_| sent_by)) {
            Some(port) if protocol.contains(|c: char| c.is_ascii_whitespace()) => {
                let before = protocol.trim_end_matches(':').trim_end();
                let (protocol, host) = before.rsplit_once(|c: char| c.is_ascii_whitespace())?;
                (protocol, format!("{host}:{port}"))
            }
            _ => (protocol, sent_by.to_owned()),
        };
        let mut parts = protocol.split('/').map(str::trim);
        let (name, version, transport) = (parts.next()?, parts.next()?, parts.next()?);
        if !name.eq_ignore_ascii_case("SIP") || version != "2.0" || transport.is_empty() || parts.next().is_some() {
            return None;
        }
        let (host, port) = uri::split_host_port(&sent_by)?;
        (!host.is_empty()).then(|| Self { transport: transport.to_owned(), host: host.to_owned(), port, params: params.to_owned() })
    }

    /// A parameter's value, `""` for a flag.
    pub fn param(&self, name: &str) -> Option<&str> {
        uri::param(&self.params, name)
    }

    /// All parameters in order, `None` for a flag.
    pub fn params(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        uri::params(&self.params)
    }

    /// The branch.
    pub fn branch(&self) -> Option<&str> {
        self.param("branch")
    }

    /// With a parameter set, replacing one of that name.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        let kept = self.params.split(';').filter(|p| {
            let key = p.split('=').next().unwrap_or_default().trim();
            !key.is_empty() && !key.eq_ignore_ascii_case(name)
        });
        self.params = kept.map(|p| format!(";{}", p.trim())).collect::<String>() + &format!(";{name}={value}");
        self
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "SIP/2.0/{} {host}", self.transport)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.params)
    }
}

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

/// Whether a separator has nothing behind it, or a comma nothing before it: `a;;b`, `a,`, `,a`.
fn has_empty_part(value: &str) -> bool {
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

#[expect(clippy::match_overlapping_arm)] // a status without a phrase of its own takes its class's
/// The reason phrase of a status (RFC 3261 §21 and the RFCs that add to it); `rsip`'s lack their spaces.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        100..200 => "Progress",
        200..300 => "OK",
        300..400 => "Redirection",
        400..500 => "Client Error",
        500..600 => "Server Error",
        _ => "Global Failure",
    }
}

impl Message {
    /// Reads a datagram: the body is what Content-Length says; octets beyond it are dropped, fewer are an error (RFC 3261 §18.3).
    ///
    /// # Errors
    /// What is malformed, with the request as far as it was read, so that it can be answered.
    pub fn parse(octets: &[u8]) -> Result<Self, Malformed> {
        let unreadable = |why: &str| Malformed { error: Error::bad(why), request: None };
        if octets.len() > MESSAGE_BYTES_MAX {
            return Err(Malformed {
                error: Error { status: 513, why: "a message longer than 65,535 bytes (RFC 3261 §21.5.7)".into() },
                request: None,
            });
        }
        // RFC 3261 §7.5: line ends before the start line are skipped.
        let lead = octets.iter().take_while(|o| matches!(o, b'\r' | b'\n')).count();
        let octets = octets.get(lead..).unwrap_or_default();
        let (head, body) = split_head(octets).ok_or_else(|| unreadable("no empty line after the header section (RFC 3261 §7)"))?;
        let head = text(head);
        let mut lines = head.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l));
        let start = lines.next().unwrap_or_default();
        let (headers, header_fault) = read_headers(lines);

        if let Some(rest) = start.strip_prefix("SIP/") {
            let mut parts = rest.splitn(3, ' ');
            let (version, status) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let reason = parts.next().unwrap_or_default().to_owned();
            let status = status.parse::<u16>().ok().filter(|s| (100..700).contains(s) && version == "2.0" && status.len() == 3);
            let status =
                status.ok_or_else(|| unreadable("a status line that is not SIP/2.0 and a code from 100 to 699 (RFC 3261 §7.2)"))?;
            if let Some(fault) = header_fault {
                return Err(Malformed { error: fault, request: None });
            }
            let body = body_of(&headers, body).map_err(|error| Malformed { error, request: None })?;
            let response = Response { status, reason, headers, body };
            response.via().and_then(|_| response.cseq()).map_err(|error| Malformed { error, request: None })?;
            return Ok(Self::Response(response));
        }

        let parts: Vec<&str> = start.split(' ').collect();
        let token = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
        let (method, uri, version, line_fault) = match parts.as_slice() {
            [method, uri, version] if token(method) => (*method, *uri, *version, None),
            // RFC 3261 §7.1: exactly one space between the three; read past it so that a 400 can be formed.
            [method, .., version] if token(method) && version.starts_with("SIP/") => (
                *method,
                "sip:invalid",
                *version,
                Some(Error::bad("a Request-URI with a space or angle brackets in it, or more than one space around it (RFC 3261 §7.1)")),
            ),
            _ => return Err(unreadable("a start line that is neither a request's nor a response's (RFC 3261 §7.1, §7.2)")),
        };
        let parsed_uri = uri.parse::<Uri>();
        let uri_fault = parsed_uri.as_ref().err().cloned();
        let mut request = Request {
            method: Method::parse(method),
            uri: parsed_uri.unwrap_or_else(|_| Uri::sip("", "invalid", None)),
            headers,
            body: Bytes::new(),
        };
        let fault = if version.starts_with("SIP/") && version != "SIP/2.0" {
            Some(Error { status: 505, why: "a version other than SIP/2.0 (RFC 3261 §21.5.6)".into() })
        } else if version != "SIP/2.0" {
            return Err(unreadable("a start line without SIP/2.0 at its end (RFC 3261 §7.1)"));
        } else {
            line_fault.or(uri_fault).or(header_fault)
        };
        let fault = match fault {
            Some(fault) => Some(fault),
            None => match body_of(&request.headers, body) {
                Ok(body) => {
                    request.body = body;
                    request.validate().err()
                }
                Err(fault) => Some(fault),
            },
        };
        match fault {
            None => Ok(Self::Request(request)),
            Some(error) => Err(Malformed { error, request: request.via().is_ok().then(|| Box::new(request)) }),
        }
    }

    /// As octets.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

/// Header values are UTF-8 (RFC 3261 §7.3.1); other octets are carried as characters of their own rather than refused.
fn text(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|octet| char::from(*octet)));
    }
    text
}

/// The header section and what follows its empty line.
pub(super) fn split_head(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = octets.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some((octets.get(..end)?, octets.get(end + 4..)?))
}

fn read_headers<'a>(lines: impl Iterator<Item = &'a str>) -> (Headers, Option<Error>) {
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
pub(super) fn long_name(name: &str) -> &str {
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

fn body_of(headers: &Headers, octets: &[u8]) -> Result<Bytes, Error> {
    let Some(length) = headers.get("Content-Length") else { return Ok(Bytes::copy_from_slice(octets)) };
    let length: usize = length.trim().parse().map_err(|_| Error::bad("Content-Length is not a number (RFC 3261 §20.14)"))?;
    octets
        .get(..length)
        .map(Bytes::copy_from_slice)
        .ok_or_else(|| Error::bad(format!("Content-Length says {length}, {} octets follow (RFC 3261 §18.3)", octets.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:+4930@gw;x=y SIP/2.0\r\nv: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKa;rport\r\nVia: SIP/2.0/UDP [2001:db8::9];branch=z9hG4bKb, SIP/2.0/TCP c\r\n\
        f: \"A \\\"<b>\\\", c\" <sip:a@b>;tag=1\r\nTo: sip:+4930@gw;x=1\r\ni: 1@2\r\nCSeq: 7 INVITE\r\nSubject: one\r\n\ttwo\r\nX-Own: a: b\r\nm: <sip:a@192.0.2.1:5070>\r\nl: 3\r\n\r\nabcEXTRA";

    fn request(text: &str) -> Request {
        match Message::parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn compact_folded_and_listed_headers_are_read() {
        let invite = request(INVITE);
        let via = invite.via().expect("a via");
        assert_eq!((via.host.as_str(), via.port, via.branch(), via.param("rport")), ("192.0.2.1", Some(5070), Some("z9hG4bKa"), Some("")));
        assert_eq!(invite.headers.values("Via").count(), 3);
        assert_eq!(invite.from().expect("from").display.as_deref(), Some("A \"<b>\", c"));
        assert_eq!(invite.to().expect("to").param("x"), Some("1"));
        assert_eq!(invite.header("subject"), Some("one two"));
        assert_eq!(&invite.body[..], b"abc");
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let mut invite = request(INVITE);
        invite.headers.remove("Content-Length");
        let mut again = request(std::str::from_utf8(&invite.to_bytes()).expect("text"));
        again.headers.remove("Content-Length");
        let lines = |r: &Request| r.headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect::<Vec<_>>();
        assert_eq!((lines(&again), &again.body, &again.uri), (lines(&invite), &invite.body, &invite.uri));
    }

    #[test]
    fn an_answer_copies_what_the_rfc_says() {
        let answer = request(INVITE).response(180, None, Some("gw"));
        assert_eq!(answer.reason, "Ringing");
        assert_eq!(answer.to().expect("to").tag(), Some("gw"));
        assert_eq!(answer.headers.all("Via").count(), 2);
        assert_eq!(answer.cseq().expect("cseq"), (7, Method::INVITE));
    }

    #[test]
    fn a_fault_has_a_status_and_can_be_answered() {
        for (from, to, status) in [
            ("CSeq: 7 INVITE", "CSeq: 7 BYE", 400),
            ("CSeq: 7 INVITE", "CSeq: 4294967296 INVITE", 400),
            ("l: 3", "l: 300", 400),
            ("l: 3", "l: -3", 400),
            ("SIP/2.0\r\nv", "SIP/7.0\r\nv", 505),
            ("f: \"A \\\"<b>\\\", c\" <sip:a@b>;tag=1\r\n", "", 400),
            ("Subject: one", "Subject one", 400),
        ] {
            let fault = Message::parse(INVITE.replace(from, to).as_bytes()).expect_err(to);
            assert_eq!(fault.error.status, status, "{to}: {}", fault.error.why);
            assert!(fault.request.is_some(), "{to}");
        }
    }

    #[test]
    fn the_top_via_can_be_edited_in_a_list() {
        let mut invite = request(INVITE);
        let via = invite.via().expect("a via").with_param("received", "198.51.100.7").with_param("rport", "99");
        invite.headers.replace_first("Via", &via.to_string());
        assert_eq!(invite.via().expect("a via").param("rport"), Some("99"));
        assert_eq!(invite.headers.values("Via").count(), 3);
    }

    proptest::proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = Message::parse(&octets);
        }

        #[test]
        fn no_damage_panics_and_what_parses_reads_back(at in 0..INVITE.len(), octet: u8) {
            let mut damaged = INVITE.as_bytes().to_vec();
            damaged[at] = octet;
            if let Ok(message) = Message::parse(&damaged) {
                let again = Message::parse(&message.to_bytes()).expect("what we wrote");
                proptest::prop_assert_eq!(again.to_bytes(), message.to_bytes());
            }
        }
    }
}
