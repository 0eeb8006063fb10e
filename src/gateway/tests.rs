//! Ladders: what the peers send stands left, what the gateway sends is read off the wire, time is by hand.

use std::time::Duration;

use super::*;
use crate::{
    codec::Codec,
    dtmf::Digit,
    event::{DtmfMethod, EndedAs, EndedBy, Kind},
    media::Sink,
    route::{Dtmf, Outcomes, Route, Target, Trunk},
    sip::{Message, Method, Response},
    time::Wall,
};

const CARRIER: &str = "192.0.2.10:5060";
const PLATFORM: &str = "192.0.2.20:5060";
const SECOND: &str = "192.0.2.30:5060";
const HUMAN: &str = "192.0.2.40:5060";
const US: &str = "192.0.2.1:5060";

fn target(name: &str, address: &str, dtmf: Dtmf) -> Target {
    Target {
        name: name.into(),
        uri: format!("sip:{address}"),
        address: address.parse().expect("an address"),
        listener: 0,
        advertised: None,
        codecs: None,
        dtmf,
        call_header: "X-Offhook-Call".into(),
    }
}

fn config() -> Config {
    let trunk = Trunk {
        name: "carrier".into(),
        allow: vec!["192.0.2.10/32".parse().expect("a network")],
        listener: None,
        advertised: None,
        codecs: Codec::ALL.to_vec(),
        dtmf: Dtmf::Auto,
        outcomes: Outcomes::default(),
    };
    let route = Route {
        name: "all".into(),
        trunk: "carrier".into(),
        number: "+49*".into(),
        targets: vec![0, 1],
        ring: Duration::from_secs(20),
        record: true,
        secure_keys: None,
        secure_pass_audio: false,
        secure_longest: Duration::from_secs(600),
        silence: None,
        silence_hang_up: false,
        no_media: Duration::from_secs(10),
    };
    let targets = vec![target("platform", PLATFORM, Dtmf::Auto), target("second", SECOND, Dtmf::Info), target("human", HUMAN, Dtmf::Auto)];
    Config {
        table: Table { trunks: vec![trunk], targets, routes: vec![route] },
        listeners: vec![Local { transport: endpoint::Transport::Udp, address: US.parse().expect("an address") }],
        ports: 20_000..=20_019,
        calls_max: 10,
        overload_status: 503,
        retry_after_s: None,
        events_max: 1000,
        carry_without_journal: false,
    }
}

struct World {
    gateway: Gateway,
    ms: u64,
    /// What went to whom, until somebody looked.
    wire: VecDeque<(SocketAddr, Message)>,
    media: Vec<media::Command>,
    events: Vec<Event>,
    secured: Vec<(u64, SecureAnswer)>,
    /// Sinks confirm phases by themselves.
    sinks: Vec<Sink>,
}

impl World {
    fn new(config: Config) -> Self {
        let gateway = Gateway::new(config, Chance::from_seed(1));
        let (wire, media, events, secured) = (VecDeque::new(), Vec::new(), Vec::new(), Vec::new());
        Self { gateway, ms: 1000, wire, media, events, secured, sinks: vec![Sink::Media, Sink::Recorder] }
    }

    fn now(&self) -> Now {
        Now { mono: Instant::from_millis(self.ms), wall: Wall::from_millis(1_767_607_200_000 + i64::try_from(self.ms).expect("fits")) }
    }

    /// Performs outputs; media opens ports and confirms phases at once.
    fn settle(&mut self) {
        while let Some(output) = self.gateway.poll_output() {
            match output {
                Output::Transmit(Transmit::Datagram { to, bytes, .. }) => {
                    self.wire.push_back((to, Message::parse(&bytes).unwrap_or_else(|_| panic!("malformed: {bytes:?}"))));
                }
                Output::Transmit(other) => panic!("no stream here: {other:?}"),
                Output::Media(command) => {
                    let call = command.call();
                    let now = self.now();
                    match &command {
                        media::Command::Open { leg, .. } => self.gateway.handle_report(now, Report::Opened { call, leg: *leg }),
                        media::Command::Secure { ask, on, .. } => {
                            for sink in self.sinks.clone() {
                                self.gateway.handle_report(now, Report::Secured { call, ask: *ask, sink, on: *on, at: now.mono });
                            }
                        }
                        media::Command::End { .. } => self.gateway.handle_report(now, Report::Ended { call, stats: Default::default() }),
                        _ => {}
                    }
                    self.media.push(command);
                }
                Output::Event(event) => {
                    self.gateway.handle_journal(JournalWord::Done(1));
                    self.events.push(event);
                }
                Output::Secured { ask, answer } => self.secured.push((ask, answer)),
            }
        }
    }

