//! What a write needs next: its person found or made, its record written, both linked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Crm,
    attempt::requests,
    decision::edited,
    store::{State, Write},
};
use crate::{
    crm::{
        Change, Connector, Fields, HttpAnswer, HttpRequest, Token, Verdict,
        contact::{CANDIDATES_MAX, Contact, Link, Nobody, Rule, Search, Standing},
        key_of,
        mapping::Formed,
        record_key,
    },
    event::CallId,
};

/// How people are found in one CRM.
pub struct Contacts {
    /// The mapping's rule.
    pub rule: Rule,
    /// Fields of a record that name its person, where some do.
    pub links: Vec<Link>,
    /// Makes people by their key: the CRM's contract on the object of people.
    pub maker: Box<dyn Connector>,
}

/// What one request is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The person is looked for.
    Find,
    /// The person is made.
    Make,
    /// The record is written.
    #[default]
    Write,
    /// Record and person are linked.
    Link,
    /// What the call says of its person is written to him.
    Tell,
}

impl Step {
    /// Whether it is what entries say without a word, as they did when there was no other.
    pub(super) fn is_write(&self) -> bool {
        *self == Self::Write
    }
}

/// What one request to a CRM carries: of each call, in one order, its part.
pub(super) struct Request {
    pub(super) crm: String,
    pub(super) calls: Vec<CallId>,
    pub(super) parts: Parts,
    /// The number of the lane's token that it bears.
    pub(super) token: u64,
}

/// The parts of a request, by what it is for.
pub(super) enum Parts {
    /// Who is looked for, and who is known to be there no more.
    Find(Vec<(String, Vec<String>)>),
    /// People to be made.
    Make(Vec<Change>),
    /// Records to be written.
    Write(Vec<Change>),
    /// Pairs of a record's id and a person's.
    Link(Vec<(String, String)>),
    /// What is to be changed of people.
    Tell(Vec<Change>),
}

impl Parts {
    /// What `batch`, all of which needs `step`, asks for.
    pub(super) fn of(step: Step, batch: &[Write], crm: &Crm) -> Self {
        let sought = |write: &Write| write.contact.sought.clone().unwrap_or_default();
        match step {
            Step::Find => Self::Find(batch.iter().map(|write| (sought(write), write.contact.lost.clone())).collect()),
            Step::Make => Self::Make(batch.iter().map(|write| make(&sought(write), &write.contact.fields)).collect()),
            Step::Write => {
                let change = |write: &Write| Change {
                    key: record_key(write.call_id),
                    id: write.id.clone(),
                    fields: write.difference(),
                    written: write.written.clone(),
                };
                Self::Write(batch.iter().map(change).collect())
            }
            Step::Link => {
                let pair = |write: &Write| (write.id.clone().unwrap_or_default(), write.contact.person().unwrap_or_default().to_owned());
                Self::Link(batch.iter().filter(|_| crm.contacts.is_some()).map(pair).collect())
            }
            Step::Tell => Self::Tell(batch.iter().map(tell).collect()),
        }
    }

    pub(super) fn step(&self) -> Step {
        match self {
            Self::Find(_) => Step::Find,
            Self::Make(_) => Step::Make,
            Self::Write(_) => Step::Write,
            Self::Link(_) => Step::Link,
            Self::Tell(_) => Step::Tell,
        }
    }

    /// What the request costs of the CRM's day.
    pub(super) fn cost(&self, crm: &Crm) -> u64 {
        match (self, &crm.contacts) {
            (Self::Write(changes) | Self::Tell(changes), _) => crm.connector.cost(changes),
            (Self::Make(changes), Some(contacts)) => contacts.maker.cost(changes),
            (Self::Make(_), None) | (Self::Find(_) | Self::Link(_), _) => 1,
        }
    }

    /// The request; none where the CRM knows no such thing, which its configuration rules out.
    pub(super) fn request(&self, crm: &Crm, token: &Token) -> Option<HttpRequest> {
        let contacts = crm.contacts.as_ref();
        match self {
            Self::Write(changes) => Some(crm.connector.upsert(changes, token)),
            Self::Make(changes) => Some(contacts?.maker.upsert(changes, token)),
            Self::Find(sought) => {
                let rule = &contacts?.rule;
                let values = forms(rule, sought);
                Some(crm.connector.people()?.find(&Search { object: &rule.object, fields: &rule.fields, values: &values }, token))
            }
            Self::Link(pairs) => crm.connector.people()?.link(&contacts?.rule.object, pairs, token),
            Self::Tell(changes) => crm.connector.people()?.update(&contacts?.rule.object, changes, token),
        }
    }

