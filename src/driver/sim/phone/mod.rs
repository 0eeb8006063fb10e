//! Callers and platforms: each a SIP endpoint of its own with a packet every 20 ms, doing what its script says and keeping what it saw.

mod caller;
mod platform;

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use super::outside::SIP;
use crate::{
    chance::Chance,
    rtp,
    sip::{
        Endpoint, Uri,
        endpoint::{ConnectionId, Destination, Transmit, Transport},
    },
    time::Instant,
};

pub(super) use caller::{Caller, Stage};
pub(super) use platform::Platform;

/// Frames of a key, and from one key to the next.
const KEY_FRAMES: u32 = 5;
const KEY_STEP: Duration = Duration::from_millis(200);
const FRAME: Duration = Duration::from_millis(20);
const EVENTS: u8 = 101;

/// What both ends of one call know of each other beside what they say by SIP: how far the story is.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    /// The platform was told that its phase stands.
    pub(super) stands: bool,
    /// It was refused.
    pub(super) refused: bool,
    /// The caller has keyed his card.
    pub(super) keyed: bool,
    /// Since when the phase is over.
    pub(super) over: Option<Instant>,
    /// The gateway's id of the call, as the platform was told.
    pub(super) call_id: Option<String>,
    /// When the platform's end of the call ended, or its process died.
    pub(super) platform_done: Option<Instant>,
    /// When a platform that lives knew how the call went: its webhook follows.
    pub(super) report: Option<Instant>,
}

/// A stream that is sent.
#[derive(Clone, Debug)]
struct Talk {
    from: SocketAddr,
    to: SocketAddr,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    next: Instant,
    /// A key under way: its digit, its time stamp, its frame.
    key: Option<(u8, u32, u32)>,
}

impl Talk {
    fn new(from: SocketAddr, to: SocketAddr, now: Instant, chance: &mut Chance) -> Self {
        let [a, b, ..] = chance.u32().to_be_bytes();
        Self { from, to, ssrc: chance.u32(), sequence: u16::from_be_bytes([a, b]), timestamp: chance.u32(), next: now, key: None }
    }

    fn press(&mut self, digit: char) {
        let code = "0123456789*#".find(digit).and_then(|at| u8::try_from(at).ok()).unwrap_or(0);
        self.key = Some((code, self.timestamp, 0));
    }

    /// The packets of this frame.
    fn frame(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        match self.key {
            Some((code, stamp, frame)) => {
                let end = frame + 1 == KEY_FRAMES;
                let duration = (frame + 1) * 160;
                let [_, _, high, low] = duration.to_be_bytes();
                for _ in 0..if end { 3 } else { 1 } {
                    packets.push(self.packet(EVENTS, frame == 0, stamp, &[code, if end { 0x80 | 10 } else { 10 }, high, low]));
                }
                self.key = (!end).then_some((code, stamp, frame + 1));
            }
            None => packets.push(self.packet(0, false, self.timestamp, &[0x55; 160])),
        }
        self.timestamp = self.timestamp.wrapping_add(160);
        self.next += FRAME;
        packets
    }

    fn packet(&mut self, pt: u8, marker: bool, stamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; rtp::HEADER_OCTETS];
        rtp::write(&mut packet, 0, marker, pt, self.sequence, stamp, self.ssrc);
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}

/// What a phone heard on its RTP port.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Audio packets.
    pub(super) sound: u64,
    /// Digits that telephone-event packets spell, each once.
    pub(super) digits: String,
    seen: BTreeSet<(u32, u32)>,
}

impl Heard {
    fn packet(&mut self, octets: &[u8]) {
        let Ok(header) = rtp::Header::parse(octets) else { return };
        if header.payload_type != EVENTS {
            self.sound += 1;
        } else if self.seen.insert((header.ssrc, header.timestamp)) {
            let code = octets.get(header.payload.start).copied().unwrap_or(255);
            self.digits.extend("0123456789*#".chars().nth(usize::from(code)));
        }
    }
}

fn sdp(at: SocketAddr) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n",
        at.ip(),
        at.port()
    )
}

fn media_of(body: &[u8]) -> Option<SocketAddr> {
    let text = String::from_utf8_lossy(body);
    let ip = text.lines().find_map(|l| l.strip_prefix("c=IN IP4 "))?.trim().parse().ok()?;
    let port = text.lines().find_map(|l| l.strip_prefix("m=audio "))?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

fn destination(from: SocketAddr, transport: Transport) -> Destination {
    Destination { transport, remote: SIP, listener: 0, sent_by: from.to_string() }
}

/// What leaves a phone's SIP socket.
pub(super) enum Leaves {
    /// A datagram, from whom, to whom.
    Datagram(SocketAddr, SocketAddr, Vec<u8>),
    /// It opens a stream to the gateway; of whom, under which id.
    Opens(SocketAddr, ConnectionId),
    /// Octets of a stream.
    Octets(SocketAddr, ConnectionId, Vec<u8>),
    /// It closes one.
    Closes(SocketAddr, ConnectionId),
}

/// Everything that an endpoint wants sent.
fn leaves(endpoint: &mut Endpoint, at: SocketAddr, out: &mut Vec<Leaves>) {
    while let Some(transmit) = endpoint.poll_transmit() {
        out.push(match transmit {
            Transmit::Datagram { to, bytes, .. } => Leaves::Datagram(at, to, bytes.to_vec()),
            Transmit::Connect { connection, .. } => Leaves::Opens(at, connection),
            Transmit::Stream { connection, bytes } => Leaves::Octets(at, connection, bytes.to_vec()),
            Transmit::Close { connection } => Leaves::Closes(at, connection),
        });
    }
}

/// What happens to a stream at a phone's end.
pub(super) enum OnStream<'o> {
    Opened,
    Octets(&'o [u8]),
    Closed,
}

fn on_stream(endpoint: &mut Endpoint, now: Instant, connection: ConnectionId, what: &OnStream<'_>) {
    match what {
        OnStream::Opened => endpoint.handle_connected(connection, SIP, 0),
        OnStream::Octets(octets) => endpoint.handle_stream(now, connection, octets),
        OnStream::Closed => endpoint.handle_closed(now, connection),
    }
}

fn uri(text: &str) -> Uri {
    text.parse().unwrap_or_else(|_| Uri::sip("", "invalid", None))
}
