//! A demo's report for people: 100 columns, colour where there is a terminal.

mod ladder;
mod paint;
mod wave;

use std::fmt::Write as _;

use serde_json::Value;

use super::report::{CallReport, Check, Crm, Recording, Report};
use paint::{Paint, fit, wrap};

/// Characters a line.
const WIDTH: usize = 100;
/// Slices of a waveform.
const SLICES: usize = 86;
/// Lines a channel of a waveform.
const WAVE_LINES: usize = 2;

/// One recording's samples, as the page needs them.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// The caller's channel.
    pub caller: Vec<i16>,
    /// The platform's channel.
    pub platform: Vec<i16>,
}

/// Prints the page to standard output.
pub fn print(report: &Report, samples: &[Samples]) {
    print!("{}", page(report, samples, Paint::for_stdout()));
}

fn page(report: &Report, samples: &[Samples], paint: Paint) -> String {
    let mut out = String::new();
    let none = Samples::default();
    for (number, call) in report.calls.iter().enumerate() {
        page_call(&mut out, number + 1, call, samples.get(number).unwrap_or(&none), paint);
    }
    heading(&mut out, "Over all calls", "", paint);
    checks(&mut out, &report.checks, paint);
    let _ = writeln!(out);
    let held = report.checks.iter().chain(report.calls.iter().flat_map(|c| &c.checks)).filter(|c| c.ok).count();
    let all = report.checks.len() + report.calls.iter().map(|c| c.checks.len()).sum::<usize>();
    let green = report.calls.iter().filter(|c| c.ok).count();
    let verdict =
        format!("{green} of {} calls as they should be, {held} of {all} checks hold, {:.1} s", report.calls.len(), report.seconds);
    let _ = writeln!(out, "{}", if report.ok { paint.good(&format!("✔ {verdict}")) } else { paint.bad(&format!("✘ {verdict}")) });
    let _ = writeln!(out, "  {} {}", paint.dim("written to"), report.data);
    let _ = writeln!(out, "  {} offhook journal cat {}", paint.dim("look with "), report.journal);
    out
}

fn page_call(out: &mut String, number: usize, call: &CallReport, samples: &Samples, paint: Paint) {
    heading(out, &format!("{number}  {}", call.scenario.replace('_', " ")), call.call_id.as_deref().unwrap_or("no call id"), paint);
    for line in wrap(&call.story, WIDTH - 4) {
        let _ = writeln!(out, "   {line}");
    }
    let _ = writeln!(out);
    for line in ladder::draw(&call.participants, &call.ladder, paint) {
        let _ = writeln!(out, "{line}");
    }
    let codec = |side: &Option<String>| side.clone().unwrap_or_else(|| "no audio".into());
    let dtmf = |side: &Option<crate::event::DtmfMethod>| side.map_or("no digits", method).to_owned();
    section(out, "negotiated", paint);
    let carried = if call.codec.trunk == call.codec.platform { "relayed untouched" } else { "transcoded" };
    let _ = writeln!(
        out,
        "   caller  {} · {}   ⇄   {} · {}  platform   {}",
        paint.bold(&codec(&call.codec.trunk)),
        dtmf(&call.dtmf.trunk),
        paint.bold(&codec(&call.codec.platform)),
        dtmf(&call.dtmf.platform),
        paint.dim(if call.codec.trunk.is_none() || call.codec.platform.is_none() { "" } else { carried })
    );
    section(out, "events", paint);
    for event in &call.events {
        event_line(out, event, paint);
    }
    match &call.crm {
        Some(crm) => crm_record(out, crm, paint),
        None => {
            section(out, "CRM record", paint);
            let _ = writeln!(out, "   {}", paint.bad("none"));
        }
    }
    if let Some(recording) = &call.recording {
        waveform(out, recording, samples, paint);
    }
    section(out, "verified", paint);
    checks(out, &call.checks, paint);
    let _ = writeln!(out);
}

const fn method(method: crate::event::DtmfMethod) -> &'static str {
    match method {
        crate::event::DtmfMethod::Rfc4733 => "digits by RFC 4733",
        crate::event::DtmfMethod::Info => "digits by INFO",
        crate::event::DtmfMethod::Inband => "digits by tones",
    }
}

fn heading(out: &mut String, left: &str, right: &str, paint: Paint) {
    let used = left.chars().count() + right.chars().count() + 6;
    let rule = "━".repeat(WIDTH.saturating_sub(used).max(2));
    let _ = writeln!(out, "{} {} {} {}", paint.accent("━━"), paint.bold(left), paint.accent(&rule), paint.dim(right));
}

