//! A request as it reached the CRM, and what its address and form say.

use std::fmt;

use percent_encoding::percent_decode_str;

/// The header by which the socket tells that it was asked over TLS: `https`.
pub const SCHEME_HEADER: &str = "x-forwarded-proto";

/// A request. Authorisation and call data are in it, so it does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path, without query, as it came.
    pub path: String,
    /// Query, without question mark, as it came.
    pub query: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {}, {} octets)", self.method, self.path, self.body.len())
    }
}

impl Request {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Token of `Authorization: Bearer` (RFC 6750 §2.1).
    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// Scheme and host, as the client knows them: what an answer's own addresses begin with.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.header(SCHEME_HEADER) == Some("https") { "https" } else { "http" };
        format!("{scheme}://{}", self.header("host").filter(|host| !host.is_empty()).unwrap_or("crm"))
    }

    /// Parts of the path, decoded.
    pub fn parts(&self) -> Vec<String> {
        self.path.trim_matches('/').split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
    }

    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        of(self.query.as_bytes(), name)
    }

    /// A field of the body, which is a form, decoded; empty where it has none.
    pub fn field(&self, name: &str) -> String {
        of(&self.body, name).unwrap_or_default()
    }
}

fn of(form: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(form).find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_forms_are_decoded_each_in_its_way() {
        let request = Request {
            method: "POST".into(),
            path: "/a%2Fb/c+d/%zz%4/%+f".into(),
            query: "q=SELECT+Id%2c+Name&q=second".into(),
            headers: vec![("authorization".into(), "Bearer t".into())],
            body: b"grant_type=a%3Ab&empty=&x".to_vec(),
        };
        assert_eq!(request.parts(), ["a/b", "c+d", "%zz%4", "%+f"]);
        assert_eq!(request.parameter("q").as_deref(), Some("SELECT Id, Name"));
        assert_eq!(request.parameter("p"), None);
        assert_eq!((request.field("grant_type").as_str(), request.field("empty").as_str(), request.field("x").as_str()), ("a:b", "", ""));
        assert_eq!(request.bearer(), Some("t"));
    }
}