    /// What the answer means for each part, with the people whom a search has found for it.
    pub(super) fn verdicts(&self, crm: &Crm, answer: &HttpAnswer) -> Vec<(Verdict, Option<Vec<String>>)> {
        let plain = |verdicts: Vec<Verdict>| verdicts.into_iter().map(|verdict| (verdict, None)).collect();
        let nobody = |count| plain(vec![Verdict::Gone { why: "this CRM knows no people".into() }; count]);
        match (self, &crm.contacts, crm.connector.people()) {
            (Self::Write(changes), ..) => plain(crm.connector.verdicts(changes, answer)),
            (Self::Make(changes), Some(contacts), _) => plain(contacts.maker.verdicts(changes, answer).into_iter().map(made).collect()),
            (Self::Find(sought), Some(Contacts { rule, .. }), Some(people)) => {
                let values = forms(rule, sought);
                match people.found(&Search { object: &rule.object, fields: &rule.fields, values: &values }, answer) {
                    // Of several numbers nobody can tell whose people are missing.
                    Ok(found) if found.more && sought.len() > 1 => {
                        plain(vec![Verdict::Split { why: "more people were found than an answer holds".into() }; sought.len()])
                    }
                    Ok(found) if found.more && found.people.len() < 2 => {
                        plain(vec![Verdict::Retry { after: None, why: "a search that found several and shows none".into() }; sought.len()])
                    }
                    Ok(found) => {
                        sought.iter().map(|(one, lost)| (Verdict::Done { id: None }, Some(rule.choose(one, lost, &found)))).collect()
                    }
                    // One of them may be what cannot be asked for: the others must not wait for a person with it.
                    Err(Verdict::Rejected { why }) if sought.len() > 1 => plain(vec![Verdict::Split { why }; sought.len()]),
                    Err(verdict) => plain(vec![verdict; sought.len()]),
                }
            }
            (Self::Link(pairs), _, Some(people)) => plain(people.linked(pairs, answer)),
            (Self::Tell(changes), _, Some(people)) => plain(people.updated(changes, answer)),
            (Self::Make(changes), None, _) | (Self::Tell(changes), ..) => nobody(changes.len()),
            (Self::Find(sought), ..) => nobody(sought.len()),
            (Self::Link(pairs), ..) => nobody(pairs.len()),
        }
    }
}

fn make(sought: &str, fields: &Fields) -> Change {
    Change { key: key_of(sought), id: None, fields: fields.clone(), written: Fields::new() }
}

/// Who was made and bears no id can be linked with nothing, and would be made for ever.
fn made(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Done { id: None } | Verdict::Anew { id: None } => {
            Verdict::Gone { why: "the person was made, but the CRM did not tell his id".into() }
        }
        other => other,
    }
}

/// Named by the person's id, since no two of a request are of one person.
fn tell(write: &Write) -> Change {
    let id = write.contact.person().unwrap_or_default().to_owned();
    Change { key: id.clone(), id: Some(id), fields: write.contact.unsaid(), written: Fields::new() }
}

fn forms(rule: &Rule, sought: &[(String, Vec<String>)]) -> Vec<String> {
    let mut forms: Vec<_> = sought.iter().flat_map(|(one, _)| rule.forms(one)).collect();
    forms.sort();
    forms.dedup();
    forms
}

impl Crm {
    /// Parts that one request may carry.
    pub(super) fn batch_max(&self, step: Step) -> usize {
        let most = match (step, self.connector.people()) {
            (Step::Find, Some(people)) => people.find_max(),
            (Step::Make, _) => self.contacts.as_ref().map_or(1, |c| c.maker.batch_max()),
            _ => self.connector.batch_max(),
        };
        most.min(self.pace.batch).max(1)
    }

    /// What `write` needs next; none where the CRM has everything that it is to have.
    pub(super) fn next_step(&self, write: &Write) -> Option<Step> {
        if write.by_another {
            return None;
        }
        if let (Some(contacts), Some(_)) = (&self.contacts, &write.contact.sought) {
            match write.contact.standing {
                Standing::Unsought => return Some(Step::Find),
                Standing::Nobody if contacts.rule.nobody == Nobody::Create => return Some(Step::Make),
                _ => {}
            }
        }
        if !write.difference().is_empty() {
            return Some(Step::Write);
        }
        let apart = self.connector.people().is_some_and(|people| people.links_apart());
        let unlinked = write.contact.person().is_some_and(|person| write.contact.linked.as_deref() != Some(person));
        if apart && unlinked && write.id.is_some() {
            return Some(Step::Link);
        }
        (write.contact.person().is_some() && !write.contact.unsaid().is_empty()).then_some(Step::Tell)
    }

    /// Where a write stands once its last step is done, and why.
    pub(super) fn rest(&self, write: &Write) -> (State, Option<String>) {
        if self.next_step(write).is_some() {
            return (State::Queued, None);
        }
        match self.doubt(&write.contact).into_iter().chain(write.lacks()).collect::<Vec<_>>() {
            none if none.is_empty() => (State::Done, None),
            doubts => (State::Review, Some(doubts.join("; "))),
        }
    }

