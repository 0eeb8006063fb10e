//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966), kept as text and read where needed.

use std::{fmt, net::IpAddr, str::FromStr};

use percent_encoding::percent_decode_str;

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
        // Only behind the host: a user part may hold a question mark too.
        let tail = self.authority().1;
        let headers = tail.find('?').map_or(0, |at| tail.len() - at);
        self.text.insert_str(self.text.len() - headers, &format!(";{name}={value}"));
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

/// `%XX` as the octet it stands for; what is no such escape stays as it is.
fn unescape(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    /// A host as it stands in a URI: a name, an address, an IPv6 reference.
    pub(in crate::sip) fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{1,6}){0,2}",
            any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        ]
    }

    /// A user part with all that RFC 3261 §25.1 lets stand there unescaped, and escapes.
    fn user() -> impl Strategy<Value = String> {
        "([A-Za-z0-9_.!~*'()&=+$,;?/-]|%[0-9A-F]{2}){1,12}"
    }

    fn names_and_values(value: &'static str) -> impl Strategy<Value = Vec<(String, String)>> {
        vec(("[a-z-]{1,6}", value), 0..3)
            .prop_map(|pairs| pairs.into_iter().enumerate().map(|(n, (name, value))| (format!("{name}{n}"), value)).collect())
    }

    /// The parts of a SIP URI.
    #[derive(Clone, Debug)]
    struct Parts {
        scheme: &'static str,
        user: Option<String>,
        password: Option<String>,
        host: String,
        port: Option<u16>,
        /// An empty value: a flag.
        params: Vec<(String, String)>,
        headers: Vec<(String, String)>,
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let user = option::of((user(), option::of("[A-Za-z0-9&=+$,]{0,6}")));
        let scheme = prop::sample::select(vec!["sip", "sips", "SIP"]);
        let params = names_and_values("[A-Za-z0-9.:/&+$-]{0,8}");
        (scheme, user, host(), option::of(any::<u16>()), params, names_and_values("[ -~ä€]{0,10}")).prop_map(
            |(scheme, user, host, port, params, headers)| {
                let (user, password) = user.map_or((None, None), |(user, password)| (Some(user), password));
                Parts { scheme, user, password, host, port, params, headers }
            },
        )
    }

    impl fmt::Display for Parts {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}:", self.scheme)?;
            if let Some(user) = &self.user {
                write!(f, "{user}{}@", self.password.as_ref().map(|p| format!(":{p}")).unwrap_or_default())?;
            }
            write!(f, "{}{}", self.host, self.port.map(|p| format!(":{p}")).unwrap_or_default())?;
            for (name, value) in &self.params {
                write!(f, ";{name}{}", if value.is_empty() { String::new() } else { format!("={value}") })?;
            }
            for (n, (name, value)) in self.headers.iter().enumerate() {
                let escape = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") };
                write!(f, "{}{name}={}", if n == 0 { '?' } else { '&' }, value.bytes().map(escape).collect::<String>())?;
            }
            Ok(())
        }
    }

    /// A URI of any kind, as text.
    pub(in crate::sip) fn uri_text() -> impl Strategy<Value = String> {
        let other =
            "(tel:\\+?[0-9.()-]{1,12}(;phone-context=[a-z0-9.]{1,8})?|urn:service:[a-z]{1,8}|[a-z][a-z0-9+.-]{0,5}:[!#-;=?-~]{1,12})";
        prop_oneof![3 => parts().prop_map(|p| p.to_string()), 1 => other.prop_filter("a URI", |text: &String| text.parse::<Uri>().is_ok())]
    }

    fn pairs(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
        pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()
    }

    proptest! {
        #[test]
        fn a_uri_tells_its_parts(parts in parts()) {
            let uri: Uri = parts.to_string().parse().expect("a URI");
            prop_assert_eq!(uri.to_string(), parts.to_string());
            prop_assert!(uri.is_sip());
            prop_assert_eq!((uri.scheme(), uri.user(), uri.port()), (parts.scheme, parts.user.as_deref(), parts.port));
            prop_assert_eq!(uri.host(), parts.host.trim_matches(['[', ']']));
            prop_assert_eq!(uri.ip(), uri.host().parse().ok());
            for (name, value) in &parts.params {
                prop_assert_eq!(uri.param(&name.to_uppercase()), Some(value.as_str()));
            }
            prop_assert_eq!(uri.headers(), parts.headers.clone());
            prop_assert_eq!(uri.without_headers().to_string(), Parts { headers: Vec::new(), ..parts }.to_string());
        }

        #[test]
        fn one_more_parameter_changes_nothing_else(parts in parts(), value in "[a-z0-9]{1,6}") {
            let uri = parts.to_string().parse::<Uri>().expect("a URI").with_param("more", &value);
            let more = Parts { params: parts.params.iter().cloned().chain([("more".into(), value)]).collect(), ..parts };
            prop_assert_eq!(uri.to_string(), more.to_string());
            prop_assert_eq!(uri.to_string().parse(), Ok(uri));
        }

        #[test]
        fn a_uri_of_ours_is_readable(user in option::of(user()), host in host(), port in option::of(any::<u16>())) {
            let uri = Uri::sip(user.as_deref().unwrap_or_default(), host.trim_matches(['[', ']']), port);
            prop_assert_eq!((uri.user(), uri.port()), (user.as_deref(), port));
            prop_assert_eq!(uri.host(), host.trim_matches(['[', ']']));
            prop_assert_eq!(uri.to_string().parse(), Ok(uri));
        }

        #[test]
        fn no_text_panics_and_what_is_read_is_kept(text in "[ -~]{0,40}") {
            if let Ok(uri) = text.parse::<Uri>() {
                prop_assert_eq!(uri.as_str(), text.trim());
                let _ = (uri.user(), uri.host(), uri.port(), uri.param("x"), uri.headers(), uri.without_headers(), uri.clone().with_param("a", "b"));
            }
        }

        #[test]
        fn parameters_of_a_header_are_all_told(pairs_in in names_and_values("[a-z0-9]{0,5}")) {
            let text = pairs_in.iter().map(|(n, v)| if v.is_empty() { format!("; {n}") } else { format!(" ;{n} = {v}") }).collect::<String>();
            let told = params(&text).map(|(n, v)| (n, v.unwrap_or_default())).collect::<Vec<_>>();
            prop_assert_eq!(told, pairs(&pairs_in));
            for (name, value) in &pairs_in {
                prop_assert_eq!(param(&text, name), Some(value.as_str()));
            }
        }
    }

    #[test]
    fn parts_of_a_sip_uri() {
        let uri: Uri =
            "sip:+4930;ext=1:secret@[2001:db8::1]:5070;transport=tcp;lr?User-to-User=ab%3Bencoding%3Dhex&X-A=1".parse().expect("a URI");
        assert_eq!(uri.user(), Some("+4930;ext=1"));
        assert_eq!((uri.host(), uri.port()), ("2001:db8::1", Some(5070)));
        assert_eq!((uri.param("TRANSPORT"), uri.param("lr"), uri.param("x")), (Some("tcp"), Some(""), None));
        assert_eq!(uri.headers(), [("User-to-User".into(), "ab;encoding=hex".into()), ("X-A".into(), "1".into())]);
        let odd: Uri = "sip:a@b?X=%+f%zz%4&Y=c+d%2B".parse().expect("a URI");
        assert_eq!(odd.headers(), [("X".into(), "%+f%zz%4".into()), ("Y".into(), "c+d+".into())], "a plus sign is no space, nor a digit");
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
