//! The stage: the gateway and its media between the far ends of a capture, in one thread, in the capture's time.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::OccupiedEntry},
    net::SocketAddr,
    time::Duration,
};

use super::{
    Setup,
    peer::{Peer, is_initial},
    script::{Script, Sound},
};
use crate::{
    chance::Chance,
    driver::{ladder, replay::Step, wire::Collected},
    event::{Event, Leg},
    gateway::{self, Gateway, JournalWord},
    media::{self, Command, Media, Port, Report, Sink},
    sip::{
        endpoint::{Transmit, Transport},
        framing::{Frame, Framer},
        message::{Message, Method},
    },
    time::{Instant, Now, Wall},
};

/// A packet that the gateway sent, and whose sound it is.
pub(super) struct Forwarded {
    pub(super) at: Wall,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) octets: Vec<u8>,
    /// Who is to hear it.
    pub(super) hears: Leg,
}

/// A request that the gateway sent.
pub(super) struct Asked {
    pub(super) what: String,
    pub(super) times: u32,
    pub(super) answered: bool,
    /// TCP needs no second time.
    pub(super) reliable: bool,
}

/// What came of a play.
#[derive(Default)]
pub(super) struct Played {
    pub(super) sent: Vec<Step>,
    pub(super) events: Vec<Event>,
    pub(super) forwarded: Vec<Forwarded>,
    /// What was agreed on with each leg, the latest last.
    pub(super) agreed: Vec<(Leg, media::Stream)>,
    /// When sound began or ceased to pass between the legs.
    pub(super) bridged: Vec<(Wall, bool)>,
    pub(super) asked: BTreeMap<(String, String), Asked>,
    pub(super) unsaid: Vec<String>,
    /// Calls that were still open when nothing more was to come.
    pub(super) open: usize,
}

/// Something on its way to the gateway: which far end says it, and what.
type Due = (usize, Message);

