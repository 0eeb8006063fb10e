//! Where each sample of a call belongs, from packets that come late, twice, out of order or never.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use super::{
    manifest::{Frames, Manifest, Masked},
    wav,
};
use crate::{
    codec::{Codec, Decoder, FRAME_SAMPLES_MAX, RTP_CLOCK_HZ, Resampler, SampleRate},
    event::{CallId, Leg, PerSide},
    time::{Instant, Wall},
};

/// Octets for a place in the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    /// From the start of the file.
    pub offset: u64,
    /// What stands there from now on.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Sound is nobody's business in a log.
        write!(f, "Write({} octets at {})", self.bytes.len(), self.offset)
    }
}

/// The recording of one call while it grows.
///
/// Positions are moments of the file: 0 is its start, [`SampleRate`] of them a second, on one line for both legs. Each SSRC is
/// anchored where its first packet arrived and placed by its RTP time stamps after that, so that neither jitter nor loss moves it.
#[derive(Debug)]
pub struct Timeline {
    call: CallId,
    file: String,
    rate: SampleRate,
    /// Time of position 0: a whole number of milliseconds after the INVITE, so that spans in milliseconds are spans of samples.
    start: Instant,
    starts_at: Wall,
    starts_at_ms: i64,
    lanes: [Lane; 2],
    /// What may still change, from position `written` on.
    pending: VecDeque<[i16; 2]>,
    /// Moments handed out as writes.
    written: u64,
    /// Moments that the file's header speaks of.
    headed: u64,
    /// As positions; the last one is open while a phase lasts.
    masked: Vec<(u64, Option<u64>)>,
    spans: Vec<Masked>,
    dropped: u64,
    output: VecDeque<Write>,
    ended: bool,
}

/// One leg of it.
#[derive(Debug, Default)]
struct Lane {
    sources: ArrayVec<Source, SOURCES_MAX>,
    codecs: Vec<Codec>,
    frames: Frames,
}

/// One SSRC of a leg.
#[derive(Debug)]
struct Source {
    ssrc: u32,
    /// An RTP time stamp and the position where it stands; moves along with the stream, so that a wrap of 32 bits does not matter.
    timestamp: u32,
    position: i64,
    /// The first position that no packet has filled yet.
    filled: i64,
    decoder: Decoder,
    resampler: Option<Resampler>,
}

impl Timeline {
    /// A recording that starts at `at` (`wall` by the other clock) in a call whose INVITE came at `invited`. The rate of a file is
    /// fixed at its start; what comes at the other is resampled.
    pub fn new(call: CallId, file: impl Into<String>, invited: Instant, at: Instant, wall: Wall, rate: SampleRate) -> Self {
        let starts_at_ms = at.millis_since(invited).max(0);
        let start = invited + std::time::Duration::from_millis(starts_at_ms.unsigned_abs());
        let mut this = Self {
            call,
            file: file.into(),
            rate,
            start,
            starts_at: wall - at.since(start),
            starts_at_ms,
            lanes: [Lane::default(), Lane::default()],
            pending: VecDeque::new(),
            written: 0,
            headed: 0,
            masked: Vec::new(),
            spans: Vec::new(),
            dropped: 0,
            output: VecDeque::new(),
            ended: false,
        };
        this.head();
        this
    }

