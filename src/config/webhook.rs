//! `[[webhook]]` and `[[scheme]]`: who may send webhooks, how he signs them, and where they say what.

use std::{fs, path::Path};

use ipnet::IpNet;

use super::{
    peers::{NETS, Names, nets},
    pull,
    secret::{Found, OLD_SECRET, SECRET},
    table::Table,
};
use crate::{
    pipeline::{
        Key, Pull,
        webhook::{
            Schema,
            schema::SHIPPED,
            scheme::{Algorithm, Encoding, STANDARD, Scheme, Written},
        },
    },
    shell::secrets::Secret,
};

/// `[[webhook]]`
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Last part of its address, `/v1/webhooks/SOURCE`.
    pub source: String,
    /// How it signs.
    pub scheme: Scheme,
    /// Where its webhooks say what.
    pub schema: Schema,
    /// The address that it was given.
    pub public_url: Option<String>,
    /// Networks that its webhooks may come from; empty: any.
    pub allow: Vec<IpNet>,
    /// How many a second on the average.
    pub per_second: Option<u32>,
    /// The signing keys, each `whsec_BASE64`, or BASE64, or `raw:TEXT`; checked.
    pub secrets: Vec<Secret>,
    /// How the platform's API is asked for what a webhook lost.
    pub pull: Option<Pull>,
}

pub(super) fn webhooks(root: &mut Table<'_>, directory: &Path) -> Vec<Webhook> {
    let schemes = schemes(root);
    let mut names = Names::default();
    let mut webhooks = Vec::new();
    for mut t in root.tables("webhook") {
        let source = t.required("source", "\"platform\"").map_or_else(String::new, |(text, span)| {
            names.take(&t, "webhook", &text, &span);
            text
        });
        let schema = schema(&mut t, directory);
        let scheme = scheme(&mut t, &schemes);
        let example = "\"https://calls.example.com/v1/webhooks/twilio\"";
        let public_url = t.text("public_url", example).map(|(text, span)| {
            // It is signed octet for octet, and stays as it stands.
            if !reqwest::Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
                t.fault(
                    &span,
                    format!("`public_url` is \"{text}\""),
                    format!("write the address that the sender was given, such as {example}"),
                );
            }
            text
        });
        if scheme.signs_address() && public_url.is_none() {
            t.required("public_url", "\"https://calls.example.com/v1/webhooks/twilio\", the address that the sender was given");
        }
        // While a key is changed both are good: the new one in `secret_file`, the old one here.
        let old = OLD_SECRET.read(&mut t, directory);
        let new = SECRET.wanted(&mut t, directory);
        let secrets = new.into_iter().chain(old).map(|Found { secret, span, key }| {
            if Key::parse(secret.reveal()).is_none() {
                let instead = "put whsec_BASE64, BASE64 or raw:TEXT there, as the platform shows it";
                t.fault(&span, format!("the key in `{key}` is none"), instead);
            }
            secret
        });
        let secrets = secrets.collect();
        let allow = t.texts("allow", NETS).unwrap_or_default();
        let allow = nets(&t, "allow", allow);
        let per_second = t.integer("per_second", 1..=100_000).and_then(|n| u32::try_from(n).ok());
        let pull = pull::read(&mut t, directory, &schema);
        t.finish();
        webhooks.push(Webhook { source, scheme, schema, public_url, allow, per_second, secrets, pull });
    }
    webhooks
}

