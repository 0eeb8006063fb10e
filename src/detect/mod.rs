//! Is there sound? A frame is judged by its energy beside that of the line's own noise, and a span of quiet ones by its length.
//!
//! It tells sound from silence and no more: music on hold is sound.

use std::time::Duration;

use crate::time::Instant;

/// Root mean square above which a frame counts as sound: -50 dB of full scale, above the noise of a quiet line, below a whisper.
pub const SOUND_RMS: u64 = 104;

/// Root mean square above which noise is never learnt as the line's own, -45 dB of full scale: what is louder and steady is a tone, not a line.
pub const NOISE_RMS_MAX: u64 = 184;

/// The noise of a line, learnt from it: what stays below or just above it is silence, however loud the street.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Mean square of the quietest of late.
    floor: u64,
}

/// Sound stands out of the noise by 9 dB of power.
const ABOVE_NOISE: u64 = 8;
/// The floor rises by a 64th a frame, 3.4 dB a second: pauses between words come faster than it learns a voice as noise.
const RISE: u64 = 64;

impl Default for Noise {
    /// A quiet line: -64 dB of full scale.
    fn default() -> Self {
        Self { floor: 400 }
    }
}

impl Noise {
    /// Whether a frame of samples is sound.
    pub fn is_sound(&mut self, samples: &[i16]) -> bool {
        let count = u64::try_from(samples.len()).unwrap_or(u64::MAX);
        let energy: u64 = samples.iter().map(|s| u64::from(s.unsigned_abs()).pow(2)).sum();
        let Some(energy) = energy.checked_div(count) else { return false };
        let sound = energy > (SOUND_RMS * SOUND_RMS).max(self.floor * ABOVE_NOISE);
        self.floor = if energy < self.floor { (self.floor + energy) / 2 } else { self.floor + self.floor / RISE + 1 };
        self.floor = self.floor.min(NOISE_RMS_MAX * NOISE_RMS_MAX);
        sound
    }
}

/// Notices when a stream has been silent for long.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    noise: Noise,
    after: Duration,
    since: Option<Instant>,
    told: bool,
    /// Consecutive frames of sound: a click is no speech.
    sound: u8,
}

/// Frames of sound that end a silence: 60 ms at 20 ms a frame.
const SOUND_FRAMES: u8 = 3;

impl Silence {
    /// Tells of silence longer than `after`.
    pub fn new(after: Duration) -> Self {
        Self { noise: Noise::default(), after, since: None, told: false, sound: 0 }
    }

    /// A frame came; since when it is silent, once a silence, when it has lasted long enough.
    pub fn handle(&mut self, now: Instant, samples: &[i16]) -> Option<Instant> {
        self.sound = if self.noise.is_sound(samples) { self.sound.saturating_add(1) } else { 0 };
        if self.sound >= SOUND_FRAMES {
            self.since = None;
            self.told = false;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if !self.told && now.since(since) >= self.after {
            self.told = true;
            return Some(since);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(peak: i16) -> Vec<i16> {
        (0..160).map(|n| if n % 8 < 4 { peak } else { -peak }).collect()
    }

    #[test]
    fn speech_is_sound_and_the_noise_of_a_line_is_not() {
        let sound = |peak: i16| Noise::default().is_sound(&wave(peak));
        assert!(sound(2000) && sound(150));
        assert!(!sound(60) && !Noise::default().is_sound(&[]));
    }

    #[test]
    fn a_steady_street_becomes_silence_and_a_voice_over_it_or_a_loud_tone_does_not() {
        let mut noise = Noise::default();
        let street: Vec<bool> = (0..500).map(|_| noise.is_sound(&wave(300))).collect();
        assert!(street[0] && !street[499], "learnt within ten seconds");
        assert!(noise.is_sound(&wave(1500)), "a voice over it");
        let mut noise = Noise::default();
        assert!((0..3000).all(|_| noise.is_sound(&wave(1500))), "a tone of a minute is no noise");
        let mut noise = Noise::default();
        // Words of 300 ms with pauses of 100 ms, low in level: all words are heard to the end.
        assert!((0..1500).all(|n| noise.is_sound(&wave(if n % 20 < 15 { 400 } else { 10 })) == (n % 20 < 15)));
    }

    #[test]
    fn a_silence_is_told_once_and_again_after_sound() {
        let mut silence = Silence::new(Duration::from_millis(100));
        let mut told = Vec::new();
        for n in 0..60_u64 {
            // Sound in frames 20 to 25, a single click in frame 40.
            let sound = (20..25).contains(&n) || n == 40;
            if let Some(since) = silence.handle(Instant::from_millis(n * 20), &wave(if sound { 2000 } else { 10 })) {
                told.push((n * 20, since.as_micros() / 1000));
            }
        }
        assert_eq!(told, [(100, 0), (600, 500)], "the click breaks nothing");
    }
}