    /// A packet came.
    pub fn packet(&mut self, leg: Leg, ssrc: u32, timestamp: u32, arrival: Instant, codec: Codec, payload: &[u8]) {
        if self.ended || self.is_masked() {
            return;
        }
        let arrived = self.position(arrival);
        self.advance(arrived);
        let rate = i64::from(self.rate.hz());
        let rate_of_file = self.rate;
        let lane = self.lane(leg);
        if !lane.codecs.contains(&codec) {
            lane.codecs.push(codec);
        }
        let (position, skipped, overtaken, samples, count) = {
            let source = lane.source(ssrc, timestamp, arrived, codec, rate_of_file);
            let position = source.place(timestamp, arrived, rate);
            let mut decoded = [0; FRAME_SAMPLES_MAX];
            let mut samples = [0; 2 * FRAME_SAMPLES_MAX];
            let count = source.decoder.decode(payload, &mut decoded);
            let decoded = decoded.get(..count).unwrap_or_default();
            let count = match &mut source.resampler {
                Some(resampler) => resampler.run(decoded, &mut samples),
                None => {
                    for (to, from) in samples.iter_mut().zip(decoded) {
                        *to = *from;
                    }
                    count
                }
            };
            let end = position.saturating_add(i64::try_from(count).unwrap_or(0));
            let skipped = u64::try_from(position.saturating_sub(source.filled)).unwrap_or(0);
            let overtaken = end <= source.filled;
            source.filled = source.filled.max(end);
            (position, skipped, overtaken, samples, count)
        };
        // A gap shorter than a pause is packets that never came; a longer one is a sender that was silent.
        let length = u64::try_from(count).unwrap_or(0).max(1);
        if skipped < u64::from(rate_of_file.hz()) * PAUSE_MS / 1000 {
            lane.frames.lost = lane.frames.lost.saturating_add(skipped / length);
        }
        if overtaken {
            // Counted as lost when a later one came before it.
            lane.frames.lost = lane.frames.lost.saturating_sub(1);
        }
        let written = self.written;
        let lane = self.lane(leg);
        if position < i64::try_from(written).unwrap_or(i64::MAX) {
            // Its first moments are in the file already (or lie before it); what is left of it is still put in.
            lane.frames.late = lane.frames.late.saturating_add(1);
        } else {
            lane.frames.written = lane.frames.written.saturating_add(1);
        }
        self.put(leg, position, samples.get(..count).unwrap_or_default());
    }

    /// A secure phase begins or ends at `at`. The span is silent in both channels, whatever came or comes for it. A second mark of
    /// the same kind only tells the reason, where the first knew none.
    pub fn secure(&mut self, on: bool, at: Instant, reason: Option<&str>) {
        let at_ms = self.starts_at_ms.saturating_add(at.millis_since(self.start).max(0));
        let per_ms = u64::from(self.rate.hz() / 1000);
        match (on, self.is_masked()) {
            (true, true) => {
                if let (Some(span), Some(reason)) = (self.spans.last_mut(), reason) {
                    reason.clone_into(&mut span.reason);
                }
            }
            (true, false) => {
                let from = u64::try_from(at_ms.saturating_sub(self.starts_at_ms)).unwrap_or(0).saturating_mul(per_ms);
                self.masked.push((from, None));
                self.spans.push(Masked { from_ms: at_ms, to_ms: None, reason: reason.unwrap_or(NO_REASON).to_owned() });
                self.silence_from(from);
                self.advance(self.position(at));
            }
            (false, true) => {
                // Rounded up: no sample of the phase is heard for the sake of a part of a millisecond.
                let to_ms = if self.start + std::time::Duration::from_millis(at.millis_since(self.start).max(0).unsigned_abs()) < at {
                    at_ms.saturating_add(1)
                } else {
                    at_ms
                };
                self.advance(self.position(at));
                let to = u64::try_from(to_ms.saturating_sub(self.starts_at_ms)).unwrap_or(0).saturating_mul(per_ms);
                if let (Some(span), Some(shown)) = (self.masked.last_mut(), self.spans.last_mut()) {
                    span.1 = Some(to.max(span.0));
                    shown.to_ms = Some(to_ms.max(shown.from_ms));
                }
            }
            (false, false) => {}
        }
    }

    /// The recording ends at `at`: what waits is written, the length is exact. `dropped` packets never reached it.
    pub fn end(&mut self, at: Instant, dropped: u64) {
        if self.ended {
            return;
        }
        self.dropped = self.dropped.saturating_add(dropped);
        self.secure(false, at, None);
        let end = self.masked.last().and_then(|m| m.1).unwrap_or(0).max(u64::try_from(self.position(at)).unwrap_or(0));
        self.advance(i64::try_from(end).unwrap_or(i64::MAX));
        let left = usize::try_from(end.saturating_sub(self.written)).unwrap_or(0);
        self.pending.resize(left, [0; 2]);
        self.flush(left);
        self.head();
        self.ended = true;
    }

    /// The next thing to write.
    pub fn poll_output(&mut self) -> Option<Write> {
        self.output.pop_front()
    }

