//! What the gateway makes of a SIP message or a stream of them, message by message: for an engineer with a carrier's message in hand.
//!
//! The shapes are a contract: a field may be added, none is renamed or changes its meaning.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::{
    event::DtmfMethod,
    gateway::screen::screen,
    sdp::{Agreed, Capabilities, Direction, Media, Origin, Session, negotiate},
    sip::{
        Message, NameAddr, Request, Response,
        framing::{Frame, Framer},
        message::{Headers, Malformed, Via},
    },
};

/// How the octets came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram: one message.
    Udp,
    /// A stream: as many as it holds.
    Tcp,
}

/// What was found, one object a message, in order.
pub fn inspect(octets: &[u8], transport: Transport, capabilities: &Capabilities) -> Vec<Value> {
    match transport {
        Transport::Udp => vec![message(0, octets, capabilities)],
        Transport::Tcp => stream(octets, capabilities),
    }
}

fn stream(octets: &[u8], capabilities: &Capabilities) -> Vec<Value> {
    let mut framer = Framer::default();
    framer.push(octets);
    let mut found = Vec::new();
    loop {
        let begun = octets.len() - framer.buffered();
        match framer.next_frame() {
            Ok(Some(Frame::Message(one))) => found.push(message(octets.len() - framer.buffered() - one.len(), &one, capabilities)),
            Ok(Some(Frame::Ping)) => found.push(object(begun, 4, "keep-alive", "accept", None, None)),
            Ok(None) => {
                let rest = framer.buffered();
                // A line end behind the last message is nothing that anything is missing of.
                if rest > 2 || found.is_empty() {
                    let why = "the message does not end where the stream does; it needs more octets (RFC 3261 §18.3)";
                    found.push(object(begun, rest, "unknown", "wait", None, Some(why)));
                }
                return found;
            }
            Err(error) => {
                found.push(object(begun, octets.len() - begun, "unknown", "close", None, Some(&error.to_string())));
                return found;
            }
        }
    }
}

fn object(offset: usize, length: usize, kind: &str, verdict: &str, status: Option<u16>, why: Option<&str>) -> Value {
    json!({"offset": offset, "length": length, "kind": kind, "verdict": verdict, "status": status, "why": why})
}

/// One message, which may be none.
fn message(offset: usize, octets: &[u8], capabilities: &Capabilities) -> Value {
    if !octets.is_empty() && octets.iter().all(|o| matches!(o, b'\r' | b'\n' | 0)) {
        return object(offset, octets.len(), "keep-alive", "accept", None, None);
    }
    let length = octets.len();
    match Message::parse(octets) {
        Ok(Message::Request(request)) => {
            let (status, why, answer) = served(&request, capabilities);
            let mut found = object(offset, length, "request", "accept", status, why.as_deref());
            describe_request(&mut found, &request);
            put(&mut found, "answer", answer);
            found
        }
        Ok(Message::Response(response)) => {
            let mut found = object(offset, length, "response", "accept", None, None);
            describe_response(&mut found, &response);
            found
        }
        Err(Malformed { error, request: Some(request) }) => {
            let mut found = object(offset, length, "request", "reject", Some(error.status), Some(&error.why));
            describe_request(&mut found, &request);
            found
        }
        Err(Malformed { error, request: None }) => {
            let start = octets.split(|o| *o == b'\n').next().unwrap_or_default().trim_ascii_end();
            let kind = match start {
                s if s.starts_with(b"SIP/") => "response",
                s if s.windows(5).any(|w| w == b" SIP/") => "request",
                _ => "unknown",
            };
            object(offset, length, kind, "drop", None, Some(&error.why))
        }
    }
}

fn put(object: &mut Value, name: &str, value: Option<Value>) {
    if let (Value::Object(fields), Some(value)) = (object, value) {
        fields.insert(name.to_owned(), value);
    }
}

/// What a well-formed request is answered where that is an error, why, and what the trunk makes of its offer.
fn served(request: &Request, capabilities: &Capabilities) -> (Option<u16>, Option<String>, Option<Value>) {
    let in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
    if let Some(screened) = screen(request).filter(|s| s.status != 481 || !in_dialog) {
        return (Some(screened.status), Some(screened.why.to_owned()), None);
    }
    if request.body.is_empty() || request.method != crate::sip::Method::INVITE {
        return (None, None, None);
    }
    if request.content_type().as_deref() != Some("application/sdp") {
        return (Some(415), Some("the body is not application/sdp (RFC 3261 §21.4.13)".into()), None);
    }
    let ours = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let origin = Origin { user: "-".into(), id: "0".into(), version: "0".into(), host: ours.ip().to_string() };
    let offered = match Session::parse(&request.body) {
        Ok(offered) => offered,
        Err(error) => return (Some(400), Some(error.to_string()), None),
    };
    match negotiate::answer(&offered, capabilities, ours, origin, Direction::SendRecv) {
        Ok(answer) => (None, None, Some(settled(&answer.agreed, &offered))),
        Err(refused) => (Some(488), Some(refused.to_string()), None),
    }
}

