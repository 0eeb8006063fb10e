//! G.722 at 64 kbit/s (ITU-T Rec. G.722, mode 1), bit by bit as the Recommendation has it.
//!
//! Two samples at 16 kHz become one octet: a quadrature mirror filter splits them into a low and a high band at 8 kHz, each coded by adaptive
//! differential PCM, six bits for the low band and two for the high one. The names in capitals are the Recommendation's blocks (§6.2). The
//! crates that we tried follow another implementation that is close to it, not equal: they differ from the ITU's vectors in most octets.

/// Samples that the mirror filter remembers.
const TAPS: usize = 24;
/// Every other coefficient of the mirror filter's 24 (table 4/G.722), h0, h2 … h22; the whole is symmetric, so h1, h3 … h23 are these backwards.
const PHASE: [i32; TAPS / 2] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// Decision levels of the low band's quantizer (Q6, table 5/G.722).
const LOW_LEVELS: [i32; 30] = [
    0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219, 1339, 1458, 1612, 1765,
    1980, 2195, 2557, 2919,
];
/// Output of the low band's quantizer with six bits (QM6).
#[rustfmt::skip]
const LOW_6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360, -8576, -7856,
    -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360, -1040, -728,
    24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456,
    4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
/// The same with four bits (QM4): what both ends adapt by, so that the lower two may be lost on the way.
const LOW_4: [i32; 16] = [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// Output of the high band's quantizer (QM2).
const HIGH_2: [i32; 4] = [-7408, -1616, 7408, 1616];
/// How a code of the low band changes the scale factor (WL by way of RL42).
const LOW_STEP: [i32; 16] = [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// The same of the high band (WH by way of RH2).
const HIGH_STEP: [i32; 4] = [798, -214, 798, -214];
/// 2048 times two to the power of n/32 (ILB).
const POWERS: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896, 2960, 3025, 3091, 3158, 3228,
    3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

fn saturate(value: i32) -> i32 {
    value.clamp(-32768, 32767)
}

/// A band's predictor and quantizer, alike at both ends.
#[derive(Clone)]
struct Band {
    /// Prediction of the next sample (S), and the part of it that the zeros make (SZ).
    predicted: i32,
    zeros: i32,
    /// Quantized differences, twice their value, newest first (DLT).
    differences: [i32; 6],
    zero_coefficients: [i32; 6],
    /// Reconstructed samples, twice their value, newest first (RLT).
    reconstructed: [i32; 2],
    /// Signs of the partially reconstructed samples, newest first (PLT).
    signs: [bool; 2],
    pole_coefficients: [i32; 2],
    /// Logarithm of the scale factor (NB), and the factor (DET).
    log_scale: i32,
    scale: i32,
}

impl Band {
    const fn new(scale: i32) -> Self {
        Self {
            predicted: 0,
            zeros: 0,
            differences: [0; 6],
            zero_coefficients: [0; 6],
            reconstructed: [0; 2],
            signs: [false; 2],
            pole_coefficients: [0; 2],
            log_scale: 0,
            scale,
        }
    }

    /// LOGSCL and SCALEL, or LOGSCH and SCALEH: the quantizer grows with large codes and shrinks with small ones.
    fn rescale(&mut self, step: i32, longest: i32, shift: i32) {
        self.log_scale = (((self.log_scale * 127) >> 7) + step).clamp(0, longest);
        let index = usize::try_from(self.log_scale >> 6 & 31).unwrap_or(0);
        let mantissa = POWERS.get(index).copied().unwrap_or(0);
        let down = shift - (self.log_scale >> 11);
        self.scale = if down < 0 { mantissa << -down } else { mantissa >> down } << 2;
    }

    /// Block 4: the predictor follows the quantized difference.
    fn adapt(&mut self, difference: i32) {
        // PARREC, UPPOL2, UPPOL1
        let sign = self.zeros + difference < 0;
        let [a1, a2] = self.pole_coefficients;
        let [last, before] = self.signs;
        let quarter = saturate(a1 << 2);
        let toward = if sign == last { saturate(-quarter) } else { quarter };
        let a2 = ((toward >> 7) + if sign == before { 128 } else { -128 } + ((a2 * 32512) >> 15)).clamp(-12288, 12288);
        let bound = 15360 - a2;
        let a1 = (if sign == last { 192 } else { -192 } + ((a1 * 32640) >> 15)).clamp(-bound, bound);
        self.pole_coefficients = [a1, a2];
        self.signs = [sign, last];
        // UPZERO and FILTEZ: a difference of nothing only lets the coefficients fade.
        let nudge = if difference == 0 { 0 } else { 128 };
        let mut zeros = 0_i32;
        let newest = saturate(difference << 1);
        let mut moved = newest;
        for (coefficient, past) in self.zero_coefficients.iter_mut().zip(&mut self.differences) {
            let nudge = if (*past < 0) == (difference < 0) { nudge } else { -nudge };
            *coefficient = saturate(nudge + ((*coefficient * 32640) >> 15));
            // DELAYA: what was newest is now one older, and the filter sees it so.
            std::mem::swap(past, &mut moved);
            zeros += (*coefficient * *past) >> 15;
        }
        self.zeros = saturate(zeros);
        // RECONS and FILTEP
        let newest = saturate(saturate(self.predicted + difference) << 1);
        let [older, _] = self.reconstructed;
        self.reconstructed = [newest, older];
        let poles = saturate(((a1 * newest) >> 15) + ((a2 * older) >> 15));
        self.predicted = saturate(poles + self.zeros);
    }

    /// INVQAL and what follows from a code of the low band.
    fn follow_low(&mut self, code: usize) {
        let code = code >> 2;
        let difference = (self.scale * LOW_4.get(code).copied().unwrap_or(0)) >> 15;
        self.rescale(LOW_STEP.get(code).copied().unwrap_or(0), 18432, 8);
        self.adapt(difference);
    }

    /// INVQAH and what follows from a code of the high band; its difference.
    fn follow_high(&mut self, code: usize) -> i32 {
        let difference = (self.scale * HIGH_2.get(code).copied().unwrap_or(0)) >> 15;
        self.rescale(HIGH_STEP.get(code).copied().unwrap_or(0), 22528, 10);
        self.adapt(difference);
        difference
    }
}

/// Both bands' predictors, and what the mirror filter remembers, oldest first.
#[derive(Clone)]
struct Halves {
    low: Band,
    high: Band,
    even: [i32; TAPS / 2],
    odd: [i32; TAPS / 2],
}

impl Halves {
    const fn new() -> Self {
        Self { low: Band::new(32), high: Band::new(8), even: [0; TAPS / 2], odd: [0; TAPS / 2] }
    }

    /// Takes a pair in and gives the two sums of the mirror filter.
    fn filter(&mut self, first: i32, second: i32) -> (i32, i32) {
        self.even.rotate_left(1);
        self.odd.rotate_left(1);
        let [.., newest] = &mut self.even;
        *newest = first;
        let [.., newest] = &mut self.odd;
        *newest = second;
        let (mut a, mut b) = (0, 0);
        for ((even, odd), (h, mirrored)) in self.even.iter().zip(&self.odd).zip(PHASE.iter().zip(PHASE.iter().rev())) {
            a += even * h;
            b += odd * mirrored;
        }
        (a, b)
    }
}

/// 16 kHz samples in, octets out.
#[derive(Clone)]
pub(super) struct Encoder(Halves);

impl Encoder {
    pub(super) const fn new() -> Self {
        Self(Halves::new())
    }

    /// Codes one pair of samples.
    pub(super) fn pair(&mut self, first: i16, second: i16) -> u8 {
        let (a, b) = self.0.filter(first.into(), second.into());
        let (low, high) = ((a + b) >> 14, (b - a) >> 14);
        let low_code = quantize_low(saturate(low - self.0.low.predicted), self.0.low.scale);
        self.0.low.follow_low(low_code);
        let high_code = quantize_high(saturate(high - self.0.high.predicted), self.0.high.scale);
        self.0.high.follow_high(high_code);
        u8::try_from(high_code << 6 | low_code).unwrap_or(0)
    }
}

/// QUANTL: the code of a difference.
fn quantize_low(difference: i32, scale: i32) -> usize {
    // The magnitude of a negative number is one less, as the Recommendation's complement makes it.
    let magnitude = if difference < 0 { !difference } else { difference };
    let level = LOW_LEVELS.iter().skip(1).position(|level| magnitude < (level * scale) >> 12).unwrap_or(LOW_LEVELS.len() - 1) + 1;
    match (difference < 0, level) {
        (false, level) => 62 - level,
        (true, 1) => 63,
        (true, 2) => 62,
        (true, level) => 34 - level,
    }
}

/// QUANTH.
fn quantize_high(difference: i32, scale: i32) -> usize {
    let magnitude = if difference < 0 { !difference } else { difference };
    let large = magnitude >= (564 * scale) >> 12;
    match (difference < 0, large) {
        (true, true) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 3,
    }
}

/// Octets in, 16 kHz samples out.
#[derive(Clone)]
pub(super) struct Decoder(Halves);

impl Decoder {
    pub(super) const fn new() -> Self {
        Self(Halves::new())
    }

    /// Decodes one octet to a pair of samples.
    pub(super) fn octet(&mut self, octet: u8) -> [i16; 2] {
        let (low_code, high_code) = (usize::from(octet & 0x3f), usize::from(octet >> 6));
        let band = &mut self.0.low;
        let difference = (band.scale * LOW_6.get(low_code).copied().unwrap_or(0)) >> 15;
        let low = limit(band.predicted + difference);
        band.follow_low(low_code);
        let band = &mut self.0.high;
        let predicted = band.predicted;
        let high = limit(predicted + band.follow_high(high_code));
        let (a, b) = self.0.filter(low + high, low - high);
        // The mirror of the encoder's filter: what came second leads.
        [b, a].map(|sum| i16::try_from(saturate(sum >> 11)).unwrap_or(0))
    }
}

/// LIMIT: a band has fifteen bits.
fn limit(value: i32) -> i32 {
    value.clamp(-16384, 16383)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::{super::tests::words, *};

    fn encode(samples: &[i16]) -> Vec<u8> {
        let mut encoder = Encoder::new();
        samples.chunks_exact(2).map(|pair| encoder.pair(pair[0], pair[1])).collect()
    }

    fn decode(octets: &[u8]) -> Vec<i16> {
        let mut decoder = Decoder::new();
        octets.iter().flat_map(|octet| decoder.octet(*octet)).collect()
    }

    /// Sweeps, silence and noise over the whole range, the same on every machine.
    fn sounds() -> Vec<i16> {
        let mut noise = 1_u32;
        (0..32_000_i32)
            .map(|n| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = i16::from_ne_bytes([noise.to_be_bytes()[0], noise.to_be_bytes()[1]]);
                let saw = i16::try_from((n * (n / 64) % 65_536) - 32_768).expect("sixteen bits");
                match n / 8000 {
                    0 => saw >> 3,
                    1 => 0,
                    2 => saw,
                    _ => noise,
                }
            })
            .collect()
    }

    #[test]
    fn what_it_makes_of_sweeps_silence_and_noise_stays_what_it_was() {
        // Taken from the implementation that was equal to the ITU's vectors; holds where those are not at hand.
        let hash = |octets: &[u8]| hex::encode(Sha256::digest(octets));
        let code = encode(&sounds());
        let decoded: Vec<u8> = decode(&code).into_iter().flat_map(i16::to_le_bytes).collect();
        assert_eq!(hash(&code), "56b2de83d8b9eb7bbfbbb5fa3b53d4871a5ab20f66f1374d46c25a1a4100a627");
        assert_eq!(hash(&decoded), "5b1ee88f7fcdfdef2fe9190af8ac584b8fb2dd319a7bfe40de9bc2d7a72e2e06");
    }

    #[test]
    fn speech_is_coded_and_decoded_as_the_itu_has_it() {
        let (Some(speech), Some(code), Some(decoded)) =
            (words("audio-g722/inpsp.bin"), words("audio-g722/codspw.cod"), words("audio-g722/outsp1.bin"))
        else {
            return;
        };
        let signed = |words: Vec<u16>| words.into_iter().map(u16::cast_signed).collect::<Vec<_>>();
        let code: Vec<u8> = code.into_iter().map(|w| u8::try_from(w).expect("an octet")).collect();
        let ours = encode(&signed(speech));
        let wrong = ours.iter().zip(&code).filter(|(a, b)| a != b).count();
        assert_eq!((wrong, ours.len()), (0, code.len()), "first at {:?}", ours.iter().zip(&code).position(|(a, b)| a != b));
        let (ours, theirs) = (decode(&code), signed(decoded));
        let wrong = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        assert_eq!((wrong, ours.len()), (0, theirs.len()), "first at {:?}", ours.iter().zip(&theirs).position(|(a, b)| a != b));
    }
}
