//! The pipeline's tables in SQLite, beside the journal that can give them again.
//!
//! WAL with `synchronous=NORMAL`: a crash of the machine may lose the last transactions, never a part of one, and the position goes with
//! them, so that the fold repeats what was lost.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Params, Row, config::DbConfig, params};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    event::CallId,
    journal::Position,
    pipeline::{
        Activation, Counts, Record, Store, StoreError, Traffic,
        store::{Aside, Changes, Orphan, State, Write},
        webhook::{Drift, Payload},
    },
    time::Wall,
};

#[cfg(test)]
mod tests;

/// Tables in a file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    /// The one connection that writes. It reads within the transaction that its next commit ends: a transaction of its own for each read costs more than
    /// the read, and nobody else changes what it has seen.
    writes: bool,
}

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError(error.to_string())
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError(e.to_string()))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError(format!("a row cannot be read: {e}")))
}

fn number<T: TryInto<i64>>(value: T) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

impl Sqlite {
    /// Opens the tables at `path`, made where they are missing. Tables of another version are made anew: the journal holds it all.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path).map_err(failed)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if version != 0 && version != VERSION {
            drop(connection);
            let _ = Self::remove(path);
            tracing::warn!(version, "the store is of another version; it is made anew from the journal");
            connection = Connection::open(path).map_err(failed)?;
        }
        connection.execute_batch(SCHEMA).map_err(failed)?;
        connection.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        Self::new(connection, true)
    }

    /// Removes the tables at `path`, where there are any.
    pub fn remove(path: &Path) -> std::io::Result<()> {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            match std::fs::remove_file(PathBuf::from(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends it with everything in its one file.
    pub fn close(self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            self.run("COMMIT", [])?;
        }
        self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE").map_err(failed)?;
        self.connection.close().map_err(|(_, error)| failed(error))
    }

    /// A second connection that only reads: what the API shows does not wait for the pipeline.
    pub fn reader(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        connection.execute_batch("PRAGMA busy_timeout=2000").map_err(failed)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if version != VERSION {
            return Err(StoreError(format!(
                "it is of version {version}, this program's is {VERSION}: start the gateway, or run `offhook rebuild`"
            )));
        }
        Self::new(connection, false)
    }

    fn new(connection: Connection, writes: bool) -> Result<Self, StoreError> {
        // Else a plan is made anew for each value that is bound, where a partial index might fit that value.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self { connection, writes })
    }

    fn begin(&self) -> Result<(), StoreError> {
        if self.writes && self.connection.is_autocommit() {
            self.run("BEGIN", [])?;
        }
        Ok(())
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql).and_then(|mut s| s.execute(params)).map(drop).map_err(failed)
    }

    fn one<T>(&self, sql: &str, params: impl Params, read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>) -> Result<Option<T>, StoreError> {
        self.begin()?;
        self.connection.prepare_cached(sql).and_then(|mut s| s.query_row(params, read).optional()).map_err(failed)
    }

    fn documents<T: DeserializeOwned>(&self, sql: &str, params: impl Params) -> Result<Vec<T>, StoreError> {
        self.begin()?;
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params, |row| row.get::<_, String>(0)).map_err(failed)?;
        rows.map(|row| from_json(&row.map_err(failed)?)).collect()
    }

    fn document<T: DeserializeOwned>(&self, sql: &str, params: impl Params) -> Result<Option<T>, StoreError> {
        self.one(sql, params, |row| row.get::<_, String>(0))?.map(|text| from_json(&text)).transpose()
    }

    fn wall(&self, sql: &str, params: impl Params) -> Result<Option<Wall>, StoreError> {
        Ok(self.one(sql, params, |row| row.get::<_, Option<i64>>(0))?.flatten().map(Wall::from_micros))
    }
}

