//! What must hold when everything has come to rest. Read from the journal's octets, the CRM's ledger and what the phones saw; nothing here is shared with the
//! code that is checked.

#![allow(clippy::indexing_slicing, reason = "a JSON value is null where it has no such field")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    life,
    script::{Manner, Script, UNHEARD_OF},
    world::World,
};
use crate::{
    chance::Chance,
    journal::{Entry, EntryKind, Position},
    pipeline::{Memory, Pipeline, Store, store::State, webhook::Received},
};

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub property: &'static str,
    /// When it was noticed, ms.
    pub at_ms: u64,
    /// What was found.
    pub detail: String,
}

struct Checks {
    failed: Vec<Failure>,
}

impl Checks {
    fn expect(&mut self, property: &'static str, holds: bool, detail: impl FnOnce() -> String) {
        if !holds {
            self.failed.push(Failure { property, at_ms: 0, detail: detail() });
        }
    }
}

/// A call as the journal has it.
#[derive(Default)]
struct Told {
    sequences: Vec<u64>,
    terminals: Vec<Value>,
    last_is_terminal: bool,
    digits: Vec<String>,
    answered: bool,
}

/// All properties.
pub(super) fn check(world: &World) -> Vec<Failure> {
    let mut checks = Checks { failed: Vec::new() };
    let (entries, _) = world.out.disk.read(Position::default());
    let entries: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();
    let calls = told(&entries);
    released(world, &mut checks);
    events(&calls, &mut checks);
    let dispositions = webhooks(world, &entries, &mut checks);
    records(world, &calls, &dispositions, &mut checks);
    fold(world, &entries, &mut checks);
    cards(world, &entries, &mut checks);
    acknowledged(world, &mut checks);
    if world.crashes == 0 && !world.out.disk_failed && world.out.is_clean() {
        scripts(world, &mut checks);
    }
    checks.failed
}

fn told(entries: &[Entry]) -> BTreeMap<String, Told> {
    let mut calls: BTreeMap<String, Told> = BTreeMap::new();
    for entry in entries.iter().filter(|e| e.kind == EntryKind::Event) {
        let Ok(event) = serde_json::from_slice::<Value>(&entry.body) else { continue };
        let call = calls.entry(event["subject"].as_str().unwrap_or_default().to_owned()).or_default();
        call.sequences.push(event["sequence"].as_u64().unwrap_or(0));
        let kind = event["type"].as_str().unwrap_or_default();
        call.last_is_terminal = matches!(kind, "call.ended" | "call.failed");
        match kind {
            "call.ended" | "call.failed" => call.terminals.push(event["data"].clone()),
            "call.answered" => call.answered = true,
            "call.dtmf" if event["data"]["leg"] == "caller" => call.digits.extend(event["data"]["digits"].as_str().map(str::to_owned)),
            _ => {}
        }
    }
    calls
}

fn released(world: &World, checks: &mut Checks) {
    let Some(life) = &world.life else { return };
    let stats = life.gateway.stats();
    let held = (stats.calls, stats.dialogs, stats.transactions, stats.ports, life.media.calls(), life.ports.len());
    checks.expect("every leg, port and timer is released", held == (0, 0, 0, 0, 0, 0), || format!("{held:?}"));
    for fault in &world.out.unreleased {
        checks.expect("every leg, port and timer is released", false, || fault.clone());
    }
}

fn events(calls: &BTreeMap<String, Told>, checks: &mut Checks) {
    for (id, call) in calls {
        checks.expect("one terminal event a call", call.terminals.len() == 1 && call.last_is_terminal, || {
            format!("{id}: {} terminal events, the last event is one: {}", call.terminals.len(), call.last_is_terminal)
        });
        let whole = call.sequences.iter().copied().eq(1..=u64::try_from(call.sequences.len()).unwrap_or(0));
        // What a closed journal did not take is written, in order, once it is open.
        checks.expect("sequence numbers without a gap", whole, || format!("{id}: {:?}", call.sequences));
    }
}

