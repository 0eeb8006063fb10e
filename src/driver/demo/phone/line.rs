//! A phone's SIP: one task that owns its sockets, one call at a time.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    Agreed, Ended, Order, Seen, Setup, State,
    text::{self, Message},
    voice::{Stream, Voice},
};
use crate::chance::Chance;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Udp(SocketAddr),
    Tcp(u64),
}

/// What the TCP side reports.
enum Net {
    Opened { id: u64, local: SocketAddr, remote: SocketAddr, out: mpsc::UnboundedSender<Vec<u8>> },
    Bytes { id: u64, bytes: Vec<u8> },
    Closed { id: u64 },
}

struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
    out: mpsc::UnboundedSender<Vec<u8>>,
    inbox: Vec<u8>,
}

/// A request or a 2xx that is sent again until it is answered.
struct Pending {
    key: (String, String),
    message: Message,
    peer: Peer,
    next: Instant,
    pause: Duration,
    until: Instant,
    done: Option<oneshot::Sender<u16>>,
}

/// The call's dialog.
#[derive(Clone, Debug)]
struct Dialog {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    sequence: u32,
    peer: Peer,
}

/// The task behind a phone.
pub(super) struct Line {
    setup: Setup,
    chance: Chance,
    voice: Arc<Voice>,
    seen: Arc<Mutex<Vec<Seen>>>,
    report: watch::Sender<State>,
    address: SocketAddr,
    udp: UdpSocket,
    listener: TcpListener,
    net: (mpsc::UnboundedSender<Net>, mpsc::UnboundedReceiver<Net>),
    connections: BTreeMap<u64, Connection>,
    connections_made: u64,
    pending: Vec<Pending>,
    /// Final responses given, for requests that come again.
    given: Vec<((String, String), Message)>,
    tag: String,
    /// The INVITE that came, or the one that was sent.
    invite: Option<(Message, Peer)>,
    dialog: Option<Dialog>,
    /// The ACK of the 2xx, for a 2xx that comes again.
    ack: Option<Message>,
    agreed: Option<Agreed>,
}

/// RFC 3261 §17.1.1.1: T1 and T2.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

