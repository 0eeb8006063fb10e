//! Two targets that would write one record, each over the other.

use super::{Api, Crm};
use crate::{crm::mapping::Mapping, shell::secrets::Secret};

/// The first object and key field that `crm` and a target of this API and mapping both write: a record bears its call's key, which is the same for each target.
pub(super) fn shared<'m>(crm: &Crm, api: &Api, refresh_token: &Secret, mapping: &'m Mapping) -> Option<(&'m str, &'m str)> {
    if !one_account((&crm.api, &crm.refresh_token), (api, refresh_token)) {
        return None;
    }
    // No vendor tells names apart by their case.
    let same = |(a, b): &(&str, &str), (c, d): &(&str, &str)| a.eq_ignore_ascii_case(c) && b.eq_ignore_ascii_case(d);
    places(mapping).find(|place| places(&crm.mapping).any(|other| same(place, &other)))
}

/// The objects that a mapping writes, each with its key field.
fn places(mapping: &Mapping) -> impl Iterator<Item = (&str, &str)> {
    let beside = mapping.beside.iter().map(|beside| (beside.object.as_str(), beside.key.as_str()));
    [(mapping.object.as_str(), mapping.key.as_str())].into_iter().chain(beside)
}

/// Whether both are surely reached as one account. HubSpot has one address for all of them, and a refresh token for each: where that is not read, nobody knows.
fn one_account((one, token): (&Api, &Secret), (other, other_token): (&Api, &Secret)) -> bool {
    match (one, other) {
        (Api::Hubspot { base_url: a, .. }, Api::Hubspot { base_url: b, .. }) => {
            a.eq_ignore_ascii_case(b) && !token.reveal().is_empty() && token.reveal() == other_token.reveal()
        }
        (Api::Salesforce { base_url: a, .. }, Api::Salesforce { base_url: b, .. })
        | (Api::Dynamics { base_url: a, .. }, Api::Dynamics { base_url: b, .. }) => a.eq_ignore_ascii_case(b),
        (Api::Http { url: a, .. }, Api::Http { url: b, .. }) => a == b,
        _ => false,
    }
}
