//! A mapping: which field of a call record goes into which field of the CRM, and in what form. A file that a CRM administrator reads and signs off.
//!
//! ```toml
//! version = 1
//! object = "calls"
//! key = "offhook_key"             # the unique field that holds the call's key
//!
//! [[field]]
//! to = "hs_call_status"
//! from = "outcome"
//! values = { answered = "COMPLETED", busy = "BUSY" }
//! default = "FAILED"              # for a value that is not in the list
//! ```

mod beside;
mod condition;
pub mod diff;
mod form;
mod holds;
mod rule;
pub mod signature;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Fields, contact, setup};

pub use beside::Beside;
pub use condition::Condition;
pub use form::Form;
pub use rule::Rule;

use rule::{ENTITIES, is_of_a_record};

/// A mapping as its file has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Raised by whoever changes it.
    pub version: u32,
    /// Object type in the CRM.
    pub object: String,
    /// The CRM's unique field that holds the call's key.
    pub key: String,
    /// Its rules.
    #[serde(rename = "field")]
    pub rules: Vec<Rule>,
    /// Which calls are written: those of which one of these is true; all where there is none.
    #[serde(default)]
    pub only: Vec<Condition>,
    /// Which events are written while a call is under way.
    #[serde(default)]
    pub on: On,
    /// How the person behind a call is found and linked; without it records name nobody.
    #[serde(default)]
    pub contact: Option<contact::Rule>,
    /// A second record that is written with the first.
    #[serde(default)]
    pub beside: Option<Beside>,
}

/// What an event of a call under way does. What comes when the call is over, or later, is always written: the record would be wrong without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct On {
    /// The call began: its record is made, with the status `in_progress`.
    #[serde(rename = "call.started")]
    pub started: Action,
    /// Somebody or something took it.
    #[serde(rename = "call.answered")]
    pub answered: Action,
    /// It was handed over: the disposition is `TRANSFERRED`, with the context in the note.
    #[serde(rename = "call.transferred")]
    pub transferred: Action,
}

impl Default for On {
    fn default() -> Self {
        Self { started: Action::Write, answered: Action::Wait, transferred: Action::Write }
    }
}

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The record is written as it is then.
    Write,
    /// It is written with the next event that is.
    Wait,
}

impl Action {
    /// Whether something is written.
    pub fn writes(self) -> bool {
        self == Self::Write
    }
}

/// What a mapping reads of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The mapping's version.
    pub version: u32,
    /// Each field that comes of one of the record's.
    pub fields: Vec<Read>,
}

/// A field that comes of one of the record's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The record's.
    pub from: String,
    /// The CRM's, as `OBJECT.FIELD`, with the workflow that reads it and its owner.
    pub to: String,
    /// The values that are foreseen; none: any.
    pub values: Option<BTreeSet<String>>,
}

/// The `status` of a call that is not over; afterwards it says how it ended.
pub const IN_PROGRESS: &str = "in_progress";

/// What a record may offer, by the names that `from` takes.
pub const RECORD_FIELDS: [&str; 36] = [
    "answered_at",
    "call_id",
    "call_key",
    "call_outcome",
    "call_summary",
    "codec_platform",
    "codec_trunk",
    "complete",
    "digits",
    "disposition_code",
    "ended_as",
    "ended_at",
    "ended_by",
    "entities",
    "from",
    "intent",
    "missing",
    "needs_review",
    "next_action_date",
    "note",
    "outcome",
    "reason",
    "ring_ms",
    "route",
    "secure_ms",
    "sentiment_score",
    "sip_status",
    "started_at",
    "status",
    "talk_ms",
    "target",
    "to",
    "transcript",
    "transfer_context",
    "transferred_to",
    "trunk",
];

