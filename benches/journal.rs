//! The way of an event to disk, and from there into the outbox.
//! `cargo bench --bench journal`; the bare loop beside the journal's runs on the same disk in the same run: compare the ratio.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{collections::BTreeMap, fs::File, io::Write as _, path::PathBuf, sync::mpsc::channel, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use offhook::{
    chance::Chance,
    crm::{hubspot::HubSpot, mapping::Mapping},
    event::{CallId, EndedAs, EndedBy, Event, Kind, Outcome, SipCallIds, Terminal},
    journal::{Entry, EntryKind, Position},
    pipeline::{Config, Crm, Expect, Memory, Pipeline, webhook::Marks},
    shell::disk::{Journal, Options},
    time::Wall,
};

fn main() {
    divan::main();
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("offhook-bench-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// An event of 1.5 kB.
fn entry(number: u64) -> Entry {
    Entry {
        kind: EntryKind::Event,
        time: Wall::from_millis(1_767_607_200_000),
        id: format!("call/{number}"),
        key: "0197b0a0-7d4c-7000-8000-000000000001".into(),
        body: vec![b'x'; 1500],
    }
}

/// So many entries at once, until the last is durable.
#[divan::bench(args = [1, 16, 256], max_time = 5)]
fn append(bencher: Bencher<'_, '_>, batch: u64) {
    let directory = folder(&format!("journal-{batch}"));
    let options = Options { directory: directory.clone(), from: Position::default(), start_after_damage: true, notify: Box::new(|_| {}) };
    let (journal, _) = Journal::open(options).expect("a journal");
    let lane = journal.lane(1024);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        let (done, synced) = channel();
        for number in 0..batch {
            let done = done.clone();
            lane.append(entry(number), move |result| done.send(result.is_ok()).expect("somebody waits")).expect("room");
        }
        assert!((0..batch).all(|_| synced.recv().expect("synced")));
    });
    drop(lane);
    journal.close();
    let _ = std::fs::remove_dir_all(directory);
}

/// The same octets by a loop of write and fdatasync that knows nothing.
#[divan::bench(args = [1, 16, 256], max_time = 5)]
fn bare_write_and_fdatasync(bencher: Bencher<'_, '_>, batch: u64) {
    let directory = folder(&format!("bare-{batch}"));
    let mut file = File::create(directory.join("log")).expect("a file");
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        let octets: Vec<u8> = (0..batch).flat_map(|number| entry(number).body).collect();
        file.write_all(&octets).expect("written");
        file.sync_data().expect("synced");
    });
    let _ = std::fs::remove_dir_all(directory);
}

/// A call's two events, folded into its record, mapped, and a write made due.
#[divan::bench]
fn event_to_outbox(bencher: Bencher<'_, '_>) {
    let mapping: Mapping = toml::from_str(include_str!("../examples/mapping.toml")).expect("the shipped mapping");
    let connector = HubSpot {
        base_url: "http://crm".into(),
        token_url: "http://crm/oauth/v1/token".into(),
        client_id: "x".into(),
        client_secret: String::new().into(),
        version: offhook::crm::hubspot::VERSION.into(),
        object: mapping.object.clone(),
        key: mapping.key.clone(),
    };
    let crm = Crm {
        contacts: None,
        name: "hubspot".into(),
        connector: Box::new(connector),
        mapping: Box::new(move |record| mapping.apply(record)),
        refresh_token: String::new().into(),
        writes: Vec::new(),
        reads: Default::default(),
        pace: offhook::pipeline::Pace::default(),
        schedule: Default::default(),
        activation: None,
    };
    let config = Config {
        crms: vec![crm],
        sources: BTreeMap::new(),
        marks: Marks::new(Vec::new()),
        expects: vec![Expect::disposition(Duration::from_secs(60))],
        attempts_max: 50,
        keep: None,
    };
    let mut pipeline = Pipeline::new(config, Chance::from_seed(1));
    let mut store = Memory::default();
    let mut chance = Chance::from_seed(2);
    let mut offset = 0;
    bencher.counter(ItemsCount::new(2_u32)).bench_local(|| {
        let at = Wall::from_millis(1_767_607_200_000);
        let call_id = CallId(chance.uuid_v7(at));
        let events = [
            Kind::Started {
                from: "+493023125101".into(),
                to: "+493023125201".into(),
                trunk: "carrier".into(),
                route: "hotline".into(),
                sip_call_ids: SipCallIds { caller: "x@y".into(), callee: None },
            },
            Kind::Ended(Terminal {
                outcome: Outcome::Answered,
                outcome_table: None,
                ended_as: EndedAs::Completed,
                ended_by: EndedBy::Caller,
                reason: None,
                sip_status: Some(200),
                ring_ms: Some(400),
                talk_ms: 12_000,
                secure_ms: 0,
                omitted: 0,
            }),
        ];
        let entries: Vec<_> = events
            .into_iter()
            .zip(1..)
            .map(|(kind, sequence)| {
                let event = Event { call_id, sequence, time: at, at_ms: 0, kind };
                offset += 100;
                let position = Position { segment: 1, offset };
                let body = event.to_cloudevent().to_string().into_bytes();
                (position, Entry { kind: EntryKind::Event, time: at, id: event.id(), key: call_id.to_string(), body })
            })
            .collect();
        pipeline.fold(&mut store, &entries, Position { segment: 1, offset: offset + 100 }).expect("folded");
        while pipeline.poll_output().is_some() {}
    });
}
