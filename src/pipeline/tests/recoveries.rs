//! What is told again, and what of it is left as people have changed it.

use super::{
    batches::{batching, rush},
    people::{person, post, rule},
    *,
};

#[test]
fn a_recovery_tells_every_call_since_then_again_each_time_it_is_wanted() {
    let mut world = batching(1);
    let ids = rush(&mut world, 7);
    world.settle();
    world.until(SECOND);
    world.batches.clear();
    let recover = |world: &mut World, since: &str| {
        let now = world.now();
        world.pipeline.recover(now, 5, recovery(Wall::parse(since).expect("a time")));
        world.settle();
        let later = world.ms + 100 * SECOND;
        world.until(later);
    };
    recover(&mut world, "2020-01-01T00:00:00Z");
    assert_eq!(world.batches.iter().sum::<usize>(), ids.len());
    recover(&mut world, "2020-01-01T00:00:00Z");
    assert_eq!(world.batches.iter().sum::<usize>(), 2 * ids.len(), "a second one is wanted, no duplicate");
    recover(&mut world, "2099-01-01T00:00:00Z");
    assert_eq!(world.batches.iter().sum::<usize>(), 2 * ids.len(), "no call is so late");
    assert_eq!(world.store.counts().expect("counts"), Counts::default());
    // In a store made anew the same calls stand the same.
    let mut anew = Memory::default();
    pipeline().fold(&mut anew, &world.journal, Position { segment: 1, offset: 999 }).expect("folded");
    for id in ids {
        let write = |store: &Memory| store.write("crm", id).expect("read").expect("a write");
        assert_eq!((write(&anew).written, write(&anew).state), (write(&world.store).written, State::Done));
    }
    let now = world.now();
    world.pipeline.recover(now, 6, Recover { target: Some("nobody".into()), ..recovery(now.wall) });
    world.settle();
    assert_eq!(world.responses.last(), Some(&(6, 404)));
}

#[test]
fn a_recovery_tells_what_waits_or_is_on_its_way_whole_too() {
    let recovered = |status: Option<u16>, state: State| {
        let mut world = World::new();
        world.call();
        world.until(100 * SECOND);
        world.status = status;
        world.webhook(1, "w1", "SALE");
        world.settle();
        assert_eq!(world.write().state, state);
        let now = world.now();
        world.pipeline.recover(now, 5, recovery(Wall::parse("2020-01-01T00:00:00Z").expect("a time")));
        world.settle();
        world.status = Some(200);
        if status.is_none() {
            // Its answer never comes, since the process dies.
            world.pipeline = pipeline();
        }
        world.until(200 * SECOND);
        (world.write(), world.requests.last().expect("a request").1.clone())
    };
    for (status, state) in [(Some(503), State::Retrying), (None, State::InFlight)] {
        let (write, told) = recovered(status, state);
        assert_eq!((write.state, &told), (State::Done, &write.wanted), "{state:?}");
        assert_eq!(told["from"], CALLER);
    }
}

/// A world whose CRM can be read back: of a call it holds when it began, who called, and what came of it.
fn readable() -> World {
    let mut world = people::world(&rule());
    post(&mut world, "/crm/v3/properties/calls", &json!({"name": "disposition", "type": "string", "fieldType": "text"}));
    let crm = world.pipeline.config.crms.get_mut(0).expect("a CRM");
    let mapping = std::mem::replace(&mut crm.mapping, Box::new(|_| Fields::new().into()));
    crm.mapping = Box::new(move |record| {
        let mut fields = mapping(record);
        fields.fields.extend(record.get("disposition_code").cloned().map(|told| ("disposition".to_owned(), told)));
        fields
    });
    world.pipeline.config.expects.clear();
    person(&mut world, CALLER);
    world.call();
    world.webhook(1, "w1", "PAID");
    world.until(100 * SECOND);
    assert_eq!((world.write().state, &world.write().written["disposition"]), (State::Done, &json!("PAID")));
    world
}

