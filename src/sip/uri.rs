//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966), kept as text and read where needed.

use std::{fmt, net::IpAddr, str::FromStr};

use super::message::Error;

/// A URI as it stood in a message. Parsing checks its shape; emitting gives back the same text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uri {
    text: String,
}

/// Longest URI read, in bytes. Above anything a carrier sends, and it bounds what a log line may quote.
const URI_BYTES_MAX: usize = 2048;

impl Uri {
    /// A `sip:` URI of a user (may be empty) at a host and port.
    pub fn sip(user: &str, host: &str, port: Option<u16>) -> Self {
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let at = if user.is_empty() { "" } else { "@" };
        let port = port.map(|p| format!(":{p}")).unwrap_or_default();
        Self { text: format!("sip:{user}{at}{host}{port}") }
    }

    /// With one more parameter.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        let headers_at = self.text.find('?').unwrap_or(self.text.len());
        self.text.insert_str(headers_at, &format!(";{name}={value}"));
        self
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `sip`, `sips`, `tel` or what else stands before the first colon, as written.
    pub fn scheme(&self) -> &str {
        self.text.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// Whether this gateway can act on the scheme.
    pub fn is_sip(&self) -> bool {
        ["sip", "sips"].iter().any(|s| self.scheme().eq_ignore_ascii_case(s))
    }

    fn rest(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, rest)| rest)
    }

    /// Up to the parameters and headers: `user:password@host:port`. A user part may itself hold `;` and `?`.
    fn authority(&self) -> (&str, &str) {
        let rest = self.rest();
        let after_user = rest.rfind('@').map_or(0, |at| at + 1);
        let end = rest.get(after_user..).and_then(|tail| tail.find([';', '?'])).map_or(rest.len(), |at| after_user + at);
        rest.split_at_checked(end).unwrap_or((rest, ""))
    }

    /// The user part without password, as written (escapes kept); for a tel URI the number.
    pub fn user(&self) -> Option<&str> {
        if self.scheme().eq_ignore_ascii_case("tel") {
            return self.rest().split([';', '?']).next();
        }
        let (userinfo, _) = self.authority().0.rsplit_once('@')?;
        Some(userinfo.split_once(':').map_or(userinfo, |(user, _)| user))
    }

    /// Host and port as written.
    pub fn host_port(&self) -> &str {
        let authority = self.authority().0;
        authority.rsplit_once('@').map_or(authority, |(_, host)| host)
    }

    /// The host, an IPv6 reference without its brackets.
    pub fn host(&self) -> &str {
        split_host_port(self.host_port()).map_or("", |(host, _)| host)
    }

    /// The port where one is written.
    pub fn port(&self) -> Option<u16> {
        split_host_port(self.host_port()).and_then(|(_, port)| port)
    }

    /// The host where it is an address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// A parameter's value (`""` for a flag), by its name without regard to case.
    pub fn param(&self, name: &str) -> Option<&str> {
        let params = self.authority().1.split('?').next().unwrap_or_default();
        param(params, name)
    }

    /// The headers after `?`, names and values with their escapes undone.
    pub fn headers(&self) -> Vec<(String, String)> {
        let Some((_, headers)) = self.authority().1.split_once('?') else { return Vec::new() };
        headers.split('&').filter_map(|pair| pair.split_once('=')).map(|(n, v)| (unescape(n), unescape(v))).collect()
    }

    /// Without its headers, as a Request-URI must be (RFC 3261 §19.1.5).
    #[must_use]
    pub fn without_headers(&self) -> Self {
        let (authority, tail) = self.authority();
        let params = tail.split('?').next().unwrap_or_default();
        Self { text: format!("{}:{authority}{params}", self.scheme()) }
    }
}

impl FromStr for Uri {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let fault = |why: &str| Err(Error::uri(format!("{why} (RFC 3261 §19.1.1)")));
        if text.len() > URI_BYTES_MAX {
            return fault("a URI longer than 2048 bytes");
        }
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"')) {
            return fault("a URI is empty or holds a space, a quote or an angle bracket");
        }
        let Some((scheme, rest)) = text.split_once(':') else { return fault("a URI without a scheme") };
        let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if !scheme_ok || rest.is_empty() {
            return fault("a URI whose scheme is not a token or that has nothing after it");
        }
        let uri = Self { text: text.to_owned() };
        if uri.is_sip() && split_host_port(uri.host_port()).is_none_or(|(host, _)| host.is_empty()) {
            return fault("a SIP URI without a readable host and port");
        }
        Ok(uri)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Host (without brackets) and port of `host`, `host:port`, `[v6]`, `[v6]:port`.
pub(super) fn split_host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let text = text.trim();
    let (host, port) = if let Some(v6) = text.strip_prefix('[') {
        let (host, after) = v6.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, after.strip_prefix(':').or_else(|| after.is_empty().then_some("")))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host.trim_end(), Some(port.trim_start())),
            None => (text, Some("")),
        }
    };
    let port = match port? {
        "" => None,
        digits => Some(digits.parse().ok()?),
    };
    let host_ok = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':'));
    host_ok.then_some((host, port))
}

/// The value of `name` in `;a=b;c`, `""` for a flag.
pub(super) fn param<'a>(params: &'a str, name: &str) -> Option<&'a str> {
    params.split(';').find_map(|param| {
        let (key, value) = param.split_once('=').unwrap_or((param, ""));
        key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Names and values of `;a=b;c`, `None` for a flag.
pub(super) fn params(params: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    params.split(';').map(str::trim).filter(|param| !param.is_empty()).map(|param| match param.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
        None => (param, None),
    })
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let hex = |o: Option<u8>| o.and_then(|o| char::from(o).to_digit(16));
        let mut ahead = octets.clone();
        match (octet, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                octets = ahead;
            }
            _ => out.push(octet),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_sip_uri() {
        let uri: Uri =
            "sip:+4930;ext=1:secret@[2001:db8::1]:5070;transport=tcp;lr?User-to-User=ab%3Bencoding%3Dhex&X-A=1".parse().expect("a URI");
        assert_eq!(uri.user(), Some("+4930;ext=1"));
        assert_eq!((uri.host(), uri.port()), ("2001:db8::1", Some(5070)));
        assert_eq!((uri.param("TRANSPORT"), uri.param("lr"), uri.param("x")), (Some("tcp"), Some(""), None));
        assert_eq!(uri.headers(), [("User-to-User".into(), "ab;encoding=hex".into()), ("X-A".into(), "1".into())]);
        assert_eq!(uri.without_headers().to_string(), "sip:+4930;ext=1:secret@[2001:db8::1]:5070;transport=tcp;lr");
    }

    #[test]
    fn a_tel_uri_has_a_number_and_no_host_rule() {
        let uri: Uri = "tel:+49-30-1234;phone-context=x".parse().expect("a URI");
        assert_eq!(uri.user(), Some("+49-30-1234"));
        assert!(!uri.is_sip());
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for bad in ["", "sip", "sip:", "sip:@", "sip:a@[::1", "sip:a b@c", "sip:a@b:99999", "1sip:x"] {
            assert!(bad.parse::<Uri>().is_err(), "{bad}");
        }
    }
}
