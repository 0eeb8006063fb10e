//! Small files of the data directory: its lock, private files, and how fast and how full it is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::FlockOperation;

/// Why a file of the data directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the directory.
    #[error("{0} is in use by another offhook: stop it, or give this one a [data] directory of its own")]
    Locked(PathBuf),
    /// The operating system refused.
    #[error("{path}: {source}; {hint}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
}

fn failed<'a>(path: &'a Path, hint: &'static str) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { path: path.to_owned(), source, hint }
}

/// Holds a data directory for one process; freed when dropped or when the process dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Makes `directory` (mode 0700) where it is missing and takes its lock.
pub fn lock(directory: &Path) -> Result<Lock, Error> {
    let hint = "make the [data] directory writable for the user that runs offhook";
    let fresh = !directory.exists();
    fs::create_dir_all(directory).map_err(failed(directory, hint))?;
    if fresh {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed(directory, hint))?;
    }
    let path = directory.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed(&path, hint))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked(directory.to_owned())),
        Err(other) => Err(failed(&path, hint)(other.into())),
    }
}

/// Writes `bytes` to `path` so that a crash leaves the old content or the new, never a part: mode 0600, synced, renamed.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let hint = "see that the directory is writable and the disk not full";
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = directory.join(name);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| {
        // Names may be new each time: what nobody writes again would stay, on a disk that is full perhaps.
        let _ = fs::remove_file(&fresh);
        failed(path, hint)(error)
    })
}

/// Times of `rounds` small appends with `fdatasync` in `directory`, sorted; the file is taken away again.
pub fn sync_latency(directory: &Path, rounds: usize) -> Result<Vec<Duration>, Error> {
    let hint = "the journal needs a local disk that can be synced";
    let path = directory.join(format!("sync-probe-{}", std::process::id()));
    let probe = || -> io::Result<Vec<Duration>> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let from = Instant::now();
            file.write_all(&[0; PROBE_BYTES])?;
            file.sync_data()?;
            times.push(from.elapsed());
        }
        times.sort_unstable();
        Ok(times)
    };
    let times = probe();
    let _ = fs::remove_file(&path);
    times.map_err(failed(&path, hint))
}

/// Bytes that an unprivileged process may still write below `directory`.
pub fn free_bytes(directory: &Path) -> Result<u64, Error> {
    let state = rustix::fs::statvfs(directory).map_err(|e| failed(directory, "see that the [data] directory exists")(e.into()))?;
    Ok(state.f_bavail.saturating_mul(state.f_frsize))
}

/// Octets a probe writes: about one event.
const PROBE_BYTES: usize = 1500;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A directory of its own below the system's temporary one, removed when dropped.
    #[derive(Debug)]
    pub(crate) struct Scratch(pub(crate) PathBuf);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Self {
            static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            let nth = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("offhook-{name}-{}-{nth}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).expect("a scratch directory");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_cannot_be_put_in_its_place_is_not_left_beside_it() {
        let scratch = Scratch::new("replace");
        let path = scratch.0.join("here");
        fs::create_dir_all(path.join("something")).expect("made");
        assert!(replace(&path, b"new").is_err(), "it is a directory, and not empty");
        assert_eq!(fs::read_dir(&scratch.0).expect("listed").count(), 1);
    }

    #[test]
    fn a_directory_is_held_once() {
        let scratch = Scratch::new("lock");
        let held = lock(&scratch.0).expect("the first");
        assert!(matches!(lock(&scratch.0), Err(Error::Locked(_))));
        drop(held);
        lock(&scratch.0).expect("free again");
    }

    #[test]
    fn a_replaced_file_is_private_and_whole() {
        let scratch = Scratch::new("replace");
        let path = scratch.0.join("token");
        fs::write(&path, "a longer old value").expect("written");
        replace(&path, b"new").expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&scratch.0).expect("listed").count(), 1, "nothing left beside it");
    }

    #[test]
    fn the_sync_probe_measures_and_leaves_nothing() {
        let scratch = Scratch::new("probe");
        assert_eq!(sync_latency(&scratch.0, 3).expect("measured").len(), 3);
        assert_eq!(fs::read_dir(&scratch.0).expect("listed").count(), 0);
        assert!(free_bytes(&scratch.0).expect("known") > 0);
    }
}
