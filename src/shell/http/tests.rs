//! The server over real sockets, asked by the client of the same room.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::shell::{
    clock::Clock,
    secrets::Secret,
    telemetry::{Health, Metrics},
};

struct World {
    server: Server,
    client: Client,
    asks: mpsc::Receiver<Ask>,
    webhooks: mpsc::UnboundedReceiver<Webhook>,
    health: Health,
}

async fn world(tokens: &[&str]) -> World {
    let (to_driver, asks) = mpsc::channel(1);
    let health = Health::new(Clock::new());
    let tokens = tokens.iter().map(|t| Secret::new((*t).into())).collect();
    let door = Door { allow: vec!["192.0.2.0/24".parse().expect("a network")], per_second: None };
    let options = Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        tokens,
        tls: None,
        proxies: Vec::new(),
        doors: [("elsewhere".to_owned(), door)].into(),
    };
    let (told, webhooks) = mpsc::unbounded_channel();
    let take = Arc::new(move |webhook| drop(told.send(webhook)));
    let server = Server::start(options, take, to_driver, Arc::new(Metrics::new()), health.clone()).await.expect("started");
    World { webhooks, server, client: Client::new(Duration::from_secs(20)).expect("a client"), asks, health }
}

impl World {
    async fn send(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> (u16, Value) {
        let headers = token.map(|t| ("authorization".to_owned(), format!("Bearer {t}"))).into_iter().collect();
        let url = format!("http://{}{path}", self.server.address);
        let reply = self.client.send(Request { method: method.into(), url, headers, body: body.into() }).await.expect("an answer");
        let document = serde_json::from_slice(&reply.body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&reply.body)));
        if reply.status >= 400 {
            assert!(reply.headers.contains(&("content-type".into(), "application/problem+json".into())), "{:?}", reply.headers);
            assert_eq!(document["status"], reply.status);
            assert!(!document["hint"].as_str().expect("a hint").is_empty());
        }
        (reply.status, document)
    }
}

const CALL: &str = "01960000-0000-7000-8000-000000000001";

