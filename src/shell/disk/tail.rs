//! Reads what is durable, in order, batch by batch, across segments.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{SEGMENT, Shared, path, segments};
use crate::journal::{ENTRY_BYTES_MAX, End, Entry, Fault, HEADER_BYTES, Position, decode, scan, written};

/// Entries read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Each with where it stands.
    pub entries: Vec<(Position, Entry)>,
    /// Where to go on: what is committed together with what the entries caused.
    pub next: Position,
}

/// What was durable cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// The content is not what was written.
    #[error("journal {path} is damaged at octet {offset}: {why}; run `offhook journal verify`")]
    Content {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How.
        why: Fault,
    },
    /// The operating system refused.
    #[error("journal {0}: {1}")]
    Io(PathBuf, io::Error),
}

/// A reader.
#[derive(Debug)]
pub struct Tail {
    directory: PathBuf,
    at: Position,
    /// None: nobody writes, and all that is there counts.
    shared: Option<Arc<Shared>>,
    open: Option<(u64, File)>,
    /// Where in the open segment's file its position is, once that is known: what was pruned takes fewer octets than it did.
    place: Option<u64>,
    buffer: Vec<u8>,
}

impl Tail {
    pub(super) fn new(directory: PathBuf, from: Position, shared: Option<Arc<Shared>>) -> Self {
        Self { directory, at: from, shared, open: None, place: None, buffer: Vec::new() }
    }

    /// Where the next batch begins.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Goes on from `position`.
    pub fn seek(&mut self, position: Position) {
        (self.at, self.place) = (position, None);
    }

    /// The next entries, `most` at most; none where everything durable was read.
    pub fn next_batch(&mut self, most: usize) -> Result<Option<Batch>, Damaged> {
        let mut again = false;
        loop {
            let watermark = self.shared.as_ref().map(|s| s.watermark());
            if watermark.is_some_and(|w| self.at >= w) {
                return Ok(None);
            }
            let directory = self.directory.clone();
            let failed = move |e| Damaged::Io(directory.clone(), e);
            if !self.open(self.at.segment).map_err(&failed)? {
                // Cut off whole, or set aside: the next one goes on.
                if !self.step().map_err(&failed)? {
                    return Ok(None);
                }
                continue;
            }
            self.at.offset = self.at.offset.max(u64::try_from(HEADER_BYTES).unwrap_or(0));
            let Some((_, file)) = &self.open else { return Ok(None) };
            let end = match watermark {
                // What is written to is never pruned.
                Some(w) if w.segment == self.at.segment => w.offset,
                _ => file.metadata().map_err(&failed)?.len(),
            };
            let path = path(&self.directory, self.at.segment);
            let place = match self.place {
                Some(place) => place,
                None => find(file, &path, self.at, end, &mut self.buffer)?,
            };
            self.place = Some(place);
            if place >= end {
                if !self.step().map_err(&failed)? {
                    return Ok(None);
                }
                continue;
            }
            let (batch, place) = match read(file, &path, self.at, place..end, most, &mut self.buffer) {
                // The writer is in the middle of a batch, or died there; or it has ended it meanwhile.
                Err(damaged @ Damaged::Content { .. }) if watermark.is_none() => match self.last_end().map_err(&failed)? {
                    Some(End::Torn { .. }) => return Ok(None),
                    Some(End::Whole) if !again => {
                        again = true;
                        continue;
                    }
                    _ => return Err(damaged),
                },
                read => read?,
            };
            if batch.entries.is_empty() {
                // Only without a watermark: the writer is in the middle of a frame, or died there.
                return Ok(None);
            }
            (self.at, self.place) = (batch.next, Some(place));
            return Ok(Some(batch));
        }
    }

