//! The end: BYEs, ports, and the one terminal event.

use std::time::Duration;

use super::{Call, Leg, Purpose, State, World};
use crate::{
    event::{EndedAs, EndedBy, Kind, Leg as Side, Outcome, Terminal},
    media,
    route::outcome,
    sip::Method,
};

impl Call {
    /// Ends a leg's dialog; a Reason (RFC 3326) tells the peer why where there is one.
    pub(super) fn bye(&mut self, world: &mut World<'_>, leg: &mut Leg, reason: Option<(u16, &str)>) {
        let Some(mut dialog) = leg.dialog.take() else { return };
        let mut bye = dialog.request(Method::BYE);
        leg.dialog = Some(dialog);
        let destination = leg.destination();
        leg.dialog = None;
        if let Some((cause, text)) = reason {
            let text = text.replace(['"', '\\', '\r', '\n'], " ");
            bye.headers.push("Reason", format!("SIP;cause={cause};text=\"{text}\""));
        }
        let client = world.endpoint.request(world.now.mono, bye, destination);
        self.clients.insert(client, Purpose::Other);
        world.out.clients.push(client);
    }

    /// How it was met, had it ended with this status before an answer.
    fn met(&self, status: u16) -> Outcome {
        let cause = self.refusal_cause.filter(|_| self.refusal.as_ref().is_some_and(|(refused, _)| *refused == status));
        self.trunk.outcomes.met(status, cause)
    }

    /// Refuses the caller's INVITE with a final status: no target took the call.
    pub(super) fn refuse(&mut self, world: &mut World<'_>, status: u16, by: EndedBy, why: String) {
        if self.state != State::Trying {
            return;
        }
        let mut response = self.invite.response(status, None, Some(&self.our_tag));
        response.headers.push("Reason", format!("SIP;cause={status};text=\"{}\"", why.replace(['"', '\\', '\r', '\n'], " ")));
        world.endpoint.respond(world.now.mono, self.server, response);
        let ended_as = if matches!(self.met(status), Outcome::Failed | Outcome::Congestion) { EndedAs::Failed } else { EndedAs::Completed };
        self.over(world, Some(status), by, ended_as, Some(why));
    }

    /// A fault ends the call, in whatever state it is.
    pub(super) fn fail(&mut self, world: &mut World<'_>, status: u16, why: &str) {
        match self.state {
            State::Trying => {
                let status = if status < 400 { 500 } else { status };
                self.refuse(world, status, EndedBy::Gateway, why.to_owned());
            }
            State::Up => {
                let cause = if status < 400 { 503 } else { status };
                self.bye_both(world, None, Some((cause, why)));
                self.over(world, Some(cause), EndedBy::Gateway, EndedAs::Failed, Some(why.to_owned()));
            }
            State::Over => {}
        }
    }

    /// Ends a call that stands.
    pub(super) fn hang_up(&mut self, world: &mut World<'_>, by: EndedBy, ended_as: EndedAs, why: Option<String>) {
        let reason = why.clone();
        self.bye_both(world, None, reason.as_deref().map(|why| (200, why)));
        self.over(world, Some(200), by, ended_as, why);
    }

    /// One side said BYE: the other is told.
    pub(super) fn hung_up(&mut self, world: &mut World<'_>, side: Side) {
        self.bye_both(world, Some(side), None);
        let by = match side {
            Side::Caller => EndedBy::Caller,
            Side::Callee => EndedBy::Callee,
        };
        let ended_as = if self.transferred { EndedAs::Transferred } else { EndedAs::Completed };
        self.over(world, Some(200), by, ended_as, None);
    }

    /// The gateway ends the call, answered or not: the drain's limit.
    pub fn shut(&mut self, world: &mut World<'_>) {
        match self.state {
            State::Trying => self.refuse(world, 503, EndedBy::Gateway, "the gateway is being stopped".into()),
            State::Up => {
                self.bye_both(world, None, Some((503, "the gateway is being stopped")));
                self.over(world, Some(503), EndedBy::Gateway, EndedAs::Failed, Some("gateway_stopped".into()));
            }
            State::Over => {}
        }
    }

    fn bye_both(&mut self, world: &mut World<'_>, but: Option<Side>, reason: Option<(u16, &str)>) {
        if but != Some(Side::Callee)
            && let Some(mut leg) = self.callee.take()
        {
            self.bye(world, &mut leg, reason);
            self.callee = Some(leg);
        }
        if but != Some(Side::Caller)
            && let Some(mut dialog) = self.caller.dialog.take()
        {
            // As in `bye`, which cannot borrow a leg of the call itself.
            let mut bye = dialog.request(Method::BYE);
            self.caller.dialog = Some(dialog);
            let destination = self.caller.destination();
            self.caller.dialog = None;
            if let Some((cause, text)) = reason {
                let text = text.replace(['"', '\\', '\r', '\n'], " ");
                bye.headers.push("Reason", format!("SIP;cause={cause};text=\"{text}\""));
            }
            let client = world.endpoint.request(world.now.mono, bye, destination);
            self.clients.insert(client, Purpose::Other);
            world.out.clients.push(client);
        }
    }

    /// Everything is given back, and the terminal event written.
    pub(super) fn over(&mut self, world: &mut World<'_>, status: Option<u16>, by: EndedBy, ended_as: EndedAs, why: Option<String>) {
        if self.state == State::Over {
            return;
        }
        let now = world.now.mono;
        self.give_up_attempt(world);
        self.end_all_runs(world);
        self.end_phase_by_rule(world);
        self.abandon_asks(world);
        self.transfer_over(world);
        let answered = self.answered;
        let met = if answered.is_some() { Outcome::Answered } else { self.met(status.unwrap_or(500)) };
        let ms = |at: crate::time::Instant| at.millis_since(self.invited.mono);
        let terminal = Terminal {
            outcome: met,
            outcome_table: Some(outcome::VERSION),
            ended_as,
            ended_by: by,
            reason: why,
            sip_status: status,
            ring_ms: answered.map(ms),
            talk_ms: answered.map_or(0, |at| now.millis_since(at)),
            secure_ms: self.secure_ms,
            omitted: self.omitted,
        };
        let kind = if ended_as == EndedAs::Failed { Kind::Failed(terminal) } else { Kind::Ended(terminal) };
        self.emit(world, kind);
        self.state = State::Over;
        self.outcome = Some(met);
        self.probes.clear();
        world.ports.give(now, self.caller.local.port());
        if let Some(callee) = self.callee.take() {
            world.ports.give(now, callee.local.port());
        }
        world.out.media.push(media::Command::End { call: self.id });
        self.forget_at = Some(now + FORGET);
    }
}

/// Media that does not say that a call ended is not waited for longer.
const FORGET: Duration = Duration::from_secs(10);
