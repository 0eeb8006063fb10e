//! Entries recovered from a damaged segment, as a segment of their own that the next start folds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{DAMAGED, SEGMENT, path, segments, writer::BATCH_ENTRIES_MAX};
use crate::{
    journal::{End, Entry, encode_batch, scan, write_header},
    shell::files,
};

/// Why there is no segment of what was recovered.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// There is none to write.
    #[error("no whole entry was recovered: there is nothing to write")]
    Nothing,
    /// The name is not that of the next segment.
    #[error("{0} is not the name of the next segment there; name {1}, or the directory alone")]
    Name(PathBuf, PathBuf),
    /// A higher segment would make the torn tail of this one, or the room at its end, look like damage.
    #[error(
        "{0} was not closed, and may end in a torn write, which the next start cuts off: start offhook once, stop it, and salvage again"
    )]
    NotClosed(PathBuf),
    /// Another process holds the data directory, or a file of it could not be used.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A segment could not be read.
    #[error("journal {0}: {1}; see that it is readable")]
    Read(PathBuf, std::io::Error),
}

/// Writes `entries`, recovered from `source`, as a segment with a number above every one beside `source` and at `out`: a directory, or the
/// segment's own path. Returns that path. The gateway whose journal it is must not be running.
pub fn keep_salvaged(source: &Path, out: &Path, entries: &[Entry]) -> Result<PathBuf, NotKept> {
    if entries.is_empty() {
        return Err(NotKept::Nothing);
    }
    let directory = if out.is_dir() { out } else { folder(out) };
    // Where it is a gateway's journal, the lock of the data directory stands beside it.
    let data = fs::canonicalize(directory).ok().and_then(|d| Some(d.parent()?.to_owned())).filter(|d| d.join("lock").exists());
    let _lock = data.as_deref().map(files::lock).transpose()?;
    let read = |at: &Path| {
        let error = |e| NotKept::Read(at.to_owned(), e);
        Ok::<_, NotKept>((segments(at, SEGMENT).map_err(error)?, segments(at, DAMAGED).map_err(error)?))
    };
    let (here, aside) = read(directory)?;
    let (there, aside_there) = read(folder(source))?;
    if let Some(&last) = here.last() {
        let path = path(directory, last);
        let octets = fs::read(&path).map_err(|e| NotKept::Read(path.clone(), e))?;
        let found = scan(last, &octets, true, |_, _| {});
        if found.room > 0 || matches!(found.end, End::Torn { .. }) {
            return Err(NotKept::NotClosed(path));
        }
    }
    let number = [here, aside, there, aside_there].iter().filter_map(|n| n.last()).max().copied().unwrap_or(0).saturating_add(1);
    let path = path(directory, number);
    if !out.is_dir() && out.file_name() != path.file_name() {
        return Err(NotKept::Name(out.to_owned(), path));
    }
    let mut octets = write_header(number).to_vec();
    for (batch, entries) in (1..).zip(entries.chunks(BATCH_ENTRIES_MAX)) {
        encode_batch(entries, batch, &mut octets);
    }
    files::replace(&path, &octets)?;
    Ok(path)
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
