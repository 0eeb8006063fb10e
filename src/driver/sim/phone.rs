//! Callers and platforms: each a SIP endpoint of its own with a packet every 20 ms, doing what its script says and keeping what it saw.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use super::{
    script::{Manner, Script},
    world::SIP,
};
use crate::{
    chance::Chance,
    rtp,
    sip::{
        Dialog, Endpoint, Method, NameAddr, Request, Response, Uri,
        endpoint::{ClientId, ConnectionId, Destination, Event, ServerId, Transmit, Transport},
    },
    time::Instant,
};

/// Frames of a key, and from one key to the next.
const KEY_FRAMES: u32 = 5;
const KEY_STEP: Duration = Duration::from_millis(200);
const FRAME: Duration = Duration::from_millis(20);
const EVENTS: u8 = 101;

/// What both ends of one call know of each other beside what they say by SIP: how far the story is.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    /// The platform was told that its phase stands.
    pub(super) stands: bool,
    /// It was refused.
    pub(super) refused: bool,
    /// The caller has keyed his card.
    pub(super) keyed: bool,
    /// Since when the phase is over.
    pub(super) over: Option<Instant>,
    /// The gateway's id of the call, as the platform was told.
    pub(super) call_id: Option<String>,
    /// When the platform's end of the call ended, or its process died.
    pub(super) platform_done: Option<Instant>,
    /// When a platform that lives knew how the call went: its webhook follows.
    pub(super) report: Option<Instant>,
}

/// A stream that is sent.
#[derive(Clone, Debug)]
struct Talk {
    from: SocketAddr,
    to: SocketAddr,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    next: Instant,
    /// A key under way: its digit, its time stamp, its frame.
    key: Option<(u8, u32, u32)>,
}

impl Talk {
    fn new(from: SocketAddr, to: SocketAddr, now: Instant, chance: &mut Chance) -> Self {
        let [a, b, ..] = chance.u32().to_be_bytes();
        Self { from, to, ssrc: chance.u32(), sequence: u16::from_be_bytes([a, b]), timestamp: chance.u32(), next: now, key: None }
    }

    fn press(&mut self, digit: char) {
        let code = "0123456789*#".find(digit).and_then(|at| u8::try_from(at).ok()).unwrap_or(0);
        self.key = Some((code, self.timestamp, 0));
    }

    /// The packets of this frame.
    fn frame(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        match self.key {
            Some((code, stamp, frame)) => {
                let end = frame + 1 == KEY_FRAMES;
                let duration = (frame + 1) * 160;
                let [_, _, high, low] = duration.to_be_bytes();
                for _ in 0..if end { 3 } else { 1 } {
                    packets.push(self.packet(EVENTS, frame == 0, stamp, &[code, if end { 0x80 | 10 } else { 10 }, high, low]));
                }
                self.key = (!end).then_some((code, stamp, frame + 1));
            }
            None => packets.push(self.packet(0, false, self.timestamp, &[0x55; 160])),
        }
        self.timestamp = self.timestamp.wrapping_add(160);
        self.next += FRAME;
        packets
    }

    fn packet(&mut self, pt: u8, marker: bool, stamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; rtp::HEADER_OCTETS];
        rtp::write(&mut packet, 0, marker, pt, self.sequence, stamp, self.ssrc);
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}

/// What a phone heard on its RTP port.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Audio packets.
    pub(super) sound: u64,
    /// Digits that telephone-event packets spell, each once.
    pub(super) digits: String,
    seen: BTreeSet<(u32, u32)>,
}

impl Heard {
    fn packet(&mut self, octets: &[u8]) {
        let Ok(header) = rtp::Header::parse(octets) else { return };
        if header.payload_type != EVENTS {
            self.sound += 1;
        } else if self.seen.insert((header.ssrc, header.timestamp)) {
            let code = octets.get(header.payload.start).copied().unwrap_or(255);
            self.digits.extend("0123456789*#".chars().nth(usize::from(code)));
        }
    }
}

fn sdp(at: SocketAddr) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n",
        at.ip(),
        at.port()
    )
}

