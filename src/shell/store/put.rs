//! What a commit writes: row by row what has changed.

use rusqlite::params;

use super::{Recent, Sqlite, json, key, number};
use crate::{
    journal::Position,
    pipeline::{
        Record, StoreError,
        store::{Changes, Write},
    },
    time::Wall,
};

/// The octets of each record and each write, in their order among the changes.
pub(super) struct Octets {
    pub(super) records: Vec<usize>,
    pub(super) writes: Vec<usize>,
}

/// Writes `changes` within the transaction under way. `recent`: what was committed before them.
pub(super) fn put(store: &Sqlite, changes: &Changes, recent: &Recent) -> Result<Octets, StoreError> {
    let mut octets = Octets { records: Vec::with_capacity(changes.records.len()), writes: Vec::with_capacity(changes.writes.len()) };
    let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| store.run(sql, params);
    if let Some(before) = changes.swept {
        sweep(store, before)?;
    }
    for (record, wait) in changes.records.values() {
        octets.records.push(put_record(store, record, *wait, recent)?);
    }
    for write in changes.writes.values() {
        let Write { crm, call_id, state, backlog, due, since, .. } = write;
        let document = json(write)?;
        octets.writes.push(document.len());
        run(PUT_WRITE, params![key(call_id), crm, state.name(), backlog, due.as_micros(), since.as_micros(), document])?;
    }
    for ((source, call), due) in &changes.pulls {
        match due {
            Some(due) => {
                let due = due.as_micros();
                run("INSERT OR REPLACE INTO pulls (source, call_id, due) VALUES (?1, ?2, ?3)", params![source, key(call), due])?;
            }
            None => run("DELETE FROM pulls WHERE source = ?1 AND call_id = ?2", params![source, key(call)])?,
        }
    }
    for (name, call) in &changes.names {
        run("INSERT OR REPLACE INTO names (name, call_id) VALUES (?1, ?2)", params![name, key(call)])?;
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
    for (call, hold) in &changes.holds {
        let (held, at) = (hold.held, hold.at.as_micros());
        run(
            "INSERT OR REPLACE INTO holds (call_id, held, at, document) VALUES (?1, ?2, ?3, ?4)",
            params![key(call), held, at, json(hold)?],
        )?;
    }
    for (call, erasure) in &changes.erasures {
        let at = erasure.at.as_micros();
        run(
            "INSERT OR REPLACE INTO erasures (call_id, at, scrubbed, document) VALUES (?1, ?2, 0, ?3)",
            params![key(call), at, json(erasure)?],
        )?;
    }
    if let Some(Position { segment, offset }) = changes.position {
        run("INSERT OR REPLACE INTO position (one, segment, offset) VALUES (1, ?1, ?2)", params![number(segment), number(offset)])?;
    }
    Ok(octets)
}

/// Its octets.
fn put_record(store: &Sqlite, record: &Record, wait: Option<Wall>, recent: &Recent) -> Result<usize, StoreError> {
    let call = key(&record.call_id);
    let numbers = record.numbers();
    if record.is_pruned() {
        store.run("DELETE FROM writes WHERE call_id = ?1", params![call])?;
        let held = store.document::<Record>("SELECT document FROM records WHERE call_id = ?1", params![call])?;
        for number in held.map(|record| record.numbers()).unwrap_or_default() {
            store.run("DELETE FROM numbers WHERE number = ?1 AND call_id = ?2", params![number, call])?;
        }
    }
    let document = json(record)?;
    store.run(PUT_RECORD, params![call, stands(record), wait.map(Wall::as_micros), document])?;
    // They come with its first event and stay: what stands there already is not looked up for each further one.
    if !recent.has_numbers(record.call_id, &numbers) {
        for number in numbers {
            store.run("INSERT OR IGNORE INTO numbers (number, call_id) VALUES (?1, ?2)", params![number, call])?;
        }
    }
    Ok(document.len())
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

// Not REPLACE, which takes a row out of every index and puts it back.
const PUT_WRITE: &str = "INSERT INTO writes (call_id, crm, state, backlog, due, since, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (call_id, crm) DO UPDATE SET state = excluded.state, backlog = excluded.backlog, due = excluded.due, since = excluded.since,
    document = excluded.document";
const PUT_RECORD: &str = "INSERT INTO records (call_id, over, wait, document) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (call_id) DO UPDATE SET over = excluded.over, wait = excluded.wait, document = excluded.document";
