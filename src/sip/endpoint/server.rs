//! Requests of peers: known again when they come again, answered, and the ACK to a 2xx waited for.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Endpoint, Event, MAGIC_COOKIE, Owner, ServerId, Source, TRANSACTIONS_MAX, Transmit};
use crate::{
    sip::{
        message::{Method, Request, Response, Via},
        transaction::{Do, Input, State},
    },
    time::Instant,
};

pub(super) struct Server {
    key: String,
    request: Request,
    source: Source,
    pub(super) state: State,
    last: Option<Bytes>,
    /// Our tag, once a response bore one.
    tag: Option<String>,
    awaits_ack: Option<AckKey>,
}

/// Call-ID, CSeq number and our tag: an ACK to a 2xx is no part of the INVITE's transaction and is found by its dialog.
pub(super) type AckKey = (String, u32, String);

impl Endpoint {
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

    pub(super) fn handle_request(&mut self, now: Instant, mut request: Request, source: Source) {
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

    pub(super) fn step_server(&mut self, now: Instant, server: ServerId, input: Input, request: Option<Request>) {
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

    /// RFC 3261 §18.2.2 with RFC 3581 §4: over the stream that brought the request; else to where it came from where `rport` asks so,
    /// else to the port of sent-by.
    pub(super) fn send_response(&mut self, request: &Request, source: &Source, bytes: Bytes) {
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

    pub(super) fn remove_server(&mut self, server: ServerId) {
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
}

/// RFC 3261 §18.2.1 and RFC 3581 §4: the top Via tells where the request really came from.
pub(super) fn mark_source(request: &mut Request, source: &Source) {
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
