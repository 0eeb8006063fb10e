//! The machine in a world of its own: a journal that is a list, a CRM that does what the test says, time by hand.

mod activations;
mod any_order;
mod batches;
mod beside;
mod budgets;
mod conflicts;
mod decisions;
mod delivery;
mod dynamics;
mod erasures;
mod expected;
mod holds;
mod jobs;
mod people;
mod pulls;
mod recoveries;
mod restarts;
mod retention;
mod salesforce;
mod schedules;
mod webhooks;

use serde_json::json;

use super::{
    store::{State, Write},
    *,
};
use crate::{
    crm::{
        Change, Fields, OAuth, Token, Verdict, record_key,
        sandbox::{self, Double, Outcome as Came},
    },
    event::{EndedAs, EndedBy, Event, Kind, Outcome, PerSide, SipCallIds, Terminal},
    journal::{ENTRY_BYTES_MAX, EntryKind, Position},
};

/// A CRM whose answers are plain: `200`, `204` that tells no id, `503`, `429`, `401`, `400`.
struct Plain;

impl Connector for Plain {
    fn batch_max(&self) -> usize {
        1
    }

    fn upsert(&self, changes: &[Change], token: &Token) -> HttpRequest {
        let headers = vec![("authorization".into(), token.access.to_string())];
        let change = changes.first().expect("a change");
        HttpRequest { method: "POST", url: change.key.clone(), headers, body: serde_json::to_vec(&change.fields).expect("json") }
    }

    fn verdicts(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let why = "says so".to_owned();
        let verdict = match answer.status {
            200 => Verdict::Done { id: Some("crm-1".into()) },
            204 => Verdict::Done { id: None },
            401 => Verdict::Auth { why },
            429 => Verdict::Throttled { after: Some(Duration::from_secs(7)), why },
            400 => Verdict::Rejected { why },
            _ => Verdict::Down { after: None, why },
        };
        vec![verdict; changes.len()]
    }

    fn oauth(&self) -> Option<&dyn OAuth> {
        Some(self)
    }
}

impl OAuth for Plain {
    fn grant(&self, refresh_token: &str, _: Wall) -> HttpRequest {
        HttpRequest { method: "POST", url: "token".into(), headers: Vec::new(), body: refresh_token.into() }
    }

    fn token(&self, answer: &HttpAnswer) -> Result<Token, Verdict> {
        let text = |t: &str| Zeroizing::new(t.to_owned());
        match answer.status {
            200 => Ok(Token { access: text("access"), expires: Duration::from_secs(1800), refresh: Some(text("second")), base_url: None }),
            _ => Err(Verdict::Auth { why: "no".into() }),
        }
    }
}

const SECOND: u64 = 1000;
const KEY: &str = "raw:hush";
const CALLER: &str = "+4930123456";

struct World {
    ingest: webhook::Ingest,
    pipeline: Pipeline,
    store: Memory,
    journal: Vec<(Position, Entry)>,
    folded: usize,
    ms: u64,
    /// What the CRM got, tokens apart.
    requests: Vec<(u64, Fields)>,
    tokens: usize,
    kept: Vec<String>,
    responses: Vec<(u64, u16)>,
    told: Vec<Value>,
    counts: Vec<Count>,
    /// Source and body of each webhook for the quarantine.
    quarantined: Vec<(String, Vec<u8>)>,
    /// How the CRM answers writes; none: not at all.
    status: Option<u16>,
    /// Appends fail.
    disk_full: bool,
    /// Records in each request of a CRM that takes batches.
    batches: Vec<usize>,
    /// The call that such a CRM refuses.
    bad: Option<String>,
    /// A vendor's double, where one stands behind `http://crm`.
    account: Option<Double>,
    /// What goes to such an address there is on its way until somebody answers it.
    hold: Option<&'static str>,
    held: Vec<(u64, HttpRequest)>,
    /// What a platform's API was asked, and when.
    asks: Vec<(u64, u64, HttpRequest)>,
    /// What it answers, one after the other; nothing where none is left.
    api: VecDeque<Result<HttpAnswer, NoAnswer>>,
}

