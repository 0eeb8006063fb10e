//! The pipeline's tables in SQLite, beside the journal that can give them again.
//!
//! WAL with `synchronous=NORMAL`: a crash of the machine may lose the last transactions, never a part of one, and the position goes with
//! them, so that the fold repeats what was lost.

use std::{
    cell::{Ref, RefCell},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, Params, Row, config::DbConfig, params};
use serde::{Serialize, de::DeserializeOwned};

use checkpoint::Checkpoints;
use recent::Recent;
use schema::{SCHEMA, VERSION};

use crate::{
    event::CallId,
    journal::Position,
    pipeline::{
        Activation, Counts, Record, Store, StoreError, Traffic,
        retention::{Erasure, Hold},
        store::{Aside, Changes, Orphan, State, Write},
        webhook::{Drift, Payload},
    },
    time::Wall,
};

mod checkpoint;
mod put;
mod recent;
mod schema;
#[cfg(test)]
mod tests;

/// Tables in a file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    /// What only the one connection that writes has.
    writer: Option<Writer>,
}

/// It reads within the transaction that its next commit ends: a transaction of its own for each read costs more than the read, and nobody else changes what it
/// has seen.
#[derive(Debug)]
struct Writer {
    recent: RefCell<Recent>,
    /// Whether a webhook may be there under a name that no call had: mostly none is, and each new name is asked for.
    orphaned: bool,
    _checkpoints: Checkpoints,
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

/// As rows name a call: the order of the octets is that of the ids.
fn key(call: &CallId) -> &[u8; 16] {
    call.0.as_bytes()
}

/// What every call's octets are behind, where it is none.
fn behind(after: &Option<CallId>) -> &[u8] {
    after.as_ref().map_or(&[], |call| key(call))
}

/// The call that a row names first.
fn call(row: &Row<'_>) -> rusqlite::Result<CallId> {
    Ok(CallId(uuid::Uuid::from_bytes(row.get(0)?)))
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
        // What a process that was killed had deleted stands in its log still.
        scrub(&connection)?;
        let checkpoints = Checkpoints::start(path, &mut connection)?;
        let mut store = Self::new(connection)?;
        let orphaned = store.orphaned()?;
        store.writer = Some(Writer { recent: RefCell::default(), orphaned, _checkpoints: checkpoints });
        Ok(store)
    }

    /// Ends the log in which what was deleted stands still: in the tables' file it is overwritten once the log is copied back. False where somebody reads what the
    /// log holds, or copies it: then it has to be tried again.
    pub fn scrub(&mut self) -> Result<bool, StoreError> {
        if !self.connection.is_autocommit() {
            self.run("COMMIT", [])?;
        }
        scrub(&self.connection)
    }

    /// Whether copies of what erased calls held may stand in the tables' files still.
    pub fn is_unscrubbed(&self) -> Result<bool, StoreError> {
        Ok(self.one("SELECT 1 FROM erasures WHERE scrubbed = 0 LIMIT 1", [], |_| Ok(()))?.is_some())
    }

