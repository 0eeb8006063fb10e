//! Who may call, and whom a call tries, in which order. Pure tables: nothing here waits or sends.

pub mod outcome;

pub use outcome::Outcomes;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

use crate::codec::Codec;

/// How digits travel on a leg, as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtmf {
    /// What the peer offers: RFC 4733, else INFO.
    #[default]
    Auto,
    /// RTP telephone-event (RFC 4733).
    Rfc4733,
    /// SIP INFO.
    Info,
    /// Audible tones.
    Inband,
}

/// A carrier or IVR that sends calls.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// Its name.
    pub name: String,
    /// Networks that its calls come from.
    pub allow: Vec<IpNet>,
    /// The only listener that takes its calls; none: any.
    pub listener: Option<u32>,
    /// The address that it is told, where that is another than the one bound.
    pub advertised: Option<IpAddr>,
    /// Codecs in order of preference.
    pub codecs: Vec<Codec>,
    /// How its digits travel.
    pub dtmf: Dtmf,
    /// How its calls were met that nobody took.
    pub outcomes: Outcomes,
}

/// One thing that a call can be sent to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its URI.
    pub uri: String,
    /// Where it is.
    pub address: SocketAddr,
    /// The listener that speaks to it.
    pub listener: u32,
    /// The address that it is told, where that is another than the one bound.
    pub advertised: Option<IpAddr>,
    /// Codecs; none: what the trunk leg can bridge untouched, then the rest.
    pub codecs: Option<Vec<Codec>>,
    /// How its digits travel.
    pub dtmf: Dtmf,
    /// The header that carries the call id.
    pub call_header: String,
}

/// Whom calls to a number reach, and how they are treated.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// The trunk whose calls it takes.
    pub trunk: String,
    /// `*`, a number, or the start of one followed by `*`.
    pub number: String,
    /// Indices of its targets, in the order in which they are tried.
    pub targets: Vec<usize>,
    /// How long each may ring.
    pub ring: Duration,
    /// Whether calls are recorded.
    pub record: bool,
    /// Keys that start and end a secure phase.
    pub secure_keys: Option<(String, String)>,
    /// Whether the platform hears the caller during a secure phase.
    pub secure_pass_audio: bool,
    /// A secure phase of so long ends by itself.
    pub secure_longest: Duration,
    /// Silence of the caller for so long is an event; none: it is not looked for.
    pub silence: Option<Duration>,
    /// And ends the call.
    pub silence_hang_up: bool,
    /// No RTP for so long, where there should be some, makes the gateway ask whether the leg lives.
    pub no_media: Duration,
}

impl Route {
    /// How well it fits a number: the more of it is spelled out, the better; none where it does not.
    fn fit(&self, number: &str) -> Option<usize> {
        match self.number.strip_suffix('*') {
            Some(start) => number.starts_with(start).then_some(start.len()),
            None => (number == self.number).then_some(usize::MAX),
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Trunks.
    pub trunks: Vec<Trunk>,
    /// Targets.
    pub targets: Vec<Target>,
    /// Routes.
    pub routes: Vec<Route>,
}

/// Why a call is refused: for the log, and for whoever mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// Nobody's address.
    #[error("no trunk allows {source_address}; {nearest}")]
    Stranger {
        /// Who called.
        source_address: IpAddr,
        /// The trunk that nearly matched.
        nearest: String,
    },
    /// No route for that number.
    #[error("no route of trunk \"{trunk}\" takes the number \"{number}\"; it has routes for {has}")]
    Number {
        /// The trunk.
        trunk: String,
        /// The number dialled.
        number: String,
        /// What it has.
        has: String,
    },
}

impl Table {
    /// The trunk of a call from `source` to `listener`: the narrowest network that holds it.
    pub fn trunk(&self, source: IpAddr, listener: u32) -> Result<&Trunk, NoRoute> {
        let source = source.to_canonical();
        let width = |trunk: &Trunk| trunk.allow.iter().filter(|net| net.contains(&source)).map(IpNet::prefix_len).max();
        let mut wrong_listener = None;
        let mut best: Option<(u8, &Trunk)> = None;
        for trunk in &self.trunks {
            let Some(width) = width(trunk) else { continue };
            if trunk.listener.is_some_and(|l| l != listener) {
                wrong_listener = Some(trunk);
            } else if best.is_none_or(|(known, _)| width > known) {
                best = Some((width, trunk));
            }
        }
        best.map(|(_, trunk)| trunk).ok_or_else(|| NoRoute::Stranger {
            source_address: source,
            nearest: match wrong_listener {
                Some(trunk) => format!("trunk \"{}\" allows it, but on another listener (`bind`)", trunk.name),
                None => self.nearest(source),
            },
        })
    }

