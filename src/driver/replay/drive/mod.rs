//! A capture as a play: its far ends say again what they said, and the gateway stands between them.
//!
//! The caller's messages reach the gateway as a trunk's would; whom the gateway calls in turn answers as the called one did. Tags, branches,
//! addresses and Call-IDs are put to the dialogs that the gateway has now; everything else, bodies and sound, is the capture's, octet for octet.
//! A capture of a gateway's two legs plays the caller of one and the called ones of the other.

mod peer;
mod rules;
mod script;
mod stage;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Call, Digit, Report, Rtpmap, Step, Stream, observe, source::Source};
use crate::{
    crm::{Fields, record_key},
    event::Leg,
    gateway, media, pcap,
    pipeline::{self, Record},
    rtp::Header,
    time::Wall,
};

pub use rules::Rule;
use script::Script;
use stage::{Played, Stage};

/// What stands between the far ends.
pub struct Setup {
    /// The gateway; its targets' addresses matter only where two were called.
    pub gateway: gateway::Config,
    /// Its media.
    pub media: media::Config,
    /// CRMs by name, and what each would be told of a record.
    pub crms: Vec<(String, pipeline::Mapping)>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Setup({} CRMs)", self.crms.len())
    }
}

/// What the gateway made of a call.
#[derive(Debug, Serialize)]
pub struct Play {
    /// What it sent.
    pub sent: Vec<Step>,
    /// The sound that it sent on.
    pub forwarded: Vec<Stream>,
    /// The keys in that.
    pub forwarded_digits: Vec<Digit>,
    /// What each CRM would have been told at the end.
    pub writes: Vec<Write>,
    /// What must hold of every play.
    pub rules: Vec<Rule>,
}

/// One record of one CRM.
#[derive(Debug, Serialize)]
pub struct Write {
    /// The CRM's name.
    pub crm: String,
    /// Key of the record.
    pub key: String,
    /// Its fields.
    pub fields: Fields,
}

/// Plays every call of a capture that an INVITE opens.
pub fn drive(file: &[u8], rtpmap: &Rtpmap, setup: &Setup) -> Result<Report, pcap::Stopped> {
    let mut report = observe(file, rtpmap)?;
    for script in script::scripts(file) {
        let Some(call) = report.calls.iter_mut().find(|c| c.call_id == script.call_id) else { continue };
        let played = Stage::new(setup, &script).play();
        call.events = played.events.iter().map(crate::event::Event::to_cloudevent).collect();
        call.play = Some(play(&script, call, &played, setup));
    }
    Ok(report)
}

fn play(script: &Script, call: &Call, played: &Played, setup: &Setup) -> Play {
    let (mut forwarded, mut forwarded_digits) = (Vec::new(), Vec::new());
    for leg in [Leg::Caller, Leg::Callee] {
        let (streams, digits) = heard(script.caller.invite_at, played, leg);
        forwarded.extend(streams);
        forwarded_digits.extend(digits);
    }
    Play {
        sent: played.sent.clone(),
        forwarded,
        forwarded_digits,
        writes: writes(played, setup),
        rules: rules::rules(script, played, &call.digits),
    }
}

/// What a leg was sent, described as if it had been captured.
fn heard(zero: Wall, played: &Played, hears: Leg) -> (Vec<Stream>, Vec<Digit>) {
    let name = |number: u8| {
        let agreed = played.agreed.iter().rev().filter(|(leg, _)| *leg == hears);
        agreed.map(|(_, agreed)| agreed).find_map(|agreed| {
            if agreed.pt == number {
                Some(agreed.codec.name().to_owned())
            } else {
                (agreed.event_send == Some(number)).then(|| "telephone-event".to_owned())
            }
        })
    };
    let leg = if hears == Leg::Caller { "callee" } else { "caller" };
    let mut sources = BTreeMap::new();
    for packet in played.forwarded.iter().filter(|f| f.hears == hears) {
        let Ok(header) = Header::parse(&packet.octets) else { continue };
        let key = (packet.from, packet.to, header.ssrc);
        let source = sources.entry(key).or_insert_with(|| Source::new(packet.from, packet.to, header.ssrc, Some(leg)));
        source.packet(packet.at, &header, &packet.octets, &name, None);
    }
    let (mut streams, mut digits) = (Vec::new(), Vec::new());
    for (_, source) in sources {
        let (more, keys) = source.finish(zero, None);
        streams.extend(more);
        digits.extend(keys);
    }
    (streams, digits)
}

fn writes(played: &Played, setup: &Setup) -> Vec<Write> {
    let Some(first) = played.events.first() else { return Vec::new() };
    let mut record = Record::new(first.call_id);
    for event in &played.events {
        record.apply(event);
    }
    if !record.is_over() {
        return Vec::new();
    }
    let fields: Map<String, Value> = record.fields();
    let write =
        |(crm, mapping): &(String, pipeline::Mapping)| Write { crm: crm.clone(), key: record_key(first.call_id), fields: mapping(&fields) };
    setup.crms.iter().map(write).collect()
}
