//! The world: the process, the phones, everything outside them, and the loop that lets what happens happen in order.

#![allow(clippy::indexing_slicing, reason = "a JSON value is null where it has no such field")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use serde_json::json;

use super::{
    check::{self, Failure},
    crm,
    disk::Disk,
    dress::Maker,
    life::{Life, WEBHOOK_KEY},
    network::Network,
    outside::{FAULTS, Happening, Outside, SIP},
    phone::{Caller, Leaves, OnStream, Platform, Stage, Story},
    pipes::{PhoneEnd, Pipe, Pipes},
    plant::Plant,
    script::{Script, scripts},
};
use crate::{
    chance::Chance,
    pipeline::Key,
    sip::endpoint::Transport,
    time::{Instant, Wall},
};

/// Whoever has not come to rest by then never will: the CRM's longest pause is five minutes.
const PATIENCE: Instant = Instant::from_millis(3_600_000);
/// Things that may happen in a run; a run of six calls takes about twenty thousand.
const STEPS_MAX: u64 = 300_000;

/// How a seed is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// With a fault planted.
    pub plant: Option<Plant>,
    /// Only these of its calls: what a failing run is reduced by.
    pub only: Option<BTreeSet<usize>>,
    /// Whether SIP messages are written down.
    pub ladder: bool,
}

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Calls dialled.
    pub calls: u64,
    /// Crashes.
    pub crashes: u64,
    /// Events that the gateway raised.
    pub events: u64,
    /// A digest of all that happened, in order: the same seed gives the same.
    pub trace: u64,
    /// What did not hold.
    pub failed: Vec<Failure>,
    /// SIP messages as they were sent, where asked for.
    pub ladder: Vec<String>,
}

pub(super) struct World {
    pub(super) out: Outside,
    pub(super) life: Option<Life>,
    lives: u32,
    pub(super) callers: Vec<Caller>,
    pub(super) platforms: Vec<Platform>,
    pub(super) scripts: Vec<Script>,
    pub(super) stories: Vec<Story>,
    /// Webhooks on their way or sent, and those that were answered 200.
    reported: BTreeSet<usize>,
    pub(super) acknowledged: BTreeSet<usize>,
    replies: BTreeMap<u64, usize>,
    pub(super) crashes: u64,
    broken: bool,
}

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Run {
    let mut world = World::new(seed, options);
    world.play();
    if !world.broken {
        world.last_start();
    }
    let mut failed = std::mem::take(&mut world.out.faults);
    if !world.broken {
        failed.extend(check::check(&world));
    }
    let calls = world.callers.iter().filter(|c| c.stage != Stage::Waiting).count();
    let Outside { events, trace, ladder, .. } = world.out;
    Run { calls: u64::try_from(calls).unwrap_or(0), crashes: world.crashes, events, trace, failed, ladder: ladder.unwrap_or_default() }
}

