//! Trying targets: one after the other, each with its port, its INVITE and its ring time.

use super::{Call, Leg, Purpose, State, World, transfer::Transfer};
use crate::{
    codec::Codec,
    event::{EndedBy, Leg as Side},
    media,
    route::{outcome, tries_next},
    sdp::{Session, negotiate},
    sip::{Dialog, Method, NameAddr, Request, Response, Uri, endpoint::ClientId},
    time::Instant,
};

/// A target being tried.
pub(super) struct Attempt {
    pub(super) leg: Leg,
    client: Option<ClientId>,
    invite: Option<Request>,
    offer: Option<Session>,
    /// It may ring until then.
    pub(super) until: Instant,
    /// Its 2xx, where the caller's port is not open yet.
    pub(super) taken: bool,
}

impl Call {
    /// Tries the next target that is left.
    pub(super) fn try_next(&mut self, world: &mut World<'_>) {
        while let Some(index) = self.left.pop() {
            if self.try_target(world, index) {
                return;
            }
        }
        self.nobody_left(world);
    }

    /// Opens a port towards a target; its INVITE follows once that is bound.
    pub(super) fn try_target(&mut self, world: &mut World<'_>, index: usize) -> bool {
        let Some(target) = world.table.targets.get(index) else { return false };
        let leg = match Leg::callee(world, index, target) {
            Ok(leg) => leg,
            Err(refusal) => {
                self.refusal = Some((refusal.status, refusal.why));
                return false;
            }
        };
        world.out.media.push(media::Command::Open { call: self.id, leg: Side::Callee, local: leg.local });
        let until = world.now.mono + self.route.ring;
        self.attempt = Some(Attempt { leg, client: None, invite: None, offer: None, until, taken: false });
        true
    }

    pub(super) fn attempt_opened(&mut self, world: &mut World<'_>) {
        let Some(mut attempt) = self.attempt.take() else { return };
        attempt.leg.opened = true;
        let Some(target) = attempt.leg.target.and_then(|t| world.table.targets.get(t)) else { return };
        let codecs = target.codecs.clone().unwrap_or_else(|| self.preferred());
        let offer = negotiate::offer(&attempt.leg.capabilities(&codecs), attempt.leg.media_told, attempt.leg.origin());
        let mut invite = Request::new(Method::INVITE, self.request_uri(&target.uri));
        // A loop through us would go on for ever if each pass began anew (RFC 3261 §8.1.1.6).
        let hops = self.invite.max_forwards().ok().flatten().unwrap_or(70).saturating_sub(1);
        invite.headers.push("Max-Forwards", hops.to_string());
        let tag = world.chance.token();
        let from = self.invite.from().ok();
        let user = from.as_ref().and_then(|f| f.uri.user().map(str::to_owned)).unwrap_or_else(|| "anonymous".into());
        let host = attempt.leg.contact().host().to_owned();
        let mut ours = NameAddr::new(Uri::sip(&user, &host, None));
        ours.display = from.and_then(|f| f.display);
        invite.headers.push("From", ours.with_tag(&tag).to_string());
        invite.headers.push("To", NameAddr::new(invite.uri.clone()).to_string());
        invite.headers.push("Call-ID", format!("{}@{host}", world.chance.token()));
        invite.headers.push("CSeq", "1 INVITE");
        invite.headers.push("Contact", format!("<{}>", attempt.leg.contact()));
        invite.headers.push("Allow", ALLOW);
        invite.headers.push("User-Agent", USER_AGENT);
        invite.headers.push(target.call_header.as_str(), self.id.to_string());
        for header in self.invite.headers.iter().filter(|h| passes(&h.name)) {
            invite.headers.push(header.name.as_str(), header.value.as_str());
        }
        if let Some(Transfer { context, .. }) = &self.transfer {
            for (name, value) in context {
                invite.headers.set(name, value.as_str());
            }
        }
        invite.set_body("application/sdp", offer.emit());
        attempt.until = world.now.mono + self.route.ring;
        let client = world.endpoint.request(world.now.mono, invite.clone(), attempt.leg.destination());
        self.clients.insert(client, Purpose::Invite);
        world.out.clients.push(client);
        // The platform may send requests as soon as it has a dialog.
        world.out.dialogs.push(((invite.call_id().to_owned(), tag), Side::Callee));
        attempt.client = Some(client);
        attempt.invite = Some(invite);
        attempt.offer = Some(offer);
        self.attempt = Some(attempt);
    }

