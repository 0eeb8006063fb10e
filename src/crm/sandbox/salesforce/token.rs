//! The org's token address: client credentials, refresh token, and assertions signed with RS256 (RFC 7523).

use std::time::Duration;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use webpki::RawPublicKeyEntity;

use super::{
    super::{Answer, CLIENT_ID, CLIENT_SECRET, Request},
    Salesforce,
};
use crate::time::Wall;

/// Grant of an assertion, RFC 7523 §2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Whom an assertion is for: the login host of production or of sandboxes.
const AUDIENCES: [&str; 2] = ["https://login.salesforce.com", "https://test.salesforce.com"];
/// Longest an assertion may still be good, seconds.
const ASSERTION_LIFE_S: i64 = 300;

impl Salesforce {
    pub(super) fn token(&mut self, now: Wall, takes: Duration, request: &Request) -> Answer {
        let given = match request.field("grant_type").as_str() {
            // The app is named by the assertion, and its signature is the secret.
            JWT_BEARER => self.asserted(now, &request.field("assertion")).map(|()| (self.tokens.give(now), None)),
            grant => client(request).and_then(|()| match grant {
                "client_credentials" => Ok((self.tokens.give(now), None)),
                "refresh_token" if now < self.refreshing => Err(("invalid_grant", "token request is already being processed")),
                "refresh_token" => match self.tokens.refresh(now, &request.field("refresh_token")) {
                    Some((access, refresh)) => {
                        self.refreshing = now + takes;
                        Ok((access, Some(refresh)))
                    }
                    None => Err(("invalid_grant", "expired access/refresh token")),
                },
                _ => Err(("unsupported_grant_type", "grant type not supported")),
            }),
        };
        let (access, refresh) = match given {
            Ok(given) => given,
            Err((error, text)) => return Answer::new(400, json!({"error": error, "error_description": text})),
        };
        // Where its requests go: the host that was asked, as an org's own domain is.
        let instance = request.origin();
        let mut body = json!({"access_token": access, "signature": "c2lt", "scope": "api", "instance_url": instance,
            "id": format!("{instance}/id/00D000000000001AAA/005000000000001AAA"), "token_type": "Bearer", "issued_at": now.as_millis().to_string()});
        if let (Some(refresh), Some(body)) = (refresh, body.as_object_mut()) {
            body.insert("refresh_token".into(), json!(refresh));
        }
        Answer::new(200, body)
    }

    /// Whether an assertion holds; else error and description.
    fn asserted(&self, now: Wall, assertion: &str) -> Result<(), (&'static str, &'static str)> {
        let bad = ("invalid_grant", "invalid assertion");
        let (signed, signature) = assertion.rsplit_once('.').ok_or(bad)?;
        let (head, claims) = signed.split_once('.').ok_or(bad)?;
        let part = |text: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok();
        let (head, claims) = (part(head).ok_or(bad)?, part(claims).ok_or(bad)?);
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        if head.get("alg").and_then(Value::as_str) != Some("RS256") {
            return Err(bad);
        }
        if text("iss") != CLIENT_ID {
            return Err(("invalid_client_id", "client identifier invalid"));
        }
        if !AUDIENCES.contains(&text("aud")) {
            return Err(("invalid_grant", "audience is invalid"));
        }
        // As a number or, as simple-salesforce writes it, as a text.
        let expires = claims.get("exp").and_then(|e| e.as_i64().or_else(|| e.as_str()?.parse().ok()));
        let at = now.as_millis().div_euclid(1000);
        if !expires.is_some_and(|e| e > at && e <= at.saturating_add(ASSERTION_LIFE_S)) {
            return Err(("invalid_grant", "assertion is expired or lasts too long"));
        }
        let Some(key) = self.public_key.as_deref().filter(|_| !text("sub").is_empty()) else {
            return Err(("invalid_grant", "user hasn't approved this consumer"));
        };
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| bad)?;
        let key = key.into();
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| bad)?;
        key.verify_signature(webpki::ring::RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).map_err(|_| bad)
    }
}

/// Whether the client is the one that the org knows, by its form or by HTTP Basic; else error and description.
fn client(request: &Request) -> Result<(), (&'static str, &'static str)> {
    let basic = request.header("authorization").and_then(|h| h.strip_prefix("Basic ")).and_then(|b| BASE64_STANDARD.decode(b).ok());
    let basic = basic.and_then(|b| String::from_utf8(b).ok()).and_then(|b| b.split_once(':').map(|(i, s)| (i.to_owned(), s.to_owned())));
    let (id, secret) = basic.unwrap_or_else(|| (request.field("client_id"), request.field("client_secret")));
    match (id == CLIENT_ID, secret == CLIENT_SECRET) {
        (true, true) => Ok(()),
        (false, _) => Err(("invalid_client_id", "client identifier invalid")),
        _ => Err(("invalid_client", "invalid client credentials")),
    }
}
