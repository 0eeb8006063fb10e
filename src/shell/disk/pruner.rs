//! Closed segments written anew without what retention takes away: beside the old one, synced, and renamed over it. Whoever has the old one open reads it on.

use std::{fs, path::PathBuf, sync::Arc};

use super::{Error, SEGMENT, Shared, failed, path, segments};
use crate::{
    journal::{Entry, HEADER_BYTES, Position, Pruned, decode_skeleton, prune},
    shell::files,
    time::Wall,
};

/// Why a segment was not written anew.
#[derive(Debug, thiserror::Error)]
pub enum NotPruned<E> {
    /// What is to be left of an entry is not known.
    #[error("{0}")]
    Left(E),
    /// It could not be read.
    #[error(transparent)]
    Disk(#[from] Error),
    /// The new one could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
}

/// Writes closed segments anew.
#[derive(Clone, Debug)]
pub struct Pruner {
    directory: PathBuf,
    shared: Arc<Shared>,
}

impl Pruner {
    pub(super) fn new(directory: PathBuf, shared: Arc<Shared>) -> Self {
        Self { directory, shared }
    }

    /// Numbers of the segments before `end` that nobody writes to, ascending.
    pub fn closed(&self, end: u64) -> Result<Vec<u64>, Error> {
        let written = self.shared.watermark().segment;
        let mut numbers = segments(&self.directory, SEGMENT).map_err(failed(&self.directory))?;
        numbers.retain(|number| *number < end.min(written));
        Ok(numbers)
    }

    /// When the first entry of a segment was written; none where it has none.
    pub fn begun(&self, segment: u64) -> Result<Option<Wall>, Error> {
        use std::io::Read;
        let path = path(&self.directory, segment);
        let mut octets = Vec::new();
        let file = fs::File::open(&path).map_err(failed(&path))?;
        file.take(FIRST_FRAME_BYTES).read_to_end(&mut octets).map_err(failed(&path))?;
        Ok(octets.get(HEADER_BYTES..).and_then(|frame| decode_skeleton(frame).ok()).map(|skeleton| skeleton.time))
    }

    /// Leaves of each entry of a closed segment what `left` says; none: it stays as it is. By how many octets the file is smaller now; none: nothing went.
    pub fn prune<E>(
        &self,
        segment: u64,
        left: impl FnMut(Position, &Entry) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Option<u64>, NotPruned<E>> {
        let path = path(&self.directory, segment);
        let octets = fs::read(&path).map_err(failed(&path))?;
        match prune(segment, &octets, left).map_err(NotPruned::Left)? {
            Pruned::Same => Ok(None),
            Pruned::Anew(left) => {
                files::replace(&path, &left)?;
                Ok(Some(u64::try_from(octets.len().saturating_sub(left.len())).unwrap_or(0)))
            }
            Pruned::Damaged { offset, why } => Err(Error::Damaged { path, offset, why }.into()),
        }
    }
}

/// As much as the head and the skeleton of a frame may take, with the segment's header.
const FIRST_FRAME_BYTES: u64 = 1024;
