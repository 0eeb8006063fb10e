//! The CRM as an administrator and a checker meet it: over its own API, never through the gateway.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::web::{Error, Web};
use crate::{
    crm::{hubspot::VERSION, setup::Field},
    driver::setup,
};

/// Credentials that a sandbox of the contract takes.
pub const CLIENT_ID: &str = "sim-client";
/// Its secret.
pub const CLIENT_SECRET: &str = "sim-secret";
/// Its first refresh token.
pub const REFRESH_TOKEN: &str = "sim-refresh";

/// A record as it stands in the CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// HubSpot's id.
    pub id: String,
    /// What is set.
    pub fields: BTreeMap<String, Value>,
}

/// A session with the CRM.
#[derive(Clone, Debug)]
pub struct HubSpot {
    web: Web,
    url: String,
    token: String,
}

impl HubSpot {
    /// Signs in.
    pub async fn sign_in(web: Web, url: &str) -> Result<Self, Error> {
        let url = url.trim_end_matches('/').to_owned();
        let form =
            [("grant_type", "refresh_token"), ("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET), ("refresh_token", REFRESH_TOKEN)];
        let answer = web.form(&format!("{url}/oauth/v1/token"), &form).await?;
        let token = answer.get("access_token").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self { web, url, token })
    }

    /// Makes those of the fields that an account does not have from the start.
    pub async fn make_fields(&self, object: &str, fields: &[Field]) -> Result<(), setup::Error> {
        let crm = crate::crm::hubspot::HubSpot {
            base_url: self.url.clone(),
            token_url: String::new(),
            client_id: String::new(),
            client_secret: Zeroizing::default(),
            version: VERSION.to_owned(),
            object: object.to_owned(),
            key: String::new(),
        };
        setup::make_all(&crm, &self.token, object, fields).await
    }

    /// Makes a contact with this number; its id.
    pub async fn make_person(&self, number: &str) -> Result<String, Error> {
        let body = json!({"properties": {"phone": number}});
        let answer = self.web.post(&format!("{}/crm/v3/objects/contacts", self.url), Some(&self.token), &body).await?;
        Ok(answer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Deletes a call record.
    pub async fn delete(&self, record: &str) -> Result<(), Error> {
        self.web.delete(&format!("{}/crm/v3/objects/calls/{record}", self.url), &self.token).await
    }

    /// The contact that a call record is linked with.
    pub async fn person_of(&self, record: &str) -> Result<Option<String>, Error> {
        let address = format!("{}/crm/v4/objects/calls/{record}/associations/contacts", self.url);
        let answer = self.web.get(&address, Some(&self.token)).await?.unwrap_or_default();
        Ok(answer.pointer("/results/0/toObjectId").map(ToString::to_string))
    }

    /// All call records whose `key` property is `value`.
    pub async fn records(&self, key: &str, value: &str, properties: &[String]) -> Result<Vec<Record>, Error> {
        let body = json!({"properties": properties, "limit": 100, "after": "0", "sorts": [],
            "filterGroups": [{"filters": [{"propertyName": key, "operator": "EQ", "value": value}]}]});
        let answer = self.web.post(&format!("{}/crm/v3/objects/calls/search", self.url), Some(&self.token), &body).await?;
        let results = answer.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(results.iter().filter_map(record).collect())
    }
}

fn record(result: &Value) -> Option<Record> {
    let fields = result.get("properties")?.as_object()?;
    // HubSpot answers null for what was asked for and never set.
    let fields = fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
    Some(Record { id: result.get("id")?.as_str()?.to_owned(), fields })
}
