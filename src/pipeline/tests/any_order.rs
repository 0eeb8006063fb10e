//! Events and webhooks in any order, any of them left out or repeated, folded in batches of any size, make the same record.

use proptest::{prelude::*, sample::subsequence};

use super::*;

/// A webhook that names its call by some of its three names, ours first.
#[derive(Clone, Debug)]
struct Told {
    names: [bool; 3],
    id: bool,
    at: i64,
    field: &'static str,
    value: u8,
}

fn told() -> impl Strategy<Value = Told> {
    let names = any::<[bool; 3]>().prop_filter("it names its call", |names| names.contains(&true));
    let field = prop::sample::select(vec!["disposition_code", "intent", "call_summary"]);
    (names, any::<bool>(), 0_i64..5, field, 0_u8..5).prop_map(|(names, id, at, field, value)| Told { names, id, at, field, value })
}

/// The entry of the `nth` webhook; what the journal held before headers were kept is its body alone.
fn webhook(nth: usize, told: &Told) -> Entry {
    let all = [call().to_string(), "p-1".to_owned(), "q-1".to_owned()];
    let name = |at: usize| told.names[at].then(|| all[at].clone());
    let id = told.id.then(|| format!("w{nth}"));
    let time = Wall::from_millis(1_767_607_200_000 + told.at);
    let body = json!({"id": id, "type": "call.ended", "time": time, "a": name(0), "b": name(1), "c": name(2), "data": {told.field: told.value.to_string()}});
    let body = body.to_string().into_bytes();
    Entry { kind: EntryKind::Webhook, time, id: "platform".into(), key: String::new(), body }
}

fn folded(entries: &[Entry], batch: usize) -> Memory {
    let mut pipeline = pipeline();
    pipeline.config.sources.get_mut("platform").expect("a source").schema.call = ["/a", "/b", "/c"].map(str::to_owned).to_vec();
    let place = |n: usize| Position { segment: 1, offset: n as u64 };
    let placed: Vec<_> = entries.iter().cloned().enumerate().map(|(n, entry)| (place(n), entry)).collect();
    let mut store = Memory::default();
    for (n, batch) in placed.chunks(batch).enumerate() {
        pipeline.fold(&mut store, batch, place(n)).expect("folded");
    }
    store
}

proptest! {
    #[test]
    fn the_record_is_the_same(
        (which, shuffled, batches) in prop::collection::vec(told(), 1..7).prop_flat_map(|told| {
            let entries: Vec<_> = told.iter().enumerate().map(|(nth, told)| webhook(nth, told)).collect();
            let count = entries.len();
            subsequence(entries, 0..=count).prop_flat_map(|which| {
                let events = (1..).zip(life()).map(|(sequence, kind)| {
                    let time = Wall::from_millis(1_767_607_200_000 + i64::from(sequence));
                    entry(&Event { call_id: call(), sequence, time, at_ms: 0, kind })
                });
                let all: Vec<_> = events.chain(which).collect();
                let twice = subsequence(all.clone(), 0..=all.len());
                (Just(all.clone()), twice).prop_flat_map(|(all, twice)| {
                    let mixed = Just([all.clone(), twice].concat()).prop_shuffle();
                    (Just(all), mixed, 1_usize..9)
                })
            })
        })
    ) {
        let (plain, mixed) = (folded(&which, 1), folded(&shuffled, batches));
        let record = |store: &Memory| store.record(call()).expect("stored").unwrap_or_else(|| Record::new(call()));
        prop_assert!(record(&mixed).says_as(&record(&plain)), "{:?} is not {:?}", record(&mixed), record(&plain));
    }
}
