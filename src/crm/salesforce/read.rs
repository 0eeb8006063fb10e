//! Salesforce's records, read back by SOQL.

use serde_json::Value;

use super::{Salesforce, literal};
use crate::crm::{
    HttpAnswer, HttpRequest, Token, Verdict, query,
    reader::{Reader, Standing},
};

/// Keys of forty digits in one address, which has a longest length.
const READ_MAX: usize = 100;

impl Reader for Salesforce {
    fn read_max(&self) -> usize {
        READ_MAX
    }

    fn read(&self, keys: &[String], fields: &[String], token: &Token) -> HttpRequest {
        let keys: Vec<_> = keys.iter().map(|key| literal(key)).collect();
        let columns: Vec<_> = ["Id", self.key.as_str()].into_iter().chain(fields.iter().map(String::as_str)).collect();
        let soql = format!("SELECT {} FROM {} WHERE {} IN ({})", columns.join(","), self.object, self.key, keys.join(","));
        self.request("GET", &format!("query?{}", query(&[("q", &soql)])), Vec::new(), token)
    }

    fn read_back(&self, answer: &HttpAnswer) -> Result<Vec<Standing>, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let records = body.get("records").and_then(Value::as_array);
        let Some(records) = records.filter(|_| answer.status == 200) else {
            return Err(self.refused(answer, body.get(0).unwrap_or(&Value::Null)));
        };
        let standing = |record: &Value| {
            let mut fields = record.as_object()?.clone();
            let text = |value: Option<Value>| value.and_then(|v| v.as_str().map(str::to_owned));
            let (id, key) = (text(fields.remove("Id"))?, text(fields.remove(&self.key))?);
            fields.remove("attributes");
            let set = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
            // An external id is compared without regard to case; ours is in lower case.
            Some(Standing { key: key.to_ascii_lowercase(), id, fields: set })
        };
        Ok(records.iter().filter_map(standing).collect())
    }
}
