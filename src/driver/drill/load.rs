//! Load: how many calls a second go through the whole of the write-back, and where the processor's time goes.
//!
//! The gateway runs in this process, its CRM's double in one of its own. The events of calls are appended to the journal just as calls append them, without
//! the calls (their SIP and media have figures of their own); what platforms tell comes signed and over HTTP. What stands in the CRM afterwards is read in the
//! double's ledger and held against the script.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    runtime::{Builder, Runtime},
    sync::{Mutex, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    Error, Options, Report, check, fields, folder, lag, mapping_text,
    phones::Manner,
    scratch::{Scratch, WEBHOOK_SECRET},
    script::{self, Story},
    writes,
};
use crate::{
    chance::Chance,
    config::Config,
    crm::mapping::Mapping,
    driver::{
        demo::{
            report::Check,
            web::{self, Web},
        },
        live::{self, Live},
    },
    event::{CallId, DtmfMethod, EndedAs, EndedBy, Event, Kind, Leg, Outcome, PerSide, SipCallIds, Terminal},
    shell::{clock::Clock, disk::Lane},
    time::Wall,
};

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Calls that end in a second.
    pub rate: u32,
    /// For how long, s.
    pub seconds: u32,
}

/// Holds it.
pub(super) async fn run(options: Options, tell: impl Fn(String)) -> Result<Report, Error> {
    let began = Instant::now();
    let folder = folder(options.data.clone(), options.drill)?;
    let (kind, load) = (options.kind, options.load);
    let mut chance = Chance::from_seed(options.seed);
    let text = mapping_text(&options)?;
    let mapping: Mapping = toml::from_str(&text).map_err(|why| Error::Mapping(why.to_string()))?;
    let (mut double, url) = double(&folder, kind.name()).await?;
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let custom = fields(&mapping, &options)?;
    let scratch = Scratch::prepare(&folder, (kind, Some(&url)), &text, (&custom, ""), nowhere, &mut chance).await?;
    let config = Config::load(&folder.join("offhook.toml")).map_err(|why| Error::Gateway(why.to_string()))?;
    // A runtime of its own, so that its threads bear another name than the generator's.
    let runtime = Builder::new_multi_thread().thread_name(HTTP).enable_all().build();
    let runtime = Background(Some(runtime.map_err(|why| Error::System { what: "a runtime", why })?));
    let started = runtime.spawn(Live::start(config, live::Options::default())).await;
    let live = started.map_err(|why| Error::Gateway(why.to_string()))?.map_err(|why| Error::Gateway(why.to_string()))?;

    let calls = usize::try_from(u64::from(load.rate) * u64::from(load.seconds)).unwrap_or(usize::MAX);
    tell(format!("{calls} calls, {} a second", load.rate));
    let before = Spent::now(double.id());
    let clock = Instant::now();
    let fed = feed(live.events_lane(), &scratch, load, calls, &mut chance).await?;
    let fed_in = clock.elapsed();
    tell(format!("all have ended after {:.1} s; the queue drains", fed_in.as_secs_f64()));
    let (queue, drained) = drained(&scratch).await;
    let drained_in = drained.saturating_duration_since(clock);
    let spent = Spent::now(double.id()).since(&before);
    let stopped = runtime.spawn(live.stop()).await;
    stopped.map_err(|why| Error::Gateway(why.to_string()))?;
    let _ = double.kill().await;

    let ledger = scratch.ledger();
    let found = held(&ledger, kind, &fed.calls);
    for (why, times) in &fed.refused {
        tell(format!("{times} webhooks were not taken: {why}"));
    }
    for fault in found.faults.iter().take(20) {
        tell(fault.clone());
    }
    let number = |name: &str| queue.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX);
    let mut checks = check::checks(&found, fed.calls.len());
    let waiting = ["queued", "in_flight", "retrying", "dead", "review"].map(number).into_iter().fold(0, u64::saturating_add);
    checks.push(Check::new("the disk took every event", fed.unwritten == 0, format!("{} not", fed.unwritten)));
    checks.push(Check::new("the queue has drained", waiting == 0, queue.to_string()));
    let ends: Vec<_> = fed.calls.iter().map(|(id, (_, ended))| (id.clone(), *ended)).collect();
    let a_second = |calls: usize, took: Duration| (calls as f64 / took.as_secs_f64().max(0.001)).round();
    Ok(Report {
        ok: checks.iter().all(|c| c.ok),
        drill: options.drill.name(),
        seed: options.seed,
        runs: 1,
        seconds: (began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        kills: 0,
        calls: fed.calls.len(),
        webhooks: fed.webhooks,
        writes: Some(writes(kind, &ledger)),
        lost: found.lost,
        doubled: found.doubled,
        wrong: found.wrong,
        review: number("review"),
        dead: number("dead"),
        lag_ms: lag(kind, &ledger, &ends),
        ack_ms: check::spread(fed.acks),
        checks,
        data: folder.display().to_string(),
        load: Some(json!({
            "calls_per_second_in": a_second(calls, fed_in),
            "calls_per_second_through": a_second(calls, drained_in),
            "cpu_ms_per_1000_calls": spent.per_thousand(calls),
        })),
    })
}

