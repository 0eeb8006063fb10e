//! People: found by SOQL, many numbers at a time; changed as a collection.

use serde_json::{Map, Value, json};

use super::{Salesforce, literal, query};
use crate::crm::{
    Change, HttpAnswer, HttpRequest, Token, Verdict,
    contact::{Found, People, Person, Search},
};

/// Queries that one Composite request may hold.
const QUERIES_MAX: usize = 5;
/// Values of one query: it goes as an address, and an address with its headers has at most 16,384 octets; recommended are far fewer.
const VALUES_MAX: usize = 80;
/// Forms of a number, at most ([`crate::crm::contact::Rule::forms`]).
const FORMS_MAX: usize = 4;
/// Numbers in one request.
const FIND_MAX: usize = QUERIES_MAX * VALUES_MAX / FORMS_MAX;
/// People in one query's answer.
const PAGE: usize = 2000;

impl People for Salesforce {
    fn find_max(&self) -> usize {
        FIND_MAX
    }

    /// What fits into one query is asked by that, more by several in one Composite request: it counts as one of the day's requests.
    fn find(&self, search: &Search<'_>, token: &Token) -> HttpRequest {
        let paths: Vec<_> =
            search.values.chunks(VALUES_MAX).map(|values| format!("query?{}", query(&[("q", &soql(search, values))]))).collect();
        if let [path] = paths.as_slice() {
            return self.request("GET", path, Vec::new(), token);
        }
        let ask = |(number, path): (usize, &String)| {
            let url = format!("/services/data/{}/{path}", self.version);
            json!({"method": "GET", "url": url, "referenceId": format!("people{number}")})
        };
        let body = json!({"allOrNone": false, "compositeRequest": paths.iter().enumerate().map(ask).collect::<Vec<_>>()});
        self.request("POST", "composite", body.to_string().into_bytes(), token)
    }

    fn found(&self, search: &Search<'_>, answer: &HttpAnswer) -> Result<Found, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if answer.status != 200 {
            return Err(self.refused(answer, body.get(0).unwrap_or(&Value::Null)));
        }
        let asked = search.values.len().div_ceil(VALUES_MAX);
        if asked <= 1 {
            return people(search, &body);
        }
        let parts = body.get("compositeResponse").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if parts.len() != asked {
            return Err(Verdict::Retry { after: None, why: format!("{} answers to {asked} queries", parts.len()) });
        }
        let mut found = Found { people: Vec::new(), more: false };
        for part in parts {
            let status = part.get("httpStatusCode").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
            let body = part.get("body").unwrap_or(&Value::Null);
            if status != 200 {
                let answer = HttpAnswer { status, headers: answer.headers.clone(), body: Vec::new() };
                return Err(self.refused(&answer, body.get(0).unwrap_or(&Value::Null)));
            }
            let of_part = people(search, body)?;
            found.people.extend(of_part.people);
            found.more |= of_part.more;
        }
        Ok(found)
    }

    fn update(&self, object: &str, changes: &[Change], token: &Token) -> Option<HttpRequest> {
        let record = |change: &Change| {
            let mut record = Map::from_iter([("attributes".to_owned(), json!({"type": object})), ("id".to_owned(), json!(change.id))]);
            record.extend(change.fields.clone());
            Value::Object(record)
        };
        let body = json!({"allOrNone": false, "records": changes.iter().map(record).collect::<Vec<_>>()});
        Some(self.request("PATCH", "composite/sobjects", body.to_string().into_bytes(), token))
    }

    fn updated(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let gone = |verdict| match verdict {
            Verdict::Rejected { why } | Verdict::Gone { why }
                if why.contains("ENTITY_IS_DELETED") || why.contains("INVALID_CROSS_REFERENCE_KEY") =>
            {
                Verdict::PersonGone { why }
            }
            other => other,
        };
        self.of_a_collection(changes, answer).into_iter().map(gone).collect()
    }
}

/// Asks for everybody who has one of `values` in one of the search's fields.
fn soql(search: &Search<'_>, values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| literal(value)).collect();
    let values = values.join(",");
    let any: Vec<_> = search.fields.iter().map(|field| format!("{field} IN ({values})")).collect();
    format!("SELECT Id,CreatedDate,{} FROM {} WHERE {} LIMIT {PAGE}", search.fields.join(","), search.object, any.join(" OR "))
}

/// Whom one query has found.
fn people(search: &Search<'_>, body: &Value) -> Result<Found, Verdict> {
    let Some(records) = body.get("records").and_then(Value::as_array) else {
        return Err(Verdict::Retry { after: None, why: "a query without records".into() });
    };
    let person = |record: &Value| {
        let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
        let handles = search.fields.iter().filter_map(|field| text(field)).collect();
        Some(Person { id: text("Id")?, handles, made: text("CreatedDate").unwrap_or_default() })
    };
    let more = records.len() >= PAGE || body.get("done").and_then(Value::as_bool) == Some(false);
    Ok(Found { people: records.iter().filter_map(person).collect(), more })
}
