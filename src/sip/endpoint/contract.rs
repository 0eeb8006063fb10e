//! What an endpoint is told, and what it tells.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;

use crate::sip::message::{Request, Response};

/// A listening address, by its place in the configuration.
pub type ListenerId = u32;
/// A stream. Those that the network accepted start at 2^32; those asked for by [`Transmit::Connect`] stay below.
pub type ConnectionId = u64;

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
pub struct ClientId(pub(super) u64);

/// A request of a peer that waits for ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(pub(super) u64);

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
    /// A new request; answer it with [`Endpoint::respond`](super::Endpoint::respond).
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
