//! What the calls are played in: a gateway with a configuration file of its own, and a CRM.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    sync::Mutex,
    time::timeout,
};

use super::{
    Error, Options,
    hubspot::{self, HubSpot, Record},
    progress::Progress,
    scenario::{Cast, Stage, Target},
    web::Web,
};
use crate::{
    chance::Chance,
    crm::{
        mapping::Mapping,
        sandbox::{Double, Options as Behaviour},
        setup::needs,
    },
    event::DtmfMethod,
    shell::{
        clock::Clock,
        files,
        sandbox::{self, Sandbox},
    },
};

/// Everything that runs while the calls are played.
pub(crate) struct World {
    folder: PathBuf,
    stage: Stage,
    http: String,
    crm_url: String,
    crm: HubSpot,
    ledger: Option<PathBuf>,
    /// What is read back of a record.
    properties: Vec<String>,
    gateway: Mutex<Child>,
    /// Ends when it is dropped.
    _sandbox: Option<Sandbox>,
}

/// After so long without a packet the gateway asks whether a platform is still there.
const NO_MEDIA_MS: u32 = 2000;
/// How long after its end a call's outcome may come. The platforms post theirs at once.
const OUTCOME_WAIT_MS: u32 = 3000;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// RTP ports that the gateway may use: five calls need two each and one more for a transfer, and freed ones rest.
const RTP_PORTS: u16 = 200;
/// How long the gateway may take to say that it is well.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end.
const STOP: Duration = Duration::from_secs(10);
/// The mapping that is shipped as an example.
const MAPPING: &str = include_str!("../../../examples/mapping.toml");

