//! A whole packet as a value, off the hot path: what phones of the demo send and hear, what tests read. The `rtp` crate reads and writes it, so that
//! it is a second opinion on [`Header`](super::Header), which the gateway goes by.

use bytes::Bytes;
use webrtc_util::marshal::{Marshal, Unmarshal};

use super::{Error, Header};

/// One RTP packet without sources, extension and padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// First packet of a talk spurt, or of an event.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Time stamp, in ticks of the stream's clock.
    pub timestamp: u32,
    /// Source.
    pub ssrc: u32,
    /// What it carries.
    pub payload: Bytes,
}

impl Packet {
    /// Reads a packet; sources, extension and padding are passed over.
    ///
    /// # Errors
    /// As [`Header::parse`]: the crate takes any version and a padding of nothing, and panics on extensions that are longer than their packet, so lengths are
    /// looked at before, and it never sees an extension.
    pub fn parse(octets: &[u8]) -> Result<Self, Error> {
        let lengths = Header::parse(octets)?;
        let (Some(fixed), Some(payload)) = (octets.first_chunk::<12>(), octets.get(lengths.payload)) else { return Err(Error::Short) };
        let mut plain = Vec::with_capacity(fixed.len() + payload.len());
        plain.extend_from_slice(fixed);
        if let Some(first) = plain.first_mut() {
            *first &= 0xc0;
        }
        plain.extend_from_slice(payload);
        let read = rtp::packet::Packet::unmarshal(&mut Bytes::from(plain)).map_err(|_| Error::Short)?;
        let header = read.header;
        Ok(Self {
            marker: header.marker,
            payload_type: header.payload_type,
            sequence: header.sequence_number,
            timestamp: header.timestamp,
            ssrc: header.ssrc,
            payload: read.payload,
        })
    }

    /// As octets.
    pub fn to_bytes(&self) -> Bytes {
        let header = rtp::header::Header {
            version: 2,
            marker: self.marker,
            payload_type: self.payload_type,
            sequence_number: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        // Writing into memory of its own size cannot fail.
        rtp::packet::Packet { header, payload: self.payload.clone() }.marshal().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_readers_say_the_same(mut octets in proptest::collection::vec(any::<u8>(), 0..64), likely: bool) {
            if let Some(first) = octets.first_mut().filter(|_| likely) {
                *first = 0x80 | *first & 0x3f;
            }
            let (view, packet) = (Header::parse(&octets), Packet::parse(&octets));
            prop_assert_eq!(view.is_ok(), packet.is_ok());
            if let (Ok(view), Ok(packet)) = (view, packet) {
                prop_assert_eq!((view.marker, view.payload_type, view.sequence), (packet.marker, packet.payload_type, packet.sequence));
                prop_assert_eq!((view.timestamp, view.ssrc), (packet.timestamp, packet.ssrc));
                prop_assert_eq!(&octets[view.payload], &packet.payload[..]);
                prop_assert_eq!(Packet::parse(&packet.to_bytes()), Ok(packet));
            }
        }
    }
}
