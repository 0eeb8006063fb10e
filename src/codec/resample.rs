//! The step between 8 and 16 kHz: a half-band filter of 63 taps, flat to 3.4 kHz.

use std::f32::consts::PI;

use super::FRAME_SAMPLES_MAX;

/// Taps of the filter: odd, and four times a number less one, so that every second tap but the middle is zero.
const TAPS: usize = 63;
/// Taps as they are kept: filled up with a zero, so that they are summed in whole groups.
const TAPS_FILLED: usize = TAPS + 1;
/// Products that are summed side by side: as many as a vector register holds, or two hold. A sum in one line would be ten times slower.
const GROUP: usize = 8;
const _: () = assert!(TAPS_FILLED.is_multiple_of(GROUP));
/// Samples that a block leaves to the next.
const PAST: usize = TAPS - 1;
/// Shape of the Kaiser window: about 75 dB of stop band.
const BETA: f32 = 7.4;

/// Doubles or halves the sample rate of a stream, block by block.
pub struct Resampler {
    up: bool,
    taps: [f32; TAPS_FILLED],
    past: [f32; PAST],
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.up { "Resampler(8000 to 16000)" } else { "Resampler(16000 to 8000)" })
    }
}

impl Resampler {
    /// From 8 to 16 kHz.
    pub fn up() -> Self {
        Self { up: true, taps: taps(), past: [0.0; PAST] }
    }

    /// From 16 to 8 kHz.
    pub fn down() -> Self {
        Self { up: false, taps: taps(), past: [0.0; PAST] }
    }

    /// The next block; the number of samples written, which is what fits into `out`. Blocks longer than 960 samples are cut.
    pub fn run(&mut self, samples: &[i16], out: &mut [i16]) -> usize {
        let samples = samples.get(..samples.len().min(FRAME_SAMPLES_MAX)).unwrap_or_default();
        // The past and this block in one piece, at the higher rate where it goes up, with zeros between.
        let mut line = [0.0_f32; PAST + 2 * FRAME_SAMPLES_MAX + 1];
        for (to, from) in line.iter_mut().zip(self.past) {
            *to = from;
        }
        let stride = if self.up { 2 } else { 1 };
        for (to, from) in line.iter_mut().skip(PAST).step_by(stride).zip(samples) {
            *to = f32::from(*from);
        }
        let length = samples.len() * stride;
        let gain = if self.up { 2.0 } else { 1.0 };
        let mut written = 0;
        for (to, at) in out.iter_mut().zip((0..length).step_by(if self.up { 1 } else { 2 })) {
            let window = line.get(at..at + TAPS_FILLED).unwrap_or_default();
            let mut sums = [0.0_f32; GROUP];
            for (samples, taps) in window.chunks_exact(GROUP).zip(self.taps.chunks_exact(GROUP)) {
                for ((sum, sample), tap) in sums.iter_mut().zip(samples).zip(taps) {
                    *sum += sample * tap;
                }
            }
            let sum: f32 = sums.iter().sum();
            #[expect(clippy::cast_possible_truncation)] // clamped
            let sample = (sum * gain).round().clamp(-32_768.0, 32_767.0) as i16;
            *to = sample;
            written += 1;
        }
        for (to, from) in self.past.iter_mut().zip(line.iter().skip(length)) {
            *to = *from;
        }
        written
    }
}

#[expect(clippy::cast_precision_loss)] // small numbers
fn taps() -> [f32; TAPS_FILLED] {
    let middle = (TAPS / 2) as f32;
    let mut taps = [0.0; TAPS_FILLED];
    let mut sum = 0.0;
    for (n, tap) in taps.iter_mut().take(TAPS).enumerate() {
        let x = n as f32 - middle;
        let sinc = if x == 0.0 { 0.5 } else { (PI * x / 2.0).sin() / (PI * x) };
        let r = x / middle;
        *tap = sinc * bessel(BETA * (1.0 - r * r).max(0.0).sqrt()) / bessel(BETA);
        sum += *tap;
    }
    for tap in &mut taps {
        *tap /= sum;
    }
    taps
}

/// The modified Bessel function of order zero, by its series.
fn bessel(x: f32) -> f32 {
    let (mut sum, mut term, mut k) = (1.0_f32, 1.0_f32, 1.0_f32);
    while term > sum * 1e-8 {
        term *= (x / (2.0 * k)) * (x / (2.0 * k));
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
mod tests {
    use super::*;

    fn tone(hz: f32, rate: f32, count: usize) -> Vec<i16> {
        (0..count).map(|n| (10_000.0 * (2.0 * PI * hz * n as f32 / rate).sin()) as i16).collect()
    }

    fn loudness(samples: &[i16]) -> f32 {
        let steady = &samples[200..];
        (steady.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / steady.len() as f32).sqrt()
    }

    fn run(resampler: &mut Resampler, samples: &[i16]) -> Vec<i16> {
        let mut all = Vec::new();
        for block in samples.chunks(160) {
            let mut out = [0; 320];
            let n = resampler.run(block, &mut out);
            all.extend_from_slice(&out[..n]);
        }
        all
    }

    #[test]
    fn speech_passes_both_ways_and_what_does_not_fit_is_taken_out() {
        for hz in [300.0, 1000.0, 3300.0] {
            let up = run(&mut Resampler::up(), &tone(hz, 8000.0, 3200));
            assert_eq!(up.len(), 6400);
            let down = run(&mut Resampler::down(), &tone(hz, 16_000.0, 3200));
            assert_eq!(down.len(), 1600);
            for (name, samples) in [("up", up), ("down", down)] {
                let ratio = 20.0 * (loudness(&samples) / 7071.0).log10();
                assert!(ratio.abs() < 0.2, "{hz} Hz {name}: {ratio} dB");
            }
        }
        let alias = run(&mut Resampler::down(), &tone(5000.0, 16_000.0, 3200));
        let ratio = 20.0 * (loudness(&alias).max(0.01) / 7071.0).log10();
        assert!(ratio < -60.0, "{ratio} dB of 5 kHz come through");
    }
}
