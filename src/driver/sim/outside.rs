//! Everything outside the process but the phones: clocks, network, disk, CRM, and the queue of what happens.

#![allow(clippy::indexing_slicing, reason = "a JSON value is null where it has no such field")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

use super::{
    check::Failure,
    crm,
    disk::Disk,
    dress::Maker,
    network::Network,
    pipes::{Pipe, Pipes},
    plant::Plant,
};
use crate::{
    chance::Chance,
    crm::{HttpAnswer, HttpRequest, record_key, sandbox::Double},
    journal::Position,
    media::{self, Command, Report},
    pipeline::{Memory, attempted},
    sip::endpoint::{ConnectionId, Transport},
    time::{Instant, Now, Wall},
};

/// Where the gateway takes SIP.
pub(super) const SIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5060);
/// Until when things go wrong.
pub(super) const FAULTS: Instant = Instant::from_millis(30_000);

/// What happens at some moment.
pub(super) enum Happening {
    Datagram(SocketAddr, SocketAddr, Vec<u8>),
    /// A stream stands, at the end that did not open it.
    Opened(Pipe, bool),
    /// Octets of a stream: whether to the gateway.
    Octets(Pipe, bool, Vec<u8>),
    /// A stream breaks, or is closed.
    Broken(Pipe),
    /// Streams are reset, each with a chance of one in two.
    Reset,
    ToMedia(u32, Command),
    ToGateway(u32, Report),
    Synced(u32, bool),
    Reopen(u32),
    CrmArrives(u32, u64, HttpRequest),
    CrmAnswers(u32, u64, Option<HttpAnswer>),
    Webhook(usize),
    Crash,
    Restart,
}

/// Everything but the process and the phones.
pub(super) struct Outside {
    pub(super) now: Instant,
    pub(super) queue: BTreeMap<(Instant, u64), Happening>,
    pub(super) order: u64,
    pub(super) chance: Chance,
    /// Of what goes between gateway, media and phones: how often the write-back draws must not change what happens on the telephone.
    pub(super) wire: Chance,
    pub(super) network: Network,
    pub(super) disk: Disk,
    pub(super) disk_failure_percent: u64,
    /// When nothing more fits onto the disk.
    pub(super) disk_full: Option<(Instant, Instant)>,
    pub(super) disk_failed: bool,
    pub(super) crm: Double,
    pub(super) ledger: Vec<Value>,
    pub(super) targets: Vec<(SocketAddr, Transport)>,
    pub(super) pipes: Pipes,
    /// Whose octets the phones send.
    pub(super) makers: BTreeMap<IpAddr, Maker>,
    pub(super) resets: u64,
    pub(super) plant: Option<Plant>,
    /// The store as it was after each of its last transactions.
    pub(super) kept: VecDeque<Memory>,
    /// Steps of the system's wall clock: from when on, by how many ms.
    pub(super) steps: Vec<(Instant, i64)>,
    pub(super) responses: Vec<(u64, u16)>,
    pub(super) acks: BTreeSet<Vec<u8>>,
    pub(super) events: u64,
    pub(super) upserts: BTreeMap<String, usize>,
    /// What a life that ended in order still held.
    pub(super) unreleased: Vec<String>,
    pub(super) faults: Vec<Failure>,
    pub(super) trace: u64,
    pub(super) ladder: Option<Vec<String>>,
}

impl Outside {
    /// Both clocks; the wall goes on evenly, as the process's own does.
    pub(super) fn now(&self) -> Now {
        let ms = i64::try_from(self.now.as_micros() / 1000).unwrap_or(0);
        Now { mono: self.now, wall: Wall::from_millis(crm::START_MS + ms) }
    }

    /// The system's wall clock, steps and all.
    pub(super) fn system_wall(&self) -> Wall {
        Wall::from_millis(self.now().wall.as_millis() + self.step_ms())
    }

    pub(super) fn step_ms(&self) -> i64 {
        self.steps.iter().filter(|(from, _)| *from <= self.now).map(|(_, ms)| ms).sum()
    }

    /// What the gateway's timers go by: a planted fault takes the wall clock for it.
    pub(super) fn now_for_timers(&self) -> Now {
        let now = self.now();
        if self.plant != Some(Plant::TimerOnWallClock) {
            return now;
        }
        let us = i64::try_from(self.now.as_micros()).unwrap_or(0).saturating_add(self.step_ms() * 1000);
        Now { mono: Instant::from_micros(u64::try_from(us).unwrap_or(0)), ..now }
    }

