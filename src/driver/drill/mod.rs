//! Drills: rehearsals of what goes wrong, on a scratch instance, with a proof that nothing was lost, doubled or wrong.
//!
//! Real SIP calls and signed webhooks go in from a generator with a seed; the gateway is a process of its own that is killed; the CRM is read back over its own
//! API and held against what the generator's [`script`] says. What the gateway's journal says counts only for calls that a kill cut through, whose end nobody else
//! could know.

mod account;
mod check;
mod load;
mod phones;
mod rejected;
mod scratch;
mod script;
mod stage;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, RwLock},
    time::{Instant, sleep},
};

pub use account::Kind;
use check::Played;
pub use load::Load;
use phones::Phones;
use scratch::Scratch;
use script::KINDS;
use stage::Stage;

use super::{
    demo::{report::Check, web},
    setup,
};
use crate::{
    chance::Chance,
    crm::{
        mapping::{Mapping, Rule},
        setup::{Field, needs},
    },
    shell::clock::Clock,
};

/// Which rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// Kills, outages, throttling, expired tokens, writes whose answer is lost, webhooks twice and out of order, all at once.
    Chaos,
    /// The CRM is down for a while.
    Outage,
    /// The CRM answers 429.
    Throttle,
    /// Tokens end in the middle of it.
    Expiry,
    /// The CRM's validation refuses records.
    Rejected,
    /// Webhooks before the call's end, in any order, several times.
    Ordering,
    /// A thousand records that the CRM had acknowledged are gone, and recovered out of the journal.
    Lost,
    /// Calls wait for batches, which go as jobs where the CRM takes such, while the gateway is killed and requests fail.
    Batch,
    /// Six hundred webhooks at once while six hundred calls end.
    Burst,
    /// As many calls a second as wanted, for as long as wanted.
    Load,
}

impl Drill {
    /// All of them, by their names.
    pub const ALL: [(&'static str, Self); 10] = [
        ("chaos", Self::Chaos),
        ("outage", Self::Outage),
        ("throttle", Self::Throttle),
        ("expiry", Self::Expiry),
        ("rejected", Self::Rejected),
        ("ordering", Self::Ordering),
        ("lost", Self::Lost),
        ("batch", Self::Batch),
        ("burst", Self::Burst),
        ("load", Self::Load),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, drill)| *drill == self).map_or("", |(name, _)| name)
    }

    /// What its `[[crm]]` says beside the address.
    const fn schedule(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Batch, Kind::Salesforce) => "model = \"batch\"\nbatch_every_ms = 604800000\nbulk_from = 5\n",
            (Self::Batch, _) => "model = \"batch\"\nbatch_every_ms = 604800000\n",
            _ => "",
        }
    }

    /// When a run kills the gateway; most runs of some drills do.
    fn kill(self, chance: &mut Chance) -> Option<Duration> {
        match self {
            Self::Chaos => chance.percent(75).then(|| Duration::from_millis(chance.below(1200))),
            // All along a job, which the double works off within twelve seconds.
            Self::Batch => chance.percent(75).then(|| Duration::from_millis(1000 + chance.below(12_000))),
            _ => None,
        }
    }

    /// Calls of one run.
    const fn calls(self) -> usize {
        match self {
            Self::Chaos => KINDS,
            Self::Burst => 600,
            Self::Lost => 1000,
            Self::Rejected => 6,
            _ => 4 * KINDS,
        }
    }

    /// What the CRM does wrong meanwhile, as the double's fault script has it.
    fn faults(self, kind: Kind, chance: &mut Chance) -> Value {
        let every = |n: u64, action: Value| json!({"match": {"path": kind.writes_at(), "every": n}, "action": action});
        match self {
            Self::Chaos => {
                let mut faults = vec![
                    every(5 + chance.below(6), json!({"apply_then_drop": true})),
                    every(4 + chance.below(6), json!({"status": 503})),
                    every(9 + chance.below(9), json!({"expire_tokens": true})),
                    every(7 + chance.below(9), json!({"drop": true})),
                    every(6 + chance.below(9), json!({"status": 429, "retry_after_s": 1})),
                    every(3, json!({"delay_ms": chance.below(120)})),
                ];
                if chance.percent(15) {
                    faults.insert(0, json!({"action": {"status": 503}}));
                }
                json!(faults)
            }
            Self::Batch => {
                let of_a_job = |method: &str, n: u64, action: Value| json!({"match": {"method": method, "path": "jobs/ingest", "every": n}, "action": action});
                json!([
                    every(3, json!({"apply_then_drop": true})),
                    of_a_job("PATCH", 3 + chance.below(3), json!({"lock": true})),
                    of_a_job("PATCH", 3 + chance.below(3), json!({"apply_then_drop": true})),
                    of_a_job("PUT", 2 + chance.below(3), json!({"apply_then_drop": true})),
                    of_a_job("GET", 3 + chance.below(3), json!({"status": 503})),
                    of_a_job("GET", 5 + chance.below(9), json!({"expire_tokens": true})),
                    of_a_job("POST", 3 + chance.below(3), json!({"drop": true})),
                ])
            }
            Self::Outage => json!([{"action": {"status": 503}}]),
            // Salesforce means the day's budget by it, and without a time is asked again after five minutes.
            Self::Throttle if kind == Kind::Salesforce => json!([every(2, json!({"status": 429, "retry_after_s": 1}))]),
            Self::Throttle => json!([every(2, json!({"status": 429, "retry_after_s": 1})), every(3, json!({"status": 429}))]),
            Self::Expiry => json!([every(5, json!({"expire_tokens": true}))]),
            Self::Rejected | Self::Ordering | Self::Lost | Self::Burst | Self::Load => json!([]),
        }
    }
}