fn put(store: &Sqlite, changes: &Changes) -> Result<(), StoreError> {
    let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| store.run(sql, params);
    if let Some(before) = changes.swept {
        sweep(store, before)?;
    }
    for (call, (record, wait)) in &changes.records {
        if record.is_pruned() {
            let call = call.to_string();
            run("DELETE FROM writes WHERE call_id = ?1", params![call])?;
            let held = store.document::<Record>("SELECT document FROM records WHERE call_id = ?1", [&call])?;
            for number in held.map(|record| record.numbers()).unwrap_or_default() {
                run("DELETE FROM numbers WHERE number = ?1 AND call_id = ?2", params![number, call])?;
            }
        }
        run(
            "INSERT OR REPLACE INTO records (call_id, over, wait, document) VALUES (?1, ?2, ?3, ?4)",
            params![call.to_string(), stands(record), wait.map(Wall::as_micros), json(record)?],
        )?;
        for number in record.numbers() {
            run("INSERT OR IGNORE INTO numbers (number, call_id) VALUES (?1, ?2)", params![number, call.to_string()])?;
        }
    }
    for ((crm, call), write) in &changes.writes {
        run(
            "INSERT OR REPLACE INTO writes (crm, call_id, state, backlog, due, since, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![crm, call.to_string(), write.state.name(), write.backlog, write.due.as_micros(), write.since.as_micros(), json(write)?],
        )?;
    }
    for ((source, call), due) in &changes.pulls {
        let call = call.to_string();
        match due {
            Some(due) => {
                let due = due.as_micros();
                run("INSERT OR REPLACE INTO pulls (source, call_id, due) VALUES (?1, ?2, ?3)", params![source, call, due])?;
            }
            None => run("DELETE FROM pulls WHERE source = ?1 AND call_id = ?2", params![source, call])?,
        }
    }
    for (name, call) in &changes.names {
        run("INSERT OR REPLACE INTO names (name, call_id) VALUES (?1, ?2)", params![name, call.to_string()])?;
    }
    for (id, hash) in &changes.seen {
        run("INSERT OR REPLACE INTO seen (id, hash) VALUES (?1, ?2)", params![id, hash])?;
    }
    for name in &changes.adopted {
        run("DELETE FROM orphans WHERE name = ?1", params![name])?;
    }
    for orphan in &changes.orphans {
        let (name, came) = (&orphan.payload.call_id, orphan.came.as_micros());
        run("INSERT INTO orphans (name, came, document) VALUES (?1, ?2, ?3)", params![name, came, json(orphan)?])?;
    }
    for aside in &changes.asides {
        let Position { segment, offset } = aside.position;
        run(
            "INSERT OR REPLACE INTO asides (segment, offset, came, document) VALUES (?1, ?2, ?3, ?4)",
            params![number(segment), number(offset), aside.time.as_micros(), json(aside)?],
        )?;
    }
    for (key, drift) in &changes.drifts {
        run("INSERT OR REPLACE INTO drifts (key, last, document) VALUES (?1, ?2, ?3)", params![key, drift.last.as_micros(), json(drift)?])?;
    }
    for ((crm, day), spent) in &changes.spent {
        run("INSERT OR REPLACE INTO spent (crm, day, spent) VALUES (?1, ?2, ?3)", params![crm, day, number(*spent)])?;
    }
    for (crm, activation) in &changes.activations {
        run("INSERT OR REPLACE INTO activations (crm, document) VALUES (?1, ?2)", params![crm, json(activation)?])?;
    }
    if let Some(Position { segment, offset }) = changes.position {
        run("INSERT OR REPLACE INTO position (one, segment, offset) VALUES (1, ?1, ?2)", params![number(segment), number(offset)])?;
    }
    Ok(())
}

/// What belongs to no call and came before that goes.
fn sweep(store: &Sqlite, before: Wall) -> Result<(), StoreError> {
    let run = |sql: &str, value: i64| store.run(sql, [value]);
    run("DELETE FROM asides WHERE came < ?1", before.as_micros())?;
    run("DELETE FROM orphans WHERE came < ?1", before.as_micros())?;
    run("DELETE FROM drifts WHERE last < ?1", before.as_micros())?;
    run("DELETE FROM spent WHERE day < ?1", before.day())?;
    run(
        "INSERT INTO swept (one, before) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET before = max(before, excluded.before)",
        before.as_micros(),
    )
}

/// Where a record stands: 0 under way, 1 over, 2 pruned.
fn stands(record: &Record) -> u8 {
    if record.is_pruned() { 2 } else { u8::from(record.is_over()) }
}

impl Store for Sqlite {
    fn position(&self) -> Result<Position, StoreError> {
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let found = self.one("SELECT segment, offset FROM position", [], read)?;
        let from = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(found.map_or_else(Position::default, |(segment, offset)| Position { segment: from(segment), offset: from(offset) }))
    }

    fn commit(&mut self, changes: Changes) -> Result<(), StoreError> {
        self.begin()?;
        let done = put(self, &changes).and_then(|()| self.run("COMMIT", []));
        if done.is_err() && !self.connection.is_autocommit() {
            self.run("ROLLBACK", [])?;
        }
        done
    }

