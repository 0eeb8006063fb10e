//! The first platform is down, the second takes the call, and the caller has to go.

use super::{Cast, Error, Expected, PATIENCE, Played, RING, Stage, heard_something, meet};
use crate::{
    codec::Codec,
    driver::demo::{report::Check, speech::Speech},
    event::{DtmfMethod, EndedAs, Outcome},
};

pub(super) async fn play(cast: &Cast, stage: &Stage) -> Result<Played, Error> {
    let agent = cast.agent("brio")?;
    let (question, answer) = (Speech::named("caller-parcel")?, Speech::named("platform-parcel")?);
    meet(cast, agent, stage, RING).await?;
    cast.now(stage, "the second platform took the call; they talk");
    tokio::join!(cast.caller.say(&question), agent.say(&answer));
    cast.caller.hang_up().await?;
    agent.ended(PATIENCE).await?;
    // What the caller's phone was told until the answer: ringing, and nothing of a platform that is down.
    let told: Vec<String> = cast
        .caller
        .seen()
        .iter()
        .filter_map(|s| std::str::from_utf8(&s.bytes).ok()?.lines().next()?.strip_prefix("SIP/2.0 ").map(str::to_owned))
        .take_while(|status| !status.starts_with('2'))
        .collect();
    Ok(Played {
        expected: Expected {
            outcome: Outcome::Answered,
            ended_as: EndedAs::Completed,
            terminal: "call.ended",
            target: agent.name().into(),
            codecs: (Codec::G722, Codec::Pcmu),
            dtmf: (DtmfMethod::Rfc4733, DtmfMethod::Info),
            disposition: "NO_DISPOSITION",
            review: true,
            digits: None,
            summary: None,
        },
        checks: vec![
            Check::new("the caller heard ringing, and nothing of the failover", told.iter().all(|s| s.starts_with('1')), told.join(", ")),
            heard_something("the platform heard the caller, G722 made PCMU", agent, &question),
            heard_something("the caller heard the platform, PCMU made G722", &cast.caller, &answer),
        ],
    })
}
