//! Who approved which version of a mapping: a file beside it that names the content by its hash.
//!
//! A signature says what was read and by whom; that nobody but its owners can write the file is the file system's business. A mapping that is promoted from staging to
//! production is the same content and needs no second signature.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time::Wall;

/// One approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The mapping's own version.
    pub version: u32,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Who approved it, as he says.
    pub by: String,
    /// When.
    pub at: Wall,
    /// What he wrote to it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The hash that names a content.
pub fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// The approvals in a file's text.
pub fn read(text: &str) -> Result<Vec<Signature>, serde_json::Error> {
    serde_json::from_str(text)
}

/// Who approved this content, the latest; none where nobody did, or nobody is named.
pub fn of<'s>(signatures: &'s [Signature], text: &str) -> Option<&'s Signature> {
    let hash = hash(text);
    signatures.iter().rfind(|signature| signature.sha256 == hash && !signature.by.trim().is_empty())
}

/// The file that holds them, of a mapping with this name.
pub fn file_name(mapping: &str) -> String {
    format!("{mapping}.signatures.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_a_content_and_of_no_other() {
        let signed = Signature { version: 1, sha256: hash("a"), by: "ann".into(), at: Wall::from_millis(1), note: String::new() };
        let text = serde_json::to_string(&[&signed]).expect("JSON");
        let signatures = read(&text).expect("signatures");
        assert_eq!(of(&signatures, "a"), Some(&signed));
        assert_eq!(of(&signatures, "a "), None);
        assert_eq!(of(&[Signature { by: " ".into(), ..signed.clone() }], "a"), None, "nobody has approved it");
        assert!(read("{}").is_err());
    }
}