fn section(out: &mut String, name: &str, paint: Paint) {
    let _ = writeln!(out, "\n {}", paint.dim(&format!("─ {name} {}", "─".repeat(WIDTH.saturating_sub(name.chars().count() + 6)))));
}

fn event_line(out: &mut String, event: &Value, paint: Paint) {
    let name = event.get("type").and_then(Value::as_str).unwrap_or("?");
    let data = event.get("data");
    let at = data.and_then(|d| d.get("at_ms")).and_then(Value::as_i64).unwrap_or(0);
    let mut words = Vec::new();
    if let Some(Value::Object(fields)) = data {
        for (key, value) in fields.iter().filter(|(key, _)| !matches!(key.as_str(), "call_id" | "at_ms" | "sip_call_ids" | "sip_call_id")) {
            words.push(format!("{key} {}", plain(value)));
        }
    }
    let lines = wrap(&words.join(", "), WIDTH - 33);
    for (n, line) in lines.iter().enumerate() {
        if n == 0 {
            let _ = writeln!(out, "{} {} {line}", paint.dim(&format!("{at:>7}")), paint.accent(&format!("{name:<22}")));
        } else {
            let _ = writeln!(out, "{:31}{line}", "");
        }
    }
}

/// A JSON value as a person writes it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".into(),
        Value::Object(fields) => fields.iter().map(|(k, v)| format!("{k}={}", plain(v))).collect::<Vec<_>>().join(" "),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn crm_record(out: &mut String, crm: &Crm, paint: Paint) {
    let times = if crm.writes == 1 { "once".into() } else { format!("{} times", crm.writes) };
    section(out, &format!("CRM record · {} {} {} · written {times}", crm.target, crm.object, crm.id), paint);
    let wide = crm.fields.keys().map(|k| k.chars().count()).max().unwrap_or(0).min(40);
    for (field, value) in &crm.fields {
        let lines = wrap(&plain(value), WIDTH.saturating_sub(wide + 7));
        for (n, line) in lines.iter().enumerate() {
            let name = if n == 0 { fit(field, wide) } else { String::new() };
            let _ = writeln!(out, "   {} {} {line}", paint.accent(&format!("{name:<wide$}")), paint.dim("│"));
        }
    }
}

fn waveform(out: &mut String, recording: &Recording, samples: &Samples, paint: Paint) {
    section(out, "recording", paint);
    let rate = i64::from(recording.sample_rate.max(1));
    let frames = samples.caller.len().max(samples.platform.len());
    let length_ms = i64::try_from(frames).unwrap_or(i64::MAX).saturating_mul(1000) / rate;
    let masked: Vec<bool> = (0..SLICES)
        .map(|n| {
            let part = |n: usize| recording.starts_at_ms + length_ms * i64::try_from(n).unwrap_or(0) / i64::try_from(SLICES).unwrap_or(1);
            let (from, to) = (part(n), part(n + 1));
            recording.masked.iter().any(|m| m.from_ms < to && m.to_ms > from)
        })
        .collect();
    for (name, channel) in [("caller", &samples.caller), ("platform", &samples.platform)] {
        for (n, line) in wave::draw(&wave::loudness(channel, SLICES), &masked, WAVE_LINES, paint).iter().enumerate() {
            let _ = writeln!(out, "  {} {line}", paint.dim(&format!("{:>8}", if n + 1 == WAVE_LINES { name } else { "" })));
        }
    }
    let end = recording.starts_at_ms + length_ms;
    let scale = format!("{:<w$}{end} ms", format!("{} ms", recording.starts_at_ms), w = SLICES.saturating_sub(format!("{end} ms").len()));
    let _ = writeln!(out, "           {}", paint.dim(&scale));
    for span in &recording.masked {
        let words = format!("░ masked {}–{} ms, {}", span.from_ms, span.to_ms, span.reason);
        let _ = writeln!(out, "           {}", paint.bad(&words));
    }
    let _ = writeln!(out, "  {} {}", paint.dim("    file"), recording.file);
    if let Some(image) = &recording.image {
        let _ = writeln!(out, "  {} {image}", paint.dim(" picture"));
    }
}

