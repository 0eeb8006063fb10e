//! What stands in the CRM, held against the script: lost, doubled, wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::{
    Error,
    account::{Account, Beside, Kind},
    script::{Cut, Story, expected},
};
use crate::{
    driver::demo::report::Check,
    journal::{EntryKind, Position},
    shell::disk,
};

/// What came of a comparison.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lost: usize,
    pub(super) doubled: usize,
    pub(super) wrong: usize,
    /// The first few faults, for people.
    pub(super) faults: Vec<String>,
}

impl Found {
    /// Both, as one.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.wrong += other.wrong;
        self.faults.extend(other.faults);
        self
    }

    /// Holds the one record that a call must have, of `count` that it has, against `fields`. `person`: the field that names nobody where they say nobody.
    pub(super) fn hold(
        &mut self,
        id: &str,
        count: usize,
        record: Option<&BTreeMap<String, String>>,
        fields: &BTreeMap<&'static str, String>,
        person: Option<&str>,
    ) {
        let Some(record) = record else {
            self.lost += 1;
            self.faults.push(format!("{id}: no record"));
            return;
        };
        self.doubled += count.saturating_sub(1);
        if count > 1 {
            self.faults.push(format!("{id}: {count} records"));
        }
        let differs = |(name, value): &(&&str, &String)| record.get(**name) != Some(*value);
        let mut faults: Vec<_> = fields
            .iter()
            .filter(differs)
            .map(|(name, value)| format!("{id}: {name} is {:?}, must be {value:?}", record.get(*name)))
            .collect();
        if let Some(other) = person.filter(|person| !fields.contains_key(person)).and_then(|person| record.get(person)) {
            faults.push(format!("{id}: linked with {other}, must be with nobody"));
        }
        self.wrong += usize::from(!faults.is_empty());
        self.faults.extend(faults);
    }
}

/// A call that was played, with whether a kill cut through it.
#[derive(Clone, Debug)]
pub(super) struct Played {
    pub(super) story: Story,
    pub(super) call_id: Option<String>,
    pub(super) cut: bool,
}

/// What the journal says of each call, by the caller's number: its id and its end.
pub(super) fn journal(folder: &Path) -> Result<BTreeMap<String, (String, Option<Cut>)>, Error> {
    let mut calls: BTreeMap<String, (String, Option<Cut>)> = BTreeMap::new();
    let mut numbers: BTreeMap<String, String> = BTreeMap::new();
    let mut cuts: BTreeMap<String, Cut> = BTreeMap::new();
    let mut tail = disk::read(&folder.join("data/journal"), Position::default());
    while let Some(batch) = tail.next_batch(1000).map_err(|why| Error::Gateway(why.to_string()))? {
        for (_, entry) in batch.entries.iter().filter(|(_, e)| e.kind == EntryKind::Event) {
            let Ok(event) = serde_json::from_slice::<Value>(&entry.body) else { continue };
            let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
            let (id, data) = (text(event.get("subject")), event.get("data").cloned().unwrap_or_default());
            let cut = cuts.entry(id.clone()).or_default();
            match text(event.get("type")).as_str() {
                "call.started" => {
                    numbers.insert(text(data.get("from")), id);
                }
                "call.answered" => cut.answered = true,
                "call.transferred" => cut.transferred = true,
                "call.dtmf" if text(data.get("leg")) == "caller" => {
                    cut.digits.extend(data.get("digits").and_then(Value::as_str).map(str::to_owned));
                }
                "call.ended" | "call.failed" => {
                    cut.outcome = text(data.get("outcome"));
                    cut.ended_as = text(data.get("ended_as"));
                    cut.reason = data.get("reason").and_then(Value::as_str).map(str::to_owned);
                }
                _ => {}
            }
        }
    }
    for (number, id) in numbers {
        let cut = cuts.remove(&id).filter(|cut| !cut.outcome.is_empty());
        calls.insert(number, (id, cut));
    }
    Ok(calls)
}

/// What must stand in the CRM, by call id. A call that a kill cut through is in it with the end that the journal has; one that the journal never heard of is not.
pub(super) fn wanted(
    played: &[Played],
    journal: &BTreeMap<String, (String, Option<Cut>)>,
) -> BTreeMap<String, BTreeMap<&'static str, String>> {
    let mut wanted = BTreeMap::new();
    for Played { story, call_id, cut } in played {
        let known = journal.get(&story.from);
        let id = call_id.clone().or_else(|| known.map(|(id, _)| id.clone()));
        let Some(id) = id.filter(|_| !cut || known.is_some()) else { continue };
        let of_journal = known.and_then(|(_, end)| end.as_ref()).filter(|_| *cut);
        let mut story = story.clone();
        if call_id.is_none() {
            // Its platform never heard of it, and told nothing.
            story.told.clear();
        }
        wanted.insert(id.clone(), expected(&story, &id, of_journal));
    }
    wanted
}

