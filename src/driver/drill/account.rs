//! A CRM as its administrator and a checker meet it: over its own API, never through the gateway, with what each vendor calls the script's facts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Error;
use crate::{
    crm::{
        Token,
        dynamics::{self, Dynamics},
        salesforce::{Grant, Salesforce, VERSION},
        setup::Field,
    },
    driver::{
        demo::{
            hubspot::{CLIENT_ID, CLIENT_SECRET, HubSpot, REFRESH_TOKEN},
            web::Web,
        },
        setup,
    },
    shell::http::Client,
};

/// Whose contract a server keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HubSpot.
    Hubspot,
    /// Salesforce.
    Salesforce,
    /// Dynamics 365.
    Dynamics,
}

impl Kind {
    /// All of them, by their names.
    pub const ALL: [(&'static str, Self); 3] = [("hubspot", Self::Hubspot), ("salesforce", Self::Salesforce), ("dynamics", Self::Dynamics)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// The mapping that is shipped for it.
    pub(super) const fn mapping(self) -> &'static str {
        match self {
            Self::Hubspot => include_str!("../../../examples/mapping.toml"),
            Self::Salesforce => include_str!("../../../examples/mapping-salesforce.toml"),
            Self::Dynamics => include_str!("../../../examples/mapping-dynamics.toml"),
        }
    }

    /// What a drill adds so that the persons behind its calls are looked for, where the mapping does not say.
    pub(super) const fn contact(self) -> &'static str {
        match self {
            Self::Hubspot => "\n[contact]\nby = \"from\"\nobject = \"contacts\"\nfields = [\"phone\"]\nnobody = \"leave\"\n",
            Self::Salesforce | Self::Dynamics => "",
        }
    }

    /// A part of the address that writes go to, and nothing else does.
    pub(super) const fn writes_at(self) -> &'static str {
        match self {
            Self::Hubspot => "upsert",
            Self::Salesforce => "/composite",
            Self::Dynamics => "$batch",
        }
    }

    /// Object type of the records, and the field that holds the call's id.
    pub(super) const fn object(self) -> (&'static str, &'static str) {
        match self {
            Self::Hubspot => ("calls", "offhook_call_id"),
            Self::Salesforce => ("Voice_Call__c", "Offhook_Call_Id__c"),
            Self::Dynamics => ("phonecalls", "offhook_call_id"),
        }
    }

    /// The vendor's field for each of the script's facts; those that it has no field for are left out.
    pub(super) const fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Hubspot => &[
                ("call_id", "offhook_call_id"),
                ("from", "hs_call_from_number"),
                ("to", "hs_call_to_number"),
                ("direction", "hs_call_direction"),
                ("status", "hs_call_status"),
                ("title", "hs_call_title"),
                ("summary", "hs_call_body"),
                ("outcome", "offhook_outcome"),
                ("ended_as", "offhook_ended_as"),
                ("disposition", "offhook_disposition"),
                ("needs_review", "offhook_needs_review"),
                ("digits", "offhook_digits"),
                ("sentiment", "offhook_sentiment"),
            ],
            Self::Salesforce => &[
                ("call_id", "Offhook_Call_Id__c"),
                ("from", "From__c"),
                ("to", "To__c"),
                ("title", "Name"),
                ("summary", "Summary__c"),
                ("outcome", "Outcome__c"),
                ("ended_as", "Ended_As__c"),
                ("ended_as", "Status__c"),
                ("disposition", "Disposition__c"),
                ("needs_review", "Needs_Review__c"),
                ("digits", "Digits__c"),
                ("sentiment", "Sentiment__c"),
                ("person", "Contact__c"),
            ],
            Self::Dynamics => &[
                ("call_id", "offhook_call_id"),
                ("from", "phonenumber"),
                ("to", "offhook_to"),
                ("title", "subject"),
                ("summary", "description"),
                ("outcome", "offhook_outcome"),
                ("ended_as", "offhook_ended_as"),
                ("disposition", "offhook_disposition"),
                ("needs_review", "offhook_needs_review"),
                ("digits", "offhook_digits"),
                ("sentiment", "offhook_sentiment"),
                ("completed", "statecode"),
                ("person", "_regardingobjectid_value"),
            ],
        }
    }

    /// What stands beside each record, where the shipped mapping has such.
    pub(super) const fn beside(self) -> Option<&'static Beside> {
        match self {
            Self::Salesforce => Some(&Beside {
                object: "Task",
                call: "Offhook_Call_Id__c",
                link: "WhatId",
                fields: &[
                    ("call_id", "Offhook_Call_Id__c"),
                    ("title", "Subject"),
                    ("disposition", "CallDisposition"),
                    ("way", "CallType"),
                    ("progress", "Status"),
                    ("person", "WhoId"),
                ],
                same: &[("Note__c", "Description"), ("Talk_Seconds__c", "CallDurationInSeconds")],
            }),
            Self::Hubspot | Self::Dynamics => None,
        }
    }

    /// The `[[crm]]` of a gateway that writes to `url`; secrets stand in `folder`.
    pub(super) fn configuration(self, url: &str, folder: &str) -> String {
        let token = match self {
            Self::Hubspot => "oauth/v1/token",
            Self::Salesforce => "services/oauth2/token",
            Self::Dynamics => "tenant/oauth2/v2.0/token",
        };
        // Entra gives none to an app.
        let refresh = match self {
            Self::Hubspot | Self::Salesforce => format!("refresh_token_file = \"{folder}/refresh-token\"\n"),
            Self::Dynamics => String::new(),
        };
        format!(
            "[[crm]]\nname = \"{0}\"\nkind = \"{0}\"\nbase_url = \"{url}\"\ntoken_url = \"{url}/{token}\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret_file = \"{folder}/client-secret\"\n{refresh}mapping = \"{folder}/mapping.toml\"\n",
            self.name()
        )
    }
}

