//! THE signalling machine: tells requests apart, admits calls, and lets them act.
//!
//! Sockets, media threads, journal and API are somebody else's: octets and values come in with the time, values go out.
//!
//! ```text
//! gateway.handle_…(now, …);  while let Some(output) = gateway.poll_output() { … };  gateway.next_timeout()
//! ```

mod admit;
pub mod screen;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    ops::RangeInclusive,
};

use crate::{
    call::{Call, EVENTS_MAX, Local, Outbox, Ports, SecureAnswer, World},
    chance::Chance,
    event::{CallId, Event, Leg as Side, Outcome},
    media::{self, Report},
    route::Table,
    sip::{
        Request,
        endpoint::{self, ClientId, ConnectionId, Endpoint, ListenerId, ServerId, Source, Transmit},
    },
    time::{Instant, Now},
};

/// What the gateway goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// Trunks, targets, routes.
    pub table: Table,
    /// Listeners, by their id; the addresses really bound.
    pub listeners: Vec<Local>,
    /// RTP ports.
    pub ports: RangeInclusive<u16>,
    /// Calls at a time.
    pub calls_max: usize,
    /// The answer to a call too many.
    pub overload_status: u16,
    /// Retry-After with it, s.
    pub retry_after_s: Option<u64>,
    /// Events that may be on their way to the disk, those reserved by calls among them.
    pub events_max: usize,
    /// Whether calls go on without write-back when the journal takes nothing.
    pub carry_without_journal: bool,
}

/// What somebody outside wants.
#[derive(Clone, Debug)]
pub enum Command {
    /// Switch a secure phase; answered by [`Output::Secured`].
    Secure {
        /// Comes back.
        ask: u64,
        /// Which call.
        call: CallId,
        /// Start or end.
        on: bool,
        /// As given.
        reason: String,
    },
    /// No new calls from now on.
    Drain,
    /// End all calls now.
    EndCalls,
    /// A target's name has another address.
    Moved {
        /// Its index.
        target: usize,
        /// Where it is.
        address: SocketAddr,
    },
}

/// What the journal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalWord {
    /// So many events more are on disk, or were lost with it.
    Done(usize),
    /// It takes nothing any more.
    Closed,
    /// It takes entries again.
    Opened,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// On the network.
    Transmit(Transmit),
    /// By media.
    Media(media::Command),
    /// Into the journal; acknowledged by [`JournalWord::Done`].
    Event(Event),
    /// The answer to [`Command::Secure`].
    Secured {
        /// As given.
        ask: u64,
        /// What became of it.
        answer: SecureAnswer,
    },
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that live.
    pub calls: usize,
    /// Dialogs that stand.
    pub dialogs: usize,
    /// SIP transactions that still have something to come.
    pub transactions: usize,
    /// RTP ports taken.
    pub ports: usize,
    /// Calls ended, by how they were met.
    pub ended: BTreeMap<Outcome, u64>,
    /// Calls refused before admission, by cause.
    pub refused: BTreeMap<&'static str, u64>,
    /// SIP messages that could not be read.
    pub malformed: u64,
}

/// See the module.
pub struct Gateway {
    config: Config,
    endpoint: Endpoint,
    ports: Ports,
    chance: Chance,
    calls: BTreeMap<CallId, Call>,
    /// Whose answers they are.
    clients: BTreeMap<ClientId, CallId>,
    /// Whose INVITE it is.
    invites: BTreeMap<ServerId, CallId>,
    /// Whose dialog it is, by Call-ID and our tag.
    dialogs: BTreeMap<(String, String), (CallId, Side)>,
    timers: BTreeSet<(Instant, CallId)>,
    timer_of: BTreeMap<CallId, Instant>,
    outputs: VecDeque<Output>,
    /// Events on their way to the disk.
    events_out: usize,
    journal_open: bool,
    draining: bool,
    ended: BTreeMap<Outcome, u64>,
    refused: BTreeMap<&'static str, u64>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gateway({} calls)", self.calls.len())
    }
}

