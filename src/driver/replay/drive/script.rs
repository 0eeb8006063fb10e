//! The parts of a play: who said what in the capture, and when, each far end by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::super::{Call, call_id, calls::Seen, sip, tcp};
use crate::{
    event::Leg,
    pcap::{self, Datagrams, Reader},
    sdp::Session,
    sip::{
        endpoint::Transport,
        message::{Message, Method},
    },
    time::Wall,
};

/// A message that a far end sent.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) at: Wall,
    pub(super) frame: u64,
    pub(super) message: Message,
    /// The same octets between the same two were seen before.
    pub(super) again: bool,
}

/// An RTP packet that a far end sent.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) at: Wall,
    pub(super) from: SocketAddr,
    pub(super) octets: Vec<u8>,
}

/// One far end: the phone that calls, or one that is called.
#[derive(Debug)]
pub(super) struct FarEnd {
    pub(super) leg: Leg,
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
    /// When the INVITE left it, or reached it.
    pub(super) invite_at: Wall,
    /// What it said, in order.
    pub(super) said: Vec<Said>,
    /// What it was told.
    pub(super) told: Vec<Said>,
    pub(super) sounds: Vec<Sound>,
}

/// One call to be played: the caller, and whoever was called, in order.
#[derive(Debug)]
pub(super) struct Script {
    /// The caller's SIP Call-ID.
    pub(super) call_id: String,
    pub(super) caller: FarEnd,
    pub(super) callees: Vec<FarEnd>,
}

/// A dialog with all that passed in it.
struct Dialog {
    call_id: String,
    caller: SocketAddr,
    caller_tag: String,
    /// Where its INVITE went last: with a proxy between, it goes on.
    callee: SocketAddr,
    transport: Transport,
    seen: Vec<(Seen, Message, bool)>,
    described: BTreeMap<SocketAddr, Leg>,
}

impl Dialog {
    fn starts(&self) -> Wall {
        self.seen.first().map(|(seen, ..)| seen.at).unwrap_or_default()
    }

    fn ends(&self) -> Wall {
        self.seen.last().map(|(seen, ..)| seen.at).unwrap_or_default()
    }

    /// Who sent a message, as its tags say.
    fn sender(&self, message: &Message) -> Leg {
        let (from, request) = match message {
            Message::Request(request) => (request.from(), true),
            Message::Response(response) => (response.from(), false),
        };
        let by_caller = from.is_ok_and(|f| f.tag() == Some(self.caller_tag.as_str()));
        if by_caller == request { Leg::Caller } else { Leg::Callee }
    }

    /// Whether an address is the far end's own, not a proxy's; over TCP it may have come from another port.
    fn is_at(&self, address: SocketAddr, end: SocketAddr) -> bool {
        address == end || (self.transport == Transport::Tcp && address.ip() == end.ip())
    }

    fn far_end(&self, leg: Leg, sounds: Vec<Sound>) -> FarEnd {
        let address = if leg == Leg::Caller { self.caller } else { self.callee };
        let (mut said, mut told) = (Vec::new(), Vec::new());
        for (seen, message, again) in &self.seen {
            let copy = || Said { at: seen.at, frame: seen.frame, message: message.clone(), again: *again };
            let by = self.sender(message);
            if by == leg && self.is_at(seen.from, address) {
                said.push(copy());
            } else if by != leg && self.is_at(seen.to, address) {
                told.push(copy());
            }
        }
        let invite_at = if leg == Leg::Caller { self.starts() } else { told.first().map_or_else(|| self.starts(), |t| t.at) };
        FarEnd { leg, address, transport: self.transport, invite_at, said, told, sounds }
    }
}

/// The calls of a capture as plays, put together as whoever observed them did. A file that ends early gives what it holds.
pub(super) fn scripts(file: &[u8], calls: &[Call]) -> Vec<Script> {
    let mut dialogs: Vec<Dialog> = Vec::new();
    let mut packets = Vec::new();
    let mut met = BTreeSet::new();
    let mut segments = tcp::Streams::default();
    let (mut reader, mut datagrams) = (Reader::default(), Datagrams::default());
    reader.push(file);
    reader.end();
    while let Some(Ok(frame)) = reader.next_frame() {
        let Ok(packet) = datagrams.packet(&frame) else { continue };
        let (messages, transport) = match packet.transport {
            pcap::Transport::Udp => match sip(&packet.payload) {
                Some(message) => (vec![(message, packet.payload.to_vec())], "udp"),
                None => {
                    packets.push((packet.to, Sound { at: frame.at, from: packet.from, octets: packet.payload.to_vec() }));
                    continue;
                }
            },
            pcap::Transport::Tcp { sequence, syn } => {
                let whole = segments.segment(frame.at, &packet, sequence, syn).into_iter();
                (whole.filter_map(|octets| Some((sip(&octets)?, octets))).collect(), "tcp")
            }
        };
        for (message, octets) in messages {
            let again = !met.insert((packet.from, packet.to, octets));
            let seen = Seen { at: frame.at, frame: frame.number, from: packet.from, to: packet.to, transport };
            take(&mut dialogs, seen, message, again);
        }
    }
    plays(&dialogs, calls, packets)
}