/// The schemes that a `[[webhook]]` may name: the shipped ones, and those of each `[[scheme]]`.
fn schemes(root: &mut Table<'_>) -> Vec<Written> {
    let mut schemes = Written::shipped();
    let shipped = schemes.len();
    let mut names = Names::default();
    for mut t in root.tables("scheme") {
        let name = t.required("name", "\"acme\"").map_or_else(String::new, |(text, span)| {
            names.take(&t, "scheme", &text, &span);
            if schemes.iter().take(shipped).any(|known| known.name == text) {
                t.fault(&span, format!("\"{text}\" is the name of a scheme that is there already"), "give this one a name of its own");
            }
            text
        });
        if !t.has("algorithm") {
            t.required("algorithm", "\"hmac-sha256\"");
        }
        let algorithm = t.choice("algorithm", &ALGORITHMS);
        let signed = t.text("signed", "\"{timestamp}.{body}\"").map(|(text, _)| text);
        if !t.has("header") {
            t.required("header", "\"X-Acme-Signature\"");
        }
        let header = header_name(&mut t, "header", "\"X-Acme-Signature\"");
        let value = t.text("value", "\"sha256={signature}\"").map(|(text, _)| text);
        let encoding = t.choice("encoding", &[("hex", Encoding::Hex), ("base64", Encoding::Base64)]);
        let timestamp_header = header_name(&mut t, "timestamp_header", "\"X-Acme-Timestamp\"");
        let id_header = header_name(&mut t, "id_header", "\"X-Acme-Id\"");
        let tolerance_s = t.integer("tolerance_s", 1..=TOLERANCE_MAX_S).and_then(|s| u32::try_from(s).ok());
        let claim = t.text("claim", "\"sha256\"").map(|(text, _)| text);
        let written = Written {
            name,
            algorithm: algorithm.unwrap_or(Algorithm::HmacSha256),
            signed,
            header: header.unwrap_or_default(),
            value,
            encoding,
            timestamp_header,
            id_header,
            tolerance_s,
            claim,
        };
        // Of one that nobody knows what it is nothing else can be said.
        for fault in Scheme::new(&written).err().filter(|_| algorithm.is_some()).into_iter().flatten() {
            t.fault(&t.place(fault.key).unwrap_or_else(|| t.span.clone()), fault.what, fault.instead);
        }
        t.finish();
        schemes.push(written);
    }
    schemes
}

/// How a source signs: by one of `schemes`, whose headers may have other names.
fn scheme(t: &mut Table<'_>, schemes: &[Written]) -> Scheme {
    let choices = schemes.iter().map(|scheme| (scheme.name.as_str(), scheme)).collect::<Vec<_>>();
    let chosen = t.choice("signature", &choices).or_else(|| schemes.iter().find(|scheme| scheme.name == STANDARD));
    let header = header_name(t, "signature_header", "\"X-Acme-Signature\"");
    let mut renamed = |key, example| (t.place(key), header_name(t, key, example));
    let (time_at, time) = renamed("timestamp_header", "\"X-Acme-Timestamp\"");
    let (id_at, id) = renamed("id_header", "\"X-Acme-Id\"");
    // Whatever is wrong with a scheme was told where it stands.
    let Some(mut written) = chosen.cloned() else { return Scheme::standard_webhooks() };
    let name = written.name.clone();
    let lacks = |key: &str, what: &str, span, of: fn(&Written) -> &Option<String>| {
        let with = schemes.iter().filter(|s| of(s).is_some()).map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
        let what = format!("`{key}` with `signature` \"{name}\", which has no header for the {what}");
        t.fault(&span, what, format!("take the key out, or write one of {with} into `signature`"));
    };
    match (time_at, &written.timestamp_header) {
        (Some(span), None) => lacks("timestamp_header", "time of signing", span, |s| &s.timestamp_header),
        _ => written.timestamp_header = time.or(written.timestamp_header),
    }
    match (id_at, &written.id_header) {
        (Some(span), None) => lacks("id_header", "message's id", span, |s| &s.id_header),
        _ => written.id_header = id.or(written.id_header),
    }
    written.header = header.unwrap_or(written.header);
    Scheme::new(&written).unwrap_or_else(|_| Scheme::standard_webhooks())
}

