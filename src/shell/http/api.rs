//! The routes of the API: a request becomes an [`Ask`] or a [`Webhook`], the answer JSON.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, Query, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    Answer, Ask, Problem, Webhook, Webhooks,
    door::{Doors, Peer},
};
use crate::{
    crm::Fields,
    event::CallId,
    pipeline::{
        Decision, Order, Recover,
        decision::{NOBODY, who},
        retention::What,
    },
    shell::{
        secrets::Secret,
        telemetry::{Health, Metrics},
    },
    time::Wall,
};

/// What the handlers share.
pub(super) struct Shared {
    pub(super) webhooks: Webhooks,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) tokens: Vec<Secret>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Health,
    pub(super) doors: Doors,
}

type Api = State<Arc<Shared>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/v1/calls", get(calls))
        .route("/v1/calls/{call_id}", get(call))
        .route("/v1/calls/{call_id}/secure", post(secure))
        .route("/v1/queue", get(queue).post(decide))
        .route("/v1/recover", post(recover))
        .route("/v1/recover/{operation}", get(recovery))
        .route("/v1/batch", post(batch))
        .route("/v1/reconcile/{target}", get(reconcile))
        .route("/v1/contacts/{number}/attempts", get(attempts))
        .route("/v1/quarantine", post(release))
        .route("/v1/retention", get(retention).post(order))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(shared.clone(), token));
    // A webhook is known by its signature, and a load balancer has no token.
    let open = Router::new().route("/v1/webhooks/{source}", post(webhook)).route("/healthz", get(health));
    guarded.merge(open).fallback(nowhere).method_not_allowed_fallback(wrong_method).with_state(shared)
}

async fn token(State(api): Api, request: Request, next: Next) -> Response {
    if api.tokens.is_empty() {
        return next.run(request).await;
    }
    let given = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let Some(given) = given.and_then(|v| v.strip_prefix("Bearer ")) else {
        return Problem::new(401, "no bearer token", format!("send `Authorization: Bearer TOKEN` with {TOKENS}")).into_response();
    };
    // Hashes have one length, so that the time tells nothing of a token's; all are compared, so that it tells nothing of its place.
    let given = Sha256::digest(given.trim().as_bytes());
    let known =
        api.tokens.iter().fold(subtle::Choice::from(0), |known, token| known | given.ct_eq(&Sha256::digest(token.reveal().as_bytes())));
    if bool::from(known) {
        next.run(request).await
    } else {
        Problem::new(401, "the bearer token is not known", format!("use {TOKENS}; it is read at the start: after a change, restart"))
            .into_response()
    }
}

async fn nowhere() -> Problem {
    Problem::new(404, "nothing is here", "the API is POST /v1/webhooks/SOURCE, /v1/calls, GET /healthz and GET /metrics")
}

async fn wrong_method() -> Problem {
    Problem::new(405, "the method is not for this address", "GET /v1/calls, POST /v1/calls/CALL_ID/secure, POST /v1/webhooks/SOURCE")
}

/// Hands a question to the driver and waits for its answer.
async fn ask(api: &Shared, ask: impl FnOnce(oneshot::Sender<Answer>) -> Ask) -> Answer {
    let (reply, answered) = oneshot::channel();
    api.asks.try_send(ask(reply)).map_err(|_| Problem::busy())?;
    in_time(answered).await
}

/// The same, as 200 or a problem.
async fn answer(api: &Shared, question: impl FnOnce(oneshot::Sender<Answer>) -> Ask) -> Response {
    shown(ask(api, question).await)
}

/// The answer, if it comes in time.
async fn in_time(answered: oneshot::Receiver<Answer>) -> Answer {
    match timeout(ANSWER, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(Problem::busy()),
    }
}

fn shown(answer: Answer) -> Response {
    match answer {
        Ok(document) => axum::Json(document).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// A short body of JSON; `hint`: what to send in place of one that cannot be used.
async fn document<T: DeserializeOwned>(content: Body, hint: &'static str) -> Result<T, Problem> {
    let content = body(content, SECURE_BYTES_MAX).await?;
    serde_json::from_slice(&content).map_err(|error| Problem::new(400, format!("the body cannot be used: {error}"), hint))
}

async fn body(body: Body, most: usize) -> Result<Bytes, Problem> {
    match timeout(READ, axum::body::to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            // The limit's error is wrapped; whatever else ends a body is the peer's going away.
            let over = std::error::Error::source(&error).is_some_and(|e| e.to_string().contains("limit"));
            Err(if over {
                Problem::new(
                    413,
                    format!("the body has more than {most} octets"),
                    "send less; a transcript may be sent in several webhooks",
                )
            } else {
                Problem::new(400, "the body ended early", "send the whole body")
            })
        }
        Err(_) => Err(Problem::new(400, format!("the body took longer than {} s", READ.as_secs()), "send the whole body at once")),
    }
}

async fn webhook(
    State(api): Api,
    Path(source): Path<String>,
    RawQuery(query): RawQuery,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    content: Body,
) -> Response {
    let peer = peer.map(|Extension(Peer(address))| address);
    if let Some(problem) = api.doors.refusal(&source, peer, &headers, Instant::now()) {
        api.metrics.webhook("refused");
        return problem.into_response();
    }
    let content = match body(content, WEBHOOK_BYTES_MAX).await {
        Ok(content) => content,
        Err(problem) => {
            api.metrics.webhook("refused");
            return problem.into_response();
        }
    };
    let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))).collect();
    let (reply, answered) = oneshot::channel();
    (api.webhooks)(Webhook { source, headers, query: query.unwrap_or_default(), body: content, reply });
    shown(in_time(answered).await)
}

