//! The machine in a world of its own: a journal that is a list, a CRM that does what the test says, time by hand.

mod any_order;
mod batches;
mod beside;
mod budgets;
mod decisions;
mod expected;
mod jobs;
mod people;
mod pulls;
mod recoveries;
mod retention;
mod schedules;
mod webhooks;

use serde_json::json;

use super::{
    store::{State, Write},
    *,
};
use crate::{
    crm::{
        Change, OAuth, Token, Verdict, record_key,
        sandbox::{self, Double, Outcome as Came},
    },
    event::{EndedAs, EndedBy, Event, Kind, Outcome, PerSide, SipCallIds, Terminal},
    journal::Position,
};

/// A CRM whose answers are plain: `200`, `503`, `429`, `401`, `400`.
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
            401 => Verdict::Auth { why },
            429 => Verdict::Throttled { after: Some(Duration::from_secs(7)), why },
            400 => Verdict::Rejected { why },
            _ => Verdict::Retry { after: None, why },
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

fn pipeline() -> Pipeline {
    let crm = Crm {
        name: "crm".into(),
        connector: Box::new(Plain),
        mapping: Box::new(|record| {
            ["call_id", "from", "digits", "disposition_code", "needs_review", "outcome"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), record.get(name)?.clone())))
                .collect()
        }),
        refresh_token: Zeroizing::new("first".into()),
        contacts: None,
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
                let result = if self.disk_full { Err("full".to_owned()) } else { Ok(()) };
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
            Output::Pruned { .. } => {}
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
                let headers = answer.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
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

#[test]
fn a_call_becomes_one_record_and_its_outcome_an_update_of_it() {
    let mut world = World::new();
    world.call();
    world.settle();
    assert_eq!(world.requests.len(), 1);
    assert_eq!(world.requests[0].1["digits"], "4711#");
    assert!(!world.requests[0].1.contains_key("disposition_code"));
    world.webhook(1, "w1", "SALE");
    assert_eq!(world.responses, [(1, 200)]);
    assert_eq!(world.requests[1].1, [("disposition_code".to_owned(), json!("SALE"))].into(), "only what differs");
    world.until(200 * SECOND);
    assert_eq!((world.requests.len(), world.write().state, world.write().id), (2, State::Done, Some("crm-1".into())));
    assert_eq!((world.tokens, world.kept), (1, vec!["second".to_owned()]));
    let delivered = world.counts.iter().filter(|c| matches!(c, Count::Delivered(_))).count();
    assert_eq!(delivered, 1);
}

#[test]
fn nobody_tells_the_outcome_and_the_record_says_so() {
    let mut world = World::new();
    world.call();
    world.until(59 * SECOND);
    assert_eq!(world.requests.len(), 1);
    world.until(62 * SECOND);
    assert_eq!(world.requests[1].1["disposition_code"], "NO_DISPOSITION");
    assert_eq!(world.requests[1].1["needs_review"], true);
    world.webhook(1, "late", "SALE");
    assert_eq!((&world.requests[2].1["disposition_code"], &world.requests[2].1["needs_review"]), (&json!("SALE"), &json!(false)));
}

#[test]
fn a_person_tries_a_refused_record_again_or_drops_it() {
    let mut world = World::new();
    world.status = Some(400);
    world.call();
    world.settle();
    assert_eq!(world.write().state, State::Review);
    let decide = |world: &mut World, reply, decision| {
        let now = world.now();
        world.pipeline.decide(now, &world.store, reply, "crm", call(), decision, "anna").expect("stored");
        world.settle();
    };
    world.status = Some(200);
    decide(&mut world, 1, Decision::Retry);
    assert_eq!((world.write().state, world.write().attempts, world.requests.len()), (State::Done, 0, 2));
    decide(&mut world, 2, Decision::Retry);
    assert_eq!(world.responses, [(1, 200), (2, 409)], "what is done waits for nobody");

    let mut world = World::new();
    world.status = Some(400);
    world.call();
    world.settle();
    decide(&mut world, 1, Decision::Drop);
    world.status = Some(200);
    world.webhook(2, "late", "SALE");
    assert_eq!((world.write().state, world.requests.len()), (State::Dropped, 1), "what comes later changes nothing");
    decide(&mut world, 3, Decision::Retry);
    assert_eq!((world.write().state, world.requests.len()), (State::Done, 2));
    assert_eq!(world.write().written["disposition_code"], "SALE");
}

