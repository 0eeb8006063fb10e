//! `offhook crm setup`: the fields that a target's mapping needs, made in the CRM.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::{FAILED, OK, finished};
use crate::{
    config::{Config, Crm},
    crm::{Connector, Token, mapping::Mapping, setup::needs},
    driver::{
        live::connector_of,
        setup::{ANSWER, Finding, State, set_up, sign_in},
    },
    shell::{clock::Clock, files, http::Client, secrets, secrets::Kept, secrets::Secret},
};

/// Arguments of `offhook crm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = "offhook.toml", env = "OFFHOOK_CONFIG", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the fields, picklists and keys that the mapping of a target needs and the CRM does not have, wait until they can be used, and say what the
    /// gateway must be permitted. What is there is never changed. Status 1 where a person has to look, or with --dry-run where anything is to be made.
    Setup {
        /// The CRM, by its name in the configuration.
        #[arg(long, value_name = "NAME")]
        target: String,
        /// Look only.
        #[arg(long)]
        dry_run: bool,
        /// An administrator's access token, in a file, in place of the target's own grant, which need not be permitted to make fields.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// Does what is asked.
pub fn run(args: Args) -> ExitCode {
    let Command::Setup { target, dry_run, token_file, json } = args.command;
    let done = Config::load(&args.config).map_err(|e| e.to_string()).and_then(|config| {
        let crm = named(&config, &target)?;
        let runtime = runtime()?;
        runtime.block_on(setup(&config, crm, dry_run, token_file.as_deref(), json))
    });
    finished("crm setup", done)
}

/// What the CRM describes, held against a mapping of that target: each field that is not there as it should be.
pub(super) fn faults(config: &Path, target: &str, mapping: &Mapping, token_file: Option<&Path>) -> Result<Vec<String>, String> {
    let config = Config::load(config).map_err(|e| e.to_string())?;
    let mut crm = named(&config, target)?.clone();
    crm.mapping = mapping.clone();
    let runtime = runtime()?;
    let (findings, _) = runtime.block_on(found(&config, &crm, true, token_file))?;
    let name = |Finding { object, field, .. }: &Finding| match &mapping.beside {
        Some(beside) if beside.object == *object => beside.name(field),
        _ => field.clone(),
    };
    let fault = |finding: &Finding| match &finding.state {
        State::There | State::Made => None,
        State::Missing => {
            Some(format!("field `{}`: {} has none; `offhook crm setup` makes those with `custom`", name(finding), finding.object))
        }
        State::Wrong(why) => Some(format!("field `{}`: in {} {why}", name(finding), finding.object)),
    };
    Ok(findings.iter().filter_map(fault).collect())
}

/// The CRM of that name in the configuration, or which there are.
pub(super) fn named<'c>(config: &'c Config, target: &str) -> Result<&'c Crm, String> {
    config.crms.iter().find(|c| c.name == target).ok_or_else(|| {
        let names: Vec<_> = config.crms.iter().map(|c| c.name.as_str()).collect();
        format!("the configuration has no [[crm]] of that name; it has {}", names.join(", "))
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())
}

/// Findings, and what has to be permitted: for the gateway, and for the set-up besides.
async fn found(
    config: &Config,
    crm: &Crm,
    dry_run: bool,
    token_file: Option<&Path>,
) -> Result<(Vec<Finding>, (Vec<String>, Vec<String>)), String> {
    let connector = connector_of(crm);
    let Some(makes) = connector.setup() else {
        return Err(format!(
            "an API such as {}'s describes no fields: its administrator makes them by hand, as the mapping names them",
            crm.name
        ));
    };
    let needs = needs(&crm.mapping)?;
    let client = Client::new(ANSWER).map_err(|e| e.to_string())?;
    let token = match token_file {
        Some(path) => {
            let secret = secrets::read(path).map_err(|e| e.to_string())?;
            Token { access: Zeroizing::new(secret.reveal().to_owned()), ..Token::standing() }
        }
        None => of_its_own(config, crm, connector.as_ref(), &client).await?,
    };
    let findings = set_up(&client, makes, &token, &needs, dry_run).await.map_err(|e| e.to_string())?;
    Ok((findings, makes.permissions(&crm.mapping)))
}

async fn setup(config: &Config, crm: &Crm, dry_run: bool, token_file: Option<&Path>, as_json: bool) -> Result<u8, String> {
    let (findings, (always, only_setup)) = found(config, crm, dry_run, token_file).await?;
    let ok = findings.iter().all(|f| matches!(f.state, State::There | State::Made));
    if as_json {
        let fields: Vec<_> = findings
            .iter()
            .map(|f| {
                let (state, detail) = words(f);
                json!({"object": f.object, "field": f.field, "state": state, "detail": detail})
            })
            .collect();
        println!(
            "{:#}",
            json!({"ok": ok, "target": crm.name, "dry_run": dry_run, "fields": fields,
            "permissions": {"gateway": always, "setup": only_setup}})
        );
    } else {
        for finding in &findings {
            let (state, detail) = words(finding);
            let detail = detail.map(|why| format!(": {why}")).unwrap_or_default();
            println!("{state:<8} {}.{}{detail}", finding.object, finding.field);
        }
        println!("\nThe gateway must be permitted, and no more:");
        always.iter().for_each(|line| println!("  {line}"));
        println!("To set up, besides:");
        only_setup.iter().for_each(|line| println!("  {line}"));
    }
    Ok(if ok { OK } else { FAILED })
}

/// A token by the target's own grant. A refresh token that the CRM rotates is worth nothing once it is used, so a gateway that runs must not have it too.
async fn of_its_own(config: &Config, crm: &Crm, connector: &dyn Connector, client: &Client) -> Result<Token, String> {
    let refreshes = !crm.refresh_token.reveal().is_empty();
    let text = |e: files::Error| format!("{e}; or give --token-file");
    let _lock = refreshes.then(|| files::lock(&config.data.directory).map_err(text)).transpose()?;
    let kept = Kept::open(&config.data.directory).map_err(|e| e.to_string())?;
    let current = kept.current(&crm.name, &crm.refresh_token).map_err(|e| e.to_string())?;
    let token = sign_in(client, connector, current.reveal(), Clock::new().wall()).await.map_err(|e| e.to_string())?;
    if let Some(next) = token.refresh.as_ref().filter(|next| next.as_str() != current.reveal()) {
        kept.keep(&crm.name, &crm.refresh_token, &Secret::new(next.to_string())).map_err(|e| e.to_string())?;
    }
    Ok(token)
}

fn words(finding: &Finding) -> (&'static str, Option<&str>) {
    match &finding.state {
        State::There => ("there", None),
        State::Missing => ("missing", None),
        State::Made => ("made", None),
        State::Wrong(why) => ("wrong", Some(why)),
    }
}