    pub(super) fn schedule(&mut self, at: Instant, what: Happening) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), what);
    }

    /// When something sent between two machines now arrives.
    pub(super) fn late(&mut self) -> Instant {
        self.now + Duration::from_micros(self.wire.below(4000))
    }

    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, octets: Vec<u8>) {
        if let Some(ladder) = self.ladder.as_mut().filter(|_| octets.first().is_some_and(u8::is_ascii_uppercase)) {
            let line = String::from_utf8_lossy(&octets).lines().next().unwrap_or_default().to_owned();
            ladder.push(format!("{:>7} {from} -> {to} {line}", self.now.as_micros() / 1000));
        }
        let network = if self.now < FAULTS { self.network.clone() } else { Network::default() };
        for at in network.arrivals(&mut self.wire, self.now, from, to) {
            self.schedule(at, Happening::Datagram(from, to, octets.clone()));
        }
    }

    /// The gateway opens a stream to a phone.
    pub(super) fn connect(&mut self, pipe: Pipe, to: SocketAddr) {
        self.pipes.gateway_opens(pipe, to, self.now);
        self.on_its_way(pipe, false, Happening::Opened(pipe, false));
    }

    /// A phone opens a stream to the gateway; to nobody where no process lives.
    pub(super) fn connect_phone(&mut self, life: Option<u32>, at: SocketAddr, connection: ConnectionId) {
        let pipe = self.pipes.phone_opens(life.unwrap_or(0), at, connection, self.now);
        self.on_its_way(pipe, true, if life.is_some() { Happening::Opened(pipe, true) } else { Happening::Broken(pipe) });
    }

    /// Octets go into a stream.
    pub(super) fn stream(&mut self, pipe: Pipe, to_gateway: bool, octets: Vec<u8>) {
        if let Some(ladder) = &mut self.ladder {
            let line = String::from_utf8_lossy(&octets).lines().next().unwrap_or_default().to_owned();
            let phone = self.pipes.phone(pipe).map(|end| end.at.to_string()).unwrap_or_default();
            let (from, to) = if to_gateway { (phone, SIP.to_string()) } else { (SIP.to_string(), phone) };
            ladder.push(format!("{:>7} {from} -> {to} tcp {line}", self.now.as_micros() / 1000));
        }
        self.on_its_way(pipe, to_gateway, Happening::Octets(pipe, to_gateway, octets));
    }

    pub(super) fn on_its_way(&mut self, pipe: Pipe, to_gateway: bool, what: Happening) {
        let Some(phone) = self.pipes.phone(pipe) else { return };
        let network = if self.now < FAULTS { self.network.clone() } else { Network::default() };
        let at = network.arrival(&mut self.wire, self.now, phone.at);
        if let Some(at) = self.pipes.arrival(pipe, to_gateway, at) {
            self.schedule(at, what);
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.network.is_clean()
    }

    pub(super) fn disk_fails(&mut self) -> bool {
        let fails = self.disk_is_full() || self.now < FAULTS && self.chance.percent(self.disk_failure_percent);
        self.disk_failed |= fails;
        fails
    }

    pub(super) fn disk_is_full(&self) -> bool {
        self.disk_full.is_some_and(|(from, until)| (from..until).contains(&self.now))
    }

    /// A digest of all that has happened so far.
    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    pub(super) fn media_config(&self) -> media::Config {
        #[cfg(feature = "planted-faults")]
        return media::Config { mask_off: self.plant == Some(Plant::DigitInSecurePhase) };
        #[cfg(not(feature = "planted-faults"))]
        media::Config::default()
    }

    pub(super) fn keep(&mut self, store: &Memory) {
        self.kept.push_back(store.clone());
        if self.kept.len() > STORES_KEPT {
            self.kept.pop_front();
        }
    }

    /// The store that a crash leaves: its last transactions may be lost, whole.
    pub(super) fn left(&mut self) -> Memory {
        let lost = usize::try_from(self.chance.below(STORES_KEPT as u64)).unwrap_or(0);
        let index = self.kept.len().saturating_sub(1 + lost);
        let left = self.kept.get(index).cloned().unwrap_or_default();
        self.kept.clear();
        left
    }

    pub(super) fn note(&mut self, octets: &[u8]) {
        // FNV-1a: two runs are compared, nobody is kept out.
        for octet in octets.iter().copied().chain(self.now.as_micros().to_be_bytes()) {
            self.trace = (self.trace ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn crm_arrives(&mut self, http: &HttpRequest) -> (Option<HttpAnswer>, Duration) {
        let request = crm::request(http);
        if request.path.ends_with("upsert") {
            self.count_upsert(&request.body);
        }
        let outcome = self.crm.handle(self.now(), &request);
        self.ledger.extend(self.crm.take_ledger());
        crm::answer(outcome)
    }

    /// Durable, then sent: no more requests may reach the CRM than there are attempts on disk.
    pub(super) fn count_upsert(&mut self, body: &[u8]) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let keys = body["inputs"].as_array().into_iter().flatten().filter_map(|i| i["id"].as_str());
        let (entries, _) = self.disk.read(Position::default());
        let attempted = entries.iter().flat_map(|(_, e)| attempted(e)).map(record_key).collect::<Vec<_>>();
        for key in keys {
            let attempts = attempted.iter().filter(|k| *k == key).count();
            let requests = self.upserts.entry(key.to_owned()).or_default();
            *requests += 1;
            if *requests > attempts {
                let detail = format!("{requests} requests reached the CRM, {attempts} attempts are on disk");
                let at_ms = self.now.as_micros() / 1000;
                self.faults.push(Failure { property: "durable, then sent", at_ms, detail });
            }
        }
    }
}

/// Transactions that a crash may take at most.
const STORES_KEPT: usize = 3;
