//! What a platform is to send of a call: what came, what never came, and what nobody waits for.

use super::*;

fn world(expects: Vec<Expect>) -> World {
    let mut world = World::new();
    world.pipeline.config.expects = expects;
    world
}

fn expects() -> Vec<Expect> {
    let transcript = Expect { what: "transcription.complete".into(), outcomes: vec![Outcome::Answered], within: Duration::from_secs(300) };
    vec![Expect::disposition(Duration::from_secs(60)), transcript]
}

impl World {
    fn fields(&self) -> Map<String, Value> {
        self.store.record(call()).expect("stored").expect("a record").fields()
    }

    /// A platform tells `kind`, and that alone.
    fn tells(&mut self, reply: u64, kind: &str, data: &Value) {
        let (id, stamp) = (format!("m{reply}"), self.now().wall);
        let body = json!({"id": id, "type": kind, "call_id": call(), "time": stamp, "data": data}).to_string();
        self.post(reply, &body);
        self.settle();
    }
}

#[test]
fn a_record_is_complete_once_all_that_is_expected_came() {
    let mut world = world(expects());
    world.call();
    world.settle();
    assert_eq!(world.fields()["complete"], false);
    world.tells(1, "call.ended", &json!({"disposition_code": "SALE"}));
    assert_eq!(world.fields()["complete"], false, "its transcript may still come");
    world.tells(2, "transcription.complete", &json!({"transcript": "Hello."}));
    assert_eq!((&world.fields()["complete"], &world.fields()["needs_review"]), (&json!(true), &json!(false)));
    world.until(400 * SECOND);
    assert!(!world.fields().contains_key("missing"));
}

#[test]
fn each_event_has_its_own_time_and_what_never_comes_is_named_and_flagged() {
    let mut world = world(expects());
    world.call();
    world.until(61 * SECOND);
    assert_eq!((&world.fields()["missing"], &world.fields()["complete"]), (&json!("disposition_code"), &json!(false)));
    world.until(301 * SECOND);
    let fields = world.fields();
    assert_eq!(fields["missing"], "disposition_code, transcription.complete");
    assert_eq!((&fields["complete"], &fields["needs_review"]), (&json!(true), &json!(true)));
    world.tells(1, "call.ended", &json!({"disposition_code": "SALE"}));
    assert_eq!((&world.fields()["missing"], &world.fields()["needs_review"]), (&json!("transcription.complete"), &json!(true)));
    world.tells(2, "transcription.complete", &json!({"transcript": "Hello."}));
    let fields = world.fields();
    assert_eq!((fields.get("missing"), &fields["needs_review"]), (None, &json!(false)), "what came late is missing no more");
}

#[test]
fn of_a_call_that_nobody_took_nothing_is_expected() {
    let mut world = world(expects());
    let started = life().into_iter().next().expect("a beginning");
    world.events(vec![started, Kind::Ended(busy())]);
    world.settle();
    let fields = world.fields();
    assert_eq!((&fields["complete"], &fields["needs_review"], fields.get("disposition_code")), (&json!(true), &json!(false), None));
}

#[test]
fn a_transferred_call_says_so_with_its_context_and_once_however_often_it_is_told() {
    let mut world = world(expects());
    let handed =
        Kind::Transferred { to: "sip:desk@example.com".into(), by: crate::event::Leg::Callee, context: Some("wants a person".into()) };
    let mut life = life();
    let end = life.pop().expect("an end");
    world.events(life.into_iter().chain([handed, end]).collect());
    world.settle();
    assert_eq!(world.requests.last().expect("a write").1["disposition_code"], "TRANSFERRED");
    for reply in [1, 2] {
        world.tells(reply, "transcription.complete", &json!({"transcript": "Hello.", "call_summary": "About a bill."}));
    }
    let fields = world.fields();
    assert_eq!(fields["note"], "About a bill.\n\nTRANSFERRED to sip:desk@example.com: wants a person\n\nHello.");
    assert_eq!((&fields["needs_review"], &fields["complete"]), (&json!(false), &json!(true)));
}
