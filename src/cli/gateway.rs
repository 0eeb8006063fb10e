//! What commands ask of a running gateway, over its own API.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

use crate::{config::Config, shell::http};

/// How a command reaches the gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// Token of the API, where it wants one.
    #[arg(long, env = "OFFHOOK_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A gateway that runs with a configuration.
pub(super) struct Gateway {
    base: String,
    token: Option<String>,
    client: http::Client,
    runtime: tokio::runtime::Runtime,
}

/// Longest an answer may take: it may wait for the disk, or for a CRM.
const ANSWER: Duration = Duration::from_secs(30);

impl Gateway {
    /// The one of this configuration.
    pub(super) fn of(config: &Config, access: &Access) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let certificate = config.http.tls.as_ref().map(|tls| tls.cert_file.as_path());
        let client = http::Client::of_this_machine(ANSWER, certificate).map_err(|e| e.to_string())?;
        let scheme = if certificate.is_some() { "https" } else { "http" };
        Ok(Self { base: format!("{scheme}://{}", reached(config.http.listen)), token: access.token.clone(), client, runtime })
    }

    /// Status and document of an answer.
    pub(super) fn ask(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        headers.extend(self.token.as_ref().map(|token| ("authorization".to_owned(), format!("Bearer {token}"))));
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let url = format!("{}{path}", self.base);
        let reply = self.runtime.block_on(self.client.send(http::Request { method: method.into(), url, headers, body }));
        let reply = reply.map_err(|why| format!("the gateway at {} does not answer: {why}: it must run", self.base))?;
        Ok((reply.status, serde_json::from_slice(&reply.body).unwrap_or_default()))
    }
}

/// Where a listener is reached from its own machine: every address is none to send to.
fn reached(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What a refusal says, and what to do.
pub(super) fn detail(problem: &Value) -> String {
    let text = |member: &str| problem.get(member).and_then(Value::as_str);
    let detail = text("detail").unwrap_or("no reason given");
    text("hint").map_or_else(|| detail.to_owned(), |hint| format!("{detail}: {hint}"))
}
