//! The machine: commands and packets in, packets and reports out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{
    Command, Report, Stats, Tap,
    call::{Call, Exit, Outputs, port_of},
    leg::LegMedia,
};
use crate::{
    chance::Chance,
    event::{CallId, Leg},
    time::Instant,
};

/// A port of the machine's: one leg of one call. What sockets are kept under, and packets come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

/// Where packets go: sockets and the recorder's queue, or a test.
pub trait Wire {
    /// Sends a packet from a port.
    fn send(&mut self, port: Port, to: SocketAddr, packet: &[u8]);
    /// Hands something to the recorder; false when it cannot take it.
    fn tap(&mut self, tap: Tap) -> bool;
}

/// What the machine wants done beside packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Bind a socket; answer with [`Media::handle_bound`].
    Bind {
        /// The port.
        port: Port,
        /// Its address.
        local: SocketAddr,
    },
    /// Close the port's socket.
    Unbind {
        /// The port.
        port: Port,
    },
    /// Tell the gateway.
    Report(Report),
}

/// How the machine is set up.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// A planted fault: the gate of media and recorder stays open although it is said to be shut.
    #[cfg(feature = "planted-faults")]
    pub mask_off: bool,
}

/// The media of many calls.
#[derive(Debug)]
pub struct Media {
    chance: Chance,
    config: Config,
    slots: Vec<Option<Call>>,
    free: Vec<u32>,
    by_call: BTreeMap<CallId, u32>,
    wakes: BTreeSet<(Instant, u32)>,
    outputs: Outputs,
}

impl Media {
    /// A machine without calls.
    pub const fn new(config: Config, chance: Chance) -> Self {
        Self {
            chance,
            config,
            slots: Vec::new(),
            free: Vec::new(),
            by_call: BTreeMap::new(),
            wakes: BTreeSet::new(),
            outputs: Outputs::new(),
        }
    }

    /// Calls that it holds.
    pub fn calls(&self) -> usize {
        self.by_call.len()
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Signalling wants something. A call that is not known is made by [`Command::Open`] alone.
    pub fn handle_command(&mut self, now: Instant, command: Command, wire: &mut impl Wire) {
        if let Command::Open { call, leg, local } = command {
            let slot = self.slot_of(call);
            if let Some(call) = self.call(slot) {
                let port = port_of(slot, leg);
                if call.leg(leg).open {
                    self.outputs.push_back(Output::Unbind { port });
                }
                self.replace_leg(slot, leg);
                self.outputs.push_back(Output::Bind { port, local });
            }
            return;
        }
        let id = command.call();
        let Some(slot) = self.by_call.get(&id).copied() else {
            // Asked and answered all the same, so that nobody waits for a call that is gone.
            if let Command::End { call } = command {
                self.report(Report::Ended { call, stats: Stats::default() });
            }
            return;
        };
        match command {
            Command::Open { .. } => {}
            Command::Close { leg, .. } => {
                self.outputs.push_back(Output::Unbind { port: port_of(slot, leg) });
                self.replace_leg(slot, leg);
                if let Some(call) = self.call_mut(slot) {
                    call.leg_mut(leg.other()).out.anew();
                }
            }
            Command::End { .. } => self.end(now, slot, wire),
            other => {
                let Some(call) = self.slots.get_mut(index(slot)).and_then(Option::as_mut) else { return };
                call.command(now, other, &mut self.outputs, wire);
            }
        }
        self.rearm(slot);
    }

    /// The answer to [`Output::Bind`].
    pub fn handle_bound(&mut self, port: Port, bound: Result<(), String>) {
        let (slot, leg) = leg_of(port);
        let Some(call) = self.call_mut(slot) else { return };
        let id = call.id;
        call.leg_mut(leg).open = bound.is_ok();
        self.report(match bound {
            Ok(()) => Report::Opened { call: id, leg },
            Err(why) => Report::BindFailed { call: id, leg, why },
        });
    }

    /// A packet came to a port. It is edited in place and sent on, or not.
    pub fn handle_packet(&mut self, now: Instant, port: Port, from: SocketAddr, packet: &mut [u8], wire: &mut impl Wire) {
        let (slot, leg) = leg_of(port);
        let Some(call) = self.slots.get_mut(index(slot)).and_then(Option::as_mut) else { return };
        if call.packet(now, leg, from, packet, &mut Exit { outputs: &mut self.outputs, wire }) {
            self.rearm(slot);
        }
    }

    /// Time has come for something.
    pub fn handle_timeout(&mut self, now: Instant, wire: &mut impl Wire) {
        while let Some((at, slot)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, slot));
            let Some(call) = self.slots.get_mut(index(slot)).and_then(Option::as_mut) else { continue };
            call.wake = None;
            call.timeout(now, &mut self.outputs, wire);
            self.rearm(slot);
        }
    }

    /// Whether the gate really hides; a planted fault may say otherwise.
    const fn masks(&self) -> bool {
        #[cfg(feature = "planted-faults")]
        return !self.config.mask_off;
        #[cfg(not(feature = "planted-faults"))]
        {
            let _ = &self.config;
            true
        }
    }

    fn slot_of(&mut self, id: CallId) -> u32 {
        if let Some(slot) = self.by_call.get(&id) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let call = Call::new(id, slot, self.masks(), &mut self.chance);
        if let Some(place) = self.slots.get_mut(index(slot)) {
            *place = Some(call);
        }
        self.by_call.insert(id, slot);
        slot
    }

    fn replace_leg(&mut self, slot: u32, leg: Leg) {
        let new = LegMedia::new(&mut self.chance);
        if let Some(call) = self.call_mut(slot) {
            *call.leg_mut(leg) = new;
        }
    }

    fn end(&mut self, now: Instant, slot: u32, wire: &mut impl Wire) {
        let Some(call) = self.slots.get_mut(index(slot)).and_then(Option::take) else { return };
        if let Some(wake) = call.wake {
            self.wakes.remove(&(wake, slot));
        }
        self.by_call.remove(&call.id);
        self.free.push(slot);
        call.end(now, &mut self.outputs, wire);
    }

    fn rearm(&mut self, slot: u32) {
        let Some(call) = self.slots.get_mut(index(slot)).and_then(Option::as_mut) else { return };
        let wanted = call.next_timeout();
        if wanted != call.wake {
            if let Some(old) = call.wake {
                self.wakes.remove(&(old, slot));
            }
            call.wake = wanted;
            self.wakes.extend(wanted.map(|at| (at, slot)));
        }
    }

    fn call(&self, slot: u32) -> Option<&Call> {
        self.slots.get(index(slot))?.as_ref()
    }

    fn call_mut(&mut self, slot: u32) -> Option<&mut Call> {
        self.slots.get_mut(index(slot))?.as_mut()
    }

    fn report(&mut self, report: Report) {
        self.outputs.push_back(Output::Report(report));
    }
}

fn index(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

const fn leg_of(port: Port) -> (u32, Leg) {
    (port.0 / 2, if port.0.is_multiple_of(2) { Leg::Caller } else { Leg::Callee })
}

impl Command {
    /// Whose it is.
    pub const fn call(&self) -> CallId {
        match self {
            Self::Open { call, .. }
            | Self::Agree { call, .. }
            | Self::Bridge { call, .. }
            | Self::Close { call, .. }
            | Self::Digit { call, .. }
            | Self::Secure { call, .. }
            | Self::Keys { call, .. }
            | Self::Watch { call, .. }
            | Self::Record { call, .. }
            | Self::Unrecord { call }
            | Self::PassAudio { call, .. }
            | Self::End { call } => *call,
        }
    }
}
