//! Signature schemes, as data: which headers, which code over what, in which form. One procedure reads them all.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Key, Request, Source};
use crate::time::Wall;

/// How a sender proves that a webhook is his.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Its name in a configuration.
    pub name: &'static str,
    /// What proves it.
    pub proof: Proof,
    /// Which code.
    pub algorithm: Algorithm,
    /// The header that holds the signature, the token or the secret.
    pub header: &'static str,
    /// The header with the time of signing, where it has one of its own.
    pub timestamp_header: Option<&'static str>,
    /// The header with the message's id, where that is signed.
    pub id_header: Option<&'static str>,
    /// How far the sender's clock may be off, s.
    pub tolerance_s: i64,
    /// What to do where no signature fits.
    pub hint: &'static str,
}

/// A code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 2104 with SHA-256.
    HmacSha256,
    /// The same with SHA-1, which some still sign with; as a keyed code it is not broken.
    HmacSha1,
}

/// What proves that a webhook is its sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A code over parts of the request.
    Code {
        /// What is signed, in order.
        signed: &'static [Part],
        /// How the header holds it.
        form: Form,
        /// How its octets are written.
        encoding: Encoding,
    },
    /// A code over the public address and the sorted parameters of a form; of a body that is no form, a parameter of the address has the SHA-256 in hex.
    AddressAndForm,
    /// A JSON Web Token (RFC 7519, HS256) with the SHA-256 of the body, in base64, as a claim of this name.
    Token {
        /// The claim.
        claim: &'static str,
    },
    /// The secret itself, behind this word.
    Secret {
        /// Such as `Bearer `; empty for none.
        prefix: &'static str,
    },
}

/// A part of what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The message's id.
    Id,
    /// The time of signing, as the header has it.
    Timestamp,
    /// The body as it came.
    Body,
    /// A dot.
    Dot,
}

/// How a header holds signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One, behind a word that may be missing, such as `sha256=`.
    Plain(&'static str),
    /// Several, with spaces between, each behind a version, such as `v1,`.
    Versions(&'static str),
    /// Pairs with commas between: the time under the first name, signatures under the second.
    Pairs(&'static str, &'static str),
}

/// How octets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 4648 §4.
    Base64,
    /// Either case.
    Hex,
}

