//! Requests of ours: sent, sent again, answered, acknowledged, cancelled.

use bytes::Bytes;

use super::{ClientId, Connection, ConnectionId, Destination, Endpoint, Event, Flow, MAGIC_COOKIE, Owner, Transmit, Transport, Why};
use crate::{
    sip::{
        framing::Framer,
        message::{Method, Request, Response},
        transaction::{Do, Input, LIFE, State},
    },
    time::Instant,
};

pub(super) struct Client {
    branch: String,
    method: Method,
    request: Request,
    bytes: Bytes,
    destination: Destination,
    pub(super) connection: Option<ConnectionId>,
    pub(super) state: State,
    /// The ACK to a 2xx, by the To tag of the 2xx.
    ack: Option<(String, Flow, Bytes)>,
    /// A CANCEL waits for the first provisional (RFC 3261 §9.1).
    cancel_wanted: bool,
    provisional: bool,
    /// Once cancelled, how long a final answer is waited for (§9.1).
    pub(super) cancel_until: Option<Instant>,
}

impl Endpoint {
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

    pub(super) fn handle_response(&mut self, now: Instant, response: Response) {
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

    pub(super) fn step_client(&mut self, now: Instant, client: ClientId, input: Input, response: Option<Response>) {
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

    pub(super) fn remove_client(&mut self, client: ClientId) {
        if let Some(gone) = self.clients.remove(&client) {
            self.branches.remove(&(gone.branch, gone.method.to_string()));
            for at in [gone.state.deadline(), gone.cancel_until].into_iter().flatten() {
                self.timers.remove(&(at, Owner::Client(client)));
            }
        }
    }
}

impl Client {
    fn flow(&self) -> Flow {
        self.connection.map_or(Flow::Datagram(self.destination.listener, self.destination.remote), Flow::Stream)
    }
}

fn push_via(request: &mut Request, destination: &Destination, branch: &str) {
    // RFC 3581 §3: rport asks for answers to where we really are, as the peer sees it.
    request.headers.push_front("Via", format!("SIP/2.0/{} {};branch={branch};rport", destination.transport.as_str(), destination.sent_by));
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