impl World {
    fn new(seed: u64, options: &Options) -> Self {
        let mut chance = Chance::from_seed(seed);
        let addresses: Vec<SocketAddr> = (1..=2).map(|n| SocketAddr::from(([10, 0, 2, n], 5060))).collect();
        let transport = |chance: &mut Chance| if chance.percent(30) { Transport::Tcp } else { Transport::Udp };
        let targets: Vec<_> = addresses.iter().map(|at| (*at, transport(&mut chance))).collect();
        let mut scripts = scripts(&mut chance);
        if let Some(only) = &options.only {
            for (_, script) in scripts.iter_mut().enumerate().filter(|(index, _)| !only.contains(index)) {
                script.at_ms = u64::MAX / 4000;
            }
        }
        let network = Network::of(&mut chance, &addresses);
        let rough = !network.is_clean();
        let mut out = Outside {
            now: Instant::ORIGIN,
            queue: BTreeMap::new(),
            order: 0,
            network,
            disk: Disk::default(),
            disk_failure_percent: if rough && chance.percent(30) { 1 + chance.below(10) } else { 0 },
            disk_full: (rough && chance.percent(15)).then(|| {
                let from = Instant::from_millis(2000 + chance.below(20_000));
                (from, from + Duration::from_millis(500 + chance.below(6000)))
            }),
            disk_failed: false,
            crm: crm::account(&mut chance, FAULTS.as_micros() / 1_000_000),
            ledger: Vec::new(),
            targets: targets.clone(),
            pipes: Pipes::default(),
            makers: BTreeMap::new(),
            resets: 0,
            plant: options.plant,
            kept: VecDeque::new(),
            steps: Vec::new(),
            responses: Vec::new(),
            acks: BTreeSet::new(),
            events: 0,
            upserts: BTreeMap::new(),
            unreleased: Vec::new(),
            faults: Vec::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            ladder: options.ladder.then(Vec::new),
            chance: chance.split(),
            wire: chance.split(),
        };
        let hour = 3_600_000;
        out.steps = (0..chance.below(3))
            .map(|_| (Instant::from_millis(1000 + chance.below(28_000)), if chance.percent(50) { hour } else { -hour }))
            .collect();
        for _ in 0..if rough { chance.below(3) } else { 0 } {
            let at = Instant::from_millis(2000 + chance.below(26_000));
            out.schedule(at, Happening::Crash);
        }
        for _ in 0..if rough { chance.below(3) } else { 0 } {
            let at = Instant::from_millis(2000 + chance.below(26_000));
            out.schedule(at, Happening::Reset);
        }
        let callers: Vec<Caller> =
            scripts.iter().cloned().enumerate().map(|(index, script)| Caller::new(index, script, &mut chance)).collect();
        let platforms =
            targets.iter().enumerate().map(|(which, (at, transport))| Platform::new(which, *at, *transport, &mut chance)).collect();
        let stories = vec![Story::default(); scripts.len()];
        let phones = callers.iter().map(|c| c.at).chain(targets.iter().map(|(at, _)| *at));
        out.makers = phones.map(|at| (at.ip(), Maker::of(&mut chance))).collect();
        let mut world = Self {
            out,
            life: None,
            lives: 0,
            callers,
            platforms,
            scripts,
            stories,
            reported: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            replies: BTreeMap::new(),
            crashes: 0,
            broken: false,
        };
        world.restart();
        world
    }

    fn fault(&mut self, property: &'static str, detail: String) {
        let at_ms = self.out.now.as_micros() / 1000;
        self.out.faults.push(Failure { property, at_ms, detail });
        self.broken = true;
    }

    fn restart(&mut self) {
        self.lives += 1;
        let store = self.out.left();
        match Life::start(self.lives, &mut self.out, store) {
            Ok(life) => self.life = Some(life),
            Err(why) => self.fault("the journal can be read after any crash", why),
        }
    }

    /// A last start after everything has come to rest: what a closed journal did not take is closed by it.
    fn last_start(&mut self) {
        if let Some(life) = self.life.take() {
            let stats = life.gateway.stats();
            let held = (stats.calls, stats.dialogs, stats.transactions, stats.ports, life.media.calls(), life.ports.len());
            if held != (0, 0, 0, 0, 0, 0) {
                self.out.unreleased.push(format!("calls, dialogs, transactions, ports, calls of media, its ports: {held:?}"));
            }
        }
        self.out.kept.clear();
        self.restart();
        self.play();
    }

    fn play(&mut self) {
        let mut steps = 0_u64;
        while !self.broken {
            let due = self.next_happening();
            let at_rest = self.out.now >= FAULTS && self.is_at_rest();
            let Some(at) = due.filter(|at| *at <= PATIENCE && !at_rest) else {
                if !at_rest && !self.is_at_rest() {
                    self.fault("everything comes to rest", self.unrest());
                }
                return;
            };
            steps += 1;
            if steps > STEPS_MAX {
                return self.fault("everything comes to rest", format!("{STEPS_MAX} things happened and no end; {}", self.unrest()));
            }
            self.out.now = at.max(self.out.now);
            self.step();
        }
    }

