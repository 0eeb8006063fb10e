//! What happens behind the call: `[writeback]`, `[quarantine]`, `[[crm]]`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    overlap,
    peers::{Names, millis},
    schedule,
    secret::{CLIENT_SECRET, Found, PRIVATE_KEY, REFRESH_TOKEN, SECRET},
    table::{Span, Table},
};
use crate::{
    crm::{
        dynamics,
        http::{BODY, Http},
        mapping::{
            self, Mapping,
            signature::{self, Signature},
        },
        salesforce::{
            Grant,
            jwt::{self, Signer},
        },
    },
    pipeline::{Activation, Pace, Schedule},
    shell::{quarantine::Limits, secrets::Secret},
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

/// `[quarantine]`: webhooks whose signature is wrong.
#[derive(Clone, Debug)]
pub struct Quarantine {
    /// What seals them; made at the first start. Not in the data directory.
    pub key_file: PathBuf,
    /// How much of a source is kept, and how long.
    pub limits: Limits,
}

impl Quarantine {
    pub(super) fn read(mut t: Table<'_>, directory: &Path, data: &Path) -> Self {
        let named = t.text("key_file", "\"/etc/offhook/quarantine.key\"");
        if let Some((text, span)) = &named
            && directory.join(text).starts_with(data)
        {
            let what = format!("`key_file` is \"{text}\", in the data directory: a copy of that would hold the key beside what it seals");
            t.fault(span, what, "write a path elsewhere");
        }
        let key_file = directory.join(named.map_or_else(|| "quarantine.key".to_owned(), |(text, _)| text));
        let bytes = t.integer_or("megabytes", 1..=1_000_000, 256).saturating_mul(1_000_000);
        let age = Duration::from_secs(t.integer_or("days", 1..=365, 7).saturating_mul(86_400));
        t.finish();
        Self { key_file, limits: Limits { bytes, age } }
    }
}

/// Which CRM's API, and how it is reached.
#[derive(Clone, Debug)]
pub enum Api {
    /// HubSpot.
    Hubspot {
        /// Base of the API's addresses, without a slash at its end.
        base_url: String,
        /// Where a refresh token becomes an access token.
        token_url: String,
        /// OAuth client.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
        /// Version of the API in its addresses, where it is not the connector's own.
        api_version: Option<String>,
    },
    /// Salesforce.
    Salesforce {
        /// The org's own domain, without a slash at its end.
        base_url: String,
        /// Where tokens are given.
        token_url: String,
        /// The external client app.
        client_id: String,
        /// By what it gets its tokens.
        grant: Grant,
        /// Version of the API in its addresses, where it is not the connector's own.
        api_version: Option<String>,
    },
    /// Dynamics 365 (Dataverse).
    Dynamics {
        /// The environment's address, without a slash at its end.
        base_url: String,
        /// Where Entra gives tokens.
        token_url: String,
        /// The registered app.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
        /// Version of the API in its addresses, where it is not the connector's own.
        api_version: Option<String>,
    },
    /// Any API that takes one record a request.
    Http {
        /// `PUT`, `POST` or `PATCH`.
        method: &'static str,
        /// The address, with `{key}`.
        url: String,
        /// The body, with `{key}`, `{record}`, `{changed}`.
        body: String,
        /// A header with a standing secret: its name and value.
        secret: Option<(String, Secret)>,
    },
}

/// `[[crm]]`
#[derive(Clone, Debug)]
pub struct Crm {
    /// Its name in metrics and tables.
    pub name: String,
    /// Which API.
    pub api: Api,
    /// The first refresh token, where the API has such; a rotated one is kept in `secrets/`.
    pub refresh_token: Secret,
    /// How hard it may be worked.
    pub pace: Pace,
    /// When calls are written.
    pub schedule: Schedule,
    /// The mapping.
    pub mapping: Mapping,
    /// Which content of it that is, and who approved it.
    pub activation: Activation,
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
        let kinds = [("hubspot", Kind::Hubspot), ("salesforce", Kind::Salesforce), ("dynamics", Kind::Dynamics), ("http", Kind::Http)];
        let (api, refresh_token) = match t.choice("kind", &kinds) {
            Some(Kind::Salesforce) => salesforce(&mut t, directory),
            Some(Kind::Dynamics) => (dataverse(&mut t, directory), Secret::new(String::new())),
            Some(Kind::Http) => (http(&mut t, directory), Secret::new(String::new())),
            Some(Kind::Hubspot) | None => (hubspot(&mut t, directory), REFRESH_TOKEN.required(&mut t, directory)),
        };
        let file = t.required("mapping", "\"mapping.toml\"").map(|(text, span)| (directory.join(text), span));
        let (mapping, text) = file.as_ref().and_then(|(path, span)| read_mapping(&t, path, span)).unzip();
        if matches!(api, Api::Http { .. }) && mapping.as_ref().is_some_and(|m| m.contact.is_some()) {
            let span = t.span.clone();
            t.fault(
                &span,
                "the mapping has [contact], and an API of kind \"http\" knows no people",
                "take [contact] out of this target's mapping",
            );
        }
        if matches!(api, Api::Salesforce { .. }) && mapping.as_ref().and_then(|m| m.contact.as_ref()).is_some_and(|c| c.link.is_none()) {
            let span = t.span.clone();
            let instead = "write link = { to = \"WhoId\" } into [contact], or the lookup field of your object";
            t.fault(&span, "the mapping's [contact] names no field that links a record with its person, which Salesforce needs", instead);
        }
        let contact = mapping.as_ref().and_then(|m| m.contact.as_ref());
        if matches!(api, Api::Dynamics { .. })
            && contact.is_some_and(|c| c.link.as_ref().is_none_or(|link| !link.to.ends_with("@odata.bind")))
        {
            let span = t.span.clone();
            let instead =
                "write link = { to = \"regardingobjectid_contact_phonecall@odata.bind\", value = \"/contacts({id})\" } into [contact]";
            t.fault(&span, "the mapping's [contact] names no property that binds a row to its person, which Dataverse needs", instead);
        }
        let beside = mapping.as_ref().is_some_and(|m| m.beside.is_some());
        if let (true, false, Some((path, _)), Some(text)) = (beside, matches!(api, Api::Salesforce { .. }), &file, &text) {
            let what = "[beside] writes a second record in the same request, which only Salesforce does";
            let instead = "take it out, or write the second object by a [[crm]] of its own with the same account";
            t.fault_in(path, text, &mapping::place(text, "[beside]"), what, instead);
        }
        let count =
            |t: &mut Table<'_>, key, most, default: usize| usize::try_from(t.integer_or(key, 1..=most, default as u64)).unwrap_or(default);
        let usual = Pace::default();
        let pace = Pace {
            concurrency: count(&mut t, "concurrency", 64, usual.concurrency),
            batch: count(&mut t, "batch", 1000, if matches!(api, Api::Dynamics { .. }) { dynamics::BATCH } else { usual.batch }),
            per_second: t.integer("per_second", 1..=10_000).and_then(|n| u32::try_from(n).ok()),
            per_day: per_day(&mut t),
            day_share: percent(&mut t, "day_share", usual.day_share),
            backlog_share: percent(&mut t, "backlog_share", usual.backlog_share),
            bulk_from: count(&mut t, "bulk_from", 1_000_000, usual.bulk_from),
        };
        let schedule = schedule::read(&mut t, mapping.as_ref());
        if t.has("bulk_from") && beside {
            let span = t.place("bulk_from").unwrap_or_else(|| t.span.clone());
            let what = "`bulk_from` stands beside a mapping with [beside], whose two records no job writes";
            t.fault(&span, what, "take it out: such batches go by Composite requests");
        } else if t.has("bulk_from") && (schedule.runs().is_none() || !matches!(api, Api::Salesforce { .. })) {
            let span = t.span.clone();
            let instead = "take it out, or write model = \"batch\" or \"hybrid\"";
            t.fault(
                &span,
                "`bulk_from` says from how many records on a batch goes to Salesforce as one job, and this target has none",
                instead,
            );
        }
        if let Some(mapping) = &mapping {
            let span = t.span.clone();
            for other in &crms {
                if let Some((object, key)) = overlap::shared(other, &api, &refresh_token, mapping) {
                    let what = format!(
                        "\"{name}\" writes {object} by `{key}`, as \"{}\" does: a call's one record would be both's, in turn",
                        other.name
                    );
                    t.fault(&span, what, "give one of the two mappings a key field of its own, which `offhook crm setup` makes");
                }
            }
        }
        let signed = file.as_ref().zip(text.as_ref()).map(|((file, span), text)| (file, span, text, signed(file, text)));
        if t.flag("require_signed", false)
            && let Some((file, span, _, Err(what))) = &signed
        {
            t.fault(span, what, format!("have it signed: offhook mapping sign {} --by NAME", file.display()));
        }
        t.finish();
        // Without one there was a fault, and nobody sees this configuration.
        let (Some(mapping), Some((_, _, text, signed))) = (mapping, signed) else { continue };
        let (signed_by, signed_at) = signed.ok().map(|s| (s.by, s.at)).unzip();
        let activation = Activation { target: name.clone(), version: mapping.version, sha256: signature::hash(text), signed_by, signed_at };
        crms.push(Crm { name, api, refresh_token, pace, schedule, mapping, activation });
    }
    crms
}

