//! What the HTTP server asks, handed to whoever knows: phases to the gateway, decisions to the pipeline, calls to the store.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{ingest::Ingest, signalling::Order, writeback::Told};
use crate::{
    crm::contact::{self, Rule},
    event::CallId,
    pipeline::{Record, Store, StoreError, store::Write},
    shell::{
        clock::Clock,
        http::{Answer, Ask, Problem},
        quarantine::Desk,
        store::Sqlite,
    },
    time::Wall,
};

/// Who knows.
pub(super) struct To {
    pub(super) ingest: Ingest,
    pub(super) pipeline: std_mpsc::Sender<Told>,
    pub(super) gateway: mpsc::Sender<Order>,
    /// Where the store is.
    pub(super) store: PathBuf,
    pub(super) quarantine: Option<Desk>,
    /// How people are known in each CRM.
    pub(super) rules: Vec<Rule>,
}

/// Serves until the HTTP server is gone.
pub(super) async fn serve(mut asks: mpsc::Receiver<Ask>, to: To, clock: Clock) {
    let To { ingest, pipeline, gateway, store, quarantine, rules } = to;
    let rules: Arc<[Rule]> = rules.into();
    let reader = Reader { path: store, open: Arc::default() };
    while let Some(ask) = asks.recv().await {
        match ask {
            Ask::Secure { call, on, reason, reply } => {
                if let Err(error) = gateway.try_send(Order::Secure { call, on, reason, reply })
                    && let Order::Secure { reply, .. } = error.into_inner()
                {
                    let _ = reply.send(Err(Problem::busy()));
                }
            }
            Ask::Decide { target, call, decision, by, reply } => {
                let _ = pipeline.send(Told::Decide { target, call, decision, by, reply });
            }
            Ask::Order { order, reply } => {
                let _ = pipeline.send(Told::Order { order, reply });
            }
            Ask::Retention { limit, reply } => reader.read(reply, move |store| {
                let (held, erased) = (store.holds(limit)?, store.erasures(limit)?);
                Ok(Ok(json!({"held": held, "held_total": store.held()?, "erased": erased, "erased_total": store.erased()?})))
            }),
            Ask::Recover { recover, reply } => {
                let _ = pipeline.send(Told::Recover { recover, reply });
            }
            Ask::Recovery { operation, reply } => {
                let _ = pipeline.send(Told::Recovery { operation, reply });
            }
            Ask::Batch { target, by, reply } => {
                let _ = pipeline.send(Told::Batch { target, by, reply });
            }
            Ask::Reconcile { target, after, reply } => {
                let _ = pipeline.send(Told::Reconcile { target, after, reply });
            }
            Ask::Attempts { number, since, reply } => {
                let rules = rules.clone();
                reader.read(reply, move |store| attempts(store, &rules, &number, since));
            }
            Ask::Release { source, after, reply } => {
                let (ingest, desk) = (ingest.clone(), quarantine.clone());
                tokio::spawn(async move {
                    let _ = reply.send(release(&ingest, desk, source, after).await);
                });
            }
            Ask::Queue { reply } => {
                let now = clock.system_wall();
                reader.read(reply, move |store| Ok(Ok(store.counts()?.document(now))));
            }
            Ask::Calls { limit, reply } => reader.read(reply, move |store| {
                let calls = store.recent(limit)?.iter().map(summary).collect::<Vec<_>>();
                Ok(Ok(json!({"calls": calls})))
            }),
            Ask::Call { call, reply } => reader.read(reply, move |store| one(store, call)),
        }
    }
}

/// Has a page of the quarantine verified again; what is good by now goes the way of every webhook, and out of the quarantine once it is in the journal.
async fn release(ingest: &Ingest, desk: Option<Desk>, source: Option<String>, after: Option<(String, String)>) -> Answer {
    let Some(desk) = desk else {
        return Err(Problem::new(503, "nothing is kept: there is no quarantine", "see `quarantine` in GET /healthz"));
    };
    let page = desk.page(source, after, RELEASED_AT_ONCE).await;
    let next = page.last().map(|(source, id, _)| json!([source, id]));
    let (mut released, mut bad, mut unreadable) = (0_u32, 0_u32, 0_u32);
    for (source, id, held) in page {
        let held = match held {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, "a webhook of the quarantine cannot be read");
                unreadable += 1;
                continue;
            }
        };
        match ingest.release(&source, &held).await {
            Ok(_) => {
                desk.remove(source, id);
                released += 1;
            }
            Err(problem) if matches!(problem.status, 401 | 404) => bad += 1,
            Err(problem) => return Err(problem),
        }
    }
    Ok(json!({"released": released, "bad": bad, "unreadable": unreadable, "next": next}))
}

