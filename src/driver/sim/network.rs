//! What lies between the phones and the gateway.

use std::{net::SocketAddr, time::Duration};

use crate::{chance::Chance, time::Instant};

/// TCP sends again after so long at the least (RFC 6298 §2.4).
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How bad a seed's network is, in percent and milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    loss: u64,
    doubles: u64,
    jitter_ms: u64,
    /// A peer that nothing reaches, and nothing comes from, between two times.
    partition: Option<(SocketAddr, Instant, Instant)>,
}

impl Network {
    /// Of a seed: a third are clean, so that the scripts' own expectations are held too.
    pub(super) fn of(chance: &mut Chance, peers: &[SocketAddr]) -> Self {
        let bad = chance.percent(66);
        let pick = |chance: &mut Chance, most: u64| if bad { chance.below(most + 1) } else { 0 };
        let partition = (bad && chance.percent(30)).then(|| {
            let from = Instant::from_millis(2000 + chance.below(15_000));
            let peer = peers.get(usize::try_from(chance.below(peers.len() as u64)).unwrap_or(0)).copied();
            let until = from + Duration::from_millis(500 + chance.below(8000));
            peer.map(|peer| (peer, from, until))
        });
        Self { loss: pick(chance, 12), doubles: pick(chance, 6), jitter_ms: pick(chance, 60), partition: partition.flatten() }
    }

    /// Whether nothing is ever lost or late.
    pub(super) fn is_clean(&self) -> bool {
        self.loss == 0 && self.doubles == 0 && self.jitter_ms == 0 && self.partition.is_none()
    }

    /// When octets of a stream arrive: what is lost is sent again, what a partition holds up comes after it.
    pub(super) fn arrival(&self, chance: &mut Chance, now: Instant, peer: SocketAddr) -> Instant {
        let mut at = now + Duration::from_micros(5000 + 1000 * chance.below(self.jitter_ms + 1));
        while chance.percent(self.loss) {
            at += RETRANSMISSION;
        }
        match &self.partition {
            Some((cut, since, until)) if peer.ip() == cut.ip() && (*since..*until).contains(&now) => at.max(*until + RETRANSMISSION),
            _ => at,
        }
    }

    /// When a datagram arrives: not at all, once, or twice.
    pub(super) fn arrivals(&self, chance: &mut Chance, now: Instant, from: SocketAddr, to: SocketAddr) -> Vec<Instant> {
        let cut = self
            .partition
            .as_ref()
            .is_some_and(|(peer, since, until)| (from.ip() == peer.ip() || to.ip() == peer.ip()) && (*since..*until).contains(&now));
        if cut || chance.percent(self.loss) {
            return Vec::new();
        }
        let copies = 1 + u32::from(chance.percent(self.doubles));
        (0..copies).map(|_| now + Duration::from_micros(5000 + 1000 * chance.below(self.jitter_ms + 1))).collect()
    }
}
