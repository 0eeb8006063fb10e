//! The whole program in one process, over loopback.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    crm::{
        sandbox::{Double, Options as Behaviour},
        setup::needs,
    },
    driver::setup,
    event::{CallId, EndedAs, EndedBy, Kind, Outcome, SipCallIds, Terminal},
    journal::Position,
    pipeline::{self, Key},
    shell::{files::tests::Scratch, sandbox::Sandbox, secrets::Secret},
    time::Wall,
};

const KEY: &str = "raw:hush";

fn private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode set");
}

/// A configuration with every port free, a webhook source, and a CRM at `crm`.
pub(super) fn config(scratch: &Scratch, crm: &str) -> Config {
    let sink = |name: &str, text: &str| private(&scratch.0.join(name), text);
    sink("client-secret", "sim-secret");
    sink("refresh-token", "sim-refresh");
    sink("webhook-key", KEY);
    let mapping = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mapping.toml");
    let text = format!(
        r#"
[sip]
listen = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]
drain_s = 1
[media]
ports = "42000-42099"
[http]
listen = "127.0.0.1:0"
[writeback]
outcome_wait_ms = 300
[[trunk]]
name = "carrier"
allow = ["127.0.0.0/8"]
[[target]]
name = "platform"
uri = "sip:127.0.0.1:5999"
[[route]]
trunk = "carrier"
number = "*"
targets = ["platform"]
[[crm]]
name = "hubspot"
kind = "hubspot"
base_url = "{crm}"
token_url = "{crm}/oauth/v1/token"
client_id = "sim-client"
client_secret_file = "client-secret"
refresh_token_file = "refresh-token"
mapping = "{}"
[[webhook]]
source = "platform"
schema = "generic"
secret_file = "webhook-key"
"#,
        mapping.display()
    );
    Config::parse(&scratch.0.join("offhook.toml"), &text).expect("no fault")
}

async fn get(live: &Live, path: &str) -> (u16, Value) {
    ask(live, "GET", path, Vec::new(), b"").await
}

