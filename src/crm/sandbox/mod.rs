//! Doubles of CRMs: they answer as the vendor's API is documented to, keep what is written, and fail where they are told to.
//!
//! Pure: a request and a time go in, an answer and lines of a ledger come out. `shell::sandbox` gives it a socket. [`Double`] is what all vendors share: faults,
//! the ledger, the answer that never comes; a [`Vendor`] is what one of them answers.

pub mod dynamics;
pub mod fault;
pub mod hubspot;
mod ledger;
mod request;
pub mod salesforce;
mod tokens;

use std::{fmt, time::Duration};

use serde_json::Value;

pub use dynamics::Dynamics;
pub use fault::{Action, Fault};
pub use hubspot::HubSpot;
pub use ledger::{Change, Ledger};
pub use request::{Request, SCHEME_HEADER};
pub use salesforce::Salesforce;
use tokens::{Standing, Tokens};

use crate::{
    chance::Chance,
    time::{Now, Wall},
};

/// The client that every double knows.
pub const CLIENT_ID: &str = "sim-client";
/// Secret of that client.
pub const CLIENT_SECRET: &str = "sim-secret";
/// The first refresh token.
pub const REFRESH_TOKEN: &str = "sim-refresh";

/// What an answer bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing, as with 204.
    Empty,
    /// JSON.
    Json(Value),
    /// Anything else: its Content-Type and its octets.
    Other(String, Vec<u8>),
}

impl Body {
    /// Its Content-Type; none without a body.
    pub fn content_type(&self) -> Option<&str> {
        match self {
            Self::Empty => None,
            Self::Json(_) => Some("application/json;charset=utf-8"),
            Self::Other(kind, _) => Some(kind),
        }
    }

    /// Its octets.
    pub fn octets(&self) -> Vec<u8> {
        match self {
            Self::Empty => Vec::new(),
            Self::Json(value) => value.to_string().into_bytes(),
            Self::Other(_, octets) => octets.clone(),
        }
    }
}

/// An answer as it leaves the CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names and values beside Content-Type.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Body,
}

impl Answer {
    fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Body::Json(body) }
    }

    /// The body where it is JSON, else null.
    pub fn json(&self) -> &Value {
        match &self.body {
            Body::Json(value) => value,
            Body::Empty | Body::Other(..) => &Value::Null,
        }
    }
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, after a while.
    Answer(Answer, Duration),
    /// The connection is closed without a word, after a while. Whether something was written is what nobody can tell from outside.
    Drop(Duration),
}

/// How a double behaves beside its contract.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Faults, the first that hits decides.
    pub faults: Vec<Fault>,
    /// Each refresh gives out a new refresh token, and the one before is worth nothing.
    pub rotate_tokens: bool,
}

/// What one vendor's API answers.
pub trait Vendor: Send {
    /// The answer to a request that no fault answers. It reaches the client after `takes`; what is changed goes into the ledger.
    fn answer(&mut self, now: Wall, takes: Duration, request: &Request, ledger: &mut Ledger) -> Answer;
    /// The answer, in the vendor's form, that a fault asks for; none where the fault asks for none.
    fn planned(&mut self, action: &Action, request: &Request) -> Option<Answer>;
    /// All access tokens given out so far are worth nothing any more.
    fn expire_tokens(&mut self);
    /// Takes the public key (DER of a SubjectPublicKeyInfo) that assertions are signed for; false where the vendor has no such grant.
    fn trust(&mut self, _public_key: Vec<u8>) -> bool {
        false
    }
}

/// Makes an account of a vendor's with nothing in it; `true` where refresh tokens rotate.
type Open = fn(bool, Chance) -> Box<dyn Vendor>;

/// The vendors by name.
pub const VENDORS: [(&str, Open); 3] = [
    // Entra gives out no refresh tokens.
    ("dynamics", |_, chance| Box::new(Dynamics::new(chance))),
    ("hubspot", |rotate, chance| Box::new(HubSpot::new(rotate, chance))),
    ("salesforce", |rotate, chance| Box::new(Salesforce::new(rotate, chance))),
];

/// A CRM's double.
pub struct Double {
    vendor: Box<dyn Vendor>,
    faults: Vec<Fault>,
    started: Option<Now>,
    ledger: Ledger,
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Double({} faults)", self.faults.len())
    }
}

impl Double {
    /// An account of that vendor with nothing in it; none where nobody knows the vendor.
    pub fn of(vendor: &str, options: Options, chance: Chance) -> Option<Self> {
        let (_, open) = VENDORS.iter().find(|(name, _)| *name == vendor)?;
        Some(Self::new(open(options.rotate_tokens, chance), options.faults))
    }

    /// That account, with faults.
    pub fn new(vendor: Box<dyn Vendor>, faults: Vec<Fault>) -> Self {
        Self { vendor, faults, started: None, ledger: Ledger::default() }
    }

    /// HubSpot's.
    pub fn hubspot(options: Options, chance: Chance) -> Self {
        Self::new(Box::new(HubSpot::new(options.rotate_tokens, chance)), options.faults)
    }

    /// Faults from now on, in place of those before.
    pub fn set_faults(&mut self, faults: Vec<Fault>) {
        self.faults = faults;
    }

    /// Takes the public key that a client's assertions are signed for; false where the vendor knows no assertions.
    pub fn trust(&mut self, public_key: Vec<u8>) -> bool {
        self.vendor.trust(public_key)
    }

    /// Lines of the ledger since the last time this was asked.
    pub fn take_ledger(&mut self) -> Vec<Value> {
        self.ledger.take()
    }

    /// A request came.
    pub fn handle(&mut self, now: Now, request: &Request) -> Outcome {
        let started = *self.started.get_or_insert(now);
        let action = fault::decide(&mut self.faults, request, now.mono.since(started.mono)).unwrap_or_default();
        if action.expire_tokens {
            self.vendor.expire_tokens();
        }
        if action.drop {
            self.ledger.request(now.wall, request, None);
            return Outcome::Drop(action.delay());
        }
        let answer = match self.vendor.planned(&action, request) {
            Some(answer) => answer,
            None => self.vendor.answer(now.wall, action.delay(), request, &mut self.ledger),
        };
        self.ledger.request(now.wall, request, Some(answer.status));
        if action.apply_then_drop { Outcome::Drop(action.delay()) } else { Outcome::Answer(answer, action.delay()) }
    }
}