/// What must stand in the CRM, by the vendor's names for the facts. Beside them only `person` is left, where it has no field for that.
pub(super) fn named(
    names: &'static [(&'static str, &'static str)],
    wanted: BTreeMap<String, BTreeMap<&'static str, String>>,
) -> BTreeMap<String, BTreeMap<&'static str, String>> {
    let fields = |facts: BTreeMap<&'static str, String>| {
        let own = names.iter().filter_map(|(fact, field)| Some((*field, facts.get(fact)?.clone())));
        let person = facts.get("person").filter(|_| names.iter().all(|(fact, _)| *fact != "person"));
        own.chain(person.map(|person| ("person", person.clone()))).collect()
    };
    wanted.into_iter().map(|(call, facts)| (call, fields(facts))).collect()
}

/// Reads every record back over the CRM's own API. `linked`: with the persons that they are linked with, which a record must have just where it is said.
pub(super) async fn compare(
    account: &Account,
    kind: Kind,
    wanted: &BTreeMap<String, BTreeMap<&'static str, String>>,
    columns: &[String],
    linked: bool,
) -> Result<Found, Error> {
    let mut found = Found::default();
    let person = person(kind.fields());
    for (id, fields) in wanted {
        let records = account.records(kind, id, columns, linked).await?;
        found.hold(id, records.len(), records.first(), fields, linked.then_some(person));
    }
    Ok(found)
}

/// The same of what stands beside the records, each linked with its own. `columns`: theirs, then the records'.
pub(super) async fn compare_beside(
    account: &Account,
    kind: Kind,
    beside: &Beside,
    wanted: &BTreeMap<String, BTreeMap<&'static str, String>>,
    (columns, of_records): (&[String], &[String]),
    linked: bool,
) -> Result<Found, Error> {
    let mut found = Found::default();
    let person = person(beside.fields);
    let columns: Vec<_> = columns.iter().cloned().chain([beside.link.to_owned()]).chain(linked.then(|| person.to_owned())).collect();
    for (id, fields) in wanted {
        let records = account.query(beside.object, beside.call, id, &columns).await?;
        let mut fields = fields.clone();
        if let Some(record) = account.records(kind, id, of_records, false).await?.first() {
            fields.extend(record.get("Id").map(|of| (beside.link, of.clone())));
            fields.extend(beside.same.iter().map(|(of, field)| (*field, record.get(*of).cloned().unwrap_or_default())));
        }
        fields.retain(|_, value| !value.is_empty());
        found.hold(id, records.len(), records.first(), &fields, linked.then_some(person));
    }
    Ok(found)
}

fn person(names: &'static [(&'static str, &'static str)]) -> &'static str {
    names.iter().find(|(fact, _)| *fact == "person").map_or("person", |(_, field)| *field)
}

/// Fields of `object` that were written and that nobody was to write.
pub(super) fn touched(ledger: &[Value], object: &str, owned: &[String]) -> BTreeSet<String> {
    let is_own = |name: &str| owned.iter().any(|own| own == name) || STAMPS.contains(&name);
    let written = ledger.iter().filter(|line| line["kind"] == "mutation" && line["object"] == object);
    let names = written.flat_map(|line| line["changed"].as_array().into_iter().flatten()).filter_map(Value::as_str);
    names.filter(|name| !is_own(name)).map(str::to_owned).collect()
}

/// Fields that Salesforce writes itself.
const STAMPS: [&str; 3] = ["Id", "CreatedDate", "LastModifiedDate"];

/// The contract's form of what must stand in the CRM.
pub(super) fn document(
    (object, field): (&str, &str),
    wanted: &BTreeMap<String, BTreeMap<&'static str, String>>,
    owned: &[String],
) -> Value {
    let fields = |fields: &BTreeMap<&'static str, String>| {
        fields.iter().filter(|(name, _)| **name != "person").map(|(n, v)| (*n, v.clone())).collect::<BTreeMap<_, _>>()
    };
    let calls: Map<String, Value> = wanted.iter().map(|(id, of_call)| (id.clone(), json!(fields(of_call)))).collect();
    json!({"object": object, "match": field, "owned": owned, "calls": calls})
}

/// Numbers of which half, and of which all but one in a hundred, are not greater.
pub(super) fn spread(mut times: Vec<Duration>) -> Value {
    times.sort();
    let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 100).map(Duration::as_millis);
    json!({"p50": at(50), "p99": at(99), "max": at(100)})
}

/// The proof, for people and scripts.
pub(super) fn checks(found: &Found, calls: usize) -> Vec<Check> {
    let detail = |count: usize, what: &str| {
        let first = found.faults.first().map(|fault| format!("; the first: {fault}")).unwrap_or_default();
        if count == 0 { format!("{calls} calls read back, none {what}") } else { format!("{count} {what}{first}") }
    };
    vec![
        Check::new("the CRM holds what the script says", found.wrong == 0, detail(found.wrong, "wrong")),
        Check::new("nothing is lost", found.lost == 0, detail(found.lost, "lost")),
        Check::new("nothing is doubled", found.doubled == 0, detail(found.doubled, "doubled")),
    ]
}
