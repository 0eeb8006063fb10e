//! The dialogs of a capture: when each was answered, how it ended, what was agreed on, and its ladder.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::{Call, Digit, Step, call_id, is_invite, streams::Found};
use crate::{
    driver::ladder,
    dtmf::info,
    event::{DtmfMethod, Outcome},
    sdp::Session,
    sip::message::{Message, Method},
    time::Wall,
};

/// Where a message was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: Wall,
    pub(super) frame: u64,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) transport: &'static str,
}

/// All dialogs that an INVITE opened, in the order of their INVITEs.
#[derive(Default)]
pub(super) struct Calls {
    all: Vec<Dialog>,
    by_id: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Dialog {
    call_id: String,
    invite_at: Wall,
    /// Tag of whoever sent the INVITE.
    caller_tag: String,
    answer_at: Option<Wall>,
    end_at: Option<Wall>,
    status: Option<u16>,
    bye: bool,
    cancelled: bool,
    referred: bool,
    /// Codec of the last answer.
    codec: Option<String>,
    /// Who described his media where, with his payload types: the caller's first.
    media: BTreeMap<SocketAddr, Described>,
    offered_events: BTreeSet<&'static str>,
    info: bool,
    steps: Vec<Step>,
    met: BTreeSet<(SocketAddr, SocketAddr, Vec<u8>)>,
    digits: Vec<Digit>,
    infos: BTreeSet<String>,
}

/// Media that somebody described.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) leg: &'static str,
    /// Names of its payload types.
    pub(super) names: BTreeMap<u8, String>,
}

const CALLER: &str = "caller";
const CALLEE: &str = "callee";

impl Calls {
    /// A message was captured.
    pub(super) fn message(&mut self, seen: Seen, message: &Message, octets: Vec<u8>) {
        let id = call_id(message);
        let index = match (self.by_id.get(id), message) {
            (Some(index), _) => *index,
            (None, Message::Request(request)) if request.method == Method::INVITE => {
                self.by_id.insert(id.to_owned(), self.all.len());
                self.all.push(Dialog::new(id, seen.at, request.from().ok().and_then(|f| f.tag().map(str::to_owned)).unwrap_or_default()));
                self.all.len() - 1
            }
            _ => return,
        };
        if let Some(dialog) = self.all.get_mut(index) {
            dialog.message(seen, message, octets);
        }
    }

    /// The call whose signalling named an address for media, and who named it.
    pub(super) fn describing(&self, address: SocketAddr) -> Option<(usize, &Described)> {
        self.all.iter().enumerate().rev().find_map(|(index, dialog)| Some((index, dialog.media.get(&address)?)))
    }

    /// When a call's INVITE was captured.
    pub(super) fn invite_at(&self, call: usize) -> Option<Wall> {
        self.all.get(call).map(|d| d.invite_at)
    }

    /// The calls, with the streams and keys that were found for them.
    pub(super) fn finish(self, found: &mut Found) -> Vec<Call> {
        let peers = self.peers();
        let named = |call: &mut Call, index: usize| call.peer_call_id = peers.get(&index).cloned();
        let calls = self.all.into_iter().enumerate().map(|(index, dialog)| {
            let mut call = dialog.finish(index, found);
            named(&mut call, index);
            call
        });
        calls.collect()
    }

    /// The two legs of a gateway: somebody is invited from the address that a caller invited, while that call lasts. A caller's other leg is the one that
    /// was answered, else the last that was tried.
    fn peers(&self) -> BTreeMap<usize, String> {
        let mut invited: BTreeMap<SocketAddr, Vec<usize>> = BTreeMap::new();
        let mut peers: BTreeMap<usize, (usize, bool)> = BTreeMap::new();
        for (index, dialog) in self.all.iter().enumerate() {
            let Some(first) = dialog.steps.first() else { continue };
            let lasts = |other: &Dialog| other.end_at.is_none_or(|end| dialog.invite_at <= end);
            let callers = invited.get(&first.from).map(Vec::as_slice).unwrap_or_default();
            let parent = callers.iter().rev().take(PARENTS_MAX).find(|parent| self.all.get(**parent).is_some_and(lasts));
            if let Some(parent) = parent {
                let answered = dialog.answer_at.is_some();
                let known = peers.get(parent).is_some_and(|(_, answered)| *answered);
                if !known || answered {
                    peers.insert(*parent, (index, answered));
                }
                peers.insert(index, (*parent, true));
            }
            invited.entry(first.to).or_default().push(index);
        }
        let name = |index: usize| self.all.get(index).map(|d| d.call_id.clone()).unwrap_or_default();
        peers.into_iter().map(|(index, (peer, _))| (index, name(peer))).collect()
    }
}

/// Calls to one address that are looked through for the one that a leg belongs to: those that stand at a time.
const PARENTS_MAX: usize = 1000;

impl Dialog {
    fn new(call_id: &str, invite_at: Wall, caller_tag: String) -> Self {
        Self {
            call_id: call_id.to_owned(),
            invite_at,
            caller_tag,
            answer_at: None,
            end_at: None,
            status: None,
            bye: false,
            cancelled: false,
            referred: false,
            codec: None,
            media: BTreeMap::new(),
            offered_events: BTreeSet::new(),
            info: false,
            steps: Vec::new(),
            met: BTreeSet::new(),
            digits: Vec::new(),
            infos: BTreeSet::new(),
        }
    }

    fn millis(&self, at: Wall) -> i64 {
        at.as_millis() - self.invite_at.as_millis()
    }

