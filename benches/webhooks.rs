//! Signed webhooks over HTTP, from the request to the answer that says they are on disk, beside the same server with a handler that reads the same body and says
//! yes. Run by hand: `cargo bench --bench webhooks -- [REQUESTS]` (default 100,000). Generator and gateway share the machine.

#![allow(missing_docs)]
#![allow(clippy::expect_used)] // a figure that cannot be had is none

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use offhook::{
    config::Config,
    driver::live::{self, Live},
    pipeline::Key,
    shell::{
        clock::Clock,
        http::{Options, Server, Webhook},
        telemetry::{Health, Metrics},
    },
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

const KEY: &str = "raw:bench";
/// Connections, each with one request at a time.
const CONNECTIONS: usize = 512;
/// Each handler has its turn so often.
const ROUNDS: usize = 5;
/// Octets of a body, about: an entry of 1.5 kB.
const BODY: usize = 1300;

/// Requests as they go over the wire, signed, each with an id of its own.
fn requests(count: usize, of: &str) -> Vec<Vec<u8>> {
    let (key, now) = (Key::parse(KEY).expect("a key"), Clock::new().system_wall());
    let request = |n: usize| {
        let id = format!("{of}-{n}");
        let data = json!({"call_summary": "x".repeat(BODY - 200), "disposition_code": "RESOLVED"});
        let body = json!({"id": id, "type": "call.ended", "call_id": format!("call-{n}"), "time": now, "data": data}).to_string();
        let signature = key.sign(&id, now, body.as_bytes());
        let head = format!(
            "POST /v1/webhooks/platform HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nwebhook-id: {id}\r\nwebhook-timestamp: {}\r\n\
             webhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
            now.as_millis() / 1000,
            body.len()
        );
        [head.into_bytes(), body.into_bytes()].concat()
    };
    (0..count).map(request).collect()
}

/// Sends them over the connections; how long each took.
async fn send(to: SocketAddr, requests: Vec<Vec<u8>>) -> (Duration, Vec<Duration>) {
    let requests = Arc::new(requests);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(to).await.expect("connected");
        stream.set_nodelay(true).expect("set");
        streams.push(stream);
    }
    let began = Instant::now();
    let connection = |(first, mut stream): (usize, TcpStream)| {
        let requests = requests.clone();
        tokio::spawn(async move {
            let (mut took, mut answer) = (Vec::new(), vec![0; 4096]);
            for request in requests.iter().skip(first).step_by(CONNECTIONS) {
                let asked = Instant::now();
                stream.write_all(request).await.expect("sent");
                // The answer is short and comes at once.
                let read = stream.read(&mut answer).await.expect("an answer");
                let head = answer.get(..read).unwrap_or_default();
                assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(head));
                took.push(asked.elapsed());
            }
            took
        })
    };
    let mut all = Vec::new();
    for connection in streams.into_iter().enumerate().map(connection).collect::<Vec<_>>() {
        all.extend(connection.await.expect("sent"));
    }
    (began.elapsed(), all)
}

fn show(what: &str, (took, mut each): (Duration, Vec<Duration>)) -> f64 {
    each.sort();
    let rate = each.len() as f64 / took.as_secs_f64();
    let at = |share: usize| each.get(each.len().saturating_sub(1) * share / 100).copied().unwrap_or_default().as_secs_f64() * 1000.0;
    println!("{what:<44} {rate:>8.0}/s, answered after {:.1} ms (median), {:.1} ms (p99), {:.1} ms (most)", at(50), at(99), at(100));
    rate
}

/// The same server with nobody behind it.
async fn empty() -> Server {
    let metrics = Arc::new(Metrics::new());
    let health = Health::new(Clock::new());
    let yes = |webhook: Webhook| drop(webhook.reply.send(Ok(json!({"ok": true}))));
    let options = Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        tokens: Vec::new(),
        tls: None,
        proxies: Vec::new(),
        doors: std::collections::BTreeMap::new(),
    };
    Server::start(options, Arc::new(yes), mpsc::channel(1).0, metrics, health).await.expect("started")
}

fn configuration(folder: &Path) -> Config {
    let secret = folder.join("webhook-key");
    std::fs::write(&secret, KEY).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    let text = "[sip]\nlisten = [\"udp:127.0.0.1:0\"]\n[http]\nlisten = \"127.0.0.1:0\"\n[[trunk]]\nname = \"carrier\"\nallow = [\"127.0.0.0/8\"]\n\
                [[target]]\nname = \"platform\"\nuri = \"sip:127.0.0.1:9\"\n[[route]]\ntrunk = \"carrier\"\nnumber = \"*\"\ntargets = [\"platform\"]\n\
                [[webhook]]\nsource = \"platform\"\nschema = \"generic\"\nsecret_file = \"webhook-key\"\n";
    Config::parse(&folder.join("offhook.toml"), text).expect("a configuration")
}

fn main() {
    let count = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(100_000_usize);
    let folder = std::env::temp_dir().join(format!("offhook-webhooks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = empty().await;
        let each = count / ROUNDS;
        send(server.address, requests(each, "warm-empty")).await;
        // In turn, since a machine that others share is not as fast all the time.
        let mut ratios = Vec::new();
        for round in 0..ROUNDS {
            let bare = show("an empty handler that reads the same body", send(server.address, requests(each, "empty")).await);
            // A gateway for each turn: none folds beside the empty handler.
            let live = Live::start(configuration(&folder), live::Options::default()).await.expect("started");
            send(live.http(), requests(each / 10, &format!("warm-{round}"))).await;
            let whole =
                show("verified, on disk, then folded beside it", send(live.http(), requests(each, &format!("whole-{round}"))).await);
            live.stop().await;
            ratios.push(whole / bare);
        }
        ratios.sort_by(f64::total_cmp);
        let at = |place: usize| ratios.get(place).copied().unwrap_or_default();
        println!("{:.2} of the empty handler's rate (median of {ROUNDS}; {:.2} to {:.2})", at(ROUNDS / 2), at(0), at(ROUNDS - 1));
    });
    let _ = std::fs::remove_dir_all(&folder);
}
