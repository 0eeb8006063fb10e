//! Signalling: an INVITE read and written, and a call's transactions through two endpoints.
//! `cargo bench --bench sip`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::net::SocketAddr;

use divan::{Bencher, black_box, counter::ItemsCount};
use offhook::{
    chance::Chance,
    sip::{
        endpoint::{Destination, Endpoint, Event, Transmit, Transport},
        message::{Message, Method, Request},
        uri::Uri,
    },
    time::Instant,
};

fn main() {
    divan::main();
}

/// An INVITE as a carrier sends it, 1.3 kB.
const INVITE: &[u8] = b"INVITE sip:+493023125201@203.0.113.7:5060;transport=udp SIP/2.0\r\n\
Via: SIP/2.0/UDP 198.51.100.4:5060;branch=z9hG4bK-524287-1---3f9d2c7a51e0;rport\r\n\
Via: SIP/2.0/UDP 192.0.2.17:5060;received=192.0.2.17;branch=z9hG4bK0a1b2c3d4e5f\r\n\
Record-Route: <sip:198.51.100.4;lr;ftag=as4b2f7c19>\r\n\
Max-Forwards: 68\r\n\
From: \"+493023125101\" <sip:+493023125101@carrier.example.net;user=phone>;tag=as4b2f7c19\r\n\
To: <sip:+493023125201@203.0.113.7;user=phone>\r\n\
Contact: <sip:+493023125101@192.0.2.17:5060;transport=udp>\r\n\
Call-ID: 7d1f3b0c55a9e2461f8c3d0a7b9e4f21@192.0.2.17\r\n\
CSeq: 102 INVITE\r\n\
User-Agent: carrier-sbc/7.4.2\r\n\
P-Asserted-Identity: <sip:+493023125101@carrier.example.net>\r\n\
Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH, MESSAGE, UPDATE, PRACK\r\n\
Supported: replaces, timer, 100rel\r\n\
Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 317\r\n\r\n\
v=0\r\no=carrier 1893744412 1893744412 IN IP4 192.0.2.17\r\ns=carrier-sbc\r\nc=IN IP4 192.0.2.17\r\nt=0 0\r\n\
m=audio 17418 RTP/AVP 8 0 9 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:9 G722/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=silenceSupp:off - - - -\r\na=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\n";

#[divan::bench]
fn parse_an_invite(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1_u32)).bench(|| Message::parse(black_box(INVITE)).expect("an INVITE"));
}

#[divan::bench]
fn parse_an_invite_and_read_what_a_call_needs(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1_u32)).bench(|| {
        let Ok(Message::Request(invite)) = Message::parse(black_box(INVITE)) else { panic!("an INVITE") };
        black_box((
            invite.via().is_ok(),
            invite.from().is_ok(),
            invite.to().is_ok(),
            invite.contact().is_some(),
            invite.cseq().is_ok(),
            invite.call_id().len(),
        ));
    });
}

#[divan::bench]
fn serialise_an_invite(bencher: Bencher<'_, '_>) {
    let invite = Message::parse(INVITE).expect("an INVITE");
    bencher.counter(ItemsCount::new(1_u32)).bench(|| black_box(&invite).to_bytes());
}

const A: &str = "127.0.0.1:5060";
const B: &str = "127.0.0.1:5080";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Hands over what each wants sent until neither wants anything, and answers every request with 200.
fn settle(now: Instant, a: &mut Endpoint, b: &mut Endpoint) -> u32 {
    let mut answered = 0;
    loop {
        let mut moved = false;
        while let Some(Transmit::Datagram { bytes, .. }) = a.poll_transmit() {
            b.handle_datagram(now, 0, address(A), &bytes);
            moved = true;
        }
        while let Some(event) = b.poll_event() {
            if let Event::Request { server, request, .. } = event {
                b.respond(now, server, request.response(200, None, Some("b")));
            }
            moved = true;
        }
        while let Some(Transmit::Datagram { bytes, .. }) = b.poll_transmit() {
            a.handle_datagram(now, 0, address(B), &bytes);
            moved = true;
        }
        while let Some(event) = a.poll_event() {
            answered += u32::from(matches!(event, Event::Response { .. }));
            moved = true;
        }
        if !moved {
            return answered;
        }
    }
}

/// OPTIONS to and fro: parse, two transactions, four messages.
#[divan::bench]
fn a_transaction_at_both_ends(bencher: Bencher<'_, '_>) {
    let (mut a, mut b) = (Endpoint::new(Chance::from_seed(1)), Endpoint::new(Chance::from_seed(2)));
    let destination = Destination { transport: Transport::Udp, remote: address(B), listener: 0, sent_by: A.into() };
    let mut now = Instant::from_millis(0);
    let mut number = 0_u64;
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        number += 1;
        // A millisecond a call, so that old transactions end as they do in operation.
        now = Instant::from_millis(number);
        let mut request = Request::new(Method::OPTIONS, Uri::sip("b", "127.0.0.1", Some(5080)));
        request.headers.push("From", "<sip:a@127.0.0.1>;tag=a");
        request.headers.push("To", "<sip:b@127.0.0.1>");
        request.headers.push("Call-ID", format!("{number}@a"));
        request.headers.push("CSeq", "1 OPTIONS");
        request.headers.push("Max-Forwards", "70");
        a.request(now, request, destination.clone());
        let answered = settle(now, &mut a, &mut b);
        assert_eq!(answered, 1);
        a.handle_timeout(now);
        b.handle_timeout(now);
    });
}
