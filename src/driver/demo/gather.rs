//! After the calls: asks gateway, CRM and files what they hold, and puts it beside what the scenarios expect.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::{
    Done,
    card::{self, Card},
    check::{self, Findings, codec_name},
    draw::Samples,
    hubspot::Record,
    phone::{Phone, digits_heard},
    record::{self, Wave},
    report::{CallReport, Check, Crm, Masked, Recording, Report},
    shown, steps,
    world::World,
};
use crate::{
    event::{DtmfMethod, PerSide},
    recording::{self, Manifest, wav},
};

/// How long the pipeline may take for what is left to do once the last call is over.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(200);

/// The gauges that must be back at zero, since nothing is left to do.
const AT_REST: [&str; 7] = [
    "offhook_calls_active",
    "offhook_dialogs_active",
    "offhook_transactions_active",
    "offhook_rtp_ports_in_use",
    "offhook_outbox_depth",
    "offhook_dead_letters",
    "offhook_review_depth",
];

/// What is known of one call from outside.
struct Known {
    call_id: Option<String>,
    codec: PerSide<Option<String>>,
    dtmf: PerSide<Option<DtmfMethod>>,
    record: Value,
    crm: Vec<Record>,
    recording: Option<(Recording, Wave)>,
}

/// The report, without the search for the card, and each recording's samples.
pub(crate) async fn gather(world: &World, done: &[Done]) -> (Report, Vec<Samples>) {
    let mut calls = Vec::new();
    let mut samples = Vec::new();
    for one in done {
        let (known, checks) = settle(world, one).await;
        let findings = events_of(&known.record);
        samples.push(known.recording.as_ref().map(|(_, wave)| wave.samples.clone()).unwrap_or_default());
        let others: Vec<(&str, Option<&Phone>)> = one
            .cast
            .targets
            .iter()
            .map(|target| (target.name.as_str(), one.cast.agents.iter().find(|a| a.name() == target.name)))
            .chain(one.cast.human.as_ref().map(|human| (human.name(), Some(human))))
            .collect();
        let (participants, ladder) = steps::ladder(&one.cast.caller, &others, &[]);
        calls.push(CallReport {
            scenario: one.cast.scenario.name().into(),
            story: one.cast.scenario.story().into(),
            ok: checks.iter().all(|c| c.ok),
            crm: known.crm.first().map(|record| Crm {
                target: "hubspot".into(),
                object: "calls".into(),
                id: record.id.clone(),
                // Somebody else's server has no ledger for us: then the gateway's own count.
                writes: if world.ledger().is_some() { writes(world.ledger(), &record.id) } else { revisions(&known.record) },
                fields: record.fields.clone(),
            }),
            call_id: known.call_id,
            codec: known.codec,
            dtmf: known.dtmf,
            participants,
            ladder,
            events: findings,
            recording: known.recording.map(|(recording, _)| recording),
            checks,
        });
    }
    let mut checks = vec![one_record_a_call(world, &calls).await];
    checks.extend(ledger_check(world, &calls));
    checks.push(at_rest(world).await);
    let report = Report {
        ok: false,
        seconds: 0.0,
        data: shown(world.folder()),
        journal: shown(&world.folder().join("data/journal")),
        logs: vec![shown(&world.log())],
        ledger: world.ledger().map(shown),
        http: world.http().into(),
        checks,
        calls,
    };
    (report, samples)
}

