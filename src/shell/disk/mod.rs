//! The journal's segments on disk: opened and recovered, appended to by one thread, read behind the watermark.
//!
//! What a callback was told is synced is on disk. A failed sync is never tried again as if it had worked (the kernel may have dropped the
//! pages): the journal closes, everybody is told, and it opens again on a new segment once that can be written.

mod pruner;
mod salvaged;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use crate::{
    journal::{End, Position, scan, written},
    shell::recent_times::RecentTimes,
    time::Wall,
};

pub use pruner::{NotPruned, Pruner};
pub use salvaged::{NotKept, keep_salvaged};
pub use tail::{Batch, Damaged, Tail};
pub use writer::{Lane, Refused};

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("journal {path}: {source}; see that the directory is writable and the disk not full")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A segment is damaged and the operator wants to see it before calls go on.
    #[error(
        "journal {path} is damaged at octet {offset} ({why}): restore it from a copy, or set start_after_damage = true to set it aside"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How.
        why: String,
    },
    /// A segment is written in a form of later programs.
    #[error(
        "journal {path} has a frame of version {version} at octet {offset}, which a later offhook wrote: start that one. Where none ever ran here, the octet is \
         damaged: rename the file to end in .damaged, and see `offhook journal salvage`"
    )]
    Later {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The frame's version.
        version: u8,
    },
}

fn failed<'a>(path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// What everybody who depends on the journal is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Everything before this position is on disk.
    Durable(Position),
    /// It takes nothing any more.
    Closed(String),
    /// It takes entries again.
    Opened,
}

/// How to open a journal.
pub struct Options {
    /// Where the segments are.
    pub directory: PathBuf,
    /// The store's position: what lies before it was folded and is not looked at again.
    pub from: Position,
    /// Whether to go on after a damaged segment was set aside.
    pub start_after_damage: bool,
    /// Called by the writer's thread; must not wait.
    pub notify: Box<dyn Fn(Notice) + Send>,
}

/// A tail that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where it began.
    pub position: Position,
    /// How much it was.
    pub octets: u64,
}

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Good entries from the store's segment on.
    pub entries: u64,
    /// The latest stamp seen: no later one may be earlier.
    pub last_time: Option<Wall>,
    /// The tail that was cut off, if any: never acknowledged.
    pub torn: Option<Torn>,
    /// Damaged segments set aside, and why: an alarm.
    pub set_aside: Vec<(PathBuf, String)>,
}

/// A running journal.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    queue: mpsc::Sender<writer::Message>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer publishes.
#[derive(Debug, Default)]
struct Shared {
    sync_times: Mutex<RecentTimes>,
    watermark: Mutex<Position>,
    closed: Mutex<Option<String>>,
    appends: AtomicU64,
    #[cfg(test)]
    fail_sync: std::sync::atomic::AtomicBool,
}

impl Shared {
    fn watermark(&self) -> Position {
        *self.watermark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, position: Position) {
        *self.watermark.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }

    fn set_closed(&self, why: Option<String>) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

impl Journal {
    /// Recovers what is there and begins a new segment.
    pub fn open(options: Options) -> Result<(Self, Recovery), Error> {
        let Options { directory, from, start_after_damage, notify } = options;
        fs::create_dir_all(&directory).map_err(failed(&directory))?;
        let (recovery, highest) = recover(&directory, from, start_after_damage)?;
        let shared = Arc::new(Shared::default());
        let segment = writer::Segment::begin(&directory, highest.max(from.segment).saturating_add(1))?;
        shared.publish(segment.end());
        let (queue, messages) = mpsc::channel();
        let writer = writer::Writer::new(directory.clone(), segment, shared.clone(), notify);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(&messages)).map_err(failed(&directory))?;
        Ok((Self { directory, queue, shared, thread: Some(thread) }, recovery))
    }

    /// A way in for one producer, with room for `capacity` entries that are not on disk yet.
    pub fn lane(&self, capacity: usize) -> Lane {
        Lane::new(self.queue.clone(), self.shared.clone(), capacity)
    }

    /// A reader of what is durable, from `from` on.
    pub fn tail(&self, from: Position) -> Tail {
        Tail::new(self.directory.clone(), from, Some(self.shared.clone()))
    }

    /// Who writes closed segments anew.
    pub fn pruner(&self) -> Pruner {
        Pruner::new(self.directory.clone(), self.shared.clone())
    }

    /// Everything before it is on disk.
    pub fn watermark(&self) -> Position {
        self.shared.watermark()
    }

