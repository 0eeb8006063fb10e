//! When a call is written: while it is under way, at its end, in a batch, or by rule.

use super::*;
use crate::{
    crm::mapping::{Action, Condition, On},
    pipeline::{
        batch::Report,
        schedule::{Model, Runs},
    },
};

const MINUTE: u64 = 60 * SECOND;

/// Batches at every full hour; the world begins at a full one.
fn runs() -> Runs {
    Runs { every: Duration::from_secs(3600), at: Duration::ZERO }
}

fn world(model: Model) -> World {
    let mut world = World::new();
    world.pipeline.config.crms[0].schedule.model = model;
    world
}

fn handed() -> Kind {
    Kind::Transferred { to: "sip:desk@example.com".into(), by: crate::event::Leg::Callee, context: None }
}

impl World {
    fn reports(&self) -> Vec<Report> {
        self.counts.iter().filter_map(|c| if let Count::Batch(report) = c { Some(report.clone()) } else { None }).collect()
    }

    fn outcomes(&self) -> Vec<Option<&str>> {
        self.requests.iter().map(|(_, fields)| fields.get("outcome").and_then(Value::as_str)).collect()
    }
}

#[test]
fn a_call_under_way_is_in_the_crm_and_its_end_an_update_of_it() {
    let mut world = World::new();
    let life = life();
    let count = life.len();
    let mut life = life.into_iter();
    world.event(1, life.next().expect("a beginning"));
    world.until(5 * SECOND);
    assert_eq!((world.requests.len(), world.requests[0].1["from"].clone(), world.outcomes()), (1, json!(CALLER), vec![None]));
    for (sequence, kind) in (2..).zip(life) {
        world.until((5 + u64::from(sequence)) * SECOND);
        world.event(sequence, kind);
        world.settle();
    }
    assert_eq!((world.requests.len(), world.outcomes()), (2, vec![None, Some("answered")]), "{count} events, two of them written");
    assert_eq!(world.write().id.as_deref(), Some("crm-1"));
}

#[test]
fn what_the_table_says_of_a_call_under_way_is_what_is_written() {
    let written = |on: On| {
        let mut world = World::new();
        world.pipeline.config.crms[0].schedule.on = on;
        let mut life = life();
        let end = life.pop().expect("an end");
        for (sequence, kind) in (1..).zip(life.into_iter().chain([handed()])) {
            world.event(sequence, kind);
            world.until(u64::from(sequence) * 10 * SECOND);
        }
        let before = world.requests.iter().map(|(_, fields)| fields.get("disposition_code").cloned()).collect::<Vec<_>>();
        world.event(9, end);
        world.settle();
        assert_eq!(world.outcomes().last(), Some(&Some("answered")), "its end is always written");
        before
    };
    let transferred = Some(json!("TRANSFERRED"));
    assert_eq!(written(On::default()), [None, transferred.clone()]);
    let wait = On { started: Action::Wait, answered: Action::Wait, transferred: Action::Wait };
    assert_eq!(written(wait), []);
    assert_eq!(written(On { transferred: Action::Write, ..wait }), [transferred]);
}

#[test]
fn a_call_that_is_over_at_once_is_written_once() {
    let mut world = World::new();
    world.event(1, life().remove(0));
    world.until(SECOND);
    world.event(2, life().pop().expect("an end"));
    world.until(10 * SECOND);
    assert_eq!(world.outcomes(), [Some("answered")]);
}

#[test]
fn a_batch_writes_each_call_once_with_all_that_came_and_says_what_became_of_it() {
    let mut world = world(Model::Batch(runs()));
    world.until(MINUTE);
    world.call();
    world.webhook(1, "w1", "SALE");
    world.until(59 * MINUTE);
    assert!(world.requests.is_empty());
    world.until(61 * MINUTE);
    assert_eq!((world.requests.len(), &world.requests[0].1["disposition_code"]), (1, &json!("SALE")));
    let report = world.reports().pop().expect("a report");
    assert_eq!((report.written, report.pending, report.rejected, report.missing), (1, 0, 0, 0), "{report:?}");
}

#[test]
fn a_batch_that_fails_or_is_behind_says_so() {
    let mut world = world(Model::Batch(runs()));
    world.status = Some(400);
    world.until(MINUTE);
    world.call();
    world.webhook(1, "w1", "SALE");
    world.until(62 * MINUTE);
    let report = world.reports().pop().expect("a report");
    assert_eq!((report.written, report.pending, report.rejected), (0, 0, 1), "{report:?}");

    let mut world = self::world(Model::Batch(runs()));
    world.status = Some(429);
    world.until(MINUTE);
    world.call();
    world.webhook(1, "w1", "SALE");
    world.until(74 * MINUTE);
    assert_eq!(world.reports().iter().filter(|r| r.pending > 0).count(), 0, "a quarter of an hour is no delay");
    world.until(80 * MINUTE);
    assert_eq!(world.reports().iter().filter(|r| r.pending == 1).count(), 1, "and it is said once");
    world.status = Some(200);
    world.until(82 * MINUTE);
    assert_eq!(world.reports().pop().map(|r| (r.written, r.pending)), Some((1, 0)));
}

#[test]
fn a_campaign_ends_and_its_batch_is_written_before_its_time() {
    let mut world = world(Model::Batch(runs()));
    world.until(MINUTE);
    world.call();
    world.until(90 * SECOND);
    let now = world.now();
    world.pipeline.run_batch(now, 7, "crm", "anna");
    world.settle();
    assert_eq!((world.responses.last(), world.requests.len()), (Some(&(7, 200)), 1));
    world.pipeline.run_batch(now, 8, "crm", "anna");
    world.until(120 * MINUTE);
    assert_eq!(world.requests.len(), 2, "its outcome never came, which the next batch says: {:?}", world.requests);
    world.pipeline.config.crms[0].schedule.model = Model::RealTime;
    world.pipeline.run_batch(now, 9, "crm", "anna");
    world.settle();
    assert_eq!(world.responses.last(), Some(&(9, 409)));
}

#[test]
fn a_rule_takes_a_call_out_of_its_batch_as_soon_as_it_is_true() {
    let paid = Condition { field: "disposition_code".into(), is: vec!["PAID".into()], at_least: None };
    let mut world = world(Model::Hybrid(runs(), vec![paid]));
    world.until(MINUTE);
    world.call();
    world.until(90 * SECOND);
    assert!(world.requests.is_empty());
    world.webhook(1, "w1", "PAID");
    world.until(2 * MINUTE);
    assert_eq!((world.requests.len(), &world.requests[0].1["disposition_code"]), (1, &json!("PAID")));
}

#[test]
fn a_call_that_no_condition_takes_is_not_written_until_one_does() {
    let mut world = World::new();
    world.pipeline.config.crms[0].schedule.only =
        vec![Condition { field: "disposition_code".into(), is: vec!["CALL_BACK".into()], at_least: None }];
    world.call();
    world.until(10 * SECOND);
    assert!(world.store.write("crm", call()).expect("stored").is_none());
    world.webhook(1, "w1", "CALL_BACK");
    assert_eq!((world.requests.len(), world.write().state), (1, State::Done));
}
