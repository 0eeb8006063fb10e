//! One call: its two legs, its life from the INVITE to its one terminal event.
//!
//! A call owns no transport: it is handed what happened and a [`World`] to act in. What it does with SIP goes through the gateway's
//! endpoint, what it does with media and events into the world's outbox.
//!
//! ```text
//! Trying ── a target answers ──► Up ──► Over          each attempt: port opened, INVITE, ring time
//!    └── none does, or the caller gives up ──► Over    Up: failover, transfer, secure phases, digits
//! ```

mod answer;
mod attempt;
mod digits;
mod end;
mod leg;
mod ports;
mod request;
mod secure;
mod transfer;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use crate::{
    chance::Chance,
    dtmf::Digit,
    event::{CallId, EndedAs, EndedBy, Event, Kind, Leg as Side, Outcome, SipCallIds},
    media::{self, Report},
    route::{NoRoute, Route, Table, Trunk},
    sip::{
        Request, Response,
        endpoint::{ClientId, Destination, Endpoint, ServerId, Source, Transport, Why},
    },
    time::{Instant, Now},
};

pub use ports::Ports;
pub use secure::{Confirmed, SecureAnswer};

use attempt::Attempt;
use digits::Run;
use leg::Leg;
use secure::Phase;
use transfer::Transfer;

/// A listener: what is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Over what.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

/// What a call acts in.
pub struct World<'w> {
    /// Both clocks.
    pub now: Now,
    /// SIP.
    pub endpoint: &'w mut Endpoint,
    /// Trunks, targets, routes.
    pub table: &'w Table,
    /// Listeners, by their id.
    pub listeners: &'w [Local],
    /// RTP ports.
    pub ports: &'w mut Ports,
    /// Tags and session ids.
    pub chance: &'w mut Chance,
    /// What comes out.
    pub out: &'w mut Outbox,
}

/// What a call wants done beside SIP.
#[derive(Debug, Default)]
pub struct Outbox {
    /// For media.
    pub media: Vec<media::Command>,
    /// For the journal.
    pub events: Vec<Event>,
    /// Answers to secure phases that the API asked for.
    pub secured: Vec<(u64, SecureAnswer)>,
    /// Requests whose answers are this call's.
    pub clients: Vec<ClientId>,
    /// Dialogs that are this call's: Call-ID and our tag.
    pub dialogs: Vec<((String, String), Side)>,
}

/// What a request of ours was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The INVITE of the attempt under way.
    Invite,
    /// An INVITE that is not wanted any more: its 2xx is ended at once.
    Unwanted,
    /// Whether a leg lives.
    Probe(Side),
    /// Nobody waits for it.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The caller waits.
    Trying,
    /// The caller has his answer.
    Up,
    /// The terminal event is out; media and last requests come to their end.
    Over,
}

/// See the module.
pub struct Call {
    id: CallId,
    route: Route,
    trunk: Trunk,
    invited: Now,
    state: State,
    /// The caller's INVITE and by which to answer it.
    invite: Request,
    server: ServerId,
    our_tag: String,
    number: String,
    caller: Leg,
    callee: Option<Leg>,
    attempt: Option<Attempt>,
    /// Targets that were not tried yet, as indices.
    left: Vec<usize>,
    /// Whether the caller was told that it rings.
    ringing: bool,
    answered: Option<Instant>,
    /// The last final status and reason that a target gave.
    refusal: Option<(u16, String)>,
    /// The network's own cause that came with it (Q.850).
    refusal_cause: Option<u8>,
    clients: BTreeMap<ClientId, Purpose>,
    /// Cancelled INVITEs whose final answer is still to come: it may be a 2xx that crossed.
    cancelled: BTreeSet<ClientId>,
    /// Where those INVITEs went that nobody waits for any more.
    unwanted: BTreeMap<ClientId, Destination>,
    probes: BTreeMap<Side, (ClientId, Instant)>,
    transfer: Option<Transfer>,
    transferred: bool,
    phase: Phase,
    next_ask: u32,
    secure_ms: i64,
    recording: bool,
    runs: BTreeMap<Side, Run>,
    sequence: u32,
    omitted: u32,
    media_ended: bool,
    /// When a call that is over is forgotten even if media never says so.
    forget_at: Option<Instant>,
    outcome: Option<Outcome>,
}

/// Why a call is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// SIP status.
    pub status: u16,
    /// The contract's word for it, for metrics.
    pub cause: &'static str,
    /// Which rule, which header, which trunk nearly matched.
    pub why: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, cause: &'static str, why: impl Into<String>) -> Self {
        Self { status, cause, why: why.into() }
    }
}

impl From<NoRoute> for Refusal {
    fn from(no: NoRoute) -> Self {
        match no {
            NoRoute::Stranger { .. } => Self::new(403, "stranger", no.to_string()),
            NoRoute::Number { .. } => Self::new(404, "number", no.to_string()),
        }
    }
}

