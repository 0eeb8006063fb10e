//! HTTP: the server that people, platforms and monitors ask, and the client that CRMs are asked by.
//!
//! The server decides nothing about calls or webhooks: it turns a request into an [`Ask`] or a [`Webhook`], hands it to the driver, and turns
//! the answer into JSON. Every refusal is an RFC 9457 problem with a `hint`.

mod api;
mod client;
mod door;
mod pinned;
mod problem;
mod server;
#[cfg(test)]
mod tests;
mod write_limit;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    event::CallId,
    pipeline::{Decision, Order, Recover},
    time::Wall,
};

pub use client::{Client, Failed, Reply, Request};
pub use door::Door;
pub use problem::Problem;
pub(in crate::shell) use server::acceptor;
pub use server::{Error, Options, Server};

/// `POST /v1/webhooks/{source}`: a webhook as it came, and who waits for its answer.
#[derive(Debug)]
pub struct Webhook {
    /// Last part of the address.
    pub source: String,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// What follows the question mark of the address.
    pub query: String,
    /// The octets as they came, since the signature is over them.
    pub body: Bytes,
    /// Status, and for a refusal what is wrong.
    pub reply: oneshot::Sender<Answer>,
}

/// Who takes webhooks. It is called by the task of the sender's connection, which it may keep busy but not waiting.
pub type Webhooks = Arc<dyn Fn(Webhook) + Send + Sync>;

/// What else the server wants to know or have done.
#[derive(Debug)]
pub enum Ask {
    /// `POST /v1/calls/{call_id}/secure`.
    Secure {
        /// Which call.
        call: CallId,
        /// Start or end.
        on: bool,
        /// As given.
        reason: String,
        /// What became of it.
        reply: oneshot::Sender<Answer>,
    },
    /// `POST /v1/queue`: a person decides on a write that waits for him.
    Decide {
        /// Name of the CRM.
        target: String,
        /// Which call.
        call: CallId,
        /// What is done.
        decision: Decision,
        /// Who decides, as he says.
        by: String,
        /// Status, and for a refusal what is wrong.
        reply: oneshot::Sender<Answer>,
    },
    /// `POST /v1/recover`: calls are told again to their CRMs.
    Recover {
        /// Which, and how.
        recover: Recover,
        /// The operation, and how it stands.
        reply: oneshot::Sender<Answer>,
    },
    /// `GET /v1/recover/{operation}`: how a recovery stands.
    Recovery {
        /// Which.
        operation: String,
        /// A document, or 404.
        reply: oneshot::Sender<Answer>,
    },
    /// `POST /v1/batch`: what waits for the next batch of a CRM is written now.
    Batch {
        /// Which CRM.
        target: String,
        /// Who asks.
        by: String,
        /// Status.
        reply: oneshot::Sender<Answer>,
    },
    /// `GET /v1/reconcile/{target}`: what the CRM holds beside what it was told, of the next calls.
    Reconcile {
        /// Which CRM.
        target: String,
        /// Behind which call.
        after: Option<CallId>,
        /// A document.
        reply: oneshot::Sender<Answer>,
    },
    /// `GET /v1/contacts/{number}/attempts`: the calls of a number.
    Attempts {
        /// In whatever form.
        number: String,
        /// Those that began since then; none: all.
        since: Option<Wall>,
        /// A document.
        reply: oneshot::Sender<Answer>,
    },
    /// `POST /v1/quarantine`: webhooks whose signature was wrong are verified again, a page at a time.
    Release {
        /// Of this source; none: of all.
        source: Option<String>,
        /// Source and name of the last one of the page before.
        after: Option<(String, String)>,
        /// What came of it.
        reply: oneshot::Sender<Answer>,
    },
    /// `POST /v1/retention`: somebody orders something of what is kept of a call.
    Order {
        /// Which call, what, who and why.
        order: Order,
        /// What came of it.
        reply: oneshot::Sender<Answer>,
    },
    /// `GET /v1/retention`: which calls are held, and which were erased.
    Retention {
        /// No more than so many.
        limit: usize,
        /// A document.
        reply: oneshot::Sender<Answer>,
    },
    /// `GET /v1/queue`: how many writes stand how.
    Queue {
        /// A document.
        reply: oneshot::Sender<Answer>,
    },
    /// `GET /v1/calls`: live ones, then ended ones, newest first.
    Calls {
        /// No more than so many.
        limit: usize,
        /// A document.
        reply: oneshot::Sender<Answer>,
    },
    /// `GET /v1/calls/{call_id}`.
    Call {
        /// Which.
        call: CallId,
        /// A document, or 404.
        reply: oneshot::Sender<Answer>,
    },
}

/// A document, or why there is none.
pub type Answer = Result<Value, Problem>;
