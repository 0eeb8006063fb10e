//! What is in the log goes back into the tables' file on a thread of its own: whoever commits waits for neither the copying nor its syncs.
//!
//! SQLite begins its log anew only where all of it is back when a transaction begins, and while one commits after another a thread beside it is never quite done.
//! So it does the most, and the next commit what has come meanwhile.

use std::{
    ffi::c_int,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, OpenFlags, hooks::Wal};

use super::failed;
use crate::pipeline::StoreError;

/// The thread's handle. It ends with the connection that commits, and is waited for.
#[derive(Debug)]
pub(super) struct Checkpoints(Option<JoinHandle<()>>);

impl Checkpoints {
    /// Starts the thread for the tables at `path`, to which `writer` commits.
    pub(super) fn start(path: &Path, writer: &mut Connection) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let beside = Connection::open_with_flags(path, flags).map_err(failed)?;
        beside.execute_batch("PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0").map_err(failed)?;
        let (ask, asks) = mpsc::sync_channel(1);
        let nearly_done = Arc::new(AtomicBool::new(false));
        let thread = {
            let nearly_done = nearly_done.clone();
            let run = move || copy(&beside, &asks, &nearly_done);
            std::thread::Builder::new().name("checkpoints".into()).spawn(run).map_err(|e| StoreError(format!("no thread: {e}")))?
        };
        // Else SQLite copies by itself where the hook is not there, and whoever takes it out does not see that the log is nobody's.
        writer.execute_batch("PRAGMA wal_autocheckpoint=0").map_err(failed)?;
        writer.wal_hook(Some(behind_commits(ask, nearly_done))).map_err(failed)?;
        Ok(Self(Some(thread)))
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// What is done behind each commit: the thread is asked once there is enough, and what is left for the one who commits is copied at once.
fn behind_commits(ask: SyncSender<()>, nearly_done: Arc<AtomicBool>) -> impl FnMut(&mut Wal, c_int) -> rusqlite::Result<()> + Send {
    let mut asked = false;
    move |wal, pages| {
        let rest = nearly_done.swap(false, Ordering::AcqRel);
        asked &= !rest;
        // A thread that has ended leaves it all to the one who commits.
        let mut alone = pages >= PAGES_MAX;
        if pages >= PAGES && !asked && !rest {
            let sent = ask.try_send(());
            asked = sent.is_ok();
            alone |= matches!(sent, Err(TrySendError::Disconnected(())));
        }
        if (rest || alone)
            && let Err(error) = wal.checkpoint()
        {
            // Busy while the thread copies, or the disk is full. The commit stands all the same: told of an error here, SQLite would say that it had failed.
            tracing::debug!(%error, "the store's log is not copied back behind a commit");
        }
        Ok(())
    }
}

fn copy(beside: &Connection, asks: &Receiver<()>, nearly_done: &AtomicBool) {
    // Of the thread alone, on Linux. It may be refused; then it is as urgent as everybody.
    let _ = rustix::process::nice(YIELDS);
    while asks.recv().is_ok() {
        // Once more for what came while the first was copied and synced, which takes the longest.
        for _ in 0..2 {
            if let Err(error) = beside.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                tracing::warn!(%error, "the store's log is not copied back beside the pipeline");
            }
        }
        nearly_done.store(true, Ordering::Release);
    }
}

