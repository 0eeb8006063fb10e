//! The call record: everything known of one call, whatever the order in which it became known.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};

use super::{expect::DISPOSITION, note::note, pull::Pulls, retention::Bones, webhook::Payload};
use crate::{
    crm::{contact::digits, mapping::IN_PROGRESS, record_key},
    event::{CallId, EndedAs, Event, Kind, Leg, PerSide, Terminal},
    journal::Position,
    time::Wall,
};

/// Everything known of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Whose.
    pub call_id: CallId,
    /// When its INVITE came, as far as any event tells.
    pub started_at: Option<Wall>,
    from: Option<String>,
    to: Option<String>,
    trunk: Option<String>,
    route: Option<String>,
    /// SIP Call-IDs of its legs: other names that a platform may give it.
    pub sip_call_ids: BTreeSet<String>,
    target: Option<String>,
    answered_at: Option<Wall>,
    codec: Option<PerSide<String>>,
    /// Finished runs of digits with their sequence numbers: what is joined is in order.
    digits: Vec<(u32, String)>,
    transferred_to: Option<String>,
    transfer_context: Option<String>,
    /// When it ended.
    pub ended_at: Option<Wall>,
    terminal: Option<Terminal>,
    /// What webhooks told, the latest stamp of each field.
    told: Vec<(String, Wall, Value)>,
    /// The types of what webhooks told.
    told_of: BTreeSet<String>,
    /// What is expected and has not come yet ([`super::expect`]).
    pub(super) awaited: BTreeSet<String>,
    /// What had not come when its time was over.
    pub(super) missing: BTreeSet<String>,
    /// What the APIs of platforms are asked of it ([`super::pull`]).
    #[serde(default, skip_serializing_if = "Pulls::is_empty")]
    pub(super) pulls: Pulls,
    /// Sequence numbers seen: an event counts once.
    seen: BTreeSet<u32>,
    /// All events, as CloudEvents, in the order of their sequence. Each stands as the text that it came as: it is kept, shown, and seldom read again.
    events: Vec<Text>,
    /// Other names that webhooks gave it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) names: BTreeSet<String>,
    /// Calls that bore one of its SIP Call-IDs before it: carriers reuse them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) took_from: BTreeSet<CallId>,
    /// Where the first and the last entry stand that told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) span: Option<(Position, Position)>,
    /// Whether what it held was taken away ([`super::retention`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pruned: bool,
}

impl Record {
    /// Of a call of which nothing is known yet.
    pub fn new(call_id: CallId) -> Self {
        Self {
            call_id,
            started_at: None,
            from: None,
            to: None,
            trunk: None,
            route: None,
            sip_call_ids: BTreeSet::new(),
            target: None,
            answered_at: None,
            codec: None,
            digits: Vec::new(),
            transferred_to: None,
            transfer_context: None,
            ended_at: None,
            terminal: None,
            told: Vec::new(),
            told_of: BTreeSet::new(),
            awaited: BTreeSet::new(),
            missing: BTreeSet::new(),
            pulls: Pulls::default(),
            seen: BTreeSet::new(),
            events: Vec::new(),
            names: BTreeSet::new(),
            took_from: BTreeSet::new(),
            span: None,
            pruned: false,
        }
    }

    /// Of a call of which the journal has lost what it held, until its skeleton comes.
    pub(crate) fn lost(call_id: CallId) -> Self {
        Self { pruned: true, ..Self::new(call_id) }
    }

    /// What stays of a call.
    pub(super) fn skeleton(bones: &Bones) -> Self {
        let Bones { call_id, started_at, ended_at, trunk, route, terminal, .. } = bones.clone();
        Self { started_at, ended_at, trunk, route, terminal: Some(terminal), ..Self::lost(call_id) }
    }

    /// Whether what it held was taken away.
    pub fn is_pruned(&self) -> bool {
        self.pruned
    }