    /// Lets time pass, stopping wherever the gateway wants to be woken.
    fn pass(&mut self, ms: u64) {
        let until = self.ms + ms;
        while let Some(at) = self.gateway.next_timeout().map(|t| t.as_micros().div_ceil(1000)).filter(|t| *t <= until) {
            self.ms = at.max(self.ms);
            self.gateway.handle_timeout(self.now());
            self.settle();
        }
        self.ms = until;
    }

    fn send(&mut self, from: &str, text: &str) {
        self.gateway.handle_datagram(self.now(), 0, from.parse().expect("an address"), text.as_bytes());
        self.settle();
    }

    /// The next message to `peer`; others' stay.
    fn next(&mut self, peer: &str) -> Message {
        let peer: SocketAddr = peer.parse().expect("an address");
        let at = self.wire.iter().position(|(to, _)| *to == peer);
        self.wire.remove(at.unwrap_or_else(|| panic!("nothing to {peer}, but {:?}", self.wire))).expect("it is there").1
    }

    fn request(&mut self, peer: &str, method: &Method) -> Request {
        match self.next(peer) {
            Message::Request(request) => {
                assert_eq!(request.method, *method);
                request
            }
            Message::Response(response) => panic!("{} instead of {method}", response.status),
        }
    }

    fn response(&mut self, peer: &str, status: u16) -> Response {
        match self.next(peer) {
            Message::Response(response) => {
                assert_eq!(response.status, status, "{response:?}");
                response
            }
            Message::Request(request) => panic!("{} instead of {status}", request.method),
        }
    }

    fn quiet(&self) {
        assert!(self.wire.is_empty(), "{:?}", self.wire);
    }

    fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(|e| e.kind.name()).collect()
    }

    fn terminal(&self) -> crate::event::Terminal {
        match self.events.last().map(|e| &e.kind) {
            Some(Kind::Ended(terminal) | Kind::Failed(terminal)) => terminal.clone(),
            other => panic!("{other:?} is no terminal event"),
        }
    }

    fn call(&self) -> CallId {
        self.events.first().expect("an event").call_id
    }

    /// As [`Message::Request`] in the other direction: an answer of a peer to what it got.
    fn answer(&mut self, peer: &str, request: &Request, status: u16, sdp: Option<&str>) {
        let mut response = request.response(status, None, Some("peer-tag"));
        response.headers.push("Contact", format!("<sip:{peer}>"));
        if let Some(sdp) = sdp {
            response.set_body("application/sdp", sdp.to_owned());
        }
        let octets = response.to_bytes();
        self.gateway.handle_datagram(self.now(), 0, peer.parse().expect("an address"), &octets);
        self.settle();
    }

    /// Dials, is answered by the platform, and acknowledges: the caller's 200 and the platform's INVITE.
    fn answered(&mut self) -> (Response, Request) {
        self.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "8 0 101"))));
        self.response(CARRIER, 100);
        let asked = self.request(PLATFORM, &Method::INVITE);
        self.answer(PLATFORM, &asked, 200, Some(&sdp(PLATFORM, "8 101")));
        self.request(PLATFORM, &Method::ACK);
        let ok = self.response(CARRIER, 200);
        self.send(CARRIER, &in_dialog(&ok, "ACK", 1, "", ""));
        self.quiet();
        (ok, asked)
    }
}

fn sdp(peer: &str, formats: &str) -> String {
    let ip = peer.split(':').next().unwrap_or_default();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP {formats}\r\na=rtpmap:101 telephone-event/8000\r\n"
    )
}

fn request(method: &str, uri: &str, cseq: u32, headers: &str, body: &str) -> String {
    let kind = if body.is_empty() { String::new() } else { "Content-Type: application/sdp\r\n".into() };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bK{method}{cseq};rport\r\nMax-Forwards: 70\r\nFrom: \"Ada\" <sip:+491@carrier>;tag=caller\r\n\
         To: <{uri}>\r\nCall-ID: c1@carrier\r\nCSeq: {cseq} {method}\r\nContact: <sip:+491@{CARRIER}>\r\n{headers}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn invite(number: &str, sdp: Option<&str>) -> String {
    request("INVITE", &format!("sip:{number}@{US}"), 1, "", sdp.unwrap_or_default())
}

/// A request of the caller within the dialog that `ok` made.
fn in_dialog(ok: &Response, method: &str, cseq: u32, headers: &str, body: &str) -> String {
    let plain = request(method, &format!("sip:+4930@{US}"), cseq, headers, body);
    plain.replacen(&format!("To: <sip:+4930@{US}>"), &format!("To: {}", ok.to().expect("To")), 1)
}