fn media_of(body: &[u8]) -> Option<SocketAddr> {
    let text = String::from_utf8_lossy(body);
    let ip = text.lines().find_map(|l| l.strip_prefix("c=IN IP4 "))?.trim().parse().ok()?;
    let port = text.lines().find_map(|l| l.strip_prefix("m=audio "))?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

fn destination(from: SocketAddr, transport: Transport) -> Destination {
    Destination { transport, remote: SIP, listener: 0, sent_by: from.to_string() }
}

/// What leaves a phone's SIP socket.
pub(super) enum Leaves {
    /// A datagram, from whom, to whom.
    Datagram(SocketAddr, SocketAddr, Vec<u8>),
    /// It opens a stream to the gateway; of whom, under which id.
    Opens(SocketAddr, ConnectionId),
    /// Octets of a stream.
    Octets(SocketAddr, ConnectionId, Vec<u8>),
    /// It closes one.
    Closes(SocketAddr, ConnectionId),
}

/// Everything that an endpoint wants sent.
fn leaves(endpoint: &mut Endpoint, at: SocketAddr, out: &mut Vec<Leaves>) {
    while let Some(transmit) = endpoint.poll_transmit() {
        out.push(match transmit {
            Transmit::Datagram { to, bytes, .. } => Leaves::Datagram(at, to, bytes.to_vec()),
            Transmit::Connect { connection, .. } => Leaves::Opens(at, connection),
            Transmit::Stream { connection, bytes } => Leaves::Octets(at, connection, bytes.to_vec()),
            Transmit::Close { connection } => Leaves::Closes(at, connection),
        });
    }
}

/// What happens to a stream at a phone's end.
pub(super) enum OnStream<'o> {
    Opened,
    Octets(&'o [u8]),
    Closed,
}

fn on_stream(endpoint: &mut Endpoint, now: Instant, connection: ConnectionId, what: &OnStream<'_>) {
    match what {
        OnStream::Opened => endpoint.handle_connected(connection, SIP, 0),
        OnStream::Octets(octets) => endpoint.handle_stream(now, connection, octets),
        OnStream::Closed => endpoint.handle_closed(now, connection),
    }
}

fn uri(text: &str) -> Uri {
    text.parse().unwrap_or_else(|_| Uri::sip("", "invalid", None))
}

/// Where a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Dialing,
    Up,
    Over,
}

/// A caller with one call.
pub(super) struct Caller {
    index: usize,
    pub(super) at: SocketAddr,
    pub(super) rtp: SocketAddr,
    endpoint: Endpoint,
    pub(super) script: Script,
    pub(super) stage: Stage,
    client: Option<ClientId>,
    invite: Option<Request>,
    dialog: Option<Dialog>,
    talk: Option<Talk>,
    keys: VecDeque<(Instant, char)>,
    deadline: Option<Instant>,
    /// He hangs up by then, whatever the other side does.
    longest: Option<Instant>,
    pub(super) heard: Heard,
    /// Final status of its INVITE.
    pub(super) status: Option<u16>,
    /// Whether he, not the other side, ended an answered call.
    pub(super) hung_up: bool,
    /// Whether the other side did, with a fault as its reason.
    pub(super) cut_off: bool,
    pub(super) cancelled: bool,
    keyed_card: bool,
}

