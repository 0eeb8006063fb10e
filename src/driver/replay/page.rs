//! A report as one HTML page that needs nothing else: of each call its ladder, its keys and its streams.

use std::net::SocketAddr;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Call, Report, Step};
use crate::event::{Leg, Outcome};

/// A message a line, px.
const LINE: usize = 26;
/// From one column to the next, px.
const COLUMN: usize = 260;
/// Room for times at the left, px.
const TIMES: usize = 90;
/// Room for names above, px.
const NAMES: usize = 34;

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1f24}\
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2.2rem;overflow-wrap:anywhere}table{border-collapse:collapse;margin:.6rem 0}\
td,th{text-align:left;padding:.15rem .8rem .15rem 0;border-bottom:1px solid #dde1e6;font-variant-numeric:tabular-nums}\
.bad{color:#b3261e;font-weight:600}.ok{color:#1a7f37}.dim{color:#656d76}svg text{font:12px ui-monospace,monospace}\
nav a{display:inline-block;margin-right:1rem}";

/// The page.
pub fn page(name: &str, report: &Report) -> String {
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { (name) } style { (PreEscaped(STYLE)) } }
            body {
                h1 { (name) }
                p {
                    (report.frames) " frames, " (report.sip.messages) " SIP messages, " (report.calls.len()) " calls, " (report.rtcp) " RTCP packets"
                    @if let Some(stopped) = &report.stopped {
                        " — " span.bad { "read no further than frame " (stopped.frame) ", octet " (stopped.offset) ": " (stopped.why) }
                    }
                }
                nav { @for (index, call) in report.calls.iter().enumerate() { a href={ "#call-" (index) } { (call.call_id) } } }
                @for (index, call) in report.calls.iter().enumerate() { (one(index, call)) }
            }
        }
    };
    body.into_string()
}

fn one(index: usize, call: &Call) -> Markup {
    html! {
        h2 id={ "call-" (index) } { (call.call_id) }
        p {
            (call.invite_at) " · " (call.outcome.map_or("open", Outcome::name)) " · " (call.ended_as)
            @if let Some(codec) = &call.codec { " · " (codec) }
            @if let Some(ms) = call.answer_ms { " · answered after " (ms) " ms" }
            @if let Some(peer) = &call.peer_call_id { " · other leg " (peer) }
        }
        (ladder("as captured", &call.ladder))
        @if let Some(play) = &call.play {
            (ladder("what the gateway sent", &play.sent))
            table {
                @for rule in &play.rules {
                    tr { td class=(if rule.ok { "ok" } else { "bad" }) { (if rule.ok { "holds" } else { "broken" }) } td { (rule.name) } td.dim { (rule.detail) } }
                }
            }
        }
        @if !call.digits.is_empty() {
            table {
                tr { th { "key" } th { "by" } th { "at ms" } th { "ms" } th { "how" } }
                @for d in &call.digits {
                    tr { td { (d.digit.as_deref().unwrap_or("masked")) } td { (d.leg.map_or("?", Leg::name)) } td { (d.at_ms) } td { (d.duration_ms) } td { (format!("{:?}", d.method).to_lowercase()) } }
                }
            }
        }
        @if !call.streams.is_empty() {
            table {
                tr { th { "stream" } th { "codec" } th { "packets" } th { "lost" } th { "twice" } th { "late" } th { "jitter ms" } }
                @for s in &call.streams {
                    tr {
                        td { (s.from) " → " (s.to) } td { (s.codec.as_deref().unwrap_or("?")) } td { (s.packets) }
                        td class=[(s.lost > 0).then_some("bad")] { (s.lost) } td { (s.duplicates) } td { (s.reordered) } td { (s.jitter_ms) }
                    }
                }
            }
        }
    }
}

/// Columns are addresses in the order of their first message.
fn ladder(title: &str, steps: &[Step]) -> Markup {
    let mut columns: Vec<SocketAddr> = Vec::new();
    for address in steps.iter().flat_map(|s| [s.from, s.to]) {
        if !columns.contains(&address) {
            columns.push(address);
        }
    }
    let x = |address: &SocketAddr| TIMES + COLUMN / 2 + columns.iter().position(|c| c == address).unwrap_or(0) * COLUMN;
    let (width, height) = (TIMES + columns.len().max(1) * COLUMN, NAMES + steps.len() * LINE + LINE);
    html! {
        @if !steps.is_empty() {
            svg width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } role="img" aria-label={ "ladder, " (title) } {
                text x="0" y="14" fill="#656d76" { (title) }
                @for address in &columns {
                    text x=(x(address)) y="28" text-anchor="middle" { (address) }
                    line x1=(x(address)) x2=(x(address)) y1=(NAMES) y2=(height) stroke="#c3c9d1" {}
                }
                @for (row, step) in steps.iter().enumerate() { (arrow(step, x(&step.from), x(&step.to), NAMES + (row + 1) * LINE)) }
            }
        }
    }
}

fn arrow(step: &Step, from: usize, to: usize, y: usize) -> Markup {
    let right = to > from;
    let tip = if right { to.saturating_sub(7) } else { to.saturating_add(7) };
    let colour = if step.retransmission { "#9a6700" } else { "#0b57d0" };
    html! {
        text x="0" y=(y) fill="#656d76" { (step.at_ms) " ms" }
        line x1=(from) x2=(to) y1=(y) y2=(y) stroke=(colour) stroke-dasharray=[step.retransmission.then_some("4 3")] {}
        path d={ "M" (tip) " " (y.saturating_sub(4)) " L" (to) " " (y) " L" (tip) " " (y + 4) } fill="none" stroke=(colour) {}
        text x=((from + to) / 2) y=(y.saturating_sub(5)) text-anchor="middle" { (step.summary) }
        title { @if let Some(frame) = step.frame { "frame " (frame) ", " } (step.transport) @if step.retransmission { ", sent again" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::replay::{Rtpmap, observe};

    #[test]
    fn what_a_capture_says_is_text_on_the_page_and_nothing_else() {
        let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/pcap/speech-caller-order.pcap")).expect("a capture");
        let report = observe(&file, &Rtpmap::default()).expect("read");
        let page = page("<script>alert(1)</script>.pcap", &report);
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "names are escaped");
        assert!(page.contains(&format!("{} frames", report.frames)));
    }
}