#[derive(Clone, Copy)]
enum Kind {
    Hubspot,
    Salesforce,
    Dynamics,
    Http,
}

fn hubspot(t: &mut Table<'_>, directory: &Path) -> Api {
    Api::Hubspot {
        base_url: url(t, "base_url", "\"https://api.hubapi.com\""),
        token_url: url(t, "token_url", "\"https://api.hubapi.com/oauth/v1/token\""),
        client_id: t.required("client_id", "\"the OAuth client's id\"").map_or_else(String::new, |(text, _)| text),
        client_secret: CLIENT_SECRET.required(t, directory),
        api_version: t.text("api_version", "\"2026-03\"").map(|(text, _)| text),
    }
}

fn salesforce(t: &mut Table<'_>, directory: &Path) -> (Api, Secret) {
    let refresh_named = REFRESH_TOKEN.named(t);
    let refresh_token = REFRESH_TOKEN.read(t, directory).map(|found| found.secret);
    let base_url = url(t, "base_url", "\"https://MYDOMAIN.my.salesforce.com\"");
    let token_url = url(t, "token_url", "\"https://MYDOMAIN.my.salesforce.com/services/oauth2/token\"");
    let client_id = t.required("client_id", "\"the external client app's consumer key\"").map_or_else(String::new, |(text, _)| text);
    let api_version = t.text("api_version", "\"v62.0\"").map(|(text, _)| text);
    let grant = if let [(signs, _), ..] = PRIVATE_KEY.named(t).as_slice() {
        let username = t.required("username", "\"integration@example.com\"").map_or_else(String::new, |(text, _)| text);
        let audiences = [jwt::AUDIENCE, "https://test.salesforce.com"].map(|host| (host, host));
        let audience = t.choice("audience", &audiences).unwrap_or(jwt::AUDIENCE).to_owned();
        for (other, span) in CLIENT_SECRET.named(t).into_iter().chain(refresh_named) {
            let what = format!("`{signs}` and `{other}` are two ways to get a token");
            t.fault(&span, what, format!("take `{other}` out where the app signs with its private key"));
        }
        // Known, whether it stands there or not.
        CLIENT_SECRET.read(t, directory);
        PRIVATE_KEY.read(t, directory).and_then(|Found { secret, span, key }| match Signer::new(secret.reveal(), username, audience) {
            Ok(signer) => Some(Grant::Jwt(Arc::new(signer))),
            Err(why) => {
                t.fault(&span, format!("the key in `{key}` cannot sign"), why.to_string());
                None
            }
        })
    } else {
        let secret = Zeroizing::new(CLIENT_SECRET.required(t, directory).reveal().to_owned());
        Some(if refresh_token.is_some() { Grant::RefreshToken(secret) } else { Grant::ClientCredentials(secret) })
    };
    // Without one there was a fault, or nobody asks for a token.
    let grant = grant.unwrap_or_else(|| Grant::ClientCredentials(Zeroizing::default()));
    (Api::Salesforce { base_url, token_url, client_id, grant, api_version }, refresh_token.unwrap_or_else(|| Secret::new(String::new())))
}

