//! A phone's audio: one RTP socket that sends a packet every 20 ms for as long as the call stands, and keeps all that it hears.

use std::{
    collections::VecDeque,
    f32::consts::TAU,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    chance::Chance,
    codec::{Codec, Encoder},
    rtp::Packet,
};

/// What the other side has to be sent, as negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) remote: SocketAddr,
    pub(crate) codec: Codec,
    pub(crate) payload_type: u8,
    /// Payload type of telephone-event, where the other side takes it.
    pub(crate) events: Option<u8>,
}

/// An RTP packet as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// Its payload type.
    pub payload_type: u8,
    /// Its sequence number.
    pub sequence: u16,
    /// Its time stamp.
    pub timestamp: u32,
    /// Its source.
    pub ssrc: u32,
    /// What it carries.
    pub payload: Bytes,
}

enum Order {
    Talk(Stream),
    Say(Vec<Bytes>, oneshot::Sender<()>),
    Key { digit: char, events: bool, done: oneshot::Sender<()> },
    Quiet,
}

/// A phone's ear and mouth. Falls silent and gives its port back when dropped.
#[derive(Debug)]
pub(crate) struct Voice {
    orders: mpsc::UnboundedSender<Order>,
    heard: Record,
    local: SocketAddr,
}

/// What a phone heard; outlives it.
pub(super) type Record = Arc<Mutex<Vec<Heard>>>;

/// A packet's time.
const FRAME: Duration = Duration::from_millis(20);
/// Ticks of the RTP clock in a packet: 8000 Hz for all three codecs (RFC 3551 §4.5.2 for G.722).
const FRAME_TICKS: u32 = 160;
/// Frames that a key is held: 100 ms, above the 40 ms that ITU-T Q.24 asks for.
const KEY_FRAMES: u32 = 5;
/// Frames between two keys.
const PAUSE_FRAMES: u32 = 4;
/// How often the last packet of an event is sent (RFC 4733 §2.5.1.4).
const EVENT_ENDS: u32 = 3;

impl Voice {
    /// Binds a port and starts to listen.
    pub(crate) async fn start(at: std::net::IpAddr, chance: Chance) -> io::Result<Self> {
        let socket = UdpSocket::bind((at, 0)).await?;
        let local = socket.local_addr()?;
        let (orders, inbox) = mpsc::unbounded_channel();
        let heard = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(run(socket, inbox, Arc::clone(&heard), chance));
        Ok(Self { orders, heard, local })
    }

    /// Where it listens.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Starts to send, or sends elsewhere from now on.
    pub(crate) fn talk(&self, stream: Stream) {
        let _ = self.orders.send(Order::Talk(stream));
    }

    /// Stops sending.
    pub(crate) fn quiet(&self) {
        let _ = self.orders.send(Order::Quiet);
    }

    /// Says it all; returns when the last packet is out, or the call is over.
    pub(crate) async fn say(&self, frames: Vec<Bytes>) {
        let (done, out) = oneshot::channel();
        let _ = self.orders.send(Order::Say(frames, done));
        let _ = out.await;
    }

    /// Presses a key: its tones, and with `events` telephone-event packets beside them, as gateways from analogue lines do.
    pub(crate) async fn key(&self, digit: char, events: bool) {
        let (done, out) = oneshot::channel();
        let _ = self.orders.send(Order::Key { digit, events, done });
        let _ = out.await;
    }

    /// What came so far, and what will come.
    pub(super) fn record(&self) -> Record {
        Arc::clone(&self.heard)
    }
}

/// A key that is being pressed.
struct Key {
    digit: char,
    /// Frames since it went down.
    frame: u32,
    /// RTP time when it went down; none for tones only.
    event_at: Option<u32>,
    done: Option<oneshot::Sender<()>>,
}

struct Mouth {
    stream: Stream,
    encoder: Encoder,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    marker: bool,
}

