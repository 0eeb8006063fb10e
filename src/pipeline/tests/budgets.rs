//! What may be asked of a CRM on a day: ours by configuration, the CRM's by its own headers; and who goes first.

use super::*;

const HOUR: u64 = 3600 * SECOND;

fn number(n: u32) -> CallId {
    format!("019b8d99-6ce8-7000-8000-{n:012x}").parse().expect("a call id")
}

impl World {
    /// A call that is over at once.
    pub(super) fn short_call(&mut self, n: u32) {
        let end = life().pop().expect("an end");
        for (sequence, kind) in (1..).zip([life().remove(0), end]) {
            let event = Event { call_id: number(n), sequence, time: self.now().wall, at_ms: 0, kind };
            self.write_down(entry(&event));
        }
    }

    fn written(&self) -> Vec<String> {
        self.requests.iter().filter_map(|(_, fields)| Some(fields.get("call_id")?.as_str()?.to_owned())).collect()
    }
}

fn world(pace: Pace) -> World {
    let mut world = World::new();
    world.pipeline.config.crms[0].pace = Pace { concurrency: 1, ..pace };
    world.pipeline.config.expects.clear();
    world
}

#[test]
fn a_spent_day_ends_at_midnight_and_nothing_is_lost_also_over_a_restart() {
    let mut world = world(Pace { per_day: Some(3), backlog_share: 100, ..Pace::default() });
    (1..=5).for_each(|n| world.short_call(n));
    world.until(HOUR);
    assert_eq!(world.requests.len(), 3);
    // What was spent is in the store: another life knows it.
    let config = std::mem::replace(
        &mut world.pipeline.config,
        Config { crms: Vec::new(), sources: BTreeMap::new(), marks: marks(), expects: Vec::new(), attempts_max: 3, keep: None },
    );
    world.pipeline = Pipeline::new(config, Chance::from_seed(2));
    world.until(13 * HOUR);
    assert_eq!(world.requests.len(), 3, "the world began at ten o'clock");
    world.until(15 * HOUR);
    assert_eq!(world.written().into_iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
}

#[test]
fn a_recovery_waits_behind_calls_as_they_happen_and_leaves_them_their_share_of_the_day() {
    let mut world = world(Pace { per_day: Some(100), backlog_share: 80, ..Pace::default() });
    (1..=60).for_each(|n| world.short_call(n));
    world.until(SECOND);
    assert_eq!(world.requests.len(), 60);
    let now = world.now();
    world.pipeline.recover(now, 1, recovery(now.wall - Duration::from_secs(86_400)));
    world.settle();
    // Twenty of them fit into the backlog's share.
    world.until(2 * SECOND);
    assert_eq!(world.requests.len(), 80);
    (61..=65).for_each(|n| world.short_call(n));
    world.until(3 * SECOND);
    let last: Vec<_> = world.written().split_off(80);
    assert_eq!(last, (61..=65).map(|n| number(n).to_string()).collect::<Vec<_>>(), "a call that ends now is written now");
    world.until(15 * HOUR);
    assert_eq!(world.requests.len(), 125, "the rest of the recovery came the next day");
}

#[test]
fn a_call_that_ends_during_a_recovery_does_not_wait_for_its_end() {
    let mut world = world(Pace { per_second: Some(1), ..Pace::default() });
    (1..=20).for_each(|n| world.short_call(n));
    world.until(30 * SECOND);
    let now = world.now();
    world.pipeline.recover(now, 1, recovery(now.wall - Duration::from_secs(86_400)));
    world.until(33 * SECOND);
    let before = world.requests.len();
    world.short_call(21);
    world.until(35 * SECOND);
    assert!(world.written()[before..].contains(&number(21).to_string()), "{:?}", &world.written()[before..]);
}

#[test]
fn the_crms_own_limits_are_learnt_before_they_are_reached() {
    let mut world = people::world(&json!({"by": "intent", "object": "contacts", "fields": ["phone"]}));
    let account = sandbox::HubSpot::new(false, Chance::from_seed(3)).with_quota(400, 2000);
    world.account = Some(Double::new(Box::new(account), Vec::new()));
    people::fields(&mut world);
    let crm = &mut world.pipeline.config.crms[0];
    (crm.contacts, crm.pace) = (None, Pace { batch: 1, concurrency: 1, ..Pace::default() });
    (1..=2500).for_each(|n| world.short_call(n));
    world.until(HOUR);
    let refused =
        |world: &World| world.counts.iter().filter(|c| matches!(c, Count::Write { outcome, .. } if outcome == "throttled")).count();
    let done = |world: &World| world.counts.iter().filter(|c| matches!(c, Count::Write { outcome, .. } if outcome == "done")).count();
    assert_eq!(refused(&world), 0);
    // A share of the day is left to others, a request every quarter of an hour looks whether it is a new one.
    assert!((1900..=1910).contains(&done(&world)), "{}", done(&world));
    world.until(16 * HOUR);
    assert_eq!((done(&world), refused(&world)), (2500, 0));
}
