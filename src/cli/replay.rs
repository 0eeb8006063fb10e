//! `offhook replay`: what a capture holds, what the gateway makes of it, and whether that is as it should be.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Read as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::Value;

use super::{FAILED, OK, finished};
use crate::{
    config::Config,
    driver::{
        live,
        replay::{
            Call, Observer, Report, Rtpmap, Step, Stream, drive,
            expect::{self, Difference},
            observe, page, verdict,
        },
    },
    event::{Leg, Outcome},
};

/// Read a capture (pcap or pcapng) and tell its calls: ladders, codecs, keys, RTP streams; or play it against the gateway.
///
/// Prints what the file holds, keys of cards too, since a file tells of no secure phase. With --drive its far ends say again what they said, in
/// the capture's own time, and the gateway with that configuration stands between them. Exit status: 1 where a rule or an expectation does not
/// hold, 2 where the file can be read no further.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The capture.
    file: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Name of a dynamic payload type that no signalling explains, such as 101=telephone-event/8000.
    #[arg(long, value_name = "PT=NAME", value_parser = rtpmap)]
    rtpmap: Vec<(u8, (String, u32))>,
    /// Play the capture against the gateway with this configuration.
    #[arg(long, value_name = "CONFIG")]
    drive: Option<PathBuf>,
    /// Look at it as the gateway with this configuration would: keys of a secure phase are masked, and the events that it would raise are told.
    #[arg(long, value_name = "FILE", conflicts_with = "drive")]
    config: Option<PathBuf>,
    /// Hold the result against this expectation: the same JSON with whatever fields its author keeps.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Write the expectation instead; the rules of --drive must hold all the same.
    #[arg(long, requires = "expect")]
    bless: bool,
    /// Write a page with the ladders.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

fn rtpmap(text: &str) -> Result<(u8, (String, u32)), String> {
    let (number, name) = text.split_once('=').ok_or("expected PT=NAME, such as 101=telephone-event/8000")?;
    let number = number.parse().ok().filter(|n| *n < 128).ok_or("a payload type is a number from 0 to 127")?;
    let (name, rest) = name.split_once('/').unwrap_or((name, "8000"));
    let clock =
        rest.split('/').next().and_then(|hz| hz.parse().ok()).filter(|hz| *hz > 0).ok_or("a clock is a number of Hz, such as 8000")?;
    Ok((number, (name.to_owned(), clock)))
}

/// Reads, plays, compares and tells.
pub fn run(args: Args) -> ExitCode {
    finished("replay", replay(&args))
}

fn replay(args: &Args) -> Result<u8, String> {
    // Whatever looks at the whole needs it in memory; printing alone does not.
    let whole = args.drive.is_some() || args.config.is_some() || args.expect.is_some() || args.html.is_some() || args.junit.is_some();
    if whole { hold(args) } else { stream(args) }
}

fn named(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", path.display())
}

/// Prints each call as soon as it is over.
fn stream(args: &Args) -> Result<u8, String> {
    let mut file = File::open(&args.file).map_err(|e| named(&args.file, &e))?;
    let mut observer = Observer::new(args.rtpmap.iter().cloned().collect());
    let mut printer =
        Printer { json: args.json, out: BufWriter::new(std::io::stdout().lock()), waiting: BTreeMap::new(), next: 0, printed: 0 };
    let mut piece = vec![0; PIECE];
    loop {
        let n = file.read(&mut piece).map_err(|e| named(&args.file, &e))?;
        if n == 0 || observer.is_stopped() {
            break;
        }
        observer.push(piece.get(..n).unwrap_or_default());
        while let Some((place, call)) = observer.next_call() {
            printer.call(place, call).map_err(|e| e.to_string())?;
        }
    }
    let (report, rest) = observer.finish().map_err(|e| named(&args.file, &e))?;
    for (place, call) in rest {
        printer.call(place, call).map_err(|e| e.to_string())?;
    }
    printer.end(&report).map_err(|e| e.to_string())?;
    ended(&args.file, &report)
}

