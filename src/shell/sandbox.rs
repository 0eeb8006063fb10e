//! A socket for a CRM's double: HTTP in and out, and the ledger's file.

use std::{
    fs::File,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::{Body, to_bytes};
use hyper::{body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
};

use super::{clock::Clock, http::acceptor};
use crate::crm::sandbox::{Answer, Double, Fault, Outcome, Request, SCHEME_HEADER};

/// How to serve a double.
#[derive(Debug)]
pub struct Options {
    /// Where. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The double.
    pub crm: Double,
    /// File for what is asked of it and what changes; none for nowhere.
    pub ledger: Option<PathBuf>,
    /// Certificate chain and private key, PEM files, for clients that insist on HTTPS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Why there is no double.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not to be had.
    #[error("cannot listen on {0}: {1}; choose another --port, or 0 for a free one")]
    Bind(SocketAddr, io::Error),
    /// The ledger cannot be written.
    #[error("{0}: {1}; --ledger names a file in a folder that exists")]
    Ledger(String, io::Error),
    /// The certificate or its key cannot be used.
    #[error("{0}")]
    Tls(#[from] super::http::Error),
}

/// A running double; it ends when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    /// The address really bound.
    pub address: SocketAddr,
    tls: bool,
    shared: Arc<Shared>,
    _stop: watch::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    crm: Mutex<(Double, Option<File>)>,
    clock: Clock,
}

/// Longest body that is read: a hundred records with everything in them, or the rows of a job, are smaller.
const BODY_OCTETS_MAX: usize = 8 << 20;

impl Sandbox {
    /// Serves as tasks of the current runtime.
    pub async fn start(options: Options, clock: Clock) -> Result<Self, Error> {
        let ledger =
            options.ledger.map(|path| File::create(&path).map_err(|why| Error::Ledger(path.display().to_string(), why))).transpose()?;
        let secure = options.tls.map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
        let failed = |why| Error::Bind(options.listen, why);
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared { crm: Mutex::new((options.crm, ledger)), clock });
        let (stop, mut stopped) = watch::channel(());
        let tls = secure.is_some();
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(_) => {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            continue;
                        }
                    },
                    _ = stopped.changed() => return,
                };
                let _ = stream.set_nodelay(true);
                let (shared, secure, mut stopped) = (Arc::clone(&serving), secure.clone(), stopped.clone());
                tokio::spawn(async move {
                    let serve = async {
                        match secure {
                            None => connection(stream, shared, false).await,
                            Some(secure) => {
                                if let Ok(stream) = secure.accept(stream).await {
                                    connection(stream, shared, true).await;
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
        Ok(Self { address, tls, shared, _stop: stop })
    }

    /// From now on it has these faults and no others; their seconds go on from its start.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.shared.crm.lock().unwrap_or_else(PoisonError::into_inner).0.set_faults(faults);
    }

    /// Where clients go.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, shared: Arc<Shared>, tls: bool) {
    let service = service_fn(|request| answer(Arc::clone(&shared), request, tls));
    // A service that fails closes the connection without an answer: just what a dropped request looks like.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: Arc<Shared>, request: hyper::Request<Incoming>, tls: bool) -> io::Result<hyper::Response<Body>> {
    let (head, body) = request.into_parts();
    let body = to_bytes(Body::new(body), BODY_OCTETS_MAX).await.map_err(io::Error::other)?;
    let headers = head.headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    // An answer that names its own address has to know which scheme it was asked by.
    let scheme = tls.then(|| (SCHEME_HEADER.to_owned(), "https".to_owned()));
    let request = Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: scheme.into_iter().chain(headers).collect(),
        body: body.to_vec(),
    };
    let outcome = {
        let mut crm = shared.crm.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = crm.0.handle(shared.clock.now(), &request);
        let lines = crm.0.take_ledger();
        if let Some(file) = &mut crm.1 {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            file.write_all(text.as_bytes())?;
        }
        outcome
    };
    match outcome {
        Outcome::Drop(after) => {
            tokio::time::sleep(after).await;
            Err(io::Error::from(io::ErrorKind::ConnectionAborted))
        }
        Outcome::Answer(answer, after) => {
            tokio::time::sleep(after).await;
            response(answer)
        }
    }
}

fn response(answer: Answer) -> io::Result<hyper::Response<Body>> {
    let mut response = hyper::Response::builder().status(answer.status);
    if let Some(kind) = answer.body.content_type() {
        response = response.header(header::CONTENT_TYPE, kind);
    }
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body.octets())).map_err(io::Error::other)
}
