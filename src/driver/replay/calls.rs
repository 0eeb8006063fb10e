//! The dialogs of a capture: when each was answered, how it ended, what was agreed on, and its ladder.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash as _, Hasher as _},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Call, Digit, Step, call_id, is_invite, streams::Found};
use crate::{
    driver::ladder,
    dtmf::info,
    event::{DtmfMethod, Leg, Outcome},
    route::outcome::{Outcomes, q850},
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

/// The dialogs that INVITEs opened, and that are not over for long.
#[derive(Default)]
pub(super) struct Calls {
    open: BTreeMap<usize, Dialog>,
    by_id: BTreeMap<String, usize>,
    /// Addresses for media, and the latest call that described each.
    media: BTreeMap<SocketAddr, usize>,
    /// Addresses that INVITEs went to, and the calls that they opened.
    invited: BTreeMap<SocketAddr, Vec<usize>>,
    opened: usize,
    swept: Option<Wall>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Dialog {
    call_id: String,
    invite_at: Wall,
    /// Tag of whoever sent the INVITE, and the user of his address.
    caller_tag: String,
    caller: Option<String>,
    answer_at: Option<Wall>,
    end_at: Option<Wall>,
    status: Option<u16>,
    /// The network's own cause that came with it (Q.850).
    cause: Option<u8>,
    bye: bool,
    cancelled: bool,
    referred: bool,
    /// Codec of the last answer.
    codec: Option<String>,
    /// Who described his media where, with his payload types: the caller's first.
    media: BTreeMap<SocketAddr, Described>,
    offered_events: BTreeSet<Leg>,
    info: bool,
    steps: Vec<Step>,
    met: BTreeSet<u64>,
    digits: Vec<Digit>,
    infos: BTreeSet<(Leg, String)>,
    /// When anything of it was last seen, a packet of its sound too.
    seen_at: Wall,
    /// The call that a gateway makes this one for.
    parent: Option<(usize, String)>,
    /// The call that a gateway made for this one, and whether that was answered: the answered one counts, else the last.
    child: Option<(String, bool)>,
}

/// Media that somebody described.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) leg: Leg,
    /// Its payload types: name, and Hz of the clock.
    pub(super) names: BTreeMap<u8, (String, u32)>,
}

/// A call is looked at for so long after its end: what is sent again comes within 32 s (RFC 3261 §17.1.1.2).
const LINGER: Duration = Duration::from_secs(35);
/// A call of which nothing was seen for so long has ended unseen.
const UNSEEN: Duration = Duration::from_secs(3600);
/// How often ended calls are looked for.
const SWEEP: Duration = Duration::from_secs(1);

impl Calls {
    /// A message was captured.
    pub(super) fn message(&mut self, seen: Seen, message: &Message, octets: &[u8]) {
        let id = call_id(message);
        let index = match (self.by_id.get(id), message) {
            (Some(index), _) => *index,
            (None, Message::Request(request)) if request.method == Method::INVITE => {
                let index = self.opened;
                self.opened += 1;
                self.by_id.insert(id.to_owned(), index);
                let from = request.from().ok();
                let tag = from.as_ref().and_then(|f| f.tag().map(str::to_owned)).unwrap_or_default();
                let mut dialog = Dialog::new(id, seen.at, tag);
                dialog.caller = from.and_then(|f| f.uri.user().map(str::to_owned));
                dialog.parent = self.parent(seen, dialog.caller.as_deref());
                self.invited.entry(seen.to).or_default().push(index);
                self.open.insert(index, dialog);
                index
            }
            _ => return,
        };
        let Some(dialog) = self.open.get_mut(&index) else { return };
        dialog.message(seen, message, octets);
        self.media.extend(dialog.media.keys().map(|address| (*address, index)));
        let (id, answered) = (dialog.call_id.clone(), dialog.answer_at.is_some());
        if let Some(parent) = dialog.parent.as_ref().map(|(parent, _)| *parent)
            && let Some(parent) = self.open.get_mut(&parent)
            && (answered || parent.child.as_ref().is_none_or(|(_, answered)| !answered))
        {
            parent.child = Some((id, answered));
        }
    }

    /// The call for which a gateway makes this one: somebody is invited from the address that a caller invited, while that call lasts; of several the
    /// latest with the same caller, else the latest. Over TCP he is invited from another port of the gateway's host, which is none of the caller's: where all
    /// ends share a host, nobody could tell.
    fn parent(&self, invite: Seen, caller: Option<&str>) -> Option<(usize, String)> {
        let lasts = |index: &&usize| self.open.get(index).is_some_and(|d| d.end_at.is_none_or(|end| invite.at <= end));
        let alike = |index: &&usize| caller.is_some() && self.open.get(index).is_some_and(|d| d.caller.as_deref() == caller);
        let from_elsewhere = |index: &&usize| {
            let caller = self.open.get(index).and_then(|d| d.steps.first()).map(|step| step.from.ip());
            caller.is_some_and(|caller| caller != invite.from.ip())
        };
        let ip = invite.from.ip();
        let at_host = || self.invited.range(SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX)).flat_map(|(_, calls)| calls);
        let callers: Vec<_> = match self.invited.get(&invite.from) {
            Some(callers) => callers.iter().filter(lasts).collect(),
            None if invite.transport == "tcp" => at_host().filter(lasts).filter(from_elsewhere).collect(),
            None => return None,
        };
        let parent = callers.iter().copied().filter(alike).max().or_else(|| callers.iter().copied().max())?;
        Some((*parent, self.open.get(parent)?.call_id.clone()))
    }

    /// The call whose signalling explains a packet, and who sends it.
    pub(super) fn explaining(&mut self, at: Wall, from: SocketAddr, to: SocketAddr) -> Option<(usize, Option<Leg>)> {
        let by = |address| self.media.get(&address).copied();
        let index = by(to).max(by(from))?;
        let dialog = self.open.get_mut(&index)?;
        dialog.seen_at = dialog.seen_at.max(at);
        let by_sender = dialog.media.get(&from).map(|d| d.leg);
        let by_target = || dialog.media.get(&to).map(|d| d.leg.other());
        Some((index, by_sender.or_else(by_target)))
    }

    /// What a payload type stands for at an address of a call.
    pub(super) fn name(&self, call: usize, address: SocketAddr, number: u8) -> Option<(String, u32)> {
        self.open.get(&call)?.media.get(&address)?.names.get(&number).cloned()
    }

    /// Calls that are over for long enough at `now`; all of them at the file's end.
    pub(super) fn over(&mut self, now: Option<Wall>) -> Vec<(usize, Dialog)> {
        if let Some(now) = now {
            if self.swept.is_some_and(|swept| now < swept + SWEEP) {
                return Vec::new();
            }
            self.swept = Some(now);
        }
        let is_over = |dialog: &Dialog| {
            now.is_none_or(|now| dialog.seen_at + UNSEEN < now || dialog.end_at.is_some_and(|end| end.max(dialog.seen_at) + LINGER < now))
        };
        let over = self.open.iter().filter(|(_, dialog)| is_over(dialog)).map(|(index, _)| *index).collect::<Vec<_>>();
        let mut gone = Vec::new();
        for index in over {
            let Some(dialog) = self.open.remove(&index) else { continue };
            self.by_id.remove(&dialog.call_id);
            for address in dialog.media.keys() {
                if self.media.get(address) == Some(&index) {
                    self.media.remove(address);
                }
            }
            if let Some(to) = dialog.steps.first().map(|s| s.to)
                && let Some(calls) = self.invited.get_mut(&to)
            {
                calls.retain(|call| *call != index);
                if calls.is_empty() {
                    self.invited.remove(&to);
                }
            }
            gone.push((index, dialog));
        }
        gone
    }
}