    /// Whether it is what stays of a call: nothing changes it any more.
    pub(super) fn is_skeleton(&self) -> bool {
        self.pruned && self.terminal.is_some()
    }

    /// Trunk and route.
    pub(super) fn way(&self) -> (Option<String>, Option<String>) {
        (self.trunk.clone(), self.route.clone())
    }

    /// Whether another says the same, wherever in the journal it was told.
    pub fn says_as(&self, other: &Self) -> bool {
        Self { span: other.span, ..self.clone() } == *other
    }

    /// An entry at `at` told of it.
    pub(super) fn told_at(&mut self, at: Position) {
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
    }

    /// An event was here that the journal has lost but for these names; false where nothing changes it.
    pub(super) fn lose(&mut self, names: impl IntoIterator<Item = String>) -> bool {
        let open = self.pruned && !self.is_skeleton();
        if open {
            self.sip_call_ids.extend(names);
        }
        open
    }

    /// Folds an event in; false where it was there already.
    pub fn apply(&mut self, event: &Event) -> bool {
        let text = Text::of(event.to_cloudevent().to_string().as_bytes());
        text.is_some_and(|text| self.apply_as(event, text))
    }

    /// As [`Self::apply`] with the text that the event was read of.
    pub(super) fn apply_as(&mut self, event: &Event, text: Text) -> bool {
        if self.pruned {
            return self.lose(names_in(&event.kind).map(str::to_owned));
        }
        let latest = self.last_sequence();
        if !self.seen.insert(event.sequence) {
            return false;
        }
        // Each event bears a sequence of its own, and those seen are in order.
        let place = self.seen.range(..event.sequence).count().min(self.events.len());
        self.events.insert(place, text);
        if event.sequence > latest {
            self.follow(event);
        } else {
            // It came late: what is derived is derived anew, as if all had come in their order.
            let Self { told, told_of, awaited, missing, pulls, seen, events, names, took_from, span, .. } =
                std::mem::replace(self, Self::new(self.call_id));
            *self = Self { told, told_of, awaited, missing, pulls, seen, names, took_from, span, ..Self::new(self.call_id) };
            for event in events.iter().filter_map(Text::event) {
                self.follow(&event);
            }
            self.events = events;
        }
        true
    }

    /// What the next event in the order of their sequence changes.
    fn follow(&mut self, event: &Event) {
        let ms = |ms: i64| Wall::from_micros(ms.saturating_mul(1000));
        let start = Wall::from_micros(event.time.as_micros().saturating_sub(ms(event.at_ms).as_micros()));
        self.started_at.get_or_insert(start);
        self.sip_call_ids.extend(names_in(&event.kind).map(str::to_owned));
        match &event.kind {
            Kind::Started { from, to, trunk, route, .. } => {
                self.from = Some(from.clone());
                self.to = Some(to.clone());
                self.trunk = Some(trunk.clone());
                self.route = Some(route.clone());
            }
            Kind::Answered { target, codec, .. } => {
                self.target = Some(target.clone());
                self.answered_at = Some(event.time);
                self.codec = Some(codec.clone());
            }
            // What the platform keys (or echoes) is no input of the caller's.
            Kind::Dtmf { leg: Leg::Caller, digits: Some(digits), .. } => self.digits.push((event.sequence, digits.clone())),
            Kind::Transferred { to, context, .. } => {
                self.transferred_to = Some(to.clone());
                self.transfer_context = context.clone();
            }
            Kind::Failed(terminal) | Kind::Ended(terminal) => {
                self.ended_at = Some(event.time);
                self.terminal = Some(terminal.clone());
            }
            Kind::Dtmf { .. } | Kind::SecureStarted { .. } | Kind::SecureEnded { .. } | Kind::Silence { .. } => {}
        }
    }