pub(super) struct Stage<'s> {
    setup: &'s Setup,
    gateway: Gateway,
    media: Media,
    /// The caller first, then whoever is called.
    peers: Vec<(Peer<'s>, Place)>,
    /// Call-IDs of the gateway's own dialogs, and whom each is with.
    dialogs: BTreeMap<String, usize>,
    due: BTreeMap<(Instant, u64), Due>,
    sounds: Vec<(Instant, usize, &'s Sound)>,
    sounded: usize,
    connections: BTreeMap<u64, Framer>,
    /// Ports of media: their addresses, and whom each serves.
    ports: BTreeMap<Port, (SocketAddr, Leg)>,
    opened: BTreeMap<SocketAddr, Leg>,
    /// Who is being called, or was answered last.
    callee: usize,
    now: Instant,
    origin: Wall,
    counter: u64,
    met: BTreeSet<(SocketAddr, Vec<u8>)>,
    played: Played,
}

/// Where a far end is.
struct Place {
    address: SocketAddr,
    transport: Transport,
    /// The stream to it, once there is one.
    connection: Option<u64>,
}

/// The first INVITE's place in monotonic time.
const START: Instant = Instant::from_millis(1000);
/// What goes on so long after the capture's end goes on for ever.
const PATIENCE: Duration = Duration::from_secs(900);
/// Things that may happen in one play: an hour of sound both ways, and some.
const STEPS_MAX: u64 = 2_000_000;
/// Streams that far ends open are numbered from here; the gateway numbers its own from below.
const INBOUND: u64 = 1 << 40;

impl<'s> Stage<'s> {
    pub(super) fn new(setup: &'s Setup, script: &'s Script) -> Self {
        let origin = script.caller.invite_at;
        let at = |wall: Wall| START + Duration::from_micros(u64::try_from(wall.as_micros() - origin.as_micros()).unwrap_or(0));
        let ends = std::iter::once(&script.caller).chain(&script.callees);
        let mut sounds = Vec::new();
        for (index, end) in ends.clone().enumerate() {
            sounds.extend(end.sounds.iter().map(|sound| (at(sound.at), index, sound)));
        }
        sounds.sort_by_key(|(at, ..)| *at);
        let place = |end: &super::script::FarEnd| Place { address: end.address, transport: end.transport, connection: None };
        // The same capture plays the same every time.
        let mut chance = Chance::from_seed(1);
        Self {
            setup,
            gateway: Gateway::new(setup.gateway.clone(), chance.split()),
            media: Media::new(setup.media.clone(), chance.split()),
            peers: ends.map(|end| (Peer::new(end, at(end.invite_at)), place(end))).collect(),
            dialogs: BTreeMap::new(),
            due: BTreeMap::new(),
            sounds,
            sounded: 0,
            connections: BTreeMap::new(),
            ports: BTreeMap::new(),
            opened: BTreeMap::new(),
            callee: 1,
            now: START,
            origin,
            counter: 0,
            met: BTreeSet::new(),
            played: Played::default(),
        }
    }

    /// Plays to the end.
    pub(super) fn play(mut self) -> Played {
        let last_sound = self.sounds.last().map_or(START, |(at, ..)| *at);
        let mut quiet_from = last_sound;
        for _ in 0..STEPS_MAX {
            self.settle();
            if let Some(index) = self.ready() {
                self.say(index);
                quiet_from = quiet_from.max(self.now);
                continue;
            }
            let Some(next) = self.next().filter(|next| *next <= quiet_from + PATIENCE) else { break };
            self.now = self.now.max(next);
            self.happen();
        }
        self.played.unsaid = self.peers.iter().flat_map(|(peer, _)| peer.unsaid().collect::<Vec<_>>()).collect();
        self.played.open = self.gateway.stats().calls;
        self.played
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: self.wall() }
    }

    fn wall(&self) -> Wall {
        self.origin + self.now.since(START)
    }

    /// A far end whose next request is due and possible.
    fn ready(&self) -> Option<usize> {
        self.peers.iter().position(|(peer, _)| peer.next().is_some_and(|(at, may)| may && at <= self.now))
    }

    fn next(&self) -> Option<Instant> {
        let requests = self.peers.iter().filter_map(|(peer, _)| peer.next()).filter(|(_, may)| *may).map(|(at, _)| at);
        let due = self.due.keys().next().map(|(at, _)| *at);
        let sound = self.sounds.get(self.sounded).map(|(at, ..)| *at);
        requests.chain(due).chain(sound).chain(self.gateway.next_timeout()).chain(self.media.next_timeout()).min()
    }

    /// Whatever is due at this moment, beside requests.
    fn happen(&mut self) {
        if let Some((index, sound)) =
            self.sounds.get(self.sounded).filter(|(at, ..)| *at <= self.now).map(|(_, index, sound)| (*index, *sound))
        {
            self.sounded = self.sounded.saturating_add(1);
            return self.hear(index, sound);
        }
        if let Some((index, message)) = self.due.first_entry().filter(|e| e.key().0 <= self.now).map(OccupiedEntry::remove) {
            if self.peers.get(index).is_some_and(|(peer, _)| peer.still_says(&message)) {
                self.deliver(index, &message);
            }
            return;
        }
        if self.media.next_timeout().is_some_and(|at| at <= self.now) {
            let mut out = Collected::default();
            self.media.handle_timeout(self.now, &mut out);
            return self.sent(out);
        }
        if self.gateway.next_timeout().is_some_and(|at| at <= self.now) {
            self.gateway.handle_timeout(self.now());
        }
    }

    fn say(&mut self, index: usize) {
        if let Some(message) = self.peers.get_mut(index).and_then(|(peer, _)| peer.say()) {
            self.deliver(index, &message);
        }
    }

    /// What a far end says reaches the gateway.
    fn deliver(&mut self, index: usize, message: &Message) {
        let now = self.now();
        if let Message::Response(response) = message
            && let Ok((_, method)) = response.cseq()
        {
            let branch = response.via().ok().and_then(|v| v.branch().map(str::to_owned)).unwrap_or_default();
            if let Some(asked) = self.played.asked.get_mut(&(branch, method.to_string())) {
                asked.answered = true;
            }
        }
        let Some((_, place)) = self.peers.get_mut(index) else { return };
        let listener = self.setup.gateway.listeners.iter().position(|l| l.transport == place.transport).unwrap_or(0);
        let listener = u32::try_from(listener).unwrap_or(0);
        let octets = message.to_bytes();
        if place.connection.is_none() && place.transport == Transport::Udp {
            return self.gateway.handle_datagram(now, listener, place.address, &octets);
        }
        let connection = match place.connection {
            Some(connection) => connection,
            None => {
                let connection = INBOUND + u64::try_from(index).unwrap_or(0);
                place.connection = Some(connection);
                self.connections.insert(connection, Framer::default());
                self.gateway.handle_connected(now, connection, place.address, listener);
                connection
            }
        };
        self.gateway.handle_stream(now, connection, &octets);
    }

    /// What a far end sounds reaches the port that serves it now.
    fn hear(&mut self, index: usize, sound: &Sound) {
        let leg = if index == 0 { Leg::Caller } else { Leg::Callee };
        if index != 0 && index != self.callee {
            return;
        }
        let port = self.ports.iter().find(|(_, (_, serves))| *serves == leg).map(|(port, _)| *port);
        if let Some(port) = port {
            let mut out = Collected::default();
            self.media.handle_packet(self.now, port, sound.from, &mut sound.octets.clone(), &mut out);
            self.sent(out);
        }
    }

    fn sent(&mut self, out: Collected) {
        for (port, to, octets) in out.sent {
            if let Some((from, hears)) = self.ports.get(&port).copied() {
                self.played.forwarded.push(Forwarded { at: self.wall(), from, to, octets, hears });
            }
        }
        let now = self.now();
        for (call, ask, on, at) in out.marks {
            self.gateway.handle_report(now, Report::Secured { call, ask, sink: Sink::Recorder, on, at });
        }
    }

    /// Performs whatever the two machines want, until they want nothing.
    fn settle(&mut self) {
        loop {
            if let Some(output) = self.gateway.poll_output() {
                self.gateway_wants(output);
            } else if let Some(output) = self.media.poll_output() {
                self.media_wants(output);
            } else {
                return;
            }
        }
    }

    fn gateway_wants(&mut self, output: gateway::Output) {
        match output {
            gateway::Output::Transmit(transmit) => self.transmit(transmit),
            gateway::Output::Media(command) => {
                match &command {
                    Command::Open { leg, local, .. } => drop(self.opened.insert(*local, *leg)),
                    Command::Bridge { on, .. } => self.played.bridged.push((self.wall(), *on)),
                    Command::Agree { leg, agreed, .. } => self.played.agreed.push((*leg, agreed.clone())),
                    _ => {}
                }
                let mut out = Collected::default();
                self.media.handle_command(self.now, command, &mut out);
                self.sent(out);
            }
            gateway::Output::Event(event) => {
                self.played.events.push(event);
                self.gateway.handle_journal(JournalWord::Done(1));
            }
            gateway::Output::Secured { .. } => {}
        }
    }

    fn media_wants(&mut self, output: media::Output) {
        match output {
            media::Output::Bind { port, local } => {
                let leg = self.opened.get(&local).copied().unwrap_or(Leg::Callee);
                self.ports.insert(port, (local, leg));
                self.media.handle_bound(port, Ok(()));
            }
            media::Output::Unbind { port } => drop(self.ports.remove(&port)),
            media::Output::Report(report) => self.gateway.handle_report(self.now(), report),
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Datagram { listener, to, bytes } => {
                let from = self.setup.gateway.listeners.get(usize::try_from(listener).unwrap_or(0)).map(|l| l.address);
                self.told(from.unwrap_or(to), to, Transport::Udp, None, &bytes);
            }
            Transmit::Connect { connection, to, listener } => {
                self.connections.insert(connection, Framer::default());
                self.gateway.handle_connected(self.now(), connection, to, listener);
            }
            Transmit::Stream { connection, bytes } => {
                let Some(framer) = self.connections.get_mut(&connection) else { return };
                framer.push(&bytes);
                let mut whole = Vec::new();
                while let Ok(Some(frame)) = framer.next_frame() {
                    if let Frame::Message(octets) = frame {
                        whole.push(octets);
                    }
                }
                let place = self.peers.iter().find(|(_, place)| place.connection == Some(connection)).map(|(_, place)| place.address);
                let from = self.setup.gateway.listeners.iter().find(|l| l.transport == Transport::Tcp).map(|l| l.address);
                for octets in whole {
                    if let Some(address) = place.or(from) {
                        self.told(from.unwrap_or(address), address, Transport::Tcp, Some(connection), &octets);
                    }
                }
            }
            Transmit::Close { connection } => drop(self.connections.remove(&connection)),
        }
    }

    /// The gateway tells a far end something.
    fn told(&mut self, from: SocketAddr, to: SocketAddr, transport: Transport, connection: Option<u64>, octets: &[u8]) {
        let Ok(message) = Message::parse(octets) else { return };
        self.played.sent.push(Step {
            at_ms: self.now.millis_since(START),
            frame: None,
            from,
            to,
            transport: if transport == Transport::Tcp { "tcp" } else { "udp" },
            retransmission: !self.met.insert((to, octets.to_vec())),
            summary: ladder::of(&message),
        });
        let (id, initial) = match &message {
            Message::Request(request) => {
                self.note(request, transport);
                (request.call_id().to_owned(), is_initial(request))
            }
            Message::Response(response) => (response.call_id().to_owned(), false),
        };
        let index = match self.dialogs.get(&id) {
            Some(index) => *index,
            None if initial => {
                let Some(index) = self.next_callee(to) else { return };
                self.dialogs.insert(id, index);
                index
            }
            None => 0,
        };
        let Some((peer, place)) = self.peers.get_mut(index) else { return };
        if initial {
            self.callee = index;
            place.address = to;
            place.transport = transport;
        }
        if connection.is_some() {
            place.connection = connection;
        }
        for (delay, answer) in peer.hear(&message) {
            self.counter = self.counter.wrapping_add(1);
            self.due.insert((self.now + delay, self.counter), (index, answer));
        }
    }

    fn note(&mut self, request: &crate::sip::Request, transport: Transport) {
        if request.method == Method::ACK {
            return;
        }
        let branch = request.via().ok().and_then(|v| v.branch().map(str::to_owned)).unwrap_or_default();
        let at_ms = self.now.millis_since(START);
        let asked = self.played.asked.entry((branch, request.method.to_string())).or_insert_with(|| Asked {
            what: format!("{} at {at_ms} ms", request.method),
            times: 0,
            answered: false,
            reliable: transport == Transport::Tcp,
        });
        asked.times = asked.times.saturating_add(1);
    }

    /// Whom an INVITE to that address calls: who was called there in the capture, else the next who was called at all.
    fn next_callee(&self, to: SocketAddr) -> Option<usize> {
        let free = |index: &usize| !self.dialogs.values().any(|taken| taken == index);
        let mut called = (1..self.peers.len()).filter(free);
        let there = called.clone().find(|index| self.peers.get(*index).is_some_and(|(_, place)| place.address == to));
        there.or_else(|| called.next())
    }
}
