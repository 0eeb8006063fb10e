//! `pull` of a `[[webhook]]`: how the platform's API is asked for what a webhook lost.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{peers::millis, secret, table::Table, writeback::safe_url};
use crate::pipeline::{
    Pull,
    pull::Name,
    webhook::{Schema, pulled::Auth},
};

/// Reads it; what the schema says of the platform's API need not stand here.
pub(super) fn read(webhook: &mut Table<'_>, directory: &Path, schema: &Schema) -> Option<Pull> {
    if !webhook.has("pull") {
        return None;
    }
    let mut t = webhook.table("pull");
    let known = schema.pull.as_ref();
    let url = match known.and_then(|document| document.url.clone()).filter(|_| !t.has("url")) {
        Some(url) => url,
        None => t.required("url", URL).map_or_else(String::new, |(text, span)| {
            if !text.contains("{id}") {
                let what = format!("`url` is \"{text}\", without a place for the call's name");
                t.fault(&span, what, format!("write {{id}} where the API wants it, as in {URL}"));
            }
            safe_url(&t, "url", text, &span, URL)
        }),
    };
    let names = [("platform", Name::Platform), ("offhook", Name::Ours), ("sip_call_id", Name::SipCallId)];
    let id = t.choice("id", &names).unwrap_or(Name::Platform);
    if id == Name::Platform && known.is_none_or(|document| document.id.is_none()) {
        let what = format!("the schema \"{}\" does not say by which name the platform's API knows a call", schema.name);
        let instead = "write id = \"offhook\" for the name in the INVITE's header or id = \"sip_call_id\" for that leg's Call-ID, or put id into [pull] of a schema of your own";
        t.fault(&t.span, what, instead);
    }
    let secret = Zeroizing::new(secret::SECRET.required(&mut t, directory).reveal().to_owned());
    let secret = if let Some((header, _)) = t.text("secret_header", "\"x-api-key\"") {
        (header.to_ascii_lowercase(), secret)
    } else if known.is_some_and(|document| document.auth == Auth::Basic) || t.has("user") {
        let user = t.required("user", "\"the account's SID\", which goes with the secret").map_or_else(String::new, |(text, _)| text);
        let pair = Zeroizing::new(format!("{user}:{}", secret.as_str()));
        (AUTHORIZATION.to_owned(), Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
    } else {
        (AUTHORIZATION.to_owned(), Zeroizing::new(format!("Bearer {}", secret.as_str())))
    };
    let before = millis(&mut t, "before_ms", 0, 86_400_000, 0);
    let patience = millis(&mut t, "patience_ms", 0, 3_600_000, 60_000);
    let count = |t: &mut Table<'_>, key, most, default| u32::try_from(t.integer_or(key, 1..=most, default)).unwrap_or(1);
    let attempts_max = count(&mut t, "attempts_max", 20, 4);
    let per_second = count(&mut t, "per_second", 1_000, 5);
    let concurrency = usize::try_from(count(&mut t, "concurrency", 64, 4)).unwrap_or(1);
    t.finish();
    Some(Pull { url, id, secret, before, patience, attempts_max, per_second, concurrency })
}

const URL: &str = "\"https://api.example.com/call/{id}\"";
const AUTHORIZATION: &str = "authorization";
