//! A phone's SIP: one task that owns its sockets, one call at a time.

mod incoming;
mod sockets;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    Agreed, Order, Seen, Setup, State,
    text::{self, Message},
    voice::{Stream, Voice},
};
use crate::chance::Chance;

use sockets::{Connection, Net, Pending, T1};

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Udp(SocketAddr),
    Tcp(u64),
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
}
