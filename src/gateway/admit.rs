//! Requests outside of any dialog: whom we take a call from, and what everybody else is answered.

use super::{
    Gateway,
    screen::{Screened, screen},
};
use crate::{
    call::{Call, Outbox, Refusal},
    event::CallId,
    sip::{
        Method, Request,
        endpoint::{ServerId, Source},
    },
    time::Now,
};

/// What we understand (RFC 3261 §20.5).
pub(super) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, REFER, NOTIFY";

impl Gateway {
    pub(super) fn handle_new(&mut self, now: Now, server: ServerId, request: Request, source: Source) {
        if let Some(Screened { status, why }) = screen(&request) {
            if status == 420 {
                let required = request.headers.values("Require").collect::<Vec<_>>().join(", ");
                let tag = self.chance.token();
                let mut response = request.response(420, None, Some(&tag));
                response.headers.push("Unsupported", required);
                return self.endpoint.respond(now.mono, server, response);
            }
            return self.answer(now, server, &request, status, Some(why));
        }
        if request.method == Method::INVITE {
            self.invited(now, server, request, source);
        } else {
            self.answer(now, server, &request, if self.draining { 503 } else { 200 }, None);
        }
    }

    fn invited(&mut self, now: Now, server: ServerId, request: Request, source: Source) {
        match self.admit(now, server, &request, source) {
            Ok(id) => {
                self.invites.insert(server, id);
                tracing::info!(call = %id, from = %source.remote, "a call was taken");
            }
            Err(Refusal { status, cause, why }) => {
                let count = self.refused.entry(cause).or_default();
                *count = count.saturating_add(1);
                tracing::warn!(remote = %source.remote, sip_call_id = request.call_id(), status, cause, %why, "a call was refused");
                self.refuse(now, server, &request, status, &why);
            }
        }
    }

    fn refuse(&mut self, now: Now, server: ServerId, request: &Request, status: u16, why: &str) {
        let tag = self.chance.token();
        let mut response = request.response(status, None, Some(&tag));
        let overload = status == self.config.overload_status;
        if let Some(seconds) = self.config.retry_after_s.filter(|_| overload) {
            response.headers.push("Retry-After", seconds.to_string());
        }
        match status {
            // What a stranger learns of us, he may use.
            403 => {}
            415 => response.headers.push("Accept", "application/sdp"),
            _ => response.headers.push("Warning", format!("399 offhook \"{}\"", why.replace(['"', '\\', '\r', '\n'], " "))),
        }
        self.endpoint.respond(now.mono, server, response);
    }

    fn admit(&mut self, now: Now, server: ServerId, request: &Request, source: Source) -> Result<CallId, Refusal> {
        let trunk = self.config.table.trunk(source.remote.ip(), source.listener)?.clone();
        let number = request.uri.user().unwrap_or_default().to_owned();
        let route = self.config.table.route(&trunk, &number)?.clone();
        let overload = |cause, why: String| Refusal::new(self.config.overload_status, cause, why);
        if self.draining {
            return Err(overload("draining", "the gateway is being stopped".into()));
        }
        if !self.journal_open && !self.config.carry_without_journal {
            return Err(overload("journal", "the journal takes no events; see GET /healthz, or on_journal_failure of [data]".into()));
        }
        if self.live_calls() >= self.config.calls_max {
            return Err(overload("calls", format!("{} calls stand already; see calls_max of [sip]", self.config.calls_max)));
        }
        if !self.has_room_for_events() && !self.config.carry_without_journal {
            return Err(overload("events", "the disk is slower than what calls write".into()));
        }
        if request.contact().is_none() {
            return Err(Refusal::new(400, "contact", "an INVITE without a Contact (RFC 3261 §8.1.1.8)"));
        }
        let mut out = Outbox::default();
        let started = Call::start(&mut self.world(now, &mut out), trunk, route, request.clone(), server, source);
        let call = started.map_err(|refusal| match refusal.cause {
            "ports" => Refusal { status: self.config.overload_status, ..refusal },
            _ => refusal,
        })?;
        let id = call.id();
        self.settle(call, true, out);
        Ok(id)
    }
}
