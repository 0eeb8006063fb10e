//! Capture files: pcap and pcapng, and what a frame of them carries as far as UDP and TCP.
//!
//! Bytes in, values out. Nothing in a file is trusted: a length that does not fit ends the reading and says where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::time::Wall;

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// From 1, as every other tool counts.
    pub number: u64,
    /// When it was captured.
    pub at: Wall,
    /// Link type (LINKTYPE_ values).
    pub link: u16,
    /// What was captured of it.
    pub bytes: &'a [u8],
}

/// Where a file can be read no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after frame {frame}, at octet {offset}: {why}")]
pub struct Stopped {
    /// The last frame that was read.
    pub frame: u64,
    /// Octets from the start of the file.
    pub offset: usize,
    /// What is wrong there.
    pub why: &'static str,
}

/// Reads a file's frames one after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    file: &'a [u8],
    at: usize,
    number: u64,
    form: Form,
    stopped: bool,
}

#[derive(Clone, Debug)]
enum Form {
    /// One link type and one resolution for the whole file.
    Classic { big: bool, nanos: bool, link: u16 },
    /// Interfaces of the section: link type and octet of resolution.
    Next { big: bool, interfaces: Vec<(u16, u8)> },
}

/// Frames longer than this are no frames: what every capture tool takes for the most.
const FRAME_MAX: usize = 262_144;
/// Interfaces of a section.
const INTERFACES_MAX: usize = 256;

