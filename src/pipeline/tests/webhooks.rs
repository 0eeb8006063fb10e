//! A webhook is on disk before it is answered, and counts once however it comes.

use super::*;
use crate::pipeline::{store::Why, webhook::drift::What};

fn results(world: &World) -> Vec<&str> {
    let of = |count: &Count| if let Count::Webhook(result) = count { Some(*result) } else { None };
    world.counts.iter().filter_map(of).collect()
}

fn asides(world: &World) -> Vec<(Why, String)> {
    world.store.asides(99).expect("stored").into_iter().rev().map(|aside| (aside.why, aside.detail)).collect()
}

#[test]
fn it_is_answered_when_it_is_on_disk_and_counts_once() {
    let mut world = World::new();
    world.call();
    world.disk_full = true;
    world.webhook(1, "w1", "SALE");
    world.disk_full = false;
    world.webhook(2, "w1", "SALE");
    world.webhook(3, "w1", "SALE");
    world.until(40 * 86_400 * SECOND);
    world.webhook(4, "w1", "SALE");
    let now = world.now();
    let unsigned = webhook::Request { headers: &[], query: "", body: b"{}" };
    for (reply, source) in [(5, "nobody"), (6, "platform")] {
        let taken = world.ingest.take(now.wall, now.wall, source, &unsigned);
        world.taken(reply, source, b"{}", taken);
    }
    world.settle();
    assert_eq!(world.responses, [(1, 503), (2, 200), (3, 200), (4, 200), (5, 404), (6, 401)]);
    // The fourth bears another time, and so other bytes.
    assert_eq!(results(&world), ["refused", "accepted", "duplicate", "conflict", "refused", "bad_signature"]);
    assert_eq!(world.write().written["disposition_code"], "SALE");
}

#[test]
fn the_same_after_a_month_is_the_same() {
    let mut world = World::new();
    world.call();
    let body = json!({"id": "w1", "type": "call.ended", "call_id": call(), "data": {"disposition_code": "SALE"}}).to_string();
    world.post(1, &body);
    world.until(40 * 86_400 * SECOND);
    let requests = world.requests.len();
    world.post(2, &body);
    world.until(41 * 86_400 * SECOND);
    assert_eq!((results(&world), world.requests.len()), (vec!["accepted", "duplicate"], requests));
}

#[test]
fn the_same_id_with_another_body_is_kept_and_shown_and_changes_nothing() {
    let mut world = World::new();
    world.call();
    world.webhook(1, "w1", "SALE");
    world.webhook(2, "w1", "NO SALE");
    assert_eq!(world.responses, [(1, 200), (2, 200)]);
    assert_eq!(asides(&world), [(Why::Conflict, "another webhook with id \"w1\" was taken before".to_owned())]);
    world.until(10 * SECOND);
    assert_eq!(world.write().written["disposition_code"], "SALE");
    let kept = world.journal.iter().filter(|(_, e)| e.kind == EntryKind::Webhook).count();
    assert_eq!(kept, 2, "its body stands in the journal");
}

#[test]
fn without_an_id_it_is_the_same_where_everything_is() {
    let mut world = World::new();
    world.call();
    let body = |code: &str| json!({"type": "call.ended", "call_id": call(), "data": {"disposition_code": code}}).to_string();
    world.post(1, &body("SALE"));
    world.post(2, &body("SALE"));
    world.post(3, &body("NO SALE"));
    // A new key of marks: those made with the old one are still known.
    world.pipeline.config.marks = webhook::Marks::new([&b"new"[..], b"marks"].map(|k| Zeroizing::new(k.to_vec())).to_vec());
    world.post(4, &body("SALE"));
    assert_eq!(results(&world), ["accepted", "duplicate", "accepted", "duplicate"]);
}

#[test]
fn what_cannot_be_read_is_kept_and_shown_until_a_rule_exists() {
    let mut world = World::new();
    world.call();
    world.post(1, "<xml/>");
    world.post(2, &json!({"id": "w1", "type": "lead.scored", "call_id": call(), "data": {"score": "PAID"}}).to_string());
    assert_eq!(world.responses, [(1, 200), (2, 200)]);
    let found = asides(&world);
    assert_eq!(found.iter().map(|(why, _)| *why).collect::<Vec<_>>(), [Why::Unreadable, Why::UnknownType]);
    assert!(found[1].1.contains("lead.scored"));
    // The schema learns of it, and the store is made anew.
    let rule = json!({"as": "custom.lead.scored", "data": {"disposition_code": "/data/score"}});
    let mut learnt = pipeline();
    let source = learnt.config.sources.get_mut("platform").expect("a source");
    source.schema.events.insert("lead.scored".into(), serde_json::from_value(rule).expect("a rule"));
    let mut anew = Memory::default();
    learnt.fold(&mut anew, &world.journal, Position { segment: 1, offset: 99 }).expect("folded");
    let record = anew.record(call()).expect("stored").expect("a record");
    assert_eq!(record.fields()["disposition_code"], "PAID");
    assert_eq!(anew.asides(9).expect("stored").len(), 1);
}

