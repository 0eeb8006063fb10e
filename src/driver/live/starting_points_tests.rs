//! Each of the shipped starting mappings against its CRM's double: the account is set up as `offhook crm setup` does it, calls go through the configured pipeline,
//! and what then stands in the double's ledger is held against `starting_points_tests.toml`, which says it by hand and shares no code with the mappings.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use tokio::task::LocalSet;

use super::*;
use crate::{
    crm::{
        HttpAnswer, HttpRequest, Token, record_key,
        sandbox::{Double, Options as Behaviour, REFRESH_TOKEN},
        setup::needs,
    },
    driver::setup::{self, State},
    event::{CallId, EndedAs, EndedBy, Kind, Leg, Outcome, PerSide, SipCallIds, Terminal},
    pipeline::{Key, Memory, NoAnswer, Output, webhook},
    shell::{
        files::tests::Scratch,
        http::{Client, Request},
        sandbox::{self, Sandbox},
    },
    time::{Instant, Now, Wall},
};

/// What must stand in a CRM after the calls of [`stories`], as written by hand.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// What the platform says of how a call went.
    disposition: String,
    /// Object type of the records.
    object: String,
    /// Their key.
    key: String,
    /// Object type of people.
    people: String,
    /// The record's field that holds the person's id; none where records are associated with people.
    link: Option<String>,
    /// Whether a stranger's call has the record of one that was told, linked with nobody; otherwise it has none.
    stranger: bool,
    /// Part of the reason for which a stranger's call waits for a person; none where it does not.
    review: Option<String>,
    /// What the call that was told has given its person.
    #[serde(default)]
    given: Map<String, Value>,
    /// Fields of the record of each other call, by the story's name. A call that is not here has no record.
    calls: BTreeMap<String, Map<String, Value>>,
}

impl Wanted {
    fn of(&self, story: &Story) -> Option<&Map<String, Value>> {
        if story.known { self.calls.get(story.name) } else { self.calls.get("told").filter(|_| self.stranger) }
    }
}

/// A call: what is said of it, and whether the CRM knows its caller.
struct Story {
    name: &'static str,
    known: bool,
    told: bool,
    life: fn() -> Vec<Kind>,
}

/// One that went well and of which everything was told, by somebody whom the CRM knows and by a stranger; one of which nothing was told; one that a fault ended;
/// one that nobody took.
const STORIES: [Story; 5] = [
    Story { name: "told", known: true, told: true, life: handed_over },
    Story { name: "stranger", known: false, told: true, life: handed_over },
    Story { name: "untold", known: true, told: false, life: taken },
    Story { name: "fault", known: true, told: false, life: fault },
    Story { name: "busy", known: true, told: false, life: busy },
];

/// When the calls are, and how long after one the next begins.
const BEGIN_MS: i64 = 1_767_607_200_000;
const APART_MS: u64 = 120_000;
const KEY: &str = "raw:hush";
const HUMAN: &str = "sip:human@example.com";

fn answered() -> Kind {
    let codec = PerSide { trunk: "PCMU".to_owned(), platform: "PCMU".to_owned() };
    Kind::Answered { target: "platform".into(), codec, dtmf: PerSide::default(), ring_ms: 10, sip_call_id: None }
}

fn end(outcome: Outcome, ended_as: EndedAs, talk_ms: i64) -> Terminal {
    Terminal {
        outcome,
        outcome_table: None,
        ended_as,
        ended_by: EndedBy::Callee,
        reason: None,
        sip_status: None,
        ring_ms: None,
        talk_ms,
        secure_ms: 0,
        omitted: 0,
    }
}

fn handed_over() -> Vec<Kind> {
    let handed = Kind::Transferred { to: HUMAN.into(), by: Leg::Callee, context: Some("wants a person".into()) };
    vec![answered(), handed, Kind::Ended(end(Outcome::Answered, EndedAs::Transferred, 61_000))]
}

fn taken() -> Vec<Kind> {
    vec![answered(), Kind::Ended(end(Outcome::Answered, EndedAs::Completed, 61_000))]
}

fn fault() -> Vec<Kind> {
    vec![Kind::Failed(end(Outcome::Congestion, EndedAs::Failed, 0))]
}

fn busy() -> Vec<Kind> {
    vec![Kind::Ended(end(Outcome::Busy, EndedAs::Completed, 0))]
}

