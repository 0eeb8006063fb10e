//! Two endpoints over a network in virtual time, as ladders.

use std::time::Duration;

use super::*;
use crate::sip::{
    Dialog,
    message::{Request, Response},
};

/// Two ends, one way a message takes 10 ms, and a network that loses what its generator says.
struct Pair {
    ends: [Endpoint; 2],
    flying: Vec<(Instant, usize, Bytes)>,
    now: Instant,
    loss: Chance,
    loss_percent: u64,
    transport: Transport,
    sent: Vec<String>,
    events: [VecDeque<Event>; 2],
}

fn addr(end: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, u8::try_from(end).expect("0 or 1")], 5060))
}

impl Pair {
    fn new(transport: Transport, loss_percent: u64, seed: u64) -> Self {
        let mut loss = Chance::from_seed(seed);
        let ends = [Endpoint::new(loss.split()), Endpoint::new(loss.split())];
        let (now, sent) = (Instant::from_millis(1000), Vec::new());
        Self { ends, flying: Vec::new(), now, loss, loss_percent, transport, sent, events: Default::default() }
    }

    fn destination(&self, end: usize) -> Destination {
        Destination { transport: self.transport, remote: addr(end), listener: 0, sent_by: addr(1 - end).to_string() }
    }

    fn pump(&mut self) {
        for end in 0..2 {
            while let Some(transmit) = self.ends[end].poll_transmit() {
                match transmit {
                    Transmit::Datagram { bytes, to, .. } => {
                        assert_eq!(to, addr(1 - end));
                        self.fly(end, bytes);
                    }
                    Transmit::Stream { bytes, .. } => self.fly(end, bytes),
                    Transmit::Connect { connection, to, listener } => {
                        self.ends[end].handle_connected(connection, to, listener);
                        self.ends[1 - end].handle_connected(connection, addr(end), listener);
                    }
                    Transmit::Close { .. } => {}
                }
            }
            while let Some(event) = self.ends[end].poll_event() {
                self.events[end].push_back(event);
            }
        }
    }

    fn fly(&mut self, from: usize, bytes: Bytes) {
        self.sent.push(String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().replace(" SIP/2.0", ""));
        if self.transport == Transport::Tcp || !self.loss.percent(self.loss_percent) {
            self.flying.push((self.now + Duration::from_millis(10), 1 - from, bytes));
        }
    }

    /// Runs until `end` has an event, or nothing is left to happen.
    fn next(&mut self, end: usize) -> Option<Event> {
        loop {
            self.pump();
            if let Some(event) = self.events[end].pop_front() {
                return Some(event);
            }
            let landing = self.flying.iter().map(|(at, ..)| *at).min();
            let timer = self.ends.iter().filter_map(Endpoint::next_timeout).min();
            self.now = [landing, timer].into_iter().flatten().min()?;
            let now = self.now;
            let landed: Vec<_> = self.flying.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, to, bytes) in landed {
                match self.transport {
                    Transport::Udp => self.ends[to].handle_datagram(now, 0, addr(1 - to), &bytes),
                    Transport::Tcp => {
                        let connection = *self.ends[to].connections.keys().next().expect("a stream");
                        self.ends[to].handle_stream(now, connection, &bytes);
                    }
                }
            }
            for end in &mut self.ends {
                end.handle_timeout(now);
            }
        }
    }
}

fn invite() -> Request {
    let mut invite = Request::new(Method::INVITE, "sip:b@192.0.2.1".parse().expect("a URI"));
    for (name, value) in [("Max-Forwards", "70"), ("From", "<sip:a@x>;tag=a"), ("To", "<sip:b@x>"), ("Call-ID", "c1"), ("CSeq", "1 INVITE")]
    {
        invite.headers.push(name, value);
    }
    invite.headers.push("Contact", "<sip:a@192.0.2.0:5060>");
    invite
}

fn answer(request: &Request, status: u16) -> Response {
    let mut response = request.response(status, None, Some("b"));
    response.headers.push("Contact", "<sip:b@192.0.2.1:5060>");
    response
}

/// INVITE, 180, 200, ACK, BYE, 200.
fn call(pair: &mut Pair) {
    let to_b = pair.destination(1);
    let client = pair.ends[0].request(pair.now, invite(), to_b.clone());
    let Some(Event::Request { server, request, .. }) = pair.next(1) else { panic!("no INVITE: {:?}", pair.sent) };
    pair.ends[1].respond(pair.now, server, answer(&request, 180));
    pair.ends[1].respond(pair.now, server, answer(&request, 200));
    let response = loop {
        match pair.next(0) {
            Some(Event::Response { client: of, response }) if of == client && response.status == 200 => break response,
            Some(Event::Response { .. }) => {}
            other => panic!("{other:?}: {:?}", pair.sent),
        }
    };
    let mut dialog = Dialog::caller(&invite(), &response, "sip:a@192.0.2.0".parse().expect("a URI")).expect("a dialog");
    pair.ends[0].ack(client, dialog.ack(1), &to_b);
    let Some(Event::Ack { server: of, .. }) = pair.next(1) else { panic!("no ACK: {:?}", pair.sent) };
    assert_eq!(of, server);
    let bye = pair.ends[0].request(pair.now, dialog.request(Method::BYE), to_b);
    let Some(Event::Request { server, request, .. }) = pair.next(1) else { panic!("no BYE: {:?}", pair.sent) };
    pair.ends[1].respond(pair.now, server, answer(&request, 200));
    let Some(Event::Response { client: of, response }) = pair.next(0) else { panic!("no answer to BYE: {:?}", pair.sent) };
    assert_eq!((of, response.status), (bye, 200));
    // Whatever is left only absorbs retransmissions.
    assert!(pair.next(0).is_none() && pair.events[1].is_empty());
    assert_eq!((pair.ends[0].transactions(), pair.ends[1].transactions()), (0, 0));
    assert!(pair.ends[0].branches.is_empty() && pair.ends[1].keys.is_empty() && pair.ends[1].acks.is_empty());
}

