//! Who calls, whom they reach, and how: `[[trunk]]`, `[[target]]`, `[[route]]`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

use super::{
    server::{Sip, address, listener},
    table::{Span, Table, nearest_of},
};

use crate::event::Outcome;
use crate::shell::net::{Listener, Transport};
pub use crate::{codec::Codec, route::Dtmf};

/// What trunks and targets have in common.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name in routes, events and logs.
    pub name: String,
    /// The listener that speaks to it; none: whichever fits the transport.
    pub bind: Option<Listener>,
    /// The address that it is told (Via, Contact, SDP) where it differs from the one bound.
    pub advertised: Option<IpAddr>,
    /// Codecs in order of preference; none on a target: what the trunk leg can bridge untouched, then the rest.
    pub codecs: Option<Vec<Codec>>,
    /// How digits travel.
    pub dtmf: Dtmf,
}

/// `[[trunk]]`: a carrier or IVR that sends calls.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// Name, addresses, codecs, DTMF.
    pub peer: Peer,
    /// Networks that its calls come from.
    pub allow: Vec<IpNet>,
    /// How calls were met that ended with these statuses, where that is another than the table's.
    pub outcomes: BTreeMap<u16, Outcome>,
}

/// `[[target]]`: one thing that a route can send a call to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name, addresses, codecs, DTMF.
    pub peer: Peer,
    /// `sip:HOST:PORT;transport=udp`.
    pub uri: String,
    /// Host and port of the URI; a name is looked up at start and again later.
    pub host: String,
    /// 5060 where the URI has none.
    pub port: u16,
    /// From the URI; UDP where it says nothing.
    pub transport: Transport,
    /// The header that carries the call id.
    pub call_header: String,
}

/// Silence on the caller's leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Silence of so long is an event.
    pub after: Duration,
    /// And ends the call.
    pub hang_up: bool,
}

/// What a secure phase does on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secure {
    /// Whether the platform hears the caller all the same; it never gets the digits.
    pub pass_audio: bool,
    /// A phase of so long ends by itself.
    pub longest: Duration,
}

/// `[[route]]`: whom calls to a number reach.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name in events and logs; by default trunk and number.
    pub name: String,
    /// The trunk whose calls it takes.
    pub trunk: String,
    /// `*`, a number, or the start of one followed by `*`.
    pub number: String,
    /// Targets in the order in which they are tried.
    pub targets: Vec<String>,
    /// How long each may ring.
    pub ring: Duration,
    /// Whether calls are recorded.
    pub record: bool,
    /// Key sequences that start and end a secure phase.
    pub secure_keys: Option<(String, String)>,
    /// What a secure phase does.
    pub secure: Secure,
    /// When silence of the caller counts; none: never.
    pub silence: Option<Silence>,
    /// No RTP for so long where there should be some: the leg is asked with OPTIONS whether it lives.
    pub no_media: Duration,
}

pub(super) fn trunks(root: &mut Table<'_>, sip: &Sip) -> Vec<Trunk> {
    let mut names = Names::default();
    let mut trunks = Vec::new();
    if !root.has("trunk") {
        root.fault(&(0..0), "the file has no [[trunk]]", "add one for each carrier or IVR that sends calls, with name and allow");
    }
    for mut t in root.tables("trunk") {
        let mut peer = peer(&mut t, sip, &mut names, None);
        peer.codecs.get_or_insert_with(|| vec![Codec::Pcmu, Codec::Pcma, Codec::G722]);
        let allow = t.required_texts("allow", NETS);
        let allow = nets(&t, "allow", allow);
        let mut outcomes = BTreeMap::new();
        for (status, word, span) in t.words("outcomes", "{ 480 = \"busy\" }") {
            let met = serde_json::from_value::<Outcome>(word.clone().into());
            match (status.parse::<u16>().ok().filter(|s| (300..700).contains(s)), met) {
                (Some(status), Ok(outcome)) => drop(outcomes.insert(status, outcome)),
                (None, _) => t.fault(&span, format!("`outcomes` has \"{status}\""), "write a final SIP status from 300 to 699"),
                (_, Err(_)) => t.fault(
                    &span,
                    format!("`outcomes` holds \"{word}\""),
                    "write busy, no_answer, rejected, invalid_number, congestion, cancelled or failed",
                ),
            }
        }
        t.finish();
        trunks.push(Trunk { peer, allow, outcomes });
    }
    trunks
}