    /// Writes the tables anew, where what erased calls held may stand in their files still: SQLite overwrites what it deletes, but no copy that it left behind in a page
    /// when it split that. False as of [`Self::scrub`]. It takes as long as reading and writing all of it twice.
    pub fn vacuum(&mut self) -> Result<bool, StoreError> {
        if !self.is_unscrubbed()? {
            return Ok(true);
        }
        if !self.connection.is_autocommit() {
            self.run("COMMIT", [])?;
        }
        self.connection.execute_batch("VACUUM").map_err(failed)?;
        let done = self.scrub()?;
        if done {
            self.run("UPDATE erasures SET scrubbed = 1 WHERE scrubbed = 0", [])?;
        }
        Ok(done)
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
    pub fn close(mut self) -> Result<(), StoreError> {
        self.vacuum()?;
        if !self.connection.is_autocommit() {
            self.run("COMMIT", [])?;
        }
        let Self { mut connection, writer } = self;
        connection.wal_hook(None::<fn(&mut _, _) -> _>).map_err(failed)?;
        // Its thread has ended then, and with it the other connection.
        drop(writer);
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE").map_err(failed)?;
        connection.close().map_err(|(_, error)| failed(error))
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
        Self::new(connection)
    }

    fn new(connection: Connection) -> Result<Self, StoreError> {
        // Else a plan is made anew for each value that is bound, where a partial index might fit that value.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self { connection, writer: None })
    }

    fn begin(&self) -> Result<(), StoreError> {
        if self.writer.is_some() && self.connection.is_autocommit() {
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

    fn calls(&self, sql: &str, params: impl Params) -> Result<Vec<CallId>, StoreError> {
        self.begin()?;
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement.query_map(params, call).and_then(Iterator::collect).map_err(failed)
    }

    fn recent(&self) -> Option<Ref<'_, Recent>> {
        self.writer.as_ref().map(|writer| writer.recent.borrow())
    }

    fn orphaned(&self) -> Result<bool, StoreError> {
        Ok(self.one("SELECT 1 FROM orphans LIMIT 1", [], |_| Ok(()))?.is_some())
    }

    fn wall(&self, sql: &str, params: impl Params) -> Result<Option<Wall>, StoreError> {
        Ok(self.one(sql, params, |row| row.get::<_, Option<i64>>(0))?.flatten().map(Wall::from_micros))
    }
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
        let Some(writer) = &self.writer else { return Err(StoreError("it is open for reading alone".into())) };
        let done = put::put(self, &changes, &writer.recent.borrow()).and_then(|octets| self.run("COMMIT", []).map(|()| octets));
        let octets = match done {
            Ok(octets) => octets,
            Err(error) => {
                if !self.connection.is_autocommit() {
                    self.run("ROLLBACK", [])?;
                }
                return Err(error);
            }
        };
        let gone = !changes.adopted.is_empty() || changes.swept.is_some();
        if let Some(writer) = &mut self.writer {
            writer.orphaned |= !changes.orphans.is_empty();
            let recent = writer.recent.get_mut();
            let records = changes.records.into_values().zip(octets.records);
            records.for_each(|((record, _), octets)| recent.keep_record(record, octets));
            changes.writes.into_values().zip(octets.writes).for_each(|(write, octets)| recent.keep_write(write, octets));
        }
        // Behind the rest: were this to fail, what is kept must be what was committed all the same.
        if gone {
            let orphaned = self.orphaned()?;
            self.writer.iter_mut().for_each(|writer| writer.orphaned = orphaned);
        }
        Ok(())
    }

    fn record(&self, call: CallId) -> Result<Option<Record>, StoreError> {
        match self.recent().and_then(|recent| recent.record(call).cloned()) {
            Some(record) => Ok(Some(record)),
            None => self.document("SELECT document FROM records WHERE call_id = ?1", [key(&call)]),
        }
    }

    fn take_record(&self, call: CallId) -> Result<Option<Record>, StoreError> {
        match self.writer.as_ref().and_then(|writer| writer.recent.borrow_mut().take_record(call)) {
            Some(record) => Ok(Some(record)),
            None => self.record(call),
        }
    }

    fn knows(&self, call: CallId) -> Result<bool, StoreError> {
        let recently = self.recent().is_some_and(|recent| recent.record(call).is_some());
        Ok(recently || self.one("SELECT 1 FROM records WHERE call_id = ?1", [key(&call)], |_| Ok(()))?.is_some())
    }

    fn named(&self, name: &str) -> Result<Option<CallId>, StoreError> {
        self.one("SELECT call_id FROM names WHERE name = ?1", [name], call)
    }

    fn write(&self, crm: &str, call: CallId) -> Result<Option<Write>, StoreError> {
        match self.recent().and_then(|recent| recent.write(crm, call).cloned()) {
            Some(write) => Ok(Some(write)),
            None => self.document("SELECT document FROM writes WHERE call_id = ?1 AND crm = ?2", params![key(&call), crm]),
        }
    }

    fn take_write(&self, crm: &str, call: CallId) -> Result<Option<Write>, StoreError> {
        match self.writer.as_ref().and_then(|writer| writer.recent.borrow_mut().take_write(crm, call)) {
            Some(write) => Ok(Some(write)),
            None => self.write(crm, call),
        }
    }

    fn writes(&self, call: CallId) -> Result<Vec<Write>, StoreError> {
        self.documents("SELECT document FROM writes WHERE call_id = ?1 ORDER BY crm", [key(&call)])
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
        if self.writer.as_ref().is_some_and(|writer| !writer.orphaned) {
            return Ok(Vec::new());
        }
        self.documents("SELECT document FROM orphans WHERE name = ?1 ORDER BY rowid", [name])
    }

    fn unmatched(&self, most: usize) -> Result<Vec<Payload>, StoreError> {
        let orphans = self.documents::<Orphan>("SELECT document FROM orphans ORDER BY rowid DESC LIMIT ?1", [number(most)])?;
        Ok(orphans.into_iter().map(|orphan| orphan.payload).collect())
    }

    fn due(&self, crm: &str, at: Wall, traffic: Traffic, most: usize, taken: impl Fn(CallId) -> bool) -> Result<Vec<Write>, StoreError> {
        let mut calls = Vec::new();
        for backlog in [false, true].into_iter().filter(|backlog| !backlog || traffic == Traffic::All) {
            self.begin()?;
            let mut statement = self.connection.prepare_cached(DUE).map_err(failed)?;
            let mut rows = statement.query_map(params![crm, backlog, at.as_micros()], call).map_err(failed)?;
            while calls.len() < most
                && let Some(call) = rows.next().transpose().map_err(failed)?
            {
                calls.extend(Some(call).filter(|call| !taken(*call)));
            }
        }
        calls.into_iter().filter_map(|call| self.write(crm, call).transpose()).collect()
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
        let sql = "SELECT call_id FROM records WHERE wait IS NOT NULL AND wait <= ?1 ORDER BY call_id LIMIT ?2";
        let calls = self.calls(sql, params![at.as_micros(), number(most)])?;
        calls.into_iter().filter_map(|call| self.record(call).transpose()).collect()
    }

    fn next_wait(&self) -> Result<Option<Wall>, StoreError> {
        self.wall("SELECT MIN(wait) FROM records WHERE wait IS NOT NULL", [])
    }

    fn pulls_due(&self, source: &str, at: Wall, most: usize) -> Result<Vec<CallId>, StoreError> {
        self.calls(PULLS_DUE, params![source, at.as_micros(), number(most)])
    }

    fn pull(&self, source: &str, call: CallId) -> Result<Option<Wall>, StoreError> {
        self.wall("SELECT due FROM pulls WHERE source = ?1 AND call_id = ?2", params![source, key(&call)])
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
        let sql = "SELECT document FROM records WHERE call_id >= ?1 AND call_id > ?2 ORDER BY call_id LIMIT ?3";
        self.documents(sql, params![key(&CallId::first_of(at)), behind(&after), number(most)])
    }

    fn writes_of(&self, crm: &str, after: Option<CallId>, most: usize) -> Result<Vec<Write>, StoreError> {
        let sql = "SELECT document FROM writes WHERE crm = ?1 AND call_id > ?2 ORDER BY call_id LIMIT ?3";
        self.documents(sql, params![crm, behind(&after), number(most)])
    }

    fn of_number(&self, digits: &str, most: usize) -> Result<Vec<Record>, StoreError> {
        let sql =
            "SELECT document FROM records WHERE call_id IN (SELECT call_id FROM numbers WHERE number = ?1) ORDER BY call_id DESC LIMIT ?2";
        self.documents(sql, params![digits, number(most)])
    }

    fn prunable(&self, before: Wall, after: Option<CallId>, most: usize) -> Result<Vec<Record>, StoreError> {
        self.documents(PRUNABLE, params![behind(&after), key(&CallId::first_of(before)), number(most)])
    }

    fn is_pruned(&self, call: CallId) -> Result<bool, StoreError> {
        if let Some(pruned) = self.recent().and_then(|recent| recent.record(call).map(Record::is_pruned)) {
            return Ok(pruned);
        }
        let found = self.one("SELECT over = 2 FROM records WHERE call_id = ?1", [key(&call)], |row| row.get(0))?;
        Ok(found.unwrap_or(false))
    }

    fn older_of_number(&self, digits: &str, call: CallId, most: usize) -> Result<Vec<CallId>, StoreError> {
        let sql = "SELECT call_id FROM numbers WHERE number = ?1 AND call_id < ?2 ORDER BY call_id LIMIT ?3";
        self.calls(sql, params![digits, key(&call), number(most)])
    }

    fn hold(&self, call: CallId) -> Result<Option<Hold>, StoreError> {
        self.document("SELECT document FROM holds WHERE call_id = ?1", [key(&call)])
    }

    fn holds(&self, most: usize) -> Result<Vec<Hold>, StoreError> {
        self.documents("SELECT document FROM holds WHERE held = 1 ORDER BY at, call_id LIMIT ?1", [number(most)])
    }

    fn held(&self) -> Result<usize, StoreError> {
        let found = self.one("SELECT COUNT(*) FROM holds WHERE held = 1", [], |row| row.get::<_, i64>(0))?;
        Ok(found.and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
    }

    fn erasure(&self, call: CallId) -> Result<Option<Erasure>, StoreError> {
        self.document("SELECT document FROM erasures WHERE call_id = ?1", [key(&call)])
    }

    fn erasures(&self, most: usize) -> Result<Vec<Erasure>, StoreError> {
        self.documents("SELECT document FROM erasures ORDER BY at DESC, call_id DESC LIMIT ?1", [number(most)])
    }

    fn erased(&self) -> Result<usize, StoreError> {
        let found = self.one("SELECT COUNT(*) FROM erasures", [], |row| row.get::<_, i64>(0))?;
        Ok(found.and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
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

/// Copies the log back and cuts it off; false where somebody is in the way.
fn scrub(connection: &Connection) -> Result<bool, StoreError> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(failed)?;
    Ok(busy == 0)
}

// Asked again and again, with a million rows that wait: each by an index, in its order (`the_queue_is_read_in_the_order_of_an_index`).
const DUE: &str =
    "SELECT call_id FROM writes WHERE crm = ?1 AND backlog = ?2 AND state IN ('queued', 'retrying') AND due <= ?3 ORDER BY due, call_id";
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