/// Each call's disposition as webhooks in the journal have it.
fn webhooks(world: &World, entries: &[Entry], checks: &mut Checks) -> BTreeMap<String, String> {
    let mut ids = BTreeSet::new();
    let mut dispositions = BTreeMap::new();
    for entry in entries.iter().filter(|e| e.kind == EntryKind::Webhook) {
        let Ok(body) = serde_json::from_slice::<Value>(Received::read(&entry.body).body) else { continue };
        ids.insert(body["id"].as_str().unwrap_or_default().to_owned());
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        dispositions.insert(text(&body["call_id"]), text(&body["data"]["disposition_code"]));
    }
    if let Some(life) = &world.life {
        // However often it comes, and in whichever life: once remembered, the next one is known.
        for id in &ids {
            let seen = life.store().seen(&format!("platform/{id}"));
            checks.expect("a webhook is remembered", matches!(seen, Ok(Some(_))), || format!("{id}: {seen:?}"));
        }
        let asides = life.store().asides(usize::MAX).unwrap_or_default();
        checks.expect("a webhook is remembered", asides.is_empty(), || format!("{asides:?}"));
    }
    for index in &world.acknowledged {
        checks.expect("nothing acknowledged is lost", ids.contains(&format!("w{index}")), || format!("webhook w{index} was answered 200"));
    }
    dispositions
}

/// The CRM holds what it must, once.
fn records(world: &World, calls: &BTreeMap<String, Told>, dispositions: &BTreeMap<String, String>, checks: &mut Checks) {
    let mut records: BTreeMap<String, Value> = BTreeMap::new();
    for line in world.out.ledger.iter().filter(|l| l["kind"] == "mutation" && l["object"] == "calls") {
        records.insert(line["id"].as_str().unwrap_or_default().to_owned(), line["after"].clone());
    }
    let mut by_call: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for record in records.values() {
        by_call.entry(record["offhook_call_id"].as_str().unwrap_or_default().to_owned()).or_default().push(record);
    }
    for id in by_call.keys() {
        checks.expect("the CRM holds what it must, once", calls.contains_key(id), || {
            format!("a record of {id}, which the journal does not know")
        });
    }
    for (id, call) in calls {
        let Some(terminal) = call.terminals.first() else { continue };
        let found = by_call.get(id).map_or(&[][..], Vec::as_slice);
        if dispositions.get(id).is_some_and(|word| word == UNHEARD_OF) {
            refused(world, id, found, checks);
            continue;
        }
        let [record] = found else {
            checks.expect("the CRM holds what it must, once", false, || format!("{id}: {} records", found.len()));
            continue;
        };
        let failed = terminal["ended_as"] == "failed";
        let missing = if failed { "FAILED — NO DISPOSITION" } else { "NO_DISPOSITION" };
        let disposition = dispositions.get(id).map(String::as_str).or_else(|| (call.answered || failed).then_some(missing));
        let digits = call.digits.join(" ");
        let review = disposition.is_some_and(|word| word == missing).to_string();
        let wanted = [
            ("offhook_needs_review", Some(review.as_str())),
            ("offhook_outcome", terminal["outcome"].as_str()),
            ("offhook_ended_as", terminal["ended_as"].as_str()),
            ("offhook_disposition", disposition),
            ("offhook_digits", (!digits.is_empty()).then_some(digits.as_str())),
        ];
        for (field, wanted) in wanted {
            checks.expect("the CRM holds what it must, once", record[field].as_str() == wanted, || {
                format!("{id}: {field} is {}, wanted {wanted:?}", record[field])
            });
        }
    }
    // What the store has is what the journal makes of an empty one, but for waits.
    if let Some(life) = &world.life {
        let counts = life.store().counts().unwrap_or_default();
        let left = counts.queued + counts.retrying + counts.in_flight + counts.dead;
        let refused = calls.keys().filter(|id| dispositions.get(*id).is_some_and(|word| word == UNHEARD_OF)).count();
        checks
            .expect("every write has come to its end", left == 0 && counts.review == refused, || format!("{counts:?}, {refused} refused"));
        let known: BTreeSet<String> =
            Memory::recent(life.store(), usize::MAX).unwrap_or_default().iter().map(|r| r.call_id.to_string()).collect();
        checks.expect("the fold knows every call", known == calls.keys().cloned().collect(), || {
            format!("{} of {}", known.len(), calls.len())
        });
    }
}

