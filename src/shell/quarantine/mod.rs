//! Webhooks whose signature was wrong, kept for a while: were the secret set wrongly, they would be lost otherwise, and nobody would know.
//!
//! ```text
//! quarantine/SOURCE/MILLISECONDS-CHANCE.sealed:  0x01  nonce (24 octets)  XChaCha20-Poly1305 of: length of the head (4, big endian)  head as JSON  body
//! ```
//! A file each, sealed with a key that is not in the data directory, since its octets are whole: what masking would take out is still in them. Source and name
//! are authenticated with it. They are bounded by size, rate and age; what has to go goes with a count.

mod desk;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::files;
use crate::time::Wall;

pub use desk::{Desk, Page};

/// Why the quarantine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key would be of no use there.
    #[error(
        "{0} lies in the data directory, so that a copy of that would hold the key beside what it seals: write another path into `key_file` of [quarantine]"
    )]
    KeyInside(PathBuf),
    /// The key is not to be had.
    #[error(
        "{0} cannot be read or made ({1}): see that its directory is writable, or put 32 octets in base64 into it (`openssl rand -base64 32`)"
    )]
    Key(PathBuf, io::Error),
    /// Others may read it.
    #[error("{0} may be read by everybody: run `chmod 600 {0}`")]
    Public(PathBuf),
    /// The directory or a file in it.
    #[error("{0}: {1}; see that the data directory is writable and the disk not full")]
    Io(PathBuf, io::Error),
    /// A file could not be written.
    #[error(transparent)]
    Written(#[from] files::Error),
    /// Another key, or damage.
    #[error("{0} was sealed with another key, or is damaged: put the key of that time into `key_file` of [quarantine], or delete it")]
    Sealed(PathBuf),
    /// It had to be left out.
    #[error("more than {KEPT_A_SECOND} a second came from this source")]
    TooMany,
    /// The bound is smaller than this one.
    #[error("it is larger than all that may be kept of a source")]
    TooLarge,
}

/// What seals.
pub struct Key(XChaCha20Poly1305);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Reads the key at `path`, or makes one there. It must not lie in `data`.
    pub fn at(path: &Path, data: &Path) -> Result<Self, Error> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let (Ok(folder), Ok(data)) = (folder.canonicalize(), data.canonicalize())
            && folder.starts_with(data)
        {
            return Err(Error::KeyInside(path.to_owned()));
        }
        let failed = |e| Error::Key(path.to_owned(), e);
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut octets = Zeroizing::new([0_u8; 32]);
                getrandom::fill(&mut *octets).map_err(|e| failed(io::Error::other(e)))?;
                let text = Zeroizing::new(STANDARD.encode(*octets));
                files::replace(path, text.as_bytes()).map_err(|e| failed(io::Error::other(e)))?;
                text
            }
            Err(error) => return Err(failed(error)),
        };
        if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o007 != 0 {
            return Err(Error::Public(path.to_owned()));
        }
        let octets = STANDARD.decode(text.trim()).map(Zeroizing::new).map_err(|e| failed(io::Error::other(e)))?;
        XChaCha20Poly1305::new_from_slice(&octets).map(Self).map_err(|_| failed(io::Error::other("it has not 32 octets")))
    }
}

/// A webhook as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// What stood around its body.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({} octets)", self.body.len())
    }
}

/// All that a signature may be over, beside the body.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When it came, by the system's clock.
    pub time: Wall,
    /// All headers.
    pub headers: Vec<(String, String)>,
    /// The query of its address.
    pub query: String,
}

impl Head {
    /// The octets that it takes in memory, about.
    pub fn octets(&self) -> usize {
        let header =
            |(name, value): &(String, String)| name.len().saturating_add(value.len()).saturating_add(size_of::<(String, String)>());
        self.headers.iter().map(header).fold(self.query.len(), usize::saturating_add)
    }
}

impl Held {
    /// The octets that it takes in memory, about: whoever sends it chooses head and body.
    pub fn octets(&self) -> usize {
        self.head.octets().saturating_add(self.body.len())
    }
}

