use proptest::{collection::vec, prelude::*};

use super::*;
use crate::time::Wall;

/// What a disk, or somebody at a keyboard, does to a file.
#[derive(Clone, Debug)]
enum Harm {
    Flip(usize, u8),
    Overwrite(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Truncate(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let octets = || vec(prop_oneof![Just(0), Just(1), any::<u8>()], 1..40);
    prop_oneof![
        (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        (any::<usize>(), octets()).prop_map(|(at, octets)| Harm::Overwrite(at, octets)),
        (any::<usize>(), octets()).prop_map(|(at, octets)| Harm::Insert(at, octets)),
        (any::<usize>(), 1_usize..400).prop_map(|(at, length)| Harm::Remove(at, length)),
        any::<usize>().prop_map(Harm::Truncate),
    ]
}

/// Octets that still know where in the segment they stood.
type Traced = Vec<(u8, Option<usize>)>;

fn suffer(segment: &mut Traced, harm: Harm) {
    let length = segment.len();
    let place = |at: usize| at % (length + 1);
    match harm {
        Harm::Flip(at, bits) => {
            if let Some(octet) = segment.get_mut(place(at)) {
                *octet = (octet.0 ^ bits, None);
            }
        }
        Harm::Overwrite(at, octets) => segment[place(at)..].iter_mut().zip(octets).for_each(|(old, new)| *old = (new, None)),
        Harm::Insert(at, octets) => {
            segment.splice(place(at)..place(at), octets.into_iter().map(|o| (o, None)));
        }
        Harm::Remove(at, count) => {
            segment.drain(place(at)..place(at).saturating_add(count).min(length));
        }
        Harm::Truncate(at) => segment.truncate(place(at)),
    }
}

fn entries() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    let body = prop_oneof![4 => vec(any::<u8>(), 0..60), 1 => vec(any::<u8>(), 300..700)];
    let entry = (1_u8..8, any::<i64>(), "[a-z0-9/]{0,12}", "[a-z0-9-]{0,12}", body).prop_map(|(code, time, id, key, body)| Entry {
        kind: EntryKind::from_code(code),
        time: Wall::from_micros(time),
        id,
        key,
        body,
    });
    vec(vec(entry, 1..4), 1..6)
}

/// A segment, and where each of its entries stands.
fn written(batches: &[Vec<Entry>]) -> (Vec<u8>, Vec<(std::ops::Range<usize>, Entry)>) {
    let mut octets = write_header(7).to_vec();
    let mut places = Vec::new();
    for (batch, entries) in (1..).zip(batches) {
        let begins = encode_batch(entries, batch, &mut octets);
        let ends = begins.iter().skip(1).copied().chain([octets.len()]);
        places.extend(begins.iter().zip(ends).map(|(from, to)| *from..to).zip(entries.iter().cloned()));
    }
    (octets, places)
}

fn pieces(octets: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    salvage(octets, |piece| pieces.push(piece));
    pieces
}

fn span(piece: &Piece) -> (usize, usize) {
    match piece {
        Piece::Entry { offset, frame } => (*offset, offset + frame.length),
        Piece::Skeleton { offset, to, .. } => (*offset, *to),
        Piece::Lost { from, to, .. } => (*from, *to),
    }
}

proptest! {
    #[test]
    fn what_the_damage_did_not_touch_is_recovered_and_nothing_is_invented(batches in entries(), harms in vec(harm(), 0..5)) {
        let (octets, places) = written(&batches);
        let mut traced = octets.iter().copied().zip((0..).map(Some)).collect::<Traced>();
        harms.into_iter().for_each(|harm| suffer(&mut traced, harm));
        let damaged = traced.iter().map(|(octet, _)| *octet).collect::<Vec<_>>();
        let found = pieces(&damaged);

        // Whatever lies there as it was written, in one piece, is found where it lies.
        for (range, entry) in &places {
            let Some(at) = traced.iter().position(|(_, from)| *from == Some(range.start)) else { continue };
            let untouched = range.clone().zip(at..).all(|(from, at)| traced.get(at).is_some_and(|(_, f)| *f == Some(from)));
            if untouched {
                let here = |piece: &&Piece| matches!(piece, Piece::Entry { offset, frame } if *offset == at && frame.entry == *entry);
                prop_assert_eq!(found.iter().filter(here).count(), 1, "{} at {}", entry.id, at);
            }
        }
        // What is found was written, whole or as far as it is said to be, in this order and no more often.
        let mut left = places.iter();
        for piece in &found {
            let known = match piece {
                Piece::Entry { frame, .. } => left.any(|(_, entry)| *entry == frame.entry),
                Piece::Skeleton { skeleton: s, .. } => {
                    left.any(|(_, e)| (e.kind, e.time, &e.id, &e.key) == (s.kind, s.time, &s.id, &s.key))
                }
                Piece::Lost { .. } => true,
            };
            prop_assert!(known, "{piece:?} was never written");
        }
        // No octet behind the header is passed over in silence.
        let mut at = if read_header(&damaged).is_some() { HEADER_BYTES } else { 0 };
        for piece in &found {
            let (from, to) = span(piece);
            prop_assert!(from == at && to > from, "{piece:?} at {at}");
            at = to;
        }
        prop_assert!(damaged.iter().skip(at.max(HEADER_BYTES)).all(|octet| *octet == 0), "room at the end is nothing lost");
    }

    #[test]
    fn of_a_whole_segment_it_is_the_entries(batches in entries(), room in 0_usize..2000) {
        let (mut octets, places) = written(&batches);
        octets.resize(octets.len() + room, 0);
        let mut scanned = Vec::new();
        scan(7, &octets, true, |position, frame| scanned.push(Piece::Entry { offset: position.offset as usize, frame }));
        prop_assert_eq!(scanned.len(), places.len());
        prop_assert_eq!(pieces(&octets), scanned);
    }

    #[test]
    fn no_octets_panic_the_search(octets in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..300)) {
        pieces(&octets);
    }
}

#[test]
fn a_damaged_body_leaves_its_skeleton() {
    let entry = |id: &str| Entry {
        kind: EntryKind::Webhook,
        time: Wall::from_millis(5),
        id: id.into(),
        key: "call".into(),
        body: br#"{"score":1}"#.to_vec(),
    };
    let (mut octets, places) = written(&[vec![entry("a")], vec![entry("b")]]);
    let end = places[0].0.end;
    octets[end - 2] ^= 8;
    let found = pieces(&octets);
    let [Piece::Skeleton { offset: 20, skeleton, to, why: Fault::Body }, Piece::Entry { frame, .. }] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((skeleton.kind, skeleton.id.as_str(), *to), (EntryKind::Webhook, "a", end));
    assert_eq!(frame.entry, entry("b"));
    use sha2::Digest;
    assert_eq!(skeleton.body_sha256.as_slice(), sha2::Sha256::digest(br#"{"score":1}"#).as_slice());
}

#[test]
fn a_frame_that_comes_early_is_found_wherever_octets_are_missing() {
    let entry =
        |id: &str| Entry { kind: EntryKind::Event, time: Wall::from_millis(5), id: id.into(), key: "call".into(), body: vec![b'x'; 30] };
    let (octets, places) = written(&[vec![entry("a")], vec![entry("b")]]);
    let next = places[1].0.start;
    for from in places[0].0.clone() {
        let damaged = [&octets[..from], &octets[next..]].concat();
        let ids = pieces(&damaged).into_iter().filter_map(|p| if let Piece::Entry { frame, .. } = p { Some(frame.entry.id) } else { None });
        assert_eq!(ids.collect::<Vec<_>>(), ["b"], "octets {from} to {next} are missing");
    }
}