/// Addresses and networks.
pub(super) fn nets(t: &Table<'_>, key: &str, texts: Vec<(String, Span)>) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (text, span) in texts {
        match text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) {
            Some(net) => nets.push(net),
            None => t.fault(&span, format!("`{key}` holds \"{text}\""), "write an address or a network such as \"192.0.2.0/24\""),
        }
    }
    nets
}

/// How networks are written.
pub(super) const NETS: &str = "[\"192.0.2.0/24\"]";

pub(super) fn targets(root: &mut Table<'_>, sip: &Sip) -> Vec<Target> {
    let mut names = Names::default();
    let mut targets = Vec::new();
    if !root.has("target") {
        root.fault(&(0..0), "the file has no [[target]]", "add one for each platform or phone that calls can reach, with name and uri");
    }
    for mut t in root.tables("target") {
        let example = "\"sip:192.0.2.9:5060;transport=udp\"";
        let mut uri = String::new();
        let mut place = (String::new(), 5060, Transport::Udp);
        if let Some((text, span)) = t.required("uri", example) {
            match self::place(&text) {
                Ok(found) => place = found,
                Err(instead) => t.fault(&span, format!("`uri` is \"{text}\""), instead),
            }
            let (_, _, transport) = place;
            if !sip.listen.is_empty() && sip.listen.iter().all(|l| l.transport != transport) {
                let word = if transport == Transport::Udp { "udp" } else { "tcp" };
                t.fault(
                    &span,
                    format!("the target is reached over {word}, which no listener speaks"),
                    format!("add \"{word}:ADDRESS:PORT\" to `listen` of [sip]"),
                );
            }
            uri = text;
        }
        let call_header = t.text("call_header", "\"X-Offhook-Call\"").map_or_else(
            || "X-Offhook-Call".into(),
            |(text, span)| {
                if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                    t.fault(&span, format!("`call_header` is \"{text}\""), "write a header name of letters, digits and `-`");
                }
                text
            },
        );
        let peer = peer(&mut t, sip, &mut names, Some(place.2));
        t.finish();
        targets.push(Target { peer, uri, host: place.0, port: place.1, transport: place.2, call_header });
    }
    targets
}

