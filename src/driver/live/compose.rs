//! The configuration as the rooms want it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{Error, signalling::Order};
use crate::{
    call::Local,
    codec::Codec,
    config::{self, Api, Config, OnJournalFailure, Route, Target, Trunk},
    crm::{
        Connector,
        contact::Link,
        dynamics::{self, Dynamics},
        http::Http,
        hubspot::{self, HubSpot},
        mapping::{Beside, Mapping},
        salesforce::{self, Salesforce},
    },
    driver::replay::drive::Setup,
    gateway, media,
    pipeline::{self, Key, webhook::Marks},
    route,
    shell::{
        http,
        net::{Listener, lookup},
        secrets::{Kept, Secret},
    },
};

/// What the pipeline goes by; refresh tokens as they were kept.
pub(super) fn pipeline(config: &Config, kept: &Kept) -> Result<pipeline::Config, Error> {
    let mut crms = Vec::new();
    for crm in &config.crms {
        let refresh_token = kept.current(&crm.name, &crm.refresh_token)?;
        let mapping = crm.mapping.clone();
        let contacts = mapping.contact.clone().map(|rule| {
            let maker = connector(&crm.api, &rule.object, rule.key.as_deref().unwrap_or_default(), (None, None));
            pipeline::Contacts { rule, links: mapping.person_links(), maker }
        });
        crms.push(pipeline::Crm {
            name: crm.name.clone(),
            connector: connector_of(crm),
            contacts,
            writes: crm.mapping.writes(),
            mapping: Box::new(move |record| mapping.apply(record)),
            refresh_token: secret(&refresh_token),
            reads: crm.mapping.reads(),
            pace: crm.pace,
            schedule: crm.schedule.clone(),
            activation: Some(crm.activation.clone()),
        });
    }
    let source = |w: &crate::config::Webhook| {
        let keys = w.secrets.iter().filter_map(|secret| Key::parse(secret.reveal())).collect();
        let source = pipeline::Source {
            scheme: w.scheme.clone(),
            schema: w.schema.clone(),
            keys,
            public_url: w.public_url.clone(),
            pull: w.pull.clone(),
        };
        (w.source.clone(), source)
    };
    Ok(pipeline::Config {
        crms,
        sources: config.webhooks.iter().map(source).collect(),
        marks: Marks::new(kept.marks()?),
        expects: config.expects.clone(),
        attempts_max: config.writeback.attempts_max,
        keep: config.data.keep,
    })
}

/// The doors of webhook sources.
pub(super) fn doors(config: &Config) -> BTreeMap<String, http::Door> {
    let door = |w: &crate::config::Webhook| (w.source.clone(), http::Door { allow: w.allow.clone(), per_second: w.per_second });
    config.webhooks.iter().map(door).collect()
}

/// The contract of a target, for the records of its mapping.
pub(crate) fn connector_of(crm: &config::Crm) -> Box<dyn Connector> {
    let Mapping { object, key, contact, beside, .. } = &crm.mapping;
    connector(&crm.api, object, key, (contact.as_ref().and_then(|c| c.link.as_ref()), beside.as_ref()))
}

/// A CRM's contract, for the records of one object whose unique field is `key`; `link` names their people, and `beside` what is written with each.
fn connector(api: &Api, object: &str, key: &str, (link, beside): (Option<&Link>, Option<&Beside>)) -> Box<dyn Connector> {
    match api {
        Api::Hubspot { base_url, token_url, client_id, client_secret, api_version } => Box::new(HubSpot {
            base_url: base_url.clone(),
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            client_secret: secret(client_secret),
            version: api_version.clone().unwrap_or_else(|| hubspot::VERSION.to_owned()),
            object: object.to_owned(),
            key: key.to_owned(),
        }),
        Api::Salesforce { base_url, token_url, client_id, grant, api_version } => Box::new(Salesforce {
            base_url: base_url.clone(),
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            grant: grant.clone(),
            version: api_version.clone().unwrap_or_else(|| salesforce::VERSION.to_owned()),
            object: object.to_owned(),
            key: key.to_owned(),
            link: link.map(|link| link.to.clone()),
            beside: beside.cloned(),
        }),
        Api::Dynamics { base_url, token_url, client_id, client_secret, api_version } => Box::new(Dynamics {
            base_url: base_url.clone(),
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            client_secret: secret(client_secret),
            version: api_version.clone().unwrap_or_else(|| dynamics::VERSION.to_owned()),
            set: object.to_owned(),
            key: key.to_owned(),
            link: link.cloned(),
        }),
        Api::Http { method, url, body, secret: standing } => Box::new(Http {
            method,
            url: url.clone(),
            body: body.clone(),
            secret: standing.as_ref().map(|(name, value)| (name.clone(), secret(value))),
        }),
    }
}

fn secret(secret: &Secret) -> Zeroizing<String> {
    Zeroizing::new(secret.reveal().to_owned())
}

