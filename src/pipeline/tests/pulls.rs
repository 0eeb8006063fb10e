//! What a webhook lost, and a platform's API still knows.

use super::{
    pull::Name,
    store::{Aside, Why},
    webhook::{Received, Schema},
    *,
};

const ACME: &str = r#"
    schema = "acme"
    version = 1
    type = "/type"
    id = "/id"
    call = ["/call_id", "/their_id"]
    time = "/time"
    [event."call.started"]
    as = "call.started"
    [event."call.ended"]
    as = "call.ended"
    data.disposition_code = "/data/disposition_code"
    [pull]
    id = "/their_id"
    type = "/status"
    call = ["/id"]
    ignored = ["ongoing"]
    [pull.event.ended]
    as = "call.ended"
    also = { "transcription.complete" = "/transcript" }
    data = { disposition_code = "/code", transcript = "/transcript" }
"#;

const THEIRS: &str = "their call/1";

fn pull() -> Pull {
    Pull {
        url: "https://api.acme.example/call/{id}?full=1".into(),
        id: Name::Platform,
        secret: ("authorization".into(), Zeroizing::new("Bearer hush".into())),
        before: Duration::ZERO,
        patience: Duration::from_secs(30),
        attempts_max: 3,
        per_second: 5,
        concurrency: 2,
    }
}

/// A pipeline that expects a disposition within a minute, and asks Acme for it.
fn asking(pull: Pull) -> Pipeline {
    let mut pipeline = pipeline();
    let schema: Schema = toml::from_str(ACME).expect("a schema");
    assert_eq!(schema.faults(), Vec::<String>::new());
    let source = Source { schema, pull: Some(pull), ..Source::standard(Key::parse(KEY).expect("a key")) };
    pipeline.config.sources = [("platform".to_owned(), source)].into();
    pipeline
}

pub(super) fn world() -> World {
    let mut world = World::new();
    world.pipeline = asking(pull());
    world.call();
    world.settle();
    world
}

pub(super) fn answer(status: u16, body: &Value) -> Result<HttpAnswer, NoAnswer> {
    Ok(HttpAnswer { status, headers: vec![("content-type".into(), "application/json".into())], body: body.to_string().into_bytes() })
}

pub(super) fn document(code: &str) -> Result<HttpAnswer, NoAnswer> {
    answer(200, &json!({"id": THEIRS, "status": "ended", "code": code, "transcript": "Hello."}))
}

impl World {
    /// The only webhook that comes: it names the call.
    pub(super) fn named(mut self) -> Self {
        let body = json!({"id": "s1", "type": "call.started", "call_id": call(), "their_id": THEIRS, "time": self.now().wall});
        self.post(90, &body.to_string());
        self
    }

    fn facts(&self) -> Map<String, Value> {
        self.store.record(call()).expect("stored").expect("a record").fields()
    }

    fn results(&self) -> Vec<&'static str> {
        self.counts.iter().filter_map(|count| if let Count::Pull { result, .. } = count { Some(*result) } else { None }).collect()
    }

    fn set_aside(&self) -> Vec<Aside> {
        self.store.asides(9).expect("read")
    }

    /// A store made anew out of the journal has the same record, and the same is to be asked.
    fn same_when_made_anew(&self) {
        let (mut pipeline, mut anew) = (asking(pull()), Memory::default());
        // In whatever batches.
        for entry in &self.journal {
            let next = Position { segment: 1, offset: entry.0.offset + 1 };
            pipeline.fold(&mut anew, std::slice::from_ref(entry), next).expect("folded");
        }
        while pipeline.end_waits(self.now(), &mut anew).expect("ended") {}
        assert_eq!(anew.record(call()), self.store.record(call()));
        assert_eq!(anew.pull("platform", call()), self.store.pull("platform", call()));
        assert_eq!(anew.next_wait(), self.store.next_wait());
        let (before, after) = (self.write(), anew.write("crm", call()).expect("read").expect("a write"));
        assert_eq!((before.wanted, before.written), (after.wanted, after.written));
    }
}

