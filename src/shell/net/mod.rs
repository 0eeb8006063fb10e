//! SIP on the network: listeners and connections turned into [`Input`]s, what the gateway sends turned into octets.
//!
//! Everything runs as tasks of the runtime that called [`Net::bind`]. Nothing waits for a peer: a datagram that the kernel does not
//! take is lost, as the network may lose it (RFC 3261 §17 repeats); a connection whose peer does not read is closed.

mod dns;
mod tcp;
mod udp;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{shell::clock::Clock, time::Now};

pub use crate::sip::endpoint::Transport;

pub use dns::lookup;

/// One address that SIP is listened for on; its index in the list given to [`Net::bind`] is its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Datagrams or streams.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        write!(f, "{transport}:{}", self.address)
    }
}

/// What the network brought.
#[derive(Clone, Debug)]
pub enum Input {
    /// A datagram.
    Datagram {
        /// Which listener it came to.
        listener: u32,
        /// Who sent it.
        remote: SocketAddr,
        /// Its octets.
        bytes: Bytes,
    },
    /// A connection stands: accepted, or opened by [`Net::connect`].
    Connected {
        /// Its id.
        connection: u64,
        /// Which listener it belongs to.
        listener: u32,
        /// The peer.
        remote: SocketAddr,
        /// Whether the peer opened it.
        accepted: bool,
    },
    /// Octets of a connection.
    Stream {
        /// Its id.
        connection: u64,
        /// What came.
        bytes: Bytes,
    },
    /// A connection is gone, or could not be opened.
    Closed {
        /// Its id.
        connection: u64,
        /// Why, for people.
        why: String,
    },
}

/// A SIP message, or a piece of a stream, as it crossed the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Now,
    /// From whom.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// The octets.
    pub bytes: Bytes,
}

/// Who looks on at what crosses the wire; what does not fit into the channel is not seen.
pub type Tap = std::sync::mpsc::SyncSender<Seen>;

/// Things counted, for telemetry.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams that came while the gateway's queue was full.
    pub received_lost: AtomicU64,
    /// Datagrams that the kernel did not take.
    pub sent_lost: AtomicU64,
    /// Connections closed since their peer did not read.
    pub peers_stuck: AtomicU64,
    /// Connections refused since there were too many.
    pub connections_refused: AtomicU64,
}

/// Why the network is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listener}: {source}; see `[sip] listen`: the address must be one of this machine and the port free")]
pub struct Error {
    listener: Listener,
    source: io::Error,
}

/// What a task tells the network's owner.
enum Report {
    Input(Input),
    /// A connection that a peer opened, with its writing side.
    Accepted(Input, u64, tcp::Writer),
}

/// What the tasks of the network share.
#[derive(Clone)]
struct Shared {
    reports: mpsc::Sender<Report>,
    clock: Clock,
    tap: Option<Tap>,
    counters: Arc<Counters>,
    idle: Duration,
}

impl Shared {
    fn tap(&self, transport: Transport, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if let Some(tap) = &self.tap {
            let _ = tap.try_send(Seen { at: self.clock.now(), from, to, transport, bytes: Bytes::copy_from_slice(bytes) });
        }
    }
}

/// The SIP network of a gateway.
pub struct Net {
    shared: Shared,
    reports: mpsc::Receiver<Report>,
    listeners: Vec<Listener>,
    udp: Vec<Option<UdpSocket>>,
    connections: BTreeMap<u64, tcp::Writer>,
}

impl Net {
    /// Opens all of `listeners`. `idle`: a connection silent for so long is closed. Accepted connections get ids from
    /// [`ACCEPTED_FROM`] upwards, so that they never meet the gateway's own.
    pub async fn bind(listeners: &[Listener], idle: Duration, clock: Clock, tap: Option<Tap>) -> Result<Self, Error> {
        let (sender, reports) = mpsc::channel(INPUTS_MAX);
        let shared = Shared { reports: sender, clock, tap, counters: Arc::default(), idle };
        let mut net = Self { shared, reports, listeners: Vec::new(), udp: Vec::new(), connections: BTreeMap::new() };
        let accepted = Arc::new(AtomicU64::new(ACCEPTED_FROM));
        for (id, &Listener { transport, address }) in (0_u32..).zip(listeners) {
            let failed = |source| Error { listener: Listener { transport, address }, source };
            let local = match transport {
                Transport::Udp => {
                    let (socket, sending) = udp::bind(address).map_err(failed)?;
                    let local = socket.local_addr().map_err(failed)?;
                    tokio::spawn(udp::receive(id, local, socket, net.shared.clone()));
                    net.udp.push(Some(sending));
                    local
                }
                Transport::Tcp => {
                    let listener = tcp::bind(address).map_err(failed)?;
                    let local = listener.local_addr().map_err(failed)?;
                    tokio::spawn(tcp::accept(id, listener, accepted.clone(), net.shared.clone()));
                    net.udp.push(None);
                    local
                }
            };
            net.listeners.push(Listener { transport, address: local });
        }
        Ok(net)
    }

    /// The listeners with the addresses really bound.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// What has been counted so far.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// The next thing that the network brings. Cancel safe.
    pub async fn next(&mut self) -> Input {
        loop {
            match self.reports.recv().await {
                Some(report) => {
                    if let Some(input) = self.note(report) {
                        return input;
                    }
                }
                // Not before the end: `shared` holds a sender.
                None => std::future::pending().await,
            }
        }
    }

    /// The next thing that is here already.
    pub fn try_next(&mut self) -> Option<Input> {
        loop {
            let report = self.reports.try_recv().ok()?;
            if let Some(input) = self.note(report) {
                return Some(input);
            }
        }
    }

