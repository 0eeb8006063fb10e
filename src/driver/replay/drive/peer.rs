//! A far end on the stage: says what it said in the capture, in the dialog that the gateway has with it now.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::script::{FarEnd, Said};
use crate::{
    event::Leg,
    sip::{
        message::{Message, Method, NameAddr, Request, Response},
        uri::Uri,
    },
    time::Instant,
};

/// Headers that belong to a dialog or a hop: in what is said now they are the gateway's, not the capture's.
const OF_THE_DIALOG: [&str; 8] = ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route", "Route", "Content-Length"];

pub(super) struct Peer<'s> {
    end: &'s FarEnd,
    /// When what it said first is due.
    start: Instant,
    /// Requests still to be sent.
    queue: VecDeque<&'s Said>,
    /// Its answers to requests within the dialog, by method, in order: each a delay and a response.
    answers: BTreeMap<String, VecDeque<Vec<(Duration, &'s Response)>>>,
    /// Branches of requests that it has answered or will.
    heard: BTreeSet<(String, String)>,
    /// CSeq numbers of its INVITEs that have a final answer.
    finals: BTreeSet<u32>,
    provisional: bool,
    established: bool,
    cancelled: bool,
    /// The INVITE that called it.
    invite: Option<Request>,
    /// Its own tag in the capture.
    tag: Option<String>,
    /// What From or To say of the gateway in this dialog.
    gateway: Option<String>,
    contact: Option<Uri>,
    /// The last description of its media.
    sdp: Option<(String, bytes::Bytes)>,
}

impl<'s> Peer<'s> {
    pub(super) fn new(end: &'s FarEnd, start: Instant) -> Self {
        let requests = end.said.iter().filter(|s| matches!(&s.message, Message::Request(r) if r.method != Method::PRACK));
        let mut answers: BTreeMap<String, VecDeque<Vec<(Duration, &Response)>>> = BTreeMap::new();
        for told in end.told.iter().filter(|t| !t.again) {
            let Message::Request(request) = &told.message else { continue };
            if request.method == Method::ACK || is_initial(request) {
                continue;
            }
            answers.entry(request.method.to_string()).or_default().push_back(end.answers_to(request, told).collect());
        }
        let tag = end.said.iter().find_map(|said| match (&said.message, end.leg) {
            (Message::Response(response), Leg::Callee) => response.to().ok()?.tag().map(str::to_owned),
            (Message::Request(request), Leg::Caller) => request.from().ok()?.tag().map(str::to_owned),
            _ => None,
        });
        Self {
            end,
            start,
            queue: requests.collect(),
            answers,
            heard: BTreeSet::new(),
            finals: BTreeSet::new(),
            provisional: false,
            established: false,
            cancelled: false,
            invite: None,
            tag,
            gateway: None,
            contact: None,
            sdp: None,
        }
    }

    /// When the next request is due by the capture, and whether it can be said yet.
    pub(super) fn next(&self) -> Option<(Instant, bool)> {
        let said = self.queue.front()?;
        Some((self.at(said), self.may_say(said)))
    }