impl Caller {
    pub(super) fn new(index: usize, script: Script, chance: &mut Chance) -> Self {
        let last = u8::try_from(index).unwrap_or(0) + 1;
        let deadline = Some(Instant::from_millis(script.at_ms));
        Self {
            index,
            at: SocketAddr::from(([10, 0, 1, last], 5060)),
            rtp: SocketAddr::from(([10, 0, 1, last], 4000)),
            endpoint: Endpoint::new(chance.split()),
            script,
            stage: Stage::Waiting,
            client: None,
            invite: None,
            dialog: None,
            talk: None,
            keys: VecDeque::new(),
            deadline,
            longest: None,
            heard: Heard::default(),
            status: None,
            hung_up: false,
            cut_off: false,
            cancelled: false,
            keyed_card: false,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let talk = self.talk.as_ref().map(|t| t.next);
        [self.endpoint.next_timeout(), talk, self.keys.front().map(|(at, _)| *at), self.deadline].into_iter().flatten().min()
    }

    pub(super) fn datagram(&mut self, now: Instant, to: SocketAddr, octets: &[u8], chance: &mut Chance) {
        if to == self.rtp {
            self.heard.packet(octets);
        } else {
            self.endpoint.handle_datagram(now, 0, SIP, octets);
            self.events(now, chance);
        }
    }

    pub(super) fn stream(&mut self, now: Instant, connection: ConnectionId, what: &OnStream<'_>, chance: &mut Chance) {
        on_stream(&mut self.endpoint, now, connection, what);
        self.events(now, chance);
    }

    fn destination(&self) -> Destination {
        destination(self.at, if self.script.tcp { Transport::Tcp } else { Transport::Udp })
    }

    fn contact(&self, user: &str) -> String {
        format!("sip:{user}@{}{}", self.at, if self.script.tcp { ";transport=tcp" } else { "" })
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        story: &mut Story,
        out: &mut Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
        chance: &mut Chance,
    ) {
        self.endpoint.handle_timeout(now);
        self.events(now, chance);
        if let Some((at, key)) = self.keys.front().copied()
            && at <= now
        {
            self.keys.pop_front();
            if let Some(talk) = &mut self.talk {
                talk.press(key);
            }
            if self.keys.is_empty() && self.keyed_card && !story.keyed {
                // The phase ends after the last key has sounded.
                story.keyed = true;
                story.over = Some(now + Duration::from_millis(600));
            }
        }
        if let Some(talk) = self.talk.as_mut().filter(|t| t.next <= now) {
            let (from, to) = (talk.from, talk.to);
            out.extend(talk.frame().into_iter().map(|packet| (from, to, packet)));
        }
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            self.due(now, story);
        }
    }

    fn due(&mut self, now: Instant, story: &Story) {
        match self.stage {
            Stage::Waiting => self.dial(now),
            Stage::Dialing => {
                self.cancelled = true;
                if let Some(client) = self.client {
                    self.endpoint.cancel(now, client);
                }
            }
            Stage::Up => self.talk_on(now, story),
            Stage::Over => {}
        }
    }

    fn dial(&mut self, now: Instant) {
        self.stage = Stage::Dialing;
        self.deadline = Some(now + Duration::from_millis(self.script.patience_ms));
        let to = uri(&format!("sip:{}@{SIP}", self.script.number));
        let mut invite = Request::new(Method::INVITE, to.clone());
        for (name, value) in [
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<sip:c{}@{}>;tag=c{}", self.index, self.at, self.index)),
            ("To", format!("<{to}>")),
            ("Call-ID", format!("call-{}@{}", self.index, self.at)),
            ("CSeq", "1 INVITE".into()),
            ("Contact", format!("<{}>", self.contact(&format!("c{}", self.index)))),
        ] {
            invite.headers.push(name, value);
        }
        invite.set_body("application/sdp", sdp(self.rtp));
        self.invite = Some(invite.clone());
        let to = self.destination();
        self.client = Some(self.endpoint.request(now, invite, to));
    }

    /// Keys and then hangs up, as far as the story allows.
    fn talk_on(&mut self, now: Instant, story: &Story) {
        if self.longest.is_some_and(|at| at <= now) {
            return self.hang_up(now);
        }
        self.deadline = Some(now + Duration::from_millis(100));
        let card = self.script.card.clone();
        if !self.keys.is_empty() {
            // He keys on.
        } else if let (Some(card), false, false) = (&card, self.keyed_card, story.refused) {
            // Not before the platform said that it is safe; not for ever either.
            if story.stands {
                self.keyed_card = true;
                self.press(now + Duration::from_millis(300), &card.clone());
            } else if story.platform_done.is_some() {
                self.hang_up(now);
            }
        } else if story.over.is_some_and(|over| over + Duration::from_millis(400) > now) {
            // The platform ends the phase.
        } else if !self.script.platform_hangs_up || story.platform_done.is_some() {
            self.hang_up(now);
        }
    }

    fn press(&mut self, from: Instant, keys: &str) {
        let mut at = from;
        for key in keys.chars() {
            self.keys.push_back((at, key));
            at += KEY_STEP;
        }
    }

    fn hang_up(&mut self, now: Instant) {
        if let Some(bye) = self.dialog.as_mut().map(|d| d.request(Method::BYE)) {
            let to = self.destination();
            self.endpoint.request(now, bye, to);
        }
        self.hung_up = true;
        self.end();
    }

