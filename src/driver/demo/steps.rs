//! What passed on the wire, as steps of a ladder.

use std::{collections::BTreeSet, net::SocketAddr};

use tokio::time::Instant;

use super::{
    phone::{Phone, Seen},
    report::{Participant, Step},
};
use crate::driver::ladder::summary;

/// The ladder of a call: who took part, and each message once, as the phones' sockets saw it.
pub(crate) fn ladder(caller: &Phone, others: &[(&str, Option<&Phone>)], tap: &[Seen]) -> (Vec<Participant>, Vec<Step>) {
    let phones: Vec<(&str, &Phone)> =
        std::iter::once(("caller", caller)).chain(others.iter().filter_map(|(name, phone)| phone.map(|p| (*name, p)))).collect();
    // A target that nobody answers for has a column of its own all the same: that nothing passes there is what the call is about.
    let column = |name: &str, phone: Option<&Phone>| match phone {
        Some(phone) => (name.to_owned(), own_addresses(phone)),
        None => (format!("{name} (down)"), BTreeSet::new()),
    };
    let mut addresses: Vec<(String, BTreeSet<SocketAddr>)> =
        std::iter::once(column("caller", Some(caller))).chain(others.iter().map(|(name, phone)| column(name, *phone))).collect();
    let mine: BTreeSet<SocketAddr> = addresses.iter().flat_map(|(_, a)| a.iter().copied()).collect();

    let mut seen: Vec<Seen> = phones.iter().flat_map(|(_, phone)| phone.seen()).chain(tap.iter().cloned()).collect();
    seen.sort_by_key(|s| s.at);
    let gateway = seen.iter().flat_map(|s| [s.from, s.to]).filter(|a| !mine.contains(a)).collect();
    // The gateway stands between the caller and everybody else.
    addresses.insert(1, ("offhook".into(), gateway));

    let origin = seen.iter().find(|s| s.bytes.starts_with(b"INVITE ")).map(|s| s.at);
    let mut met = BTreeSet::new();
    let steps = seen
        .iter()
        .map(|s| Step {
            at_ms: millis(origin, s.at),
            from: s.from.to_string(),
            to: s.to.to_string(),
            transport: if s.tcp { "tcp" } else { "udp" }.into(),
            retransmission: !met.insert((s.from, s.to, s.bytes.clone())),
            summary: summary(&s.bytes),
        })
        .collect();
    let participants = addresses
        .into_iter()
        .map(|(name, addresses)| Participant { name, addresses: addresses.iter().map(ToString::to_string).collect() })
        .collect();
    (participants, steps)
}

/// Where a phone listens, and the near ends of its connections.
fn own_addresses(phone: &Phone) -> BTreeSet<SocketAddr> {
    let mut own = BTreeSet::from([phone.address()]);
    for seen in phone.seen() {
        own.insert(if seen.sent { seen.from } else { seen.to });
    }
    own
}

fn millis(origin: Option<Instant>, at: Instant) -> i64 {
    let after = origin.map_or(0, |origin| at.saturating_duration_since(origin).as_millis());
    i64::try_from(after).unwrap_or(i64::MAX)
}
