//! Bulk API 2.0: an ingest job of upserts by external id, its rows as CSV.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Salesforce;
use crate::crm::{
    Change, HttpAnswer, HttpRequest, Token, Verdict,
    bulk::{Ask, Bulk, Standing},
};

/// Rows of a job: Salesforce works it off in batches of so many.
const ROWS_MAX: usize = 10_000;
/// Characters that a row may hold in a field.
const FIELD_MAX: usize = 32_000;
/// Empties a field. An empty column leaves it as it is.
const NULL: &str = "#N/A";

impl Bulk for Salesforce {
    fn rows_max(&self) -> usize {
        ROWS_MAX
    }

    fn takes(&self, change: &Change) -> bool {
        // A text that reads as the sign for nothing cannot be told apart from it.
        let says = |value: &Value| match value {
            Value::String(text) => text != NULL && text.chars().count() <= FIELD_MAX,
            Value::Array(_) | Value::Object(_) => false,
            _ => true,
        };
        change.fields.values().all(says)
    }

    fn ask(&self, ask: Ask<'_>, token: &Token) -> HttpRequest {
        let state = |state: &str| json!({"state": state}).to_string().into_bytes();
        let (method, path, kind, body) = match ask {
            Ask::Make => {
                let job = json!({"object": self.object, "operation": "upsert", "externalIdFieldName": self.key, "contentType": "CSV",
                    "lineEnding": "LF", "columnDelimiter": "COMMA"});
                ("POST", String::new(), JSON, job.to_string().into_bytes())
            }
            Ask::Fill(job, changes) => ("PUT", format!("/{job}/batches"), CSV, rows(&self.key, changes)),
            Ask::Close(job) => ("PATCH", format!("/{job}"), JSON, state("UploadComplete")),
            Ask::Abort(job) => ("PATCH", format!("/{job}"), JSON, state("Aborted")),
            Ask::Look(job) => ("GET", format!("/{job}"), JSON, Vec::new()),
            Ask::Written(job) => ("GET", format!("/{job}/successfulResults"), CSV, Vec::new()),
            Ask::Refused(job) => ("GET", format!("/{job}/failedResults"), CSV, Vec::new()),
        };
        let mut request = self.request(method, &format!("jobs/ingest{path}"), body, token);
        let accept = if method == "GET" { kind } else { JSON };
        for (name, value) in &mut request.headers {
            match name.as_str() {
                "content-type" => *value = kind.into(),
                "accept" => *value = accept.into(),
                _ => {}
            }
        }
        request
    }

    fn begun(&self, answer: &HttpAnswer) -> Result<String, Verdict> {
        let body = self.job(answer)?;
        let id = body.get("id").and_then(Value::as_str);
        id.map(str::to_owned).ok_or_else(|| Verdict::Ambiguous { why: format!("{} without the id of a job", answer.status) })
    }

    fn taken(&self, answer: &HttpAnswer) -> Result<(), Verdict> {
        // An upload is answered without a body.
        if answer.status == 201 { Ok(()) } else { self.job(answer).map(drop) }
    }

    fn standing(&self, answer: &HttpAnswer) -> Result<Standing, Verdict> {
        if answer.status == 404 {
            return Ok(Standing::Lost { why: "the CRM knows the job no more".into() });
        }
        let body = self.job(answer)?;
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        Ok(match text("state") {
            "Open" => Standing::Open,
            "UploadComplete" | "InProgress" => Standing::Running,
            "JobComplete" => Standing::Over,
            "Failed" => Standing::Failed { why: format!("the job failed: {}", text("errorMessage")) },
            "Aborted" => Standing::Lost { why: "the job was aborted".into() },
            state => return Err(Verdict::Retry { after: None, why: format!("a job that is \"{state}\"") }),
        })
    }

    fn results(&self, answer: &HttpAnswer) -> Result<Vec<(String, Verdict)>, Verdict> {
        if answer.status != 200 {
            self.job(answer)?;
            return Err(Verdict::Retry { after: None, why: format!("{} and no results", answer.status) });
        }
        let mut reader = csv::Reader::from_reader(answer.body.as_slice());
        let headers = reader.headers().cloned().unwrap_or_default();
        let column = |name: &str| headers.iter().position(|header| header.eq_ignore_ascii_case(name));
        let (id, error) = (column("sf__Id"), column("sf__Error"));
        let link = self.link.as_deref().and_then(column);
        let Some(key) = column(&self.key) else {
            // A job without such rows may tell nothing at all.
            let why = format!("results without a column {}", self.key);
            return if answer.body.is_empty() { Ok(Vec::new()) } else { Err(Verdict::Retry { after: None, why }) };
        };
        let verdict = |row: &csv::StringRecord| {
            let text = |column: Option<usize>| column.and_then(|at| row.get(at)).filter(|text| !text.is_empty());
            let verdict = match text(error) {
                Some(error) => self.refusal(answer.status, &fault(error), None, text(link).filter(|id| *id != NULL)),
                None if error.is_some() => Verdict::Ambiguous { why: "refused without a word on this record".into() },
                None => Verdict::Done { id: text(id).map(str::to_owned) },
            };
            Some((text(Some(key))?.to_owned(), verdict))
        };
        // An answer that is cut off ends with a row that cannot be read: it tells nothing of the rest.
        Ok(reader.into_records().map_while(Result::ok).filter_map(|row| verdict(&row)).collect())
    }
}

impl Salesforce {
    /// The body of an answer that is no refusal.
    fn job(&self, answer: &HttpAnswer) -> Result<Value, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        match answer.status {
            200..=299 => Ok(body),
            _ => Err(self.refused(answer, body.get(0).unwrap_or(&body))),
        }
    }
}

/// `CODE:message:Field__c,Other__c --` as the error of a record that it is; the message may hold colons, and the fields may be missing. No vendor's page
/// confirms that form `[U]`: what reads otherwise is a message whole.
fn fault(text: &str) -> Value {
    let code = |code: &str| !code.is_empty() && code.bytes().all(|o| matches!(o, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    let (code, rest) = text.split_once(':').filter(|(first, _)| code(first)).unwrap_or(("", text));
    let (message, fields) = match rest.trim_end().strip_suffix("--").and_then(|rest| rest.rsplit_once(':')) {
        Some((message, fields)) => (message, fields.split(',').map(str::trim).filter(|field| !field.is_empty()).collect()),
        None => (rest, Vec::new()),
    };
    json!({"statusCode": code, "message": message, "fields": fields})
}

/// The rows: a column for each field that any of them says, empty where one says nothing of it.
fn rows(key: &str, changes: &[Change]) -> Vec<u8> {
    let names: BTreeSet<&str> = changes.iter().flat_map(|c| c.fields.keys()).map(String::as_str).filter(|name| *name != key).collect();
    let cell = |value: &Value| match value {
        Value::Null => NULL.to_owned(),
        Value::String(text) if text.is_empty() => NULL.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let header = std::iter::once(key.to_owned()).chain(names.iter().map(|name| (*name).to_owned())).collect();
    let row = |change: &Change| {
        let cells = names.iter().map(|name| change.fields.get(*name).map(cell).unwrap_or_default());
        std::iter::once(change.key.clone()).chain(cells).collect()
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in std::iter::once(header).chain(changes.iter().map(row)) {
        let record: Vec<String> = record;
        // Into memory, each as long as the header: neither can fail.
        let _ = writer.write_record(&record);
    }
    writer.into_inner().unwrap_or_default()
}

const CSV: &str = "text/csv";
const JSON: &str = "application/json";
