//! A batch as one job, against Salesforce's double, which works a job off some seconds after it was closed, the last row first.

use super::{
    salesforce::{ask, connector, faults},
    *,
};
use crate::{
    crm::contact::Link,
    pipeline::schedule::{Model, Runs},
};

const HOUR: u64 = 3600 * SECOND;

/// A world that writes every hour, ten records and more as a job.
fn world() -> World {
    let mut world = World::new();
    let mut account = Double::of("salesforce", sandbox::Options::default(), Chance::from_seed(1)).expect("a double");
    account.take_ledger();
    world.account = Some(account);
    for (name, metadata) in [
        ("Key__c", json!({"type": "Text", "length": 40, "externalId": true, "unique": true})),
        ("Code__c", json!({"type": "Text", "length": 20})),
    ] {
        let field = json!({"FullName": format!("Voice_Call__c.{name}"), "Metadata": metadata});
        assert_eq!(ask(&mut world, "POST", "tooling/sobjects/CustomField", &field)["success"], true);
    }
    world.pipeline.config = config();
    world.account.as_mut().expect("a double").take_ledger();
    world
}

fn config() -> Config {
    let mut config = std::mem::replace(&mut pipeline().config, Config { crms: Vec::new(), sources: BTreeMap::new(), ..bare() });
    let crm = config.crms.get_mut(0).expect("a CRM");
    crm.connector = Box::new(connector());
    crm.mapping = Box::new(|record| {
        let fields = [("Name", "call_id"), ("Code__c", "disposition_code")];
        fields.into_iter().filter_map(|(to, from)| Some((to.to_owned(), record.get(from)?.clone()))).collect()
    });
    crm.schedule.model = Model::Batch(Runs { every: Duration::from_secs(3600), at: Duration::ZERO });
    crm.pace = Pace { bulk_from: 10, ..Pace::default() };
    config
}

fn bare() -> Config {
    Config { crms: Vec::new(), sources: BTreeMap::new(), marks: marks(), expects: Vec::new(), attempts_max: 3, keep: None }
}

/// What was asked, without tokens and looks, and how often; what changed of records, by their keys.
fn ledger(world: &mut World) -> (BTreeMap<String, usize>, BTreeMap<String, Vec<Value>>) {
    let (mut asked, mut changed) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
    for line in world.account.as_mut().expect("a double").take_ledger() {
        let what = line["what"].as_str().expect("a word").to_owned();
        if line["kind"] == "mutation" {
            changed.entry(line["key"].as_str().expect("a key").to_owned()).or_default().push(line["after"].clone());
        } else if !what.contains("oauth2") {
            let what = what.replace("/services/data/v62.0/", "");
            let part = |part: &str| if part.starts_with("750") { "J".to_owned() } else { part.to_owned() };
            let what = what.split('/').map(part).collect::<Vec<_>>().join("/");
            *asked.entry(what).or_default() += 1;
        }
    }
    (asked, changed)
}

fn states(world: &World) -> Vec<State> {
    world.store.writes_of("crm", None, 100_000).expect("read").iter().map(|w| w.state).collect()
}

/// No call was attempted while an attempt of it had no answer.
fn never_twice_in_flight(world: &World) {
    let mut in_flight = std::collections::BTreeSet::new();
    for (_, entry) in &world.journal {
        attempted(entry).into_iter().for_each(|call| assert!(in_flight.insert(call), "{call} is in flight twice"));
        if entry.kind == EntryKind::Answer {
            let answered: Answered = serde_json::from_slice(&entry.body).expect("an answer");
            answered.writes.iter().for_each(|w| assert!(in_flight.remove(&w.call_id), "{} was not in flight", w.call_id));
        }
    }
}

/// Goes on until a closed job is under way, and something more.
fn until_under_way(world: &mut World) {
    world.until(HOUR + SECOND);
    assert!(states(world).iter().all(|s| *s == State::InFlight), "{:?}", states(world));
}

/// Another life of the same program over the same journal and store.
fn restart(world: &mut World) {
    world.pipeline = Pipeline::new(config(), Chance::from_seed(7));
}