/// Somebody changes a field in the CRM.
fn change(world: &mut World, field: &str, value: &str) {
    let input = json!({"idProperty": "offhook_key", "id": record_key(call()), "properties": {field: value}});
    post(world, "/crm/v3/objects/calls/batch/upsert", &json!({"inputs": [input]}));
}

fn stands(world: &mut World, field: &str) -> Value {
    let asked = json!({"idProperty": "offhook_key", "inputs": [{"id": record_key(call())}], "properties": [field]});
    post(world, "/crm/v3/objects/calls/batch/read", &asked)["results"][0]["properties"][field].clone()
}

fn faults(world: &mut World, faults: Value) {
    world.account.as_mut().expect("a double").set_faults(serde_json::from_value(faults).expect("faults"));
}

/// Asks for a recovery of everything; how it stands at the end.
fn recover(world: &mut World, overwrite: bool) -> Value {
    let now = world.now();
    world.pipeline.recover(now, 5, Recover { overwrite, ..recovery(Wall::from_millis(0)) });
    world.settle();
    let asked = world.told.pop().expect("told at once");
    world.until(world.ms + 200 * SECOND);
    world.pipeline.recovery(6, asked["operation"].as_str().expect("an operation"));
    world.settle();
    world.told.pop().expect("told")
}

fn recoveries(world: &World) -> usize {
    world.journal.iter().filter(|(_, entry)| entry.kind == EntryKind::Recovery).count()
}

#[test]
fn a_recovery_reads_first_and_leaves_alone_what_people_have_changed_wherever_the_write_stands() {
    let refuses = |status: u16| json!([{"match": {"path": "batch/upsert"}, "action": {"status": status}}]);
    for state in [State::Done, State::Queued, State::Retrying, State::InFlight, State::Review, State::Dead] {
        let mut world = readable();
        // Something new is learnt of the call, and the CRM has not taken it when the recovery is asked for.
        match state {
            State::Queued => {
                world.pipeline.lanes.get_mut("crm").expect("a lane").pause(Instant::from_millis(world.ms), Duration::from_secs(1))
            }
            State::InFlight => world.hold = Some("batch/upsert"),
            State::Review => faults(&mut world, refuses(400)),
            State::Retrying | State::Dead => faults(&mut world, refuses(503)),
            _ => {}
        }
        world.webhook(2, "w2", "PROMISED");
        world.until(world.ms + if state == State::Dead { 900 * SECOND } else { 10 });
        assert_eq!(world.write().state, state);
        faults(&mut world, json!([]));
        change(&mut world, "from", "the desk");
        let told = recover(&mut world, false);
        assert_eq!((&told["state"], &told["kept"], &told["why"]), (&json!("told"), &json!(1), &Value::Null), "{state:?}: {told:#}");
        assert_eq!(told["changed"][0]["fields"], json!({"from": {"instead_of": CALLER, "value": "the desk"}}), "{state:?}");
        world.let_go();
        world.until(world.ms + 100 * SECOND);
        assert_eq!((world.write().state, world.write().edits.len(), recoveries(&world)), (State::Done, 1, 1), "{state:?}");
        assert_eq!((stands(&mut world, "from"), stands(&mut world, "disposition")), (json!("the desk"), json!("PROMISED")), "{state:?}");
        // Whoever wants that written over says so; an edit stands even then.
        change(&mut world, "disposition", "OTHER");
        assert_eq!(recover(&mut world, true)["kept"], 0);
        assert_eq!((stands(&mut world, "from"), stands(&mut world, "disposition")), (json!("the desk"), json!("PROMISED")), "{state:?}");
    }
}