    /// Which trunk's network is nearest to an address, in words.
    fn nearest(&self, source: IpAddr) -> String {
        let nets = self.trunks.iter().flat_map(|t| t.allow.iter().map(move |net| (t, net)));
        let common = |net: &IpNet| match (net.network(), source) {
            (IpAddr::V4(a), IpAddr::V4(b)) => Some((a.to_bits() ^ b.to_bits()).leading_zeros()),
            (IpAddr::V6(a), IpAddr::V6(b)) => Some((a.to_bits() ^ b.to_bits()).leading_zeros()),
            _ => None,
        };
        match nets
            .filter_map(|(t, net)| Some((common(net)?, t, net)))
            .max_by_key(|(bits, _, net)| (*bits, std::cmp::Reverse(net.prefix_len())))
        {
            Some((_, trunk, net)) => {
                format!("nearest is trunk \"{}\" with {net}: add the address to its `allow` if it is that carrier's", trunk.name)
            }
            None => "no trunk has an address of that kind".into(),
        }
    }

    /// The route of a number dialled on `trunk`: the one that spells out most of it, the first among equals.
    pub fn route(&self, trunk: &Trunk, number: &str) -> Result<&Route, NoRoute> {
        let of_trunk = || self.routes.iter().filter(|r| r.trunk == trunk.name);
        let mut best: Option<(usize, &Route)> = None;
        for route in of_trunk() {
            if let Some(fit) = route.fit(number)
                && best.is_none_or(|(known, _)| fit > known)
            {
                best = Some((fit, route));
            }
        }
        best.map(|(_, route)| route).ok_or_else(|| NoRoute::Number {
            trunk: trunk.name.clone(),
            number: number.to_owned(),
            has: of_trunk().map(|r| r.number.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The target that a REFER names: by its address, or by its name in the user part.
    pub fn named(&self, host: Option<IpAddr>, port: u16, user: Option<&str>) -> Option<usize> {
        let at = |t: &Target| host.is_some_and(|ip| ip == t.address.ip()) && port == t.address.port();
        self.targets.iter().position(at).or_else(|| self.targets.iter().position(|t| user == Some(t.name.as_str())))
    }
}

/// Whether the next target is tried after a final answer: no answer, a fault of the server's, or nothing at all; a busy or refused callee is
/// an answer.
pub const fn tries_next(status: u16) -> bool {
    matches!(status, 300..=399 | 408 | 430 | 480 | 500..=599)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunk(name: &str, allow: &str) -> Trunk {
        let allow = vec![allow.parse().expect("a network")];
        Trunk {
            name: name.into(),
            allow,
            listener: None,
            advertised: None,
            codecs: Codec::ALL.to_vec(),
            dtmf: Dtmf::Auto,
            outcomes: Outcomes::default(),
        }
    }

    fn route(trunk: &str, number: &str) -> Route {
        Route {
            name: number.into(),
            trunk: trunk.into(),
            number: number.into(),
            targets: vec![0],
            ring: Duration::from_secs(20),
            record: false,
            secure_keys: None,
            secure_pass_audio: false,
            secure_longest: Duration::from_secs(600),
            silence: None,
            silence_hang_up: false,
            no_media: Duration::from_secs(10),
        }
    }

    fn table() -> Table {
        Table {
            trunks: vec![trunk("wide", "192.0.2.0/24"), trunk("narrow", "192.0.2.8/29")],
            targets: Vec::new(),
            routes: vec![route("wide", "*"), route("wide", "+49*"), route("wide", "+4930"), route("narrow", "+4930")],
        }
    }

    #[test]
    fn the_narrowest_network_is_the_trunk() {
        let table = table();
        let name = |ip: &str| table.trunk(ip.parse().expect("an address"), 0).map(|t| t.name.clone());
        assert_eq!(name("192.0.2.9"), Ok("narrow".into()));
        assert_eq!(name("192.0.2.1"), Ok("wide".into()));
        assert_eq!(name("::ffff:192.0.2.1"), Ok("wide".into()));
        let stranger = name("192.0.3.1").expect_err("nobody's");
        assert!(stranger.to_string().contains("nearest is trunk \"wide\" with 192.0.2.0/24"), "{stranger}");
    }

    #[test]
    fn a_trunk_of_another_listener_is_named() {
        let mut table = table();
        for trunk in &mut table.trunks {
            trunk.listener = Some(1);
        }
        let refused = table.trunk("192.0.2.1".parse().expect("an address"), 0).map(|t| t.name.clone()).expect_err("another listener");
        assert!(refused.to_string().contains("trunk \"wide\" allows it, but on another listener"), "{refused}");
    }

    #[test]
    fn the_route_that_spells_out_most_takes_the_call() {
        let table = table();
        let number = |trunk: usize, n: &str| table.route(&table.trunks[trunk], n).map(|r| r.number.clone());
        assert_eq!(number(0, "+4930"), Ok("+4930".into()));
        assert_eq!(number(0, "+4940"), Ok("+49*".into()));
        assert_eq!(number(0, "100"), Ok("*".into()));
        assert!(number(1, "100").expect_err("none").to_string().contains("it has routes for +4930"));
    }

    #[test]
    fn a_busy_callee_is_an_answer_and_a_broken_one_is_not() {
        assert!([408, 480, 500, 503, 302].into_iter().all(tries_next));
        assert!(![486, 404, 603, 403, 488].into_iter().any(tries_next));
    }
}
