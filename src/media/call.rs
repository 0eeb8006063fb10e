//! One call in the machine: its two legs, the gate between them, and what a packet, a key and time make of it.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{
    Command, Output, Port, Report, Sink, Stats, Stream, Tap, TapFrame, Wire,
    leg::{LegMedia, Sort, Watch},
};
use crate::{
    chance::Chance,
    codec::{Codec, FRAME_OCTETS_MAX, FRAME_SAMPLES_MAX, Resampler, SampleRate},
    detect::Silence,
    dtmf::{Digit, Matcher, event},
    event::{CallId, DtmfMethod, Leg},
    rtp::{self, Header, sequence::Place},
    time::Instant,
};

pub(super) type Outputs = VecDeque<Output>;

#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) slot: u32,
    caller: LegMedia,
    callee: LegMedia,
    bridged: bool,
    secure: bool,
    /// Whether the gate really hides.
    masks: bool,
    /// The platform hears the caller in a secure phase all the same.
    pass: bool,
    start: Matcher<event::Pressed>,
    end: Matcher<event::Pressed>,
    recording: bool,
    /// Frames that the recorder could not take.
    untaken: u64,
    pub(super) wake: Option<Instant>,
}

/// Where a packet's consequences go.
pub(super) struct Exit<'a, W> {
    pub(super) outputs: &'a mut Outputs,
    pub(super) wire: &'a mut W,
}

impl Call {
    /// A call without ports. `masks`: whether its gate really hides.
    pub(super) fn new(id: CallId, slot: u32, masks: bool, chance: &mut Chance) -> Self {
        Self {
            id,
            slot,
            caller: LegMedia::new(chance),
            callee: LegMedia::new(chance),
            bridged: false,
            secure: false,
            masks,
            pass: false,
            start: Matcher::new(Vec::new()),
            end: Matcher::new(Vec::new()),
            recording: false,
            untaken: 0,
            wake: None,
        }
    }

    /// It is over: the recorder is told.
    pub(super) fn end(self, now: Instant, outputs: &mut Outputs, wire: &mut impl Wire) {
        if self.recording && !wire.tap(Tap::End { call: self.id, slot: self.slot, dropped: self.untaken, at: now }) {
            self.sink_failed(None, outputs);
        }
        for leg in [Leg::Caller, Leg::Callee] {
            outputs.push_back(Output::Unbind { port: port_of(self.slot, leg) });
        }
        let stats = Stats { caller: self.caller.stats(), callee: self.callee.stats() };
        outputs.push_back(Output::Report(Report::Ended { call: self.id, stats }));
    }

    pub(super) const fn leg(&self, leg: Leg) -> &LegMedia {
        match leg {
            Leg::Caller => &self.caller,
            Leg::Callee => &self.callee,
        }
    }

    pub(super) const fn leg_mut(&mut self, leg: Leg) -> &mut LegMedia {
        match leg {
            Leg::Caller => &mut self.caller,
            Leg::Callee => &mut self.callee,
        }
    }

    pub(super) fn command(&mut self, now: Instant, command: Command, outputs: &mut Outputs, wire: &mut impl Wire) {
        match command {
            Command::Agree { leg, agreed, .. } => self.leg_mut(leg).agree(agreed),
            Command::Bridge { on, .. } => {
                self.bridged = on;
                self.caller.out.anew();
                self.callee.out.anew();
            }
            Command::Digit { to, digit, duration_ms, .. } => {
                // From the platform to the caller keys pass in a phase too; the caller's own do not.
                if to == Leg::Caller || !self.secure {
                    self.leg_mut(to).out.press(now, digit, duration_ms);
                }
            }
            Command::Secure { ask, on, reason, .. } => self.secure(now, ask, on, reason, outputs, wire),
            Command::Keys { start, end, .. } => {
                self.start = Matcher::new(start);
                self.end = Matcher::new(end);
            }
            Command::Watch { leg, silence_ms, no_media_ms, .. } => {
                let span = |ms: u32| (ms > 0).then(|| Duration::from_millis(u64::from(ms)));
                self.leg_mut(leg).watch =
                    Watch { silence: span(silence_ms).map(Silence::new), no_media: span(no_media_ms), last: Some(now), missing: false };
            }
            Command::Record { file, invited, .. } => {
                let wide = [&self.caller, &self.callee].into_iter().any(|l| l.stream.as_ref().is_some_and(|s| s.codec == Codec::G722));
                if wire.tap(Tap::Start { call: self.id, slot: self.slot, file, invited, wide, at: now }) {
                    self.recording = true;
                    // A recording that begins in a phase begins shut.
                    if self.secure && !wire.tap(Tap::Secure { call: self.id, slot: self.slot, ask: 0, on: true, reason: None, at: now }) {
                        self.recording = false;
                    }
                } else {
                    self.sink_failed(None, outputs);
                }
            }
            Command::Unrecord { .. } => {
                // Its end may be taken or not: nobody waits for it.
                let _ = wire.tap(Tap::End { call: self.id, slot: self.slot, dropped: self.untaken, at: now });
                self.recording = false;
            }
            Command::PassAudio { on, .. } => self.pass = on,
            Command::Open { .. } | Command::Close { .. } | Command::End { .. } => {}
        }
    }

