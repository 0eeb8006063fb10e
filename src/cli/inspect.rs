//! `offhook inspect`: what the gateway makes of a SIP message.

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use super::{OK, WRONG_USE};
use crate::{
    codec::Codec,
    config::Config,
    driver::inspect::{Transport, inspect},
    route::Dtmf,
    sdp::Capabilities,
};

/// Read one SIP message, or a stream of them, and tell what the gateway makes of it: one JSON object a line.
///
/// Exit status 0 whatever the verdict.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The octets as they came; `-` for standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// How they came: `udp` is one message, `tcp` may be several.
    #[arg(long, default_value = "udp", value_parser = ["udp", "tcp"])]
    transport: String,
    /// Configuration whose trunk answers the offer; without it, every codec and RFC 4733.
    #[arg(long, value_name = "FILE", requires = "trunk")]
    config: Option<PathBuf>,
    /// The trunk.
    #[arg(long, value_name = "NAME", requires = "config")]
    trunk: Option<String>,
}

/// Reads and tells.
pub fn run(args: Args) -> ExitCode {
    match told(&args) {
        Ok(lines) => {
            let mut out = std::io::stdout().lock();
            for line in lines {
                // A reader that has seen enough closes the pipe.
                if writeln!(out, "{line}").is_err() {
                    break;
                }
            }
            OK.into()
        }
        Err(why) => {
            eprintln!("offhook inspect: {why}");
            WRONG_USE.into()
        }
    }
}

fn told(args: &Args) -> Result<Vec<serde_json::Value>, String> {
    let mut octets = Vec::new();
    if args.file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut octets).map_err(|e| format!("standard input: {e}"))?;
    } else {
        octets = std::fs::read(&args.file).map_err(|e| format!("{}: {e}", args.file.display()))?;
    }
    let capabilities = match (&args.config, &args.trunk) {
        (Some(file), Some(name)) => of_trunk(&Config::load_without_secrets(file).map_err(|e| e.to_string())?, name)?,
        _ => Capabilities { codecs: Codec::ALL.to_vec(), telephone_event: true },
    };
    let transport = if args.transport == "tcp" { Transport::Tcp } else { Transport::Udp };
    Ok(inspect(&octets, transport, &capabilities))
}

fn of_trunk(config: &Config, name: &str) -> Result<Capabilities, String> {
    let known = || config.trunks.iter().map(|t| t.peer.name.as_str()).collect::<Vec<_>>().join(", ");
    let trunk = config
        .trunks
        .iter()
        .find(|t| t.peer.name == name)
        .ok_or_else(|| format!("no [[trunk]] is named \"{name}\"; there are {}", known()))?;
    let codecs = trunk.peer.codecs.clone().unwrap_or_else(|| Codec::ALL.to_vec());
    Ok(Capabilities { codecs, telephone_event: matches!(trunk.peer.dtmf, Dtmf::Auto | Dtmf::Rfc4733) })
}