#[tokio::test]
async fn refusals_are_problems_with_a_hint() {
    let mut world = world(&[]).await;
    drop(std::mem::replace(&mut world.asks, mpsc::channel(1).1));
    for (method, path, body, status) in [
        ("GET", "/", "", 404),
        ("GET", "/v1/webhooks/platform", "", 405),
        ("POST", "/v1/webhooks/elsewhere", "{}", 403),
        ("GET", "/v1/calls/not-a-uuid", "", 404),
        ("GET", "/v1/calls?limit=many", "", 400),
        ("POST", &format!("/v1/calls/{CALL}/secure"), "{\"action\": \"pause\"}", 400),
        ("POST", &format!("/v1/calls/{CALL}/secure"), &" ".repeat(5000), 413),
    ] {
        assert_eq!(world.send(method, path, None, body.as_bytes()).await.0, status, "{method} {path}");
    }
    // Nobody decides nothing.
    let decided = format!("\"target\": \"hubspot\", \"call_id\": \"{CALL}\", \"action\": \"retry\"");
    let held = format!("\"call_id\": \"{CALL}\", \"action\": \"hold\"");
    for (path, body) in [
        ("/v1/queue", decided.as_str()),
        ("/v1/recover", "\"since\": \"2026-01-05T10:00:00Z\""),
        ("/v1/batch", "\"target\": \"hubspot\""),
        ("/v1/retention", held.as_str()),
    ] {
        for (by, said) in [("", "missing field `by`"), (", \"by\": \"\"", "nobody is named"), (", \"by\": \" \\t\"", "nobody is named")] {
            let (status, problem) = world.send("POST", path, None, format!("{{{body}{by}}}").as_bytes()).await;
            assert!(status == 400 && problem["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{path}{by}: {problem}");
        }
        let somebody = format!("{{{body}, \"by\": \"anna\"}}");
        assert_eq!(world.send("POST", path, None, somebody.as_bytes()).await.0, 503, "{path}: it is asked for, and the driver is gone");
    }
    let big = vec![b'x'; super::api::WEBHOOK_BYTES_MAX + 1];
    assert_eq!(world.send("POST", "/v1/webhooks/platform", None, &big).await.0, 413);
}

#[tokio::test]
async fn a_head_has_a_bound_and_a_body_may_be_longer() {
    let mut world = world(&[]).await;
    for (octets, path, body, status) in [(20_000, "nowhere", "", 404), (40_000, "nowhere", "", 431)] {
        let headers = vec![("x-long".to_owned(), "x".repeat(octets))];
        let url = format!("http://{}/{path}", world.server.address);
        let reply = world.client.send(Request { method: "GET".into(), url, headers, body: body.into() }).await.expect("an answer");
        assert_eq!(reply.status, status, "{octets}");
    }
    let body = vec![b'x'; super::api::WEBHOOK_BYTES_MAX];
    let mut webhooks = std::mem::replace(&mut world.webhooks, mpsc::unbounded_channel().1);
    let (sent, taken) = tokio::join!(world.send("POST", "/v1/webhooks/platform", None, &body), async {
        let webhook = webhooks.recv().await.expect("a webhook");
        let _ = webhook.reply.send(Ok(json!({"ok": true})));
        webhook.body.len()
    });
    assert_eq!((sent.0, taken), (200, body.len()));
}

#[tokio::test]
async fn two_hundred_may_connect_at_once() {
    let world = world(&[]).await;
    // The server has no turn meanwhile: the kernel holds them all. One without room is tried again after a second, in vain.
    let connect = |_| std::net::TcpStream::connect_timeout(&world.server.address, Duration::from_secs(2));
    let connected = (0..200).map(connect).collect::<Result<Vec<_>, _>>().expect("room for each");
    drop(connected);
    assert_eq!(world.send("GET", "/healthz", None, b"").await.0, 200);
}

#[tokio::test]
async fn a_token_opens_the_api_and_nothing_else_does() {
    let world = world(&["a-token-of-sixteen", "another-token-of-it"]).await;
    for (path, token, status) in [
        ("/metrics", None, 401),
        ("/metrics", Some("a-token-of-sixtee"), 401),
        ("/metrics", Some("another-token-of-it"), 200),
        ("/v1/calls", None, 401),
        ("/healthz", None, 200),
    ] {
        let (answered, document) = world.send("GET", path, token, b"").await;
        assert_eq!(answered, status, "{path} {token:?}");
        let names_all =
            ["tokens_file", "tokens_env", "tokens_command"].iter().all(|key| document["hint"].as_str().is_some_and(|h| h.contains(key)));
        assert_eq!(names_all, status == 401, "{document}");
    }
}

#[tokio::test]
async fn a_failing_part_is_named() {
    let world = world(&[]).await;
    assert_eq!(world.send("GET", "/healthz", None, b"").await.0, 200);
    world.health.say("journal", Err("no space left on device".into()));
    let (status, document) = world.send("GET", "/healthz", None, b"").await;
    assert_eq!(status, 503);
    assert_eq!(document["parts"], json!([{"name": "journal", "ok": false, "why": "no space left on device"}]));
}

#[tokio::test]
async fn a_webhook_arrives_octet_by_octet_and_its_answer_goes_back() {
    let mut world = world(&[]).await;
    let mut asks = std::mem::replace(&mut world.asks, mpsc::channel(1).1);
    let mut webhooks = std::mem::replace(&mut world.webhooks, mpsc::unbounded_channel().1);
    let driver = tokio::spawn(async move {
        let Some(Webhook { source, headers, body, reply, .. }) = webhooks.recv().await else { panic!("a webhook") };
        assert_eq!((source.as_str(), &body[..]), ("platform", &b"{ \"id\":1 }"[..]));
        assert!(headers.iter().any(|(name, _)| name == "host"));
        reply.send(Err(Problem::new(401, "the signature does not fit", "sign with the key of secret_file"))).expect("somebody waits");
        let Some(Ask::Secure { on: true, reason, reply, .. }) = asks.recv().await else { panic!("a phase") };
        reply.send(Ok(json!({"media_from_ms": 9000, "reason": reason}))).expect("somebody waits");
    });
    let (status, document) = world.send("POST", "/v1/webhooks/platform", None, b"{ \"id\":1 }").await;
    assert_eq!((status, &document["detail"]), (401, &json!("the signature does not fit")));
    let body = br#"{"action": "start", "reason": "payment"}"#;
    let (status, document) = world.send("POST", &format!("/v1/calls/{CALL}/secure"), None, body).await;
    assert_eq!((status, document), (200, json!({"media_from_ms": 9000, "reason": "payment"})));
    driver.await.expect("the driver saw both");
    // It is gone now: nothing waits for it.
    assert_eq!(world.send("GET", "/v1/calls", None, b"").await.0, 503);
}

#[tokio::test]
async fn beyond_loopback_it_takes_tls_and_tokens() {
    let start = |tls, tokens: Vec<Secret>| {
        let options =
            Options { listen: "0.0.0.0:0".parse().expect("an address"), tokens, tls, proxies: Vec::new(), doors: BTreeMap::new() };
        Server::start(options, Arc::new(drop::<Webhook>), mpsc::channel(1).0, Arc::new(Metrics::new()), Health::new(Clock::new()))
    };
    let token = || vec![Secret::new("a-token-of-sixteen".into())];
    assert!(matches!(start(None, token()).await, Err(Error::Open(_))));
    let scratch = crate::shell::files::tests::Scratch::new("tls");
    let (certificate, key) = (scratch.0.join("cert.pem"), scratch.0.join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, "no key").expect("written");
    assert!(matches!(start(Some((certificate.clone(), key.clone())), token()).await, Err(Error::Tls(..))));
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    assert!(matches!(start(Some((certificate.clone(), key.clone())), Vec::new()).await, Err(Error::Open(_))));
    let server = start(Some((certificate.clone(), key)), token()).await.expect("started");
    // Plain HTTP gets nothing out of it.
    let client = Client::new(Duration::from_secs(5)).expect("a client");
    let url = format!("http://127.0.0.1:{}/healthz", server.address.port());
    assert!(client.send(Request { method: "GET".into(), url, headers: Vec::new(), body: Vec::new() }).await.is_err());
    let authority = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("a certificate");
    let trusting = reqwest::Client::builder().tls_certs_only([authority]).build().expect("a client");
    let url = format!("https://localhost:{}/healthz", server.address.port());
    assert_eq!(trusting.get(url).send().await.expect("an answer").status(), 200);
    // A command of the same machine knows the certificate, whose name is none of the address's, and no other.
    let ask = async |certificate: &std::path::Path| {
        let client = Client::of_this_machine(Duration::from_secs(5), Some(certificate)).expect("a client");
        let url = format!("https://127.0.0.1:{}/healthz", server.address.port());
        client.send(Request { method: "GET".into(), url, headers: Vec::new(), body: Vec::new() }).await
    };
    assert_eq!(ask(&certificate).await.expect("an answer").status, 200);
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    std::fs::write(&certificate, other.cert.pem()).expect("written");
    let failed = ask(&certificate).await.expect_err("it is another's");
    assert!(failed.why.contains("it shows another certificate than cert_file holds") && !failed.maybe_sent, "{failed}");
}

#[tokio::test]
async fn the_client_knows_whether_a_request_may_have_been_sent() {
    let client = Client::new(Duration::from_millis(300)).expect("a client");
    let send = |address: std::net::SocketAddr| {
        client.send(Request { method: "POST".into(), url: format!("http://{address}/"), headers: Vec::new(), body: b"x".to_vec() })
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let failed = send(address).await.expect_err("it never answers");
    assert!(failed.maybe_sent, "{failed}");
    drop(listener);
    let failed = send(address).await.expect_err("nobody is there");
    assert!(!failed.maybe_sent, "{failed}");
}
