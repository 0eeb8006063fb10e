use std::{
    fs,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use super::{writer::ROOM_MIN, *};
use crate::{
    journal::{ENTRY_BYTES_MAX, Entry, EntryKind, HEADER_BYTES},
    shell::files::tests::Scratch,
};

fn entry(n: usize) -> Entry {
    Entry { kind: EntryKind::Event, time: Wall::from_millis(1000), id: n.to_string(), key: "call".into(), body: vec![b'x'; 300] }
}

type Notices = Arc<Mutex<Vec<Notice>>>;

fn open(scratch: &Scratch, from: Position) -> (Journal, Recovery, Notices) {
    let notices = Notices::default();
    let seen = notices.clone();
    let notify = Box::new(move |notice| seen.lock().expect("unpoisoned").push(notice));
    let options = Options { directory: scratch.0.clone(), from, start_after_damage: true, notify };
    let (journal, recovery) = Journal::open(options).expect("opened");
    (journal, recovery, notices)
}

/// Why it is not opened.
fn refused(scratch: &Scratch, start_after_damage: bool) -> Option<Error> {
    let options = Options { directory: scratch.0.clone(), from: Position::default(), start_after_damage, notify: Box::new(|_| {}) };
    Journal::open(options).err()
}

/// Appends so many and waits for the last.
fn append(lane: &Lane, numbers: std::ops::Range<usize>) -> Vec<Result<Position, String>> {
    let (done, answers) = mpsc::channel();
    let mut refused = 0;
    for n in numbers.clone() {
        let done = done.clone();
        if lane.append(entry(n), move |result| done.send(result).expect("waited for")).is_err() {
            refused += 1;
        }
    }
    (0..numbers.len() - refused).map(|_| answers.recv_timeout(Duration::from_secs(20)).expect("an answer")).collect()
}

fn all(tail: &mut Tail) -> Vec<usize> {
    let mut read = Vec::new();
    while let Some(batch) = tail.next_batch(7).expect("readable") {
        read.extend(batch.entries.iter().map(|(_, e)| e.id.parse::<usize>().expect("a number")));
    }
    read
}

#[test]
fn what_was_acknowledged_is_read_in_order_and_across_restarts() {
    let scratch = Scratch::new("journal");
    let (journal, recovery, _) = open(&scratch, Position::default());
    assert_eq!(recovery, Recovery::default());
    let positions = append(&journal.lane(100), 0..50);
    assert!(positions.iter().all(Result::is_ok));
    assert_eq!((journal.appends(), all(&mut journal.tail(Position::default()))), (50, (0..50).collect::<Vec<_>>()));
    drop(journal);

    let (journal, recovery, _) = open(&scratch, Position::default());
    assert_eq!((recovery.entries, recovery.last_time, recovery.torn), (50, Some(Wall::from_millis(1000)), None));
    let mut tail = journal.tail(positions[48].clone().expect("a position"));
    assert_eq!(all(&mut tail), [48, 49]);
    append(&journal.lane(100), 50..60);
    assert_eq!(all(&mut tail), (50..60).collect::<Vec<_>>(), "the tail goes on in the new segment");
    assert_eq!(tail.position(), journal.watermark());
}

#[test]
fn what_was_queued_when_it_closed_is_not_written_behind_what_was_refused_before_it() {
    let scratch = Scratch::new("queued");
    let (journal, ..) = open(&scratch, Position::default());
    // More than a batch; the disk works again as soon as the first entry of the first batch is refused.
    let (lane, count) = (journal.lane(2000), 2 * writer::BATCH_ENTRIES_MAX);
    journal.fail_sync(true);
    let (done, answers) = mpsc::channel();
    for n in 0..count {
        let (done, shared) = (done.clone(), journal.shared.clone());
        let answer = move |result: Result<_, String>| {
            shared.fail_sync.store(false, Ordering::Relaxed);
            done.send(result.is_ok()).expect("waited for");
        };
        lane.append_or_tell(entry(n), answer);
    }
    assert!((0..count).all(|_| !answers.recv_timeout(Duration::from_secs(20)).expect("an answer")));
}

#[test]
fn a_lane_holds_so_many_and_no_more() {
    let scratch = Scratch::new("lane");
    let (journal, ..) = open(&scratch, Position::default());
    let lane = journal.lane(2);
    let (hold, held) = mpsc::channel::<()>();
    // The writer is held up in the first entry's callback.
    let (reached, there) = mpsc::channel();
    let wait = move |_| {
        reached.send(()).expect("waited for");
        let _ = held.recv_timeout(Duration::from_secs(20));
    };
    journal.lane(1).append(entry(0), wait).expect("taken");
    there.recv_timeout(Duration::from_secs(20)).expect("the writer is there");
    assert!(lane.append(entry(1), |_| {}).is_ok());
    assert!(lane.append(entry(2), |_| {}).is_ok());
    assert_eq!(lane.append(entry(3), |_| {}), Err(Refused::Full(2)));
    assert!(journal.lane(1).append(entry(4), |_| {}).is_ok(), "another lane has room of its own");
    drop(hold);
    journal.close();
    assert_eq!(lane.waiting(), 0, "written at the end");
}

#[test]
fn a_torn_tail_is_cut_off_and_reported() {
    let scratch = Scratch::new("torn");
    let (journal, ..) = open(&scratch, Position::default());
    append(&journal.lane(100), 0..5);
    let end = journal.watermark();
    drop(journal);
    let segment = path(&scratch.0, end.segment);
    let mut octets = fs::read(&segment).expect("read");
    octets.extend_from_slice(&[1, 1, 1, 0, 9, 9]);
    fs::write(&segment, octets).expect("written");
    let (journal, recovery, _) = open(&scratch, Position::default());
    assert_eq!(recovery.torn, Some(Torn { position: end, octets: 6 }));
    assert_eq!(all(&mut journal.tail(Position::default())), [0, 1, 2, 3, 4]);
    assert!(verify(&scratch.0).expect("verified").iter().all(|v| v.end == End::Whole));
}

/// What a crash leaves of the segments: a copy, while they are written to.
fn crashed(scratch: &Scratch, journal: &Journal) -> PathBuf {
    let (of, copy) = (journal.watermark().segment, Scratch::new("crashed"));
    fs::copy(path(&scratch.0, of), path(&copy.0, of)).expect("copied");
    let directory = copy.0.clone();
    std::mem::forget(copy);
    directory
}

#[test]
fn room_is_written_ahead_and_gone_once_the_journal_is_closed_or_has_crashed() {
    let scratch = Scratch::new("room-ahead");
    let (journal, ..) = open(&scratch, Position::default());
    append(&journal.lane(100), 0..5);
    let end = journal.watermark();
    let octets = |directory: &Path| fs::metadata(path(directory, end.segment)).expect("there").len();
    assert!(octets(&scratch.0) >= end.offset + ROOM_MIN, "the next batch makes no file longer");
    let crashed = Scratch(crashed(&scratch, &journal));
    // Whoever reads beside the writer, or after it died, sees no room.
    for directory in [&scratch.0, &crashed.0] {
        assert_eq!(all(&mut read(directory, Position::default())), [0, 1, 2, 3, 4]);
        let verified = verify(directory).expect("read");
        assert_eq!(verified, [Verified { segment: end.segment, entries: 5, octets: end.offset, end: End::Whole }]);
    }
    let entries: Vec<_> = (0..2).map(entry).collect();
    assert!(matches!(keep_salvaged(&crashed.0.join("x.damaged"), &crashed.0, &entries), Err(NotKept::NotClosed(_))));

    let (again, recovery, _) = open(&crashed, Position::default());
    assert_eq!(recovery, Recovery { entries: 5, last_time: Some(Wall::from_millis(1000)), ..Recovery::default() });
    assert_eq!(octets(&crashed.0), end.offset, "cut off at the next start");
    append(&again.lane(100), 5..6);
    assert_eq!(all(&mut again.tail(Position::default())), [0, 1, 2, 3, 4, 5]);
    drop(journal);
    assert_eq!(octets(&scratch.0), end.offset, "cut off at the end");
}

/// Pages of a batch that is being written are seen one by one by whoever reads the file beside the writer.
#[test]
fn whoever_reads_beside_the_writer_sees_no_damage_in_a_batch_that_is_half_there() {
    let scratch = Scratch::new("half-there");
    let (journal, ..) = open(&scratch, Position::default());
    let lane = journal.lane(100);
    append(&lane, 0..5);
    append(&lane, 5..6);
    let crashed = Scratch(crashed(&scratch, &journal));
    let (segment, end) = (path(&crashed.0, journal.watermark().segment), usize::try_from(journal.watermark().offset).expect("fits"));
    let whole = fs::read(&segment).expect("read");
    for hole in [end - 1..end, end - 200..end - 100] {
        let mut half = whole.clone();
        half[hole].fill(0);
        fs::write(&segment, &half).expect("written");
        assert_eq!(all(&mut read(&crashed.0, Position::default())), [0, 1, 2, 3, 4]);
    }
    // Where a batch stands behind it, it is damage, and said to be.
    let mut damaged = whole;
    damaged[HEADER_BYTES + 200] ^= 1;
    fs::write(&segment, &damaged).expect("written");
    assert!(matches!(read(&crashed.0, Position::default()).next_batch(7), Err(Damaged::Content { .. })));
}

#[test]
fn a_segment_with_another_behind_it_has_no_room() {
    let scratch = Scratch::new("room-behind");
    let (journal, ..) = open(&scratch, Position::default());
    let lane = journal.lane(100);
    // One at a time, each with room made for it, into a second segment.
    let long = || Entry { body: vec![b'x'; ENTRY_BYTES_MAX - 1000], ..entry(0) };
    let (done, synced) = mpsc::channel();
    let mut count = 0;
    while journal.watermark().segment == 1 {
        let done = done.clone();
        lane.append(long(), move |result| done.send(result.is_ok()).expect("waited for")).expect("taken");
        assert!(synced.recv_timeout(Duration::from_secs(20)).expect("an answer"));
        count += 1;
    }
    assert!(verify(&scratch.0).expect("read").iter().all(|segment| segment.end == End::Whole));
    assert_eq!(all(&mut journal.tail(Position::default())).len(), count);
    drop(journal);
    let (_, recovery, _) = open(&scratch, Position::default());
    assert_eq!((recovery.entries, recovery.set_aside.len()), (count as u64, 0));
}

#[test]
fn a_damaged_segment_is_set_aside_and_its_number_not_used_again() {
    let scratch = Scratch::new("damage");
    let (journal, ..) = open(&scratch, Position::default());
    let lane = journal.lane(100);
    append(&lane, 0..3);
    append(&lane, 3..5);
    let damaged = journal.watermark().segment;
    drop(journal);
    let segment = path(&scratch.0, damaged);
    let mut octets = fs::read(&segment).expect("read");
    octets[100] ^= 0xFF;
    fs::write(&segment, octets).expect("written");
    assert!(matches!(refused(&scratch, false), Some(Error::Damaged { .. })));
    let (journal, recovery, _) = open(&scratch, Position::default());
    assert_eq!(recovery.set_aside.len(), 1);
    assert!(journal.watermark().segment > damaged);
    append(&journal.lane(100), 5..6);
    assert_eq!(all(&mut journal.tail(Position::default())), [5]);
    drop(journal);
    let (journal, ..) = open(&scratch, Position { segment: 900, offset: 20 });
    assert!(journal.watermark().segment > 900, "above the store's position");
}

#[test]
fn a_segment_of_a_later_version_is_left_alone() {
    let scratch = Scratch::new("later");
    let (journal, ..) = open(&scratch, Position::default());
    let positions = append(&journal.lane(100), 0..3);
    let at = positions[0].clone().expect("a position");
    drop(journal);
    let segment = path(&scratch.0, at.segment);
    let mut octets = fs::read(&segment).expect("read");
    octets[usize::try_from(at.offset).expect("fits")] = 2;
    fs::write(&segment, &octets).expect("written");
    for start_after_damage in [true, false] {
        assert!(matches!(refused(&scratch, start_after_damage), Some(Error::Later { version: 2, .. })));
    }
    assert_eq!(fs::read(&segment).expect("read"), octets);
}

#[test]
fn a_segment_that_cannot_be_begun_leaves_nothing_behind() {
    let scratch = Scratch::new("headless");
    assert!(writer::Segment::begin_with(&scratch.0, 3, |_| Err(io::Error::other("the disk is full"))).is_err());
    assert!(segments(&scratch.0, SEGMENT).expect("listed").is_empty(), "a segment without a header is damage");
    assert!(writer::Segment::begin(&scratch.0, 3).is_ok());
}

/// A journal with entries 0 to 4, of which 1 was damaged and its segment set aside, and 5 behind it. Returns the file that was set aside.
fn set_aside(scratch: &Scratch) -> PathBuf {
    let (journal, ..) = open(scratch, Position::default());
    let lane = journal.lane(100);
    let from = append(&lane, 0..3)[1].clone().expect("a position");
    append(&lane, 3..5);
    drop(journal);
    let segment = path(&scratch.0, from.segment);
    let mut octets = fs::read(&segment).expect("read");
    octets[usize::try_from(from.offset).expect("fits") + 30] ^= 0xFF;
    fs::write(&segment, octets).expect("written");
    let (journal, recovery, _) = open(scratch, Position::default());
    append(&journal.lane(100), 5..6);
    recovery.set_aside[0].0.clone()
}

fn recovered(file: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    crate::journal::salvage(&fs::read(file).expect("read"), |piece| {
        if let crate::journal::Piece::Entry { frame, .. } = piece {
            entries.push(frame.entry);
        }
    });
    entries
}

#[test]
fn what_was_recovered_is_read_behind_all_the_rest_and_the_next_segment_begins_above_it() {
    let scratch = Scratch::new("salvaged");
    let damaged = set_aside(&scratch);
    let kept = keep_salvaged(&damaged, &scratch.0, &recovered(&damaged)).expect("written");
    let (journal, recovery, _) = open(&scratch, Position::default());
    assert_eq!((recovery.entries, recovery.set_aside), (5, Vec::new()));
    assert_eq!(all(&mut journal.tail(Position::default())), [5, 0, 2, 3, 4]);
    assert!(path(&scratch.0, journal.watermark().segment) > kept);
}

#[test]
fn what_was_recovered_goes_nowhere_that_it_would_harm() {
    let scratch = Scratch::new("unsalvaged");
    let journal = scratch.0.join("journal");
    fs::create_dir(&journal).expect("made");
    let inner = Scratch(journal.clone());
    let damaged = set_aside(&inner);
    let entries = recovered(&damaged);
    assert!(matches!(keep_salvaged(&damaged, &journal, &[]), Err(NotKept::Nothing)));

    let held = crate::shell::files::lock(&scratch.0).expect("the gateway's");
    assert!(matches!(keep_salvaged(&damaged, &journal, &entries), Err(NotKept::File(_))), "a gateway is running");
    drop(held);

    let Err(NotKept::Name(_, named)) = keep_salvaged(&damaged, &path(&journal, 2), &entries) else { panic!("a number in use") };
    let last = segments(&journal, SEGMENT).expect("listed").pop().expect("one");
    let mut octets = fs::read(path(&journal, last)).expect("read");
    octets.extend_from_slice(&[1, 1, 1, 0, 9, 9]);
    fs::write(path(&journal, last), &octets).expect("written");
    assert!(matches!(keep_salvaged(&damaged, &named, &entries), Err(NotKept::NotClosed(_))), "the torn tail would be damage");
    octets.truncate(octets.len() - 6);
    fs::write(path(&journal, last), &octets).expect("written");
    assert_eq!(keep_salvaged(&damaged, &named, &entries).expect("written"), named);
}

/// However entries come, in one batch or in several: what an erasure takes away stands in segments that nobody writes to.
#[test]
fn an_erasure_begins_a_segment_unless_there_are_only_erasures_before_it() {
    let scratch = Scratch::new("erasure");
    let (journal, ..) = open(&scratch, Position::default());
    let lane = journal.lane(100);
    let (done, answers) = mpsc::channel();
    let kinds = "eeEEeeEeEE";
    for (n, kind) in kinds.chars().enumerate() {
        let (done, kind) = (done.clone(), if kind == 'E' { EntryKind::Erasure } else { EntryKind::Event });
        lane.append(Entry { kind, ..entry(n) }, move |result| done.send(result).expect("waited for")).expect("taken");
    }
    let at: Vec<_> = kinds.chars().map(|_| answers.recv().expect("an answer").expect("written")).collect();
    assert_eq!(at.iter().map(|at| at.segment).collect::<Vec<_>>(), [1, 1, 2, 2, 2, 2, 3, 3, 4, 4]);
    assert_eq!(all(&mut journal.tail(Position::default())), (0..10).collect::<Vec<_>>());
    let closed = journal.pruner().closed(4).expect("listed");
    assert_eq!(closed, [1, 2, 3], "none of them is written to");
    journal.close();
    assert!(verify(&scratch.0).expect("read").iter().all(|segment| segment.end == End::Whole));
}

#[test]
fn a_failed_sync_closes_the_journal_until_a_new_segment_can_be_written() {
    let scratch = Scratch::new("sync");
    let (journal, _, notices) = open(&scratch, Position::default());
    let lane = journal.lane(100);
    append(&lane, 0..2);
    journal.fail_sync(true);
    assert!(append(&lane, 2..4).iter().all(Result::is_err));
    assert!(journal.closed().is_some());
    assert!(matches!(lane.append(entry(9), |_| {}), Err(Refused::Closed(_))));
    journal.fail_sync(false);
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while journal.closed().is_some() {
        assert!(std::time::Instant::now() < until, "it opens again");
        std::thread::sleep(Duration::from_millis(20));
    }
    append(&lane, 4..6);
    assert_eq!(all(&mut journal.tail(Position::default())), [0, 1, 4, 5], "what was refused is not there");
    let words = notices.lock().expect("unpoisoned").iter().filter(|n| !matches!(n, Notice::Durable(_))).cloned().collect::<Vec<_>>();
    assert!(matches!(words.as_slice(), [Notice::Closed(_), Notice::Opened]), "{words:?}");
    drop(journal);
    let (_, recovery, _) = open(&scratch, Position::default());
    assert_eq!((recovery.entries, recovery.set_aside), (4, Vec::new()));
}

#[test]
fn a_pruned_segment_is_read_by_the_same_positions() {
    let scratch = Scratch::new("pruned");
    let (journal, ..) = open(&scratch, Position::default());
    let positions: Vec<_> = append(&journal.lane(100), 0..50).into_iter().map(|p| p.expect("taken")).collect();
    let mut before = journal.tail(positions[10]);
    assert_eq!(before.next_batch(1).expect("read").map(|b| b.entries.len()), Some(1));
    drop(journal);
    let (journal, ..) = open(&scratch, Position::default());
    append(&journal.lane(100), 50..51);
    let pruner = journal.pruner();
    assert_eq!((pruner.closed(9).expect("read"), pruner.closed(1).expect("read")), (vec![1], vec![]), "nobody writes to it");
    assert_eq!(pruner.begun(1).expect("read"), Some(Wall::from_millis(1000)));
    let left = |_: Position, entry: &Entry| Ok::<_, ()>((entry.id.parse::<usize>() != Ok(20)).then(|| b"left".to_vec()));
    let octets = || fs::metadata(path(&scratch.0, 1)).expect("there").len();
    let whole = octets();
    assert_eq!(pruner.prune(1, left).expect("written"), Some(whole - octets()));
    assert!(octets() < 50 * 200);
    assert_eq!(pruner.prune(1, |_, _| Ok::<_, ()>(None)).expect("read"), None);
    for (n, position) in positions.iter().enumerate() {
        let mut tail = journal.tail(*position);
        let batch = tail.next_batch(2).expect("read").expect("entries");
        assert_eq!((batch.entries[0].0, &batch.entries[0].1.id), (*position, &n.to_string()));
        assert_eq!(batch.entries[0].1.body.len(), if n == 20 { 300 } else { 4 });
        assert_eq!(all(&mut tail).last(), Some(&50), "and on, into the next segment");
    }
    assert_eq!(all(&mut before).last(), Some(&49), "who had it open reads it on");
    drop(journal);
    fs::write(scratch.0.join("0000000001.seg.new"), b"half").expect("written");
    let (journal, recovery, _) = open(&scratch, positions[30]);
    assert_eq!((recovery.entries, recovery.set_aside.len()), (51, 0));
    assert!(!scratch.0.join("0000000001.seg.new").exists());
    assert_eq!(all(&mut journal.tail(positions[30])), (30..51).collect::<Vec<_>>());
    assert!(verify(&scratch.0).expect("read").iter().all(|segment| segment.end == End::Whole));
}