    fn secure(&mut self, now: Instant, ask: u32, on: bool, reason: Option<String>, outputs: &mut Outputs, wire: &mut impl Wire) {
        if on && !self.secure {
            // What was held back was keyed before the phase and began no sequence.
            for (digit, pressed) in self.start.release() {
                self.pass_on(now, Leg::Caller, digit, pressed, outputs);
            }
        }
        if !on {
            self.end.release();
        }
        self.secure = on;
        outputs.push_back(Output::Report(Report::Secured { call: self.id, ask, sink: Sink::Media, on, at: now }));
        if self.recording && !self.masks {
            // The planted fault's other half: the recorder is never told, and said to have confirmed.
            outputs.push_back(Output::Report(Report::Secured { call: self.id, ask, sink: Sink::Recorder, on, at: now }));
        } else if self.recording && !wire.tap(Tap::Secure { call: self.id, slot: self.slot, ask, on, reason, at: now }) {
            self.sink_failed(Some(ask), outputs);
        }
    }

    fn sink_failed(&self, ask: Option<u32>, outputs: &mut Outputs) {
        outputs.push_back(Output::Report(Report::SinkFailed { call: self.id, ask, sink: Sink::Recorder, why: QUEUE_FULL.into() }));
    }

    /// Whether the call's wake may have changed.
    pub(super) fn packet<W: Wire>(&mut self, now: Instant, side: Leg, from: SocketAddr, packet: &mut [u8], exit: &mut Exit<'_, W>) -> bool {
        let id = self.id;
        let leg = self.leg_mut(side);
        let sorted = match Header::parse(packet) {
            // Its kind first: nobody is learnt as the source by what was never agreed on.
            Ok(header) => leg.sort(&header).filter(|_| leg.admit(now, from)).map(|sort| (header, sort)),
            Err(_) => None,
        };
        let Some((header, sort)) = sorted else {
            leg.refused += 1;
            return false;
        };
        leg.received += 1;
        // Some send keys as a source of their own beside the sound: it has its own numbers and times, and interrupts nothing.
        let (mut place, mut let_go) = (Place::Late, None);
        match sort {
            Sort::Event => {
                if leg.key_ssrc.replace(header.ssrc) != Some(header.ssrc) {
                    let_go = leg.events.anew();
                }
                if leg.sound_ssrc.is_none_or(|s| s == header.ssrc) {
                    place = leg.sequence.handle(header.ssrc, header.sequence);
                }
            }
            Sort::Sound(_) => {
                leg.sound_ssrc = Some(header.ssrc);
                place = leg.sequence.handle(header.ssrc, header.sequence);
            }
        }
        leg.watch.last = Some(now);
        let back = std::mem::take(&mut leg.watch.missing);
        if back {
            exit.outputs.push_back(Output::Report(Report::MediaBack { call: id, leg: side, at: now }));
        }
        if let Some(pressed) = let_go {
            self.pressed(now, side, pressed, exit.outputs);
        }
        let out = &mut self.leg_mut(side.other()).out;
        if place == Place::First {
            out.anew();
        }
        match sort {
            Sort::Event => {
                if place != Place::Late {
                    out.skip(&header);
                }
                let leg = self.leg_mut(side);
                let Some(payload) = packet.get(header.payload.clone()).and_then(event::Payload::parse) else { return back };
                for pressed in leg.events.handle(now, header.timestamp, payload).into_iter().flatten() {
                    self.pressed(now, side, pressed, exit.outputs);
                }
                true
            }
            Sort::Sound(codec) => {
                self.sound(now, side, (&header, place), codec, packet, exit);
                back || let_go.is_some()
            }
        }
    }

