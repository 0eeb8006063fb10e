//! `$batch`: several requests in one as multipart/mixed, and the answers to them.

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
    /// Whether it is answered with what `$select` of its address names, and told whether the row was made.
    pub(super) shown: bool,
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
        if request.shown {
            text.push_str("Prefer: return=representation\r\n");
        }
        text.push_str(&format!("\r\n{}\r\n", request.body));
    }
    text.push_str(&format!("--{boundary}--\r\n"));
    (boundary.to_owned(), text.into_bytes())
}

/// The row's id in what the answer shows of it, by the name of its column.
pub(super) fn id(answer: &HttpAnswer, column: &str) -> Option<String> {
    let row: Value = serde_json::from_slice(&answer.body).ok()?;
    row.get(column)?.as_str().map(str::to_owned)
}

/// Code and message of a refusal.
pub(super) fn refusal(answer: &HttpAnswer) -> (String, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let text = |name: &str| body.pointer(&format!("/error/{name}")).and_then(Value::as_str).unwrap_or_default().to_owned();
    let message = text("message");
    (text("code").to_lowercase(), if message.is_empty() { "no reason given".to_owned() } else { message })
}

/// The answers of a batch, in their order; none where the answer is not one to a batch.
pub(super) fn read(answer: &HttpAnswer) -> Option<Vec<HttpAnswer>> {
    let kind = answer.header("content-type")?;
    let boundary = kind.strip_prefix("multipart/mixed")?.split_once("boundary=")?.1;
    let boundary = boundary.split(';').next()?.trim().trim_matches('"');
    let text = String::from_utf8_lossy(&answer.body).replace("\r\n", "\n");
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    for part in text.split(delimiter.as_str()).skip(1).take_while(|part| !part.starts_with("--")) {
        let mut part = one(part.trim_start_matches('\n'))?;
        // It came when the whole did.
        if part.header("date").is_none() {
            part.headers.extend(answer.header("date").map(|date| ("date".to_owned(), date.to_owned())));
        }
        parts.push(part);
    }
    Some(parts)
}

fn one(part: &str) -> Option<HttpAnswer> {
    let (_, http) = part.split_once("\n\n")?;
    let (head, body) = http.split_once("\n\n").unwrap_or((http, ""));
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    Some(HttpAnswer { status, headers: lines.filter_map(pair).collect(), body: body.trim().as_bytes().to_vec() })
}
