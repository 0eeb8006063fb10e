//! A datagram from anybody as RTCP: refused, or packets that fill it without a gap, each read by itself as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::rtp::rtcp;

fuzz_target!(|datagram: &[u8]| {
    if let Ok(packets) = rtcp::parse(datagram) {
        let mut at = 0;
        for packet in &packets {
            assert_eq!(packet.place.start, at);
            at = packet.place.end;
            let alone = rtcp::parse(&datagram[packet.place.clone()]).expect("a packet is a compound of one");
            assert_eq!((alone.len(), alone[0].kind, alone[0].count), (1, packet.kind, packet.count));
        }
        assert_eq!(at, datagram.len());
    }
});