/// A request of the platform within the dialog of our INVITE.
fn from_platform(asked: &Request, method: &str, cseq: u32, headers: &str, body: &str) -> String {
    format!(
        "{method} sip:offhook@{US} SIP/2.0\r\nVia: SIP/2.0/UDP {PLATFORM};branch=z9hG4bKp{method}{cseq}\r\nMax-Forwards: 70\r\nFrom: {};tag=peer-tag\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:{PLATFORM}>\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        asked.to().expect("To"),
        asked.from().expect("From"),
        asked.call_id(),
        body.len()
    )
}

#[test]
fn a_call_from_invite_to_bye() {
    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "8 0 101"))));
    w.response(CARRIER, 100);
    let asked = w.request(PLATFORM, &Method::INVITE);
    assert_eq!(asked.uri.to_string(), format!("sip:+4930@{PLATFORM}"));
    assert_eq!(asked.header("X-Offhook-Call"), Some(w.call().to_string().as_str()));
    assert_eq!(asked.max_forwards().expect("a number"), Some(69));
    w.answer(PLATFORM, &asked, 180, None);
    w.response(CARRIER, 180);
    w.pass(2000);
    w.answer(PLATFORM, &asked, 200, Some(&sdp(PLATFORM, "0 101")));
    w.request(PLATFORM, &Method::ACK);
    let ok = w.response(CARRIER, 200);
    assert!(String::from_utf8_lossy(&ok.body).contains("RTP/AVP 0 101"), "the platform's codec, so that nothing is transcoded");
    w.send(CARRIER, &in_dialog(&ok, "ACK", 1, "", ""));
    assert_eq!((w.gateway.stats().calls, w.gateway.stats().dialogs, w.gateway.stats().ports), (1, 2, 2));
    w.pass(5000);
    w.send(CARRIER, &in_dialog(&ok, "BYE", 2, "", ""));
    w.response(CARRIER, 200);
    let bye = w.request(PLATFORM, &Method::BYE);
    w.answer(PLATFORM, &bye, 200, None);
    w.quiet();
    assert_eq!(w.names(), ["call.started", "call.answered", "call.ended"]);
    let terminal = w.terminal();
    assert_eq!((terminal.outcome, terminal.ended_as, terminal.ended_by), (Outcome::Answered, EndedAs::Completed, EndedBy::Caller));
    assert_eq!((terminal.ring_ms, terminal.talk_ms), (Some(2000), 5000));
    assert!(w.events.iter().zip(1..).all(|(e, n)| e.sequence == n), "a sequence without a gap");
    w.pass(60_000);
    let stats = w.gateway.stats();
    assert_eq!((stats.calls, stats.dialogs, stats.transactions, stats.ports), (0, 0, 0, 0));
    assert_eq!(w.gateway.endpoint.transactions(), 0, "and nothing lingers");
}

#[test]
fn what_comes_wrong_gets_the_right_answer() {
    let uri = format!("sip:+4930@{US}");
    let offer = sdp(CARRIER, "0");
    let invite_with = |headers: &str| request("INVITE", &uri, 1, headers, &offer);
    let plain = invite("+4930", Some(&offer));
    let cases = [
        (invite("0800", Some(&offer)), 404, "number"),
        (plain.replace("Max-Forwards: 70", "Max-Forwards: 0"), 483, ""),
        (invite_with("Require: 100rel\r\n"), 420, ""),
        (plain.replace(&format!("INVITE {uri}"), "INVITE tel:+4930"), 416, ""),
        (plain.replace("application/sdp", "text/plain"), 415, "body"),
        (plain.replace("m=audio 4000", "m=audio 4x00"), 400, "sdp"),
        (invite("+4930", Some(&sdp(CARRIER, "18"))), 488, "codec"),
        (request("REGISTER", &uri, 1, "", ""), 405, ""),
        (request("FROBNICATE", &uri, 1, "", ""), 501, ""),
        (request("BYE", &uri, 1, "", ""), 481, ""),
        (request("OPTIONS", &uri, 1, "", ""), 200, ""),
        (plain.replace(&format!("To: <{uri}>"), &format!("To: <{uri}>;tag=nobody")), 481, ""),
    ];
    for (text, status, cause) in cases {
        let mut w = World::new(config());
        w.send(CARRIER, &text);
        let first = text.lines().next().unwrap_or_default().to_owned();
        match w.next(CARRIER) {
            Message::Response(response) => assert_eq!(response.status, status, "{first}"),
            Message::Request(request) => panic!("{} for {first}", request.method),
        }
        assert_eq!(w.names(), [""; 0], "a refused call has no event");
        let refused = w.gateway.stats().refused;
        assert_eq!(refused.get(cause).copied().unwrap_or(0), u64::from(!cause.is_empty()), "{first}: {refused:?}");
        assert_eq!(w.gateway.stats().ports, 0);
    }
    let mut w = World::new(config());
    w.send("198.51.100.1:5060", &invite("+4930", None));
    let Some((_, Message::Response(response))) = w.wire.pop_front() else { panic!("an answer") };
    assert_eq!((response.status, w.gateway.stats().refused.get("stranger")), (403, Some(&1)));
}