async fn run(socket: UdpSocket, mut orders: mpsc::UnboundedReceiver<Order>, heard: Record, mut chance: Chance) {
    let mut tick = interval(FRAME);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut buffer = vec![0; 2048];
    let mut mouth: Option<Mouth> = None;
    let mut clip: VecDeque<Bytes> = VecDeque::new();
    let mut said: Option<oneshot::Sender<()>> = None;
    let mut keys: VecDeque<Key> = VecDeque::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(Order::Talk(stream)) => match mouth.as_mut().filter(|m| m.stream.codec == stream.codec) {
                    Some(mouth) => mouth.stream = stream,
                    None => mouth = Some(Mouth::new(stream, &mut chance)),
                },
                Some(Order::Say(frames, done)) => {
                    clip = frames.into();
                    said = Some(done);
                    if let Some(mouth) = &mut mouth {
                        mouth.marker = true;
                    }
                }
                Some(Order::Key { digit, events, done }) => {
                    // Time stamps are given when the key goes down.
                    keys.push_back(Key { digit, frame: 0, event_at: events.then_some(0), done: Some(done) });
                }
                Some(Order::Quiet) => {
                    mouth = None;
                    said = None;
                    clip.clear();
                    keys.clear();
                }
            },
            received = socket.recv_from(&mut buffer) => {
                // A closed port at the other end shows here as an error: the phone goes on.
                if let Ok((length, _)) = received && let Some(packet) = buffer.get(..length).and_then(hear) {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(packet);
                }
            }
            _ = tick.tick() => {
                let Some(mouth) = &mut mouth else { continue };
                let mut tones = None;
                if let Some(key) = keys.front_mut() {
                    if key.frame == 0 && key.event_at.is_some() {
                        key.event_at = Some(mouth.timestamp);
                    }
                    if key.frame < KEY_FRAMES {
                        tones = Some((key.digit, key.frame));
                    }
                }
                let payload = match tones {
                    Some((digit, frame)) => mouth.tone(digit, frame),
                    None => match clip.pop_front() {
                        Some(frame) => frame,
                        None => mouth.silence(),
                    },
                };
                if clip.is_empty() && let Some(said) = said.take() {
                    let _ = said.send(());
                }
                let marker = std::mem::take(&mut mouth.marker);
                let (payload_type, at) = (mouth.stream.payload_type, mouth.timestamp);
                mouth.send(&socket, payload_type, marker, at, &payload).await;
                if let Some(key) = keys.front_mut() {
                    if let (Some(at), Some(payload_type)) = (key.event_at, mouth.stream.events) {
                        mouth.event(&socket, payload_type, key.digit, at, key.frame).await;
                    }
                    key.frame += 1;
                    if key.frame >= KEY_FRAMES + PAUSE_FRAMES {
                        if let Some(done) = key.done.take() {
                            let _ = done.send(());
                        }
                        keys.pop_front();
                    }
                }
                mouth.timestamp = mouth.timestamp.wrapping_add(FRAME_TICKS);
            }
        }
    }
}

impl Mouth {
    fn new(stream: Stream, chance: &mut Chance) -> Self {
        let [a, b, ..] = chance.u32().to_be_bytes();
        Self {
            stream,
            encoder: Encoder::new(stream.codec),
            ssrc: chance.u32(),
            sequence: u16::from_be_bytes([a, b]),
            timestamp: chance.u32(),
            marker: true,
        }
    }

    async fn send(&mut self, socket: &UdpSocket, payload_type: u8, marker: bool, timestamp: u32, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        let packet = Packet { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc, payload }.to_bytes();
        self.sequence = self.sequence.wrapping_add(1);
        let _ = socket.send_to(&packet, self.stream.remote).await;
    }

    /// The telephone-event packets that belong to `frame` of a key (RFC 4733 §2.3): one a frame, and three when it is let go.
    async fn event(&mut self, socket: &UdpSocket, payload_type: u8, digit: char, at: u32, frame: u32) {
        let Some(code) = event_code(digit) else { return };
        if frame >= KEY_FRAMES {
            return;
        }
        let end = frame + 1 == KEY_FRAMES;
        let [_, _, high, low] = ((frame + 1) * FRAME_TICKS).to_be_bytes();
        let payload = [code, if end { 0x80 | EVENT_VOLUME } else { EVENT_VOLUME }, high, low];
        for _ in 0..if end { EVENT_ENDS } else { 1 } {
            self.send(socket, payload_type, frame == 0, at, &payload).await;
        }
    }

    fn silence(&mut self) -> Bytes {
        let mut octets = [0; 160];
        self.stream.codec.fill_silence(&mut octets);
        Bytes::copy_from_slice(&octets)
    }

