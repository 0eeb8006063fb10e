//! RTCP as far as telling it apart and whole: the packets of a compound (RFC 3550 §6.1, Appendix A.2), or of a reduced-size one (RFC 5506).

use std::ops::Range;

/// One packet of a compound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Packet type: 200 SR, 201 RR, 202 SDES, 203 BYE, 204 APP, 205 RTPFB, 206 PSFB, 207 XR.
    pub kind: u8,
    /// Reception reports, chunks or a subtype, by the type; 0 to 31.
    pub count: u8,
    /// Where it stands in the datagram, its four octets of head and its padding too.
    pub place: Range<usize>,
}

/// Why a datagram is no RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Less than a head, or no whole number of packets.
    #[error("RTCP packets do not fill the datagram (RFC 3550 Appendix A.2)")]
    Length,
    /// Another version than 2.
    #[error("RTCP of another version than 2 (RFC 3550 §6.4.1)")]
    Version,
    /// A type that is none of RTCP's.
    #[error("packet type {0} is none of RTCP's (RFC 3550 §12.1, RFC 4585 §6.1, RFC 3611 §2)")]
    Kind(u8),
    /// Padding before the last packet.
    #[error("padding in a packet that is not the last (RFC 3550 §6.4.1)")]
    Padding,
}

/// Packet types of RTCP; as RTP payload types with a marker they would be 72 to 79, which RFC 5761 §4 keeps free.
const KINDS: Range<u8> = 200..208;

/// The packets of a datagram, in order.
pub fn parse(datagram: &[u8]) -> Result<Vec<Packet>, Error> {
    let mut packets = Vec::new();
    let mut at = 0_usize;
    let mut padded = false;
    while at < datagram.len() {
        let head: &[u8; 4] = datagram.get(at..).and_then(<[u8]>::first_chunk).ok_or(Error::Length)?;
        let [first, kind, high, low] = *head;
        if first >> 6 != 2 {
            return Err(Error::Version);
        }
        if !KINDS.contains(&kind) {
            return Err(Error::Kind(kind));
        }
        if padded {
            return Err(Error::Padding);
        }
        padded = first & 0x20 != 0;
        // In words of 32 bits, less one.
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let place = at..at + length;
        if place.end > datagram.len() {
            return Err(Error::Length);
        }
        packets.push(Packet { kind, count: first & 0x1f, place: place.clone() });
        at = place.end;
    }
    if packets.is_empty() { Err(Error::Length) } else { Ok(packets) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_compound_is_told_packet_by_packet() {
        // A receiver report without a block and a BYE of one source.
        let datagram = [0x80, 201, 0, 1, 1, 2, 3, 4, 0x81, 203, 0, 1, 1, 2, 3, 4];
        let packets = parse(&datagram).expect("RTCP");
        assert_eq!(packets.iter().map(|p| (p.kind, p.count, p.place.clone())).collect::<Vec<_>>(), [(201, 0, 0..8), (203, 1, 8..16)]);
        assert_eq!(parse(&datagram[..15]), Err(Error::Length));
        assert_eq!(parse(&[0x80, 0, 0, 1, 1, 2, 3, 4]), Err(Error::Kind(0)), "RTP");
        assert_eq!(parse(&[0xa0, 201, 0, 1, 1, 2, 3, 4, 0x81, 203, 0, 1, 1, 2, 3, 4]), Err(Error::Padding));
        assert_eq!(parse(&[]), Err(Error::Length));
    }

    proptest! {
        #[test]
        fn what_was_put_together_is_taken_apart(parts in proptest::collection::vec((200_u8..208, 0_u8..32, 0_u16..20), 1..6)) {
            let mut datagram = Vec::new();
            for (kind, count, words) in &parts {
                datagram.extend([0x80 | count, *kind]);
                datagram.extend(words.to_be_bytes());
                datagram.resize(datagram.len() + usize::from(*words) * 4, 0xaa);
            }
            let found = parse(&datagram).expect("RTCP");
            prop_assert_eq!(found.iter().map(|p| (p.kind, p.count, (p.place.len() / 4 - 1) as u16)).collect::<Vec<_>>(), parts);
        }
    }
}
