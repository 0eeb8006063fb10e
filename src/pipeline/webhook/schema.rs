//! Schemas, as data: where a platform's webhook says what. A versioned file each; those of known platforms are shipped.
//!
//! ```toml
//! schema = "acme"
//! version = 1
//! form = "json"                       # or "form": application/x-www-form-urlencoded
//! type = "/event"                     # RFC 6901, of the body
//! id = "/event_id"                    # without one, two webhooks are the same where source, type, call and body are
//! call = ["/metadata/offhook_call", "/call/id"]   # our own id first; whichever are there name one call
//! time = "/timestamp"                 # RFC 3339, RFC 2822, or seconds or milliseconds since 1970; without one, that of receipt
//!
//! [event.call_analyzed]               # the platform's word
//! as = "transcription.complete"       # ours
//! data.transcript = "/call/transcript"
//! always = ["id", "transcript"]       # what every one of them bears: that one does not is drift
//! data.sentiment_score = { at = "/call/sentiment", values = { Positive = 1, Negative = -1 }, nothing = ["Unknown"] }
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    FIELDS, Odd, Payload, Received,
    drift::{What, fits, type_name},
    pulled::Document,
    verify,
};
use crate::{event::CallId, time::Wall};

/// What may happen, by the catalogue's names; besides, whatever begins with `custom.`.
pub const CATALOGUE: [&str; 6] =
    ["call.started", "call.ended", "call.transferred", "call.failed", "transcription.complete", "sentiment.scored"];

/// The rule for every type that begins with `custom.` and has none of its own.
const ANY_CUSTOM: &str = "custom.*";

/// The shipped ones: name and text.
pub const SHIPPED: [(&str, &str); 5] = [
    ("generic", include_str!("schemas/generic.toml")),
    ("livekit", include_str!("schemas/livekit.toml")),
    ("retell", include_str!("schemas/retell.toml")),
    ("twilio", include_str!("schemas/twilio.toml")),
    ("vapi", include_str!("schemas/vapi.toml")),
];

/// A schema as its file has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Its name.
    #[serde(rename = "schema")]
    pub name: String,
    /// Raised by whoever changes it.
    pub version: u32,
    /// What the body is.
    #[serde(default)]
    pub form: Form,
    /// Where the type stands.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where the webhook's own id stands.
    #[serde(default)]
    pub id: Option<String>,
    /// Where the call's names may stand.
    pub call: Vec<String>,
    /// Where the time stands.
    #[serde(default)]
    pub time: Option<String>,
    /// The platform's types that tell nothing of a call.
    #[serde(default)]
    pub ignored: Vec<String>,
    /// What each of the platform's types is.
    #[serde(rename = "event")]
    pub events: BTreeMap<String, Rule>,
    /// What the platform's API tells of a call.
    #[serde(default)]
    pub pull: Option<Document>,
}

/// Where what stands in a body: of a webhook, or of what an API has answered.
struct Shape<'s> {
    form: Form,
    kind: &'s str,
    id: Option<&'s str>,
    call: &'s [String],
    time: Option<&'s str>,
    ignored: &'s [String],
    events: &'s BTreeMap<String, Rule>,
}

/// What the body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// JSON (RFC 8259).
    #[default]
    Json,
    /// A form, read as an object of texts.
    Form,
}

/// What one of the platform's types is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The catalogue's name.
    #[serde(rename = "as")]
    pub kind: String,
    /// What every one of them bears: fields of `data`, `id`, `time`.
    #[serde(default)]
    pub always: Vec<String>,
    /// Where each field of a record stands.
    #[serde(default)]
    pub data: BTreeMap<String, Place>,
    /// What else of the catalogue it is, where something stands at a place.
    #[serde(default)]
    pub also: BTreeMap<String, String>,
}

/// Where a value stands, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Place {
    /// As it stands there.
    At(String),
    /// Translated; what is not listed is left out, and is drift.
    Values {
        /// Where.
        at: String,
        /// What becomes of each value.
        values: BTreeMap<String, Value>,
        /// Values that are known to say nothing.
        #[serde(default)]
        nothing: Vec<String>,
    },
}

/// What a webhook is.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// It tells something; what is odd about it.
    Told(Payload, Vec<Odd>),
    /// It is known to tell nothing of a call.
    Nothing,
    /// The schema has no such type: it is kept until a rule for it exists.
    Unknown(String),
    /// It cannot be read: it is kept, and somebody has to look.
    Unreadable(String),
}

impl Schema {
    /// The shipped schema of that name.
    pub fn shipped(name: &str) -> Option<Self> {
        SHIPPED.iter().find(|(n, _)| *n == name).and_then(|(_, text)| toml::from_str(text).ok())
    }

