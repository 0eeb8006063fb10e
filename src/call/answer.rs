//! Both legs stand: the caller is answered, media is joined.

use super::{Call, State, World};
use crate::{
    codec::Codec,
    dtmf::Digit,
    event::{EndedAs, EndedBy, Kind, Leg as Side, PerSide},
    media,
    sdp::{Agreed, Direction, Session, negotiate},
    sip::{Dialog, Request},
};

impl Call {
    /// Joins the legs once the platform has taken the call and the caller's port is open.
    pub(super) fn maybe_answer(&mut self, world: &mut World<'_>) {
        let ready = self.caller.opened && self.attempt.as_ref().is_some_and(|a| a.taken);
        if !ready || self.state == State::Over {
            return;
        }
        let Some(attempt) = self.attempt.take() else { return };
        let theirs = attempt.leg.agreed.as_ref().map(|a| a.codec);
        if self.state == State::Trying
            && let Err(why) = self.answer_caller(world, theirs)
        {
            self.attempt = Some(attempt);
            return self.refuse(world, 488, EndedBy::Gateway, why);
        }
        let before = self.callee.replace(attempt.leg);
        self.join(world);
        let first = self.state == State::Trying;
        if first {
            self.state = State::Up;
            self.answered = Some(world.now.mono);
            self.begin_media(world);
        }
        if let Some(transfer) = self.transfer.take() {
            return self.transferred_to(world, &transfer, before);
        }
        if first {
            self.tell_answered(world);
        }
    }

    /// Lets sound and keys through between the caller and whoever is on the platform's side now.
    pub(super) fn join(&self, world: &mut World<'_>) {
        self.agree(world, Side::Callee);
        self.agree(world, Side::Caller);
        world.out.media.push(media::Command::Bridge { call: self.id, on: true });
        let watch = media::Command::Watch { call: self.id, leg: Side::Callee, silence_ms: 0, no_media_ms: self.no_media_ms() };
        world.out.media.push(watch);
    }

    fn no_media_ms(&self) -> u32 {
        u32::try_from(self.route.no_media.as_millis()).unwrap_or(u32::MAX)
    }

    fn begin_media(&mut self, world: &mut World<'_>) {
        let no_media_ms = self.no_media_ms();
        let silence_ms = self.route.silence.map_or(0, |s| u32::try_from(s.as_millis()).unwrap_or(u32::MAX));
        let call = self.id;
        let out = &mut world.out.media;
        out.push(media::Command::Watch { call, leg: Side::Caller, silence_ms, no_media_ms });
        if let Some((start, end)) = &self.route.secure_keys
            && let (Some(start), Some(end)) = (Digit::parse_all(start), Digit::parse_all(end))
        {
            out.push(media::Command::Keys { call, start, end });
        }
        if self.route.secure_pass_audio {
            out.push(media::Command::PassAudio { call, on: true });
        }
        if self.route.record {
            self.recording = true;
            out.push(media::Command::Record { call, file: call.to_string(), invited: self.invited.mono });
        }
    }

    fn tell_answered(&mut self, world: &mut World<'_>) {
        let Some(callee) = &self.callee else { return };
        let codec = |agreed: &Option<Agreed>| agreed.as_ref().map_or("", |a| negotiate::name(a.codec)).to_owned();
        let target = callee.target.and_then(|t| world.table.targets.get(t)).map(|t| t.name.clone()).unwrap_or_default();
        let kind = Kind::Answered {
            target,
            codec: PerSide { trunk: codec(&self.caller.agreed), platform: codec(&callee.agreed) },
            dtmf: PerSide { trunk: self.caller.method(), platform: callee.method() },
            ring_ms: world.now.mono.millis_since(self.invited.mono),
            sip_call_id: callee.dialog.as_ref().map(|d| d.call_id().to_owned()),
        };
        self.emit(world, kind);
    }

    /// 200 to the caller, with the codec that the platform speaks where the caller offers it.
    fn answer_caller(&mut self, world: &mut World<'_>, theirs: Option<Codec>) -> Result<(), String> {
        let leg = &mut self.caller;
        let session = match leg.offered.take() {
            Some(offered) => {
                let answer = |codecs: &[Codec]| {
                    negotiate::answer(&offered, &leg.capabilities(codecs), leg.media_told, leg.origin(), Direction::SendRecv)
                };
                let untouched = theirs.filter(|c| self.trunk.codecs.contains(c)).and_then(|codec| answer(&[codec]).ok());
                let answer = untouched.map_or_else(|| answer(&self.trunk.codecs), Ok).map_err(|e| e.to_string())?;
                leg.agreed = Some(answer.agreed);
                answer.session
            }
            // An INVITE without an offer: ours stands in the 200, the answer in the ACK (RFC 3264 §5, RFC 3261 §13.2.1).
            None => {
                let offer = negotiate::offer(&leg.capabilities(&self.trunk.codecs), leg.media_told, leg.origin());
                leg.offered = Some(offer.clone());
                offer
            }
        };
        leg.dialog = Some(Dialog::callee(&self.invite, &self.our_tag, leg.contact()).map_err(|e| e.why)?);
        let mut response = self.invite.response(200, None, Some(&self.our_tag));
        response.headers.push("Contact", format!("<{}>", leg.contact()));
        response.headers.push("Allow", super::attempt::ALLOW);
        response.set_body("application/sdp", session.emit());
        world.endpoint.respond(world.now.mono, self.server, response);
        world.out.dialogs.push(((self.invite.call_id().to_owned(), self.our_tag.clone()), Side::Caller));
        Ok(())
    }

    /// The ACK to our 2xx; it holds the caller's answer where the INVITE had no offer.
    pub fn handle_ack(&mut self, world: &mut World<'_>, request: &Request) {
        let Some(offer) = self.caller.offered.take() else { return };
        let settled =
            Session::parse(&request.body).map_err(|e| e.to_string()).and_then(|a| negotiate::settle(&offer, &a).map_err(|e| e.to_string()));
        match settled {
            Ok(agreed) => {
                self.caller.agreed = Some(agreed);
                self.agree(world, Side::Caller);
            }
            Err(why) => self.fail(world, 488, &format!("the caller's ACK has no answer to our offer: {why}")),
        }
    }

    /// Our 2xx was never acknowledged (RFC 3261 §13.3.1.4).
    pub fn handle_ack_missing(&mut self, world: &mut World<'_>) {
        if self.state == State::Up {
            self.fail(world, 408, "the caller never acknowledged the answer (RFC 3261 §13.3.1.4)");
        }
    }

    /// The caller gives up before an answer.
    pub fn handle_cancel(&mut self, world: &mut World<'_>) {
        if self.state != State::Trying {
            return;
        }
        let response = self.invite.response(487, None, Some(&self.our_tag));
        world.endpoint.respond(world.now.mono, self.server, response);
        self.over(world, Some(487), EndedBy::Caller, EndedAs::Cancelled, None);
    }
}