    fn sound<W: Wire>(
        &mut self,
        now: Instant,
        side: Leg,
        (header, place): (&Header, Place),
        codec: Codec,
        packet: &mut [u8],
        exit: &mut Exit<'_, W>,
    ) {
        let Exit { outputs, wire } = exit;
        let (id, slot) = (self.id, self.slot);
        let shut = self.secure && self.masks;
        let (bridged, recording) = (self.bridged, self.recording);
        let hidden = shut && side == Leg::Caller && !self.pass;
        let (leg, other) = match side {
            Leg::Caller => (&mut self.caller, &mut self.callee),
            Leg::Callee => (&mut self.callee, &mut self.caller),
        };
        let payload = packet.get(header.payload.clone()).unwrap_or_default();
        if recording && !shut && !wire.tap(Tap::Frame(TapFrame::new(slot, side, header.ssrc, header.timestamp, now, codec, payload))) {
            if self.untaken.is_multiple_of(UNTAKEN_STEP) {
                outputs.push_back(Output::Report(Report::SinkFailed { call: id, ask: None, sink: Sink::Recorder, why: QUEUE_FULL.into() }));
            }
            self.untaken += 1;
        }
        let relayed = other.stream.as_ref().is_some_and(|s| s.codec == codec);
        let transcoded = bridged && !relayed && other.destination().is_some();
        // Decoded once, and only where somebody wants the samples.
        let mut samples = [0_i16; FRAME_SAMPLES_MAX];
        let mut count = 0;
        if transcoded || leg.watch.silence.is_some() {
            count = leg.decoder(codec).decode(payload, &mut samples);
        }
        if let Some(silence) = &mut leg.watch.silence
            && let Some(since) = silence.handle(now, samples.get(..count).unwrap_or_default())
        {
            outputs.push_back(Output::Report(Report::Silence { call: id, leg: side, from: since, to: now }));
        }
        if !bridged {
            return;
        }
        let Some((to, stream)) = other.destination().map(|(to, stream)| (to, (stream.codec, stream.pt))) else { return };
        let (target, payload_type) = stream;
        let port = port_of(slot, side.other());
        if other.out.is_keying() {
            if place != Place::Late {
                other.out.skip(header);
            }
            return;
        }
        let Some(numbers) = other.out.renumber(now, header) else { return };
        if relayed && !hidden {
            let keep = packet.first().copied().unwrap_or(0);
            rtp::write(packet, keep, numbers.marker, payload_type, numbers.sequence, numbers.timestamp, numbers.ssrc);
            wire.send(port, to, packet);
        } else if relayed {
            // A packet of our own: header extensions and padding of the caller's are not looked into, so they do not pass either.
            let mut made = [0; rtp::HEADER_OCTETS + FRAME_OCTETS_MAX];
            rtp::write(&mut made, 0, numbers.marker, payload_type, numbers.sequence, numbers.timestamp, numbers.ssrc);
            let end = rtp::HEADER_OCTETS + header.payload.len().min(FRAME_OCTETS_MAX);
            codec.fill_silence(made.get_mut(rtp::HEADER_OCTETS..end).unwrap_or_default());
            wire.send(port, to, made.get(..end).unwrap_or_default());
        } else {
            if hidden {
                samples.fill(0);
            }
            let mut resampled = [0_i16; FRAME_SAMPLES_MAX];
            other.out.encoder(target);
            let sound = match (codec.sample_rate(), target.sample_rate()) {
                (SampleRate::Hz8000, SampleRate::Hz16000) => {
                    let half = count.min(FRAME_SAMPLES_MAX / 2);
                    let resampler = other.out.resampler.get_or_insert_with(Resampler::up);
                    let n = resampler.run(samples.get(..half).unwrap_or_default(), &mut resampled);
                    resampled.get(..n)
                }
                (SampleRate::Hz16000, SampleRate::Hz8000) => {
                    let resampler = other.out.resampler.get_or_insert_with(Resampler::down);
                    let n = resampler.run(samples.get(..count).unwrap_or_default(), &mut resampled);
                    resampled.get(..n)
                }
                _ => samples.get(..count),
            };
            let mut made = [0; rtp::HEADER_OCTETS + FRAME_OCTETS_MAX];
            rtp::write(&mut made, 0, numbers.marker, payload_type, numbers.sequence, numbers.timestamp, numbers.ssrc);
            let body = made.get_mut(rtp::HEADER_OCTETS..).unwrap_or_default();
            let octets = other.out.encoder(target).encode(sound.unwrap_or_default(), body);
            wire.send(port, to, made.get(..rtp::HEADER_OCTETS + octets).unwrap_or_default());
        }
        other.out.sent += 1;
    }