fn take(dialogs: &mut Vec<Dialog>, seen: Seen, message: Message, again: bool) {
    let id = call_id(&message).to_owned();
    let place = match dialogs.iter().position(|d| d.call_id == id) {
        Some(place) => place,
        None => {
            let Message::Request(request) = &message else { return };
            if request.method != Method::INVITE {
                return;
            }
            dialogs.push(Dialog {
                call_id: id,
                caller: seen.from,
                caller_tag: request.from().ok().and_then(|f| f.tag().map(str::to_owned)).unwrap_or_default(),
                callee: seen.to,
                transport: if seen.transport == "tcp" { Transport::Tcp } else { Transport::Udp },
                seen: Vec::new(),
                described: BTreeMap::new(),
            });
            dialogs.len().saturating_sub(1)
        }
    };
    let Some(dialog) = dialogs.get_mut(place) else { return };
    if let Message::Request(request) = &message
        && request.method == Method::INVITE
        && request.to().is_ok_and(|to| to.tag().is_none())
        && dialog.callee == seen.from
    {
        // A proxy sends it on.
        dialog.callee = seen.to;
    }
    let body = match &message {
        Message::Request(request) => &request.body,
        Message::Response(response) => &response.body,
    };
    if let Ok(session) = Session::parse(body) {
        let by = dialog.sender(&message);
        for media in session.media.iter().filter(|m| m.kind == "audio" && m.port != 0) {
            if let Some(ip) = session.address(media) {
                dialog.described.insert(SocketAddr::new(ip, media.port), by);
            }
        }
    }
    dialog.seen.push((seen, message, again));
}

/// Puts the legs of a gateway together: the caller of one dialog, and whoever was called for him.
fn plays(dialogs: &[Dialog], calls: &[Call], packets: Vec<(SocketAddr, Sound)>) -> Vec<Script> {
    let parents: BTreeMap<&str, &str> =
        calls.iter().filter_map(|call| Some((call.call_id.as_str(), call.parent_call_id.as_deref()?))).collect();
    let mut children: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, dialog) in dialogs.iter().enumerate() {
        if let Some(parent) = parents.get(dialog.call_id.as_str()) {
            children.entry(parent).or_default().push(index);
        }
    }
    let mut sounds: BTreeMap<(usize, Leg), Vec<Sound>> = BTreeMap::new();
    for (to, sound) in packets {
        let found = dialogs.iter().enumerate().rev().find_map(|(index, dialog)| {
            if sound.at < dialog.starts() || dialog.ends() + LATE < sound.at {
                return None;
            }
            // What goes to a described address comes from the other side.
            let by_target = dialog.described.get(&to).map(|leg| leg.other());
            Some((index, by_target.or_else(|| dialog.described.get(&sound.from).copied())?))
        });
        if let Some(place) = found {
            sounds.entry(place).or_default().push(sound);
        }
    }
    let mut scripts = Vec::new();
    for (index, dialog) in dialogs.iter().enumerate() {
        if parents.contains_key(dialog.call_id.as_str()) {
            continue;
        }
        let mut of = |index: usize, leg| sounds.remove(&(index, leg)).unwrap_or_default();
        let caller = dialog.far_end(Leg::Caller, of(index, Leg::Caller));
        let mut callees = Vec::new();
        for (place, child) in
            children.get(dialog.call_id.as_str()).into_iter().flatten().filter_map(|place| Some((*place, dialogs.get(*place)?)))
        {
            callees.push(child.far_end(Leg::Callee, of(place, Leg::Callee)));
        }
        if callees.is_empty() {
            callees.push(dialog.far_end(Leg::Callee, of(index, Leg::Callee)));
        }
        scripts.push(Script { call_id: dialog.call_id.clone(), caller, callees });
    }
    scripts
}

/// Packets that still come after the last message of a dialog are its own for so long.
const LATE: std::time::Duration = std::time::Duration::from_secs(2);
