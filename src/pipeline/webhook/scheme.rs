//! Signature schemes, as data: which headers, which code over what, in which form. Those that are shipped stand in `schemes.toml`, others in a configuration; one
//! procedure (`verify`) goes by all of them.

use serde::Deserialize;

use super::template::{self, Form, Part, SIGNATURE};

/// A scheme as it is written: in a `[[scheme]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// Its name, which a `[[webhook]]` names it by.
    pub name: String,
    /// What proves that a webhook is its sender's.
    pub algorithm: Algorithm,
    /// What a code is over, as a template: `{id}.{timestamp}.{body}`.
    #[serde(default)]
    pub signed: Option<String>,
    /// The header that holds the signature, the token or the secret.
    pub header: String,
    /// How that header holds it, as a template: `sha256={signature}`, `t={timestamp},v1={signature}`; none: alone.
    #[serde(default)]
    pub value: Option<String>,
    /// How a code's octets are written; none: in hex.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// The header with the time of signing, where it has one of its own.
    #[serde(default)]
    pub timestamp_header: Option<String>,
    /// The header with the message's id, where that is signed.
    #[serde(default)]
    pub id_header: Option<String>,
    /// How far the sender's clock may be off, s; none: [`TOLERANCE_S`].
    #[serde(default)]
    pub tolerance_s: Option<u32>,
    /// Of a token: the claim with the hash of the body.
    #[serde(default)]
    pub claim: Option<String>,
}

/// What proves that a webhook is its sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// A code over parts of the request: RFC 2104 with SHA-256.
    HmacSha256,
    /// The same with SHA-512.
    HmacSha512,
    /// The same with SHA-1, which some still sign with; as a keyed code it is not broken.
    HmacSha1,
    /// A JSON Web Token (RFC 7519, HS256) with the SHA-256 of the body, in base64, as a claim.
    JwtHs256,
    /// The secret itself.
    Secret,
}

/// The hash that a code is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// FIPS 180-4, as the others.
    Sha1,
    /// 256 bits.
    Sha256,
    /// 512 bits.
    Sha512,
}

/// How octets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// RFC 4648 §4.
    Base64,
    /// Either case.
    Hex,
}

/// How a sender proves that a webhook is his.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Its name in a configuration.
    pub name: String,
    /// What proves it.
    pub proof: Proof,
    /// The header that holds the signature, the token or the secret.
    pub header: String,
    /// The header with the time of signing, where it has one of its own.
    pub timestamp_header: Option<String>,
    /// The header with the message's id, where that is signed.
    pub id_header: Option<String>,
    /// How far the sender's clock may be off, s.
    pub tolerance_s: i64,
    /// What to do where no signature fits.
    pub hint: String,
}

/// What proves that a webhook is its sender's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A code over parts of the request.
    Code {
        /// With this hash.
        hash: Hash,
        /// What is signed, in order.
        signed: Vec<Part>,
        /// How the header holds it.
        form: Form,
        /// How its octets are written.
        encoding: Encoding,
    },
    /// A token that says what the body's hash is.
    Token {
        /// The claim.
        claim: String,
        /// What may stand before it.
        prefix: String,
    },
    /// The secret itself.
    Secret {
        /// What has to stand before it.
        prefix: String,
    },
}

/// What is wrong with a scheme as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key that it stands at.
    pub key: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub instead: &'static str,
}

/// The scheme of whoever names none.
pub const STANDARD: &str = "standard-webhooks";
/// How far a clock may be off, s: as Standard Webhooks' libraries have it, and those of most senders.
pub const TOLERANCE_S: u32 = 300;

#[derive(Deserialize)]
struct Shipped {
    scheme: Vec<Written>,
}

impl Written {
    /// Those that every configuration may name.
    pub fn shipped() -> Vec<Self> {
        toml::from_str::<Shipped>(include_str!("schemes.toml")).map(|shipped| shipped.scheme).unwrap_or_default()
    }

    /// Whether requests bear the time of signing.
    pub fn is_timed(&self) -> bool {
        self.timestamp_header.is_some() || self.value.as_ref().is_some_and(|value| value.contains(TIMESTAMP))
    }
}

