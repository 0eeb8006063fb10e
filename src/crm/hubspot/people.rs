//! HubSpot's people: found by search, linked by associations.

use serde_json::{Value, json};

use super::{HubSpot, MISSING_SCOPES, properties, refused};
use crate::crm::{
    Change, Connector, HttpAnswer, HttpRequest, Token, Verdict,
    contact::{Found, People, Person, Search},
};

/// Values of one filter; HubSpot takes a hundred, and each number is sought in up to four forms.
const FIND_MAX: usize = 20;
/// Searches a second that an account has, whatever else it has left.
const FINDS_PER_SECOND: u32 = 4;
/// People that one page may hold.
const PAGE: usize = 200;

impl People for HubSpot {
    fn find_max(&self) -> usize {
        FIND_MAX
    }

    fn finds_per_second(&self) -> Option<u32> {
        Some(FINDS_PER_SECOND)
    }

    fn find(&self, search: &Search<'_>, token: &Token) -> HttpRequest {
        // `IN` compares with values in lower case.
        let values: Vec<_> = search.values.iter().map(|value| value.to_lowercase()).collect();
        let group = |field: &String| json!({"filters": [{"propertyName": field, "operator": "IN", "values": values}]});
        let groups: Vec<_> = search.fields.iter().map(group).collect();
        let mut properties = search.fields.to_vec();
        properties.push("createdate".to_owned());
        let body = json!({"filterGroups": groups, "properties": properties, "limit": PAGE, "after": "0", "sorts": []});
        self.post(format!("crm/objects/{}/{}/search", self.version, search.object), &body, token)
    }

    fn found(&self, search: &Search<'_>, answer: &HttpAnswer) -> Result<Found, Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if answer.status != 200 {
            return Err(refused(answer, &body));
        }
        let Some(results) = body.get("results").and_then(Value::as_array) else {
            return Err(Verdict::Retry { after: None, why: "a search without results".into() });
        };
        let total = body.get("total").and_then(Value::as_u64).and_then(|t| usize::try_from(t).ok()).unwrap_or(results.len());
        let person = |result: &Value| {
            let property = |name: &str| result.get("properties").and_then(|p| p.get(name)).and_then(Value::as_str);
            let made = result.get("createdAt").and_then(Value::as_str).or_else(|| property("createdate")).unwrap_or_default();
            let handles = search.fields.iter().filter_map(|field| property(field)).map(str::to_owned).collect();
            Some(Person { id: result.get("id")?.as_str()?.to_owned(), handles, made: made.to_owned() })
        };
        Ok(Found { people: results.iter().filter_map(person).collect(), more: total > results.len() })
    }

    fn update(&self, object: &str, changes: &[Change], token: &Token) -> Option<HttpRequest> {
        let input = |change: &Change| json!({"id": change.id, "properties": properties(change), "objectWriteTraceId": change.key});
        let body = json!({"inputs": changes.iter().map(input).collect::<Vec<_>>()});
        Some(self.post(format!("crm/objects/{}/{object}/batch/update", self.version), &body, token))
    }

    fn updated(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        // Told apart from the others of its batch it is the person; a refusal of the whole, of a property, or for a scope, is the set-up.
        let apart = answer.status == 207 && !lacks_a_scope(&body);
        let gone = |verdict| match verdict {
            Verdict::Gone { why } if apart && !why.contains("PROPERTY_DOESNT_EXIST") => Verdict::PersonGone { why },
            other => other,
        };
        self.verdicts(changes, answer).into_iter().map(gone).collect()
    }

    fn link(&self, object: &str, pairs: &[(String, String)], token: &Token) -> Option<HttpRequest> {
        let inputs: Vec<_> = pairs.iter().map(|(record, person)| json!({"from": {"id": record}, "to": {"id": person}})).collect();
        let path = format!("crm/v4/associations/{}/{object}/batch/associate/default", self.object);
        Some(self.post(path, &json!({"inputs": inputs}), token))
    }

    fn linked(&self, pairs: &[(String, String)], answer: &HttpAnswer) -> Vec<Verdict> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let list = |name: &str| body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if !(200..300).contains(&answer.status) {
            return match refused(answer, &body) {
                // A missing scope is the set-up's, whoever is to be linked.
                verdict if answer.status == 403 => vec![verdict; pairs.len()],
                // One person who is gone has the whole batch refused.
                Verdict::Rejected { why } | Verdict::Gone { why } if pairs.len() > 1 => vec![Verdict::Split { why }; pairs.len()],
                Verdict::Gone { why } => vec![Verdict::PersonGone { why }],
                verdict => vec![verdict; pairs.len()],
            };
        }
        let side = |result: &Value, name: &str| result.get(name).and_then(|s| s.get("id")).and_then(Value::as_str).map(str::to_owned);
        let is = |result: &Value, (record, person): &(String, String)| {
            side(result, "from").as_ref() == Some(record) && side(result, "to").as_ref() == Some(person)
        };
        let of = |pair: &(String, String)| {
            if list("results").iter().any(|result| is(result, pair)) {
                return Verdict::Done { id: None };
            }
            match list("errors").first() {
                Some(_) if pairs.len() > 1 => Verdict::Split { why: "one of the links was refused".into() },
                Some(error) => match refused(answer, error) {
                    Verdict::Gone { why } if !lacks_a_scope(&body) => Verdict::PersonGone { why },
                    verdict => verdict,
                },
                None => Verdict::Ambiguous { why: format!("{} without a result for this link", answer.status) },
            }
        };
        pairs.iter().map(of).collect()
    }

    fn links_apart(&self) -> bool {
        true
    }
}

