//! What a webhook lost is asked of its platform's API, when the time is over in which it was to come.
//!
//! # What decides the record
//! That a call is to be asked for, and by which name, follows from its record, and so from the journal. Each asking has an end, and that is an entry: the document,
//! or why there is none ([`Pulled`]). Until then the record waits, but not for the network: without an end in the journal it is given up
//! [`Pull::patience`] behind its time, by the clock alone. A rebuild reads the same ends, and waits by the same clock. A restart in mid-asking finds no end, and asks
//! again; so does one long after the record was given up, until [`ASKED_WITHIN`] has passed, and what is found then mends the record as a late webhook does.
//! How often it was tried, and when again, is nobody's business but this process's.
//!
//! An API is asked once for each time that comes without what was to come: of a transcript that may come later than the disposition, it is asked again then.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Asked, Count, Expect, NoAnswer, Output, Pipeline, Record, Waiting,
    lane::backoff,
    store::{Changes, Store, StoreError},
    webhook::{Payload, Reading, Source, pulled::Pulled, received},
};
use crate::{
    crm::{HttpAnswer, HttpRequest, form},
    event::CallId,
    journal::{Entry, EntryKind},
    time::{Instant, Now, Wall},
};

/// Who sends webhooks, by name.
pub type Sources = BTreeMap<String, Source>;

/// How a platform's API is asked.
#[derive(Clone)]
pub struct Pull {
    /// Its address, with `{id}`.
    pub url: String,
    /// What stands there.
    pub id: Name,
    /// The header with its secret: name and value.
    pub secret: (String, Zeroizing<String>),
    /// It is asked so long before something's time is over.
    pub before: Duration,
    /// So long behind that time the record waits for what it says, at the most.
    pub patience: Duration,
    /// Attempts of one asking.
    pub attempts_max: u32,
    /// Requests a second, at the most.
    pub per_second: u32,
    /// Requests under way at a time.
    pub concurrency: usize,
}

impl std::fmt::Debug for Pull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pull({})", self.url)
    }
}

/// By which of its names an API is asked for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The platform's own, as its webhooks said it: while none has come, nothing can be asked.
    Platform,
    /// Ours, as a header of the INVITE bears it.
    Ours,
    /// The SIP Call-ID of the leg to the target that answered.
    SipCallId,
}

/// What is asked of one call, source by source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pulls {
    /// The platform's own name for it, the latest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    names: BTreeMap<String, (Wall, String)>,
    /// What was to come until then was asked for, to the end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    ended: BTreeMap<String, Wall>,
    /// When it is to be asked, as the store's table has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    due: BTreeMap<String, Wall>,
}

impl Pulls {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.ended.is_empty() && self.due.is_empty()
    }

    /// Keeps the platform's name of the call, if `payload` bears one.
    pub(super) fn named(&mut self, payload: &Payload) {
        let Some(name) = &payload.asked_as else { return };
        let told = (payload.time, name.clone());
        if self.names.get(&payload.source).is_none_or(|known| *known < told) {
            self.names.insert(payload.source.clone(), told);
        }
    }

    /// Who is to be asked.
    pub(super) fn sources(&self) -> impl Iterator<Item = &String> {
        self.due.keys()
    }

    /// What was to come until `until` is asked for no more.
    pub(super) fn end(&mut self, source: &str, until: Wall) {
        let last = self.ended.entry(source.to_owned()).or_insert(until);
        *last = (*last).max(until);
    }
}

impl Record {
    /// The name by which a source's API is asked for this call.
    fn asked_as(&self, source: &str, pull: &Pull) -> Option<String> {
        let name = match pull.id {
            Name::Platform => self.pulls.names.get(source).map(|(_, name)| name.clone()),
            Name::Ours => Some(self.call_id.to_string()),
            Name::SipCallId => self.answered_sip_call_id(),
        };
        // A segment of dots is a step to another address, however its dots are written (RFC 3986 §5.2.4).
        name.filter(|name| !name.trim_matches('.').is_empty() && name.len() <= NAME_OCTETS_MAX)
    }

