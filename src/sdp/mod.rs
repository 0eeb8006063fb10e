//! Session descriptions (RFC 8866) and the offer/answer model (RFC 3264) for one audio stream.
//!
//! ```text
//! let offer = Session::parse(body)?;                                  // octets -> sense, or an error that says where
//! let answer = negotiate::answer(&offer, &capabilities, ours, origin)?; // sense -> sense
//! answer.session.emit()                                              // sense -> octets
//! ```

pub mod negotiate;
mod parse;
mod session;
#[cfg(test)]
mod tests;

pub use negotiate::{Agreed, Answer, Capabilities, Refused, TelephoneEvent};
pub use parse::Error;
pub use session::{Attribute, Direction, Media, Origin, Rtpmap, Session};
