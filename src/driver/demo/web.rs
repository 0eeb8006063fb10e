//! The demo's HTTP: what its platforms post, and what its checks ask of gateway and CRM.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

/// Why a request got no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be sent, or no answer came.
    #[error("{url}: {why}")]
    Transport {
        /// Where it went.
        url: String,
        /// What the client says.
        why: reqwest::Error,
    },
    /// Another status than hoped for.
    #[error("{url} answered {status}: {body}")]
    Status {
        /// Where it went.
        url: String,
        /// Status.
        status: u16,
        /// Start of the answer.
        body: String,
    },
    /// The secret is not the one that the gateway has.
    #[error("the webhook secret is not whsec_BASE64")]
    Secret,
}

/// An HTTP client without proxy, since everything is on the loopback.
#[derive(Clone, Debug)]
pub struct Web(reqwest::Client);

impl Web {
    /// A client.
    pub fn new() -> Result<Self, reqwest::Error> {
        // Fails only when one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().map(Self)
    }

    /// The JSON at `url`; none where there is nothing (404).
    pub async fn get(&self, url: &str, token: Option<&str>) -> Result<Option<Value>, Error> {
        let mut request = self.0.get(url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        match self.send(url, request).await {
            Ok((_, body)) => Ok(Some(serde_json::from_str(&body).unwrap_or(Value::Null))),
            Err(Error::Status { status: 404, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The text at `url`.
    pub async fn text(&self, url: &str) -> Result<String, Error> {
        self.send(url, self.0.get(url)).await.map(|(_, body)| body)
    }

    /// Posts JSON.
    pub async fn post(&self, url: &str, token: Option<&str>, body: &Value) -> Result<Value, Error> {
        let mut request = self.0.post(url).header("content-type", "application/json").body(body.to_string());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.send(url, request).await.map(|(_, body)| serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Deletes what stands at `url`.
    pub async fn delete(&self, url: &str, token: &str) -> Result<(), Error> {
        self.send(url, self.0.delete(url).bearer_auth(token)).await.map(drop)
    }

    /// Posts a form.
    pub async fn form(&self, url: &str, fields: &[(&str, &str)]) -> Result<Value, Error> {
        self.send(url, self.0.post(url).form(fields)).await.map(|(_, body)| serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Posts a webhook, signed as Standard Webhooks has it: HMAC-SHA256 over `id.timestamp.body`.
    pub async fn webhook(&self, url: &str, secret: &str, id: &str, unix_s: i64, body: &Value) -> Result<u16, Error> {
        let key = secret.strip_prefix("whsec_").and_then(|s| BASE64_STANDARD.decode(s).ok()).ok_or(Error::Secret)?;
        let body = body.to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| Error::Secret)?;
        mac.update(format!("{id}.{unix_s}.{body}").as_bytes());
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        let request = self
            .0
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", unix_s)
            .header("webhook-signature", format!("v1,{signature}"))
            .body(body);
        self.send(url, request).await.map(|(status, _)| status)
    }

    async fn send(&self, url: &str, request: reqwest::RequestBuilder) -> Result<(u16, String), Error> {
        let transport = |why| Error::Transport { url: url.to_owned(), why };
        let answer = request.send().await.map_err(transport)?;
        let status = answer.status();
        let body = answer.text().await.map_err(transport)?;
        if status.is_success() {
            Ok((status.as_u16(), body))
        } else {
            Err(Error::Status { url: url.to_owned(), status: status.as_u16(), body: body.chars().take(300).collect() })
        }
    }
}
