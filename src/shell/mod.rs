//! Every side effect and nothing else: what an output says is done, what the world answers becomes an input.
//!
//! | file | what it touches |
//! |---|---|
//! | [`clock`] | the operating system's clocks: one monotonic origin, wall stamps that never run back |
//! | [`net`] | SIP over UDP and TCP: bytes in, bytes out |
//! | [`media_io`] | RTP sockets and the threads that carry media |
//! | [`picture`] | fonts of the machine: SVG to PNG |
//! | [`recorder`] | the thread that writes recordings |
//! | [`disk`] | the journal's segments: write, sync, read behind the watermark |
//! | [`store`] | what the pipeline folded: SQLite and its twin in memory |
//! | [`files`] | small files of the data directory: lock, probes, private files |
//! | [`secrets`] | keys and tokens: read once, rotated ones kept |
//! | [`quarantine`] | webhooks with a wrong signature, sealed |
//! | [`http`] | the API, webhooks in, and the client for CRMs |
//! | [`sandbox`] | a CRM's double on a socket, with its ledger |
//! | [`recent_times`] | how long something took in the last minutes |
//! | [`telemetry`] | logs to standard error, metrics |
//!
//! An `if` about SIP or CRM in here is a guest in the wrong room.

pub mod clock;
pub mod disk;
pub mod files;
pub mod http;
pub mod media_io;
pub mod net;
pub mod picture;
pub mod quarantine;
pub mod recent_times;
pub mod recorder;
pub mod sandbox;
pub mod secrets;
pub mod store;
pub mod telemetry;