    fn record(&self, call: CallId) -> Result<Option<Record>, StoreError> {
        self.document("SELECT document FROM records WHERE call_id = ?1", [call.to_string()])
    }

    fn knows(&self, call: CallId) -> Result<bool, StoreError> {
        Ok(self.one("SELECT 1 FROM records WHERE call_id = ?1", [call.to_string()], |_| Ok(()))?.is_some())
    }

    fn named(&self, name: &str) -> Result<Option<CallId>, StoreError> {
        let found = self.one("SELECT call_id FROM names WHERE name = ?1", [name], |row| row.get::<_, String>(0))?;
        Ok(found.and_then(|text| text.parse().ok()))
    }

    fn write(&self, crm: &str, call: CallId) -> Result<Option<Write>, StoreError> {
        self.document("SELECT document FROM writes WHERE crm = ?1 AND call_id = ?2", params![crm, call.to_string()])
    }

    fn writes(&self, call: CallId) -> Result<Vec<Write>, StoreError> {
        self.documents("SELECT document FROM writes WHERE call_id = ?1 ORDER BY crm", [call.to_string()])
    }

    fn seen(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.one("SELECT hash FROM seen WHERE id = ?1", [id], |row| row.get(0))
    }

    fn asides(&self, most: usize) -> Result<Vec<Aside>, StoreError> {
        self.documents("SELECT document FROM asides ORDER BY segment DESC, offset DESC LIMIT ?1", [number(most)])
    }

    fn aside(&self, position: Position) -> Result<Option<Aside>, StoreError> {
        let sql = "SELECT document FROM asides WHERE segment = ?1 AND offset = ?2";
        self.document(sql, params![number(position.segment), number(position.offset)])
    }

    fn drift(&self, key: &str) -> Result<Option<Drift>, StoreError> {
        self.document("SELECT document FROM drifts WHERE key = ?1", [key])
    }

    fn drifts(&self) -> Result<Vec<Drift>, StoreError> {
        self.documents("SELECT document FROM drifts ORDER BY key", [])
    }

    fn orphans(&self, name: &str) -> Result<Vec<Orphan>, StoreError> {
        self.documents("SELECT document FROM orphans WHERE name = ?1 ORDER BY rowid", [name])
    }

    fn unmatched(&self, most: usize) -> Result<Vec<Payload>, StoreError> {
        let orphans = self.documents::<Orphan>("SELECT document FROM orphans ORDER BY rowid DESC LIMIT ?1", [number(most)])?;
        Ok(orphans.into_iter().map(|orphan| orphan.payload).collect())
    }

    fn due(&self, crm: &str, at: Wall, traffic: Traffic, most: usize) -> Result<Vec<Write>, StoreError> {
        let mut due = Vec::new();
        for backlog in [false, true].into_iter().filter(|backlog| !backlog || traffic == Traffic::All) {
            let left = most.saturating_sub(due.len());
            due.extend(self.documents::<Write>(DUE, params![crm, backlog, at.as_micros(), number(left)])?);
        }
        Ok(due)
    }

    fn next_due(&self, crm: &str, traffic: Traffic) -> Result<Option<Wall>, StoreError> {
        let next = |backlog: bool| self.wall(NEXT_DUE, params![crm, backlog]);
        let backlog = if traffic == Traffic::All { next(true)? } else { None };
        Ok(next(false)?.into_iter().chain(backlog).min())
    }

    fn backlog(&self, crm: &str, at: Wall, most: usize) -> Result<usize, StoreError> {
        let found = self.one(BACKLOG, params![crm, at.as_micros(), number(most)], |row| row.get::<_, i64>(0))?;
        Ok(found.and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
    }

    fn spent(&self, crm: &str, day: i64) -> Result<u64, StoreError> {
        let found = self.one("SELECT spent FROM spent WHERE crm = ?1 AND day = ?2", params![crm, day], |row| row.get::<_, i64>(0))?;
        Ok(found.and_then(|spent| u64::try_from(spent).ok()).unwrap_or(0))
    }

    fn activation(&self, crm: &str) -> Result<Option<(Activation, Wall)>, StoreError> {
        self.document("SELECT document FROM activations WHERE crm = ?1", [crm])
    }

    fn writes_in(&self, state: State, most: usize) -> Result<Vec<Write>, StoreError> {
        if state == State::Done {
            return self.documents("SELECT document FROM writes WHERE state = 'done' ORDER BY since, call_id LIMIT ?1", [number(most)]);
        }
        self.documents(&standing(state), params![number(most)])
    }

    fn waited(&self, at: Wall, most: usize) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT document FROM records WHERE wait IS NOT NULL AND wait <= ?1 ORDER BY call_id LIMIT ?2";
        self.documents(sql, params![at.as_micros(), number(most)])
    }

