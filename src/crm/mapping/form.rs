//! In which form a value of a record is written, and which values have that form.

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::{TimeZone, TimeZoneDatabase},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::time::Wall;

/// In which form a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As it is.
    #[default]
    Text,
    /// A time, as a number of milliseconds since 1970.
    EpochMs,
    /// Keys: the terminator of each run left out.
    Digits,
    /// A number.
    Number,
    /// Whole seconds of a value in milliseconds.
    Seconds,
    /// Minutes of a value in milliseconds, a started one counted.
    Minutes,
    /// True or false.
    Boolean,
    /// The date of a time in the rule's zone; a date as it is.
    Date,
    /// A time, RFC 3339 in UTC; one without an offset is the rule's zone's.
    Datetime,
}

impl Form {
    /// `text` in this form; none where it has not got it. `zone`: of times that name none, and of dates.
    pub(super) fn write(self, text: &str, zone: &TimeZone) -> Option<Value> {
        match self {
            Self::Text => Some(json!(text)),
            Self::EpochMs => instant(text, zone).map(|at| json!(at.as_millisecond())),
            Self::Digits => Some(json!(text.split(' ').map(|run| run.trim_end_matches('#')).collect::<Vec<_>>().join(" "))),
            Self::Number => text.parse::<serde_json::Number>().ok().map(Value::Number),
            Self::Seconds => text.parse::<i64>().ok().map(|ms| json!(ms.div_euclid(1000))),
            // A started minute counts, as on a bill.
            Self::Minutes => text.parse::<i64>().ok().map(|ms| json!(ms.saturating_add(59_999).div_euclid(60_000))),
            Self::Boolean => text.parse::<bool>().ok().map(Value::Bool),
            Self::Date => date(text, zone).map(|date| json!(date.to_string())),
            Self::Datetime => instant(text, zone).map(|at| json!(Wall::from_micros(at.as_microsecond()))),
        }
    }

    /// What a value has to be, for people.
    pub(super) const fn wants(self) -> &'static str {
        match self {
            Self::Text | Self::Digits => "a text",
            Self::EpochMs | Self::Datetime => "a time, such as 2026-01-05T10:00:00Z",
            Self::Number => "a number",
            Self::Seconds | Self::Minutes => "a number of milliseconds",
            Self::Boolean => "true or false",
            Self::Date => "a date, such as 2026-01-05",
        }
    }
}

/// A time zone by its IANA name, of the database that is part of the program: a machine with another one would make other records of the same journal.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// A time with an offset; without one, or a date alone, in `zone`.
fn instant(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let civil = text.parse::<DateTime>().ok()?;
    zone.to_timestamp(civil).ok()
}

/// A time with an offset is of the date that it has in `zone`; any other as it stands.
fn date(text: &str, zone: &TimeZone) -> Option<Date> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(zone.to_datetime(at).date());
    }
    text.parse::<DateTime>().ok().map(DateTime::date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_the_zone_and_what_is_none_is_not_written() {
        let berlin = zone("Europe/Berlin").expect("a zone");
        let date = |text: &str| Form::Date.write(text, &berlin);
        assert_eq!(date("2026-01-05T23:30:00Z"), Some(json!("2026-01-06")));
        assert_eq!(date("2026-01-05T23:30:00-08:00"), Some(json!("2026-01-06")));
        assert_eq!(date("2026-07-05T22:30:00Z"), Some(json!("2026-07-06")), "in summer two hours ahead");
        assert_eq!(date("2026-01-05"), Some(json!("2026-01-05")));
        assert_eq!(date("2026-01-05T23:30:00"), Some(json!("2026-01-05")));
        for none in ["the day after tomorrow", "05.01.2026", "2026-02-30", ""] {
            assert_eq!(date(none), None, "{none}");
        }
        assert_eq!(Form::Date.write("2026-01-05T23:30:00Z", &TimeZone::UTC), Some(json!("2026-01-05")));
    }

    #[test]
    fn a_time_without_an_offset_is_the_zones() {
        let berlin = zone("Europe/Berlin").expect("a zone");
        let time = |text: &str| Form::Datetime.write(text, &berlin);
        assert_eq!(time("2026-01-05T10:00:00"), Some(json!("2026-01-05T09:00:00.000Z")));
        assert_eq!(time("2026-01-05"), Some(json!("2026-01-04T23:00:00.000Z")));
        assert_eq!(time("2026-01-05T10:00:00+01:00"), Some(json!("2026-01-05T09:00:00.000Z")));
        assert_eq!(Form::EpochMs.write("2026-01-05T10:00:00", &berlin), Some(json!(1_767_603_600_000_i64)));
        assert_eq!(time("ten o'clock"), None);
        assert!(zone("Europe/Atlantis").is_none());
    }
}
