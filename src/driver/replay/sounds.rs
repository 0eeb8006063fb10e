//! When a leg spoke and when it was silent, as far as a detector of sound can tell: spans without a gap while packets come.

use std::time::Duration;

use super::Span;
use crate::{detect::Noise, event::Leg, time::Wall};

/// The spans of one leg.
#[derive(Default)]
pub(super) struct Sounds {
    noise: Noise,
    spans: Vec<(bool, Wall, Wall)>,
    /// Frames of the other kind in a row, since when: a click is no speech, a breath no silence.
    other: Option<Wall>,
}

/// So long something else must last before it is a span of its own.
const SPEECH_MIN: Duration = Duration::from_millis(60);
const SILENCE_MIN: Duration = Duration::from_millis(300);
/// Packets that stay away for longer leave a hole: there is no media.
const HOLE: Duration = Duration::from_millis(500);
/// What a frame lasts that has none after it.
const FRAME: Duration = Duration::from_millis(20);

impl Sounds {
    /// A frame of samples that came at `at`.
    pub(super) fn frame(&mut self, at: Wall, samples: &[i16]) {
        let sound = self.noise.is_sound(samples);
        let Some((kind, _, to)) = self.spans.last_mut().filter(|(_, _, to)| at < *to + HOLE) else {
            self.other = None;
            self.spans.push((sound, at, at + FRAME));
            return;
        };
        *to = (*to).max(at + FRAME);
        if sound == *kind {
            self.other = None;
            return;
        }
        let since = *self.other.get_or_insert(at);
        let least = if sound { SPEECH_MIN } else { SILENCE_MIN };
        if since + least <= at + FRAME {
            let end = *to;
            *to = since;
            self.spans.push((sound, since, end));
            self.other = None;
        }
    }

    /// The spans; times count from `zero`.
    pub(super) fn finish(self, leg: Leg, zero: Wall) -> impl Iterator<Item = Span> {
        let ms = move |at: Wall| at.as_millis() - zero.as_millis();
        let kind = |sound| if sound { "speech" } else { "silence" };
        self.spans.into_iter().filter(|(_, from, to)| from < to).map(move |(sound, from, to)| Span {
            leg,
            kind: kind(sound),
            from_ms: ms(from),
            to_ms: ms(to),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_no_gap_while_media_comes_and_none_where_it_does_not() {
        let mut sounds = Sounds::default();
        let wave = |peak: i16| (0..160).map(|n| if n % 8 < 4 { peak } else { -peak }).collect::<Vec<i16>>();
        for n in 0..200_i64 {
            // A second of quiet, a second of sound with a breath in it, quiet; then nothing for two seconds, then sound.
            let loud = (50..100).contains(&n) && !(70..75).contains(&n) || n >= 150;
            let late = if n >= 150 { 2000 } else { 0 };
            sounds.frame(Wall::from_millis(n * 20 + late), &wave(if loud { 3000 } else { 5 }));
        }
        let spans = sounds.finish(Leg::Caller, Wall::from_millis(0)).map(|s| (s.kind, s.from_ms, s.to_ms)).collect::<Vec<_>>();
        assert_eq!(spans, [("silence", 0, 1000), ("speech", 1000, 2000), ("silence", 2000, 3000), ("speech", 5000, 6000)]);
    }
}