    fn end(&mut self) {
        self.stage = Stage::Over;
        self.talk = None;
        self.keys.clear();
        self.deadline = None;
    }

    fn events(&mut self, now: Instant, chance: &mut Chance) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Response { client, response } if Some(client) == self.client => self.answered(now, client, &response, chance),
                Event::Gone { client, .. } if Some(client) == self.client && self.stage == Stage::Dialing => {
                    self.status = Some(408);
                    self.end();
                }
                Event::Request { server, request, .. } => {
                    let status = if self.dialog.as_ref().is_some_and(|d| d.is_of(&request)) { 200 } else { 481 };
                    self.endpoint.respond(now, server, request.response(status, None, Some("c")));
                    if request.method == Method::BYE && status == 200 && self.stage == Stage::Up {
                        self.cut_off = request.header("Reason").is_some();
                        self.end();
                    }
                }
                _ => {}
            }
        }
    }

    fn answered(&mut self, now: Instant, client: ClientId, response: &Response, chance: &mut Chance) {
        if response.status < 200 {
            return;
        }
        if response.status >= 300 {
            if self.stage == Stage::Dialing {
                self.status = Some(response.status);
                self.end();
            }
            return;
        }
        let Some(invite) = &self.invite else { return };
        let Ok(mut dialog) = Dialog::caller(invite, response, uri(&self.contact("c"))) else { return };
        let to = self.destination();
        self.endpoint.ack(client, dialog.ack(1), &to);
        if self.stage != Stage::Dialing {
            return;
        }
        self.status = Some(response.status);
        if self.cancelled {
            // It crossed the CANCEL (RFC 3261 §9.1).
            let bye = dialog.request(Method::BYE);
            self.endpoint.request(now, bye, to);
            self.hung_up = true;
            return self.end();
        }
        self.dialog = Some(dialog);
        self.stage = Stage::Up;
        self.longest = Some(now + Duration::from_secs(20));
        self.talk = media_of(&response.body).map(|to| Talk::new(self.rtp, to, now, chance));
        let reference = self.script.reference.clone();
        self.press(now + Duration::from_millis(500), &reference);
        self.deadline = Some(now + Duration::from_millis(1200 + 200 * u64::try_from(reference.len()).unwrap_or(0) + self.script.talk_ms));
    }

    pub(super) fn leaves(&mut self, out: &mut Vec<Leaves>) {
        leaves(&mut self.endpoint, self.at, out);
    }
}

/// One call at a platform.
pub(super) struct Taken {
    server: ServerId,
    invite: Request,
    dialog: Option<Dialog>,
    manner: Manner,
    answer_at: Option<Instant>,
    /// When it falls silent for good.
    dies_at: Option<Instant>,
    dead: bool,
    talk: Option<Talk>,
    rtp: SocketAddr,
    pub(super) heard: Heard,
    /// The phase: asked at, the INFO under way and whether it is the one that starts it.
    ask_at: Option<Instant>,
    asked: Option<(ClientId, bool)>,
    hang_up_at: Option<Instant>,
    /// It forgets a call that nobody ended.
    forget_at: Option<Instant>,
    /// It was answered and acknowledged.
    pub(super) up: bool,
    ended: bool,
}

/// A platform with as many calls as come.
pub(super) struct Platform {
    which: usize,
    pub(super) at: SocketAddr,
    endpoint: Endpoint,
    transport: Transport,
    pub(super) calls: BTreeMap<usize, Taken>,
    /// Answers that nobody acknowledged.
    pub(super) unacknowledged: u64,
}

impl Platform {
    pub(super) fn new(which: usize, at: SocketAddr, transport: Transport, chance: &mut Chance) -> Self {
        Self { which, at, endpoint: Endpoint::new(chance.split()), transport, calls: BTreeMap::new(), unacknowledged: 0 }
    }