    /// 20 ms of a key's two tones, going on where the frame before left off.
    fn tone(&mut self, digit: char, frame: u32) -> Bytes {
        let Some((low, high)) = frequencies(digit) else { return self.silence() };
        let rate: u16 = if self.stream.codec == Codec::G722 { 16_000 } else { 8_000 };
        let count = u16::try_from(self.samples()).unwrap_or(0);
        let first = u16::try_from(frame).unwrap_or(0).saturating_mul(count);
        let samples: Vec<i16> = (0..count)
            .map(|n| {
                let t = f32::from(first.saturating_add(n)) / f32::from(rate);
                let wave = (TAU * low * t).sin() + (TAU * high * t).sin();
                #[expect(clippy::cast_possible_truncation)] // at most 2 * 6500
                let sample = (wave * TONE_LEVEL) as i16;
                sample
            })
            .collect();
        self.encode(&samples)
    }

    fn encode(&mut self, samples: &[i16]) -> Bytes {
        let mut octets = [0; 160];
        let length = self.encoder.encode(samples, &mut octets);
        Bytes::copy_from_slice(octets.get(..length).unwrap_or_default())
    }

    fn samples(&self) -> usize {
        if self.stream.codec == Codec::G722 { 320 } else { 160 }
    }
}

/// Peak of one of a key's two tones: about -10 dBm0 each, as telephones send them.
const TONE_LEVEL: f32 = 6500.0;
/// Volume field of a telephone-event, in -dBm0.
const EVENT_VOLUME: u8 = 10;

fn hear(octets: &[u8]) -> Option<Heard> {
    let Packet { payload_type, sequence, timestamp, ssrc, payload, .. } = Packet::parse(octets).ok()?;
    Some(Heard { at: Instant::now(), payload_type, sequence, timestamp, ssrc, payload })
}

/// Event code of a key (RFC 4733 §3.2).
fn event_code(digit: char) -> Option<u8> {
    Some(match digit {
        '0'..='9' => u8::try_from(digit).ok()? - b'0',
        '*' => 10,
        '#' => 11,
        'A'..='D' => u8::try_from(digit).ok()? - b'A' + 12,
        _ => return None,
    })
}

/// The two frequencies of a key, Hz (ITU-T Q.23).
fn frequencies(digit: char) -> Option<(f32, f32)> {
    const LOW: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
    const HIGH: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
    let at = ["123A", "456B", "789C", "*0#D"].iter().enumerate().find_map(|(row, keys)| Some((row, keys.find(digit)?)))?;
    Some((*LOW.get(at.0)?, *HIGH.get(at.1)?))
}

/// The digits that telephone-event packets of type `events` spell, each once, in order of their time stamps' first appearance.
pub fn digits_heard(heard: &[Heard], events: u8) -> String {
    let mut last = None;
    let mut digits = String::new();
    for packet in heard.iter().filter(|p| p.payload_type == events) {
        if last == Some((packet.ssrc, packet.timestamp)) {
            continue;
        }
        last = Some((packet.ssrc, packet.timestamp));
        let code = packet.payload.first().copied().unwrap_or(255);
        digits.extend("0123456789*#ABCD".chars().nth(usize::from(code)));
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_one_phone_says_another_hears_octet_for_octet_and_key_for_key() {
        let local = std::net::IpAddr::from([127, 0, 0, 1]);
        let (a, b) = (
            Voice::start(local, Chance::from_seed(1)).await.expect("a port"),
            Voice::start(local, Chance::from_seed(2)).await.expect("a port"),
        );
        a.talk(Stream { remote: b.local(), codec: Codec::Pcmu, payload_type: 0, events: Some(101) });
        let words: Vec<Bytes> = (1..=5).map(|n| Bytes::from(vec![n; 160])).collect();
        a.say(words.clone()).await;
        for digit in "4*".chars() {
            a.key(digit, true).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let heard = b.record().lock().expect("a record").clone();
        let audio: Vec<_> = heard.iter().filter(|p| p.payload_type == 0).map(|p| p.payload.clone()).collect();
        assert!(audio.windows(words.len()).any(|w| w == words), "{} packets", audio.len());
        assert_eq!(digits_heard(&heard, 101), "4*");
        let ends = heard.iter().filter(|p| p.payload_type == 101 && p.payload.get(1).is_some_and(|o| o & 0x80 != 0)).count();
        assert_eq!(ends, 6, "three ends an event");
    }

    #[test]
    fn keys_have_the_tones_of_q_23() {
        assert_eq!(frequencies('1'), Some((697.0, 1209.0)));
        assert_eq!(frequencies('#'), Some((941.0, 1477.0)));
        assert_eq!(frequencies('D'), Some((941.0, 1633.0)));
        assert_eq!(frequencies('x'), None);
        assert_eq!((event_code('#'), event_code('D'), event_code('x')), (Some(11), Some(15), None));
    }
}