impl<'a> Reader<'a> {
    /// Looks at a file's head.
    pub fn new(file: &'a [u8]) -> Result<Self, Stopped> {
        let stop = |why| Stopped { frame: 0, offset: 0, why };
        let magic = file.first_chunk::<4>().ok_or_else(|| stop("shorter than the head of a capture"))?;
        let (form, at) = match *magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (Form::Classic { big: false, nanos: false, link: 0 }, 24),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Form::Classic { big: false, nanos: true, link: 0 }, 24),
            [0xa1, 0xb2, 0xc3, 0xd4] => (Form::Classic { big: true, nanos: false, link: 0 }, 24),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Form::Classic { big: true, nanos: true, link: 0 }, 24),
            [0x0a, 0x0d, 0x0d, 0x0a] => (Form::Next { big: false, interfaces: Vec::new() }, 0),
            _ => return Err(stop("neither a pcap nor a pcapng file: save it as one of the two")),
        };
        let mut reader = Self { file, at, number: 0, form, stopped: false };
        if let Form::Classic { big, nanos, .. } = reader.form {
            let link = reader.long(20, big).ok_or_else(|| stop("shorter than the head of a capture"))?;
            // The upper bits tell of checksums and are not part of the type.
            reader.form = Form::Classic { big, nanos, link: u16::try_from(link & 0xffff).unwrap_or(0) };
        }
        Ok(reader)
    }

    fn long(&self, at: usize, big: bool) -> Option<u32> {
        let octets = self.file.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) })
    }

    fn size(&self, at: usize, big: bool) -> Option<usize> {
        usize::try_from(self.long(at, big)?).ok()
    }

    fn stop(&mut self, why: &'static str) -> Option<Result<Frame<'a>, Stopped>> {
        self.stopped = true;
        Some(Err(Stopped { frame: self.number, offset: self.at, why }))
    }

    fn classic(&mut self, big: bool, nanos: bool, link: u16) -> Option<Result<Frame<'a>, Stopped>> {
        let head = (self.long(self.at, big), self.long(self.at + 4, big), self.size(self.at + 8, big));
        let (Some(seconds), Some(parts), Some(length)) = head else { return self.stop("the file ends within a frame's head") };
        if length > FRAME_MAX {
            return self.stop("a frame longer than any: the file is damaged");
        }
        let Some(bytes) = self.file.get(self.at + 16..self.at + 16 + length) else { return self.stop("the file ends within a frame") };
        self.at += 16 + length;
        self.number += 1;
        let micros = i64::from(seconds) * 1_000_000 + i64::from(parts) / if nanos { 1000 } else { 1 };
        Some(Ok(Frame { number: self.number, at: Wall::from_micros(micros), link, bytes }))
    }

    fn next_block(&mut self) -> Option<Result<Frame<'a>, Stopped>> {
        while self.at < self.file.len() {
            let start = self.at;
            if self.file.get(start..start + 4) == Some(&[0x0a, 0x0d, 0x0d, 0x0a]) {
                let big = match self.file.get(start + 8..start + 12) {
                    Some([0x1a, 0x2b, 0x3c, 0x4d]) => true,
                    Some([0x4d, 0x3c, 0x2b, 0x1a]) => false,
                    _ => return self.stop("a section whose byte order cannot be told"),
                };
                self.form = Form::Next { big, interfaces: Vec::new() };
            }
            let Form::Next { big, .. } = self.form else { return None };
            let (Some(kind), Some(length)) = (self.long(start, big), self.size(start + 4, big)) else {
                return self.stop("the file ends within a block's head");
            };
            if length < 12 || !length.is_multiple_of(4) {
                return self.stop("a block whose length cannot be");
            }
            let Some(end) = start.checked_add(length).filter(|end| *end <= self.file.len()) else {
                return self.stop("the file ends within a block");
            };
            self.at = end;
            match kind {
                1 => self.interface(start, end, big),
                6 => match self.packet_block(start, end, big) {
                    Some(frame) => return Some(Ok(frame)),
                    None => {
                        self.at = start;
                        return self.stop("a packet block whose lengths do not fit");
                    }
                },
                _ => {}
            }
        }
        None
    }

    fn interface(&mut self, start: usize, end: usize, big: bool) {
        let two = |at: usize| {
            let octets = self.file.get(at..at + 2)?.try_into().ok()?;
            Some(if big { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) })
        };
        let link = two(start + 8).unwrap_or(0);
        let mut resolution = 6;
        let mut at = start + 16;
        // Options: code, length, value padded to four octets; 9 is the time stamps' resolution.
        while let (true, Some(code), Some(length)) = (at + 4 <= end, two(at), two(at + 2)) {
            match code {
                0 => break,
                9 => resolution = self.file.get(at + 4).copied().unwrap_or(6),
                _ => {}
            }
            at += 4 + usize::from(length).next_multiple_of(4);
        }
        if let Form::Next { interfaces, .. } = &mut self.form
            && interfaces.len() < INTERFACES_MAX
        {
            interfaces.push((link, resolution));
        }
    }

    fn packet_block(&mut self, start: usize, end: usize, big: bool) -> Option<Frame<'a>> {
        let interface = self.size(start + 8, big)?;
        let (high, low) = (u64::from(self.long(start + 12, big)?), u64::from(self.long(start + 16, big)?));
        let length = self.size(start + 20, big)?;
        let bytes = self.file.get(start + 28..(start + 28).checked_add(length)?.min(end))?;
        let Form::Next { interfaces, .. } = &self.form else { return None };
        let (link, resolution) = *interfaces.get(interface)?;
        let stamp = (high << 32) | low;
        let micros = match resolution {
            ten @ 0..=6 => stamp.saturating_mul(10_u64.pow(6 - u32::from(ten))),
            ten @ 7..=25 => stamp / 10_u64.pow((u32::from(ten) - 6).min(19)),
            two => {
                let shift = u32::from(two & 0x7f).min(63);
                u64::try_from((u128::from(stamp) * 1_000_000) >> shift).unwrap_or(u64::MAX)
            }
        };
        self.number += 1;
        Some(Frame { number: self.number, at: Wall::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)), link, bytes })
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Frame<'a>, Stopped>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.stopped || self.at >= self.file.len() {
            return None;
        }
        match self.form {
            Form::Classic { big, nanos, link } => self.classic(big, nanos, link),
            Form::Next { .. } => self.next_block(),
        }
    }
}

/// A UDP datagram or a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// Which of the two.
    pub transport: Transport,
    /// What it carries.
    pub payload: &'a [u8],
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