fn settled(agreed: &Agreed, offered: &Session) -> Value {
    let dtmf = if agreed.telephone_event.is_some() { DtmfMethod::Rfc4733 } else { DtmfMethod::Info };
    json!({
        "codecs": [format!("{}/8000", negotiate::name(agreed.codec))],
        "dtmf": dtmf,
        "direction": agreed.direction.name(),
        "refused": (0..offered.media.len()).filter(|index| *index != agreed.index).collect::<Vec<_>>(),
    })
}

fn describe_request(found: &mut Value, request: &Request) {
    put(found, "method", Some(json!(request.method.to_string())));
    put(found, "uri", Some(json!(request.uri.as_str())));
    describe(found, &request.headers, &request.body, request.content_type());
}

fn describe_response(found: &mut Value, response: &Response) {
    put(found, "code", Some(json!(response.status)));
    put(found, "reason", (!response.reason.is_empty()).then(|| json!(response.reason)));
    describe(found, &response.headers, &response.body, response.content_type());
}

fn describe(found: &mut Value, headers: &Headers, body: &[u8], content_type: Option<String>) {
    put(found, "version", Some(json!("SIP/2.0")));
    put(found, "headers", Some(headers.iter().map(|h| header(&h.name, h.compact, &h.value)).collect()));
    put(found, "body_length", Some(json!(body.len())));
    let sdp = (content_type.as_deref() == Some("application/sdp")).then(|| Session::parse(body).ok()).flatten();
    put(found, "sdp", sdp.map(|session| json!({"media": session.media.iter().map(|m| media(&session, m)).collect::<Vec<_>>()})));
}

fn media(session: &Session, media: &Media) -> Value {
    let codecs = media.payload_types().filter_map(|pt| media.rtpmap(pt)).map(|map| format!("{}/{}", map.name, map.clock));
    json!({
        "kind": media.kind,
        "port": media.port,
        "codecs": codecs.collect::<Vec<_>>(),
        "direction": session.direction(media).name(),
    })
}

/// Headers whose values are addresses (RFC 3261 §20, RFC 3325, RFC 3515, RFC 3892).
const ADDRESSES: [&str; 10] = [
    "From",
    "To",
    "Contact",
    "Route",
    "Record-Route",
    "Reply-To",
    "Refer-To",
    "Referred-By",
    "P-Asserted-Identity",
    "P-Preferred-Identity",
];

/// Other headers that have a spelling of their own; the rest stay as written.
const NAMES: [&str; 40] = [
    "Via",
    "Call-ID",
    "CSeq",
    "Max-Forwards",
    "Content-Length",
    "Content-Type",
    "Content-Encoding",
    "Content-Language",
    "Content-Disposition",
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Alert-Info",
    "Allow",
    "Allow-Events",
    "Authorization",
    "Authentication-Info",
    "Call-Info",
    "Date",
    "Diversion",
    "Event",
    "Expires",
    "History-Info",
    "MIME-Version",
    "Min-SE",
    "Organization",
    "Priority",
    "Privacy",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Require",
    "Reason",
    "Require",
    "Retry-After",
    "Server",
    "Session-Expires",
    "Subject",
    "Supported",
    "User-Agent",
    "WWW-Authenticate",
];

fn header(name: &str, compact: bool, raw: &str) -> Value {
    let name = ADDRESSES.iter().chain(&NAMES).find(|known| known.eq_ignore_ascii_case(name)).copied().unwrap_or(name);
    let mut found = json!({"name": name, "compact": compact, "raw": raw});
    let mut one = Headers::default();
    one.push(name, raw);
    let is = |known: &&str| known.eq_ignore_ascii_case(name);
    let values: Option<Vec<Value>> = if ADDRESSES.iter().any(is) {
        one.values(name).map(|value| NameAddr::parse(value).ok().map(|a| address(&a))).collect()
    } else if is(&"Via") {
        one.values(name).map(|value| Via::parse(value).map(|v| via(&v))).collect()
    } else {
        None
    };
    put(&mut found, "values", values.map(Value::from));
    found
}

fn address(address: &NameAddr) -> Value {
    let mut value = json!({"uri": address.uri.as_str(), "params": params(address.params())});
    put(&mut value, "display", address.display.as_deref().filter(|d| !d.is_empty()).map(|d| json!(d)));
    value
}

fn via(via: &Via) -> Value {
    let host = if via.host.contains(':') { format!("[{}]", via.host) } else { via.host.clone() };
    let sent_by = via.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    json!({"transport": via.transport, "sent_by": sent_by, "params": params(via.params())})
}