impl Algorithm {
    /// The hash of a code; none where it is another proof.
    const fn hash(self) -> Option<Hash> {
        match self {
            Self::HmacSha256 => Some(Hash::Sha256),
            Self::HmacSha512 => Some(Hash::Sha512),
            Self::HmacSha1 => Some(Hash::Sha1),
            Self::JwtHs256 | Self::Secret => None,
        }
    }
}

impl Hash {
    const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        }
    }
}

impl Scheme {
    /// Reads a scheme; otherwise everything that is wrong with it.
    pub fn new(written: &Written) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let proof = match written.algorithm.hash() {
            Some(hash) => code(hash, written, &mut faults),
            None => whole(written, &mut faults),
        };
        let tolerance_s = i64::from(written.tolerance_s.unwrap_or(TOLERANCE_S));
        match proof.filter(|_| faults.is_empty()) {
            None => Err(faults),
            Some(proof) => Ok(Self {
                name: written.name.clone(),
                proof,
                header: written.header.clone(),
                timestamp_header: written.timestamp_header.clone(),
                id_header: written.id_header.clone(),
                tolerance_s,
                hint: hint(written),
            }),
        }
    }

    /// The shipped scheme of that name.
    pub fn shipped(name: &str) -> Option<Self> {
        Written::shipped().iter().find(|written| written.name == name).and_then(|written| Self::new(written).ok())
    }

    /// <https://www.standardwebhooks.com>
    pub fn standard_webhooks() -> Self {
        // A test reads schemes.toml: it is there.
        let nothing = || Self {
            name: String::new(),
            proof: Proof::Code { hash: Hash::Sha256, signed: vec![Part::Body], form: Form::Words(String::new()), encoding: Encoding::Hex },
            header: String::new(),
            timestamp_header: None,
            id_header: None,
            tolerance_s: 0,
            hint: String::new(),
        };
        Self::shipped(STANDARD).unwrap_or_else(nothing)
    }

    /// Whether the public address is signed.
    pub fn signs_address(&self) -> bool {
        matches!(&self.proof, Proof::Code { signed, .. } if signed.contains(&Part::Url))
    }
}

/// A code, as far as it can be read.
fn code(hash: Hash, written: &Written, faults: &mut Vec<Fault>) -> Option<Proof> {
    let Written { signed, value, timestamp_header, id_header, tolerance_s, claim, .. } = written;
    let mut fault = |key: &'static str, what: String, instead: &'static str| faults.push(Fault { key, what, instead });
    if claim.is_some() {
        fault("claim", "a code has no claims".to_owned(), "take it out, or write algorithm = \"jwt-hs256\"");
    }
    let template = value.as_deref().unwrap_or(SIGNATURE);
    let form = Form::read(template);
    if form.is_none() {
        let what = format!("`value` is \"{template}\", from which no signature can be read");
        fault("value", what, "write it as \"sha256={signature}\", or with a time as \"t={timestamp},v1={signature}\"");
    }
    let in_value = template.contains(TIMESTAMP);
    if in_value && timestamp_header.is_some() {
        let what = "the time of signing stands in `value` and in a header of its own".to_owned();
        fault("timestamp_header", what, "take it out, or {timestamp} out of `value`");
    }
    let Some(template) = signed else {
        fault("signed", "nothing says what the code is over".to_owned(), "add signed = \"{body}\", or with a time \"{timestamp}.{body}\"");
        return None;
    };
    let parts = match template::signed(template) {
        Ok(parts) => parts,
        Err(place) => {
            let instead = "write one of {id}, {timestamp}, {body}, {url} and {form}; what is the same in all requests, such as POST or a path, is written as it is";
            fault("signed", format!("`signed` has {place}, which is none of a webhook's parts"), instead);
            return None;
        }
    };
    let has = |part: &Part| parts.contains(part);
    if !has(&Part::Body) && !has(&Part::Form) {
        let what = "`signed` has no {body}: a signature would fit whatever else somebody sends with it".to_owned();
        fault("signed", what, "write {body} where the sender puts the body");
    }
    if has(&Part::Form) && !has(&Part::Url) {
        let what = "`signed` has {form} without {url}, which may bear the hash of the body in place of the form".to_owned();
        fault("signed", what, "write \"{url}{form}\", as Twilio signs, or {body}");
    }
    if has(&Part::Timestamp) && !written.is_timed() {
        let what = "`signed` has {timestamp}, and nothing says where the time of signing stands".to_owned();
        fault("signed", what, "add timestamp_header = \"X-Timestamp\", or write value = \"t={timestamp},v1={signature}\"");
    }
    if written.is_timed() && !has(&Part::Timestamp) {
        let key = if in_value { "value" } else { "timestamp_header" };
        let what =
            format!("`{key}` says where the time of signing stands, and that is not signed: whoever sends a webhook again writes it anew");
        fault(key, what, "write {timestamp} into `signed` where the sender puts it, or take it out here");
    }
    if tolerance_s.is_some() && !written.is_timed() {
        let what = "`tolerance_s` says how old a signature may be, and no time is signed".to_owned();
        fault("tolerance_s", what, "take it out, or say where the time of signing stands and is signed");
    }
    match id_header {
        None if has(&Part::Id) => {
            let what = "`signed` has {id}, and nothing says where the message's id stands".to_owned();
            fault("signed", what, "add id_header = \"X-Request-Id\", or whatever the sender calls it");
        }
        Some(_) if !has(&Part::Id) => {
            let what = "`id_header` names an id that is not signed".to_owned();
            fault("id_header", what, "write {id} into `signed` where the sender puts it, or take it out here");
        }
        _ => {}
    }
    let encoding = written.encoding.unwrap_or(Encoding::Hex);
    form.map(|form| Proof::Code { hash, signed: parts, form, encoding })
}

