//! The program's own sections: `[sip]`, `[media]`, `[http]`, `[data]`, `[log]`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

use super::{
    peers::{NETS, nets},
    secret,
    table::{Span, Table, list},
};
use crate::shell::{
    net::{Listener, Transport},
    secrets::Secret,
    telemetry::Format,
};

/// Reads `udp:ADDRESS:PORT` or `tcp:ADDRESS:PORT`. Port 0 takes a free one.
pub(super) fn listener(text: &str) -> Option<Listener> {
    let (transport, address) = text.split_once(':')?;
    let transport = match transport {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return None,
    };
    Some(Listener { transport, address: address.parse().ok()? })
}

/// What a call gets that is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overload {
    /// SIP status.
    pub status: u16,
    /// Retry-After, s; none by default, since some carriers then silence the whole trunk.
    pub retry_after_s: Option<u64>,
}

/// `[sip]`
#[derive(Clone, Debug)]
pub struct Sip {
    /// Where to listen.
    pub listen: Vec<Listener>,
    /// The address that peers are told, where it differs from the one bound (NAT); per trunk and target it may differ again.
    pub advertised: Option<IpAddr>,
    /// The answer to a call too many.
    pub overload: Overload,
    /// Calls carried at a time; more get the overload answer.
    pub calls_max: usize,
    /// How long calls may finish after SIGTERM.
    pub drain: Duration,
    /// A TCP connection that is silent for so long is closed.
    pub tcp_idle: Duration,
}

impl Sip {
    pub(super) fn read(mut t: Table<'_>) -> Self {
        let example = "[\"udp:192.0.2.1:5060\", \"tcp:192.0.2.1:5060\"]";
        let mut listen: Vec<Listener> = Vec::new();
        let advertised = address(&mut t, "advertised");
        for (text, span) in t.required_texts("listen", example) {
            match listener(&text) {
                None => t.fault(
                    &span,
                    format!("`listen` holds \"{text}\""),
                    format!("write udp:ADDRESS:PORT or tcp:ADDRESS:PORT, as in {example}"),
                ),
                Some(one) if one.address.port() != 0 && listen.contains(&one) => {
                    t.fault(&span, format!("`listen` holds \"{text}\" twice"), "take one of them out");
                }
                Some(one) => {
                    if one.address.ip().is_unspecified() && advertised.is_none() {
                        t.fault(
                            &span,
                            format!("\"{text}\" binds every address, so peers cannot be told which to answer to"),
                            "bind one address, or add advertised = \"ADDRESS\" to [sip]",
                        );
                    }
                    listen.push(one);
                }
            }
        }
        let overload = {
            let mut o = t.table("overload");
            let status = o.integer_or("status", 400..=699, 503);
            let retry_after_s = o.integer("retry_after_s", 1..=86_400);
            o.finish();
            Overload { status: u16::try_from(status).unwrap_or(503), retry_after_s }
        };
        let calls_max = t.integer_or("calls_max", 1..=100_000, CALLS);
        let drain = Duration::from_secs(t.integer_or("drain_s", 0..=86_400, DRAIN_S));
        let tcp_idle = Duration::from_secs(t.integer_or("tcp_idle_s", 10..=86_400, TCP_IDLE_S));
        t.finish();
        Self { listen, advertised, overload, calls_max: usize::try_from(calls_max).unwrap_or(usize::MAX), drain, tcp_idle }
    }
}

/// `[media]`
#[derive(Clone, Debug)]
pub struct Media {
    /// UDP ports for RTP; even ones are used.
    pub ports: RangeInclusive<u16>,
    /// Threads that carry media.
    pub workers: usize,
}

impl Media {
    pub(super) fn read(mut t: Table<'_>) -> Self {
        let ports = t.text("ports", "\"20000-29999\"").map_or(PORTS, |(text, span)| ports(&t, &text, &span));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = t.integer("workers", 1..=64).and_then(|n| usize::try_from(n).ok()).unwrap_or(cores);
        t.finish();
        Self { ports, workers }
    }
}

