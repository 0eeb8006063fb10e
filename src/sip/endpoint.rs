//! The user agent core: octets in, requests and responses out, with framing, parsing, Via and transactions between.
//!
//! The gateway owns one; so may a phone in a test. It opens nothing: it says what to send ([`Transmit`]) and what happened
//! ([`Event`]). A request without an answer, a 2xx without its ACK and a connection that breaks each end in exactly one event.

mod client;
mod contract;
mod server;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use bytes::Bytes;

use super::{
    framing::{Frame, Framer},
    message::{Malformed, Message, Method},
    transaction::{Input, State},
};
use crate::{chance::Chance, time::Instant};

pub use contract::{ClientId, ConnectionId, Destination, Event, ListenerId, ServerId, Source, Stats, Transmit, Transport, Why};

use client::Client;
use server::{AckKey, Server, mark_source};

/// Most transactions at once; beyond it a request is answered 503 and forgotten. About 1 kB each.
const TRANSACTIONS_MAX: usize = 100_000;
/// RFC 3261 §8.1.1.7: a branch that starts so is unique.
const MAGIC_COOKIE: &str = "z9hG4bK";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Client(ClientId),
    Server(ServerId),
}

/// Where octets go.
#[derive(Clone, Copy, Debug)]
enum Flow {
    Datagram(ListenerId, SocketAddr),
    Stream(ConnectionId),
}

struct Connection {
    remote: SocketAddr,
    listener: ListenerId,
    framer: Framer,
}

