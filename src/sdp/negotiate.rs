//! Offer and answer (RFC 3264) for the one audio stream that a leg of a call has.

use std::net::{IpAddr, SocketAddr};

use super::session::{Attribute, Direction, Media, Origin, Session};
use crate::codec::Codec;

/// What a leg can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Codecs, in the order in which an offer names them.
    pub codecs: Vec<Codec>,
    /// Whether digits may travel as telephone-event (RFC 4733).
    pub telephone_event: bool,
}

/// Payload types of telephone-event on a leg; its clock is that of all our codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// What we send with: the peer's number.
    pub send: u8,
    /// What the peer sends with: our number.
    pub recv: u8,
    /// RTP clock, Hz.
    pub clock: u32,
}

/// What both ends of a leg agreed on, from our side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Where the peer wants its media.
    pub remote: SocketAddr,
    /// What we send.
    pub codec: Codec,
    /// With which payload type: the peer's number (RFC 3264 §5.1).
    pub pt: u8,
    /// What the peer may send, by our numbers.
    pub recv: Vec<(u8, Codec)>,
    /// Digits as events, where both do them.
    pub telephone_event: Option<TelephoneEvent>,
    /// What we do: send, receive, both, nothing.
    pub direction: Direction,
    /// Milliseconds of audio that the peer likes in a packet.
    pub ptime_ms: u32,
    /// The `m=` line that carries it, from 0; the others are refused.
    pub index: usize,
}

/// An answer, and what it settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// To be sent.
    pub session: Session,
    /// What now holds.
    pub agreed: Agreed,
}

/// Why there is no agreement; a UAS answers 488 with it (RFC 3261 §21.4.26).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No section that could be used.
    #[error("no audio over RTP/AVP is offered, only: {0}; this gateway carries m=audio with RTP/AVP")]
    NoAudio(String),
    /// Audio, in no codec of ours.
    #[error("no codec in common: offered are {offered}, this leg takes {ours}; see `codecs` of the trunk or target")]
    NoCodec {
        /// Theirs.
        offered: String,
        /// Ours.
        ours: String,
    },
    /// A host name where an address should be.
    #[error("the session description names no IP address in its c= line (RFC 8866 §5.7)")]
    NoAddress,
    /// The answer does not belong to the offer.
    #[error("the answer has {answered} m= lines and the offer {offered} (RFC 3264 §6)")]
    Lines {
        /// In our offer.
        offered: usize,
        /// In the answer.
        answered: usize,
    },
}

/// An offer of everything that `capabilities` names, at `ours`. `origin` is this leg's, with the version of this offer.
pub fn offer(capabilities: &Capabilities, ours: SocketAddr, origin: Origin) -> Session {
    let codecs = capabilities.codecs.iter().map(|codec| (number(*codec), *codec)).collect::<Vec<_>>();
    let events = capabilities.telephone_event.then_some(TELEPHONE_EVENT);
    Session { media: vec![section(&codecs, events, ours.port(), Direction::SendRecv)], ..session(ours, origin) }
}

/// The answer to `offer`: the first of its codecs that we can do (RFC 3264 §6.1 asks to keep the offerer's order), telephone-event beside
/// it, and no other section. `allowed`: what we are willing to do, such as not to send while the caller is on hold.
pub fn answer(
    offer: &Session,
    capabilities: &Capabilities,
    ours: SocketAddr,
    origin: Origin,
    allowed: Direction,
) -> Result<Answer, Refused> {
    let (index, offered) = audio(offer, capabilities)?;
    let remote = remote(offer, offered)?;
    let (pt, codec) = *common(offered, &capabilities.codecs).first().ok_or_else(|| no_codec(offered, capabilities))?;
    let events = capabilities.telephone_event.then(|| events(offered)).flatten();
    let direction = theirs(offer, offered).reversed().and(allowed);
    let media = |(at, section_offered): (usize, &Media)| {
        if at == index {
            section(&[(pt, codec)], events, ours.port(), direction)
        } else {
            // §6: refused with port 0; some format must stand there.
            Media { port: 0, connection: None, attributes: Vec::new(), ..section_offered.clone() }
        }
    };
    let media = offer.media.iter().enumerate().map(media).collect();
    let agreed = Agreed {
        remote,
        codec,
        pt,
        recv: vec![(pt, codec)],
        telephone_event: events.map(|pt| TelephoneEvent { send: pt, recv: pt, clock: CLOCK }),
        direction,
        ptime_ms: ptime(offered),
        index,
    };
    Ok(Answer { session: Session { media, ..session(ours, origin) }, agreed })
}

