//! What a phone of another maker would have put on the wire in place of ours: the order of headers, forms of addresses and white space, descriptions and
//! extras of PJSUA and SIPp, as captured. Texts only: nothing of our own reading or writing of SIP is used.

use crate::chance::Chance;

/// Whose octets a phone sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Ours,
    Pjsua,
    Sipp,
}

macro_rules! said {
    ($maker:literal, $kind:literal) => {
        include_str!(concat!("../../../sip-fixtures/foreign/", $maker, "/", $kind, ".sip"))
    };
}

impl Maker {
    /// Half of all phones are somebody else's.
    pub(super) fn of(chance: &mut Chance) -> Self {
        match chance.below(4) {
            0 => Self::Pjsua,
            1 => Self::Sipp,
            _ => Self::Ours,
        }
    }

    /// How it says a message of this kind; none where nothing of it was captured.
    fn says(self, kind: &str) -> Option<&'static str> {
        Some(match (self, kind) {
            (Self::Pjsua, "INVITE") => said!("pjsua", "invite"),
            (Self::Pjsua, "ACK") => said!("pjsua", "ack"),
            (Self::Pjsua, "BYE") => said!("pjsua", "bye"),
            (Self::Pjsua, "ringing") => said!("pjsua", "180"),
            (Self::Pjsua, "answer") => said!("pjsua", "200-invite"),
            (Self::Pjsua, "response") => said!("pjsua", "response"),
            (Self::Sipp, "INVITE") => said!("sipp", "invite"),
            (Self::Sipp, "ACK") => said!("sipp", "ack"),
            (Self::Sipp, "BYE") => said!("sipp", "bye"),
            (Self::Sipp, "CANCEL") => said!("sipp", "cancel"),
            (Self::Sipp, "INFO") => said!("sipp", "info"),
            (Self::Sipp, "ringing") => said!("sipp", "180"),
            (Self::Sipp, "answer") => said!("sipp", "200-invite"),
            (Self::Sipp, "response") => said!("sipp", "response"),
            _ => return None,
        })
    }

    /// The octets of this maker for what our phone says.
    pub(super) fn dress(self, octets: Vec<u8>) -> Vec<u8> {
        let dressed = std::str::from_utf8(&octets).ok().and_then(|text| self.text(text));
        dressed.map_or(octets, String::into_bytes)
    }

    fn text(self, ours: &str) -> Option<String> {
        let (head, body) = ours.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?;
        let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
        let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let cseq = header("CSeq")?;
        let status = start.strip_prefix("SIP/2.0 ");
        let kind = match status {
            None => start.split(' ').next()?,
            Some(status) if cseq.ends_with("INVITE") && status.starts_with('1') => "ringing",
            Some(status) if cseq.ends_with("INVITE") && status.starts_with('2') => "answer",
            Some(_) => "response",
        };
        let (template, sound) = self.says(kind)?.split_once("\r\n\r\n")?;
        // Where sound is described, or nowhere.
        let media = described(body);
        if sound.is_empty() != media.is_none() {
            return None;
        }
        let vias = headers.iter().filter(|(n, _)| *n == "Via").map(|(_, value)| format!("Via: {value}")).collect::<Vec<_>>();
        let via = header("Via")?;
        let (protocol, rest) = via.strip_prefix("SIP/2.0/")?.split_once(' ')?;
        let (uri, (from, to)) = (start.split(' ').nth(1)?, (address(header("From")?), address(header("To")?)));
        let (ip, port) = media.unwrap_or_default();
        let rtcp = port.parse::<u16>().map_or(0, |p| p.saturating_add(1)).to_string();
        let filled = |text: &str, length: &str| {
            let contact = header("Contact").map(|c| c.trim_matches(['<', '>']).to_owned()).unwrap_or_default();
            let values = [
                ("uri", uri),
                ("status", status.unwrap_or_default()),
                ("vias", &vias.join("\r\n")),
                ("transport", protocol),
                ("sent-by", rest.split(';').next().unwrap_or_default()),
                ("branch", parameter(rest, "branch")),
                ("from-uri", from.0),
                ("from-tag", from.1),
                ("to-uri", to.0),
                ("to-tag", to.1),
                ("contact", &contact),
                ("call-id", header("Call-ID").unwrap_or_default()),
                ("cseq", cseq),
                ("secure", header("X-Offhook-Secure").unwrap_or_default()),
                ("ip", ip),
                ("port", port),
                ("rtcp-port", &rtcp),
                ("length", length),
            ];
            values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("[[{name}]]"), value))
        };
        let sound = filled(sound, "");
        Some(format!("{}\r\n\r\n{sound}", filled(template, &sound.len().to_string())))
    }
}

/// URI and `;tag=…` of an address.
fn address(value: &str) -> (&str, &str) {
    let uri = value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(uri, _)| uri);
    (uri, value.find(";tag=").and_then(|at| value.get(at..)).unwrap_or_default())
}

fn parameter<'v>(value: &'v str, name: &str) -> &'v str {
    value.split(';').find_map(|p| p.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}

/// Address and port of the sound that a body describes.
fn described(body: &str) -> Option<(&str, &str)> {
    let ip = body.lines().find_map(|l| l.strip_prefix("c=IN IP4 "))?.trim();
    let port = body.lines().find_map(|l| l.strip_prefix("m=audio "))?.split(' ').next()?;
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "INVITE sip:1@10.0.0.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1:5060;branch=z9hG4bKx;rport\r\nMax-Forwards: 70\r\n\
        From: <sip:c0@10.0.1.1:5060>;tag=c0\r\nTo: <sip:1@10.0.0.1:5060>\r\nCall-ID: call-0\r\nCSeq: 1 INVITE\r\nContact: <sip:c0@10.0.1.1:5060>\r\n\
        Content-Type: application/sdp\r\nContent-Length: 0\r\n\r\nv=0\r\nc=IN IP4 10.0.1.1\r\nm=audio 4000 RTP/AVP 0 101\r\n";

    #[test]
    fn a_message_keeps_its_dialog_and_takes_the_makers_form() {
        for maker in [Maker::Pjsua, Maker::Sipp] {
            let text = String::from_utf8(maker.dress(OURS.into())).expect("text");
            assert!(!text.contains("[["), "{text}");
            for part in [
                "INVITE sip:1@10.0.0.1:5060 SIP/2.0",
                "branch=z9hG4bKx",
                ";tag=c0",
                "call-0",
                "m=audio 4000 RTP/AVP 0 101",
                "IN IP4 10.0.1.1",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
            let (head, body) = text.split_once("\r\n\r\n").expect("a body");
            let length = head.lines().find_map(|l| l.strip_prefix("Content-Length:")).expect("a length").trim();
            assert_eq!(length, body.len().to_string());
        }
        assert!(String::from_utf8(Maker::Pjsua.dress(OURS.into())).expect("text").contains("From: sip:c0@10.0.1.1:5060;tag=c0\r\n"));
        assert_eq!(Maker::Ours.dress(OURS.into()), OURS.as_bytes());
    }
}