#[test]
fn a_batch_of_very_many_records_goes_as_one_job() {
    let mut world = world();
    world.pipeline.config.crms[0].pace = Pace::default();
    let calls = rush_of(&mut world, 2100);
    world.until(HOUR + 60 * SECOND);
    let (asked, changed) = ledger(&mut world);
    assert_eq!(asked.keys().map(String::as_str).collect::<Vec<_>>(), JOB);
    assert!(asked.values().sum::<usize>() < 10, "{asked:?}");
    assert_eq!((changed.len(), changed.values().map(Vec::len).max()), (2100, Some(1)));
    let writes = world.store.writes_of("crm", None, 3000).expect("read");
    assert!(writes.iter().all(|w| w.state == State::Done && w.job.is_none()));
    // Results come in another order than rows went: each write has the id of its own record.
    for write in writes.iter().take(20) {
        let held = &changed[&record_key(write.call_id)][0];
        assert_eq!((&held["Id"], &held["Name"]), (&json!(write.id), &json!(write.call_id)));
    }
    assert_eq!(calls.len(), writes.len());
    never_twice_in_flight(&world);
}

const JOB: [&str; 6] = [
    "GET jobs/ingest/J",
    "GET jobs/ingest/J/failedResults",
    "GET jobs/ingest/J/successfulResults",
    "PATCH jobs/ingest/J",
    "POST jobs/ingest",
    "PUT jobs/ingest/J/batches",
];

fn rush_of(world: &mut World, calls: u64) -> Vec<CallId> {
    super::batches::rush(world, calls)
}

#[test]
fn fewer_go_by_requests() {
    let mut world = world();
    rush_of(&mut world, 9);
    world.until(HOUR + 60 * SECOND);
    let (asked, changed) = ledger(&mut world);
    assert_eq!(asked, [("PATCH composite/sobjects/Voice_Call__c/Key__c".to_owned(), 1)].into());
    assert_eq!(changed.len(), 9);
}

#[test]
fn each_row_of_a_job_comes_out_as_a_record_of_a_request_does() {
    let mut world = world();
    let calls = rush_of(&mut world, 12);
    let mapping = std::mem::replace(&mut world.pipeline.config.crms[0].mapping, Box::new(|_| Fields::new().into()));
    let bad = calls[3].to_string();
    world.pipeline.config.crms[0].mapping = Box::new(move |record| {
        let mut formed = mapping(record);
        if record["call_id"] == json!(bad) {
            formed.fields.insert("Name".into(), json!("long, \"quoted\": ".repeat(9)));
        }
        formed
    });
    world.until(HOUR + 60 * SECOND);
    let write = world.store.write("crm", calls[3]).expect("read").expect("a write");
    assert_eq!(write.state, State::Review);
    assert_eq!(write.why.as_deref(), Some("Name: Name: data value too large (max length=80) (STRING_TOO_LONG)"));
    assert_eq!(states(&world).iter().filter(|s| **s == State::Done).count(), 11);
}

#[test]
fn locked_rows_are_tried_again() {
    let mut world = world();
    rush_of(&mut world, 12);
    faults(&mut world, &json!([{"match": {"method": "PATCH", "path": "jobs/ingest", "nth": 1}, "action": {"lock": true}}]));
    world.until(HOUR + 15 * SECOND);
    assert!(states(&world).iter().all(|s| *s != State::Done));
    world.until(HOUR + 600 * SECOND);
    assert!(states(&world).iter().all(|s| *s == State::Done), "{:?}", states(&world));
    let (asked, changed) = ledger(&mut world);
    assert_eq!((changed.len(), changed.values().map(Vec::len).max()), (12, Some(1)));
    assert!(asked.contains_key("POST jobs/ingest"), "{asked:?}");
    never_twice_in_flight(&world);
}

/// What becomes known of a call while its record is in a job waits for the job: written beside it, the job would overwrite it.
#[test]
fn no_key_is_in_flight_beside_its_job() {
    let mut world = world();
    rush_of(&mut world, 12);
    world.call();
    until_under_way(&mut world);
    world.webhook(1, "w1", "SALE");
    let now = world.now();
    world.pipeline.run_batch(now, 2, "crm", "anna");
    world.until(HOUR + 2 * SECOND);
    assert_eq!(ledger(&mut world).0.get("PATCH composite/sobjects/Voice_Call__c/Key__c"), None);
    world.until(3 * HOUR);
    let held = ask(&mut world, "GET", &format!("sobjects/Voice_Call__c/Key__c/{}", record_key(call())), &Value::Null);
    assert_eq!((&held["Code__c"], world.write().state), (&json!("SALE"), State::Done));
    never_twice_in_flight(&world);
}

