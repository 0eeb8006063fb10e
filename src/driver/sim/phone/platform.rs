//! A platform with as many calls as come: rings, answers, refuses, asks for a secure phase, hangs up or dies, as each call's script has it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{Heard, Leaves, OnStream, Story, Talk, destination, leaves, media_of, on_stream, sdp, uri};
use crate::{
    chance::Chance,
    driver::sim::{
        outside::SIP,
        script::{Manner, Script},
    },
    sip::{
        Dialog, Endpoint, Method, NameAddr, Request,
        endpoint::{ClientId, ConnectionId, Event, ServerId, Transport},
    },
    time::Instant,
};

/// One call at a platform.
pub(in crate::driver::sim) struct Taken {
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
    pub(in crate::driver::sim) heard: Heard,
    /// The phase: asked at, the INFO under way and whether it is the one that starts it.
    ask_at: Option<Instant>,
    asked: Option<(ClientId, bool)>,
    hang_up_at: Option<Instant>,
    /// It forgets a call that nobody ended.
    forget_at: Option<Instant>,
    /// It was answered and acknowledged.
    pub(in crate::driver::sim) up: bool,
    ended: bool,
}

/// A platform with as many calls as come.
pub(in crate::driver::sim) struct Platform {
    which: usize,
    pub(in crate::driver::sim) at: SocketAddr,
    endpoint: Endpoint,
    transport: Transport,
    pub(in crate::driver::sim) calls: BTreeMap<usize, Taken>,
    /// Answers that nobody acknowledged.
    pub(in crate::driver::sim) unacknowledged: u64,
}

impl Platform {
    pub(in crate::driver::sim) fn new(which: usize, at: SocketAddr, transport: Transport, chance: &mut Chance) -> Self {
        Self { which, at, endpoint: Endpoint::new(chance.split()), transport, calls: BTreeMap::new(), unacknowledged: 0 }
    }

    fn rtp(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.at.ip(), 10_000 + 2 * u16::try_from(index).unwrap_or(0))
    }

    pub(in crate::driver::sim) fn next_timeout(&self) -> Option<Instant> {
        let calls = self.calls.values().flat_map(|c| {
            let talk = c.talk.as_ref().filter(|_| !c.dead).map(|t| t.next);
            [talk, c.answer_at, c.dies_at, c.ask_at, c.hang_up_at, c.forget_at]
        });
        calls.flatten().chain(self.endpoint.next_timeout()).min()
    }

    pub(in crate::driver::sim) fn datagram(
        &mut self,
        now: Instant,
        to: SocketAddr,
        octets: &[u8],
        scripts: &[Script],
        stories: &mut [Story],
    ) {
        if to == self.at {
            self.endpoint.handle_datagram(now, 0, SIP, octets);
            self.events(now, scripts, stories);
        } else if let Some(call) = self.calls.values_mut().find(|c| c.rtp == to && !c.dead) {
            call.heard.packet(octets);
        }
    }

    pub(in crate::driver::sim) fn stream(
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

    pub(in crate::driver::sim) fn handle_timeout(
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

    pub(in crate::driver::sim) fn leaves(&mut self, out: &mut Vec<Leaves>) {
        leaves(&mut self.endpoint, self.at, out);
    }
}