/// Pages in the log from which on they are copied back: 32 MB. What is written again and again until then is copied once.
const PAGES: c_int = 2048;
/// Pages from which on whoever commits copies too, so that the log does not outgrow the disk.
const PAGES_MAX: c_int = 8192;
const _: () = assert!(PAGES < PAGES_MAX);
/// How much it gives way, where the processors are busy: as the pipeline does.
const YIELDS: i32 = 5;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        journal::Position,
        pipeline::{
            Store,
            store::{Aside, Changes, Why},
        },
        shell::{files::tests::Scratch, store::Sqlite},
        time::Wall,
    };

    const PAGE: u64 = 16_384;

    fn octets(scratch: &Scratch, suffix: &str) -> u64 {
        fs::metadata(scratch.0.join(format!("store.sqlite{suffix}"))).map_or(0, |file| file.len())
    }

    fn aside(offset: u64) -> Aside {
        Aside {
            position: Position { segment: 1, offset: offset % 7 },
            source: "platform".into(),
            time: Wall::from_millis(1),
            why: Why::Conflict,
            detail: format!("{offset} ").repeat(1 << 18),
        }
    }

    /// Without the hook the log is as long as everything that was ever committed.
    #[test]
    fn the_log_stays_short_however_much_is_committed_and_nothing_of_it_is_lost() {
        let scratch = Scratch::new("checkpoints");
        let path = scratch.0.join("store.sqlite");
        let commits = 160;
        let mut store = Sqlite::open(&path).expect("opened");
        for n in 0..commits {
            store.commit(Changes { asides: vec![aside(n)], ..Changes::default() }).expect("committed");
        }
        let most = u64::from(PAGES_MAX.unsigned_abs() + 256) * PAGE;
        assert!(octets(&scratch, "-wal") <= most, "{} octets", octets(&scratch, "-wal"));
        assert!(octets(&scratch, "") > 1 << 20, "some of it is back in its file while it is open");
        // As after a kill: what is still in the log is read back from there.
        drop(store);
        let again = Sqlite::open(&path).expect("opened again");
        for n in commits - 7..commits {
            assert_eq!(again.aside(aside(n).position), Ok(Some(aside(n))));
        }
        again.close().expect("closed");
        assert_eq!(fs::read_dir(&scratch.0).expect("a folder").count(), 1, "everything is in its one file");
    }

    /// How many pages the log comes to while so many are written, with nobody who answers behind `ask`.
    fn alone(scratch: &Scratch, ask: SyncSender<()>, pages: u64) -> u64 {
        let mut connection = Connection::open(scratch.0.join("store.sqlite")).expect("opened");
        let tables =
            "PRAGMA page_size=16384; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0; CREATE TABLE t (v)";
        connection.execute_batch(tables).expect("made");
        connection.wal_hook(Some(behind_commits(ask, Arc::default()))).expect("hooked");
        for _ in 0..pages / 64 {
            connection.execute("INSERT INTO t VALUES (zeroblob(64 * 16384))", []).expect("committed");
            connection.execute("DELETE FROM t", []).expect("committed");
        }
        octets(scratch, "-wal") / PAGE
    }

    #[test]
    fn a_commit_stands_although_its_log_cannot_be_copied_back() {
        let scratch = Scratch::new("busy");
        let path = scratch.0.join("store.sqlite");
        let mut store = Sqlite::open(&path).expect("opened");
        // Whoever reads what was there at first keeps the log from beginning anew, so that every commit past the limit tries to copy, beside one who copies.
        let reader = Connection::open(&path).expect("opened");
        reader.execute_batch("BEGIN; SELECT count(*) FROM asides").expect("read");
        let done = Arc::new(AtomicBool::new(false));
        let copies = {
            let (beside, done) = (Connection::open(&path).expect("opened"), done.clone());
            std::thread::spawn(move || {
                while !done.load(Ordering::Acquire) {
                    beside.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).expect("tried");
                }
            })
        };
        let mut commits = 0;
        while octets(&scratch, "-wal") < u64::from(PAGES_MAX.unsigned_abs()) * PAGE || commits % 7 != 0 {
            let committed = store.commit(Changes { asides: vec![aside(commits)], ..Changes::default() });
            commits += 1;
            assert_eq!(committed, Ok(()), "commit {commits}");
        }
        for n in commits..commits + 300 {
            let position = Position { segment: 2, offset: n };
            let committed = store.commit(Changes { position: Some(position), ..Changes::default() });
            assert_eq!((committed, store.position()), (Ok(()), Ok(position)));
        }
        done.store(true, Ordering::Release);
        copies.join().expect("ended");
    }

    #[test]
    fn whoever_commits_copies_by_himself_where_the_thread_falls_behind_or_has_ended() {
        let (most, few) = (u64::from(PAGES_MAX.unsigned_abs()), u64::from(PAGES.unsigned_abs()));
        let (ask, slow) = mpsc::sync_channel(1);
        let pages = alone(&Scratch::new("slow"), ask, most + most / 2);
        assert!((most..most + 256).contains(&pages), "{pages} pages: it has its chance, and no more");
        assert_eq!(slow.try_iter().count(), 1, "it is asked once");
        let (ask, _) = mpsc::sync_channel(1);
        let pages = alone(&Scratch::new("ended"), ask, most);
        assert!((few..few + 256).contains(&pages), "{pages} pages");
    }
}
