//! The wire of media that runs in the driver's own thread: what it sends while it is asked something, for whoever asked to send on.

use std::net::SocketAddr;

use crate::{
    event::CallId,
    media::{Port, Tap, Wire},
    time::Instant,
};

/// A secure phase's beginning or end in the recorder's order, to be confirmed: the call, the number of the ask, whether it begins, and when.
pub(super) type Mark = (CallId, u32, bool, Instant);

/// What media put out.
#[derive(Default)]
pub(super) struct Collected {
    /// Packets: from which port, and to whom.
    pub(super) sent: Vec<(Port, SocketAddr, Vec<u8>)>,
    /// Marks that somebody waits for.
    pub(super) marks: Vec<Mark>,
}

impl Wire for Collected {
    fn send(&mut self, port: Port, to: SocketAddr, packet: &[u8]) {
        self.sent.push((port, to, packet.to_vec()));
    }

    fn tap(&mut self, tap: Tap) -> bool {
        if let Tap::Secure { call, ask, on, at, .. } = tap
            && ask != 0
        {
            self.marks.push((call, ask, on, at));
        }
        true
    }
}