#[test]
fn a_target_that_fails_is_followed_by_the_next_and_the_caller_hears_one_ringing() {
    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0 101"))));
    w.response(CARRIER, 100);
    let first = w.request(PLATFORM, &Method::INVITE);
    w.answer(PLATFORM, &first, 180, None);
    w.response(CARRIER, 180);
    w.answer(PLATFORM, &first, 503, None);
    w.request(PLATFORM, &Method::ACK);
    let second = w.request(SECOND, &Method::INVITE);
    w.answer(SECOND, &second, 180, None);
    w.answer(SECOND, &second, 200, Some(&sdp(SECOND, "0")));
    w.request(SECOND, &Method::ACK);
    w.response(CARRIER, 200);
    w.quiet();
    let Kind::Answered { target, dtmf, .. } = &w.events[1].kind else { panic!("answered") };
    assert_eq!((target.as_str(), dtmf.platform), ("second", Some(DtmfMethod::Info)));
}

#[test]
fn the_networks_own_cause_tells_how_a_call_was_met_and_the_operator_knows_better() {
    let met = |outcomes: Outcomes| {
        let mut config = config();
        config.table.trunks[0].outcomes = outcomes;
        config.table.routes[0].targets = vec![0];
        let mut w = World::new(config);
        w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
        w.response(CARRIER, 100);
        let asked = w.request(PLATFORM, &Method::INVITE);
        let mut refused = asked.response(480, None, Some("t"));
        refused.headers.push("Reason", "SIP;cause=480, Q.850;cause=17;text=\"User busy\"");
        w.send(PLATFORM, std::str::from_utf8(&refused.to_bytes()).expect("text"));
        w.request(PLATFORM, &Method::ACK);
        w.response(CARRIER, 480);
        w.terminal().outcome
    };
    assert_eq!(met(Outcomes::default()), Outcome::Busy);
    assert_eq!(met(Outcomes::with([(480, Outcome::Rejected)].into())), Outcome::Rejected);
}

#[test]
fn a_busy_target_is_an_answer_and_silence_is_not() {
    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
    w.response(CARRIER, 100);
    let asked = w.request(PLATFORM, &Method::INVITE);
    w.answer(PLATFORM, &asked, 486, None);
    w.request(PLATFORM, &Method::ACK);
    w.response(CARRIER, 486);
    assert_eq!((w.terminal().outcome, w.terminal().sip_status), (Outcome::Busy, Some(486)));
    assert!(w.terminal().reason.expect("a reason").contains("target \"platform\": 486"));

    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
    w.response(CARRIER, 100);
    let first = w.request(PLATFORM, &Method::INVITE);
    w.answer(PLATFORM, &first, 180, None);
    w.response(CARRIER, 180);
    w.pass(20_000);
    let cancel = w.request(PLATFORM, &Method::CANCEL);
    w.answer(PLATFORM, &cancel, 200, None);
    w.answer(PLATFORM, &first, 487, None);
    w.request(PLATFORM, &Method::ACK);
    let second = w.request(SECOND, &Method::INVITE);
    w.answer(SECOND, &second, 180, None);
    w.pass(20_000);
    w.request(SECOND, &Method::CANCEL);
    w.response(CARRIER, 480);
    assert_eq!((w.terminal().outcome, w.events.len()), (Outcome::NoAnswer, 2));
}

/// Found by seed 4488 of the simulator: all peers of a maker may have one tag.
#[test]
fn a_late_answer_of_a_target_that_was_given_up_is_ended_whatever_its_tag() {
    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
    w.response(CARRIER, 100);
    let first = w.request(PLATFORM, &Method::INVITE);
    w.answer(PLATFORM, &first, 180, None);
    w.response(CARRIER, 180);
    w.pass(20_000);
    w.request(PLATFORM, &Method::CANCEL);
    let second = w.request(SECOND, &Method::INVITE);
    w.answer(SECOND, &second, 200, Some(&sdp(SECOND, "0")));
    w.request(SECOND, &Method::ACK);
    w.response(CARRIER, 200);
    w.answer(PLATFORM, &first, 200, Some(&sdp(PLATFORM, "0")));
    w.request(PLATFORM, &Method::ACK);
    w.request(PLATFORM, &Method::BYE);
    w.quiet();
}

