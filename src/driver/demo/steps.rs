//! What passed on the wire, as steps of a ladder.

use std::{collections::BTreeSet, net::SocketAddr};

use tokio::time::Instant;

use super::{
    phone::{Message, Phone, Seen},
    report::{Participant, Step},
};

/// The ladder of a call: who took part, and each message once, as the phones' sockets saw it.
pub(crate) fn ladder(caller: &Phone, others: &[(&str, Option<&Phone>)], tap: &[Seen]) -> (Vec<Participant>, Vec<Step>) {
    let phones: Vec<(&str, &Phone)> =
        std::iter::once(("caller", caller)).chain(others.iter().filter_map(|(name, phone)| phone.map(|p| (*name, p)))).collect();
    let mut addresses: Vec<(String, BTreeSet<SocketAddr>)> =
        phones.iter().map(|(name, phone)| ((*name).to_owned(), own_addresses(phone))).collect();
    let mine: BTreeSet<SocketAddr> = addresses.iter().flat_map(|(_, a)| a.iter().copied()).collect();

    let mut seen: Vec<Seen> = phones.iter().flat_map(|(_, phone)| phone.seen()).chain(tap.iter().cloned()).collect();
    seen.sort_by_key(|s| s.at);
    let gateway = seen.iter().flat_map(|s| [s.from, s.to]).filter(|a| !mine.contains(a)).collect();
    // The gateway stands between the caller and everybody else.
    addresses.insert(1, ("offhook".into(), gateway));

    let origin = seen.iter().find(|s| s.bytes.starts_with(b"INVITE ")).map(|s| s.at);
    let mut met = BTreeSet::new();
    let steps = seen
        .iter()
        .map(|s| Step {
            at_ms: millis(origin, s.at),
            from: s.from.to_string(),
            to: s.to.to_string(),
            transport: if s.tcp { "tcp" } else { "udp" }.into(),
            retransmission: !met.insert((s.from, s.to, s.bytes.clone())),
            summary: summary(&s.bytes),
        })
        .collect();
    let participants = addresses
        .into_iter()
        .map(|(name, addresses)| Participant { name, addresses: addresses.iter().map(ToString::to_string).collect() })
        .collect();
    (participants, steps)
}

/// Where a phone listens, and the near ends of its connections.
fn own_addresses(phone: &Phone) -> BTreeSet<SocketAddr> {
    let mut own = BTreeSet::from([phone.address()]);
    for seen in phone.seen() {
        own.insert(if seen.sent { seen.from } else { seen.to });
    }
    own
}

fn millis(origin: Option<Instant>, at: Instant) -> i64 {
    let after = origin.map_or(0, |origin| at.saturating_duration_since(origin).as_millis());
    i64::try_from(after).unwrap_or(i64::MAX)
}

/// A message in a few words: method or status, and what its body offers.
pub(crate) fn summary(bytes: &[u8]) -> String {
    let Some((message, _)) = Message::read(bytes) else { return "not SIP".into() };
    let mut words = match message.start.strip_prefix("SIP/2.0 ") {
        Some(status) => status.to_owned(),
        None => message.method().to_owned(),
    };
    if let Some(secure) = message.header("X-Offhook-Secure") {
        words.push_str(&format!(" secure {}", secure.split(';').next().unwrap_or(secure)));
    }
    match message.header("Content-Type").unwrap_or_default() {
        "application/sdp" => words.push_str(&format!(" sdp({})", offered(&message.body))),
        // A key that is sent by INFO is the caller's business: no digit is drawn.
        kind if kind.contains("dtmf") => words.push_str(" key"),
        kind if kind.contains("sipfrag") => {
            words.push_str(&format!(" {}", message.body.lines().next().unwrap_or_default().trim_start_matches("SIP/2.0 ")));
        }
        _ => {}
    }
    words
}

fn offered(sdp: &str) -> String {
    let types = sdp.lines().find_map(|l| l.strip_prefix("m=audio ")).unwrap_or_default().split(' ').skip(2);
    let name = |number: &str| {
        let mapped = sdp.lines().filter_map(|l| l.trim().strip_prefix("a=rtpmap:")).find_map(|l| l.strip_prefix(&format!("{number} ")));
        match (mapped.map(|m| m.split('/').next().unwrap_or(m)), number) {
            (Some(name), _) if name.eq_ignore_ascii_case("telephone-event") => format!("te/{number}"),
            (Some(name), _) => name.to_owned(),
            (None, "0") => "PCMU".into(),
            (None, "8") => "PCMA".into(),
            (None, "9") => "G722".into(),
            (None, other) => other.to_owned(),
        }
    };
    types.map(str::trim).filter(|t| !t.is_empty()).map(name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_is_offered_and_no_key() {
        let sdp = "v=0\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        let invite = Message::new("INVITE sip:1@127.0.0.1 SIP/2.0").with_body("application/sdp", sdp.into());
        assert_eq!(summary(&invite.write()), "INVITE sdp(PCMU,te/101)");
        let info = Message::new("INFO sip:1@127.0.0.1 SIP/2.0").with_body("application/dtmf-relay", "Signal=7\r\n".into());
        assert_eq!(summary(&info.write()), "INFO key");
        let ok = Message::new("SIP/2.0 486 Busy Here");
        assert_eq!(summary(&ok.write()), "486 Busy Here");
    }
}