#[test]
fn what_a_webhook_lost_is_asked_for_when_its_time_is_over_and_told_as_one() {
    let mut world = world().named();
    world.api = [document("SALE")].into();
    world.until(59 * SECOND);
    assert!(world.asks.is_empty(), "a webhook may still come");
    world.until(61 * SECOND);
    let [(_, _, http)] = world.asks.as_slice() else { panic!("asked once: {:?}", world.asks) };
    assert_eq!((http.method, http.url.as_str()), ("GET", "https://api.acme.example/call/their%20call%2F1?full=1"));
    assert!(http.headers.contains(&("authorization".into(), "Bearer hush".into())));
    let facts = world.facts();
    assert_eq!((&facts["disposition_code"], &facts["transcript"]), (&json!("SALE"), &json!("Hello.")));
    assert_eq!((&facts["complete"], &facts["needs_review"], facts.get("missing")), (&json!(true), &json!(false), None));
    assert_eq!(world.requests.last().expect("a write").1["disposition_code"], "SALE");
    assert!(world.requests.iter().all(|(_, fields)| fields.get("disposition_code") != Some(&json!("NO_DISPOSITION"))));
    assert_eq!(world.results(), ["filled"]);
    let received = world.counts.iter().filter(|count| matches!(count, Count::Webhook("accepted"))).count();
    assert_eq!(received, 1, "what was pulled was received from nobody");
    world.until(1000 * SECOND);
    assert_eq!(world.asks.len(), 1);
    world.same_when_made_anew();
}

#[test]
fn the_entry_says_that_it_was_pulled_and_bears_no_secret() {
    let mut world = world().named();
    world.api = [document("SALE")].into();
    world.until(61 * SECOND);
    let pulled: Vec<_> = world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Webhook && e.key == call().to_string()).collect();
    let [(_, entry)] = pulled.as_slice() else { panic!("one entry") };
    let received = Received::read(&entry.body);
    let head = received.head.pulled.expect("its head says so");
    assert_eq!((entry.id.as_str(), head.call, head.status, head.why), ("platform", call(), Some(200), None));
    assert!(!String::from_utf8_lossy(&entry.body).contains("hush"));
}

#[test]
fn a_webhook_that_comes_while_the_api_is_asked_is_told_once_and_is_no_conflict() {
    let mut world = world().named();
    world.until(61 * SECOND);
    let [(_, request, _)] = world.asks.as_slice() else { panic!("asked once") };
    let request = *request;
    world.webhook(1, "w1", "SALE");
    let written = world.requests.len();
    assert_eq!(world.facts()["disposition_code"], "SALE");
    let now = world.now();
    world.pipeline.answer(now, request, answer(200, &json!({"id": THEIRS, "status": "ended", "code": "SALE"})));
    world.until(1000 * SECOND);
    assert_eq!((world.requests.len(), world.asks.len()), (written, 1), "nothing new, and nobody is told twice");
    assert_eq!(world.set_aside(), Vec::new());
    assert!(!world.counts.contains(&Count::Webhook("conflict")));
    world.same_when_made_anew();
}

#[test]
fn a_webhook_that_comes_between_two_attempts_ends_the_asking() {
    let mut world = world().named();
    world.api = [answer(503, &Value::Null)].into();
    world.until(60 * SECOND + 50);
    assert_eq!(world.asks.len(), 1);
    world.webhook(1, "w1", "SALE");
    world.until(1000 * SECOND);
    assert_eq!((world.asks.len(), world.results()), (1, vec![]));
    assert_eq!(world.pipeline.under_way(), 0);
}

#[test]
fn what_the_platform_does_not_know_is_missing_as_soon_as_that_is_on_record() {
    let mut world = world().named();
    world.api = [answer(404, &Value::Null)].into();
    world.until(61 * SECOND);
    let facts = world.facts();
    assert_eq!((&facts["missing"], &facts["disposition_code"]), (&json!("disposition_code"), &json!("NO_DISPOSITION")));
    assert_eq!((&facts["complete"], &facts["needs_review"]), (&json!(true), &json!(true)));
    assert_eq!(world.results(), ["nothing"]);
    world.until(1000 * SECOND);
    assert_eq!(world.asks.len(), 1);
    world.same_when_made_anew();
}

