//! Captures of other people's phones, with the figures that tshark found in them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::*;

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/captures");
    if !folder.is_dir() {
        eprintln!("{} is not there: the captures of other phones are left out", folder.display());
        return None;
    }
    Some(folder)
}

/// A tab-separated table: a row by its column names.
fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).expect("a table");
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().expect("a head").split('\t').map(str::to_owned).collect();
    lines.map(|line| names.iter().cloned().zip(line.split('\t').map(str::to_owned)).collect()).collect()
}

fn counts<K: std::fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    counts.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn messages_dialogs_and_keys_are_those_that_tshark_counts() {
    let Some(folder) = folder() else { return };
    for row in table(&folder.join("sip-figures.tsv")) {
        let name = &row["capture"];
        let report = observe(&std::fs::read(folder.join(name)).expect("a capture"), &Rtpmap::new()).expect("a capture");
        assert!(report.stopped.is_none(), "{name}: {:?}", report.stopped);
        let found = [
            ("frames", report.frames.to_string()),
            ("SIP messages", report.sip.messages.to_string()),
            ("requests", counts(&report.sip.requests)),
            ("responses", counts(&report.sip.responses)),
            ("Call-IDs", report.sip.call_ids.to_string()),
            ("INVITE dialogs", report.sip.invite_dialogs.to_string()),
            ("answered", report.sip.answered.to_string()),
            ("transports", counts(&report.sip.transports)),
            ("RTCP packets", report.rtcp.to_string()),
        ];
        for (column, value) in found {
            let wanted = if row[column] == "-" { "" } else { row[column].as_str() };
            assert_eq!(value, wanted, "{name}: {column}");
        }
        let keys = |method| {
            let digits = report.calls.iter().flat_map(|c| &c.digits).chain(&report.unassigned.digits).filter(|d| d.method == method);
            digits.filter_map(|d| d.digit.as_deref()).collect::<String>()
        };
        let wanted = row["INFO DTMF"].replace('-', "");
        assert_eq!(keys(DtmfMethod::Info), wanted, "{name}: keys by INFO");
        let wanted: String = row["RFC 4733 digits"].split(' ').filter_map(|d| d.split(':').nth(1)).collect();
        assert_eq!(keys(DtmfMethod::Rfc4733), wanted, "{name}: keys by RFC 4733");
    }
}

#[test]
fn streams_carry_what_tshark_found_in_them() {
    let Some(folder) = folder() else { return };
    let mut compared = 0;
    for row in table(&folder.join("rtp-streams.tsv")) {
        let name = &row["capture"];
        let report = observe(&std::fs::read(folder.join(name)).expect("a capture"), &Rtpmap::new()).expect("a capture");
        let all = report.calls.iter().flat_map(|c| &c.streams).chain(&report.unassigned.streams);
        let found = all.into_iter().find(|s| {
            s.from.to_string() == row["source"]
                && s.to.to_string() == row["destination"]
                && s.ssrc == row["SSRC"]
                && s.pt.to_string() == row["payload type"]
        });
        let stream = found.unwrap_or_else(|| panic!("{name}: no stream {row:?}"));
        let figures = [
            ("packets", stream.packets.to_string()),
            ("first seq", stream.first_seq.to_string()),
            ("last seq", stream.last_seq.to_string()),
            ("payload octets", stream.octets.to_string()),
            ("SHA-256 of the payloads in capture order", stream.captured_sha256.clone()),
        ];
        for (column, value) in figures {
            assert_eq!(value, row[column], "{name}: {column} of {} {}", stream.ssrc, stream.pt);
        }
        let audio = &row["SHA-256 decoded to 16-bit little-endian PCM"];
        if audio != "-" {
            assert_eq!(stream.audio_sha256.as_deref(), Some(audio.as_str()), "{name}: audio of {} {}", stream.ssrc, stream.pt);
        }
        compared += 1;
    }
    assert!(compared > 10, "{compared} streams");
}

#[test]
fn nonsense_is_refused_and_a_torn_file_is_read_as_far_as_it_goes() {
    assert!(observe(b"GIF89a", &Rtpmap::new()).is_err());
    let speech = include_bytes!("../../../pcap/speech-caller-order.pcap");
    let torn = observe(speech.get(..speech.len() - 10).expect("long enough"), &Rtpmap::new()).expect("a capture");
    assert!(torn.stopped.is_some());
    let stream = torn.unassigned.streams.first().expect("a stream");
    assert_eq!((stream.codec.as_deref(), stream.lost, stream.leg), (Some("PCMA"), 0, None));
}
