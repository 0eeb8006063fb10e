//! Whose call it was: how the person behind a call is looked for in a CRM, and which of those found it is.
//!
//! ```toml
//! [contact]                          # of a mapping
//! by = "from"                        # the record's field that names the person
//! kind = "number"                    # or "reference": compared octet for octet
//! object = "contacts"
//! fields = ["phone", "mobilephone"]  # the CRM's fields that may hold it
//! several = "review"                 # or "newest", "oldest"
//! nobody = "review"                  # or "leave", "create"
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Change, Fields, HttpAnswer, HttpRequest, Token, Verdict, difference, mapping};

/// The `[contact]` of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The record's field that names the person: a number such as `from`, or a reference that the platform took down.
    pub by: String,
    /// What that field holds.
    #[serde(default)]
    pub kind: Kind,
    /// What every national number is to begin with in place of its leading zero, such as `+49`.
    #[serde(default)]
    pub country: Option<String>,
    /// Object type of people in the CRM.
    pub object: String,
    /// The CRM's fields that may hold the number or the reference.
    pub fields: Vec<String>,
    /// What becomes of several people with one number.
    #[serde(default)]
    pub several: Several,
    /// What becomes of a number that nobody has.
    #[serde(default)]
    pub nobody: Nobody,
    /// Where people are made: the unique field of a person that holds the key of his number, so that two calls at once do not make two.
    #[serde(default)]
    pub key: Option<String>,
    /// What a new person gets, by rules as those of a record.
    #[serde(default, rename = "field")]
    pub rules: Vec<mapping::Rule>,
    /// What a call says of its person, written to him wherever he comes from, by rules as those of a record: of several calls the latest that says anything counts.
    #[serde(default, rename = "update")]
    pub updates: Vec<mapping::Rule>,
    /// Where a record names its person by a field of its own: Salesforce's `WhoId`, Dataverse's `regardingobjectid_contact_phonecall@odata.bind`. HubSpot links by
    /// itself.
    #[serde(default)]
    pub link: Option<Link>,
}

/// The field of a record that names its person.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its name.
    pub to: String,
    /// Its value, with `{id}`.
    #[serde(default = "plain")]
    pub value: String,
}

fn plain() -> String {
    "{id}".to_owned()
}

impl Link {
    /// The field that holds a person's id as it is.
    pub fn plain(to: String) -> Self {
        Self { to, value: plain() }
    }
}

/// What names a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A telephone number, in whatever form.
    #[default]
    Number,
    /// A reference, octet for octet.
    Reference,
}

/// What becomes of several people with one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Several {
    /// A person chooses.
    #[default]
    Review,
    /// The one made last.
    Newest,
    /// The one made first.
    Oldest,
}

/// What becomes of a number or a reference that nobody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nobody {
    /// A person looks.
    #[default]
    Review,
    /// The record stays without a person.
    Leave,
    /// The person is made.
    Create,
}

/// Somebody whom a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The CRM's id.
    pub id: String,
    /// What the searched fields hold.
    pub handles: Vec<String>,
    /// When he was made, in a form that sorts by time; empty where the CRM does not tell.
    pub made: String,
}

/// What an answer to a search holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Those whom it shows.
    pub people: Vec<Person>,
    /// There are others whom it does not show.
    pub more: bool,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Object type.
    pub object: &'a str,
    /// Any of these fields …
    pub fields: &'a [String],
    /// … may hold any of these.
    pub values: &'a [String],
}

