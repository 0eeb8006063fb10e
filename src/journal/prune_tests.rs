use proptest::{collection::vec, prelude::*};

use super::*;
use crate::time::Wall;

fn entries() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    let entry = (1_u8..11, any::<i64>(), "[a-z/]{0,9}", vec(any::<u8>(), 0..200)).prop_map(|(code, time, id, body)| Entry {
        kind: EntryKind::from_code(code),
        time: Wall::from_micros(time),
        id,
        key: "call".into(),
        body,
    });
    vec(vec(entry, 1..4), 1..6)
}

fn segment(batches: &[Vec<Entry>]) -> Vec<u8> {
    let mut octets = write_header(7).to_vec();
    for (batch, entries) in (1..).zip(batches) {
        encode_batch(entries, batch, &mut octets);
    }
    octets
}

fn scanned(octets: &[u8]) -> (End, Vec<(Position, Entry)>, u64) {
    let mut read = Vec::new();
    let found = scan(7, octets, false, |position, frame| read.push((position, frame.entry)));
    (found.end, read, found.length)
}

proptest! {
    #[test]
    fn entries_stand_where_they_stood_and_what_is_left_is_read(
        batches in entries(), rounds in vec(vec(prop::option::of(vec(any::<u8>(), 0..300)), 20), 1..3),
    ) {
        let octets = segment(&batches);
        let (_, mut wanted, length) = scanned(&octets);
        let mut left = octets;
        for round in rounds {
            let (before, mut which) = (wanted.clone(), round.into_iter());
            let mut asked = Vec::new();
            let done = prune(7, &left, |position, entry| {
                asked.push((position, entry.clone()));
                let left = which.next().flatten();
                if let (Some(left), Some((_, entry))) = (&left, wanted.get_mut(asked.len() - 1)) {
                    entry.body.clone_from(left);
                }
                Ok::<_, ()>(left)
            });
            prop_assert_eq!(asked, before);
            if let Ok(Pruned::Anew(octets)) = done {
                left = octets;
            }
        }
        prop_assert_eq!(scanned(&left), (End::Whole, wanted.clone(), length));
        let mut salvaged = Vec::new();
        salvage(&left, |piece| if let Piece::Entry { frame, .. } = piece { salvaged.push(frame.entry) });
        prop_assert_eq!(salvaged, wanted.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>());
    }

    #[test]
    fn one_octet_changed_in_a_pruned_segment_is_seen(batches in entries(), at in any::<usize>(), bit in 0_u32..8) {
        let octets = segment(&batches);
        let Ok(Pruned::Anew(mut left)) = prune(7, &octets, |_, _| Ok::<_, ()>(Some(b"left".to_vec()))) else { panic!("nothing is left") };
        let at = HEADER_BYTES + at % (left.len() - HEADER_BYTES);
        left[at] ^= 1 << bit;
        let scan = matches!(scanned(&left).0, End::Damaged { .. } | End::Later { .. });
        let again = matches!(prune(7, &left, |_, _| Ok::<_, ()>(None)), Ok(Pruned::Damaged { .. }));
        prop_assert!(scan && again);
        salvage(&left, |_| {});
    }
}

#[test]
fn nothing_tells_what_was_taken_away() {
    let entry = |body: &[u8]| Entry {
        kind: EntryKind::Event,
        time: Wall::from_millis(5),
        id: "call/1".into(),
        key: "call".into(),
        body: body.to_vec(),
    };
    let left = |body: &[u8]| match prune(7, &segment(&[vec![entry(body)]]), |_, _| Ok::<_, ()>(Some(Vec::new()))) {
        Ok(Pruned::Anew(octets)) => octets,
        other => panic!("{other:?}"),
    };
    assert_eq!(left(b"{\"digits\":\"4711\"}"), left(b"{\"digits\":\"4712\"}"), "not even by a hash");
    assert_eq!(prune(7, &left(b"x"), |_, _| Ok::<_, ()>(None)), Ok(Pruned::Same));
}