/// What `answer` to our `offer` settles.
pub fn settle(offer: &Session, answer: &Session) -> Result<Agreed, Refused> {
    if offer.media.len() != answer.media.len() {
        return Err(Refused::Lines { offered: offer.media.len(), answered: answer.media.len() });
    }
    let ours = offer.media.iter().enumerate().find(|(_, m)| m.kind == "audio" && m.port != 0);
    let (index, ours) = ours.ok_or(Refused::NoAudio(kinds(offer)))?;
    let theirs_section = answer.media.get(index).filter(|m| m.kind == "audio" && m.port != 0).ok_or(Refused::NoAudio(kinds(answer)))?;
    let offered = ours.payload_types().filter_map(|pt| Some((pt, codec(ours, pt)?))).collect::<Vec<_>>();
    let codecs = offered.iter().map(|(_, codec)| *codec).collect::<Vec<_>>();
    let answered = common(theirs_section, &codecs);
    let capabilities = Capabilities { codecs, telephone_event: true };
    let (pt, codec) = *answered.first().ok_or_else(|| no_codec(theirs_section, &capabilities))?;
    // §7: the peer sends only what it answered with, under the numbers that we offered.
    let recv = offered.into_iter().filter(|(_, codec)| answered.iter().any(|(_, a)| a == codec)).collect();
    let events = events(ours).zip(events(theirs_section));
    Ok(Agreed {
        remote: remote(answer, theirs_section)?,
        codec,
        pt,
        recv,
        telephone_event: events.map(|(recv, send)| TelephoneEvent { send, recv, clock: CLOCK }),
        direction: theirs(answer, theirs_section).reversed().and(offer.direction(ours)),
        ptime_ms: ptime(theirs_section),
        index,
    })
}

/// The codecs of a description that we can name, in its order: what a call may be relayed with.
pub fn codecs(session: &Session) -> Vec<Codec> {
    let every = [Codec::Pcmu, Codec::Pcma, Codec::G722];
    usable(session).find(|(_, m)| !common(m, &every).is_empty()).map_or_else(Vec::new, |(_, m)| {
        let mut codecs = Vec::new();
        for (_, codec) in common(m, &every) {
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        codecs
    })
}

/// As SDP names it.
pub fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Pcmu => "PCMU",
        Codec::Pcma => "PCMA",
        Codec::G722 => "G722",
    }
}

/// Sections that RTP audio could use.
fn usable(session: &Session) -> impl Iterator<Item = (usize, &Media)> {
    // RTP/AVPF is AVP with earlier feedback (RFC 4585), which we are free not to send.
    session
        .media
        .iter()
        .enumerate()
        .filter(|(_, m)| m.kind == "audio" && m.port != 0 && matches!(m.protocol.as_str(), "RTP/AVP" | "RTP/AVPF"))
}

/// The first section with a codec of ours.
fn audio<'s>(offer: &'s Session, capabilities: &Capabilities) -> Result<(usize, &'s Media), Refused> {
    match usable(offer).find(|(_, m)| !common(m, &capabilities.codecs).is_empty()) {
        Some(found) => Ok(found),
        None => Err(match usable(offer).next() {
            Some((_, section)) => no_codec(section, capabilities),
            None => Refused::NoAudio(kinds(offer)),
        }),
    }
}

fn no_codec(section: &Media, capabilities: &Capabilities) -> Refused {
    let offered =
        section.payload_types().map(|pt| section.rtpmap(pt).map_or_else(|| pt.to_string(), |map| format!("{}/{}", map.name, map.clock)));
    Refused::NoCodec {
        offered: offered.collect::<Vec<_>>().join(", "),
        ours: capabilities.codecs.iter().map(|c| name(*c)).collect::<Vec<_>>().join(", "),
    }
}

