//! Reads back what the gateway wrote about a call: its recording and the span that was masked.

use std::path::Path;

use super::{draw::Samples, report::Masked};

/// A stereo WAV, taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wave {
    pub(crate) sample_rate: u32,
    pub(crate) samples: Samples,
}

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{file}: {why}")]
    File { file: String, why: std::io::Error },
    #[error("{0}: not a stereo WAV of 16 bits")]
    NotStereo(String),
}

/// Reads a stereo WAV of 16-bit samples: left is the caller, right the platform.
pub(crate) fn read_wave(file: &Path) -> Result<Wave, Error> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|why| Error::File { file: name.clone(), why })?;
    parse_wave(&bytes).ok_or(Error::NotStereo(name))
}

fn parse_wave(bytes: &[u8]) -> Option<Wave> {
    let word = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    (bytes.get(..4)? == b"RIFF" && bytes.get(8..12)? == b"WAVE").then_some(())?;
    let mut at = 12;
    let mut sample_rate = None;
    loop {
        let (kind, size) = (bytes.get(at..at + 4)?, usize::try_from(long(at + 4)?).ok()?);
        let body = at + 8;
        match kind {
            b"fmt " => {
                (word(body + 2)? == 2 && word(body + 14)? == 16).then_some(())?;
                sample_rate = Some(long(body + 4)?);
            }
            b"data" => {
                // A recording that was cut short has a size that says more than is there.
                let data = bytes.get(body..body.saturating_add(size).min(bytes.len()))?;
                let frames = data.chunks_exact(4);
                let side = |from: usize| {
                    frames
                        .clone()
                        .map(|f| i16::from_le_bytes([f.get(from).copied().unwrap_or(0), f.get(from + 1).copied().unwrap_or(0)]))
                        .collect()
                };
                return Some(Wave { sample_rate: sample_rate?, samples: Samples { caller: side(0), platform: side(2) } });
            }
            _ => {}
        }
        // Chunks are padded to even lengths.
        at = body.checked_add(size)?.checked_add(size % 2)?;
    }
}

impl Wave {
    /// The loudest sample of both channels within a span of call time, and how long of the span lies in the file.
    pub(crate) fn loudest(&self, starts_at_ms: i64, span: &Masked) -> (u16, u64) {
        let rate = i64::from(self.sample_rate);
        let frame = |ms: i64| usize::try_from((ms - starts_at_ms).max(0) * rate / 1000).unwrap_or(0);
        let (from, to) = (frame(span.from_ms), frame(span.to_ms));
        let side = |samples: &[i16]| {
            let to = to.min(samples.len());
            let slice = samples.get(from.min(to)..to).unwrap_or_default();
            (slice.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0), slice.len())
        };
        let (caller, platform) = (side(&self.samples.caller), side(&self.samples.platform));
        let covered_ms = u64::try_from(caller.1.max(platform.1)).unwrap_or(0).saturating_mul(1000) / u64::from(self.sample_rate.max(1));
        (caller.0.max(platform.0), covered_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(frames: &[(i16, i16)]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
        bytes.extend(8000_u32.to_le_bytes());
        bytes.extend(32_000_u32.to_le_bytes());
        bytes.extend([4, 0, 16, 0]);
        bytes.extend(b"LIST\x03\0\0\0abc\0data\xff\xff\xff\xff");
        for (left, right) in frames {
            bytes.extend(left.to_le_bytes());
            bytes.extend(right.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_recording_cut_short_is_read_as_far_as_it_goes() {
        let frames: Vec<_> = (0..800).map(|n| (n, -n)).collect();
        let wave = parse_wave(&wave(&frames)).expect("a wave");
        assert_eq!((wave.sample_rate, wave.samples.caller.len()), (8000, 800));
        assert_eq!(wave.samples.platform.last(), Some(&-799));
        let span = Masked { from_ms: 1050, to_ms: 1060, reason: String::new() };
        assert_eq!(wave.loudest(1000, &span), (479, 10));
        assert!(parse_wave(b"RIFF....WAVE").is_none());
    }
}