pub(super) fn routes(root: &mut Table<'_>, trunks: &[Trunk], targets: &[Target]) -> Vec<Route> {
    let mut names = Names::default();
    let mut seen: BTreeMap<(String, String), ()> = BTreeMap::new();
    let mut routes = Vec::new();
    if !root.has("route") {
        root.fault(&(0..0), "the file has no [[route]]", "add one with trunk, number and targets, or every call is refused");
    }
    let trunk_names = trunks.iter().map(|t| t.peer.name.as_str()).collect::<Vec<_>>();
    let target_names = targets.iter().map(|t| t.peer.name.as_str()).collect::<Vec<_>>();
    for mut t in root.tables("route") {
        let trunk = t.required("trunk", "\"carrier\"").map_or_else(String::new, |(text, span)| {
            if !trunk_names.contains(&text.as_str()) {
                t.fault(&span, format!("no [[trunk]] is named \"{text}\""), nearest_of(&text, &trunk_names));
            }
            text
        });
        let number = t.required("number", "\"*\"").map_or_else(String::new, |(text, span)| {
            if !is_number(&text) {
                t.fault(
                    &span,
                    format!("`number` is \"{text}\""),
                    "write \"*\", a number such as \"+4930123456\", or its start and a `*`: \"+4930*\"",
                );
            }
            if seen.insert((trunk.clone(), text.clone()), ()).is_some() {
                t.fault(
                    &span,
                    format!("another [[route]] takes \"{text}\" of trunk \"{trunk}\" already"),
                    "take this one out, or change its number",
                );
            }
            text
        });
        let mut chosen = Vec::new();
        for (text, span) in t.required_texts("targets", "[\"platform\"]") {
            if !target_names.contains(&text.as_str()) {
                t.fault(&span, format!("no [[target]] is named \"{text}\""), nearest_of(&text, &target_names));
            }
            if chosen.contains(&text) {
                t.fault(&span, format!("`targets` holds \"{text}\" twice"), "take one of them out");
            }
            chosen.push(text);
        }
        let name = match t.text("name", "\"a word of your own\"") {
            Some((text, span)) => {
                names.take(&t, "route", &text, &span);
                text
            }
            None => format!("{trunk} {number}"),
        };
        let ring = millis(&mut t, "ring_ms", 1_000, 300_000, 20_000);
        let record = t.flag("record", false);
        let no_media = millis(&mut t, "no_media_ms", 500, 600_000, 10_000);
        let secure_keys = t.has("secure_keys").then(|| secure_keys(t.table("secure_keys"))).flatten();
        let secure = {
            let mut s = t.table("secure");
            let pass_audio = s.choice("platform_audio", &[("mute", false), ("pass", true)]).unwrap_or(false);
            let longest = millis(&mut s, "max_ms", 1_000, 3_600_000, 600_000);
            s.finish();
            Secure { pass_audio, longest }
        };
        let silence = {
            let named = t.has("silence");
            let mut s = t.table("silence");
            let after = s.integer("after_ms", 500..=600_000);
            let hang_up = s.flag("hang_up", false);
            if named && after.is_none() && !s.has("after_ms") {
                let span = s.span.clone();
                s.fault(&span, "`silence` has no `after_ms`", "add after_ms = 8000, or take `silence` out");
            }
            s.finish();
            after.map(|ms| Silence { after: Duration::from_millis(ms), hang_up })
        };
        // Known, so that a slip is compared with it.
        if !t.has("secure_keys") {
            t.table("secure_keys");
        }
        t.finish();
        routes.push(Route { name, trunk, number, targets: chosen, ring, record, secure_keys, secure, silence, no_media });
    }
    routes
}

fn secure_keys(mut t: Table<'_>) -> Option<(String, String)> {
    let mut keys = |key, example| {
        let (text, span) = t.required(key, example)?;
        if !(2..=KEYS_MAX).contains(&text.len()) || !text.chars().all(|c| c.is_ascii_digit() || matches!(c, '*' | '#' | 'A'..='D')) {
            t.fault(&span, format!("`{key}` is \"{text}\""), format!("write 2 to {KEYS_MAX} keys of 0-9, *, #, A-D, such as {example}"));
        }
        Some((text, span))
    };
    let (start, end) = (keys("start", "\"*7\""), keys("end", "\"*8\""));
    let pair = start.zip(end).map(|((start, _), (end, span))| {
        if start.starts_with(&end) || end.starts_with(&start) {
            t.fault(
                &span,
                format!("`start` is \"{start}\" and `end` is \"{end}\": one begins with the other"),
                "write two different sequences",
            );
        }
        (start, end)
    });
    t.finish();
    pair
}

