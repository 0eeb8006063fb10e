//! Dataverse's people: found by filter, and changed by their ids. A row names its person by itself, in the request that writes it.

use serde_json::Value;

use super::{Dynamics, FIND_MAX, PAGE, batch, id_column, literal};
use crate::crm::{
    Change, HttpAnswer, HttpRequest, Token, Verdict,
    contact::{Found, People, Person, Search},
    query,
};

impl People for Dynamics {
    fn find_max(&self) -> usize {
        FIND_MAX
    }

    fn find(&self, search: &Search<'_>, token: &Token) -> HttpRequest {
        let each = |field: &String| search.values.iter().map(|value| format!("{field} eq {}", literal(value))).collect::<Vec<_>>();
        let any: Vec<_> = search.fields.iter().flat_map(each).collect();
        // Who was merged into somebody else is there still, but inactive.
        let filter = format!("({}) and statecode eq 0", any.join(" or "));
        let columns = format!("{},createdon,{}", id_column(search.object), search.fields.join(","));
        let path = format!("{}?{}", search.object, query(&[("$select", &columns), ("$filter", &filter)]));
        let mut request = self.request("GET", &path, "application/json", Vec::new(), token);
        request.headers.push(("prefer".into(), format!("odata.maxpagesize={PAGE}")));
        request
    }

    fn found(&self, search: &Search<'_>, answer: &HttpAnswer) -> Result<Found, Verdict> {
        if answer.status != 200 {
            return Err(self.refused(None, answer));
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let Some(rows) = body.get("value").and_then(Value::as_array) else {
            return Err(Verdict::Retry { after: None, why: "a query without rows".into() });
        };
        let id = id_column(search.object);
        let person = |row: &Value| {
            let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
            let handles = search.fields.iter().filter_map(|field| text(field)).collect();
            Some(Person { id: text(&id)?, handles, made: text("createdon").unwrap_or_default() })
        };
        Ok(Found { people: rows.iter().filter_map(person).collect(), more: body.get("@odata.nextLink").is_some() })
    }

    fn update(&self, object: &str, changes: &[Change], token: &Token) -> Option<HttpRequest> {
        let part = |change: &Change| batch::Request {
            method: "PATCH",
            url: format!("{}/api/data/{}/{object}({})", self.base_url, self.version, change.id.as_deref().unwrap_or_default()),
            // Somebody who is there no more is not made anew.
            only_there: true,
            shown: false,
            body: Value::Object(change.fields.clone().into_iter().collect()).to_string(),
        };
        Some(self.batch(&changes.iter().map(part).collect::<Vec<_>>(), token))
    }

    fn updated(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let Some(parts) = batch::read(answer) else { return vec![self.refused(None, answer); changes.len()] };
        let mut parts = parts.into_iter();
        let verdict = |_| match parts.next() {
            Some(part) if part.is_success() => Verdict::Done { id: None },
            Some(part) if part.status == 404 => Verdict::PersonGone { why: batch::refusal(&part).1 },
            Some(part) => self.refused(None, &part),
            None => Verdict::Retry { after: None, why: "the batch stopped before this person".into() },
        };
        changes.iter().map(verdict).collect()
    }
}
