//! What holds of every play, whatever its expectation says.

use serde::Serialize;

use super::{
    script::{FarEnd, Script},
    stage::Played,
};
use crate::{
    codec::Codec,
    driver::replay::Digit,
    event::{Kind, Leg},
    media::Stream,
    rtp::Header,
    time::Wall,
};

/// A rule, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// What must be so.
    pub name: &'static str,
    /// Whether it is.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

impl Rule {
    fn new(name: &'static str, faults: Vec<String>, else_detail: String) -> Self {
        let ok = faults.is_empty();
        Self { name, ok, detail: if ok { else_detail } else { faults.join("; ") } }
    }
}

/// All rules of one play. `keyed`: the digits that the capture holds.
pub(super) fn rules(script: &Script, played: &Played, keyed: &[Digit]) -> Vec<Rule> {
    vec![ends_once(played), answered(played), everything_said(played), digits(played, keyed), relayed(script, played)]
}

fn ends_once(played: &Played) -> Rule {
    let terminal = played.events.iter().filter(|e| e.kind.is_terminal()).count();
    let mut faults = Vec::new();
    if terminal != 1 {
        faults.push(format!("{terminal} terminal events"));
    }
    if played.open > 0 {
        faults.push("the call is still open".into());
    }
    Rule::new("the call ends once", faults, "one terminal event".into())
}

fn answered(played: &Played) -> Rule {
    let unheard = played.asked.values().filter(|a| !a.answered && a.times < 2 && !a.reliable);
    let faults = unheard.map(|a| format!("{} was neither answered nor sent again", a.what)).collect();
    Rule::new("each request sent is answered or retransmitted", faults, format!("{} requests", played.asked.len()))
}

fn everything_said(played: &Played) -> Rule {
    let faults = played.unsaid.iter().map(|what| format!("{what} found no dialog to be said in")).collect();
    Rule::new("every request of the capture has its turn", faults, "all were said".into())
}

/// What the events tell of the caller's keys is what he keyed; what a phase hides is told by its number.
fn digits(played: &Played, keyed: &[Digit]) -> Rule {
    let name = "the digits are those keyed";
    let pressed = keyed.iter().filter(|d| d.leg == Some(Leg::Caller)).filter_map(|d| d.digit.as_deref()).collect::<String>();
    let mut told = String::new();
    let mut hidden = 0_u32;
    let mut secure = false;
    for event in &played.events {
        match &event.kind {
            Kind::Dtmf { leg: Leg::Caller, digits, count, .. } => {
                told.push_str(digits.as_deref().unwrap_or_default());
                hidden = hidden.saturating_add(count.unwrap_or(0));
            }
            Kind::SecureStarted { .. } => secure = true,
            _ => {}
        }
    }
    let mut rest = pressed.chars();
    let fits = if secure { told.chars().all(|digit| rest.any(|p| p == digit)) } else { told == pressed };
    // Digits of a phase stand nowhere, in a fault neither.
    let faults = if fits { Vec::new() } else { vec![format!("{} keyed, {} told", pressed.len(), told.len())] };
    Rule::new(name, faults, format!("{} keyed, {} told, {hidden} hidden", pressed.len(), told.len()))
}

