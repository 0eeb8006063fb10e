//! Bulk API 2.0's ingest jobs of upserts: made, filled once, closed, worked off after a while, the last row first.
//!
//! What is written to a record while a job with its key waits is overwritten when the job's turn comes, and every second job overtakes the one before, as it may be
//! in an org.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Answer, Body, Ledger, Request, Salesforce, fault, not_found, refused, schema::Kind};
use crate::time::Wall;

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    object: String,
    key: String,
    state: State,
    made: Wall,
    /// How long it is worked on.
    takes: Duration,
    upload: Option<Vec<u8>>,
    /// All of its rows are locked by somebody else.
    pub(super) locked: bool,
    columns: Vec<String>,
    /// Rows as they came, each behind its id and whether it was made.
    written: Vec<Vec<String>>,
    /// Rows as they came, each behind its id and its error.
    refused: Vec<Vec<String>>,
    message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Closed then.
    Closed(Wall),
    Complete,
    Failed,
    Aborted,
}

/// A closed job waits so long for its turn …
const WAITS: Duration = Duration::from_secs(3);
/// … and takes so long, by turns.
const TAKES: [Duration; 2] = [Duration::from_secs(9), Duration::from_secs(1)];
/// Longest upload.
const UPLOAD_OCTETS_MAX: usize = 150 << 20;

impl Salesforce {
    pub(super) fn ingest(&mut self, now: Wall, request: &Request, rest: &[&str]) -> Answer {
        let state = |body: &Value| body.get("state").and_then(Value::as_str).map(str::to_owned);
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match (request.method.as_str(), rest) {
            ("POST", []) => self.make_job(now, &body),
            ("GET", [id]) => self.jobs.get(*id).map_or_else(not_found, |job| Answer::new(200, job.shown(now, id))),
            ("PUT", [id, "batches"]) => self.fill(id, request),
            ("PATCH", [id]) => match (self.jobs.get_mut(*id), state(&body).as_deref()) {
                (None, _) => not_found(),
                (Some(job), Some("UploadComplete")) if job.state == State::Open && job.upload.is_some() => {
                    job.state = State::Closed(now);
                    Answer::new(200, job.shown(now, id))
                }
                (Some(job), Some("Aborted")) if matches!(job.state, State::Open | State::Closed(_)) => {
                    job.state = State::Aborted;
                    Answer::new(200, job.shown(now, id))
                }
                (Some(job), _) => refused(400, "INVALIDJOBSTATE", &format!("the job is {}", job.word(now)), &[]),
            },
            ("GET", [id, results]) => {
                let Some(job) = self.jobs.get(*id) else { return not_found() };
                let (lead, rows) = match *results {
                    "successfulResults" => (["sf__Id", "sf__Created"].as_slice(), &job.written),
                    "failedResults" => (["sf__Id", "sf__Error"].as_slice(), &job.refused),
                    "unprocessedrecords" => ([].as_slice(), &Vec::new()),
                    _ => return not_found(),
                };
                if job.state != State::Complete {
                    return refused(400, "INVALIDJOBSTATE", &format!("the job is {}", job.word(now)), &[]);
                }
                let header = lead.iter().map(|name| (*name).to_owned()).chain(job.columns.iter().cloned()).collect();
                Answer { status: 200, headers: Vec::new(), body: Body::Other("text/csv".into(), csv(header, rows)) }
            }
            _ => not_found(),
        }
    }

    fn make_job(&mut self, now: Wall, body: &Value) -> Answer {
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (object, key) = (text("object"), text("externalIdFieldName"));
        if text("operation") != "upsert" || !matches!(text("contentType").as_str(), "" | "CSV") {
            return refused(400, "NOT_BUILT", "jobs that are no upserts of CSV are not built", &[]);
        }
        if !self.objects.get(&object).is_some_and(|o| o.fields.get(&key).is_some_and(|f| f.external)) {
            return refused(400, "INVALIDJOB", &format!("InvalidJob : {key} is no external id of {object}"), &[]);
        }
        let id = self.id("750");
        let [slow, quick] = TAKES;
        let job = Job {
            object,
            key,
            state: State::Open,
            made: now,
            takes: if self.jobs.len().is_multiple_of(2) { slow } else { quick },
            upload: None,
            locked: false,
            columns: Vec::new(),
            written: Vec::new(),
            refused: Vec::new(),
            message: None,
        };
        let shown = job.shown(now, &id);
        self.jobs.insert(id, job);
        Answer::new(200, shown)
    }

    fn fill(&mut self, id: &str, request: &Request) -> Answer {
        let Some(job) = self.jobs.get_mut(id) else { return not_found() };
        if !request.header("content-type").is_some_and(|kind| kind.starts_with("text/csv")) {
            return refused(415, "UNSUPPORTED_MEDIA_TYPE", "a job of CSV is filled with text/csv", &[]);
        }
        if job.state != State::Open || job.upload.is_some() || request.body.len() > UPLOAD_OCTETS_MAX {
            return refused(400, "INVALIDJOBSTATE", "one upload a job, while it is open, of 150 MB at most", &[]);
        }
        job.upload = Some(request.body.clone());
        Answer { status: 201, headers: Vec::new(), body: Body::Empty }
    }