#[test]
fn a_cancel_ends_the_call_even_where_it_crosses_the_answer() {
    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
    w.response(CARRIER, 100);
    let asked = w.request(PLATFORM, &Method::INVITE);
    w.answer(PLATFORM, &asked, 180, None);
    w.response(CARRIER, 180);
    let cancel = request("CANCEL", &format!("sip:+4930@{US}"), 1, "", "").replace("z9hG4bKCANCEL1", "z9hG4bKINVITE1");
    w.send(CARRIER, &cancel);
    w.response(CARRIER, 200);
    w.response(CARRIER, 487);
    w.request(PLATFORM, &Method::CANCEL);
    assert_eq!((w.terminal().outcome, w.terminal().ended_as), (Outcome::Cancelled, EndedAs::Cancelled));
    // The platform had just answered: its dialog is acknowledged and ended.
    w.answer(PLATFORM, &asked, 200, Some(&sdp(PLATFORM, "0")));
    w.request(PLATFORM, &Method::ACK);
    w.request(PLATFORM, &Method::BYE);
    assert_eq!(w.names(), ["call.started", "call.ended"]);
}

#[test]
fn a_platform_that_dies_in_mid_call_is_noticed_and_one_more_target_tried() {
    let mut w = World::new(config());
    w.answered();
    let (call, now) = (w.call(), w.now());
    w.gateway.handle_report(now, Report::NoMedia { call, leg: Side::Callee, since: now.mono });
    w.settle();
    w.request(PLATFORM, &Method::OPTIONS);
    w.pass(4000);
    // Repetitions of the OPTIONS, and a BYE in case it hears again.
    w.wire.retain(|(to, _)| to.to_string() != PLATFORM);
    let second = w.request(SECOND, &Method::INVITE);
    w.answer(SECOND, &second, 500, None);
    w.request(SECOND, &Method::ACK);
    let bye = w.request(CARRIER, &Method::BYE);
    assert!(bye.header("Reason").expect("a reason").contains("the platform is gone and no target is left"));
    let terminal = w.terminal();
    assert_eq!((terminal.outcome, terminal.ended_as, terminal.ended_by), (Outcome::Answered, EndedAs::Failed, EndedBy::Gateway));
    assert_eq!(w.names(), ["call.started", "call.answered", "call.silence", "call.failed"]);
}

#[test]
fn a_caller_is_handed_to_a_human_with_the_context() {
    let mut w = World::new(config());
    let (ok, asked) = w.answered();
    let refer_to = format!("Refer-To: <sip:anna@{HUMAN}?User-to-User=order%2042&Subject=no>\r\n");
    w.send(PLATFORM, &from_platform(&asked, "REFER", 1, &refer_to, ""));
    w.response(PLATFORM, 202);
    let trying = w.request(PLATFORM, &Method::NOTIFY);
    assert_eq!(trying.body, "SIP/2.0 100 Trying\r\n");
    w.answer(PLATFORM, &trying, 200, None);
    let human = w.request(HUMAN, &Method::INVITE);
    assert_eq!((human.header("User-to-User"), human.header("Subject")), (Some("order 42"), None));
    w.answer(HUMAN, &human, 200, Some(&sdp(HUMAN, "0 101")));
    w.request(HUMAN, &Method::ACK);
    let done = w.request(PLATFORM, &Method::NOTIFY);
    assert!(done.header("Subscription-State").expect("a state").starts_with("terminated"));
    w.request(PLATFORM, &Method::BYE);
    w.quiet();
    w.send(CARRIER, &in_dialog(&ok, "BYE", 2, "", ""));
    w.response(CARRIER, 200);
    w.request(HUMAN, &Method::BYE);
    assert_eq!(w.names(), ["call.started", "call.answered", "call.transferred", "call.ended"]);
    assert_eq!(w.terminal().ended_as, EndedAs::Transferred);

    let mut w = World::new(config());
    let (_, asked) = w.answered();
    w.send(PLATFORM, &from_platform(&asked, "REFER", 1, "Refer-To: <sip:900@198.51.100.7>\r\n", ""));
    w.response(PLATFORM, 403);
}

