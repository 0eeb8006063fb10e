//! Samples and octets: G.711 and G.722 frame by frame, and the step between their two sample rates.
//!
//! A codec's state is a value ([`Encoder`], [`Decoder`]); slices go in and out, nothing is allocated per frame.

mod g711;
mod g722;
mod resample;

use std::{fmt, str::FromStr};

pub use resample::Resampler;

/// An audio codec that is carried over RTP. All three have an RTP clock of 8000 Hz, 64 kbit/s, and a static payload type (RFC 3551 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// G.711 µ-law, payload type 0.
    Pcmu,
    /// G.711 A-law, payload type 8.
    Pcma,
    /// G.722 at 64 kbit/s, payload type 9. Samples 16,000 times a second although its RTP clock says 8000 (RFC 3551 §4.5.2).
    G722,
}

/// Ticks a second of the RTP clock of every [`Codec`], and of telephone-event beside it.
pub const RTP_CLOCK_HZ: u32 = 8000;
/// Most samples in a frame that is coded at once: 60 ms of wide-band sound, the longest packet that trunks send.
pub const FRAME_SAMPLES_MAX: usize = 960;
/// Most octets in a frame: 60 ms at 64 kbit/s.
pub const FRAME_OCTETS_MAX: usize = 480;

/// Samples a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SampleRate {
    /// Narrow band: G.711.
    Hz8000,
    /// Wide band: G.722.
    Hz16000,
}

impl SampleRate {
    /// As a number.
    pub const fn hz(self) -> u32 {
        match self {
            Self::Hz8000 => 8000,
            Self::Hz16000 => 16_000,
        }
    }
}

impl Codec {
    /// All of them, in the order in which they are offered by default.
    pub const ALL: [Self; 3] = [Self::Pcmu, Self::Pcma, Self::G722];

    /// Its encoding name in SDP.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
        }
    }

    /// Its static RTP payload type (RFC 3551 §6).
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::G722 => 9,
        }
    }

    /// The codec of a static payload type.
    pub const fn of_payload_type(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            9 => Some(Self::G722),
            _ => None,
        }
    }

    /// How often it samples.
    pub const fn sample_rate(self) -> SampleRate {
        match self {
            Self::Pcmu | Self::Pcma => SampleRate::Hz8000,
            Self::G722 => SampleRate::Hz16000,
        }
    }

    /// Samples that an octet stands for.
    pub const fn samples_per_octet(self) -> usize {
        match self {
            Self::Pcmu | Self::Pcma => 1,
            Self::G722 => 2,
        }
    }

    /// Fills a payload with what decodes to silence.
    pub fn fill_silence(self, payload: &mut [u8]) {
        match self {
            Self::Pcmu => payload.fill(0xff),
            Self::Pcma => payload.fill(0xd5),
            // Both bands at their smallest step, whatever state the decoder is in.
            Self::G722 => payload.fill(0xfd),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text names no codec of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no codec of this gateway: use PCMU, PCMA or G722")]
pub struct UnknownCodec(pub String);

impl FromStr for Codec {
    type Err = UnknownCodec;
    fn from_str(name: &str) -> Result<Self, UnknownCodec> {
        Self::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(name)).ok_or_else(|| UnknownCodec(name.to_owned()))
    }
}

/// Samples in, octets out.
pub struct Encoder {
    codec: Codec,
    /// Only G.722 remembers what it coded before.
    g722: g722::Encoder,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoder({})", self.codec)
    }
}

impl Encoder {
    /// From reset.
    pub fn new(codec: Codec) -> Self {
        Self { codec, g722: g722::Encoder::new() }
    }

    /// Which codec.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Codes samples at the codec's own rate; the number of octets written, which is what fits into `out` of what `samples` make.
    pub fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> usize {
        match self.codec {
            Codec::Pcmu => map(samples, out, |sample| g711::ulaw_encode(*sample)),
            Codec::Pcma => map(samples, out, |sample| g711::alaw_encode(*sample)),
            Codec::G722 => {
                let (pairs, _) = samples.as_chunks();
                map(pairs, out, |&[first, second]| self.g722.pair(first, second))
            }
        }
    }
}

/// Octets in, samples out.
pub struct Decoder {
    codec: Codec,
    g722: g722::Decoder,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder({})", self.codec)
    }
}

impl Decoder {
    /// From reset.
    pub fn new(codec: Codec) -> Self {
        Self { codec, g722: g722::Decoder::new() }
    }

    /// Which codec.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Decodes a payload to samples at the codec's own rate; the number of samples written, which is what fits into `out`.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> usize {
        match self.codec {
            Codec::Pcmu => map(payload, out, |octet| g711::ulaw_decode(*octet)),
            Codec::Pcma => map(payload, out, |octet| g711::alaw_decode(*octet)),
            Codec::G722 => {
                let (pairs, _) = out.as_chunks_mut();
                2 * map(payload, pairs, |octet| self.g722.octet(*octet))
            }
        }
    }
}

fn map<A, B>(from: &[A], to: &mut [B], mut each: impl FnMut(&A) -> B) -> usize {
    let mut written = 0;
    for (out, value) in to.iter_mut().zip(from) {
        *out = each(value);
        written += 1;
    }
    written
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Words of a file of the corpora, or nothing with a word about it where the corpora are not beside the repository.
    pub(super) fn words(file: &str) -> Option<Vec<u16>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora").join(file);
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("{} is not there: this comparison with the ITU's vectors is left out", path.display());
            return None;
        };
        Some(bytes.chunks_exact(2).map(|w| u16::from_le_bytes([w[0], w[1]])).collect())
    }

    #[test]
    fn silence_decodes_to_silence_after_loud_sound() {
        for codec in Codec::ALL {
            let (mut encoder, mut decoder) = (Encoder::new(codec), Decoder::new(codec));
            let loud: Vec<i16> = (0..160 * codec.samples_per_octet()).map(|n| if n % 8 < 4 { 12_000 } else { -12_000 }).collect();
            let mut payload = [0; 160];
            assert_eq!(encoder.encode(&loud, &mut payload), 160);
            let mut samples = [0; 320];
            decoder.decode(&payload, &mut samples);
            codec.fill_silence(&mut payload);
            for _ in 0..10 {
                decoder.decode(&payload, &mut samples);
            }
            let loudest = samples.iter().map(|s| s.unsigned_abs()).max().expect("samples");
            assert!(loudest <= 32, "{codec}: {loudest}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        for codec in Codec::ALL {
            let mut few = [0; 10];
            assert_eq!(Encoder::new(codec).encode(&[0; 320], &mut few), 10, "{codec}");
            let mut few = [0; 10];
            assert_eq!(Decoder::new(codec).decode(&[0xff; 160], &mut few), 10, "{codec}");
        }
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!("pcma".parse(), Ok(Codec::Pcma));
        assert_eq!("G729".parse::<Codec>(), Err(UnknownCodec("G729".into())));
    }
}
