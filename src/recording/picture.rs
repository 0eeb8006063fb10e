//! A recording as a picture: both legs over one time line, masked spans marked. SVG text; `shell::picture` makes a PNG of it.

use std::fmt::Write as _;

use super::{Manifest, wav::Wave};

/// Draws a recording.
pub fn svg(wave: &Wave, manifest: &Manifest) -> String {
    let frames = wave.caller.len().max(wave.platform.len());
    let length_ms = i64::try_from(frames).unwrap_or(i64::MAX).saturating_mul(1000) / i64::from(wave.rate.max(1));
    let mut out = String::with_capacity(64 * 1024);
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"{LEFT}\" y=\"16\" fill=\"#333333\">call {} · from {} · {length_ms} ms</text>\n",
        LEFT + WIDTH + RIGHT,
        manifest.call_id,
        manifest.starts_at,
    );
    for (name, samples, top, colour) in
        [("caller", &wave.caller, TOP, "#2468a8"), ("platform", &wave.platform, TOP + LANE + GAP, "#2a8a4a")]
    {
        let middle = top + LANE / 2;
        let _ = writeln!(out, "<text x=\"8\" y=\"{}\" fill=\"{colour}\">{name}</text>", middle + 4);
        let _ = writeln!(out, "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{LANE}\" fill=\"#f4f6f8\"/>");
        let _ = write!(out, "<path stroke=\"{colour}\" d=\"");
        for (x, (low, high)) in (LEFT..).zip(columns(samples, frames)) {
            let y = |sample: i16| middle - i64::from(sample) * (LANE / 2 - 2) / i64::from(i16::MAX);
            let _ = write!(out, "M{x} {}V{} ", y(high), y(low).max(y(high) + 1));
        }
        out.push_str("\"/>\n");
    }
    let x = |ms: i64| LEFT + (ms - manifest.starts_at_ms).clamp(0, length_ms.max(1)) * WIDTH / length_ms.max(1);
    for span in &manifest.masked {
        let (from, to) = (x(span.from_ms), x(span.to_ms.unwrap_or(i64::MAX)));
        let _ = writeln!(
            out,
            "<rect x=\"{from}\" y=\"{TOP}\" width=\"{}\" height=\"{}\" fill=\"#b03030\" fill-opacity=\"0.25\"/>\n\
             <text x=\"{from}\" y=\"{}\" fill=\"#b03030\">masked: {}</text>",
            (to - from).max(1),
            2 * LANE + GAP,
            TOP - 6,
            escape(&span.reason),
        );
    }
    let step = step(length_ms);
    for tick in (0..).map(|n: i64| n.saturating_mul(step)).take_while(|ms| *ms <= length_ms) {
        let at = x(manifest.starts_at_ms + tick);
        let _ = writeln!(
            out,
            "<path stroke=\"#999999\" d=\"M{at} {}v6\"/><text x=\"{at}\" y=\"{}\" fill=\"#666666\">{} s</text>",
            TOP + 2 * LANE + GAP,
            HEIGHT - 8,
            (manifest.starts_at_ms + tick) / 1000,
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Lowest and highest sample under each column of the picture.
fn columns(samples: &[i16], frames: usize) -> impl Iterator<Item = (i16, i16)> {
    let columns = usize::try_from(WIDTH).unwrap_or(1);
    (0..columns).map(move |column| {
        let part = |n: usize| n.saturating_mul(frames) / columns;
        let under = samples.get(part(column)..part(column + 1).min(samples.len())).unwrap_or_default();
        (under.iter().copied().min().unwrap_or(0), under.iter().copied().max().unwrap_or(0))
    })
}

/// Milliseconds between marks: about ten of them.
fn step(length_ms: i64) -> i64 {
    [1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000, 600_000].into_iter().find(|s| length_ms / s <= 12).unwrap_or(3_600_000)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Columns of sound.
const WIDTH: i64 = 1000;
/// Room for names.
const LEFT: i64 = 70;
const RIGHT: i64 = 20;
/// Room for the title and for what masked spans say.
const TOP: i64 = 44;
/// Height of one leg.
const LANE: i64 = 100;
const GAP: i64 = 10;
const HEIGHT: i64 = TOP + 2 * LANE + GAP + 34;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::PerSide, recording::Masked, time::Wall};

    #[test]
    fn sound_is_drawn_where_it_is_and_a_masked_span_is_marked() {
        let mut caller = vec![0; 8000];
        caller[4000..4080].fill(i16::MAX);
        let wave = Wave { rate: 8000, caller, platform: vec![0; 8000] };
        let manifest = Manifest {
            call_id: "01960000-0000-7000-8000-000000000001".parse().expect("a call id"),
            file: "x.wav".into(),
            starts_at: Wall::from_millis(0),
            starts_at_ms: 2000,
            duration_ms: 1000,
            sample_rate: 8000,
            channels: ["caller".into(), "platform".into()],
            codecs: PerSide::default(),
            masked: vec![Masked { from_ms: 2100, to_ms: Some(2300), reason: "a<b".into() }],
            frames: PerSide::default(),
            dropped: 0,
            degraded: false,
            complete: true,
            sha256: None,
        };
        let svg = svg(&wave, &manifest);
        let loud = TOP + LANE / 2 - (LANE / 2 - 2);
        assert!(svg.contains(&format!("M{} {loud}V", LEFT + 500)), "half a second in");
        assert!(!svg.contains(&format!("M{} {loud}V", LEFT + 520)));
        assert!(svg.contains(&format!("<rect x=\"{}\" y=\"{TOP}\" width=\"200\"", LEFT + 100)), "from 2,100 to 2,300 ms of the call");
        assert!(svg.contains("masked: a&lt;b"));
    }
}