fn peer(t: &mut Table<'_>, sip: &Sip, names: &mut Names, transport: Option<Transport>) -> Peer {
    let kind = if transport.is_some() { "target" } else { "trunk" };
    let name = t.required("name", "\"a word of your own\"").map_or_else(String::new, |(text, span)| {
        names.take(t, kind, &text, &span);
        text
    });
    let bind = t.text("bind", "\"udp:192.0.2.1:5060\"").and_then(|(text, span)| {
        let found = listener(&text).filter(|one| sip.listen.contains(one));
        let all = sip.listen.iter().map(ToString::to_string).collect::<Vec<_>>();
        match found {
            None => {
                t.fault(&span, format!("no listener is \"{text}\""), nearest_of(&text, &all.iter().map(String::as_str).collect::<Vec<_>>()))
            }
            Some(one) if transport.is_some_and(|asked| asked != one.transport) => {
                t.fault(
                    &span,
                    format!("`uri` and `bind` \"{text}\" differ in transport"),
                    "write ;transport=tcp into `uri`, or bind the other listener",
                );
            }
            Some(_) => {}
        }
        found
    });
    let advertised = address(t, "advertised");
    let codecs = t.texts("codecs", "[\"PCMU\", \"PCMA\", \"G722\"]").map(|texts| {
        let mut codecs = Vec::new();
        for (text, span) in texts {
            match CODECS.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text)) {
                None => {
                    let known = CODECS.iter().map(|(word, _)| *word).collect::<Vec<_>>();
                    t.fault(&span, format!("`codecs` holds \"{text}\""), nearest_of(&text, &known));
                }
                Some((_, codec)) if codecs.contains(codec) => {
                    t.fault(&span, format!("`codecs` holds \"{text}\" twice"), "take one of them out")
                }
                Some((_, codec)) => codecs.push(*codec),
            }
        }
        codecs
    });
    let methods = [("auto", Dtmf::Auto), ("rfc4733", Dtmf::Rfc4733), ("info", Dtmf::Info), ("inband", Dtmf::Inband)];
    let dtmf = t.choice("dtmf", &methods).unwrap_or(Dtmf::Auto);
    Peer { name, bind, advertised, codecs, dtmf }
}

/// Names that one kind of table has taken.
#[derive(Default)]
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn take(&mut self, t: &Table<'_>, kind: &str, name: &str, span: &Span) {
        if name.starts_with('.') || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            t.fault(
                span,
                format!("the {kind}'s name is \"{name}\""),
                "write letters, digits, `-`, `_` and `.`, which is not the first: it becomes part of metrics and paths",
            );
        }
        if self.0.iter().any(|taken| taken == name) {
            t.fault(span, format!("another {kind} is named \"{name}\" already"), "give this one a name of its own");
        }
        self.0.push(name.to_owned());
    }
}

/// A number of milliseconds as a duration.
pub(super) fn millis(t: &mut Table<'_>, key: &'static str, least: u64, most: u64, default: u64) -> Duration {
    Duration::from_millis(t.integer_or(key, least..=most, default))
}

fn is_number(text: &str) -> bool {
    let start = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty() && start.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '_' | '.' | '#'))
}

/// Host, port and transport of a target's URI, or what to write instead.
fn place(uri: &str) -> Result<(String, u16, Transport), String> {
    let Some(rest) = uri.strip_prefix("sip:") else {
        return Err(match uri.starts_with("sips:") {
            true => "TLS to targets is not there yet: write sip:HOST:PORT".into(),
            false => format!("write sip:{}", uri.rsplit_once("//").map_or(uri, |(_, rest)| rest)),
        });
    };
    let mut parts = rest.split(';');
    let place = parts.next().unwrap_or_default();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let transport = match parts.find_map(|p| p.strip_prefix("transport=")) {
        None | Some("udp") => Transport::Udp,
        Some("tcp") => Transport::Tcp,
        Some(other) => return Err(format!("`transport={other}`: write transport=udp or transport=tcp")),
    };
    if let Ok(address) = place.parse::<SocketAddr>() {
        return Ok((address.ip().to_string(), address.port(), transport));
    }
    if let Some(inner) = place.strip_prefix('[').and_then(|p| p.strip_suffix(']')) {
        let address = inner.parse::<IpAddr>().map_err(|_| format!("\"{inner}\" is no IPv6 address"))?;
        return Ok((address.to_string(), 5060, transport));
    }
    let (host, port) = match place.rsplit_once(':') {
        None => (place, 5060),
        Some((host, port)) => {
            (host, port.parse().ok().filter(|p| *p != 0).ok_or_else(|| format!("\"{port}\" is no port: write 1 to 65535"))?)
        }
    };
    let named = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if named { Ok((host.to_owned(), port, transport)) } else { Err("write sip:HOST:PORT;transport=udp".into()) }
}

/// As SDP names them.
const CODECS: [(&str, Codec); 3] = [("PCMU", Codec::Pcmu), ("PCMA", Codec::Pcma), ("G722", Codec::G722)];
/// Longest key sequence: a person has to remember it, and media holds back so many keys.
const KEYS_MAX: usize = 8;