fn marks() -> webhook::Marks {
    webhook::Marks::new(vec![Zeroizing::new(b"marks".to_vec())])
}

/// What the mapping writes, each from the record's own.
const WRITTEN: [&str; 6] = ["call_id", "from", "digits", "disposition_code", "needs_review", "outcome"];

fn pipeline() -> Pipeline {
    let crm = Crm {
        name: "crm".into(),
        connector: Box::new(Plain),
        mapping: Box::new(|record| WRITTEN.into_iter().filter_map(|name| Some((name.to_owned(), record.get(name)?.clone()))).collect()),
        refresh_token: Zeroizing::new("first".into()),
        contacts: None,
        writes: WRITTEN.map(str::to_owned).to_vec(),
        reads: Default::default(),
        pace: Pace::default(),
        schedule: Default::default(),
        activation: None,
    };
    let sources = [("platform".to_owned(), Source::standard(Key::parse(KEY).expect("a key")))].into();
    let config = Config {
        crms: vec![crm],
        sources,
        marks: marks(),
        expects: vec![Expect::disposition(Duration::from_secs(60))],
        attempts_max: 3,
        keep: None,
    };
    Pipeline::new(config, Chance::from_seed(1))
}

impl World {
    fn new() -> Self {
        let pipeline = pipeline();
        Self {
            ingest: webhook::Ingest::new(pipeline.config.sources.clone()),
            pipeline,
            store: Memory::default(),
            journal: Vec::new(),
            folded: 0,
            ms: 0,
            requests: Vec::new(),
            tokens: 0,
            kept: Vec::new(),
            responses: Vec::new(),
            told: Vec::new(),
            counts: Vec::new(),
            quarantined: Vec::new(),
            status: Some(200),
            disk_full: false,
            batches: Vec::new(),
            bad: None,
            account: None,
            hold: None,
            held: Vec::new(),
            asks: Vec::new(),
            api: VecDeque::new(),
        }
    }

    fn now(&self) -> Now {
        let wall = Wall::from_millis(1_767_607_200_000 + i64::try_from(self.ms).expect("fits"));
        Now { mono: Instant::from_millis(self.ms), wall }
    }

    fn write_down(&mut self, entry: Entry) {
        let offset = u64::try_from(self.journal.len()).expect("fits");
        self.journal.push((Position { segment: 1, offset }, entry));
    }

    /// Turns until nothing happens any more at this moment.
    fn settle(&mut self) {
        loop {
            let now = self.now();
            let batch = self.journal[self.folded..].to_vec();
            if !batch.is_empty() {
                self.folded = self.journal.len();
                let next = Position { segment: 1, offset: u64::try_from(self.folded).expect("fits") };
                self.pipeline.fold(&mut self.store, &batch, next).expect("folded");
            }
            self.pipeline.turn(now, &mut self.store, true).expect("turned");
            let mut idle = batch.is_empty();
            while let Some(output) = self.pipeline.poll_output() {
                idle = false;
                self.perform(output);
            }
            if idle {
                return;
            }
        }
    }

