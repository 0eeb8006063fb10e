//! `offhook replay`: what a capture holds, without answering any of it.

use std::{path::PathBuf, process::ExitCode};

use super::{OK, WRONG_USE};
use crate::driver::replay::{Call, Report, Rtpmap, observe};

/// Read a capture (pcap or pcapng) and tell its calls: ladders, codecs, keys, RTP streams.
///
/// Prints what the file holds, keys of cards too, since a file tells of no secure phase. Exit status 2 where it can be read no further.
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
}

fn rtpmap(text: &str) -> Result<(u8, String), String> {
    let (number, name) = text.split_once('=').ok_or("expected PT=NAME, such as 101=telephone-event/8000")?;
    let number = number.parse().ok().filter(|n| *n < 128).ok_or("a payload type is a number from 0 to 127")?;
    Ok((number, name.split('/').next().unwrap_or(name).to_owned()))
}

/// Reads and tells.
pub fn run(args: Args) -> ExitCode {
    let fail = |why: String| {
        eprintln!("offhook replay: {}: {why}", args.file.display());
        ExitCode::from(WRONG_USE)
    };
    let file = match std::fs::read(&args.file) {
        Ok(file) => file,
        Err(why) => return fail(why.to_string()),
    };
    let report = match observe(&file, &args.rtpmap.iter().cloned().collect::<Rtpmap>()) {
        Ok(report) => report,
        Err(why) => return fail(why.to_string()),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        people(&report);
    }
    match &report.stopped {
        Some(stopped) => fail(format!("read no further than frame {}, octet {}: {}", stopped.frame, stopped.offset, stopped.why)),
        None => ExitCode::from(OK),
    }
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
    for step in &call.ladder {
        let again = if step.retransmission { " (again)" } else { "" };
        println!("{:>9} ms  {:>21} → {:<21} {}{again}", step.at_ms, step.from.to_string(), step.to.to_string(), step.summary);
    }
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
}
