//! A payload of each shipped schema, as its platform documents it, and what cannot be read.

use serde_json::{Value, json};

use super::{
    drift::What,
    received::Head,
    schema::{CATALOGUE, SHIPPED, find},
    *,
};
use crate::event::CallId;

fn read(schema: &str, body: &str) -> Reading {
    let schema = Schema::shipped(schema).expect("a shipped schema");
    schema.read(&Received { head: Head::default(), body: body.as_bytes() }, Wall::from_millis(7))
}

fn told(schema: &str, body: &str) -> Payload {
    match read(schema, body) {
        Reading::Told(payload, odd) => {
            assert_eq!(odd, [], "{schema}");
            payload
        }
        other => panic!("{schema}: {other:?}"),
    }
}

#[test]
fn what_is_shipped_has_no_fault() {
    for (name, text) in SHIPPED {
        let schema: Schema = toml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((schema.name.as_str(), schema.faults()), (name, Vec::new()));
        assert!(schema.events.values().all(|r| CATALOGUE.contains(&r.kind.as_str()) || r.kind.starts_with("custom.")));
    }
    assert_eq!(Schema::generic().version, 1);
}

#[test]
fn each_platform_is_understood() {
    let livekit = json!({"event": "participant_left", "id": "EV_1", "createdAt": "1732538000", "room": {"name": "call-1"},
        "participant": {"identity": "sip_+1555", "attributes": {"sip.callID": "SCL_1", "sip.callIDFull": "abc@livekit", "sip.h.x-offhook-call": "0196"}}});
    let payload = told("livekit", &livekit.to_string());
    assert_eq!((payload.kind.as_str(), payload.call_id.as_str(), payload.id.as_str()), ("call.ended", "0196", "EV_1"));
    assert_eq!(payload.names, ["abc@livekit", "SCL_1"]);
    assert_eq!(payload.time, Wall::from_millis(1_732_538_000_000));
    assert_eq!(read("livekit", r#"{"event": "room_started"}"#), Reading::Nothing);

    let twilio = "CallSid=CA1&CallStatus=no-answer&Timestamp=Mon%2C+25+Nov+2024+12%3A33%3A20+%2B0000&From=%2B1555";
    let payload = told("twilio", twilio);
    assert_eq!((payload.kind.as_str(), payload.call_id.as_str(), payload.id.as_str()), ("call.failed", "CA1", ""));
    assert_eq!(payload.time, Wall::from_millis(1_732_538_000_000));

    let vapi = json!({"message": {"type": "end-of-call-report", "timestamp": 1_732_538_000_123_u64, "call": {"id": "v1"}, "artifact": {"transcript": "AI: hello"},
        "analysis": {"summary": "He paid.", "successEvaluation": "true", "structuredData": {"disposition_code": "PAID"}}}});
    let payload = told("vapi", &vapi.to_string());
    assert_eq!((payload.call_id.as_str(), payload.time), ("v1", Wall::from_millis(1_732_538_000_123)));
    assert_eq!(
        Value::Object(payload.data),
        json!({"transcript": "AI: hello", "call_summary": "He paid.", "call_outcome": "true", "disposition_code": "PAID"})
    );

    let retell = json!({"event": "call_analyzed", "call": {"call_id": "r1", "metadata": {"offhook_call": "0196"},
        "call_analysis": {"call_summary": "s", "user_sentiment": "Negative", "custom_analysis_data": {"disposition_code": "REFUSED"}}}});
    let payload = told("retell", &retell.to_string());
    assert_eq!(
        (payload.kind.as_str(), payload.names.as_slice(), payload.time),
        ("transcription.complete", &["r1".to_owned()][..], Wall::from_millis(7))
    );
    assert_eq!((&payload.data["sentiment_score"], &payload.data["disposition_code"]), (&json!(-1), &json!("REFUSED")));
}

#[test]
fn our_own_id_comes_first_in_whatever_case_the_header_is_passed_on() {
    for (schema, payload) in [
        (
            "livekit",
            json!({"event": "participant_left", "id": "1", "createdAt": 1, "participant": {"attributes": {"sip.callID": "theirs", "sip.h.X-Offhook-Call": "ours"}}}),
        ),
        ("retell", json!({"event": "call_ended", "call": {"call_id": "theirs", "custom_sip_headers": {"x-offhook-call": "ours"}}})),
        (
            "vapi",
            json!({"message": {"type": "end-of-call-report", "call": {"id": "theirs", "phoneCallProviderDetails": {"sip": {"headers": {"X-Offhook-Call": "ours"}}}}}}),
        ),
    ] {
        let payload = told(schema, &payload.to_string());
        assert_eq!((payload.call_id.as_str(), payload.names.as_slice()), ("ours", &["theirs".to_owned()][..]), "{schema}");
    }
    let twilio = told("twilio", "CallSid=theirs&CallStatus=completed&SipHeader_X-Offhook-Call=ours");
    assert_eq!((twilio.call_id.as_str(), twilio.names.as_slice()), ("ours", &["theirs".to_owned()][..]));
}

/// The documents of GET requests, as each platform documents them; its webhooks bear the name that is asked by.
#[test]
fn what_an_api_answers_is_understood_and_told_to_the_call_that_was_asked_for() {
    let ours: CallId = "019b8d99-6ce8-7000-8000-000000000001".parse().expect("a call id");
    let at = Wall::from_millis(7);
    let read = |schema: &str, body: Value| Schema::shipped(schema).expect("shipped").read_document(body.to_string().as_bytes(), ours, at);
    let told = |schema: &str, body: Value| match read(schema, body) {
        Reading::Told(payload, odd) => {
            assert_eq!((odd, payload.call_id.clone(), payload.id.as_str(), payload.time), (vec![], ours.to_string(), "", at), "{schema}");
            payload
        }
        other => panic!("{schema}: {other:?}"),
    };
    let vapi = told(
        "vapi",
        json!({"id": "v1", "status": "ended", "endedReason": "customer-ended-call", "artifact": {"transcript": "AI: hello"},
            "analysis": {"summary": "He paid.", "successEvaluation": "true", "structuredData": {"disposition_code": "PAID"}}}),
    );
    assert_eq!(
        (vapi.kind.as_str(), vapi.also, vapi.names),
        ("call.ended", vec!["transcription.complete".to_owned()], vec!["v1".to_owned()])
    );
    assert_eq!(
        Value::Object(vapi.data),
        json!({"transcript": "AI: hello", "call_summary": "He paid.", "call_outcome": "true", "disposition_code": "PAID"})
    );
    assert_eq!(read("vapi", json!({"id": "v1", "status": "forwarding"})), Reading::Nothing);

    let retell = told(
        "retell",
        json!({"call_id": "r1", "call_status": "ended", "transcript": "Agent: hi", "call_analysis": {"call_summary": "s", "user_sentiment": "Negative",
            "custom_analysis_data": {"disposition_code": "REFUSED"}}}),
    );
    assert_eq!((retell.kind.as_str(), retell.also.as_slice()), ("call.ended", &["transcription.complete".to_owned()][..]));
    assert_eq!((&retell.data["sentiment_score"], &retell.data["disposition_code"]), (&json!(-1), &json!("REFUSED")));
    let early = told("retell", json!({"call_id": "r1", "call_status": "ended", "transcript": "Agent: hi"}));
    assert_eq!(early.also, Vec::<String>::new(), "no analysis yet");
    assert_eq!(told("retell", json!({"call_id": "r1", "call_status": "not_connected"})).kind, "call.failed");

    assert_eq!(told("twilio", json!({"sid": "CA1", "status": "no-answer", "duration": "0"})).kind, "call.failed");
    assert_eq!(read("twilio", json!({"sid": "CA1", "status": "in-progress"})), Reading::Nothing);
    // What has no part of its own is what a webhook is, without the id that a webhook may bear too.
    let generic = read("generic", json!({"id": "e1", "type": "call.ended", "call_id": "c", "data": {"intent": "buy"}}));
    assert!(matches!(generic, Reading::Told(Payload { id, data, .. }, odd) if id.is_empty() && data["intent"] == "buy" && odd.is_empty()));

    let webhook = |schema: &str, body: &str| self::told(schema, body).asked_as;
    assert_eq!(webhook("vapi", r#"{"message": {"type": "status-update", "call": {"id": "v1"}}}"#), Some("v1".into()));
    assert_eq!(
        webhook("retell", r#"{"event": "call_started", "call": {"call_id": "r1", "metadata": {"offhook_call": "0196"}}}"#),
        Some("r1".into())
    );
    assert_eq!(webhook("twilio", "CallSid=CA1&CallStatus=ringing&SipHeader_X-Offhook-Call=ours"), Some("CA1".into()));

    let tells = |schema: &str, what: &str| Schema::shipped(schema).expect("shipped").pull_tells(what);
    assert!(tells("retell", "transcription.complete") && tells("vapi", "disposition_code") && tells("generic", "custom.lead"));
    assert!(!tells("twilio", "disposition_code") && tells("twilio", "call.failed") && !tells("vapi", "custom.lead"));
}

#[test]
fn the_generic_schema_takes_what_is_custom() {
    let payload = told(
        "generic",
        r#"{"id": "1", "type": "custom.lead.scored", "call_id": "c", "data": {"intent": "buy", "card": "4111", "call_summary": null}}"#,
    );
    assert_eq!(
        (payload.kind.as_str(), payload.data.keys().map(String::as_str).collect::<Vec<_>>()),
        ("custom.lead.scored", vec!["intent"])
    );
}

#[test]
fn what_cannot_be_read_says_why() {
    let why = |body: &str| match read("generic", body) {
        Reading::Unreadable(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(why("<xml/>").contains("no JSON"));
    assert!(why("{}").contains("/type holds no type"));
    assert!(why(r#"{"type": "call.ended"}"#).contains("/call_id names a call"));
    assert!(why(r#"{"type": "call.ended", "call_id": "1", "time": "yesterday"}"#).contains("\"yesterday\" is no time"));
    assert_eq!(read("generic", r#"{"type": "call.dreamt", "call_id": "1"}"#), Reading::Unknown("call.dreamt".into()));
}

#[test]
fn what_is_odd_about_a_payload_is_named() {
    let odd = |schema: &str, body: &str| match read(schema, body) {
        Reading::Told(_, odd) => odd.into_iter().map(|o| (o.field, o.what, o.found.unwrap_or_default())).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let analysis = |analysis: Value| json!({"event": "call_analyzed", "call": {"call_id": "r1", "call_analysis": analysis}}).to_string();
    assert_eq!(odd("retell", &analysis(json!({"user_sentiment": "Unknown", "call_summary": null}))), []);
    assert_eq!(odd("retell", &analysis(json!({"user_sentiment": "Mixed"}))), [("sentiment_score".into(), What::Value, "Mixed".into())]);
    assert_eq!(odd("retell", &analysis(json!({"user_sentiment": ["Positive"]}))), [("sentiment_score".into(), What::Type, "list".into())]);
    assert_eq!(odd("retell", &analysis(json!({"call_summary": {"text": "s"}}))), [("call_summary".into(), What::Type, "object".into())]);
    let generic = |data: Value| json!({"type": "call.ended", "call_id": "c", "data": data}).to_string();
    assert_eq!(odd("generic", &generic(json!({"sentiment_score": "0.7", "entities": [], "next_action_date": "2026-01-05"}))), []);
    assert_eq!(
        odd("generic", &generic(json!({"sentiment_score": "good", "entities": "PO 7"}))),
        [("entities".into(), What::Type, "text".into()), ("sentiment_score".into(), What::Type, "text".into())]
    );
    let left = |more: &str| format!(r#"{{"event": "participant_left", "participant": {{"attributes": {{"sip.callID": "SCL_1"}}}}{more}}}"#);
    assert_eq!(odd("livekit", &left(r#", "id": "EV_1", "createdAt": "1732538000""#)), []);
    assert_eq!(odd("livekit", &left(r#", "createdAt": "1732538000""#)), [("id".into(), What::Vanished, String::new())]);
}

#[test]
fn a_schema_that_cannot_work_is_named() {
    let text = r#"
        schema = "x"
        version = 1
        type = "event"
        call = []
        [event.a]
        as = "call.vanished"
        always = ["id", "transcript"]
        data = { mood = "/m" }
        [pull]
        url = "https://api.example.com/call"
        type = "/s"
        id = "call.id"
        [pull.event.b]
        as = "call.ended"
        also = { "call.analysed" = "/a" }
    "#;
    let faults = toml::from_str::<Schema>(text).expect("a schema").faults().join("\n");
    for part in [
        "\"event\" is no JSON pointer",
        "call: is empty",
        "call.vanished",
        "no `mood`",
        "\"id\" stands nowhere",
        "\"transcript\" stands nowhere",
        "pull.url: has no {id}",
        "pull.id: \"call.id\" is no JSON pointer",
        "pull.event.b.also: \"call.analysed\" is none of",
    ] {
        assert!(faults.contains(part), "{part}: {faults}");
    }
}

#[test]
fn a_pointer_is_followed_as_rfc_6901_has_it() {
    let body: Value =
        serde_json::from_str(r#"{"a": {"b": [1, {"c": 2}, null], "": 3, "0": 4}, "x/y": 5, "m~n": 6, "": {"": 7}}"#).expect("JSON");
    for pointer in [
        "/a", "/a/b", "/a/b/0", "/a/b/1/c", "/a/b/2", "/a/b/3", "/a/b/01", "/a/b/00", "/a/b/+1", "/a/b/-", "/a/b/-1", "/a/b/", "/a/",
        "/a/0", "/x~1y", "/m~0n", "/m~n", "/x/y", "/", "//", "/a/b/c", "/a/b/0/c", "/nothing",
    ] {
        assert_eq!(find(&body, pointer), body.pointer(pointer), "{pointer}");
    }
}
