//! The instance that a drill is held on: a gateway as a process of its own, started and killed, and a CRM's double with faults to order.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    process::{Child, Command},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    Error,
    account::{Account, Kind},
};
use crate::{
    chance::Chance,
    crm::{
        sandbox::{Double, Fault, Options as Behaviour},
        setup::Field,
    },
    driver::demo::{
        hubspot::{CLIENT_SECRET, REFRESH_TOKEN},
        web::Web,
    },
    shell::{
        clock::Clock,
        files,
        sandbox::{self, Sandbox},
    },
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What platforms sign their webhooks with.
pub(super) const WEBHOOK_SECRET: &str = "whsec_b2ZmaG9vayBkcmlsbCBzZWNyZXQgMDAwMA==";
/// How long the gateway may take to say that it is well.
const START: Duration = Duration::from_secs(30);
/// How long after its end a call's outcome may come before it is written down as missing, ms.
const OUTCOME_WAIT_MS: u32 = 400;

/// The instance.
pub(super) struct Scratch {
    pub(super) folder: PathBuf,
    pub(super) sip: SocketAddr,
    pub(super) web: Web,
    http: String,
    gateway: Option<Child>,
    crm_url: String,
    kind: Kind,
    sandbox: Option<Sandbox>,
}

impl Scratch {
    /// Everything but the gateway. `crm`: somebody else's server; none: the built-in double.
    pub(super) async fn prepare(
        folder: &Path,
        (kind, crm): (Kind, Option<&str>),
        mapping: &str,
        (custom, schedule): (&[(String, Vec<Field>)], &str),
        platform: SocketAddr,
        chance: &mut Chance,
    ) -> Result<Self, Error> {
        let web = Web::new().map_err(|why| Error::System { what: "an HTTP client", why: io::Error::other(why) })?;
        let sandbox = match crm {
            Some(_) => None,
            None => {
                let crm = Double::of(kind.name(), Behaviour::default(), chance.split())
                    .ok_or_else(|| Error::Gateway(format!("there is no double of {}", kind.name())))?;
                let options = sandbox::Options {
                    listen: SocketAddr::new(LOOPBACK, 0),
                    crm,
                    ledger: Some(folder.join("crm-ledger.jsonl")),
                    tls: None,
                };
                Some(Sandbox::start(options, Clock::new()).await.map_err(|why| Error::Gateway(why.to_string()))?)
            }
        };
        let crm_url =
            crm.map_or_else(|| sandbox.as_ref().map(Sandbox::url).unwrap_or_default(), |url| url.trim_end_matches('/').to_owned());
        let account = Account::sign_in(kind, web.clone(), &crm_url).await?;
        for (object, fields) in custom {
            account.make_fields(object, fields).await?;
        }
        let system = |what| move |why| Error::System { what, why };
        let (sip, http) = (free_port().map_err(system("a port for SIP"))?, free_port().map_err(system("a port for HTTP"))?);
        for (name, text) in [("client-secret", CLIENT_SECRET), ("refresh-token", REFRESH_TOKEN), ("webhook-secret", WEBHOOK_SECRET)] {
            files::replace(&folder.join(name), text.as_bytes()).map_err(|why| Error::Gateway(why.to_string()))?;
        }
        let rtp_from = 20_000 + u16::try_from(chance.below(3)).unwrap_or(0) * 3000;
        let crm = kind.configuration(&crm_url, &folder.display().to_string()) + schedule;
        let text = configuration(folder, sip, http, rtp_from, &crm, platform);
        for (name, text) in [("mapping.toml", mapping), ("offhook.toml", &text)] {
            std::fs::write(folder.join(name), text).map_err(system("writing the configuration"))?;
        }
        Ok(Self { folder: folder.to_owned(), sip, web, http: format!("http://{http}"), gateway: None, crm_url, kind, sandbox })
    }

    /// Starts the gateway and waits until it is well.
    pub(super) async fn start(&mut self) -> Result<(), Error> {
        let log = File::options().create(true).append(true).open(self.folder.join("offhook.log"));
        let spawn = log.and_then(|log| {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("serve").arg("--config").arg(self.folder.join("offhook.toml")).env("RUST_LOG", "warn").stdin(Stdio::null());
            command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()
        });
        self.gateway = Some(spawn.map_err(|why| Error::System { what: "starting the gateway", why })?);
        let until = Instant::now() + START;
        while self.web.text(&format!("{}/healthz", self.http)).await.is_err() {
            let ended = self.gateway.as_mut().and_then(|g| g.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.join("offhook.log")).unwrap_or_default();
                let lines: Vec<_> = log.lines().rev().take(8).collect();
                return Err(Error::Gateway(lines.into_iter().rev().collect::<Vec<_>>().join("\n")));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Ends it as a power cut would.
    pub(super) async fn kill(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            let _ = gateway.kill().await;
        }
    }

    /// Ends it as a service manager does.
    pub(super) async fn stop(&mut self) {
        let Some(mut gateway) = self.gateway.take() else { return };
        if let Some(pid) = gateway.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(START, gateway.wait()).await.is_err() {
            let _ = gateway.kill().await;
        }
    }

    /// The built-in double has these faults from now on; somebody else's server is left as it is.
    pub(super) fn set_faults(&self, faults: &Value) {
        if let Some(sandbox) = &self.sandbox {
            let faults: Vec<Fault> = serde_json::from_value(faults.clone()).unwrap_or_default();
            sandbox.set_faults(faults);
        }
    }

    /// Opens so many connections, which later webhooks are sent over.
    pub(super) async fn connect(&self, connections: usize) {
        let url = format!("{}/healthz", self.http);
        let mut asked = JoinSet::new();
        for _ in 0..connections {
            let (web, url) = (self.web.clone(), url.clone());
            asked.spawn(async move { web.text(&url).await.map(drop) });
        }
        while asked.join_next().await.is_some() {}
    }

    /// Posts a webhook, signed now; whether it was answered 200.
    pub(super) async fn webhook(&self, id: &str, body: &Value) -> bool {
        let url = self.webhooks_at();
        let now = Clock::new().wall().as_millis() / 1000;
        matches!(self.web.webhook(&url, WEBHOOK_SECRET, id, now, body).await, Ok(200))
    }

    /// Where webhooks are posted.
    pub(super) fn webhooks_at(&self) -> String {
        format!("{}/v1/webhooks/platform", self.http)
    }

    /// A gauge or counter without labels.
    pub(super) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.web.text(&format!("{}/metrics", self.http)).await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// A call with its writes.
    pub(super) async fn call(&self, id: &str) -> Option<Value> {
        self.web.get(&format!("{}/v1/calls/{id}", self.http), None).await.ok().flatten()
    }

    /// Has every call told again, as `offhook recover` does: what the CRM holds is read first. True once that is over and the rest is in the journal.
    pub(super) async fn recover(&self) -> Result<bool, Error> {
        let body = serde_json::json!({"since": "2020-01-01T00:00:00Z", "by": "drill"});
        let mut stands = self.web.post(&format!("{}/v1/recover", self.http), None, &body).await?;
        let operation = stands.get("operation").and_then(Value::as_str).unwrap_or_default().to_owned();
        while stands.get("state").and_then(Value::as_str) == Some("reading") {
            tokio::time::sleep(LOOK).await;
            let asked = self.web.get(&format!("{}/v1/recover/{operation}", self.http), None).await?;
            stands = asked.unwrap_or(Value::Null);
        }
        Ok(stands.get("state").and_then(Value::as_str) == Some("told"))
    }

    /// Makes due what waits for a batch, as `offhook batch run` does; a gateway that is just killed is asked again.
    pub(super) async fn run_batch(&self) {
        let body = serde_json::json!({"target": self.kind.name(), "by": "drill"});
        let _ = self.web.post(&format!("{}/v1/batch", self.http), None, &body).await;
    }

    /// How the writes stand.
    pub(super) async fn queue(&self) -> Option<Value> {
        self.web.get(&format!("{}/v1/queue", self.http), None).await.ok().flatten()
    }

    /// A session with the CRM over its own API.
    pub(super) async fn account(&self) -> Result<Account, Error> {
        Account::sign_in(self.kind, self.web.clone(), &self.crm_url).await
    }

    /// What the double wrote down; nothing of somebody else's server.
    pub(super) fn ledger(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("crm-ledger.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

fn configuration(folder: &Path, sip: SocketAddr, http: SocketAddr, rtp_from: u16, crm: &str, platform: SocketAddr) -> String {
    let data = folder.display();
    format!(
        r#"# Written by `offhook drill`; `offhook serve --config` takes it as well.
[sip]
listen = ["udp:{sip}"]
[media]
ports = "{rtp_from}-{rtp_to}"
workers = 1
[http]
listen = "{http}"
[data]
directory = "{data}/data"
[writeback]
outcome_wait_ms = {OUTCOME_WAIT_MS}
attempts_max = 1000
[[trunk]]
name = "carrier"
allow = ["127.0.0.0/8"]
codecs = ["PCMU"]
dtmf = "info"
[[target]]
name = "platform"
uri = "sip:platform@{platform};transport=udp"
codecs = ["PCMU"]
dtmf = "info"
[[target]]
name = "human"
uri = "sip:human@{platform};transport=udp"
codecs = ["PCMU"]
[[route]]
trunk = "carrier"
number = "*"
targets = ["platform"]
{crm}[[webhook]]
source = "platform"
schema = "generic"
secret_file = "{data}/webhook-secret"
"#,
        rtp_to = rtp_from + 2999,
    )
}

/// How often a recovery is asked how far it has come.
const LOOK: Duration = Duration::from_millis(100);

/// A loopback port that is free for UDP and TCP at once.
fn free_port() -> io::Result<SocketAddr> {
    let mut last = None;
    for _ in 0..20 {
        let tcp = TcpListener::bind((LOOPBACK, 0))?;
        match UdpSocket::bind(tcp.local_addr()?) {
            Ok(udp) => return udp.local_addr(),
            Err(why) => last = Some(why),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no free port")))
}
