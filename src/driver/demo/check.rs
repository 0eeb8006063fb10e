//! What is verified of each call, from what its players, its events, the CRM and its recording say.

use serde_json::Value;

use super::{
    hubspot::Record,
    record::Wave,
    report::{Check, Recording},
    scenario::{Expected, Played},
};
use crate::{
    codec::Codec,
    event::{DtmfMethod, PerSide},
};

/// All that was found out about one call.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) call_id: Option<&'a str>,
    /// By the phones' own account.
    pub(crate) codec: &'a PerSide<Option<String>>,
    pub(crate) dtmf: &'a PerSide<Option<DtmfMethod>>,
    pub(crate) events: &'a [Value],
    pub(crate) records: &'a [Record],
    pub(crate) recording: Option<(&'a Recording, &'a Wave)>,
}

/// Loudest sample that counts as silence: none of the codecs' silences decodes to more.
const SILENCE: u16 = 16;
/// Least of a masked span that must lie in the file for its silence to mean something, ms.
const SPAN_MS_MIN: u64 = 1000;

/// The name that contracts use for a codec.
pub(crate) const fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Pcmu => "PCMU",
        Codec::Pcma => "PCMA",
        Codec::G722 => "G722",
    }
}

/// Everything about one call.
pub(crate) fn call(played: &Played, found: &Findings<'_>) -> Vec<Check> {
    let mut checks = played.checks.clone();
    negotiated(&played.expected, found, &mut checks);
    events(&played.expected, found, &mut checks);
    crm(&played.expected, found, &mut checks);
    recording(found, &mut checks);
    checks
}

fn negotiated(expected: &Expected, found: &Findings<'_>, checks: &mut Vec<Check>) {
    let wanted =
        PerSide { trunk: Some(codec_name(expected.codecs.0).to_owned()), platform: Some(codec_name(expected.codecs.1).to_owned()) };
    checks.push(Check::new(
        "codecs as offered and taken",
        *found.codec == wanted,
        format!("{} and {}", found.codec.trunk.as_deref().unwrap_or("none"), found.codec.platform.as_deref().unwrap_or("none")),
    ));
    let dtmf = PerSide { trunk: Some(expected.dtmf.0), platform: Some(expected.dtmf.1) };
    let methods = |side: &PerSide<Option<DtmfMethod>>| format!("{} and {}", word(&side.trunk), word(&side.platform));
    checks.push(Check::equal("DTMF methods as offered and taken", methods(found.dtmf), methods(&dtmf)));
    let answered = event(found.events, "call.answered");
    let says = |field: &str, side: &str| answered.and_then(|e| e.get("data")?.get(field)?.get(side)?.as_str()).unwrap_or("none").to_owned();
    let by_event =
        format!("{} {} ⇄ {} {}", says("codec", "trunk"), says("dtmf", "trunk"), says("codec", "platform"), says("dtmf", "platform"));
    let none = || "none".to_owned();
    let by_phones = format!(
        "{} {} ⇄ {} {}",
        found.codec.trunk.clone().unwrap_or_else(none),
        word(&found.dtmf.trunk),
        found.codec.platform.clone().unwrap_or_else(none),
        word(&found.dtmf.platform)
    );
    checks.push(Check::equal("call.answered says what the phones negotiated", by_event, by_phones));
    let target = answered.and_then(|e| e.get("data")?.get("target")?.as_str()).unwrap_or("none");
    checks.push(Check::equal("the target that took the call", target, &expected.target));
}

fn events(expected: &Expected, found: &Findings<'_>, checks: &mut Vec<Check>) {
    let sequence: Vec<_> = found.events.iter().filter_map(|e| e.get("sequence")?.as_u64()).collect();
    let whole = !sequence.is_empty() && sequence.iter().zip(1..).all(|(a, b)| *a == b);
    checks.push(Check::new("events without a gap", whole, format!("{} events", sequence.len())));
    let terminal: Vec<_> = found.events.iter().filter(|e| matches!(kind(e), "call.ended" | "call.failed")).collect();
    let say = |e: &Value| {
        let word = |name: &str| e.get("data").and_then(|d| d.get(name)?.as_str()).unwrap_or("none").to_owned();
        format!("{} {} {}", kind(e), word("outcome"), word("ended_as"))
    };
    let says = terminal.iter().map(|e| say(e)).collect::<Vec<_>>().join(", ");
    let wanted = format!("{} {} {}", expected.terminal, word(&expected.outcome), word(&expected.ended_as));
    checks.push(Check::equal("one terminal event", says, wanted));
    if let Some(digits) = &expected.digits {
        let keyed: Vec<_> =
            found.events.iter().filter(|e| kind(e) == "call.dtmf").filter_map(|e| e.get("data")?.get("digits")?.as_str()).collect();
        let keyed = keyed.join(" ");
        checks.push(Check::new(
            "call.dtmf has the digits",
            keyed.trim_end_matches('#') == digits,
            if keyed.is_empty() { "none".into() } else { keyed },
        ));
    }
}

