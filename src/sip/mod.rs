//! SIP (RFC 3261): messages, stream framing, transactions, dialogs, and the endpoint that holds them together.

pub mod dialog;
pub mod endpoint;
pub mod framing;
pub mod message;
pub mod transaction;
pub mod uri;

pub use dialog::Dialog;
pub use endpoint::Endpoint;
pub use message::{Message, Method, NameAddr, Request, Response};
pub use uri::Uri;

#[cfg(test)]
mod torture;
