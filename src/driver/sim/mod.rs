//! A seeded world in one thread on virtual time: callers, platforms, the gateway's three machines, the journal's disk and a CRM, all of which fail on
//! purpose; and the checks that must hold whatever happens.
//!
//! ```text
//! phones ─ network (loss, doubles, order, delay, partition, reset) ─ gateway ⇄ media      channels between the machines: delayed by seed
//!                                                                │
//!                             disk (torn, unsynced, fsync error, full) ─ journal ─ pipeline ─ CRM (5xx, 429, refusals, lost answers, ended tokens)
//! ```
//! Half of the phones say what PJSUA and SIPp said (`dress`).
//! The same seed gives the same run, octet by octet. Whatever goes wrong is found by [`check`], which shares no code with what it checks.

mod check;
mod crm;
mod disk;
mod dress;
mod life;
mod network;
mod outside;
mod phone;
mod pipes;
mod plant;
mod script;
mod world;

#[cfg(test)]
mod tests;

pub use check::Failure;
pub use plant::Plant;
pub use world::{Options, Run, run};