/// The CRM's double in a process of its own; its address.
async fn double(folder: &Path, vendor: &str) -> Result<(Child, String), Error> {
    let failed = |why| Error::System { what: "starting the CRM's double", why };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["sandbox", vendor, "--ledger"]).arg(folder.join("crm-ledger.jsonl")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).await.map_err(failed)?;
    }
    let said: Value = serde_json::from_str(&line).unwrap_or_default();
    let url = said.get("url").and_then(Value::as_str).map(str::to_owned);
    url.map(|url| (child, url)).ok_or_else(|| Error::Gateway("the CRM's double does not say where it is".into()))
}

/// A runtime that may be dropped within another.
struct Background(Option<Runtime>);

impl std::ops::Deref for Background {
    type Target = Runtime;
    #[allow(clippy::expect_used)] // taken only when it is dropped
    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.take().map(Runtime::shutdown_background).unwrap_or_default();
    }
}

/// What was fed.
struct Fed {
    /// Stories with the ends of their calls, by call id.
    calls: BTreeMap<String, (Story, Wall)>,
    webhooks: usize,
    acks: Vec<Duration>,
    /// Why webhooks were not taken, and how often.
    refused: BTreeMap<String, usize>,
    /// Events that the disk did not take.
    unwritten: usize,
}

/// Lets calls end at the rate wanted, each with what its platform tells of it.
async fn feed(lane: Lane, scratch: &Scratch, load: Load, calls: usize, chance: &mut Chance) -> Result<Fed, Error> {
    let clock = Clock::new();
    let acks = Arc::new(Mutex::new(Vec::new()));
    let (refused, unwritten) = (Refused::default(), Arc::new(AtomicUsize::new(0)));
    let (told, tellers) = tellers(scratch, &acks, &refused)?;
    let mut fed = BTreeMap::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut webhooks, began) = (0, Instant::now());
    for index in 0..calls {
        while began.elapsed().as_secs_f64() * f64::from(load.rate) < index as f64 {
            ticks.tick().await;
        }
        let story = script::story(index, "sip:human@platform.invalid", false, chance);
        let (id, now) = (CallId(chance.uuid_v7(clock.wall())), clock.wall());
        for event in events(id, now, index, &story) {
            let entry = live::entry_of(&event);
            let unwritten = unwritten.clone();
            let written = move |result: Result<_, _>| {
                unwritten.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
            };
            while lane.append(entry.clone(), written.clone()).is_err() {
                // It is slower than this: whoever calls would hear 503.
                sleep(TICK).await;
            }
        }
        for one in &story.told {
            let body = json!({"id": one.id, "type": one.kind, "call_id": id, "time": now, "data": one.data});
            webhooks += 1;
            if told.send((one.id.clone(), body)).await.is_err() {
                return Err(Error::Gateway("nobody posts webhooks any more".into()));
            }
        }
        fed.insert(id.to_string(), (story, now));
    }
    drop(told);
    for teller in tellers {
        let _ = teller.await;
    }
    let acks = std::mem::take(&mut *acks.lock().await);
    let refused = std::mem::take(&mut *refused.lock().await);
    webhooks += refused.values().sum::<usize>();
    Ok(Fed { calls: fed, webhooks, acks, refused, unwritten: unwritten.load(Ordering::Relaxed) })
}