/// Octets of a file that are read at a time.
const PIECE: usize = 1 << 20;

/// Prints calls in the order of their INVITEs, as far as a bounded wait for those that last allows.
struct Printer<W: Write> {
    json: bool,
    out: W,
    waiting: BTreeMap<usize, Call>,
    next: usize,
    printed: usize,
}

/// Calls that are over and wait for an earlier one to end.
const WAITING_MAX: usize = 1000;

impl<W: Write> Printer<W> {
    fn call(&mut self, place: usize, call: Call) -> io::Result<()> {
        self.waiting.insert(place, call);
        while let Some(entry) = self.waiting.first_entry().filter(|e| *e.key() == self.next) {
            let call = entry.remove();
            self.print(&call)?;
            self.next += 1;
        }
        if self.waiting.len() > WAITING_MAX
            && let Some((place, call)) = self.waiting.pop_first()
        {
            // One that lasts on is printed when it ends.
            self.next = self.next.max(place + 1);
            self.print(&call)?;
        }
        Ok(())
    }

    fn print(&mut self, call: &Call) -> io::Result<()> {
        if self.json {
            self.out.write_all(if self.printed == 0 { b"{\"calls\": [\n" } else { b",\n" })?;
            serde_json::to_writer(&mut self.out, call)?;
        } else {
            one(&mut self.out, call)?;
        }
        self.printed += 1;
        Ok(())
    }

    fn end(mut self, report: &Report) -> io::Result<()> {
        while let Some((_, call)) = self.waiting.pop_first() {
            self.print(&call)?;
        }
        if self.json {
            let mut rest = serde_json::to_value(report)?;
            if let Some(rest) = rest.as_object_mut() {
                rest.remove("calls");
            }
            let rest = rest.to_string();
            self.out.write_all(if self.printed == 0 { b"{\"calls\": [" } else { b"\n" })?;
            writeln!(self.out, "],\n{}", rest.trim_start_matches('{'))?;
        } else {
            totals(&mut self.out, report, self.printed)?;
        }
        self.out.flush()
    }
}

/// Looks at the whole: plays it, compares it, draws it.
fn hold(args: &Args) -> Result<u8, String> {
    let file = fs::read(&args.file).map_err(|e| named(&args.file, &e))?;
    let rtpmap = args.rtpmap.iter().cloned().collect::<Rtpmap>();
    let stage = |config: &PathBuf| Config::load_without_secrets(config).map(|config| live::on_a_stage(&config)).map_err(|e| e.to_string());
    let report = match (&args.drive, &args.config) {
        (Some(config), _) => drive::drive(&file, &rtpmap, &stage(config)?),
        (None, Some(config)) => drive::masked(&file, &rtpmap, &stage(config)?),
        (None, None) => observe(&file, &rtpmap),
    };
    let report = report.map_err(|e| named(&args.file, &e))?;
    let json = serde_json::to_value(&report).map_err(|e| e.to_string())?;
    let differences = match &args.expect {
        Some(path) if args.bless => {
            let text = serde_json::to_string_pretty(&expect::bless(&json)).map_err(|e| e.to_string())?;
            fs::write(path, text + "\n").map_err(|e| named(path, &e))?;
            None
        }
        Some(path) => Some(differences(path, &json).map_err(|e| named(path, &e))?),
        None => None,
    };
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    if let Some(path) = &args.html {
        fs::write(path, page::page(&name, &report)).map_err(|e| named(path, &e))?;
    }
    if let Some(path) = &args.junit {
        let xml = verdict::junit(&name, &report, differences.as_deref()).map_err(|e| named(path, &e))?;
        fs::write(path, xml).map_err(|e| named(path, &e))?;
    }
    let mut out = std::io::stdout().lock();
    let printed = if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&json).unwrap_or_default())
    } else {
        report.calls.iter().try_for_each(|call| one(&mut out, call)).and_then(|()| totals(&mut out, &report, report.calls.len()))
    };
    printed.map_err(|e| e.to_string())?;
    for difference in differences.iter().flatten() {
        eprintln!("{difference}");
    }
    let status = ended(&args.file, &report)?;
    let broken = report.calls.iter().filter_map(|c| c.play.as_ref()).flat_map(|p| &p.rules).filter(|r| !r.ok);
    for rule in broken.clone() {
        eprintln!("{}: {}", rule.name, rule.detail);
    }
    let well = differences.is_none_or(|d| d.is_empty()) && broken.count() == 0;
    Ok(if well { status } else { FAILED })
}