/// One that is kept, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kept {
    /// Who should have signed it.
    pub source: String,
    /// Its name, in the order of their coming.
    pub id: String,
    /// When it came.
    pub time: Wall,
    /// Its size on disk.
    pub bytes: u64,
}

/// How much is kept, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets on disk a source; past them the oldest go.
    pub bytes: u64,
    /// Older ones go.
    pub age: Duration,
}

/// What is kept of all sources.
#[derive(Debug)]
pub struct Quarantine {
    directory: PathBuf,
    key: Key,
    limits: Limits,
    /// Size on disk of each, by source and name.
    kept: BTreeMap<String, BTreeMap<String, u64>>,
    rates: BTreeMap<String, (f64, Wall)>,
}

impl Quarantine {
    /// Uses `quarantine/` below `data`.
    pub fn open(data: &Path, key: Key, limits: Limits) -> Result<Self, Error> {
        let directory = data.join("quarantine");
        let mut kept: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for one in list(data)? {
            kept.entry(one.source).or_default().insert(one.id, on_disk(one.bytes));
        }
        Ok(Self { directory, key, limits, kept, rates: BTreeMap::new() })
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.kept.values().map(BTreeMap::len).sum()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps one, on disk on return; how many older ones had to go for it.
    pub fn keep(&mut self, source: &str, held: &Held) -> Result<usize, Error> {
        let at = held.head.time;
        self.admit(source, at)?;
        let mut chance = [0; 6];
        let mut nonce = [0; NONCE];
        let folder = self.directory.join(source);
        let failed = |e| Error::Io(folder.clone(), e);
        getrandom::fill(&mut chance).and_then(|()| getrandom::fill(&mut nonce)).map_err(|e| failed(io::Error::other(e)))?;
        let id = format!("{:013}-{}", at.as_millis().max(0), hex::encode(chance));
        let octets = self.seal(source, &id, nonce, held).ok_or_else(|| failed(io::Error::other("it cannot be sealed")))?;
        let size = on_disk(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        if size > self.limits.bytes {
            return Err(Error::TooLarge);
        }
        let gone = self.make_room(source, size);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        files::replace(&self.path(source, &id), &octets)?;
        self.kept.entry(source.to_owned()).or_default().insert(id, size);
        Ok(gone)
    }

    fn admit(&mut self, source: &str, at: Wall) -> Result<(), Error> {
        let (left, since) = self.rates.get(source).copied().unwrap_or((KEPT_AT_ONCE, at));
        let passed = at.as_micros().saturating_sub(since.as_micros()).max(0) as f64 / 1e6;
        let left = (left + passed * KEPT_A_SECOND).min(KEPT_AT_ONCE);
        self.rates.insert(source.to_owned(), ((left - 1.0).max(0.0), at));
        if left < 1.0 { Err(Error::TooMany) } else { Ok(()) }
    }

    /// Takes the oldest away until `size` octets more fit; how many went.
    fn make_room(&mut self, source: &str, size: u64) -> usize {
        let mut sum: u64 = self.kept.get(source).map_or(0, |kept| kept.values().sum());
        let mut gone = 0;
        while sum.saturating_add(size) > self.limits.bytes {
            let Some((id, freed)) = self.kept.get(source).and_then(|kept| kept.first_key_value()).map(|(id, size)| (id.clone(), *size))
            else {
                break;
            };
            self.remove(source, &id);
            sum = sum.saturating_sub(freed);
            gone += 1;
        }
        gone
    }

    /// Takes those away that are too old; how many went.
    pub fn sweep(&mut self, now: Wall) -> usize {
        let oldest = format!("{:013}", (now - self.limits.age).as_millis().max(0));
        let old = |(source, kept): (&String, &BTreeMap<String, u64>)| {
            kept.range(..oldest.clone()).map(|(id, _)| (source.clone(), id.clone())).collect::<Vec<_>>()
        };
        let old: Vec<_> = self.kept.iter().flat_map(old).collect();
        old.iter().for_each(|(source, id)| self.remove(source, id));
        old.len()
    }

    /// Takes one away.
    pub fn remove(&mut self, source: &str, id: &str) {
        if self.kept.get_mut(source).is_some_and(|kept| kept.remove(id).is_some()) {
            // One that stays on disk is found again at the next start, and is a duplicate by then.
            let _ = fs::remove_file(self.path(source, id));
        }
    }

    /// Names of at most `most` that came behind `after`, of one source or all, by source and time.
    pub fn behind(&self, source: Option<&str>, after: Option<(&str, &str)>, most: usize) -> Vec<(String, String)> {
        let of = self.kept.iter().filter(|(name, _)| source.is_none_or(|s| s == *name));
        let all = of.flat_map(|(name, kept)| kept.keys().map(move |id| (name.as_str(), id.as_str())));
        let behind = all.filter(|one| after.is_none_or(|after| *one > after));
        behind.take(most).map(|(name, id)| (name.to_owned(), id.to_owned())).collect()
    }

    /// Opens one.
    pub fn read(&self, source: &str, id: &str) -> Result<Held, Error> {
        let path = self.path(source, id);
        let octets = fs::read(&path).map_err(|e| Error::Io(path.clone(), e))?;
        self.unseal(source, id, &octets).ok_or(Error::Sealed(path))
    }

    fn seal(&self, source: &str, id: &str, nonce: [u8; NONCE], held: &Held) -> Option<Vec<u8>> {
        let head = serde_json::to_vec(&held.head).ok()?;
        let mut plain = Zeroizing::new(u32::try_from(head.len()).ok()?.to_be_bytes().to_vec());
        plain.extend(head);
        plain.extend(&held.body);
        let aad = format!("{source}/{id}");
        let sealed = self.key.0.encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: aad.as_bytes() }).ok()?;
        Some([&[FORM][..], &nonce, &sealed].concat())
    }

