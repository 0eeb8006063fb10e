//! What we make of RFC 4475 and RFC 5118, message by message. A change of any verdict shows here.

use std::{fs, path::Path};

use super::Message;

/// Our verdict on a datagram: `accept`, the status of the answer, or `drop`.
fn verdict(octets: &[u8]) -> String {
    match Message::parse(octets) {
        Ok(_) => "accept".into(),
        Err(fault) if fault.request.is_some() => fault.error.status.to_string(),
        Err(_) => "drop".into(),
    }
}

/// Whether ours is what the RFC asks for.
fn agrees(ours: &str, parse: &str) -> bool {
    match parse {
        "accept" => ours == "accept",
        "drop" => ours == "drop",
        // A message that names no way to be answered may be dropped.
        "reject" => ours != "accept",
        "either" => true,
        other => panic!("verdicts.tsv says {other}"),
    }
}

/// Each file with our verdict, and the files whose verdict is not the RFC's.
fn table(folder: &str, ending: &str, parse_column: usize) -> (Vec<(String, String)>, Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures").join(folder);
    let verdicts = fs::read_to_string(folder.join("verdicts.tsv")).expect("verdicts.tsv");
    let (mut all, mut other) = (Vec::new(), Vec::new());
    for line in verdicts.lines().skip(1) {
        let columns: Vec<_> = line.split('\t').collect();
        let octets = fs::read(folder.join(format!("{}{ending}", columns[0]))).expect(columns[0]);
        let ours = verdict(&octets);
        if !agrees(&ours, columns[parse_column]) {
            other.push(format!("{}: {ours}, not {} ({})", columns[0], columns[parse_column], columns[parse_column + 1]));
        }
        all.push((columns[0].to_owned(), ours));
    }
    (all, other)
}

#[test]
fn rfc_4475() {
    let (all, other) = table("rfc4475", "", 4);
    assert_eq!(all.len(), 49);
    assert_eq!(other, [""; 0]);
}

#[test]
fn rfc_5118() {
    let (all, other) = table("rfc5118", ".sip", 3);
    assert_eq!(all.len(), 12);
    assert_eq!(other, [""; 0]);
}

#[test]
fn a_stream_of_others_is_read_message_by_message() {
    let stream = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/rfc3665/generic.txt")).expect("the stream");
    let mut framer = super::framing::Framer::default();
    framer.push(&stream);
    let (mut read, mut refused) = (0, Vec::new());
    while let Some(frame) = framer.next_frame().expect("frames") {
        let super::framing::Frame::Message(octets) = frame else { continue };
        match Message::parse(&octets) {
            Ok(_) => read += 1,
            Err(fault) => refused.push(fault.error.why),
        }
    }
    // Eleven of them were printed without their Via.
    assert_eq!((read, refused.len()), (216, 11));
    assert!(refused.iter().all(|why| why.starts_with("no Via")), "{refused:?}");
}
