//! G.711: both laws by the ITU's rule, equal to its reference for every input.

/// µ-law (G.711 table 2). Negative values are taken in one's complement, as the reference has it.
pub(super) const fn ulaw_encode(sample: i16) -> u8 {
    const BIAS: u16 = 33;
    const CLIP: u16 = 0x1fff;
    let positive = sample >= 0;
    let magnitude = if positive { sample.cast_unsigned() >> 2 } else { (!sample).cast_unsigned() >> 2 } + BIAS;
    let magnitude = if magnitude > CLIP { CLIP } else { magnitude };
    // The bias makes at least bit 5 stand: chord 0 has it as its highest, chord 7 bit 12.
    let chord = 10 - magnitude.leading_zeros();
    let step = (magnitude >> (chord + 1)) & 0x0f;
    let code = ((chord as u8) << 4) | step as u8;
    // On the wire all bits but the sign are inverted.
    if positive { !code } else { !code & 0x7f }
}

/// µ-law to 16 bits, left-justified.
pub(super) const fn ulaw_decode(code: u8) -> i16 {
    let bits = !code;
    let chord = (bits >> 4) & 0x07;
    let step = (bits & 0x0f) as i16;
    let value = (((step << 1) + 33) << chord) - 33;
    let value = value << 2;
    if code & 0x80 == 0 { -value } else { value }
}

/// A-law (G.711 table 1), even bits inverted.
pub(super) const fn alaw_encode(sample: i16) -> u8 {
    let positive = sample >= 0;
    let magnitude = if positive { sample.cast_unsigned() >> 4 } else { (!sample).cast_unsigned() >> 4 };
    let code = if magnitude < 32 {
        magnitude as u8
    } else {
        // Chord 2 has bit 5 as its highest, chord 7 bit 10.
        let chord = 12 - magnitude.leading_zeros();
        ((chord as u8) << 4) | ((magnitude >> (chord - 1)) & 0x0f) as u8
    };
    (if positive { code | 0x80 } else { code }) ^ 0x55
}

/// A-law to 16 bits, left-justified.
pub(super) const fn alaw_decode(code: u8) -> i16 {
    let bits = code ^ 0x55;
    let chord = (bits >> 4) & 0x07;
    let step = (bits & 0x0f) as i16;
    let value = match chord {
        0 => (step << 4) + 8,
        _ => ((step + 16) << (chord + 3)) + (8 << (chord - 1)),
    };
    if bits & 0x80 == 0 { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::words, *};

    #[test]
    fn every_input_is_coded_and_decoded_as_the_itus_reference_does() {
        for (law, encode, decode) in [("a", alaw_encode as fn(i16) -> u8, alaw_decode as fn(u8) -> i16), ("u", ulaw_encode, ulaw_decode)] {
            let read = |name: &str| words(&format!("audio-g711/{name}"));
            let (Some(source), Some(code), Some(back)) =
                (read("sweep.src"), read(&format!("sweep-r.{law}")), read(&format!("sweep-r.{law}-{law}")))
            else {
                return;
            };
            assert_eq!((source.len(), code.len(), back.len()), (65_536, 65_536, 65_536));
            let wrong = source.iter().zip(&code).filter(|(s, c)| u16::from(encode(s.cast_signed())) != **c).count();
            assert_eq!(wrong, 0, "{law}-law codes that differ");
            let wrong = code.iter().zip(&back).filter(|(c, b)| decode(u8::try_from(**c).expect("an octet")) != b.cast_signed()).count();
            assert_eq!(wrong, 0, "decoded {law}-law values that differ");
        }
    }

    #[test]
    fn each_code_survives_being_decoded_and_coded_again() {
        for code in 0..=255_u8 {
            assert_eq!(alaw_encode(alaw_decode(code)), code);
            // µ-law has two zeros; negative zero comes back as the positive one.
            assert_eq!(ulaw_encode(ulaw_decode(code)), if code == 0x7f { 0xff } else { code });
        }
    }
}