/// How a drill is held.
#[derive(Debug)]
pub struct Options {
    /// Which.
    pub drill: Drill,
    /// How often it is played on the one instance.
    pub runs: usize,
    /// Of everything that is drawn.
    pub seed: u64,
    /// Whose contract the CRM keeps.
    pub kind: Kind,
    /// Somebody else's server of that contract.
    pub crm: Option<String>,
    /// Folder for everything that is written.
    pub data: Option<PathBuf>,
    /// The mapping; none: the shipped one.
    pub mapping: Option<String>,
    /// File for what must stand in the CRM.
    pub expect_out: Option<PathBuf>,
    /// How much, with [`Drill::Load`].
    pub load: Load,
}

/// What came of it, as the contract has it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every check held.
    pub ok: bool,
    /// Which drill.
    pub drill: &'static str,
    /// Of what was drawn.
    pub seed: u64,
    /// How often it was played.
    pub runs: usize,
    /// How long it took.
    pub seconds: f64,
    /// How often the gateway was killed.
    pub kills: usize,
    /// Calls placed.
    pub calls: usize,
    /// Webhooks sent, copies and repetitions counted.
    pub webhooks: usize,
    /// Requests to the CRM that wrote; none where the CRM is somebody else's.
    pub writes: Option<usize>,
    /// Calls without a record.
    pub lost: usize,
    /// Records too many.
    pub doubled: usize,
    /// Records with a wrong field.
    pub wrong: usize,
    /// Writes that wait for a person.
    pub review: u64,
    /// Writes given up.
    pub dead: u64,
    /// From a call's end to its record in the CRM; none where the CRM is somebody else's.
    pub lag_ms: Value,
    /// From a webhook to its answer.
    pub ack_ms: Value,
    /// What was verified.
    pub checks: Vec<Check>,
    /// Where everything was written.
    pub data: String,
    /// What went in and through in a second, and the processor's time by part; with [`Drill::Load`] alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Value>,
}

