//! Host names of targets.

use std::{io, net::SocketAddr, time::Duration};

/// The addresses of `host`, in the resolver's order; an address stands for itself.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, port))).await;
    let addresses = found.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the resolver did not answer"))??.collect::<Vec<_>>();
    if addresses.is_empty() { Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")) } else { Ok(addresses) }
}

/// A resolver that takes longer is as good as none: a call cannot ring for it.
const LOOKUP: Duration = Duration::from_secs(5);
