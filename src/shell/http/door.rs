//! The door of a webhook's source: from where, and how many a second. It stands before the body is read.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use axum::http::HeaderMap;
use ipnet::IpNet;
use tokio::time::Instant;

use super::Problem;

/// What a source's door lets in.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// Networks that its webhooks may come from; empty: any.
    pub allow: Vec<IpNet>,
    /// How many a second on the average, and so many at once; none: as many as come.
    pub per_second: Option<u32>,
}

/// The doors of all sources.
#[derive(Debug, Default)]
pub(super) struct Doors {
    proxies: Vec<IpNet>,
    doors: BTreeMap<String, (Door, Mutex<Option<Left>>)>,
}

/// What a source may still send, and when that was so.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// Webhooks.
    of: f64,
    at: Instant,
}

impl Doors {
    pub(super) fn new(proxies: Vec<IpNet>, doors: BTreeMap<String, Door>) -> Self {
        Self { proxies, doors: doors.into_iter().map(|(source, door)| (source, (door, Mutex::default()))).collect() }
    }

    /// Why a webhook is not let in; none where it is. A source that nobody knows has no door: it is refused elsewhere.
    pub(super) fn refusal(&self, source: &str, peer: Option<IpAddr>, headers: &HeaderMap, at: Instant) -> Option<Problem> {
        let (door, left) = self.doors.get(source)?;
        if !door.allow.is_empty() {
            let from = peer.map(|peer| self.sender(peer, headers));
            if !from.is_some_and(|from| within(&door.allow, from)) {
                let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
                let hint =
                    "add the sender's network to `allow` of this [[webhook]]; behind a load balancer, name that one in `proxies` of [http]";
                return Some(Problem::new(403, format!("{source} sends no webhooks from {from}"), hint));
            }
        }
        let most = f64::from(door.per_second?);
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let of = left.map_or(most, |l| (l.of + at.saturating_duration_since(l.at).as_secs_f64() * most).min(most));
        let taken = of >= 1.0;
        *left = Some(Left { of: if taken { of - 1.0 } else { of }, at });
        (!taken).then(|| Problem::new(429, format!("{source} sends more than {most} webhooks a second"), "send it again in a second"))
    }

    /// Who sent it: the nearest address that is none of our own proxies, which each add the one that they saw.
    fn sender(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut sender = peer.to_canonical();
        let lists = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
        let mut passed = lists.flat_map(|list| list.split(',')).map(str::trim).collect::<Vec<_>>();
        while within(&self.proxies, sender) {
            // What a proxy writes that is no address says nothing, and the proxy itself stands.
            let Some(before) = passed.pop().and_then(|text| text.parse::<IpAddr>().ok()) else { break };
            sender = before.to_canonical();
        }
        sender
    }
}

fn within(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// The address that a request's connection came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn doors(allow: &[&str], per_second: Option<u32>) -> Doors {
        let nets = |texts: &[&str]| texts.iter().map(|t| t.parse().expect("a network")).collect::<Vec<_>>();
        let door = Door { allow: nets(allow), per_second };
        Doors::new(nets(&["10.0.0.0/8"]), [("platform".to_owned(), door)].into())
    }

    fn status(doors: &Doors, peer: &str, forwarded: &str) -> Option<u16> {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded.parse().expect("a header"));
        doors.refusal("platform", peer.parse().ok(), &headers, Instant::now()).map(|p| p.status)
    }

    #[test]
    fn an_address_counts_as_far_as_our_own_proxies_vouch_for_it() {
        let doors = doors(&["192.0.2.0/24"], None);
        for (peer, forwarded, refused) in [
            ("192.0.2.7", "", None),
            ("::ffff:192.0.2.7", "", None),
            ("198.51.100.1", "", Some(403)),
            ("198.51.100.1", "192.0.2.7", Some(403)),
            ("10.0.0.1", "192.0.2.7", None),
            ("10.0.0.1", "192.0.2.7, 10.0.0.2", None),
            // The sender wrote the first one himself.
            ("10.0.0.1", "192.0.2.7, 198.51.100.1", Some(403)),
            ("10.0.0.1", "unknown", Some(403)),
            ("10.0.0.1", "", Some(403)),
        ] {
            assert_eq!(status(&doors, peer, forwarded), refused, "{peer} {forwarded}");
        }
        assert_eq!(doors.refusal("nobody", None, &HeaderMap::new(), Instant::now()), None);
    }

    #[test]
    fn so_many_a_second_and_no_more() {
        let doors = doors(&[], Some(3));
        let from = Instant::now();
        let let_in = |ms: u64| doors.refusal("platform", None, &HeaderMap::new(), from + Duration::from_millis(ms)).is_none();
        assert_eq!([0, 0, 0, 0, 100, 400, 400].map(let_in), [true, true, true, false, false, true, false]);
        assert_eq!([60_000; 4].map(let_in), [true, true, true, false], "a quiet minute saves nothing up");
    }
}