/// Looks until everything holds, or for as long as the pipeline may take.
async fn settle(world: &World, done: &Done) -> (Known, Vec<Check>) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let known = look(world, done).await;
        let events = events_of(&known.record);
        let checks = match &done.played {
            Err(why) => vec![Check::new("the call was played to its end", false, why.to_string())],
            Ok(played) => check::call(
                played,
                &Findings {
                    from: &done.cast.from,
                    to: &done.cast.number,
                    call_id: known.call_id.as_deref(),
                    codec: &known.codec,
                    dtmf: &known.dtmf,
                    events: &events,
                    records: &known.crm,
                    recording: known.recording.as_ref().map(|(r, w)| (r, w)),
                },
            ),
        };
        if checks.iter().all(|c| c.ok) || done.played.is_err() || tokio::time::Instant::now() > until {
            return (known, checks);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(world: &World, done: &Done) -> Known {
    let cast = &done.cast;
    let agent = cast.agents.first();
    let header = agent.and_then(|a| a.state().invited).unwrap_or_default();
    let call_id = header.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("X-Offhook-Call")).map(|(_, value)| value);
    let agreed = |phone: Option<&Phone>| phone.and_then(|p| p.state().agreed);
    let method = |phone: Option<&Phone>| {
        // Without telephone-event on a leg, digits travel by INFO.
        agreed(phone).map(|a| if a.events.is_some() { DtmfMethod::Rfc4733 } else { DtmfMethod::Info })
    };
    let codec = |phone: Option<&Phone>| agreed(phone).map(|a| codec_name(a.codec).to_owned());
    let record = match &call_id {
        Some(id) => world.call(id).await.unwrap_or(Value::Null),
        None => Value::Null,
    };
    let crm = match &call_id {
        Some(id) => world.crm_records(id).await,
        None => Vec::new(),
    };
    let recording = call_id.as_deref().and_then(|id| recording_of(world.folder(), id));
    Known {
        codec: PerSide { trunk: codec(Some(&cast.caller)), platform: codec(agent) },
        dtmf: PerSide { trunk: method(Some(&cast.caller)), platform: method(agent) },
        call_id,
        record,
        crm,
        recording,
    }
}

fn events_of(record: &Value) -> Vec<Value> {
    record.get("events").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// The recording of a call: the WAV that bears its id, and the sidecar beside it.
fn recording_of(folder: &Path, call_id: &str) -> Option<(Recording, Wave)> {
    let file = card::files(folder).ok()?.into_iter().find(|f| f.extension().is_some_and(|e| e == "wav") && shown(f).contains(call_id))?;
    let manifest = file.with_extension("json");
    let sidecar: Value = serde_json::from_slice(&std::fs::read(&manifest).ok()?).ok()?;
    let wave = record::read_wave(&file).ok()?;
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_i64);
    let masked = sidecar
        .get("masked")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|span| {
            let reason = span.get("reason").and_then(Value::as_str).unwrap_or("no reason given").to_owned();
            Some(Masked { from_ms: number(span, "from_ms")?, to_ms: number(span, "to_ms")?, reason })
        })
        .collect();
    let recording = Recording {
        file: shown(&file),
        manifest: shown(&manifest),
        image: picture(&file),
        starts_at_ms: number(&sidecar, "starts_at_ms").unwrap_or(0),
        sample_rate: wave.sample_rate,
        masked,
    };
    Some((recording, wave))
}

/// Draws a recording beside it.
fn picture(file: &Path) -> Option<String> {
    let wave = wav::Wave::parse(&std::fs::read(file).ok()?).ok()?;
    let manifest = Manifest::from_json(&std::fs::read(file.with_extension("json")).ok()?).ok()?;
    let png = crate::shell::picture::png(&recording::picture::svg(&wave, &manifest)).ok()?;
    let image = file.with_extension("png");
    std::fs::write(&image, png).ok()?;
    Some(shown(&image))
}

/// The ledger's mutations: each a change of one record.
fn mutations(ledger: Option<&Path>) -> Vec<Value> {
    let text = ledger.and_then(|l| std::fs::read_to_string(l).ok()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| {
            line.get("kind").and_then(Value::as_str) == Some("mutation") && line.get("object").and_then(Value::as_str) == Some("calls")
        })
        .collect()
}

