//! Is there sound? A frame is judged by its energy, and a span of quiet ones by its length.
//!
//! It tells sound from silence and no more: music on hold is sound.

use std::time::Duration;

use crate::time::Instant;

/// Root mean square above which a frame counts as sound: -50 dB of full scale, above the noise of a quiet line, below a whisper.
pub const SOUND_RMS: u64 = 104;

/// Whether a frame of samples is sound.
pub fn is_sound(samples: &[i16]) -> bool {
    let count = u64::try_from(samples.len()).unwrap_or(u64::MAX);
    let energy: u64 = samples.iter().map(|s| u64::from(s.unsigned_abs()).pow(2)).sum();
    energy > SOUND_RMS * SOUND_RMS * count
}

/// Notices when a stream has been silent for long.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
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
    pub const fn new(after: Duration) -> Self {
        Self { after, since: None, told: false, sound: 0 }
    }

    /// A frame came; since when it is silent, once a silence, when it has lasted long enough.
    pub fn handle(&mut self, now: Instant, sound: bool) -> Option<Instant> {
        self.sound = if sound { self.sound.saturating_add(1) } else { 0 };
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

    #[test]
    fn speech_is_sound_and_the_noise_of_a_line_is_not() {
        let wave = |peak: i16| (0..160).map(|n| if n % 8 < 4 { peak } else { -peak }).collect::<Vec<_>>();
        assert!(is_sound(&wave(2000)) && is_sound(&wave(150)));
        assert!(!is_sound(&wave(60)) && !is_sound(&[]));
    }

    #[test]
    fn a_silence_is_told_once_and_again_after_sound() {
        let mut silence = Silence::new(Duration::from_millis(100));
        let mut told = Vec::new();
        for n in 0..60_u64 {
            // Sound in frames 20 to 25, a single click in frame 40.
            let sound = (20..25).contains(&n) || n == 40;
            if let Some(since) = silence.handle(Instant::from_millis(n * 20), sound) {
                told.push((n * 20, since.as_micros() / 1000));
            }
        }
        assert_eq!(told, [(100, 0), (600, 500)], "the click breaks nothing");
    }
}
