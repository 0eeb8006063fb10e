//! TCP between the phones and the gateway: what is lost comes late, what is sent comes in order, and a reset ends both sides.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::{sip::endpoint::ConnectionId, time::Instant};

/// A connection: the life that has its one end, and that end's id there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pipe {
    pub(super) life: u32,
    pub(super) gateway: ConnectionId,
}

/// The phone's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct PhoneEnd {
    pub(super) at: SocketAddr,
    pub(super) connection: ConnectionId,
    /// When the last octets on their way arrive, to the gateway and to the phone.
    to_gateway: Instant,
    to_phone: Instant,
}

/// All that stand.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    all: BTreeMap<Pipe, PhoneEnd>,
    opened: u64,
}

/// Ends that did not open a connection number it from here; those who did, from below.
const ACCEPTED: u64 = 1 << 40;

impl Pipes {
    /// A phone opens one to a life.
    pub(super) fn phone_opens(&mut self, life: u32, at: SocketAddr, connection: ConnectionId, now: Instant) -> Pipe {
        self.opened += 1;
        let pipe = Pipe { life, gateway: ACCEPTED + self.opened };
        self.all.insert(pipe, PhoneEnd { at, connection, to_gateway: now, to_phone: now });
        pipe
    }

    /// The gateway opens one to a phone.
    pub(super) fn gateway_opens(&mut self, pipe: Pipe, at: SocketAddr, now: Instant) {
        self.opened += 1;
        self.all.insert(pipe, PhoneEnd { at, connection: ACCEPTED + self.opened, to_gateway: now, to_phone: now });
    }

    pub(super) fn phone(&self, pipe: Pipe) -> Option<PhoneEnd> {
        self.all.get(&pipe).copied()
    }

    /// The connection that a phone knows by that id.
    pub(super) fn of_phone(&self, at: SocketAddr, connection: ConnectionId) -> Option<Pipe> {
        self.all.iter().find(|(_, end)| end.at == at && end.connection == connection).map(|(pipe, _)| *pipe)
    }

    /// When octets arrive that would by themselves arrive at `at`: after those before them.
    pub(super) fn arrival(&mut self, pipe: Pipe, to_gateway: bool, at: Instant) -> Option<Instant> {
        let end = self.all.get_mut(&pipe)?;
        let last = if to_gateway { &mut end.to_gateway } else { &mut end.to_phone };
        *last = at.max(*last);
        Some(*last)
    }

    /// It is gone.
    pub(super) fn close(&mut self, pipe: Pipe) -> Option<PhoneEnd> {
        self.all.remove(&pipe)
    }

    /// Those of a life, or all.
    pub(super) fn of(&self, life: Option<u32>) -> Vec<Pipe> {
        self.all.keys().filter(|pipe| life.is_none_or(|life| pipe.life == life)).copied().collect()
    }
}