    /// Who may still be asked for `what`, which was to come until `until`.
    fn may_ask<'s>(&'s self, what: &'s str, until: Wall, sources: &'s Sources) -> impl Iterator<Item = (&'s String, &'s Pull)> {
        let pulls = sources.iter().filter_map(|(name, source)| Some((name, source, source.pull.as_ref()?)));
        let open = move |(name, source, pull): &(&String, &Source, &Pull)| {
            let ended = self.pulls.ended.get(*name).is_some_and(|ended| *ended >= until);
            !ended && source.schema.pull_tells(what) && self.asked_as(name, pull).is_some()
        };
        pulls.filter(open).map(|(name, _, pull)| (name, pull))
    }

    /// How much longer than until `until` is waited for `what`.
    pub(super) fn patience(&self, what: &str, until: Wall, sources: &Sources) -> Duration {
        self.may_ask(what, until, sources).map(|(_, pull)| pull.patience).max().unwrap_or_default()
    }

    /// When `source` is to be asked for something, and until when that was to come; for each thing that may be asked for.
    fn asks<'s>(&'s self, expects: &'s [Expect], sources: &'s Sources) -> impl Iterator<Item = (&'s String, Wall, Wall)> {
        let each = move |expect: &'s Expect| {
            let until = expect.until(self);
            until.into_iter().flat_map(move |until| {
                self.may_ask(&expect.what, until, sources).map(move |(name, pull)| (name, until - pull.before, until))
            })
        };
        expects.iter().flat_map(each)
    }

    /// Settles when which source is asked; where that has changed, as it is now.
    pub(super) fn plan_pulls(&mut self, expects: &[Expect], sources: &Sources) -> Vec<(String, Option<Wall>)> {
        if sources.values().all(|source| source.pull.is_none()) {
            return Vec::new();
        }
        let mut due: BTreeMap<String, Wall> = BTreeMap::new();
        for (source, at, _) in self.asks(expects, sources) {
            let first = due.entry(source.clone()).or_insert(at);
            *first = (*first).min(at);
        }
        let before = std::mem::replace(&mut self.pulls.due, due);
        let over = before.keys().filter(|source| !self.pulls.due.contains_key(*source)).map(|source| (source.clone(), None));
        let new = self.pulls.due.iter().filter(|(source, at)| before.get(*source) != Some(*at));
        over.chain(new.map(|(source, at)| (source.clone(), Some(*at)))).collect()
    }

    /// The name to ask `source` by at `now`, and until when what is asked for was to come, the latest; none where nothing is to be asked.
    fn ask(&self, source: &str, expects: &[Expect], sources: &Sources, now: Wall) -> Option<(String, Wall)> {
        let pull = sources.get(source)?.pull.as_ref()?;
        let due = self.asks(expects, sources).filter(|(name, at, _)| *name == source && *at <= now);
        let until = due.map(|(.., until)| until).max().filter(|until| now <= *until + ASKED_WITHIN)?;
        Some((self.asked_as(source, pull)?, until))
    }
}

/// One platform's API, while the process lives.
#[derive(Default)]
pub(super) struct Api {
    calls: BTreeMap<CallId, Asking>,
    /// Requests that are not answered yet.
    requests: usize,
    /// When the next request may leave.
    next_start: Instant,
}

/// How far the asking for one call is.
#[derive(Clone, Copy)]
struct Asking {
    /// Requests so far.
    attempts: u32,
    /// When to try again; none while an answer, or its way through the journal and the fold, is awaited.
    again: Option<Instant>,
}

/// What was asked, and comes back with the answer.
pub(super) struct Question {
    source: String,
    call: CallId,
    until: Wall,
}

/// The end of an asking on its way to the disk.
pub(super) struct End {
    source: String,
    call: CallId,
    result: &'static str,
}

