//! The assertion of the JWT bearer flow (RFC 7523), signed with RS256 (RFC 7518 §3.3).

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::json;

use crate::time::Wall;

/// The grant's name, RFC 7523 §2.1.
pub const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Whom an assertion is for: the login host of production.
pub const AUDIENCE: &str = "https://login.salesforce.com";
/// How long an assertion is good, seconds: the org takes none that lasts longer than some minutes.
const LIFE_S: i64 = 180;

/// Why a private key cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No PEM, or no private key in it.
    #[error("{0}; it takes a PEM file that begins with -----BEGIN PRIVATE KEY----- or -----BEGIN RSA PRIVATE KEY-----")]
    Pem(rustls_pki_types::pem::Error),
    /// A key, but not one for RS256.
    #[error("{0}; it takes an RSA key of 2048 to 4096 bits: `openssl genrsa -out server.key 2048` makes one")]
    Key(ring::error::KeyRejected),
}

/// A private key, and for whom it signs.
pub struct Signer {
    key: RsaKeyPair,
    username: String,
    audience: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, {})", self.username, self.audience)
    }
}

impl Signer {
    /// `pem`: the private key, PKCS#8 or PKCS#1; `username`: the user that the app works as; `audience`: [`AUDIENCE`] or `https://test.salesforce.com`.
    pub fn new(pem: &str, username: String, audience: String) -> Result<Self, Error> {
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(Error::Pem)? {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            other => RsaKeyPair::from_pkcs8(other.secret_der()),
        };
        Ok(Self { key: key.map_err(Error::Key)?, username, audience })
    }

    /// The assertion of the app `client_id`, good from `at` for some minutes. It is empty where the system has no chance to give, with which RSA hides the
    /// key from those who measure it: then the org refuses it.
    pub fn assertion(&self, client_id: &str, at: Wall) -> String {
        let expires = at.as_millis().div_euclid(1000).saturating_add(LIFE_S);
        let claims = json!({"iss": client_id, "sub": self.username, "aud": self.audience, "exp": expires});
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({"alg": "RS256"})), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        match self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature) {
            Ok(()) => format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)),
            Err(ring::error::Unspecified) => String::new(),
        }
    }
}
