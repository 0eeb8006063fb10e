//! A call as it should be.

use serde_json::json;

use super::{Cast, Error, Expected, PATIENCE, Played, RING, Stage, heard_untouched, meet};
use crate::{
    codec::Codec,
    driver::demo::{now, speech::Speech},
    event::{DtmfMethod, EndedAs, Outcome},
};

pub(super) async fn play(cast: &Cast, stage: &Stage) -> Result<Played, Error> {
    let agent = cast.agent("aria")?;
    let (question, answer) = (Speech::named("caller-appointment")?, Speech::named("platform-appointment")?);
    let id = meet(cast, agent, stage, RING).await?;
    cast.now(stage, "caller and platform talk");
    cast.caller.say(&question).await;
    agent.say(&answer).await;
    agent.hang_up().await?;
    cast.caller.ended(PATIENCE).await?;
    cast.now(stage, "the platform posts its webhook");
    let summary = "Appointment moved to Thursday, 10:00";
    stage
        .tell(
            "call.ended",
            &id,
            now().wall,
            json!({"disposition_code": "RESOLVED", "call_summary": summary, "intent": "move appointment", "sentiment_score": 0.8}),
        )
        .await?;
    Ok(Played {
        expected: Expected {
            outcome: Outcome::Answered,
            ended_as: EndedAs::Completed,
            terminal: "call.ended",
            target: agent.name().into(),
            codecs: (Codec::Pcmu, Codec::Pcmu),
            dtmf: (DtmfMethod::Rfc4733, DtmfMethod::Rfc4733),
            disposition: "RESOLVED",
            review: false,
            digits: None,
            summary: Some(summary),
        },
        checks: vec![
            heard_untouched("the platform heard the caller, payloads untouched", agent, &question, 0),
            heard_untouched("the caller heard the platform, payloads untouched", &cast.caller, &answer, 0),
        ],
    })
}