impl Story {
    fn place(&self) -> usize {
        STORIES.iter().position(|story| story.name == self.name).expect("one of them")
    }

    fn call(&self) -> CallId {
        format!("019b8d99-6ce8-7000-8000-00000000000{}", self.place()).parse().expect("a call id")
    }

    fn begins_ms(&self) -> u64 {
        u64::try_from(self.place()).expect("fits") * APART_MS
    }

    fn number(&self) -> String {
        format!("+49301234560{}", self.place())
    }
}

/// A vendor's account and a gateway that writes to it, by one mapping.
struct Stage {
    vendor: &'static str,
    pipeline: Pipeline,
    store: Memory,
    ingest: Ingest,
    journal: Vec<(Position, Entry)>,
    folded: usize,
    ms: u64,
    told: Vec<Value>,
    client: Client,
    url: String,
    token: Token,
    ledger: PathBuf,
    _sandbox: Sandbox,
    _scratch: Scratch,
}

impl Stage {
    /// Signs in and sets up; what the mapping needs is there then.
    async fn set(vendor: &'static str, mapping: &Path) -> Self {
        let scratch = Scratch::new("starting-points");
        let ledger = scratch.0.join("ledger.jsonl");
        let crm = Double::of(vendor, Behaviour::default(), Chance::from_seed(1)).expect("a double");
        let options = sandbox::Options { listen: SocketAddr::from(([127, 0, 0, 1], 0)), crm, ledger: Some(ledger.clone()), tls: None };
        let sandbox = Sandbox::start(options, Clock::new()).await.expect("a sandbox");
        let url = sandbox.url();
        let config = configuration(&scratch, vendor, &url, mapping);
        let crm = config.crms.first().expect("a CRM");
        let connector = connector_of(crm);
        let client = Client::new(setup::ANSWER).expect("a client");
        let token = setup::sign_in(&client, connector.as_ref(), REFRESH_TOKEN, Clock::new().wall()).await.expect("a token");
        let (makes, needs) = (connector.setup().expect("a set-up"), needs(&crm.mapping).expect("known types"));
        let findings = setup::set_up(&client, makes, &token, &needs, false).await.expect("set up");
        let bad: Vec<_> = findings.iter().filter(|f| !matches!(f.state, State::There | State::Made)).collect();
        assert!(bad.is_empty(), "{}: {bad:?}", mapping.display());
        let pipeline = compose::pipeline(&config, &Kept::open(&config.data.directory).expect("secrets")).expect("composed");
        let ingest = Ingest::new(pipeline.sources.clone());
        Self {
            vendor,
            pipeline: Pipeline::new(pipeline, Chance::from_seed(1)),
            store: Memory::default(),
            ingest,
            journal: Vec::new(),
            folded: 0,
            ms: 0,
            told: Vec::new(),
            client,
            url,
            token,
            ledger,
            _sandbox: sandbox,
            _scratch: scratch,
        }
    }

    fn now(&self) -> Now {
        Now { mono: Instant::from_millis(self.ms), wall: Wall::from_millis(BEGIN_MS + i64::try_from(self.ms).expect("fits")) }
    }

    fn write_down(&mut self, entry: Entry) {
        let offset = u64::try_from(self.journal.len()).expect("fits");
        self.journal.push((Position { segment: 1, offset }, entry));
    }

    /// Turns until nothing happens any more at this moment.
    async fn settle(&mut self) {
        loop {
            let (now, batch) = (self.now(), self.journal[self.folded..].to_vec());
            if !batch.is_empty() {
                self.folded = self.journal.len();
                let next = Position { segment: 1, offset: u64::try_from(self.folded).expect("fits") };
                self.pipeline.fold(&mut self.store, &batch, next).expect("folded");
            }
            self.pipeline.turn(now, &mut self.store, true).expect("turned");
            let mut idle = batch.is_empty();
            while let Some(output) = self.pipeline.poll_output() {
                idle = false;
                match output {
                    Output::Append { append, entry } => {
                        self.write_down(entry);
                        self.pipeline.synced(now, append, Ok(()));
                    }
                    Output::Send { request, http, .. } => {
                        let answer = self.send(http).await;
                        self.pipeline.answer(now, request, answer);
                    }
                    Output::Tell { document, .. } => self.told.push(document),
                    _ => {}
                }
            }
            if idle {
                return;
            }
        }
    }

