//! Ladders: what the peers send stands left, what the gateway sends is read off the wire, time is by hand.

mod keys;
mod life;
mod refusals;
mod secure;
mod targets;
mod transfers;

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
        self.dials("8 0 101");
        let asked = self.invited(PLATFORM);
        self.takes(PLATFORM, &asked, "8 101");
        let ok = self.response(CARRIER, 200);
        self.send(CARRIER, &in_dialog(&ok, "ACK", 1, "", ""));
        self.quiet();
        (ok, asked)
    }
}

/// The rungs of a ladder: each is what somebody does, with what the gateway does to it at once.
impl World {
    /// The caller dials with these formats, and is told that it is tried.
    fn dials(&mut self, formats: &str) {
        self.send(CARRIER, &invite("+4930", Some(&sdp(CARRIER, formats))));
        self.response(CARRIER, 100);
    }

    /// A call of that name comes from the carrier, and `status` is the first that it hears.
    fn dials_as(&mut self, call: &str, status: u16) -> Response {
        let invite = invite("+4930", Some(&sdp(CARRIER, "0")));
        self.send(CARRIER, &invite.replace("c1@", &format!("{call}@")).replace("z9hG4bK", &format!("z9hG4bK{call}")));
        self.response(CARRIER, status)
    }

    /// The INVITE that a target gets.
    fn invited(&mut self, peer: &str) -> Request {
        self.request(peer, &Method::INVITE)
    }

    /// A target rings, and the caller hears it.
    fn rings(&mut self, peer: &str, asked: &Request) {
        self.answer(peer, asked, 180, None);
        self.response(CARRIER, 180);
    }

    /// A target takes the call with these formats, and gets its ACK.
    fn takes(&mut self, peer: &str, asked: &Request, formats: &str) {
        self.answer(peer, asked, 200, Some(&sdp(peer, formats)));
        self.request(peer, &Method::ACK);
    }

    /// A target refuses the call, and gets its ACK.
    fn refuses(&mut self, peer: &str, asked: &Request, status: u16) {
        self.answer(peer, asked, status, None);
        self.request(peer, &Method::ACK);
    }

    /// The caller hangs up.
    fn hangs_up(&mut self, ok: &Response) {
        self.send(CARRIER, &in_dialog(ok, "BYE", 2, "", ""));
        self.response(CARRIER, 200);
    }

    /// The platform hands the caller to `to`, and is told that it is tried: that NOTIFY.
    fn refers(&mut self, asked: &Request, cseq: u32, to: &str) -> Request {
        self.send(PLATFORM, &from_platform(asked, "REFER", cseq, &format!("Refer-To: <{to}>\r\n"), ""));
        self.response(PLATFORM, 202);
        self.request(PLATFORM, &Method::NOTIFY)
    }

    /// The platform wants a secure phase.
    fn wants_secrecy(&mut self, asked: &Request, cseq: u32) {
        self.send(PLATFORM, &from_platform(asked, "INFO", cseq, "X-Offhook-Secure: start;reason=payment\r\n", ""));
    }

    /// An operator begins or ends a secure phase.
    fn secure(&mut self, ask: u64, on: bool, reason: &str) {
        self.command(Command::Secure { ask, call: self.call(), on, reason: reason.into() });
    }

    fn command(&mut self, command: Command) {
        self.gateway.handle_command(self.now(), command);
        self.settle();
    }

    /// Media reports something of the call.
    fn reports(&mut self, report: impl FnOnce(CallId, Instant) -> Report) {
        self.gateway.handle_report(self.now(), report(self.call(), self.now().mono));
        self.settle();
    }

    /// Nothing comes of the target any more.
    fn target_falls_silent(&mut self) {
        self.reports(|call, since| Report::NoMedia { call, leg: Side::Callee, since });
    }

    /// The caller presses a key for so many ms.
    fn presses(&mut self, key: char, duration_ms: u32) {
        let (leg, digit, method) = (Side::Caller, Digit::from_char(key), DtmfMethod::Rfc4733);
        self.reports(|call, at| Report::Digit { call, leg, digit, at, duration_ms, method });
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
