//! The writer's thread: takes what is queued, writes it as one batch, syncs, and tells everybody who waits.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{Error, Notice, Shared, failed, path};
use crate::journal::{ENTRY_BYTES_MAX, Entry, EntryKind, HEADER_BYTES, Position, encode, end_batch, write_header};

/// Called once the entry is on disk, with where it stands, or with why it is not.
type OnSynced = Box<dyn FnOnce(Result<Position, String>) + Send>;

pub(super) enum Message {
    Append { entry: Entry, waiting: Arc<AtomicUsize>, on_synced: OnSynced },
    Stop,
}

/// Why an entry was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many as the lane holds wait for the disk.
    #[error("{0} entries wait for the disk already: it is slower than what comes in")]
    Full(usize),
    /// The journal takes nothing.
    #[error("the journal is closed: {0}")]
    Closed(String),
    /// Longer than an entry may be.
    #[error("an entry of {0} octets is longer than 2 MiB")]
    TooLong(usize),
}

/// One producer's way into the journal, with room of its own, so that none can take another's.
#[derive(Clone, Debug)]
pub struct Lane {
    queue: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    waiting: Arc<AtomicUsize>,
    capacity: usize,
}

impl Lane {
    pub(super) fn new(queue: mpsc::Sender<Message>, shared: Arc<Shared>, capacity: usize) -> Self {
        Self { queue, shared, waiting: Arc::default(), capacity }
    }

    /// Queues `entry`. `on_synced` is called by the writer's thread and must not wait.
    pub fn append(&self, entry: Entry, on_synced: impl FnOnce(Result<Position, String>) + Send + 'static) -> Result<(), Refused> {
        self.queue(entry, Box::new(on_synced)).map_err(|(refused, _)| refused)
    }

    /// As [`Self::append`], but of a refusal `on_synced` is told at once.
    pub fn append_or_tell(&self, entry: Entry, on_synced: impl FnOnce(Result<Position, String>) + Send + 'static) {
        if let Err((refused, on_synced)) = self.queue(entry, Box::new(on_synced)) {
            on_synced(Err(refused.to_string()));
        }
    }

    fn queue(&self, entry: Entry, on_synced: OnSynced) -> Result<(), (Refused, OnSynced)> {
        if entry.body.len() > ENTRY_BYTES_MAX {
            return Err((Refused::TooLong(entry.body.len()), on_synced));
        }
        // Held until the entry is queued: what found the journal open is in the queue when it closes.
        let closed = self.shared.closed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(why) = closed.clone() {
            return Err((Refused::Closed(why), on_synced));
        }
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        if before >= self.capacity {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err((Refused::Full(before), on_synced));
        }
        let message = Message::Append { entry, waiting: self.waiting.clone(), on_synced };
        let sent = self.queue.send(message);
        drop(closed);
        sent.map_err(|mpsc::SendError(message)| {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            let on_synced: OnSynced = match message {
                Message::Append { on_synced, .. } => on_synced,
                Message::Stop => Box::new(drop),
            };
            (Refused::Closed("its writer has ended".into()), on_synced)
        })
    }

    /// Entries of all lanes acknowledged since the start.
    pub fn appends(&self) -> u64 {
        self.shared.appends.load(Ordering::Relaxed)
    }

    /// How long syncs took lately: the median, the 99th percentile and the longest.
    pub fn sync_times(&self) -> [(&'static str, Duration); 3] {
        self.shared.sync_times.lock().unwrap_or_else(std::sync::PoisonError::into_inner).quantiles()
    }

    /// Entries of this lane that are not on disk yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

/// The segment that is written to.
pub(super) struct Segment {
    file: File,
    number: u64,
    begun: Instant,
    /// Octets of frames, written and synced.
    length: u64,
    /// Octets of the file: the frames', and behind them zeros that were written ahead.
    ahead: u64,
    batch: u32,
    /// It holds something else than erasures.
    mixed: bool,
}

impl Segment {
    pub(super) fn begin(directory: &Path, number: u64) -> Result<Self, Error> {
        let header = |file: &mut File| {
            file.write_all(&write_header(number))?;
            file.sync_all()?;
            File::open(directory)?.sync_all()
        };
        Self::begin_with(directory, number, header)
    }

    /// The file's `header` is written and synced, or there is no file: one that was begun and not finished would look like damage at the next start.
    pub(super) fn begin_with(directory: &Path, number: u64, header: impl FnOnce(&mut File) -> io::Result<()>) -> Result<Self, Error> {
        let path = path(directory, number);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).map_err(failed(&path))?;
        header(&mut file).map_err(|error| {
            let _ = std::fs::remove_file(&path);
            failed(&path)(error)
        })?;
        let length = u64::try_from(HEADER_BYTES).unwrap_or(0);
        Ok(Self { file, number, begun: Instant::now(), length, ahead: length, batch: 0, mixed: false })
    }

    /// Writes frames behind the others. Where there is no room for them, more is made with the same write: a sync of a file that grows has its new length and
    /// the place of its blocks to write besides the frames, which takes about as long again.
    fn write(&mut self, frames: &mut Vec<u8>) -> io::Result<()> {
        let end = self.length.saturating_add(u64::try_from(frames.len()).unwrap_or(0));
        if end <= self.ahead {
            return self.file.write_all_at(frames, self.length);
        }
        let room = end.clamp(ROOM_MIN, ROOM_MAX);
        let octets = frames.len();
        frames.resize(octets.saturating_add(usize::try_from(room).unwrap_or(0)), 0);
        let written = self.file.write_all_at(frames, self.length);
        frames.truncate(octets);
        self.ahead = end.saturating_add(room);
        written
    }

    /// Cuts off what lies behind the frames, for good: only the last segment of a journal may end in anything else.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.ahead = self.length;
        self.file.sync_all()
    }