    /// Folds a webhook in: of each field, what was stamped last counts, and of two with one stamp the greater as text, so that their order
    /// does not matter.
    pub fn tell(&mut self, payload: &Payload) {
        let of_webhook = std::iter::once(&payload.call_id).chain(&payload.names);
        self.names.extend(of_webhook.filter(|name| **name != self.call_id.to_string()).cloned());
        if self.pruned {
            return;
        }
        self.told_of.insert(payload.kind.clone());
        self.told_of.extend(payload.also.iter().cloned());
        self.pulls.named(payload);
        for (name, value) in &payload.data {
            let told = self.told.iter_mut().find(|(n, ..)| n == name);
            match told {
                Some((_, at, kept)) if (*at, kept.to_string()) < (payload.time, value.to_string()) => {
                    (*at, *kept) = (payload.time, value.clone())
                }
                Some(_) => {}
                None => self.told.push((name.clone(), payload.time, value.clone())),
            }
        }
        self.told.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// The numbers of caller and called, their digits alone: what a spelling adds does not tell people apart.
    pub fn numbers(&self) -> Vec<String> {
        let mut numbers: Vec<_> = self.from.iter().chain(&self.to).map(|text| digits(text)).filter(|d| !d.is_empty()).collect();
        numbers.dedup();
        numbers
    }

    /// Whether it has its last event.
    pub fn is_over(&self) -> bool {
        self.terminal.is_some() || self.pruned
    }

    /// The SIP Call-ID of the leg to the target that answered last.
    pub(super) fn answered_sip_call_id(&self) -> Option<String> {
        let answered = |event: &Text| match event.event()?.kind {
            Kind::Answered { sip_call_id, .. } => sip_call_id,
            _ => None,
        };
        self.events.iter().rev().find_map(answered)
    }

    /// When a target answered.
    pub fn answered_at(&self) -> Option<Wall> {
        self.answered_at
    }

    /// When it ended and how, once it has.
    pub(super) fn end(&self) -> Option<(Wall, &Terminal)> {
        self.ended_at.zip(self.terminal.as_ref())
    }

    /// The stamp of its last event.
    pub fn last_event_at(&self) -> Option<Wall> {
        self.events.last().and_then(Text::event).map(|event| event.time)
    }

    /// Whether nothing more is waited for: it is over, and whatever was expected of it came or is given up.
    pub fn is_complete(&self) -> bool {
        self.is_over() && self.awaited.is_empty()
    }

    /// Whether it is there: a type that a webhook told, or a field. That a call was handed over is an outcome which nobody has to tell.
    pub(super) fn has_come(&self, what: &str) -> bool {
        let told = self.told_of.contains(what) || self.told.iter().any(|(name, ..)| name == what);
        told || (what == DISPOSITION && self.is_transferred())
    }

    /// Whether it was handed over and no fault came behind that.
    fn is_transferred(&self) -> bool {
        self.transferred_to.is_some() && self.ended_as() != Some(EndedAs::Failed)
    }

    fn ended_as(&self) -> Option<EndedAs> {
        self.terminal.as_ref().map(|terminal| terminal.ended_as)
    }

    /// What was expected and never came.
    fn lacks(&self) -> Vec<&str> {
        self.missing.iter().map(String::as_str).filter(|what| !self.has_come(what)).collect()
    }

    fn note(&self) -> Option<String> {
        let told = |field: &str| self.told.iter().find(|(name, ..)| name == field).and_then(|(.., value)| value.as_str());
        let handed = self.transferred_to.as_deref().map(|to| (to, self.transfer_context.as_deref()));
        note(told("call_summary"), handed, told("transcript"))
    }

    /// The highest sequence number seen.
    pub fn last_sequence(&self) -> u32 {
        self.seen.last().copied().unwrap_or(0)
    }

    /// Its events as CloudEvents, in order.
    pub fn events(&self) -> Vec<Value> {
        self.events.iter().filter_map(|Text(json)| serde_json::from_str(json.get()).ok()).collect()
    }

    /// The fields that a mapping may use; unknown ones are left out.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|v| !v.is_null()) {
                fields.insert(name.into(), value);
            }
        };
        let text = |text: &Option<String>| text.as_ref().map(|t| json!(t));
        put("call_id", Some(json!(self.call_id)));
        put("call_key", Some(json!(record_key(self.call_id))));
        put("from", text(&self.from));
        put("to", text(&self.to));
        put("trunk", text(&self.trunk));
        put("route", text(&self.route));
        put("target", text(&self.target));
        put("started_at", self.started_at.map(|t| json!(t)));
        put("answered_at", self.answered_at.map(|t| json!(t)));
        put("ended_at", self.ended_at.map(|t| json!(t)));
        put("codec_trunk", self.codec.as_ref().map(|c| json!(c.trunk)));
        put("codec_platform", self.codec.as_ref().map(|c| json!(c.platform)));
        let digits = self.digits.iter().map(|(_, run)| run.as_str()).collect::<Vec<_>>().join(" ");
        put("digits", (!digits.is_empty()).then(|| json!(digits)));
        put("transferred_to", text(&self.transferred_to));
        put("transfer_context", text(&self.transfer_context));
        if let Some(terminal) = &self.terminal {
            put("outcome", Some(json!(terminal.outcome)));
            put("ended_as", Some(json!(terminal.ended_as)));
            put("ended_by", Some(json!(terminal.ended_by)));
            put("reason", text(&terminal.reason));
            put("sip_status", terminal.sip_status.map(|s| json!(s)));
            put("ring_ms", terminal.ring_ms.map(|ms| json!(ms)));
            put("talk_ms", Some(json!(terminal.talk_ms)));
            put("secure_ms", Some(json!(terminal.secure_ms)));
        }
        for (name, _, value) in &self.told {
            put(name, Some(value.clone()));
        }
        put("note", self.note().map(Value::String));
        let lacks = self.lacks();
        if !fields.contains_key(DISPOSITION) {
            let word = if self.is_transferred() {
                Some(TRANSFERRED)
            } else if lacks.contains(&DISPOSITION) {
                Some(if self.ended_as() == Some(EndedAs::Failed) { FAILED_NO_DISPOSITION } else { NO_DISPOSITION })
            } else {
                None
            };
            fields.extend(word.map(|word| (DISPOSITION.to_owned(), json!(word))));
        }
        fields.insert("status".into(), self.ended_as().map_or_else(|| json!(IN_PROGRESS), |ended_as| json!(ended_as)));
        if self.pruned {
            fields.insert("pruned".into(), json!(true));
        } else if self.is_over() {
            fields.insert("needs_review".into(), json!(!lacks.is_empty()));
            fields.insert("complete".into(), json!(self.is_complete()));
        }
        if !lacks.is_empty() {
            fields.insert("missing".into(), json!(lacks.join(", ")));
        }
        fields
    }
}