    /// The target's URI, with the number dialled where it names nobody.
    fn request_uri(&self, target: &str) -> Uri {
        let fallback = || Uri::sip("", "invalid", None);
        let uri: Uri = target.parse().unwrap_or_else(|_| fallback());
        if uri.user().is_some() || self.number.is_empty() {
            return uri.without_headers();
        }
        format!("sip:{}@{}", self.number, target.trim_start_matches("sip:")).parse().unwrap_or(uri)
    }

    /// What the trunk can bridge untouched, in the caller's order, then the rest.
    fn preferred(&self) -> Vec<Codec> {
        let settled = self.caller.agreed.as_ref().map(|a| a.codec);
        let offered = self.caller.offered.as_ref().map(negotiate::codecs).unwrap_or_default();
        let untouched = settled.into_iter().chain(offered.into_iter().filter(|c| self.trunk.codecs.contains(c)));
        let mut codecs = Vec::new();
        for codec in untouched.chain(Codec::ALL) {
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        codecs
    }

    pub(super) fn invite_answered(&mut self, world: &mut World<'_>, client: ClientId, response: &Response) {
        match response.status {
            100 => {}
            101..=199 => self.rings(world),
            200..=299 => self.taken(world, client, response),
            status => {
                self.clients.remove(&client);
                self.refusal_cause = outcome::q850(response.headers.values("Reason"));
                self.attempt_failed(world, status, &format!("{status} {}", response.reason));
            }
        }
    }

    /// The caller hears that it rings, once; who changes behind it is nothing to him.
    fn rings(&mut self, world: &mut World<'_>) {
        if self.state == State::Trying && !self.ringing {
            self.ringing = true;
            let mut ringing = self.invite.response(180, None, Some(&self.our_tag));
            ringing.headers.push("Contact", format!("<{}>", self.caller.contact()));
            world.endpoint.respond(world.now.mono, self.server, ringing);
        }
    }

    fn taken(&mut self, world: &mut World<'_>, client: ClientId, response: &Response) {
        let Some(mut attempt) = self.attempt.take_if(|a| a.client == Some(client)) else {
            return self.unwanted_answered(world, client, response);
        };
        // What still comes under this transaction is a fork's other answer.
        self.clients.insert(client, Purpose::Unwanted);
        self.unwanted.insert(client, attempt.leg.destination());
        let (Some(invite), Some(offer)) = (attempt.invite.take(), attempt.offer.take()) else { return };
        let dialog = match Dialog::caller(&invite, response, attempt.leg.contact()) {
            Ok(dialog) => dialog,
            Err(error) => return self.attempt_dropped(world, attempt, 502, &error.why),
        };
        let number = invite.cseq().map_or(1, |(number, _)| number);
        attempt.leg.dialog = Some(dialog);
        if let Some(dialog) = &attempt.leg.dialog {
            world.endpoint.ack(client, dialog.ack(number), &attempt.leg.destination());
        }
        let settled = Session::parse(&response.body)
            .map_err(|e| e.to_string())
            .and_then(|a| negotiate::settle(&offer, &a).map_err(|e| e.to_string()));
        match settled {
            Ok(agreed) => attempt.leg.agreed = Some(agreed),
            Err(why) => {
                self.bye(world, &mut attempt.leg, None);
                return self.attempt_dropped(world, attempt, 502, &why);
            }
        }
        attempt.taken = true;
        self.attempt = Some(attempt);
        self.maybe_answer(world);
    }

    /// An answer to an INVITE that nobody waits for any more: a 2xx is acknowledged and ended (RFC 3261 §9.1, §13.2.2.4).
    pub(super) fn unwanted_answered(&mut self, world: &mut World<'_>, client: ClientId, response: &Response) {
        if response.status < 200 {
            return;
        }
        if response.status >= 300 {
            self.clients.remove(&client);
            return;
        }
        // Only From, To and Call-ID of our INVITE are needed, and an answer repeats them.
        let mut invite = Request::new(Method::INVITE, response.contact().map_or_else(|| Uri::sip("", "invalid", None), |c| c.uri));
        for name in ["From", "To", "Call-ID", "CSeq"] {
            if let Some(value) = response.header(name) {
                invite.headers.push(name, value);
            }
        }
        // Of the dialog that stands it is the same answer again; a tag alone tells no dialog (RFC 3261 §12), some peers have one for all.
        let stands = self.callee.as_ref().and_then(|l| l.dialog.as_ref());
        let tag = response.to().ok().and_then(|t| t.tag().map(str::to_owned));
        if stands.is_some_and(|d| d.call_id() == response.call_id() && Some(d.remote_tag()) == tag.as_deref()) {
            return;
        }
        let Some(mut leg) = self.unwanted.get(&client).cloned() else { return };
        let Ok(mut dialog) = Dialog::caller(&invite, response, Uri::sip("offhook", "invalid", None)) else { return };
        if let Some(ip) = dialog.next_hop().ip() {
            leg.remote = std::net::SocketAddr::new(ip, dialog.next_hop().port().unwrap_or(5060));
        }
        let number = invite.cseq().map_or(1, |(number, _)| number);
        world.endpoint.ack(client, dialog.ack(number), &leg);
        let bye = dialog.request(Method::BYE);
        world.endpoint.request(world.now.mono, bye, leg);
    }

    /// A target is out: its port goes back, its INVITE is cancelled where it still lives.
    pub(super) fn give_up_attempt(&mut self, world: &mut World<'_>) {
        let Some(mut attempt) = self.attempt.take() else { return };
        if let Some(client) = attempt.client.filter(|_| !attempt.taken) {
            self.clients.insert(client, Purpose::Unwanted);
            self.unwanted.insert(client, attempt.leg.destination());
            self.cancelled.insert(client);
            world.endpoint.cancel(world.now.mono, client);
        }
        if attempt.taken {
            self.bye(world, &mut attempt.leg, None);
        }
        self.close_callee(world, &attempt.leg);
    }

    fn close_callee(&self, world: &mut World<'_>, leg: &Leg) {
        world.out.media.push(media::Command::Close { call: self.id, leg: Side::Callee });
        world.ports.give(world.now.mono, leg.local.port());
    }

    fn attempt_dropped(&mut self, world: &mut World<'_>, attempt: Attempt, status: u16, why: &str) {
        self.close_callee(world, &attempt.leg);
        self.next_after(world, status, why, attempt.leg.target);
    }

    pub(super) fn attempt_failed(&mut self, world: &mut World<'_>, status: u16, why: &str) {
        if let Some(attempt) = self.attempt.take() {
            self.attempt_dropped(world, attempt, status, why);
        }
    }

    pub(super) fn attempt_timed_out(&mut self, world: &mut World<'_>) {
        let target = self.attempt.as_ref().and_then(|a| a.leg.target);
        self.give_up_attempt(world);
        self.next_after(world, 480, &format!("no answer within {} ms", self.route.ring.as_millis()), target);
    }

    fn next_after(&mut self, world: &mut World<'_>, status: u16, why: &str, target: Option<usize>) {
        let name = target.and_then(|t| world.table.targets.get(t)).map_or("", |t| t.name.as_str());
        let why = format!("target \"{name}\": {why}");
        tracing::info!(call = %self.id, %why, "a target is out");
        self.refusal = Some((status, why));
        if self.transfer.is_some() {
            return self.transfer_failed(world);
        }
        if self.state == State::Trying && !tries_next(status) {
            return self.refuse_caller(world);
        }
        self.try_next(world);
    }

    fn nobody_left(&mut self, world: &mut World<'_>) {
        match self.state {
            State::Trying => self.refuse_caller(world),
            State::Up => {
                let (_, why) = self.refusal.clone().unwrap_or((503, "no target is left".into()));
                self.fail(world, 503, &format!("the platform is gone and no target is left; {why}"));
            }
            State::Over => {}
        }
    }

    /// No target took the call: the caller gets the last one's answer.
    fn refuse_caller(&mut self, world: &mut World<'_>) {
        let (status, why) = self.refusal.clone().unwrap_or((503, "the route has no target".into()));
        // A redirection is not for the carrier to follow.
        let status = if (300..400).contains(&status) { 502 } else { status };
        self.refuse(world, status, EndedBy::Callee, why);
    }

    /// The platform's leg is gone in mid-call: its media stops, the next target is tried while the caller waits.
    pub(super) fn failover(&mut self, world: &mut World<'_>, why: &str) {
        let Some(mut leg) = self.callee.take() else { return };
        tracing::warn!(call = %self.id, why, "the platform's leg is gone in mid-call; the next target is tried");
        // A secure phase stands on: the caller may be reading a card while the platform changes behind it.
        self.bye(world, &mut leg, None);
        world.out.media.push(media::Command::Bridge { call: self.id, on: false });
        self.close_callee(world, &leg);
        self.refusal = Some((503, format!("the platform's leg is gone: {why}")));
        self.try_next(world);
    }
}

/// Whether a header of the caller's INVITE goes along to the target: what people made up for their own use, and RFC 7433.
fn passes(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower == "user-to-user" || (lower.starts_with("x-") && !lower.starts_with("x-offhook"))
}

/// What we understand (RFC 3261 §20.5).
pub(crate) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, REFER, NOTIFY";
/// As we name ourselves.
pub(crate) const USER_AGENT: &str = concat!("offhook/", env!("CARGO_PKG_VERSION"));