fn dataverse(t: &mut Table<'_>, directory: &Path) -> Api {
    Api::Dynamics {
        base_url: url(t, "base_url", "\"https://ORG.crm4.dynamics.com\""),
        token_url: url(t, "token_url", "\"https://login.microsoftonline.com/TENANT/oauth2/v2.0/token\""),
        client_id: t.required("client_id", "\"the registered app's application (client) id\"").map_or_else(String::new, |(text, _)| text),
        client_secret: CLIENT_SECRET.required(t, directory),
        api_version: t.text("api_version", "\"v9.2\"").map(|(text, _)| text),
    }
}

fn http(t: &mut Table<'_>, directory: &Path) -> Api {
    let url = url(t, "url", "\"https://crm.example.com/calls/{key}\"");
    let (body, span) = t.text("body", "'{\"key\": \"{key}\", \"fields\": {record}}'").unwrap_or_else(|| (BODY.to_owned(), t.span.clone()));
    if let Some(what) = Http::fault(&url, &body) {
        t.fault(&span, what, format!("write a body such as '{BODY}'"));
    }
    let method = t.choice("method", &[("PUT", "PUT"), ("POST", "POST"), ("PATCH", "PATCH")]).unwrap_or("PUT");
    let header =
        t.text("secret_header", "\"authorization\"").map_or_else(|| "authorization".to_owned(), |(text, _)| text.to_ascii_lowercase());
    let secret = SECRET.read(t, directory).map(|found| (header, found.secret));
    Api::Http { method, url, body, secret }
}

