//! What happens behind the call: `[writeback]`, `[[crm]]`, `[[webhook]]`.

use std::{fs, path::Path, time::Duration};

use super::{
    peers::{Names, millis},
    server::secret,
    table::{Span, Table},
};
use crate::{
    crm::mapping::Mapping,
    pipeline::{
        Key, Pace,
        webhook::scheme::{Proof, SCHEMES, STANDARD_WEBHOOKS, Scheme},
    },
    shell::secrets::Secret,
};

/// `[writeback]`: how long, how often.
#[derive(Clone, Debug)]
pub struct WriteBack {
    /// How long after a call's end its outcome may still come by webhook before it is written down as missing.
    pub outcome_wait: Duration,
    /// Longest a CRM may take for one answer.
    pub request_timeout: Duration,
    /// Attempts before a write becomes a dead letter.
    pub attempts_max: u32,
}

impl WriteBack {
    pub(super) fn read(mut t: Table<'_>) -> Self {
        let outcome_wait = millis(&mut t, "outcome_wait_ms", 0, 86_400_000, 60_000);
        let request_timeout = millis(&mut t, "request_timeout_ms", 100, 120_000, 15_000);
        let attempts_max = u32::try_from(t.integer_or("attempts_max", 1..=1_000, 50)).unwrap_or(50);
        t.finish();
        Self { outcome_wait, request_timeout, attempts_max }
    }
}

/// Which CRM's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrmKind {
    /// HubSpot.
    Hubspot,
}

/// `[[crm]]`
#[derive(Clone, Debug)]
pub struct Crm {
    /// Its name in metrics and tables.
    pub name: String,
    /// Which API.
    pub kind: CrmKind,
    /// Base of the API's addresses, without a slash at its end.
    pub base_url: String,
    /// Where a refresh token becomes an access token.
    pub token_url: String,
    /// OAuth client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// The first refresh token; a rotated one is kept in `secrets/`.
    pub refresh_token: Secret,
    /// Version of the API in its addresses, where it is not the connector's own.
    pub api_version: Option<String>,
    /// How hard it may be worked.
    pub pace: Pace,
    /// The mapping.
    pub mapping: Mapping,
}

/// `[[webhook]]`
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Last part of its address, `/v1/webhooks/SOURCE`.
    pub source: String,
    /// How it signs.
    pub scheme: Scheme,
    /// The header of its signature, where that is not the scheme's own.
    pub header: Option<String>,
    /// The address that it was given.
    pub public_url: Option<String>,
    /// The signing keys, each `whsec_BASE64`, or BASE64, or `raw:TEXT`; checked.
    pub secrets: Vec<Secret>,
}

pub(super) fn crms(root: &mut Table<'_>, directory: &Path) -> Vec<Crm> {
    let mut names = Names::default();
    let mut crms = Vec::new();
    for mut t in root.tables("crm") {
        let name = t.required("name", "\"hubspot\"").map_or_else(String::new, |(text, span)| {
            names.take(&t, "crm", &text, &span);
            text
        });
        if !t.has("kind") {
            t.required("kind", "\"hubspot\"");
        }
        let kind = t.choice("kind", &[("hubspot", CrmKind::Hubspot)]).unwrap_or(CrmKind::Hubspot);
        let base_url = url(&mut t, "base_url", "\"https://api.hubapi.com\"");
        let token_url = url(&mut t, "token_url", "\"https://api.hubapi.com/oauth/v1/token\"");
        let client_id = t.required("client_id", "\"the OAuth client's id\"").map_or_else(String::new, |(text, _)| text);
        let client_secret = required_secret(&mut t, "client_secret_file", directory);
        let refresh_token = required_secret(&mut t, "refresh_token_file", directory);
        let mapping = t.required("mapping", "\"mapping.toml\"").and_then(|(text, span)| mapping(&t, &directory.join(text), &span));
        let api_version = t.text("api_version", "\"2026-03\"").map(|(text, _)| text);
        let count =
            |t: &mut Table<'_>, key, most, default: usize| usize::try_from(t.integer_or(key, 1..=most, default as u64)).unwrap_or(default);
        let usual = Pace::default();
        let pace = Pace {
            concurrency: count(&mut t, "concurrency", 64, usual.concurrency),
            batch: count(&mut t, "batch", 1000, usual.batch),
            per_second: t.integer("per_second", 1..=10_000).and_then(|n| u32::try_from(n).ok()),
        };
        if t.flag("require_signed", false) {
            let span = t.span.clone();
            t.fault(
                &span,
                "`require_signed` is true, and this version cannot sign a mapping",
                "take it out, or write require_signed = false",
            );
        }
        t.finish();
        // Without one there was a fault, and nobody sees this configuration.
        let Some(mapping) = mapping else { continue };
        crms.push(Crm { name, kind, base_url, token_url, client_id, client_secret, refresh_token, api_version, pace, mapping });
    }
    crms
}