fn kinds(session: &Session) -> String {
    match session.media.as_slice() {
        [] => "no m= line at all".into(),
        some => some.iter().map(|m| format!("{} {} port {}", m.kind, m.protocol, m.port)).collect::<Vec<_>>().join(", "),
    }
}

fn codec(section: &Media, pt: u8) -> Option<Codec> {
    let map = section.rtpmap(pt)?;
    // RFC 3551 §4.5.2: G.722's RTP clock says 8000 though it samples at 16,000.
    let found = [Codec::Pcmu, Codec::Pcma, Codec::G722].into_iter().find(|codec| name(*codec).eq_ignore_ascii_case(&map.name))?;
    (map.clock == CLOCK).then_some(found)
}

fn common(section: &Media, ours: &[Codec]) -> Vec<(u8, Codec)> {
    section.payload_types().filter_map(|pt| Some((pt, codec(section, pt)?))).filter(|(_, codec)| ours.contains(codec)).collect()
}

/// The payload type of telephone-event with the clock of our codecs.
fn events(section: &Media) -> Option<u8> {
    let is_event = |pt: &u8| section.rtpmap(*pt).is_some_and(|m| m.name.eq_ignore_ascii_case("telephone-event") && m.clock == CLOCK);
    section.payload_types().find(is_event)
}

fn remote(session: &Session, section: &Media) -> Result<SocketAddr, Refused> {
    Ok(SocketAddr::new(session.address(section).ok_or(Refused::NoAddress)?, section.port))
}

/// The direction from the peer's side; an address of zeros is the old way to put somebody on hold (RFC 3264 §8.4).
fn theirs(session: &Session, section: &Media) -> Direction {
    let direction = session.direction(section);
    let held = session.address(section).is_some_and(|ip| ip.is_unspecified());
    if held { direction.and(Direction::SendOnly) } else { direction }
}

fn ptime(section: &Media) -> u32 {
    section.attribute("ptime").and_then(|v| v.trim().parse().ok()).filter(|ms| PTIME_MS_RANGE.contains(ms)).unwrap_or(PTIME_MS)
}

fn number(codec: Codec) -> u8 {
    // RFC 3551 §6.
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
    }
}

fn session(ours: SocketAddr, origin: Origin) -> Session {
    let host = match ours.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.to_string(),
    };
    Session { origin, name: "-".into(), connection: Some(host), attributes: Vec::new(), media: Vec::new() }
}

fn section(codecs: &[(u8, Codec)], events: Option<u8>, port: u16, direction: Direction) -> Media {
    let mut formats = Vec::new();
    let mut attributes = Vec::new();
    for (pt, codec) in codecs {
        formats.push(pt.to_string());
        attributes.push(Attribute::with("rtpmap", format!("{pt} {}/{CLOCK}", name(*codec))));
    }
    if let Some(pt) = events {
        formats.push(pt.to_string());
        attributes.push(Attribute::with("rtpmap", format!("{pt} telephone-event/{CLOCK}")));
        // RFC 4733 §2.4.1: the sixteen keys.
        attributes.push(Attribute::with("fmtp", format!("{pt} 0-15")));
    }
    attributes.push(Attribute::with("ptime", PTIME_MS.to_string()));
    attributes.push(Attribute::flag(direction.name()));
    Media { kind: "audio".into(), port, protocol: "RTP/AVP".into(), formats, connection: None, attributes }
}

/// RTP clock of PCMU, PCMA and G722 (RFC 3551 table 4), Hz.
const CLOCK: u32 = 8000;
/// The payload type that most phones use for telephone-event.
const TELEPHONE_EVENT: u8 = 101;
/// RFC 3551 §4.2: the default packetisation.
const PTIME_MS: u32 = 20;
/// What we send if asked: more would delay, less would only cost.
const PTIME_MS_RANGE: std::ops::RangeInclusive<u32> = 10..=60;
