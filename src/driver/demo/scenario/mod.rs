//! The five calls: who takes part, how the route looks, what is done and said, and what must stand in the CRM afterwards.

mod completed;
mod dtmf_collected;
mod failed;
mod hung_up;
mod transferred;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    card::Card,
    phone::{self, Phone, Setup},
    progress::Progress,
    report::Check,
    speech, web,
    web::Web,
};
use crate::{
    chance::Chance,
    codec::Codec,
    event::{DtmfMethod, EndedAs, Outcome},
    time::Wall,
};

/// The five calls, in the order they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Completed,
    Transferred,
    HungUp,
    Failed,
    DtmfCollected,
}

/// All of them.
pub(crate) const ALL: [Scenario; 5] =
    [Scenario::Completed, Scenario::Transferred, Scenario::HungUp, Scenario::Failed, Scenario::DtmfCollected];

/// What a scenario says must have come of the call. Written by the scenario itself, which knows nothing of how the gateway works.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// How it was met.
    pub(crate) outcome: Outcome,
    /// How it ended.
    pub(crate) ended_as: EndedAs,
    /// Type of the terminal event.
    pub(crate) terminal: &'static str,
    /// The target that took the call.
    pub(crate) target: String,
    /// Codec of trunk and platform.
    pub(crate) codecs: (Codec, Codec),
    /// DTMF method of trunk and platform.
    pub(crate) dtmf: (DtmfMethod, DtmfMethod),
    /// Disposition in the CRM.
    pub(crate) disposition: &'static str,
    /// Whether a person has to look at it.
    pub(crate) review: bool,
    /// Digits in the CRM; none where nothing was keyed.
    pub(crate) digits: Option<String>,
    /// Summary in the CRM; none where the platform gave none.
    pub(crate) summary: Option<&'static str>,
}

/// What happened on the stage, by the players' own account.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) expected: Expected,
    pub(crate) checks: Vec<Check>,
}

/// Why a scenario broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Phone(#[from] phone::Error),
    #[error(transparent)]
    Speech(#[from] speech::Error),
    #[error("webhook: {0}")]
    Web(#[from] web::Error),
    #[error("the INVITE to {0} has no X-Offhook-Call header")]
    NoCallId(String),
}

/// What all players can reach.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// The gateway's SIP address.
    pub(crate) gateway: SocketAddr,
    /// The gateway's address for the platforms' webhooks.
    pub(crate) webhooks: String,
    /// What the platforms sign with.
    pub(crate) secret: String,
    pub(crate) web: Web,
    pub(crate) progress: Progress,
}

impl Stage {
    /// A platform tells the outcome of a call, as a platform would: with an id of its own, signed.
    pub(crate) async fn tell(&self, kind: &str, call_id: &str, now: Wall, data: Value) -> Result<u16, Error> {
        let id = format!("msg-{call_id}-{kind}");
        let body = json!({"id": id, "type": kind, "call_id": call_id, "time": now, "data": data});
        Ok(self.web.webhook(&self.webhooks, &self.secret, &id, now.as_millis() / 1000, &body).await?)
    }
}

/// A target of a route: somebody's phone, or an address where nobody is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) uri: String,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) dtmf: DtmfMethod,
}

