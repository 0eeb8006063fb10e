//! A caller with one call: dials, keys, talks, and hangs up, as his script and the story have it.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{Heard, KEY_STEP, Leaves, OnStream, Story, Talk, destination, leaves, media_of, on_stream, sdp, uri};
use crate::{
    chance::Chance,
    driver::sim::{outside::SIP, script::Script},
    sip::{
        Dialog, Endpoint, Method, Request, Response,
        endpoint::{ClientId, ConnectionId, Destination, Event, Transport},
    },
    time::Instant,
};

/// Where a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver::sim) enum Stage {
    Waiting,
    Dialing,
    Up,
    Over,
}

/// A caller with one call.
pub(in crate::driver::sim) struct Caller {
    index: usize,
    pub(in crate::driver::sim) at: SocketAddr,
    pub(in crate::driver::sim) rtp: SocketAddr,
    endpoint: Endpoint,
    pub(in crate::driver::sim) script: Script,
    pub(in crate::driver::sim) stage: Stage,
    client: Option<ClientId>,
    invite: Option<Request>,
    dialog: Option<Dialog>,
    talk: Option<Talk>,
    keys: VecDeque<(Instant, char)>,
    deadline: Option<Instant>,
    /// He hangs up by then, whatever the other side does.
    longest: Option<Instant>,
    pub(in crate::driver::sim) heard: Heard,
    /// Final status of its INVITE.
    pub(in crate::driver::sim) status: Option<u16>,
    /// Whether he, not the other side, ended an answered call.
    pub(in crate::driver::sim) hung_up: bool,
    /// Whether the other side did, with a fault as its reason.
    pub(in crate::driver::sim) cut_off: bool,
    pub(in crate::driver::sim) cancelled: bool,
    keyed_card: bool,
}

impl Caller {
    pub(in crate::driver::sim) fn new(index: usize, script: Script, chance: &mut Chance) -> Self {
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

    pub(in crate::driver::sim) fn next_timeout(&self) -> Option<Instant> {
        let talk = self.talk.as_ref().map(|t| t.next);
        [self.endpoint.next_timeout(), talk, self.keys.front().map(|(at, _)| *at), self.deadline].into_iter().flatten().min()
    }

    pub(in crate::driver::sim) fn datagram(&mut self, now: Instant, to: SocketAddr, octets: &[u8], chance: &mut Chance) {
        if to == self.rtp {
            self.heard.packet(octets);
        } else {
            self.endpoint.handle_datagram(now, 0, SIP, octets);
            self.events(now, chance);
        }
    }

    pub(in crate::driver::sim) fn stream(&mut self, now: Instant, connection: ConnectionId, what: &OnStream<'_>, chance: &mut Chance) {
        on_stream(&mut self.endpoint, now, connection, what);
        self.events(now, chance);
    }

    fn destination(&self) -> Destination {
        destination(self.at, if self.script.tcp { Transport::Tcp } else { Transport::Udp })
    }

    fn contact(&self, user: &str) -> String {
        format!("sip:{user}@{}{}", self.at, if self.script.tcp { ";transport=tcp" } else { "" })
    }

    pub(in crate::driver::sim) fn handle_timeout(
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

    pub(in crate::driver::sim) fn leaves(&mut self, out: &mut Vec<Leaves>) {
        leaves(&mut self.endpoint, self.at, out);
    }
}
