//! Salesforce's double, asked beside the machine, and the connector that writes to it.

use super::*;
use crate::crm::{
    salesforce::{Grant, Salesforce, VERSION},
    sandbox::Fault,
};

pub(super) fn connector() -> Salesforce {
    Salesforce {
        base_url: "http://crm".into(),
        token_url: "http://crm/services/oauth2/token".into(),
        client_id: sandbox::CLIENT_ID.into(),
        grant: Grant::ClientCredentials(Zeroizing::new(sandbox::CLIENT_SECRET.into())),
        version: VERSION.into(),
        object: "Voice_Call__c".into(),
        key: "Key__c".into(),
        link: None,
        beside: None,
    }
}

/// As an administrator asks it.
pub(super) fn ask(world: &mut World, method: &str, path: &str, body: &Value) -> Value {
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", sandbox::CLIENT_ID, sandbox::CLIENT_SECRET);
    let token = world.ask("POST", "http://crm/services/oauth2/token", Vec::new(), form.into_bytes()).expect("answered").body;
    let token: Value = serde_json::from_slice(&token).expect("JSON");
    let headers = vec![("authorization".to_owned(), format!("Bearer {}", token["access_token"].as_str().expect("a token")))];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = world.ask(method, &format!("http://crm/services/data/v62.0/{path}"), headers, body).expect("answered");
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

pub(super) fn faults(world: &mut World, rules: &Value) {
    let rules: Vec<Fault> = serde_json::from_value(rules.clone()).expect("rules");
    world.account.as_mut().expect("a double").set_faults(rules);
}