/// The name of a header.
fn header_name(t: &mut Table<'_>, key: &'static str, example: &str) -> Option<String> {
    let (text, span) = t.text(key, example)?;
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        t.fault(&span, format!("`{key}` is \"{text}\""), format!("write a header name of letters, digits, `-` and `_`, such as {example}"));
    }
    Some(text)
}

/// A shipped schema by its name, or one in a file.
fn schema(t: &mut Table<'_>, directory: &Path) -> Schema {
    let generic = Schema::generic();
    let Some((name, span)) = t.text("schema", "\"generic\"") else { return generic };
    if let Some(shipped) = Schema::shipped(&name) {
        return shipped;
    }
    let path = directory.join(&name);
    let known = SHIPPED.map(|(name, _)| name).join(", ");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("`schema` is \"{name}\", no shipped one, and {} cannot be read: {error}", path.display());
            t.fault(&span, what, format!("write one of {known}, or the path of a schema of your own"));
            return generic;
        }
    };
    match toml::from_str::<Schema>(&text) {
        Ok(schema) => {
            for fault in schema.faults() {
                t.fault_in(&path, &text, &(0..0), fault, "mend it, and raise `version`");
            }
            schema
        }
        Err(error) => {
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            t.fault_in(&path, &text, &error.span().unwrap_or(0..0), what, "see docs/mapping.md, \"The platform's webhook\"");
            generic
        }
    }
}