impl Dialog {
    fn new(call_id: &str, invite_at: Wall, caller_tag: String) -> Self {
        Self {
            call_id: call_id.to_owned(),
            invite_at,
            caller_tag,
            caller: None,
            answer_at: None,
            end_at: None,
            status: None,
            cause: None,
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
            seen_at: invite_at,
            parent: None,
            child: None,
        }
    }

    /// When its INVITE was captured.
    pub(super) fn invite_at(&self) -> Wall {
        self.invite_at
    }

    fn millis(&self, at: Wall) -> i64 {
        at.as_millis() - self.invite_at.as_millis()
    }

    fn message(&mut self, seen: Seen, message: &Message, octets: &[u8]) {
        self.seen_at = self.seen_at.max(seen.at);
        let (headers, body, from) = match message {
            Message::Request(request) => (&request.headers, &request.body, request.from()),
            Message::Response(response) => (&response.headers, &response.body, response.from()),
        };
        let from_caller = from.is_ok_and(|f| f.tag() == Some(self.caller_tag.as_str()));
        // From names whoever sent the request; a response goes the other way.
        let sender = if from_caller == matches!(message, Message::Request(_)) { Leg::Caller } else { Leg::Callee };
        self.steps.push(Step {
            at_ms: self.millis(seen.at),
            frame: Some(seen.frame),
            from: seen.from,
            to: seen.to,
            transport: seen.transport,
            retransmission: !self.met.insert(mark(seen, octets)),
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
                    && self.infos.insert((sender, request.header("CSeq").unwrap_or_default().to_owned()))
                {
                    self.info = true;
                    let at_ms = self.millis(seen.at);
                    let digit = Some(digit.to_string());
                    self.digits.push(Digit {
                        leg: Some(sender),
                        digit,
                        at_ms,
                        duration_ms,
                        method: DtmfMethod::Info,
                        complete: true,
                        masked: false,
                    });
                }
            }
            Message::Response(response) if response.cseq().is_ok_and(|(_, m)| m == Method::REFER) => {
                self.referred |= (200..300).contains(&response.status);
            }
            Message::Response(response) if is_invite(message) && response.status >= 200 && sender == Leg::Callee => {
                if response.status < 300 {
                    self.answer_at.get_or_insert(seen.at);
                    self.status = Some(response.status);
                } else if self.answer_at.is_none() && !matches!(response.status, 401 | 407) {
                    self.status = Some(response.status);
                    self.cause = q850(response.headers.values("Reason"));
                    self.end_at = Some(seen.at);
                }
            }
            _ => {}
        }
    }

