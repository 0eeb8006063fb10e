//! `offhook replay`: what a capture holds, what the gateway makes of it, and whether that is as it should be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::Value;

use super::{FAILED, OK, WRONG_USE};
use crate::{
    config::Config,
    driver::{
        live,
        replay::{
            Call, Report, Rtpmap, drive,
            expect::{self, Difference},
            observe, page, verdict,
        },
    },
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
    rtpmap: Vec<(u8, String)>,
    /// Play the capture against the gateway with this configuration.
    #[arg(long, value_name = "CONFIG")]
    drive: Option<PathBuf>,
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

fn rtpmap(text: &str) -> Result<(u8, String), String> {
    let (number, name) = text.split_once('=').ok_or("expected PT=NAME, such as 101=telephone-event/8000")?;
    let number = number.parse().ok().filter(|n| *n < 128).ok_or("a payload type is a number from 0 to 127")?;
    Ok((number, name.split('/').next().unwrap_or(name).to_owned()))
}

/// Reads, plays, compares and tells.
pub fn run(args: Args) -> ExitCode {
    match replay(&args) {
        Ok(status) => status.into(),
        Err(why) => {
            eprintln!("offhook replay: {why}");
            WRONG_USE.into()
        }
    }
}

fn replay(args: &Args) -> Result<u8, String> {
    let named = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let file = fs::read(&args.file).map_err(|e| named(&args.file, &e))?;
    let rtpmap = args.rtpmap.iter().cloned().collect::<Rtpmap>();
    let report = match &args.drive {
        Some(config) => {
            let config = Config::load_without_secrets(config).map_err(|e| e.to_string())?;
            drive::drive(&file, &rtpmap, &live::on_a_stage(&config))
        }
        None => observe(&file, &rtpmap),
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
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json).unwrap_or_default());
    } else {
        people(&report);
    }
    for difference in differences.iter().flatten() {
        eprintln!("{difference}");
    }
    if let Some(stopped) = &report.stopped {
        return Err(named(&args.file, &format!("read no further than frame {}, octet {}: {}", stopped.frame, stopped.offset, stopped.why)));
    }
    let broken = report.calls.iter().filter_map(|c| c.play.as_ref()).flat_map(|p| &p.rules).filter(|r| !r.ok);
    for rule in broken.clone() {
        eprintln!("{}: {}", rule.name, rule.detail);
    }
    let well = differences.is_none_or(|d| d.is_empty()) && broken.count() == 0;
    Ok(if well { OK } else { FAILED })
}

fn differences(path: &Path, json: &Value) -> Result<Vec<Difference>, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{e}; write it with --bless"))?;
    let expected = expect::parse(&text).map_err(|e| format!("{e}; an expectation is a JSON object like the report"))?;
    Ok(expect::differences(&expected, json))
}

fn people(report: &Report) {
    println!("{} frames, {} SIP messages, {} calls", report.frames, report.sip.messages, report.calls.len());
    for call in &report.calls {
        one(call);
    }
    for stream in &report.unassigned.streams {
        println!("\nRTP of no call: {} to {}, {} packets", stream.from, stream.to, stream.packets);
    }
}

fn one(call: &Call) {
    println!("\n{}  {}", call.invite_at, call.call_id);
    let codec = call.codec.as_deref().unwrap_or("no audio");
    println!("  {} · {} · {codec}", call.outcome.unwrap_or("open"), call.ended_as);
    ladder(&call.ladder);
    for digit in &call.digits {
        println!("{:>9} ms  key {} by {}, {} ms", digit.at_ms, digit.digit, digit.leg.unwrap_or("somebody"), digit.duration_ms);
    }
    for stream in &call.streams {
        let codec = stream.codec.as_deref().unwrap_or("?");
        println!(
            "  {} to {}: {codec}, {} packets, {} lost, jitter {} ms",
            stream.from, stream.to, stream.packets, stream.lost, stream.jitter_ms
        );
    }
    if let Some(play) = &call.play {
        println!("  the gateway sent:");
        ladder(&play.sent);
        for event in &call.events {
            let at_ms = event.pointer("/data/at_ms").and_then(Value::as_i64).unwrap_or_default();
            println!("{at_ms:>9} ms  {}", event.get("type").and_then(Value::as_str).unwrap_or_default());
        }
        for rule in &play.rules {
            println!("  {} {}: {}", if rule.ok { "✓" } else { "✗" }, rule.name, rule.detail);
        }
    }
}

fn ladder(steps: &[crate::driver::replay::Step]) {
    for step in steps {
        let again = if step.retransmission { " (again)" } else { "" };
        println!("{:>9} ms  {:>21} → {:<21} {}{again}", step.at_ms, step.from.to_string(), step.to.to_string(), step.summary);
    }
}