#[test]
fn a_job_outlives_the_program_and_nothing_of_it_goes_another_way() {
    for seconds in [1, 3, 5, 60] {
        let mut world = world();
        rush_of(&mut world, 12);
        world.call();
        until_under_way(&mut world);
        // The next life's start, and what it hears meanwhile.
        world.ms += seconds * SECOND;
        restart(&mut world);
        world.webhook(1, "w1", "SALE");
        world.until(HOUR + 90 * SECOND);
        let (asked, changed) = ledger(&mut world);
        let of_call: Vec<_> = changed[&record_key(call())].iter().map(|held| held.get("Code__c").cloned().unwrap_or_default()).collect();
        assert_eq!(
            (asked["POST jobs/ingest"], of_call),
            (1, vec![json!("NO_DISPOSITION"), json!("SALE")]),
            "{seconds} s: the job's row, then what came later"
        );
        assert_eq!((changed.len(), changed.values().map(Vec::len).sum::<usize>()), (13, 14), "{seconds} s: all others once");
        assert!(states(&world).iter().all(|s| *s == State::Done));
        never_twice_in_flight(&world);
    }
}

/// Before it is closed nothing of a job was written: another life, which has not its rows, takes it back.
#[test]
fn a_job_that_was_not_closed_is_aborted_and_goes_again() {
    let mut world = world();
    rush_of(&mut world, 12);
    // Over quota: the job waits with its rows.
    faults(&mut world, &json!([{"match": {"method": "PUT"}, "action": {"status": 429}}]));
    until_under_way(&mut world);
    faults(&mut world, &json!([]));
    restart(&mut world);
    world.until(HOUR + 600 * SECOND);
    let (asked, changed) = ledger(&mut world);
    assert_eq!((asked["POST jobs/ingest"], changed.len(), changed.values().map(Vec::len).max()), (2, 12, Some(1)));
    assert!(states(&world).iter().all(|s| *s == State::Done));
    never_twice_in_flight(&world);
}

/// Not filled, closed without a word, not looked at, its results late: each is asked again, or the rows go again; each record is written once.
#[test]
fn whatever_request_of_a_job_fails_its_rows_are_written() {
    for (method, path) in [
        ("POST", "jobs/ingest"),
        ("PUT", "batches"),
        ("PATCH", "jobs/ingest"),
        ("GET", "jobs/ingest/750"),
        ("GET", "successfulResults"),
        ("GET", "failedResults"),
    ] {
        for action in [
            json!({"status": 503}),
            json!({"drop": true}),
            json!({"apply_then_drop": true}),
            json!({"expire_tokens": true}),
            json!({"status": 429}),
        ] {
            let mut world = world();
            rush_of(&mut world, 12);
            faults(&mut world, &json!([{"match": {"method": method, "path": path, "nth": 1}, "action": action}]));
            world.until(3 * HOUR);
            let (_, changed) = ledger(&mut world);
            assert!(states(&world).iter().all(|s| *s == State::Done), "{method} {path} {action}: {:?}", states(&world));
            assert_eq!((changed.len(), changed.values().map(Vec::len).max()), (12, Some(1)), "{method} {path} {action}");
            never_twice_in_flight(&world);
        }
    }
}

/// Nobody knows what of it was written, and the key makes it harmless.
#[test]
fn what_was_in_a_lost_job_goes_again() {
    let mut world = world();
    rush_of(&mut world, 12);
    faults(&mut world, &json!([{"match": {"method": "GET", "path": "jobs/ingest/750", "nth": 2}, "action": {"status": 404}}]));
    world.until(HOUR + 600 * SECOND);
    let (asked, changed) = ledger(&mut world);
    assert_eq!((asked["POST jobs/ingest"], changed.len()), (2, 12));
    assert!(states(&world).iter().all(|s| *s == State::Done));
    never_twice_in_flight(&world);
}

/// A wrong field fails a job whole; by requests each record tells of it, as it does elsewhere.
#[test]
fn what_was_in_a_failed_job_goes_by_requests() {
    for put in [None, Some(json!([{"match": {"method": "PUT"}, "action": {"status": 413}}]))] {
        let mut world = world();
        rush_of(&mut world, 12);
        let unknown = put.is_none();
        faults(&mut world, &put.unwrap_or(json!([])));
        world.pipeline.config.crms[0].mapping = Box::new(move |record| {
            let name = if unknown { "Colour" } else { "Name" };
            [(name.to_owned(), record["call_id"].clone())].into_iter().collect()
        });
        world.until(HOUR + 300 * SECOND);
        let (asked, changed) = ledger(&mut world);
        assert_eq!((asked["POST jobs/ingest"], asked["PATCH composite/sobjects/Voice_Call__c/Key__c"]), (1, 1), "{asked:?}");
        assert!(states(&world).iter().all(|s| *s == if unknown { State::Review } else { State::Done }), "{:?}", states(&world));
        let why = world.store.writes_of("crm", None, 1).expect("read").remove(0).why.unwrap_or_default();
        assert_eq!((changed.len(), why.contains("Colour")), if unknown { (0, true) } else { (12, false) }, "{why}");
        never_twice_in_flight(&world);
    }
}