#[derive(Deserialize)]
struct Page {
    limit: Option<usize>,
}

type Limit = Result<Query<Page>, axum::extract::rejection::QueryRejection>;

/// How many calls are to be listed.
fn limit(page: Limit) -> Result<usize, Problem> {
    match page {
        Ok(Query(page)) => Ok(page.limit.unwrap_or(CALLS_DEFAULT).min(CALLS_MAX)),
        Err(_) => Err(Problem::new(400, "`limit` is no number", format!("write ?limit=N, at most {CALLS_MAX}"))),
    }
}

async fn calls(State(api): Api, page: Limit) -> Response {
    match limit(page) {
        Ok(limit) => answer(&api, |reply| Ask::Calls { limit, reply }).await,
        Err(problem) => problem.into_response(),
    }
}

fn call_id(text: &str) -> Result<CallId, Problem> {
    text.parse().map_err(|_| {
        Problem::new(404, "no such call", "a call_id is the UUID that `call.started` and X-Offhook-Call carry; GET /v1/calls lists them")
    })
}

async fn call(State(api): Api, Path(id): Path<String>) -> Response {
    match call_id(&id) {
        Ok(call) => answer(&api, |reply| Ask::Call { call, reply }).await,
        Err(problem) => problem.into_response(),
    }
}

