//! A call's recording as bytes: where each sample lies, what is masked, what the sidecar says.
//!
//! Stereo WAV of 16 bits, the caller left, the platform right. A machine that knows no file: packets and marks go in
//! ([`Timeline`]), writes at offsets come out ([`Write`]). What a secure phase covers is silence in both channels, of the same length.

pub mod manifest;
pub mod picture;
mod timeline;
pub mod wav;

pub use manifest::{Manifest, Masked};
pub use timeline::{Timeline, Write};
