//! What each CRM's validation refuses, and whether a person is shown it: an invalid disposition, a malformed date, a reference that nobody has.

use serde_json::{Value, json};
use toml::Table;

use super::{
    Error,
    account::Kind,
    check::Played,
    script::{KINDS, Story, Told, When, story},
    stage::Stage,
};
use crate::{
    chance::Chance,
    crm::setup::{Field, Kind as FieldKind},
    driver::demo::report::Check,
};

/// What a CRM is given to refuse, by the vendor's names.
struct Refusals {
    /// The field that takes one of a list.
    disposition: &'static str,
    /// What of the list the platform tells; Dataverse's are numbers.
    known: &'static str,
    /// What it tells that is none of it.
    unknown: &'static str,
    /// The field that takes a time.
    next_action: &'static str,
    /// Object type of people, and their field that holds a reference.
    people: (&'static str, &'static str),
}

impl Kind {
    const fn refusals(self) -> &'static Refusals {
        match self {
            Self::Hubspot => &Refusals {
                disposition: "offhook_disposition",
                known: "RESOLVED",
                unknown: "NO SUCH WORD",
                next_action: "offhook_next_action",
                people: ("contacts", "company"),
            },
            Self::Salesforce => &Refusals {
                disposition: "Disposition__c",
                known: "RESOLVED",
                unknown: "NO SUCH WORD",
                next_action: "Next_Action__c",
                people: ("Contact", "Customer_Number__c"),
            },
            Self::Dynamics => &Refusals {
                disposition: "offhook_disposition",
                known: "100000000",
                unknown: "100000099",
                next_action: "offhook_next_action",
                people: ("contacts", "offhook_customer_number"),
            },
        }
    }
}

/// The mapping with two fields that write just what was told, and with people who are looked for by a reference.
pub(super) fn mapping(text: &str, kind: Kind) -> Result<String, Error> {
    let Refusals { disposition, next_action, people: (object, reference), .. } = *kind.refusals();
    let mut table: Table = text.parse().map_err(|why: toml::de::Error| Error::Mapping(why.to_string()))?;
    let rule = |keys: &[(&str, &str)]| keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect::<Table>();
    let mut told = rule(&[("to", disposition), ("from", "disposition_code"), ("custom", "enumeration")]);
    if kind == Kind::Dynamics {
        told.insert("as".into(), "number".into());
    }
    let dated = rule(&[("to", next_action), ("from", "next_action_date"), ("custom", "datetime")]);
    if let Some(rules) = table.get_mut("field").and_then(toml::Value::as_array_mut) {
        let to = |rule: &toml::Value| rule.get("to").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        rules.retain(|rule| ![disposition, next_action].contains(&to(rule).as_str()));
        rules.extend([told.into(), dated.into()]);
    }
    let mut contact = rule(&[("by", "call_outcome"), ("kind", "reference"), ("object", object)]);
    contact.insert("fields".into(), vec![reference].into());
    // What names the person of a record stays what it was.
    contact.extend(table.get("contact").and_then(|before| before.get("link")).map(|link| ("link".to_owned(), link.clone())));
    table.insert("contact".into(), contact.into());
    toml::to_string(&table).map_err(|why| Error::Mapping(why.to_string()))
}

/// Completes what the account is given: the words of the list, and the field of the references.
pub(super) fn complete(kind: Kind, field: &mut Field) {
    let Refusals { disposition, known, people: (_, reference), .. } = *kind.refusals();
    if field.name == disposition {
        field.words = vec![known.to_owned()];
    } else if field.name == reference {
        field.kind = Some(FieldKind::Text(REFERENCE_CHARS));
    }
}

/// A call of which the platform tells something that the CRM refuses; each of the three ways in turn.
pub(super) fn refused(kind: Kind, index: usize, chance: &mut Chance) -> Story {
    let Refusals { disposition, known, unknown, next_action, people: (object, reference) } = *kind.refusals();
    let (data, why) = match index % 3 {
        0 => (json!({"disposition_code": unknown}), disposition.to_owned()),
        1 => (json!({"disposition_code": known, "next_action_date": "the day after tomorrow"}), next_action.to_owned()),
        _ => {
            (json!({"disposition_code": known, "call_outcome": format!("CUSTOMER-{index}")}), format!("{reference}: nobody in `{object}`"))
        }
    };
    let told =
        vec![Told { id: format!("refused-{index}"), kind: "call.ended", data, copies: 1, when: When::After(std::time::Duration::ZERO) }];
    Story { told, refused: Some(why), ..story(index * KINDS, "", false, chance) }
}

/// Each refused record waits for a person, with the field and the CRM's words.
pub(super) async fn checks(stage: &Stage, played: &[Played]) -> Vec<Check> {
    let scratch = stage.scratch.read().await;
    let mut checks = Vec::new();
    for Played { story, call_id, .. } in played {
        let (Some(why), Some(id)) = (&story.refused, call_id) else { continue };
        let call = scratch.call(id).await.unwrap_or_default();
        let write = call.pointer("/writes/0").cloned().unwrap_or_default();
        let says = write.get("why").and_then(Value::as_str).unwrap_or_default().to_owned();
        let ok = write.get("state").and_then(Value::as_str) == Some("review") && says.contains(why.as_str());
        checks.push(Check::new(format!("{why} is shown to a person"), ok, says));
    }
    checks
}

/// Characters of a customer's number.
const REFERENCE_CHARS: usize = 40;
