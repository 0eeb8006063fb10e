//! The secure phase: asked for by the API, the platform or the caller's keys; standing once every sink has confirmed, and not before.

use std::time::Duration;

use super::{Call, State, World, request::answer};
use crate::{
    event::{Kind, SecureBy},
    media::{self, Sink},
    sip::{Request, endpoint::ServerId},
    time::Instant,
};

/// One sink's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Who.
    pub sink: Sink,
    /// Whether it has switched.
    pub confirmed: bool,
}

/// What becomes of an ask by the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecureAnswer {
    /// Every sink has switched.
    Confirmed {
        /// From when on, in ms since the INVITE.
        media_from_ms: i64,
        /// All of them.
        sinks: Vec<Confirmed>,
    },
    /// No such call, or none that stands.
    NoCall,
    /// It is so already, or is just becoming so.
    Already,
    /// A sink did not confirm.
    NotConfirmed {
        /// Which did and which did not.
        sinks: Vec<Confirmed>,
        /// For people.
        why: String,
    },
}

/// Who is told.
enum Asker {
    Api(u64),
    Info(ServerId, Box<Request>),
    Nobody,
}

/// A switch under way.
pub(super) struct Switch {
    ask: u32,
    on: bool,
    by: SecureBy,
    reason: String,
    asker: Asker,
    /// Who has to confirm, and from when on he has.
    sinks: Vec<(Sink, Option<Instant>)>,
    until: Instant,
    /// The phase that an end ends.
    standing: Option<Standing>,
}

/// A phase that stands.
pub(super) struct Standing {
    reason: String,
    from: Instant,
    until: Instant,
}

/// Where the phase is.
pub(super) enum Phase {
    /// Everything is seen.
    Off,
    /// Asked, not confirmed by all.
    Switching(Switch),
    /// It stands.
    On(Standing),
    /// A sink did not confirm: nobody was told that it stands, but media's gate stays shut until somebody ends it or asks again.
    Unconfirmed,
}

impl Phase {
    /// Whether the caller's keys are hidden: from the moment of asking until its end is confirmed.
    pub(super) const fn hides(&self) -> bool {
        !matches!(self, Self::Off)
    }

    pub(super) const fn until(&self) -> Option<Instant> {
        match self {
            Self::Switching(switch) => Some(switch.until),
            Self::On(standing) => Some(standing.until),
            Self::Off | Self::Unconfirmed => None,
        }
    }
}

impl Call {
    /// The API asks.
    pub fn secure_by_api(&mut self, world: &mut World<'_>, ask: u64, on: bool, reason: String) {
        if self.state != State::Up {
            world.out.secured.push((ask, SecureAnswer::NoCall));
        } else if let Err(Asker::Api(ask)) = self.switch(world, on, SecureBy::Api, reason, Asker::Api(ask)) {
            world.out.secured.push((ask, SecureAnswer::Already));
        }
    }

    pub(super) fn secure_by_info(&mut self, world: &mut World<'_>, server: ServerId, request: &Request, on: bool, reason: String) {
        let asker = Asker::Info(server, Box::new(request.clone()));
        if self.state != State::Up {
            answer(world, server, request, 481, None);
        } else if matches!(self.phase, Phase::Switching(_)) {
            // Nobody is told that a phase stands, or has ended, before every sink has confirmed it to whoever asked first.
            answer(world, server, request, 503, Some("the secure phase is just being switched; ask again in a second"));
        } else if self.switch(world, on, SecureBy::Info, reason, asker).is_err() {
            // What is asked for is so already: that is what the platform wants to hear.
            answer(world, server, request, 200, None);
        }
    }

    pub(super) fn secure_by_keys(&mut self, world: &mut World<'_>, on: bool) {
        if self.state == State::Up {
            let _ = self.switch(world, on, SecureBy::Keys, "keys".into(), Asker::Nobody);
        }
    }

    /// Begins to switch; gives the asker back where it is so already.
    fn switch(&mut self, world: &mut World<'_>, on: bool, by: SecureBy, reason: String, asker: Asker) -> Result<(), Asker> {
        let standing = match std::mem::replace(&mut self.phase, Phase::Off) {
            Phase::Off if on => None,
            Phase::Unconfirmed => None,
            Phase::On(standing) if !on => Some(standing),
            same => {
                self.phase = same;
                return Err(asker);
            }
        };
        // What was keyed before is judged on its own.
        self.end_all_runs(world);
        self.next_ask = self.next_ask.wrapping_add(1);
        let mut sinks = vec![(Sink::Media, None)];
        if self.recording {
            sinks.push((Sink::Recorder, None));
        }
        let reason = standing.as_ref().map_or(reason, |s| s.reason.clone());
        let until = world.now.mono + CONFIRM;
        world.out.media.push(media::Command::Secure { call: self.id, ask: self.next_ask, on, reason: Some(reason.clone()) });
        self.phase = Phase::Switching(Switch { ask: self.next_ask, on, by, reason, asker, sinks, until, standing });
        Ok(())
    }

    pub(super) fn sink_confirmed(&mut self, world: &mut World<'_>, ask: u32, sink: Sink, on: bool, at: Instant) {
        let Phase::Switching(switch) = &mut self.phase else { return };
        if switch.ask != ask || switch.on != on {
            return;
        }
        for (known, confirmed) in &mut switch.sinks {
            if *known == sink {
                *confirmed = Some(at);
            }
        }
        if switch.sinks.iter().all(|(_, confirmed)| confirmed.is_some()) {
            self.switched(world);
        }
    }

