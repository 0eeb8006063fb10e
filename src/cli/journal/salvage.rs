//! `offhook journal salvage`: what a damaged segment still holds, and what it has lost.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use super::{
    super::{FAILED, OK, WRONG_USE},
    line, text,
};
use crate::{
    journal::{Entry, Piece, Position, Skeleton, read_header, salvage},
    shell::disk,
};

/// Arguments of `offhook journal salvage`.
#[derive(Debug, clap::Args)]
pub(super) struct Salvage {
    /// The damaged segment, most often one that was set aside: NUMBER.damaged.
    #[arg(value_name = "SEGMENT-FILE")]
    segment: PathBuf,
    /// Write the whole entries to a new segment there: the journal's directory, where the next start takes them in, or another one.
    /// The gateway must be stopped. What it had taken in already is not taken twice.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A JSON object a line: an entry as `export` prints it, or what is `lost`; the last line is the `summary`.
    #[arg(long)]
    json: bool,
}

/// What was found, counted.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<Entry>,
    skeletons: usize,
    gaps: usize,
    octets_lost: usize,
}

pub(super) fn run(args: &Salvage) -> ExitCode {
    let octets = match fs::read(&args.segment) {
        Ok(octets) => octets,
        Err(error) => {
            eprintln!("{}: {error}; name a file of the journal, such as 0000000003.damaged", args.segment.display());
            return WRONG_USE.into();
        }
    };
    let segment = read_header(&octets).or_else(|| number(&args.segment)).unwrap_or(0);
    let mut found = Found::default();
    // What was pruned takes fewer octets than positions count.
    let mut gone = 0_usize;
    let mut out = io::BufWriter::new(io::stdout().lock());
    salvage(&octets, |piece| {
        let shown = if args.json { as_json(segment, gone, &piece).to_string() } else { as_text(segment, gone, &piece) };
        if let Piece::Entry { frame, .. } = &piece {
            gone = gone.saturating_add(frame.stood).saturating_sub(frame.length);
        }
        // Who reads may have seen enough; what is to be written is gathered all the same.
        let _ = writeln!(out, "{shown}");
        found.count(piece);
    });
    let kept = args.out.as_ref().map(|to| disk::keep_salvaged(&args.segment, to, &found.entries));
    let written = kept.as_ref().and_then(|k| k.as_ref().ok());
    let _ = writeln!(out, "{}", if args.json { found.summary(written).to_string() } else { found.sentence(written) });
    let _ = out.flush();
    if let Some(Err(error)) = kept {
        eprintln!("{error}");
        return WRONG_USE.into();
    }
    if found.skeletons + found.gaps == 0 { OK.into() } else { FAILED.into() }
}

/// The number in a segment's name.
fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Where a piece stands, before which so many octets have gone.
fn at(segment: u64, gone: usize, offset: usize) -> Position {
    Position { segment, offset: u64::try_from(offset.saturating_add(gone)).unwrap_or(u64::MAX) }
}

fn as_json(segment: u64, gone: usize, piece: &Piece) -> Value {
    match piece {
        Piece::Entry { offset, frame } => line(at(segment, gone, *offset), &frame.entry),
        Piece::Skeleton { offset, skeleton, to, why } => {
            let Skeleton { kind, time, id, key, body_sha256, .. } = skeleton;
            let call = (!key.is_empty()).then_some(key);
            let lost = json!({"from": offset, "to": to, "why": why.to_string(), "body_sha256": hex::encode(body_sha256)});
            json!({"position": at(segment, gone, *offset).to_string(), "time": time, "kind": kind.name(), "call_id": call, "id": id, "lost": lost})
        }
        Piece::Lost { from, to, why } => {
            let why = why.as_ref().map_or_else(|| NO_HEADER.to_owned(), ToString::to_string);
            json!({"position": at(segment, gone, *from).to_string(), "lost": {"from": from, "to": to, "why": why}})
        }
    }
}

fn as_text(segment: u64, gone: usize, piece: &Piece) -> String {
    match piece {
        Piece::Entry { offset, frame } => text(at(segment, gone, *offset), &frame.entry),
        Piece::Skeleton { offset, skeleton, to, why } => {
            let Skeleton { kind, time, id, key, .. } = skeleton;
            let position = at(segment, gone, *offset);
            format!("{position:<14} {time} {:<8} {key} {id} BODY LOST, octets {offset} to {to}: {why}", kind.name())
        }
        Piece::Lost { from, to, why } => {
            let why = why.as_ref().map_or_else(|| NO_HEADER.to_owned(), ToString::to_string);
            format!("{:<14} LOST, octets {from} to {to}: {why}", at(segment, gone, *from))
        }
    }
}

impl Found {
    fn count(&mut self, piece: Piece) {
        match piece {
            Piece::Entry { frame, .. } => self.entries.push(frame.entry),
            Piece::Skeleton { offset, skeleton, to, .. } => {
                self.skeletons += 1;
                self.octets_lost += to.saturating_sub(offset.saturating_add(skeleton.body.start));
            }
            Piece::Lost { from, to, .. } => {
                self.gaps += 1;
                self.octets_lost += to.saturating_sub(from);
            }
        }
    }

    fn summary(&self, written: Option<&PathBuf>) -> Value {
        let (entries, skeletons, gaps) = (self.entries.len(), self.skeletons, self.gaps);
        json!({"summary": {"entries": entries, "skeletons": skeletons, "gaps": gaps, "octets_lost": self.octets_lost, "written": written}})
    }

    fn sentence(&self, written: Option<&PathBuf>) -> String {
        let Self { entries, skeletons, gaps, octets_lost } = self;
        let entries = entries.len();
        let kept = written.map(|path| format!(" The whole entries stand in {} too.", path.display())).unwrap_or_default();
        format!("{entries} entries whole, {skeletons} without their body, {gaps} gaps; {octets_lost} octets lost.{kept}")
    }
}

const NO_HEADER: &str = "the segment's header is damaged";
