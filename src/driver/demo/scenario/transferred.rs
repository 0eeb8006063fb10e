//! The platform hands the caller to a human.

use serde_json::json;

use super::{Cast, Error, Expected, PATIENCE, Played, RING, Stage, heard_something, meet};
use crate::{
    codec::Codec,
    driver::demo::{
        now,
        phone::{self, Keying},
        report::Check,
        speech::Speech,
    },
    event::{DtmfMethod, EndedAs, Outcome},
};

/// What the platform knows and the human should not have to ask again: "contract 48151" in hexadecimal (RFC 7433 §4.1).
const CONTEXT: &str = "636f6e7472616374203438313531;encoding=hex";

pub(super) async fn play(cast: &Cast, stage: &Stage) -> Result<Played, Error> {
    let agent = cast.agent("brio")?;
    let human = cast.human.as_ref().ok_or_else(|| phone::Error::Gone("anna".into()))?;
    let (question, answer, greeting) =
        (Speech::named("caller-contract")?, Speech::named("platform-contract")?, Speech::named("human-contract")?);
    let id = meet(cast, agent, stage, RING).await?;
    cast.now(stage, "caller and platform talk");
    cast.caller.say(&question).await;
    cast.caller.key("1", Keying::Rfc4733).await?;
    agent.say(&answer).await;
    let summary = "Question about the contract; wants a person";
    stage.tell("call.transferred", &id, now().wall, json!({"disposition_code": "TRANSFERRED", "call_summary": summary})).await?;

    cast.now(stage, "the platform hands the caller to a human");
    // RFC 3261 §19.1.1: headers of a URI are escaped.
    let context = CONTEXT.replace(';', "%3B").replace('=', "%3D");
    let refer_to = format!("<{}?User-to-User={context}>", human.uri(false));
    let (accepted, taken) = tokio::join!(agent.refer(&refer_to, Vec::new()), async {
        let headers = human.invited(PATIENCE).await?;
        human.ring_and_answer(RING).await?;
        Ok::<_, phone::Error>(headers)
    });
    let (accepted, headers) = (accepted?, taken?);
    let told = agent.until("a NOTIFY with the result", PATIENCE, |s| s.notified.iter().any(|n| n.contains("200"))).await;
    cast.now(stage, "the human talks");
    human.say(&greeting).await;
    cast.caller.hang_up().await?;
    human.ended(PATIENCE).await?;

    let context = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("User-to-User")).map(|(_, value)| value.clone());
    let keys = agent.state().info_keys;
    Ok(Played {
        expected: Expected {
            outcome: Outcome::Answered,
            ended_as: EndedAs::Transferred,
            terminal: "call.ended",
            target: agent.name().into(),
            codecs: (Codec::Pcma, Codec::G722),
            dtmf: (DtmfMethod::Rfc4733, DtmfMethod::Info),
            disposition: "TRANSFERRED",
            review: false,
            digits: Some("1".into()),
            summary: Some(summary),
        },
        checks: vec![
            Check::new("REFER was accepted", accepted == 202, format!("{accepted}")),
            Check::new(
                "the platform was told that the human answered",
                told.is_ok(),
                told.map_or_else(|e| e.to_string(), |s| s.notified.join(", ")),
            ),
            Check::equal("the context went along", context.unwrap_or_default(), CONTEXT),
            Check::equal("a key by RFC 4733 reached the platform as INFO", keys, "1"),
            heard_something("the platform heard the caller, PCMA made G722", agent, &question),
            heard_something("the caller heard the human, PCMU made PCMA", &cast.caller, &greeting),
        ],
    })
}