    fn perform(&mut self, output: Output) {
        let now = self.now();
        match output {
            Output::Append { append, entry } => {
                let result = match entry.body.len() {
                    _ if self.disk_full => Err("full".to_owned()),
                    octets if octets > ENTRY_BYTES_MAX => Err(format!("an entry of {octets} octets")),
                    _ => Ok(()),
                };
                if result.is_ok() {
                    self.write_down(entry);
                }
                self.pipeline.synced(now, append, result);
            }
            Output::Send { request, http, .. } if self.hold.is_some_and(|part| http.url.contains(part)) => self.held.push((request, http)),
            Output::Send { request, http, .. } if http.url.starts_with("http://crm") => {
                let answer = self.ask(http.method, &http.url, http.headers, http.body);
                self.pipeline.answer(now, request, answer);
            }
            Output::Send { request, http, .. } if http.url == "token" => {
                self.tokens += 1;
                self.pipeline.answer(now, request, Ok(HttpAnswer { status: 200, headers: Vec::new(), body: Vec::new() }));
            }
            Output::Send { request, http, .. } if http.url == "batch" => {
                let records: Vec<Fields> = serde_json::from_slice(&http.body).expect("records");
                self.batches.push(records.len());
                let bad = |r: &Fields| self.bad.as_ref().is_some_and(|bad| r.get("call_id").and_then(Value::as_str) == Some(bad));
                let status = if records.iter().any(bad) { Some(400) } else { self.status };
                let answer = status.map(|status| HttpAnswer { status, headers: Vec::new(), body: Vec::new() });
                let lost = || NoAnswer { maybe_sent: true, why: "lost".into() };
                self.pipeline.answer(now, request, answer.ok_or_else(lost));
            }
            Output::Send { request, http, .. } => {
                let known = |(_, entry): &(Position, Entry)| entry.key.parse().is_ok_and(|call| http.url == record_key(call));
                assert!(self.journal.iter().any(known), "{} is the key of no call", http.url);
                self.requests.push((self.ms, serde_json::from_slice(&http.body).expect("fields")));
                if let Some(status) = self.status {
                    self.pipeline.answer(now, request, Ok(HttpAnswer { status, headers: Vec::new(), body: Vec::new() }));
                }
            }
            Output::Ask { request, http, .. } => {
                self.asks.push((self.ms, request, http));
                if let Some(answer) = self.api.pop_front() {
                    self.pipeline.answer(now, request, answer);
                }
            }
            Output::Respond { reply, status, .. } => self.responses.push((reply, status)),
            Output::Tell { document, .. } => self.told.push(document),
            Output::KeepToken { token, .. } => self.kept.push(token.to_string()),
            Output::Pruned { .. } | Output::Erased(_) | Output::Late => {}
            Output::Count(count) => self.counts.push(count),
        }
    }

    /// What was held is answered now.
    fn let_go(&mut self) {
        self.hold = None;
        for (request, http) in std::mem::take(&mut self.held) {
            let (now, answer) = (self.now(), self.ask(http.method, &http.url, http.headers, http.body));
            self.pipeline.answer(now, request, answer);
        }
        self.settle();
    }

    /// Asks the double.
    fn ask(&mut self, method: &str, url: &str, headers: Vec<(String, String)>, body: Vec<u8>) -> Result<HttpAnswer, NoAnswer> {
        let now = self.now();
        let path = url.strip_prefix("http://crm").expect("its address");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let asked = sandbox::Request { method: method.into(), path: path.into(), query: query.into(), headers, body };
        match self.account.as_mut().expect("a double").handle(now, &asked) {
            Came::Answer(answer, _) => {
                let kind = answer.body.content_type().map(|kind| ("content-type".to_owned(), kind.to_owned()));
                let headers = answer.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).chain(kind).collect();
                Ok(HttpAnswer { status: answer.status, headers, body: answer.body.octets() })
            }
            Came::Drop(_) => Err(NoAnswer { maybe_sent: true, why: "dropped".into() }),
        }
    }

    /// Goes on to `ms`, stopping wherever the machine wants to be woken.
    fn until(&mut self, ms: u64) {
        self.settle();
        while let Some(wake) = self.pipeline.next_timeout().map(|w| w.as_micros().div_ceil(1000)).filter(|w| *w <= ms) {
            self.ms = wake.max(self.ms + 1);
            self.settle();
        }
        self.ms = ms;
        self.settle();
    }

    fn event(&mut self, sequence: u32, kind: Kind) {
        let at_ms = i64::try_from(self.ms).expect("fits");
        let event = Event { call_id: call(), sequence, time: self.now().wall, at_ms, kind };
        self.write_down(entry(&event));
    }

    fn call(&mut self) {
        self.events(life());
    }

    fn events(&mut self, kinds: Vec<Kind>) {
        for (sequence, kind) in (1..).zip(kinds) {
            self.event(sequence, kind);
        }
    }

    fn webhook(&mut self, reply: u64, id: &str, code: &str) {
        let time = self.now().wall;
        self.post(
            reply,
            &json!({"id": id, "type": "call.ended", "call_id": "platform-leg@sip", "time": time, "data": {"disposition_code": code}})
                .to_string(),
        );
    }

    /// Posts a body, signed as it should be.
    fn post(&mut self, reply: u64, body: &str) {
        let now = self.now();
        let signature = Key::parse(KEY).expect("a key").sign("m", now.wall, body.as_bytes());
        let seconds = (now.wall.as_millis() / 1000).to_string();
        let headers = [("webhook-id", "m".to_owned()), ("webhook-timestamp", seconds), ("webhook-signature", signature)];
        let headers = headers.map(|(n, v)| (n.to_owned(), v));
        let request = webhook::Request { headers: &headers, query: "", body: body.as_bytes() };
        // As a start does, before anything is heard.
        self.pipeline.begin(now, &mut self.store).expect("begun");
        let taken = self.ingest.take(now.wall, now.wall, "platform", &request);
        self.taken(reply, "platform", body.as_bytes(), taken);
        self.settle();
    }

    /// What the driver makes of a webhook that was taken or refused.
    fn taken(&mut self, reply: u64, source: &str, body: &[u8], taken: Result<Entry, webhook::Refusal>) {
        let status = match taken {
            Ok(entry) if !self.disk_full => {
                self.write_down(entry);
                200
            }
            Ok(_) => {
                self.counts.push(Count::Webhook("refused"));
                503
            }
            Err(refusal) => {
                if refusal.quarantine {
                    self.quarantined.push((source.to_owned(), body.to_vec()));
                }
                self.counts.extend(refusal.result.map(Count::Webhook));
                refusal.status
            }
        };
        self.responses.push((reply, status));
    }

    fn write(&self) -> Write {
        self.store.write("crm", call()).expect("stored").expect("a write")
    }
}

