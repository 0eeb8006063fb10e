//! What a field of a record may hold, where that is known before any call: a word of a closed set, a number, a time. What can never be there is a slip of
//! whoever wrote the rule, and would be found by nobody.

use serde::de::{DeserializeOwned, IntoDeserializer, value::Error};

use super::{Form, IN_PROGRESS};
use crate::event::{EndedAs, EndedBy, Outcome};

/// What a field of a record may hold.
#[derive(Clone, Copy)]
pub(super) enum Holds {
    /// A word of a closed set.
    Word(fn(&str) -> Result<(), String>),
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A point in time.
    Time,
    /// A text that is neither.
    Text,
    /// What a platform, a carrier or a caller tells: anything.
    Anything,
}

impl Holds {
    /// What the field of that name holds.
    pub(super) fn of(field: &str) -> Self {
        match field {
            "outcome" => Self::Word(is::<Outcome>),
            "ended_as" => Self::Word(is::<EndedAs>),
            "ended_by" => Self::Word(is::<EndedBy>),
            "status" => Self::Word(is_status),
            "ring_ms" | "secure_ms" | "sip_status" | "talk_ms" => Self::Number,
            "complete" | "needs_review" => Self::Boolean,
            "answered_at" | "ended_at" | "started_at" => Self::Time,
            "call_id" | "call_key" | "codec_platform" | "codec_trunk" | "missing" | "note" | "transcript" => Self::Text,
            _ => Self::Anything,
        }
    }

    /// Why the field never holds `value`; none where it may.
    pub(super) fn never(self, value: &str) -> Option<String> {
        match self {
            Self::Word(is) => is(value).err(),
            Self::Number if value.parse::<f64>().is_err() => Some("it is a number".to_owned()),
            Self::Boolean if value.parse::<bool>().is_err() => Some("it is true or false".to_owned()),
            _ => None,
        }
    }

    /// Whether it may be compared with a number.
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Number | Self::Anything)
    }

    /// Whether any value of it has that form.
    pub(super) fn has(self, form: Form) -> bool {
        match form {
            Form::Text | Form::Digits => true,
            Form::EpochMs | Form::Date | Form::Datetime => matches!(self, Self::Time | Self::Anything),
            Form::Number | Form::Seconds | Form::Minutes => self.counts(),
            Form::Boolean => matches!(self, Self::Boolean | Self::Anything),
        }
    }

    /// What it holds, for people.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Word(_) => "a word of a closed set",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Time => "a time",
            Self::Text => "a text",
            Self::Anything => "anything",
        }
    }
}

/// Whether `word` is one of a set that events have; the error names those that are.
fn is<T: DeserializeOwned>(word: &str) -> Result<(), String> {
    let read: Result<T, Error> = T::deserialize(word.into_deserializer());
    read.map(drop).map_err(|error| error.to_string())
}

fn is_status(word: &str) -> Result<(), String> {
    if word == IN_PROGRESS { Ok(()) } else { is::<EndedAs>(word).map_err(|why| format!("{why}, or `{IN_PROGRESS}`")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crm::mapping::{Mapping, place};

    #[test]
    fn words_of_events_are_known_and_others_are_told_what_there_is() {
        for (field, word, other) in [
            ("outcome", "no_answer", "answerd"),
            ("ended_as", "transferred", "in_progress"),
            ("ended_by", "gateway", "caler"),
            ("status", "in_progress", "running"),
            ("talk_ms", "60000", "long"),
            ("needs_review", "true", "yes"),
        ] {
            assert_eq!(Holds::of(field).never(word), None, "{field}");
            assert!(Holds::of(field).never(other).is_some(), "{field}");
        }
        let why = Holds::of("status").never("running").expect("no such status");
        assert!(["`running`", "`completed`", "`in_progress`"].iter().all(|part| why.contains(part)), "{why}");
        assert_eq!((Holds::of("disposition_code").never("x"), Holds::of("entities.amount").never("x")), (None, None));
    }

    /// What can never be is found before a call, with its line: nothing would be written by it, or everything wait for somebody.
    #[test]
    fn what_can_never_be_is_a_fault() {
        const HEAD: &str = "version = 1\nobject = \"calls\"\nkey = \"k\"\n";
        let field = |rest: &str| format!("{HEAD}[[field]]\nto = \"a\"\n{rest}\n");
        let only = |rest: &str| format!("{HEAD}field = []\n[[only]]\n{rest}\n");
        for (text, line, part) in [
            (only("field = \"outcome\"\nis = [\"answered\", \"answerd\"]"), 5, "`outcome` is never \"answerd\""),
            (only("field = \"ended_by\"\nis = [\"caler\"]"), 5, "one of `caller`"),
            (only("field = \"transcript\"\nat_least = 3"), 5, "`transcript` is a text, and at_least needs a number"),
            (only("field = \"outcome\"\nat_least = 3"), 5, "`outcome` is a word"),
            (field("from = \"outcome\"\nvalues = { answerd = \"X\" }"), 5, "`outcome` is never \"answerd\""),
            (field("from = \"status\"\nvalues = { running = \"X\" }"), 5, "or `in_progress`"),
            (field("from = \"outcome\"\nas = \"date\""), 5, "`outcome` is a word of a closed set, and `as` asks for a date"),
            (field("from = \"started_at\"\nas = \"seconds\""), 5, "`started_at` is a time"),
            (field("from = \"talk_ms\"\nas = \"boolean\""), 5, "asks for true or false"),
            (field("from = \"intent\"\ncustom = \"boolean\""), 5, "is no type: write string"),
            (format!("{HEAD}[[field]]\nto = \"\"\nfrom = \"intent\"\n"), 5, "`to` is empty"),
            ("version = 0\nobject = \"calls\"\nkey = \"k\"\nfield = []\n".to_owned(), 1, "version: is 0"),
            ("version = 1\nobject = \"\"\nkey = \"k\"\nfield = []\n".to_owned(), 2, "object: is empty"),
            ("version = 1\nobject = \"calls\"\nkey = \" \"\nfield = []\n".to_owned(), 3, "key: is empty"),
        ] {
            let mapping: Mapping = toml::from_str(&text).expect("a mapping");
            let [fault] = mapping.faults().try_into().unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
            let found = text[..place(&text, &fault).start].matches('\n').count() + 1;
            assert!(fault.contains(part) && found == line, "{found}, not {line}: {fault}");
        }
        for good in [
            only("field = \"sentiment_score\"\nat_least = 0.5"),
            only("field = \"disposition_code\"\nis = [\"PAID\"]"),
            field("from = \"next_action_date\"\nas = \"date\""),
            field("from = \"needs_review\"\nas = \"boolean\""),
            field("from = \"outcome\"\nas = \"number\"\nvalues = { busy = \"2\" }"),
        ] {
            assert_eq!(toml::from_str::<Mapping>(&good).expect("a mapping").faults(), [""; 0], "{good}");
        }
    }
}
