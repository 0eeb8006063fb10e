//! What a crash takes: the three machines and the store's last transactions. Everything that leaves them passes here, late by seed.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use zeroize::Zeroizing;

use super::{
    crm,
    outside::{Happening, Outside, SIP},
    phone::OnStream,
    pipes::Pipe,
    plant::Plant,
};
use crate::{
    call::Local,
    codec::Codec,
    crm::{HttpAnswer, hubspot, sandbox},
    driver::{unwritten::Unwritten, wire::Collected},
    event::Event,
    gateway::{self, Gateway, JournalWord},
    journal::{Entry, EntryKind, Position},
    media::{self, Command, Media, Port, Report, Sink},
    pipeline::{self, Key, Memory, NoAnswer, Pipeline, Source, Store, restart, webhook},
    route::{Dtmf, Outcomes, Route, Table, Target, Trunk},
    sip::endpoint::{ConnectionId, ListenerId, Transmit, Transport},
    time::Instant,
};

/// What platforms sign their webhooks with.
pub(super) const WEBHOOK_KEY: &str = "raw:simulated";

/// The gateway's listeners, by their place.
const UDP: ListenerId = 0;
pub(super) const TCP: ListenerId = 1;
/// A closed journal tries so often whether it can go on.
const REOPEN: Duration = Duration::from_secs(2);

/// Who waits for an entry to be on disk.
enum Waiter {
    /// An event, with its place among those that calls told.
    Event(u64, Box<Event>),
    /// A planted fault: nobody.
    Nobody,
    Append(u64),
    Webhook(u64),
}

/// One life of the process.
pub(super) struct Life {
    pub(super) id: u32,
    pub(super) gateway: Gateway,
    pub(super) media: Media,
    ingest: webhook::Ingest,
    pipeline: Pipeline,
    store: Memory,
    tail: Position,
    pub(super) ports: BTreeMap<Port, SocketAddr>,
    queue: Vec<(Entry, Waiter)>,
    writing: Vec<Waiter>,
    journal_open: bool,
    unwritten: Unwritten,
    /// Channels keep their order however late they are.
    to_media: Instant,
    to_gateway: Instant,
    /// A planted fault: whether one terminal event was doubled, one pair of events swapped, one leg left with a stale address.
    planted: bool,
}

fn gateway_config(targets: &[(SocketAddr, Transport)]) -> gateway::Config {
    let trunk = Trunk {
        name: "carrier".into(),
        allow: vec!["10.0.1.0/24".parse().unwrap_or_default()],
        listener: None,
        advertised: None,
        codecs: Codec::ALL.to_vec(),
        dtmf: Dtmf::Auto,
        outcomes: Outcomes::default(),
    };
    let target = |(index, (address, transport)): (usize, &(SocketAddr, Transport))| Target {
        name: format!("platform-{index}"),
        uri: format!("sip:{address};transport={}", transport.as_str().to_ascii_lowercase()),
        address: *address,
        listener: if *transport == Transport::Tcp { TCP } else { UDP },
        advertised: None,
        codecs: None,
        dtmf: Dtmf::Auto,
        call_header: "X-Offhook-Call".into(),
    };
    let route = |name: &str, targets: Vec<usize>| Route {
        name: name.into(),
        trunk: "carrier".into(),
        number: name.into(),
        targets,
        ring: Duration::from_secs(6),
        record: true,
        secure_keys: None,
        secure_pass_audio: false,
        secure_longest: Duration::from_secs(600),
        silence: None,
        silence_hang_up: false,
        no_media: Duration::from_secs(3),
    };
    gateway::Config {
        table: Table {
            trunks: vec![trunk],
            targets: targets.iter().enumerate().map(target).collect(),
            routes: vec![route("0", vec![0, 1]), route("1", vec![1])],
        },
        listeners: [Transport::Udp, Transport::Tcp].map(|transport| Local { transport, address: SIP }).to_vec(),
        ports: 20_000..=20_199,
        calls_max: 50,
        overload_status: 503,
        retry_after_s: None,
        events_max: 10_000,
        carry_without_journal: false,
    }
}