    fn open(&mut self, segment: u64) -> io::Result<bool> {
        if self.open.as_ref().is_some_and(|(open, _)| *open == segment) {
            return Ok(true);
        }
        match File::open(path(&self.directory, segment)) {
            Ok(file) => (self.open, self.place) = (Some((segment, file)), None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// How the open segment ends, where it is the last one.
    fn last_end(&self) -> io::Result<Option<End>> {
        if segments(&self.directory, SEGMENT)?.last() != Some(&self.at.segment) {
            return Ok(None);
        }
        let octets = std::fs::read(path(&self.directory, self.at.segment))?;
        Ok(Some(scan(self.at.segment, &octets, true, |_, _| {}).end))
    }

    /// On to the next segment that is there.
    fn step(&mut self) -> io::Result<bool> {
        let next = segments(&self.directory, SEGMENT)?.into_iter().find(|n| *n > self.at.segment);
        if let Some(segment) = next {
            (self.at, self.place) = (Position { segment, offset: 0 }, None);
        }
        Ok(next.is_some())
    }
}

/// Where in the file `at` is. All before it is looked through: a segment may be pruned.
fn find(file: &File, path: &Path, at: Position, end: u64, buffer: &mut Vec<u8>) -> Result<u64, Damaged> {
    let begin = u64::try_from(HEADER_BYTES).unwrap_or(0);
    let (mut stands, mut place) = (Position { offset: begin, ..at }, begin);
    while stands.offset < at.offset && place < end {
        let mut ended = true;
        let chunk = octets(file, path, place..end, CHUNK_BYTES + ENTRY_BYTES_MAX, buffer)?;
        let mut rest = chunk;
        while let Ok(frame) = decode(rest) {
            let next = stands.offset.saturating_add(u64::try_from(frame.stood).unwrap_or(0));
            if next > at.offset {
                ended = true;
                break;
            }
            (stands.offset, ended) = (next, false);
            place = place.saturating_add(u64::try_from(frame.length).unwrap_or(0));
            rest = rest.get(frame.length..).unwrap_or_default();
        }
        if ended {
            break;
        }
    }
    // Of a position within an entry, what comes of it is said where it is read.
    Ok(place.saturating_add(at.offset.saturating_sub(stands.offset)))
}

/// Octets of the file, so many at most.
fn octets<'b>(file: &File, path: &Path, places: Range<u64>, most: usize, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Damaged> {
    let left = usize::try_from(places.end.saturating_sub(places.start)).unwrap_or(usize::MAX);
    buffer.resize(left.min(most), 0);
    file.read_exact_at(buffer, places.start).map_err(|e| Damaged::Io(path.to_owned(), e))?;
    Ok(buffer)
}

/// The entries from `at` on, which is the first of `places` in the file; and where in the file the next one begins.
fn read(file: &File, path: &Path, at: Position, places: Range<u64>, most: usize, buffer: &mut Vec<u8>) -> Result<(Batch, u64), Damaged> {
    let mut batch = Batch { entries: Vec::new(), next: at };
    let mut place = places.start;
    let left = places.end.saturating_sub(places.start);
    for chunk in [CHUNK_BYTES, CHUNK_BYTES + ENTRY_BYTES_MAX] {
        let mut rest = octets(file, path, places.clone(), chunk, buffer)?;
        let all = u64::try_from(rest.len()).is_ok_and(|length| length == left);
        while batch.entries.len() < most && !rest.is_empty() {
            match decode(rest) {
                Ok(frame) => {
                    batch.entries.push((batch.next, frame.entry));
                    batch.next.offset = batch.next.offset.saturating_add(u64::try_from(frame.stood).unwrap_or(0));
                    place = place.saturating_add(u64::try_from(frame.length).unwrap_or(0));
                    rest = rest.get(frame.length..).unwrap_or_default();
                }
                // The chunk ends in the middle of a frame.
                Err(Fault::Short) => break,
                // Nobody writes, or nobody has closed it: what follows is room for more.
                Err(_) if written(rest) == 0 => break,
                // What is good before it comes first.
                Err(_) if !batch.entries.is_empty() => break,
                Err(why) => return Err(Damaged::Content { path: path.to_owned(), offset: place, why }),
            }
        }
        if !batch.entries.is_empty() || all {
            break;
        }
    }
    Ok((batch, place))
}

/// Octets read at once: some hundred entries.
const CHUNK_BYTES: usize = 1 << 20;