impl Mapping {
    /// What is wrong with it beside its form.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.empty();
        let mut seen = BTreeSet::new();
        let of_people = self.contact.iter().flat_map(|contact| contact.rules.iter().chain(&contact.updates));
        for (to, rule) in self.named().chain(of_people.map(|rule| (rule.to.clone(), rule))) {
            if rule.to.trim().is_empty() {
                faults.push(format!("field `{to}`: `to` is empty; write the CRM's own name"));
            }
            let found = rule.never().into_iter().chain(setup::unknown_type(rule));
            faults.extend(found.map(|why| format!("field `{to}`: {why}")));
        }
        for (to, rule) in self.named() {
            match &rule.from {
                Some(from) if !is_of_a_record(from) => {
                    let known = RECORD_FIELDS.join(", ");
                    faults.push(format!("field `{to}`: a call record has no `{from}`; it has {known}, and entities.KIND"));
                }
                None if rule.default.is_none() => {
                    faults.push(format!("field `{to}`: needs `from` or `default`, or nothing is ever written"))
                }
                _ => {}
            }
            for value in rule.default.iter().chain(rule.values.values()).filter(|value| rule.form.write(value, &TimeZone::UTC).is_none()) {
                faults.push(format!("field `{to}`: \"{value}\" cannot be written in the form that `as` names, and would be left out"));
            }
            if let Some(name) = rule.zone.as_ref().filter(|name| form::zone(name).is_none()) {
                faults.push(format!("field `{to}`: zone = \"{name}\" is no time zone; write one such as \"Europe/Berlin\""));
            }
            if rule.review && rule.default.is_none() {
                faults.push(format!("field `{to}`: review = true needs `default`, the code that stands for a value that is missing"));
            }
            if rule.currency.is_some() && !rule.from.as_ref().is_some_and(|from| from.starts_with(ENTITIES)) {
                faults.push(format!("field `{to}`: currency is that of an amount, from = \"entities.amount\""));
            }
            if rule.max_chars == Some(0) {
                faults.push(format!("field `{to}`: max_chars = 0 leaves nothing of it"));
            }
            if to == self.key {
                faults.push(format!("field `{to}` is the key, which is written by itself"));
            }
            if let Some(twice) = seen.replace(to) {
                faults.push(format!("field `{twice}` is there twice: the second would overwrite the first"));
            }
        }
        faults.extend(self.only.iter().filter_map(Condition::fault).map(|why| format!("[[only]]: {why}")));
        faults.extend(self.contact.iter().flat_map(contact::Rule::faults));
        faults.extend(self.beside.iter().flat_map(|beside| beside.faults(self)));
        faults
    }

    /// What is left empty that has to be there.
    fn empty(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.version == 0 {
            faults.push("version: is 0; the first is 1, and whoever changes the mapping raises it".to_owned());
        }
        for (name, text) in [("object", &self.object), ("key", &self.key)] {
            if text.trim().is_empty() {
                faults.push(format!("{name}: is empty; write the CRM's own name"));
            }
        }
        let beside = self.beside.iter().flat_map(|b| [("object", &b.object), ("key", &b.key), ("link", &b.link)]);
        for (name, _) in beside.filter(|(_, text)| text.trim().is_empty()) {
            faults.push(format!("[beside] {name}: is empty; write the CRM's own name"));
        }
        if self.contact.as_ref().is_some_and(|contact| contact.object.trim().is_empty()) {
            faults.push("[contact] object: is empty; write the CRM's own name".to_owned());
        }
        faults
    }

    /// Its rules, those of the record beside the first among them, each with the name that its field has in [`Fields`].
    pub fn named(&self) -> impl Iterator<Item = (String, &Rule)> {
        let beside = self.beside.iter().flat_map(|beside| beside.rules.iter().map(|rule| (beside.name(&rule.to), rule)));
        self.rules.iter().map(|rule| (rule.to.clone(), rule)).chain(beside)
    }

    /// The fields that it writes, by their names in [`Fields`], those that name the person among them. The keys, and what links two records, are written by
    /// themselves and are none of them.
    pub fn writes(&self) -> Vec<String> {
        self.named().map(|(name, _)| name).chain(self.person_links().into_iter().map(|link| link.to)).collect()
    }

    /// The fields of a record, by the CRM's names, and what could not be written. Where there is something of that, or a code stands for a value that somebody
    /// should have told, `needs_review` is true, whatever the record says.
    pub fn apply(&self, record: &Map<String, Value>) -> Formed {
        let (formed, review) = apply(self.named(), record);
        if !review || record.get(NEEDS_REVIEW) == Some(&Value::Bool(true)) {
            return formed;
        }
        let mut flagged = record.clone();
        flagged.insert(NEEDS_REVIEW.to_owned(), Value::Bool(true));
        apply(self.named(), &flagged).0
    }

    /// How each field comes to be what [`Self::apply`] makes it of a record, in the order of the rules.
    pub fn ways(&self, record: &Map<String, Value>) -> Vec<(String, Way)> {
        let way = |rule: &Rule| match rule.value(record) {
            Ok(None) => Way::Empty,
            Ok(Some((_, told))) if told || rule.from.is_none() => Way::Filled,
            Ok(Some((_, told))) if asks(rule, told, record) => Way::Flagged,
            Ok(Some(_)) => Way::Defaulted,
            Err(_) => Way::Unformed,
        };
        self.named().map(|(name, rule)| (name, way(rule))).collect()
    }

    /// What it reads.
    pub fn reads(&self) -> Reads {
        let read = |(name, rule): (String, &Rule)| {
            let values = (!rule.values.is_empty()).then(|| rule.values.keys().cloned().collect());
            let read_by = match (&rule.workflow, &rule.owner) {
                (None, None) => String::new(),
                (Some(workflow), None) => format!(" (workflow {workflow})"),
                (None, Some(owner)) => format!(" (of {owner})"),
                (Some(workflow), Some(owner)) => format!(" (workflow {workflow}, of {owner})"),
            };
            let is_beside = self.beside.as_ref().is_some_and(|beside| beside.field(&name).is_some());
            let place = if is_beside { name } else { format!("{}.{name}", self.object) };
            Some(Read { from: rule.from.clone()?, to: format!("{place}{read_by}"), values })
        };
        Reads { version: self.version, fields: self.named().filter_map(read).collect() }
    }
}