    fn message(&mut self, seen: Seen, message: &Message, octets: Vec<u8>) {
        let (headers, body, from) = match message {
            Message::Request(request) => (&request.headers, &request.body, request.from()),
            Message::Response(response) => (&response.headers, &response.body, response.from()),
        };
        let from_caller = from.is_ok_and(|f| f.tag() == Some(self.caller_tag.as_str()));
        // From names whoever sent the request; a response goes the other way.
        let sender = if from_caller == matches!(message, Message::Request(_)) { CALLER } else { CALLEE };
        self.steps.push(Step {
            at_ms: self.millis(seen.at),
            frame: Some(seen.frame),
            from: seen.from,
            to: seen.to,
            transport: seen.transport,
            retransmission: !self.met.insert((seen.from, seen.to, octets)),
            summary: ladder::of(message),
        });
        if headers.get("Content-Type").is_some_and(|t| t.to_ascii_lowercase().starts_with("application/sdp"))
            && let Ok(session) = Session::parse(body)
        {
            self.described(sender, &session, matches!(message, Message::Response(r) if r.status < 300) || is_ack(message));
        }
        match message {
            Message::Request(request) if request.method == Method::BYE => {
                self.bye = true;
                self.end_at.get_or_insert(seen.at);
            }
            Message::Request(request) if request.method == Method::CANCEL => self.cancelled = true,
            Message::Request(request) if request.method == Method::INFO => {
                let kind = request.header("Content-Type").unwrap_or_default();
                let text = String::from_utf8_lossy(body);
                if let Some((digit, duration_ms)) = info::parse(kind, &text)
                    // Once, however often it is sent.
                    && self.infos.insert(format!("{sender} {}", request.header("CSeq").unwrap_or_default()))
                {
                    self.info = true;
                    let at_ms = self.millis(seen.at);
                    let digit = digit.to_string();
                    self.digits.push(Digit { leg: Some(sender), digit, at_ms, duration_ms, method: DtmfMethod::Info, complete: true });
                }
            }
            Message::Response(response) if response.cseq().is_ok_and(|(_, m)| m == Method::REFER) => {
                self.referred |= (200..300).contains(&response.status);
            }
            Message::Response(response) if is_invite(message) && response.status >= 200 && sender == CALLEE => {
                if response.status < 300 {
                    self.answer_at.get_or_insert(seen.at);
                    self.status = Some(response.status);
                } else if self.answer_at.is_none() && !matches!(response.status, 401 | 407) {
                    self.status = Some(response.status);
                    self.end_at = Some(seen.at);
                }
            }
            _ => {}
        }
    }

    fn described(&mut self, sender: &'static str, session: &Session, answers: bool) {
        for media in session.media.iter().filter(|m| m.kind == "audio" && m.port != 0) {
            let names: BTreeMap<u8, String> = media.payload_types().filter_map(|pt| Some((pt, media.rtpmap(pt)?.name))).collect();
            if names.values().any(|n| n.eq_ignore_ascii_case("telephone-event")) {
                self.offered_events.insert(sender);
            }
            if answers || self.codec.is_none() {
                let first = media.payload_types().filter_map(|pt| names.get(&pt)).find(|n| !n.eq_ignore_ascii_case("telephone-event"));
                if answers {
                    self.codec = first.cloned().or(self.codec.take());
                }
            }
            if let Some(ip) = session.address(media).or_else(|| media.connection.as_ref()?.parse::<IpAddr>().ok()) {
                self.media.insert(SocketAddr::new(ip, media.port), Described { leg: sender, names });
            }
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        Some(match self.status {
            Some(200..=299) => Outcome::Answered,
            Some(486 | 600) => Outcome::Busy,
            Some(408 | 480) => Outcome::NoAnswer,
            Some(403 | 603 | 607 | 608) => Outcome::Rejected,
            Some(404 | 410 | 484 | 604) => Outcome::InvalidNumber,
            Some(503) => Outcome::Congestion,
            Some(487) => Outcome::Cancelled,
            Some(_) => Outcome::Failed,
            None if self.cancelled => Outcome::Cancelled,
            None => return None,
        })
    }

    fn finish(self, index: usize, found: &mut Found) -> Call {
        let outcome = self.outcome();
        let ended_as = match (outcome, self.bye) {
            (_, true) if self.referred => "transferred",
            (_, true) => "completed",
            (Some(Outcome::Cancelled), _) => "cancelled",
            (Some(Outcome::Answered) | None, _) => "incomplete",
            (Some(_), _) => "failed",
        };
        let mut digits = self.digits.clone();
        digits.extend(found.digits_of(index));
        digits.sort_by_key(|d| d.at_ms);
        let dtmf = if self.offered_events.len() == 2 {
            Some(DtmfMethod::Rfc4733)
        } else if self.info {
            Some(DtmfMethod::Info)
        } else {
            None
        };
        Call {
            answer_ms: self.answer_at.map(|at| self.millis(at)),
            end_ms: self.end_at.map(|at| self.millis(at)),
            outcome: outcome.map(name),
            ended_as,
            peer_call_id: None,
            codec: self.codec.filter(|_| self.answer_at.is_some()),
            dtmf,
            digits,
            streams: found.streams_of(index),
            events: Vec::new(),
            play: None,
            call_id: self.call_id,
            invite_at: self.invite_at,
            ladder: self.steps,
        }
    }
}

fn is_ack(message: &Message) -> bool {
    matches!(message, Message::Request(request) if request.method == Method::ACK)
}

const fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => "answered",
        Outcome::Busy => "busy",
        Outcome::NoAnswer => "no_answer",
        Outcome::Rejected => "rejected",
        Outcome::InvalidNumber => "invalid_number",
        Outcome::Machine => "machine",
        Outcome::Congestion => "congestion",
        Outcome::Cancelled => "cancelled",
        Outcome::Failed => "failed",
    }
}