/// The part of a CRM's contract that knows people.
pub trait People {
    /// Searches that one request may hold.
    fn find_max(&self) -> usize;
    /// Searches a second that the CRM allows beside its other limits.
    fn finds_per_second(&self) -> Option<u32> {
        None
    }
    /// Asks for everybody who has one of the values in one of the fields.
    fn find(&self, search: &Search<'_>, token: &Token) -> HttpRequest;
    /// Who was found.
    fn found(&self, search: &Search<'_>, answer: &HttpAnswer) -> Result<Found, Verdict>;
    /// Changes people by their ids, [`Change::id`], and makes none. No two are the same.
    fn update(&self, _object: &str, _changes: &[Change], _token: &Token) -> Option<HttpRequest> {
        None
    }
    /// What the answer to that means for each.
    fn updated(&self, changes: &[Change], answer: &HttpAnswer) -> Vec<Verdict> {
        let why = format!("{} to a change that was never asked for", answer.status);
        vec![Verdict::Gone { why }; changes.len()]
    }
    /// Links records with people, where that is a request of its own: pairs of a record's id and a person's.
    fn link(&self, _object: &str, _pairs: &[(String, String)], _token: &Token) -> Option<HttpRequest> {
        None
    }
    /// What the answer to that means for each pair.
    fn linked(&self, pairs: &[(String, String)], answer: &HttpAnswer) -> Vec<Verdict> {
        let why = format!("{} to a link that was never asked for", answer.status);
        vec![Verdict::Gone { why }; pairs.len()]
    }
    /// Whether [`Self::link`] is how people are linked.
    fn links_apart(&self) -> bool {
        false
    }
}

impl Rule {
    /// What is wrong with it beside its form.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !mapping::RECORD_FIELDS.contains(&self.by.as_str()) {
            faults.push(format!("[contact] by: a call record has no `{}`; it has {}", self.by, mapping::RECORD_FIELDS.join(", ")));
        }
        if self.fields.is_empty() {
            faults.push(
                "[contact] fields: is empty; name the CRM's fields that hold the number, such as [\"phone\", \"mobilephone\"]".to_owned(),
            );
        }
        if self.nobody == Nobody::Create && self.key.is_none() {
            faults.push(
                "[contact] nobody = \"create\" needs `key`, a unique field of a person: without it two calls at once make two people"
                    .to_owned(),
            );
        }
        if self.country.as_ref().is_some_and(|c| !c.starts_with('+') || digits(c).is_empty()) {
            faults.push("[contact] country: is no country code such as \"+49\"".to_owned());
        }
        if !self.updates.is_empty() && self.kind == Kind::Reference {
            faults.push("[[contact.update]] needs kind = \"number\": of a reference nobody knows which call is the latest".to_owned());
        }
        if self.link.as_ref().is_some_and(|link| !link.value.contains("{id}")) {
            faults.push("[contact] link.value: has no {id}: every record would name the same person".to_owned());
        }
        faults
    }

    /// Who is to be looked for: the number in E.164 form, or the reference; none where the record names nobody.
    pub fn sought(&self, record: &Map<String, Value>) -> Option<String> {
        let text = match record.get(&self.by)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        match self.kind {
            Kind::Reference => (!text.is_empty()).then_some(text),
            Kind::Number => self.number(&text),
        }
    }

    /// A number in E.164 form, with its plus sign; none where the text holds none, as with a caller who hides his.
    fn number(&self, text: &str) -> Option<String> {
        let digits = digits(text);
        if digits.len() < NUMBER_MIN || text.contains('@') || text.chars().any(char::is_alphabetic) {
            return None;
        }
        let international =
            text.trim_start().starts_with('+').then(|| digits.clone()).or_else(|| digits.strip_prefix("00").map(str::to_owned));
        let national = || {
            let code = self.country.as_deref().map(self::digits)?;
            Some(if digits.starts_with(&code) { digits.clone() } else { format!("{code}{}", digits.strip_prefix('0').unwrap_or(&digits)) })
        };
        Some(format!("+{}", international.or_else(national).unwrap_or(digits)))
    }

    /// The forms under which the CRM may have what is sought.
    pub fn forms(&self, sought: &str) -> Vec<String> {
        let mut forms = vec![sought.to_owned()];
        if self.kind == Kind::Number {
            let digits = digits(sought);
            if let Some(national) = self.country.as_deref().and_then(|code| digits.strip_prefix(&self::digits(code))) {
                forms.extend([format!("0{national}"), national.to_owned()]);
            }
            forms.push(digits);
        }
        forms
    }

    /// The same of a number in whatever form; none where the text holds none.
    fn spellings_of(&self, text: &str) -> Option<BTreeSet<String>> {
        self.number(text).map(|number| self.spellings(&number))
    }

    /// The digits under which a record may have that number, which it keeps as it came: whatever [`Self::sought`] makes `sought` of is among them.
    pub fn spellings(&self, sought: &str) -> BTreeSet<String> {
        let mut spellings: BTreeSet<_> = self.forms(sought).iter().map(|form| digits(form)).collect();
        spellings.insert(format!("00{}", digits(sought)));
        spellings
    }