/// Events a call may write beside its terminal one. What exceeds it is counted: a call that sends ten thousand digits fills no disk.
pub const EVENTS_MAX: u32 = 64;

impl Call {
    /// Takes an INVITE: answers 100, opens a port, tries the first target.
    pub fn start(
        world: &mut World<'_>,
        trunk: Trunk,
        route: Route,
        invite: Request,
        server: ServerId,
        source: Source,
    ) -> Result<Self, Refusal> {
        let number = invite.uri.user().unwrap_or_default().to_owned();
        let id = CallId(world.chance.uuid_v7(world.now.wall));
        let our_tag = world.chance.token();
        let caller = Leg::caller(world, &trunk, &invite, &source)?;
        let from = invite.from().ok().and_then(|f| f.uri.user().map(str::to_owned)).unwrap_or_else(|| "anonymous".into());
        let mut call = Self {
            id,
            left: route.targets.iter().rev().copied().collect(),
            route,
            trunk,
            invited: world.now,
            state: State::Trying,
            invite,
            server,
            our_tag,
            number,
            caller,
            callee: None,
            attempt: None,
            ringing: false,
            answered: None,
            refusal: None,
            refusal_cause: None,
            clients: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            unwanted: BTreeMap::new(),
            probes: BTreeMap::new(),
            transfer: None,
            transferred: false,
            phase: Phase::Off,
            next_ask: 0,
            secure_ms: 0,
            recording: false,
            runs: BTreeMap::new(),
            sequence: 0,
            omitted: 0,
            media_ended: false,
            forget_at: None,
            outcome: None,
        };
        let trying = call.invite.response(100, None, None);
        world.endpoint.respond(world.now.mono, server, trying);
        world.out.media.push(media::Command::Open { call: id, leg: Side::Caller, local: call.caller.local });
        call.emit(
            world,
            Kind::Started {
                from,
                to: call.number.clone(),
                trunk: call.trunk.name.clone(),
                route: call.route.name.clone(),
                sip_call_ids: SipCallIds { caller: call.invite.call_id().to_owned(), callee: None },
            },
        );
        call.try_next(world);
        Ok(call)
    }

    /// Its id.
    pub const fn id(&self) -> CallId {
        self.id
    }

