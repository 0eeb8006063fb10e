//! The container: RIFF/WAVE, linear PCM of 16 bits, two channels.

/// Octets before the first sample.
pub const HEADER_BYTES: usize = 44;
/// Octets of one moment: a sample of each channel.
pub const FRAME_BYTES: u64 = 4;

/// The header of a file that holds `frames` moments at `rate` samples a second; what is over 4 GiB (18 hours at 16 kHz) it cannot say.
pub fn header(rate: u32, frames: u64) -> [u8; HEADER_BYTES] {
    let data = u32::try_from(frames.saturating_mul(FRAME_BYTES)).unwrap_or(u32::MAX - 36).min(u32::MAX - 36);
    let mut bytes = [0; HEADER_BYTES];
    let fields: [&[u8]; 13] = [
        b"RIFF",
        &(data + 36).to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16_u32.to_le_bytes(),
        // Linear PCM.
        &1_u16.to_le_bytes(),
        // Channels.
        &2_u16.to_le_bytes(),
        &rate.to_le_bytes(),
        // Octets a second, octets a moment, bits a sample.
        &rate.saturating_mul(4).to_le_bytes(),
        &4_u16.to_le_bytes(),
        &16_u16.to_le_bytes(),
        b"data",
        &data.to_le_bytes(),
    ];
    for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
    bytes
}

/// A recording, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wave {
    /// Samples a second.
    pub rate: u32,
    /// Left.
    pub caller: Vec<i16>,
    /// Right.
    pub platform: Vec<i16>,
}

/// Why a file is no recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first octets are of something else.
    #[error("not a WAV file: it does not start with RIFF and WAVE")]
    NotWave,
    /// Mono, or other than 16 bits.
    #[error("a WAV of {channels} channels and {bits} bits; a recording has 2 channels of 16 bits")]
    Format {
        /// Found.
        channels: u16,
        /// Found.
        bits: u16,
    },
    /// It ends before the samples begin.
    #[error("the WAV ends before its samples: no data chunk")]
    NoData,
}

impl Wave {
    /// Reads a recording. One that a crash cut short is read as far as it goes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let rest = bytes.strip_prefix(b"RIFF").and_then(|b| b.get(4..)).and_then(|b| b.strip_prefix(b"WAVE")).ok_or(Error::NotWave)?;
        let mut rest = rest;
        let mut wave = Self::default();
        while let Some((head, body)) = rest.split_first_chunk::<8>() {
            let [a, b, c, d, size @ ..] = *head;
            let size = usize::try_from(u32::from_le_bytes(size)).unwrap_or(usize::MAX);
            match &[a, b, c, d] {
                b"fmt " => {
                    let field = |at: usize| body.get(at..).and_then(|b| b.first_chunk::<2>()).map_or(0, |b| u16::from_le_bytes(*b));
                    let (channels, bits) = (field(2), field(14));
                    if (channels, bits) != (2, 16) {
                        return Err(Error::Format { channels, bits });
                    }
                    wave.rate = u32::from(field(4)) | u32::from(field(6)) << 16;
                }
                b"data" => {
                    let samples = body.get(..size.min(body.len())).unwrap_or_default();
                    for frame in samples.chunks_exact(4) {
                        if let [a, b, c, d] = *frame {
                            wave.caller.push(i16::from_le_bytes([a, b]));
                            wave.platform.push(i16::from_le_bytes([c, d]));
                        }
                    }
                    return Ok(wave);
                }
                _ => {}
            }
            // Chunks are padded to even lengths.
            rest = body.get(size.saturating_add(size % 2)..).unwrap_or_default();
        }
        Err(Error::NoData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_a_cut_file_is_read_as_far_as_it_goes() {
        let mut bytes = header(16_000, 3).to_vec();
        bytes.extend([1, 0, 2, 0, 0xff, 0xff, 3, 0]);
        let wave = Wave::parse(&bytes).expect("a recording");
        assert_eq!(wave, Wave { rate: 16_000, caller: vec![1, -1], platform: vec![2, 3] });
    }

    #[test]
    fn what_is_no_recording_says_why() {
        assert_eq!(Wave::parse(b"RIFX"), Err(Error::NotWave));
        assert_eq!(Wave::parse(b"RIFF....WAVEfmt "), Err(Error::NoData));
        let mut mono = header(8000, 0);
        mono[22] = 1;
        assert_eq!(Wave::parse(&mono), Err(Error::Format { channels: 1, bits: 16 }));
    }

    #[test]
    fn a_header_never_overflows() {
        assert_eq!(header(8000, u64::MAX)[40..44], (u32::MAX - 36).to_le_bytes());
    }
}
