//! What a phone's line sends and hears, and sends again: datagrams, streams, and the timers of RFC 3261 §17.

use std::{net::SocketAddr, sync::PoisonError, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    super::{Seen, text::Message},
    Line, Peer,
};

/// What the TCP side reports.
pub(super) enum Net {
    Opened { id: u64, local: SocketAddr, remote: SocketAddr, out: mpsc::UnboundedSender<Vec<u8>> },
    Bytes { id: u64, bytes: Vec<u8> },
    Closed { id: u64 },
}

pub(super) struct Connection {
    pub(super) local: SocketAddr,
    remote: SocketAddr,
    out: mpsc::UnboundedSender<Vec<u8>>,
    inbox: Vec<u8>,
}

/// A request or a 2xx that is sent again until it is answered.
pub(super) struct Pending {
    pub(super) key: (String, String),
    pub(super) message: Message,
    pub(super) peer: Peer,
    pub(super) next: Instant,
    pub(super) pause: Duration,
    pub(super) until: Instant,
    pub(super) done: Option<oneshot::Sender<u16>>,
}

/// RFC 3261 §17.1.1.1: T1 and T2.
pub(super) const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

impl Line {
    pub(super) fn open(&mut self, stream: TcpStream) -> u64 {
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

    pub(super) async fn handle_net(&mut self, net: Net) {
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

    pub(super) fn record(&self, bytes: &[u8], from: SocketAddr, to: SocketAddr, tcp: bool, sent: bool) {
        let seen = Seen { at: Instant::now(), from, to, tcp, sent, bytes: bytes.to_vec() };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    pub(super) async fn send(&mut self, message: &Message, peer: Peer) {
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
    pub(super) async fn request(&mut self, message: Message, peer: Peer, done: Option<oneshot::Sender<u16>>) {
        self.send(&message, peer).await;
        let now = Instant::now();
        let next = if matches!(peer, Peer::Udp(_)) { now + T1 } else { now + 64 * T1 };
        let key = (message.branch().to_owned(), message.method().to_owned());
        self.pending.push(Pending { key, message, peer, next, pause: T1, until: now + 64 * T1, done });
    }

    pub(super) async fn resend(&mut self) {
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
}