/// What the pipeline of this world goes by.
pub(super) fn pipeline_config() -> pipeline::Config {
    let connector = hubspot::HubSpot {
        base_url: crm::URL.into(),
        token_url: format!("{}/oauth/v1/token", crm::URL),
        client_id: sandbox::CLIENT_ID.into(),
        client_secret: String::from(sandbox::CLIENT_SECRET).into(),
        version: hubspot::VERSION.into(),
        object: "calls".into(),
        key: crm::KEY.into(),
    };
    let crm = pipeline::Crm {
        name: "crm".into(),
        contacts: None,
        connector: Box::new(connector),
        mapping: Box::new(|record| crm::mapping(record).into()),
        refresh_token: String::from(sandbox::REFRESH_TOKEN).into(),
        writes: Vec::new(),
        reads: Default::default(),
        pace: pipeline::Pace::default(),
        schedule: Default::default(),
        activation: None,
    };
    let sources = Key::parse(WEBHOOK_KEY).map(|key| ("platform".to_owned(), Source::standard(key))).into_iter().collect();
    pipeline::Config {
        crms: vec![crm],
        sources,
        marks: webhook::Marks::new(vec![Zeroizing::new(b"marks".to_vec())]),
        expects: vec![pipeline::Expect::disposition(Duration::from_secs(20))],
        attempts_max: 1000,
        keep: None,
    }
}

impl Life {
    /// Starts as the program does: recovers the journal, folds it, closes what was open. `Err` where the journal cannot be read.
    pub(super) fn start(id: u32, out: &mut Outside, store: Memory) -> Result<Self, String> {
        out.disk.recover(out.plant != Some(Plant::TornEntryTaken))?;
        out.disk.begin();
        let now = out.now();
        let config = pipeline_config();
        let mut life = Self {
            id,
            gateway: Gateway::new(gateway_config(&out.targets), out.chance.split()),
            media: Media::new(out.media_config(), out.chance.split()),
            ingest: webhook::Ingest::new(config.sources.clone()),
            pipeline: Pipeline::new(config, out.chance.split()),
            tail: store.position().unwrap_or_default(),
            store,
            ports: BTreeMap::new(),
            queue: Vec::new(),
            writing: Vec::new(),
            journal_open: true,
            unwritten: Unwritten::default(),
            to_media: now.mono,
            to_gateway: now.mono,
            planted: false,
        };
        life.fold(out)?;
        let closing = restart::close_open_calls(&life.store, now.wall).map_err(|e| e.to_string())?;
        let entries: Vec<Entry> = closing.iter().map(entry).collect();
        if !entries.is_empty() {
            out.disk.write(&entries);
            out.disk.sync();
        }
        life.settle(out)?;
        Ok(life)
    }

    /// Folds what is synced.
    fn fold(&mut self, out: &mut Outside) -> Result<bool, String> {
        let (entries, next) = out.disk.read(self.tail);
        if entries.is_empty() {
            return Ok(false);
        }
        self.pipeline.fold(&mut self.store, &entries, next).map_err(|e| e.to_string())?;
        if out.plant == Some(Plant::DroppedDedupMark) {
            self.store.forget_webhooks();
        }
        self.tail = next;
        out.keep(&self.store);
        Ok(true)
    }