#[test]
fn an_api_that_fails_is_asked_again_a_few_times() {
    let mut world = world().named();
    world.api = [answer(502, &Value::Null), Err(NoAnswer { maybe_sent: true, why: "silence".into() }), document("SALE")].into();
    world.until(85 * SECOND);
    assert_eq!((world.asks.len(), world.results()), (3, vec!["filled"]));
    assert_eq!(world.facts()["disposition_code"], "SALE");
    let at: Vec<_> = world.asks.iter().map(|(ms, ..)| *ms).collect();
    assert!(at.windows(2).all(|two| two[1] - two[0] >= 200), "with a pause: {at:?}");

    let mut world = self::world().named();
    world.api = vec![answer(500, &Value::Null); 9].into();
    world.until(85 * SECOND);
    assert_eq!((world.asks.len(), world.results()), (3, vec!["failed"]));
    assert_eq!(world.facts()["missing"], "disposition_code");
    world.same_when_made_anew();
}

#[test]
fn a_quota_is_heeded_and_a_call_that_is_not_over_there_is_asked_for_again() {
    let mut world = world().named();
    let mut throttled = answer(429, &Value::Null).expect("an answer");
    throttled.headers.push(("retry-after".into(), "7".into()));
    world.api = [Ok(throttled), answer(200, &json!({"status": "ongoing"})), document("SALE")].into();
    world.until(88 * SECOND);
    let at: Vec<_> = world.asks.iter().map(|(ms, ..)| *ms).collect();
    assert!(at.len() == 3 && at[1] - at[0] >= 7 * SECOND, "{at:?}");
    assert_eq!((&world.facts()["disposition_code"], world.results()), (&json!("SALE"), vec!["filled"]));
}

#[test]
fn nobody_waits_for_the_network_and_what_it_brings_late_mends_the_record() {
    let mut world = world().named();
    world.until(89 * SECOND);
    assert_eq!((&world.facts()["complete"], world.asks.len()), (&json!(false), 1));
    world.until(91 * SECOND);
    assert_eq!(world.facts()["missing"], "disposition_code", "the time set by the configuration is over");
    world.same_when_made_anew();
    let (now, (_, request, _)) = (world.now(), world.asks[0].clone());
    world.pipeline.answer(now, request, document("SALE"));
    world.until(100 * SECOND);
    assert_eq!((&world.facts()["disposition_code"], world.facts().get("missing")), (&json!("SALE"), None));
    world.same_when_made_anew();
}

#[test]
fn a_restart_in_the_middle_asks_again_and_ends_with_the_same_record() {
    let whole = {
        let mut world = world().named();
        world.api = [document("SALE")].into();
        world.until(61 * SECOND);
        world.facts()
    };
    for back in [62 * SECOND, 3600 * SECOND] {
        let mut world = world().named();
        world.until(61 * SECOND);
        assert_eq!(world.asks.len(), 1, "its answer never comes");
        world.ms = back;
        world.pipeline = asking(pull());
        world.api = [document("SALE")].into();
        world.until(back + 60 * SECOND);
        assert_eq!((world.asks.len(), world.facts()), (2, whole.clone()));
        world.same_when_made_anew();
    }
    // So long ago that nobody knows it any more.
    let mut world = world().named();
    world.until(61 * SECOND);
    world.ms = 3 * 86_400 * SECOND;
    world.pipeline = asking(pull());
    world.until(world.ms + 60 * SECOND);
    assert_eq!((world.asks.len(), &world.facts()["missing"]), (1, &json!("disposition_code")));
    assert_eq!(world.store.pull("platform", call()), Ok(None));
}

#[test]
fn a_journal_that_takes_nothing_has_the_api_asked_again() {
    let mut world = world().named();
    world.until(61 * SECOND);
    let (now, (_, request, _)) = (world.now(), world.asks[0].clone());
    world.disk_full = true;
    world.pipeline.answer(now, request, document("SALE"));
    world.settle();
    assert_eq!(world.results(), Vec::<&str>::new());
    world.disk_full = false;
    world.api = [document("SALE")].into();
    world.until(70 * SECOND);
    assert_eq!((world.asks.len(), &world.facts()["disposition_code"]), (2, &json!("SALE")));
}

