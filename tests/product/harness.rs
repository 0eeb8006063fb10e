//! A gateway as a process of its own, a CRM's double, and what a test asks of both.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use offhook::{
    chance::Chance,
    crm::{
        mapping::Mapping,
        sandbox::{CLIENT_ID, CLIENT_SECRET, Double, Options as Behaviour, REFRESH_TOKEN},
        setup::needs,
    },
    driver::demo::{hubspot::HubSpot, web::Web},
    shell::{clock::Clock, sandbox},
};
use serde_json::{Value, json};

/// How long anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(40);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MAPPING: &str = include_str!("../../examples/mapping.toml");
const WEBHOOK_SECRET: &str = "whsec_dGhpcyBpcyBhIHRlc3Qgc2VjcmV0IQ==";

/// How a bench is set up.
pub struct Setup {
    /// Number dialled and where it goes; `*` for all others.
    pub routes: Vec<(&'static str, Vec<String>)>,
    /// Faults of the CRM, as its `--faults` file has them.
    pub faults: &'static str,
    /// More of the configuration: `[section]`s of its own.
    pub more: String,
    /// More of the target of write-back.
    pub crm_more: &'static str,
    /// More of each route.
    pub route_more: &'static str,
    /// A fault planted in the gateway.
    pub plant: Option<&'static str>,
}

impl Setup {
    /// Everything to one platform.
    pub fn to(platform: &str) -> Self {
        Self {
            routes: vec![("*", vec![platform.to_owned()])],
            faults: "[]",
            more: String::new(),
            crm_more: "",
            route_more: "",
            plant: None,
        }
    }
}

/// A gateway with its CRM.
pub struct Bench {
    /// Folder for everything.
    pub folder: PathBuf,
    /// Where the gateway takes SIP, over UDP and TCP.
    pub sip: SocketAddr,
    /// Its HTTP address.
    pub http: SocketAddr,
    /// First of its 400 RTP ports.
    pub rtp: u16,
    gateway: Option<Child>,
    plant: Option<&'static str>,
    sandbox: sandbox::Sandbox,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            let _ = gateway.kill();
            let _ = gateway.wait();
        }
    }
}

