//! One call with a crash in the middle, all machines in one thread, time by hand: what was durable is all that the next life knows, and it is enough.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use offhook::{
    call::Local,
    chance::Chance,
    codec::Codec,
    crm::{Change, Connector, Fields, HttpAnswer, HttpRequest, OAuth, Token, Verdict},
    event::Event,
    gateway::{Config as GatewayConfig, Gateway, JournalWord, Output},
    journal::{self, Entry, EntryKind, Position},
    media::{Command, Report},
    pipeline::{self, Memory, Pipeline, Store, restart},
    route::{Dtmf, Outcomes, Route, Table, Target, Trunk},
    sip::{
        Message, Method,
        endpoint::{Transmit, Transport},
    },
    time::{Instant, Now, Wall},
};

const CARRIER: &str = "192.0.2.10:5060";
const PLATFORM: &str = "192.0.2.20:5060";
const US: &str = "192.0.2.1:5060";

/// A CRM that takes everything, and counts.
struct Taker;

impl Connector for Taker {
    fn batch_max(&self) -> usize {
        1
    }

    fn upsert(&self, changes: &[Change], _: &Token) -> HttpRequest {
        let change = changes.first().expect("a change");
        let body = serde_json::to_vec(&change.fields).expect("json");
        HttpRequest { method: "POST", url: change.key.clone(), headers: Vec::new(), body }
    }

    fn verdicts(&self, changes: &[Change], _: &HttpAnswer) -> Vec<Verdict> {
        vec![Verdict::Done { id: Some("1".into()) }; changes.len()]
    }

    fn oauth(&self) -> Option<&dyn OAuth> {
        None
    }
}

/// What survives a crash: the disk, the CRM, and the time of day.
struct World {
    /// The journal's one segment as its form has it.
    disk: Vec<u8>,
    batch: u32,
    ms: u64,
    upserts: Vec<(String, Fields)>,
}

/// What does not.
struct Life {
    gateway: Gateway,
    pipeline: Pipeline,
    store: Memory,
    folded: usize,
    wire: VecDeque<(SocketAddr, Message)>,
}

fn gateway() -> Gateway {
    let trunk = Trunk {
        name: "carrier".into(),
        allow: vec!["192.0.2.10/32".parse().expect("a network")],
        listener: None,
        advertised: None,
        codecs: Codec::ALL.to_vec(),
        dtmf: Dtmf::Auto,
        outcomes: Outcomes::default(),
    };
    let target = Target {
        name: "platform".into(),
        uri: format!("sip:{PLATFORM}"),
        address: PLATFORM.parse().expect("an address"),
        listener: 0,
        advertised: None,
        codecs: None,
        dtmf: Dtmf::Auto,
        call_header: "X-Offhook-Call".into(),
    };
    let route = Route {
        name: "all".into(),
        trunk: "carrier".into(),
        number: "*".into(),
        targets: vec![0],
        ring: Duration::from_secs(20),
        record: false,
        secure_keys: None,
        secure_pass_audio: false,
        secure_longest: Duration::from_secs(600),
        silence: None,
        silence_hang_up: false,
        no_media: Duration::from_secs(10),
    };
    let config = GatewayConfig {
        table: Table { trunks: vec![trunk], targets: vec![target], routes: vec![route] },
        listeners: vec![Local { transport: Transport::Udp, address: US.parse().expect("an address") }],
        ports: 20_000..=20_019,
        calls_max: 10,
        overload_status: 503,
        retry_after_s: None,
        events_max: 1000,
        carry_without_journal: false,
    };
    Gateway::new(config, Chance::from_seed(1))
}

fn pipeline() -> Pipeline {
    let crm = pipeline::Crm {
        contacts: None,
        name: "crm".into(),
        connector: Box::new(Taker),
        mapping: Box::new(|record| {
            ["call_id", "outcome", "ended_as", "reason", "disposition_code"]
                .iter()
                .filter_map(|n| Some(((*n).into(), record.get(*n)?.clone())))
                .collect()
        }),
        refresh_token: String::from("r").into(),
        writes: Vec::new(),
        reads: Default::default(),
        pace: pipeline::Pace::default(),
        schedule: Default::default(),
        activation: None,
    };
    let config = pipeline::Config {
        crms: vec![crm],
        sources: [].into(),
        marks: pipeline::webhook::Marks::new(Vec::new()),
        expects: vec![pipeline::Expect::disposition(Duration::from_secs(60))],
        attempts_max: 3,
        keep: None,
    };
    Pipeline::new(config, Chance::from_seed(2))
}

impl Life {
    /// Starts as the program does: recover, fold, close what was open.
    fn start(world: &mut World) -> Self {
        let mut life = Self { gateway: gateway(), pipeline: pipeline(), store: Memory::default(), folded: 0, wire: VecDeque::new() };
        let found = journal::scan(1, &world.disk, true, |_, _| {});
        if let journal::End::Torn { offset, .. } = found.end {
            world.disk.truncate(usize::try_from(offset).expect("fits"));
        }
        life.fold(world);
        for event in restart::close_open_calls(&life.store, world.now().wall).expect("read") {
            world.append(entry(&event));
        }
        life.turn(world);
        life
    }