fn writes(ledger: Option<&Path>, id: &str) -> u64 {
    let count = mutations(ledger).iter().filter(|line| line.get("id").and_then(Value::as_str) == Some(id)).count();
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Revisions of a call's records that the gateway says were written.
fn revisions(record: &Value) -> u64 {
    let writes = record.get("writes").and_then(Value::as_array).into_iter().flatten();
    writes.filter_map(|write| write.get("revision").and_then(Value::as_u64)).sum()
}

async fn one_record_a_call(world: &World, calls: &[CallReport]) -> Check {
    let mut ids = BTreeSet::new();
    let mut records = 0;
    for call_id in calls.iter().filter_map(|c| c.call_id.as_deref()) {
        for record in world.crm_records(call_id).await {
            records += 1;
            ids.insert(record.id);
        }
    }
    let ok = records == calls.len() && ids.len() == calls.len();
    Check::new("exactly one CRM record a call", ok, format!("{} calls, {records} records, {} different ids", calls.len(), ids.len()))
}

/// Whether the ledger's last word on each record is what stands in the CRM, and nothing else was ever created.
fn ledger_check(world: &World, calls: &[CallReport]) -> Option<Check> {
    let mutations = mutations(Some(world.ledger()?));
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    for line in &mutations {
        let id = line.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        last.insert(id, line.get("after").cloned().unwrap_or(Value::Null));
    }
    let known: BTreeSet<_> = calls.iter().filter_map(|c| c.crm.as_ref().map(|crm| crm.id.clone())).collect();
    let strangers: Vec<_> = last.keys().filter(|id| !known.contains(*id)).cloned().collect();
    let differing: Vec<_> = calls
        .iter()
        .filter_map(|c| c.crm.as_ref())
        .filter(|crm| {
            let after = last.get(&crm.id).map(|a| a.get("properties").unwrap_or(a).clone()).unwrap_or_default();
            crm.fields.iter().any(|(name, value)| after.get(name).is_some_and(|a| a != value))
        })
        .map(|crm| crm.id.clone())
        .collect();
    let ok = strangers.is_empty() && differing.is_empty() && last.len() == calls.len();
    let detail = if ok {
        format!("{} writes to {} records", mutations.len(), last.len())
    } else {
        format!("{} records; nobody's: {strangers:?}; differing: {differing:?}", last.len())
    };
    Some(Check::new("the CRM's own ledger says the same", ok, detail))
}

/// Whether nothing is left: no call, dialog, transaction or port, no write and no letter. Transactions over UDP linger by rule (RFC 3261 §17.2.2), and so
/// may be there for a while yet; what counts is that they go.
async fn at_rest(world: &World) -> Check {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let metrics = world.metrics().await;
        let left: Vec<_> = AT_REST
            .iter()
            .map(|name| (name.trim_start_matches("offhook_"), metrics.get(*name).copied()))
            .filter(|(_, value)| *value != Some(0.0))
            .map(|(name, value)| format!("{name} {}", value.map_or_else(|| "is missing".into(), |v| v.to_string())))
            .collect();
        if left.is_empty() || tokio::time::Instant::now() > until {
            let detail =
                if left.is_empty() { "calls, dialogs, transactions, ports, outbox, dead letters, review".into() } else { left.join(", ") };
            return Check::new("metrics are back at zero", left.is_empty(), detail);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether anything of the card number was left anywhere.
pub(crate) fn card_check(card: Option<&Card>, folder: &Path, done: &[Done]) -> Check {
    const NAME: &str = "no card digits in anything written, nor in what a platform received";
    let Some(card) = card else { return Check::new(NAME, false, "no card number was keyed") };
    let searched = match card::search_files(card, folder) {
        Ok(searched) => searched,
        Err(why) => return Check::new(NAME, false, why.to_string()),
    };
    let mut packets = 0_usize;
    let mut heard_by = Vec::new();
    for phone in done.iter().flat_map(|d| d.cast.agents.iter().chain(&d.cast.human)) {
        let heard = phone.heard();
        packets += heard.len();
        let types: BTreeSet<u8> = heard.iter().map(|p| p.payload_type).filter(|t| *t >= 96).collect();
        let keys: Vec<String> = types.iter().map(|t| digits_heard(&heard, *t)).chain([phone.state().info_keys]).collect();
        let spoken = heard.iter().any(|p| card.search(&p.payload).leaks > 0);
        if spoken || keys.iter().any(|k| card.is_in(k)) {
            heard_by.push(phone.name().to_owned());
        }
    }
    #[expect(clippy::cast_precision_loss)] // a file size for people
    let megabytes = searched.octets as f64 / 1e6;
    let detail = if searched.leaking.is_empty() && heard_by.is_empty() {
        let chance = if searched.found.accidents > 0 {
            format!("; {} runs of five inside longer numbers or ids, as chance has it", searched.found.accidents)
        } else {
            String::new()
        };
        format!("{} files, {megabytes:.1} MB, {packets} RTP packets{chance}", searched.files)
    } else {
        format!("found in {:?}; heard by {heard_by:?}", searched.leaking)
    };
    Check::new(NAME, searched.leaking.is_empty() && heard_by.is_empty(), detail)
}