/// How often each reason was given.
type Refused = Arc<Mutex<BTreeMap<String, usize>>>;
type Tellers = (mpsc::Sender<(String, Value)>, Vec<tokio::task::JoinHandle<()>>);

/// Posts webhooks over a few connections, each again until it is taken.
fn tellers(scratch: &Scratch, acks: &Arc<Mutex<Vec<Duration>>>, refused: &Refused) -> Result<Tellers, Error> {
    let web = Web::new().map_err(|why| Error::System { what: "an HTTP client", why: std::io::Error::other(why) })?;
    let url = scratch.webhooks_at();
    let (told, inbox) = mpsc::channel::<(String, Value)>(TOLD_MAX);
    let inbox = Arc::new(Mutex::new(inbox));
    let teller = || {
        let (web, url, inbox, acks, refused) = (web.clone(), url.clone(), inbox.clone(), acks.clone(), refused.clone());
        tokio::spawn(async move {
            let mut took = Vec::new();
            loop {
                let Some((id, body)) = inbox.lock().await.recv().await else { break };
                loop {
                    let (asked, unix_s) = (Instant::now(), Clock::new().system_wall().as_millis() / 1000);
                    let why = match web.webhook(&url, WEBHOOK_SECRET, &id, unix_s, &body).await {
                        Ok(_) => break took.push(asked.elapsed()),
                        Err(web::Error::Status { status, body, .. }) => format!("{status} {body}"),
                        Err(why) => why.to_string(),
                    };
                    *refused.lock().await.entry(why).or_default() += 1;
                    sleep(TICK).await;
                }
            }
            acks.lock().await.append(&mut took);
        })
    };
    Ok((told, (0..CONNECTIONS).map(|_| teller()).collect()))
}

/// The events of a call that has ended at `now`.
fn events(call_id: CallId, now: Wall, index: usize, story: &Story) -> Vec<Event> {
    let terminal = |outcome, ended_as, ended_by| Terminal {
        outcome,
        outcome_table: None,
        ended_as,
        ended_by,
        reason: None,
        sip_status: None,
        ring_ms: Some(900),
        talk_ms: 61_000,
        secure_ms: 0,
        omitted: 0,
    };
    let mut kinds = vec![Kind::Started {
        from: story.from.clone(),
        to: story.number.clone(),
        trunk: "carrier".into(),
        route: "carrier *".into(),
        sip_call_ids: SipCallIds { caller: format!("{index}@carrier"), callee: Some(format!("{index}@offhook")) },
    }];
    if !matches!(story.manner, Manner::Failed) {
        let side = || PerSide { trunk: "PCMU".to_owned(), platform: "PCMU".to_owned() };
        let (codec, dtmf) = (side(), PerSide { trunk: Some(DtmfMethod::Info), platform: Some(DtmfMethod::Info) });
        kinds.push(Kind::Answered { target: "platform".into(), codec, dtmf, ring_ms: 900, sip_call_id: Some(format!("{index}@offhook")) });
    }
    kinds.extend(match &story.manner {
        Manner::Transferred { to } => Some(Kind::Transferred { to: to.clone(), by: Leg::Callee, context: None }),
        Manner::Keyed(digits) => Some(Kind::Dtmf {
            leg: Leg::Caller,
            digits: Some(digits.clone()),
            count: None,
            method: DtmfMethod::Info,
            from_ms: 5000,
            to_ms: 7000,
        }),
        _ => None,
    });
    kinds.push(match &story.manner {
        Manner::Failed => Kind::Failed(terminal(Outcome::Congestion, EndedAs::Failed, EndedBy::Gateway)),
        Manner::Transferred { .. } => Kind::Ended(terminal(Outcome::Answered, EndedAs::Transferred, EndedBy::Caller)),
        Manner::Completed => Kind::Ended(terminal(Outcome::Answered, EndedAs::Completed, EndedBy::Callee)),
        _ => Kind::Ended(terminal(Outcome::Answered, EndedAs::Completed, EndedBy::Caller)),
    });
    (1..).zip(kinds).map(|(sequence, kind)| Event { call_id, sequence, time: now, at_ms: 61_900, kind }).collect()
}

