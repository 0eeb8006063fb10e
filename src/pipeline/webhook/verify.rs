//! Whether a webhook is its sender's: the one procedure that goes by every scheme.

use std::borrow::Cow;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Key, Request,
    scheme::{Encoding, Hash, Proof, Scheme},
    template::Part,
};
use crate::time::Wall;

/// Why a webhook is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// A header is missing.
    #[error("the header {0} is missing; this source signs as the scheme {1} has it")]
    Missing(String, String),
    /// The timestamp is no time.
    #[error("the time of signing is no number of seconds or milliseconds since 1970, and no time as RFC 3339 has it")]
    Timestamp,
    /// Too old or from the future: it may be a recording.
    #[error("the time of signing is {0} s off; more than {1} are refused: see both clocks, and sign each retry anew")]
    Old(i64, i64),
    /// None of the signatures fits.
    #[error("no signature fits; {0}")]
    Signature(String),
    /// The scheme signs an address that the configuration does not tell.
    #[error("this scheme signs the public address, and the source has none: set `public_url` of its [[webhook]]")]
    NoAddress,
}

impl Scheme {
    /// Whether `key` signed the request, which came to `public_url`.
    pub(super) fn verify(&self, key: &Key, public_url: Option<&str>, request: &Request<'_>, now: Wall) -> Result<(), Bad> {
        let header = |name: &String| request.header(name).ok_or_else(|| Bad::Missing(name.clone(), self.name.clone()));
        let value = header(&self.header)?;
        let fits = match &self.proof {
            Proof::Code { hash, signed, form, encoding } => {
                let timestamp = match (form.time(value), &self.timestamp_header) {
                    (Some(time), _) => Some(time.ok_or(Bad::Timestamp)?),
                    (None, Some(name)) => Some(header(name)?),
                    (None, None) => None,
                };
                if let Some(timestamp) = timestamp {
                    self.is_fresh(timestamp, now)?;
                }
                let id = self.id_header.as_ref().map(header).transpose()?;
                match octets(signed, timestamp, id, public_url, request)? {
                    Some(parts) => {
                        let code = key.code(*hash, &parts).unwrap_or_default();
                        form.signatures(value).any(|signature| encoding.read(signature).is_some_and(|given| same(&given, &code)))
                    }
                    None => false,
                }
            }
            Proof::Token { claim, prefix } => {
                self.token(key, value.strip_prefix(prefix.as_str()).unwrap_or(value), claim, request.body, now)?
            }
            Proof::Secret { prefix } => value.strip_prefix(prefix.as_str()).is_some_and(|given| same(given.as_bytes(), key.octets())),
        };
        if fits { Ok(()) } else { Err(Bad::Signature(self.hint.clone())) }
    }

    /// Seconds, or milliseconds where there are too many of them for seconds of this millennium, or RFC 3339.
    fn is_fresh(&self, timestamp: &str, now: Wall) -> Result<(), Bad> {
        let seconds = match timestamp.parse::<i64>() {
            Ok(number) if number > MILLISECONDS_FROM => number / 1000,
            Ok(number) => number,
            Err(_) => Wall::parse(timestamp).ok_or(Bad::Timestamp)?.as_millis().div_euclid(1000),
        };
        let off = now.as_millis().div_euclid(1000).saturating_sub(seconds);
        if off.saturating_abs() > self.tolerance_s { Err(Bad::Old(off, self.tolerance_s)) } else { Ok(()) }
    }

    /// RFC 7519 §7.2, for the one algorithm that a shared secret allows: a token that names another is not believed.
    fn token(&self, key: &Key, token: &str, claim: &str, body: &[u8], now: Wall) -> Result<bool, Bad> {
        let Some((signed, signature)) = token.rsplit_once('.') else { return Ok(false) };
        let code = key.code(Hash::Sha256, &[signed.as_bytes()]).unwrap_or_default();
        if !URL_SAFE_NO_PAD.decode(signature).is_ok_and(|given| same(&given, &code)) {
            return Ok(false);
        }
        let part = |text: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
        let Some((Some(head), Some(claims))) = signed.split_once('.').map(|(head, claims)| (part(head), part(claims))) else {
            return Ok(false);
        };
        let seconds = now.as_millis().div_euclid(1000);
        let time = |name: &str| claims.get(name).and_then(Value::as_i64);
        if let Some(expired) = time("exp").filter(|exp| exp.saturating_add(self.tolerance_s) < seconds) {
            return Err(Bad::Old(seconds.saturating_sub(expired), self.tolerance_s));
        }
        if let Some(early) = time("nbf").filter(|nbf| nbf.saturating_sub(self.tolerance_s) > seconds) {
            return Err(Bad::Old(seconds.saturating_sub(early), self.tolerance_s));
        }
        let hash = claims.get(claim).and_then(Value::as_str).and_then(|hash| STANDARD.decode(hash).ok());
        Ok(head.get("alg").and_then(Value::as_str) == Some("HS256") && hash.is_some_and(|given| same(&given, &Sha256::digest(body))))
    }
}

/// The year 5138 in seconds, 1973 in milliseconds.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

fn same(a: &[u8], b: &[u8]) -> bool {
    !b.is_empty() && bool::from(a.ct_eq(b))
}

impl Encoding {
    fn read(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Base64 => STANDARD.decode(text).ok(),
            Self::Hex => hex::decode(text).ok(),
        }
    }
}

/// The octets that are signed; none where the request cannot have been signed so.
fn octets<'r>(
    signed: &'r [Part],
    timestamp: Option<&'r str>,
    id: Option<&'r str>,
    public_url: Option<&str>,
    request: &Request<'r>,
) -> Result<Option<Vec<Cow<'r, [u8]>>>, Bad> {
    let mut parts = Vec::with_capacity(signed.len());
    for part in signed {
        parts.push(match part {
            Part::Text(text) => Cow::Borrowed(text.as_bytes()),
            Part::Id => Cow::Borrowed(id.unwrap_or_default().as_bytes()),
            Part::Timestamp => Cow::Borrowed(timestamp.unwrap_or_default().as_bytes()),
            Part::Body => Cow::Borrowed(request.body),
            Part::Url => Cow::Owned(address(public_url.ok_or(Bad::NoAddress)?, request).into_bytes()),
            Part::Form => match parameters(request) {
                Some(parameters) => Cow::Owned(parameters.into_bytes()),
                None => return Ok(None),
            },
        });
    }
    Ok(Some(parts))
}

/// The address as the sender saw it.
fn address(public_url: &str, request: &Request<'_>) -> String {
    let mut address = public_url.to_owned();
    if !request.query.is_empty() {
        address.push('?');
        address.push_str(request.query);
    }
    address
}

/// What Twilio signs of a form; none where the body is not the one whose hash the address has, or is no form.
fn parameters(request: &Request<'_>) -> Option<String> {
    if let Some(hash) = request.query.split('&').find_map(|part| part.strip_prefix("bodySHA256=")) {
        let given = Encoding::Hex.read(hash)?;
        return same(&given, &Sha256::digest(request.body)).then(String::new);
    }
    std::str::from_utf8(request.body).ok()?;
    let mut pairs = form_pairs(request.body);
    pairs.sort();
    Some(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect())
}

/// The pairs of a form (`application/x-www-form-urlencoded`): a `%` that begins no escape stays as it is.
pub(super) fn form_pairs(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}
