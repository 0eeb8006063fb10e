//! RTP packets (RFC 3550 §5.1): a checked view, edited in place, and what a stream's sequence numbers tell.

pub mod packet;
pub mod rtcp;
pub mod sequence;

use std::ops::Range;

pub use packet::Packet;
pub use sequence::Sequence;

/// Octets of the fixed header.
pub const HEADER_OCTETS: usize = 12;

/// What a packet's header says. Only made of packets whose lengths hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// First packet of a talk spurt.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Time stamp, in ticks of the stream's clock.
    pub timestamp: u32,
    /// Source.
    pub ssrc: u32,
    /// Where the payload lies in the packet, padding left out.
    pub payload: Range<usize>,
}

/// Why octets are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than what its header says.
    #[error("shorter than its header says (RFC 3550 §5.1)")]
    Short,
    /// Another version than 2, such as STUN or DTLS on the same port.
    #[error("version {0}, not 2 (RFC 3550 §5.1)")]
    Version(u8),
    /// RTCP on the port of RTP: types 192 to 223 (RFC 5761 §4).
    #[error("RTCP of type {0} on the port of RTP (RFC 5761 §4)")]
    Rtcp(u8),
    /// Padding of no octets, or of more than there are.
    #[error("padding of {0} octets (RFC 3550 §5.1)")]
    Padding(u8),
}

impl Header {
    /// Reads a packet's header.
    pub fn parse(packet: &[u8]) -> Result<Self, Error> {
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3, ..] = *packet else { return Err(Error::Short) };
        if first >> 6 != 2 {
            return Err(Error::Version(first >> 6));
        }
        if (192..=223).contains(&second) {
            return Err(Error::Rtcp(second));
        }
        let mut start = HEADER_OCTETS + usize::from(first & 0x0f) * 4;
        if first & 0x10 != 0 {
            let Some([_, _, high, low]) = packet.get(start..start + 4) else { return Err(Error::Short) };
            start += 4 + usize::from(u16::from_be_bytes([*high, *low])) * 4;
        }
        let mut end = packet.len();
        if start > end {
            return Err(Error::Short);
        }
        if first & 0x20 != 0 {
            let padding = packet.last().copied().unwrap_or(0);
            if padding == 0 || usize::from(padding) > end - start {
                return Err(Error::Padding(padding));
            }
            end -= usize::from(padding);
        }
        Ok(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            payload: start..end,
        })
    }
}

/// Writes a fixed header over the first twelve octets; a shorter packet stays as it is. `keep` are the bits of the first octet (padding, extension, number
/// of sources) that the rest of the packet goes with: those of the packet that is edited, or 0 for a new one.
pub fn write(packet: &mut [u8], keep: u8, marker: bool, payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32) {
    let Some(header) = packet.first_chunk_mut::<HEADER_OCTETS>() else { return };
    let [s0, s1] = sequence.to_be_bytes();
    let [t0, t1, t2, t3] = timestamp.to_be_bytes();
    let [c0, c1, c2, c3] = ssrc.to_be_bytes();
    *header = [0x80 | keep & 0x3f, if marker { 0x80 } else { 0 } | payload_type & 0x7f, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(first: u8, tail: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; HEADER_OCTETS];
        write(&mut packet, first, true, 8, 65_535, 7, 9);
        packet.extend(tail);
        packet
    }

    #[test]
    fn lengths_that_do_not_hold_together_are_refused() {
        assert_eq!(Header::parse(&packet(0, &[1, 2])).expect("a packet").payload, 12..14);
        assert_eq!(Header::parse(&packet(1, &[0; 3])), Err(Error::Short), "one source more than there is");
        assert_eq!(Header::parse(&packet(0x10, &[0, 0, 0, 1, 0])), Err(Error::Short), "an extension longer than the packet");
        assert_eq!(Header::parse(&packet(0x10, &[0, 0, 0, 1, 0, 0, 0, 0, 5])).expect("a packet").payload, 20..21);
        assert_eq!(Header::parse(&packet(0x20, &[7, 0])), Err(Error::Padding(0)));
        assert_eq!(Header::parse(&packet(0x20, &[7, 3])), Err(Error::Padding(3)));
        assert_eq!(Header::parse(&packet(0x20, &[7, 8, 2])).expect("a packet").payload, 12..13);
        assert_eq!(Header::parse(&[0x40; 12]), Err(Error::Version(1)));
        assert_eq!(Header::parse(&[0x80, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Error::Rtcp(200)));
        assert_eq!(Header::parse(&[0x80; 11]), Err(Error::Short));
    }

    proptest! {
        #[test]
        fn a_packet_of_all_its_parts_tells_them(
            marker: bool, payload_type in (0_u8..128).prop_filter("no RTCP", |pt| !(64..=95).contains(pt)), sequence: u16, timestamp: u32, ssrc: u32,
            sources in proptest::collection::vec(any::<u32>(), 0..16),
            extension in proptest::option::of((any::<u16>(), proptest::collection::vec(any::<u32>(), 0..5))),
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            padding in proptest::option::of(1_u8..20),
        ) {
            let first = u8::try_from(sources.len()).expect("fits") | if extension.is_some() { 0x10 } else { 0 } | if padding.is_some() { 0x20 } else { 0 };
            let mut packet = vec![0; HEADER_OCTETS];
            write(&mut packet, first, marker, payload_type, sequence, timestamp, ssrc);
            packet.extend(sources.iter().flat_map(|source| source.to_be_bytes()));
            if let Some((profile, words)) = extension {
                packet.extend(profile.to_be_bytes());
                packet.extend(u16::try_from(words.len()).expect("fits").to_be_bytes());
                packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            }
            let start = packet.len();
            packet.extend(&payload);
            if let Some(count) = padding {
                packet.extend(vec![0; usize::from(count) - 1]);
                packet.push(count);
            }
            let wanted = Header { marker, payload_type, sequence, timestamp, ssrc, payload: start..start + payload.len() };
            prop_assert_eq!(Header::parse(&packet), Ok(wanted));
        }

        #[test]
        fn what_is_read_can_be_written_again(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert!(header.payload.start >= HEADER_OCTETS && header.payload.end <= bytes.len());
                let before = bytes.clone();
                let keep = bytes[0];
                write(&mut bytes, keep, header.marker, header.payload_type, header.sequence, header.timestamp, header.ssrc);
                prop_assert_eq!(&bytes, &before);
            }
        }
    }
}