    fn unseal(&self, source: &str, id: &str, octets: &[u8]) -> Option<Held> {
        let (nonce, sealed) = octets.strip_prefix(&[FORM])?.split_first_chunk::<NONCE>()?;
        let aad = format!("{source}/{id}");
        let plain = self.key.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: aad.as_bytes() }).ok().map(Zeroizing::new)?;
        let (length, rest) = plain.split_first_chunk::<4>()?;
        let (head, body) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some(Held { head: serde_json::from_slice(head).ok()?, body: body.to_vec() })
    }

    fn path(&self, source: &str, id: &str) -> PathBuf {
        self.directory.join(source).join(format!("{id}.{SUFFIX}"))
    }
}

/// What is kept below `data`, by source and time. It needs no key: names, sizes and times are not sealed.
pub fn list(data: &Path) -> Result<Vec<Kept>, Error> {
    let mut found = Vec::new();
    let directory = data.join("quarantine");
    for folder in entries(&directory)? {
        let Some(source) = folder.file_name().map(|n| n.to_string_lossy().into_owned()) else { continue };
        for path in entries(&folder)? {
            // What stands there besides is the rest of a write that a crash ended.
            let id = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(&format!(".{SUFFIX}")));
            let (Some(id), Ok(meta)) = (id, fs::metadata(&path)) else { continue };
            let Some(ms) = id.split('-').next().and_then(|ms| ms.parse().ok()) else { continue };
            found.push(Kept { source: source.clone(), id: id.to_owned(), time: Wall::from_millis(ms), bytes: meta.len() });
        }
    }
    found.sort();
    Ok(found)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(directory) {
        Ok(read) => Ok(read.filter_map(|entry| Some(entry.ok()?.path())).collect()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(Error::Io(directory.to_owned(), error)),
    }
}

/// What a file takes of the disk: whole blocks, so that a million small ones are not taken for little.
fn on_disk(octets: u64) -> u64 {
    octets.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// The form's first octet.
const FORM: u8 = 1;
/// Octets of a nonce: long enough to be drawn by chance.
const NONCE: usize = 24;
const SUFFIX: &str = "sealed";
/// A block of common file systems.
const BLOCK: u64 = 4096;
/// Kept of a source a second on the average: whoever only guesses may not wear out the disk.
const KEPT_A_SECOND: f64 = 50.0;
/// Kept of a source at once: the outcomes of a campaign that ends, sent with a wrong secret.
const KEPT_AT_ONCE: f64 = 1000.0;