#[test]
fn a_page_that_is_read_counts_against_the_day_and_is_not_read_once_that_is_used_up() {
    let mut world = readable();
    let day = world.now().wall.day();
    let before = world.store.spent("crm", day).expect("read");
    assert_eq!(recover(&mut world, false)["state"], "told");
    // One page; the record and its link, which are told again.
    assert_eq!(world.store.spent("crm", day), Ok(before + 3));
    let reconcile = |world: &mut World| {
        let now = world.now();
        world.pipeline.reconcile(now, &world.store, 7, "crm", None).expect("read");
        world.settle();
    };
    world.pipeline.config.crms[0].pace.per_day = Some(before + 4);
    reconcile(&mut world);
    assert_eq!((&world.told.pop().expect("told")["written"], world.store.spent("crm", day)), (&json!(1), Ok(before + 4)));
    reconcile(&mut world);
    assert_eq!((world.responses.last(), world.store.spent("crm", day)), (Some(&(7, 503)), Ok(before + 4)));
    // A store that is made anew knows it too.
    let mut anew = Memory::default();
    pipeline().fold(&mut anew, &world.journal, Position { segment: 1, offset: 9999 }).expect("folded");
    assert_eq!(anew.spent("crm", day), Ok(before + 4));
    let told = recover(&mut world, false);
    assert!(told["why"].as_str().is_some_and(|why| why.contains("may be asked of \"crm\" on one day is used up")), "{told:#}");
}

#[test]
fn what_is_on_its_way_itself_is_nobodys_change() {
    let mut world = readable();
    world.hold = Some("batch/upsert");
    world.webhook(2, "w2", "PROMISED");
    assert_eq!(world.write().state, State::InFlight);
    // The CRM has taken it already; its answer is still on its way.
    change(&mut world, "disposition", "PROMISED");
    assert_eq!(recover(&mut world, false)["kept"], 0);
    world.let_go();
    world.until(world.ms + 100 * SECOND);
    assert_eq!((world.write().edits.len(), stands(&mut world, "disposition")), (0, json!("PROMISED")));
}

#[test]
fn nothing_is_told_again_where_the_crm_does_not_tell_what_it_holds_or_the_disk_is_full() {
    let mut world = readable();
    change(&mut world, "from", "the desk");
    faults(&mut world, json!([{"match": {"path": "batch/read"}, "action": {"status": 503}}]));
    let told = recover(&mut world, false);
    assert_eq!(told["state"], "failed");
    assert!(told["why"].as_str().is_some_and(|why| why.starts_with("crm: the CRM did not tell what it holds")), "{told:#}");
    faults(&mut world, json!([]));
    world.disk_full = true;
    let told = recover(&mut world, false);
    assert!(told["why"].as_str().is_some_and(|why| why.contains("the journal did not take it")), "{told:#}");
    assert_eq!((recoveries(&world), stands(&mut world, "from")), (0, json!("the desk")));
    world.disk_full = false;
    assert_eq!(recover(&mut world, false)["kept"], 1, "it may be asked for again");
    assert_eq!((recoveries(&world), stands(&mut world, "from")), (1, json!("the desk")));
}

#[test]
fn one_recovery_reads_at_a_time() {
    let mut world = readable();
    world.hold = Some("batch/read");
    let ask = |world: &mut World, reply: u64| {
        let now = world.now();
        world.pipeline.recover(now, reply, Recover { overwrite: false, ..recovery(Wall::from_millis(0)) });
        world.settle();
    };
    ask(&mut world, 2);
    let operation = world.told.pop().expect("told")["operation"].as_str().expect("an operation").to_owned();
    ask(&mut world, 3);
    assert_eq!(world.responses.last(), Some(&(3, 409)));
    world.let_go();
    world.until(world.ms + SECOND);
    world.pipeline.recovery(4, &operation);
    world.settle();
    assert_eq!(world.told.pop().expect("told")["state"], "told");
    world.pipeline.recovery(5, "recovery-of-another-life");
    world.settle();
    assert_eq!(world.responses.last(), Some(&(5, 404)));
}