/// Who has signed the content of a mapping, the latest; otherwise what is wrong.
fn signed(path: &Path, text: &str) -> Result<Signature, String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let file = path.with_file_name(signature::file_name(&name));
    let unsigned = || format!("`require_signed` is true, and nobody has signed this content of {}", path.display());
    let signatures = fs::read_to_string(&file).map_err(|_| unsigned())?;
    let signatures = signature::read(&signatures).map_err(|why| format!("{} cannot be read: {why}", file.display()))?;
    signature::of(&signatures, text).cloned().ok_or_else(unsigned)
}

/// Reads a mapping file; its faults are faults of the configuration.
fn read_mapping(t: &Table<'_>, path: &Path, span: &Span) -> Option<(Mapping, String)> {
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
                t.fault_in(path, &text, &mapping::place(&text, fault), fault, "mend it, and raise `version`");
            }
            faults.is_empty().then_some((mapping, text))
        }
        Err(error) => {
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            t.fault_in(path, &text, &error.span().unwrap_or(0..0), what, "see examples/mapping.toml");
            None
        }
    }
}

/// What may be asked a day: `per_day`, and `per_licence` for each of `licences`, where both stand.
fn per_day(t: &mut Table<'_>) -> Option<u64> {
    let base = t.integer("per_day", 1..=1_000_000_000);
    for (one, other) in [("licences", "per_licence"), ("per_licence", "licences")] {
        if let (Some(span), None) = (t.place(one), t.place(other)) {
            t.fault(&span, format!("`{one}` stands without `{other}`"), format!("add {other} = NUMBER, or take `{one}` out"));
        }
    }
    let licences = t.integer("licences", 1..=1_000_000);
    let each = t.integer("per_licence", 1..=1_000_000);
    let of_licences = licences.zip(each).map(|(licences, each)| licences.saturating_mul(each));
    base.into_iter().chain(of_licences).reduce(u64::saturating_add)
}

fn percent(t: &mut Table<'_>, key: &'static str, default: u8) -> u8 {
    u8::try_from(t.integer_or(key, 1..=100, u64::from(default))).unwrap_or(default)
}

/// An address that must stand in the file.
fn url(t: &mut Table<'_>, key: &'static str, example: &str) -> String {
    let Some((text, span)) = t.required(key, example) else { return String::new() };
    safe_url(t, key, text, &span, example)
}

/// An address of `http` or `https`; credentials would cross other people's networks in plain `http`, so that is for loopback only.
pub(super) fn safe_url(t: &Table<'_>, key: &str, text: String, span: &Span, example: &str) -> String {
    match reqwest::Url::parse(&text) {
        Ok(url) if url.scheme() == "https" => {}
        Ok(url) if url.scheme() == "http" => {
            let host = url.host_str().unwrap_or_default();
            let here = host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
            if !here {
                t.fault(span, format!("`{key}` sends credentials over plain http to {host}"), format!("write https://, as in {example}"));
            }
        }
        _ => t.fault(span, format!("`{key}` is \"{text}\""), format!("write an address such as {example}")),
    }
    text.trim_end_matches('/').to_owned()
}