/// Reads the store off the runtime's threads, on one connection.
struct Reader {
    path: PathBuf,
    open: Arc<Mutex<Option<Sqlite>>>,
}

impl Reader {
    fn read(&self, reply: tokio::sync::oneshot::Sender<Answer>, read: impl FnOnce(&Sqlite) -> Result<Answer, StoreError> + Send + 'static) {
        let (path, open) = (self.path.clone(), self.open.clone());
        tokio::task::spawn_blocking(move || {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let read = || -> Result<Answer, StoreError> {
                let store = match open.take() {
                    Some(store) => store,
                    None => Sqlite::reader(&path)?,
                };
                let answer = read(&store);
                *open = Some(store);
                answer
            };
            let answer =
                read().unwrap_or_else(|error| Err(Problem::new(503, error.to_string(), "try again; if it lasts, look at GET /healthz")));
            let _ = reply.send(answer);
        });
    }
}

/// What a list shows of a call.
fn summary(record: &Record) -> Value {
    let mut fields = record.fields();
    fields.retain(|name, _| LISTED.contains(&name.as_str()));
    fields.insert("state".into(), json!(if record.is_over() { "ended" } else { "live" }));
    Value::Object(fields)
}

/// Whether the person with this number was reached, when, and how each call ended: from the store alone, so that a CRM that is behind causes no second call.
/// What was pruned bears no number any more: of that time nobody knows whether he was reached, and that is said.
fn attempts(store: &Sqlite, rules: &[Rule], number: &str, since: Option<Wall>) -> Result<Answer, StoreError> {
    let digits = contact::digits(number);
    if digits.is_empty() {
        return Ok(Err(Problem::new(
            400,
            format!("\"{number}\" holds no number"),
            "write it as in +49301234567, the plus sign escaped or left out",
        )));
    }
    let mut records = BTreeMap::new();
    for spelling in contact::spellings(number, rules) {
        records.extend(store.of_number(&spelling, ATTEMPTS_MAX)?.into_iter().map(|record| (record.call_id, record)));
    }
    let from = since.map(CallId::first_of);
    let records: Vec<_> =
        records.into_values().rev().filter(|record| from.is_none_or(|from| record.call_id >= from)).take(ATTEMPTS_MAX).collect();
    let attempts: Vec<_> = records.iter().map(summary).collect();
    let answered = records.iter().filter_map(Record::answered_at).max();
    // Told in milliseconds, which the store's time is finer than: not before it.
    let known_since = store.swept()?.map(|swept| Wall::from_millis(swept.as_millis().saturating_add(1)));
    let knows = known_since.is_none_or(|known| since.is_some_and(|since| since >= known));
    let reached = (answered.is_some() || knows).then_some(answered.is_some());
    Ok(Ok(json!({"number": digits, "reached": reached, "last_reached_at": answered, "known_since": known_since, "attempts": attempts})))
}

fn one(store: &Sqlite, call: CallId) -> Result<Answer, StoreError> {
    let Some(record) = store.record(call)? else {
        return Ok(Err(Problem::new(
            404,
            "no such call",
            "GET /v1/calls lists those known; a call is there once its first event is on disk",
        )));
    };
    let writes = store.writes(call)?.iter().map(Write::document).collect::<Vec<_>>();
    let mut shown = json!({
        "call_id": call,
        "state": if record.is_over() { "ended" } else { "live" },
        "record": record.fields(),
        "events": record.events(),
        "writes": writes,
    });
    if let Some(shown) = shown.as_object_mut() {
        if record.is_pruned() {
            shown.insert("pruned".into(), json!(true));
        }
        shown.extend(store.erasure(call)?.map(|erasure| ("erased".to_owned(), json!(erasure))));
        shown.extend(store.hold(call)?.filter(|hold| hold.held).map(|hold| ("hold".to_owned(), json!(hold))));
    }
    Ok(Ok(shown))
}

/// Calls of one number that are told, the latest.
const ATTEMPTS_MAX: usize = 100;
/// Webhooks of the quarantine that are verified at once; each may hold a megabyte.
const RELEASED_AT_ONCE: usize = 32;
/// Fields of a record that a list shows.
const LISTED: [&str; 13] = [
    "call_id",
    "from",
    "to",
    "trunk",
    "route",
    "target",
    "started_at",
    "answered_at",
    "ended_at",
    "outcome",
    "ended_as",
    "disposition_code",
    "pruned",
];
