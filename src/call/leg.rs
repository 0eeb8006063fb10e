//! One side of a call: where it is, what it agreed on, how to send to it.

use std::net::{IpAddr, SocketAddr};

use super::{Call, Purpose, Refusal, World};
use crate::{
    event::{DtmfMethod, Leg as Side},
    media,
    route::{Dtmf, Target, Trunk},
    sdp::{Agreed, Capabilities, Origin, Session, negotiate},
    sip::{
        Dialog, Method, Request, Uri,
        endpoint::{ClientId, Destination, Source, Transport},
    },
};

/// One side.
pub(super) struct Leg {
    pub(super) dialog: Option<Dialog>,
    /// The peer's socket, as far as anything showed it.
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    listener: u32,
    /// What Via and Contact tell the peer.
    pub(super) told: SocketAddr,
    /// Where media is bound, and what SDP tells of it.
    pub(super) local: SocketAddr,
    pub(super) media_told: SocketAddr,
    pub(super) opened: bool,
    /// How often a port could not be bound.
    pub(super) bind_failures: u32,
    pub(super) dtmf: Dtmf,
    /// The peer's offer, as long as it waits for its answer.
    pub(super) offered: Option<Session>,
    pub(super) agreed: Option<Agreed>,
    session_id: u64,
    version: u64,
    /// The target, on the platform's side.
    pub(super) target: Option<usize>,
}

/// The address that a peer is told of a listener.
fn told(world: &World<'_>, listener: u32, advertised: Option<IpAddr>) -> Option<(SocketAddr, SocketAddr)> {
    let bound = world.listeners.get(usize::try_from(listener).ok()?)?.address;
    Some((bound, SocketAddr::new(advertised.unwrap_or_else(|| bound.ip()), bound.port())))
}

fn no_port() -> Refusal {
    Refusal::new(503, "ports", "no RTP port is free: widen `ports` of [media], or lower `calls_max` of [sip]")
}

impl Leg {
    /// The caller's side of an INVITE; its offer is looked at here, so that a call that cannot be bridged is never begun.
    pub(super) fn caller(world: &mut World<'_>, trunk: &Trunk, invite: &Request, source: &Source) -> Result<Self, Refusal> {
        let offered = match invite.body.is_empty() {
            true => None,
            false => {
                let kind = invite.content_type().unwrap_or_default();
                if !kind.eq_ignore_ascii_case("application/sdp") {
                    return Err(Refusal::new(
                        415,
                        "body",
                        format!("the INVITE's body is \"{kind}\"; only application/sdp is understood (RFC 3261 §21.4.13)"),
                    ));
                }
                Some(Session::parse(&invite.body).map_err(|e| Refusal::new(400, "sdp", e.to_string()))?)
            }
        };
        let mut leg = Self::new(world, source.listener, trunk.advertised, source.remote, trunk.dtmf)?;
        if let Some(offered) = &offered {
            let answer = negotiate::answer(offered, &leg.capabilities(&trunk.codecs), leg.media_told, leg.origin(), Default::default());
            if let Err(refused) = answer {
                world.ports.give(world.now.mono, leg.local.port());
                return Err(Refusal::new(488, "codec", format!("trunk \"{}\": {refused}", trunk.name)));
            }
        }
        leg.offered = offered;
        leg.transport = source.transport;
        Ok(leg)
    }

    /// The platform's side, towards a target.
    pub(super) fn callee(world: &mut World<'_>, index: usize, target: &Target) -> Result<Self, Refusal> {
        let mut leg = Self::new(world, target.listener, target.advertised, target.address, target.dtmf)?;
        leg.target = Some(index);
        Ok(leg)
    }

    fn new(world: &mut World<'_>, listener: u32, advertised: Option<IpAddr>, peer: SocketAddr, dtmf: Dtmf) -> Result<Self, Refusal> {
        let (bound, told) =
            told(world, listener, advertised).ok_or_else(|| Refusal::new(500, "listener", "a listener that is not there"))?;
        let transport = world.listeners.get(usize::try_from(listener).unwrap_or(0)).map_or(Transport::Udp, |l| l.transport);
        let port = world.ports.take(world.now.mono).ok_or_else(no_port)?;
        // RFC 8866 §5.2: a number that is unlikely to come again; 62 bits, since some read it as a signed one.
        let session_id = world.chance.u64() >> 2;
        Ok(Self {
            dialog: None,
            peer,
            transport,
            listener,
            told,
            local: SocketAddr::new(bound.ip(), port),
            media_told: SocketAddr::new(told.ip(), port),
            opened: false,
            bind_failures: 0,
            dtmf,
            offered: None,
            agreed: None,
            session_id,
            version: 1,
            target: None,
        })
    }

    /// Another port, since the first could not be bound.
    pub(super) fn rebind(&mut self, world: &mut World<'_>) -> bool {
        self.bind_failures = self.bind_failures.saturating_add(1);
        // Taken before the old one is given back, so that it is another one.
        let Some(port) = world.ports.take(world.now.mono).filter(|_| self.bind_failures < BINDS_MAX) else { return false };
        world.ports.give(world.now.mono, self.local.port());
        self.local.set_port(port);
        self.media_told.set_port(port);
        true
    }