#[test]
fn a_transfer_that_nobody_takes_hands_the_caller_back() {
    let mut w = World::new(config());
    let (ok, asked) = w.answered();
    let opened = |w: &World| {
        w.media
            .iter()
            .filter_map(|c| if let media::Command::Open { leg: Side::Callee, local, .. } = c { Some(*local) } else { None })
            .collect::<Vec<_>>()
    };
    w.send(PLATFORM, &from_platform(&asked, "REFER", 1, &format!("Refer-To: <sip:anna@{HUMAN}>\r\n"), ""));
    w.response(PLATFORM, 202);
    w.request(PLATFORM, &Method::NOTIFY);
    let human = w.request(HUMAN, &Method::INVITE);
    w.answer(HUMAN, &human, 486, None);
    w.request(HUMAN, &Method::ACK);
    let told = w.request(PLATFORM, &Method::NOTIFY);
    assert_eq!(told.body, "SIP/2.0 486 Busy Here\r\n");
    assert!(told.header("Subscription-State").expect("a state").starts_with("terminated"));
    w.quiet();
    let ports = opened(&w);
    assert_eq!((ports.len(), ports.first()), (3, ports.last()), "the platform has the port that its SDP knows");
    assert!(w.media.iter().rev().any(|c| matches!(c, media::Command::Bridge { on: true, .. })));
    assert_eq!(w.gateway.stats().ports, 2);
    // The platform may try again, and hang up in the end.
    w.send(PLATFORM, &from_platform(&asked, "REFER", 2, &format!("Refer-To: <sip:anna@{HUMAN}>\r\n"), ""));
    w.response(PLATFORM, 202);
    w.request(PLATFORM, &Method::NOTIFY);
    w.request(HUMAN, &Method::INVITE);
    w.pass(20_000);
    w.wire.retain(|(to, _)| to.to_string() == CARRIER);
    w.send(CARRIER, &in_dialog(&ok, "BYE", 2, "", ""));
    w.response(CARRIER, 200);
    w.request(PLATFORM, &Method::BYE);
    assert_eq!(w.names(), ["call.started", "call.answered", "call.ended"]);
    assert_eq!((w.terminal().ended_as, w.gateway.stats().ports), (EndedAs::Completed, 0));
}

#[test]
fn a_transfer_that_nobody_takes_ends_the_call_where_the_platform_has_hung_up() {
    let mut w = World::new(config());
    let (_, asked) = w.answered();
    w.send(PLATFORM, &from_platform(&asked, "REFER", 1, &format!("Refer-To: <sip:anna@{HUMAN}>\r\n"), ""));
    w.response(PLATFORM, 202);
    w.request(PLATFORM, &Method::NOTIFY);
    let human = w.request(HUMAN, &Method::INVITE);
    w.send(PLATFORM, &from_platform(&asked, "BYE", 2, "", ""));
    w.response(PLATFORM, 200);
    w.answer(HUMAN, &human, 486, None);
    w.request(HUMAN, &Method::ACK);
    let bye = w.request(CARRIER, &Method::BYE);
    assert!(bye.header("Reason").expect("a reason").contains("the platform has hung up"));
    w.quiet();
    assert_eq!((w.names().last(), w.gateway.stats().ports), (Some(&"call.failed"), 0));
}

#[test]
fn a_phase_is_acknowledged_when_every_sink_has_confirmed() {
    let mut w = World::new(config());
    let (_, asked) = w.answered();
    w.send(PLATFORM, &from_platform(&asked, "INFO", 1, "X-Offhook-Secure: start;reason=payment\r\n", ""));
    w.response(PLATFORM, 200);
    w.gateway.handle_command(w.now(), Command::Secure { ask: 7, call: w.call(), on: true, reason: "again".into() });
    w.settle();
    assert_eq!(w.secured, [(7, SecureAnswer::Already)]);
    w.pass(3000);
    w.gateway.handle_command(w.now(), Command::Secure { ask: 8, call: w.call(), on: false, reason: String::new() });
    w.settle();
    assert!(matches!(w.secured[1], (8, SecureAnswer::Confirmed { media_from_ms: 3000, .. })), "{:?}", w.secured);
    let Kind::SecureEnded { reason, .. } = &w.events.last().expect("an event").kind else { panic!("ended") };
    assert_eq!(reason, "payment");
}

#[test]
fn a_recorder_that_hangs_gets_no_phase_acknowledged_and_nothing_more_to_record() {
    let mut w = World::new(config());
    let (_, asked) = w.answered();
    w.sinks = vec![Sink::Media];
    w.send(PLATFORM, &from_platform(&asked, "INFO", 1, "X-Offhook-Secure: start;reason=payment\r\n", ""));
    w.quiet();
    // Who asks meanwhile is not told that it stands.
    w.send(PLATFORM, &from_platform(&asked, "INFO", 9, "X-Offhook-Secure: start;reason=payment\r\n", ""));
    w.response(PLATFORM, 503);
    w.pass(1500);
    w.response(PLATFORM, 503);
    assert!(matches!(w.media.last(), Some(media::Command::Unrecord { .. })));
    assert!(!w.names().contains(&"call.secure.started"));
    // Without the recorder, the next ask stands.
    w.send(PLATFORM, &from_platform(&asked, "INFO", 10, "X-Offhook-Secure: start;reason=payment\r\n", ""));
    w.response(PLATFORM, 200);
    assert_eq!(w.names().last(), Some(&"call.secure.started"));
}