/// Waits until nothing waits; how the queue stands then, and since when nothing waited.
async fn drained(scratch: &Scratch) -> (Value, Instant) {
    let until = Instant::now() + super::DRAIN;
    let (mut calm, mut since) = (0, Instant::now());
    loop {
        let queue = scratch.queue().await.unwrap_or_default();
        let count = |name: &str| queue.get(name).and_then(Value::as_u64).unwrap_or(1);
        let looked = Instant::now();
        // What is not folded yet is in no queue: it has to be empty for a while.
        calm = if count("queued") + count("in_flight") + count("retrying") > 0 { 0 } else { calm + 1 };
        if calm <= 1 {
            since = looked;
        }
        if calm > CALM || looked > until {
            return (queue, since);
        }
        sleep(LOOK).await;
    }
}

/// What the double's ledger has of each call, held against the script.
fn held(ledger: &[Value], kind: super::Kind, calls: &BTreeMap<String, (Story, Wall)>) -> check::Found {
    let (object, field) = kind.object();
    let (mut records, mut made): (BTreeMap<&str, &Value>, BTreeMap<&str, usize>) = Default::default();
    for line in ledger.iter().filter(|l| l["kind"] == "mutation" && l["object"] == object) {
        if let Some(call) = line.pointer(&format!("/after/{field}")).and_then(Value::as_str) {
            *made.entry(call).or_default() += usize::from(line["before"].is_null());
            records.insert(call, &line["after"]);
        }
    }
    let wanted = calls.iter().map(|(id, (story, _))| (id.clone(), script::expected(story, id, None))).collect();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut found = check::Found::default();
    for (id, fields) in check::named(kind.fields(), wanted) {
        let made = made.get(id.as_str()).copied().unwrap_or(0);
        let record = records.get(id.as_str()).and_then(|record| record.as_object());
        let record = record.map(|record| record.iter().map(|(name, value)| (name.clone(), text(value))).collect());
        found.hold(&id, made, record.as_ref(), &fields, None);
    }
    found
}

/// Time on a processor, ms: of this process by the names of its threads, and of the double's.
struct Spent(BTreeMap<String, u64>);

impl Spent {
    fn now(double: Option<u32>) -> Self {
        let mut spent = BTreeMap::new();
        for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default().trim().to_owned();
            let name = if PARTS.contains(&name.as_str()) { name } else { "generator".to_owned() };
            *spent.entry(name).or_default() += on_processor(&task.path().join("stat"));
        }
        if let Some(pid) = double {
            spent.insert("crm".into(), on_processor(Path::new(&format!("/proc/{pid}/stat"))));
        }
        Self(spent)
    }

    fn since(mut self, before: &Self) -> Self {
        for (name, ms) in &mut self.0 {
            *ms = ms.saturating_sub(before.0.get(name).copied().unwrap_or(0));
        }
        self
    }

    fn per_thousand(&self, calls: usize) -> Value {
        let calls = u64::try_from(calls).unwrap_or(u64::MAX).max(1);
        self.0.iter().map(|(name, ms)| (name.clone(), json!(ms.saturating_mul(1000) / calls))).collect::<serde_json::Map<_, _>>().into()
    }
}

/// User and system time in a `stat` of `/proc` (proc(5), fields 14 and 15), ms.
fn on_processor(stat: &Path) -> u64 {
    let text = std::fs::read_to_string(stat).unwrap_or_default();
    // The second field is a name in parentheses, which may hold anything.
    let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let a_second = rustix::param::clock_ticks_per_second().max(1);
    (ticks(11) + ticks(12)).saturating_mul(1000) / a_second
}

/// The gateway's threads that take part, by name; those of HTTP server and client bear one.
const PARTS: [&str; 3] = [HTTP, "pipeline", "journal"];
const HTTP: &str = "http";
/// How often calls end.
const TICK: Duration = Duration::from_millis(2);
/// Connections over which webhooks come.
const CONNECTIONS: usize = 64;
/// Webhooks that wait for a connection.
const TOLD_MAX: usize = 100_000;
/// How often the queue is looked at, and how often in a row it must be empty.
const LOOK: Duration = Duration::from_millis(100);
const CALM: u32 = 6;
