//! A SIP message in a few words, for ladders: the same in the demo and in a replay.

use crate::{
    sdp::Session,
    sip::message::{Message, reason_phrase},
};

/// Method or status, and what its body offers; for what is no SIP, that.
pub fn summary(octets: &[u8]) -> String {
    match Message::parse(octets) {
        Ok(message) => of(&message),
        Err(_) => "not readable as SIP".into(),
    }
}

/// The same of a message that was read.
pub fn of(message: &Message) -> String {
    let (mut words, headers, body) = match message {
        Message::Request(request) => (request.method.to_string(), &request.headers, &request.body),
        Message::Response(response) => {
            let reason = if response.reason.is_empty() { reason_phrase(response.status) } else { &response.reason };
            (format!("{} {reason}", response.status), &response.headers, &response.body)
        }
    };
    if let (Message::Request(_), Some(secure)) = (message, headers.get("X-Offhook-Secure")) {
        words.push_str(&format!(" secure {}", secure.split(';').next().unwrap_or(secure).trim()));
    }
    let kind = headers.get("Content-Type").unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with("application/sdp") {
        match Session::parse(body) {
            Ok(session) => words.push_str(&format!(" sdp({})", offered(&session))),
            Err(_) => words.push_str(" sdp(not readable)"),
        }
    } else if kind.starts_with("application/dtmf") {
        // Which key it is is the caller's business.
        words.push_str(" key");
    } else if kind.starts_with("message/sipfrag") {
        let line = String::from_utf8_lossy(body).lines().next().unwrap_or_default().trim_start_matches("SIP/2.0 ").to_owned();
        words.push_str(&format!(" {line}"));
    }
    words
}

fn offered(session: &Session) -> String {
    let audio = session.media.iter().filter(|m| m.kind == "audio");
    let names = audio.flat_map(|media| {
        media.payload_types().map(|number| match media.rtpmap(number) {
            Some(map) if map.name.eq_ignore_ascii_case("telephone-event") => format!("te/{number}"),
            Some(map) => map.name,
            None => number.to_string(),
        })
    });
    names.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(start: &str, kind: &str, body: &str) -> Vec<u8> {
        let head = "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nMax-Forwards: 70";
        let method = start.split(' ').next().filter(|m| *m != "SIP/2.0").unwrap_or("INVITE");
        format!("{start}\r\n{head}\r\nCSeq: 1 {method}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    }

    #[test]
    fn a_summary_names_what_is_offered_and_no_key() {
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        assert_eq!(summary(&message("INVITE sip:1@127.0.0.1 SIP/2.0", "application/sdp", sdp)), "INVITE sdp(PCMU,te/101)");
        assert_eq!(summary(&message("INFO sip:1@127.0.0.1 SIP/2.0", "application/dtmf-relay", "Signal=7\r\n")), "INFO key");
        assert_eq!(summary(&message("SIP/2.0 486 Busy Here", "text/plain", "")), "486 Busy Here");
        assert_eq!(summary(&message("NOTIFY sip:1@127.0.0.1 SIP/2.0", "message/sipfrag", "SIP/2.0 200 OK\r\n")), "NOTIFY 200 OK");
        assert_eq!(summary(b"hello"), "not readable as SIP");
    }
}
