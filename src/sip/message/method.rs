//! The methods of requests (RFC 3261 §7.1).

use std::fmt;

/// A request method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// One that `rsip` knows.
    Known(rsip::Method),
    /// Any other token, kept as written.
    Other(String),
}

/// The methods by their names.
#[allow(missing_docs)]
impl Method {
    pub const INVITE: Self = Self::Known(rsip::Method::Invite);
    pub const ACK: Self = Self::Known(rsip::Method::Ack);
    pub const BYE: Self = Self::Known(rsip::Method::Bye);
    pub const CANCEL: Self = Self::Known(rsip::Method::Cancel);
    pub const OPTIONS: Self = Self::Known(rsip::Method::Options);
    pub const INFO: Self = Self::Known(rsip::Method::Info);
    pub const REFER: Self = Self::Known(rsip::Method::Refer);
    pub const NOTIFY: Self = Self::Known(rsip::Method::Notify);
    pub const UPDATE: Self = Self::Known(rsip::Method::Update);
    pub const PRACK: Self = Self::Known(rsip::Method::PRack);

    pub(super) fn parse(token: &str) -> Self {
        // A method is compared with regard to case (RFC 3261 §7.1), which rsip does not do.
        rsip::Method::all().into_iter().find(|known| known.to_string() == token).map_or_else(|| Self::Other(token.to_owned()), Self::Known)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(method) => method.fmt(f),
            Self::Other(token) => f.write_str(token),
        }
    }
}