/// The phones of one call.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) scenario: Scenario,
    pub(crate) caller: Phone,
    /// Number that shows at the called side.
    pub(crate) from: String,
    /// Number that is dialled.
    pub(crate) number: String,
    /// In the order of the route.
    pub(crate) targets: Vec<Target>,
    /// The platforms' agents that are alive, by name.
    pub(crate) agents: Vec<Phone>,
    /// Whoever a call is handed to.
    pub(crate) human: Option<Phone>,
    /// The same as the configuration names it: a call is handed to nobody else.
    pub(crate) human_target: Option<Target>,
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Scenario {
    /// Its name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Transferred => "transferred",
            Self::HungUp => "hung_up",
            Self::Failed => "failed",
            Self::DtmfCollected => "dtmf_collected",
        }
    }

    /// What it shows.
    pub(crate) const fn story(self) -> &'static str {
        match self {
            Self::Completed => "The platform answers, speaks and hangs up; its signed webhook brings disposition and summary.",
            Self::Transferred => "The platform hands the caller to a human by REFER; the context goes along, the human's phone answers.",
            Self::HungUp => {
                "The first platform is down, the second takes the call unheard by the caller, who hangs up before there is an outcome: NO_DISPOSITION, for review."
            }
            Self::Failed => {
                "The platform is killed in mid-call. The gateway notices by itself, tries one further target, which is dead too, and ends the caller's leg with a Reason."
            }
            Self::DtmfCollected => {
                "The caller keys a reference number, which stands digit for digit in its CRM field, then a card number in a secure phase, which stands nowhere."
            }
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Completed => 1,
            Self::Transferred => 2,
            Self::HungUp => 3,
            Self::Failed => 4,
            Self::DtmfCollected => 5,
        }
    }

    /// Brings its phones to their places.
    pub(crate) async fn cast(self, chance: &mut Chance) -> Result<Cast, Error> {
        let n = self.number();
        let mut start = async |name: String, tcp: bool, codecs: &[Codec], events: bool| {
            Phone::start(Setup { name, bind: LOOPBACK, tcp, codecs: codecs.into(), events }, chance.split()).await
        };
        use Codec::{G722, Pcma, Pcmu};
        let caller_name = format!("caller-{n}");
        let caller = match self {
            Self::Completed => start(caller_name, false, &[Pcmu, Pcma], true),
            Self::Transferred => start(caller_name, false, &[Pcma], true),
            Self::HungUp => start(caller_name, true, &[G722], true),
            Self::Failed => start(caller_name, false, &[Pcma], false),
            Self::DtmfCollected => start(caller_name, false, &[Pcmu], true),
        }
        .await?;
        let mut targets = Vec::new();
        let mut agents = Vec::new();
        let mut human = None;
        let mut human_target = None;
        let mut alive = |agent: &Phone, tcp: bool, codec: Codec, dtmf: DtmfMethod| {
            targets.push(Target { name: agent.name().into(), uri: agent.uri(tcp), codecs: vec![codec], dtmf });
        };
        match self {
            Self::Completed => {
                let aria = start(format!("aria-{n}"), false, &[Pcmu], true).await?;
                alive(&aria, false, Pcmu, DtmfMethod::Rfc4733);
                agents.push(aria);
            }
            Self::Transferred => {
                let brio = start(format!("brio-{n}"), false, &[G722], false).await?;
                alive(&brio, false, G722, DtmfMethod::Info);
                agents.push(brio);
                let anna = start("anna".into(), false, &[Pcmu], true).await?;
                human_target = Some(Target { name: "anna".into(), uri: anna.uri(false), codecs: vec![Pcmu], dtmf: DtmfMethod::Rfc4733 });
                human = Some(anna);
            }
            Self::HungUp => {
                // A platform that is down: nobody listens at its address any more.
                let mut down = start(format!("aria-{n}"), true, &[Pcmu], true).await?;
                alive(&down, true, Pcmu, DtmfMethod::Rfc4733);
                down.kill();
                let brio = start(format!("brio-{n}"), true, &[Pcmu], false).await?;
                alive(&brio, true, Pcmu, DtmfMethod::Info);
                agents.push(brio);
            }
            Self::Failed => {
                let aria = start(format!("aria-{n}"), true, &[Pcma], true).await?;
                alive(&aria, true, Pcma, DtmfMethod::Rfc4733);
                agents.push(aria);
                let mut dead = start(format!("brio-{n}"), true, &[Pcma], false).await?;
                alive(&dead, true, Pcma, DtmfMethod::Info);
                dead.kill();
            }
            Self::DtmfCollected => {
                let aria = start(format!("aria-{n}"), false, &[Pcma], true).await?;
                alive(&aria, false, Pcma, DtmfMethod::Rfc4733);
                agents.push(aria);
            }
        }
        // Numbers of Berlin that are kept for films.
        Ok(Cast {
            scenario: self,
            caller,
            from: format!("+49302312510{n}"),
            number: format!("+49302312520{n}"),
            targets,
            agents,
            human,
            human_target,
        })
    }
}