#[test]
fn order_and_repetition_do_not_matter() {
    let mut forward = World::new();
    forward.call();
    forward.webhook(1, "w1", "SALE");
    forward.until(100 * SECOND);
    let mut backward = World::new();
    backward.webhook(1, "w1", "SALE");
    for sequence in [4, 2, 4, 3, 1, 2] {
        backward.event(sequence, life()[usize::try_from(sequence).expect("fits") - 1].clone());
        backward.settle();
    }
    backward.until(100 * SECOND);
    assert_eq!(backward.write().written, forward.write().written);
    assert_eq!(
        backward.store.record(call()).expect("stored").map(|r| r.fields()),
        forward.store.record(call()).expect("stored").map(|r| r.fields())
    );
}

#[test]
fn an_outage_is_waited_for_and_the_write_is_made_once() {
    let mut world = World::new();
    world.status = Some(503);
    world.call();
    world.until(2 * SECOND);
    assert_eq!(world.write().state, State::Retrying);
    let before = world.requests.len();
    assert!(before >= 2, "tried again");
    world.status = Some(200);
    world.until(50 * SECOND);
    assert_eq!((world.write().state, world.requests.len()), (State::Done, before + 1));
}

#[test]
fn attempts_run_out_and_the_write_is_a_dead_letter() {
    let mut world = World::new();
    world.status = Some(503);
    world.call();
    world.until(59 * SECOND);
    assert_eq!((world.write().state, world.requests.len()), (State::Dead, 3));
    assert_eq!(world.store.counts().expect("counted").dead, 1);
}

#[test]
fn a_rejected_record_waits_for_a_person() {
    let mut world = World::new();
    world.status = Some(400);
    world.call();
    world.until(59 * SECOND);
    assert_eq!((world.write().state, world.write().why.as_deref(), world.requests.len()), (State::Review, Some("says so"), 1));
}

#[test]
fn what_a_salvaged_segment_tells_again_changes_nothing() {
    let mut world = World::new();
    world.status = Some(400);
    world.call();
    world.until(SECOND);
    assert_eq!(world.write().state, State::Review);
    let salvaged = world.journal.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>();
    assert_eq!(salvaged.iter().filter(|e| e.kind == EntryKind::Answer).count(), 1);
    world.status = Some(200);
    world.webhook(1, "w1", "SALE");
    world.until(50 * SECOND);
    let (write, requests) = (world.write(), world.requests.len());
    assert_eq!(write.state, State::Done);
    salvaged.into_iter().for_each(|entry| world.write_down(entry));
    world.until(100 * SECOND);
    assert_eq!((world.write(), world.requests.len()), (write, requests));
}

#[test]
fn a_throttled_lane_waits_as_long_as_it_is_told() {
    let mut world = World::new();
    world.status = Some(429);
    world.call();
    world.until(6 * SECOND);
    assert_eq!(world.requests.len(), 1);
    world.status = Some(200);
    world.until(8 * SECOND);
    assert_eq!((world.requests.len(), world.write().state), (2, State::Done));
}

#[test]
fn a_refused_token_is_renewed_once_and_a_refused_new_one_pauses_the_lane() {
    let mut world = World::new();
    world.status = Some(401);
    world.call();
    world.until(20 * SECOND);
    assert_eq!((world.requests.len(), world.tokens), (1, 1), "the token was new: another one would not help");
    world.status = Some(200);
    world.until(40 * SECOND);
    assert_eq!((world.requests.len(), world.tokens, world.write().state), (2, 2, State::Done));
}

