//! The write-back pipeline's own pace, without a network: events into the store, and writes out of it. Run by hand:
//! `cargo bench --bench writeback -- [CALLS]` (default 20,000; a million rows need about ten minutes and 3 GB of disk).
//!
//! A call is the five events and three webhooks that a call with keys has. The CRM answers at once; the journal is a list in memory.

#![allow(missing_docs)]
#![allow(clippy::expect_used, clippy::indexing_slicing)] // a figure that cannot be had is none

use std::{
    collections::BTreeMap,
    time::{Duration, Instant as Clock},
};

use offhook::{
    chance::Chance,
    crm::{Change, Connector, HttpAnswer, HttpRequest, OAuth, Token, Verdict, mapping::Mapping},
    event::{CallId, DtmfMethod, EndedAs, EndedBy, Event, Kind, Leg, Outcome, PerSide, SipCallIds, Terminal},
    journal::{Entry, EntryKind, Position},
    pipeline::{Config, Crm, Expect, Key, NoAnswer, Output, Pace, Pipeline, Source, Store, webhook::Marks},
    shell::store::Sqlite,
    time::{Instant, Now, Wall},
};
use serde_json::json;
use uuid::Uuid;

/// A CRM that takes a hundred records a request.
struct Taker;

impl Connector for Taker {
    fn batch_max(&self) -> usize {
        100
    }

    fn upsert(&self, changes: &[Change], _: &Token) -> HttpRequest {
        let body = serde_json::to_vec(&changes.iter().map(|c| &c.fields).collect::<Vec<_>>()).expect("JSON");
        HttpRequest { method: "POST", url: String::new(), headers: Vec::new(), body }
    }

    fn verdicts(&self, changes: &[Change], _: &HttpAnswer) -> Vec<Verdict> {
        vec![Verdict::Done { id: Some("1".into()) }; changes.len()]
    }

    fn oauth(&self) -> Option<&dyn OAuth> {
        None
    }
}

fn at(ms: u64) -> Now {
    Now { mono: Instant::from_millis(ms), wall: Wall::from_millis(1_767_607_200_000 + i64::try_from(ms).expect("fits")) }
}

/// The entries of one call.
fn entries(n: u64) -> Vec<Entry> {
    let start = 1_767_607_200_000_u128 + u128::from(n);
    let call_id = CallId(Uuid::from_u128((start << 80) | 0x7000_8000_0000_0000_0000 | u128::from(n)));
    let side = || PerSide { trunk: "PCMU".to_owned(), platform: "PCMU".to_owned() };
    let terminal = Terminal {
        outcome: Outcome::Answered,
        outcome_table: None,
        ended_as: EndedAs::Completed,
        ended_by: EndedBy::Caller,
        reason: None,
        sip_status: Some(200),
        ring_ms: Some(900),
        talk_ms: 61_000,
        secure_ms: 0,
        omitted: 0,
    };
    let kinds = [
        Kind::Started {
            from: format!("+4930{n:08}"),
            to: "+493023125200".into(),
            trunk: "carrier".into(),
            route: "carrier *".into(),
            sip_call_ids: SipCallIds { caller: format!("{n}@carrier"), callee: None },
        },
        Kind::Answered {
            target: "platform".into(),
            codec: side(),
            dtmf: PerSide::default(),
            ring_ms: 900,
            sip_call_id: Some(format!("{n}@offhook")),
        },
        Kind::Dtmf {
            leg: Leg::Caller,
            digits: Some("2047815#".into()),
            count: None,
            method: DtmfMethod::Rfc4733,
            from_ms: 5000,
            to_ms: 7000,
        },
        Kind::Silence { leg: Leg::Caller, kind: "silence".into(), from_ms: 9000, to_ms: 15_000 },
        Kind::Ended(terminal),
    ];
    let event = |(sequence, kind)| Event { call_id, sequence, time: at(n).wall, at_ms: 1000, kind };
    let mut all: Vec<Entry> = (1..)
        .zip(kinds)
        .map(event)
        .map(|event| {
            let body = event.to_cloudevent().to_string().into_bytes();
            Entry { kind: EntryKind::Event, time: event.time, id: event.id(), key: call_id.to_string(), body }
        })
        .collect();
    for (kind, data) in [
        ("call.ended", json!({"disposition_code": "RESOLVED", "intent": "move appointment"})),
        ("transcription.complete", json!({"call_summary": "Appointment moved to Thursday, ten o'clock. ".repeat(20)})),
        ("sentiment.scored", json!({"sentiment_score": 0.8})),
    ] {
        let body = json!({"id": format!("{kind}-{n}"), "type": kind, "call_id": call_id, "time": at(n).wall, "data": data});
        all.push(Entry {
            kind: EntryKind::Webhook,
            time: at(n).wall,
            id: "platform".into(),
            key: String::new(),
            body: body.to_string().into_bytes(),
        });
    }
    all
}

