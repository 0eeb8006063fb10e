//! The HTTP client for CRMs: one per target, with limits, and honest about whether a failed request may have been sent.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use reqwest::{ClientBuilder, Method, redirect};

use super::pinned;

/// A request to a CRM.
#[derive(Clone)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The whole address.
    pub url: String,
    /// Names and values; authorisation among them, so this has no `Debug`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case, and values; among them when it was sent or, where it does not say, when it came.
    pub headers: Vec<(String, String)>,
    /// The body, cut at 16 MiB.
    pub body: Vec<u8>,
}

/// Nothing came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failed {
    /// False where the request surely never reached the CRM: trying again cannot double anything.
    pub maybe_sent: bool,
    /// What went wrong, for people.
    pub why: String,
}

/// A client with its own connections.
#[derive(Clone, Debug)]
pub struct Client(reqwest::Client);

impl Client {
    /// `total`: longest a request may take with its answer.
    pub fn new(total: Duration) -> Result<Self, Failed> {
        Self::built(reqwest::Client::builder(), total)
    }

    /// One that reaches a server of this machine, without a proxy. Over TLS it trusts only the first certificate of the PEM file `certificate`, whatever name it
    /// bears, since one for a host name fits no address.
    pub fn of_this_machine(total: Duration, certificate: Option<&Path>) -> Result<Self, Failed> {
        let mut building = reqwest::Client::builder().no_proxy();
        if let Some(file) = certificate {
            let pinned = pinned::config(file).map_err(|e| Failed { maybe_sent: false, why: e.to_string() })?;
            building = building.tls_backend_preconfigured(pinned);
        }
        Self::built(building, total)
    }

    fn built(building: ClientBuilder, total: Duration) -> Result<Self, Failed> {
        // Once a process; the second time it says that it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let same_host = redirect::Policy::custom(|attempt| {
            let first = attempt.previous().first();
            let same = first.is_some_and(|f| {
                f.host() == attempt.url().host() && f.scheme() == attempt.url().scheme() && f.port() == attempt.url().port()
            });
            // Credentials go to the host that they were given for, and nowhere else.
            if same && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
        });
        building
            .timeout(total)
            .connect_timeout(CONNECT.min(total))
            .redirect(same_host)
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(concat!("offhook/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Self)
            .map_err(|e| Failed { maybe_sent: false, why: format!("no HTTP client: {e}") })
    }

    /// Sends `request` and reads the answer.
    pub async fn send(&self, request: Request) -> Result<Reply, Failed> {
        let never = |why: String| Failed { maybe_sent: false, why };
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|e| never(e.to_string()))?;
        let mut building = self.0.request(method, &request.url).body(request.body);
        for (name, value) in &request.headers {
            building = building.header(name, value);
        }
        let mut response = building.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let headers = response.headers().iter().filter_map(|(n, v)| Some((n.as_str().to_owned(), v.to_str().ok()?.to_owned())));
        let headers = dated(headers.collect(), SystemTime::now());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let room = REPLY_BYTES_MAX.saturating_sub(body.len());
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if body.len() >= REPLY_BYTES_MAX {
                break;
            }
        }
        Ok(Reply { status, headers, body })
    }
}

/// An answer without a date bears that of its receipt (RFC 9110 §6.6.1).
fn dated(mut headers: Vec<(String, String)>, received: SystemTime) -> Vec<(String, String)> {
    if headers.iter().all(|(name, _)| name != "date") {
        headers.push(("date".to_owned(), httpdate::fmt_http_date(received)));
    }
    headers
}

fn failed(error: reqwest::Error) -> Failed {
    // A request that was not built or found no connection was not sent; with everything else, nobody knows.
    let maybe_sent = !(error.is_builder() || error.is_connect());
    // The address may hold ids; the connection's error below says what happened.
    let error = error.without_url();
    let mut why = error.to_string();
    let mut below: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(cause) = below {
        why = format!("{why}: {cause}");
        below = cause.source();
    }
    Failed { maybe_sent, why }
}

/// Longest until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);
/// Redirects within a host.
const REDIRECTS_MAX: usize = 3;
/// Connections that wait for the next request; below what load balancers keep, so that theirs does not end under a request.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Longest answer read: a batch of 100 objects is about 200 kB; a job's results say each of its rows, of up to 6 MiB, again with what became of it.
const REPLY_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_date_has_that_of_its_receipt() {
        let date = |text: &str| ("date".to_owned(), text.to_owned());
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(dated(Vec::new(), received), [date("Sun, 06 Nov 1994 08:49:37 GMT")]);
        let own = vec![date("Fri, 31 Dec 1999 23:59:59 GMT")];
        assert_eq!(dated(own.clone(), received), own);
    }
}