    pub(super) fn end(&self) -> Position {
        Position { segment: self.number, offset: self.length }
    }
}

pub(super) struct Writer {
    directory: PathBuf,
    segment: Segment,
    shared: Arc<Shared>,
    notify: Box<dyn Fn(Notice) + Send>,
    /// The next segment's number: also above those whose beginning failed.
    next: u64,
    /// The frames of the batch that is being gathered.
    buffer: Vec<u8>,
    waiters: Vec<Waiter>,
    /// An erasure, which begins a batch.
    put_off: Option<Message>,
    /// Why nothing is taken.
    closed: Option<String>,
    /// Ends once the queue is empty.
    stopping: bool,
}

/// Who waits for an entry of the batch.
struct Waiter {
    waiting: Arc<AtomicUsize>,
    on_synced: OnSynced,
    /// Where the entry's frame begins in the buffer.
    begin: usize,
}

impl Writer {
    pub(super) fn new(directory: PathBuf, segment: Segment, shared: Arc<Shared>, notify: Box<dyn Fn(Notice) + Send>) -> Self {
        let next = segment.number.saturating_add(1);
        Self {
            directory,
            segment,
            shared,
            notify,
            next,
            buffer: Vec::new(),
            waiters: Vec::new(),
            put_off: None,
            closed: None,
            stopping: false,
        }
    }

    pub(super) fn run(mut self, messages: &mpsc::Receiver<Message>) {
        loop {
            let first = match self.put_off.take().map_or_else(|| messages.recv_timeout(REOPEN), Ok) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(why) = self.closed.clone() {
                self.refuse_queued(&why, first, messages);
                if self.stopping {
                    break;
                }
                if self.reopen() {
                    self.closed = None;
                }
                continue;
            }
            let drained = self.gather(first, messages);
            if !self.waiters.is_empty()
                && self.closed.is_none()
                && let Err(error) = self.write()
            {
                self.close(&error);
            }
            if let Some(why) = self.closed.clone() {
                self.refuse(&why);
            }
            if self.stopping && drained {
                break;
            }
        }
        // Where it cannot be, the next start does it.
        let _ = self.segment.cut();
    }

    /// Takes what is queued and what comes while that is put into frames, up to one batch: what has come a moment after the first shares its sync. True where
    /// that was all of it.
    fn gather(&mut self, first: Option<Message>, messages: &mpsc::Receiver<Message>) -> bool {
        let mut next = first;
        loop {
            match next {
                Some(Message::Append { entry, waiting, on_synced }) => {
                    let erasure = entry.kind == EntryKind::Erasure;
                    if erasure && self.segment.mixed && !self.waiters.is_empty() && self.closed.is_none() {
                        self.put_off = Some(Message::Append { entry, waiting, on_synced });
                        return false;
                    }
                    if self.waiters.is_empty()
                        && self.closed.is_none()
                        && let Err(error) = self.begin(erasure)
                    {
                        self.close(&error);
                    }
                    self.segment.mixed |= !erasure;
                    let begin = if self.closed.is_none() { encode(&entry, self.segment.batch, &mut self.buffer) } else { 0 };
                    self.waiters.push(Waiter { waiting, on_synced, begin });
                }
                Some(Message::Stop) => self.stopping = true,
                None => return true,
            }
            if self.waiters.len() >= BATCH_ENTRIES_MAX || self.buffer.len() >= BATCH_BYTES_MAX {
                return false;
            }
            next = messages.try_recv().ok();
        }
    }

