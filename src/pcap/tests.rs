use proptest::prelude::*;

use super::*;
use crate::time::Wall;

/// A classic capture of one UDP datagram in an Ethernet frame.
fn capture(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    let udp = u8::try_from(8 + payload.len()).expect("short");
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0, 0, 20 + udp, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x13, 0xc4, 0x13, 0xc5, 0, udp, 0, 0]);
    frame.extend(payload);
    // Padding of the link that is no part of the packet.
    frame.extend([0xee; 6]);
    let length = u32::try_from(frame.len()).expect("short").to_le_bytes();
    file.extend(100_u32.to_le_bytes());
    file.extend(250_u32.to_le_bytes());
    file.extend(length);
    file.extend(length);
    file.extend(frame);
    file
}

#[test]
fn a_datagram_is_found_in_its_frame() {
    let file = capture(b"hello");
    let mut reader = Reader::default();
    reader.push(&file);
    reader.end();
    let frame = reader.next_frame().expect("a frame").expect("whole");
    assert_eq!((frame.number, frame.at.as_micros()), (1, 100_000_250));
    let found = Datagrams::default().packet(&frame).expect("a packet");
    assert_eq!((found.from, found.to), ("10.0.0.1:5060".parse().expect("x"), "10.0.0.2:5061".parse().expect("x")));
    assert_eq!((found.transport, &*found.payload), (Transport::Udp, b"hello".as_slice()));
}

#[test]
fn a_file_that_ends_early_says_where() {
    let file = capture(b"hello");
    let cut = &file[..file.len() - 3];
    let stopped = |octets: &[u8]| {
        let mut reader = Reader::default();
        reader.push(octets);
        assert!(octets == b"GIF89a" || reader.next_frame().is_none(), "the rest may still come");
        reader.end();
        reader.next_frame().expect("something").expect_err("cut")
    };
    assert_eq!((stopped(cut).frame, stopped(cut).offset), (0, 24));
    assert_eq!(stopped(b"GIF89a").offset, 0);
}

/// A frame: its number, time and octets.
type Read = (u64, Wall, Vec<u8>);

/// Everything that a file gives when it comes in pieces.
fn frames(file: &[u8], piece: usize) -> (Vec<Read>, Option<Stopped>) {
    let (mut reader, mut datagrams, mut frames) = (Reader::default(), Datagrams::default(), Vec::new());
    for octets in file.chunks(piece).map(Some).chain([None]) {
        match octets {
            Some(octets) => reader.push(octets),
            None => reader.end(),
        }
        while let Some(frame) = reader.next_frame() {
            match frame {
                Ok(frame) => {
                    let _ = datagrams.packet(&frame);
                    frames.push((frame.number, frame.at, frame.bytes.to_vec()));
                }
                Err(stopped) => return (frames, Some(stopped)),
            }
        }
    }
    (frames, None)
}

/// An IPv4 fragment in an Ethernet frame.
fn fragment(id: u16, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    let length = u16::try_from(20 + payload.len()).expect("short");
    let field = u16::try_from(offset / 8).expect("small") | if more { 0x2000 } else { 0 };
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend(field.to_be_bytes());
    frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(payload);
    frame
}

/// A block of a pcapng file.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + body.len().next_multiple_of(4)).expect("short").to_le_bytes();
    let mut block = [kind.to_le_bytes(), length].concat();
    block.extend(body);
    block.resize(block.len().next_multiple_of(4), 0);
    block.extend(length);
    block
}

#[test]
fn each_kind_of_packet_block_is_a_frame() {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
    let section = block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
    let interface = block(1, &words(&[1, 0]));
    let enhanced = block(6, &[words(&[0, 0, 1_000_000, 5, 5]), b"first".to_vec()].concat());
    let obsolete = block(2, &[words(&[0x0007_0000, 0, 2_000_000, 6, 6]), b"second".to_vec()].concat());
    let simple = block(3, &[words(&[5]), b"third".to_vec()].concat());
    let (found, stopped) = frames(&[section, interface, enhanced, obsolete, simple].concat(), 7);
    assert_eq!(stopped, None);
    let found = found.iter().map(|(n, at, octets)| (*n, at.as_micros(), octets.as_slice())).collect::<Vec<_>>();
    assert_eq!(found, [(1, 1_000_000, b"first".as_slice()), (2, 2_000_000, b"second"), (3, 2_000_000, b"third")]);
}

#[test]
fn vlan_tags_and_pppoe_lie_before_the_packet() {
    let plain = capture(b"hello");
    let ip = &plain[24 + 16 + 14..];
    let found = |head: &[u8]| {
        let bytes = [&[0; 12], head, ip].concat();
        let packet = Datagrams::default().packet(&Frame { number: 1, at: Wall::from_micros(0), link: 1, bytes: &bytes });
        packet.map(|p| p.payload.into_owned())
    };
    assert_eq!(found(&[0x81, 0, 0, 5, 8, 0]), Ok(b"hello".to_vec()), "802.1Q");
    assert_eq!(found(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]), Ok(b"hello".to_vec()), "802.1ad");
    assert_eq!(found(&[0x91, 0, 0, 5, 0x81, 0, 0, 6, 8, 0]), Ok(b"hello".to_vec()), "QinQ of old");
    assert_eq!(found(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 40, 0, 0x21]), Ok(b"hello".to_vec()), "PPPoE");
    assert_eq!(found(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 40, 0xc0, 0x21]), Err("PPP without IP"), "LCP");
}

#[test]
fn fragments_come_together_in_any_order() {
    let mut datagram = vec![0x13, 0xc4, 0x13, 0xc5, 0, 48, 0, 0];
    datagram.extend((0..40).collect::<Vec<u8>>());
    let parts = [(0, true), (16, true), (32, false)].map(|(at, more)| fragment(7, at, more, &datagram[at..(at + 16).min(48)]));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut datagrams = Datagrams::default();
        let mut last = Err("none");
        for (n, place) in order.into_iter().enumerate() {
            let frame = Frame { number: n as u64, at: Wall::from_micros(0), link: 1, bytes: &parts[place] };
            last = datagrams.packet(&frame).map(|p| p.payload.into_owned());
            assert!(n == 2 || last == Err("a fragment"));
        }
        assert_eq!(last, Ok(datagram[8..].to_vec()), "{order:?}");
    }
}

proptest! {
    #[test]
    fn nothing_in_a_file_is_trusted(mut file in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..60, ng in any::<bool>(), piece in 1_usize..40) {
        if ng {
            file.splice(0..0, [0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 28, 0, 0, 0]);
        } else {
            let mut whole = capture(b"hello");
            if let Some(octet) = whole.get_mut(24 + at) { *octet = file.first().copied().unwrap_or(0); }
            whole.extend(file);
            file = whole;
        }
        // In pieces of any size the same frames come out.
        prop_assert_eq!(frames(&file, file.len().max(1)), frames(&file, piece));
    }
}
