//! The platform dies in mid-call, and so does what should have taken over.

use super::{Cast, Error, Expected, PATIENCE, Played, RING, Stage, heard_untouched, meet};
use crate::{
    codec::Codec,
    driver::demo::{
        phone::{self, Keying, digits_heard},
        report::Check,
        speech::Speech,
    },
    event::{DtmfMethod, EndedAs, Outcome},
};

/// Its name in the report.
const SCENARIO: &str = super::Scenario::Failed.name();

pub(super) async fn play(cast: &mut Cast, stage: &Stage) -> Result<Played, Error> {
    let (question, answer) = (Speech::named("caller-order")?, Speech::named("platform-order")?);
    let agent = cast.agent("aria")?;
    meet(cast, agent, stage, RING).await?;
    cast.now(stage, "caller and platform talk");
    cast.caller.say(&question).await;
    cast.caller.key("5", Keying::Info).await?;
    agent.say(&answer).await;
    let keys = digits_heard(&agent.heard(), agent.state().agreed.and_then(|a| a.events).unwrap_or(0));
    let name = agent.name().to_owned();
    let agent = cast.agents.first_mut().ok_or_else(|| phone::Error::Gone(name.clone()))?;
    stage.progress.now(SCENARIO, "the platform is killed; does the gateway notice?");
    agent.kill();
    let killed = tokio::time::Instant::now();
    let ended = cast.caller.ended(PATIENCE).await?;
    let after = killed.elapsed().as_millis();
    let agent = cast.agent("aria")?;
    Ok(Played {
        expected: Expected {
            outcome: Outcome::Answered,
            ended_as: EndedAs::Failed,
            terminal: "call.failed",
            target: name,
            codecs: (Codec::Pcma, Codec::Pcma),
            dtmf: (DtmfMethod::Info, DtmfMethod::Rfc4733),
            disposition: "FAILED — NO DISPOSITION",
            review: true,
            digits: Some("5".into()),
            summary: None,
        },
        checks: vec![
            Check::new(
                "the gateway ended the caller's leg with a Reason",
                ended.reason.is_some(),
                ended.reason.unwrap_or_else(|| "no Reason in the BYE".into()),
            ),
            Check::new("it noticed by itself", !ended.by_me, format!("BYE {after} ms after the kill")),
            Check::equal("a key by INFO reached the platform as RFC 4733", keys, "5"),
            heard_untouched("the platform heard the caller until then, payloads untouched", agent, &question, 8),
        ],
    })
}