impl Gateway {
    /// Without a call.
    pub fn new(config: Config, mut chance: Chance) -> Self {
        Self {
            endpoint: Endpoint::new(chance.split()),
            ports: Ports::new(config.ports.clone(), &mut chance),
            config,
            chance,
            calls: BTreeMap::new(),
            clients: BTreeMap::new(),
            invites: BTreeMap::new(),
            dialogs: BTreeMap::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            outputs: VecDeque::new(),
            events_out: 0,
            journal_open: true,
            draining: false,
            ended: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        // What a call wants of media goes before its SIP: whoever is told of a port may use it at once.
        self.outputs.pop_front().or_else(|| self.endpoint.poll_transmit().map(Output::Transmit))
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let call = self.timers.first().map(|(at, _)| *at);
        [call, self.endpoint.next_timeout()].into_iter().flatten().min()
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.endpoint.handle_timeout(now.mono);
        self.drain_endpoint(now);
        while let Some((at, call)) = self.timers.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.timers.remove(&(at, call));
            self.timer_of.remove(&call);
            self.with_call(now, call, Call::handle_timeout);
        }
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Now, listener: ListenerId, remote: SocketAddr, octets: &[u8]) {
        self.endpoint.handle_datagram(now.mono, listener, remote, octets);
        self.drain_endpoint(now);
    }

    /// A stream stands.
    pub fn handle_connected(&mut self, now: Now, connection: ConnectionId, remote: SocketAddr, listener: ListenerId) {
        self.endpoint.handle_connected(connection, remote, listener);
        self.drain_endpoint(now);
    }

    /// Octets of a stream came.
    pub fn handle_stream(&mut self, now: Now, connection: ConnectionId, octets: &[u8]) {
        self.endpoint.handle_stream(now.mono, connection, octets);
        self.drain_endpoint(now);
    }

    /// A stream is gone.
    pub fn handle_closed(&mut self, now: Now, connection: ConnectionId) {
        self.endpoint.handle_closed(now.mono, connection);
        self.drain_endpoint(now);
    }

    /// Media tells something.
    pub fn handle_report(&mut self, now: Now, report: Report) {
        let call = report.call();
        self.with_call(now, call, |c, world| c.handle_report(world, report));
    }