fn ports(t: &Table<'_>, text: &str, span: &Span) -> RangeInclusive<u16> {
    let parsed = text.split_once('-').and_then(|(a, b)| Some(a.trim().parse().ok()?..=b.trim().parse().ok()?));
    let instead =
        "write FIRST-LAST such as \"20000-29999\", ports from 1024 to 65535 and at least four of them: a call takes two even ones";
    match parsed {
        Some(range) if *range.start() >= 1024 && range.len() >= 4 => range,
        _ => {
            t.fault(span, format!("`ports` is \"{text}\""), instead);
            PORTS
        }
    }
}

/// Certificate and key of the HTTP server.
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM file of the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file of the private key.
    pub key_file: PathBuf,
}

/// `[http]`
#[derive(Clone, Debug)]
pub struct Http {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bearer tokens of the API; empty only on loopback.
    pub tokens: Vec<Secret>,
    /// TLS; none only on loopback.
    pub tls: Option<Tls>,
    /// Load balancers whose `X-Forwarded-For` is believed.
    pub proxies: Vec<IpNet>,
}

impl Http {
    pub(super) fn read(mut t: Table<'_>, directory: &Path) -> Self {
        let mut listen = HTTP;
        let mut listen_span = t.span.clone();
        if let Some((text, span)) = t.text("listen", "\"127.0.0.1:8080\"") {
            match text.parse() {
                Ok(address) => listen = address,
                Err(_) => t.fault(&span, format!("`listen` is \"{text}\""), "write ADDRESS:PORT such as \"127.0.0.1:8080\""),
            }
            listen_span = span;
        }
        let tokens_named = !secret::TOKENS.named(&t).is_empty();
        let mut tokens = Vec::new();
        if let Some(secret::Found { secret, span, key }) = secret::TOKENS.read(&mut t, directory) {
            for line in secret.reveal().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                if line.len() < TOKEN_CHARS_MIN {
                    let what = format!("a token of `{key}` has {} characters", line.len());
                    t.fault(&span, what, format!("use at least {TOKEN_CHARS_MIN}: `openssl rand -hex 32` makes one"));
                }
                tokens.push(Secret::new(line.to_owned()));
            }
        }
        let tls = t.has("tls").then(|| {
            let mut tls = t.table("tls");
            let mut file = |key| match tls.required(key, "\"FILE.pem\"") {
                Some((text, span)) => readable(&tls, &text, &span, directory),
                None => PathBuf::new(),
            };
            let (cert_file, key_file) = (file("cert_file"), file("key_file"));
            tls.finish();
            Tls { cert_file, key_file }
        });
        if tls.is_none() {
            // Known, so that a slip is compared with it.
            t.table("tls");
        }
        if !listen.ip().is_loopback() {
            if tls.is_none() {
                let instead = "add tls = { cert_file = \"…\", key_file = \"…\" }, or listen on 127.0.0.1";
                t.fault(&listen_span, format!("[http] listens on {listen}, beyond this machine, without TLS"), instead);
            }
            if !tokens_named {
                let instead =
                    "add tokens_file = \"tokens\", a file with one token a line, or tokens_env or tokens_command, or listen on 127.0.0.1";
                t.fault(&listen_span, format!("[http] listens on {listen}, beyond this machine, without tokens"), instead);
            }
        }
        let proxies = t.texts("proxies", NETS).unwrap_or_default();
        let proxies = nets(&t, "proxies", proxies);
        t.finish();
        Self { listen, tokens, tls, proxies }
    }
}

/// What becomes of new calls when the journal takes no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnJournalFailure {
    /// Refused with 503.
    Refuse,
    /// Carried without write-back, with an alarm.
    Carry,
}