fn crm(expected: &Expected, found: &Findings<'_>, checks: &mut Vec<Check>) {
    let ids: Vec<_> = found.records.iter().map(|r| r.id.as_str()).collect();
    checks.push(Check::new("exactly one CRM record", ids.len() == 1, if ids.is_empty() { "none".into() } else { ids.join(", ") }));
    let Some(record) = found.records.first() else { return };
    let wanted = fields(expected, found);
    let count = wanted.len();
    let faults: Vec<_> = wanted
        .into_iter()
        .filter_map(|(name, wanted)| {
            let is = record.fields.get(&name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            let show = |value: &Option<String>| value.as_ref().map_or_else(|| "nothing".to_owned(), |v| format!("{v:?}"));
            (is.as_deref().unwrap_or_default() != wanted.as_deref().unwrap_or_default())
                .then(|| format!("{name} holds {}, expected {}", show(&is), show(&wanted)))
        })
        .collect();
    let detail = if faults.is_empty() { format!("{count} fields compared") } else { faults.join("; ") };
    checks.push(Check::new("its fields are what the scenario says", faults.is_empty(), detail));
}

/// What must stand in the CRM, by the shipped mapping's property names.
pub(crate) fn fields(expected: &Expected, found: &Findings<'_>) -> Vec<(String, Option<String>)> {
    let field = |name: &str, value: Option<String>| (name.to_owned(), value);
    vec![
        field("offhook_call_id", found.call_id.map(str::to_owned)),
        field("hs_call_from_number", Some(found.from.to_owned())),
        field("hs_call_to_number", Some(found.to.to_owned())),
        field("offhook_outcome", Some(word(&expected.outcome))),
        field("offhook_ended_as", Some(word(&expected.ended_as))),
        field("offhook_disposition", Some(expected.disposition.to_owned())),
        field("offhook_needs_review", Some(expected.review.to_string())),
        field("offhook_digits", expected.digits.clone()),
        field("hs_call_body", expected.summary.map(str::to_owned)),
    ]
}

fn recording(found: &Findings<'_>, checks: &mut Vec<Check>) {
    let Some((recording, wave)) = found.recording else {
        checks.push(Check::new("a recording", false, "none"));
        return;
    };
    let secure = event(found.events, "call.secure.started").is_some();
    let seconds = wave.samples.caller.len() / usize::try_from(wave.sample_rate.max(1)).unwrap_or(1);
    let loud = |samples: &[i16]| samples.iter().any(|s| s.unsigned_abs() > 1000);
    checks.push(Check::new(
        "both sides are in the recording",
        loud(&wave.samples.caller) && loud(&wave.samples.platform),
        format!("{seconds} s, stereo, {} Hz", wave.sample_rate),
    ));
    if secure {
        let spans: Vec<_> = recording.masked.iter().map(|span| wave.loudest(recording.starts_at_ms, span)).collect();
        let covered: u64 = spans.iter().map(|(_, ms)| ms).sum();
        let loudest = spans.iter().map(|(loud, _)| *loud).max().unwrap_or(u16::MAX);
        checks.push(Check::new(
            "the masked span holds no sound on either side",
            loudest <= SILENCE && covered >= SPAN_MS_MIN,
            format!("{} span, {covered} ms, loudest sample {loudest} of 32767", spans.len()),
        ));
    } else {
        checks.push(Check::new(
            "nothing is masked without a secure phase",
            recording.masked.is_empty(),
            format!("{} spans", recording.masked.len()),
        ));
    }
}

fn kind(event: &Value) -> &str {
    event.get("type").and_then(Value::as_str).unwrap_or("none")
}

fn event<'a>(events: &'a [Value], name: &str) -> Option<&'a Value> {
    events.iter().find(|e| kind(e) == name)
}

/// The contract's word for a value.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