#[test]
fn all_pages_of_a_crm_are_read_from_the_asked_time_on() {
    let mut world = readable();
    let nth = |n: u32| format!("019b8d99-6ce8-7000-8000-{:012}", n + 100).parse::<CallId>().expect("a call id");
    for n in 0..230 {
        for (sequence, kind) in (1..).zip(life()) {
            world.write_down(entry(&Event { call_id: nth(n), sequence, time: world.now().wall, at_ms: 0, kind }));
        }
    }
    world.until(world.ms + 300 * SECOND);
    for n in [3, 229] {
        let input = json!({"idProperty": "offhook_key", "id": record_key(nth(n)), "properties": {"from": "the desk"}});
        post(&mut world, "/crm/v3/objects/calls/batch/upsert", &json!({"inputs": [input]}));
    }
    let told = recover(&mut world, false);
    let calls: Vec<_> = told["changed"].as_array().expect("a list").iter().map(|one| one["call_id"].clone()).collect();
    assert_eq!((&told["state"], calls), (&json!("told"), vec![json!(nth(3)), json!(nth(229))]));
    let now = world.now();
    world.pipeline.recover(now, 5, Recover { overwrite: false, ..recovery(now.wall) });
    world.until(world.ms + SECOND);
    assert_eq!(world.told.pop().expect("told")["changed"], json!([]), "no call is so late");
}

/// Calls as they happen keep what the reading of a recovery would take of the day, and of the second.
#[test]
fn a_recovery_that_reads_leaves_calls_their_share_of_the_day() {
    let mut world = readable();
    world.pipeline.config.crms[0].contacts = None;
    (100..1100).for_each(|n| world.short_call(n));
    world.until(world.ms + 300 * SECOND);
    assert_eq!(world.store.counts().expect("counts"), Counts::default());
    let day = world.now().wall.day();
    let spent = |world: &World| world.store.spent("crm", day).expect("read");
    // Four pages more would be read of eleven.
    let share = spent(&world) + 4;
    let pace = &mut world.pipeline.config.crms[0].pace;
    (pace.per_day, pace.backlog_share) = (Some((share * 100).div_ceil(80)), 80);
    let told = recover(&mut world, false);
    assert_eq!((&told["state"], spent(&world), recoveries(&world)), (&json!("failed"), share, 0), "{told:#}");
    let why = told["why"].as_str().expect("a reason");
    assert!(["backlog_share", "--overwrite", "midnight"].iter().all(|word| why.contains(word)), "{why}");
    world.short_call(2000);
    world.until(world.ms + SECOND);
    assert_eq!(
        (world.store.counts().expect("counts"), spent(&world)),
        (Counts::default(), share + 1),
        "a call that ends now is written now"
    );
}

#[test]
fn a_recovery_asks_for_no_more_pages_a_second_than_may_leave_and_calls_go_before_them() {
    let mut world = readable();
    world.pipeline.config.crms[0].contacts = None;
    (100..1100).for_each(|n| world.short_call(n));
    world.until(world.ms + 300 * SECOND);
    world.pipeline.config.crms[0].pace.per_second = Some(1);
    let day = world.now().wall.day();
    let spent = |world: &World| world.store.spent("crm", day).expect("read");
    let before = spent(&world);
    let now = world.now();
    world.pipeline.recover(now, 5, Recover { overwrite: false, ..recovery(Wall::from_millis(0)) });
    let begun = world.ms;
    world.until(begun + 3500);
    assert_eq!(spent(&world), before + 4, "at once, and after one, two and three seconds");
    world.short_call(2000);
    world.until(begun + 4500);
    assert_eq!((spent(&world), world.store.counts().expect("counts")), (before + 5, Counts::default()), "the call took the next second");
    world.until(begun + 30 * SECOND);
    assert_eq!(recoveries(&world), 1, "the other pages followed");
}

#[test]
fn what_cannot_be_read_back_is_named_and_told_again() {
    let mut world = World::new();
    world.call();
    world.until(100 * SECOND);
    let before = world.requests.len();
    let told = recover(&mut world, false);
    assert_eq!((&told["state"], &told["unread"]), (&json!("told"), &json!({"crm": "what \"crm\" holds cannot be read back over its API"})));
    assert_eq!(world.requests.len(), before + 1);
}