#[test]
fn a_crm_that_makes_no_jobs_gets_requests() {
    let mut world = world();
    rush_of(&mut world, 12);
    let body = json!([{"errorCode": "API_DISABLED_FOR_ORG", "message": "no", "fields": []}]);
    faults(&mut world, &json!([{"match": {"method": "POST", "path": "jobs/ingest"}, "action": {"status": 403, "body": body}}]));
    world.until(HOUR + 60 * SECOND);
    let (asked, changed) = ledger(&mut world);
    assert_eq!((asked["POST jobs/ingest"], asked["PATCH composite/sobjects/Voice_Call__c/Key__c"], changed.len()), (1, 1, 12));
}

/// The journal takes entries of 2 MiB; a job's requests are counted against the day once, not with each of its entries.
#[test]
fn a_job_of_many_octets_is_several_entries_and_costs_once() {
    let mut world = world();
    let field = json!({"FullName": "Voice_Call__c.Text__c", "Metadata": {"type": "LongTextArea"}});
    assert_eq!(ask(&mut world, "POST", "tooling/sobjects/CustomField", &field)["success"], true);
    world.account.as_mut().expect("a double").take_ledger();
    world.pipeline.config.crms[0].mapping = Box::new(|_| [("Text__c".to_owned(), json!("x".repeat(30_000)))].into_iter().collect());
    rush_of(&mut world, 100);
    world.until(HOUR + 60 * SECOND);
    let attempts: Vec<_> = world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Attempt).collect();
    assert_eq!(attempts.iter().map(|(_, e)| attempted(e).len()).sum::<usize>(), 100);
    assert!(attempts.len() > 2 && attempts.iter().all(|(_, e)| e.body.len() < 2 << 20), "{}", attempts.len());
    assert_eq!(world.store.spent("crm", world.now().wall.day()), Ok(10));
    let (asked, changed) = ledger(&mut world);
    assert_eq!((asked["POST jobs/ingest"], changed.len()), (1, 100));
}

#[test]
fn what_no_row_can_say_goes_by_requests() {
    let mut world = world();
    world.pipeline.config.crms[0].mapping = Box::new(|_| [("Name".to_owned(), json!("#N/A"))].into_iter().collect());
    rush_of(&mut world, 12);
    world.until(HOUR + 60 * SECOND);
    let (asked, changed) = ledger(&mut world);
    assert_eq!((asked["POST jobs/ingest"], asked["PATCH composite/sobjects/Voice_Call__c/Key__c"], changed.len()), (1, 1, 12), "{asked:?}");
    assert!(changed.values().all(|held| held[0]["Name"] == "#N/A"));
}

/// Nothing is in a job that is not in the journal.
#[test]
fn a_job_waits_for_a_journal_that_takes_nothing() {
    let mut world = world();
    rush_of(&mut world, 12);
    world.until(SECOND);
    world.disk_full = true;
    world.until(HOUR + 100 * SECOND);
    let (asked, changed) = ledger(&mut world);
    assert_eq!((asked.keys().map(String::as_str).collect::<Vec<_>>(), changed.len()), (vec!["POST jobs/ingest"], 0));
    world.disk_full = false;
    world.until(HOUR + 200 * SECOND);
    let (asked, changed) = ledger(&mut world);
    assert_eq!((asked.get("POST jobs/ingest"), changed.len()), (None, 12), "the same job");
    assert!(states(&world).iter().all(|s| *s == State::Done));
    never_twice_in_flight(&world);
}