#[test]
fn what_cannot_be_read_goes_aside_and_what_is_too_long_is_not_kept() {
    let mut world = world().named();
    world.api = [Ok(HttpAnswer { status: 200, headers: Vec::new(), body: b"<html>".to_vec() })].into();
    world.until(61 * SECOND);
    let asides: Vec<_> = world.set_aside().into_iter().map(|aside| (aside.why, aside.detail)).collect();
    assert!(matches!(asides.as_slice(), [(Why::Unreadable, detail)] if detail.contains("no JSON")), "{asides:?}");
    assert_eq!((&world.facts()["missing"], world.results()), (&json!("disposition_code"), vec!["unreadable"]));

    let mut world = self::world().named();
    world.api = [Ok(HttpAnswer { status: 200, headers: Vec::new(), body: vec![b' '; (1 << 20) + 1] })].into();
    world.until(61 * SECOND);
    assert!(world.journal.iter().all(|(_, entry)| entry.body.len() < 10_000));
    assert_eq!((world.results(), world.set_aside()), (vec!["unreadable"], vec![]));
    assert_eq!(world.facts()["missing"], "disposition_code");
}

#[test]
fn the_document_of_another_call_is_told_to_nobody() {
    let mut world = world().named();
    let other: CallId = "019b8d99-6ce8-7000-8000-000000000002".parse().expect("a call id");
    let started = Event { call_id: other, sequence: 1, time: world.now().wall, at_ms: 0, kind: life().remove(0) };
    world.write_down(entry(&started));
    world.settle();
    world.api = [answer(200, &json!({"id": other, "status": "ended", "code": "SALE"}))].into();
    world.until(61 * SECOND);
    assert_eq!(world.facts()["missing"], "disposition_code");
    assert!(world.set_aside()[0].detail.contains("another call"));
}

#[test]
fn the_name_may_be_ours_or_the_legs_and_without_one_nobody_waits() {
    for (id, url) in [
        (Name::Ours, format!("https://api.acme.example/call/{}?full=1", call())),
        (Name::SipCallId, "https://api.acme.example/call/platform-leg%40sip?full=1".to_owned()),
    ] {
        let mut world = World::new();
        world.pipeline = asking(Pull { id, ..pull() });
        world.call();
        world.until(61 * SECOND);
        assert_eq!(world.asks.iter().map(|(_, _, http)| http.url.clone()).collect::<Vec<_>>(), [url]);
    }
    let mut world = world();
    world.until(61 * SECOND);
    assert_eq!((world.asks.len(), &world.facts()["missing"]), (0, &json!("disposition_code")));
    // The platform names the call after that: now it can be asked.
    world.api = [document("SALE")].into();
    let mut world = world.named();
    world.until(62 * SECOND);
    assert_eq!((world.asks.len(), &world.facts()["disposition_code"]), (1, &json!("SALE")));

    let mut world = self::world();
    let body = json!({"id": "s1", "type": "call.started", "call_id": call(), "their_id": "..", "time": world.now().wall});
    world.post(90, &body.to_string());
    world.until(61 * SECOND);
    assert!(world.asks.is_empty(), "a step to another address");
}

#[test]
fn each_thing_is_asked_for_in_its_own_time_and_only_where_the_api_may_tell_it() {
    let mut world = world().named();
    let expect = |what: &str, within| Expect { what: what.into(), outcomes: Vec::new(), within: Duration::from_secs(within) };
    world.pipeline.config.expects = vec![expect("disposition_code", 60), expect("transcription.complete", 300), expect("intent", 200)];
    world.write_down(entry(&Event { call_id: call(), sequence: 9, time: world.now().wall, at_ms: 0, kind: life().remove(2) }));
    world.api = [answer(200, &json!({"id": THEIRS, "status": "ended", "code": "SALE"})), document("SALE")].into();
    world.until(250 * SECOND);
    assert_eq!((world.asks.len(), &world.facts()["missing"]), (1, &json!("intent")));
    world.until(400 * SECOND);
    assert_eq!((world.asks.len(), &world.facts()["missing"], &world.facts()["transcript"]), (2, &json!("intent"), &json!("Hello.")));
}