    async fn send(&self, HttpRequest { method, url, headers, body }: HttpRequest) -> Result<HttpAnswer, NoAnswer> {
        let reply = self.client.send(Request { method: method.into(), url, headers, body }).await.expect("an answer");
        Ok(HttpAnswer { status: reply.status, headers: reply.headers, body: reply.body })
    }

    /// Goes on to `ms`, stopping wherever the machine wants to be woken.
    async fn until(&mut self, ms: u64) {
        self.settle().await;
        while let Some(wake) = self.pipeline.next_timeout().map(|w| w.as_micros().div_ceil(1000)).filter(|w| *w <= ms) {
            self.ms = wake.max(self.ms + 1);
            self.settle().await;
        }
        self.ms = ms;
        self.settle().await;
    }

    /// Makes somebody with that number.
    async fn make_person(&self, object: &str, number: &str) {
        let (path, body) = match self.vendor {
            "hubspot" => (format!("crm/v3/objects/{object}"), json!({"properties": {"phone": number}})),
            "salesforce" => (
                format!("services/data/v62.0/sobjects/{object}"),
                json!({"LastName": "Doe", "Phone": number, "Company": (object == "Lead").then_some("Acme")}),
            ),
            _ => (format!("api/data/v9.2/{object}"), json!({"lastname": "Doe", "telephone1": number})),
        };
        let body: Value =
            body.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()).map(|(n, v)| (n.clone(), v.clone())).collect();
        self.ask("POST", &path, &body).await;
    }

    /// As an administrator.
    async fn ask(&self, method: &'static str, path: &str, body: &Value) -> Value {
        let headers = vec![
            ("authorization".to_owned(), format!("Bearer {}", self.token.access.as_str())),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.send(HttpRequest { method, url: format!("{}/{path}", self.url), headers, body }).await.expect("an answer");
        assert!(answer.is_success(), "{path}: {}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// A call with what its platform tells of it.
    async fn play(&mut self, story: &Story, disposition: &str) {
        let sip_call_ids = SipCallIds { caller: "trunk-leg@sip".into(), callee: None };
        let started =
            Kind::Started { from: story.number(), to: "+493023125200".into(), trunk: "carrier".into(), route: "r".into(), sip_call_ids };
        for (sequence, kind) in (1..).zip([started].into_iter().chain((story.life)())) {
            let event = Event { call_id: story.call(), sequence, time: self.now().wall, at_ms: 0, kind };
            self.write_down(signalling::entry(&event));
            self.until(self.ms + 5000).await;
        }
        if story.told {
            let ended = json!({"disposition_code": disposition, "intent": "invoice 4711", "next_action_date": "2026-01-12T23:30:00Z",
                "entities": [{"kind": "amount", "value": "120.50", "currency": "EUR"}, {"kind": "account", "value": "DE-4711"},
                    {"kind": "reference", "value": "INV-9"}]});
            self.tell(story, "call.ended", &ended).await;
            self.tell(story, "transcription.complete", &json!({"call_summary": "A summary.", "transcript": "Good day."})).await;
            self.tell(story, "sentiment.scored", &json!({"sentiment_score": 0.75})).await;
        }
    }

    async fn tell(&mut self, story: &Story, kind: &str, data: &Value) {
        let (now, id) = (self.now(), format!("{kind}-{}", story.name));
        let body = json!({"id": id, "type": kind, "call_id": story.call(), "time": now.wall, "data": data}).to_string();
        let signature = Key::parse(KEY).expect("a key").sign(&id, now.wall, body.as_bytes());
        let seconds = (now.wall.as_millis() / 1000).to_string();
        let headers =
            [("webhook-id", id), ("webhook-timestamp", seconds), ("webhook-signature", signature)].map(|(n, v)| (n.to_owned(), v));
        self.pipeline.begin(now, &mut self.store).expect("begun");
        let request = webhook::Request { headers: &headers, query: "", body: body.as_bytes() };
        let entry = self.ingest.take(now.wall, now.wall, "platform", &request).expect("taken");
        self.write_down(entry);
        self.until(self.ms + 1000).await;
    }

    /// What changed in the CRM, line by line.
    fn mutations(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.ledger).expect("a ledger");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|line| line["kind"] == "mutation").collect()
    }

    /// Reads back what was written: the written, and those that are missing or have been changed.
    async fn reconciled(&mut self) -> (Value, Value, Value) {
        let now = self.now();
        self.pipeline.reconcile(now, &self.store, 8, self.vendor, None).expect("read");
        self.settle().await;
        let mut found = self.told.pop().expect("told");
        let mut take = |name: &str| found[name].take();
        (take("written"), take("missing"), take("changed"))
    }
}

