//! Keys and tokens: read once, from private files, the environment or a program's output; those that a CRM rotates are kept in `secrets/` below the
//! data directory.

pub mod command;

use std::{
    env, fmt,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::files;

/// A secret; prints as nothing and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself: name it only where it is sent or compared.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{0} cannot be read ({1}): see that it exists and belongs to the user that runs offhook")]
    Unreadable(PathBuf, io::Error),
    /// Others may read it.
    #[error("{0} may be read by everybody (mode {1:04o}): run `chmod 600 {0}`")]
    Public(PathBuf, u32),
    /// Nothing in it.
    #[error("{0} is empty: put the secret into its first line")]
    Empty(PathBuf),
    /// The environment has it not.
    #[error("the environment variable {0} is not set, is empty or is no text: set it for the process that runs offhook")]
    NotInEnvironment(String),
    /// A kept token is damaged.
    #[error("{0} is damaged ({1}): remove it, and put a fresh token into the configured file")]
    Damaged(PathBuf, serde_json::Error),
    /// It could not be kept.
    #[error(transparent)]
    Kept(#[from] files::Error),
}

/// Reads a secret file: no more than its own user and group may read it; white space around the secret is dropped.
pub fn read(path: &Path) -> Result<Secret, Error> {
    let unreadable = |e| Error::Unreadable(path.to_owned(), e);
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(Error::Public(path.to_owned(), mode & 0o777));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    match text.trim() {
        "" => Err(Error::Empty(path.to_owned())),
        trimmed => Ok(Secret::new(trimmed.to_owned())),
    }
}

/// Takes the secret in the environment variable `name`; white space around it is dropped.
pub fn of_environment(name: &str) -> Result<Secret, Error> {
    let text = env::var(name).map(Zeroizing::new).unwrap_or_default();
    match text.trim() {
        "" => Err(Error::NotInEnvironment(name.to_owned())),
        trimmed => Ok(Secret::new(trimmed.to_owned())),
    }
}

/// Tokens that a CRM rotated. The configured file is only the first value: once a newer one is kept, that one counts, until somebody puts
/// another first value into the configured file.
#[derive(Clone, Debug)]
pub struct Kept {
    directory: PathBuf,
}

#[derive(Deserialize, Serialize)]
struct Record {
    /// Hash of the configured value that this token descends from.
    first: String,
    token: String,
}

impl Kept {
    /// Uses `secrets/` below `data` (mode 0700), made where it is missing.
    pub fn open(data: &Path) -> Result<Self, Error> {
        let directory = data.join("secrets");
        let unreadable = |e| Error::Unreadable(directory.clone(), e);
        fs::create_dir_all(&directory).map_err(unreadable)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).map_err(unreadable)?;
        Ok(Self { directory })
    }

    /// The token of `name` to use now: the kept one that descends from `first`, else `first` itself.
    pub fn current(&self, name: &str, first: &Secret) -> Result<Secret, Error> {
        // What stands under the name of former versions, until a token is kept anew, is a token or the keys of marks.
        let former = Some(self.former_path(name)).filter(|path| !path.ends_with(MARKS));
        for path in [Some(self.path(name)), former].into_iter().flatten() {
            let bytes = match fs::read(&path) {
                Ok(bytes) => Zeroizing::new(bytes),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::Unreadable(path, e)),
            };
            let record: Record = serde_json::from_slice(&bytes).map_err(|e| Error::Damaged(path, e))?;
            return Ok(if record.first == hash(first) { Secret::new(record.token) } else { first.clone() });
        }
        Ok(first.clone())
    }

    /// Keeps `token` of `name`, which descends from the configured `first`; on return it is on disk, and may be used.
    pub fn keep(&self, name: &str, first: &Secret, token: &Secret) -> Result<(), Error> {
        let record = Record { first: hash(first), token: token.reveal().to_owned() };
        let path = self.path(name);
        let json = Zeroizing::new(serde_json::to_vec(&record).map_err(|e| Error::Damaged(path.clone(), e))?);
        Ok(files::replace(&path, &json)?)
    }

    /// The keys that marks of webhook bodies are made with, the one in use first; made at the first start. To change it, put another line, of 32 octets in
    /// base64, before the others: those stay, since marks made with them stand.
    pub fn marks(&self) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
        let path = self.directory.join(MARKS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut key = Zeroizing::new([0_u8; 32]);
                getrandom::fill(&mut *key).map_err(|e| Error::Unreadable(path.clone(), io::Error::other(e)))?;
                let line = Zeroizing::new(format!("{}\n", STANDARD.encode(*key)));
                files::replace(&path, line.as_bytes())?;
                line
            }
            Err(e) => return Err(Error::Unreadable(path, e)),
        };
        let keys: Vec<_> = text.lines().filter(|l| !l.trim().is_empty()).map(|l| STANDARD.decode(l.trim()).map(Zeroizing::new)).collect();
        if keys.is_empty() {
            return Err(Error::Empty(path));
        }
        keys.into_iter().collect::<Result<_, _>>().map_err(|e| Error::Unreadable(path, io::Error::other(e)))
    }

    /// A token's file, apart from every other name's and from the keys of marks.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{}.token", safe(name, &['-', '_', '.'])))
    }

    /// Where versions that told fewer names apart kept it.
    fn former_path(&self, name: &str) -> PathBuf {
        self.directory.join(safe(name, &['-', '_']))
    }
}