/// A record that the CRM's validation refuses waits for a person, with the CRM's reason; what was there before stays as it was.
fn refused(world: &World, id: &str, found: &[&Value], checks: &mut Checks) {
    let name = "what validation refuses goes to review";
    checks.expect(name, found.len() <= 1, || format!("{id}: {} records", found.len()));
    checks.expect(name, found.iter().all(|r| r["offhook_disposition"] != UNHEARD_OF), || format!("{id}: written all the same"));
    let write = world.life.as_ref().zip(id.parse().ok()).and_then(|(life, call)| life.store().write("crm", call).ok()?);
    let waits =
        write.as_ref().is_some_and(|w| w.state == State::Review && w.why.as_ref().is_some_and(|why| why.contains("offhook_disposition")));
    checks.expect(name, waits, || format!("{id}: {:?}", write.map(|w| (w.state, w.why))));
}

/// The journal's fold is independent of the order and the number of times in which events and webhooks come.
fn fold(world: &World, entries: &[Entry], checks: &mut Checks) {
    let Some(life) = &world.life else { return };
    let mut mixed: Vec<Entry> = entries.iter().filter(|e| matches!(e.kind, EntryKind::Event | EntryKind::Webhook)).cloned().collect();
    let mut chance = Chance::from_seed(world.out.trace());
    let twice: Vec<Entry> = mixed.iter().filter(|_| chance.percent(30)).cloned().collect();
    mixed.extend(twice);
    for last in (1..mixed.len()).rev() {
        let other = usize::try_from(chance.below(last as u64 + 1)).unwrap_or(0);
        mixed.swap(last, other);
    }
    let place = |n: usize| Position { segment: 1, offset: n as u64 };
    let placed: Vec<(Position, Entry)> = mixed.into_iter().enumerate().map(|(n, entry)| (place(n), entry)).collect();
    let (mut pipeline, mut store) = (Pipeline::new(life::pipeline_config(), chance.split()), Memory::default());
    for batch in placed.chunks(7) {
        let next = batch.last().map(|(at, _)| Position { offset: at.offset + 1, ..*at }).unwrap_or_default();
        let folded = pipeline.fold(&mut store, batch, next);
        checks.expect("the fold does not depend on order and repetition", folded.is_ok(), || format!("{folded:?}"));
    }
    // Waits for an outcome end by the clock, not by the journal.
    let _ = pipeline.turn(world.out.now(), &mut store, true);
    let records = |store: &Memory| store.recent(usize::MAX).unwrap_or_default();
    for (wanted, found) in records(life.store()).iter().zip(records(&store).iter()) {
        checks.expect("the fold does not depend on order and repetition", wanted.says_as(found), || {
            format!("{}: {:?} became {:?}", wanted.call_id, wanted.fields(), found.fields())
        });
    }
    let (wanted, found) = (records(life.store()).len(), records(&store).len());
    checks.expect("the fold does not depend on order and repetition", wanted == found, || format!("{wanted} records became {found}"));
}