#[test]
fn drift_is_written_down_once_a_kind_with_the_fields_of_crms_that_it_concerns() {
    let mut world = World::new();
    world.call();
    let mapping = json!({"version": 3, "object": "calls", "key": "k", "field": [
        {"to": "disposition", "from": "disposition_code", "values": {"SALE": "Sold"}, "default": "Other"},
        {"to": "body", "from": "call_summary", "workflow": "Follow-up", "owner": "J. Doe"}, {"to": "note", "from": "call_summary"}]});
    let mapping: crate::crm::mapping::Mapping = serde_json::from_value(mapping).expect("a mapping");
    world.pipeline.config.crms[0].reads = mapping.reads();
    let body = |id: &str, data: Value| json!({"id": id, "type": "call.ended", "call_id": call(), "data": data}).to_string();
    world.post(1, &body("w1", json!({"disposition_code": "SALE", "call_summary": "fine"})));
    assert_eq!(world.store.drifts().expect("stored"), []);
    let odd = body("w2", json!({"disposition_code": "LATER", "call_summary": {"text": "fine"}}));
    world.post(2, &odd);
    world.post(3, &odd);
    world.post(4, &body("w3", json!({"disposition_code": "NEVER"})));
    let drifts = world.store.drifts().expect("stored");
    let shown = drifts.iter().map(|d| (d.against.as_str(), d.field.as_str(), d.what, d.count, d.affects.join(", "))).collect::<Vec<_>>();
    assert_eq!(
        shown,
        [
            ("mapping crm 3", "disposition_code", What::Value, 2, "crm calls.disposition".to_owned()),
            (
                "schema generic 1",
                "call_summary",
                What::Type,
                1,
                "crm calls.body (workflow Follow-up, of J. Doe), crm calls.note".to_owned()
            ),
        ],
        "a duplicate tells nothing new"
    );
    assert_eq!(drifts[0].found.iter().map(String::as_str).collect::<Vec<_>>(), ["LATER", "NEVER"]);
    let raised = world.counts.iter().map(|c| if let Count::Drift { drift } = c { [drift.is_some()].to_vec() } else { Vec::new() });
    assert_eq!(raised.flatten().collect::<Vec<_>>(), [true, true, false], "an alarm a kind");
    // The same out of the journal.
    let (mut anew, mut again) = (Memory::default(), pipeline());
    again.config.crms[0].reads = mapping.reads();
    again.fold(&mut anew, &world.journal, Position { segment: 1, offset: 99 }).expect("folded");
    assert_eq!(anew.drifts().expect("stored"), drifts);
}

/// The mappings of one gateway stand beside each other, and each is for calls of its own: what one of them foresees is no drift of the others.
#[test]
fn a_value_is_drift_of_the_mappings_that_take_its_call_and_of_their_fields_that_lack_it() {
    let drifts = |mapping: &crate::crm::mapping::Mapping, data: Value| {
        let mut world = World::new();
        world.call();
        world.pipeline.config.crms[0].reads = mapping.reads();
        world.pipeline.config.crms[0].schedule.only = mapping.only.clone();
        world.post(1, &json!({"id": "w1", "type": "call.ended", "call_id": call(), "data": data}).to_string());
        world.store.drifts().expect("stored").into_iter().map(|drift| drift.affects.join(", ")).collect::<Vec<_>>()
    };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mappings");
    let shipped = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).expect("a mapping");
        toml::from_str::<crate::crm::mapping::Mapping>(&text).expect("a mapping")
    };
    for crm in ["hubspot", "salesforce", "dynamics"] {
        let [callback, appointment, collections] =
            ["callback", "appointment", "collections"].map(|what| shipped(&format!("{what}-{crm}.toml")));
        for code in ["CALL_BACK", "CALL_BACK_URGENT", "PROMISE_TO_PAY"] {
            for mapping in [&callback, &appointment] {
                assert_eq!(drifts(mapping, json!({"disposition_code": code})), [""; 0], "{code} {crm} {}", mapping.object);
            }
        }
        assert_eq!(drifts(&collections, json!({"disposition_code": "PROMISE_TO_PAY"})), [""; 0], "{crm}");
        assert_eq!(drifts(&collections, json!({"disposition_code": "SOMETHING_NEW"})).len(), 1, "{crm}");
        let dated = json!({"disposition_code": "PROMISE_TO_PAY", "next_action_date": "2026-01-06"});
        assert_eq!(drifts(&appointment, dated).len(), 1, "it takes that call: {crm}");
    }
    let mapping = json!({"version": 1, "object": "calls", "key": "k", "only": [{"field": "outcome", "is": ["answered"]}], "field": [
        {"to": "knows", "from": "disposition_code", "values": {"PAID": "1", "NEW": "2"}},
        {"to": "lacks", "from": "disposition_code", "values": {"PAID": "1"}}]});
    let mapping = serde_json::from_value(mapping).expect("a mapping");
    assert_eq!(drifts(&mapping, json!({"disposition_code": "NEW"})), ["crm calls.lacks"]);
    assert_eq!(drifts(&mapping, json!({"disposition_code": "OTHER"})), ["crm calls.knows, crm calls.lacks"]);
}