/// Why a webhook is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// A header is missing.
    #[error("the header {0} is missing; this source signs as the scheme {1} has it")]
    Missing(String, &'static str),
    /// The timestamp is no number.
    #[error("the time of signing is no number of seconds or milliseconds since 1970")]
    Timestamp,
    /// Too old or from the future: it may be a recording.
    #[error("the time of signing is {0} s off; more than {1} are refused: see both clocks, and sign each retry anew")]
    Old(i64, i64),
    /// None of the signatures fits.
    #[error("no signature fits; {0}")]
    Signature(&'static str),
    /// The scheme signs an address that the configuration does not tell.
    #[error("this scheme signs the public address, and the source has none: set `public_url` of its [[webhook]]")]
    NoAddress,
}

const CODE_OF_BODY: &[Part] = &[Part::Body];

/// How far a clock may be off: as Standard Webhooks' libraries have it, and those of most senders.
const TOLERANCE_S: i64 = 300;

/// <https://www.standardwebhooks.com>: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
pub const STANDARD_WEBHOOKS: Scheme = Scheme {
    name: "standard-webhooks",
    proof: Proof::Code {
        signed: &[Part::Id, Part::Dot, Part::Timestamp, Part::Dot, Part::Body],
        form: Form::Versions("v1,"),
        encoding: Encoding::Base64,
    },
    algorithm: Algorithm::HmacSha256,
    header: "webhook-signature",
    timestamp_header: Some("webhook-timestamp"),
    id_header: Some("webhook-id"),
    tolerance_s: TOLERANCE_S,
    hint: "sign ID.TIMESTAMP.BODY with HMAC-SHA256 and the key of this source's secret_file",
};

/// A plain code over the body in one header: what many home-made senders do.
const PLAIN: Scheme = Scheme {
    name: "hmac-hex",
    proof: Proof::Code { signed: CODE_OF_BODY, form: Form::Plain("sha256="), encoding: Encoding::Hex },
    header: "x-signature",
    timestamp_header: None,
    id_header: None,
    hint: "sign the body, octet for octet, with HMAC-SHA256 and the key of this source's secret_file, in hex",
    ..STANDARD_WEBHOOKS
};

/// All schemes, by their names.
pub const SCHEMES: [Scheme; 10] = [
    STANDARD_WEBHOOKS,
    PLAIN,
    Scheme {
        name: "hmac-base64",
        proof: Proof::Code { signed: CODE_OF_BODY, form: Form::Plain("sha256="), encoding: Encoding::Base64 },
        hint: "sign the body, octet for octet, with HMAC-SHA256 and the key of this source's secret_file, in base64",
        ..PLAIN
    },
    // The same with a time of its own.
    Scheme {
        name: "hmac-hex-timestamp",
        proof: Proof::Code { signed: &[Part::Timestamp, Part::Dot, Part::Body], form: Form::Plain("sha256="), encoding: Encoding::Hex },
        timestamp_header: Some("x-timestamp"),
        hint: "sign TIMESTAMP.BODY with HMAC-SHA256 and the key of this source's secret_file, in hex",
        ..PLAIN
    },
    Scheme {
        name: "hmac-base64-timestamp",
        proof: Proof::Code { signed: &[Part::Timestamp, Part::Dot, Part::Body], form: Form::Plain("sha256="), encoding: Encoding::Base64 },
        timestamp_header: Some("x-timestamp"),
        hint: "sign TIMESTAMP.BODY with HMAC-SHA256 and the key of this source's secret_file, in base64",
        ..PLAIN
    },
    // `t=SECONDS,v0=HEX`, as ElevenLabs signs.
    Scheme {
        name: "t-v0",
        proof: Proof::Code { signed: &[Part::Timestamp, Part::Dot, Part::Body], form: Form::Pairs("t", "v0"), encoding: Encoding::Hex },
        header: "elevenlabs-signature",
        tolerance_s: 1800,
        hint: "sign TIMESTAMP.BODY with HMAC-SHA256, as t=TIMESTAMP,v0=HEX",
        ..PLAIN
    },
    // `v=MILLISECONDS,d=HEX` over the body and the time behind it, as Retell signs.
    Scheme {
        name: "v-d",
        proof: Proof::Code { signed: &[Part::Body, Part::Timestamp], form: Form::Pairs("v", "d"), encoding: Encoding::Hex },
        header: "x-retell-signature",
        hint: "sign BODYTIMESTAMP with HMAC-SHA256 and the API key, as v=TIMESTAMP,d=HEX",
        ..PLAIN
    },
    // Twilio: the address, then name and value of each parameter, by name.
    Scheme {
        name: "twilio",
        proof: Proof::AddressAndForm,
        algorithm: Algorithm::HmacSha1,
        header: "x-twilio-signature",
        hint: "the key is the account's auth token, as raw:TEXT, and `public_url` the address that Twilio was given",
        ..PLAIN
    },
    // LiveKit: a token in `Authorization`, signed with the API secret.
    Scheme {
        name: "livekit",
        proof: Proof::Token { claim: "sha256" },
        header: "authorization",
        hint: "the key is the API secret, as raw:TEXT, and the body must come as it was signed",
        ..PLAIN
    },
    Scheme {
        name: "bearer",
        proof: Proof::Secret { prefix: "Bearer " },
        header: "authorization",
        hint: "send the secret of this source's secret_file as Authorization: Bearer SECRET",
        ..PLAIN
    },
];

impl Scheme {
    /// The scheme of that name.
    pub fn named(name: &str) -> Option<Self> {
        SCHEMES.into_iter().find(|scheme| scheme.name == name)
    }

    /// Whether `key` signed the request.
    pub(super) fn verify(&self, key: &Key, source: &Source, request: &Request<'_>, now: Wall) -> Result<(), Bad> {
        let header = |name: &str| request.header(name).ok_or_else(|| Bad::Missing(name.to_owned(), self.name));
        let value = header(source.header.as_deref().unwrap_or(self.header))?;
        let fits = match self.proof {
            Proof::Code { signed, form, encoding } => {
                let timestamp = match (form, self.timestamp_header) {
                    (Form::Pairs(time, _), _) => Some(pairs(value, time).next().ok_or(Bad::Timestamp)?),
                    (_, Some(name)) => Some(header(source.timestamp_header.as_deref().unwrap_or(name))?),
                    (_, None) => None,
                };
                if let Some(timestamp) = timestamp {
                    self.is_fresh(timestamp, now)?;
                }
                let id = self.id_header.map(header).transpose()?;
                let octets = |part: &Part| match part {
                    Part::Id => id.unwrap_or_default().as_bytes(),
                    Part::Timestamp => timestamp.unwrap_or_default().as_bytes(),
                    Part::Body => request.body,
                    Part::Dot => b".",
                };
                let parts = signed.iter().map(octets).collect::<Vec<_>>();
                let code = key.code(self.algorithm, &parts).unwrap_or_default();
                form.signatures(value).any(|signature| encoding.read(signature).is_some_and(|given| same(&given, &code)))
            }
            Proof::AddressAndForm => {
                let signed = address_and_form(source.public_url.as_deref().ok_or(Bad::NoAddress)?, request);
                let code = key.code(self.algorithm, &[signed.as_ref().map_or(b"", |s| s.as_bytes())]).unwrap_or_default();
                signed.is_some() && STANDARD.decode(value).is_ok_and(|given| same(&given, &code))
            }
            Proof::Token { claim } => self.token(key, value.strip_prefix("Bearer ").unwrap_or(value), claim, request.body, now)?,
            Proof::Secret { prefix } => value.strip_prefix(prefix).is_some_and(|given| same(given.as_bytes(), key.octets())),
        };
        if fits { Ok(()) } else { Err(Bad::Signature(self.hint)) }
    }

    /// Seconds, or milliseconds where there are too many of them for seconds of this millennium.
    fn is_fresh(&self, timestamp: &str, now: Wall) -> Result<(), Bad> {
        let number: i64 = timestamp.parse().map_err(|_| Bad::Timestamp)?;
        let seconds = if number > MILLISECONDS_FROM { number / 1000 } else { number };
        let off = now.as_millis().div_euclid(1000).saturating_sub(seconds);
        if off.saturating_abs() > self.tolerance_s { Err(Bad::Old(off, self.tolerance_s)) } else { Ok(()) }
    }

    /// RFC 7519 §7.2, for the one algorithm that a shared secret allows: a token that names another is not believed.
    fn token(&self, key: &Key, token: &str, claim: &str, body: &[u8], now: Wall) -> Result<bool, Bad> {
        let Some((signed, signature)) = token.rsplit_once('.') else { return Ok(false) };
        let code = key.code(Algorithm::HmacSha256, &[signed.as_bytes()]).unwrap_or_default();
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

/// The values of a name in `a=1,b=2`.
fn pairs<'v>(value: &'v str, name: &str) -> impl Iterator<Item = &'v str> {
    value.split(',').filter_map(move |part| part.trim().strip_prefix(name)?.strip_prefix('='))
}

impl Form {
    /// The signatures in a header.
    fn signatures(self, value: &str) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Plain(prefix) => Box::new(std::iter::once(value.strip_prefix(prefix).unwrap_or(value))),
            Self::Versions(version) => Box::new(value.split(' ').filter_map(move |part| part.strip_prefix(version))),
            Self::Pairs(_, name) => Box::new(pairs(value, name)),
        }
    }
}

impl Encoding {
    fn read(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Base64 => STANDARD.decode(text).ok(),
            Self::Hex => hex::decode(text).ok(),
        }
    }
}

/// What Twilio signs; none where the body is not the one whose hash the address has.
fn address_and_form(public_url: &str, request: &Request<'_>) -> Option<String> {
    let mut signed = public_url.to_owned();
    if !request.query.is_empty() {
        signed.push('?');
        signed.push_str(request.query);
    }
    if let Some(hash) = request.query.split('&').find_map(|part| part.strip_prefix("bodySHA256=")) {
        let given = Encoding::Hex.read(hash)?;
        return same(&given, &Sha256::digest(request.body)).then_some(signed);
    }
    std::str::from_utf8(request.body).ok()?;
    let mut parameters = form_pairs(request.body);
    parameters.sort();
    for (name, value) in parameters {
        signed.push_str(&name);
        signed.push_str(&value);
    }
    Some(signed)
}

/// The pairs of a form (`application/x-www-form-urlencoded`): a `%` that begins no escape stays as it is.
pub(super) fn form_pairs(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}
