use proptest::prelude::*;

use super::*;
use crate::time::Wall;

fn entry(n: u32) -> Entry {
    Entry {
        kind: EntryKind::Event,
        time: Wall::from_millis(1_767_607_200_000 + i64::from(n)),
        id: format!("call/{n}"),
        key: "call".into(),
        body: format!("{{\"n\":{n}}}").into_bytes(),
    }
}

/// A segment of batches with so many entries each.
fn segment(number: u64, batches: &[u32]) -> (Vec<u8>, Vec<usize>) {
    let mut octets = write_header(number).to_vec();
    let mut ends = vec![octets.len()];
    for (batch, entries) in (1..).zip(batches) {
        let entries = (0..*entries).map(entry).collect::<Vec<_>>();
        encode_batch(&entries, batch, &mut octets);
        ends.push(octets.len());
    }
    (octets, ends)
}

fn end(octets: &[u8], last: bool) -> (End, u64) {
    let found = scan(7, octets, last, |_, _| {});
    (found.end, found.entries)
}

#[test]
fn what_was_written_is_read() {
    let (octets, _) = segment(7, &[2, 1, 3]);
    let mut read = Vec::new();
    let found = scan(7, &octets, true, |position, frame| read.push((position, frame.entry)));
    assert_eq!((found.end, found.entries), (End::Whole, 6));
    assert_eq!(found.last_time, Some(entry(2).time));
    assert_eq!(read[2].1, entry(0));
    let again = decode(&octets[read[2].0.offset as usize..]).expect("a frame at its position");
    assert!(again.ends_batch && again.batch == 2);
}

#[test]
fn a_tail_cut_anywhere_is_torn_and_nothing_before_it_is_lost() {
    let (octets, ends) = segment(7, &[2, 3]);
    for cut in ends[1]..octets.len() {
        let (end, entries) = end(&octets[..cut], true);
        assert!(entries >= 2, "cut at {cut}");
        if cut != ends[1] && cut < ends[2] {
            assert!(matches!(end, End::Torn { .. }) || entries > 2, "cut at {cut}: {end:?}");
        }
    }
    assert!(matches!(end(&octets[..10], true).0, End::Torn { offset: 0, .. }), "not even its header");
}

#[test]
fn a_hole_is_torn_in_the_last_batch_and_damage_in_an_earlier_one() {
    let (octets, ends) = segment(7, &[2, 3]);
    let hole = |from: usize| {
        let mut holed = octets.clone();
        holed[from..from + 4].fill(0xA5);
        end(&holed, true).0
    };
    assert!(matches!(hole(ends[1]), End::Torn { .. }), "first frame of the last batch, with good ones behind it");
    assert!(matches!(hole(ends[0]), End::Damaged { .. }), "first batch, with a later one behind it");
    let mut sealed = octets.clone();
    sealed.truncate(octets.len() - 1);
    assert!(matches!(end(&sealed, false).0, End::Damaged { .. }), "a segment with another behind it was whole");
}

#[test]
fn room_behind_the_last_frame_is_no_tear_and_only_the_last_segment_has_it() {
    let (mut octets, _) = segment(7, &[2, 3]);
    let whole = octets.len();
    octets.resize(whole + 5000, 0);
    let found = scan(7, &octets, true, |_, _| {});
    assert_eq!((found.end, found.entries, found.length, found.room), (End::Whole, 5, whole as u64, 5000));
    assert!(matches!(end(&octets, false).0, End::Damaged { .. }), "it is cut off before another segment is begun");
    octets[whole + 4000] = 1;
    assert!(matches!(end(&octets, true).0, End::Torn { .. }), "something was being written");
}

#[test]
fn what_a_later_version_wrote_is_not_torn() {
    let (mut octets, ends) = segment(7, &[2, 3]);
    octets[ends[1]] = 2;
    for last in [true, false] {
        assert_eq!(end(&octets, last), (End::Later { offset: ends[1] as u64, version: 2 }, 2));
    }
}

#[test]
fn another_segments_content_is_damage() {
    let (octets, _) = segment(8, &[1]);
    assert!(matches!(end(&octets, true).0, End::Damaged { offset: 0, .. }));
}

#[test]
fn a_position_reads_back() {
    let position = Position { segment: 3, offset: 4096 };
    assert_eq!(position.to_string().parse(), Ok(position));
    assert!("3".parse::<Position>().is_err());
}

proptest! {
    /// Sectors reach the disk in any order, so that of the last batch, which was written over zeros, any of them may be missing.
    #[test]
    fn a_batch_of_which_sectors_are_missing_takes_nothing_with_it(
        last in 1_u32..40, missing in prop::collection::vec(any::<bool>(), 20), room in 0_usize..3000,
    ) {
        let (mut octets, ends) = segment(7, &[2, 3, last]);
        octets.resize(octets.len() + room, 0);
        for at in ends[2]..ends[3] {
            if missing[at / 512 % missing.len()] {
                octets[at] = 0;
            }
        }
        let mut read = 0;
        let found = scan(7, &octets, true, |_, _| read += 1);
        prop_assert!(!matches!(found.end, End::Damaged { .. }), "{:?}", found.end);
        prop_assert!(found.entries >= 5 && found.entries == read);
        // What is cut off then leaves a whole segment.
        let end_of_file = if let End::Torn { offset, .. } = found.end { offset as usize } else { octets.len() - found.room as usize };
        prop_assert_eq!(end(&octets[..end_of_file], false), (End::Whole, read));
    }

    #[test]
    fn any_entry_reads_back(
        code in 1_u8..20, time in any::<i64>(), id in ".{0,40}", key in "[a-z0-9-]{0,40}", body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let entry = Entry { kind: EntryKind::from_code(code), time: Wall::from_micros(time), id, key, body };
        let mut octets = Vec::new();
        encode_batch(std::slice::from_ref(&entry), 9, &mut octets);
        let read = decode(&octets).expect("a frame");
        prop_assert_eq!((read.entry, read.batch, read.ends_batch, read.length), (entry, 9, true, octets.len()));
    }

    #[test]
    fn one_octet_changed_is_seen(at in 0..100_usize, bit in 0..8_u32) {
        let (octets, ends) = segment(7, &[1]);
        let mut changed = octets.clone();
        let at = ends[0] + at % (octets.len() - ends[0]);
        changed[at] ^= 1 << bit;
        let refused = match end(&changed, true) {
            // What a later version wrote is whole for all that this one knows.
            (End::Later { .. }, 0) => at == ends[0],
            (end, entries) => matches!(end, End::Torn { .. }) && entries == 0,
        };
        prop_assert!(refused);
    }

    #[test]
    fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&octets);
        let _ = scan(7, &octets, true, |_, _| {});
        let mut headed = write_header(7).to_vec();
        headed.extend_from_slice(&octets);
        let _ = scan(7, &headed, true, |_, _| {});
    }
}
