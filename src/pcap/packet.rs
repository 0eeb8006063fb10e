//! What a frame carries: from its link up to UDP and TCP.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::Frame;

/// A UDP datagram or a TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// Which of the two.
    pub transport: Transport,
    /// What it carries.
    pub payload: Cow<'a, [u8]>,
}

/// What carries a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A segment.
    Tcp {
        /// Number of its first octet.
        sequence: u32,
        /// It opens the connection.
        syn: bool,
    },
}

/// What the internet layer of a frame carries.
pub(super) struct Internet<'a> {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) protocol: u8,
    pub(super) payload: &'a [u8],
    /// Where it is only a part.
    pub(super) fragment: Option<Fragment>,
}

/// Which part of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    pub(super) id: u32,
    /// In octets.
    pub(super) offset: usize,
    pub(super) more: bool,
}

/// What a frame carries of the internet layer, whole or a part; or in a word why it is none of ours.
pub(super) fn internet<'a>(frame: &Frame<'a>) -> Result<Internet<'a>, &'static str> {
    let (kind, network) = network(frame.link, frame.bytes)?;
    match kind {
        0x0800 => ipv4(network),
        0x86dd => ipv6(network),
        0x0806 => Err("ARP"),
        _ => Err("neither IPv4 nor IPv6"),
    }
}

const CUT: &str = "cut short";

fn two(bytes: &[u8], at: usize) -> Result<u16, &'static str> {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes).ok_or(CUT)
}

fn after(bytes: &[u8], octets: usize) -> Result<&[u8], &'static str> {
    bytes.get(octets..).ok_or(CUT)
}

/// The network layer's EtherType and octets.
fn network(link: u16, bytes: &[u8]) -> Result<(u16, &[u8]), &'static str> {
    match link {
        0 | 108 => {
            // An address family in the byte order of whoever captured.
            let family = bytes.first().copied().unwrap_or(0) | bytes.get(3).copied().unwrap_or(0);
            Ok((if family == 2 { 0x0800 } else { 0x86dd }, after(bytes, 4)?))
        }
        1 => {
            let (mut kind, mut rest) = (two(bytes, 12)?, after(bytes, 14)?);
            while matches!(kind, 0x8100 | 0x88a8 | 0x9100) {
                (kind, rest) = (two(rest, 2)?, after(rest, 4)?);
            }
            if kind == 0x8864 {
                // PPPoE: six octets and the protocol of PPP.
                kind = match two(rest, 6)? {
                    0x0021 => 0x0800,
                    0x0057 => 0x86dd,
                    _ => return Err("PPP without IP"),
                };
                rest = after(rest, 8)?;
            }
            Ok((kind, rest))
        }
        12 | 14 | 101 => Ok((if bytes.first().is_some_and(|b| b >> 4 == 6) { 0x86dd } else { 0x0800 }, bytes)),
        113 => Ok((two(bytes, 14)?, after(bytes, 16)?)),
        276 => Ok((two(bytes, 0)?, after(bytes, 20)?)),
        _ => Err("a link type that is not read"),
    }
}

fn ipv4(bytes: &[u8]) -> Result<Internet<'_>, &'static str> {
    let head = usize::from(bytes.first().ok_or(CUT)? & 0x0f) * 4;
    let length = usize::from(two(bytes, 2)?);
    let field = two(bytes, 6)?;
    let address = |at: usize| {
        let octets: [u8; 4] = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or(CUT)?;
        Ok::<_, &'static str>(IpAddr::V4(Ipv4Addr::from(octets)))
    };
    let protocol = bytes.get(9).copied().ok_or(CUT)?;
    // A length of 0 is left to the network card; a frame may be longer than the packet by padding.
    let end = if length == 0 { bytes.len() } else { length.min(bytes.len()) };
    let payload = bytes.get(head..end).ok_or(CUT)?;
    let more = field & 0x2000 != 0;
    let offset = usize::from(field & 0x1fff) * 8;
    // RFC 791 §3.2.
    let fragment = (more || offset != 0).then_some(Fragment { id: u32::from(two(bytes, 4)?), offset, more });
    Ok(Internet { from: address(12)?, to: address(16)?, protocol, payload, fragment })
}

fn ipv6(bytes: &[u8]) -> Result<Internet<'_>, &'static str> {
    let length = usize::from(two(bytes, 4)?);
    let address = |at: usize| {
        let octets: [u8; 16] = bytes.get(at..at + 16).and_then(|b| b.try_into().ok()).ok_or(CUT)?;
        Ok::<_, &'static str>(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let (from, to) = (address(8)?, address(24)?);
    let mut protocol = bytes.get(6).copied().ok_or(CUT)?;
    let end = if length == 0 { bytes.len() } else { (40 + length).min(bytes.len()) };
    let mut payload = bytes.get(40..end).ok_or(CUT)?;
    let mut fragment = None;
    // RFC 8200 §4: hop-by-hop options, routing, destination options, and the fragment header.
    for _ in 0..EXTENSIONS_MAX {
        match protocol {
            0 | 43 | 60 => {
                let size = (usize::from(*payload.get(1).ok_or(CUT)?) + 1) * 8;
                protocol = *payload.first().ok_or(CUT)?;
                payload = after(payload, size)?;
            }
            44 => {
                let field = two(payload, 2)?;
                let id = payload.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or(CUT)?;
                let (offset, more) = (usize::from(field & 0xfff8), field & 1 != 0);
                protocol = *payload.first().ok_or(CUT)?;
                payload = after(payload, 8)?;
                fragment = (more || offset != 0).then_some(Fragment { id, offset, more });
                break;
            }
            _ => break,
        }
    }
    Ok(Internet { from, to, protocol, payload, fragment })
}

/// Headers between an IPv6 header and what it carries.
const EXTENSIONS_MAX: usize = 8;

/// A whole datagram or segment.
pub(super) fn transport(protocol: u8, from: IpAddr, to: IpAddr, bytes: &[u8]) -> Result<Packet<'_>, &'static str> {
    let ends = || Ok::<_, &'static str>((SocketAddr::new(from, two(bytes, 0)?), SocketAddr::new(to, two(bytes, 2)?)));
    match protocol {
        17 => {
            let (from, to) = ends()?;
            let length = usize::from(two(bytes, 4)?);
            let end = if length == 0 { bytes.len() } else { length.min(bytes.len()) };
            Ok(Packet { from, to, transport: Transport::Udp, payload: bytes.get(8..end).ok_or(CUT)?.into() })
        }
        6 => {
            let (from, to) = ends()?;
            let sequence = bytes.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or(CUT)?;
            let head = usize::from(bytes.get(12).ok_or(CUT)? >> 4) * 4;
            let syn = bytes.get(13).ok_or(CUT)? & 0x02 != 0;
            Ok(Packet { from, to, transport: Transport::Tcp { sequence, syn }, payload: after(bytes, head)?.into() })
        }
        1 | 58 => Err("ICMP"),
        2 => Err("IGMP"),
        _ => Err("neither UDP nor TCP"),
    }
}