const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("hmac-sha256", Algorithm::HmacSha256),
    ("hmac-sha512", Algorithm::HmacSha512),
    ("hmac-sha1", Algorithm::HmacSha1),
    ("jwt-hs256", Algorithm::JwtHs256),
    ("secret", Algorithm::Secret),
];
/// A day: what is older was not sent just now, whoever sent it.
const TOLERANCE_MAX_S: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::super::{Config, Error};
    use super::*;

    const LEAST: &str = include_str!("../../examples/least.toml");

    fn parse(more: &str) -> Result<Vec<Webhook>, Vec<String>> {
        match Config::parse(Path::new("offhook.toml"), &format!("{more}\n{LEAST}")) {
            Ok(config) => Ok(config.webhooks),
            Err(Error::Faults(faults)) => Err(faults.iter().map(ToString::to_string).collect()),
            Err(error) => panic!("{error}"),
        }
    }

    const WEBHOOK: &str = "[[webhook]]\nsource = \"acme\"\nsecret_command = [\"echo\", \"raw:hush\"]\n";

    #[test]
    fn the_schemes_of_the_examples_are_put_into_a_configuration_and_named() {
        let examples = include_str!("../../examples/schemes.toml");
        for name in ["slack", "zoom", "hubspot", "square", "github", "stripe", "paddle", "zendesk"] {
            let webhook = format!("{WEBHOOK}signature = \"{name}\"\npublic_url = \"https://calls.example.com/v1/webhooks/acme\"");
            let webhooks = parse(&format!("{examples}\n{webhook}")).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
            assert_eq!(webhooks[0].scheme.name, name);
        }
        let renamed =
            parse(&format!("{examples}\n{WEBHOOK}signature = \"slack\"\nsignature_header = \"X-Sign\"\ntimestamp_header = \"X-At\""));
        let scheme = &renamed.expect("no fault")[0].scheme;
        assert_eq!((scheme.header.as_str(), scheme.timestamp_header.as_deref()), ("X-Sign", Some("X-At")));
        assert!(scheme.hint.contains("X-Sign: v0={signature}"), "{}", scheme.hint);
        // As Svix sends what Standard Webhooks signs.
        let svix = "signature_header = \"svix-signature\"\ntimestamp_header = \"svix-timestamp\"\nid_header = \"svix-id\"";
        let scheme = &parse(&format!("{WEBHOOK}{svix}")).expect("no fault")[0].scheme;
        let named = [Some(scheme.header.as_str()), scheme.timestamp_header.as_deref(), scheme.id_header.as_deref()];
        assert_eq!(named, ["svix-signature", "svix-timestamp", "svix-id"].map(Some));
        let faults = parse(&format!("{examples}\n{WEBHOOK}signature = \"slack\"\nid_header = \"X-Id\"")).expect_err("a fault");
        let told = "`id_header` with `signature` \"slack\", which has no header for the message's id: take the key out, or write one of standard-webhooks";
        assert!(matches!(faults.as_slice(), [fault] if fault.contains(told)), "{faults:?}");
        // Whose address is signed has one, as with Twilio.
        let faults = parse(&format!("{examples}\n{WEBHOOK}signature = \"square\"")).expect_err("a fault");
        assert!(matches!(faults.as_slice(), [fault] if fault.contains("[[webhook]] has no `public_url`")), "{faults:?}");
        // Who names none signs as Standard Webhooks has it.
        assert_eq!(parse(WEBHOOK).expect("no fault")[0].scheme, Scheme::standard_webhooks());
    }

    #[test]
    fn what_is_wrong_with_a_scheme_is_told_where_it_stands() {
        for (keys, wanted) in [
            (
                "name = \"acme\"\nalgorithm = \"hmac-sha255\"\nheader = \"X Sign\"\nencoding = \"base32\"",
                vec![
                    "offhook.toml:3:13: `algorithm` is \"hmac-sha255\": did you mean `hmac-sha256`?",
                    "offhook.toml:4:10: `header` is \"X Sign\": write a header name of letters",
                    "offhook.toml:5:12: `encoding` is \"base32\": did you mean `base64`?",
                ],
            ),
            (
                "name = \"twilio\"\nalgorithm = \"hmac-sha256\"\nheader = \"X-Sign\"\nsigned = \"{bdy}\"\ntolerance_s = 90000",
                vec![
                    "offhook.toml:2:8: \"twilio\" is the name of a scheme that is there already: give this one a name of its own",
                    "offhook.toml:5:10: `signed` has {bdy}, which is none of a webhook's parts: write one of {id}, {timestamp}, {body}, {url} and {form}; what is \
                     the same in all requests, such as POST or a path, is written as it is",
                    "offhook.toml:6:15: `tolerance_s` is 90000: write a whole number from 1 to 86400",
                ],
            ),
            (
                "name = \"acme\"\nalgorithm = \"hmac-sha256\"\nsinged = \"{body}\"",
                vec![
                    "offhook.toml:1:1: [[scheme]] has no `header`: add header = \"X-Acme-Signature\"",
                    "offhook.toml:1:1: nothing says what the code is over: add signed = \"{body}\", or with a time \"{timestamp}.{body}\"",
                    "offhook.toml:4:1: [[scheme]] knows no key `singed`: did you mean `signed`?",
                ],
            ),
            (
                "name = \"acme\"\nalgorithm = \"hmac-sha256\"\nheader = \"X-Sign\"\nsigned = \"{body}\"\ntimestamp_header = \"X-Time\"",
                vec![
                    "offhook.toml:6:20: `timestamp_header` says where the time of signing stands, and that is not signed: whoever sends a webhook again writes \
                     it anew: write {timestamp} into `signed` where the sender puts it, or take it out here",
                ],
            ),
        ] {
            let faults = parse(&format!("[[scheme]]\n{keys}\n")).expect_err("faults");
            let fits = faults.len() == wanted.len() && faults.iter().zip(&wanted).all(|(fault, wanted)| fault.starts_with(wanted));
            assert!(fits, "{keys}\n{}", faults.join("\n"));
        }
        // A name that none bears, among those that the file has.
        let scheme = "[[scheme]]\nname = \"acme\"\nalgorithm = \"secret\"\nheader = \"X-Acme\"\n";
        let faults = parse(&format!("{scheme}{WEBHOOK}signature = \"acmee\"")).expect_err("a fault");
        assert_eq!(faults, ["offhook.toml:8:13: `signature` is \"acmee\": did you mean `acme`?"]);
    }
}