    fn next_wait(&self) -> Result<Option<Wall>, StoreError> {
        self.wall("SELECT MIN(wait) FROM records WHERE wait IS NOT NULL", [])
    }

    fn pulls_due(&self, source: &str, at: Wall, most: usize) -> Result<Vec<CallId>, StoreError> {
        let mut statement = self.connection.prepare_cached(PULLS_DUE).map_err(failed)?;
        let rows = statement.query_map(params![source, at.as_micros(), number(most)], |row| row.get::<_, String>(0)).map_err(failed)?;
        rows.filter_map(|row| row.map(|text| text.parse().ok()).map_err(failed).transpose()).collect()
    }

    fn pull(&self, source: &str, call: CallId) -> Result<Option<Wall>, StoreError> {
        self.wall("SELECT due FROM pulls WHERE source = ?1 AND call_id = ?2", params![source, call.to_string()])
    }

    fn next_pull(&self, source: &str, at: Wall) -> Result<Option<Wall>, StoreError> {
        self.wall("SELECT MIN(due) FROM pulls WHERE source = ?1 AND due > ?2", params![source, at.as_micros()])
    }

    fn open(&self) -> Result<Vec<Record>, StoreError> {
        self.documents("SELECT document FROM records WHERE over = 0 ORDER BY call_id", [])
    }

    fn recent(&self, most: usize) -> Result<Vec<Record>, StoreError> {
        self.documents("SELECT document FROM records ORDER BY call_id DESC LIMIT ?1", [number(most)])
    }

    fn since(&self, at: Wall, after: Option<CallId>, most: usize) -> Result<Vec<Record>, StoreError> {
        let from = CallId::first_of(at).to_string();
        let after = after.map(|call| call.to_string()).unwrap_or_default();
        let sql = "SELECT document FROM records WHERE call_id >= ?1 AND call_id > ?2 ORDER BY call_id LIMIT ?3";
        self.documents(sql, params![from, after, number(most)])
    }

    fn writes_of(&self, crm: &str, after: Option<CallId>, most: usize) -> Result<Vec<Write>, StoreError> {
        let after = after.map(|call| call.to_string()).unwrap_or_default();
        let sql = "SELECT document FROM writes WHERE crm = ?1 AND call_id > ?2 ORDER BY call_id LIMIT ?3";
        self.documents(sql, params![crm, after, number(most)])
    }

    fn of_number(&self, digits: &str, most: usize) -> Result<Vec<Record>, StoreError> {
        let sql =
            "SELECT document FROM records WHERE call_id IN (SELECT call_id FROM numbers WHERE number = ?1) ORDER BY call_id DESC LIMIT ?2";
        self.documents(sql, params![digits, number(most)])
    }

    fn prunable(&self, before: Wall, after: Option<CallId>, most: usize) -> Result<Vec<Record>, StoreError> {
        let after = after.map(|call| call.to_string()).unwrap_or_default();
        self.documents(PRUNABLE, params![after, CallId::first_of(before).to_string(), number(most)])
    }

    fn is_pruned(&self, call: CallId) -> Result<bool, StoreError> {
        let found = self.one("SELECT over = 2 FROM records WHERE call_id = ?1", [call.to_string()], |row| row.get(0))?;
        Ok(found.unwrap_or(false))
    }

    fn older_of_number(&self, digits: &str, call: CallId, most: usize) -> Result<Vec<CallId>, StoreError> {
        let sql = "SELECT call_id FROM numbers WHERE number = ?1 AND call_id < ?2 ORDER BY call_id LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params![digits, call.to_string(), number(most)], |row| row.get::<_, String>(0)).map_err(failed)?;
        let calls = rows.map(|row| row.map_err(failed)?.parse().map_err(|_| StoreError("a row cannot be read: no call id".into())));
        calls.collect()
    }

