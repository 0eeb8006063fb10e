//! offhook: a telephony edge gateway for voice AI.
//!
//! It stands between a carrier's SIP trunk (or an existing IVR) and a voice-AI platform reached over SIP, bridges the call,
//! masks card data at capture, and turns every call into exactly one CRM record.
//!
//! # The map
//! Each room imports only rooms below it (`tests/architecture.rs` keeps that). Everything outside `shell`, `driver`, `config`
//! and `cli` is pure: time and bytes are arguments, what to do comes out as values.
//!
//! | room | what it is |
//! |---|---|
//! | `cli` | one file a subcommand: arguments in, exit code out |
//! | [`driver`] | who turns the crank: `live` (tokio), `replay` (a capture), `sim` (a seeded world) |
//! | `config` | reads TOML and environment once; errors with line and hint |
//! | `shell` | every side effect: sockets, disk, store, files, HTTP, clock, telemetry |
//! | [`gateway`] | the signalling machine: demultiplexes, admits, emits events |
//! | [`call`] | one call: its legs, its life from INVITE to terminal event |
//! | [`pipeline`] | the write-back machine: raw event, call record, mapped fields, due writes |
//! | [`crm`] | connectors as pure translators: a change becomes a request, an answer a verdict |
//! | [`journal`] | framing, batching and recovery of the log: bytes in, bytes out |
//! | [`media`] | the packet machine: relay, transcode, digits, silence, gate, recorder tap |
//! | [`recording`] | file layout and sidecar: bytes in, bytes out |
//! | [`event`] | what happened on a call: the wall between telephony and CRM |
//! | [`sip`] [`sdp`] [`rtp`] [`route`] | protocols, and the plan of whom to try next |
//! | [`codec`] [`detect`] [`dtmf`] [`pcap`] [`chance`] [`time`] | ground: samples, detectors, digits, captures, chance, time |
//!
//! # Three machines that talk by values
//! [`gateway`] and [`pipeline`] decide slowly and rarely, [`media`] fifty times a second a call. Each has the same three verbs:
//! hand it what happened and when, drain what it wants done, ask when it must be woken.
//!
//! # Three kinds of time
//! [`time::Instant`] is monotonic and drives timers; [`time::Wall`] stamps events; an RTP timestamp counts a stream's own ticks.

pub mod call;
pub mod chance;
#[cfg(feature = "shell")]
pub mod cli;
pub mod codec;
#[cfg(feature = "shell")]
pub mod config;
pub mod crm;
pub mod detect;
pub mod driver;
pub mod dtmf;
pub mod event;
pub mod gateway;
pub mod journal;
pub mod media;
pub mod pcap;
pub mod pipeline;
pub mod recording;
pub mod route;
pub mod rtp;
pub mod sdp;
#[cfg(feature = "shell")]
pub mod shell;
pub mod sip;
pub mod time;
