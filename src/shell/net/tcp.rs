//! SIP over TCP: one task a connection, which reads and writes; a bounded queue before the writing.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Input, Report, Shared, Transport};
use crate::time::Instant;

/// The writing side of a connection. Dropped, the connection ends once what was written has gone out.
pub(super) struct Writer {
    queue: mpsc::Sender<Bytes>,
    stop: watch::Sender<&'static str>,
}

impl Writer {
    fn new() -> (Self, mpsc::Receiver<Bytes>, watch::Receiver<&'static str>) {
        let (queue, from_gateway) = mpsc::channel(WRITES_MAX);
        let (stop, stopped) = watch::channel("");
        (Self { queue, stop }, from_gateway, stopped)
    }

    /// False where the queue is full or the connection gone.
    pub(super) fn write(&self, bytes: Bytes) -> bool {
        !matches!(self.queue.try_send(bytes), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Ends the connection at once.
    pub(super) fn abort(&self, why: &'static str) {
        self.stop.send_replace(why);
    }
}

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted gateway must not wait for the old one's connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

pub(super) async fn accept(listener: u32, socket: TcpListener, ids: Arc<AtomicU64>, shared: Shared) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, remote) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most often no more file handles: a busy loop would make it worse.
                tracing::warn!(%error, "accepting a SIP connection; see `ulimit -n`");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            shared.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let connection = ids.fetch_add(1, Ordering::Relaxed);
        let (writer, queue, stopped) = Writer::new();
        let connected = Input::Connected { connection, listener, remote, accepted: true };
        if shared.reports.send(Report::Accepted(connected, connection, writer)).await.is_err() {
            return;
        }
        let (shared, open) = (shared.clone(), open.clone());
        open.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let why = carry(connection, stream, queue, stopped, &shared).await;
            open.fetch_sub(1, Ordering::Relaxed);
            let _ = shared.reports.send(Report::Input(Input::Closed { connection, why })).await;
        });
    }
}

/// Opens a connection and carries it; what is written before it stands waits.
pub(super) fn connect(connection: u64, listener: u32, from: IpAddr, to: SocketAddr, shared: Shared) -> Writer {
    let (writer, queue, stopped) = Writer::new();
    tokio::spawn(async move {
        let why = match timeout(CONNECT, open(from, to)).await {
            Err(_) => format!("{to} did not answer within {} s", CONNECT.as_secs()),
            Ok(Err(error)) => format!("{to}: {error}"),
            Ok(Ok(stream)) => {
                let connected = Input::Connected { connection, listener, remote: to, accepted: false };
                if shared.reports.send(Report::Input(connected)).await.is_err() {
                    return;
                }
                carry(connection, stream, queue, stopped, &shared).await
            }
        };
        let _ = shared.reports.send(Report::Input(Input::Closed { connection, why })).await;
    });
    writer
}

async fn open(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !from.is_unspecified() && from.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// Reads and writes until one of both ends; says why.
async fn carry(
    connection: u64,
    stream: TcpStream,
    queue: mpsc::Receiver<Bytes>,
    mut stopped: watch::Receiver<&'static str>,
    shared: &Shared,
) -> String {
    let (Ok(remote), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return "reset by the peer".into() };
    // A SIP message is written at once; waiting for more only adds delay.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let written = AtomicU64::new(shared.clock.mono().as_micros());
    let ends = (local, remote);
    tokio::select! {
        why = read(connection, reader, ends, &written, shared) => why,
        why = write(writer, queue, ends, &written, shared) => why,
        Ok(()) = stopped.changed() => (*stopped.borrow()).to_owned(),
    }
}

async fn read(
    connection: u64,
    mut reader: OwnedReadHalf,
    (local, remote): (SocketAddr, SocketAddr),
    written: &AtomicU64,
    shared: &Shared,
) -> String {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        buffer.reserve(READ_BYTES);
        let octets = match timeout(shared.idle, reader.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => return "closed by the peer".into(),
            Ok(Ok(_)) => buffer.split().freeze(),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => {
                let quiet = shared.clock.mono().since(Instant::from_micros(written.load(Ordering::Relaxed)));
                if quiet >= shared.idle {
                    return format!("silent for {} s", shared.idle.as_secs());
                }
                continue;
            }
        };
        shared.tap(Transport::Tcp, remote, local, &octets);
        // Waits while the gateway is busy: the peer's window closes, nothing is lost.
        if shared.reports.send(Report::Input(Input::Stream { connection, bytes: octets })).await.is_err() {
            return "the gateway ended".into();
        }
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Bytes>,
    (local, remote): (SocketAddr, SocketAddr),
    written: &AtomicU64,
    shared: &Shared,
) -> String {
    while let Some(bytes) = queue.recv().await {
        match timeout(WRITE, writer.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("its peer did not read for {} s", WRITE.as_secs()),
        }
        shared.tap(Transport::Tcp, local, remote, &bytes);
        written.store(shared.clock.mono().as_micros(), Ordering::Relaxed);
    }
    let _ = writer.shutdown().await;
    "closed by the gateway".into()
}

/// Messages that wait to be written to one connection: a trunk's burst over its one connection, at 2 kB about 2 MB.
const WRITES_MAX: usize = 1024;
/// Octets a read asks for: several messages.
const READ_BYTES: usize = 16 * 1024;
/// Accepted connections of one listener; each costs a file handle and 20 kB.
const CONNECTIONS_MAX: usize = 8192;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A platform that does not accept within this is down, and the next target is due.
const CONNECT: Duration = Duration::from_secs(4);
/// As long as a transaction lives (RFC 3261 §17.1.1.2, 64 T1).
const WRITE: Duration = Duration::from_secs(32);