    /// Why it takes nothing; none while it does.
    pub fn closed(&self) -> Option<String> {
        self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Entries acknowledged since the start.
    pub fn appends(&self) -> u64 {
        self.shared.appends.load(Ordering::Relaxed)
    }

    /// Writes what is queued and ends the writer.
    pub fn close(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let _ = self.queue.send(writer::Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    #[cfg(test)]
    pub(crate) fn fail_sync(&self, fail: bool) {
        self.shared.fail_sync.store(fail, Ordering::Relaxed);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The path of a segment.
fn path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("{segment:010}.{SEGMENT}"))
}

/// Numbers of the segments with that extension, ascending.
fn segments(directory: &Path, extension: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            numbers.extend(path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok()));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Looks at the segments from the store's on, cuts off a torn tail, sets damage aside. Also says the highest number ever used.
fn recover(directory: &Path, from: Position, start_after_damage: bool) -> Result<(Recovery, u64), Error> {
    let mut recovery = Recovery::default();
    let numbers = segments(directory, SEGMENT).map_err(failed(directory))?;
    let aside = segments(directory, DAMAGED).map_err(failed(directory))?;
    let highest = numbers.last().copied().max(aside.last().copied()).unwrap_or(0);
    for &number in numbers.iter().filter(|n| **n >= from.segment) {
        let path = path(directory, number);
        let octets = fs::read(&path).map_err(failed(&path))?;
        let found = scan(number, &octets, Some(&number) == numbers.last(), |_, _| {});
        match found.end {
            End::Whole if found.room == 0 => {}
            End::Whole => cut(&path, found.length)?,
            End::Torn { offset, .. } => {
                let octets = u64::try_from(written(&octets)).unwrap_or(u64::MAX).saturating_sub(offset);
                if octets > 0 {
                    recovery.torn = Some(Torn { position: Position { segment: number, offset: found.length }, octets });
                }
                if offset == 0 {
                    fs::remove_file(&path).map_err(failed(&path))?;
                } else {
                    cut(&path, offset)?;
                }
            }
            // Not to be set aside, whatever the operator has chosen: it may be whole.
            End::Later { offset, version } => return Err(Error::Later { path, offset, version }),
            End::Damaged { offset, why } if !start_after_damage => return Err(Error::Damaged { path, offset, why }),
            End::Damaged { offset, why } => {
                let beside = path.with_extension(DAMAGED);
                fs::rename(&path, &beside).map_err(failed(&path))?;
                recovery.set_aside.push((beside, format!("octet {offset}: {why}")));
                continue;
            }
        }
        recovery.entries = recovery.entries.saturating_add(found.entries);
        recovery.last_time = recovery.last_time.max(found.last_time);
    }
    // What was being written anew when the process died.
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        if path.to_str().is_some_and(|name| name.ends_with(UNFINISHED)) {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    File::open(directory).and_then(|d| d.sync_all()).map_err(failed(directory))?;
    Ok((recovery, highest))
}

/// Cuts off what lies behind `offset`. The next segment is begun once that is durable: with another behind it, a segment has neither a torn tail nor room.
fn cut(path: &Path, offset: u64) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).open(path).map_err(failed(path))?;
    file.set_len(offset).and_then(|()| file.sync_all()).map_err(failed(path))
}

/// What `offhook journal verify` finds in one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its number.
    pub segment: u64,
    /// Good entries.
    pub entries: u64,
    /// Octets of the file, without the room behind its last frame.
    pub octets: u64,
    /// How it ends.
    pub end: End,
}

/// Reads every segment without changing anything. `offhook` may be running: its last segment then ends where it had come to.
pub fn verify(directory: &Path) -> Result<Vec<Verified>, Error> {
    let numbers = segments(directory, SEGMENT).map_err(failed(directory))?;
    let mut all = Vec::new();
    for &segment in &numbers {
        let path = path(directory, segment);
        let octets = fs::read(&path).map_err(failed(&path))?;
        let found = scan(segment, &octets, Some(&segment) == numbers.last(), |_, _| {});
        let octets = u64::try_from(octets.len()).unwrap_or(u64::MAX).saturating_sub(found.room);
        all.push(Verified { segment, entries: found.entries, octets, end: found.end });
    }
    Ok(all)
}

/// A reader of a journal that nobody may be writing to: `offhook journal cat`.
pub fn read(directory: &Path, from: Position) -> Tail {
    Tail::new(directory.to_owned(), from, None)
}

/// Extension of a segment.
const SEGMENT: &str = "seg";
/// End of the name of one that is written anew, until it takes the old one's place.
const UNFINISHED: &str = ".seg.new";
/// Extension of one that was set aside.
const DAMAGED: &str = "damaged";
