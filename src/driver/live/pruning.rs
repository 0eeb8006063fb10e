//! The thread that takes bodies out of the journal's closed segments, once the calls that they are of are skeletons in the store. It reads with a connection of
//! its own, and nothing waits for it. A crash at any point is harmless: what goes stands in the journal, and a segment is replaced whole.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use serde::{Deserialize, Serialize};

use super::FOLD_BATCH;
use crate::{
    journal::Position,
    pipeline::{Pipeline, Store, retention},
    shell::{
        disk::{Pruner, Tail},
        files,
        store::Sqlite,
        telemetry::{Health, Total},
    },
};

/// What the thread works with.
pub(super) struct Parts {
    /// Says what is left; it folds nothing and sends nothing.
    pub(super) pipeline: Pipeline,
    pub(super) store: PathBuf,
    /// Where it keeps how far it has come.
    pub(super) state: PathBuf,
    pub(super) tail: Tail,
    pub(super) pruner: Pruner,
    pub(super) health: Health,
    /// Octets that it has taken away.
    pub(super) taken: Total,
}

/// The thread's handle.
pub(super) struct Pruning {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How far it has come. Without it everything is looked at again, which changes nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Done {
    /// Prunings before this are done …
    to: Position,
    /// … but for these segments, which were still written to.
    open: BTreeSet<u64>,
    /// Segments up to this one were looked at when all of them was older than what is kept.
    old: u64,
}

impl Pruning {
    /// Starts the thread: it looks whenever it is asked, and ends when nobody can ask any more.
    pub(super) fn start(parts: Parts, asks: mpsc::Receiver<()>) -> std::io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let thread = std::thread::Builder::new().name("pruning".into()).spawn(move || {
            let mut parts = parts;
            while asks.recv().is_ok() {
                // Of several that ask at once one is enough.
                while asks.try_recv().is_ok() {}
                let done = pass(&mut parts, &stop);
                if let Err(error) = &done {
                    tracing::error!(%error, "bodies of pruned calls stand in the journal still; it is tried again with the next pruning");
                }
                parts.health.say("retention", done);
            }
        })?;
        Ok(Self { stopping, thread: Some(thread) })
    }

    /// Ends it behind the segment that it is at; nobody may be left who could ask.
    pub(super) fn stop(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Looks once, and cuts what is to be cut; ended between two segments it begins anew the next time.
pub(super) fn pass(parts: &mut Parts, stopping: &AtomicBool) -> Result<(), String> {
    let Parts { pipeline, store, state, tail, pruner, taken, .. } = parts;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let store = Sqlite::reader(store).map_err(|e| text(&e))?;
    let mut done: Done = fs::read(&*state).ok().and_then(|octets| serde_json::from_slice(&octets).ok()).unwrap_or_default();
    let to = store.position().map_err(|e| text(&e))?;
    let erased = store.erased().map_err(|e| text(&e))? > 0;
    let mut asked = std::mem::take(&mut done.open);
    tail.seek(done.to);
    while tail.position() < to
        && let Some(batch) = tail.next_batch(FOLD_BATCH).map_err(|e| text(&e))?
    {
        for (at, entry) in batch.entries.iter().filter(|(at, _)| *at < to) {
            asked.extend(retention::segments(*at, entry).into_iter().flatten());
            // What comes late of an erased call, or again, is not to stay until it is old.
            if erased && pipeline.left_of(&store, *at, entry).map_err(|e| text(&e))?.is_some() {
                asked.insert(at.segment);
            }
        }
    }
    done.to = to;
    // Where nothing stands behind the store's position in its segment, all of that is folded: after a start nothing may have come since.
    tail.seek(to);
    let behind = tail.next_batch(1).map_err(|e| text(&e))?.and_then(|batch| batch.entries.first().map(|(at, _)| at.segment));
    let end = behind.unwrap_or(tail.position().segment);
    let closed = pruner.closed(end).map_err(|e| text(&e))?;
    // What came late, or again, or belongs to no call, goes by its own age.
    let swept = store.swept().map_err(|e| text(&e))?;
    let ends = closed.iter().skip(1).copied().chain([end]);
    let before = done.old;
    for (segment, next) in closed.iter().copied().zip(ends).filter(|(segment, _)| *segment > before) {
        if pruner.begun(next).map_err(|e| text(&e))?.zip(swept).is_none_or(|(begun, swept)| begun >= swept) {
            break;
        }
        asked.insert(segment);
        done.old = segment;
    }
    let last = closed.last().copied().unwrap_or(0);
    done.open = asked.iter().copied().filter(|segment| *segment > last).collect();
    // The oldest first: the fold knows by a call's first entry that what it held has gone.
    for segment in closed.iter().filter(|segment| asked.contains(segment)) {
        if stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        let left = |at: Position, entry: &crate::journal::Entry| pipeline.left_of(&store, at, entry);
        if let Some(octets) = pruner.prune(*segment, left).map_err(|e| text(&e))? {
            taken.add(octets);
            tracing::info!(segment, octets, "bodies of pruned calls are out of the journal");
        }
    }
    let octets = serde_json::to_vec(&done).map_err(|e| text(&e))?;
    files::replace(state, &octets).map_err(|e| text(&e))
}
