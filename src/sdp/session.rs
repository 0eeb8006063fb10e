//! A session description as values: lines that we use typed, attributes kept as they are.

use std::{fmt::Write as _, net::IpAddr};

/// `o=`: who made the session, and which version of it this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// User name, `-` where there is none.
    pub user: String,
    /// Names the session together with user and host.
    pub id: String,
    /// Rises by one with each change (RFC 3264 §8).
    pub version: String,
    /// The host that made it: an address or a name.
    pub host: String,
}

/// `a=name` or `a=name:value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// As written.
    pub name: String,
    /// Behind the colon.
    pub value: Option<String>,
}

impl Attribute {
    /// `a=name`
    pub fn flag(name: &str) -> Self {
        Self { name: name.into(), value: None }
    }

    /// `a=name:value`
    pub fn with(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

/// Who sends media (RFC 8866 §6.7), from the side of whoever wrote the description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    #[default]
    SendRecv,
    /// The writer only.
    SendOnly,
    /// The reader only.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    /// From what each way does.
    pub const fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether the writer sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the writer receives.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same from the other side (RFC 3264 §6.1).
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self::of(self.receives(), self.sends())
    }

    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self::of(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// As the attribute is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive].into_iter().find(|d| d.name() == name)
    }
}

/// What a payload type stands for: `a=rtpmap` (RFC 8866 §6.6), or the static table of RFC 3551 §6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtpmap {
    /// Encoding name, as written.
    pub name: String,
    /// RTP clock, Hz.
    pub clock: u32,
}

/// One `m=` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, `image`, …
    pub kind: String,
    /// 0: refused or not used (RFC 3264 §5.1, §6).
    pub port: u16,
    /// `RTP/AVP`, …
    pub protocol: String,
    /// Payload types, for RTP.
    pub formats: Vec<String>,
    /// `c=` of this section.
    pub connection: Option<String>,
    /// Its attributes, in order.
    pub attributes: Vec<Attribute>,
}

impl Media {
    /// The value of the first attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.name == name)?.value.as_deref()
    }

    /// Payload types of the section, in order of preference; formats that are none are left out.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> {
        self.formats.iter().filter_map(|f| f.parse().ok().filter(|pt| *pt < 128))
    }

    /// What `pt` stands for.
    pub fn rtpmap(&self, pt: u8) -> Option<Rtpmap> {
        let explicit = self.attributes.iter().filter(|a| a.name == "rtpmap").filter_map(|a| a.value.as_deref()).find_map(|value| {
            let (number, encoding) = value.split_once(' ')?;
            (number.parse::<u8>() == Ok(pt)).then_some(encoding.trim())
        });
        let Some(encoding) = explicit else {
            let name = match pt {
                0 => "PCMU",
                3 => "GSM",
                8 => "PCMA",
                9 => "G722",
                18 => "G729",
                _ => return None,
            };
            return Some(Rtpmap { name: name.into(), clock: 8000 });
        };
        let mut parts = encoding.split('/');
        Some(Rtpmap { name: parts.next()?.to_owned(), clock: parts.next()?.parse().ok()? })
    }

    /// Its own direction attribute.
    pub fn direction(&self) -> Option<Direction> {
        direction(&self.attributes)
    }
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().filter(|a| a.value.is_none()).find_map(|a| Direction::named(&a.name))
}

/// A session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `o=`
    pub origin: Origin,
    /// `s=`, `-` where there is none (RFC 3264 §5).
    pub name: String,
    /// `c=` for sections that have none.
    pub connection: Option<String>,
    /// Attributes of the session, in order.
    pub attributes: Vec<Attribute>,
    /// The `m=` sections.
    pub media: Vec<Media>,
}

impl Session {
    /// Where the peer wants the media of a section; a name instead of an address is not for us to look up.
    pub fn address(&self, media: &Media) -> Option<IpAddr> {
        media.connection.as_deref().or(self.connection.as_deref())?.parse().ok()
    }

    /// Who sends in a section: its own attribute, the session's, or both ways (RFC 8866 §6.7).
    pub fn direction(&self, media: &Media) -> Direction {
        media.direction().or_else(|| direction(&self.attributes)).unwrap_or_default()
    }

    /// As it goes onto the wire.
    pub fn emit(&self) -> String {
        let mut out = String::with_capacity(512);
        let Origin { user, id, version, host } = &self.origin;
        // Writing to a String does not fail.
        let _ = write!(out, "v=0\r\no={user} {id} {version} IN {} {host}\r\ns={}\r\n", family(host), self.name);
        if let Some(host) = &self.connection {
            let _ = write!(out, "c=IN {} {host}\r\n", family(host));
        }
        out.push_str("t=0 0\r\n");
        attributes(&mut out, &self.attributes);
        for media in &self.media {
            let _ = write!(out, "m={} {} {} {}\r\n", media.kind, media.port, media.protocol, media.formats.join(" "));
            if let Some(host) = &media.connection {
                let _ = write!(out, "c=IN {} {host}\r\n", family(host));
            }
            attributes(&mut out, &media.attributes);
        }
        out
    }
}

fn attributes(out: &mut String, attributes: &[Attribute]) {
    for Attribute { name, value } in attributes {
        let _ = match value {
            Some(value) => write!(out, "a={name}:{value}\r\n"),
            None => write!(out, "a={name}\r\n"),
        };
    }
}

fn family(host: &str) -> &'static str {
    if host.contains(':') { "IP6" } else { "IP4" }
}
