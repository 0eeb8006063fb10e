//! The demo: a gateway on the loopback, phones on sockets of their own, a CRM's double, and five calls with their checks.
//!
//! Nothing is cut short: callers, platforms and the human are SIP and RTP endpoints that know the gateway by its address alone, webhooks are posted over
//! HTTP, and what stands in the CRM is read back over the CRM's own API. What must have come of a call is written down by its scenario, which knows
//! nothing of how the gateway works.

pub mod card;
mod check;
pub mod draw;
mod gather;
pub mod hubspot;
pub mod phone;
mod progress;
mod record;
pub mod report;
mod scenario;
pub mod speech;
mod steps;
pub mod web;
mod world;

use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use card::Card;
use progress::Progress;
use scenario::{Cast, Played, Scenario};
use world::World;

use super::setup;
use crate::chance::Chance;

/// How a demo is run.
#[derive(Debug)]
pub struct Options {
    /// Keyed in the secure phase; drawn for the run where none is given.
    pub card: Option<Card>,
    /// Somebody else's server of HubSpot's contract in place of the built-in sandbox.
    pub crm: Option<String>,
    /// Folder for everything that is written.
    pub data: Option<PathBuf>,
    /// Whether gateway and sandbox run on afterwards.
    pub keep: bool,
    /// One JSON document instead of the page.
    pub json: bool,
    /// A planted fault: the secure phase hides nothing.
    pub mask_off: bool,
}

/// Why a demo could not be run at all. What a check finds is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error("{folder}: {why}; name an empty folder with --data")]
    Folder {
        /// Which.
        folder: String,
        /// Why.
        why: io::Error,
    },
    /// The system refused something.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        why: io::Error,
    },
    /// A player could not take his place.
    #[error("{0}")]
    Cast(String),
    /// The gateway could not be started.
    #[error("the gateway did not start: {0}")]
    Gateway(String),
    /// The CRM does not answer as its contract says.
    #[error("the CRM: {0}")]
    Crm(#[from] web::Error),
    /// The CRM does not take the fields that the mapping needs.
    #[error("the CRM: {0}")]
    Fields(#[from] setup::Error),
}

/// Runs it and prints what came of it; true when every check held.
pub fn run(options: Options) -> Result<bool, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|why| Error::System { what: "starting the runtime", why })?;
    runtime.block_on(play(options))
}

/// One call as it was played, or why it broke off.
pub(crate) struct Done {
    cast: Cast,
    played: Result<Played, scenario::Error>,
}

async fn play(mut options: Options) -> Result<bool, Error> {
    let started = Instant::now();
    let folder = make_folder(options.data.take())?;
    let mut chance = Chance::from_entropy(entropy()?);
    let progress = Progress::new();

    progress.now("offhook", "phones, platforms, CRM and gateway take their places");
    let mut casts = Vec::new();
    for scenario in scenario::ALL {
        casts.push(scenario.cast(&mut chance).await.map_err(|why| Error::Cast(why.to_string()))?);
    }
    let world = World::start(&folder, &options, &casts, &mut chance, progress.clone()).await?;

    progress.now("offhook", "five calls, side by side");
    let stage = world.stage();
    let mut players = Vec::new();
    let mut given = options.card.take();
    for mut cast in casts {
        let stage = stage.clone();
        let (mut chance, folder) = (chance.split(), folder.clone());
        let given = if cast.scenario == Scenario::DtmfCollected { given.take() } else { None };
        let card: Box<dyn FnOnce() -> Card + Send> =
            Box::new(move || given.unwrap_or_else(|| Card::draw(&mut chance, &card::everything_in(&folder))));
        players.push(tokio::spawn(async move {
            let played = cast.play(&stage, card).await;
            stage.progress.now(cast.scenario.name(), if played.is_ok() { "over" } else { "broke off" });
            (cast, played)
        }));
    }
    let mut done = Vec::new();
    let mut card = None;
    for player in players {
        let (cast, played) = player.await.map_err(|why| Error::Cast(why.to_string()))?;
        let played = played.map(|(played, keyed)| {
            card = card.take().or(keyed);
            played
        });
        done.push(Done { cast, played });
    }

    progress.now("offhook", "what stands in events, CRM and recordings?");
    let (mut report, samples) = gather::gather(&world, &done).await;
    if !options.keep {
        world.stop().await;
    }
    report.checks.push(gather::card_check(card.as_ref(), &folder, &done));
    report.ok = report.checks.iter().chain(report.calls.iter().flat_map(|c| &c.checks)).all(|c| c.ok);
    report.seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    progress.clear();

    if options.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        draw::print(&report, &samples);
    }
    if options.keep {
        eprintln!("gateway at {}, CRM at {}; Ctrl-C ends them", world.http(), world.crm());
        let _ = tokio::signal::ctrl_c().await;
        world.stop().await;
    }
    Ok(report.ok)
}

fn make_folder(wanted: Option<PathBuf>) -> Result<PathBuf, Error> {
    let folder = match wanted {
        Some(folder) => folder,
        None => std::env::temp_dir().join(format!("offhook-demo-{}-{}", now().wall.as_millis(), std::process::id())),
    };
    let fault = |why| Error::Folder { folder: folder.display().to_string(), why };
    std::fs::create_dir_all(&folder).map_err(fault)?;
    if std::fs::read_dir(&folder).map_err(fault)?.next().is_some() {
        return Err(fault(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "holds something already")));
    }
    folder.canonicalize().map_err(fault)
}

fn entropy() -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|why| Error::System { what: "asking the system for chance", why: io::Error::other(why) })?;
    Ok(seed)
}

/// Both clocks, for those who play a part: they stand outside the machines.
fn now() -> crate::time::Now {
    crate::shell::clock::Clock::new().now()
}

/// A path as it is printed.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
