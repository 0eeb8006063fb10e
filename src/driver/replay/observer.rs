//! Reads a capture in pieces, and gives each call as soon as it is over: what is kept depends on the calls that are open at once, not on the file.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    Call, Ignored, Report, Rtpmap, Sip, Stopped, Unassigned, call_id,
    calls::{Calls, Seen},
    sip,
    streams::{Sort, Streams},
    tcp,
};
use crate::{
    pcap::{self, Datagrams, Packet, Reader, Transport},
    sip::message::Message,
    time::Wall,
};

/// See the module.
pub struct Observer {
    rtpmap: Rtpmap,
    reader: Reader,
    datagrams: Datagrams,
    calls: Calls,
    streams: Streams,
    segments: tcp::Streams,
    report: Report,
    /// What was wrong with the file before its first frame.
    unreadable: Option<pcap::Stopped>,
    over: VecDeque<(usize, Call)>,
    /// Call-IDs seen of late, and when.
    call_ids: BTreeMap<String, Wall>,
    forgot: Option<Wall>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Observer({} frames)", self.report.frames)
    }
}

/// Frames that carry nothing of ours and are named one by one.
const IGNORED_MAX: usize = 1000;
/// A Call-ID that was not seen for so long counts anew when it comes again.
const FORGET: Duration = Duration::from_secs(3600);

impl Observer {
    /// At a file's start.
    pub fn new(rtpmap: Rtpmap) -> Self {
        Self {
            rtpmap,
            reader: Reader::default(),
            datagrams: Datagrams::default(),
            calls: Calls::default(),
            streams: Streams::default(),
            segments: tcp::Streams::default(),
            report: Report {
                frames: 0,
                stopped: None,
                ignored: Vec::new(),
                ignored_more: 0,
                rtcp: 0,
                sip: Sip::default(),
                calls: Vec::new(),
                unassigned: Unassigned::default(),
            },
            unreadable: None,
            over: VecDeque::new(),
            call_ids: BTreeMap::new(),
            forgot: None,
        }
    }

    /// More of the file.
    pub fn push(&mut self, octets: &[u8]) {
        self.reader.push(octets);
        self.read();
    }

    /// Whether it can be read no further: more of it changes nothing.
    pub fn is_stopped(&self) -> bool {
        self.unreadable.is_some() || self.report.stopped.is_some()
    }

    /// A call that is over, and its place among all by the order of their INVITEs.
    pub fn next_call(&mut self) -> Option<(usize, Call)> {
        self.over.pop_front()
    }

    /// The file's end: everything but the calls, and the calls that were still open. An error where the file is no capture.
    pub fn finish(mut self) -> Result<(Report, Vec<(usize, Call)>), pcap::Stopped> {
        self.reader.end();
        self.read();
        if let Some(stopped) = self.unreadable {
            return Err(stopped);
        }
        self.sweep(None);
        self.report.unassigned = self.streams.rest(&self.calls, &self.rtpmap);
        Ok((self.report, self.over.into()))
    }

    fn read(&mut self) {
        // Taken out, since a frame borrows from it.
        let mut reader = std::mem::take(&mut self.reader);
        while let Some(frame) = reader.next_frame() {
            match frame {
                Ok(frame) => self.frame(&frame),
                Err(stopped) if stopped.frame == 0 && stopped.offset == 0 => self.unreadable = Some(stopped),
                Err(pcap::Stopped { frame, offset, why }) => self.report.stopped = Some(Stopped { frame, offset, why }),
            }
        }
        self.reader = reader;
    }

    fn frame(&mut self, frame: &pcap::Frame<'_>) {
        self.report.frames += 1;
        match self.datagrams.packet(frame) {
            Ok(packet) => self.packet(frame, &packet),
            Err(why) => self.ignore(frame.number, why),
        }
        self.sweep(Some(frame.at));
    }

    fn ignore(&mut self, frame: u64, why: &'static str) {
        if self.report.ignored.len() < IGNORED_MAX {
            self.report.ignored.push(Ignored { frame, why });
        } else {
            self.report.ignored_more += 1;
        }
    }

    fn packet(&mut self, frame: &pcap::Frame<'_>, packet: &Packet<'_>) {
        let (transport, messages) = match packet.transport {
            Transport::Udp => match sip(&packet.payload) {
                Some(message) => ("udp", vec![(message, packet.payload.to_vec())]),
                None => {
                    match self.streams.packet(frame.at, packet, &mut self.calls, &self.rtpmap) {
                        Sort::Rtp => {}
                        Sort::Rtcp => self.report.rtcp += 1,
                        Sort::Other(why) => self.ignore(frame.number, why),
                    }
                    return;
                }
            },
            Transport::Tcp { sequence, syn } => {
                let whole = self.segments.segment(frame.at, packet, sequence, syn).into_iter();
                ("tcp", whole.filter_map(|octets| Some((sip(&octets)?, octets))).collect())
            }
        };
        for (message, octets) in messages {
            let seen = Seen { at: frame.at, frame: frame.number, from: packet.from, to: packet.to, transport };
            self.message(seen, &message, &octets);
        }
    }

    fn message(&mut self, seen: Seen, message: &Message, octets: &[u8]) {
        let sip = &mut self.report.sip;
        sip.messages += 1;
        *sip.transports.entry(seen.transport).or_default() += 1;
        match message {
            Message::Request(request) => *sip.requests.entry(request.method.to_string()).or_default() += 1,
            Message::Response(response) => *sip.responses.entry(response.status).or_default() += 1,
        }
        if self.call_ids.insert(call_id(message).to_owned(), seen.at).is_none() {
            sip.call_ids += 1;
        }
        self.calls.message(seen, message, octets);
    }

    /// Lets go of what is over at `now`; of everything at the file's end.
    fn sweep(&mut self, now: Option<Wall>) {
        for (place, dialog) in self.calls.over(now) {
            let found = self.streams.of(place, dialog.invite_at());
            let call = dialog.finish(found);
            self.report.sip.invite_dialogs += 1;
            self.report.sip.answered += usize::from(call.answer_ms.is_some());
            self.over.push_back((place, call));
        }
        if let Some(now) = now
            && self.forgot.is_none_or(|forgot| forgot + FORGET / 10 < now)
        {
            self.forgot = Some(now);
            self.call_ids.retain(|_, seen| now < *seen + FORGET);
            self.segments.forget(now, FORGET);
        }
    }
}