fn pipeline() -> Pipeline {
    let mapping: Mapping = toml::from_str(include_str!("../examples/mapping.toml")).expect("the shipped mapping");
    let crm = Crm {
        name: "crm".into(),
        connector: Box::new(Taker),
        mapping: Box::new(move |record| mapping.apply(record)),
        contacts: None,
        writes: Vec::new(),
        reads: Default::default(),
        refresh_token: String::new().into(),
        pace: Pace::default(),
        schedule: Default::default(),
        activation: None,
    };
    let sources = BTreeMap::from([("platform".to_owned(), Source::standard(Key::parse("raw:bench").expect("a key")))]);
    let marks = Marks::new(vec![b"marks".to_vec().into()]);
    let config = Config {
        crms: vec![crm],
        sources,
        marks,
        expects: vec![Expect::disposition(Duration::from_secs(60))],
        keep: None,
        attempts_max: 50,
    };
    Pipeline::new(config, Chance::from_seed(1))
}

/// Calls whose entries are made at once.
const MADE_AT_ONCE: usize = 1000;
/// Entries folded in one transaction, as the gateway does.
const BATCH: usize = 256;

fn fold(pipeline: &mut Pipeline, store: &mut Sqlite, next: &mut u64, entries: Vec<Entry>) {
    for part in entries.chunks(BATCH) {
        let placed: Vec<_> = part.iter().cloned().zip(*next..).map(|(entry, offset)| (Position { segment: 1, offset }, entry)).collect();
        *next += u64::try_from(part.len()).expect("fits");
        pipeline.fold(store, &placed, Position { segment: 1, offset: *next }).expect("folded");
    }
}

fn main() {
    let calls = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(20_000_u64);
    let folder = std::env::temp_dir().join(format!("offhook-writeback-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut store = Sqlite::open(&folder.join("store.sqlite")).expect("a store");
    let (mut pipeline, mut next) = (pipeline(), 0);

    println!("fold into SQLite, 8 entries a call, one core");
    let step = (calls / 10).max(1);
    for from in (0..calls).step_by(usize::try_from(step).expect("fits")) {
        let (mut count, mut took) = (0, std::time::Duration::ZERO);
        let to = calls.min(from + step);
        // Some at a time, so that the memory measured is the pipeline's and not this loop's.
        for part in (from..to).step_by(MADE_AT_ONCE) {
            let all: Vec<Entry> = (part..to.min(part + MADE_AT_ONCE as u64)).flat_map(entries).collect();
            count += all.len();
            let began = Clock::now();
            fold(&mut pipeline, &mut store, &mut next, all);
            took += began.elapsed();
        }
        println!("{:>9} calls there: {:>8.0} entries/s", from, count as f64 / took.as_secs_f64());
    }
    println!("memory at most {} MB with {} writes queued", peak_mb(), store.counts().expect("counts").queued);

    println!("out to a CRM that answers at once, up to 100 records a request");
    let (mut ms, mut requests, began) = (1_000_000_u64, 0_u64, Clock::now());
    loop {
        pipeline.turn(at(ms), &mut store, true).expect("turned");
        let (mut appended, mut idle) = (Vec::new(), true);
        while let Some(output) = pipeline.poll_output() {
            idle = false;
            match output {
                Output::Append { append, entry } => {
                    appended.push(entry);
                    pipeline.synced(at(ms), append, Ok(()));
                }
                Output::Send { request, .. } => {
                    requests += 1;
                    let answer: Result<_, NoAnswer> = Ok(HttpAnswer { status: 200, headers: Vec::new(), body: Vec::new() });
                    pipeline.answer(at(ms), request, answer);
                }
                _ => {}
            }
        }
        fold(&mut pipeline, &mut store, &mut next, appended);
        if idle {
            break;
        }
        ms += 1;
    }
    let counts = store.counts().expect("counts");
    println!("{:.0} calls/s in {requests} requests; left {counts:?}", calls as f64 / began.elapsed().as_secs_f64());
    println!("memory at most {} MB", peak_mb());
    let _ = std::fs::remove_dir_all(&folder);
}

/// The process's peak of resident memory, MB.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}