    /// When something of it is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        [self.gateway.next_timeout(), self.media.next_timeout(), self.pipeline.next_timeout()].into_iter().flatten().min()
    }

    /// Runs what is due.
    pub(super) fn handle_timeout(&mut self, out: &mut Outside) -> Result<(), String> {
        let now = out.now();
        if self.gateway.next_timeout().is_some_and(|at| at <= now.mono) {
            self.gateway.handle_timeout(out.now_for_timers());
        }
        if self.media.next_timeout().is_some_and(|at| at <= now.mono) {
            let mut wire = Collected::default();
            self.media.handle_timeout(now.mono, &mut wire);
            self.sent(out, wire);
        }
        self.settle(out)
    }

    /// A datagram came to one of its sockets.
    pub(super) fn datagram(&mut self, out: &mut Outside, from: SocketAddr, to: SocketAddr, octets: &[u8]) -> Result<(), String> {
        let now = out.now();
        if to == SIP {
            self.gateway.handle_datagram(out.now_for_timers(), 0, from, octets);
        } else if let Some(port) = self.ports.iter().find(|(_, at)| **at == to).map(|(port, _)| *port) {
            let mut wire = Collected::default();
            self.media.handle_packet(now.mono, port, from, &mut octets.to_vec(), &mut wire);
            self.sent(out, wire);
        }
        self.settle(out)
    }

    /// Something happens to a stream at its end.
    pub(super) fn stream(
        &mut self,
        out: &mut Outside,
        connection: ConnectionId,
        from: SocketAddr,
        what: &OnStream<'_>,
    ) -> Result<(), String> {
        let now = out.now_for_timers();
        match what {
            OnStream::Opened => self.gateway.handle_connected(now, connection, from, TCP),
            OnStream::Octets(octets) => self.gateway.handle_stream(now, connection, octets),
            OnStream::Closed => self.gateway.handle_closed(now, connection),
        }
        self.settle(out)
    }

    /// A command reaches media.
    pub(super) fn command(&mut self, out: &mut Outside, command: Command) -> Result<(), String> {
        let now = out.now();
        let mut wire = Collected::default();
        self.media.handle_command(now.mono, command, &mut wire);
        self.sent(out, wire);
        self.settle(out)
    }

    /// A report reaches the gateway.
    pub(super) fn report(&mut self, out: &mut Outside, report: Report) -> Result<(), String> {
        self.gateway.handle_report(out.now_for_timers(), report);
        self.settle(out)
    }

    /// The sync that was under way is through, or has failed.
    pub(super) fn synced(&mut self, out: &mut Outside, failed: bool) -> Result<(), String> {
        let now = out.now();
        let waiting = std::mem::take(&mut self.writing);
        if failed {
            out.disk.cut();
            self.journal_open = false;
            self.gateway.handle_journal(JournalWord::Closed);
            out.schedule(now.mono + REOPEN, Happening::Reopen(self.id));
        } else {
            out.disk.sync();
        }
        for waiter in waiting.into_iter().chain(if failed {
            std::mem::take(&mut self.queue).into_iter().map(|(_, w)| w).collect()
        } else {
            Vec::new()
        }) {
            self.tell(out, waiter, failed);
        }
        self.settle(out)
    }

    fn tell(&mut self, out: &mut Outside, waiter: Waiter, failed: bool) {
        match waiter {
            Waiter::Event(place, event) if failed => self.unwritten.keep(place, *event),
            Waiter::Event(..) => self.gateway.handle_journal(JournalWord::Done(1)),
            Waiter::Nobody => {}
            Waiter::Webhook(reply) => out.responses.push((reply, if failed { 503 } else { 200 })),
            Waiter::Append(append) => {
                let result = if failed { Err("the disk failed".to_owned()) } else { Ok(()) };
                self.pipeline.synced(out.now(), append, result);
            }
        }
    }

    /// The journal goes on on a new segment.
    pub(super) fn reopen(&mut self, out: &mut Outside) -> Result<(), String> {
        if out.disk_is_full() {
            out.schedule(out.now().mono + REOPEN, Happening::Reopen(self.id));
            return Ok(());
        }
        out.disk.begin();
        self.journal_open = true;
        self.gateway.handle_journal(JournalWord::Opened);
        self.pipeline.journal_opened();
        while let Some((place, event)) = self.unwritten.take() {
            self.queue.push((entry(&event), Waiter::Event(place, Box::new(event))));
        }
        self.settle(out)
    }

    /// The CRM answered, or the connection broke.
    pub(super) fn crm_answered(&mut self, out: &mut Outside, request: u64, answer: Option<HttpAnswer>) -> Result<(), String> {
        let answer = answer.ok_or_else(|| NoAnswer { maybe_sent: true, why: "the connection broke".into() });
        self.pipeline.answer(out.now(), request, answer);
        self.settle(out)
    }

    /// A webhook came.
    pub(super) fn webhook(&mut self, out: &mut Outside, reply: u64, headers: &[(String, String)], body: &[u8]) -> Result<(), String> {
        let request = webhook::Request { headers, query: "", body };
        match self.ingest.take(out.now().wall, out.system_wall(), "platform", &request) {
            Ok(entry) if self.journal_open => self.queue.push((entry, Waiter::Webhook(reply))),
            Ok(_) => out.responses.push((reply, 503)),
            Err(refusal) => out.responses.push((reply, refusal.status)),
        }
        self.settle(out)
    }

    /// Performs whatever the machines want done, until none wants anything.
    fn settle(&mut self, out: &mut Outside) -> Result<(), String> {
        loop {
            let mut busy = false;
            while let Some(output) = self.gateway.poll_output() {
                busy = true;
                self.gateway_wants(out, output);
            }
            while let Some(output) = self.media.poll_output() {
                busy = true;
                self.media_wants(out, output);
            }
            self.write(out);
            busy |= self.fold(out)?;
            self.pipeline.turn(out.now(), &mut self.store, true).map_err(|e| e.to_string())?;
            while let Some(output) = self.pipeline.poll_output() {
                busy = true;
                self.pipeline_wants(out, output);
            }
            self.write(out);
            if !busy {
                return Ok(());
            }
        }
    }

    fn gateway_wants(&mut self, out: &mut Outside, output: gateway::Output) {
        match output {
            gateway::Output::Transmit(Transmit::Datagram { to, bytes, .. }) => {
                if out.plant == Some(Plant::LostAckRetransmission) && bytes.starts_with(b"ACK ") && !out.acks.insert(bytes.to_vec()) {
                    return;
                }
                out.send(SIP, to, bytes.to_vec());
            }
            gateway::Output::Transmit(Transmit::Connect { connection, to, .. }) => {
                out.connect(Pipe { life: self.id, gateway: connection }, to)
            }
            gateway::Output::Transmit(Transmit::Stream { connection, bytes }) => {
                out.stream(Pipe { life: self.id, gateway: connection }, false, bytes.to_vec());
            }
            gateway::Output::Transmit(Transmit::Close { connection }) => {
                let now = out.now().mono;
                out.schedule(now, Happening::Broken(Pipe { life: self.id, gateway: connection }));
            }
            gateway::Output::Media(command) => {
                if self.spoil_command(out, &command) {
                    return;
                }
                self.to_media = self.to_media.max(out.late());
                out.schedule(self.to_media, Happening::ToMedia(self.id, command));
            }
            gateway::Output::Event(event) => self.event(out, &event),
            gateway::Output::Secured { .. } => {}
        }
    }

    /// A planted fault: after a failover the new leg's address is not told.
    fn spoil_command(&mut self, out: &Outside, command: &Command) -> bool {
        if out.plant != Some(Plant::StaleTarget) {
            return false;
        }
        match command {
            Command::Close { leg: crate::event::Leg::Callee, .. } => {
                self.planted = true;
                true
            }
            Command::Agree { leg: crate::event::Leg::Callee, .. } => self.planted,
            _ => false,
        }
    }

    fn event(&mut self, out: &mut Outside, event: &Event) {
        out.events += 1;
        let mut written = vec![event.clone()];
        if out.plant == Some(Plant::DoubleTerminal) && event.kind.is_terminal() {
            written.push(Event { sequence: event.sequence + 1, ..event.clone() });
        }
        if out.plant == Some(Plant::EventOutOfSequence) && event.kind.is_terminal() && !self.planted {
            self.planted = true;
            if let Some(first) = written.first_mut() {
                first.sequence += 1;
            }
        }
        for event in written {
            let place = self.unwritten.place();
            if self.journal_open {
                self.queue.push((entry(&event), Waiter::Event(place, Box::new(event))));
            } else {
                self.unwritten.keep(place, event);
            }
        }
    }

    fn media_wants(&mut self, out: &mut Outside, output: media::Output) {
        match output {
            media::Output::Bind { port, local } => {
                self.ports.insert(port, local);
                self.media.handle_bound(port, Ok(()));
            }
            media::Output::Unbind { port } => {
                if out.plant != Some(Plant::LeakedPort) {
                    self.ports.remove(&port);
                }
            }
            media::Output::Report(report) => self.tell_gateway(out, report),
        }
    }

    fn tell_gateway(&mut self, out: &mut Outside, report: Report) {
        self.to_gateway = self.to_gateway.max(out.late());
        out.schedule(self.to_gateway, Happening::ToGateway(self.id, report));
    }

    fn sent(&mut self, out: &mut Outside, wire: Collected) {
        for (port, to, packet) in wire.sent {
            if let Some(from) = self.ports.get(&port).copied() {
                out.send(from, to, packet);
            }
        }
        // The recorder confirms in its own time.
        for (call, ask, on, at) in wire.marks {
            self.tell_gateway(out, Report::Secured { call, ask, sink: Sink::Recorder, on, at });
        }
    }

    /// Writes what is queued, one batch at a time.
    fn write(&mut self, out: &mut Outside) {
        if !self.writing.is_empty() || self.queue.is_empty() || !self.journal_open {
            return;
        }
        let (entries, waiters): (Vec<_>, Vec<_>) = std::mem::take(&mut self.queue).into_iter().unzip();
        out.disk.write(&entries);
        self.writing = waiters;
        let failed = out.disk_fails();
        let at = out.now().mono + Duration::from_micros(500 + out.chance.below(20_000));
        out.schedule(at, Happening::Synced(self.id, failed));
    }

    fn pipeline_wants(&mut self, out: &mut Outside, output: pipeline::Output) {
        let now = out.now();
        match output {
            pipeline::Output::Append { append, entry } => {
                if !self.journal_open {
                    self.pipeline.synced(now, append, Err("the journal is closed".into()));
                } else if out.plant == Some(Plant::SentBeforeSync) && entry.kind == EntryKind::Attempt {
                    self.queue.push((entry, Waiter::Nobody));
                    self.pipeline.synced(now, append, Ok(()));
                } else {
                    self.queue.push((entry, Waiter::Append(append)));
                }
            }
            pipeline::Output::Send { request, http, .. } => {
                let at = now.mono + Duration::from_micros(1000 + out.chance.below(30_000));
                out.schedule(at, Happening::CrmArrives(self.id, request, http));
            }
            pipeline::Output::Respond { reply, status, .. } => out.responses.push((reply, status)),
            // No platform has an API here.
            pipeline::Output::Ask { .. }
            | pipeline::Output::Tell { .. }
            | pipeline::Output::KeepToken { .. }
            | pipeline::Output::Pruned { .. }
            | pipeline::Output::Erased(_)
            | pipeline::Output::Late
            | pipeline::Output::Count(_) => {}
        }
    }

    /// What the checks look at.
    pub(super) fn store(&self) -> &Memory {
        &self.store
    }

    /// Whether everything that was begun has come to its end.
    pub(super) fn is_quiet(&self) -> bool {
        let counts = self.store.counts().unwrap_or_default();
        let waiting = counts.queued + counts.retrying + counts.in_flight;
        waiting == 0
            && self.queue.is_empty()
            && self.writing.is_empty()
            && self.unwritten.is_empty()
            && self.pipeline.under_way() == 0
            && self.store.next_wait() == Ok(None)
    }
}

fn entry(event: &Event) -> Entry {
    let body = event.to_cloudevent().to_string().into_bytes();
    Entry { kind: EntryKind::Event, time: event.time, id: event.id(), key: event.call_id.to_string(), body }
}