/// What a frame carries, or in a word why it is none of ours.
pub fn packet<'a>(frame: &Frame<'a>) -> Result<Packet<'a>, &'static str> {
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
            while matches!(kind, 0x8100 | 0x88a8) {
                (kind, rest) = (two(rest, 2)?, after(rest, 4)?);
            }
            if kind == 0x8864 {
                // PPPoE: six octets and the protocol of PPP.
                kind = if two(rest, 6)? == 0x0021 { 0x0800 } else { 0x86dd };
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

fn ipv4(bytes: &[u8]) -> Result<Packet<'_>, &'static str> {
    let head = usize::from(bytes.first().ok_or(CUT)? & 0x0f) * 4;
    let length = usize::from(two(bytes, 2)?);
    let fragment = two(bytes, 6)?;
    if fragment & 0x3fff != 0 {
        return Err("a fragment");
    }
    let address = |at: usize| {
        let octets: [u8; 4] = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or(CUT)?;
        Ok::<_, &'static str>(IpAddr::V4(Ipv4Addr::from(octets)))
    };
    let protocol = bytes.get(9).copied().ok_or(CUT)?;
    // A length of 0 is left to the network card; a frame may be longer than the packet by padding.
    let end = if length == 0 { bytes.len() } else { length.min(bytes.len()) };
    transport(protocol, address(12)?, address(16)?, bytes.get(head..end).ok_or(CUT)?)
}

fn ipv6(bytes: &[u8]) -> Result<Packet<'_>, &'static str> {
    let length = usize::from(two(bytes, 4)?);
    let address = |at: usize| {
        let octets: [u8; 16] = bytes.get(at..at + 16).and_then(|b| b.try_into().ok()).ok_or(CUT)?;
        Ok::<_, &'static str>(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let protocol = bytes.get(6).copied().ok_or(CUT)?;
    let end = (40 + length).min(bytes.len());
    transport(protocol, address(8)?, address(24)?, bytes.get(40..end).ok_or(CUT)?)
}

fn transport(protocol: u8, from: IpAddr, to: IpAddr, bytes: &[u8]) -> Result<Packet<'_>, &'static str> {
    let ends = || Ok::<_, &'static str>((SocketAddr::new(from, two(bytes, 0)?), SocketAddr::new(to, two(bytes, 2)?)));
    match protocol {
        17 => {
            let (from, to) = ends()?;
            let length = usize::from(two(bytes, 4)?);
            let end = if length == 0 { bytes.len() } else { length.min(bytes.len()) };
            Ok(Packet { from, to, transport: Transport::Udp, payload: bytes.get(8..end).ok_or(CUT)? })
        }
        6 => {
            let (from, to) = ends()?;
            let sequence = bytes.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or(CUT)?;
            let head = usize::from(bytes.get(12).ok_or(CUT)? >> 4) * 4;
            let syn = bytes.get(13).ok_or(CUT)? & 0x02 != 0;
            Ok(Packet { from, to, transport: Transport::Tcp { sequence, syn }, payload: after(bytes, head)? })
        }
        1 | 58 => Err("ICMP"),
        2 => Err("IGMP"),
        _ => Err("neither UDP nor TCP"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A classic capture of one UDP datagram in an Ethernet frame.
    fn capture(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
        let udp = u8::try_from(8 + payload.len()).expect("short");
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 20 + udp, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x13, 0xc4, 0x13, 0xc5, 0, udp, 0, 0]);
        frame.extend(payload);
        // Padding of the link that is no part of the packet.
        frame.extend([0xee; 6]);
        let length = u32::try_from(frame.len()).expect("short").to_le_bytes();
        file.extend(100_u32.to_le_bytes());
        file.extend(250_u32.to_le_bytes());
        file.extend(length);
        file.extend(length);
        file.extend(frame);
        file
    }

    #[test]
    fn a_datagram_is_found_in_its_frame() {
        let file = capture(b"hello");
        let frames: Vec<_> = Reader::new(&file).expect("a capture").collect::<Result<_, _>>().expect("whole");
        assert_eq!((frames.len(), frames[0].number, frames[0].at.as_micros()), (1, 1, 100_000_250));
        let found = packet(&frames[0]).expect("a packet");
        assert_eq!((found.from, found.to), ("10.0.0.1:5060".parse().expect("x"), "10.0.0.2:5061".parse().expect("x")));
        assert_eq!((found.transport, found.payload), (Transport::Udp, b"hello".as_slice()));
    }

    #[test]
    fn a_file_that_ends_early_says_where() {
        let file = capture(b"hello");
        let cut = &file[..file.len() - 3];
        let stopped = Reader::new(cut).expect("a capture").last().expect("something").expect_err("cut");
        assert_eq!((stopped.frame, stopped.offset), (0, 24));
        assert!(Reader::new(b"GIF89a").is_err());
    }

    proptest! {
        #[test]
        fn nothing_in_a_file_is_trusted(mut file in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..60, ng in any::<bool>()) {
            if ng {
                file.splice(0..0, [0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 28, 0, 0, 0]);
            } else {
                let mut whole = capture(b"hello");
                if let Some(octet) = whole.get_mut(24 + at) { *octet = file.first().copied().unwrap_or(0); }
                whole.extend(file);
                file = whole;
            }
            if let Ok(reader) = Reader::new(&file) {
                for frame in reader.flatten() {
                    let _ = packet(&frame);
                }
            }
        }
    }
}