async fn ask(live: &Live, method: &str, path: &str, headers: Vec<(String, String)>, body: &[u8]) -> (u16, Value) {
    let client = http::Client::new(Duration::from_secs(20)).expect("a client");
    let url = format!("http://{}{path}", live.http());
    let reply = client.send(http::Request { method: method.into(), url, headers, body: body.into() }).await.expect("an answer");
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    (reply.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Asks until `holds`, twenty seconds at most.
async fn until(live: &Live, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..400 {
        last = get(live, path).await.1;
        if holds(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} never came to it: {last:#}");
}

fn call() -> CallId {
    "01960000-0000-7000-8000-000000000001".parse().expect("a call id")
}

/// A journal in which a call has begun, as a killed process leaves it behind.
fn leave_open_call(config: &Config) {
    leave_call(config, None);
}

/// A journal that holds a call of January, with its end where it has one.
fn leave_call(config: &Config, end: Option<Terminal>) {
    let directory = config.data.directory.join("journal");
    let options = disk::Options { directory, from: Position::default(), start_after_damage: true, notify: Box::new(|_| {}) };
    let (journal, _) = Journal::open(options).expect("opened");
    let sip_call_ids = SipCallIds { caller: "1@sip".into(), callee: None };
    let kind = Kind::Started { from: "+491".into(), to: "+492".into(), trunk: "carrier".into(), route: "r".into(), sip_call_ids };
    let lane = journal.lane(9);
    for (sequence, kind) in (1..).zip([kind].into_iter().chain(end.map(Kind::Ended))) {
        let event = Event { call_id: call(), sequence, time: Wall::from_millis(1_767_607_200_000), at_ms: 0, kind };
        lane.append(signalling::entry(&event), |_| {}).expect("taken");
    }
    journal.close();
}

async fn crm(scratch: &Scratch) -> Sandbox {
    let options = crate::shell::sandbox::Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        crm: Double::hubspot(Behaviour { faults: Vec::new(), rotate_tokens: true }, Chance::from_seed(1)),
        ledger: Some(scratch.0.join("ledger")),
        tls: None,
    };
    let sandbox = Sandbox::start(options, Clock::new()).await.expect("a sandbox");
    let config = config(scratch, &sandbox.url());
    let target = config.crms.first().expect("a target");
    let crm = connector_of(target);
    let client = http::Client::new(Duration::from_secs(20)).expect("a client");
    let token = setup::sign_in(&client, crm.as_ref(), "sim-refresh", Clock::new().wall()).await.expect("a token");
    // The test's own grant rotated the token; the gateway begins with the one that came back.
    private(&scratch.0.join("rotated"), token.refresh.as_ref().expect("a token"));
    for (object, fields) in needs(&target.mapping).expect("known types") {
        setup::make_all(crm.setup().expect("a set-up"), &token.access, object, &fields).await.expect("made");
    }
    sandbox
}

/// The headers of a webhook with this body.
fn signed(body: &str) -> Vec<(String, String)> {
    let now = Clock::new().wall();
    let signature = Key::parse(KEY).expect("a key").sign("m1", now, body.as_bytes());
    let stamp = (now.as_millis() / 1000).to_string();
    let headers = [("webhook-id", "m1".to_owned()), ("webhook-timestamp", stamp), ("webhook-signature", signature)];
    headers.map(|(n, v)| (n.to_owned(), v)).to_vec()
}

/// A configuration whose CRM is that double, with the refresh token that its set-up was left with.
fn signed_in(scratch: &Scratch, sandbox: &Sandbox) -> Config {
    let mut config = config(scratch, &sandbox.url());
    for crm in &mut config.crms {
        crm.refresh_token = secrets::read(&scratch.0.join("rotated")).expect("a token");
    }
    config
}

fn ledger(scratch: &Scratch, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(scratch.0.join("ledger")).unwrap_or_default();
    text.lines().map(|l| serde_json::from_str::<Value>(l).expect("json")).filter(|l| l["kind"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_left_open_by_a_kill_becomes_one_failed_record_and_a_deleted_store_sends_nothing_again() {
    let scratch = Scratch::new("live");
    let sandbox = crm(&scratch).await;
    let config = signed_in(&scratch, &sandbox);
    leave_open_call(&config);

    let live = Live::start(config.clone(), Options::default()).await.expect("started");
    let path = format!("/v1/calls/{}", call());
    let settled = |v: &Value| v["writes"][0]["state"] == "done" && v["record"]["disposition_code"] == "FAILED — NO DISPOSITION";
    let shown = until(&live, &path, settled).await;
    assert_eq!((&shown["record"]["reason"], &shown["record"]["ended_as"]), (&json!("gateway_restart"), &json!("failed")));

    // The platform's outcome comes late, signed.
    let body =
        json!({"id": "w1", "type": "call.ended", "call_id": "1@sip", "time": "2026-01-05T10:00:00Z", "data": {"disposition_code": "SALE"}})
            .to_string();
    let headers = signed(&body);
    let (status, answer) = ask(&live, "POST", "/v1/webhooks/platform", headers, body.as_bytes()).await;
    assert_eq!(status, 200, "{answer}");
    until(&live, &path, |v| v["writes"][0]["written"].to_string().contains("SALE") && v["writes"][0]["state"] == "done").await;

    let (_, metrics) = get(&live, "/metrics").await;
    let metrics = metrics.as_str().expect("text");
    assert!(metrics.contains("offhook_webhooks_received_total{result=\"accepted\"} 1"), "{metrics}");
    assert!(metrics.contains("offhook_journal_open 1"), "{metrics}");
    live.stop().await;
    let (requests, mutations) = (ledger(&scratch, "request").len(), ledger(&scratch, "mutation").len());
    assert!(mutations >= 2, "made and changed");

    Sqlite::remove(&config.data.directory.join("store.sqlite")).expect("removed");
    let live = Live::start(config, Options::default()).await.expect("started again");
    let again = until(&live, &path, |v| v["writes"][0]["state"] == "done").await;
    assert_eq!(again["record"]["disposition_code"], "SALE");
    tokio::time::sleep(Duration::from_millis(600)).await;
    live.stop().await;
    assert_eq!((ledger(&scratch, "request").len(), ledger(&scratch, "mutation").len()), (requests, mutations), "not one request more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_tells_what_it_is_and_what_it_is_not() {
    let scratch = Scratch::new("api");
    let config = config(&scratch, "http://127.0.0.1:9");
    let live = Live::start(config.clone(), Options::default()).await.expect("started");
    assert_eq!(live.sip().len(), 2);
    assert!(live.sip().iter().all(|l| l.address.port() != 0));
    assert_eq!(get(&live, "/healthz").await.0, 200);
    assert_eq!(get(&live, "/v1/calls").await, (200, json!({"calls": []})));
    let body = br#"{"action": "start", "reason": "payment"}"#;
    let (status, problem) = ask(&live, "POST", &format!("/v1/calls/{}/secure", call()), Vec::new(), body).await;
    assert_eq!(status, 404, "{problem}");
    let second = Live::start(config, Options::default()).await;
    assert!(matches!(second, Err(Error::Data(files::Error::Locked(_)))), "one process a data directory");
    live.stop().await;
}

/// Serves `router` on a free port.
async fn serve(router: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let server = hyper_util::service::TowerToHyperService::new(router);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, server.clone()));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_http_api_gets_its_record_and_is_asked_again_when_it_is_down() {
    let scratch = Scratch::new("live-http");
    // An API of somebody's own: it keeps what it is sent, and is down for the first request.
    type Kept = Arc<std::sync::Mutex<Vec<(String, String, Value)>>>;
    let kept: Kept = Arc::default();
    let keep = {
        let kept = kept.clone();
        move |axum::extract::Path(key): axum::extract::Path<String>, headers: axum::http::HeaderMap, body: String| async move {
            let mut kept = kept.lock().expect("no panic");
            let said = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
            kept.push((key, said("authorization"), serde_json::from_str(&body).expect("json")));
            if kept.len() == 1 { axum::http::StatusCode::SERVICE_UNAVAILABLE } else { axum::http::StatusCode::NO_CONTENT }
        }
    };
    let api = serve(axum::Router::new().route("/calls/{key}", axum::routing::put(keep))).await;

    let mut config = config(&scratch, "http://127.0.0.1:1");
    let crm = config.crms.first_mut().expect("a CRM");
    let secret = Some(("authorization".to_owned(), Secret::new("Bearer own".into())));
    let (url, body) = (format!("http://{api}/calls/{{key}}"), crate::crm::http::BODY.to_owned());
    crm.api = crate::config::Api::Http { method: "PUT", url, body, secret };
    leave_open_call(&config);
    let live = Live::start(config, Options::default()).await.expect("it stands");
    until(&live, "/v1/calls/01960000-0000-7000-8000-000000000001", |call| call["writes"][0]["state"] == "done").await;
    live.stop().await;

    let kept = kept.lock().expect("no panic");
    let key = crate::crm::record_key(call());
    assert!(kept.len() >= 2 && kept.iter().all(|(k, secret, _)| *k == key && secret == "Bearer own"), "{kept:?}");
    let (_, _, last) = kept.last().expect("a record");
    assert_eq!((&last["key"], &last["fields"]["offhook_ended_as"]), (&json!(key), &json!("failed")));
    assert_eq!(last["fields"]["hs_call_from_number"], "+491");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_wrong_secret_refused_is_taken_once_the_secret_is_mended() {
    let scratch = Scratch::new("live-quarantine");
    let config = config(&scratch, "http://127.0.0.1:9");
    leave_open_call(&config);
    let mut slipped = config.clone();
    slipped.webhooks[0].secrets = vec![Secret::new("raw:another".into())];
    let live = Live::start(slipped, Options::default()).await.expect("started");
    for (id, code) in [("w1", "SALE"), ("w2", "LATER")] {
        let body = json!({"id": id, "type": "call.ended", "call_id": "1@sip", "data": {"disposition_code": code}}).to_string();
        let (status, _) = ask(&live, "POST", "/v1/webhooks/platform", signed(&body), body.as_bytes()).await;
        assert_eq!(status, 401);
        // The later one counts, by milliseconds.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (status, _) = ask(&live, "POST", "/v1/webhooks/platform", Vec::new(), b"nonsense").await;
    assert_eq!(status, 401);
    let well = until(&live, "/healthz", |v| v["parts"].to_string().contains("3 webhooks with a wrong signature wait")).await;
    assert_eq!(well["ok"], true);
    let release = async |live: &Live| ask(live, "POST", "/v1/quarantine", Vec::new(), b"{}").await;
    let (status, answer) = release(&live).await;
    assert_eq!((status, &answer["released"], &answer["bad"]), (200, &json!(0), &json!(3)));
    live.stop().await;

    let live = Live::start(config, Options::default()).await.expect("started again");
    let (status, answer) = release(&live).await;
    assert_eq!((status, &answer["released"], &answer["bad"], &answer["unreadable"]), (200, &json!(2), &json!(1), &json!(0)));
    let path = format!("/v1/calls/{}", call());
    until(&live, &path, |v| v["record"]["disposition_code"] == "LATER").await;
    until(&live, "/healthz", |v| v["parts"].to_string().contains("1 webhooks with")).await;
    let (_, metrics) = get(&live, "/metrics").await;
    let metrics = metrics.as_str().expect("text");
    for line in ["webhooks_received_total{result=\"accepted\"} 2", "webhooks_quarantined 1", "webhooks_quarantine_lost_total 0"] {
        assert!(metrics.contains(&format!("offhook_{line}\n")), "{line}: {metrics}");
    }
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_webhook_lost_is_asked_of_the_platform_once_also_over_a_lost_store() {
    let scratch = Scratch::new("live-pull");
    // The platform's API, which fails at first.
    type Asked = Arc<std::sync::Mutex<Vec<(String, String)>>>;
    let asked: Asked = Arc::default();
    let answer = {
        let asked = asked.clone();
        move |axum::extract::Path(id): axum::extract::Path<String>, headers: axum::http::HeaderMap| async move {
            let mut asked = asked.lock().expect("no panic");
            let secret = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
            asked.push((id, secret));
            let status = if asked.len() == 1 { axum::http::StatusCode::BAD_GATEWAY } else { axum::http::StatusCode::OK };
            let analysis = json!({"call_summary": "She bought.", "custom_analysis_data": {"disposition_code": "SALE"}});
            (status, axum::Json(json!({"call_id": "theirs 1", "call_status": "ended", "call_analysis": analysis})))
        }
    };
    let api = serve(axum::Router::new().route("/v2/get-call/{id}", axum::routing::get(answer))).await;
    let mut config = config(&scratch, "http://127.0.0.1:9");
    config.webhooks[0].schema = pipeline::webhook::Schema::shipped("retell").expect("shipped");
    config.webhooks[0].pull = Some(pipeline::Pull {
        url: format!("http://{api}/v2/get-call/{{id}}"),
        id: pipeline::pull::Name::Platform,
        secret: ("authorization".to_owned(), zeroize::Zeroizing::new("Bearer theirs".to_owned())),
        before: Duration::ZERO,
        patience: Duration::from_secs(20),
        attempts_max: 4,
        per_second: 50,
        concurrency: 2,
    });
    leave_open_call(&config);
    let live = Live::start(config.clone(), Options::default()).await.expect("it stands");
    let body = json!({"event": "call_started", "call": {"call_id": "theirs 1", "metadata": {"offhook_call": call()}}}).to_string();
    let (status, answer) = ask(&live, "POST", "/v1/webhooks/platform", signed(&body), body.as_bytes()).await;
    assert_eq!(status, 200, "{answer}");
    let path = format!("/v1/calls/{}", call());
    let shown = until(&live, &path, |v| v["record"]["disposition_code"] == "SALE").await;
    assert_eq!((&shown["record"]["needs_review"], &shown["record"]["missing"]), (&json!(false), &Value::Null), "{shown:#}");
    let (_, metrics) = get(&live, "/metrics").await;
    for line in ["webhook_pulls_total{source=\"platform\",result=\"filled\"} 1", "webhooks_received_total{result=\"accepted\"} 1"] {
        assert!(metrics.as_str().expect("text").contains(&format!("offhook_{line}\n")), "{line}: {metrics}");
    }
    live.stop().await;
    let both = vec![("theirs 1".to_owned(), "Bearer theirs".to_owned()); 2];
    assert_eq!(*asked.lock().expect("no panic"), both);

    rebuild(&config).expect("made anew");
    let live = Live::start(config, Options::default()).await.expect("started again");
    let again = until(&live, &path, |v| v["record"]["complete"] == true).await;
    assert_eq!(again["record"], shown["record"]);
    live.stop().await;
    assert_eq!(asked.lock().expect("no panic").len(), 2, "not one request more");
}

/// All octets of a journal's segments.
fn segments(journal: &Path) -> Vec<u8> {
    let files = fs::read_dir(journal).expect("a journal").map(|file| file.expect("a file").path());
    files.flat_map(|path| fs::read(path).expect("readable")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_settled_call_held_leaves_the_journal_and_a_rebuild_is_the_same() {
    let scratch = Scratch::new("live-retention");
    let sandbox = crm(&scratch).await;
    let mut config = signed_in(&scratch, &sandbox);
    leave_open_call(&config);
    let live = Live::start(config.clone(), Options::default()).await.expect("started");
    let path = format!("/v1/calls/{}", call());
    let data = json!({"disposition_code": "SALE", "call_summary": "he asked for mercy"});
    let body = json!({"id": "w1", "type": "call.ended", "call_id": "1@sip", "time": "2026-01-05T10:00:00Z", "data": data}).to_string();
    assert_eq!(ask(&live, "POST", "/v1/webhooks/platform", signed(&body), body.as_bytes()).await.0, 200);
    let whole = until(&live, &path, |v| v["writes"][0]["state"] == "done" && v["record"]["disposition_code"] == "SALE").await;
    assert!(whole.get("pruned").is_none());
    live.stop().await;
    let journal = config.data.directory.join("journal");
    let holds = |text: &str| segments(&journal).windows(text.len()).any(|octets| octets == text.as_bytes());
    let held = ["+491", "+492", "mercy"];
    assert!(held.into_iter().all(holds));

    config.data.keep = Some(Duration::ZERO);
    // A rebuild was killed: what it had made would outlive what is taken away.
    let making = config.data.directory.join("store.sqlite.making");
    fs::write(&making, "mercy").expect("written");
    let live = Live::start(config.clone(), Options::default()).await.expect("started again");
    assert!(!making.exists());
    let shown = until(&live, &path, |v| v["pruned"] == true).await;
    assert_eq!((&shown["writes"][0]["id"], &shown["events"]), (&whole["writes"][0]["id"], &json!([])));
    assert_eq!((&shown["record"]["outcome"], shown["record"].get("from")), (&whole["record"]["outcome"], None));
    let attempts = get(&live, "/v1/contacts/%2B491/attempts").await.1;
    // Whether he was reached before that nobody knows any more; since then he was not.
    assert_eq!((&attempts["reached"], &attempts["attempts"]), (&Value::Null, &json!([])));
    let known = attempts["known_since"].as_str().and_then(Wall::parse).expect("a time");
    let since = get(&live, &format!("/v1/contacts/%2B491/attempts?since={known}")).await.1;
    assert_eq!((&since["reached"], &since["known_since"]), (&json!(false), &attempts["known_since"]));
    assert_eq!(get(&live, "/v1/contacts/%2B491/attempts?since=yesterday").await.0, 400);
    for _ in 0..400 {
        if !held.into_iter().any(holds) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(held.map(holds), [false; 3]);
    // The same webhook once more, and another one.
    assert_eq!(ask(&live, "POST", "/v1/webhooks/platform", signed(&body), body.as_bytes()).await.0, 200);
    let late = body.replace("w1", "w2");
    assert_eq!(ask(&live, "POST", "/v1/webhooks/platform", signed(&late), late.as_bytes()).await.0, 200);
    let (_, metrics) = get(&live, "/metrics").await;
    assert!(metrics.as_str().is_some_and(|m| m.contains("result=\"duplicate\"} 1")), "{metrics}");
    let figure = |name: &str| metrics.as_str()?.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    assert_eq!(figure("offhook_retention_calls_total"), Some(1));
    assert!(figure("offhook_retention_octets_total").is_some_and(|octets| octets > 500), "{metrics}");
    live.stop().await;

    let store = config.data.directory.join("store.sqlite");
    let dump = || {
        let store = Sqlite::reader(&store).expect("a store");
        (store.record(call()), store.writes(call()), store.named("1@sip"), store.seen("platform/w1"), store.asides(9), store.swept())
    };
    let before = dump();
    assert_eq!(before.4.as_ref().map(Vec::len), Ok(1), "the other one belongs to nobody");
    rebuild(&config).expect("made anew");
    assert_eq!(dump(), before);
}

/// One segment is cut and the next is not: so a process leaves its journal that is killed between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_that_a_kill_ended_between_two_segments_goes_on_at_the_next_start() {
    let scratch = Scratch::new("live-cut");
    let sandbox = crm(&scratch).await;
    let mut config = signed_in(&scratch, &sandbox);
    // It ended long ago, and what is told of it is written today: nothing of that goes by its own age.
    let end = Terminal {
        outcome: Outcome::Answered,
        outcome_table: None,
        ended_as: EndedAs::Completed,
        ended_by: EndedBy::Caller,
        reason: None,
        sip_status: Some(200),
        ring_ms: Some(10),
        talk_ms: 20,
        secure_ms: 0,
        omitted: 0,
    };
    leave_call(&config, Some(end));
    let live = Live::start(config.clone(), Options::default()).await.expect("started");
    let path = format!("/v1/calls/{}", call());
    let data = json!({"disposition_code": "SALE", "call_summary": "he asked for mercy"});
    let body = json!({"id": "w1", "type": "call.ended", "call_id": "1@sip", "time": "2026-01-05T10:00:00Z", "data": data}).to_string();
    assert_eq!(ask(&live, "POST", "/v1/webhooks/platform", signed(&body), body.as_bytes()).await.0, 200);
    until(&live, &path, |v| v["writes"][0]["state"] == "done" && v["record"]["disposition_code"] == "SALE").await;
    live.stop().await;
    let journal = config.data.directory.join("journal");
    let holds = |text: &str| segments(&journal).windows(text.len()).any(|octets| octets == text.as_bytes());
    let mut files: Vec<_> = fs::read_dir(&journal).expect("a journal").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let whole: Vec<_> = files.iter().map(|file| fs::read(file).expect("readable")).collect();
    assert_eq!(files.len(), 2, "the call began in one, and ended in another");

    config.data.keep = Some(Duration::from_secs(86_400));
    let pruned = async |held: &[&str]| {
        let live = Live::start(config.clone(), Options::default()).await.expect("started again");
        until(&live, &path, |v| v["pruned"] == true).await;
        for _ in 0..400 {
            if !held.iter().copied().any(holds) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        live.stop().await;
        assert!(!held.iter().copied().any(holds), "{held:?}");
    };
    let store = config.data.directory.join("store.sqlite");
    let dump = || {
        let store = Sqlite::reader(&store).expect("a store");
        (store.record(call()), store.writes(call()), store.named("1@sip"), store.seen("platform/w1"), store.asides(9))
    };
    pruned(&["+491", "+492", "mercy"]).await;
    let (before, cut): (_, Vec<_>) = (dump(), files.iter().map(|file| fs::read(file).expect("readable")).collect());
    assert!(cut.iter().zip(&whole).all(|(cut, whole)| cut.len() < whole.len()), "both were cut");

    // As they were before the pass, which then is ended before its first segment; the first is cut, and of the second half is written beside the old one.
    files.iter().zip(&whole).for_each(|(file, whole)| fs::write(file, whole).expect("written"));
    fs::remove_file(config.data.directory.join("retention.json")).expect("removed");
    let options =
        disk::Options { directory: journal.clone(), from: Position::default(), start_after_damage: true, notify: Box::new(|_| {}) };
    let (opened, _) = Journal::open(options).expect("opened");
    let kept = Kept::open(&config.data.directory).expect("kept");
    let mut parts = pruning::Parts {
        pipeline: Pipeline::new(compose::pipeline(&config, &kept).expect("composed"), Chance::from_seed(0)),
        store: store.clone(),
        state: config.data.directory.join("retention.json"),
        tail: opened.tail(Position::default()),
        pruner: opened.pruner(),
        health: Health::new(Clock::new()),
        taken: Default::default(),
    };
    pruning::pass(&mut parts, &std::sync::atomic::AtomicBool::new(true)).expect("ended");
    let reader = Sqlite::reader(&store).expect("a store");
    assert!(parts.pruner.prune(1, |at, entry| parts.pipeline.left_of(&reader, at, entry)).expect("cut").is_some());
    drop(reader);
    opened.close();
    fs::write(files[1].with_extension("seg.new"), &cut[1][..cut[1].len() / 2]).expect("written");
    assert_eq!(files.iter().map(|file| fs::read(file).expect("readable")).collect::<Vec<_>>(), [&*cut[0], &*whole[1]]);
    pruned(&["+491", "+492", "mercy"]).await;
    assert_eq!(files.iter().map(|file| fs::read(file).expect("readable")).collect::<Vec<_>>(), cut, "to the octet");
    assert_eq!(dump(), before);
    rebuild(&config).expect("made anew");
    assert_eq!(dump(), before);
}