    /// What a person has to decide of whose call it was.
    fn doubt(&self, contact: &Contact) -> Option<String> {
        let rule = &self.contacts.as_ref()?.rule;
        let sought = contact.sought.as_deref()?;
        let fields = rule.fields.join(", ");
        match &contact.standing {
            Standing::Nobody if rule.nobody == Nobody::Review => Some(format!("{fields}: nobody in `{}` has {sought}", rule.object)),
            Standing::Several(people) => {
                let others = if people.len() < CANDIDATES_MAX { "" } else { ", …" };
                Some(format!("{fields}: {sought} is had by several: {}{others}", people.join(", ")))
            }
            _ => None,
        }
    }

    /// Settles what the CRM should have of a record; true where that has changed.
    pub(super) fn want(&self, write: &mut Write, record: &Map<String, Value>) -> bool {
        let mut changed = false;
        if let Some(Contacts { rule, .. }) = &self.contacts {
            let sought = rule.sought(record);
            if sought != write.contact.sought {
                write.contact = Contact { sought, ..Contact::default() };
                changed = true;
            }
            if rule.nobody == Nobody::Create {
                write.contact.fields = rule.fields_of(record);
            }
            let says = rule.updates_of(record);
            changed |= says != write.contact.says;
            write.contact.says = says;
        }
        let Formed { fields: mut wanted, faults } = (self.mapping)(record);
        if faults != write.unformed {
            write.unformed = faults;
            changed = true;
        }
        wanted.extend(self.links_of(&write.contact));
        edited(&mut wanted, &mut write.edits);
        if wanted != write.wanted {
            write.wanted = wanted;
            changed = true;
        }
        changed
    }

    /// The fields of a record that name its person.
    pub(super) fn links_of(&self, contact: &Contact) -> Fields {
        let (Some(contacts), Some(person)) = (&self.contacts, contact.person()) else { return Fields::new() };
        contacts.links.iter().map(|link| (link.to.clone(), Value::String(link.value.replace("{id}", person)))).collect()
    }

    /// The person named by `write` is there no more: he is looked for again, and not taken again.
    pub(super) fn estrange(&self, write: &mut Write) {
        for field in self.links_of(&write.contact).keys() {
            write.wanted.remove(field);
        }
        write.contact.said.clear();
        if let Standing::Found(person) = std::mem::take(&mut write.contact.standing) {
            write.contact.lost.push(person);
        }
    }

    /// Somebody was found or made: `people` are those whom the rule leaves.
    pub(super) fn meet(&self, write: &mut Write, mut people: Vec<String>) {
        write.contact.standing = match (people.pop(), people.is_empty()) {
            (None, _) => Standing::Nobody,
            (Some(one), true) => Standing::Found(one),
            (Some(last), false) => {
                people.push(last);
                Standing::Several(people)
            }
        };
        write.wanted.extend(self.links_of(&write.contact));
    }
}

impl Write {
    /// What could not be written and nobody has mended or let pass.
    fn lacks(&self) -> Option<String> {
        let open = |(field, why): &(&String, &String)| !self.edits.contains_key(*field) && self.condoned.get(*field) != Some(*why);
        let open: Vec<_> = self.unformed.iter().filter(open).map(|(field, why)| format!("{field}: {why}")).collect();
        (!open.is_empty()).then(|| open.join("; "))
    }
}

/// Writes that are due, in requests: of each step as many to a request as it may carry and the journal takes in one entry, the earliest first. Of people who are
/// made, no two with one key; of people who are told, nobody twice.
pub(super) fn batches(crm: &Crm, due: Vec<Write>) -> Vec<(Step, Vec<Write>)> {
    let mut full = Vec::new();
    let mut begun: BTreeMap<Step, Vec<Write>> = BTreeMap::new();
    for write in due {
        // What needs nothing any more, since its configuration has changed, is written as it is: the answer settles it.
        let step = crm.next_step(&write).unwrap_or_default();
        let batch = begun.entry(step).or_default();
        if step == Step::Make && batch.iter().any(|w| w.contact.sought == write.contact.sought) {
            continue;
        }
        if step == Step::Tell && batch.iter().any(|w| w.contact.person() == write.contact.person()) {
            continue;
        }
        batch.push(write);
        if batch.len() >= crm.batch_max(step) {
            full.push((step, std::mem::take(batch)));
        }
    }
    full.extend(begun.into_iter().filter(|(_, batch)| !batch.is_empty()));
    full.into_iter().flat_map(|(step, batch)| requests(step, batch).into_iter().map(move |batch| (step, batch))).collect()
}
