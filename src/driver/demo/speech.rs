//! What is said in the demo: RTP payloads of the captures in `pcap/`, embedded so that the program needs no file of its own.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::codec::Codec;

/// Something said: 20 ms a payload.
#[derive(Clone, Debug)]
pub struct Speech {
    /// How it is coded.
    pub codec: Codec,
    /// Payloads in sequence order.
    pub frames: Vec<Bytes>,
}

/// Why a clip is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such file was embedded.
    #[error("no speech called {0} is embedded; see pcap/README.md")]
    Unknown(String),
    /// The capture holds no RTP that we can read.
    #[error("pcap/speech-{0}.pcap holds no PCMU, PCMA or G722 stream; make it anew with pcap/record {0}")]
    Empty(String),
}

macro_rules! clips {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/pcap/speech-", $name, ".pcap")).as_slice())),*]
    };
}

const CLIPS: &[(&str, &[u8])] = clips![
    "caller-appointment",
    "platform-appointment",
    "caller-contract",
    "platform-contract",
    "human-contract",
    "caller-parcel",
    "platform-parcel",
    "caller-order",
    "platform-order",
    "caller-invoice",
    "platform-reference",
    "platform-card",
    "platform-paid",
];

impl Speech {
    /// The clip called `name`.
    pub fn named(name: &str) -> Result<Self, Error> {
        let (_, capture) = CLIPS.iter().find(|(n, _)| *n == name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
        read(capture).ok_or_else(|| Error::Empty(name.to_owned()))
    }

    /// How long it takes to say, ms.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.frames.len()).unwrap_or(u64::MAX).saturating_mul(20)
    }
}

/// The one RTP stream of a classic little-endian Ethernet capture, in sequence order.
fn read(capture: &'static [u8]) -> Option<Speech> {
    const FILE_HEADER: usize = 24;
    const RECORD_HEADER: usize = 16;
    // Ethernet 14, IPv4 20, UDP 8: tcpdump on a loopback of Linux writes no options and no tags.
    const BEFORE_RTP: usize = 42;
    const RTP_HEADER: usize = 12;

    let mut rest = capture.get(FILE_HEADER..)?;
    let mut frames = BTreeMap::new();
    let mut codec = None;
    let mut first = None;
    while let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) {
        let length = usize::try_from(u32::from_le_bytes(header.get(8..12)?.try_into().ok()?)).ok()?;
        let (frame, next) = after.split_at_checked(length)?;
        rest = next;
        let packet = frame.get(BEFORE_RTP..)?;
        let sequence = u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?);
        codec = codec.or(match packet.get(1)? & 0x7f {
            0 => Some(Codec::Pcmu),
            8 => Some(Codec::Pcma),
            9 => Some(Codec::G722),
            _ => None,
        });
        // Sequence numbers wrap: counted from the first one seen.
        let from_first = sequence.wrapping_sub(*first.get_or_insert(sequence));
        frames.insert(from_first, Bytes::from_static(packet.get(RTP_HEADER..)?));
    }
    Some(Speech { codec: codec?, frames: frames.into_values().collect() }).filter(|s| !s.frames.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clip_is_a_stream_of_20_ms_frames() {
        for (name, _) in CLIPS {
            let speech = Speech::named(name).expect(name);
            assert!(speech.millis() > 1500, "{name}: {} ms", speech.millis());
            assert!(speech.frames.iter().all(|f| f.len() == 160), "{name}");
        }
        assert!(matches!(Speech::named("caller-nonsense"), Err(Error::Unknown(_))));
    }

    #[test]
    fn each_codec_is_spoken_by_somebody() {
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722] {
            assert!(CLIPS.iter().any(|(name, _)| Speech::named(name).is_ok_and(|s| s.codec == codec)), "{codec:?}");
        }
    }
}