/// `[data]`
#[derive(Clone, Debug)]
pub struct Data {
    /// Journal, store, recordings, secrets.
    pub directory: PathBuf,
    /// When the journal takes no events.
    pub on_journal_failure: OnJournalFailure,
    /// Whether to start on a new segment when a damaged one was set aside; else the start is refused.
    pub start_after_damage: bool,
    /// How long behind its end a call is kept whole, once everything of it is settled; none: for ever.
    pub keep: Option<Duration>,
}

impl Data {
    pub(super) fn read(mut t: Table<'_>, directory: &Path) -> Self {
        let path = t.text("directory", "\"data\"").map_or_else(|| "data".into(), |(text, _)| text);
        let policies = [("refuse", OnJournalFailure::Refuse), ("carry", OnJournalFailure::Carry)];
        let on_journal_failure = t.choice("on_journal_failure", &policies).unwrap_or(OnJournalFailure::Refuse);
        let start_after_damage = t.flag("start_after_damage", true);
        let keep = t.integer("keep_days", 0..=KEEP_DAYS_MAX).map(|days| Duration::from_secs(days.saturating_mul(86_400)));
        t.finish();
        Self { directory: directory.join(path), on_journal_failure, start_after_damage, keep }
    }
}

/// A hundred years: who wants more wants for ever, and leaves the key out.
const KEEP_DAYS_MAX: u64 = 36_500;

/// `[log]`; the environment variable `OFFHOOK_LOG` goes before `level`.
#[derive(Clone, Debug)]
pub struct Log {
    /// Text or JSON.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,offhook::sip=debug`.
    pub level: String,
}

impl Log {
    pub(super) fn read(mut t: Table<'_>) -> Self {
        let format = t.choice("format", &[("text", Format::Text), ("json", Format::Json)]).unwrap_or(Format::Text);
        let mut level = "info".to_owned();
        if let Some((text, span)) = t.text("level", &list(&["error", "warn", "info", "debug", "trace"])) {
            match text.parse::<tracing_subscriber::EnvFilter>() {
                Ok(_) => level = text,
                Err(_) => t.fault(&span, format!("`level` is \"{text}\""), "write error, warn, info, debug or trace"),
            }
        }
        t.finish();
        Self { format, level }
    }
}

/// An IP address, if the file has one.
pub(super) fn address(t: &mut Table<'_>, key: &'static str) -> Option<IpAddr> {
    let (text, span) = t.text(key, "\"ADDRESS\"")?;
    let address = text.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
    if address.is_none() {
        t.fault(&span, format!("`{key}` is \"{text}\""), "write one IP address such as \"203.0.113.7\"");
    }
    address
}

/// The path of a file that the file names and that can be opened.
pub(super) fn readable(t: &Table<'_>, text: &str, span: &Span, directory: &Path) -> PathBuf {
    let path = directory.join(text);
    if t.reads_secrets()
        && let Err(error) = std::fs::File::open(&path)
    {
        t.fault(span, format!("{} cannot be opened: {error}", path.display()), "write the path of a file that exists and may be read");
    }
    path
}

/// An error's text before and behind its last colon: what happened, what to do.
pub(super) fn split(error: &str) -> (&str, &str) {
    error.rsplit_once(": ").unwrap_or((error, "see what the path says"))
}

/// As the contract has it.
const PORTS: RangeInclusive<u16> = 20_000..=29_999;
/// As the contract has it.
const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Calls at a time by default; twice what a small machine was seen to carry, so that the limit is the operator's to lower.
const CALLS: u64 = 2000;
/// A stopped gateway lets calls finish for five minutes: longer than most, shorter than an operator's patience.
const DRAIN_S: u64 = 300;
/// RFC 3261 §18 asks to keep connections for at least 32 s after the last message; carriers expect more.
const TCP_IDLE_S: u64 = 600;
/// 64 bits in hex: less can be guessed.
const TOKEN_CHARS_MIN: usize = 16;
