//! Requests to a token address: `application/x-www-form-urlencoded`.

/// The body of a form with these fields.
pub(super) fn body(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&").into_bytes()
}

/// The headers that go with it.
pub(super) fn headers() -> Vec<(String, String)> {
    vec![("content-type".into(), "application/x-www-form-urlencoded".into()), ("accept".into(), "application/json".into())]
}

/// A value as such a form, a query, or a segment of a path has it.
pub(crate) fn encoded(text: &str) -> String {
    let octet = |o: u8| match o {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => char::from(o).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(octet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_form_is_escaped() {
        assert_eq!(body(&[("a", "x y&z=ü"), ("b", "")]), b"a=x%20y%26z%3D%C3%BC&b=");
    }
}