    /// Begins a batch, on a new segment where it is time, or where an `erasure` follows something else: what it takes away stands in closed segments then.
    fn begin(&mut self, erasure: bool) -> io::Result<()> {
        self.buffer.clear();
        let asked = erasure && self.segment.mixed;
        if asked || self.segment.length >= SEGMENT_BYTES || self.segment.begun.elapsed() >= SEGMENT_AGE && self.segment.batch > 0 {
            self.segment.cut()?;
            let number = self.next;
            self.next = number.saturating_add(1);
            self.segment = Segment::begin(&self.directory, number).map_err(io::Error::other)?;
        }
        self.segment.batch = self.segment.batch.saturating_add(1);
        Ok(())
    }

    /// Writes the batch, syncs, and tells everybody who waits.
    fn write(&mut self) -> io::Result<()> {
        if let Some(last) = self.waiters.last() {
            end_batch(&mut self.buffer, last.begin);
        }
        self.segment.write(&mut self.buffer)?;
        self.sync()?;
        let base = self.segment.end();
        self.segment.length = base.offset.saturating_add(u64::try_from(self.buffer.len()).unwrap_or(0));
        self.shared.publish(self.segment.end());
        self.shared.appends.fetch_add(u64::try_from(self.waiters.len()).unwrap_or(0), Ordering::Relaxed);
        for Waiter { waiting, on_synced, begin } in self.waiters.drain(..) {
            waiting.fetch_sub(1, Ordering::AcqRel);
            let offset = base.offset.saturating_add(u64::try_from(begin).unwrap_or(0));
            on_synced(Ok(Position { segment: base.segment, offset }));
        }
        (self.notify)(Notice::Durable(self.segment.end()));
        Ok(())
    }

    /// Takes nothing from now on, and says so.
    fn close(&mut self, error: &io::Error) {
        let why = error.to_string();
        tracing::error!(%why, segment = self.segment.number, "the journal is closed; see the disk of [data] directory");
        self.closed = Some(why.clone());
        self.shared.set_closed(Some(why.clone()));
        self.refuse(&why);
        (self.notify)(Notice::Closed(why));
    }

    fn sync(&self) -> io::Result<()> {
        self.fails()?;
        let from = Instant::now();
        self.segment.file.sync_data()?;
        self.shared.sync_times.lock().unwrap_or_else(std::sync::PoisonError::into_inner).record(from.elapsed());
        Ok(())
    }

    #[cfg(test)]
    fn fails(&self) -> io::Result<()> {
        let fails = self.shared.fail_sync.load(Ordering::Relaxed);
        if fails { Err(io::Error::other("the disk fails on purpose")) } else { Ok(()) }
    }

    #[cfg(not(test))]
    fn fails(&self) -> io::Result<()> {
        Ok(())
    }

    fn refuse(&mut self, why: &str) {
        self.buffer.clear();
        for Waiter { waiting, on_synced, .. } in self.waiters.drain(..) {
            // Whoever sees that nothing waits has been given back what was refused.
            on_synced(Err(why.to_owned()));
            waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Refuses what was queued before the journal closed. Were it written once the journal is open, it would stand before what was refused before it.
    fn refuse_queued(&mut self, why: &str, first: Option<Message>, messages: &mpsc::Receiver<Message>) {
        let mut next = first;
        while !self.gather(next, messages) {
            self.refuse(why);
            next = messages.try_recv().ok();
        }
        self.refuse(why);
    }

    /// Tries to begin a new segment. Whatever a failed sync left behind in the old one was refused, and is cut off first.
    fn reopen(&mut self) -> bool {
        let number = self.next;
        self.next = number.saturating_add(1);
        let cut = self.fails().and_then(|()| self.segment.cut());
        let begun = cut.and_then(|()| Segment::begin(&self.directory, number).map_err(io::Error::other));
        match begun {
            Ok(segment) => {
                self.segment = segment;
                self.shared.publish(self.segment.end());
                self.shared.set_closed(None);
                tracing::warn!(segment = number, "the journal is open again on a new segment");
                (self.notify)(Notice::Opened);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the journal stays closed");
                false
            }
        }
    }
}

/// Entries of one batch: at 131,000 entries/s measured with 256, more gains little and delays the first.
pub(super) const BATCH_ENTRIES_MAX: usize = 512;
/// Octets of one batch: a sync of more stalls.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Room made at a time: as much again as there is, so that a small journal stays small, up to what a disk writes in a millisecond or two.
pub(super) const ROOM_MIN: u64 = 64 << 10;
const ROOM_MAX: u64 = 1 << 20;
/// A segment is closed once it has so many octets: small enough to be read whole at a start.
const SEGMENT_BYTES: u64 = 64 << 20;
/// A segment is closed at its first entry behind this age: retention takes bodies out of closed ones alone.
const SEGMENT_AGE: Duration = Duration::from_secs(24 * 3600);
/// How often a closed journal tries to open again.
const REOPEN: Duration = Duration::from_secs(2);