    fn next_happening(&self) -> Option<Instant> {
        let queued = self.out.queue.first_key_value().map(|((at, _), _)| *at);
        let phones =
            self.callers.iter().filter_map(Caller::next_timeout).chain(self.platforms.iter().filter_map(Platform::next_timeout)).min();
        [queued, phones, self.life.as_ref().and_then(Life::next_timeout)].into_iter().flatten().min()
    }

    fn is_at_rest(&self) -> bool {
        let dialled = self.callers.iter().all(|c| c.stage == Stage::Over || c.script.at_ms > 1_000_000);
        let reported = self.stories.iter().enumerate().all(|(index, s)| self.silent(index, s) || self.acknowledged.contains(&index));
        let quiet = self.life.as_ref().is_some_and(|l| l.is_quiet() && l.gateway.live_calls() == 0 && l.gateway.stats().transactions == 0);
        dialled && reported && quiet && self.out.queue.is_empty()
    }

    fn silent(&self, index: usize, story: &Story) -> bool {
        story.report.is_none() || story.call_id.is_none() || self.scripts.get(index).is_none_or(|s| s.disposition.is_none())
    }

    fn unrest(&self) -> String {
        let life = self.life.as_ref().map(|l| format!("{:?}, quiet: {}", l.gateway.stats(), l.is_quiet()));
        let stages: Vec<_> = self.callers.iter().map(|c| c.stage).collect();
        format!(
            "gateway {life:?}, callers {stages:?}, {} webhooks answered, {} things to come",
            self.acknowledged.len(),
            self.out.queue.len()
        )
    }

    fn step(&mut self) {
        let now = self.out.now;
        let next = self.out.queue.first_key_value().map(|(key, _)| *key).filter(|(at, _)| *at <= now);
        if let Some(happening) = next.and_then(|key| self.out.queue.remove(&key)) {
            self.happen(happening);
        }
        if self.life.as_ref().and_then(Life::next_timeout).is_some_and(|at| at <= now) {
            self.in_life(|life, out| life.handle_timeout(out));
        }
        self.phones();
        self.webhooks();
    }

    fn in_life(&mut self, act: impl FnOnce(&mut Life, &mut Outside) -> Result<(), String>) {
        if let Some(life) = &mut self.life
            && let Err(why) = act(life, &mut self.out)
        {
            self.fault("the journal can be read while it runs", why);
        }
    }

    fn in_this_life(&mut self, id: u32, act: impl FnOnce(&mut Life, &mut Outside) -> Result<(), String>) {
        if self.life.as_ref().is_some_and(|l| l.id == id) {
            self.in_life(act);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Datagram(from, to, octets) => {
                self.out.note(&octets);
                self.datagram(from, to, &octets);
            }
            Happening::Opened(pipe, to_gateway) => self.on_stream(pipe, to_gateway, &OnStream::Opened),
            Happening::Octets(pipe, to_gateway, octets) => {
                self.out.note(&octets);
                self.on_stream(pipe, to_gateway, &OnStream::Octets(&octets));
            }
            Happening::Broken(pipe) => self.broken_pipe(pipe),
            Happening::Reset => {
                self.out.note(b"reset");
                self.out.resets += 1;
                for pipe in self.out.pipes.of(None) {
                    if self.out.chance.percent(50) {
                        self.broken_pipe(pipe);
                    }
                }
            }
            Happening::ToMedia(id, command) => self.in_this_life(id, |life, out| life.command(out, command)),
            Happening::ToGateway(id, report) => self.in_this_life(id, |life, out| life.report(out, report)),
            Happening::Synced(id, failed) => {
                self.out.note(b"synced");
                self.in_this_life(id, |life, out| life.synced(out, failed));
            }
            Happening::Reopen(id) => self.in_this_life(id, |life, out| life.reopen(out)),
            Happening::CrmArrives(id, request, http) => {
                self.out.note(&http.body);
                let (answer, after) = self.out.crm_arrives(&http);
                let at = self.out.now + after + Duration::from_micros(1000 + self.out.chance.below(20_000));
                self.out.schedule(at, Happening::CrmAnswers(id, request, answer));
            }
            Happening::CrmAnswers(id, request, answer) => self.in_this_life(id, |life, out| life.crm_answered(out, request, answer)),
            Happening::Webhook(index) => self.webhook(index),
            Happening::Crash => {
                self.out.note(b"crash");
                if let Some(life) = self.life.take() {
                    self.crashes += 1;
                    // The system resets what the process had open.
                    for pipe in self.out.pipes.of(Some(life.id)) {
                        self.broken_pipe(pipe);
                    }
                    let Outside { disk, chance, .. } = &mut self.out;
                    disk.crash(chance);
                    let at = self.out.now + Duration::from_millis(200 + self.out.chance.below(3000));
                    self.out.schedule(at, Happening::Restart);
                }
            }
            Happening::Restart => self.restart(),
        }
    }