impl Bench {
    /// Starts both and waits until the gateway says that it is well.
    pub fn start(name: &str, setup: &Setup) -> Self {
        let folder = folder(name);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let behaviour = Behaviour { faults: serde_json::from_str(setup.faults).expect("faults"), rotate_tokens: false };
        let options = sandbox::Options {
            listen: SocketAddr::new(LOOPBACK, 0),
            crm: Double::hubspot(behaviour, Chance::from_seed(1)),
            ledger: Some(folder.join("ledger.jsonl")),
            tls: None,
        };
        let sandbox = runtime.block_on(sandbox::Sandbox::start(options, Clock::new())).expect("a sandbox");
        let mapping: Mapping = toml::from_str(MAPPING).expect("the shipped mapping");
        runtime.block_on(async {
            let account = HubSpot::sign_in(Web::new().expect("a client"), &sandbox.url()).await.expect("signs in");
            for (object, fields) in needs(&mapping).expect("types that are known") {
                account.make_fields(object, &fields).await.expect("properties");
            }
        });
        let (sip, http) = (free_port(), free_port());
        for (file, text) in [("client-secret", CLIENT_SECRET), ("refresh-token", REFRESH_TOKEN), ("webhook-secret", WEBHOOK_SECRET)] {
            fs::write(folder.join(file), text).expect("a secret");
            fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o600)).expect("a secret");
        }
        fs::write(folder.join("mapping.toml"), MAPPING).expect("a mapping");
        let rtp = 20_000
            + u16::try_from(std::process::id() % 7).expect("small") * 1000
            + PORTS.fetch_add(400, std::sync::atomic::Ordering::Relaxed) % 3000;
        fs::write(folder.join("offhook.toml"), configuration(&folder, sip, http, rtp, &sandbox.url(), setup)).expect("a configuration");
        let mut bench = Self { folder, sip, http, rtp, gateway: None, plant: setup.plant, sandbox, runtime };
        bench.start_gateway();
        bench
    }

    /// Starts the gateway again on the same folder, and waits until it is well.
    pub fn start_gateway(&mut self) {
        self.start_gateway_unseen();
        self.wait("the gateway is well", || (self.get("/healthz").0 == 200).then_some(()));
    }

    /// Starts it and does not look: one with TLS is not seen in plain HTTP.
    pub fn start_gateway_unseen(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("offhook.log")).expect("a log");
        let gateway = Command::new(env!("CARGO_BIN_EXE_offhook"))
            .arg("serve")
            .arg("--config")
            .arg(self.folder.join("offhook.toml"))
            .args(self.plant.into_iter().flat_map(|fault| ["--plant", fault]))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the gateway starts");
        self.gateway = Some(gateway);
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        let mut gateway = self.gateway.take().expect("a gateway");
        gateway.kill().expect("killed");
        gateway.wait().expect("gone");
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) {
        self.terminate();
        self.wait_for_end();
    }

    /// Tells it to stop, and does not wait.
    pub fn terminate(&self) {
        let pid = self.gateway.as_ref().expect("a gateway").id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    }

    /// Waits for its end, which must be a good one.
    #[expect(clippy::zombie_processes)] // it is waited for until it has ended, or the test fails
    pub fn wait_for_end(&mut self) {
        let mut gateway = self.gateway.take().expect("a gateway");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = gateway.try_wait().expect("its state") {
                assert!(status.success(), "{status}: {}", self.log());
                return;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("it did not end after SIGTERM: {}", self.log());
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("offhook.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// A GET of the gateway: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        request(self.http, &format!("GET {path} HTTP/1.1\r\nHost: offhook\r\nConnection: close\r\n\r\n"))
    }

    /// A POST of JSON: status and body.
    pub fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: offhook\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}",
            body.len()
        );
        request(self.http, &format!("{head}\r\n\r\n{body}"))
    }

    /// A POST of octets with headers of its own: status and body.
    pub fn post_octets(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("POST {path} HTTP/1.1\r\nHost: offhook\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        request_of(self.http, &[head.as_bytes(), body].concat())
    }

    /// The id of the one call that is up.
    pub fn call_that_is_up(&self) -> String {
        self.wait("a call that was answered", || {
            let (_, calls) = self.get("/v1/calls");
            let calls: Value = serde_json::from_str(&calls).ok()?;
            let calls = calls["calls"].as_array()?.clone();
            let id = calls.first()?["call_id"].as_str()?.to_owned();
            self.get(&format!("/v1/calls/{id}")).1.contains("call.answered").then_some(id)
        })
    }

    /// A gauge or counter without labels.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// The records that stand in the CRM, by their ids.
    pub fn records(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut records = BTreeMap::new();
        for line in self.ledger().into_iter().filter(|l| l["kind"] == "mutation" && l["object"] == "calls") {
            let id = line["id"].as_str().expect("an id").to_owned();
            let Some(after) = line["after"].as_object() else {
                records.remove(&id);
                continue;
            };
            let fields = after.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()));
            records.insert(id, fields.collect());
        }
        records
    }

    /// Somebody deletes a record in the CRM.
    pub fn delete_record(&self, id: &str) {
        self.runtime.block_on(async {
            let account = HubSpot::sign_in(Web::new().expect("a client"), &self.sandbox.url()).await.expect("signs in");
            account.delete(id).await.expect("deleted");
        });
    }

    /// Somebody changes a field of the record with that key in the CRM.
    pub fn change_record(&self, key: &str, field: &str, value: &str) {
        self.runtime.block_on(async {
            let (web, url) = (Web::new().expect("a client"), self.sandbox.url());
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", CLIENT_ID),
                ("client_secret", CLIENT_SECRET),
                ("refresh_token", REFRESH_TOKEN),
            ];
            let token = web.form(&format!("{url}/oauth/v1/token"), &form).await.expect("a token");
            let input = json!({"idProperty": "offhook_key", "id": key, "properties": {field: value}});
            let address = format!("{url}/crm/v3/objects/calls/batch/upsert");
            web.post(&address, token["access_token"].as_str(), &json!({"inputs": [input]})).await.expect("changed");
        });
    }

    /// Every line of the CRM's ledger.
    pub fn ledger(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join("ledger.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for something, or fails with the log.
    pub fn wait<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(Instant::now() < until, "{what}: not within {} s\n{}", PATIENCE.as_secs(), self.log());
            sleep(Duration::from_millis(100));
        }
    }

    /// Waits until so many records are final: the call is over and its outcome decided.
    pub fn wait_for_records(&self, count: usize) -> Vec<BTreeMap<String, String>> {
        self.wait("all records in the CRM", || {
            let records: Vec<_> = self.records().into_values().collect();
            let whole = records.iter().filter(|r| r.contains_key("offhook_ended_as") && r.contains_key("offhook_disposition")).count();
            (whole >= count).then_some(records)
        })
    }

    /// Waits until no call, dialog, transaction or port is left.
    pub fn wait_until_at_rest(&self) {
        self.wait("metrics back at zero", || {
            [
                "offhook_calls_active",
                "offhook_dialogs_active",
                "offhook_transactions_active",
                "offhook_rtp_ports_in_use",
                "offhook_outbox_depth",
            ]
            .iter()
            .all(|name| self.metric(name) == Some(0.0))
            .then_some(())
        });
    }

    /// Posts a signed webhook; its status.
    pub fn webhook(&self, id: &str, body: &Value) -> u16 {
        let url = format!("http://{}/v1/webhooks/platform", self.http);
        let now = Clock::new().wall().as_millis() / 1000;
        let web = Web::new().expect("a client");
        match self.runtime.block_on(web.webhook(&url, WEBHOOK_SECRET, id, now, body)) {
            Ok(status) | Err(offhook::driver::demo::web::Error::Status { status, .. }) => status,
            Err(_) => 0,
        }
    }
}