    /// What the sidecar says so far.
    pub fn manifest(&self) -> Manifest {
        let [caller, callee] = &self.lanes;
        let lane = |leg: Leg| if leg == Leg::Caller { caller } else { callee };
        let codecs = |leg: Leg| lane(leg).codecs.iter().map(ToString::to_string).collect();
        let frames = |leg: Leg| lane(leg).frames;
        let late = frames(Leg::Caller).late.saturating_add(frames(Leg::Callee).late);
        let moments = self.written.saturating_add(u64::try_from(self.pending.len()).unwrap_or(0));
        Manifest {
            call_id: self.call,
            file: self.file.clone(),
            starts_at: self.starts_at,
            starts_at_ms: self.starts_at_ms,
            duration_ms: i64::try_from(moments.saturating_mul(1000) / u64::from(self.rate.hz())).unwrap_or(i64::MAX),
            sample_rate: self.rate.hz(),
            channels: ["caller".into(), "platform".into()],
            codecs: PerSide { trunk: codecs(Leg::Caller), platform: codecs(Leg::Callee) },
            masked: self.spans.clone(),
            frames: PerSide { trunk: frames(Leg::Caller), platform: frames(Leg::Callee) },
            dropped: self.dropped,
            degraded: self.dropped > 0 || late > 0,
            complete: self.ended,
            sha256: None,
        }
    }

    /// Whether a secure phase is on.
    pub fn is_masked(&self) -> bool {
        self.masked.last().is_some_and(|(_, to)| to.is_none())
    }

    /// Where `at` lies in the file; negative before its start.
    fn position(&self, at: Instant) -> i64 {
        let us = |t: std::time::Duration| i64::try_from(t.as_micros()).unwrap_or(i64::MAX);
        let since = if at >= self.start { us(at.since(self.start)) } else { us(self.start.since(at)).saturating_neg() };
        since.saturating_mul(i64::from(self.rate.hz() / 1000)) / 1000
    }

    fn lane(&mut self, leg: Leg) -> &mut Lane {
        let [caller, callee] = &mut self.lanes;
        match leg {
            Leg::Caller => caller,
            Leg::Callee => callee,
        }
    }

    /// Puts samples of a leg where they belong, except what is written already or masked.
    fn put(&mut self, leg: Leg, position: i64, samples: &[i16]) {
        for (at, sample) in (position..).zip(samples) {
            let Ok(at) = u64::try_from(at) else { continue };
            let Some(ahead) = at.checked_sub(self.written) else { continue };
            if self.masked.iter().rev().any(|(from, to)| *from <= at && to.is_none_or(|to| at < to)) {
                continue;
            }
            let Ok(ahead) = usize::try_from(ahead) else { continue };
            if self.pending.len() <= ahead {
                self.pending.resize(ahead + 1, [0; 2]);
            }
            if let Some([left, right]) = self.pending.get_mut(ahead) {
                *(if leg == Leg::Caller { left } else { right }) = *sample;
            }
        }
    }

    /// Takes back all sound from `from` on, in what waits and in what is written.
    fn silence_from(&mut self, from: u64) {
        let waits = usize::try_from(from.saturating_sub(self.written)).unwrap_or(usize::MAX);
        for moment in self.pending.iter_mut().skip(waits) {
            *moment = [0; 2];
        }
        if from < self.written {
            let bytes = usize::try_from((self.written - from).saturating_mul(wav::FRAME_BYTES)).unwrap_or(0);
            self.output.push_back(Write { offset: offset(from), bytes: vec![0; bytes] });
        }
    }

    /// It is `now` in the file: what is older than the window does not change any more and is written.
    fn advance(&mut self, now: i64) {
        let per_ms = u64::from(self.rate.hz() / 1000);
        let (window, block, head) = (WINDOW_MS * per_ms, BLOCK_MS * per_ms, HEAD_MS * per_ms);
        let now = u64::try_from(now).unwrap_or(0);
        while now.saturating_sub(window) >= self.written.saturating_add(block) {
            self.flush(usize::try_from(block).unwrap_or(0));
            if self.written - self.headed >= head {
                self.head();
            }
        }
    }

