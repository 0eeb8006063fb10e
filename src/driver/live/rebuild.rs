//! The store made anew out of the journal, while no gateway runs: nothing is sent, nothing is written but the store.

use std::fs;

use super::{Error, FOLD_BATCH, compose};
use crate::{
    chance::Chance,
    config::Config,
    pipeline::{Counts, Pipeline, Store},
    shell::{
        clock::Clock,
        disk::{self, Journal},
        files,
        secrets::Kept,
        store::Sqlite,
    },
};

/// What was folded.
#[derive(Clone, Copy, Debug)]
pub struct Rebuilt {
    /// Entries of the journal.
    pub entries: usize,
    /// How the writes stand now.
    pub counts: Counts,
}

/// The new store's file while it is made. Where a rebuild was killed, the next one removes it, or the next start: it holds what calls held then.
pub(super) const MAKING: &str = "store.sqlite.making";

/// Folds the whole journal into a new store, and puts it in the old one's place once it is whole.
pub fn rebuild(config: &Config) -> Result<Rebuilt, Error> {
    let _lock = files::lock(&config.data.directory)?;
    let kept = Kept::open(&config.data.directory)?;
    let (place, making) = (config.data.directory.join("store.sqlite"), config.data.directory.join(MAKING));
    let remove = |path| Sqlite::remove(path).map_err(|error| Error::System("the store's files removed", error));
    remove(&making)?;
    let mut store = Sqlite::open(&making)?;
    let (journal, _) = Journal::open(disk::Options {
        directory: config.data.directory.join("journal"),
        from: store.position()?,
        start_after_damage: config.data.start_after_damage,
        notify: Box::new(|_| {}),
    })?;
    // Chance decides only what is sent, and nothing is.
    let mut pipeline = Pipeline::new(compose::pipeline(config, &kept)?, Chance::from_seed(0));
    let mut tail = journal.tail(store.position()?);
    let mut entries = 0;
    while let Some(batch) = tail.next_batch(FOLD_BATCH)? {
        pipeline.fold(&mut store, &batch.entries, batch.next)?;
        entries += batch.entries.len();
    }
    let clock = Clock::new();
    while pipeline.end_waits(clock.now(), &mut store)? {}
    let counts = store.counts()?;
    store.close()?;
    journal.close();
    remove(&place)?;
    fs::rename(&making, &place).map_err(|error| Error::System("the new store put in its place", error))?;
    Ok(Rebuilt { entries, counts })
}