impl Pipeline {
    /// Asks whatever is due and may be asked now.
    pub(super) fn pull(&mut self, now: Now, store: &mut impl Store) -> Result<(), StoreError> {
        let sources = self.config.sources.iter().filter_map(|(name, source)| {
            let pull = source.pull.as_ref()?;
            Some((name.clone(), pull.concurrency, Duration::from_secs(1) / pull.per_second.max(1)))
        });
        for (source, concurrency, gap) in sources.collect::<Vec<_>>() {
            self.pull_from(now, store, &source, concurrency, gap)?;
        }
        Ok(())
    }

    fn pull_from(&mut self, now: Now, store: &mut impl Store, source: &str, concurrency: usize, gap: Duration) -> Result<(), StoreError> {
        let api = self.apis.entry(source.to_owned()).or_default();
        if api.requests >= concurrency {
            // The next answer wakes.
            return Ok(());
        }
        if now.mono < api.next_start {
            let wait = api.next_start.since(now.mono);
            self.wake_in(now, wait);
            return Ok(());
        }
        let again = api.calls.iter().filter(|(_, asking)| asking.again.is_some_and(|at| at <= now.mono)).map(|(call, _)| *call);
        let most = api.calls.len().saturating_add(LOOKED_AT);
        let due = store.pulls_due(source, now.wall, most)?;
        let more = due.len() == most;
        let calls: Vec<_> = again.chain(due.into_iter().filter(|call| !api.calls.contains_key(call))).collect();
        let (mut over, mut asked) = (Changes::default(), None);
        for call in calls {
            // What came meanwhile is asked for no more; nor is what nobody waits for any longer.
            let wanted = store.pull(source, call)?.is_some();
            let record = if wanted { store.record(call)? } else { None };
            let question = record.and_then(|record| record.ask(source, &self.config.expects, &self.config.sources, now.wall));
            let Some((name, until)) = question else {
                api.calls.remove(&call);
                over.pulls.extend(wanted.then(|| ((source.to_owned(), call), None)));
                continue;
            };
            let asking = api.calls.entry(call).or_insert(Asking { attempts: 0, again: None });
            asking.attempts = asking.attempts.saturating_add(1);
            asking.again = None;
            api.requests = api.requests.saturating_add(1);
            api.next_start = now.mono + gap;
            asked = Some((name, Question { source: source.to_owned(), call, until }));
            break;
        }
        let tries = api.calls.values().filter_map(|asking| asking.again).min();
        if let Some((name, question)) = asked {
            self.question(&name, question);
            self.wake_in(now, gap);
        } else if more {
            self.wake_in(now, gap);
        } else {
            if let Some(at) = tries {
                self.wake_in(now, at.since(now.mono));
            }
            self.wake_at(now, store.next_pull(source, now.wall)?);
        }
        if over.pulls.is_empty() { Ok(()) } else { store.commit(over) }
    }

    fn question(&mut self, name: &str, question: Question) {
        let Some(pull) = self.config.sources.get(&question.source).and_then(|source| source.pull.as_ref()) else { return };
        let (header, secret) = &pull.secret;
        let http = HttpRequest {
            method: "GET",
            url: pull.url.replace("{id}", &form::encoded(name)),
            headers: vec![("accept".into(), "application/json".into()), (header.clone(), secret.to_string())],
            body: Vec::new(),
        };
        let request = self.id();
        self.outputs.push_back(Output::Ask { request, source: question.source.clone(), http });
        self.asked.insert(request, Asked::Pull(question));
    }