/// Names come from the configuration, which allows letters, digits, `-`, `_` and `.`; whatever else came would stay in this directory.
fn safe(name: &str, allowed: &[char]) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || allowed.contains(&c) { c } else { '_' }).collect()
}

/// The file with the keys of marks.
const MARKS: &str = "marks";

fn hash(secret: &Secret) -> String {
    hex::encode(Sha256::digest(secret.reveal().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::files::tests::Scratch;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode set");
    }

    #[test]
    fn a_secret_file_is_private_and_not_empty() {
        let scratch = Scratch::new("secrets");
        let path = scratch.0.join("key");
        assert!(matches!(read(&path), Err(Error::Unreadable(..))));
        write(&path, " \n", 0o600);
        assert!(matches!(read(&path), Err(Error::Empty(_))));
        write(&path, "hush\n", 0o644);
        assert!(matches!(read(&path), Err(Error::Public(_, 0o644))));
        write(&path, "hush\n", 0o640);
        let secret = read(&path).expect("read");
        assert_eq!(secret.reveal(), "hush");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn a_rotated_token_outlives_the_first_until_that_changes() {
        let scratch = Scratch::new("kept");
        let kept = Kept::open(&scratch.0).expect("opened");
        let (first, second) = (Secret::new("first".into()), Secret::new("second".into()));
        assert_eq!(kept.current("hubspot", &first).expect("current").reveal(), "first");
        kept.keep("hubspot", &first, &second).expect("kept");
        let again = Kept::open(&scratch.0).expect("opened again");
        assert_eq!(again.current("hubspot", &first).expect("current").reveal(), "second");
        assert_eq!(again.current("other", &first).expect("current").reveal(), "first");
        let replaced = Secret::new("a fresh authorisation".into());
        assert_eq!(again.current("hubspot", &replaced).expect("current"), replaced);
    }

    #[test]
    fn tokens_have_files_of_their_own_and_former_ones_are_found() {
        let scratch = Scratch::new("apart");
        let kept = Kept::open(&scratch.0).expect("opened");
        let keys = kept.marks().expect("made");
        let first = Secret::new("first".into());
        for name in ["marks", "a.b", "a_b"] {
            assert_eq!(kept.current(name, &first).expect("current"), first, "{name}");
            kept.keep(name, &first, &Secret::new(format!("of {name}"))).expect("kept");
        }
        for name in ["marks", "a.b", "a_b"] {
            assert_eq!(kept.current(name, &first).expect("current").reveal(), format!("of {name}"));
        }
        assert_eq!(kept.marks().expect("read"), keys);

        let former = serde_json::json!({"first": hash(&first), "token": "former"}).to_string();
        write(&scratch.0.join("secrets/hub_spot"), &former, 0o600);
        assert_eq!(kept.current("hub.spot", &first).expect("current").reveal(), "former");
        kept.keep("hub.spot", &first, &Secret::new("later".into())).expect("kept");
        assert_eq!(kept.current("hub.spot", &first).expect("current").reveal(), "later");
    }

    #[test]
    fn keys_of_marks_are_made_once_and_former_ones_stay() {
        let scratch = Scratch::new("marks");
        let kept = Kept::open(&scratch.0).expect("opened");
        let first = kept.marks().expect("made");
        assert_eq!((first.len(), first[0].len()), (1, 32));
        assert_eq!(kept.marks().expect("read"), first);
        let path = scratch.0.join("secrets/marks");
        write(&path, &format!("{}\n{}", STANDARD.encode([7_u8; 32]), fs::read_to_string(&path).expect("read")), 0o600);
        let both = kept.marks().expect("read");
        assert_eq!((both[0].as_slice(), &both[1]), (&[7_u8; 32][..], &first[0]));
        write(&path, "no base64!", 0o600);
        assert!(kept.marks().is_err());
    }
}