    fn described(&mut self, sender: Leg, session: &Session, answers: bool) {
        for media in session.media.iter().filter(|m| m.kind == "audio" && m.port != 0) {
            let named = |pt| media.rtpmap(pt).map(|map| (pt, (map.name, map.clock)));
            let names: BTreeMap<u8, (String, u32)> = media.payload_types().filter_map(named).collect();
            if names.values().any(|(name, _)| name.eq_ignore_ascii_case("telephone-event")) {
                self.offered_events.insert(sender);
            }
            if answers || self.codec.is_none() {
                let words = media.payload_types().filter_map(|pt| names.get(&pt)).map(|(name, _)| name);
                let first = words.into_iter().find(|n| !n.eq_ignore_ascii_case("telephone-event"));
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
            Some(status) => Outcomes::default().met(status, self.cause),
            None if self.cancelled => Outcome::Cancelled,
            None => return None,
        })
    }

    /// All that there is to say of it.
    pub(super) fn finish(self, found: Found) -> Call {
        let outcome = self.outcome();
        let ended_as = match (outcome, self.bye) {
            (_, true) if self.referred => "transferred",
            (_, true) => "completed",
            (Some(Outcome::Cancelled), _) => "cancelled",
            (Some(Outcome::Answered) | None, _) => "incomplete",
            (Some(_), _) => "failed",
        };
        let mut digits = self.digits.clone();
        digits.extend(found.digits);
        digits.sort_by_key(|d| d.at_ms);
        let dtmf = if self.offered_events.len() == 2 {
            Some(DtmfMethod::Rfc4733)
        } else if self.info {
            Some(DtmfMethod::Info)
        } else {
            None
        };
        let parent_call_id = self.parent.as_ref().map(|(_, id)| id.clone());
        Call {
            answer_ms: self.answer_at.map(|at| self.millis(at)),
            end_ms: self.end_at.map(|at| self.millis(at)),
            outcome,
            ended_as,
            peer_call_id: parent_call_id.clone().or_else(|| self.child.map(|(id, _)| id)),
            parent_call_id,
            codec: self.codec.filter(|_| self.answer_at.is_some()),
            dtmf,
            digits,
            sounds: found.sounds,
            streams: found.streams,
            events: Vec::new(),
            play: None,
            call_id: self.call_id,
            invite_at: self.invite_at,
            ladder: self.steps,
        }
    }
}

/// Tells octets between two addresses from others.
fn mark(seen: Seen, octets: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (seen.from, seen.to, octets).hash(&mut hasher);
    hasher.finish()
}

fn is_ack(message: &Message) -> bool {
    matches!(message, Message::Request(request) if request.method == Method::ACK)
}