    /// Works off the jobs whose turn has come.
    pub(super) fn work_off(&mut self, now: Wall, ledger: &mut Ledger) {
        let ripe = |job: &Job| matches!(job.state, State::Closed(at) if at + WAITS + job.takes <= now);
        let ripe: Vec<_> = self.jobs.iter().filter(|(_, job)| ripe(job)).map(|(id, _)| id.clone()).collect();
        for id in ripe {
            let Some(mut job) = self.jobs.remove(&id) else { continue };
            job.state = match self.work(now, &mut job, ledger) {
                Ok(()) => State::Complete,
                Err(message) => {
                    job.message = Some(message);
                    State::Failed
                }
            };
            self.jobs.insert(id, job);
        }
    }

    fn work(&mut self, now: Wall, job: &mut Job, ledger: &mut Ledger) -> Result<(), String> {
        let upload = job.upload.take().unwrap_or_default();
        let mut reader = ::csv::Reader::from_reader(upload.as_slice());
        let unreadable = |error: ::csv::Error| format!("InvalidBatch : {error}");
        job.columns = reader.headers().map_err(unreadable)?.iter().map(str::to_owned).collect();
        let rows = reader.into_records().collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        let Some(key) = job.columns.iter().position(|column| *column == job.key) else {
            return Err(format!("InvalidBatch : Field name not found : {}", job.key));
        };
        let kinds = self.objects.get(&job.object).map(|o| &o.fields).into_iter();
        let kinds: std::collections::BTreeMap<_, _> = kinds.flatten().map(|(name, field)| (name.clone(), field.kind.clone())).collect();
        if let Some(unknown) = job.columns.iter().find(|column| !kinds.contains_key(*column)) {
            return Err(format!("InvalidBatch : Field name not found : {unknown}"));
        }
        for row in rows.iter().rev() {
            let cells = job.columns.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
            let fields: Map<_, _> = cells.filter_map(|(name, cell)| Some((name.clone(), value(kinds.get(name)?, cell)))).collect();
            let bears = row.get(key).unwrap_or_default();
            let done = if job.locked {
                Err(fault("UNABLE_TO_LOCK_ROW", super::LOCKED, &[]))
            } else {
                self.upsert(now, &job.object, &job.key, bears, fields, ledger)
            };
            let came = row.iter().map(str::to_owned);
            match done {
                Ok((id, made)) => job.written.push([id, made.to_string()].into_iter().chain(came).collect()),
                Err(fault) => job.refused.push([String::new(), told(&fault)].into_iter().chain(came).collect()),
            }
        }
        Ok(())
    }
}

impl Job {
    fn word(&self, now: Wall) -> &'static str {
        match self.state {
            State::Open => "Open",
            State::Closed(at) if now < at + WAITS => "UploadComplete",
            State::Closed(_) => "InProgress",
            State::Complete => "JobComplete",
            State::Failed => "Failed",
            State::Aborted => "Aborted",
        }
    }

    fn shown(&self, now: Wall, id: &str) -> Value {
        let mut shown = json!({"id": id, "operation": "upsert", "object": self.object, "externalIdFieldName": self.key, "createdDate": self.made,
            "state": self.word(now), "contentType": "CSV", "apiVersion": 62.0, "contentUrl": format!("services/data/v62.0/jobs/ingest/{id}/batches"),
            "lineEnding": "LF", "columnDelimiter": "COMMA", "jobType": "V2Ingest", "concurrencyMode": "Parallel",
            "numberRecordsProcessed": self.written.len() + self.refused.len(), "numberRecordsFailed": self.refused.len()});
        if let (Some(shown), Some(message)) = (shown.as_object_mut(), &self.message) {
            shown.insert("errorMessage".into(), json!(message));
        }
        shown
    }
}

/// A cell as the value of its field that it stands for.
fn value(kind: &Kind, cell: &str) -> Value {
    if cell == "#N/A" {
        return Value::Null;
    }
    let read = match kind {
        Kind::Number | Kind::Boolean => serde_json::from_str(cell).ok(),
        _ => None,
    };
    read.unwrap_or_else(|| json!(cell))
}

/// An error of a record as results tell it `[U]`.
fn told(fault: &Value) -> String {
    let text = |name: &str| fault.get(name).and_then(Value::as_str).unwrap_or_default();
    let fields = fault.get("fields").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    let fields = if fields.is_empty() { String::new() } else { format!("{} ", fields.join(",")) };
    format!("{}:{}:{fields}--", text("errorCode"), text("message"))
}

fn csv(header: Vec<String>, rows: &[Vec<String>]) -> Vec<u8> {
    let mut writer = ::csv::WriterBuilder::new().quote_style(::csv::QuoteStyle::Always).from_writer(Vec::new());
    for row in std::iter::once(&header).chain(rows) {
        let _ = writer.write_record(row);
    }
    writer.into_inner().unwrap_or_default()
}
