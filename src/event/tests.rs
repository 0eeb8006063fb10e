use proptest::{option, prelude::*};

use super::*;

#[test]
fn a_cloudevent_reads_back_as_the_event_it_was() {
    let event = Event {
        call_id: "01960000-0000-7000-8000-000000000001".parse().expect("a call id"),
        sequence: 3,
        time: Wall::from_millis(1_767_607_200_123),
        at_ms: 9120,
        kind: Kind::Dtmf {
            leg: Leg::Caller,
            digits: Some("12#".into()),
            count: None,
            method: DtmfMethod::Rfc4733,
            from_ms: 9000,
            to_ms: 9120,
        },
    };
    let json = event.to_cloudevent();
    assert_eq!(json["type"], "call.dtmf");
    assert_eq!(json["data"]["at_ms"], 9120);
    assert_eq!(json["data"]["call_id"], json["subject"]);
    assert_eq!(Event::from_cloudevent(json.to_string().as_bytes()).expect("reads back"), event);
}

#[test]
fn a_name_is_the_word_that_is_written() {
    use Outcome::{Answered, Busy, Cancelled, Congestion, Failed, InvalidNumber, Machine, NoAnswer, Rejected};
    for leg in [Leg::Caller, Leg::Callee] {
        assert_eq!(json!(leg), leg.name());
    }
    for outcome in [Answered, Busy, NoAnswer, Rejected, InvalidNumber, Machine, Congestion, Cancelled, Failed] {
        assert_eq!(json!(outcome), outcome.name());
    }
}

fn one<T: Clone + fmt::Debug + 'static>(of: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(of)
}

fn kind() -> impl Strategy<Value = Kind> {
    use Outcome as O;
    let text = || any::<String>();
    let leg = || one(&[Leg::Caller, Leg::Callee]);
    let by = || one(&[SecureBy::Api, SecureBy::Info, SecureBy::Keys, SecureBy::Rule]);
    let sides = || (text(), text()).prop_map(|(trunk, platform)| PerSide { trunk, platform });
    let method = || one(&[DtmfMethod::Rfc4733, DtmfMethod::Info, DtmfMethod::Inband]);
    let methods = (option::of(method()), option::of(method())).prop_map(|(trunk, platform)| PerSide { trunk, platform });
    let outcome =
        || one(&[O::Answered, O::Busy, O::NoAnswer, O::Rejected, O::InvalidNumber, O::Machine, O::Congestion, O::Cancelled, O::Failed]);
    let ended = || {
        (
            one(&[EndedAs::Completed, EndedAs::Transferred, EndedAs::Cancelled, EndedAs::Failed]),
            one(&[EndedBy::Caller, EndedBy::Callee, EndedBy::Gateway]),
        )
    };
    let terminal =
        || {
            (
                (outcome(), option::of(any::<u32>())),
                ended(),
                option::of(text()),
                option::of(any::<u16>()),
                option::of(any::<i64>()),
                any::<(i64, i64, u32)>(),
            )
                .prop_map(
                    |((outcome, outcome_table), (ended_as, ended_by), reason, sip_status, ring_ms, (talk_ms, secure_ms, omitted))| {
                        Terminal { outcome, outcome_table, ended_as, ended_by, reason, sip_status, ring_ms, talk_ms, secure_ms, omitted }
                    },
                )
        };
    let calls = (text(), option::of(text())).prop_map(|(caller, callee)| SipCallIds { caller, callee });
    prop_oneof![
        ([text(), text(), text(), text()], calls).prop_map(|([from, to, trunk, route], sip_call_ids)| Kind::Started {
            from,
            to,
            trunk,
            route,
            sip_call_ids
        }),
        (text(), sides(), methods, any::<i64>(), option::of(text()))
            .prop_map(|(target, codec, dtmf, ring_ms, sip_call_id)| Kind::Answered { target, codec, dtmf, ring_ms, sip_call_id }),
        (leg(), option::of(text()), option::of(any::<u32>()), method(), any::<[i64; 2]>())
            .prop_map(|(leg, digits, count, method, [from_ms, to_ms])| Kind::Dtmf { leg, digits, count, method, from_ms, to_ms }),
        (text(), by(), any::<i64>()).prop_map(|(reason, by, media_ms)| Kind::SecureStarted { reason, by, media_ms }),
        (text(), by(), any::<i64>()).prop_map(|(reason, by, media_ms)| Kind::SecureEnded { reason, by, media_ms }),
        (leg(), text(), any::<[i64; 2]>()).prop_map(|(leg, kind, [from_ms, to_ms])| Kind::Silence { leg, kind, from_ms, to_ms }),
        (text(), leg(), option::of(text())).prop_map(|(to, by, context)| Kind::Transferred { to, by, context }),
        terminal().prop_map(Kind::Failed),
        terminal().prop_map(Kind::Ended),
    ]
}

proptest! {
    #[test]
    fn any_event_reads_back_from_its_octets_and_from_its_value(
        id in any::<u128>(), sequence: u32, ms in -60_000_000_000_000_i64..250_000_000_000_000, at_ms: i64, kind in kind(),
    ) {
        let event = Event { call_id: CallId(Uuid::from_u128(id)), sequence, time: Wall::from_millis(ms), at_ms, kind };
        let json = event.to_cloudevent();
        prop_assert_eq!(&Event::from_cloudevent(json.to_string().as_bytes()).expect("reads back"), &event);
        prop_assert_eq!(&json["id"], &json!(event.id()));
    }
}
