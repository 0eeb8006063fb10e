//! Capture files: pcap and pcapng, and what a frame of them carries as far as UDP and TCP.
//!
//! Bytes in, values out, in pieces of any size: a file need not fit into memory. Nothing in it is trusted: a length that does not fit ends the reading
//! and says where.

mod file;
mod fragments;
mod packet;
#[cfg(test)]
mod tests;

pub use file::{Frame, Reader, Stopped};
pub use fragments::Datagrams;
pub use packet::{Packet, Transport};