#[test]
fn whatever_names_the_call_leads_to_it_in_whatever_order() {
    let mut learnt = World::new();
    let source = learnt.pipeline.config.sources.get_mut("platform").expect("a source");
    source.schema.call = vec!["/ours".into(), "/theirs".into()];
    let body = |ours: Option<CallId>, name: &str, value: &str| {
        json!({"id": value, "type": "call.ended", "ours": ours, "theirs": "p-1", "data": {name: value}}).to_string()
    };
    // By its own name alone, before anybody knows whose it is; then with ours; then the call itself.
    learnt.post(1, &body(None, "intent", "buy"));
    learnt.post(2, &body(Some(call()), "call_outcome", "sold"));
    learnt.call();
    learnt.settle();
    learnt.post(3, &body(None, "disposition_code", "SALE"));
    let fields = learnt.store.record(call()).expect("stored").expect("a record").fields();
    assert_eq!((&fields["intent"], &fields["call_outcome"], &fields["disposition_code"]), (&json!("buy"), &json!("sold"), &json!("SALE")));
}

#[test]
fn a_wrong_signature_is_handed_to_the_quarantine_and_verified_again_as_of_its_time() {
    let mut world = World::new();
    world.call();
    let body = json!({"id": "w1", "type": "call.ended", "call_id": call(), "data": {"disposition_code": "SALE"}}).to_string();
    let mut wrong = world.pipeline.config.sources.clone();
    wrong.get_mut("platform").expect("a source").keys = vec![Key::parse("raw:another").expect("a key")];
    let mended = std::mem::replace(&mut world.ingest, webhook::Ingest::new(wrong));
    let came = world.now().wall;
    let signature = Key::parse(KEY).expect("a key").sign("m", came, body.as_bytes());
    let headers =
        [("webhook-id", "m".to_owned()), ("webhook-timestamp", (came.as_millis() / 1000).to_string()), ("webhook-signature", signature)];
    let headers = headers.map(|(n, v)| (n.to_owned(), v));
    let request = webhook::Request { headers: &headers, query: "", body: body.as_bytes() };
    let now = world.now();
    let taken = world.ingest.take(now.wall, now.wall, "platform", &request);
    world.taken(1, "platform", body.as_bytes(), taken);
    assert_eq!(world.quarantined, [("platform".to_owned(), body.clone().into_bytes())]);

    // Three days later, far outside the window of a signature, the secret is mended.
    world.until(3 * 86_400 * SECOND);
    let now = world.now();
    let mut release = |reply, came, source| {
        let taken = world.ingest.release(now.wall, came, source, &request);
        world.taken(reply, source, request.body, taken);
    };
    release(2, came, "platform");
    world.ingest = mended;
    let mut release = |reply, came, source| {
        let taken = world.ingest.release(now.wall, came, source, &request);
        world.taken(reply, source, request.body, taken);
    };
    release(3, now.wall, "platform");
    release(4, came, "nobody");
    release(5, came, "platform");
    release(6, came, "platform");
    world.settle();
    assert_eq!(world.responses, [(1, 401), (2, 401), (3, 401), (4, 404), (5, 200), (6, 200)]);
    assert_eq!(results(&world), ["bad_signature", "accepted", "duplicate"]);
    assert_eq!(world.quarantined.len(), 1, "what stays is there already");
    let record = world.store.record(call()).expect("stored").expect("a record");
    assert_eq!(record.fields()["disposition_code"], "SALE");
}