    /// Something happens to a stream at one of its ends.
    fn on_stream(&mut self, pipe: Pipe, to_gateway: bool, what: &OnStream<'_>) {
        let Some(phone) = self.out.pipes.phone(pipe) else { return };
        if to_gateway {
            return self.in_this_life(pipe.life, |life, out| life.stream(out, pipe.gateway, phone.at, what));
        }
        self.at_phone(phone, what);
    }

    fn at_phone(&mut self, phone: PhoneEnd, what: &OnStream<'_>) {
        let now = self.out.now;
        let Self { callers, platforms, scripts, stories, out, .. } = self;
        for caller in callers.iter_mut().filter(|c| c.at == phone.at) {
            caller.stream(now, phone.connection, what, &mut out.chance);
        }
        for platform in platforms.iter_mut().filter(|p| p.at == phone.at) {
            platform.stream(now, phone.connection, what, scripts, stories);
        }
    }

    /// Both ends learn that a stream is gone; what was on its way is lost.
    fn broken_pipe(&mut self, pipe: Pipe) {
        let Some(phone) = self.out.pipes.close(pipe) else { return };
        self.in_this_life(pipe.life, |life, out| life.stream(out, pipe.gateway, phone.at, &OnStream::Closed));
        self.at_phone(phone, &OnStream::Closed);
    }

    fn leave(&mut self, leaves: Leaves) {
        let maker = |at: SocketAddr, out: &Outside| out.makers.get(&at.ip()).copied().unwrap_or(Maker::Ours);
        match leaves {
            Leaves::Datagram(from, to, octets) => {
                let octets = maker(from, &self.out).dress(octets);
                self.out.send(from, to, octets);
            }
            Leaves::Opens(at, connection) => {
                let life = self.life.as_ref().map(|life| life.id);
                self.out.connect_phone(life, at, connection);
            }
            Leaves::Octets(at, connection, octets) => {
                if let Some(pipe) = self.out.pipes.of_phone(at, connection) {
                    let octets = maker(at, &self.out).dress(octets);
                    self.out.stream(pipe, true, octets);
                }
            }
            Leaves::Closes(at, connection) => {
                if let Some(pipe) = self.out.pipes.of_phone(at, connection) {
                    self.broken_pipe(pipe);
                }
            }
        }
    }

    fn datagram(&mut self, from: SocketAddr, to: SocketAddr, octets: &[u8]) {
        let now = self.out.now;
        if to.ip() == SIP.ip() {
            return self.in_life(|life, out| life.datagram(out, from, to, octets));
        }
        let Self { callers, platforms, scripts, stories, out, .. } = self;
        for caller in callers.iter_mut().filter(|c| to == c.at || to == c.rtp) {
            caller.datagram(now, to, octets, &mut out.chance);
        }
        for platform in platforms.iter_mut().filter(|p| p.at.ip() == to.ip()) {
            platform.datagram(now, to, octets, scripts, stories);
        }
    }

