//! SIP (RFC 3261): messages, stream framing, transactions, dialogs, and the endpoint that holds them together.

//pub mod dialog;
//pub mod endpoint;
//mod framing;
pub mod message;
//mod transaction;
mod uri;

//pub use dialog::Dialog;
//pub use endpoint::Endpoint;
pub use message::{Message, Method, NameAddr, Request, Response};
pub use uri::Uri;