impl Line {
    /// Binds UDP and TCP on the same port.
    pub(super) async fn bind(
        setup: Setup,
        mut chance: Chance,
        voice: Arc<Voice>,
        seen: Arc<Mutex<Vec<Seen>>>,
        report: watch::Sender<State>,
    ) -> io::Result<Self> {
        let mut tries = 0;
        let (listener, udp) = loop {
            let listener = TcpListener::bind((setup.bind, 0)).await?;
            match UdpSocket::bind(listener.local_addr()?).await {
                Ok(udp) => break (listener, udp),
                // Somebody has the UDP port of the same number.
                Err(_) if tries < 20 => tries += 1,
                Err(why) => return Err(why),
            }
        };
        Ok(Self {
            address: udp.local_addr()?,
            tag: chance.token(),
            setup,
            chance,
            voice,
            seen,
            report,
            udp,
            listener,
            net: mpsc::unbounded_channel(),
            connections: BTreeMap::new(),
            connections_made: 0,
            pending: Vec::new(),
            given: Vec::new(),
            invite: None,
            dialog: None,
            ack: None,
            agreed: None,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lives until the phone is dropped or killed.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut buffer = vec![0; 65_536];
        loop {
            let wake = self.pending.iter().map(|p| p.next).min().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                received = self.udp.recv_from(&mut buffer) => {
                    // An error here is a closed port at the other end (ICMP): the phone goes on.
                    if let Ok((length, from)) = received {
                        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                        self.record(&bytes, from, self.address, false, false);
                        if let Some((message, _)) = Message::read(&bytes) {
                            self.handle(message, Peer::Udp(from)).await;
                        }
                    }
                }
                accepted = self.listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        self.open(stream);
                    }
                }
                Some(net) = self.net.1.recv() => self.handle_net(net).await,
                () = sleep_until(wake) => self.resend().await,
            }
        }
    }

    fn open(&mut self, stream: TcpStream) -> u64 {
        self.connections_made += 1;
        let (id, net) = (self.connections_made, self.net.0.clone());
        let (out, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        if let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) {
            self.connections.insert(id, Connection { local, remote, out: out.clone(), inbox: Vec::new() });
            let _ = net.send(Net::Opened { id, local, remote, out });
        }
        let (mut read, mut write) = stream.into_split();
        tokio::spawn(async move {
            let mut buffer = vec![0; 16_384];
            loop {
                // Ends with the line, whose end of the queue is dropped: the socket closes with it.
                tokio::select! {
                    out = queue.recv() => match out {
                        Some(bytes) => if write.write_all(&bytes).await.is_err() { break },
                        None => return,
                    },
                    length = read.read(&mut buffer) => match length {
                        Ok(0) | Err(_) => break,
                        Ok(length) => {
                            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                            if net.send(Net::Bytes { id, bytes }).is_err() { return }
                        }
                    },
                }
            }
            let _ = net.send(Net::Closed { id });
        });
        id
    }

    async fn handle_net(&mut self, net: Net) {
        match net {
            Net::Opened { id, local, remote, out } => {
                self.connections.entry(id).or_insert_with(|| Connection { local, remote, out, inbox: Vec::new() });
            }
            Net::Closed { id } => {
                self.connections.remove(&id);
            }
            Net::Bytes { id, bytes } => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                connection.inbox.extend(bytes);
                let (local, remote) = (connection.local, connection.remote);
                loop {
                    let Some(connection) = self.connections.get_mut(&id) else { return };
                    // Keep-alives between messages (RFC 5626 §4.4.1).
                    while connection.inbox.starts_with(b"\r\n") {
                        connection.inbox.drain(..2);
                    }
                    let Some((message, used)) = Message::read(&connection.inbox) else { return };
                    let raw: Vec<u8> = connection.inbox.drain(..used).collect();
                    self.record(&raw, remote, local, true, false);
                    self.handle(message, Peer::Tcp(id)).await;
                }
            }
        }
    }

    fn record(&self, bytes: &[u8], from: SocketAddr, to: SocketAddr, tcp: bool, sent: bool) {
        let seen = Seen { at: Instant::now(), from, to, tcp, sent, bytes: bytes.to_vec() };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    async fn send(&mut self, message: &Message, peer: Peer) {
        let bytes = message.write();
        match peer {
            Peer::Udp(to) => {
                self.record(&bytes, self.address, to, false, true);
                let _ = self.udp.send_to(&bytes, to).await;
            }
            Peer::Tcp(id) => {
                if let Some(connection) = self.connections.get(&id) {
                    let (local, remote) = (connection.local, connection.remote);
                    let _ = connection.out.send(bytes.clone());
                    self.record(&bytes, local, remote, true, true);
                }
            }
        }
    }

    /// Sends a request, again and again over UDP, until it is answered.
    async fn request(&mut self, message: Message, peer: Peer, done: Option<oneshot::Sender<u16>>) {
        self.send(&message, peer).await;
        let now = Instant::now();
        let next = if matches!(peer, Peer::Udp(_)) { now + T1 } else { now + 64 * T1 };
        let key = (message.branch().to_owned(), message.method().to_owned());
        self.pending.push(Pending { key, message, peer, next, pause: T1, until: now + 64 * T1, done });
    }

    async fn resend(&mut self) {
        let now = Instant::now();
        self.pending.retain(|p| p.until > now);
        let mut due = Vec::new();
        for pending in self.pending.iter_mut().filter(|p| p.next <= now) {
            pending.pause = (pending.pause * 2).min(if pending.key.1 == "INVITE" { 64 * T1 } else { T2 });
            pending.next = now + pending.pause;
            due.push((pending.message.clone(), pending.peer));
        }
        for (message, peer) in due {
            self.send(&message, peer).await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.report.send_modify(change);
    }

    fn via(&mut self, peer: Peer) -> String {
        let (transport, at) = match peer {
            Peer::Udp(_) => ("UDP", self.address),
            Peer::Tcp(id) => ("TCP", self.connections.get(&id).map_or(self.address, |c| c.local)),
        };
        format!("SIP/2.0/{transport} {at};branch=z9hG4bK{};rport", self.chance.token())
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}{}>", self.setup.name, self.address, if self.setup.tcp { ";transport=tcp" } else { "" })
    }

    fn offer(&mut self) -> String {
        let events = self.setup.events.then_some(text::EVENT_TYPE);
        text::session(self.voice.local(), &self.setup.codecs, events, u64::from(self.chance.u32()))
    }

    /// A request in the call's dialog (RFC 3261 §12.2.1.1).
    fn in_dialog(&mut self, method: &str) -> Option<(Message, Peer)> {
        let dialog = self.dialog.as_mut()?;
        if method != "ACK" {
            dialog.sequence += 1;
        }
        let dialog = dialog.clone();
        let mut message = Message::new(format!("{method} {} SIP/2.0", dialog.target))
            .with("Via", self.via(dialog.peer))
            .with("Max-Forwards", "70")
            .with("From", &dialog.local)
            .with("To", &dialog.remote)
            .with("Call-ID", &dialog.call_id)
            .with("CSeq", format!("{} {method}", dialog.sequence))
            .with("Contact", self.contact());
        for route in &dialog.routes {
            message = message.with("Route", route);
        }
        Some((message, dialog.peer))
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Dial { gateway, number, from, headers } => self.dial(gateway, &number, &from, headers).await,
            Order::Ring => self.answer_invite(180, "Ringing").await,
            Order::Answer => self.answer_invite(200, "OK").await,
            Order::Refuse(status) => self.answer_invite(status, "Refused").await,
            Order::Cancel => {
                let Some((invite, peer)) = self.invite.clone() else { return };
                let mut cancel = Message::new(invite.start.replacen("INVITE", "CANCEL", 1));
                for name in ["Via", "Max-Forwards", "From", "To", "Call-ID"] {
                    cancel = cancel.with(name, invite.header(name).unwrap_or_default());
                }
                let number = invite.header("CSeq").and_then(|c| c.split(' ').next()).unwrap_or("1").to_owned();
                self.request(cancel.with("CSeq", format!("{number} CANCEL")), peer, None).await;
            }
            Order::HangUp => {
                if let Some((bye, peer)) = self.in_dialog("BYE") {
                    self.voice.quiet();
                    self.request(bye, peer, None).await;
                }
            }
            Order::Info { headers, body, done } => {
                let Some((mut info, peer)) = self.in_dialog("INFO") else { return };
                info.headers.extend(headers);
                if let Some((kind, body)) = body {
                    info = info.with_body(&kind, body);
                }
                self.request(info, peer, Some(done)).await;
            }
            Order::Refer { to, headers, done } => {
                let Some((mut refer, peer)) = self.in_dialog("REFER") else { return };
                refer = refer.with("Refer-To", to);
                refer.headers.extend(headers);
                self.request(refer, peer, Some(done)).await;
            }
        }
    }

    async fn dial(&mut self, gateway: SocketAddr, number: &str, from: &str, headers: Vec<(String, String)>) {
        let peer = if self.setup.tcp {
            let Ok(stream) = TcpStream::connect(gateway).await else {
                self.change(|s| s.refused = Some(503));
                return;
            };
            Peer::Tcp(self.open(stream))
        } else {
            Peer::Udp(gateway)
        };
        let call_id = format!("{}@{}", self.chance.token(), self.address.ip());
        let sdp = self.offer();
        let mut invite = Message::new(format!("INVITE sip:{number}@{gateway} SIP/2.0"))
            .with("Via", self.via(peer))
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:{from}@{}>;tag={}", self.address, self.tag))
            .with("To", format!("<sip:{number}@{gateway}>"))
            .with("Call-ID", call_id)
            .with("CSeq", "1 INVITE")
            .with("Contact", self.contact())
            .with("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY")
            .with("User-Agent", "a phone in the demo of offhook");
        invite.headers.extend(headers);
        let invite = invite.with_body("application/sdp", sdp);
        self.invite = Some((invite.clone(), peer));
        self.request(invite, peer, None).await;
    }

    async fn answer_invite(&mut self, status: u16, reason: &str) {
        let Some((invite, peer)) = self.invite.clone() else { return };
        if status >= 200 && self.dialog.is_some() {
            return;
        }
        let mut response = invite.respond(status, reason, &self.tag).with("Contact", self.contact());
        if status == 200 {
            let Some((remote, agreed)) = text::agree(&invite.body, &self.setup.codecs, self.setup.events) else {
                let refusal = invite.respond(488, "Not Acceptable Here", &self.tag);
                self.send(&refusal, peer).await;
                self.change(|s| s.refused = Some(488));
                return;
            };
            let sdp = text::session(self.voice.local(), &[agreed.codec], agreed.events, u64::from(self.chance.u32()));
            response = response.with_body("application/sdp", sdp);
            self.agreed = Some(agreed);
            self.talk(remote, agreed);
            self.dialog = Some(Dialog {
                call_id: invite.header("Call-ID").unwrap_or_default().into(),
                local: response.header("To").unwrap_or_default().into(),
                remote: invite.header("From").unwrap_or_default().into(),
                target: invite.contact().unwrap_or_default().into(),
                routes: invite.all("Record-Route").map(str::to_owned).collect(),
                sequence: 0,
                peer,
            });
        }
        self.send(&response, peer).await;
        if status >= 200 {
            let key = (invite.branch().to_owned(), "INVITE".to_owned());
            self.given.push((key.clone(), response.clone()));
            // RFC 3261 §13.3.1.4: sent again until the ACK is there, over any transport.
            let now = Instant::now();
            self.pending.push(Pending { key, message: response, peer, next: now + T1, pause: T1, until: now + 64 * T1, done: None });
        }
        if status >= 300 {
            self.change(|s| s.refused = Some(status));
        }
    }

    fn talk(&self, remote: SocketAddr, agreed: Agreed) {
        self.voice.talk(Stream { remote, codec: agreed.codec, payload_type: text::payload_type(agreed.codec), events: agreed.events });
    }

    async fn handle(&mut self, message: Message, peer: Peer) {
        match message.status() {
            Some(status) => self.handle_response(message, status, peer).await,
            None => self.handle_request(message, peer).await,
        }
    }

    async fn handle_response(&mut self, response: Message, status: u16, peer: Peer) {
        let key = (response.branch().to_owned(), response.method().to_owned());
        let at = self.pending.iter().position(|p| p.key == key && p.message.status().is_none());
        if status < 200 {
            if let Some(pending) = at.and_then(|at| self.pending.get_mut(at)) {
                // RFC 3261 §17.1.1.2: an INVITE that is being worked on is not sent again.
                if key.1 == "INVITE" {
                    pending.next = pending.until;
                }
            }
            if status > 100 {
                self.change(|s| s.ringing = true);
            }
            return;
        }
        let Some(pending) = at.map(|at| self.pending.remove(at)) else {
            // A 2xx that comes again wants its ACK again (RFC 3261 §13.2.2.4).
            if key.1 == "INVITE"
                && status < 300
                && let Some(ack) = self.ack.clone()
            {
                self.send(&ack, peer).await;
            }
            return;
        };
        if let Some(done) = pending.done {
            let _ = done.send(status);
        }
        match key.1.as_str() {
            "INVITE" if status < 300 => self.established(&response, pending.peer).await,
            "INVITE" => {
                let invite = pending.message;
                // RFC 3261 §17.1.1.3: the ACK of a refusal is the transaction's.
                let mut ack = Message::new(invite.start.replacen("INVITE", "ACK", 1));
                for name in ["Via", "Max-Forwards", "From"] {
                    ack = ack.with(name, invite.header(name).unwrap_or_default());
                }
                let number = invite.header("CSeq").and_then(|c| c.split(' ').next()).unwrap_or("1").to_owned();
                let ack = ack
                    .with("To", response.header("To").unwrap_or_default())
                    .with("Call-ID", invite.header("Call-ID").unwrap_or_default())
                    .with("CSeq", format!("{number} ACK"));
                self.send(&ack, pending.peer).await;
                self.change(|s| s.refused = Some(status));
            }
            "BYE" => self.change(|s| s.ended = Some(Ended { by_me: true, reason: None })),
            _ => {}
        }
    }

    /// The 2xx to an INVITE of ours.
    async fn established(&mut self, response: &Message, peer: Peer) {
        let Some((invite, _)) = &self.invite else { return };
        let mut routes: Vec<String> = response.all("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        self.dialog = Some(Dialog {
            call_id: invite.header("Call-ID").unwrap_or_default().into(),
            local: invite.header("From").unwrap_or_default().into(),
            remote: response.header("To").unwrap_or_default().into(),
            target: response.contact().map_or_else(|| invite.start.split(' ').nth(1).unwrap_or_default().to_owned(), str::to_owned),
            routes,
            sequence: 1,
            peer,
        });
        if let Some((ack, peer)) = self.in_dialog("ACK") {
            self.send(&ack, peer).await;
            self.ack = Some(ack);
        }
        if let Some((remote, agreed)) = text::agree(&response.body, &self.setup.codecs, self.setup.events) {
            self.agreed = Some(agreed);
            self.talk(remote, agreed);
            self.change(|s| s.agreed = Some(agreed));
        }
    }

    async fn handle_request(&mut self, request: Message, peer: Peer) {
        let key = (request.branch().to_owned(), request.method().to_owned());
        if let Some((_, response)) = self.given.iter().find(|(k, _)| *k == key) {
            let response = response.clone();
            self.send(&response, peer).await;
            return;
        }
        let ours = |line: &Self| line.dialog.as_ref().is_some_and(|d| Some(d.call_id.as_str()) == request.header("Call-ID"));
        let response = match request.method() {
            "ACK" => {
                // Ends the resending of our final response, whatever it was.
                self.pending.retain(|p| p.message.status().is_none());
                if let Some(agreed) = self.agreed {
                    self.change(|s| s.agreed = Some(agreed));
                }
                return;
            }
            "INVITE" if ours(self) => self.handle_reinvite(&request),
            "INVITE" if self.invite.is_some() => {
                // Its own retransmission, or a second call.
                let again = self.invite.as_ref().is_some_and(|(invite, _)| invite.branch() == request.branch());
                if again {
                    return;
                }
                request.respond(486, "Busy Here", &self.tag)
            }
            "INVITE" => {
                let trying = request.respond(100, "Trying", &self.tag);
                self.send(&trying, peer).await;
                self.invite = Some((request.clone(), peer));
                self.change(|s| s.invited = Some(request.headers));
                return;
            }
            "CANCEL" => {
                let ok = request.respond(200, "OK", &self.tag);
                self.send(&ok, peer).await;
                self.given.push((key, ok));
                if self.dialog.is_none() {
                    self.answer_invite(487, "Request Terminated").await;
                    self.change(|s| s.ended = Some(Ended { by_me: false, reason: None }));
                }
                return;
            }
            "OPTIONS" => request.respond(200, "OK", &self.tag),
            _ if !ours(self) => request.respond(481, "Call/Transaction Does Not Exist", &self.tag),
            "BYE" => {
                self.voice.quiet();
                let reason = request.header("Reason").map(str::to_owned);
                self.change(|s| s.ended = Some(Ended { by_me: false, reason }));
                request.respond(200, "OK", &self.tag)
            }
            "INFO" => {
                let signal =
                    request.body.lines().find_map(|l| l.trim().strip_prefix("Signal")).map(|l| l.trim_start_matches([' ', '=']).to_owned());
                let key = signal.and_then(|s| s.chars().next()).or_else(|| request.body.trim().chars().next());
                if let Some(key) = key.filter(|_| request.header("Content-Type").is_some_and(|t| t.contains("dtmf"))) {
                    self.change(|s| s.info_keys.push(key));
                }
                request.respond(200, "OK", &self.tag)
            }
            "NOTIFY" => {
                let line = request.body.lines().next().unwrap_or_default().to_owned();
                self.change(|s| s.notified.push(line));
                request.respond(200, "OK", &self.tag)
            }
            _ => request.respond(501, "Not Implemented", &self.tag),
        };
        self.send(&response, peer).await;
        self.given.push((key, response));
    }

    fn handle_reinvite(&mut self, request: &Message) -> Message {
        let codecs = self.agreed.map_or_else(|| self.setup.codecs.clone(), |a| vec![a.codec]);
        let offered = if request.body.is_empty() { None } else { text::agree(&request.body, &self.setup.codecs, self.setup.events) };
        if let Some(target) = request.contact()
            && let Some(dialog) = &mut self.dialog
        {
            target.clone_into(&mut dialog.target);
        }
        if !request.body.is_empty() && offered.is_none() {
            return request.respond(488, "Not Acceptable Here", &self.tag);
        }
        let mut codecs = codecs;
        if let Some((remote, agreed)) = offered {
            self.agreed = Some(agreed);
            self.talk(remote, agreed);
            codecs = vec![agreed.codec];
        }
        let events = self.agreed.and_then(|a| a.events);
        let sdp = text::session(self.voice.local(), &codecs, events, u64::from(self.chance.u32()));
        request.respond(200, "OK", &self.tag).with("Contact", self.contact()).with_body("application/sdp", sdp)
    }
}
