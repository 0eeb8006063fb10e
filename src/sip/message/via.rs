//! Where a message came through (RFC 3261 §20.42).

use std::fmt;

use crate::sip::uri;

/// A `Via` value (RFC 3261 §20.42).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS` …, as written.
    pub transport: String,
    /// Host (without brackets) of sent-by.
    pub host: String,
    /// Port of sent-by.
    pub port: Option<u16>,
    params: String,
}

impl Via {
    /// Reads one value.
    pub fn parse(value: &str) -> Option<Self> {
        let (head, params) = value.split_at_checked(value.find(';').unwrap_or(value.len()))?;
        let (protocol, sent_by) = head.trim().rsplit_once(|c: char| c.is_ascii_whitespace()).map(|(p, s)| (p.trim(), s))?;
        // `SIP / 2.0 / UDP host : port`: white space may stand around each slash and colon (RFC 4475 §3.1.1.1).
        let port = sent_by.strip_prefix(':').or_else(|| protocol.ends_with(':').then_some(sent_by));
        let (protocol, sent_by) = match port {
            Some(port) if protocol.contains(|c: char| c.is_ascii_whitespace()) => {
                let before = protocol.trim_end_matches(':').trim_end();
                let (protocol, host) = before.rsplit_once(|c: char| c.is_ascii_whitespace())?;
                (protocol, format!("{host}:{port}"))
            }
            _ => (protocol, sent_by.to_owned()),
        };
        let mut parts = protocol.split('/').map(str::trim);
        let (name, version, transport) = (parts.next()?, parts.next()?, parts.next()?);
        if !name.eq_ignore_ascii_case("SIP") || version != "2.0" || transport.is_empty() || parts.next().is_some() {
            return None;
        }
        let (host, port) = uri::split_host_port(&sent_by)?;
        (!host.is_empty()).then(|| Self { transport: transport.to_owned(), host: host.to_owned(), port, params: params.to_owned() })
    }

    /// A parameter's value, `""` for a flag.
    pub fn param(&self, name: &str) -> Option<&str> {
        uri::param(&self.params, name)
    }

    /// All parameters in order, `None` for a flag.
    pub fn params(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        uri::params(&self.params)
    }

    /// The branch.
    pub fn branch(&self) -> Option<&str> {
        self.param("branch")
    }

    /// With a parameter set, replacing one of that name.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        let kept = self.params.split(';').filter(|p| {
            let key = p.split('=').next().unwrap_or_default().trim();
            !key.is_empty() && !key.eq_ignore_ascii_case(name)
        });
        self.params = kept.map(|p| format!(";{}", p.trim())).collect::<String>() + &format!(";{name}={value}");
        self
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "SIP/2.0/{} {host}", self.transport)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.params)
    }
}
