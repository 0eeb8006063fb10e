//! The user agent core: octets in, requests and responses out, with framing, parsing, Via and transactions between.
//!
//! The gateway owns one; so may a phone in a test. It opens nothing: it says what to send ([`Transmit`]) and what happened
//! ([`Event`]). A request without an answer, a 2xx without its ACK and a connection that breaks each end in exactly one event.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    net::SocketAddr,
};

use bytes::Bytes;

use super::{
    framing::{Frame, Framer},
    message::{Malformed, Message, Method, Request, Response, Via},
    transaction::{Do, Input, LIFE, State},
};
use crate::{chance::Chance, time::Instant};

/// A listening address, by its place in the configuration.
pub type ListenerId = u32;
/// A stream. Those that the network accepted start at 2^32; those asked for by [`Transmit::Connect`] stay below.
pub type ConnectionId = u64;

/// Most transactions at once; beyond it a request is answered 503 and forgotten. About 1 kB each.
const TRANSACTIONS_MAX: usize = 100_000;
/// RFC 3261 §8.1.1.7: a branch that starts so is unique.
const MAGIC_COOKIE: &str = "z9hG4bK";

/// What carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

impl Transport {
    /// As Via writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// Where a message came from, and where its answers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Over what.
    pub transport: Transport,
    /// Whose socket sent it.
    pub remote: SocketAddr,
    /// Which listener it came to.
    pub listener: ListenerId,
    /// The stream; none over UDP.
    pub connection: Option<ConnectionId>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Over what.
    pub transport: Transport,
    /// The peer.
    pub remote: SocketAddr,
    /// The listener that sends.
    pub listener: ListenerId,
    /// `host:port` that Via tells the peer: what is bound, or what is advertised to it.
    pub sent_by: String,
}

/// A request of ours that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(u64);

/// A request of a peer that waits for ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(u64);

/// What to do on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Send a datagram.
    Datagram {
        /// From which listener.
        listener: ListenerId,
        /// To whom.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// Open a stream; what is to be written to it follows at once.
    Connect {
        /// Its id.
        connection: ConnectionId,
        /// To whom.
        to: SocketAddr,
        /// From whose address.
        listener: ListenerId,
    },
    /// Write to a stream.
    Stream {
        /// Its id.
        connection: ConnectionId,
        /// What.
        bytes: Bytes,
    },
    /// Close a stream.
    Close {
        /// Its id.
        connection: ConnectionId,
    },
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// 64*T1 passed (RFC 3261 §17.1.1.2, §17.1.2.2).
    Timeout,
    /// The connection could not be opened, or broke.
    Transport,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no answer within 32 s",
            Self::Transport => "the connection failed",
        })
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new request; answer it with [`Endpoint::respond`].
    Request {
        /// By which to answer.
        server: ServerId,
        /// The request, `received` and `rport` filled in (RFC 3581 §4).
        request: Request,
        /// Where it came from.
        source: Source,
    },
    /// The ACK to a 2xx that we sent.
    Ack {
        /// The INVITE it belongs to.
        server: ServerId,
        /// The ACK.
        request: Request,
    },
    /// The peer cancels an INVITE that has no final answer yet; the CANCEL itself is answered.
    Cancel {
        /// The INVITE.
        server: ServerId,
        /// The CANCEL.
        request: Request,
    },
    /// An answer to a request of ours. For an INVITE there may be several.
    Response {
        /// The request.
        client: ClientId,
        /// The answer.
        response: Response,
    },
    /// A request of ours will get no answer.
    Gone {
        /// The request.
        client: ClientId,
        /// Why.
        why: Why,
    },
    /// A 2xx of ours was never acknowledged (RFC 3261 §13.3.1.4: the dialog should be ended).
    AckMissing {
        /// The INVITE.
        server: ServerId,
    },
    /// A stream of the peer is gone.
    Disconnected {
        /// Its id.
        connection: ConnectionId,
        /// The peer.
        remote: SocketAddr,
    },
    /// Something malformed came; it was answered where an answer could be formed.
    Refused {
        /// What it was answered with; none where nothing could be sent.
        status: Option<u16>,
        /// What is wrong with it.
        why: String,
        /// Whose it was.
        remote: SocketAddr,
    },
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that could not be read.
    pub malformed: u64,
    /// Responses and ACKs that belong to nothing.
    pub stray: u64,
    /// Messages that came again.
    pub retransmissions_in: u64,
    /// Messages sent again.
    pub retransmissions_out: u64,
    /// Requests answered 503 because there were too many.
    pub shed: u64,
}

