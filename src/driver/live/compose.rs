//! The configuration as the rooms want it.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::Error;
use crate::{
    config::{Config, CrmKind, Target},
    crm::hubspot::HubSpot,
    pipeline::{self, Key},
    shell::{
        net::lookup,
        secrets::{Kept, Secret},
    },
};

/// What the pipeline goes by; refresh tokens as they were kept.
pub(super) fn pipeline(config: &Config, kept: &Kept) -> Result<pipeline::Config, Error> {
    let mut crms = Vec::new();
    for crm in &config.crms {
        let refresh_token = kept.current(&crm.name, &crm.refresh_token)?;
        let secret = |secret: &Secret| Zeroizing::new(secret.reveal().to_owned());
        let CrmKind::Hubspot = crm.kind;
        let mapping = crm.mapping.clone();
        let connector = HubSpot {
            base_url: crm.base_url.clone(),
            token_url: crm.token_url.clone(),
            client_id: crm.client_id.clone(),
            client_secret: secret(&crm.client_secret),
            object: mapping.object.clone(),
            key: mapping.key.clone(),
        };
        crms.push(pipeline::Crm {
            name: crm.name.clone(),
            connector: Box::new(connector),
            mapping: Box::new(move |record| mapping.apply(record)),
            refresh_token: secret(&refresh_token),
        });
    }
    let key = |w: &crate::config::Webhook| Some((w.source.clone(), Key::parse(w.secret.reveal())?));
    Ok(pipeline::Config {
        crms,
        sources: config.webhooks.iter().filter_map(key).collect(),
        outcome_wait: config.writeback.outcome_wait,
        attempts_max: config.writeback.attempts_max,
    })
}

/// Where each target is, in the configuration's order.
pub(super) async fn targets(config: &Config) -> Result<Vec<SocketAddr>, Error> {
    let mut addresses = Vec::new();
    for target in &config.targets {
        addresses.push(address(target).await?);
    }
    Ok(addresses)
}

async fn address(target: &Target) -> Result<SocketAddr, Error> {
    let failed = |e| Error::Name(target.peer.name.clone(), target.host.clone(), e);
    let found = lookup(&target.host, target.port).await.map_err(failed)?;
    found.first().copied().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
}
