//! Arrows point down the floor plan, and the core knows no socket, file, clock or task.
//!
//! Read as text: whatever follows `#[cfg(test)]` in a file is left out, since a test may stand above the room it tests.

#![allow(clippy::expect_used)] // a test that cannot read the tree has failed

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Each room and the rooms that it may name. A room that is not here does not exist.
const ROOMS: &[(&str, &[&str])] = &[
    // Ground.
    ("time", &[]),
    ("chance", &["time"]),
    ("event", &["time"]),
    ("codec", &[]),
    ("detect", &["codec", "time"]),
    ("dtmf", &["event", "time"]),
    ("pcap", &["time"]),
    // Protocols, and the plan of whom to try next.
    ("rtp", &["time"]),
    ("sip", &["chance", "time"]),
    ("sdp", &["codec", "event"]),
    ("route", &["codec", "event", "time"]),
    // Machines and their parts.
    ("recording", &["codec", "event", "time"]),
    ("media", &["chance", "codec", "detect", "dtmf", "event", "rtp", "time"]),
    ("journal", &["time"]),
    ("crm", &["chance", "event", "time"]),
    ("pipeline", &["chance", "crm", "event", "journal", "time"]),
    ("call", &["chance", "codec", "dtmf", "event", "media", "route", "rtp", "sdp", "sip", "time"]),
    ("gateway", &["call", "chance", "codec", "dtmf", "event", "media", "route", "rtp", "sdp", "sip", "time"]),
    // The exceptions: effects, cranks, and what composes them.
    ("shell", &["chance", "codec", "crm", "event", "gateway", "journal", "media", "pipeline", "recording", "rtp", "sip", "time"]),
    ("config", &["codec", "crm", "event", "gateway", "journal", "media", "pipeline", "recording", "route", "sdp", "shell", "sip", "time"]),
    ("driver", &["*"]),
    ("cli", &["*"]),
];

/// Rooms that may have side effects.
const SHELLS: &[&str] = &["shell", "driver", "config", "cli"];

/// Words that stand for a side effect, with what to use instead.
const EFFECTS: &[(&str, &str)] = &[
    ("tokio::", "a shell or driver awaits; the core is handed values"),
    ("std::fs", "bytes are arguments; shell/disk and shell/recorder own files"),
    ("std::thread", "threads belong to shell and driver"),
    ("UdpSocket", "sockets belong to shell"),
    ("TcpStream", "sockets belong to shell"),
    ("SystemTime", "time is an argument: time::Now"),
    ("std::time::Instant", "time is an argument: time::Instant"),
    ("Instant::now", "time is an argument: time::Now"),
    ("HashMap", "its order changes from run to run: BTreeMap"),
    ("HashSet", "its order changes from run to run: BTreeSet"),
    ("getrandom", "chance is an argument: chance::Chance"),
    ("println!", "only cli and driver print"),
];

fn rust_files(below: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).expect("a folder of the source tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Each file below `src/` with its room, and its text without comments and tests.
fn house() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files
        .into_iter()
        .filter_map(|path| {
            let inside = path.strip_prefix(&src).expect("below src");
            let room = inside.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a source file");
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
            (!matches!(room.as_str(), "lib" | "main") && !is_test_file(&path)).then_some((room, path, code))
        })
        .collect()
}

/// A file that holds only tests, declared by its parent behind `#[cfg(test)]`.
fn is_test_file(path: &Path) -> bool {
    path.iter().any(|part| part == "tests") || path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

/// The rooms that `code` names through `crate::`.
fn named_rooms(code: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            // `use crate::{a::B, c}`: the first word after the brace and after each comma at depth one.
            Some(list) => {
                let mut depth = 1_u32;
                rooms.push(word(list));
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => rooms.push(word(&list[at + 1..])),
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            None => rooms.push(word(after)),
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn arrows_point_down_the_floor_plan() {
    let plan: BTreeMap<_, _> = ROOMS.iter().copied().collect();
    let mut faults = Vec::new();
    for (room, path, code) in house() {
        let Some(may) = plan.get(room.as_str()) else {
            faults.push(format!("{}: the room `{room}` is not in the floor plan", path.display()));
            continue;
        };
        for named in named_rooms(&code) {
            if named != room && !may.contains(&named.as_str()) && !may.contains(&"*") {
                faults.push(format!("{}: `{room}` may not name `{named}`", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "arrows that point up:\n{}", faults.join("\n"));
}

#[test]
fn the_core_has_no_side_effect() {
    let mut faults = Vec::new();
    for (room, path, code) in house().into_iter().filter(|(room, ..)| !SHELLS.contains(&room.as_str())) {
        for (word, instead) in EFFECTS {
            if let Some(at) = code.lines().position(|line| line.contains(word)) {
                faults.push(format!("{}:{}: `{room}` names {word}: {instead}", path.display(), at + 1));
            }
        }
    }
    assert!(faults.is_empty(), "side effects in the core:\n{}", faults.join("\n"));
}

#[test]
fn one_outside_crate_has_one_room() {
    let rooms = [("rsip", "sip/"), ("rusqlite", "shell/store"), ("nom", "sdp/"), ("webrtc_util", "rtp/")];
    let mut faults = Vec::new();
    for (room, path, code) in house() {
        for (name, home) in rooms {
            let named = code.contains(&format!("{name}::")) || code.contains(&format!("use {name}"));
            if named && !path.to_string_lossy().replace('\\', "/").contains(home) {
                faults.push(format!("{}: `{room}` names {name}, which lives in {home}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "crates outside their room:\n{}", faults.join("\n"));
}

#[test]
fn the_arrow_reader_reads_both_forms() {
    assert_eq!(named_rooms("use crate::{sip::{Uri, message}, time}; crate::media::X"), ["sip", "time", "media"]);
}