/// Looks the names of targets up again from time to time, and says where they have gone. Ends with the gateway.
pub(super) async fn follow_names(config: Config, mut known: Vec<SocketAddr>, orders: mpsc::Sender<Order>) {
    let named = |t: &&Target| t.host.parse::<std::net::IpAddr>().is_err();
    if !config.targets.iter().any(|t| named(&t)) {
        return;
    }
    loop {
        tokio::time::sleep(NAMES_PERIOD).await;
        for (index, (target, known)) in config.targets.iter().zip(&mut known).enumerate().filter(|(_, (t, _))| named(t)) {
            // A resolver that fails changes nothing: the old address is the best that is known.
            match lookup(&target.host, target.port).await {
                Ok(found) if !found.contains(known) => {
                    let Some(address) = found.first().copied() else { continue };
                    tracing::info!(target = %target.peer.name, from = %known, to = %address, "a target's name has another address");
                    *known = address;
                    if orders.send(Order::Moved { target: index, address }).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(target = %target.peer.name, host = %target.host, %error, "a target's name cannot be looked up")
                }
            }
        }
    }
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

/// A gateway that talks to no network, for a capture's play: what is configured is what is bound, and a target whose name only a resolver knows is
/// nowhere.
pub fn on_a_stage(config: &Config) -> Setup {
    let nowhere = || SocketAddr::from(([0, 0, 0, 0], 0));
    let place =
        |t: &Target| t.host.trim_matches(['[', ']']).parse().map_or_else(|_| nowhere(), |ip: std::net::IpAddr| SocketAddr::new(ip, t.port));
    let crm = |crm: &crate::config::Crm| {
        let mapping = crm.mapping.clone();
        (crm.name.clone(), Box::new(move |record: &Map<String, Value>| mapping.apply(record)) as pipeline::Mapping)
    };
    Setup {
        gateway: gateway(config, &config.targets.iter().map(place).collect::<Vec<_>>(), &config.sip.listen),
        media: media::Config::default(),
        crms: config.crms.iter().map(crm).collect(),
    }
}

/// What the gateway goes by, on the listeners really bound.
pub(super) fn gateway(config: &Config, targets: &[SocketAddr], listeners: &[Listener]) -> gateway::Config {
    let id = |index: usize| u32::try_from(index).unwrap_or(0);
    let place = |wanted: &Listener| config.sip.listen.iter().position(|l| l == wanted).map(id);
    let trunk = |t: &Trunk| route::Trunk {
        name: t.peer.name.clone(),
        allow: t.allow.clone(),
        listener: t.peer.bind.as_ref().and_then(place),
        advertised: t.peer.advertised.or(config.sip.advertised),
        codecs: t.peer.codecs.clone().unwrap_or_else(|| Codec::ALL.to_vec()),
        dtmf: t.peer.dtmf,
        outcomes: route::Outcomes::with(t.outcomes.clone()),
    };
    let target = |(t, address): (&Target, &SocketAddr)| {
        let fits = config.sip.listen.iter().position(|l| l.transport == t.transport).map(id);
        route::Target {
            name: t.peer.name.clone(),
            uri: t.uri.clone(),
            address: *address,
            listener: t.peer.bind.as_ref().and_then(place).or(fits).unwrap_or(0),
            advertised: t.peer.advertised.or(config.sip.advertised),
            codecs: t.peer.codecs.clone(),
            dtmf: t.peer.dtmf,
            call_header: t.call_header.clone(),
        }
    };
    let index = |name: &String| config.targets.iter().position(|t| t.peer.name == *name);
    let route = |r: &Route| route::Route {
        name: r.name.clone(),
        trunk: r.trunk.clone(),
        number: r.number.clone(),
        targets: r.targets.iter().filter_map(index).collect(),
        ring: r.ring,
        record: r.record,
        secure_keys: r.secure_keys.clone(),
        secure_pass_audio: r.secure.pass_audio,
        secure_longest: r.secure.longest,
        silence: r.silence.map(|s| s.after),
        silence_hang_up: r.silence.is_some_and(|s| s.hang_up),
        no_media: r.no_media,
    };
    gateway::Config {
        table: route::Table {
            trunks: config.trunks.iter().map(trunk).collect(),
            targets: config.targets.iter().zip(targets).map(target).collect(),
            routes: config.routes.iter().map(route).collect(),
        },
        listeners: listeners.iter().map(|l| Local { transport: l.transport, address: l.address }).collect(),
        ports: config.media.ports.clone(),
        calls_max: config.sip.calls_max,
        overload_status: config.sip.overload.status,
        retry_after_s: config.sip.overload.retry_after_s,
        events_max: super::EVENTS_LANE,
        carry_without_journal: config.data.on_journal_failure == OnJournalFailure::Carry,
    }
}

/// How often names are looked up: as long as addresses of services that move are commonly kept.
const NAMES_PERIOD: Duration = Duration::from_secs(60);