fn params<'a>(params: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Map<String, Value> {
    params.map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::codec::Codec;

    fn trunk() -> Capabilities {
        Capabilities { codecs: Codec::ALL.to_vec(), telephone_event: true }
    }

    fn fixtures(folder: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures").join(folder);
        let files = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
        let messages = files.filter(|p| p.extension().is_some_and(|e| e == "dat" || e == "sip"));
        messages.map(|p| (p.file_name().expect("a name").to_string_lossy().into_owned(), fs::read(&p).expect("a message"))).collect()
    }

    #[test]
    fn an_invite_is_told_with_what_the_trunk_makes_of_it() {
        let body = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\nm=video 4002 RTP/AVP 31\r\n";
        let text = format!(
            "INVITE sip:b@x;p SIP/2.0\r\nv: SIP/2.0/UDP [2001:db8::1]:5061;branch=z9hG4bK1;rport\r\nf: \"Jo \\\"J\\\" Doe\" <sip:a@x>;tag=98\r\nTo: <sip:b@x>\r\nCall-ID: c\r\n\
             CSeq: 1 INVITE\r\nm: <sip:a@y>\r\nContent-Type: application/sdp\r\nl: {}\r\n\r\n{body}",
            body.len()
        );
        let found = inspect(text.as_bytes(), Transport::Udp, &trunk());
        let one = &found[0];
        assert_eq!((&one["verdict"], &one["kind"], &one["method"]), (&json!("accept"), &json!("request"), &json!("INVITE")));
        assert_eq!(
            one["headers"][0]["values"][0],
            json!({"transport": "UDP", "sent_by": "[2001:db8::1]:5061", "params": {"branch": "z9hG4bK1", "rport": null}})
        );
        assert_eq!(one["headers"][1]["compact"], true);
        assert_eq!(one["headers"][1]["values"][0], json!({"display": "Jo \"J\" Doe", "uri": "sip:a@x", "params": {"tag": "98"}}));
        assert_eq!(one["sdp"]["media"][0]["codecs"], json!(["PCMU/8000", "telephone-event/8000"]));
        assert_eq!(one["answer"], json!({"codecs": ["PCMU/8000"], "dtmf": "rfc4733", "direction": "sendrecv", "refused": [1]}));
    }

    #[test]
    fn every_torture_message_is_told_and_what_can_be_served_has_no_status() {
        let mut statuses = std::collections::BTreeMap::new();
        for (name, octets) in fixtures("rfc4475").into_iter().chain(fixtures("rfc5118")) {
            for transport in [Transport::Udp, Transport::Tcp] {
                let found = inspect(&octets, transport, &trunk());
                assert!(found.iter().all(|f| f["offset"].is_u64() && f["length"].is_u64() && f["verdict"].is_string()), "{name}");
            }
            let one = inspect(&octets, Transport::Udp, &trunk()).remove(0);
            statuses.insert(name, one["status"].as_u64());
        }
        // As the RFC has them for what is well formed and not for us.
        for (name, status) in [("unkscm.dat", 416), ("novelsc.dat", 416), ("intmeth.dat", 501), ("bext01.dat", 420), ("zeromf.dat", 200)] {
            if status == 200 {
                assert_eq!(statuses[name], None, "{name}");
            } else {
                assert_eq!(statuses[name], Some(status), "{name}");
            }
        }
    }

    #[test]
    fn a_stream_is_told_message_by_message_with_what_lies_between() {
        let one = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:x>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n";
        let stream = format!("\r\n\r\n{one}\r\n{one}OPT");
        let found = inspect(stream.as_bytes(), Transport::Tcp, &trunk());
        let told: Vec<_> = found
            .iter()
            .map(|f| (f["kind"].as_str().unwrap_or(""), f["verdict"].as_str().unwrap_or(""), f["offset"].as_u64().unwrap_or(0)))
            .collect();
        let length = one.len() as u64;
        assert_eq!(
            told,
            [
                ("keep-alive", "accept", 0),
                ("request", "accept", 4),
                ("request", "accept", 4 + length + 2),
                ("unknown", "wait", 4 + 2 * length + 2)
            ]
        );
        let broken = inspect(b"BYE sip:x SIP/2.0\r\nContent-Length: x\r\n\r\n", Transport::Tcp, &trunk());
        assert_eq!((broken.len(), &broken[0]["verdict"]), (1, &json!("close")));
    }

    #[test]
    fn a_header_has_its_long_name_as_the_rfc_spells_it() {
        let tortuous = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/rfc4475/wsinv.dat")).expect("a message");
        let found = inspect(&tortuous, Transport::Udp, &trunk());
        let names: Vec<_> = found[0]["headers"].as_array().expect("headers").iter().filter_map(|h| h["name"].as_str()).collect();
        for name in ["To", "From", "Max-Forwards", "CSeq", "Via", "Subject", "Content-Type", "Route", "Contact", "NewFangledHeader"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
    }

    #[test]
    fn octets_that_are_no_utf8_stand_as_characters_of_their_own() {
        let found = inspect(b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:x>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nSubject: caf\xe9\r\n\r\n", Transport::Udp, &trunk());
        assert_eq!(found[0]["headers"][5]["raw"], "caf\u{e9}");
    }
}
