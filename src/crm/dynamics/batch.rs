//! `$batch`: several requests in one as multipart/mixed, and the answers to them.

use std::time::Duration;

use serde_json::Value;

use crate::crm::HttpAnswer;

/// A request of a batch.
pub(super) struct Request {
    /// `PATCH` or `POST`.
    pub(super) method: &'static str,
    /// The whole address.
    pub(super) url: String,
    /// Whether it may change a row only, not make one.
    pub(super) only_there: bool,
    /// JSON.
    pub(super) body: String,
}

/// The boundary and the body of a batch. Every line ends with CRLF.
pub(super) fn write(requests: &[Request]) -> (String, Vec<u8>) {
    // JSON on one line cannot hold a line that begins with it.
    let boundary = "batch_offhook";
    let mut text = String::new();
    for request in requests {
        text.push_str(&format!("--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"));
        text.push_str(&format!(
            "{} {} HTTP/1.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n",
            request.method, request.url
        ));
        if request.only_there {
            text.push_str("If-Match: *\r\n");
        }
        text.push_str(&format!("\r\n{}\r\n", request.body));
    }
    text.push_str(&format!("--{boundary}--\r\n"));
    (boundary.to_owned(), text.into_bytes())
}

/// An answer, of a batch's part or of a request by itself.
pub(super) struct Part {
    pub(super) status: u16,
    /// Names in lower case, and values.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Part {
    pub(super) fn of(answer: &HttpAnswer) -> Self {
        Self { status: answer.status, headers: answer.headers.clone(), body: answer.body.clone() }
    }

    pub(super) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The row's id, where its address names one and not the key again.
    pub(super) fn id(&self) -> Option<String> {
        let (_, rest) = self.header("odata-entityid")?.rsplit_once('(')?;
        let id = rest.strip_suffix(')')?;
        (!id.is_empty() && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-')).then(|| id.to_owned())
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }

    /// Code and message of a refusal.
    pub(super) fn error(&self) -> (String, String) {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let text = |name: &str| body.pointer(&format!("/error/{name}")).and_then(Value::as_str).unwrap_or_default().to_owned();
        let message = text("message");
        (text("code").to_lowercase(), if message.is_empty() { "no reason given".to_owned() } else { message })
    }
}

/// The answers of a batch, in their order; none where the answer is not one to a batch.
pub(super) fn read(answer: &HttpAnswer) -> Option<Vec<Part>> {
    let kind = answer.header("content-type")?;
    let boundary = kind.strip_prefix("multipart/mixed")?.split_once("boundary=")?.1;
    let boundary = boundary.split(';').next()?.trim().trim_matches('"');
    let text = String::from_utf8_lossy(&answer.body).replace("\r\n", "\n");
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    for part in text.split(delimiter.as_str()).skip(1).take_while(|part| !part.starts_with("--")) {
        parts.push(one(part.trim_start_matches('\n'))?);
    }
    Some(parts)
}

fn one(part: &str) -> Option<Part> {
    let (_, http) = part.split_once("\n\n")?;
    let (head, body) = http.split_once("\n\n").unwrap_or((http, ""));
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    Some(Part { status, headers: lines.filter_map(pair).collect(), body: body.trim().as_bytes().to_vec() })
}
