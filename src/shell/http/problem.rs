//! Refusals as RFC 9457 problem details, each with a hint what to do.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// What to do.
    pub hint: String,
    /// Members beside the standard ones (RFC 9457 §3.2).
    pub more: Map<String, Value>,
}

impl Problem {
    /// A problem without further members.
    pub fn new(status: u16, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), hint: hint.into(), more: Map::new() }
    }

    /// The same with one member more.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.more.insert(member.into(), value);
        self
    }

    /// The driver does not answer: it is stopping, or has more to do than it can.
    pub fn busy() -> Self {
        Self::new(503, "the gateway has more to do than it can", "try again in a second; if it lasts, look at GET /healthz")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = self.more;
        // §3.1: without a type of its own, the title is the status' phrase (§4.2.1).
        body.insert("type".into(), json!("about:blank"));
        body.insert("title".into(), json!(status.canonical_reason().unwrap_or("Error")));
        body.insert("status".into(), json!(status.as_u16()));
        body.insert("detail".into(), json!(self.detail));
        body.insert("hint".into(), json!(self.hint));
        let mut response = (status, Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                // RFC 6750 §3.
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