#[test]
fn many_calls_are_asked_for_one_after_the_other() {
    let mut world = World::new();
    world.pipeline = asking(Pull { before: Duration::from_secs(20), ..pull() });
    let calls: Vec<CallId> = (1..=12).map(|n| format!("019b8d99-6ce8-7000-8000-0000000000{n:02}").parse().expect("a call id")).collect();
    for (n, call_id) in calls.iter().enumerate() {
        for (sequence, mut kind) in (1..).zip(life()) {
            if let Kind::Started { sip_call_ids, .. } = &mut kind {
                sip_call_ids.caller = format!("trunk {n}");
            }
            if let Kind::Answered { sip_call_id, .. } = &mut kind {
                *sip_call_id = None;
            }
            world.write_down(entry(&Event { call_id: *call_id, sequence, time: world.now().wall, at_ms: 0, kind }));
        }
        let body =
            json!({"id": n.to_string(), "type": "call.started", "call_id": call_id, "their_id": n.to_string(), "time": world.now().wall});
        world.post(90, &body.to_string());
    }
    world.until(40 * SECOND + 500);
    assert_eq!(world.asks.len(), 2);
    assert!(world.asks[0].0 < 41 * SECOND, "so long before its time");
    let mut answered = 0;
    while let Some((_, request, _)) = world.asks.get(answered).cloned() {
        answered += 1;
        let now = world.now();
        world.pipeline.answer(now, request, answer(404, &Value::Null));
        world.until(world.ms + 500);
        assert!(world.asks.len() <= answered + 2, "no more under way at a time");
    }
    assert_eq!((world.asks.len(), world.results().len()), (12, 12), "each once");
    assert!(world.asks.windows(2).all(|two| two[1].0 - two[0].0 >= 200), "five a second at the most");
}

/// Whatever happens at whatever time, a store made anew is the same at every step, and in the end the record says what anybody told, or that nobody did.
#[test]
fn chance_answers_kills_and_delays_and_the_record_follows_from_the_journal_alone() {
    let (mut filled, mut missed) = (0, 0);
    for seed in 0..150 {
        let mut chance = Chance::from_seed(seed);
        let mut world = world().named();
        let mut open = 0;
        for step in 0..20 {
            match chance.below(8) {
                0 => {
                    world.pipeline = asking(pull());
                    open = world.asks.len();
                }
                1 if chance.below(4) == 0 => world.webhook(step, &format!("w{step}"), "SALE"),
                1 | 2 => world.disk_full = !world.disk_full && chance.below(2) == 0,
                _ => {
                    if let Some((_, request, _)) = world.asks.get(open).cloned() {
                        open += 1;
                        let now = world.now();
                        let said = match chance.below(8) {
                            0 => document("SALE"),
                            1 => answer(404, &Value::Null),
                            2 => answer(200, &json!({"status": "ongoing"})),
                            3 => Err(NoAnswer { maybe_sent: true, why: "silence".into() }),
                            _ => answer(503, &Value::Null),
                        };
                        world.pipeline.answer(now, request, said);
                    }
                }
            }
            world.until(world.ms + chance.below(20 * SECOND));
            if !world.disk_full {
                world.same_when_made_anew();
            }
        }
        world.disk_full = false;
        world.pipeline.journal_opened();
        world.pipeline = asking(pull());
        world.api = vec![answer(404, &Value::Null); 9].into();
        world.until(world.ms + 200 * SECOND);
        world.same_when_made_anew();
        let facts = world.facts();
        assert_eq!((&facts["complete"], world.store.next_wait()), (&json!(true), Ok(None)), "seed {seed}");
        assert_eq!(world.store.pull("platform", call()), Ok(None), "seed {seed}: nothing is to be asked any more");
        let told = world
            .journal
            .iter()
            .any(|(_, entry)| String::from_utf8_lossy(&entry.body).contains("SALE") && entry.kind == EntryKind::Webhook);
        assert_eq!((facts["disposition_code"] == "SALE", facts.contains_key("missing")), (told, !told), "seed {seed}");
        assert!(world.counts.iter().all(|count| *count != Count::Webhook("conflict")));
        *(if told { &mut filled } else { &mut missed }) += 1;
    }
    assert!(filled > 20 && missed > 20, "{filled} filled, {missed} missing");
}