/// No run of more than four of a card's digits, in anything written, nor in what a platform was sent.
fn cards(world: &World, entries: &[Entry], checks: &mut Checks) {
    let runs = |card: &str, length: usize| -> Vec<String> {
        (0..card.len().saturating_sub(length - 1)).filter_map(|at| card.get(at..at + length).map(str::to_owned)).collect()
    };
    for card in world.scripts.iter().filter_map(|s| s.card.as_deref()) {
        // Longer runs in text, which is full of other numbers.
        let long = runs(card, 8);
        let written =
            entries.iter().map(|e| String::from_utf8_lossy(&e.body).into_owned()).chain(world.out.ledger.iter().map(Value::to_string));
        for text in written {
            checks.expect("no card digit leaves a secure phase", !long.iter().any(|run| text.contains(run)), || {
                "in something written".into()
            });
        }
        let short = runs(card, 5);
        for (which, call) in world.platforms.iter().flat_map(|p| &p.calls) {
            checks.expect("no card digit leaves a secure phase", !short.iter().any(|run| call.heard.digits.contains(run)), || {
                format!("the platform of call {which} was sent {}", call.heard.digits)
            });
        }
    }
}

/// However often datagrams are lost, an answer is repeated until its ACK has come (RFC 3261 §13.3.1.4), as long as there is somebody to send one
/// and, over a stream, something to send it on.
fn acknowledged(world: &World, checks: &mut Checks) {
    let missing: u64 = world.platforms.iter().map(|p| p.unacknowledged).sum();
    checks.expect("every answer is acknowledged", missing == 0 || world.crashes > 0 || world.out.resets > 0, || {
        format!("{missing} answers were repeated for 32 s in vain")
    });
}

/// In a world where nothing goes wrong, what the scripts say.
fn scripts(world: &World, checks: &mut Checks) {
    for (index, script) in world.scripts.iter().enumerate() {
        let Some(caller) = world.callers.get(index).filter(|c| c.status.is_some()) else { continue };
        let Some(wanted) = wanted(script) else { continue };
        checks.expect("a call ends as its script says", caller.status == Some(wanted), || {
            format!("call {index}: {:?}, wanted {wanted}: {script:?}", caller.status)
        });
        if wanted != 200 {
            continue;
        }
        let Some(taken) = world.platforms.iter().filter_map(|p| p.calls.get(&index)).find(|c| c.up) else { continue };
        checks.expect("whoever took the call hears the caller", taken.heard.sound > 10, || {
            format!("call {index}: {} packets", taken.heard.sound)
        });
        let last = world.platforms.iter().filter_map(|p| p.calls.get(&index)).rfind(|c| c.up);
        checks.expect("whoever took the call hears the caller", last.is_none_or(|c| c.heard.sound > 10), || {
            format!("call {index}: the second platform heard nothing")
        });
        let dies = [script.first, script.second].iter().any(|m| matches!(m, Manner::Dies(_)));
        if !dies {
            checks.expect("a call ends as its script says", !caller.cut_off, || format!("call {index} was ended by a fault"));
            let digits = script.reference.trim_end_matches('#');
            let heard = taken.heard.digits.trim_end_matches('#');
            checks.expect("keys reach the platform", heard == digits, || format!("call {index}: {heard}, wanted {digits}"));
        }
    }
}

/// The final status that the caller must see; `None` where it hangs on milliseconds.
fn wanted(script: &Script) -> Option<u16> {
    let targets: &[Manner] = if script.number == "0" { &[script.first, script.second] } else { &[script.second] };
    let mut elapsed = 0;
    let mut status = 503;
    for manner in targets {
        let (takes, gives) = match manner {
            Manner::Answers(after) => (*after, Some(200)),
            Manner::Dies(_) => (300, Some(200)),
            Manner::Refuses(486) => (0, Some(486)),
            Manner::Refuses(other) => {
                status = *other;
                (0, None)
            }
            Manner::Rings => {
                status = 480;
                (6000, None)
            }
        };
        elapsed += takes;
        if elapsed.abs_diff(script.patience_ms) < 500 {
            return None;
        }
        if elapsed > script.patience_ms {
            return Some(487);
        }
        if let Some(gives) = gives {
            return Some(gives);
        }
    }
    Some(status)
}
