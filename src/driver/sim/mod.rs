//! A seeded world in one thread on virtual time: callers, platforms, the gateway's three machines, the journal's disk and a CRM, all of which fail on
//! purpose; and the checks that must hold whatever happens.
//!
//! ```text
//! phones ─ network (loss, doubles, order, delay, partition) ─ gateway ⇄ media      channels between the machines: delayed by seed
//!                                                                │
//!                                            disk (torn, unsynced, fsync error) ─ journal ─ pipeline ─ CRM (5xx, 429, lost answers, ended tokens)
//! ```
//! The same seed gives the same run, octet by octet. Whatever goes wrong is found by [`check`], which shares no code with what it checks.

mod check;
mod crm;
mod disk;
mod dress;
mod life;
mod network;
mod phone;
mod pipes;
mod script;
mod world;

#[cfg(test)]
mod tests;

pub use check::Failure;
pub use world::{Options, Plant, Run, run};
