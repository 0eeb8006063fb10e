//! Keys in SIP INFO: `application/dtmf-relay` (Signal and Duration lines) and `application/dtmf` (the bare key). No RFC has them; this is what trunks send.

use super::Digit;

/// Media type with duration.
pub const RELAY: &str = "application/dtmf-relay";
/// Media type of the bare key.
pub const BARE: &str = "application/dtmf";
/// Duration of a key that does not tell its own, ms.
pub const DURATION_MS: u32 = 160;

/// A key in a body of that media type, with its duration in ms; none where the type or the body is something else.
pub fn parse(media_type: &str, body: &str) -> Option<(Digit, u32)> {
    let kind = media_type.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(BARE) {
        return Some((key(body.trim())?, DURATION_MS));
    }
    if !kind.eq_ignore_ascii_case(RELAY) {
        return None;
    }
    let line = |name: &str| {
        body.lines().filter_map(|l| l.split_once('=')).find(|(n, _)| n.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let duration = line("Duration").and_then(|d| d.parse().ok()).unwrap_or(DURATION_MS);
    Some((key(line("Signal")?)?, duration))
}

/// Some write `*` as 10, `#` as 11 and the letters as 12 to 15, after the event codes.
fn key(text: &str) -> Option<Digit> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Digit::from_char(c),
        _ => text.parse().ok().filter(|code| (10..=16).contains(code)).and_then(Digit::from_code),
    }
}

/// The body of type [`RELAY`] for a key.
pub fn body(digit: Digit, duration_ms: u32) -> String {
    // Hook flash has no character; its code is what gateways read.
    let signal = digit.as_char().map_or_else(|| digit.code().to_string(), |c| c.to_string());
    format!("Signal={signal}\r\nDuration={duration_ms}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_their_dialects_are_read() {
        let digit = |c| Digit::from_char(c).expect("a key");
        assert_eq!(parse("application/dtmf-relay", "Signal=5\r\nDuration=120\r\n"), Some((digit('5'), 120)));
        assert_eq!(parse("Application/DTMF-Relay;charset=x", "signal= 11\nduration = 250"), Some((digit('#'), 250)));
        assert_eq!(parse("application/dtmf", " * "), Some((digit('*'), DURATION_MS)));
        for (kind, text) in
            [("application/dtmf-relay", "Duration=1"), ("application/dtmf", "99"), ("text/plain", "5"), ("application/dtmf", "")]
        {
            assert_eq!(parse(kind, text), None, "{kind}: {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_however_a_peer_writes_it(code in 0_u8..=16, duration: u32, capitals: bool, apart: bool, as_code: bool, lf: bool) {
            let digit = Digit::from_code(code).expect("a key");
            proptest::prop_assert_eq!(parse(RELAY, &body(digit, duration)), Some((digit, duration)));
            let mut text = body(digit, duration);
            if as_code && code >= 10 {
                text = format!("Signal={code}\r\nDuration={duration}\r\n");
            }
            for (wanted, from, to) in [(apart, "=", " = "), (lf, "\r\n", "\n")] {
                if wanted {
                    text = text.replace(from, to);
                }
            }
            let (kind, text) = if capitals { (RELAY.to_uppercase(), text.to_uppercase()) } else { (format!("{RELAY}; charset=utf-8"), text) };
            proptest::prop_assert_eq!(parse(&kind, &text), Some((digit, duration)));
            let bare = digit.as_char().map_or_else(|| code.to_string(), |c| c.to_string());
            proptest::prop_assert_eq!(parse(BARE, &format!(" {bare}\r\n")), Some((digit, DURATION_MS)));
        }

        #[test]
        fn no_body_panics(kind in "(application/dtmf(-relay)?)?.{0,8}", text in "(Signal|Duration|=|[0-9]|\r\n|.){0,20}") {
            parse(&kind, &text);
        }
    }
}