/// The SIP Call-IDs that an event tells of.
pub(super) fn names_in(kind: &Kind) -> impl Iterator<Item = &str> {
    let (first, second) = match kind {
        Kind::Started { sip_call_ids, .. } => (Some(&sip_call_ids.caller), sip_call_ids.callee.as_ref()),
        Kind::Answered { sip_call_id, .. } => (sip_call_id.as_ref(), None),
        _ => (None, None),
    };
    first.into_iter().chain(second).map(String::as_str)
}

/// An event as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Text(Box<RawValue>);

impl Text {
    /// Of an event's octets; none where they are no JSON.
    pub(super) fn of(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    fn event(&self) -> Option<Event> {
        Event::from_cloudevent(self.0.get().as_bytes()).ok()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// Stands where a call was handed over and nobody told more.
pub const TRANSFERRED: &str = "TRANSFERRED";
/// Stands where a call ended and nobody told how it went.
pub const NO_DISPOSITION: &str = "NO_DISPOSITION";
/// The same where a fault ended the call.
pub const FAILED_NO_DISPOSITION: &str = "FAILED — NO DISPOSITION";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{DtmfMethod, EndedBy, Outcome, SipCallIds};

    fn call() -> CallId {
        "01960000-0000-7000-8000-000000000001".parse().expect("a call id")
    }

    /// A call that two targets took one after the other, that was keyed into twice and handed over, and what was told of it.
    fn story() -> (Vec<Event>, Vec<Payload>) {
        let answered = |target: &str| Kind::Answered {
            target: target.into(),
            codec: PerSide { trunk: "PCMU".into(), platform: "G722".into() },
            dtmf: PerSide::default(),
            ring_ms: 10,
            sip_call_id: Some(format!("at {target}")),
        };
        let keyed = |digits: &str| Kind::Dtmf {
            leg: Leg::Caller,
            digits: Some(digits.into()),
            count: None,
            method: DtmfMethod::Info,
            from_ms: 0,
            to_ms: 1,
        };
        let terminal = Terminal {
            outcome: Outcome::Answered,
            outcome_table: None,
            ended_as: EndedAs::Transferred,
            ended_by: EndedBy::Caller,
            reason: None,
            sip_status: None,
            ring_ms: Some(10),
            talk_ms: 99,
            secure_ms: 0,
            omitted: 0,
        };
        let kinds = [
            Kind::Started {
                from: "a".into(),
                to: "b".into(),
                trunk: "t".into(),
                route: "r".into(),
                sip_call_ids: SipCallIds { caller: "c".into(), callee: None },
            },
            answered("first"),
            keyed("12"),
            answered("second"),
            keyed("34"),
            Kind::Transferred { to: "x".into(), by: Leg::Callee, context: Some("k".into()) },
            Kind::Transferred { to: "y".into(), by: Leg::Callee, context: None },
            Kind::Ended(terminal),
        ];
        // The stamps do not fit the milliseconds to the microsecond, as live ones do not.
        let event = |(sequence, kind): (u32, Kind)| Event {
            call_id: call(),
            sequence,
            time: Wall::from_micros(1_700_000_000_000_000 + i64::from(sequence) * 1_000_777),
            at_ms: i64::from(sequence) * 1000,
            kind,
        };
        let webhook = |id: &str, ms: i64, disposition: &str| Payload {
            id: id.into(),
            kind: "call.ended".into(),
            call_id: call().to_string(),
            names: Vec::new(),
            time: Wall::from_millis(ms),
            data: Map::from_iter([("disposition_code".to_owned(), json!(disposition))]),
            also: vec![format!("custom.{disposition}")],
            asked_as: Some(format!("theirs {disposition}")),
            source: "platform".into(),
        };
        // As the journal gives them back: to the millisecond.
        let journaled = |event: Event| Event::from_cloudevent(event.to_cloudevent().to_string().as_bytes()).expect("what we wrote");
        let events = (1..).zip(kinds).map(event).map(journaled).collect();
        (events, vec![webhook("1", 5, "PAID"), webhook("2", 7, "PROMISED"), webhook("3", 7, "REFUSED")])
    }

    proptest! {
        #[test]
        fn neither_order_nor_repetition_changes_a_record(order in proptest::collection::vec(0_usize..11, 0..20), rest in Just((0..11).collect::<Vec<_>>()).prop_shuffle()) {
            let (events, webhooks) = story();
            let tell = |record: &mut Record, which: usize| match events.get(which) {
                Some(event) => { record.apply(event); }
                None => record.tell(&webhooks[which - events.len()]),
            };
            let (mut plain, mut mixed) = (Record::new(call()), Record::new(call()));
            (0..11).for_each(|which| tell(&mut plain, which));
            order.into_iter().chain(rest).for_each(|which| tell(&mut mixed, which));
            prop_assert_eq!(mixed, plain);
        }
    }
}
