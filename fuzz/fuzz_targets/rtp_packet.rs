//! A datagram on a port of ours: read or refused, never a panic. What is read agrees with another reader wherever that one may be asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook::{
    dtmf::event,
    rtp::{self, Header},
};

fuzz_target!(|octets: &[u8]| {
    let Ok(header) = Header::parse(octets) else { return };
    let mut again = octets.to_vec();
    rtp::write(&mut again, octets[0], header.marker, header.payload_type, header.sequence, header.timestamp, header.ssrc);
    assert_eq!(again, octets);
    let payload = &octets[header.payload];
    if let Some(event) = event::Payload::parse(payload) {
        assert_eq!(event::Payload::parse(&event.emit()), Some(event));
    }
});
