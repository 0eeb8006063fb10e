//! One RTP source: what arrived, what it lost, what it carried. Packets are put in order within a window; nothing is kept of what has left it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use sha2::{Digest as _, Sha256};

use super::{Digit, Stream, sounds::Sounds};
use crate::{
    codec::{Codec, Decoder, FRAME_SAMPLES_MAX},
    dtmf::event,
    event::{DtmfMethod, Leg},
    rtp::Header,
    time::{Instant, Wall},
};

/// What a payload type stands for, as far as anybody has said: its name, and the Hz of its RTP clock.
pub(super) type Names<'n> = &'n dyn Fn(u8) -> Option<(String, u32)>;

/// Hz of the clock of every payload type of a telephone (RFC 3551 §6), and of one that nobody named.
pub(super) const CLOCK: u32 = 8000;

pub(super) struct Source {
    from: SocketAddr,
    to: SocketAddr,
    ssrc: u32,
    pub(super) leg: Option<Leg>,
    /// Sequence number of the latest arrival, counted on beyond its 16 bits.
    latest: i64,
    /// What came and is not old enough to be sure of its place, by sequence number.
    window: BTreeMap<i64, Waiting>,
    /// The number that follows on what has left the window, and the payload type that it had.
    next: Option<(i64, u8)>,
    /// Numbers that left the window of late, to tell a double from a straggler.
    gone: BTreeSet<i64>,
    kinds: Vec<Kind>,
    receiver: event::Receiver,
    pressed: Vec<event::Pressed>,
}

struct Waiting {
    at: Wall,
    payload_type: u8,
    payload: Vec<u8>,
}

/// One payload type of a source.
struct Kind {
    number: u8,
    codec: Option<String>,
    /// Hz.
    clock: u32,
    packets: u64,
    once: u64,
    octets: u64,
    lost: u64,
    reordered: u64,
    first: i64,
    last: i64,
    highest: i64,
    /// Arrival and RTP time of the packet before, and RFC 3550's estimate in seconds.
    before: Option<(Wall, u32)>,
    jitter: f64,
    captured: Sha256,
    ordered: Sha256,
    audio: Option<(Decoder, Sha256)>,
}

/// Packets that a later one may still overtake: more than two seconds of sound.
const WINDOW: usize = 128;
/// Numbers remembered after they left the window.
const GONE_MAX: usize = 1024;

impl Source {
    pub(super) fn new(from: SocketAddr, to: SocketAddr, ssrc: u32, leg: Option<Leg>) -> Self {
        Self {
            from,
            to,
            ssrc,
            leg,
            latest: 0,
            window: BTreeMap::new(),
            next: None,
            gone: BTreeSet::new(),
            kinds: Vec::new(),
            receiver: event::Receiver::default(),
            pressed: Vec::new(),
        }
    }

    /// Packets that arrived.
    pub(super) fn packets(&self) -> u64 {
        self.kinds.iter().map(|k| k.packets).sum()
    }

    /// A packet arrived.
    pub(super) fn packet(&mut self, at: Wall, header: &Header, packet: &[u8], names: Names<'_>, sounds: Option<&mut Sounds>) {
        let payload = packet.get(header.payload.clone()).unwrap_or_default();
        let sequence = if self.kinds.is_empty() {
            i64::from(header.sequence)
        } else {
            self.latest + i64::from(header.sequence.wrapping_sub(low(self.latest)).cast_signed())
        };
        self.latest = sequence;
        let kind = self.kind(header.payload_type, sequence, names);
        kind.arrived(at, sequence, header.timestamp, payload);
        if kind.is_event() {
            let now = monotonic(at);
            self.pressed.extend(self.receiver.handle_timeout(now));
            if let Some(payload) = event::Payload::parse(payload) {
                self.pressed.extend(self.receiver.handle(now, header.timestamp, payload).into_iter().flatten());
            }
        } else {
            self.pressed.extend(self.receiver.handle_timeout(monotonic(at)));
        }
        if self.next.is_some_and(|(next, _)| sequence < next) {
            // Too late for its place. What was counted as lost came after all, unless it was there before.
            if self.gone.insert(sequence)
                && let Some(kind) = self.kinds.iter_mut().find(|k| k.number == header.payload_type)
            {
                kind.lost = kind.lost.saturating_sub(1);
                kind.once += 1;
            }
        } else {
            let waiting = Waiting { at, payload_type: header.payload_type, payload: payload.to_vec() };
            self.window.entry(sequence).or_insert(waiting);
        }
        if self.window.len() > WINDOW {
            self.leave(sounds);
        }
    }

    fn kind(&mut self, number: u8, sequence: i64, names: Names<'_>) -> &mut Kind {
        let place = match self.kinds.iter().position(|k| k.number == number) {
            Some(place) => place,
            None => {
                self.kinds.push(Kind::new(number, sequence));
                self.kinds.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "found or made just above")]
        let kind = &mut self.kinds[place];
        if kind.codec.is_none()
            && let Some((name, clock)) = names(number)
        {
            (kind.codec, kind.clock) = (Some(name), clock.max(1));
        }
        kind
    }