    /// A key was let go. The caller's are matched with the sequences first: once one is whole, the gate is shut before anything else is looked at.
    fn pressed(&mut self, now: Instant, side: Leg, pressed: event::Pressed, outputs: &mut Outputs) {
        if side == Leg::Callee {
            self.pass_on(now, side, pressed.digit, pressed, outputs);
            return;
        }
        let matched =
            if self.secure { self.end.handle(now, pressed.digit, pressed) } else { self.start.handle(now, pressed.digit, pressed) };
        for (digit, pressed) in matched.free {
            self.pass_on(now, side, digit, pressed, outputs);
        }
        if matched.whole {
            let on = !self.secure;
            self.secure = true;
            outputs.push_back(Output::Report(Report::KeySequence { call: self.id, on, at: pressed.at }));
        }
    }

    /// A key that belongs to no sequence: told of, and sent to the other leg where that takes telephone-event.
    fn pass_on(&mut self, now: Instant, side: Leg, digit: Digit, pressed: event::Pressed, outputs: &mut Outputs) {
        let hidden = self.secure && self.masks && side == Leg::Caller;
        outputs.push_back(Output::Report(Report::Digit {
            call: self.id,
            leg: side,
            digit: (!hidden).then_some(digit),
            at: pressed.at,
            duration_ms: pressed.duration_ms,
            method: DtmfMethod::Rfc4733,
        }));
        if hidden || !self.bridged {
            return;
        }
        let other = self.leg_mut(side.other());
        if other.stream.as_ref().is_some_and(Stream::takes_events) {
            other.out.press(now, digit, pressed.duration_ms);
        }
    }

    pub(super) fn timeout(&mut self, now: Instant, outputs: &mut Outputs, wire: &mut impl Wire) {
        for side in [Leg::Caller, Leg::Callee] {
            if let Some(pressed) = self.leg_mut(side).events.handle_timeout(now) {
                self.pressed(now, side, pressed, outputs);
            }
        }
        for (digit, pressed) in self.start.handle_timeout(now).into_iter().chain(self.end.handle_timeout(now)) {
            self.pass_on(now, Leg::Caller, digit, pressed, outputs);
        }
        for side in [Leg::Caller, Leg::Callee] {
            let (id, slot) = (self.id, self.slot);
            let leg = self.leg_mut(side);
            if let (Some(after), Some(last), false) = (leg.watch.no_media, leg.watch.last, leg.watch.missing)
                && last + after <= now
            {
                leg.watch.missing = true;
                outputs.push_back(Output::Report(Report::NoMedia { call: id, leg: side, since: last }));
            }
            match leg.destination().map(|(to, stream)| (to, stream.event_send)) {
                Some((to, payload_type)) => leg.out.handle_timeout(now, payload_type, port_of(slot, side), to, wire),
                None => leg.out.forget_keys(),
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let legs = [&self.caller, &self.callee].into_iter().flat_map(|leg| {
            let watch = leg.watch.no_media.zip(leg.watch.last).filter(|_| !leg.watch.missing).map(|(after, last)| last + after);
            [leg.events.next_timeout(), leg.out.next_timeout(), watch]
        });
        legs.chain([self.start.next_timeout(), self.end.next_timeout()]).flatten().min()
    }
}

impl Stream {
    /// Whether keys go to it as telephone-event.
    fn takes_events(&self) -> bool {
        self.dtmf == Some(DtmfMethod::Rfc4733) && self.event_send.is_some()
    }
}

pub(super) const fn port_of(slot: u32, leg: Leg) -> Port {
    Port(slot.wrapping_mul(2).wrapping_add(match leg {
        Leg::Caller => 0,
        Leg::Callee => 1,
    }))
}

/// Frames that the recorder could not take are told of at the first and then each time so many are lost.
const UNTAKEN_STEP: u64 = 500;
const QUEUE_FULL: &str = "the recorder's queue takes nothing more: its disk is too slow, or it has stopped";