    /// Keeps the books of connections; what still comes from one that was given up is nobody's business.
    fn note(&mut self, report: Report) -> Option<Input> {
        let input = match report {
            Report::Accepted(input, connection, writer) => {
                self.connections.insert(connection, writer);
                return Some(input);
            }
            Report::Input(input) => input,
        };
        let wanted = match &input {
            Input::Datagram { .. } => true,
            Input::Connected { connection, .. } | Input::Stream { connection, .. } => self.connections.contains_key(connection),
            Input::Closed { connection, .. } => self.connections.remove(connection).is_some(),
        };
        wanted.then_some(input)
    }

    /// Sends a datagram; what the kernel does not take at once is lost.
    pub fn datagram(&self, listener: u32, to: SocketAddr, bytes: &[u8]) {
        let Some((Some(socket), local)) = self.at(listener) else { return };
        self.shared.tap(Transport::Udp, local, to, bytes);
        if socket.send_to(bytes, to).is_err() {
            self.shared.counters.sent_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(&self, listener: u32) -> Option<(Option<&UdpSocket>, SocketAddr)> {
        let index = usize::try_from(listener).ok()?;
        Some((self.udp.get(index)?.as_ref(), self.listeners.get(index)?.address))
    }

    /// Opens a connection from `listener`'s address; [`Input::Connected`] or [`Input::Closed`] follows.
    pub fn connect(&mut self, connection: u64, to: SocketAddr, listener: u32) {
        let Some((_, local)) = self.at(listener) else { return };
        let writer = tcp::connect(connection, listener, local.ip(), to, self.shared.clone());
        self.connections.insert(connection, writer);
    }

    /// Writes to a connection, also before it stands. Where its peer does not read, the connection is closed.
    pub fn stream(&mut self, connection: u64, bytes: Bytes) {
        let Some(writer) = self.connections.get(&connection) else { return };
        if !writer.write(bytes) {
            self.shared.counters.peers_stuck.fetch_add(1, Ordering::Relaxed);
            writer.abort("its peer does not read");
        }
    }

    /// Closes a connection once what was written has gone out.
    pub fn close(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }
}

/// Ids of accepted connections start here; the gateway's own stay below.
pub const ACCEPTED_FROM: u64 = 1 << 32;
/// Inputs that wait for the gateway. At 10,000 messages/s it is 0.4 s of work: what comes later is better lost than late.
const INPUTS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners() -> [Listener; 2] {
        let address = "127.0.0.1:0".parse().expect("an address");
        [Transport::Udp, Transport::Tcp].map(|transport| Listener { transport, address })
    }

    async fn net() -> Net {
        Net::bind(&listeners(), Duration::from_secs(60), Clock::new(), None).await.expect("bound")
    }

    async fn next(net: &mut Net) -> Input {
        tokio::time::timeout(Duration::from_secs(5), net.next()).await.expect("something within five seconds")
    }

    #[tokio::test]
    async fn a_datagram_goes_across() {
        let (a, mut b) = (net().await, net().await);
        let to = b.listeners()[0].address;
        a.datagram(0, to, b"OPTIONS");
        let Input::Datagram { listener: 0, remote, bytes } = next(&mut b).await else { panic!("a datagram") };
        assert_eq!((remote, &bytes[..]), (a.listeners()[0].address, &b"OPTIONS"[..]));
    }

    #[tokio::test]
    async fn a_connection_carries_both_ways_and_ends_for_both() {
        let (mut a, mut b) = (net().await, net().await);
        a.connect(7, b.listeners()[1].address, 1);
        a.stream(7, Bytes::from_static(b"written before it stands"));
        assert!(matches!(next(&mut a).await, Input::Connected { connection: 7, accepted: false, .. }));
        let Input::Connected { connection, listener: 1, accepted: true, .. } = next(&mut b).await else { panic!("accepted") };
        assert!(connection >= ACCEPTED_FROM);
        let Input::Stream { bytes, .. } = next(&mut b).await else { panic!("octets") };
        assert_eq!(&bytes[..], b"written before it stands");
        b.stream(connection, Bytes::from_static(b"back"));
        assert!(matches!(next(&mut a).await, Input::Stream { connection: 7, bytes } if bytes == "back"));
        b.close(connection);
        assert!(matches!(next(&mut a).await, Input::Closed { connection: 7, .. }));
    }

    #[tokio::test]
    async fn a_closed_door_is_reported() {
        let mut a = net().await;
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        a.connect(1, nobody, 1);
        assert!(matches!(next(&mut a).await, Input::Closed { connection: 1, .. }));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_closed() {
        let mut a = net().await;
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        a.connect(1, deaf.local_addr().expect("an address"), 1);
        assert!(matches!(next(&mut a).await, Input::Connected { .. }));
        let _held = deaf.accept().expect("accepted");
        let message = Bytes::from(vec![b'x'; 64 * 1024]);
        // More than kernel buffers and the queue hold.
        for _ in 0..3000 {
            a.stream(1, message.clone());
            tokio::task::yield_now().await;
        }
        let Input::Closed { connection: 1, why } = next(&mut a).await else { panic!("closed") };
        assert_eq!(why, "its peer does not read");
        assert_eq!(a.counters().peers_stuck.load(Ordering::Relaxed).min(1), 1);
    }

    #[tokio::test]
    async fn a_taken_address_says_where_to_look() {
        let a = net().await;
        let Err(error) = Net::bind(&[a.listeners()[0]], Duration::from_secs(60), Clock::new(), None).await else { panic!("bound twice") };
        assert!(error.to_string().contains("`[sip] listen`"), "{error}");
    }
}