#[test]
fn a_call_over_udp_leaves_nothing_behind() {
    let mut pair = Pair::new(Transport::Udp, 0, 1);
    call(&mut pair);
    assert_eq!(pair.sent.iter().filter(|l| l.starts_with("INVITE")).count(), 1);
}

#[test]
fn a_call_over_tcp_leaves_nothing_behind() {
    call(&mut Pair::new(Transport::Tcp, 0, 1));
}

#[test]
fn calls_that_lose_a_fifth_of_their_datagrams_each_way_end_all_the_same() {
    for seed in 0..300 {
        call(&mut Pair::new(Transport::Udp, 20, seed));
    }
}

#[test]
fn a_refusal_is_acknowledged_within_the_transaction() {
    let mut pair = Pair::new(Transport::Udp, 0, 1);
    let to_b = pair.destination(1);
    pair.ends[0].request(pair.now, invite(), to_b);
    let Some(Event::Request { server, request, .. }) = pair.next(1) else { panic!("no INVITE") };
    pair.ends[1].respond(pair.now, server, answer(&request, 486));
    assert!(matches!(pair.next(0), Some(Event::Response { response, .. }) if response.status == 486));
    assert!(pair.next(1).is_none());
    assert_eq!(pair.sent, ["INVITE sip:b@192.0.2.1", "SIP/2.0 486 Busy Here", "ACK sip:b@192.0.2.1"]);
}

#[test]
fn a_cancel_waits_for_the_first_provisional() {
    let mut pair = Pair::new(Transport::Udp, 0, 1);
    let to_b = pair.destination(1);
    let client = pair.ends[0].request(pair.now, invite(), to_b);
    pair.ends[0].cancel(pair.now, client);
    pair.pump();
    assert_eq!(pair.sent.len(), 1);
    let Some(Event::Request { server, request, .. }) = pair.next(1) else { panic!("no INVITE") };
    pair.ends[1].respond(pair.now, server, answer(&request, 180));
    let Some(Event::Cancel { server: of, .. }) = pair.next(1) else { panic!("no CANCEL") };
    assert_eq!(of, server);
    pair.ends[1].respond(pair.now, server, answer(&request, 487));
    let statuses: Vec<u16> = std::iter::from_fn(|| pair.next(0))
        .filter_map(|e| if let Event::Response { response, .. } = e { Some(response.status) } else { None })
        .collect();
    assert_eq!(statuses, [180, 200, 487]);
}

#[test]
fn a_cancel_of_nothing_is_answered_481() {
    let mut pair = Pair::new(Transport::Udp, 0, 1);
    let mut cancel = invite();
    cancel.method = Method::CANCEL;
    cancel.headers.set("CSeq", "1 CANCEL");
    let to_b = pair.destination(1);
    pair.ends[0].request(pair.now, cancel, to_b);
    assert!(matches!(pair.next(0), Some(Event::Response { response, .. }) if response.status == 481));
}

#[test]
fn what_is_malformed_is_answered_with_what_is_wrong() {
    let mut pair = Pair::new(Transport::Udp, 0, 1);
    let mut bad = invite();
    bad.headers.set("CSeq", "x INVITE");
    let to_b = pair.destination(1);
    pair.ends[0].request(pair.now, bad, to_b);
    let Some(Event::Refused { status, why, .. }) = pair.next(1) else { panic!("not refused") };
    assert_eq!(status, Some(400));
    assert!(why.contains("CSeq"), "{why}");
    assert_eq!(pair.ends[1].stats().malformed, 1);
}

#[test]
fn an_answer_goes_where_rport_says() {
    let mut end = Endpoint::new(Chance::from_seed(1));
    let remote: SocketAddr = "198.51.100.7:31000".parse().expect("an address");
    let ask = |rport: &str| {
        format!(
            "OPTIONS sip:gw SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5066;branch=z9hG4bK{rport}1{rport}\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:gw>\r\nCall-ID: o{rport}\r\nCSeq: 1 OPTIONS\r\n\r\n"
        )
    };
    for (rport, port) in [(";rport", 31000), ("", 5066)] {
        end.handle_datagram(Instant::ORIGIN, 0, remote, ask(rport).as_bytes());
        let Some(Event::Request { server, request, .. }) = end.poll_event() else { panic!("no request") };
        assert_eq!(request.via().expect("a via").param("received"), Some("198.51.100.7"));
        end.respond(Instant::ORIGIN, server, request.response(200, None, Some("t")));
        let Some(Transmit::Datagram { to, .. }) = end.poll_transmit() else { panic!("no answer") };
        assert_eq!(to, SocketAddr::new(remote.ip(), port));
    }
}

#[test]
fn a_connection_that_breaks_ends_what_waits_on_it() {
    let mut end = Endpoint::new(Chance::from_seed(1));
    let to = Destination { transport: Transport::Tcp, remote: addr(1), listener: 0, sent_by: "gw".into() };
    let client = end.request(Instant::ORIGIN, invite(), to);
    let Some(Transmit::Connect { connection, .. }) = end.poll_transmit() else { panic!("no connection") };
    end.handle_closed(Instant::ORIGIN, connection);
    assert!(matches!(end.poll_event(), Some(Event::Gone { client: of, why: Why::Transport }) if of == client));
    assert_eq!((end.transactions(), end.next_timeout()), (0, None));
}
