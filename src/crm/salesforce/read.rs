//! Salesforce's records, read back by SOQL: those beside them by a second query of one Composite request.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Salesforce, literal};
use crate::crm::{
    HttpAnswer, HttpRequest, Token, Verdict,
    mapping::Beside,
    query,
    reader::{Reader, Standing},
};

/// Keys of forty digits in one address, which has a longest length.
const READ_MAX: usize = 100;

impl Reader for Salesforce {
    fn read_max(&self) -> usize {
        READ_MAX
    }

    fn read(&self, keys: &[String], fields: &[String], token: &Token) -> HttpRequest {
        let of_first = |name: &&String| self.beside.as_ref().is_none_or(|beside| beside.field(name).is_none());
        let first = self.address(&self.object, &self.key, keys, fields.iter().filter(of_first).map(String::as_str));
        let Some(beside) = &self.beside else { return self.request("GET", &first, Vec::new(), token) };
        let second = self.address(&beside.object, &beside.key, keys, fields.iter().filter_map(|name| beside.field(name)));
        let query = |reference: &str, path: String| json!({"method": "GET", "url": format!("/services/data/{}/{path}", self.version), "referenceId": reference});
        let body = json!({"allOrNone": false, "compositeRequest": [query(FIRST, first), query(BESIDE, second)]});
        self.request("POST", "composite", body.to_string().into_bytes(), token)
    }

    fn read_back(&self, answer: &HttpAnswer) -> Result<Vec<Standing>, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let Some(beside) = &self.beside else { return self.standings(&self.key, answer.status, &body) };
        let Some(results) = body.get("compositeResponse").and_then(Value::as_array).filter(|_| answer.status == 200) else {
            return Err(self.refused(answer, body.get(0).unwrap_or(&Value::Null)));
        };
        let found = |key: &str, reference: &str| {
            let result = results.iter().find(|r| r.get("referenceId").and_then(Value::as_str) == Some(reference)).unwrap_or(&Value::Null);
            let status = result.get("httpStatusCode").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
            self.standings(key, status.unwrap_or(answer.status), result.get("body").unwrap_or(&Value::Null))
        };
        Ok(pairs(beside, found(&self.key, FIRST)?, found(&beside.key, BESIDE)?))
    }
}

impl Salesforce {
    /// The address of a query for the records of `object` that bear these keys.
    fn address<'f>(&self, object: &str, key: &'f str, keys: &[String], fields: impl Iterator<Item = &'f str>) -> String {
        let keys: Vec<_> = keys.iter().map(|key| literal(key)).collect();
        let columns: Vec<_> = ["Id", key].into_iter().chain(fields).collect();
        let soql = format!("SELECT {} FROM {object} WHERE {key} IN ({})", columns.join(","), keys.join(","));
        format!("query?{}", query(&[("q", &soql)]))
    }

    /// The records of one query's answer.
    fn standings(&self, key: &str, status: u16, body: &Value) -> Result<Vec<Standing>, Verdict> {
        let records = body.get("records").and_then(Value::as_array);
        let Some(records) = records.filter(|_| status == 200) else {
            return Err(self.refusal(status, body.get(0).unwrap_or(&Value::Null), None, None));
        };
        let standing = |record: &Value| {
            let mut fields = record.as_object()?.clone();
            let text = |value: Option<Value>| value.and_then(|v| v.as_str().map(str::to_owned));
            let (id, key) = (text(fields.remove("Id"))?, text(fields.remove(key))?);
            fields.remove("attributes");
            let set = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
            // An external id is compared without regard to case; ours is in lower case.
            Some(Standing { key: key.to_ascii_lowercase(), id, fields: set })
        };
        Ok(records.iter().filter_map(standing).collect())
    }
}

/// Records with those beside them. Where one of a pair is not there, the pair is not: told again, it is whole. Two of either with one key are two.
fn pairs(beside: &Beside, first: Vec<Standing>, second: Vec<Standing>) -> Vec<Standing> {
    let mut found: BTreeMap<String, (Vec<Standing>, Vec<Standing>)> = BTreeMap::new();
    first.into_iter().for_each(|one| found.entry(one.key.clone()).or_default().0.push(one));
    second.into_iter().for_each(|one| found.entry(one.key.clone()).or_default().1.push(one));
    let whole = |(firsts, seconds): (Vec<Standing>, Vec<Standing>)| {
        let count = if firsts.is_empty() || seconds.is_empty() { 0 } else { firsts.len().max(seconds.len()) };
        let one = firsts.into_iter().next().zip(seconds.into_iter().next()).map(|(mut first, second)| {
            first.fields.extend(second.fields.into_iter().map(|(name, value)| (beside.name(&name), value)));
            first
        });
        std::iter::repeat_n(one, count).flatten()
    };
    found.into_values().flat_map(whole).collect()
}

/// Names of the two queries.
const FIRST: &str = "first";
const BESIDE: &str = "beside";
