//! HubSpot's records, read back by batch: its search lags behind what is written.

use serde_json::{Value, json};

use super::{HubSpot, refused};
use crate::crm::{
    HttpAnswer, HttpRequest, Token, Verdict,
    reader::{Reader, Standing},
};

/// Inputs of a batch.
const READ_MAX: usize = 100;

impl Reader for HubSpot {
    fn read_max(&self) -> usize {
        READ_MAX
    }

    fn read(&self, keys: &[String], fields: &[String], token: &Token) -> HttpRequest {
        let inputs: Vec<_> = keys.iter().map(|key| json!({"id": key})).collect();
        let properties: Vec<_> = fields.iter().chain([&self.key]).collect();
        let body = json!({"idProperty": self.key, "inputs": inputs, "properties": properties});
        self.post(format!("crm/objects/{}/{}/batch/read", self.version, self.object), &body, token)
    }

    fn read_back(&self, answer: &HttpAnswer) -> Result<Vec<Standing>, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let results = body.get("results").and_then(Value::as_array);
        // 207: some of the keys are borne by no record.
        let Some(results) = results.filter(|_| matches!(answer.status, 200 | 207)) else { return Err(refused(answer, &body)) };
        let standing = |result: &Value| {
            let mut fields = result.get("properties")?.as_object()?.clone();
            let key = fields.remove(&self.key)?.as_str()?.to_owned();
            let set = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
            Some(Standing { key, id: result.get("id")?.as_str()?.to_owned(), fields: set })
        };
        Ok(results.iter().filter_map(standing).collect())
    }
}