/// Whether an input of a batch was refused for a scope that the app was not granted.
fn lacks_a_scope(body: &Value) -> bool {
    let of = |error: &Value| error.get("category").and_then(Value::as_str) == Some(MISSING_SCOPES);
    body.get("errors").and_then(Value::as_array).is_some_and(|errors| errors.iter().any(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crm::hubspot::tests::{answer, connector};

    fn pair(record: &str, person: &str) -> (String, String) {
        (record.to_owned(), person.to_owned())
    }

    #[test]
    fn people_are_asked_for_by_every_field_and_read_with_what_they_bear() {
        let (fields, values) = (["phone".to_owned(), "mobilephone".to_owned()], ["+15551230001".to_owned(), "ABC".to_owned()]);
        let search = Search { object: "contacts", fields: &fields, values: &values };
        let sent = connector().find(&search, &Token::standing());
        assert_eq!(sent.url, "http://crm/crm/objects/2026-03/contacts/search");
        let body: Value = serde_json::from_slice(&sent.body).expect("JSON");
        let filter = |field: &str| json!({"filters": [{"propertyName": field, "operator": "IN", "values": ["+15551230001", "abc"]}]});
        assert_eq!(body.get("filterGroups"), Some(&json!([filter("phone"), filter("mobilephone")])));
        let told = json!({"total": 1, "results": [{"id": "7", "createdAt": "2026-01-01T00:00:00Z", "properties": {"mobilephone": "+15551230001", "phone": null}}]});
        let found = connector().found(&search, &answer(200, &told.to_string())).expect("people");
        let people = vec![Person { id: "7".into(), handles: vec!["+15551230001".into()], made: "2026-01-01T00:00:00Z".into() }];
        assert_eq!(found, Found { people, more: false });
        let more = json!({"total": 201, "results": []}).to_string();
        assert!(connector().found(&search, &answer(200, &more)).expect("people").more, "a page is not all");
        assert_eq!(connector().found(&search, &answer(429, "{}")).expect_err("no people").name(), "throttled");
    }

    #[test]
    fn a_missing_property_is_no_missing_person() {
        let change = Change { key: "7".into(), id: Some("7".into()), fields: Default::default(), written: Default::default() };
        let told =
            |status: u16, body: Value| connector().updated(std::slice::from_ref(&change), &answer(status, &body.to_string())).remove(0);
        let gone =
            json!({"results": [], "errors": [{"category": "OBJECT_NOT_FOUND", "message": "no such contact", "context": {"ids": ["7"]}}]});
        assert!(matches!(told(207, gone), Verdict::PersonGone { .. }));
        let property = json!({"category": "VALIDATION_ERROR", "message": "PROPERTY_DOESNT_EXIST: offhook_score"});
        assert!(matches!(told(400, property), Verdict::Gone { .. }));
        let scope = json!({"category": "MISSING_SCOPES", "message": "no scope", "context": {"ids": ["7"]}});
        assert!(matches!(told(403, scope.clone()), Verdict::Gone { .. }));
        assert!(matches!(told(207, json!({"results": [], "errors": [scope]})), Verdict::Gone { .. }));
    }

    #[test]
    fn each_link_is_told_apart_and_a_person_who_is_gone_does_not_hold_the_others() {
        let pairs = [pair("1", "7"), pair("2", "8")];
        let result = |record: &str, person: &str| json!({"from": {"id": record}, "to": {"id": person}});
        let all = json!({"status": "COMPLETE", "results": [result("2", "8"), result("1", "7")]}).to_string();
        assert_eq!(connector().linked(&pairs, &answer(200, &all)), vec![Verdict::Done { id: None }; 2]);
        let gone = json!({"category": "OBJECT_NOT_FOUND", "message": "no such contact"}).to_string();
        assert!(connector().linked(&pairs, &answer(404, &gone)).iter().all(|v| matches!(v, Verdict::Split { .. })));
        let alone = connector().linked(&pairs[..1], &answer(404, &gone));
        assert_eq!(alone, [Verdict::PersonGone { why: "no such contact".into() }]);
    }

    #[test]
    fn a_missing_scope_is_no_missing_person() {
        let pairs = [pair("1", "7"), pair("2", "8")];
        let refused = json!({"category": "MISSING_SCOPES", "message": "no scope"}).to_string();
        for pairs in [&pairs[..], &pairs[..1]] {
            let told = connector().linked(pairs, &answer(403, &refused));
            assert_eq!(told, vec![Verdict::Gone { why: "no scope".into() }; pairs.len()]);
        }
        let apart = format!(r#"{{"results": [], "errors": [{refused}]}}"#);
        assert_eq!(connector().linked(&pairs[..1], &answer(207, &apart)), [Verdict::Gone { why: "no scope".into() }]);
    }
}
