//! SIP and SDP as a phone of its own make reads and writes them: as text.
//!
//! Apart from the rooms `sip` and `sdp` on purpose. A peer that shares the gateway's parser shares its mistakes, and both would find them right.

use std::net::SocketAddr;

use super::Agreed;
use crate::codec::Codec;

/// A SIP message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Request line or status line.
    pub(crate) start: String,
    /// Headers in order, by their long names.
    pub(crate) headers: Vec<(String, String)>,
    /// Body.
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn new(start: impl Into<String>) -> Self {
        Self { start: start.into(), ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn with_body(mut self, kind: &str, body: String) -> Self {
        self.headers.push(("Content-Type".into(), kind.into()));
        self.body = body;
        self
    }

    /// Reads the first message of `bytes`: itself and how long it is; none where it is not all there or no SIP.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let head_end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(bytes.get(..head_end)?).ok()?;
        let mut lines = head.trim_end().split("\r\n");
        let mut message = Self::new(lines.next()?);
        for line in lines {
            if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), message.headers.last_mut()) {
                value.push(' ');
                value.push_str(line.trim());
                continue;
            }
            let (name, value) = line.split_once(':')?;
            message.headers.push((long_name(name.trim()).to_owned(), value.trim().to_owned()));
        }
        let length = match message.header("Content-Length") {
            Some(length) => length.parse().ok()?,
            None => bytes.len() - head_end,
        };
        let end = head_end.checked_add(length)?;
        message.body = String::from_utf8_lossy(bytes.get(head_end..end)?).into_owned();
        Some((message, end))
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "Content-Length") {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body));
        text.into_bytes()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Status of a response; none for a request.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Method of a request, or of the request that a response answers.
    pub(crate) fn method(&self) -> &str {
        match self.status() {
            Some(_) => self.header("CSeq").and_then(|c| c.split_whitespace().nth(1)).unwrap_or_default(),
            None => self.start.split(' ').next().unwrap_or_default(),
        }
    }

    /// Branch of the topmost Via.
    pub(super) fn branch(&self) -> &str {
        self.header("Via").and_then(|via| parameter(via, "branch")).unwrap_or_default()
    }

    /// URI of Contact, without brackets and parameters of the header.
    pub(crate) fn contact(&self) -> Option<&str> {
        self.header("Contact").map(uri_of)
    }

    /// A response to this request, with what RFC 3261 §8.2.6.2 has copied.
    pub(crate) fn respond(&self, status: u16, reason: &str, tag: &str) -> Self {
        let mut response = Self::new(format!("SIP/2.0 {status} {reason}"));
        for (name, value) in &self.headers {
            match name.as_str() {
                "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => response.headers.push((name.clone(), value.clone())),
                "To" if status > 100 && parameter(value, "tag").is_none() => {
                    response.headers.push((name.clone(), format!("{value};tag={tag}")))
                }
                "To" => response.headers.push((name.clone(), value.clone())),
                _ => {}
            }
        }
        response
    }
}

/// What stands between angle brackets, or before the first parameter.
pub(super) fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => value.split(';').next().unwrap_or(value).trim(),
    }
}

/// A parameter after the brackets of a header's value.
pub(crate) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let after = value.rsplit_once('>').map_or(value, |(_, after)| after);
    after.split(';').skip(1).find_map(|p| p.trim().strip_prefix(name)?.strip_prefix('=')).map(|v| v.split(',').next().unwrap_or(v).trim())
}

/// Long form of a header's name (RFC 3261 §7.3.3).
fn long_name(name: &str) -> &str {
    match name.to_ascii_lowercase().as_str() {
        "v" | "via" => "Via",
        "f" | "from" => "From",
        "t" | "to" => "To",
        "i" | "call-id" => "Call-ID",
        "m" | "contact" => "Contact",
        "l" | "content-length" => "Content-Length",
        "c" | "content-type" => "Content-Type",
        "cseq" => "CSeq",
        "record-route" => "Record-Route",
        _ => name,
    }
}

/// Payload type that a phone of ours offers for telephone-event.
pub(super) const EVENT_TYPE: u8 = 101;

const fn static_type(codec: Codec) -> (u8, &'static str) {
    match codec {
        Codec::Pcmu => (0, "PCMU"),
        Codec::Pcma => (8, "PCMA"),
        // RFC 3551 §4.5.2: the clock is written 8000 although it samples 16,000 times.
        Codec::G722 => (9, "G722"),
    }
}