    /// What offhook itself asks for.
    pub fn generic() -> Self {
        let nothing = Self {
            name: "generic".into(),
            version: 0,
            form: Form::Json,
            kind: "/type".into(),
            id: None,
            call: Vec::new(),
            time: None,
            ignored: Vec::new(),
            events: BTreeMap::new(),
            pull: None,
        };
        Self::shipped("generic").unwrap_or(nothing)
    }

    /// What is wrong with it beside its form.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.shape().faults("");
        if self.call.is_empty() {
            faults.insert(0, "call: is empty; no webhook could be told whose it is".to_owned());
        }
        if let Some(document) = &self.pull {
            faults.extend(document.id.iter().filter_map(|at| pointer("pull.id", at)));
            faults.extend(self.documents().faults("pull."));
            if document.url.as_ref().is_some_and(|url| !url.contains("{id}")) {
                faults.push("pull.url: has no {id}, which stands for the call's name".to_owned());
            }
        }
        faults
    }

    /// Of webhooks.
    fn shape(&self) -> Shape<'_> {
        let Self { form, kind, id, call, time, ignored, events, .. } = self;
        Shape { form: *form, kind, id: id.as_deref(), call, time: time.as_deref(), ignored, events }
    }

    /// Of what the platform's API answers.
    fn documents(&self) -> Shape<'_> {
        match &self.pull {
            // By the id of a webhook, a document in other words would be that webhook's conflict.
            None => Shape { id: None, ..self.shape() },
            Some(Document { kind, call, ignored, events, .. }) => {
                Shape { form: Form::Json, kind, id: None, call, time: None, ignored, events }
            }
        }
    }

    /// Whether the platform's API may tell that: a type, or a field.
    pub fn pull_tells(&self, what: &str) -> bool {
        let is = |kind: &str| kind == what || (kind == ANY_CUSTOM && what.starts_with("custom."));
        self.documents().events.values().any(|rule| is(&rule.kind) || rule.data.contains_key(what) || rule.also.contains_key(what))
    }

    /// What a webhook of this schema tells; `at`: when it came.
    pub fn read(&self, received: &Received<'_>, at: Wall) -> Reading {
        let pointer = self.pull.as_ref().and_then(|document| document.id.as_deref());
        self.shape().read(received.body, None, pointer, at)
    }

    /// What the platform's API has answered of `call`, asked at `at`.
    pub fn read_document(&self, body: &[u8], call: CallId, at: Wall) -> Reading {
        self.documents().read(body, Some(call), None, at)
    }
}

