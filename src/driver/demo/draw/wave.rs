//! A recording as two lines of blocks, with what is masked drawn as what it is: nothing.

use super::paint::Paint;

/// One channel's loudness in equal slices of time, 0.0 to 1.0.
pub(crate) fn loudness(samples: &[i16], slices: usize) -> Vec<f32> {
    let slices = slices.max(1);
    (0..slices)
        .map(|n| {
            let from = samples.len() * n / slices;
            let to = (samples.len() * (n + 1) / slices).max(from);
            let slice = samples.get(from..to).unwrap_or_default();
            let peak = slice.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0);
            f32::from(peak) / 32768.0
        })
        .collect()
}

/// Draws one channel `high` lines high. `masked` says for each slice whether it lies in a secure phase.
pub(crate) fn draw(loudness: &[f32], masked: &[bool], high: usize, paint: Paint) -> Vec<String> {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let levels = high * 8;
    (0..high)
        .rev()
        .map(|row| {
            let mut line = String::new();
            let mut run = String::new();
            let mut run_masked = false;
            for (n, loud) in loudness.iter().enumerate() {
                let hidden = masked.get(n).copied().unwrap_or(false);
                if hidden != run_masked {
                    line.push_str(&finish(&std::mem::take(&mut run), run_masked, paint));
                    run_masked = hidden;
                }
                // Loudness is heard in ratios: 40 dB over the whole height.
                let decibel = if *loud > 0.0 { 20.0 * loud.log10() } else { -100.0 };
                let share = ((decibel + 40.0) / 40.0).clamp(0.0, 1.0);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
                // 0.0..=1.0 times a few lines
                let level = (share * levels as f32).round() as usize;
                let block = BLOCKS.get(level.saturating_sub(row * 8).min(8)).copied().unwrap_or(' ');
                // A masked slice that is not silent must be seen: it is drawn as sound, over the hatching.
                run.push(if hidden && block == ' ' {
                    '░'
                } else if block == ' ' && row == 0 {
                    '▁'
                } else {
                    block
                });
            }
            line.push_str(&finish(&run, run_masked, paint));
            line
        })
        .collect()
}

fn finish(run: &str, masked: bool, paint: Paint) -> String {
    if masked { paint.bad(run) } else { paint.accent(run) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loud_is_high_and_masked_is_hatched() {
        let loud = loudness(&[0, 0, 16000, -32768, 0, 0], 3);
        assert_eq!(loud, [0.0, 1.0, 0.0]);
        let lines = draw(&loud, &[false, false, true], 2, Paint::off());
        assert_eq!(lines, [" █░", "▁█░"]);
    }

    #[test]
    fn sound_in_a_masked_span_is_not_hidden_by_the_drawing() {
        let lines = draw(&[1.0], &[true], 1, Paint::off());
        assert_eq!(lines, ["█"]);
    }
}