/// A session that offers `codecs`, and telephone-event under `events`.
pub(super) fn session(at: SocketAddr, codecs: &[Codec], events: Option<u8>, version: u64) -> String {
    let family = if at.is_ipv6() { "IP6" } else { "IP4" };
    let mut types: Vec<String> = codecs.iter().map(|c| static_type(*c).0.to_string()).collect();
    types.extend(events.map(|e| e.to_string()));
    let mut text = format!(
        "v=0\r\no=- {version} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {types}\r\n",
        ip = at.ip(),
        port = at.port(),
        types = types.join(" ")
    );
    for codec in codecs {
        let (number, name) = static_type(*codec);
        text.push_str(&format!("a=rtpmap:{number} {name}/8000\r\n"));
    }
    if let Some(events) = events {
        text.push_str(&format!("a=rtpmap:{events} telephone-event/8000\r\na=fmtp:{events} 0-15\r\n"));
    }
    text.push_str("a=ptime:20\r\na=sendrecv\r\n");
    text
}

/// What an SDP of the other side comes to for a phone that speaks `codecs`: where to send, and what.
pub(super) fn agree(sdp: &str, codecs: &[Codec], takes_events: bool) -> Option<(SocketAddr, Agreed)> {
    let line = |start: &str| sdp.lines().find_map(|l| l.strip_prefix(start)).map(str::trim);
    let media = line("m=audio ")?;
    let port: u16 = media.split(' ').next()?.parse().ok()?;
    let types: Vec<u8> = media.split(' ').skip(2).filter_map(|t| t.parse().ok()).collect();
    // The media's own connection line comes after the m= line and wins.
    let connection = sdp.split("m=audio").nth(1).and_then(|m| m.lines().find_map(|l| l.strip_prefix("c="))).or_else(|| line("c="))?;
    let ip = connection.split_whitespace().nth(2)?.parse().ok()?;
    let name_of = |number: u8| {
        let mapped = sdp.lines().filter_map(|l| l.strip_prefix("a=rtpmap:")).find_map(|l| l.strip_prefix(&format!("{number} ")));
        mapped.map(|m| m.split('/').next().unwrap_or(m).to_ascii_uppercase())
    };
    let codec = types.iter().find_map(|number| {
        codecs.iter().copied().find(|codec| {
            let (fixed, name) = static_type(*codec);
            name_of(*number).map_or(*number == fixed, |n| n == name)
        })
    })?;
    let events = types.iter().copied().find(|n| name_of(*n).as_deref() == Some("TELEPHONE-EVENT")).filter(|_| takes_events);
    Some((SocketAddr::new(ip, port), Agreed { codec, events }))
}

/// Payload type under which a codec is sent; all three are static.
pub(super) const fn payload_type(codec: Codec) -> u8 {
    static_type(codec).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let message = Message::new("INVITE sip:1@127.0.0.1 SIP/2.0")
            .with("Via", "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKabc;rport")
            .with_body("text/plain", "hello".into());
        let mut bytes = message.write();
        let length = bytes.len();
        bytes.extend(b"OPTIONS");
        let (read, used) = Message::read(&bytes).expect("a message");
        assert_eq!((used, read.branch(), read.method(), read.body.as_str()), (length, "z9hG4bKabc", "INVITE", "hello"));
        assert_eq!(Message::read(bytes.get(..length - 1).expect("shorter")), None, "waits for the rest");
    }

    #[test]
    fn compact_and_folded_headers_are_read() {
        let (read, _) = Message::read(b"SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a;branch=z1\r\nt: <sip:x>;tag=7\r\nSubject: a\r\n b\r\n\r\n")
            .expect("a message");
        assert_eq!((read.branch(), read.status(), read.header("Subject")), ("z1", Some(200), Some("a b")));
        assert_eq!(read.header("To").and_then(|t| parameter(t, "tag")), Some("7"));
    }

    #[test]
    fn the_first_offered_codec_that_is_spoken_is_taken() {
        let at = "127.0.0.1:4000".parse().expect("an address");
        let offer = session(at, &[Codec::G722, Codec::Pcma], Some(101), 1);
        let (remote, agreed) = agree(&offer, &[Codec::Pcmu, Codec::Pcma], true).expect("agreed");
        assert_eq!((remote, agreed), (at, Agreed { codec: Codec::Pcma, events: Some(101) }));
        assert_eq!(agree(&offer, &[Codec::Pcmu], true), None);
        assert_eq!(agree(&offer, &[Codec::G722], false).expect("agreed").1.events, None);
    }
}