#[test]
fn the_callers_keys_switch_a_phase_that_outlives_the_platform_and_ends_with_a_transfer() {
    let mut w = World::new(config());
    let (_, asked) = w.answered();
    let (call, at) = (w.call(), w.now().mono);
    w.gateway.handle_report(w.now(), Report::KeySequence { call, on: true, at });
    w.settle();
    assert!(matches!(w.events.last().map(|e| &e.kind), Some(Kind::SecureStarted { by: crate::event::SecureBy::Keys, .. })));
    let refer_to = format!("Refer-To: <sip:anna@{HUMAN}>\r\n");
    w.send(PLATFORM, &from_platform(&asked, "REFER", 1, &refer_to, ""));
    let opened = w.media.iter().rev().find_map(|c| if let media::Command::Secure { on, .. } = c { Some(*on) } else { None });
    assert_eq!(opened, Some(false), "the human hears the caller");
    assert!(matches!(w.events.last().map(|e| &e.kind), Some(Kind::SecureEnded { by: crate::event::SecureBy::Rule, .. })));

    let mut w = World::new(config());
    w.answered();
    w.gateway.handle_command(w.now(), Command::Secure { ask: 1, call: w.call(), on: true, reason: "payment".into() });
    w.settle();
    let (call, now) = (w.call(), w.now());
    w.gateway.handle_report(now, Report::NoMedia { call, leg: Side::Callee, since: now.mono });
    w.settle();
    w.pass(4000);
    let second = w.request(SECOND, &Method::INVITE);
    w.answer(SECOND, &second, 200, Some(&sdp(SECOND, "0")));
    assert!(!w.names().contains(&"call.secure.ended"), "the caller may be reading a card");
    w.gateway.handle_command(w.now(), Command::Secure { ask: 2, call, on: false, reason: String::new() });
    w.settle();
    assert_eq!(w.names().last(), Some(&"call.secure.ended"));
}

#[test]
fn keys_are_runs_and_what_a_phase_hides_is_counted() {
    let mut w = World::new(config());
    let (ok, _) = w.answered();
    let key = |w: &mut World, digit: char| {
        let (call, at) = (w.call(), w.now().mono);
        let digit = Digit::from_char(digit);
        w.gateway
            .handle_report(w.now(), Report::Digit { call, leg: Side::Caller, digit, at, duration_ms: 100, method: DtmfMethod::Rfc4733 });
        w.settle();
        w.pass(200);
    };
    for digit in "47#11".chars() {
        key(&mut w, digit);
    }
    w.gateway.handle_command(w.now(), Command::Secure { ask: 1, call: w.call(), on: true, reason: "payment".into() });
    w.settle();
    // The card by INFO: nothing of it goes anywhere.
    let before = w.media.len();
    for cseq in 2..6 {
        let body = "Signal=4\r\nDuration=100\r\n";
        let info = in_dialog(&ok, "INFO", cseq, "", body).replace("application/sdp", "application/dtmf-relay");
        w.send(CARRIER, &info);
        w.response(CARRIER, 200);
    }
    assert_eq!(w.media.len(), before, "no key for the platform");
    w.pass(4000);
    let runs = w.events.iter().filter_map(|e| match &e.kind {
        Kind::Dtmf { digits, count, .. } => Some((digits.as_deref(), *count)),
        _ => None,
    });
    assert_eq!(runs.collect::<Vec<_>>(), [(Some("47#"), None), (Some("11"), None), (None, Some(4))]);
    w.quiet();
}

#[test]
fn keys_cross_to_the_method_of_the_other_leg() {
    let mut config = config();
    config.table.routes[0].targets = vec![1];
    let mut w = World::new(config);
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0 101"))));
    w.response(CARRIER, 100);
    let asked = w.request(SECOND, &Method::INVITE);
    assert!(!String::from_utf8_lossy(&asked.body).contains("telephone-event"), "this target takes INFO");
    w.answer(SECOND, &asked, 200, Some(&sdp(SECOND, "0")));
    w.request(SECOND, &Method::ACK);
    w.response(CARRIER, 200);
    let (call, at) = (w.call(), w.now().mono);
    let digit = Digit::from_char('5');
    w.gateway.handle_report(w.now(), Report::Digit { call, leg: Side::Caller, digit, at, duration_ms: 120, method: DtmfMethod::Rfc4733 });
    w.settle();
    let info = w.request(SECOND, &Method::INFO);
    assert_eq!(info.body, "Signal=5\r\nDuration=120\r\n");
}