    /// What was never said: its turn never came.
    pub(super) fn unsaid(&self) -> impl Iterator<Item = String> + '_ {
        self.queue.iter().filter(|said| !said.again).filter_map(|said| match &said.message {
            Message::Request(request) => Some(format!("{} of frame {}", request.method, said.frame)),
            Message::Response(_) => None,
        })
    }

    fn at(&self, said: &Said) -> Instant {
        self.start + Duration::from_micros(u64::try_from(said.at.as_micros() - self.end.invite_at.as_micros()).unwrap_or(0))
    }

    fn may_say(&self, said: &Said) -> bool {
        let Message::Request(request) = &said.message else { return false };
        let Ok((number, _)) = request.cseq() else { return true };
        match request.method {
            _ if is_initial(request) => self.end.leg == Leg::Caller,
            Method::CANCEL => self.provisional,
            Method::ACK => self.finals.contains(&number),
            _ => self.established,
        }
    }

    /// Says the next request.
    pub(super) fn say(&mut self) -> Option<Message> {
        let Message::Request(captured) = &self.queue.pop_front()?.message else { return None };
        let mut request = captured.clone();
        self.remember_sdp(request.header("Content-Type"), &captured.body);
        if is_initial(&request) {
            return Some(Message::Request(request));
        }
        request.headers.remove("Route");
        let gateway = self.gateway.clone().unwrap_or_default();
        match self.end.leg {
            Leg::Caller => request.headers.set("To", gateway),
            Leg::Callee => {
                let invite = self.invite.as_ref()?;
                let own = invite.to().ok()?.with_tag(self.tag.as_deref().unwrap_or("captured"));
                request.headers.set("From", own.to_string());
                request.headers.set("To", gateway);
                request.headers.set("Call-ID", invite.call_id());
            }
        }
        if request.method != Method::CANCEL
            && let Some(contact) = &self.contact
        {
            request.uri = contact.clone();
        }
        Some(Message::Request(request))
    }

    /// The gateway tells it something: what it answers, and after how long.
    pub(super) fn hear(&mut self, message: &Message) -> Vec<(Duration, Message)> {
        match message {
            Message::Response(response) => {
                self.hear_response(response);
                Vec::new()
            }
            Message::Request(request) => {
                let branch = request.via().ok().and_then(|v| v.branch().map(str::to_owned)).unwrap_or_default();
                // On this stage nothing is lost: whoever asks again is answered already, or will be.
                if request.method != Method::ACK && !self.heard.insert((branch, request.method.to_string())) {
                    return Vec::new();
                }
                self.hear_request(request)
            }
        }
    }

    /// Whether an answer that was on its way may still come: nobody answers a call that was cancelled.
    pub(super) fn still_says(&self, message: &Message) -> bool {
        let Message::Response(response) = message else { return true };
        let to_invite = response.cseq().is_ok_and(|(_, method)| method == Method::INVITE);
        !(self.cancelled && to_invite && response.status < 300)
    }

    fn hear_response(&mut self, response: &Response) {
        let Ok((number, Method::INVITE)) = response.cseq() else { return };
        self.provisional = true;
        if response.status > 100 {
            // In its own dialogs the gateway is To; where it was called, From was learnt with the INVITE.
            if self.end.leg == Leg::Caller {
                self.gateway = response.header("To").map(str::to_owned).or(self.gateway.take());
            }
            if let Some(contact) = response.contact() {
                self.contact = Some(contact.uri);
            }
        }
        if response.status >= 200 {
            self.finals.insert(number);
            self.established |= response.status < 300;
        }
    }

    fn hear_request(&mut self, request: &Request) -> Vec<(Duration, Message)> {
        if let Some(contact) = request.contact() {
            self.contact = Some(contact.uri);
        }
        match &request.method {
            &Method::ACK => {
                self.established |= !self.cancelled;
                Vec::new()
            }
            &Method::CANCEL => {
                self.cancelled = true;
                let tag = self.tag.clone();
                let mut said = vec![(SOON, Message::Response(request.response(200, None, tag.as_deref())))];
                if let Some(invite) = &self.invite {
                    let mut refused = invite.response(487, None, tag.as_deref());
                    if let Some(captured) = self.end.finals().find(|r| r.status == 487) {
                        refused.reason.clone_from(&captured.reason);
                    }
                    said.push((SOON, Message::Response(refused)));
                }
                said
            }
            &Method::INVITE if is_initial(request) => {
                self.invite = Some(request.clone());
                self.gateway = request.header("From").map(str::to_owned);
                let end = self.end;
                let captured = end.told.iter().find_map(|told| match &told.message {
                    Message::Request(r) if is_initial(r) => Some((r, told)),
                    _ => None,
                });
                let Some((invite, told)) = captured else { return Vec::new() };
                let answers = end.answers_to(invite, told).filter(|(_, r)| r.status != 487).collect::<Vec<_>>();
                answers.into_iter().map(|(delay, response)| (delay, self.answer(request, response))).collect()
            }
            method => match self.answers.get_mut(&method.to_string()).and_then(VecDeque::pop_front) {
                Some(answers) if !answers.is_empty() => {
                    answers.into_iter().map(|(delay, response)| (delay, self.answer(request, response))).collect()
                }
                // The capture has no such exchange: the plainest answer there is.
                _ => vec![(SOON, self.plain_answer(request))],
            },
        }
    }

    /// A captured answer, put to a request of now.
    fn answer(&mut self, request: &Request, captured: &Response) -> Message {
        let tag = self.tag.clone();
        let mut response = request.response(captured.status, Some(&captured.reason), tag.as_deref());
        for header in captured.headers.iter().filter(|h| !OF_THE_DIALOG.iter().any(|name| h.name.eq_ignore_ascii_case(name))) {
            response.headers.push(header.name.clone(), header.value.clone());
        }
        response.body.clone_from(&captured.body);
        self.remember_sdp(captured.header("Content-Type"), &captured.body);
        Message::Response(response)
    }

    fn plain_answer(&self, request: &Request) -> Message {
        let mut response = request.response(200, None, self.tag.as_deref());
        if request.method == Method::INVITE
            && let Some((kind, body)) = &self.sdp
        {
            response.headers.push("Contact", format!("<sip:{}>", self.end.address));
            response.set_body(kind, body.clone());
        }
        Message::Response(response)
    }

    fn remember_sdp(&mut self, kind: Option<&str>, body: &bytes::Bytes) {
        if let Some(kind) = kind.filter(|kind| kind.to_ascii_lowercase().starts_with("application/sdp")) {
            self.sdp = Some((kind.to_owned(), body.clone()));
        }
    }
}

impl FarEnd {
    /// What it answered to a request that it was told, each answer once.
    fn answers_to<'s>(&'s self, request: &'s Request, told: &'s Said) -> impl Iterator<Item = (Duration, &'s Response)> {
        let cseq = request.cseq().ok();
        self.said.iter().filter(|said| !said.again).filter_map(move |said| match &said.message {
            Message::Response(response) if response.cseq().ok() == cseq => {
                let delay = u64::try_from(said.at.as_micros() - told.at.as_micros()).ok()?;
                Some((Duration::from_micros(delay), response))
            }
            _ => None,
        })
    }

    /// Its final answers to INVITEs.
    fn finals(&self) -> impl Iterator<Item = &Response> {
        self.said.iter().filter_map(|said| match &said.message {
            Message::Response(r) if r.status >= 200 && r.cseq().is_ok_and(|(_, m)| m == Method::INVITE) => Some(r),
            _ => None,
        })
    }
}

/// Whether a request opens a dialog (RFC 3261 §12.1: no tag in To).
pub(super) fn is_initial(request: &Request) -> bool {
    request.method == Method::INVITE && request.header("To").and_then(|to| NameAddr::parse(to).ok()).is_none_or(|to| to.tag().is_none())
}

/// How long an answer takes that the capture does not hold.
const SOON: Duration = Duration::from_millis(1);
