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

use super::{
    Call, Digit, Report, Rtpmap, Step, Stream, observe,
    source::{CLOCK, Source},
};
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
    for script in script::scripts(file, &report.calls) {
        let Some(call) = report.calls.iter_mut().find(|c| c.call_id == script.call_id) else { continue };
        let played = Stage::new(setup, &script).play();
        call.events = played.events.iter().map(crate::event::Event::to_cloudevent).collect();
        call.play = Some(play(&script, call, &played, setup));
    }
    Ok(report)
}

/// Observes a capture as the gateway of a configuration would: its events, and no key that a secure phase of its routes hides.
pub fn masked(file: &[u8], rtpmap: &Rtpmap, setup: &Setup) -> Result<Report, pcap::Stopped> {
    let mut report = drive(file, rtpmap, setup)?;
    // Which phases hide the keys of each call that was played; every dialog that was made for it has the same, however many they were.
    let mut hidden: BTreeMap<String, Vec<(Wall, Wall)>> = BTreeMap::new();
    for call in &mut report.calls {
        if call.play.take().is_some() {
            hidden.entry(call.call_id.clone()).or_default().extend(phases(call));
        }
    }
    let parents: BTreeMap<String, String> =
        report.calls.iter().filter_map(|call| Some((call.call_id.clone(), call.parent_call_id.clone()?))).collect();
    for call in &mut report.calls {
        let phases = hidden.get(root(&parents, &call.call_id)).map(Vec::as_slice).unwrap_or_default();
        let micros = call.invite_at.as_micros();
        for digit in &mut call.digits {
            let at = Wall::from_micros(micros + digit.at_ms * 1000);
            if phases.iter().any(|(from, to)| *from <= at && at < *to) {
                (digit.digit, digit.masked) = (None, true);
            }
        }
    }
    Ok(report)
}

/// The dialog that a dialog was made for in the end. Each is younger than the one that it was made for, so this ends.
fn root<'a>(parents: &'a BTreeMap<String, String>, call_id: &'a str) -> &'a str {
    let mut root = call_id;
    for _ in 0..parents.len() {
        match parents.get(root) {
            Some(parent) => root = parent,
            None => break,
        }
    }
    root
}

/// The secure phases of a call that was played, by its events; one that nothing ended lasts to the end.
fn phases(call: &Call) -> Vec<(Wall, Wall)> {
    let mut phases = Vec::new();
    let mut began = None;
    for event in &call.events {
        let at =
            event.pointer("/data/media_ms").and_then(Value::as_i64).map(|ms| Wall::from_micros(call.invite_at.as_micros() + ms * 1000));
        match event.get("type").and_then(Value::as_str) {
            Some("call.secure.started") => began = at,
            Some("call.secure.ended") => phases.extend(began.take().zip(at)),
            _ => {}
        }
    }
    phases.extend(began.map(|from| (from, Wall::from_micros(i64::MAX))));
    phases
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
                Some((agreed.codec.name().to_owned(), CLOCK))
            } else {
                (agreed.event_send == Some(number)).then(|| ("telephone-event".to_owned(), CLOCK))
            }
        })
    };
    let mut sources = BTreeMap::new();
    for packet in played.forwarded.iter().filter(|f| f.hears == hears) {
        let Ok(header) = Header::parse(&packet.octets) else { continue };
        let key = (packet.from, packet.to, header.ssrc);
        let source = sources.entry(key).or_insert_with(|| Source::new(packet.from, packet.to, header.ssrc, Some(hears.other())));
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
    // A capture holds no webhook.
    record.expect(&[pipeline::Expect::disposition(std::time::Duration::ZERO)], &Default::default());
    let fields: Map<String, Value> = record.fields();
    let write = |(crm, mapping): &(String, pipeline::Mapping)| Write {
        crm: crm.clone(),
        key: record_key(first.call_id),
        fields: mapping(&fields).fields,
    };
    setup.crms.iter().map(write).collect()
}