    /// Which of those found it is, by the rule: one, nobody, or several of whom a person has to choose. None of those `lost`: a search may go on finding
    /// them for a while. Of a part of those who have the number nobody can tell the newest or the oldest: whatever the rule, they are several.
    pub fn choose(&self, sought: &str, lost: &[String], found: &Found) -> Vec<String> {
        let is = |handle: &String| match self.kind {
            Kind::Reference => handle.trim() == sought,
            Kind::Number => self.number(handle).is_some_and(|number| number == sought),
        };
        let bears = |p: &&Person| !lost.contains(&p.id) && (found.more || p.handles.iter().any(is));
        let mut bearers: Vec<_> = found.people.iter().filter(bears).collect();
        bearers.sort_by(|a, b| (&a.made, &a.id).cmp(&(&b.made, &b.id)));
        let one = |person: Option<&&Person>| person.map(|p| p.id.clone()).into_iter().collect();
        match self.several {
            Several::Newest if !found.more => one(bearers.last()),
            Several::Oldest if !found.more => one(bearers.first()),
            _ => bearers.iter().map(|p| p.id.clone()).collect::<BTreeSet<_>>().into_iter().take(CANDIDATES_MAX).collect(),
        }
    }

    /// What this call says of its person.
    pub fn updates_of(&self, record: &Map<String, Value>) -> Fields {
        mapping::apply(named(&self.updates), record).0.fields
    }

    /// What a new person is given.
    pub fn fields_of(&self, record: &Map<String, Value>) -> Fields {
        mapping::apply(named(&self.rules), record).0.fields
    }
}

fn named(rules: &[mapping::Rule]) -> impl Iterator<Item = (String, &mapping::Rule)> {
    rules.iter().map(|rule| (rule.to.clone(), rule))
}

/// The digits under which records may have the number in `text`, by each of these rules, since each CRM's people may be of another country; without any, by the
/// prefix of international calls alone.
pub fn spellings<'r>(text: &str, rules: impl IntoIterator<Item = &'r Rule>) -> BTreeSet<String> {
    let plain = digits(text);
    let international = plain.strip_prefix("00").unwrap_or(&plain).to_owned();
    let mut spellings: BTreeSet<_> = rules.into_iter().filter_map(|rule| rule.spellings_of(text)).flatten().collect();
    spellings.extend([format!("00{international}"), international, plain]);
    spellings
}

/// The digits of a number, in whatever form it is written.
pub fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// People of one number who are kept with a call: as many as somebody looks through, since a switchboard's may be thousands.
pub const CANDIDATES_MAX: usize = 20;
/// Shorter ones are extensions and services, which name no person outside.
const NUMBER_MIN: usize = 7;

/// What is known of a record's person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Contact {
    /// Who is looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sought: Option<String>,
    /// Whom an attempt looks for or makes whose answer is awaited: another rule, or a later fact, may seek another by the time it is folded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What came of it.
    #[serde(default)]
    pub standing: Standing,
    /// The person whom the CRM has linked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<String>,
    /// People who are there no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// What a person who has to be made gets.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub fields: Fields,
    /// What the call says of the person.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub says: Fields,
    /// What of that was written to him.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub said: Fields,
    /// What an attempt carries whose answer is awaited.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub saying: Fields,
}

impl Contact {
    /// What is still to be written to the person.
    pub fn unsaid(&self) -> Fields {
        difference(&self.says, &self.said)
    }

    /// The record stays without a person where there is none, and otherwise without what is still to be told of the two: it counts as told.
    pub fn leave(&mut self) {
        match self.person().map(str::to_owned) {
            None => self.standing = Standing::Left,
            person => {
                self.linked = person;
                let unsaid = self.unsaid();
                self.said.extend(unsaid);
            }
        }
    }

    /// Whether the CRM has refused that person as one who is there no more.
    pub fn is_lost(&self, person: &str) -> bool {
        self.lost.iter().any(|lost| lost == person)
    }

    /// The CRM's id of the person.
    pub fn person(&self) -> Option<&str> {
        match &self.standing {
            Standing::Found(id) => Some(id),
            _ => None,
        }
    }
}