/// Of every call since then, whatever people have changed.
fn recovery(since: Wall) -> Recover {
    Recover { since, target: None, overwrite: true, by: "anna".into() }
}

fn call() -> CallId {
    "019b8d99-6ce8-7000-8000-000000000001".parse().expect("a call id")
}

fn entry(event: &Event) -> Entry {
    let body = event.to_cloudevent().to_string().into_bytes();
    Entry { kind: EntryKind::Event, time: event.time, id: event.id(), key: event.call_id.to_string(), body }
}

/// The end of a call that nobody took.
fn busy() -> Terminal {
    Terminal {
        outcome: Outcome::Busy,
        outcome_table: None,
        ended_as: EndedAs::Completed,
        ended_by: EndedBy::Callee,
        reason: None,
        sip_status: Some(486),
        ring_ms: None,
        talk_ms: 0,
        secure_ms: 0,
        omitted: 0,
    }
}

fn life() -> Vec<Kind> {
    let side = || PerSide { trunk: "PCMU".to_owned(), platform: "PCMU".to_owned() };
    let terminal = Terminal {
        outcome: Outcome::Answered,
        outcome_table: None,
        ended_as: EndedAs::Completed,
        ended_by: EndedBy::Caller,
        reason: None,
        sip_status: Some(200),
        ring_ms: Some(10),
        talk_ms: 20,
        secure_ms: 0,
        omitted: 0,
    };
    vec![
        Kind::Started {
            from: CALLER.into(),
            to: "+492".into(),
            trunk: "carrier".into(),
            route: "r".into(),
            sip_call_ids: SipCallIds { caller: "trunk-leg@sip".into(), callee: None },
        },
        Kind::Answered {
            target: "platform".into(),
            codec: side(),
            dtmf: PerSide { trunk: None, platform: None },
            ring_ms: 10,
            sip_call_id: Some("platform-leg@sip".into()),
        },
        Kind::Dtmf {
            leg: crate::event::Leg::Caller,
            digits: Some("4711#".into()),
            count: None,
            method: crate::event::DtmfMethod::Rfc4733,
            from_ms: 1,
            to_ms: 2,
        },
        Kind::Ended(terminal),
    ]
}