    /// The first of the window takes its place for good.
    fn leave(&mut self, sounds: Option<&mut Sounds>) {
        let Some((sequence, waiting)) = self.window.pop_first() else { return };
        if let Some((next, before)) = self.next
            && next < sequence
            && let Some(kind) = self.kinds.iter_mut().find(|k| k.number == before)
        {
            // What is missing stands with the payload type that was heard before the gap.
            kind.lost += u64::try_from(sequence - next).unwrap_or(0);
        }
        self.next = Some((sequence + 1, waiting.payload_type));
        self.gone.insert(sequence);
        if self.gone.len() > GONE_MAX {
            self.gone.pop_first();
        }
        if let Some(kind) = self.kinds.iter_mut().find(|k| k.number == waiting.payload_type) {
            kind.in_order(&waiting, sounds);
        }
    }

    /// All that there is to say of it, and the keys that it sent. `zero`: from when on times count.
    pub(super) fn finish(mut self, zero: Wall, mut sounds: Option<&mut Sounds>) -> (Vec<Stream>, Vec<Digit>) {
        while !self.window.is_empty() {
            self.leave(sounds.as_deref_mut());
        }
        self.pressed.extend(self.receiver.next_timeout().and_then(|at| self.receiver.handle_timeout(at)));
        let Self { from, to, ssrc, leg, kinds, pressed, .. } = self;
        let digit = |p: event::Pressed| Digit {
            leg,
            digit: Some(p.digit.to_string()),
            masked: false,
            at_ms: p.at.millis_since(monotonic(zero)),
            duration_ms: p.duration_ms,
            method: DtmfMethod::Rfc4733,
            complete: p.complete,
        };
        let stream = |kind: Kind| Stream {
            leg,
            from,
            to,
            ssrc: format!("{ssrc:#010x}"),
            pt: kind.number,
            packets: kind.packets,
            octets: kind.octets,
            first_seq: low(kind.first),
            last_seq: low(kind.last),
            lost: kind.lost,
            duplicates: kind.packets.saturating_sub(kind.once),
            reordered: kind.reordered,
            jitter_ms: (kind.jitter * 10_000.0).round() / 10.0,
            payload_sha256: hex::encode(kind.ordered.finalize()),
            captured_sha256: hex::encode(kind.captured.finalize()),
            audio_sha256: kind.audio.map(|(_, sha)| hex::encode(sha.finalize())),
            codec: kind.codec,
        };
        (kinds.into_iter().map(stream).collect(), pressed.into_iter().map(digit).collect())
    }
}

impl Kind {
    fn new(number: u8, first: i64) -> Self {
        Self {
            number,
            codec: None,
            clock: CLOCK,
            packets: 0,
            once: 0,
            octets: 0,
            lost: 0,
            reordered: 0,
            first,
            last: first,
            highest: i64::MIN,
            before: None,
            jitter: 0.0,
            captured: Sha256::new(),
            ordered: Sha256::new(),
            audio: None,
        }
    }

    fn is_event(&self) -> bool {
        self.codec.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("telephone-event"))
    }

    fn arrived(&mut self, at: Wall, sequence: i64, timestamp: u32, payload: &[u8]) {
        self.packets += 1;
        self.octets += payload.len() as u64;
        self.last = sequence;
        self.reordered += u64::from(sequence < self.highest);
        self.highest = self.highest.max(sequence);
        self.captured.update(payload);
        // RFC 3550 §6.4.1.
        if let Some((before, sent_before)) = self.before {
            #[expect(clippy::cast_precision_loss, reason = "a span between two packets")]
            let arrived = (at.as_micros() - before.as_micros()) as f64 / 1_000_000.0;
            let sent = f64::from(timestamp.wrapping_sub(sent_before).cast_signed()) / f64::from(self.clock);
            self.jitter += ((arrived - sent).abs() - self.jitter) / 16.0;
        }
        self.before = Some((at, timestamp));
    }

    fn in_order(&mut self, waiting: &Waiting, mut sounds: Option<&mut Sounds>) {
        self.once += 1;
        self.ordered.update(&waiting.payload);
        let Some(codec) = self.codec.as_deref().and_then(|c| c.parse::<Codec>().ok()) else { return };
        let (decoder, sha) = self.audio.get_or_insert_with(|| (Decoder::new(codec), Sha256::new()));
        let mut samples = [0; FRAME_SAMPLES_MAX];
        for piece in waiting.payload.chunks(FRAME_SAMPLES_MAX / codec.samples_per_octet()) {
            let n = decoder.decode(piece, &mut samples);
            let samples = samples.get(..n).unwrap_or_default();
            let mut octets = [0; 2 * FRAME_SAMPLES_MAX];
            for (to, sample) in octets.as_chunks_mut().0.iter_mut().zip(samples) {
                *to = sample.to_le_bytes();
            }
            sha.update(octets.get(..2 * n).unwrap_or_default());
            if let Some(sounds) = sounds.as_deref_mut() {
                sounds.frame(waiting.at, samples);
            }
        }
    }
}

/// The lower 16 bits of a number that was counted on.
fn low(sequence: i64) -> u16 {
    u16::try_from(sequence.rem_euclid(65_536)).unwrap_or(0)
}

fn monotonic(at: Wall) -> Instant {
    Instant::from_micros(u64::try_from(at.as_micros()).unwrap_or(0))
}
