//! A message out of a datagram: what is wrong with it is said with the status to answer, and with as much of a request as an answer needs.

use bytes::Bytes;

use super::{
    Error, MESSAGE_BYTES_MAX, Malformed, Message, Method, Request, Response,
    header::{Headers, read_headers},
};
use crate::sip::uri::Uri;

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
pub(in crate::sip) fn split_head(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = octets.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some((octets.get(..end)?, octets.get(end + 4..)?))
}

fn body_of(headers: &Headers, octets: &[u8]) -> Result<Bytes, Error> {
    let Some(length) = headers.get("Content-Length") else { return Ok(Bytes::copy_from_slice(octets)) };
    let length: usize = length.trim().parse().map_err(|_| Error::bad("Content-Length is not a number (RFC 3261 §20.14)"))?;
    octets
        .get(..length)
        .map(Bytes::copy_from_slice)
        .ok_or_else(|| Error::bad(format!("Content-Length says {length}, {} octets follow (RFC 3261 §18.3)", octets.len())))
}
