//! What a record says in words, for whoever reads it in the CRM.

use super::record::TRANSFERRED;

/// Each part once: the summary, to whom the call was handed and with which words, the transcript. The same parts make the same note, however often and in
/// whatever order they came.
pub(super) fn note(summary: Option<&str>, handed: Option<(&str, Option<&str>)>, transcript: Option<&str>) -> Option<String> {
    let handed = handed.map(|(to, context)| match context {
        Some(context) => format!("{TRANSFERRED} to {to}: {}", readable(context)),
        None => format!("{TRANSFERRED} to {to}"),
    });
    let parts = [summary.map(str::to_owned), handed, transcript.map(str::to_owned)];
    let parts: Vec<_> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// What went along with a transfer, header by header, with User-to-User's hex digits as the text that they stand for (RFC 7433 §4.1), where it is one.
fn readable(context: &str) -> String {
    let part = |part: &str| {
        let (name, value) = part.split_once(": ")?;
        let (data, parameters) = value.split_once(';').unwrap_or((value, ""));
        let is_hex = parameters.is_empty() || parameters.split(';').any(|p| p.trim().eq_ignore_ascii_case("encoding=hex"));
        let text = text_of_hex(data.trim()).filter(|_| name.eq_ignore_ascii_case("user-to-user") && is_hex)?;
        Some(text)
    };
    context.split("; ").map(|each| part(each).unwrap_or_else(|| each.to_owned())).collect::<Vec<_>>().join("; ")
}

/// The text of hex digits, two an octet; none where it is no text that a person can read.
fn text_of_hex(digits: &str) -> Option<String> {
    let text = String::from_utf8(hex::decode(digits).ok()?).ok()?;
    (!text.is_empty() && text.chars().all(|c| !c.is_control())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_in_hex_is_read_and_any_other_stands_as_it_came() {
        for (context, read) in [
            ("User-to-User: 636f6e7472616374203438313531;encoding=hex", "contract 48151"),
            ("User-to-User: 4772c3b6c39f65", "Größe"),
            ("X-Case: 4711; User-to-User: 4f4b;encoding=hex;content=x", "X-Case: 4711; OK"),
            ("X-Case: 4f4b", "X-Case: 4f4b"),
            ("User-to-User: plain words;encoding=ascii", "User-to-User: plain words;encoding=ascii"),
            ("User-to-User: 4f4;encoding=hex", "User-to-User: 4f4;encoding=hex"),
            ("User-to-User: 00ff;encoding=hex", "User-to-User: 00ff;encoding=hex"),
            ("wants a person", "wants a person"),
            ("User-to-User: ä;encoding=hex", "User-to-User: ä;encoding=hex"),
        ] {
            assert_eq!(readable(context), read);
        }
        assert_eq!(note(None, None, Some("")), None);
    }
}