/// A codec common to both legs is relayed untouched: each payload that comes goes out at once and as it is, from the answer to the end, but for those that
/// give way to a key.
fn relayed(script: &Script, played: &Played) -> Rule {
    let name = "a relayed stream's payloads are the capture's";
    if played.events.iter().any(|e| matches!(e.kind, Kind::SecureStarted { .. })) {
        return Rule::new(name, Vec::new(), "not compared: a secure phase replaces sound".into());
    }
    let mut faults = Vec::new();
    let mut compared = Vec::new();
    let answered = played.events.iter().find(|e| matches!(e.kind, Kind::Answered { .. })).map(|e| e.time);
    if answered.is_some_and(|at| !played.bridged.iter().any(|(when, on)| *on && *when < at + MARGIN)) {
        faults.push("the call was answered and its legs were not bridged".to_owned());
    }
    for leg in [Leg::Caller, Leg::Callee] {
        let ends = if leg == Leg::Caller { std::slice::from_ref(&script.caller) } else { script.callees.as_slice() };
        let mut sounding = ends.iter().filter(|end| !end.sounds.is_empty());
        let (Some(end), None) = (sounding.next(), sounding.next()) else { continue };
        let (Some(from), Some(to)) = (only(played, leg), only(played, leg.other())) else { continue };
        if from.codec != to.codec || !from.receive || !to.send {
            continue;
        }
        let heard = payloads_in(end, from);
        let sent = payloads_out(played, leg.other(), |number| number == to.pt);
        let keys = payloads_out(played, leg.other(), |number| Some(number) == to.event_send);
        let invented = sent.iter().filter(|packet| !heard.contains(packet)).count();
        if invented > 0 {
            faults.push(format!("{}: {invented} of {} packets sent are none that came at that moment", leg.name(), sent.len()));
        }
        let excused = |at: Wall| !stands(at, played) || keys.iter().any(|(key, _)| *key < at + KEY && at < *key + KEY);
        let missing = heard.iter().filter(|packet| !excused(packet.0) && !sent.contains(packet)).count();
        if missing > 0 {
            faults.push(format!("{}: {missing} of {} packets that came were not sent on", leg.name(), heard.len()));
        }
        compared.push(format!("{} {} of {}", leg.name(), sent.len(), heard.len()));
    }
    Rule::new(name, faults, if compared.is_empty() { "nothing is relayed untouched".into() } else { compared.join(", ") })
}

/// What was agreed on with a leg, where it stayed the same.
fn only(played: &Played, leg: Leg) -> Option<&Stream> {
    let mut all = played.agreed.iter().filter(|(l, _)| *l == leg).map(|(_, agreed)| agreed);
    let first = all.next()?;
    all.all(|a| a.codec == first.codec && a.pt == first.pt && a.send == first.send && a.receive == first.receive).then_some(first)
}

fn payloads_in<'s>(end: &'s FarEnd, agreed: &Stream) -> Vec<(Wall, &'s [u8])> {
    let taken = |number: u8| agreed.recv.iter().any(|(pt, codec): &(u8, Codec)| *pt == number && *codec == agreed.codec);
    let payload = |octets: &'s [u8]| {
        let header = Header::parse(octets).ok().filter(|h| taken(h.payload_type))?;
        octets.get(header.payload)
    };
    end.sounds.iter().filter_map(|s| Some((s.at, payload(&s.octets)?))).collect()
}

fn payloads_out(played: &Played, hears: Leg, wanted: impl Fn(u8) -> bool) -> Vec<(Wall, &[u8])> {
    let payload = |octets: &'_ [u8]| Header::parse(octets).ok().filter(|h| wanted(h.payload_type)).map(|h| h.payload);
    let mine = played.forwarded.iter().filter(|f| f.hears == hears);
    mine.filter_map(|f| Some((f.at, f.octets.get(payload(&f.octets)?)?))).collect()
}

/// Whether the legs were bridged well at that moment, a while before it and a while after.
fn stands(at: Wall, played: &Played) -> bool {
    let end = played.events.iter().find(|e| e.kind.is_terminal()).map(|e| (e.time, false));
    let changes = || played.bridged.iter().copied().chain(end);
    let before = changes().take_while(|(when, _)| *when + MARGIN < at).last();
    before.is_some_and(|(_, on)| on) && changes().all(|(when, _)| when + MARGIN < at || at + MARGIN < when)
}

/// Sound that crosses the answer or the end on its way may be lost with right.
const MARGIN: std::time::Duration = std::time::Duration::from_millis(200);
/// From a packet of a key to the next, and some: sound in between gives way.
const KEY: std::time::Duration = std::time::Duration::from_millis(60);