/// An error where the file could be read no further.
fn ended(file: &Path, report: &Report) -> Result<u8, String> {
    match &report.stopped {
        Some(s) => Err(named(file, &format!("read no further than frame {}, octet {}: {}", s.frame, s.offset, s.why))),
        None => Ok(OK),
    }
}

fn differences(path: &Path, json: &Value) -> Result<Vec<Difference>, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{e}; write it with --bless"))?;
    let expected = expect::parse(&text).map_err(|e| format!("{e}; an expectation is a JSON object like the report"))?;
    Ok(expect::differences(&expected, json))
}

fn totals(out: &mut impl Write, report: &Report, calls: usize) -> io::Result<()> {
    for stream in &report.unassigned.streams {
        writeln!(out, "RTP of no call: {} to {}, {} packets", stream.from, stream.to, stream.packets)?;
    }
    writeln!(out, "{} frames, {} SIP messages, {calls} calls", report.frames, report.sip.messages)
}

fn one(out: &mut impl Write, call: &Call) -> io::Result<()> {
    writeln!(out, "{}  {}", call.invite_at, call.call_id)?;
    let codec = call.codec.as_deref().unwrap_or("no audio");
    writeln!(out, "  {} · {} · {codec}", call.outcome.map_or("open", Outcome::name), call.ended_as)?;
    ladder(out, &call.ladder)?;
    for digit in &call.digits {
        writeln!(
            out,
            "{:>9} ms  key {} by {}, {} ms",
            digit.at_ms,
            digit.digit.as_deref().unwrap_or("(masked)"),
            digit.leg.map_or("somebody", Leg::name),
            digit.duration_ms
        )?;
    }
    for span in &call.sounds {
        writeln!(out, "{:>9} ms  {} of {}, to {} ms", span.from_ms, span.kind, span.leg.name(), span.to_ms)?;
    }
    for stream in &call.streams {
        let codec = stream.codec.as_deref().unwrap_or("?");
        let Stream { from, to, packets, lost, jitter_ms, .. } = stream;
        writeln!(out, "  {from} to {to}: {codec}, {packets} packets, {lost} lost, jitter {jitter_ms} ms")?;
    }
    if let Some(play) = &call.play {
        writeln!(out, "  the gateway sent:")?;
        ladder(out, &play.sent)?;
        for event in &call.events {
            let at_ms = event.pointer("/data/at_ms").and_then(Value::as_i64).unwrap_or_default();
            writeln!(out, "{at_ms:>9} ms  {}", event.get("type").and_then(Value::as_str).unwrap_or_default())?;
        }
        for rule in &play.rules {
            writeln!(out, "  {} {}: {}", if rule.ok { "✓" } else { "✗" }, rule.name, rule.detail)?;
        }
    }
    writeln!(out)
}

fn ladder(out: &mut impl Write, steps: &[Step]) -> io::Result<()> {
    steps.iter().try_for_each(|step| {
        let again = if step.retransmission { " (again)" } else { "" };
        writeln!(out, "{:>9} ms  {:>21} → {:<21} {}{again}", step.at_ms, step.from.to_string(), step.to.to_string(), step.summary)
    })
}