    fn rtp(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.at.ip(), 10_000 + 2 * u16::try_from(index).unwrap_or(0))
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let calls = self.calls.values().flat_map(|c| {
            let talk = c.talk.as_ref().filter(|_| !c.dead).map(|t| t.next);
            [talk, c.answer_at, c.dies_at, c.ask_at, c.hang_up_at, c.forget_at]
        });
        calls.flatten().chain(self.endpoint.next_timeout()).min()
    }

    pub(super) fn datagram(&mut self, now: Instant, to: SocketAddr, octets: &[u8], scripts: &[Script], stories: &mut [Story]) {
        if to == self.at {
            self.endpoint.handle_datagram(now, 0, SIP, octets);
            self.events(now, scripts, stories);
        } else if let Some(call) = self.calls.values_mut().find(|c| c.rtp == to && !c.dead) {
            call.heard.packet(octets);
        }
    }

    pub(super) fn stream(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        what: &OnStream<'_>,
        scripts: &[Script],
        stories: &mut [Story],
    ) {
        on_stream(&mut self.endpoint, now, connection, what);
        self.events(now, scripts, stories);
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        scripts: &[Script],
        stories: &mut [Story],
        out: &mut Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
        chance: &mut Chance,
    ) {
        self.endpoint.handle_timeout(now);
        self.events(now, scripts, stories);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let (at, transport) = (self.at, self.transport);
        for (index, call) in &mut self.calls {
            let Some(story) = stories.get_mut(*index) else { continue };
            if due(call.dies_at) {
                (call.dies_at, call.dead, call.talk) = (None, true, None);
                (call.ask_at, call.hang_up_at) = (None, None);
                story.platform_done.get_or_insert(now);
            }
            if due(call.forget_at) {
                (call.forget_at, call.talk, call.ask_at, call.hang_up_at, call.ended) = (None, None, None, None, true);
            }
            if let Some(talk) = call.talk.as_mut().filter(|t| t.next <= now) {
                let (from, to) = (talk.from, talk.to);
                out.extend(talk.frame().into_iter().map(|packet| (from, to, packet)));
            }
            if due(call.answer_at) {
                call.answer_at = None;
                call.forget_at = Some(now + Duration::from_secs(30));
                let mut ok = call.invite.response(200, None, Some("p"));
                ok.headers.push("Contact", format!("<sip:p@{at}{}>", if transport == Transport::Tcp { ";transport=tcp" } else { "" }));
                ok.set_body("application/sdp", sdp(call.rtp));
                call.dialog = Dialog::callee(&call.invite, "p", uri(&format!("sip:p@{at}"))).ok();
                self.endpoint.respond(now, call.server, ok);
                call.talk = media_of(&call.invite.body).map(|to| Talk::new(call.rtp, to, now, chance));
                if let Manner::Dies(after) = call.manner {
                    call.dies_at = Some(now + Duration::from_millis(after));
                }
            }
            if due(call.ask_at) {
                call.ask_at = None;
                // Starts the phase, or ends it once the caller has keyed.
                let start = !story.stands && story.over.is_none();
                let over = story.over.filter(|over| *over > now);
                if !start && (!story.keyed || over.is_some()) {
                    call.ask_at = Some(over.unwrap_or(now + Duration::from_millis(100)));
                } else if let Some(mut info) = call.dialog.as_mut().map(|d| d.request(Method::INFO)) {
                    info.headers.push("X-Offhook-Secure", if start { "start;reason=payment" } else { "end" });
                    call.asked = Some((self.endpoint.request(now, info, destination(at, transport)), start));
                }
            }
            if due(call.hang_up_at) {
                call.hang_up_at = None;
                let busy = scripts.get(*index).is_some_and(|s| s.card.is_some())
                    && !story.refused
                    && story.over.is_none_or(|over| over + Duration::from_secs(1) > now);
                if busy {
                    call.hang_up_at = Some(now + Duration::from_millis(300));
                } else if let Some(bye) = call.dialog.as_mut().map(|d| d.request(Method::BYE)) {
                    self.endpoint.request(now, bye, destination(at, transport));
                    (call.ended, call.talk) = (true, None);
                    story.platform_done.get_or_insert(now);
                    story.report.get_or_insert(now);
                }
            }
        }
    }

    fn events(&mut self, now: Instant, scripts: &[Script], stories: &mut [Story]) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Request { server, request, .. } if request.method == Method::INVITE => {
                    self.invited(now, server, request, scripts, stories)
                }
                Event::Request { server, request, .. } => self.requested(now, server, &request, stories),
                Event::Cancel { server, .. } => {
                    if let Some(call) = self.calls.values_mut().find(|c| c.server == server) {
                        let gone = call.invite.response(487, None, Some("p"));
                        (call.answer_at, call.ended) = (None, true);
                        self.endpoint.respond(now, server, gone);
                    }
                }
                Event::Ack { server, .. } => {
                    if let Some((index, call)) = self.calls.iter_mut().find(|(_, c)| c.server == server) {
                        call.up = true;
                        let Some(script) = scripts.get(*index) else { continue };
                        let keys = 1000 + 200 * u64::try_from(script.reference.len()).unwrap_or(0);
                        call.ask_at = script.card.is_some().then(|| now + Duration::from_millis(keys));
                        call.hang_up_at = script.platform_hangs_up.then(|| now + Duration::from_millis(keys + 400 + script.talk_ms));
                    }
                }
                Event::AckMissing { .. } => self.unacknowledged += 1,
                Event::Response { client, response } if response.status >= 200 => self.told(now, client, response.status, stories),
                Event::Gone { client, .. } => self.told(now, client, 408, stories),
                _ => {}
            }
        }
    }

    fn invited(&mut self, now: Instant, server: ServerId, invite: Request, scripts: &[Script], stories: &mut [Story]) {
        let user = invite.from().ok().and_then(|f: NameAddr| f.uri.user().map(str::to_owned)).unwrap_or_default();
        let Some(index) = user.strip_prefix('c').and_then(|n| n.parse::<usize>().ok()) else { return };
        let (Some(script), Some(story)) = (scripts.get(index), stories.get_mut(index)) else { return };
        let manner = if self.which == 0 { script.first } else { script.second };
        story.call_id = invite.header("X-Offhook-Call").map(str::to_owned);
        let rtp = self.rtp(index);
        let mut call = Taken {
            server,
            invite: invite.clone(),
            dialog: None,
            manner,
            answer_at: None,
            dies_at: None,
            dead: false,
            talk: None,
            rtp,
            heard: Heard::default(),
            ask_at: None,
            asked: None,
            hang_up_at: None,
            forget_at: None,
            up: false,
            ended: false,
        };
        match manner {
            Manner::Refuses(status) => {
                call.ended = true;
                self.endpoint.respond(now, server, invite.response(status, None, Some("p")));
            }
            Manner::Rings | Manner::Answers(_) | Manner::Dies(_) => {
                self.endpoint.respond(now, server, invite.response(180, None, Some("p")));
                call.answer_at = match manner {
                    Manner::Answers(after) => Some(now + Duration::from_millis(after)),
                    Manner::Dies(_) => Some(now + Duration::from_millis(300)),
                    _ => None,
                };
            }
        }
        self.calls.insert(index, call);
    }

    fn requested(&mut self, now: Instant, server: ServerId, request: &Request, stories: &mut [Story]) {
        let found = self.calls.iter_mut().find(|(_, c)| c.dialog.as_ref().is_some_and(|d| d.is_of(request)));
        let Some((index, call)) = found else {
            return self.endpoint.respond(now, server, request.response(481, None, Some("p")));
        };
        if call.dead {
            // Nobody is there any more.
            return;
        }
        let status = if call.ended && request.method != Method::BYE { 481 } else { 200 };
        if request.method == Method::BYE {
            (call.ended, call.talk, call.ask_at, call.hang_up_at) = (true, None, None, None);
            if let Some(story) = stories.get_mut(*index).filter(|_| call.up) {
                story.platform_done.get_or_insert(now);
                story.report.get_or_insert(now);
            }
        }
        self.endpoint.respond(now, server, request.response(status, None, Some("p")));
    }

    /// An answer to an INFO of ours.
    fn told(&mut self, now: Instant, client: ClientId, status: u16, stories: &mut [Story]) {
        let Some((index, call)) = self.calls.iter_mut().find(|(_, c)| c.asked.is_some_and(|(asked, _)| asked == client)) else { return };
        let Some((_, start)) = call.asked.take() else { return };
        let Some(story) = stories.get_mut(*index) else { return };
        match (start, status) {
            (true, 200) => {
                story.stands = true;
                call.ask_at = Some(now + Duration::from_millis(100));
            }
            (true, _) => story.refused = true,
            (false, _) => story.stands = false,
        }
    }

    pub(super) fn leaves(&mut self, out: &mut Vec<Leaves>) {
        leaves(&mut self.endpoint, self.at, out);
    }
}