impl Shape<'_> {
    /// What is wrong; `part`: where in the file.
    fn faults(&self, part: &str) -> Vec<String> {
        let mut faults = Vec::new();
        faults.extend(pointer(&format!("{part}type"), self.kind));
        faults.extend(self.call.iter().filter_map(|at| pointer(&format!("{part}call"), at)));
        faults.extend(self.id.iter().filter_map(|at| pointer("id", at)));
        faults.extend(self.time.iter().filter_map(|at| pointer("time", at)));
        for (word, rule) in self.events {
            let event = format!("{part}event.{word}");
            faults.extend(rule.data.iter().filter_map(|(name, at)| pointer(&format!("{event}.data.{name}"), at.at())));
            faults.extend(rule.also.iter().filter_map(|(kind, at)| pointer(&format!("{event}.also.{kind}"), at)));
            for (key, kind) in std::iter::once(("as", &rule.kind)).chain(rule.also.keys().map(|kind| ("also", kind))) {
                if !CATALOGUE.contains(&kind.as_str()) && !kind.starts_with("custom.") {
                    let known = CATALOGUE.join(", ");
                    faults.push(format!("{event}.{key}: \"{kind}\" is none of {known} and does not begin with custom."));
                }
            }
            for name in rule.data.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
                faults.push(format!("{event}.data: a record has no `{name}`; it has {}", FIELDS.join(", ")));
            }
            let named =
                |name: &str| rule.data.contains_key(name) || (name == "id" && self.id.is_some()) || (name == "time" && self.time.is_some());
            for name in rule.always.iter().filter(|name| !named(name)) {
                faults.push(format!(
                    "{event}.always: \"{name}\" stands nowhere; it takes names of its data, and `id` and `time` where the schema has them"
                ));
            }
        }
        faults
    }

    /// What a body tells. `whose`: the call that was asked for, where one was; `asked_as`: where the name stands by which the platform's API knows it.
    fn read(&self, body: &[u8], whose: Option<CallId>, asked_as: Option<&str>, at: Wall) -> Reading {
        let body = match self.form {
            Form::Json => match serde_json::from_slice::<Value>(body) {
                Ok(body) => body,
                Err(why) => return Reading::Unreadable(format!("the body is no JSON: {why}")),
            },
            Form::Form => form(body),
        };
        let text = |at: &str| match find(&body, at) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let Some(word) = text(self.kind) else { return Reading::Unreadable(format!("{} holds no type", self.kind)) };
        if self.ignored.contains(&word) {
            return Reading::Nothing;
        }
        let custom = || self.events.get(ANY_CUSTOM).filter(|_| word.starts_with("custom."));
        let Some(rule) = self.events.get(&word).or_else(custom) else { return Reading::Unknown(word) };
        let mut names: Vec<_> = whose.map(|call| call.to_string()).into_iter().chain(self.call.iter().filter_map(|at| text(at))).collect();
        names.dedup();
        let Some(call_id) = names.first().cloned() else {
            return Reading::Unreadable(format!("none of {} names a call", self.call.join(", ")));
        };
        let time = match self.time.and_then(&text) {
            None => at,
            Some(told) => match time(&told) {
                Some(time) => time,
                None => return Reading::Unreadable(format!("\"{told}\" is no time")),
            },
        };
        let mut odd = Vec::new();
        let mut data = Map::new();
        for (name, place) in &rule.data {
            let Some(found) = find(&body, place.at()).filter(|v| !v.is_null()) else { continue };
            match place {
                Place::At(_) if !fits(name, found) => odd.push(Odd::new(name, What::Type, Some(type_name(found)))),
                Place::At(_) => {}
                Place::Values { at, values, nothing } => {
                    let known = text(at).map(|found| (values.get(&found).cloned(), found));
                    match known {
                        Some((Some(value), _)) => drop(data.insert(name.clone(), value)),
                        Some((None, found)) if nothing.contains(&found) => {}
                        Some((None, found)) => odd.push(Odd::new(name, What::Value, Some(&found))),
                        None => odd.push(Odd::new(name, What::Type, Some(type_name(found)))),
                    }
                    continue;
                }
            }
            data.insert(name.clone(), found.clone());
        }
        let stands = |at: &str| find(&body, at).is_some_and(|v| !v.is_null());
        let there = |name: &str| match name {
            // A document has none, although webhooks of its form may.
            "id" => whose.is_some() || self.id.and_then(&text).is_some(),
            "time" => self.time.and_then(&text).is_some(),
            name => rule.data.get(name).is_some_and(|place| stands(place.at())),
        };
        odd.extend(rule.always.iter().filter(|name| !there(name)).map(|name| Odd::new(name, What::Vanished, None)));
        names.remove(0);
        let id = self.id.and_then(&text).unwrap_or_default();
        let kind = if rule.kind == ANY_CUSTOM { word } else { rule.kind.clone() };
        let also = rule.also.iter().filter(|(_, at)| stands(at)).map(|(kind, _)| kind.clone()).collect();
        let asked_as = asked_as.and_then(text);
        Reading::Told(Payload { id, kind, call_id, names, time, data, also, asked_as, source: String::new() }, odd)
    }
}

/// What is wrong with a place of `what`, if anything is.
fn pointer(what: &str, at: &str) -> Option<String> {
    (!at.starts_with('/')).then(|| format!("{what}: \"{at}\" is no JSON pointer; it begins with a slash, as in /call/id"))
}

/// What stands at a JSON pointer (RFC 6901), which begins with a slash. Most name their members in plain letters, and are followed without writing each anew.
pub(super) fn find<'v>(body: &'v Value, pointer: &str) -> Option<&'v Value> {
    if pointer.contains('~') {
        return body.pointer(pointer);
    }
    pointer.strip_prefix('/')?.split('/').try_fold(body, |value, name| match value {
        Value::Object(members) => members.get(name),
        Value::Array(values) if name == "0" || !name.starts_with(['0', '+']) => values.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

impl Place {
    fn at(&self) -> &str {
        match self {
            Self::At(at) | Self::Values { at, .. } => at,
        }
    }
}

/// A form as an object of texts.
fn form(body: &[u8]) -> Value {
    let pairs = verify::form_pairs(body);
    Value::Object(pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
}

/// A time in whatever form platforms write it.
fn time(text: &str) -> Option<Wall> {
    if let Ok(number) = text.parse::<f64>() {
        let ms = if number < SECONDS_BELOW { number * 1000.0 } else { number };
        // Within what a wall clock may show: the years 1970 to 2286.
        return (0.0..SECONDS_BELOW * 100.0).contains(&ms).then(|| Wall::from_millis(ms as i64));
    }
    Wall::parse(text).or_else(|| Some(Wall::from_millis(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond())))
}

/// Smaller numbers are seconds since 1970, greater ones milliseconds.
const SECONDS_BELOW: f64 = 1e11;