/// How a field comes to be what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// By the record, or by a rule that always writes the same.
    Filled,
    /// By `default`.
    Defaulted,
    /// By `default`, and somebody is asked to look.
    Flagged,
    /// Not at all: what the record has cannot be written so. Somebody is asked to look.
    Unformed,
    /// Not at all: there is nothing to write.
    Empty,
}

/// What a mapping makes of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Formed {
    /// What is written.
    pub fields: Fields,
    /// Fields whose value could not be, each with the reason. The value itself is not told: it may be anything that somebody said.
    pub faults: BTreeMap<String, String>,
}

impl From<Fields> for Formed {
    fn from(fields: Fields) -> Self {
        Self { fields, faults: BTreeMap::new() }
    }
}

impl FromIterator<(String, Value)> for Formed {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        Fields::from_iter(fields).into()
    }
}

/// Where in the text of a mapping the field or the section stands that a fault names; its beginning where it names none.
pub fn place(text: &str, fault: &str) -> Range<usize> {
    let field = fault.strip_prefix("field `").and_then(|rest| rest.split('`').next());
    let (mut at, mut found, mut section) = (0, 0..0, "");
    for line in text.split_inclusive('\n') {
        let told = line.trim_end();
        if told.starts_with('[') {
            section = told;
        }
        let is = match field {
            // A second one of the same name is the one that is too many.
            Some(field) => names(told, section, field),
            None if told.starts_with('[') => fault.starts_with(told),
            None => {
                section.is_empty()
                    && told.split_once('=').is_some_and(|(key, _)| fault.split_once(':').is_some_and(|(name, _)| name == key.trim()))
            }
        };
        if is {
            found = at..at + told.len();
        }
        at += line.len();
    }
    found
}

/// Whether a line is the one that names `field`, which bears its object where it is one of the record beside.
fn names(line: &str, section: &str, field: &str) -> bool {
    let Some((key, to)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\'']))) else {
        return false;
    };
    let is_beside = matches!(section, "[beside]" | "[[beside.field]]");
    let field = if is_beside { field.split_once('.').map(|(_, own)| own) } else { Some(field) };
    matches!(key, "to" | "key" | "link" | "person") && field == Some(to)
}

/// The record's field by which somebody is asked to look.
const NEEDS_REVIEW: &str = "needs_review";