fn checks(out: &mut String, checks: &[Check], paint: Paint) {
    for check in checks {
        let mark = if check.ok { paint.good("✔") } else { paint.bad("✘") };
        let name = if check.ok { check.name.clone() } else { paint.bad(&check.name) };
        let room = WIDTH.saturating_sub(check.name.chars().count() + 7);
        if room >= check.detail.chars().count() {
            let _ = writeln!(out, "   {mark} {name}  {}", paint.dim(&check.detail));
        } else {
            let _ = writeln!(out, "   {mark} {name}");
            for line in wrap(&check.detail, WIDTH - 6) {
                let _ = writeln!(out, "     {}", paint.dim(&line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        driver::demo::report::{Masked, Participant, Step},
        event::{DtmfMethod, PerSide},
    };

    fn sample() -> (Report, Vec<Samples>) {
        let step = |at_ms, from: &str, to: &str, summary: &str| Step {
            at_ms,
            from: from.into(),
            to: to.into(),
            transport: "udp".into(),
            retransmission: false,
            summary: summary.into(),
        };
        let who = |name: &str, address: &str| Participant { name: name.into(), addresses: vec![address.into()] };
        let call = CallReport {
            scenario: "dtmf_collected".into(),
            story: "The caller keys a reference number, which stands digit for digit in its CRM field, and then a card number in a secure phase, which stands nowhere.".into(),
            ok: true,
            call_id: Some("0197b0a0-7d4c-7000-8000-000000000001".into()),
            codec: PerSide { trunk: Some("PCMU".into()), platform: Some("PCMA".into()) },
            dtmf: PerSide { trunk: Some(DtmfMethod::Rfc4733), platform: Some(DtmfMethod::Info) },
            participants: vec![who("caller", "c"), who("offhook", "o"), who("aria-3 (down)", "a"), who("brio-3", "b")],
            ladder: vec![
                step(0, "c", "o", "INVITE sdp(PCMU,te/101)"),
                step(1, "o", "c", "100 Trying"),
                step(3, "o", "a", "INVITE sdp(PCMA,te/101)"),
                step(35, "o", "b", "INVITE sdp(PCMA,te/101)"),
                step(340, "b", "o", "180 Ringing"),
                step(341, "o", "c", "180 Ringing"),
                step(640, "b", "o", "200 OK sdp(PCMA)"),
                step(642, "o", "c", "200 OK sdp(PCMU,te/101)"),
                step(18_640, "b", "o", "BYE"),
                step(18_642, "b", "o", "486 Busy Here"),
            ],
            events: vec![serde_json::json!({"type": "call.answered", "data": {"at_ms": 640, "call_id": "x", "codec": {"trunk": "PCMU", "platform": "PCMA"},
                "dtmf": {"trunk": "rfc4733", "platform": "info"}, "target": "brio-3", "ring_ms": 640, "a long one": "that goes on and on until it meets the margin and has to be broken"}})],
            crm: Some(Crm {
                target: "hubspot".into(),
                object: "calls".into(),
                id: "4711".into(),
                writes: 3,
                fields: [("offhook_digits".to_owned(), Value::from("2047815")), ("hs_call_status".to_owned(), Value::from("COMPLETED"))].into(),
            }),
            recording: Some(Recording {
                file: "/tmp/offhook-demo/recordings/x.wav".into(),
                manifest: "/tmp/offhook-demo/recordings/x.json".into(),
                image: Some("/tmp/offhook-demo/recordings/x.png".into()),
                starts_at_ms: 640,
                sample_rate: 8000,
                masked: vec![Masked { from_ms: 9000, to_ms: 14_120, reason: "payment".into() }],
            }),
            checks: vec![Check::new("one CRM record", true, "calls 4711"), Check::equal("outcome", "failed", "answered")],
        };
        let tone: Vec<i16> =
            (0..8000 * 18_i32).map(|n| if n % 24_000 < 16_000 { i16::try_from(n % 9000).unwrap_or(0) } else { 0 }).collect();
        let report = Report {
            ok: false,
            seconds: 21.4,
            data: "/tmp/offhook-demo".into(),
            journal: "/tmp/offhook-demo/journal".into(),
            logs: vec![],
            ledger: None,
            http: "http://127.0.0.1:8080".into(),
            checks: vec![Check::new("no card digits in anything written", true, "41 files, 9.2 MB")],
            calls: vec![call],
        };
        (report, vec![Samples { caller: tone.clone(), platform: tone }])
    }

    #[test]
    fn the_page_fits_into_a_hundred_columns_and_shows_what_failed() {
        let (report, samples) = sample();
        let page = page(&report, &samples, Paint::off());
        println!("{page}");
        for line in page.lines() {
            assert!(line.chars().count() <= WIDTH, "{}: {line}", line.chars().count());
        }
        assert!(page.contains("✘ outcome") && page.contains("expected \"answered\""), "{page}");
        assert!(page.contains("░ masked 9000–14120 ms, payment"), "{page}");
        assert!(page.contains("✘ 1 of 1 calls"), "{page}");
    }
}
