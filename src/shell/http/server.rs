//! The HTTP server: its listener, its limits, TLS.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    io::BufReader,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Ask, Webhooks,
    api::{Shared, router},
    door::{Door, Doors, Peer},
    write_limit::WriteLimit,
};
use crate::shell::{
    secrets::Secret,
    telemetry::{Health, Metrics},
};

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bearer tokens; empty: none is asked for.
    pub tokens: Vec<Secret>,
    /// Certificate chain and private key, PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Load balancers whose `X-Forwarded-For` is believed.
    pub proxies: Vec<IpNet>,
    /// The door of each webhook source.
    pub doors: BTreeMap<String, Door>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not to be had.
    #[error("cannot listen on {0} for HTTP: {1}; see `[http] listen`: the address must be one of this machine and the port free")]
    Bind(SocketAddr, io::Error),
    /// Beyond this machine, everything is encrypted and asks for a token.
    #[error("{0} is reached from beyond this machine: `[http]` needs `tls` and `tokens_file` there, or a listener on 127.0.0.1")]
    Open(SocketAddr),
    /// The certificate or its key cannot be used.
    #[error("{0}: {1}; `[http] tls` needs cert_file and key_file in PEM, the chain's leaf first, the key belonging to it")]
    Tls(PathBuf, String),
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    /// The address really bound.
    pub address: SocketAddr,
    _stop: watch::Sender<()>,
}

impl Server {
    /// Serves as tasks of the current runtime.
    pub async fn start(
        options: Options,
        webhooks: Webhooks,
        asks: mpsc::Sender<Ask>,
        metrics: Arc<Metrics>,
        health: Health,
    ) -> Result<Self, Error> {
        if !options.listen.ip().is_loopback() && (options.tls.is_none() || options.tokens.is_empty()) {
            return Err(Error::Open(options.listen));
        }
        let tls = options.tls.map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
        let failed = |e| Error::Bind(options.listen, e);
        let listener = listen(options.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let doors = Doors::new(options.proxies, options.doors);
        let router = router(Arc::new(Shared { webhooks, asks, tokens: options.tokens, metrics, health, doors }));
        let (stop, mut stopped) = watch::channel(());
        tokio::spawn(async move {
            let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            loop {
                let Ok(permit) = free.clone().acquire_owned().await else { return };
                let (stream, peer) = tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, peer)) => (stream, Peer(peer.ip())),
                        Err(error) => {
                            tracing::warn!(%error, "accepting an HTTP connection; see `ulimit -n`");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                            continue;
                        }
                    },
                    _ = stopped.changed() => return,
                };
                let _ = stream.set_nodelay(true);
                // Below TLS, so that a handshake is held to it too.
                let stream = WriteLimit::new(stream, WRITE);
                let (router, tls, mut stopped) = (router.clone(), tls.clone(), stopped.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    let serve = async {
                        match tls {
                            None => connection(stream, peer, router).await,
                            Some(tls) => {
                                if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await {
                                    connection(stream, peer, router).await;
                                }
                            }
                        }
                    };
                    tokio::select! {
                        () = serve => {}
                        _ = stopped.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, _stop: stop })
    }
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: Peer, router: axum::Router) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also how long a connection may wait between two requests.
        .header_read_timeout(HEADERS_READ)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Error> {
    File::open(path).map(BufReader::new).map_err(|e| Error::Tls(path.to_path_buf(), e.to_string()))
}

/// The certificates of a PEM file, in its order.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    rustls_pemfile::certs(&mut open(file)?).collect::<Result<_, _>>().map_err(|e| Error::Tls(file.to_path_buf(), e.to_string()))
}

pub(in crate::shell) fn acceptor(certificate: PathBuf, key: PathBuf) -> Result<TlsAcceptor, Error> {
    let chain = certificates(&certificate)?;
    let secret = rustls_pemfile::private_key(&mut open(&key)?)
        .map_err(|e| Error::Tls(key.clone(), e.to_string()))?
        .ok_or_else(|| Error::Tls(key.clone(), "no private key in it".into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|e| Error::Tls(certificate, e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// HTTP connections at a time; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Connections that the kernel holds until they are accepted, as many as its own limit allows. One more has its SYN dropped, and its sender tries again a second
/// later: the customary 128 are fewer than a platform opens at once when a campaign's calls end.
const BACKLOG: u32 = 4096;
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest a request's headers may take to come.
const HEADERS_READ: Duration = Duration::from_secs(30);
/// Longest a peer may take nothing of what is sent to it: as long as its next request may take to come. Otherwise whoever asks and does not read holds one of the
/// connections for good.
const WRITE: Duration = Duration::from_secs(30);
/// Headers a request may have; a signed webhook behind two proxies has about thirty.
const HEADERS_MAX: usize = 100;
/// Octets of a request's line and headers; with more it is answered 431 (RFC 6585 §5). Four times what proxies take as a rule. A body is read in pieces of this
/// size at most.
const HEAD_BYTES_MAX: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn who_asks_and_does_not_read_is_cut_off() {
        let (ours, mut theirs) = duplex(1024);
        let router = axum::Router::new().fallback(|| async { "x".repeat(10_000) });
        let peer = Peer([127, 0, 0, 1].into());
        let served = tokio::spawn(connection(WriteLimit::new(ours, Duration::from_millis(200)), peer, router));
        theirs.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        timeout(Duration::from_secs(20), served).await.expect("it ends").expect("without a panic");
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.expect("read");
        assert!(read.starts_with(b"HTTP/1.1 200") && read.len() < 10_000, "{} octets", read.len());
    }
}