/// See the module.
pub struct Endpoint {
    chance: Chance,
    next_id: u64,
    clients: BTreeMap<ClientId, Client>,
    branches: BTreeMap<(String, String), ClientId>,
    servers: BTreeMap<ServerId, Server>,
    keys: BTreeMap<String, ServerId>,
    acks: BTreeMap<AckKey, ServerId>,
    timers: BTreeSet<(Instant, Owner)>,
    connections: BTreeMap<ConnectionId, Connection>,
    peers: BTreeMap<(SocketAddr, ListenerId), ConnectionId>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Endpoint {
    /// An endpoint with nothing under way.
    pub fn new(chance: Chance) -> Self {
        Self {
            chance,
            next_id: 1,
            clients: BTreeMap::new(),
            branches: BTreeMap::new(),
            servers: BTreeMap::new(),
            keys: BTreeMap::new(),
            acks: BTreeMap::new(),
            timers: BTreeSet::new(),
            connections: BTreeMap::new(),
            peers: BTreeMap::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// What to send next.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Transactions that still live, those that only absorb retransmissions among them.
    pub fn transactions(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// Transactions that still have something to come: an answer, or the ACK to one.
    pub fn transactions_active(&self) -> usize {
        let states = self.clients.values().map(|c| c.state).chain(self.servers.values().map(|s| s.state));
        states.filter(|s| s.is_active()).count()
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Instant, listener: ListenerId, remote: SocketAddr, octets: &[u8]) {
        // Keep-alives of NAT bindings: CRLF, or a few octets of nothing (RFC 5626 §4.4, common practice).
        if octets.iter().all(|o| matches!(o, b'\r' | b'\n' | 0)) {
            return;
        }
        self.handle_message(now, octets, Source { transport: Transport::Udp, remote, listener, connection: None });
    }

    /// A stream stands: accepted, or asked for.
    pub fn handle_connected(&mut self, connection: ConnectionId, remote: SocketAddr, listener: ListenerId) {
        self.connections.entry(connection).or_insert_with(|| Connection { remote, listener, framer: Framer::default() });
        self.peers.entry((remote, listener)).or_insert(connection);
    }

    /// Octets of a stream came.
    pub fn handle_stream(&mut self, now: Instant, connection: ConnectionId, octets: &[u8]) {
        let Some(stream) = self.connections.get_mut(&connection) else { return };
        stream.framer.push(octets);
        loop {
            let Some(stream) = self.connections.get_mut(&connection) else { return };
            let source =
                Source { transport: Transport::Tcp, remote: stream.remote, listener: stream.listener, connection: Some(connection) };
            match stream.framer.next_frame() {
                Ok(Some(Frame::Message(octets))) => self.handle_message(now, &octets, source),
                Ok(Some(Frame::Ping)) => self.transmits.push_back(Transmit::Stream { connection, bytes: Bytes::from_static(b"\r\n") }),
                Ok(None) => return,
                Err(error) => {
                    self.stats.malformed += 1;
                    self.events.push_back(Event::Refused { status: None, why: error.to_string(), remote: source.remote });
                    self.transmits.push_back(Transmit::Close { connection });
                    return self.handle_closed(now, connection);
                }
            }
        }
    }

    /// A stream is gone, or could not be opened. Requests that wait for an answer over it get none (RFC 3261 §18.4).
    pub fn handle_closed(&mut self, _now: Instant, connection: ConnectionId) {
        let Some(stream) = self.connections.remove(&connection) else { return };
        let peer = (stream.remote, stream.listener);
        if self.peers.get(&peer) == Some(&connection) {
            self.peers.remove(&peer);
        }
        let waiting = |c: &Client| matches!(c.state, State::Calling { .. } | State::Trying { .. } | State::Ringing);
        let lost: Vec<ClientId> =
            self.clients.iter().filter(|(_, c)| c.connection == Some(connection) && waiting(c)).map(|(id, _)| *id).collect();
        for client in lost {
            self.remove_client(client);
            self.events.push_back(Event::Gone { client, why: Why::Transport });
        }
        self.events.push_back(Event::Disconnected { connection, remote: stream.remote });
    }

    fn handle_message(&mut self, now: Instant, octets: &[u8], source: Source) {
        match Message::parse(octets) {
            Ok(Message::Request(request)) => self.handle_request(now, request, source),
            Ok(Message::Response(response)) => self.handle_response(now, response),
            Err(Malformed { error, request }) => {
                self.stats.malformed += 1;
                // An ACK is never answered (RFC 3261 §17.1.1.3).
                let answer = request.filter(|r| r.method != Method::ACK).map(|mut request| {
                    mark_source(&mut request, &source);
                    let tag = self.chance.token();
                    let reason = format!("{} - {}", super::message::reason_phrase(error.status), error.why);
                    let response = request.response(error.status, Some(&reason), Some(&tag));
                    self.send_response(&request, &source, response.to_bytes());
                });
                self.events.push_back(Event::Refused { status: answer.map(|()| error.status), why: error.why, remote: source.remote });
            }
        }
    }

    /// Moves the timer of a transaction that was just stepped, or forgets the transaction.
    fn retime(&mut self, owner: Owner, before: Option<Instant>) {
        if let Some(at) = before {
            self.timers.remove(&(at, owner));
        }
        let state = match owner {
            Owner::Client(id) => self.clients.get(&id).map(|c| c.state),
            Owner::Server(id) => self.servers.get(&id).map(|s| s.state),
        };
        match (state, owner) {
            (Some(State::Terminated), Owner::Client(id)) => self.remove_client(id),
            (Some(State::Terminated), Owner::Server(id)) => self.remove_server(id),
            (Some(state), owner) => {
                if let Some(at) = state.deadline() {
                    self.timers.insert((at, owner));
                }
            }
            (None, _) => {}
        }
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, owner)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, owner));
            match owner {
                // §9.1: a cancelled INVITE whose final answer does not come.
                Owner::Client(client) if self.clients.get(&client).is_some_and(|c| c.cancel_until == Some(at)) => {
                    let ringing = self.clients.get(&client).is_some_and(|c| matches!(c.state, State::Ringing | State::Calling { .. }));
                    if ringing {
                        self.remove_client(client);
                        self.events.push_back(Event::Gone { client, why: Why::Timeout });
                    }
                }
                Owner::Client(client) => self.step_client(now, client, Input::Timer, None),
                Owner::Server(server) => self.step_server(now, server, Input::Timer, None),
            }
        }
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Flow {
    fn transmit(self, bytes: Bytes) -> Transmit {
        match self {
            Self::Datagram(listener, to) => Transmit::Datagram { listener, to, bytes },
            Self::Stream(connection) => Transmit::Stream { connection, bytes },
        }
    }
}