impl World {
    pub(crate) async fn start(
        folder: &Path,
        options: &Options,
        casts: &[Cast],
        chance: &mut Chance,
        progress: Progress,
    ) -> Result<Self, Error> {
        let web = Web::new().map_err(|why| Error::System { what: "an HTTP client", why: io::Error::other(why) })?;
        let mapping: Mapping = toml::from_str(MAPPING).map_err(|why| Error::Gateway(format!("examples/mapping.toml: {why}")))?;

        let ledger = options.crm.is_none().then(|| folder.join("crm-ledger.jsonl"));
        let sandbox = match &options.crm {
            Some(_) => None,
            None => {
                let sandbox = sandbox::Options {
                    listen: SocketAddr::new(LOOPBACK, 0),
                    crm: Double::hubspot(Behaviour::default(), chance.split()),
                    ledger: ledger.clone(),
                    tls: None,
                };
                Some(Sandbox::start(sandbox, Clock::new()).await.map_err(|why| Error::Gateway(why.to_string()))?)
            }
        };
        let crm_url = match (&options.crm, &sandbox) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(sandbox)) => sandbox.url(),
            (None, None) => String::new(),
        };
        let crm = HubSpot::sign_in(web.clone(), &crm_url).await?;
        for (object, fields) in needs(&mapping).map_err(Error::Gateway)? {
            crm.make_fields(object, &fields).await?;
        }

        let system = |what| move |why| Error::System { what, why };
        let sip = free_port().map_err(system("finding a free port for SIP"))?;
        let http = free_port().map_err(system("finding a free port for HTTP"))?;
        // Below the ports that the system hands out by itself.
        let rtp_from = 20_000 + u16::try_from(chance.below(50)).unwrap_or(0) * RTP_PORTS;
        let secret = secret(chance);
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).map_err(system("writing the gateway's configuration"));
        let keep =
            |name: &str, text: &str| files::replace(&folder.join(name), text.as_bytes()).map_err(|why| Error::Gateway(why.to_string()));
        keep("client-secret", hubspot::CLIENT_SECRET)?;
        keep("refresh-token", hubspot::REFRESH_TOKEN)?;
        keep("webhook-secret", &secret)?;
        write("mapping.toml", MAPPING)?;
        write("offhook.toml", &configuration(folder, sip, http, rtp_from, &crm_url, casts))?;

        let gateway = spawn(folder, options.mask_off).map_err(system("starting the gateway"))?;
        let http = format!("http://{http}");
        let stage = Stage { gateway: sip, webhooks: format!("{http}/v1/webhooks/platform"), secret, web, progress };
        let properties = std::iter::once(mapping.key.clone()).chain(mapping.rules.iter().map(|r| r.to.clone())).collect();
        let world = Self {
            folder: folder.to_owned(),
            stage,
            http,
            crm_url,
            crm,
            ledger,
            properties,
            gateway: Mutex::new(gateway),
            _sandbox: sandbox,
        };
        world.ready().await?;
        Ok(world)
    }

    /// Waits until the gateway says that it is well.
    async fn ready(&self) -> Result<(), Error> {
        let until = tokio::time::Instant::now() + START;
        let health = format!("{}/healthz", self.http);
        loop {
            let answer = self.stage.web.text(&health).await;
            let Err(why) = answer else { return Ok(()) };
            let ended = self.gateway.lock().await.try_wait().ok().flatten();
            if ended.is_some() || tokio::time::Instant::now() > until {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                let lines: Vec<_> = log.lines().rev().take(12).collect();
                let last: Vec<_> = lines.into_iter().rev().collect();
                let what = ended
                    .map_or_else(|| format!("not well after {} s: {why}", START.as_secs()), |status| format!("it ended with {status}"));
                return Err(Error::Gateway(format!("{what}\n{}", last.join("\n"))));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage.clone()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    pub(crate) fn crm(&self) -> &str {
        &self.crm_url
    }

    /// Where the CRM sandbox writes down what was asked of it.
    pub(crate) fn ledger(&self) -> Option<&Path> {
        self.ledger.as_deref()
    }

    /// The gateway's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("offhook.log")
    }

    /// The gateway's record of a call.
    pub(crate) async fn call(&self, id: &str) -> Option<Value> {
        self.stage.web.get(&format!("{}/v1/calls/{id}", self.http), None).await.ok().flatten()
    }

    /// What stands in the CRM about a call, read over the CRM's own API.
    pub(crate) async fn crm_records(&self, call_id: &str) -> Vec<Record> {
        self.crm.records("offhook_call_id", call_id, &self.properties).await.unwrap_or_default()
    }

    /// The gateway's gauges, by name.
    pub(crate) async fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.stage.web.text(&format!("{}/metrics", self.http)).await.unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')).filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// Ends the gateway as a service manager does: SIGTERM, and time to finish.
    pub(crate) async fn stop(&self) {
        let mut gateway = self.gateway.lock().await;
        if let Some(pid) = gateway.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(STOP, gateway.wait()).await.is_err() {
            let _ = gateway.kill().await;
        }
    }
}

/// The gateway as a process of its own, this program run as `serve`; what it logs goes into a file.
fn spawn(folder: &Path, mask_off: bool) -> io::Result<Child> {
    let log = File::create(folder.join("offhook.log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg("--config").arg(folder.join("offhook.toml"));
    if mask_off {
        command.args(["--plant", "mask-off"]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()
}

/// The configuration: what an operator would write, with the addresses that were free.
fn configuration(folder: &Path, sip: SocketAddr, http: SocketAddr, rtp_from: u16, crm_url: &str, casts: &[Cast]) -> String {
    let data = folder.display();
    let mut text = format!(
        r#"# Written by `offhook demo`; `offhook serve --config` takes it as well.
[sip]
listen = ["udp:{sip}", "tcp:{sip}"]

[media]
ports = "{rtp_from}-{rtp_to}"
workers = 1

[http]
listen = "{http}"

[data]
directory = "{data}/data"

[[trunk]]
name = "carrier"
allow = ["127.0.0.0/8"]
codecs = ["PCMU", "PCMA", "G722"]
dtmf = "auto"
"#,
        rtp_to = rtp_from + RTP_PORTS - 1,
    );
    for cast in casts {
        for target in cast.targets.iter().chain(&cast.human_target) {
            text.push_str(&target_block(target));
        }
        let names: Vec<_> = cast.targets.iter().map(|t| format!("{:?}", t.name)).collect();
        text.push_str(&format!(
            "\n[[route]]\ntrunk = \"carrier\"\nnumber = \"{}\"\ntargets = [{}]\nring_ms = 20000\nrecord = true\nno_media_ms = {NO_MEDIA_MS}\n",
            cast.number,
            names.join(", ")
        ));
    }
    text.push_str(&format!(
        r#"
[writeback]
outcome_wait_ms = {OUTCOME_WAIT_MS}

[[crm]]
name = "hubspot"
kind = "hubspot"
base_url = "{crm_url}"
token_url = "{crm_url}/oauth/v1/token"
client_id = "{id}"
client_secret_file = "{data}/client-secret"
refresh_token_file = "{data}/refresh-token"
mapping = "{data}/mapping.toml"

[[webhook]]
source = "platform"
schema = "generic"
secret_file = "{data}/webhook-secret"
"#,
        id = hubspot::CLIENT_ID,
    ));
    text
}

fn target_block(target: &Target) -> String {
    let codecs: Vec<_> = target.codecs.iter().map(|c| format!("{:?}", super::check::codec_name(*c))).collect();
    let dtmf = match target.dtmf {
        DtmfMethod::Rfc4733 => "rfc4733",
        DtmfMethod::Info => "info",
        DtmfMethod::Inband => "inband",
    };
    format!("\n[[target]]\nname = \"{}\"\nuri = \"{}\"\ncodecs = [{}]\ndtmf = \"{dtmf}\"\n", target.name, target.uri, codecs.join(", "))
}

/// A loopback port that is free for UDP and TCP at once. Somebody may take it before the gateway does; it then says so and the demo is run again.
fn free_port() -> std::io::Result<SocketAddr> {
    let mut last = None;
    for _ in 0..20 {
        let tcp = TcpListener::bind((LOOPBACK, 0))?;
        match UdpSocket::bind(tcp.local_addr()?) {
            Ok(udp) => return udp.local_addr(),
            Err(why) => last = Some(why),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other("no free port")))
}

/// A webhook secret in the form that Standard Webhooks gives out.
fn secret(chance: &mut Chance) -> String {
    let mut octets = Vec::new();
    while octets.len() < 24 {
        octets.extend(chance.u64().to_be_bytes());
    }
    format!("whsec_{}", BASE64_STANDARD.encode(octets))
}