    pub(super) fn sink_failed(&mut self, world: &mut World<'_>, ask: Option<u32>, sink: Sink, why: &str) {
        tracing::error!(call = %self.id, sink = sink.name(), why, "a sink of the secure phase has failed");
        // Without an ask it is a packet that was not taken, or a file that was closed: such a recorder confirms all the same.
        if matches!(&self.phase, Phase::Switching(switch) if ask == Some(switch.ask)) {
            if sink == Sink::Recorder {
                self.close_recording(world);
            }
            self.not_switched(world, why);
        }
    }

    /// All sinks have confirmed.
    fn switched(&mut self, world: &mut World<'_>) {
        let Phase::Switching(switch) = std::mem::replace(&mut self.phase, Phase::Off) else { return };
        let at = switch.sinks.iter().filter_map(|(_, at)| *at).max().unwrap_or(world.now.mono);
        let media_ms = at.millis_since(self.invited.mono);
        let sinks = confirmed(&switch.sinks);
        let (reason, by) = (switch.reason.clone(), switch.by);
        if switch.on {
            self.phase = Phase::On(Standing { reason: reason.clone(), from: at, until: at + self.route.secure_longest });
            self.emit(world, Kind::SecureStarted { reason, by, media_ms });
        } else {
            self.end_all_runs(world);
            if let Some(standing) = switch.standing {
                self.secure_ms = self.secure_ms.saturating_add(at.millis_since(standing.from));
                self.emit(world, Kind::SecureEnded { reason, by, media_ms });
            }
        }
        match switch.asker {
            Asker::Api(ask) => world.out.secured.push((ask, SecureAnswer::Confirmed { media_from_ms: media_ms, sinks })),
            Asker::Info(server, request) => answer(world, server, &request, 200, None),
            Asker::Nobody => {}
        }
    }

    fn not_switched(&mut self, world: &mut World<'_>, why: &str) {
        let Phase::Switching(switch) = std::mem::replace(&mut self.phase, Phase::Unconfirmed) else { return };
        tracing::error!(call = %self.id, why, on = switch.on, "the secure phase is not confirmed");
        match switch.asker {
            Asker::Api(ask) => {
                world.out.secured.push((ask, SecureAnswer::NotConfirmed { sinks: confirmed(&switch.sinks), why: why.to_owned() }));
            }
            Asker::Info(server, request) => answer(world, server, &request, 503, Some(why)),
            Asker::Nobody => {}
        }
        // An end that a sink did not confirm leaves the phase as it was: shut.
        if let Some(standing) = switch.standing {
            self.phase = Phase::On(standing);
        }
    }

    /// A recorder that does not answer gets nothing more, and is not asked again.
    fn close_recording(&mut self, world: &mut World<'_>) {
        self.recording = false;
        world.out.media.push(media::Command::Unrecord { call: self.id });
    }

    pub(super) fn phase_timeout(&mut self, world: &mut World<'_>) {
        let now = world.now.mono;
        match &self.phase {
            Phase::Switching(switch) if switch.until <= now => {
                let late = switch.sinks.iter().filter(|(_, at)| at.is_none()).map(|(s, _)| s.name()).collect::<Vec<_>>().join(", ");
                if late.contains(Sink::Recorder.name()) {
                    self.close_recording(world);
                }
                self.not_switched(world, &format!("no word from the {late} within {} ms", CONFIRM.as_millis()));
            }
            Phase::On(standing) if standing.until <= now => {
                let _ = self.switch(world, false, SecureBy::Rule, String::new(), Asker::Nobody);
            }
            _ => {}
        }
    }

    /// The platform hands the caller on and its phase with it: a person's phone could not end it, and would hear nothing.
    pub(super) fn end_phase_for_transfer(&mut self, world: &mut World<'_>) {
        let _ = self.switch(world, false, SecureBy::Rule, String::new(), Asker::Nobody);
    }

    /// A phase that still stands at the end of the call.
    pub(super) fn end_phase_by_rule(&mut self, world: &mut World<'_>) {
        if let Phase::On(standing) = &self.phase {
            let (reason, from) = (standing.reason.clone(), standing.from);
            self.secure_ms = self.secure_ms.saturating_add(world.now.mono.millis_since(from));
            let media_ms = world.now.mono.millis_since(self.invited.mono);
            self.phase = Phase::Unconfirmed;
            self.emit(world, Kind::SecureEnded { reason, by: SecureBy::Rule, media_ms });
        }
    }

    /// The call ends while somebody waits for sinks.
    pub(super) fn abandon_asks(&mut self, world: &mut World<'_>) {
        if matches!(self.phase, Phase::Switching(_)) {
            self.not_switched(world, "the call ended");
        }
        self.phase = Phase::Off;
    }
}

fn confirmed(sinks: &[(Sink, Option<Instant>)]) -> Vec<Confirmed> {
    sinks.iter().map(|(sink, at)| Confirmed { sink: *sink, confirmed: at.is_some() }).collect()
}

/// Longest a sink may take: the platform waits for the answer to its INFO, and the caller is about to read out a card.
const CONFIRM: Duration = Duration::from_millis(1500);