    pub(super) fn capabilities(&self, codecs: &[crate::codec::Codec]) -> Capabilities {
        Capabilities { codecs: codecs.to_vec(), telephone_event: matches!(self.dtmf, Dtmf::Auto | Dtmf::Rfc4733) }
    }

    /// `o=` of the next description we send on this leg.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            user: "-".into(),
            id: self.session_id.to_string(),
            version: self.version.to_string(),
            host: self.media_told.ip().to_string(),
        }
    }

    /// RFC 3264 §8: a changed description has a version one higher.
    pub(super) fn next_version(&mut self) {
        self.version = self.version.saturating_add(1);
    }

    /// Our Contact.
    pub(super) fn contact(&self) -> Uri {
        let host = match self.told.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let uri = Uri::sip("offhook", &host, Some(self.told.port()));
        if self.transport == Transport::Tcp { uri.with_param("transport", "tcp") } else { uri }
    }

    /// How digits travel, now that both ends have spoken.
    pub(super) fn method(&self) -> Option<DtmfMethod> {
        let events = self.agreed.as_ref().is_some_and(|a| a.telephone_event.is_some());
        match self.dtmf {
            Dtmf::Auto | Dtmf::Rfc4733 if events => Some(DtmfMethod::Rfc4733),
            Dtmf::Auto | Dtmf::Info => Some(DtmfMethod::Info),
            Dtmf::Inband => Some(DtmfMethod::Inband),
            Dtmf::Rfc4733 => None,
        }
    }

    /// What media has to know.
    pub(super) fn stream(&self) -> Option<media::Stream> {
        let agreed = self.agreed.as_ref()?;
        Some(media::Stream {
            remote: agreed.remote,
            signalling: self.peer.ip(),
            codec: agreed.codec,
            pt: agreed.pt,
            recv: agreed.recv.clone(),
            event_send: agreed.telephone_event.map(|t| t.send),
            event_recv: agreed.telephone_event.map(|t| t.recv).into_iter().collect(),
            dtmf: self.method(),
            send: agreed.direction.sends(),
            receive: agreed.direction.receives(),
            ptime_ms: u16::try_from(agreed.ptime_ms).unwrap_or(20),
        })
    }

    /// Where requests to this leg go.
    pub(super) fn destination(&self) -> Destination {
        let hop = self.dialog.as_ref().map(|d| (d.next_hop(), d.is_routed()));
        let address = |uri: &Uri| uri.ip().map(|ip| SocketAddr::new(ip, uri.port().unwrap_or(5060)));
        let remote = match hop {
            // A proxy asked to stay on the way.
            Some((uri, true)) => address(&uri).unwrap_or(self.peer),
            // Over a stream, the peer is where the stream is; behind NAT its Contact is an address that only it knows.
            Some((uri, false)) if self.transport == Transport::Udp => {
                address(&uri).filter(|a| a.ip() == self.peer.ip() || self.target.is_some()).unwrap_or(self.peer)
            }
            _ => self.peer,
        };
        Destination { transport: self.transport, remote, listener: self.listener, sent_by: self.told.to_string() }
    }
}

impl Call {
    pub(super) fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Caller => Some(&mut self.caller),
            Side::Callee => self.callee.as_mut(),
        }
    }

    pub(super) fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Caller => Some(&self.caller),
            Side::Callee => self.callee.as_ref(),
        }
    }

    /// Sends a request within the dialog of a leg.
    pub(super) fn send(
        &mut self,
        world: &mut World<'_>,
        side: Side,
        method: Method,
        purpose: Purpose,
        fill: impl FnOnce(&mut Request),
    ) -> Option<ClientId> {
        let leg = self.leg_mut(side)?;
        let mut request = leg.dialog.as_mut()?.request(method);
        let destination = leg.destination();
        fill(&mut request);
        let client = world.endpoint.request(world.now.mono, request, destination);
        self.clients.insert(client, purpose);
        world.out.clients.push(client);
        Some(client)
    }

    pub(super) fn agree(&self, world: &mut World<'_>, side: Side) {
        if let Some(agreed) = self.leg(side).and_then(Leg::stream) {
            world.out.media.push(media::Command::Agree { call: self.id, leg: side, agreed });
        }
    }

    pub(super) fn bind_failed(&mut self, world: &mut World<'_>, side: Side, why: &str) {
        let leg = match side {
            Side::Caller => Some(&mut self.caller),
            Side::Callee => self.attempt.as_mut().map(|a| &mut a.leg),
        };
        let Some(leg) = leg else {
            // The platform's own port, after a transfer that failed.
            return self.leg_lost(world, side, &format!("its RTP port could not be bound again: {why}"));
        };
        if leg.rebind(world) {
            world.out.media.push(media::Command::Open { call: self.id, leg: side, local: leg.local });
        } else {
            self.fail(world, 503, &format!("no RTP port could be bound: {why}; run `offhook check`"));
        }
    }
}

/// Ports tried for one leg.
const BINDS_MAX: u32 = 8;
