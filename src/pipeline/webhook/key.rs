//! What a webhook is signed with.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use super::scheme::Hash;
use crate::time::Wall;

/// A signing key.
#[derive(Clone)]
pub struct Key(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Reads `whsec_BASE64`, `BASE64` or `raw:TEXT`; none where it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let octets = match text.strip_prefix("raw:") {
            Some(raw) => raw.as_bytes().to_vec(),
            None => STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok()?,
        };
        (!octets.is_empty()).then(|| Self(Zeroizing::new(octets)))
    }

    /// Its octets, to be compared with a secret that is sent as it is.
    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The code of the parts, one behind the other.
    pub(super) fn code(&self, hash: Hash, parts: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
        fn of<M: Mac + KeyInit>(key: &[u8], parts: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
            let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
            parts.iter().for_each(|part| mac.update(part.as_ref()));
            Some(mac.finalize().into_bytes().to_vec())
        }
        match hash {
            Hash::Sha1 => of::<Hmac<Sha1>>(&self.0, parts),
            Hash::Sha256 => of::<Hmac<Sha256>>(&self.0, parts),
            Hash::Sha512 => of::<Hmac<Sha512>>(&self.0, parts),
        }
    }

    /// The value of `webhook-signature` for this body, as Standard Webhooks has it.
    pub fn sign(&self, id: &str, at: Wall, body: &[u8]) -> String {
        let timestamp = at.as_millis().div_euclid(1000).to_string();
        let parts: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        format!("v1,{}", STANDARD.encode(self.code(Hash::Sha256, &parts).unwrap_or_default()))
    }
}
