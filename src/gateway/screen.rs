//! What a request outside of any dialog is answered before anybody asks whose it is: by its method and headers alone.

use super::admit::ALLOW;
use crate::sip::{Method, Request};

/// Why a request is not looked at further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screened {
    /// What it is answered.
    pub status: u16,
    /// One sentence with the RFC's section.
    pub why: &'static str,
}

/// The answer to what this gateway, which is no registrar and knows no extension, cannot serve.
pub fn screen(request: &Request) -> Option<Screened> {
    let screened = |status, why| Some(Screened { status, why });
    if !request.uri.is_sip() {
        return screened(416, "only sip and sips are understood in a Request-URI (RFC 3261 §8.2.2.1)");
    }
    // §16.3 is for proxies; a gateway that passes calls on can be part of a loop as well as they. OPTIONS asks who stands there.
    if request.max_forwards().ok().flatten() == Some(0) && request.method != Method::OPTIONS {
        return screened(483, "Max-Forwards is used up (RFC 3261 §21.4.21)");
    }
    if request.headers.values("Require").next().is_some() {
        return screened(420, "it requires an extension, and none is ours (RFC 3261 §8.2.2.3)");
    }
    match &request.method {
        m if *m == Method::INVITE || *m == Method::OPTIONS => None,
        // In a dialog only, and there is none.
        m if [Method::BYE, Method::INFO, Method::NOTIFY, Method::REFER, Method::UPDATE, Method::PRACK].contains(m) => {
            screened(481, "its method belongs into a dialog, and there is none (RFC 3261 §12.2.2)")
        }
        // Methods that exist, though not for us (RFC 3261 §21.4.6 and §21.5.2 tell these apart).
        Method::Known(_) => screened(405, "this gateway is no registrar and no server of messages or events (RFC 3261 §21.4.6)"),
        Method::Other(_) => screened(501, "the method is not known (RFC 3261 §21.5.2)"),
    }
}

/// Whether an answer of that status names the methods that are understood (RFC 3261 §20.5).
pub(super) fn allow(status: u16, method: &Method) -> Option<&'static str> {
    (matches!(status, 405 | 501) || *method == Method::OPTIONS).then_some(ALLOW)
}