/// What came of looking for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Not looked for yet.
    #[default]
    Unsought,
    /// By the CRM's id.
    Found(String),
    /// Nobody has the number.
    Nobody,
    /// Several have it.
    Several(Vec<String>),
    /// Somebody decided that the record stays without a person.
    Left,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rule(more: &str) -> Rule {
        let text = json!({"by": "from", "object": "contacts", "fields": ["phone"]});
        let mut rule: Value = text;
        let more: Value = serde_json::from_str(more).expect("json");
        rule.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        serde_json::from_value(rule).expect("a rule")
    }

    fn person(id: &str, handle: &str, made: &str) -> Person {
        Person { id: id.into(), handles: vec![handle.into()], made: made.into() }
    }

    #[test]
    fn one_number_in_many_forms_is_one_number() {
        let german = rule(r#"{"country": "+49"}"#);
        let record = |from: &str| json!({"from": from}).as_object().cloned().expect("a record");
        for form in ["+49 (30) 1234567", "0049 30 1234567", "030/1234567", "49301234567", "+49301234567"] {
            assert_eq!(german.sought(&record(form)).as_deref(), Some("+49301234567"), "{form}");
        }
        assert_eq!(german.forms("+49301234567"), ["+49301234567", "0301234567", "301234567", "49301234567"]);
        for none in ["anonymous", "", "112", "alice@example.com"] {
            assert_eq!(german.sought(&record(none)), None, "{none}");
        }
        assert_eq!(rule("{}").sought(&record("15551230001")).as_deref(), Some("+15551230001"), "carriers often leave the plus sign out");
    }

    proptest! {
        #[test]
        fn whoever_asks_by_one_spelling_is_told_of_the_others(national in "[1-9][0-9]{7,10}", asked in 0_usize..4, stored in 0_usize..4) {
            let forms = [format!("+49{national}"), format!("0049{national}"), format!("0{national}"), format!("49{national}")];
            let (asked, stored) = (&forms[asked], digits(&forms[stored]));
            let german = rule(r#"{"country": "+49"}"#);
            prop_assert!(spellings(asked, [&german]).contains(&stored), "{asked} {stored}");
            if *asked != forms[2] {
                prop_assert!(spellings(asked, []).contains(&format!("49{national}")), "without a rule too");
            }
        }

        #[test]
        fn a_number_is_among_its_spellings(from in "(\\+|00?|49|0049)?[0-9 /()-]{6,14}", german in any::<bool>()) {
            let rule = rule(if german { r#"{"country": "+49"}"# } else { "{}" });
            if let Some(sought) = rule.sought(&json!({"from": from}).as_object().cloned().expect("a record")) {
                prop_assert!(rule.spellings(&sought).contains(&digits(&from)), "{sought}");
            }
        }
    }

    #[test]
    fn several_go_by_rule_and_what_was_found_beside_is_nobody() {
        let people = vec![person("2", "+1 555 123 0001", "2024"), person("1", "15551230001", "2025"), person("3", "+15551230009", "2023")];
        let found = Found { people, more: false };
        let chosen = |more: &str| rule(more).choose("+15551230001", &[], &found);
        assert_eq!(chosen("{}"), ["1", "2"]);
        assert_eq!(chosen(r#"{"several": "newest"}"#), ["1"]);
        assert_eq!(chosen(r#"{"several": "oldest"}"#), ["2"]);
        let oldest_left = rule(r#"{"several": "oldest"}"#).choose("+15551230001", &["2".to_owned()], &found);
        assert_eq!(oldest_left, ["1"], "who is there no more is not chosen again");
        assert_eq!(rule("{}").choose("+15551230002", &[], &found), Vec::<String>::new());
        let by_reference = rule(r#"{"kind": "reference"}"#);
        assert_eq!(by_reference.choose("15551230001", &[], &found), ["1"], "a reference is compared as it stands");
    }

    #[test]
    fn a_rule_that_would_double_people_is_a_fault() {
        let faults = rule(r#"{"nobody": "create", "fields": [], "by": "frm", "country": "49", "link": {"to": "WhoId", "value": "x"}}"#)
            .faults()
            .join("\n");
        for part in ["no `frm`", "fields: is empty", "needs `key`", "no country code", "has no {id}"] {
            assert!(faults.contains(part), "{part}: {faults}");
        }
        assert_eq!(rule("{}").faults(), Vec::<String>::new());
    }
}
