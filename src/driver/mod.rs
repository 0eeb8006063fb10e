//! Who turns the crank: the live gateway, a capture's own time, one message in hand, a seeded world.

#[cfg(feature = "shell")]
pub mod demo;
#[cfg(feature = "shell")]
pub mod drill;
pub mod inspect;
pub mod ladder;
#[cfg(feature = "shell")]
pub mod live;
pub mod replay;
#[cfg(feature = "shell")]
pub mod setup;
pub mod sim;
mod unwritten;
mod wire;