#[test]
fn a_store_made_anew_is_the_same_and_nothing_is_sent_again() {
    let mut world = World::new();
    world.call();
    world.until(100 * SECOND);
    assert_eq!(world.requests.len(), 2);
    let (before, sent) = (world.write(), world.requests.len());
    world.store = Memory::default();
    world.pipeline = pipeline();
    world.folded = 0;
    world.until(300 * SECOND);
    assert_eq!(world.requests.len(), sent, "not one request more");
    assert_eq!((world.write().state, world.write().written), (before.state, before.written));
}

#[test]
fn a_crash_between_attempt_and_answer_repeats_the_same_keyed_write() {
    let mut world = World::new();
    world.status = None;
    world.call();
    world.settle();
    assert_eq!(world.write().state, State::InFlight);
    world.pipeline = pipeline();
    world.status = Some(200);
    world.settle();
    assert_eq!(world.requests[0].1, world.requests[1].1);
    assert_eq!(world.write().state, State::Done);
}

#[test]
fn open_calls_are_closed_at_a_restart() {
    let mut world = World::new();
    for (sequence, kind) in (1..).zip(life().into_iter().take(2)) {
        world.event(sequence, kind);
    }
    world.settle();
    let closed = restart::close_open_calls(&world.store, world.now().wall).expect("read");
    let [event] = closed.as_slice() else { panic!("one call") };
    assert_eq!(event.sequence, 3);
    assert!(matches!(&event.kind, Kind::Failed(t) if t.reason.as_deref() == Some("gateway_restart") && t.outcome == Outcome::Answered));
    world.write_down(entry(event));
    world.until(100 * SECOND);
    assert_eq!(restart::close_open_calls(&world.store, world.now().wall).expect("read"), []);
    assert_eq!(world.write().written["disposition_code"], "FAILED — NO DISPOSITION");
}

#[test]
fn a_standing_secret_asks_for_no_token() {
    let mut world = World::new();
    let connector = crate::crm::http::Http { method: "PUT", url: "{key}".into(), body: "{record}".into(), secret: None };
    world.pipeline.config.crms[0].connector = Box::new(connector);
    world.call();
    world.settle();
    assert_eq!((world.tokens, world.requests.len(), world.write().state), (0, 1, State::Done));
    // Refused, it is not tried in a circle.
    world.status = Some(401);
    world.webhook(1, "late", "SALE");
    world.until(100 * SECOND);
    assert!((2..8).contains(&world.requests.len()), "{} requests", world.requests.len());
    world.status = Some(200);
    world.until(200 * SECOND);
    assert_eq!(world.write().state, State::Done);
}

#[test]
fn what_may_have_been_taken_is_sent_again_even_where_it_is_what_was_there_before() {
    let mut world = World::new();
    world.call();
    world.until(SECOND);
    assert_eq!(world.write().written["needs_review"], false);
    // The wait for an outcome ends; the CRM takes that, and its answer is lost: nobody knows.
    world.status = Some(503);
    world.until(61 * SECOND);
    assert_eq!(world.requests.last().expect("a request").1["needs_review"], true);
    world.status = Some(200);
    world.webhook(1, "late", "SALE");
    world.until(400 * SECOND);
    let last = &world.requests.last().expect("a request").1;
    assert_eq!((&last["disposition_code"], &last["needs_review"]), (&json!("SALE"), &json!(false)));
    // The same where the process died before the answer came: the next attempt tells.
    let mut anew = Memory::default();
    let upto = world.journal.iter().position(|(_, e)| e.kind == EntryKind::Answer).expect("an answer");
    let mut other = pipeline();
    other.fold(&mut anew, &world.journal[..upto], Position { segment: 1, offset: 99 }).expect("folded");
    assert!(!anew.write("crm", call()).expect("read").expect("a write").sent.is_empty());
    other.turn(world.now(), &mut anew, true).expect("turned");
    let write = anew.write("crm", call()).expect("read").expect("a write");
    assert_eq!((write.sent.len(), write.difference().len()), (0, write.wanted.len()));
}