impl Cast {
    /// Plays the call to its end.
    pub(crate) async fn play(&mut self, stage: &Stage, card: Box<dyn FnOnce() -> Card + Send>) -> Result<(Played, Option<Card>), Error> {
        match self.scenario {
            Scenario::Completed => completed::play(self, stage).await.map(|p| (p, None)),
            Scenario::Transferred => transferred::play(self, stage).await.map(|p| (p, None)),
            Scenario::HungUp => hung_up::play(self, stage).await.map(|p| (p, None)),
            Scenario::Failed => failed::play(self, stage).await.map(|p| (p, None)),
            Scenario::DtmfCollected => dtmf_collected::play(self, stage, card).await.map(|(p, c)| (p, Some(c))),
        }
    }

    /// Tells whoever waits what is going on.
    fn now(&self, stage: &Stage, what: &str) {
        stage.progress.now(self.scenario.name(), what);
    }

    fn agent(&self, name: &str) -> Result<&Phone, Error> {
        self.agents.iter().find(|a| a.name().starts_with(name)).ok_or_else(|| phone::Error::Gone(name.into()).into())
    }
}

/// The gateway's name for the call, as an INVITE to a target brings it.
fn call_id(agent: &Phone, headers: &[(String, String)]) -> Result<String, Error> {
    headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("X-Offhook-Call"))
        .map(|(_, value)| value.clone())
        .ok_or_else(|| Error::NoCallId(agent.name().into()))
}

/// Dials, and lets `agent` ring and answer. Returns the gateway's call id.
async fn meet(cast: &Cast, agent: &Phone, stage: &Stage, ring: Duration) -> Result<String, Error> {
    cast.now(stage, "the caller dials");
    let (dialled, taken) = tokio::join!(cast.caller.dial(stage.gateway, &cast.number, &cast.from), async {
        let headers = agent.invited(PATIENCE).await?;
        let id = call_id(agent, &headers)?;
        agent.ring_and_answer(ring).await?;
        Ok::<_, Error>(id)
    });
    // What the agent has to say about it tells more than that the caller waited in vain.
    let id = taken?;
    dialled?;
    Ok(id)
}

/// How long a step is waited for before the scenario is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an agent rings.
const RING: Duration = Duration::from_millis(400);

/// Whether all that was said came out at the other end, octet for octet and in order: only a relay that touches nothing can do that.
fn heard_untouched(name: &str, listener: &Phone, said: &speech::Speech, payload_type: u8) -> Check {
    let heard: Vec<_> = listener.heard().into_iter().filter(|p| p.payload_type == payload_type).map(|p| p.payload).collect();
    let found = said.frames.iter().filter(|frame| heard.contains(frame)).count();
    // Packets may be lost even on a loopback when a machine is busy.
    let ok = found * 100 >= said.frames.len() * 98;
    Check::new(name, ok, format!("{found} of {} payloads unchanged", said.frames.len()))
}

/// Whether sound came out at the other end: payloads that differ from each other, in about the number that was said.
fn heard_something(name: &str, listener: &Phone, said: &speech::Speech) -> Check {
    let mut different = BTreeMap::new();
    for packet in listener.heard().into_iter().filter(|p| p.payload.len() > 100) {
        *different.entry(packet.payload).or_insert(0_u32) += 1;
    }
    // Half of what is said may be pauses, which are alike.
    let ok = different.len() * 2 >= said.frames.len();
    Check::new(name, ok, format!("{} different payloads heard, {} said", different.len(), said.frames.len()))
}
