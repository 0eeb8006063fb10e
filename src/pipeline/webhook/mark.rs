//! The mark of a body: what tells two webhooks apart for good, without telling what was in them.
//!
//! Bodies are taken away one day, marks stay: so that nobody finds a body by trying, they are made with a key that stays on this machine.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The keys of marks: the one in use first, then every one that was ever in use, since marks made with it stand.
#[derive(Clone)]
pub struct Marks(Vec<Zeroizing<Vec<u8>>>);

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Marks({} keys)", self.0.len())
    }
}

impl Marks {
    /// With these keys, the one in use first.
    pub fn new(keys: Vec<Zeroizing<Vec<u8>>>) -> Self {
        Self(keys)
    }

    /// The mark of a body, by each key: the one in use first.
    pub(in crate::pipeline) fn of(&self, body: &[u8]) -> Vec<String> {
        let mark = |key: &Zeroizing<Vec<u8>>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(body);
            let code = mac.finalize().into_bytes();
            Some(hex::encode(code.get(..OCTETS).unwrap_or(&code)))
        };
        self.0.iter().filter_map(mark).collect()
    }
}

/// 128 bits: no two bodies share them.
const OCTETS: usize = 16;
