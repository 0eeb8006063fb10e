//! `offhook sandbox`: a CRM's double on a socket.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde_json::json;

use super::{FAILED, OK, WRONG_USE};
use crate::{
    chance::Chance,
    crm::sandbox::{self, Double, Fault, VENDORS},
    shell::{
        clock::Clock,
        sandbox::{Options, Sandbox},
    },
};

/// Serve a CRM's HTTP API on the loopback, with a ledger of what is asked and what changes, and faults on purpose.
///
/// The first line of standard output is {"vendor": …, "port": …, "url": …}. Credentials: client sim-client, secret sim-secret, refresh token sim-refresh.
/// Ends with Ctrl-C or when it is terminated.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose API.
    #[arg(value_parser = VENDORS.map(|(name, _)| name))]
    vendor: String,
    /// Port; 0 for a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// JSON list of {"match": {…}, "action": {…}}; the first rule that hits a request decides.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// File for a JSON object a line: each request and each change.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Give out a new refresh token at each refresh; the one before is worth nothing.
    #[arg(long)]
    rotate_tokens: bool,
    /// Serve HTTPS with this certificate chain and this private key, both PEM.
    #[arg(long, value_names = ["CERT", "KEY"], num_args = 2)]
    tls: Option<Vec<PathBuf>>,
    /// Take assertions (JWT bearer, RS256) that are signed for this public key, a PEM file; without it none is good.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
}

/// Runs it until it is ended.
pub fn run(args: Args) -> ExitCode {
    let faults = match args.faults.map(read_faults).transpose() {
        Ok(faults) => faults.unwrap_or_default(),
        Err(why) => return fail(WRONG_USE, &why),
    };
    let tls = match args.tls.map(<[PathBuf; 2]>::try_from) {
        Some(Ok([certificate, key])) => Some((certificate, key)),
        _ => None,
    };
    let mut seed = [0; 32];
    if let Err(why) = getrandom::fill(&mut seed) {
        return fail(FAILED, &format!("no chance from the system: {why}"));
    }
    let behaviour = sandbox::Options { faults, rotate_tokens: args.rotate_tokens };
    let Some(mut crm) = Double::of(&args.vendor, behaviour, Chance::from_entropy(seed)) else {
        return fail(WRONG_USE, &format!("nobody knows the vendor {}", args.vendor));
    };
    if let Some(path) = args.public_key {
        match SubjectPublicKeyInfoDer::from_pem_file(&path) {
            Err(why) => {
                return fail(WRONG_USE, &format!("{}: {why}; `openssl pkey -pubout -in KEY` makes such a file", path.display()));
            }
            Ok(key) if crm.trust(key.as_ref().to_vec()) => {}
            Ok(_) => return fail(WRONG_USE, &format!("{} knows no assertions; leave --public-key out", args.vendor)),
        }
    }
    let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port);
    let options = Options { listen, crm, ledger: args.ledger, tls };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return fail(FAILED, &format!("no runtime: {why}")),
    };
    runtime.block_on(async {
        let sandbox = match Sandbox::start(options, Clock::new()).await {
            Ok(sandbox) => sandbox,
            Err(why) => return fail(WRONG_USE, &why.to_string()),
        };
        println!("{}", json!({"vendor": args.vendor, "port": sandbox.address.port(), "url": sandbox.url()}));
        let _ = tokio::signal::ctrl_c().await;
        ExitCode::from(OK)
    })
}

fn read_faults(path: PathBuf) -> Result<Vec<Fault>, String> {
    let text = std::fs::read(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    serde_json::from_slice(&text)
        .map_err(|why| format!("{}: {why}; it takes a list of {{\"match\": {{…}}, \"action\": {{…}}}}", path.display()))
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("offhook sandbox: {why}");
    ExitCode::from(code)
}
