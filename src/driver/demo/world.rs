//! What the calls are played in: a gateway with a configuration file of its own, and a CRM.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{
    Error, Options,
    hubspot::{self, HubSpot, Record},
    progress::Progress,
    scenario::{Cast, Stage, Target},
    web::Web,
};
use crate::{chance::Chance, event::DtmfMethod};

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
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// RTP ports that the gateway may use: five calls need four each, and freed ones rest.
const RTP_PORTS: u16 = 200;

impl World {
    pub(crate) async fn start(
        folder: &Path,
        options: &Options,
        casts: &[Cast],
        chance: &mut Chance,
        progress: Progress,
    ) -> Result<Self, Error> {
        let web = Web::new().map_err(|why| Error::System { what: "an HTTP client", why: std::io::Error::other(why) })?;
        todo!()
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

    pub(crate) async fn stop(&self) {}
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
        for target in &cast.targets {
            text.push_str(&target_block(target));
        }
        let names: Vec<_> = cast.targets.iter().map(|t| format!("{:?}", t.name)).collect();
        text.push_str(&format!(
            "\n[[route]]\ntrunk = \"carrier\"\nnumber = \"{}\"\ntargets = [{}]\nring_ms = 20000\nrecord = true\n",
            cast.number,
            names.join(", ")
        ));
    }
    text.push_str(&format!(
        r#"
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