/// Why a drill could not be held. What a check finds is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error("{0}: {1}; name an empty folder with --data")]
    Folder(String, io::Error),
    /// The system refused something.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        why: io::Error,
    },
    /// The gateway could not be started.
    #[error("the gateway did not start: {0}")]
    Gateway(String),
    /// The mapping cannot be used.
    #[error("the mapping cannot be used: {0}")]
    Mapping(String),
    /// The CRM does not answer as its contract says.
    #[error("the CRM: {0}")]
    Crm(#[from] web::Error),
    /// The CRM does not take the fields that the mapping needs.
    #[error("the CRM: {0}")]
    Fields(#[from] setup::Error),
}

/// An event is on disk so long after its call's end at the latest; a kill before that cuts through it.
const DURABLE: Duration = Duration::from_millis(300);
/// How long the queue may take to drain once everything works again.
const DRAIN: Duration = Duration::from_secs(300);
/// How long the CRM is down in an outage.
const OUTAGE: Duration = Duration::from_secs(5);

/// Holds a drill.
pub async fn run(options: Options, tell: impl Fn(String)) -> Result<Report, Error> {
    if options.drill == Drill::Load {
        return load::run(options, tell).await;
    }
    let began = Instant::now();
    let folder = folder(options.data.clone(), options.drill)?;
    let mut chance = Chance::from_seed(options.seed);
    let phones = Phones::open().await.map_err(|why| Error::System { what: "sockets for phones", why })?;
    let kind = options.kind;
    let mut text = mapping_text(&options)?;
    // Whether somebody else's server knows people, and a mapping of somebody's own looks for them, is not known here.
    let linked = options.crm.is_none() && options.mapping.is_none() && !matches!(options.drill, Drill::Rejected | Drill::Lost);
    if options.drill == Drill::Rejected {
        text = rejected::mapping(&text, kind)?;
    } else if linked {
        text.push_str(kind.contact());
    }
    let mapping: Mapping = toml::from_str(&text).map_err(|why| Error::Mapping(why.to_string()))?;
    let custom = fields(&mapping, &options)?;
    let mut scratch = Scratch::prepare(
        &folder,
        (kind, options.crm.as_deref()),
        &text,
        (&custom, options.drill.schedule(kind)),
        phones.platform(),
        &mut chance,
    )
    .await?;
    scratch.start().await?;
    let stage = Arc::new(Stage { scratch: RwLock::new(scratch), phones, sent: AtomicUsize::new(0), acks: Mutex::default() });
    let asking = (options.drill == Drill::Batch).then(|| tokio::spawn(stage::ask_for_batches(Arc::clone(&stage))));
    let human = format!("sip:human@{};transport=udp", stage.phones.platform());
    let (mut played, mut kills, mut ends) = (Vec::new(), 0, Vec::new());
    for run in 0..options.runs {
        stage.scratch.read().await.set_faults(&json!([]));
        let mut stories: Vec<_> = (0..options.drill.calls())
            .map(|n| {
                let index = run * options.drill.calls() + n;
                match options.drill {
                    Drill::Rejected => rejected::refused(kind, index, &mut chance),
                    Drill::Burst => script::burst(index, &mut chance),
                    Drill::Lost => script::plain(index, &mut chance),
                    Drill::Batch => script::late(index, &human, &mut chance),
                    drill => script::story(index, &human, drill == Drill::Ordering, &mut chance),
                }
            })
            .collect();
        if linked {
            // Every second caller is somebody whom the CRM knows.
            let account = stage.scratch.read().await.account().await?;
            for story in stories.iter_mut().step_by(2) {
                story.person = Some(account.make_person(&story.from).await?);
            }
        }
        stage.scratch.read().await.set_faults(&options.drill.faults(kind, &mut chance));
        let killed = stage.play(&stories, options.drill.kill(&mut chance), options.drill).await?;
        kills += usize::from(killed.is_some());
        for story in stories {
            let saw = stage.phones.saw(&story.from);
            let cut = killed.is_some_and(|at| saw.over.is_none_or(|(over, _)| over + DURABLE > at));
            ends.extend(saw.call_id.clone().zip(saw.over.map(|(_, wall)| wall)));
            played.push(Played { story, call_id: saw.call_id, cut });
        }
        tell(format!("{} of {} runs, {kills} kills, {} calls", run + 1, options.runs, played.len()));
    }
    if options.drill == Drill::Outage {
        sleep(OUTAGE).await;
    }
    stage.scratch.read().await.set_faults(&json!([]));
    tell("everything works again; the queue drains".to_owned());
    let mut queue = stage.drain(&tell).await;
    let mut checks = Vec::new();
    if options.drill == Drill::Lost {
        tell(format!("the CRM loses {} records, and they are recovered", played.len()));
        let scratch = stage.scratch.read().await;
        let account = scratch.account().await?;
        for call in played.iter().filter_map(|p| p.call_id.as_deref()) {
            account.delete(kind, call).await?;
        }
        let told = scratch.recover().await?;
        checks.push(Check::new("the recovery read what the CRM holds, and is in the journal", told, String::new()));
        drop(scratch);
        queue = stage.drain(&tell).await;
    }
    if let Some(asking) = asking {
        asking.abort();
    }
    let journal = check::journal(&folder)?;
    let facts = check::wanted(&played, &journal);
    let wanted = check::named(kind.fields(), facts.clone());
    let names = |key: &String, rules: &[Rule]| std::iter::once(key.clone()).chain(rules.iter().map(|r| r.to.clone())).collect::<Vec<_>>();
    let owned = names(&mapping.key, &mapping.rules);
    let beside = kind.beside().zip(mapping.beside.as_ref()).filter(|(known, beside)| known.object == beside.object);
    let beside = beside.map(|(known, beside)| (known, names(&beside.key, &beside.rules), check::named(known.fields, facts)));
    if let Some(path) = &options.expect_out {
        let mut lines = format!("{}\n", check::document(kind.object(), &wanted, &owned));
        if let Some((known, owned, wanted)) = &beside {
            lines.push_str(&format!("{}\n", check::document((known.object, known.call), wanted, owned)));
        }
        std::fs::write(path, lines).map_err(|why| Error::Folder(path.display().to_string(), why))?;
    }
    let account = stage.scratch.read().await.account().await?;
    let found = if options.drill == Drill::Rejected {
        checks.extend(rejected::checks(&stage, &played).await);
        check::Found::default()
    } else {
        let mut found = check::compare(&account, kind, &wanted, &owned, linked).await?;
        if let Some((known, of_beside, wanted)) = &beside {
            found = found.and(check::compare_beside(&account, kind, known, wanted, (of_beside, &owned), linked).await?);
        }
        checks.extend(check::checks(&found, wanted.len()));
        found
    };
    for fault in found.faults.iter().take(20) {
        tell(fault.clone());
    }
    let ledger = stage.scratch.read().await.ledger();
    if let Some((known, of_beside, _)) = &beside {
        let links =
            |fields: &[(&str, &'static str)]| fields.iter().find(|(fact, _)| *fact == "person").map(|(_, field)| (*field).to_owned());
        let first: Vec<_> = owned.iter().cloned().chain(links(kind.fields())).collect();
        let second: Vec<_> = of_beside.iter().cloned().chain(links(known.fields)).chain([known.link.to_owned()]).collect();
        let mut others = check::touched(&ledger, kind.object().0, &first);
        others.extend(check::touched(&ledger, known.object, &second));
        checks.push(Check::new("no other field was touched", others.is_empty(), format!("{others:?}")));
    }
    if options.drill == Drill::Batch && kind == Kind::Salesforce && options.crm.is_none() {
        let jobs = ledger.iter().filter(|l| l["what"].as_str().is_some_and(|what| what.starts_with("PUT ") && what.ends_with("/batches")));
        let jobs = jobs.count();
        checks.push(Check::new("batches went as jobs", 4 * jobs >= options.runs, format!("{jobs} jobs")));
    }
    stage.scratch.write().await.stop().await;
    let number = |name: &str| queue.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX);
    let refusals = u64::try_from(played.iter().filter(|p| p.story.refused.is_some()).count()).unwrap_or(u64::MAX);
    let waiting = ["queued", "in_flight", "retrying"].map(number).into_iter().fold(0, u64::saturating_add);
    checks.push(Check::new("the queue has drained", waiting == 0, queue.to_string()));
    checks.push(Check::new("nothing was given up", number("dead") == 0, queue.to_string()));
    checks.push(Check::new("what waits for a person is what the CRM refused", number("review") == refusals, queue.to_string()));
    let acks = std::mem::take(&mut *stage.acks.lock().await);
    Ok(Report {
        ok: checks.iter().all(|c| c.ok),
        drill: options.drill.name(),
        seed: options.seed,
        runs: options.runs,
        seconds: (began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        kills,
        calls: played.len(),
        webhooks: stage.sent.load(Ordering::Relaxed),
        writes: options.crm.is_none().then(|| writes(kind, &ledger)),
        lost: found.lost,
        doubled: found.doubled,
        wrong: found.wrong,
        review: number("review"),
        dead: number("dead"),
        lag_ms: lag(kind, &ledger, &ends),
        ack_ms: check::spread(acks),
        checks,
        data: folder.display().to_string(),
        load: None,
    })
}

/// Requests that wrote.
fn writes(kind: Kind, ledger: &[Value]) -> usize {
    let is_write = |line: &&Value| {
        line["kind"] == "request" && line.get("what").and_then(Value::as_str).is_some_and(|what| what.contains(kind.writes_at()))
    };
    ledger.iter().filter(is_write).count()
}

/// From each call's end to the first time that the CRM has it.
fn lag(kind: Kind, ledger: &[Value], ends: &[(String, crate::time::Wall)]) -> Value {
    let mut first = std::collections::BTreeMap::new();
    let (object, field) = kind.object();
    for line in ledger.iter().filter(|l| l["kind"] == "mutation" && l["object"] == object) {
        let at = line.get("time").and_then(Value::as_str).and_then(crate::time::Wall::parse);
        if let (Some(call), Some(at)) = (line.get("after").and_then(|a| a.get(field)).and_then(Value::as_str), at) {
            first.entry(call.to_owned()).or_insert(at);
        }
    }
    let since = |(call, end): &(String, crate::time::Wall)| {
        let ms = first.get(call)?.as_millis().saturating_sub(end.as_millis());
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    };
    check::spread(ends.iter().filter_map(since).collect())
}

/// The mapping that a drill is held with. Without what stands beside the records where jobs write, which write one object, where writes are counted in
/// calls a second, and where somebody else's server may not know it.
fn mapping_text(options: &Options) -> Result<String, Error> {
    let text = options.mapping.clone().unwrap_or_else(|| options.kind.mapping().to_owned());
    if !matches!(options.drill, Drill::Batch | Drill::Load) && (options.crm.is_none() || options.mapping.is_some()) {
        return Ok(text);
    }
    let mut table: toml::Table = text.parse().map_err(|why: toml::de::Error| Error::Mapping(why.to_string()))?;
    if table.remove("beside").is_none() {
        return Ok(text);
    }
    toml::to_string(&table).map_err(|why| Error::Mapping(why.to_string()))
}

/// What the account has to be given: the object of the records, that beside them, and where people are looked for by a reference, theirs.
fn fields(mapping: &Mapping, options: &Options) -> Result<Vec<(String, Vec<Field>)>, Error> {
    let needs = needs(mapping).map_err(Error::Mapping)?;
    let refuses = options.drill == Drill::Rejected;
    let objects = 1 + usize::from(mapping.beside.is_some()) + usize::from(refuses);
    let mut fields: Vec<_> = needs.into_iter().take(objects).map(|(object, fields)| (object.to_owned(), fields)).collect();
    for field in fields.iter_mut().flat_map(|(_, fields)| fields).filter(|_| refuses) {
        rejected::complete(options.kind, field);
    }
    Ok(fields)
}

fn folder(wanted: Option<PathBuf>, drill: Drill) -> Result<PathBuf, Error> {
    // With the process too: two that begin in the same millisecond would share it.
    let name = || format!("offhook-drill-{}-{}-{}", drill.name(), Clock::new().wall().as_millis(), std::process::id());
    let folder = wanted.unwrap_or_else(|| std::env::temp_dir().join(name()));
    let fault = |why| Error::Folder(folder.display().to_string(), why);
    std::fs::create_dir_all(&folder).map_err(fault)?;
    if std::fs::read_dir(&folder).map_err(fault)?.next().is_some() {
        return Err(fault(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "holds something already")));
    }
    folder.canonicalize().map_err(fault)
}
