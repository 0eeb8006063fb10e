//! Datagrams that came in fragments (RFC 791 §3.2, RFC 8200 §4.5), put together again.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, time::Duration};

use super::{
    Frame, Packet,
    packet::{Fragment, Internet, internet, transport},
};
use crate::time::Wall;

/// What frames carry, fragments put together.
#[derive(Debug, Default)]
pub struct Datagrams(BTreeMap<(IpAddr, IpAddr, u8, u32), Parts>);

#[derive(Debug)]
struct Parts {
    began: Wall,
    /// By offset.
    parts: BTreeMap<usize, Vec<u8>>,
    /// Its length, once the last part was seen.
    length: Option<usize>,
}

/// Datagrams that wait for parts at a time; the oldest is let go of for a new one.
const WAITING_MAX: usize = 1024;
/// Parts of one datagram: 64 kB in the smallest that a link passes.
const PARTS_MAX: usize = 128;
/// A part that did not come by then never will (RFC 8200 §4.5).
const PATIENCE: Duration = Duration::from_secs(60);
/// A datagram is no longer than this.
const DATAGRAM_MAX: usize = 65_535;

impl Datagrams {
    /// What a frame carries, the rest of a datagram in fragments with its last one; or in a word why that is none of ours.
    pub fn packet<'a>(&mut self, frame: &Frame<'a>) -> Result<Packet<'a>, &'static str> {
        let found = internet(frame)?;
        let Some(fragment) = found.fragment else { return transport(found.protocol, found.from, found.to, found.payload) };
        let whole = self.part(frame.at, &found, fragment)?;
        let Packet { from, to, transport, payload } = transport(found.protocol, found.from, found.to, &whole)?;
        Ok(Packet { from, to, transport, payload: Cow::Owned(payload.into_owned()) })
    }

    fn part(&mut self, at: Wall, found: &Internet<'_>, fragment: Fragment) -> Result<Vec<u8>, &'static str> {
        self.0.retain(|_, parts| at < parts.began + PATIENCE);
        let key = (found.from, found.to, found.protocol, fragment.id);
        if !self.0.contains_key(&key)
            && self.0.len() >= WAITING_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, parts)| parts.began).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
        let end = fragment.offset.saturating_add(found.payload.len());
        let parts = self.0.entry(key).or_insert_with(|| Parts { began: at, parts: BTreeMap::new(), length: None });
        if end > DATAGRAM_MAX || parts.parts.len() >= PARTS_MAX {
            self.0.remove(&key);
            return Err("fragments that make no datagram");
        }
        parts.parts.insert(fragment.offset, found.payload.to_vec());
        if !fragment.more {
            parts.length = Some(end);
        }
        match parts.whole() {
            None => Err("a fragment"),
            Some(whole) => {
                self.0.remove(&key);
                Ok(whole)
            }
        }
    }
}

impl Parts {
    fn whole(&self) -> Option<Vec<u8>> {
        let length = self.length?;
        let mut whole = Vec::new();
        for (offset, part) in &self.parts {
            // What overlaps was said before.
            let known = whole.len().checked_sub(*offset)?;
            whole.extend_from_slice(part.get(known..).unwrap_or_default());
        }
        (whole.len() == length).then_some(whole)
    }
}