/// A row names its person, so all of a batch are looked for before any of it goes.
#[test]
fn the_people_of_a_batch_are_found_before_its_job() {
    let mut world = world();
    let lookup = json!({"FullName": "Voice_Call__c.Contact__c", "Metadata": {"type": "Lookup", "referenceTo": "Contact"}});
    assert_eq!(ask(&mut world, "POST", "tooling/sobjects/CustomField", &lookup)["success"], true);
    let person = ask(&mut world, "POST", "sobjects/Contact", &json!({"LastName": "Doe", "Phone": CALLER}))["id"].clone();
    world.account.as_mut().expect("a double").take_ledger();
    let crm = &mut world.pipeline.config.crms[0];
    let rule = json!({"by": "from", "object": "Contact", "fields": ["Phone"], "nobody": "leave", "link": {"to": "Contact__c"}});
    crm.contacts = Some(Contacts {
        rule: serde_json::from_value(rule).expect("a rule"),
        links: vec![Link::plain("Contact__c".into())],
        maker: Box::new(Plain),
    });
    crm.pace.batch = 20;
    crm.pace.concurrency = 1;
    for n in 0..30 {
        let id: CallId = format!("01960000-0000-7000-8000-{n:012x}").parse().expect("a call id");
        // Some withhold their number.
        let kinds = if n % 3 == 0 { vec![Kind::Ended(busy())] } else { vec![life().remove(0), Kind::Ended(busy())] };
        for (sequence, kind) in (1..).zip(kinds) {
            let event = Event { call_id: id, sequence, time: world.now().wall, at_ms: 0, kind };
            world.write_down(entry(&event));
        }
    }
    world.until(HOUR + 120 * SECOND);
    let (asked, changed) = ledger(&mut world);
    assert_eq!((asked["POST jobs/ingest"], asked.contains_key("PATCH composite/sobjects/Voice_Call__c/Key__c")), (1, false), "{asked:?}");
    assert!(asked["GET query"] >= 2, "{asked:?}");
    let linked = changed.values().filter(|held| held.len() == 1 && held[0].get("Contact__c") == Some(&person)).count();
    assert_eq!((changed.len(), linked), (30, 20));
}

/// The store says nothing yet of an attempt that is not folded: what it carries goes no other way, be it a request or a job.
#[test]
fn what_is_in_a_request_is_in_no_job_and_the_other_way_round() {
    let mut world = world();
    let fold = |world: &mut World| {
        let (from, to) = (world.folded, world.journal.len());
        let next = Position { segment: 1, offset: u64::try_from(to).expect("fits") };
        let batch = world.journal[from..to].to_vec();
        world.pipeline.fold(&mut world.store, &batch, next).expect("folded");
        world.folded = to;
    };
    rush_of(&mut world, 3);
    fold(&mut world);
    world.ms = HOUR + SECOND;
    let mut carried = Vec::new();
    let mut turns = |world: &mut World| {
        for _ in 0..5 {
            let now = world.now();
            world.pipeline.turn(now, &mut world.store, true).expect("turned");
            while let Some(output) = world.pipeline.poll_output() {
                match output {
                    // On disk, and in no batch yet.
                    Output::Append { append, entry } => {
                        carried.extend(Some(attempted(&entry)).filter(|calls| !calls.is_empty()));
                        world.pipeline.synced(now, append, Ok(()));
                    }
                    output => world.perform(output),
                }
            }
        }
        carried.clone()
    };
    assert_eq!(turns(&mut world).len(), 1);
    // Ten more were due in the meantime.
    world.ms = 10;
    for n in 100..110 {
        let id: CallId = format!("01960000-0000-7000-8000-{n:012x}").parse().expect("a call id");
        let event = Event { call_id: id, sequence: 1, time: world.now().wall, at_ms: 0, kind: Kind::Ended(busy()) };
        world.write_down(entry(&event));
    }
    fold(&mut world);
    world.ms = HOUR + 2 * SECOND;
    let calls = turns(&mut world);
    assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [3, 10]);
    assert!(calls[1].iter().all(|call| !calls[0].contains(call)));
    // Nothing is left to another job.
    world.pipeline.config.crms[0].pace.bulk_from = 1000;
    assert_eq!(turns(&mut world).len(), 2);
}

#[test]
fn a_row_longer_than_an_entry_waits_for_a_person_and_its_job_goes_without_it() {
    let mut world = world();
    let long = "01960000-0000-7000-8000-000000000005";
    world.pipeline.config.crms[0].mapping = Box::new(move |record| {
        let call = record.get("call_id").and_then(Value::as_str).expect("a call id");
        let name = if call == long { "x".repeat(ENTRY_BYTES_MAX) } else { call.to_owned() };
        [("Name".to_owned(), json!(name))].into_iter().collect()
    });
    rush_of(&mut world, 12);
    world.until(HOUR + 100 * SECOND);
    let stand = states(&world);
    assert_eq!((stand.iter().filter(|s| **s == State::Done).count(), stand[5]), (11, State::Review), "{stand:?}");
}
