//! A reference number that must arrive, and a card number that must not.

use serde_json::json;

use super::{Cast, Error, Expected, PATIENCE, Played, RING, Stage, meet};
use crate::{
    codec::Codec,
    driver::demo::{
        card::Card,
        now,
        phone::{Keying, digits_heard},
        report::Check,
        speech::Speech,
    },
    event::{DtmfMethod, EndedAs, Outcome},
};

/// What the caller is asked for first.
const REFERENCE: &str = "2047815";

pub(super) async fn play(cast: &Cast, stage: &Stage, card: impl FnOnce() -> Card + Send) -> Result<(Played, Card), Error> {
    let agent = cast.agent("aria")?;
    let id = meet(cast, agent, stage, RING).await?;
    cast.now(stage, "caller and platform talk");
    cast.caller.say(&Speech::named("caller-invoice")?).await;
    agent.say(&Speech::named("platform-reference")?).await;
    cast.now(stage, "the caller keys a reference number");
    cast.caller.key(&format!("{REFERENCE}#"), Keying::Rfc4733).await?;

    let switch = |value: &str| vec![("X-Offhook-Secure".to_owned(), value.to_owned())];
    let started = agent.info(switch("start;reason=payment"), None).await?;
    agent.say(&Speech::named("platform-card")?).await;
    cast.now(stage, "secure phase: the caller keys a card number");
    let card = card();
    // Half of it as each phone might send it, with its tones audible either way.
    let (first, second) = card.digits().split_at(card.digits().len() / 2);
    cast.caller.key(first, Keying::Rfc4733).await?;
    cast.caller.key(second, Keying::Info).await?;
    let ended = agent.info(switch("end"), None).await?;

    cast.now(stage, "the secure phase is over; they talk");
    agent.say(&Speech::named("platform-paid")?).await;
    agent.hang_up().await?;
    cast.caller.ended(PATIENCE).await?;
    let summary = "Invoice paid by card";
    stage.tell("call.ended", &id, now().wall, json!({"disposition_code": "RESOLVED", "call_summary": summary})).await?;

    let events = agent.state().agreed.and_then(|a| a.events).unwrap_or(0);
    let keys = digits_heard(&agent.heard(), events);
    let by_info = agent.state().info_keys;
    let hidden = !card.is_in(&keys) && !card.is_in(&by_info);
    let played = Played {
        expected: Expected {
            outcome: Outcome::Answered,
            ended_as: EndedAs::Completed,
            terminal: "call.ended",
            target: agent.name().into(),
            codecs: (Codec::Pcmu, Codec::Pcma),
            dtmf: (DtmfMethod::Rfc4733, DtmfMethod::Rfc4733),
            disposition: "RESOLVED",
            review: false,
            digits: Some(REFERENCE.into()),
            summary: Some(summary),
        },
        checks: vec![
            Check::new(
                "the secure phase was confirmed, and its end",
                started == 200 && ended == 200,
                format!("INFO start {started}, INFO end {ended}"),
            ),
            Check::new(
                "the platform heard the reference number's keys and none of the card's",
                keys.starts_with(REFERENCE) && hidden && keys.len() <= REFERENCE.len() + 1,
                format!("{} keys heard by RFC 4733, {} by INFO", keys.len(), by_info.len()),
            ),
        ],
    };
    Ok((played, card))
}