    fn swept(&self) -> Result<Option<Wall>, StoreError> {
        self.wall("SELECT before FROM swept", [])
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let sql = "SELECT state, COUNT(*), MIN(since) FROM writes WHERE state <> 'done' AND state <> 'dropped' GROUP BY state";
        self.begin()?;
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let mut counts = Counts::default();
        for row in statement.query_map([], read).map_err(failed)? {
            let (state, count, since) = row.map_err(failed)?;
            let count = usize::try_from(count).unwrap_or(0);
            let waits = match state.as_str() {
                "queued" => &mut counts.queued,
                "retrying" => &mut counts.retrying,
                "in_flight" => &mut counts.in_flight,
                "review" => {
                    counts.review = count;
                    continue;
                }
                _ => {
                    counts.dead = count;
                    continue;
                }
            };
            *waits = count;
            let since = Wall::from_micros(since);
            counts.oldest = Some(counts.oldest.map_or(since, |o| o.min(since)));
        }
        Ok(counts)
    }
}

// Asked again and again, with a million rows that wait: each by an index, in its order (`the_queue_is_read_in_the_order_of_an_index`).
const DUE: &str = "SELECT document FROM writes WHERE crm = ?1 AND backlog = ?2 AND state IN ('queued', 'retrying') AND due <= ?3 ORDER BY due, call_id LIMIT ?4";
const NEXT_DUE: &str = "SELECT MIN(due) FROM writes WHERE crm = ?1 AND backlog = ?2 AND state IN ('queued', 'retrying')";
const BACKLOG: &str =
    "SELECT COUNT(*) FROM (SELECT 1 FROM writes WHERE crm = ?1 AND backlog = 1 AND state IN ('queued', 'retrying') AND due <= ?2 LIMIT ?3)";
const PULLS_DUE: &str = "SELECT call_id FROM pulls WHERE source = ?1 AND due <= ?2 ORDER BY due, call_id LIMIT ?3";
fn standing(state: State) -> String {
    // Written out: no index is chosen by what is bound.
    format!("SELECT document FROM writes WHERE state <> 'done' AND state = '{}' ORDER BY since, call_id LIMIT ?1", state.name())
}

/// Statements that are kept prepared: all that there are.
const STATEMENTS: usize = 64;
const PRUNABLE: &str =
    "SELECT document FROM records WHERE call_id > ?1 AND call_id < ?2 AND over = 1 AND wait IS NULL ORDER BY call_id LIMIT ?3";

/// Rises with each change of [`SCHEMA`] or of what a document holds.
const VERSION: i64 = 11;
/// Pages of 16 kB: documents are of some kB, and appending in time order fills them. 16 MB of them in memory hold the ends of all tables, where calls that go on
/// are; a log of 64 MB is copied back four times as rarely as SQLite's own choice would.
const SCHEMA: &str = "
PRAGMA page_size=16384;
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
PRAGMA busy_timeout=2000;
PRAGMA cache_size=-16384;
PRAGMA wal_autocheckpoint=4096;
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS records (call_id TEXT PRIMARY KEY, over INTEGER NOT NULL, wait INTEGER, document TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_wait ON records (wait) WHERE wait IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_prunable ON records (call_id) WHERE over = 1 AND wait IS NULL;
CREATE INDEX IF NOT EXISTS records_open ON records (call_id) WHERE over = 0;
CREATE TABLE IF NOT EXISTS writes (crm TEXT NOT NULL, call_id TEXT NOT NULL, state TEXT NOT NULL, backlog INTEGER NOT NULL, due INTEGER NOT NULL,
    since INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (crm, call_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS writes_waiting ON writes (crm, backlog, due, call_id) WHERE state IN ('queued', 'retrying');
CREATE INDEX IF NOT EXISTS writes_standing ON writes (state, since, call_id) WHERE state <> 'done';
CREATE TABLE IF NOT EXISTS spent (crm TEXT NOT NULL, day INTEGER NOT NULL, spent INTEGER NOT NULL, PRIMARY KEY (crm, day)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS writes_call ON writes (call_id);
CREATE TABLE IF NOT EXISTS activations (crm TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pulls (source TEXT NOT NULL, call_id TEXT NOT NULL, due INTEGER NOT NULL, PRIMARY KEY (source, call_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pulls_due ON pulls (source, due, call_id);
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, call_id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS swept (one INTEGER PRIMARY KEY, before INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS numbers (number TEXT NOT NULL, call_id TEXT NOT NULL, PRIMARY KEY (number, call_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, hash TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orphans (name TEXT NOT NULL, came INTEGER NOT NULL, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS orphans_name ON orphans (name);
CREATE TABLE IF NOT EXISTS asides (segment INTEGER NOT NULL, offset INTEGER NOT NULL, came INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (segment, offset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS drifts (key TEXT PRIMARY KEY, last INTEGER NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
";
