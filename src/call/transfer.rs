//! Blind transfer: the platform asks by REFER (RFC 3515), another target gets the caller, NOTIFY tells how it goes.

use super::{Call, Leg, Purpose, State, World, request::answer};
use crate::{
    event::{Kind, Leg as Side},
    media,
    sip::{Method, NameAddr, Request, endpoint::ServerId},
};

/// A transfer under way.
pub(super) struct Transfer {
    to: String,
    /// Header fields of the Refer-To URI (RFC 3261 §19.1.1): what goes along.
    pub(super) context: Vec<(String, String)>,
}

impl Call {
    pub(super) fn refer(&mut self, world: &mut World<'_>, side: Side, server: ServerId, request: &Request) {
        if side != Side::Callee || self.state != State::Up || self.transfer.is_some() || self.attempt.is_some() {
            return answer(
                world,
                server,
                request,
                603,
                Some("only the platform of a call that stands may refer it, one transfer at a time"),
            );
        }
        let mut values = request.headers.all("Refer-To");
        let (Some(value), None) = (values.next(), values.next()) else {
            // RFC 3515 §2.4.2.
            return answer(world, server, request, 400, Some("exactly one Refer-To (RFC 3515 §2.4.2)"));
        };
        let Ok(to) = NameAddr::parse(value) else {
            return answer(world, server, request, 400, Some("the Refer-To cannot be read (RFC 3515 §2.1)"));
        };
        let uri = to.uri;
        let Some(index) = world.table.named(uri.ip(), uri.port().unwrap_or(5060), uri.user()) else {
            // Whoever could name any address could make the gateway call anybody.
            return answer(world, server, request, 403, Some("the Refer-To names no [[target]] of the configuration"));
        };
        let context = uri.headers().into_iter().filter(|(name, _)| carries(name)).collect();
        answer(world, server, request, 202, None);
        self.transfer = Some(Transfer { to: uri.without_headers().to_string(), context });
        self.notify(world, "SIP/2.0 100 Trying\r\n", "active;expires=60");
        self.end_phase_for_transfer(world);
        world.out.media.push(media::Command::Bridge { call: self.id, on: false });
        // The platform's port stays its own: where nobody takes the transfer, the caller is handed back.
        world.out.media.push(media::Command::Close { call: self.id, leg: Side::Callee });
        if !self.try_target(world, index) {
            self.transfer_failed(world);
        }
    }

    /// The body says how it goes (RFC 3515 §2.4.5).
    fn notify(&mut self, world: &mut World<'_>, status: &str, state: &str) {
        self.send(world, Side::Callee, Method::NOTIFY, Purpose::Other, |request| {
            request.headers.push("Event", "refer");
            request.headers.push("Subscription-State", state);
            request.set_body("message/sipfrag;version=2.0", status.to_owned());
        });
    }

    /// The new leg stands; `self.callee` is it already.
    pub(super) fn transferred_to(&mut self, world: &mut World<'_>, transfer: &Transfer, before: Option<Leg>) {
        self.transferred = true;
        let context = transfer.context.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("; ");
        let context = (!context.is_empty()).then_some(context);
        self.emit(world, Kind::Transferred { to: transfer.to.clone(), by: Side::Callee, context });
        // The platform's leg, unless it has hung up already.
        if let Some(platform) = before {
            world.ports.give(world.now.mono, platform.local.port());
            let human = self.callee.replace(platform);
            self.notify(world, "SIP/2.0 200 OK\r\n", "terminated;reason=noresource");
            let platform = std::mem::replace(&mut self.callee, human);
            if let Some(mut leg) = platform {
                self.bye(world, &mut leg, None);
            }
        }
    }

    /// Nobody took the transfer: the platform is told and has the caller again (RFC 5589 §6.2), unless it has hung up.
    pub(super) fn transfer_failed(&mut self, world: &mut World<'_>) {
        let Some(transfer) = self.transfer.take() else { return };
        let (status, why) = self.refusal.clone().unwrap_or((503, String::new()));
        self.notify(world, &format!("SIP/2.0 {status} {}\r\n", crate::sip::message::reason_phrase(status)), "terminated;reason=noresource");
        let Some(callee) = &self.callee else {
            return self.fail(world, status, &format!("the transfer to {} failed and the platform has hung up: {why}", transfer.to));
        };
        tracing::info!(call = %self.id, to = transfer.to, %why, "a transfer failed; the platform has the caller again");
        world.out.media.push(media::Command::Open { call: self.id, leg: Side::Callee, local: callee.local });
        self.join(world);
    }

    /// The call ends while a transfer is under way.
    pub(super) fn transfer_over(&mut self, world: &mut World<'_>) {
        if self.transfer.take().is_some() && self.callee.is_some() {
            self.notify(world, "SIP/2.0 487 Request Terminated\r\n", "terminated;reason=noresource");
        }
    }
}

/// Headers that a Refer-To may set (RFC 3261 §19.1.5: not those that make the call): what people made up for their own use, and RFC 7433.
fn carries(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower == "user-to-user" || (lower.starts_with("x-") && !lower.starts_with("x-offhook"))
}
