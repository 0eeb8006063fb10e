//! The call record: everything known of one call, whatever the order in which it became known.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::webhook::Payload;
use crate::{
    crm::record_key,
    event::{CallId, EndedAs, Event, Kind, Leg, PerSide, Terminal},
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
    /// The wait for its outcome is over and none came.
    pub outcome_missing: bool,
    /// Sequence numbers seen: an event counts once.
    seen: BTreeSet<u32>,
    /// All events, as CloudEvents, in the order of their sequence.
    events: Vec<Value>,
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
            outcome_missing: false,
            seen: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Folds an event in; false where it was there already.
    pub fn apply(&mut self, event: &Event) -> bool {
        if !self.seen.insert(event.sequence) {
            return false;
        }
        let place = self.events.partition_point(|e| sequence(e) < u64::from(event.sequence));
        self.events.insert(place, event.to_cloudevent());
        let ms = |ms: i64| Wall::from_micros(ms.saturating_mul(1000));
        let start = Wall::from_micros(event.time.as_micros().saturating_sub(ms(event.at_ms).as_micros()));
        self.started_at = Some(self.started_at.map_or(start, |at| at.min(start)));
        match &event.kind {
            Kind::Started { from, to, trunk, route, sip_call_ids } => {
                // Its own stamp is the truest.
                self.started_at = Some(start);
                self.from = Some(from.clone());
                self.to = Some(to.clone());
                self.trunk = Some(trunk.clone());
                self.route = Some(route.clone());
                self.sip_call_ids.insert(sip_call_ids.caller.clone());
                self.sip_call_ids.extend(sip_call_ids.callee.clone());
            }
            Kind::Answered { target, codec, sip_call_id, .. } => {
                self.target = Some(target.clone());
                self.answered_at = Some(event.time);
                self.codec = Some(codec.clone());
                self.sip_call_ids.extend(sip_call_id.clone());
            }
            // What the platform keys (or echoes) is no input of the caller's.
            Kind::Dtmf { leg: Leg::Caller, digits: Some(digits), .. } => {
                let place = self.digits.partition_point(|(sequence, _)| *sequence < event.sequence);
                self.digits.insert(place, (event.sequence, digits.clone()));
            }
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
        true
    }

    /// Folds a webhook in: of each field, what was stamped last counts, so that their order does not matter.
    pub fn tell(&mut self, payload: &Payload) {
        for (name, value) in &payload.data {
            let told = self.told.iter_mut().find(|(n, ..)| n == name);
            match told {
                Some((_, at, kept)) if *at <= payload.time => (*at, *kept) = (payload.time, value.clone()),
                Some(_) => {}
                None => self.told.push((name.clone(), payload.time, value.clone())),
            }
        }
        self.told.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// Whether it has its last event.
    pub fn is_over(&self) -> bool {
        self.terminal.is_some()
    }

    /// When a target answered.
    pub fn answered_at(&self) -> Option<Wall> {
        self.answered_at
    }

    /// Whether somebody should tell how it went: a call that was taken, or that a fault ended.
    pub fn expects_outcome(&self) -> bool {
        self.answered_at.is_some() || self.terminal.as_ref().is_some_and(|t| t.ended_as == EndedAs::Failed)
    }

    /// The stamp of its last event.
    pub fn last_event_at(&self) -> Option<Wall> {
        self.events.last().and_then(|e| e.get("time")).and_then(Value::as_str).and_then(Wall::parse)
    }

    /// Whether somebody told how it went.
    pub fn has_outcome(&self) -> bool {
        self.told.iter().any(|(name, ..)| name == "disposition_code")
    }

    /// The highest sequence number seen.
    pub fn last_sequence(&self) -> u32 {
        self.seen.last().copied().unwrap_or(0)
    }

    /// Its events as CloudEvents, in order.
    pub fn events(&self) -> &[Value] {
        &self.events
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
        let missing = self.outcome_missing && !self.has_outcome();
        if missing {
            let failed = self.terminal.as_ref().is_some_and(|t| t.ended_as == EndedAs::Failed);
            fields.insert("disposition_code".into(), json!(if failed { FAILED_NO_DISPOSITION } else { NO_DISPOSITION }));
        }
        if self.is_over() {
            fields.insert("needs_review".into(), json!(missing));
        }
        fields
    }
}

fn sequence(event: &Value) -> u64 {
    event.get("sequence").and_then(Value::as_u64).unwrap_or(0)
}

/// Stands where a call ended and nobody told how it went.
pub const NO_DISPOSITION: &str = "NO_DISPOSITION";
/// The same where a fault ended the call.
pub const FAILED_NO_DISPOSITION: &str = "FAILED — NO DISPOSITION";