    pub(super) fn pull_answered(&mut self, now: Now, question: Question, answer: Result<HttpAnswer, NoAnswer>) {
        let Question { source, call, until } = question;
        let place = u16::try_from(self.chance.below(1001)).unwrap_or(1000);
        let Some((known, pull)) = self.config.sources.get(&source).and_then(|known| Some((known, known.pull.as_ref()?))) else { return };
        let api = self.apis.entry(source.clone()).or_default();
        api.requests = api.requests.saturating_sub(1);
        let Some(asking) = api.calls.get_mut(&call) else { return };
        let last = asking.attempts >= pull.attempts_max;
        let later =
            |asked_to_wait: Option<Duration>| Some(now.mono + asked_to_wait.unwrap_or_default().max(backoff(asking.attempts, place)));
        let status = answer.as_ref().ok().map(|answer| answer.status);
        let none = |result, why: String| (result, Some(why), None);
        let (result, why, document) = match answer {
            Ok(answer) if (200..300).contains(&answer.status) && answer.body.len() <= DOCUMENT_OCTETS_MAX => {
                let result = match known.schema.read_document(&answer.body, call, now.wall) {
                    // The platform has not done with the call.
                    Reading::Nothing if !last => return asking.again = later(None),
                    Reading::Nothing => "nothing",
                    Reading::Told(..) => "filled",
                    Reading::Unknown(_) | Reading::Unreadable(_) => "unreadable",
                };
                (result, None, Some(answer))
            }
            Ok(answer) if (200..300).contains(&answer.status) => {
                none("unreadable", format!("it has more than {DOCUMENT_OCTETS_MAX} octets"))
            }
            Ok(HttpAnswer { status: 404 | 410, .. }) => none("nothing", "the platform knows no such call".into()),
            Ok(answer) if matches!(answer.status, 401 | 403 | 408 | 425 | 429 | 500..) && !last => {
                let wait = answer.retry_after().filter(|_| matches!(answer.status, 429 | 503)).map(|wait| wait.min(WAIT_MAX));
                if let Some(wait) = wait {
                    // A quota holds for every call.
                    api.next_start = api.next_start.max(now.mono + wait);
                }
                return asking.again = later(wait);
            }
            Ok(HttpAnswer { status, .. }) => none("failed", format!("the API answered {status}")),
            Err(NoAnswer { .. }) if !last => return asking.again = later(None),
            Err(NoAnswer { why, .. }) => none("failed", why),
        };
        if let Some(why) = &why
            && result != "nothing"
        {
            tracing::warn!(source, %call, status, why, "a platform's API did not tell what a webhook lost");
        }
        let pulled = Pulled { call, until, status, why };
        let body = match &document {
            Some(answer) => received::write_pulled(pulled, answer.header("content-type"), &answer.body),
            None => received::write_pulled(pulled, None, &[]),
        };
        let entry = Entry { kind: EntryKind::Webhook, time: now.wall, id: source.clone(), key: call.to_string(), body };
        self.append(entry, Waiting::Pull(End { source, call, result }));
    }

    /// The end of an asking is on disk, or was not taken: then it is asked again, a while later.
    pub(super) fn pull_synced(&mut self, now: Now, end: End, written: bool) {
        let End { source, call, result } = end;
        if written {
            self.count(Count::Pull { source, result });
        } else if let Some(asking) = self.apis.entry(source).or_default().calls.get_mut(&call) {
            asking.attempts = asking.attempts.saturating_sub(1);
            asking.again = Some(now.mono + super::JOURNAL_PAUSE);
        }
    }

    /// The end of an asking is folded, and that committed.
    pub(super) fn pull_folded(&mut self, source: &str, call: CallId) {
        if let Some(api) = self.apis.get_mut(source) {
            api.calls.remove(&call);
        }
    }
}

/// Longest answer taken, as long as the longest webhook: it stands in one entry of the journal.
const DOCUMENT_OCTETS_MAX: usize = 1 << 20;
/// Longest name that is put into an address; what is longer is no id.
const NAME_OCTETS_MAX: usize = 256;
/// What was to come so long ago is asked for no more: a store made anew would else ask for every call of former years.
const ASKED_WITHIN: Duration = Duration::from_secs(86_400);
/// Calls looked at in one turn: behind a long stop, those that are asked for no more are very many.
const LOOKED_AT: usize = 200;
/// Longest wait that an API may ask for.
const WAIT_MAX: Duration = Duration::from_secs(600);
