//! The tables, and their version.

/// Rises with each change of [`SCHEMA`] or of what a document holds.
pub(super) const VERSION: i64 = 15;
/// Pages of 16 kB: documents are of some kB, and appending in time order fills them. 16 MB of them in memory hold the ends of all tables, where calls that go on
/// are. What is deleted is overwritten in its page, which costs nothing that could be measured: what retention takes away must not stand on in the file.
pub(super) const SCHEMA: &str = "
PRAGMA page_size=16384;
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
PRAGMA busy_timeout=2000;
PRAGMA cache_size=-16384;
PRAGMA secure_delete=ON;
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS records (call_id BLOB PRIMARY KEY, over INTEGER NOT NULL, wait INTEGER, document TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_wait ON records (wait) WHERE wait IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_prunable ON records (call_id) WHERE over = 1 AND wait IS NULL;
CREATE INDEX IF NOT EXISTS records_open ON records (call_id) WHERE over = 0;
CREATE TABLE IF NOT EXISTS writes (call_id BLOB NOT NULL, crm TEXT NOT NULL, state TEXT NOT NULL, backlog INTEGER NOT NULL, due INTEGER NOT NULL,
    since INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (call_id, crm)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS writes_waiting ON writes (crm, backlog, due, call_id) WHERE state IN ('queued', 'retrying');
CREATE INDEX IF NOT EXISTS writes_standing ON writes (state, since, call_id) WHERE state <> 'done';
CREATE TABLE IF NOT EXISTS spent (crm TEXT NOT NULL, day INTEGER NOT NULL, spent INTEGER NOT NULL, PRIMARY KEY (crm, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS activations (crm TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pulls (source TEXT NOT NULL, call_id BLOB NOT NULL, due INTEGER NOT NULL, PRIMARY KEY (source, call_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pulls_due ON pulls (source, due, call_id);
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, call_id BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (call_id BLOB PRIMARY KEY, held INTEGER NOT NULL, at INTEGER NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS holds_standing ON holds (at, call_id) WHERE held = 1;
CREATE TABLE IF NOT EXISTS erasures (call_id BLOB PRIMARY KEY, at INTEGER NOT NULL, scrubbed INTEGER NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS erasures_at ON erasures (at, call_id);
CREATE INDEX IF NOT EXISTS erasures_standing ON erasures (call_id) WHERE scrubbed = 0;
CREATE TABLE IF NOT EXISTS swept (one INTEGER PRIMARY KEY, before INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS numbers (number TEXT NOT NULL, call_id BLOB NOT NULL, PRIMARY KEY (number, call_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, hash TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orphans (name TEXT NOT NULL, came INTEGER NOT NULL, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS orphans_name ON orphans (name);
CREATE TABLE IF NOT EXISTS asides (segment INTEGER NOT NULL, offset INTEGER NOT NULL, came INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (segment, offset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS drifts (key TEXT PRIMARY KEY, last INTEGER NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
";