#[test]
fn a_hold_is_answered_and_media_told() {
    let mut w = World::new(config());
    let (ok, _) = w.answered();
    let hold = format!("{}a=sendonly\r\n", sdp(CARRIER, "8 101"));
    w.send(CARRIER, &in_dialog(&ok, "INVITE", 2, "", &hold));
    let held = w.response(CARRIER, 200);
    let body = String::from_utf8_lossy(&held.body).into_owned();
    assert!(body.contains("a=recvonly") && body.contains("RTP/AVP 8 101"), "{body}");
    assert!(matches!(w.media.last(), Some(media::Command::Agree { leg: Side::Caller, agreed, .. }) if !agreed.send));
    // A CSeq that does not rise is refused.
    w.send(CARRIER, &in_dialog(&ok, "INFO", 1, "", ""));
    w.response(CARRIER, 500);
}

#[test]
fn an_invite_without_an_offer_gets_ours() {
    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", None));
    w.response(CARRIER, 100);
    let asked = w.request(PLATFORM, &Method::INVITE);
    w.answer(PLATFORM, &asked, 200, Some(&sdp(PLATFORM, "0 101")));
    w.request(PLATFORM, &Method::ACK);
    let ok = w.response(CARRIER, 200);
    assert!(String::from_utf8_lossy(&ok.body).contains("RTP/AVP 0 8 9 101"));
    w.send(CARRIER, &in_dialog(&ok, "ACK", 1, "", &sdp(CARRIER, "8 101")));
    assert!(matches!(w.media.last(), Some(media::Command::Agree { leg: Side::Caller, agreed, .. }) if agreed.codec == Codec::Pcma));
}

#[test]
fn an_answer_that_nobody_acknowledges_ends_the_call() {
    let mut w = World::new(config());
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
    let asked = w.request(PLATFORM, &Method::INVITE);
    w.answer(PLATFORM, &asked, 200, Some(&sdp(PLATFORM, "0")));
    w.pass(32_500);
    assert!(w.terminal().reason.expect("a reason").contains("never acknowledged"));
    assert_eq!(w.gateway.stats().calls, 0);
}

#[test]
fn too_much_is_refused_with_the_status_of_the_configuration() {
    let mut config = config();
    (config.calls_max, config.overload_status, config.retry_after_s) = (0, 480, Some(9));
    let mut w = World::new(config);
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
    assert_eq!(w.response(CARRIER, 480).header("Retry-After"), Some("9"));

    for (word, carry, status) in [(JournalWord::Closed, false, 503), (JournalWord::Closed, true, 100), (JournalWord::Opened, false, 100)] {
        let mut config = self::config();
        config.carry_without_journal = carry;
        let mut w = World::new(config);
        w.gateway.handle_journal(word);
        w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
        w.response(CARRIER, status);
    }

    let mut config = self::config();
    config.events_max = usize::try_from(EVENTS_MAX).expect("fits") + 1;
    let mut w = World::new(config);
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))));
    w.response(CARRIER, 100);
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))).replace("c1@", "c2@").replace("z9hG4bK", "z9hG4bKx"));
    w.response(CARRIER, 503);
    assert_eq!(w.gateway.stats().refused.get("events"), Some(&1), "the first call's events are spoken for");
}

#[test]
fn a_call_writes_no_more_than_its_share_and_always_its_last_word() {
    let mut w = World::new(config());
    let (ok, _) = w.answered();
    for _ in 0..100 {
        let (call, at) = (w.call(), w.now().mono);
        let digit = Digit::from_char('#');
        w.gateway
            .handle_report(w.now(), Report::Digit { call, leg: Side::Caller, digit, at, duration_ms: 50, method: DtmfMethod::Rfc4733 });
        w.settle();
    }
    w.wire.clear();
    w.send(CARRIER, &in_dialog(&ok, "BYE", 2, "", ""));
    let written = u32::try_from(w.events.len()).expect("fits");
    assert_eq!((written, w.terminal().omitted), (EVENTS_MAX + 1, 102 - EVENTS_MAX));
}

#[test]
fn a_drain_takes_no_call_and_ends_those_there_are_when_told() {
    let mut w = World::new(config());
    w.answered();
    w.gateway.handle_command(w.now(), Command::Drain);
    w.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, "0"))).replace("c1@", "c2@").replace("z9hG4bK", "z9hG4bKx"));
    w.response(CARRIER, 503);
    assert_eq!(w.gateway.live_calls(), 1);
    w.gateway.handle_command(w.now(), Command::EndCalls);
    w.settle();
    w.request(CARRIER, &Method::BYE);
    w.request(PLATFORM, &Method::BYE);
    assert_eq!((w.gateway.live_calls(), w.terminal().reason.as_deref()), (0, Some("gateway_stopped")));
}