    /// Somebody wants something.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        match command {
            Command::Secure { ask, call, on, reason } => {
                let live = self.calls.get(&call).is_some_and(Call::is_live);
                if live {
                    self.with_call(now, call, |c, world| c.secure_by_api(world, ask, on, reason));
                } else {
                    self.outputs.push_back(Output::Secured { ask, answer: SecureAnswer::NoCall });
                }
            }
            Command::Drain => self.draining = true,
            Command::EndCalls => {
                let calls = self.calls.keys().copied().collect::<Vec<_>>();
                for call in calls {
                    self.with_call(now, call, Call::shut);
                }
            }
            Command::Moved { target, address } => {
                if let Some(target) = self.config.table.targets.get_mut(target) {
                    target.address = address;
                }
            }
        }
    }

    /// The journal says something.
    pub fn handle_journal(&mut self, word: JournalWord) {
        match word {
            JournalWord::Done(events) => self.events_out = self.events_out.saturating_sub(events),
            JournalWord::Closed => self.journal_open = false,
            JournalWord::Opened => self.journal_open = true,
        }
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        Stats {
            calls: self.live_calls(),
            dialogs: self.calls.values().map(Call::dialogs).sum(),
            transactions: self.endpoint.transactions_active(),
            ports: self.ports.in_use(),
            ended: self.ended.clone(),
            refused: self.refused.clone(),
            malformed: self.endpoint.stats().malformed,
        }
    }

    /// Calls that have not ended.
    pub fn live_calls(&self) -> usize {
        self.calls.values().filter(|c| c.is_live()).count()
    }

    fn drain_endpoint(&mut self, now: Now) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                endpoint::Event::Request { server, request, source } => self.handle_request(now, server, request, source),
                endpoint::Event::Ack { server, request } => {
                    if let Some(call) = self.invites.get(&server).copied() {
                        self.with_call(now, call, |c, world| c.handle_ack(world, &request));
                    }
                }
                endpoint::Event::Cancel { server, .. } => {
                    if let Some(call) = self.invites.get(&server).copied() {
                        self.with_call(now, call, Call::handle_cancel);
                    }
                }
                endpoint::Event::AckMissing { server } => {
                    if let Some(call) = self.invites.get(&server).copied() {
                        self.with_call(now, call, Call::handle_ack_missing);
                    }
                }
                endpoint::Event::Response { client, response } => {
                    if let Some(call) = self.clients.get(&client).copied() {
                        self.with_call(now, call, |c, world| c.handle_response(world, client, &response));
                    }
                }
                endpoint::Event::Gone { client, why } => {
                    if let Some(call) = self.clients.remove(&client) {
                        self.with_call(now, call, |c, world| c.handle_gone(world, client, why));
                    }
                }
                endpoint::Event::Disconnected { remote, .. } => {
                    let calls = self.calls.iter().filter(|(_, c)| c.is_live()).map(|(id, _)| *id).collect::<Vec<_>>();
                    for call in calls {
                        self.with_call(now, call, |c, world| c.handle_disconnected(world, remote));
                    }
                }
                endpoint::Event::Refused { status, why, remote } => {
                    tracing::info!(%remote, ?status, %why, "a SIP message cannot be used");
                }
            }
        }
    }

    /// A request that begins no transaction that we know: of a dialog, or new.
    fn handle_request(&mut self, now: Now, server: ServerId, request: Request, source: Source) {
        let tag = request.to().ok().and_then(|to| to.tag().map(str::to_owned));
        match tag {
            Some(tag) => {
                let key = (request.call_id().to_owned(), tag);
                match self.dialogs.get(&key).copied() {
                    Some((call, side)) if self.calls.contains_key(&call) => {
                        self.with_call(now, call, |c, world| c.handle_request(world, side, server, &request, &source));
                    }
                    _ => self.answer(now, server, &request, 481, None),
                }
            }
            None => self.handle_new(now, server, request, source),
        }
    }

    fn answer(&mut self, now: Now, server: ServerId, request: &Request, status: u16, why: Option<&str>) {
        let tag = self.chance.token();
        let mut response = request.response(status, None, Some(&tag));
        if let Some(allow) = screen::allow(status, &request.method) {
            response.headers.push("Allow", allow);
        }
        if let Some(why) = why {
            response.headers.push("Warning", format!("399 offhook \"{}\"", why.replace(['"', '\\', '\r', '\n'], " ")));
        }
        self.endpoint.respond(now.mono, server, response);
    }

    /// Lets a call act, and takes what it wants done.
    fn with_call(&mut self, now: Now, id: CallId, act: impl FnOnce(&mut Call, &mut World<'_>)) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        let was_live = call.is_live();
        let mut out = Outbox::default();
        act(&mut call, &mut self.world(now, &mut out));
        self.settle(call, was_live, out);
    }

    fn world<'w>(&'w mut self, now: Now, out: &'w mut Outbox) -> World<'w> {
        World {
            now,
            endpoint: &mut self.endpoint,
            table: &self.config.table,
            listeners: &self.config.listeners,
            ports: &mut self.ports,
            chance: &mut self.chance,
            out,
        }
    }

    fn settle(&mut self, call: Call, was_live: bool, out: Outbox) {
        let id = call.id();
        self.outputs.extend(out.media.into_iter().map(Output::Media));
        self.events_out = self.events_out.saturating_add(out.events.len());
        self.outputs.extend(out.events.into_iter().map(Output::Event));
        self.outputs.extend(out.secured.into_iter().map(|(ask, answer)| Output::Secured { ask, answer }));
        self.clients.extend(out.clients.into_iter().map(|client| (client, id)));
        self.dialogs.extend(out.dialogs.into_iter().map(|(key, side)| (key, (id, side))));
        if was_live && let Some(outcome) = call.outcome() {
            let count = self.ended.entry(outcome).or_default();
            *count = count.saturating_add(1);
        }
        if let Some(at) = self.timer_of.remove(&id) {
            self.timers.remove(&(at, id));
        }
        if call.is_gone() {
            // What still comes for it is answered 481, as for any dialog that is no more.
            self.clients.retain(|_, c| *c != id);
            self.invites.retain(|_, c| *c != id);
            self.dialogs.retain(|_, (c, _)| *c != id);
            return;
        }
        if let Some(at) = call.next_timeout() {
            self.timers.insert((at, id));
            self.timer_of.insert(id, at);
        }
        self.calls.insert(id, call);
    }

    /// Events that are on their way or that calls may still write.
    fn events_spoken_for(&self) -> usize {
        let reserved: usize = self.calls.values().map(Call::events_left).sum();
        self.events_out.saturating_add(reserved)
    }

    fn has_room_for_events(&self) -> bool {
        let one = usize::try_from(EVENTS_MAX).unwrap_or(usize::MAX).saturating_add(1);
        self.events_spoken_for().saturating_add(one) <= self.config.events_max
    }
}
