//! One file a subcommand: arguments in, exit code out.
//!
//! Standard output carries what was asked for, standard error progress and logs. Exit status: 0 all well, 1 a check failed,
//! 2 wrong use or unreadable input.

pub mod batch;
pub mod check;
pub mod crm;
pub mod demo;
pub mod drill;
mod gateway;
pub mod inspect;
pub mod journal;
mod kept;
pub mod mapping;
pub mod queue;
pub mod rebuild;
pub mod reconcile;
pub mod recover;
pub mod replay;
pub mod retention;
pub mod review;
pub mod sandbox;
pub mod serve;
pub mod simulate;
pub mod webhooks;
mod who;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// offhook stands between a SIP trunk and a voice-AI platform: it bridges the call, masks card data at capture, and writes one
/// correct CRM record for it.
#[derive(Debug, Parser)]
#[command(name = "offhook", version, max_term_width = 110, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "Start with `offhook demo`: five calls on this machine, no account or configuration needed.")]
struct Offhook {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play five calls on this machine and show what was verified.
    Demo(demo::Args),
    /// Rehearse what goes wrong, with kills and a failing CRM, and prove that nothing is lost or doubled.
    Drill(drill::Args),
    /// Run the gateway for real peers.
    Serve(serve::Args),
    /// Name every fault of a configuration and of the machine, with what to do.
    Check(check::Args),
    /// Tell what the gateway makes of a SIP message.
    Inspect(inspect::Args),
    /// Look into the journal: verify, cat, export, salvage.
    Journal(journal::Args),
    /// Check, compare, try out and sign a mapping.
    Mapping(mapping::Args),
    /// Show the CRM writes that are not done, try them again or drop them.
    Queue(queue::Args),
    /// Mend and send what a CRM refused.
    Review(review::Args),
    /// Tell CRMs again what they should hold of every call since a time.
    Recover(recover::Args),
    /// Compare what the CRMs hold with what they were told.
    Reconcile(reconcile::Args),
    /// Tell what became of each batch, or run one now.
    Batch(batch::Args),
    /// Show the webhooks that were taken and are in no record.
    Webhooks(webhooks::Args),
    /// Hold calls, so that nothing of them is taken away, release them, or erase them at once.
    Retention(retention::Args),
    /// Make the store anew out of the journal; sends nothing.
    Rebuild(rebuild::Args),
    /// Tell what a capture file holds, or play it against the gateway.
    Replay(replay::Args),
    /// Run a seeded world of calls, crashes and faults, and check what must hold.
    Simulate(simulate::Args),
    /// Make the fields in a CRM that a mapping needs.
    Crm(crm::Args),
    /// Serve a CRM's double on the loopback, for trying out and for tests.
    Sandbox(sandbox::Args),
}

/// Reads the command line and runs what it asks for. Wrong use ends with status 2 and help on standard error.
pub fn main() -> ExitCode {
    match Offhook::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Drill(args) => drill::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Journal(args) => journal::run(args),
        Command::Mapping(args) => mapping::run(args),
        Command::Queue(args) => queue::run(args),
        Command::Review(args) => review::run(args),
        Command::Recover(args) => recover::run(args),
        Command::Reconcile(args) => reconcile::run(args),
        Command::Batch(args) => batch::run(args),
        Command::Webhooks(args) => webhooks::run(args),
        Command::Retention(args) => retention::run(args),
        Command::Rebuild(args) => rebuild::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Crm(args) => crm::run(args),
        Command::Sandbox(args) => sandbox::run(args),
    }
}

/// All well.
pub const OK: u8 = 0;
/// A check failed.
pub const FAILED: u8 = 1;
/// Wrong use or unreadable input.
pub const WRONG_USE: u8 = 2;

/// The exit status of a command that has done something, or says on standard error why it cannot.
fn finished(command: &str, done: Result<u8, String>) -> ExitCode {
    match done {
        Ok(status) => status.into(),
        Err(why) => {
            eprintln!("offhook {command}: {why}");
            WRONG_USE.into()
        }
    }
}