fn configuration(folder: &Path, sip: SocketAddr, http: SocketAddr, rtp: u16, crm: &str, setup: &Setup) -> String {
    let at = folder.display();
    let mut text = format!(
        r#"
[sip]
listen = ["udp:{sip}", "tcp:{sip}"]
[media]
ports = "{rtp}-{}"
workers = 1
[http]
listen = "{http}"
[data]
directory = "{at}/data"
[writeback]
outcome_wait_ms = 1000
[[trunk]]
name = "carrier"
allow = ["127.0.0.0/8"]
[[crm]]
name = "hubspot"
kind = "hubspot"
base_url = "{crm}"
token_url = "{crm}/oauth/v1/token"
client_id = "{}"
client_secret_file = "{at}/client-secret"
refresh_token_file = "{at}/refresh-token"
mapping = "{at}/mapping.toml"
{}
[[webhook]]
source = "platform"
schema = "generic"
secret_file = "{at}/webhook-secret"
{}
"#,
        rtp + if std::env::var_os("OFFHOOK_TEST_CALLS").is_some() { 4999 } else { 399 },
        CLIENT_ID,
        setup.crm_more,
        setup.more
    );
    let mut names: Vec<&str> = Vec::new();
    for (number, targets) in &setup.routes {
        let mut list = Vec::new();
        for uri in targets {
            let known = names.iter().position(|n| n == uri);
            let index = known.unwrap_or_else(|| {
                names.push(uri);
                let index = names.len() - 1;
                text.push_str(&format!("[[target]]\nname = \"platform-{index}\"\nuri = \"{uri}\"\n"));
                index
            });
            list.push(format!("\"platform-{index}\""));
        }
        text.push_str(&format!(
            "[[route]]\ntrunk = \"carrier\"\nnumber = \"{number}\"\ntargets = [{}]\n{}\n",
            list.join(", "),
            setup.route_more
        ));
    }
    text
}

static PORTS: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);

/// An empty folder for a test.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A loopback port that is free for UDP and TCP.
pub fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((LOOPBACK, 0)).expect("a port");
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("an address")) {
            return udp.local_addr().expect("an address");
        }
    }
}

fn request(to: SocketAddr, text: &str) -> (u16, String) {
    request_of(to, text.as_bytes())
}

fn request_of(to: SocketAddr, octets: &[u8]) -> (u16, String) {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(octets)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