/// The vendor's names of what stands beside a record.
pub(super) struct Beside {
    /// Object type.
    pub(super) object: &'static str,
    /// The field that holds the call's id.
    pub(super) call: &'static str,
    /// The field that names the record.
    pub(super) link: &'static str,
    /// Its field for each of the script's facts.
    pub(super) fields: &'static [(&'static str, &'static str)],
    /// Fields of the record, each with that beside which must hold the same.
    pub(super) same: &'static [(&'static str, &'static str)],
}

/// A session.
pub(super) enum Account {
    Hubspot(HubSpot),
    Salesforce { web: Web, url: String, token: String },
    Dynamics { web: Web, url: String, token: String },
}

impl Account {
    /// Signs in.
    pub(super) async fn sign_in(kind: Kind, web: Web, url: &str) -> Result<Self, Error> {
        Ok(match kind {
            Kind::Hubspot => Self::Hubspot(HubSpot::sign_in(web, url).await?),
            Kind::Salesforce => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", CLIENT_ID),
                    ("client_secret", CLIENT_SECRET),
                    ("refresh_token", REFRESH_TOKEN),
                ];
                let answer = web.form(&format!("{url}/services/oauth2/token"), &form).await?;
                let token = answer.get("access_token").and_then(Value::as_str).unwrap_or_default().to_owned();
                Self::Salesforce { web, url: url.to_owned(), token }
            }
            Kind::Dynamics => {
                let scope = format!("{url}/.default");
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", CLIENT_ID),
                    ("client_secret", CLIENT_SECRET),
                    ("scope", scope.as_str()),
                ];
                let answer = web.form(&format!("{url}/tenant/oauth2/v2.0/token"), &form).await?;
                let token = answer.get("access_token").and_then(Value::as_str).unwrap_or_default().to_owned();
                Self::Dynamics { web, url: url.to_owned(), token }
            }
        })
    }

    /// Makes those of the fields that an account does not have from the start.
    pub(super) async fn make_fields(&self, object: &str, fields: &[Field]) -> Result<(), Error> {
        match self {
            Self::Hubspot(account) => account.make_fields(object, fields).await?,
            Self::Salesforce { url, token, .. } => {
                let crm = Salesforce {
                    base_url: url.clone(),
                    token_url: String::new(),
                    client_id: String::new(),
                    grant: Grant::ClientCredentials(Zeroizing::default()),
                    version: VERSION.to_owned(),
                    object: object.to_owned(),
                    key: String::new(),
                    link: None,
                    beside: None,
                };
                setup::make_all(&crm, token, object, fields).await?;
            }
            Self::Dynamics { url, token, .. } => {
                let crm = Dynamics {
                    base_url: url.clone(),
                    token_url: String::new(),
                    client_id: String::new(),
                    client_secret: Zeroizing::default(),
                    version: dynamics::VERSION.to_owned(),
                    set: object.to_owned(),
                    key: String::new(),
                    link: None,
                };
                // Its key counts once its index is built, which takes a while.
                let token = Token { access: Zeroizing::new(token.clone()), ..Token::standing() };
                setup::set_up(&Client::new(setup::ANSWER).map_err(setup::Error::from)?, &crm, &token, &[(object, fields.to_vec())], false)
                    .await?;
            }
        }
        Ok(())
    }

    /// Makes a person with this number; his id.
    pub(super) async fn make_person(&self, number: &str) -> Result<String, Error> {
        let id = |answer: &Value| answer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(match self {
            Self::Hubspot(account) => account.make_person(number).await?,
            Self::Dynamics { web, url, token } => {
                let contacts = format!("{url}/api/data/v9.2/contacts");
                web.post(&contacts, Some(token), &json!({"lastname": number, "telephone1": number})).await?;
                let address = format!("{contacts}?$filter=telephone1%20eq%20'{}'", number.replace('+', "%2B"));
                let found = web.get(&address, Some(token)).await?.unwrap_or_default();
                found.pointer("/value/0/contactid").and_then(Value::as_str).unwrap_or_default().to_owned()
            }
            Self::Salesforce { web, url, token } => id(&web
                .post(
                    &format!("{url}/services/data/{VERSION}/sobjects/Contact"),
                    Some(token),
                    &json!({"LastName": number, "Phone": number}),
                )
                .await?),
        })
    }

    /// The CRM loses the records of this call.
    pub(super) async fn delete(&self, kind: Kind, call_id: &str) -> Result<(), Error> {
        let (object, field) = kind.object();
        match self {
            Self::Hubspot(account) => {
                for record in account.records(field, call_id, &[]).await? {
                    account.delete(&record.id).await?;
                }
            }
            Self::Salesforce { web, url, token } => {
                let beside = kind.beside().map(|beside| (beside.object, beside.call));
                for (object, field) in [(object, field)].into_iter().chain(beside) {
                    for record in self.query(object, field, call_id, &[]).await? {
                        let id = record.get("Id").cloned().unwrap_or_default();
                        web.delete(&format!("{url}/services/data/{VERSION}/sobjects/{object}/{id}"), token).await?;
                    }
                }
            }
            Self::Dynamics { web, url, token } => {
                let address = format!("{url}/api/data/v9.2/{object}?$select={field}&$filter={field}%20eq%20'{call_id}'");
                let answer = web.get(&address, Some(token)).await?.unwrap_or_default();
                let rows = answer.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
                for id in rows.iter().filter_map(|row| row.get("activityid")?.as_str()) {
                    web.delete(&format!("{url}/api/data/v9.2/{object}({id})"), token).await?;
                }
            }
        }
        Ok(())
    }

    /// All records that hold this call's id, their fields as texts; `person` among them where a record is linked with one.
    pub(super) async fn records(
        &self,
        kind: Kind,
        call_id: &str,
        fields: &[String],
        linked: bool,
    ) -> Result<Vec<BTreeMap<String, String>>, Error> {
        let (object, field) = kind.object();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match self {
            Self::Hubspot(account) => {
                let mut records = Vec::new();
                for record in account.records(field, call_id, fields).await? {
                    let mut fields: BTreeMap<_, _> = record.fields.iter().map(|(name, value)| (name.clone(), text(value))).collect();
                    if linked {
                        fields.extend(account.person_of(&record.id).await?.map(|person| ("person".to_owned(), person)));
                    }
                    records.push(fields);
                }
                Ok(records)
            }
            Self::Salesforce { .. } => {
                let mut columns = fields.to_vec();
                columns.extend(linked.then(|| "Contact__c".to_owned()));
                self.query(object, field, call_id, &columns).await
            }
            Self::Dynamics { web, url, token } => {
                let columns = format!("{},_regardingobjectid_value", fields.join(","));
                let address = format!("{url}/api/data/v9.2/{object}?$select={columns}&$filter={field}%20eq%20'{call_id}'");
                let answer = web.get(&address, Some(token)).await?.unwrap_or_default();
                let rows = answer.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
                let fields = |row: &Value| {
                    let set = row.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
                    set.map(|(name, value)| (name.clone(), text(value))).collect()
                };
                Ok(rows.iter().map(fields).collect())
            }
        }
    }

    /// All records of `object` whose `field` holds this call's id, by Salesforce's query: their ids and these fields, as texts. None of other vendors'.
    pub(super) async fn query(
        &self,
        object: &str,
        field: &str,
        call_id: &str,
        columns: &[String],
    ) -> Result<Vec<BTreeMap<String, String>>, Error> {
        let Self::Salesforce { web, url, token } = self else { return Ok(Vec::new()) };
        let columns: Vec<_> = std::iter::once("Id").chain(columns.iter().map(String::as_str)).collect();
        let soql = format!("SELECT {} FROM {object} WHERE {field} = '{call_id}'", columns.join(","));
        let address = format!("{url}/services/data/{VERSION}/query?q={}", soql.replace(' ', "+"));
        let answer = web.get(&address, Some(token)).await?.unwrap_or_default();
        let records = answer.get("records").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let fields = |record: &Value| {
            let set = record.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
            set.map(|(name, value)| (name.clone(), text(value))).collect()
        };
        Ok(records.iter().map(fields).collect())
    }
}