/// A token or a secret, which is sent whole.
fn whole(written: &Written, faults: &mut Vec<Fault>) -> Option<Proof> {
    let Written { algorithm, signed, value, encoding, timestamp_header, id_header, tolerance_s, claim, .. } = written;
    let mut fault = |key: &'static str, what: String, instead: &'static str| faults.push(Fault { key, what, instead });
    let of_codes = [
        ("signed", signed.is_some()),
        ("encoding", encoding.is_some()),
        ("timestamp_header", timestamp_header.is_some()),
        ("id_header", id_header.is_some()),
    ];
    for (key, _) in of_codes.into_iter().filter(|(_, stands)| *stands) {
        let what = format!("`{key}` is of codes, and this `algorithm` is none");
        fault(key, what, "take it out, or write algorithm = \"hmac-sha256\"");
    }
    let template = value.as_deref().unwrap_or(SIGNATURE);
    let prefix = match Form::read(template) {
        Some(Form::Words(prefix)) => Some(prefix),
        _ => {
            let what = format!("`value` is \"{template}\", from which nothing can be read");
            fault("value", what, "write it as \"Bearer {signature}\", or leave it out where nothing stands before it");
            None
        }
    };
    match (algorithm, claim) {
        (Algorithm::JwtHs256, None) => {
            let what = "nothing says which claim of the token has the hash of the body".to_owned();
            fault("claim", what, "add claim = \"sha256\", or whatever the sender calls it");
            None
        }
        (Algorithm::JwtHs256, Some(claim)) => prefix.map(|prefix| Proof::Token { claim: claim.clone(), prefix }),
        (_, claim) => {
            for (key, stands) in [("claim", claim.is_some()), ("tolerance_s", tolerance_s.is_some())] {
                if stands {
                    fault(key, format!("a secret has no `{key}`"), "take it out");
                }
            }
            prefix.map(|prefix| Proof::Secret { prefix })
        }
    }
}

/// What whoever sends has to do, and what his key has to be here.
fn hint(written: &Written) -> String {
    let value = written.value.as_deref().unwrap_or(SIGNATURE);
    let Some(hash) = written.algorithm.hash() else {
        return match written.algorithm {
            Algorithm::Secret => {
                format!("send the secret of this source's secret_file as {}: {}", written.header, value.replace(SIGNATURE, "SECRET"))
            }
            _ => "the key is the API secret, as raw:TEXT, and the body must come as it was signed".to_owned(),
        };
    };
    let signed = written.signed.as_deref().unwrap_or_default();
    let encoding = match written.encoding {
        Some(Encoding::Base64) => "base64",
        _ => "hex",
    };
    let address = if signed.contains("{url}") { "; {url} is `public_url`, the address that the sender was given" } else { "" };
    let (hash, header) = (hash.name(), &written.header);
    format!(
        "sign {signed}, octet for octet, with HMAC-{hash} and the key of this source's secret_file, and send {header}: {value}, in {encoding}; a key that is text stands in the file as raw:TEXT{address}"
    )
}

const TIMESTAMP: &str = "{timestamp}";