/// What rules make of a record, and whether somebody has to look at it.
pub(super) fn apply<'r>(rules: impl Iterator<Item = (String, &'r Rule)>, record: &Map<String, Value>) -> (Formed, bool) {
    let (mut formed, mut review) = (Formed::default(), false);
    for (name, rule) in rules {
        match rule.value(record) {
            Ok(Some((value, told))) => {
                formed.fields.insert(name, value);
                review |= asks(rule, told, record);
            }
            Ok(None) => {}
            Err(why) => {
                formed.faults.insert(name, why);
            }
        }
    }
    review |= !formed.faults.is_empty();
    (formed, review)
}

/// Whether a value that stands for one that nobody told is to be looked at. Before a call is over its values may still come.
fn asks(rule: &Rule, told: bool, record: &Map<String, Value>) -> bool {
    rule.review && !told && record.contains_key(NEEDS_REVIEW)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(rules: Value) -> Mapping {
        serde_json::from_value(json!({"version": 1, "object": "calls", "key": "offhook_key", "field": rules})).expect("a mapping")
    }

    #[test]
    fn values_are_translated_formed_and_defaulted() {
        let mapping = mapping(json!([
            {"to": "hs_call_status", "from": "outcome", "values": {"answered": "COMPLETED"}, "default": "FAILED"},
            {"to": "hs_timestamp", "from": "started_at", "as": "epoch_ms"},
            {"to": "digits", "from": "digits", "as": "digits"},
            {"to": "review", "from": "needs_review", "as": "boolean"},
            {"to": "seconds", "from": "talk_ms", "as": "seconds"},
            {"to": "hs_call_direction", "default": "INBOUND"},
            {"to": "hs_call_body", "from": "call_summary"}
        ]));
        assert_eq!(mapping.faults(), Vec::<String>::new());
        let record = json!({"outcome": "busy", "started_at": "2026-01-05T10:00:00.123Z", "digits": "2047815# 1", "needs_review": true, "talk_ms": 61999});
        let fields = mapping.apply(record.as_object().expect("a record")).fields;
        let wanted = [
            ("digits", json!("2047815 1")),
            ("hs_call_direction", json!("INBOUND")),
            ("hs_call_status", json!("FAILED")),
            ("hs_timestamp", json!(1_767_607_200_123_i64)),
            ("review", json!(true)),
            ("seconds", json!(61)),
        ];
        assert_eq!(fields, wanted.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn what_a_rule_can_never_write_is_a_fault() {
        let mapping = mapping(json!([
            {"to": "a", "from": "talk_ms", "as": "number", "default": "abc"},
            {"to": "b", "from": "outcome", "as": "boolean", "values": {"answered": "yes"}},
            {"to": "c", "from": "trunk"}
        ]));
        let faults = mapping.faults().join("\n");
        assert!(faults.contains("`a`: \"abc\"") && faults.contains("`b`: \"yes\"") && !faults.contains("`c`"), "{faults}");
    }

    #[test]
    fn a_text_that_the_field_does_not_take_is_cut_at_a_character() {
        let mapping = mapping(json!([{"to": "body", "from": "call_summary", "max_chars": 5}]));
        let cut = |text: &str| mapping.apply(json!({"call_summary": text}).as_object().expect("a record")).fields["body"].clone();
        assert_eq!((cut("äöüßé"), cut("äöüßéx")), (json!("äöüßé"), json!("äöüß…")));
    }

    #[test]
    fn what_cannot_be_written_is_named_and_flagged_and_the_rest_is_written() {
        let mapping = mapping(json!([
            {"to": "day", "from": "next_action_date", "as": "date"},
            {"to": "title", "from": "intent"},
            {"to": "review", "from": "needs_review", "as": "boolean"}
        ]));
        assert_eq!(mapping.faults(), Vec::<String>::new());
        let record = json!({"next_action_date": "the day after tomorrow, 4111", "intent": "pay", "needs_review": false});
        let formed = mapping.apply(record.as_object().expect("a record"));
        assert_eq!(formed.fields, [("review", json!(true)), ("title", json!("pay"))].map(|(n, v)| (n.to_owned(), v)).into());
        let fault = &formed.faults["day"];
        assert!(fault.contains("`next_action_date` is not a date") && !fault.contains("4111"), "{fault}");
    }

    #[test]
    fn a_code_stands_for_what_nobody_told_and_somebody_looks() {
        let rules = json!([
            {"to": "code", "from": "disposition_code", "values": {"PAID": "Paid"}, "default": "NO_DISPOSITION", "review": true},
            {"to": "review", "from": "needs_review", "as": "boolean"}
        ]);
        let mapping = mapping(rules);
        let made = |record: Value| mapping.apply(record.as_object().expect("a record")).fields;
        let fields = |code: &str, review: bool| Fields::from([("code".to_owned(), json!(code)), ("review".to_owned(), json!(review))]);
        assert_eq!(made(json!({"disposition_code": "PAID", "needs_review": false})), fields("Paid", false));
        assert_eq!(made(json!({"disposition_code": "NO SUCH WORD", "needs_review": false})), fields("NO_DISPOSITION", true));
        assert_eq!(made(json!({"needs_review": false})), fields("NO_DISPOSITION", true));
        assert_eq!(made(json!({})), [("code".to_owned(), json!("NO_DISPOSITION"))].into(), "a call under way has not been looked for");
    }

    #[test]
    fn an_amount_is_that_of_the_first_entity_in_the_fields_own_currency() {
        let rules = json!([
            {"to": "amount", "from": "entities.amount", "as": "number", "currency": "EUR"},
            {"to": "unit", "from": "entities.amount.currency"},
            {"to": "account", "from": "entities.account"}
        ]);
        let mapping = mapping(rules);
        assert_eq!(mapping.faults(), Vec::<String>::new());
        let made = |entities: Value| mapping.apply(json!({"entities": entities}).as_object().expect("a record"));
        let euros = made(
            json!([{"kind": "account", "value": "A-7"}, {"kind": "amount", "value": 12.5, "currency": "EUR"}, {"kind": "amount", "value": 9}]),
        );
        let wanted = [("account", json!("A-7")), ("amount", json!(12.5)), ("unit", json!("EUR"))];
        assert_eq!((euros.fields, euros.faults.len()), (wanted.map(|(n, v)| (n.to_owned(), v)).into(), 0));
        let dollars = made(json!([{"kind": "amount", "value": 12.5, "currency": "USD"}]));
        assert_eq!(
            (dollars.fields.contains_key("amount"), dollars.faults["amount"].as_str()),
            (false, "the amount is in another currency than EUR")
        );
        assert_eq!(made(json!([])), Formed::default());
    }

    #[test]
    fn a_fault_is_found_in_the_text_by_its_field() {
        let text = "version = 1\n[[field]]\nto = \"a\"\nfrom = \"x\"\n[[field]]\nto = 'b'\n";
        assert_eq!(&text[place(text, "field `a`: a call record has no `x`")], "to = \"a\"");
        assert_eq!(&text[place(text, "field `b`: needs `from`")], "to = 'b'");
        assert_eq!((place(text, "field `c`: needs"), place(text, "[contact] by: x")), (0..0, 0..0));
        let text = format!("{text}[contact]\nby = \"x\"\n[beside]\nkey = \"k\"\n[[beside.field]]\nto = \"a\"\n");
        let at = |fault: &str| text[..place(&text, fault).start].matches('\n').count() + 1;
        assert_eq!((at("field `a`: x"), at("field `T.a`: x"), at("field `T.k`: x"), at("field `k`: x")), (3, 12, 10, 1));
        assert_eq!((at("[contact] by: x"), at("[beside] object: x")), (7, 9));
    }

    #[test]
    fn faults_say_what_to_write_instead() {
        let mapping = mapping(
            json!([{"to": "a", "from": "outcom"}, {"to": "a", "from": "outcome"}, {"to": "b"}, {"to": "offhook_key", "from": "call_key"},
                {"to": "c", "from": "entities.", "zone": "Berlin"}, {"to": "d", "from": "intent", "review": true, "currency": "EUR"}]),
        );
        let faults = mapping.faults().join("\n");
        for part in [
            "no `outcom`",
            "`a` is there twice",
            "`b`: needs",
            "is the key",
            "no `entities.`",
            "no time zone",
            "review = true needs",
            "currency is that of",
        ] {
            assert!(faults.contains(part), "{part}: {faults}");
        }
    }
}
