//! Who turns the crank: the live gateway, a capture's own time, a seeded world.

#[cfg(feature = "shell")]
pub mod demo;
pub mod ladder;
#[cfg(feature = "shell")]
pub mod live;
pub mod replay;
