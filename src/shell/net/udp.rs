//! SIP over UDP: one task a socket, one buffer a task.

use std::{io, net::SocketAddr, sync::atomic::Ordering};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, sync::mpsc::error::TrySendError};

use super::{Input, Report, Shared, Transport};

/// The socket twice: for the runtime to receive, and to send without asking the runtime whether it has seen the socket writable yet.
pub(super) fn bind(address: SocketAddr) -> io::Result<(UdpSocket, std::net::UdpSocket)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Best effort: the kernel caps both at its own limits.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.bind(&address.into())?;
    let sending = socket.try_clone()?.into();
    Ok((UdpSocket::from_std(socket.into())?, sending))
}

pub(super) async fn receive(listener: u32, local: SocketAddr, socket: UdpSocket, shared: Shared) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let (length, remote) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error of an earlier datagram (RFC 1122 §4.1.3.3) comes up here; it says nothing about the socket.
                tracing::debug!(%local, %error, "receiving SIP");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let Some(octets) = buffer.get(..length) else { continue };
        shared.tap(Transport::Udp, remote, local, octets);
        let input = Input::Datagram { listener, remote, bytes: Bytes::copy_from_slice(octets) };
        match shared.reports.try_send(Report::Input(input)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                shared.counters.received_lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Closed(_)) => return,
        }
    }
}

/// Largest UDP payload over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Kernel buffers of a listener: a burst of some thousand INVITEs.
const BUFFER_BYTES: usize = 4 << 20;