    /// Whether it may be forgotten.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Over) && self.media_ended && self.cancelled.is_empty()
    }

    /// Whether it has not ended yet.
    pub const fn is_live(&self) -> bool {
        !matches!(self.state, State::Over)
    }

    /// How it was met, once it is over.
    pub const fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Dialogs that stand.
    pub fn dialogs(&self) -> usize {
        if self.is_live() { usize::from(self.caller.dialog.is_some()) + usize::from(self.callee.is_some()) } else { 0 }
    }

    /// Events that may still come, the terminal one among them.
    pub const fn events_left(&self) -> usize {
        if self.is_live() { (EVENTS_MAX.saturating_sub(self.sequence) as usize).saturating_add(1) } else { 0 }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let probes = self.probes.values().map(|(_, at)| *at).min();
        let runs = self.runs.values().map(Run::ends_at).min();
        let attempt = self.attempt.as_ref().map(|a| a.until);
        [probes, runs, attempt, self.phase.until(), self.forget_at].into_iter().flatten().min()
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, world: &mut World<'_>) {
        let now = world.now.mono;
        if self.forget_at.is_some_and(|at| at <= now) {
            self.media_ended = true;
            self.forget_at = None;
        }
        self.end_runs(world, now);
        self.phase_timeout(world);
        if self.attempt.as_ref().is_some_and(|a| a.until <= now) {
            self.attempt_timed_out(world);
        }
        let silent = self.probes.iter().find(|(_, (_, at))| *at <= now).map(|(side, _)| *side);
        if let Some(side) = silent {
            self.probes.remove(&side);
            self.leg_lost(world, side, "an OPTIONS in the dialog was not answered");
        }
    }

    /// An answer to a request of this call.
    pub fn handle_response(&mut self, world: &mut World<'_>, client: ClientId, response: &Response) {
        let purpose = self.clients.get(&client).copied();
        if response.status >= 200 {
            self.cancelled.remove(&client);
        }
        if response.status >= 200 && purpose != Some(Purpose::Invite) && purpose != Some(Purpose::Unwanted) {
            self.clients.remove(&client);
        }
        match purpose {
            Some(Purpose::Invite) => self.invite_answered(world, client, response),
            Some(Purpose::Unwanted) => self.unwanted_answered(world, client, response),
            Some(Purpose::Probe(side)) if response.status >= 200 => {
                self.probes.remove(&side);
                // RFC 3261 §12.2.1.2: these two say that the dialog is gone.
                if matches!(response.status, 408 | 481) {
                    self.leg_lost(world, side, "its end does not know the dialog any more");
                }
            }
            Some(Purpose::Probe(_) | Purpose::Other) | None => {}
        }
    }

    /// A request of this call gets no answer.
    pub fn handle_gone(&mut self, world: &mut World<'_>, client: ClientId, why: Why) {
        self.cancelled.remove(&client);
        match self.clients.remove(&client) {
            Some(Purpose::Invite) => {
                let status = if why == Why::Timeout { 408 } else { 502 };
                self.attempt_failed(world, status, &why.to_string());
            }
            Some(Purpose::Probe(side)) => {
                self.probes.remove(&side);
                self.leg_lost(world, side, &format!("an OPTIONS in the dialog: {why}"));
            }
            Some(Purpose::Unwanted | Purpose::Other) | None => {}
        }
    }

    /// The connection to a peer broke: whether its leg lives is asked at once.
    pub fn handle_disconnected(&mut self, world: &mut World<'_>, remote: SocketAddr) {
        if self.state != State::Up {
            return;
        }
        let at = |leg: &Leg| leg.transport == Transport::Tcp && leg.peer == remote;
        let callee = self.callee.as_ref().is_some_and(at);
        if callee {
            self.probe(world, Side::Callee);
        } else if at(&self.caller) {
            self.probe(world, Side::Caller);
        }
    }

    /// Media tells something.
    pub fn handle_report(&mut self, world: &mut World<'_>, report: Report) {
        match report {
            Report::Opened { leg: Side::Caller, .. } => {
                self.caller.opened = true;
                self.maybe_answer(world);
            }
            Report::Opened { leg: Side::Callee, .. } => self.attempt_opened(world),
            Report::BindFailed { leg, why, .. } => self.bind_failed(world, leg, &why),
            Report::Digit { leg, digit, at, duration_ms, method, .. } => self.digit(world, leg, digit, at, duration_ms, method),
            Report::KeySequence { on, .. } => self.secure_by_keys(world, on),
            Report::Secured { ask, sink, on, at, .. } => self.sink_confirmed(world, ask, sink, on, at),
            Report::SinkFailed { ask, sink, why, .. } => self.sink_failed(world, ask, sink, &why),
            Report::Silence { leg, from, to, .. } => self.silent(world, leg, from, to),
            Report::NoMedia { leg, since, .. } => self.no_media(world, leg, since),
            Report::MediaBack { .. } => {}
            Report::Ended { .. } => {
                self.media_ended = true;
                self.forget_at = None;
            }
        }
    }

    fn silent(&mut self, world: &mut World<'_>, leg: Side, from: Instant, to: Instant) {
        if self.state != State::Up {
            return;
        }
        let ms = |at: Instant| at.millis_since(self.invited.mono);
        self.emit(world, Kind::Silence { leg, kind: "silence".into(), from_ms: ms(from), to_ms: ms(to) });
        if self.route.silence_hang_up {
            self.hang_up(
                world,
                EndedBy::Gateway,
                EndedAs::Completed,
                Some("the caller was silent for longer than the route allows".into()),
            );
        }
    }

    fn no_media(&mut self, world: &mut World<'_>, leg: Side, since: Instant) {
        if self.state != State::Up || self.attempt.is_some() {
            return;
        }
        let ms = |at: Instant| at.millis_since(self.invited.mono);
        let to_ms = ms(world.now.mono);
        self.emit(world, Kind::Silence { leg, kind: "no_media".into(), from_ms: ms(since), to_ms });
        self.probe(world, leg);
    }

    /// Asks a leg whether it lives. Not for the 32 s of a transaction: the caller hears nothing meanwhile.
    fn probe(&mut self, world: &mut World<'_>, side: Side) {
        if self.probes.contains_key(&side) {
            return;
        }
        if let Some(client) = self.send(world, side, crate::sip::Method::OPTIONS, Purpose::Probe(side), |_| {}) {
            self.probes.insert(side, (client, world.now.mono + PROBE));
        }
    }

    /// A leg is dead. The caller's end is the call's; the platform's is worth one more target.
    fn leg_lost(&mut self, world: &mut World<'_>, side: Side, why: &str) {
        if self.state != State::Up {
            return;
        }
        match side {
            Side::Caller => self.fail(world, 0, &format!("the caller is gone: {why}")),
            Side::Callee => self.failover(world, why),
        }
    }

    /// Writes an event, as long as the call may write one more.
    fn emit(&mut self, world: &mut World<'_>, kind: Kind) {
        if self.sequence >= EVENTS_MAX && !kind.is_terminal() {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        self.sequence = self.sequence.saturating_add(1);
        let at_ms = world.now.mono.millis_since(self.invited.mono);
        world.out.events.push(Event { call_id: self.id, sequence: self.sequence, time: world.now.wall, at_ms, kind });
    }

    /// Text of keys as they may be written down.
    fn keys(digits: &[Digit]) -> String {
        crate::dtmf::to_text(digits)
    }
}

/// How long a leg may take to say that it lives.
const PROBE: std::time::Duration = std::time::Duration::from_secs(4);