    /// Lets the phones do what is due, and sends what they want sent.
    fn phones(&mut self) {
        let now = self.out.now;
        let (mut sent, mut leaves) = (Vec::new(), Vec::new());
        let Self { callers, platforms, scripts, stories, out, .. } = self;
        for (caller, story) in callers.iter_mut().zip(stories.iter_mut()) {
            if caller.next_timeout().is_some_and(|at| at <= now) {
                caller.handle_timeout(now, story, &mut sent, &mut out.chance);
            }
            caller.leaves(&mut leaves);
        }
        for platform in platforms.iter_mut() {
            if platform.next_timeout().is_some_and(|at| at <= now) {
                platform.handle_timeout(now, scripts, stories, &mut sent, &mut out.chance);
            }
            platform.leaves(&mut leaves);
        }
        for (from, to, octets) in sent {
            self.out.send(from, to, octets);
        }
        for leaves in leaves {
            self.leave(leaves);
        }
    }

    /// Platforms tell how their calls went, some more than once, and again until they are answered 200.
    fn webhooks(&mut self) {
        for (index, story) in self.stories.iter().enumerate() {
            if self.silent(index, story) || !self.reported.insert(index) {
                continue;
            }
            let copies = self.scripts.get(index).and_then(|s| s.disposition).map_or(0, |(_, copies)| copies);
            for _ in 0..copies {
                let at = self.out.now + Duration::from_millis(100 + self.out.chance.below(5000));
                self.out.schedule(at, Happening::Webhook(index));
            }
        }
        for (reply, status) in std::mem::take(&mut self.out.responses) {
            let Some(index) = self.replies.remove(&reply) else { continue };
            if status == 200 {
                self.acknowledged.insert(index);
            } else {
                self.again(index);
            }
        }
    }

    fn again(&mut self, index: usize) {
        let at = self.out.now + Duration::from_secs(2);
        self.out.schedule(at, Happening::Webhook(index));
    }

    fn webhook(&mut self, index: usize) {
        let (Some(story), Some(script)) = (self.stories.get(index), self.scripts.get(index)) else { return };
        let (Some(call_id), Some((disposition, _))) = (story.call_id.clone(), script.disposition) else { return };
        let time = story.report.map_or(0, |at| i64::try_from(at.as_micros() / 1000).unwrap_or(0));
        let body =
            json!({"id": format!("w{index}"), "type": "call.ended", "call_id": call_id, "time": Wall::from_millis(crm::START_MS + time),
            "data": {"disposition_code": disposition}})
            .to_string();
        let Some(key) = Key::parse(WEBHOOK_KEY) else { return };
        // Who retries signs anew.
        let now = self.out.system_wall();
        let stamp = now.as_millis() / 1000;
        let signature = key.sign("m", Wall::from_millis(stamp * 1000), body.as_bytes());
        let headers = [("webhook-id", "m".to_owned()), ("webhook-timestamp", stamp.to_string()), ("webhook-signature", signature)];
        let headers: Vec<_> = headers.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        if self.life.is_none() {
            return self.again(index);
        }
        let reply = self.out.order;
        self.out.order += 1;
        // A life that ends before it answers leaves its sender without an answer: he sends again.
        if self.replies.values().any(|of| *of == index) {
            self.replies.retain(|_, of| *of != index);
        }
        self.replies.insert(reply, index);
        self.in_life(|life, out| life.webhook(out, reply, &headers, body.as_bytes()));
        if !self.acknowledged.contains(&index) {
            let at = self.out.now + Duration::from_secs(5);
            self.out.schedule(at, Happening::Webhook(index));
        }
    }
}