#[derive(Deserialize)]
struct Secure {
    action: Switch,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Switch {
    Start,
    End,
}

async fn secure(State(api): Api, Path(id): Path<String>, content: Body) -> Response {
    let call = match call_id(&id) {
        Ok(call) => call,
        Err(problem) => return problem.into_response(),
    };
    let hint = r#"send {"action": "start", "reason": "payment"} or {"action": "end"}"#;
    let asked: Secure = match document(content, hint).await {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let on = matches!(asked.action, Switch::Start);
    answer(&api, |reply| Ask::Secure { call, on, reason: asked.reason, reply }).await
}

async fn queue(State(api): Api) -> Response {
    answer(&api, |reply| Ask::Queue { reply }).await
}

/// Who decides: the journal names him for good, so that it has to be somebody, as on the command line.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct By(String);

impl TryFrom<String> for By {
    type Error = &'static str;

    fn try_from(by: String) -> Result<Self, Self::Error> {
        who(&by).map(|name| Self(name.to_owned())).ok_or(NOBODY)
    }
}

#[derive(Deserialize)]
struct Decided {
    target: String,
    call_id: CallId,
    action: Action,
    /// Of an edit: the CRM's fields. Of what is kept: each with what it was told.
    #[serde(default)]
    fields: Fields,
    by: By,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Retry,
    Drop,
    Edit,
    Resend,
    Keep,
}

async fn decide(State(api): Api, content: Body) -> Response {
    let content = match body(content, DECISION_BYTES_MAX).await {
        Ok(content) => content,
        Err(problem) => return problem.into_response(),
    };
    let decided = serde_json::from_slice(&content).and_then(|Decided { target, call_id, action, fields, by: By(by) }| {
        let decision = match action {
            Action::Retry => Decision::Retry,
            Action::Drop => Decision::Drop,
            Action::Edit => Decision::Edit { fields },
            Action::Resend => Decision::Resend,
            Action::Keep => Decision::Keep { fields: serde_json::from_value(Value::Object(fields.into_iter().collect()))? },
        };
        Ok((target, call_id, decision, by))
    });
    match decided {
        Ok((target, call, decision, by)) => answer(&api, |reply| Ask::Decide { target, call, decision, by, reply }).await,
        Err(error) => {
            let hint = r#"send {"target": "hubspot", "call_id": "…", "action": "retry", "drop", "resend", "keep" or "edit", "fields": {"…": "…"}, "by": "your name"}"#;
            Problem::new(400, format!("the body cannot be used: {error}"), hint).into_response()
        }
    }
}

#[derive(Deserialize)]
struct Recovered {
    since: Wall,
    target: Option<String>,
    /// Whether nothing is read first.
    #[serde(default)]
    overwrite: bool,
    by: By,
}

/// 200 once it is in the journal; 202 where it reads first what the CRMs hold, which takes as long as they do.
async fn recover(State(api): Api, content: Body) -> Response {
    let hint = r#"send {"since": "2026-01-05T10:00:00Z", "target": "hubspot", "overwrite": false, "by": "your name"}; without target, all"#;
    let Recovered { since, target, overwrite, by } = match document(content, hint).await {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let recover = Recover { since, target, overwrite, by: by.0 };
    let status = if overwrite { StatusCode::OK } else { StatusCode::ACCEPTED };
    match ask(&api, |reply| Ask::Recover { recover, reply }).await {
        Ok(document) => (status, axum::Json(document)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn recovery(State(api): Api, Path(operation): Path<String>) -> Response {
    answer(&api, |reply| Ask::Recovery { operation, reply }).await
}

#[derive(Deserialize)]
struct Batch {
    target: String,
    by: By,
}

async fn batch(State(api): Api, content: Body) -> Response {
    let hint = r#"send {"target": "hubspot", "by": "your name"}"#;
    match document(content, hint).await {
        Ok(Batch { target, by: By(by) }) => answer(&api, |reply| Ask::Batch { target, by, reply }).await,
        Err(problem) => problem.into_response(),
    }
}

#[derive(Deserialize)]
struct Behind {
    after: Option<CallId>,
}

async fn reconcile(
    State(api): Api,
    Path(target): Path<String>,
    behind: Result<Query<Behind>, axum::extract::rejection::QueryRejection>,
) -> Response {
    match behind {
        Ok(Query(Behind { after })) => answer(&api, |reply| Ask::Reconcile { target, after, reply }).await,
        Err(_) => Problem::new(400, "`after` is no call_id", "leave it out, or write the `next` of the page before").into_response(),
    }
}

#[derive(Deserialize)]
struct Since {
    since: Option<Wall>,
}

async fn attempts(
    State(api): Api,
    Path(number): Path<String>,
    since: Result<Query<Since>, axum::extract::rejection::QueryRejection>,
) -> Response {
    match since {
        Ok(Query(Since { since })) => answer(&api, |reply| Ask::Attempts { number, since, reply }).await,
        Err(_) => Problem::new(400, "`since` is no time", "write ?since=2026-01-05T10:00:00Z, or leave it out").into_response(),
    }
}

#[derive(Deserialize)]
struct Released {
    source: Option<String>,
    after: Option<(String, String)>,
}

async fn release(State(api): Api, content: Body) -> Response {
    let hint = r#"send {"source": "platform", "after": ["platform", "NAME"]}; both may be left out"#;
    match document(content, hint).await {
        Ok(Released { source, after }) => answer(&api, |reply| Ask::Release { source, after, reply }).await,
        Err(problem) => problem.into_response(),
    }
}

async fn retention(State(api): Api, page: Limit) -> Response {
    match limit(page) {
        Ok(limit) => answer(&api, |reply| Ask::Retention { limit, reply }).await,
        Err(problem) => problem.into_response(),
    }
}

#[derive(Deserialize)]
struct Ordered {
    call_id: CallId,
    action: What,
    by: By,
    reason: Option<String>,
}

async fn order(State(api): Api, content: Body) -> Response {
    let hint =
        r#"send {"call_id": "…", "action": "hold", "release" or "erase", "by": "your name", "reason": "…"}; the reason may be left out"#;
    match document(content, hint).await {
        Ok(Ordered { call_id: call, action: what, by: By(by), reason }) => {
            answer(&api, |reply| Ask::Order { order: Order { call, what, by, reason }, reply }).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn health(State(api): Api) -> Response {
    let parts = api.health.parts();
    let failing = parts.iter().filter(|p| !p.ok).map(|p| p.name).collect::<Vec<_>>();
    if failing.is_empty() {
        return axum::Json(json!({"ok": true, "parts": parts})).into_response();
    }
    let parts = serde_json::to_value(&parts).unwrap_or(Value::Null);
    Problem::new(503, format!("not well: {}", failing.join(", ")), "each part of `parts` that is not ok says why; the log says more")
        .with("ok", json!(false))
        .with("parts", parts)
        .into_response()
}

async fn metrics(State(api): Api) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], api.metrics.render()).into_response()
}

/// Where good tokens are.
const TOKENS: &str = "a token that `tokens_file`, `tokens_env` or `tokens_command` of [http] gives";
/// Longest the driver may take: a secure phase waits for every sink, a webhook for the disk.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest a body may take to come.
const READ: Duration = Duration::from_secs(10);
/// A webhook's longest body: a transcript of an hour's call is about 100 kB.
pub(super) const WEBHOOK_BYTES_MAX: usize = 1 << 20;
/// A switch of the secure phase is a short sentence.
const SECURE_BYTES_MAX: usize = 4096;
/// A decision may hold texts of the CRM, each of 65,536 characters at most, as it was and as it is.
const DECISION_BYTES_MAX: usize = 1 << 19;
/// Calls listed where nobody says how many.
const CALLS_DEFAULT: usize = 100;
/// Calls listed at most.
const CALLS_MAX: usize = 1000;
