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

    #[test]
    fn what_is_written_is_read() {
        for code in 0..=16 {
            let digit = Digit::from_code(code).expect("a key");
            assert_eq!(parse(RELAY, &body(digit, 90)), Some((digit, 90)));
        }
    }
}