pub(super) fn webhooks(root: &mut Table<'_>, directory: &Path) -> Vec<Webhook> {
    let mut names = Names::default();
    let mut webhooks = Vec::new();
    for mut t in root.tables("webhook") {
        let source = t.required("source", "\"platform\"").map_or_else(String::new, |(text, span)| {
            names.take(&t, "webhook", &text, &span);
            text
        });
        t.choice("schema", &[("generic", ())]);
        let schemes = SCHEMES.map(|scheme| (scheme.name, scheme));
        let scheme = t.choice("signature", &schemes).unwrap_or(STANDARD_WEBHOOKS);
        let header = t.text("signature_header", "\"X-Acme-Signature\"").map(|(text, _)| text);
        let public_url = t.text("public_url", "\"https://calls.example.com/v1/webhooks/twilio\"").map(|(text, _)| text);
        if scheme.proof == Proof::AddressAndForm && public_url.is_none() {
            t.required("public_url", "\"https://calls.example.com/v1/webhooks/twilio\", the address that the sender was given");
        }
        if !t.has("secret_file") {
            t.required("secret_file", "\"FILE\"");
        }
        // While a key is changed both are good: the new one in `secret_file`, the old one here.
        let secrets = ["secret_file", "old_secret_file"].into_iter().filter_map(|key| {
            let (secret, span) = secret(&mut t, key, directory, "\"FILE\"")?;
            if Key::parse(secret.reveal()).is_none() {
                let instead = "put whsec_BASE64, BASE64 or raw:TEXT into the file, as the platform shows it";
                t.fault(&span, format!("the key in `{key}` is none"), instead);
            }
            Some(secret)
        });
        let secrets = secrets.collect();
        t.finish();
        webhooks.push(Webhook { source, scheme, header, public_url, secrets });
    }
    webhooks
}

/// Reads a mapping file; its faults are faults of the configuration.
fn mapping(t: &Table<'_>, path: &Path, span: &Span) -> Option<Mapping> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            t.fault(
                span,
                format!("`mapping`: {} cannot be read: {error}", path.display()),
                "write the path of a mapping, such as examples/mapping.toml",
            );
            return None;
        }
    };
    match toml::from_str::<Mapping>(&text) {
        Ok(mapping) => {
            let faults = mapping.faults();
            for fault in &faults {
                t.fault_in(path, &text, &(0..0), fault, "mend it, and raise `version`");
            }
            faults.is_empty().then_some(mapping)
        }
        Err(error) => {
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            t.fault_in(path, &text, &error.span().unwrap_or(0..0), what, "see examples/mapping.toml");
            None
        }
    }
}

fn required_secret(t: &mut Table<'_>, key: &'static str, directory: &Path) -> Secret {
    if !t.has(key) {
        t.required(key, "\"FILE\"");
    }
    secret(t, key, directory, "\"FILE\"").map_or_else(|| Secret::new(String::new()), |(secret, _)| secret)
}

/// An address of `http` or `https`; credentials would cross other people's networks in plain `http`, so that is for loopback only.
fn url(t: &mut Table<'_>, key: &'static str, example: &str) -> String {
    let Some((text, span)) = t.required(key, example) else { return String::new() };
    match reqwest::Url::parse(&text) {
        Ok(url) if url.scheme() == "https" => {}
        Ok(url) if url.scheme() == "http" => {
            let host = url.host_str().unwrap_or_default();
            let here = host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
            if !here {
                t.fault(&span, format!("`{key}` sends credentials over plain http to {host}"), format!("write https://, as in {example}"));
            }
        }
        _ => t.fault(&span, format!("`{key}` is \"{text}\""), format!("write an address such as {example}")),
    }
    text.trim_end_matches('/').to_owned()
}