fn configuration(scratch: &Scratch, vendor: &str, url: &str, mapping: &Path) -> Config {
    use std::os::unix::fs::PermissionsExt as _;
    for (name, text) in [("client-secret", "sim-secret"), ("refresh-token", REFRESH_TOKEN), ("webhook-key", KEY)] {
        let path = scratch.0.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    }
    let (token, refresh) = match vendor {
        "hubspot" => ("oauth/v1/token", "refresh_token_file = \"refresh-token\""),
        "salesforce" => ("services/oauth2/token", "refresh_token_file = \"refresh-token\""),
        _ => ("tenant/oauth2/v2.0/token", ""),
    };
    let text = format!(
        r#"
[sip]
listen = ["udp:127.0.0.1:0"]
[media]
ports = "42000-42099"
[http]
listen = "127.0.0.1:0"
[[trunk]]
name = "carrier"
allow = ["127.0.0.0/8"]
[[target]]
name = "platform"
uri = "sip:127.0.0.1:5999"
[[route]]
trunk = "carrier"
number = "*"
targets = ["platform"]
[[crm]]
name = "{vendor}"
kind = "{vendor}"
base_url = "{url}"
token_url = "{url}/{token}"
client_id = "sim-client"
client_secret_file = "client-secret"
{refresh}
mapping = "{}"
[[webhook]]
source = "platform"
schema = "generic"
secret_file = "webhook-key"
"#,
        mapping.display()
    );
    Config::parse(&scratch.0.join("offhook.toml"), &text).expect("no fault")
}

/// The last that stands in the ledger of each record of an object, by the CRM's id, without what the CRM writes itself.
fn standing(mutations: &[Value], object: &str) -> BTreeMap<String, Map<String, Value>> {
    let mut records = BTreeMap::new();
    for line in mutations.iter().filter(|line| line["object"] == object) {
        assert_ne!(line["what"], "delete", "{line}");
        let mut fields = line["after"].as_object().expect("fields").clone();
        fields.retain(|name, _| !STAMPS.contains(&name.as_str()));
        records.insert(line["id"].as_str().expect("an id").to_owned(), fields);
    }
    records
}

/// Fields that a CRM writes itself.
const STAMPS: [&str; 10] =
    ["Id", "CreatedDate", "LastModifiedDate", "activityid", "incidentid", "contactid", "leadid", "createdon", "modifiedon", "hs_object_id"];