    fn fold(&mut self, world: &World) -> bool {
        let mut entries: Vec<(Position, Entry)> = Vec::new();
        journal::scan(1, &world.disk, true, |at, frame| entries.push((at, frame.entry)));
        let batch = entries.split_off(self.folded);
        self.folded += batch.len();
        let next = Position { segment: 1, offset: u64::try_from(world.disk.len()).expect("fits") };
        self.pipeline.fold(&mut self.store, &batch, next).expect("folded");
        !batch.is_empty()
    }

    /// Everything that can happen at this moment.
    fn turn(&mut self, world: &mut World) {
        loop {
            let mut busy = false;
            while let Some(output) = self.gateway.poll_output() {
                busy = true;
                let now = world.now();
                match output {
                    Output::Transmit(Transmit::Datagram { to, bytes, .. }) => {
                        self.wire.push_back((to, Message::parse(&bytes).unwrap_or_else(|_| panic!("malformed"))));
                    }
                    Output::Media(Command::Open { call, leg, .. }) => self.gateway.handle_report(now, Report::Opened { call, leg }),
                    Output::Media(Command::End { call }) => {
                        self.gateway.handle_report(now, Report::Ended { call, stats: Default::default() })
                    }
                    Output::Event(event) => {
                        world.append(entry(&event));
                        self.gateway.handle_journal(JournalWord::Done(1));
                    }
                    _ => {}
                }
            }
            busy |= self.fold(world);
            self.pipeline.turn(world.now(), &mut self.store, true).expect("turned");
            while let Some(output) = self.pipeline.poll_output() {
                busy = true;
                let now = world.now();
                match output {
                    pipeline::Output::Append { append, entry } => {
                        world.append(entry);
                        self.pipeline.synced(now, append, Ok(()));
                    }
                    pipeline::Output::Send { request, http, .. } => {
                        if http.url != "token" {
                            world.upserts.push((http.url, serde_json::from_slice(&http.body).expect("fields")));
                        }
                        self.pipeline.answer(now, request, Ok(HttpAnswer { status: 200, headers: Vec::new(), body: Vec::new() }));
                    }
                    _ => {}
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn send(&mut self, world: &mut World, from: &str, octets: &[u8]) {
        self.gateway.handle_datagram(world.now(), 0, from.parse().expect("an address"), octets);
        self.turn(world);
    }

    fn next_to(&mut self, peer: &str) -> Message {
        let peer: SocketAddr = peer.parse().expect("an address");
        let at = self.wire.iter().position(|(to, _)| *to == peer).expect("a message");
        self.wire.remove(at).expect("it is there").1
    }
}

impl World {
    fn now(&self) -> Now {
        Now { mono: Instant::from_millis(self.ms), wall: Wall::from_millis(1_767_607_200_000 + i64::try_from(self.ms).expect("fits")) }
    }

    fn append(&mut self, entry: Entry) {
        self.batch += 1;
        journal::encode_batch(&[entry], self.batch, &mut self.disk);
    }
}

fn entry(event: &Event) -> Entry {
    let body = event.to_cloudevent().to_string().into_bytes();
    Entry { kind: EntryKind::Event, time: event.time, id: event.id(), key: event.call_id.to_string(), body }
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

fn invite() -> String {
    format!(
        "INVITE sip:+4930@{US} SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:+491@carrier>;tag=c\r\nTo: <sip:+4930@{US}>\r\n\
         Call-ID: c1\r\nCSeq: 1 INVITE\r\nContact: <sip:{CARRIER}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    )
}

#[test]
fn a_call_that_a_crash_cuts_off_is_one_failed_record() {
    // Wherever the disk was cut: after whole entries, and in the middle of one.
    for torn in [0, 1, 40, 300] {
        let mut world = World { disk: journal::write_header(1).to_vec(), batch: 0, ms: 1000, upserts: Vec::new() };
        let mut life = Life::start(&mut world);
        life.send(&mut world, CARRIER, invite().as_bytes());
        let Message::Request(asked) = life.next_to(PLATFORM) else { panic!("an INVITE") };
        assert_eq!(asked.method, Method::INVITE);
        let mut ok = asked.response(200, None, Some("p"));
        ok.headers.push("Contact", format!("<sip:{PLATFORM}>"));
        ok.set_body("application/sdp", SDP);
        world.ms += 500;
        life.send(&mut world, PLATFORM, &ok.to_bytes());
        assert!(world.upserts.is_empty(), "the call stands: nothing is written yet");

        drop(life);
        world.disk.truncate(world.disk.len() - torn);
        world.ms += 3000;
        let mut life = Life::start(&mut world);
        let [(_, fields)] = world.upserts.as_slice() else { panic!("one write after a crash {torn} octets deep: {:?}", world.upserts) };
        assert_eq!((fields["ended_as"].as_str(), fields["reason"].as_str()), (Some("failed"), Some("gateway_restart")));
        assert_eq!(fields["outcome"], if torn == 0 { "answered" } else { "failed" }, "what was not durable did not happen");
        assert_eq!(fields["disposition_code"], "FAILED — NO DISPOSITION");

        // What comes of the old dialog is nobody's; a second crash changes nothing.
        life.send(&mut world, PLATFORM, ok.to_bytes().as_ref());
        drop(life);
        let life = Life::start(&mut world);
        assert_eq!(world.upserts.len(), 1, "written once");
        assert_eq!(life.store.open().expect("read"), []);
    }
}
