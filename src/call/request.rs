//! Requests that the peers send within their dialogs.

use super::{Call, State, World};
use crate::{
    dtmf::info,
    event::{DtmfMethod, Leg as Side},
    media,
    sdp::{Direction, Session, negotiate},
    sip::{
        Method, Request,
        endpoint::{ServerId, Source},
    },
};

/// Switches the secure phase (the contract).
const SECURE: &str = "X-Offhook-Secure";

impl Call {
    /// A request of the peer on `side`.
    pub fn handle_request(&mut self, world: &mut World<'_>, side: Side, server: ServerId, request: &Request, source: &Source) {
        if self.state == State::Over {
            return answer(world, server, request, 481, None);
        }
        let Some(leg) = self.leg_mut(side) else {
            // The platform's dialog while its 2xx is on the way, or one that was given up.
            return answer(world, server, request, 481, None);
        };
        let Some(dialog) = leg.dialog.as_mut().filter(|d| d.is_of(request)) else {
            // A leg that was ended or replaced; whoever ends it too is right.
            let status = if request.method == Method::BYE { 200 } else { 481 };
            return answer(world, server, request, status, None);
        };
        if let Err(error) = dialog.check(request) {
            return answer(world, server, request, error.status, Some(&error.why));
        }
        leg.peer = if leg.transport == source.transport && leg.target.is_none() { source.remote } else { leg.peer };
        match &request.method {
            m if *m == Method::BYE => {
                answer(world, server, request, 200, None);
                self.peer_hung_up(world, side);
            }
            m if *m == Method::INVITE => self.offered_again(world, side, server, request),
            m if *m == Method::OPTIONS => {
                let mut response = request.response(200, None, None);
                response.headers.push("Allow", super::attempt::ALLOW);
                response.headers.push("Accept", "application/sdp");
                world.endpoint.respond(world.now.mono, server, response);
            }
            m if *m == Method::INFO => self.info(world, side, server, request),
            m if *m == Method::REFER => self.refer(world, side, server, request),
            m if *m == Method::NOTIFY => answer(world, server, request, 200, None),
            _ => {
                let mut response = request.response(405, None, None);
                response.headers.push("Allow", super::attempt::ALLOW);
                world.endpoint.respond(world.now.mono, server, response);
            }
        }
    }

    fn peer_hung_up(&mut self, world: &mut World<'_>, side: Side) {
        // A platform that asked for a transfer may hang up before the other end answers (RFC 5589 §6.1): its part is done.
        if side == Side::Callee && self.transfer.is_some() {
            if let Some(platform) = self.callee.take() {
                world.ports.give(world.now.mono, platform.local.port());
            }
            return;
        }
        if self.state == State::Up || side == Side::Caller {
            self.hung_up(world, side);
        }
    }

    /// A re-INVITE (RFC 3261 §14.2): answered here, the other leg need not know.
    fn offered_again(&mut self, world: &mut World<'_>, side: Side, server: ServerId, request: &Request) {
        let trunk_codecs = self.trunk.codecs.clone();
        let Some(leg) = self.leg_mut(side) else { return };
        let codecs = leg.agreed.as_ref().map_or(trunk_codecs, |a| vec![a.codec]);
        leg.next_version();
        if request.body.is_empty() {
            // Without an offer, ours is the state as it is; its answer in the ACK may only repeat that.
            let offer = negotiate::offer(&leg.capabilities(&codecs), leg.media_told, leg.origin());
            return respond_sdp(world, server, request, leg.contact().to_string(), &offer);
        }
        let offered = match Session::parse(&request.body) {
            Ok(offered) => offered,
            Err(error) => return answer(world, server, request, 400, Some(&error.to_string())),
        };
        let answer_with = |codecs: &[crate::codec::Codec]| {
            negotiate::answer(&offered, &leg.capabilities(codecs), leg.media_told, leg.origin(), Direction::SendRecv)
        };
        // The codec of before where it is still offered; whatever else is ours otherwise, and media transcodes.
        let settled = answer_with(&codecs).or_else(|_| answer_with(&crate::codec::Codec::ALL));
        match settled {
            Ok(settled) => {
                leg.agreed = Some(settled.agreed);
                let contact = leg.contact().to_string();
                respond_sdp(world, server, request, contact, &settled.session);
                self.agree(world, side);
            }
            // §14.2: the session goes on as it was.
            Err(refused) => answer(world, server, request, 488, Some(&refused.to_string())),
        }
    }

    fn info(&mut self, world: &mut World<'_>, side: Side, server: ServerId, request: &Request) {
        if let Some(wanted) = request.header(SECURE) {
            if side != Side::Callee {
                return answer(world, server, request, 403, Some("only the platform switches the secure phase"));
            }
            let (word, rest) = wanted.split_once(';').unwrap_or((wanted, ""));
            let reason = rest.split(';').find_map(|p| p.trim().strip_prefix("reason=")).unwrap_or_default().trim_matches('"').to_owned();
            return match word.trim() {
                "start" => self.secure_by_info(world, server, request, true, reason),
                "end" => self.secure_by_info(world, server, request, false, reason),
                _ => answer(world, server, request, 400, Some("X-Offhook-Secure is start;reason=… or end")),
            };
        }
        let kind = request.content_type().unwrap_or_default();
        let body = String::from_utf8_lossy(&request.body);
        match info::parse(&kind, &body) {
            Some((digit, duration_ms)) => {
                answer(world, server, request, 200, None);
                self.info_digit(world, side, digit, duration_ms);
            }
            // RFC 6086 has no package for it; a body of another kind is not for us.
            None if !request.body.is_empty() => answer(world, server, request, 415, None),
            None => answer(world, server, request, 200, None),
        }
    }

    fn info_digit(&mut self, world: &mut World<'_>, side: Side, digit: crate::dtmf::Digit, duration_ms: u32) {
        if self.state != State::Up {
            return;
        }
        // The gate of the gateway: from the moment of asking, nothing that the caller keys goes anywhere.
        let hidden = side == Side::Caller && self.phase.hides();
        let at = world.now.mono;
        self.digit(world, side, (!hidden).then_some(digit), at, duration_ms, DtmfMethod::Info);
        if hidden {
            return;
        }
        let to = side.other();
        if self.leg(to).and_then(super::Leg::method) == Some(DtmfMethod::Rfc4733) {
            world.out.media.push(media::Command::Digit { call: self.id, to, digit, duration_ms });
        }
    }
}

/// Answers a request without a body.
pub(super) fn answer(world: &mut World<'_>, server: ServerId, request: &Request, status: u16, why: Option<&str>) {
    let mut response = request.response(status, None, None);
    if let Some(why) = why {
        // RFC 3261 §20.43: 399 is for whatever a person should read.
        response.headers.push("Warning", format!("399 offhook \"{}\"", why.replace(['"', '\\', '\r', '\n'], " ")));
    }
    world.endpoint.respond(world.now.mono, server, response);
}

fn respond_sdp(world: &mut World<'_>, server: ServerId, request: &Request, contact: String, session: &Session) {
    let mut response = request.response(200, None, None);
    response.headers.push("Contact", format!("<{contact}>"));
    response.set_body("application/sdp", session.emit());
    world.endpoint.respond(world.now.mono, server, response);
}