/// Plays all calls by one mapping, and holds what came of them.
async fn hold(name: String, wanted: Wanted) {
    let vendor = ["salesforce", "hubspot", "dynamics"].into_iter().find(|vendor| name.ends_with(vendor)).expect("a vendor");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mappings").join(format!("{name}.toml"));
    let mut stage = Stage::set(vendor, &file).await;
    let made = stage.mutations();
    for story in STORIES.iter().filter(|story| story.known) {
        stage.make_person(&wanted.people, &story.number()).await;
    }
    let people_before = standing(&stage.mutations(), &wanted.people);
    let phone = |fields: &Map<String, Value>| {
        let number = ["phone", "Phone", "telephone1"].iter().find_map(|name| fields.get(*name)).expect("a number");
        number.as_str().expect("text").to_owned()
    };
    let person_of = |story: &Story| people_before.iter().find(|(_, fields)| phone(fields) == story.number()).map(|(id, _)| id.clone());
    for story in &STORIES {
        stage.until(story.begins_ms()).await;
        stage.play(story, &wanted.disposition).await;
    }
    stage.until(u64::try_from(STORIES.len()).expect("fits") * APART_MS).await;

    let mutations = stage.mutations();
    let records = standing(&mutations, &wanted.object);
    let mut links: BTreeSet<(String, String)> = BTreeSet::new();
    for line in mutations.iter().filter(|line| line["object"] == "associations") {
        let text = |name: &str| line["after"][name].as_str().expect("text").to_owned();
        assert_eq!((text("from"), text("to")), (wanted.object.clone(), wanted.people.clone()), "{name}");
        links.insert((text("from_id"), text("to_id")));
    }
    let mut found = BTreeSet::new();
    for story in &STORIES {
        let write = stage.store.write(vendor, story.call()).expect("stored");
        let state = write.as_ref().map(|write| (write.state.name(), write.why.clone().unwrap_or_default()));
        let review = wanted.review.as_ref().filter(|_| !story.known);
        match (&state, review, wanted.of(story).is_some()) {
            (Some(("review", why)), Some(part), _) => assert!(why.contains(part.as_str()), "{name} {}: {why}", story.name),
            (Some(("done", _)), None, true) | (None, None, false) => {}
            other => panic!("{name} {}: {other:?}", story.name),
        }
        let Some(fields) = wanted.of(story) else { continue };
        let key = Value::String(record_key(story.call()));
        let of_call: Vec<_> = records.iter().filter(|(_, fields)| fields.get(&wanted.key) == Some(&key)).collect();
        let [(id, standing)] = of_call.as_slice() else { panic!("{name} {}: {of_call:?}", story.name) };
        found.insert((*id).clone());
        let mut standing = (*standing).clone();
        standing.remove(&wanted.key);
        let linked = match &wanted.link {
            Some(link) => standing.remove(link).map(|id| id.as_str().expect("an id").to_owned()),
            None => links.iter().find(|(from, _)| from == *id).map(|(_, to)| to.clone()),
        };
        assert_eq!(linked, person_of(story).filter(|_| story.known), "{name} {}: whom it is linked with", story.name);
        let filled = |value: &Value| match value.as_str() {
            Some("{call_id}") => json!(story.call()),
            Some("{from}") => json!(story.number()),
            Some("{started_ms}") => json!((BEGIN_MS + i64::try_from(story.begins_ms()).expect("fits")).to_string()),
            _ => value.clone(),
        };
        let fields: Map<String, Value> = fields.iter().map(|(name, value)| (name.clone(), filled(value))).collect();
        assert_eq!(Value::Object(standing), Value::Object(fields), "{name} {}", story.name);
    }
    assert_eq!(records.keys().cloned().collect::<BTreeSet<_>>(), found, "{name}: records of no call");
    // People are what they were, beside what a call gave its own.
    let mut people = people_before.clone();
    for story in &STORIES {
        let person = person_of(story).and_then(|id| people.get_mut(&id));
        if let Some(person) = person.filter(|_| story.name == "told") {
            person.extend(wanted.given.clone());
        }
    }
    assert_eq!(standing(&mutations, &wanted.people), people, "{name}: people");
    let objects = [wanted.object.as_str(), wanted.people.as_str(), "associations"];
    let elsewhere: Vec<_> = mutations.iter().skip(made.len()).filter(|l| !objects.iter().any(|object| l["object"] == *object)).collect();
    assert!(elsewhere.is_empty(), "{name}: {elsewhere:?}");
    // What is read back is what was written; what waits for a person is not looked at.
    let done = found.len() - usize::from(wanted.stranger && wanted.review.is_some());
    let read = stage.reconciled().await;
    assert_eq!(read, (json!(done), json!([]), json!([])), "{name}");
    if vendor == "hubspot" {
        // Whatever was made stands in the group of the account's own.
        for object in [&wanted.object, &wanted.people] {
            let answer = stage.ask("GET", &format!("crm/v3/properties/{object}"), &Value::Null).await;
            let groups: BTreeSet<_> =
                answer["results"].as_array().expect("properties").iter().map(|p| p["groupName"].to_string()).collect();
            assert_eq!(groups.len(), 1, "{name} {object}: {groups:?}");
        }
    }
}

#[tokio::test]
async fn each_starting_point_writes_what_its_crm_takes_and_nothing_else() {
    let wanted: BTreeMap<String, Wanted> = toml::from_str(include_str!("starting_points_tests.toml")).expect("what must stand");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mappings");
    let shipped = std::fs::read_dir(&folder).expect("the mappings").map(|file| file.expect("a file").path());
    let shipped: BTreeSet<_> = shipped.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    assert_eq!(wanted.keys().cloned().collect::<BTreeSet<_>>(), shipped);
    // Side by side, since Dataverse's keys are waited for.
    let side_by_side = LocalSet::new();
    let held: Vec<_> = wanted.into_iter().map(|(name, wanted)| side_by_side.spawn_local(hold(name, wanted))).collect();
    side_by_side.await;
    for one in held {
        one.await.expect("held");
    }
}