struct Client {
    branch: String,
    method: Method,
    request: Request,
    bytes: Bytes,
    destination: Destination,
    connection: Option<ConnectionId>,
    state: State,
    /// The ACK to a 2xx, by the To tag of the 2xx.
    ack: Option<(String, Flow, Bytes)>,
    /// A CANCEL waits for the first provisional (RFC 3261 §9.1).
    cancel_wanted: bool,
    provisional: bool,
    /// Once cancelled, how long a final answer is waited for (§9.1).
    cancel_until: Option<Instant>,
}

struct Server {
    key: String,
    request: Request,
    source: Source,
    state: State,
    last: Option<Bytes>,
    /// Our tag, once a response bore one.
    tag: Option<String>,
    awaits_ack: Option<AckKey>,
}

/// Call-ID, CSeq number and our tag: an ACK to a 2xx is no part of the INVITE's transaction and is found by its dialog.
type AckKey = (String, u32, String);

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

    fn handle_request(&mut self, now: Instant, mut request: Request, source: Source) {
        mark_source(&mut request, &source);
        let key = server_key(&request, &request.method);
        if let Some(server) = self.keys.get(&key).copied() {
            let input = if request.method == Method::ACK { Input::Ack } else { Input::Request };
            if input == Input::Request {
                self.stats.retransmissions_in += 1;
            }
            return self.step_server(now, server, input, Some(request));
        }
        match request.method {
            Method::ACK => {
                let our_tag = request.to().ok().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default();
                let number = request.cseq().map_or(0, |(number, _)| number);
                match self.acks.get(&(request.call_id().to_owned(), number, our_tag)).copied() {
                    Some(server) => self.step_server(now, server, Input::Ack, Some(request)),
                    None => self.stats.stray += 1,
                }
            }
            Method::CANCEL => self.handle_cancel(now, key, request, source),
            _ if self.transactions() >= TRANSACTIONS_MAX => {
                self.stats.shed += 1;
                let tag = self.chance.token();
                let response = request.response(503, None, Some(&tag));
                self.send_response(&request, &source, response.to_bytes());
            }
            _ => {
                let server = self.add_server(key, request.clone(), source);
                self.events.push_back(Event::Request { server, request, source });
            }
        }
    }

    /// RFC 3261 §9.2.
    fn handle_cancel(&mut self, now: Instant, key: String, request: Request, source: Source) {
        let invite = self.keys.get(&server_key(&request, &Method::INVITE)).copied();
        let server = self.add_server(key, request.clone(), source);
        // The same tag as in the answers to the INVITE, or a peer takes it for another dialog's.
        let known = invite.and_then(|invite| self.servers.get(&invite)?.tag.clone());
        let tag = known.unwrap_or_else(|| self.chance.token());
        let status = if invite.is_some() { 200 } else { 481 };
        let response = request.response(status, None, Some(&tag));
        self.respond(now, server, response);
        if let Some(invite) = invite
            && self.servers.get(&invite).is_some_and(|s| s.state == State::Proceeding)
        {
            self.events.push_back(Event::Cancel { server: invite, request });
        }
    }

    fn add_server(&mut self, key: String, request: Request, source: Source) -> ServerId {
        let server = ServerId(self.take_id());
        let state = State::server(request.method == Method::INVITE);
        self.keys.insert(key.clone(), server);
        self.servers.insert(server, Server { key, request, source, state, last: None, tag: None, awaits_ack: None });
        server
    }

    fn handle_response(&mut self, now: Instant, response: Response) {
        // RFC 3261 §17.1.3: the branch of the top Via and the method of CSeq.
        let branch = response.via().ok().and_then(|via| via.branch().map(str::to_owned)).unwrap_or_default();
        let method = response.cseq().map(|(_, method)| method.to_string()).unwrap_or_default();
        let Some(client) = self.branches.get(&(branch, method)).copied() else {
            self.stats.stray += 1;
            return;
        };
        let Some(found) = self.clients.get_mut(&client) else { return };
        if response.status < 200 {
            found.provisional = true;
        }
        let send_cancel = found.cancel_wanted && found.provisional && matches!(found.state, State::Calling { .. } | State::Ringing);
        self.step_client(now, client, Input::Response(response.status), Some(response));
        if send_cancel {
            self.cancel(now, client);
        }
    }

    fn step_client(&mut self, now: Instant, client: ClientId, input: Input, response: Option<Response>) {
        let Some(found) = self.clients.get_mut(&client) else { return };
        let before = found.state.deadline();
        let (state, what) = found.state.step(now, found.connection.is_some(), input);
        found.state = state;
        let flow = found.flow();
        match what {
            Do::Resend => {
                self.stats.retransmissions_out += 1;
                let bytes = found.bytes.clone();
                self.transmits.push_back(flow.transmit(bytes));
            }
            Do::PassAndAck | Do::Ack => {
                if let Some(response) = &response {
                    let ack = refusal_ack(&found.request, response);
                    self.transmits.push_back(flow.transmit(ack));
                }
                if what == Do::PassAndAck
                    && let Some(response) = response
                {
                    self.events.push_back(Event::Response { client, response });
                }
            }
            Do::Pass => self.events.extend(response.map(|response| Event::Response { client, response })),
            Do::AckAgain => {
                let tag = response.as_ref().and_then(|r| r.to().ok()).and_then(|to| to.tag().map(str::to_owned));
                match (&found.ack, response) {
                    // The same 2xx again: our ACK was lost.
                    (Some((of, flow, bytes)), _) if Some(of) == tag.as_ref() => {
                        self.stats.retransmissions_out += 1;
                        self.transmits.push_back(flow.transmit(bytes.clone()));
                    }
                    // Another branch of a fork answered as well (§13.2.2.4), or the dialog has not acknowledged yet.
                    (Some(_), Some(response)) => self.events.push_back(Event::Response { client, response }),
                    _ => {}
                }
            }
            Do::TimedOut => self.events.push_back(Event::Gone { client, why: Why::Timeout }),
            Do::Nothing => {}
        }
        self.retime(Owner::Client(client), before);
    }

    fn step_server(&mut self, now: Instant, server: ServerId, input: Input, request: Option<Request>) {
        let Some(found) = self.servers.get_mut(&server) else { return };
        let before = found.state.deadline();
        let (state, what) = found.state.step(now, found.source.connection.is_some(), input);
        found.state = state;
        match what {
            Do::Resend => {
                if let Some(bytes) = found.last.clone() {
                    self.stats.retransmissions_out += 1;
                    let (request, source) = (found.request.clone(), found.source);
                    self.send_response(&request, &source, bytes);
                }
            }
            // §13.3.1.4: the 2xx has its ACK.
            Do::Pass if input == Input::Ack => self.events.extend(request.map(|request| Event::Ack { server, request })),
            Do::TimedOut => self.events.push_back(Event::AckMissing { server }),
            _ => {}
        }
        self.retime(Owner::Server(server), before);
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

    fn remove_client(&mut self, client: ClientId) {
        if let Some(gone) = self.clients.remove(&client) {
            self.branches.remove(&(gone.branch, gone.method.to_string()));
            for at in [gone.state.deadline(), gone.cancel_until].into_iter().flatten() {
                self.timers.remove(&(at, Owner::Client(client)));
            }
        }
    }

    fn remove_server(&mut self, server: ServerId) {
        if let Some(gone) = self.servers.remove(&server) {
            self.keys.remove(&gone.key);
            if let Some(key) = gone.awaits_ack {
                self.acks.remove(&key);
            }
            if let Some(at) = gone.state.deadline() {
                self.timers.remove(&(at, Owner::Server(server)));
            }
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

    /// Sends a request (any but an ACK) in a transaction of its own; the top Via is put by this call.
    pub fn request(&mut self, now: Instant, mut request: Request, destination: Destination) -> ClientId {
        let client = ClientId(self.take_id());
        let branch = format!("{MAGIC_COOKIE}{}", self.chance.token());
        push_via(&mut request, &destination, &branch);
        self.start(now, client, request, destination, branch);
        client
    }

    fn start(&mut self, now: Instant, client: ClientId, request: Request, destination: Destination, branch: String) {
        let connection = (destination.transport == Transport::Tcp).then(|| self.connection_to(&destination));
        let state = State::client(now, request.method == Method::INVITE, connection.is_some());
        let bytes = request.to_bytes();
        let started = Client {
            branch: branch.clone(),
            method: request.method.clone(),
            request,
            bytes: bytes.clone(),
            destination,
            connection,
            state,
            ack: None,
            cancel_wanted: false,
            provisional: false,
            cancel_until: None,
        };
        self.transmits.push_back(started.flow().transmit(bytes));
        self.branches.insert((branch, started.method.to_string()), client);
        self.clients.insert(client, started);
        self.retime(Owner::Client(client), None);
    }

    /// The open stream to a peer, or a new one.
    fn connection_to(&mut self, destination: &Destination) -> ConnectionId {
        let peer = (destination.remote, destination.listener);
        if let Some(connection) = self.peers.get(&peer) {
            return *connection;
        }
        let connection = self.take_id();
        self.peers.insert(peer, connection);
        self.connections.insert(connection, Connection { remote: peer.0, listener: peer.1, framer: Framer::default() });
        self.transmits.push_back(Transmit::Connect { connection, to: peer.0, listener: peer.1 });
        connection
    }

    /// Acknowledges the 2xx to `client`, and again whenever that 2xx comes again (RFC 3261 §13.2.2.4).
    pub fn ack(&mut self, client: ClientId, mut ack: Request, destination: &Destination) {
        let branch = format!("{MAGIC_COOKIE}{}", self.chance.token());
        push_via(&mut ack, destination, &branch);
        let flow = match destination.transport {
            Transport::Udp => Flow::Datagram(destination.listener, destination.remote),
            Transport::Tcp => Flow::Stream(self.connection_to(destination)),
        };
        let bytes = ack.to_bytes();
        self.transmits.push_back(flow.transmit(bytes.clone()));
        let tag = ack.to().ok().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default();
        if let Some(client) = self.clients.get_mut(&client) {
            client.ack.get_or_insert((tag, flow, bytes));
        }
    }

    /// Cancels an INVITE of ours: at once where a provisional was heard, else with the first one (RFC 3261 §9.1). A final answer
    /// still comes: a 487 as a rule, a 2xx where the two crossed.
    pub fn cancel(&mut self, now: Instant, client: ClientId) {
        let Some(invite) = self.clients.get_mut(&client) else { return };
        if invite.method != Method::INVITE
            || !matches!(invite.state, State::Calling { .. } | State::Ringing)
            || invite.cancel_until.is_some()
        {
            return;
        }
        if !invite.provisional {
            invite.cancel_wanted = true;
            return;
        }
        let until = now + LIFE;
        invite.cancel_until = Some(until);
        self.timers.insert((until, Owner::Client(client)));
        let mut cancel = Request::new(Method::CANCEL, invite.request.uri.clone());
        cancel.headers.push("Via", invite.request.headers.values("Via").next().unwrap_or_default());
        for name in ["Route", "Max-Forwards", "From", "To", "Call-ID"] {
            for value in invite.request.headers.all(name) {
                cancel.headers.push(name, value);
            }
        }
        let number = invite.request.cseq().map_or(1, |(number, _)| number);
        cancel.headers.push("CSeq", format!("{number} CANCEL"));
        let (destination, branch) = (invite.destination.clone(), invite.branch.clone());
        let id = ClientId(self.take_id());
        self.start(now, id, cancel, destination, branch);
    }

    /// Answers a request. A final answer may be given once; later ones are not sent.
    pub fn respond(&mut self, now: Instant, server: ServerId, response: Response) {
        let Some(found) = self.servers.get_mut(&server) else { return };
        let open = matches!(found.state, State::Proceeding | State::Pending);
        if !open {
            return;
        }
        let bytes = response.to_bytes();
        found.last = Some(bytes.clone());
        let tag = response.to().ok().and_then(|to| to.tag().map(str::to_owned));
        found.tag = found.tag.take().or(tag);
        if found.request.method == Method::INVITE && (200..300).contains(&response.status) {
            let tag = response.to().ok().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default();
            let key = (response.call_id().to_owned(), response.cseq().map_or(0, |(n, _)| n), tag);
            found.awaits_ack = Some(key.clone());
            self.acks.insert(key, server);
        }
        let (request, source) = (found.request.clone(), found.source);
        self.send_response(&request, &source, bytes);
        self.step_server(now, server, Input::Response(response.status), None);
    }

    /// RFC 3261 §18.2.2 with RFC 3581 §4: over the stream that brought the request; else to where it came from where `rport` asks so,
    /// else to the port of sent-by.
    fn send_response(&mut self, request: &Request, source: &Source, bytes: Bytes) {
        if let Some(connection) = source.connection {
            if self.connections.contains_key(&connection) {
                self.transmits.push_back(Transmit::Stream { connection, bytes });
            }
            return;
        }
        let via = request.via().ok();
        let port = match via.as_ref() {
            Some(via) if via.param("rport").is_some() => source.remote.port(),
            Some(via) => via.port.unwrap_or(5060),
            None => source.remote.port(),
        };
        self.transmits.push_back(Transmit::Datagram { listener: source.listener, to: SocketAddr::new(source.remote.ip(), port), bytes });
    }
}

impl Client {
    fn flow(&self) -> Flow {
        self.connection.map_or(Flow::Datagram(self.destination.listener, self.destination.remote), Flow::Stream)
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

/// RFC 3261 §18.2.1 and RFC 3581 §4: the top Via tells where the request really came from.
fn mark_source(request: &mut Request, source: &Source) {
    let Ok(mut via) = request.via() else { return };
    let asked = via.param("rport").is_some();
    let ip = source.remote.ip();
    if asked || via.host.parse() != Ok(ip) {
        via = via.with_param("received", &ip.to_string());
    }
    if asked {
        via = via.with_param("rport", &source.remote.port().to_string());
    }
    request.headers.replace_first("Via", &via.to_string());
}

fn push_via(request: &mut Request, destination: &Destination, branch: &str) {
    // RFC 3581 §3: rport asks for answers to where we really are, as the peer sees it.
    request.headers.push_front("Via", format!("SIP/2.0/{} {};branch={branch};rport", destination.transport.as_str(), destination.sent_by));
}

/// What makes a request part of a server transaction (RFC 3261 §17.2.3): branch, sent-by and method, an ACK counting as its
/// INVITE; for a branch without the cookie the fields of RFC 2543.
fn server_key(request: &Request, method: &Method) -> String {
    let method = if *method == Method::ACK { Method::INVITE } else { method.clone() };
    let via = request.via().ok();
    let sent_by = |via: &Via| format!("{}:{}", via.host.to_ascii_lowercase(), via.port.unwrap_or(5060));
    match via.as_ref().and_then(|via| via.branch().map(|b| (b, via))) {
        Some((branch, via)) if branch.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE)) => {
            format!("{branch}|{}|{method}", sent_by(via))
        }
        _ => {
            let from_tag = request.from().ok().and_then(|f| f.tag().map(str::to_owned)).unwrap_or_default();
            let number = request.cseq().map_or(0, |(number, _)| number);
            let via = via.as_ref().map(sent_by).unwrap_or_default();
            format!("{}|{}|{from_tag}|{number}|{via}|{method}", request.uri, request.call_id())
        }
    }
}

/// The ACK to a refusal, within the INVITE's transaction (RFC 3261 §17.1.1.3).
fn refusal_ack(invite: &Request, response: &Response) -> Bytes {
    let mut ack = Request::new(Method::ACK, invite.uri.clone());
    ack.headers.push("Via", invite.headers.values("Via").next().unwrap_or_default());
    for name in ["Route", "Max-Forwards", "From", "Call-ID"] {
        for value in invite.headers.all(name) {
            ack.headers.push(name, value);
        }
    }
    ack.headers.push("To", response.header("To").unwrap_or_default());
    ack.headers.push("CSeq", format!("{} ACK", invite.cseq().map_or(1, |(number, _)| number)));
    ack.to_bytes()
}

#[cfg(test)]
mod tests;