    /// Writes the next `moments`; what has no sound is silence.
    fn flush(&mut self, moments: usize) {
        if moments == 0 {
            return;
        }
        let mut bytes = Vec::with_capacity(moments * 4);
        for _ in 0..moments {
            let [left, right] = self.pending.pop_front().unwrap_or_default();
            bytes.extend_from_slice(&left.to_le_bytes());
            bytes.extend_from_slice(&right.to_le_bytes());
        }
        self.output.push_back(Write { offset: offset(self.written), bytes });
        self.written = self.written.saturating_add(u64::try_from(moments).unwrap_or(0));
    }

    /// Lets the header say what is written, so that a crash leaves a file that can be read up to here.
    fn head(&mut self) {
        self.output.push_back(Write { offset: 0, bytes: wav::header(self.rate.hz(), self.written).to_vec() });
        self.headed = self.written;
    }
}

impl Lane {
    /// The source `ssrc`, known or new; the one that was silent longest makes room.
    fn source(&mut self, ssrc: u32, timestamp: u32, arrived: i64, codec: Codec, file: SampleRate) -> &mut Source {
        let known = self.sources.iter().position(|s| s.ssrc == ssrc && s.decoder.codec() == codec);
        let source = match known {
            Some(at) => self.sources.remove(at),
            None => {
                // An SSRC that changes its codec keeps its place on the line.
                let place = self.sources.iter().position(|s| s.ssrc == ssrc).map(|at| self.sources.remove(at));
                if self.sources.is_full() {
                    self.sources.remove(0);
                }
                let resampler = match (codec.sample_rate(), file) {
                    (SampleRate::Hz8000, SampleRate::Hz16000) => Some(Resampler::up()),
                    (SampleRate::Hz16000, SampleRate::Hz8000) => Some(Resampler::down()),
                    _ => None,
                };
                let (timestamp, position, filled) =
                    place.map_or((timestamp, arrived, arrived), |old| (old.timestamp, old.position, old.filled));
                Source { ssrc, timestamp, position, filled, decoder: Decoder::new(codec), resampler }
            }
        };
        // The latest stands last; at most SOURCES_MAX small values move.
        self.sources.push(source);
        let last = self.sources.len() - 1;
        #[expect(clippy::indexing_slicing)] // it was pushed in the line above
        &mut self.sources[last]
    }
}

impl Source {
    /// Where the packet with `timestamp` stands, and moves the anchor on to it.
    fn place(&mut self, timestamp: u32, arrived: i64, rate: i64) -> i64 {
        // All our codecs count 8000 ticks a second, G.722 too (RFC 3551 §4.5.2).
        let ticks = i64::from(timestamp.wrapping_sub(self.timestamp).cast_signed());
        let position = self.position.saturating_add(ticks.saturating_mul(rate) / i64::from(RTP_CLOCK_HZ));
        if position.abs_diff(arrived) > u64::try_from(rate).unwrap_or(0) * RESYNC_MS / 1000 {
            // Its clock jumped, or stood still while it was silent: what came when is then the better guide.
            (self.timestamp, self.position, self.filled) = (timestamp, arrived, arrived);
            return arrived;
        }
        if ticks > 0 {
            (self.timestamp, self.position) = (timestamp, position);
        }
        position
    }
}

const fn offset(position: u64) -> u64 {
    (wav::HEADER_BYTES as u64).saturating_add(position.saturating_mul(wav::FRAME_BYTES))
}

/// How long a packet may be late and still find its place. A jitter buffer of a phone would have given it up before.
const WINDOW_MS: u64 = 500;
/// Sound that is written at once: two writes a second and call.
const BLOCK_MS: u64 = 500;
/// Sound between two patches of the header: what a crash may cost.
const HEAD_MS: u64 = 4000;
/// Time stamps and arrivals that differ by more are not of one line any more. Above what networks delay, below what a listener forgives.
const RESYNC_MS: u64 = 1000;
/// A gap of more is a sender that was silent and not packets that were lost.
const PAUSE_MS: u64 = 400;
/// Sources of one leg that are told apart: early media, its successor, and whoever is rude.
const SOURCES_MAX: usize = 4;
/// What stands as reason until somebody gives one.
const NO_REASON: &str = "secure";

const _: () = assert!(BLOCK_MS <= WINDOW_MS && HEAD_MS >= BLOCK_MS);

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
