//! The play itself: calls side by side with what the platforms tell of them, a kill in the middle, and the wait until all is calm.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, RwLock},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    DRAIN, Drill, Error,
    phones::Phones,
    scratch::Scratch,
    script::{Story, Told, When},
};
use crate::shell::clock::Clock;

/// What all players reach.
pub(super) struct Stage {
    pub(super) scratch: RwLock<Scratch>,
    pub(super) phones: Arc<Phones>,
    pub(super) sent: AtomicUsize,
    pub(super) acks: Mutex<Vec<Duration>>,
}

impl Stage {
    /// Plays calls side by side, with their webhooks, and kills the gateway in the middle where that is wanted; when it was killed.
    pub(super) async fn play(self: &Arc<Self>, stories: &[Story], kill: Option<Duration>, drill: Drill) -> Result<Option<Instant>, Error> {
        let gateway = self.scratch.read().await.sip;
        if drill == Drill::Burst {
            // A platform keeps its connections; a third of the burst comes at once.
            self.scratch.read().await.connect(stories.len().div_ceil(3)).await;
        }
        let (mut calls, mut tellers) = (JoinSet::new(), JoinSet::new());
        // In a burst the calls end in the same second, and what is told of them comes all at once.
        let spread = match drill {
            Drill::Burst => BURST_MS,
            Drill::Lost => LOST_MS,
            _ => 100,
        };
        // Only a kill keeps a call's end from the platform; anything else is late at most.
        let patience = if matches!(drill, Drill::Chaos | Drill::Batch) { FORGOTTEN } else { DRAIN };
        for (place, story) in stories.iter().enumerate() {
            let (phones, story_of_call) = (Arc::clone(&self.phones), story.clone());
            let begin = Duration::from_millis(u64::try_from(place * spread / stories.len().max(1)).unwrap_or(0));
            calls.spawn(async move {
                sleep(begin).await;
                let Story { from, number, manner, talk, .. } = story_of_call;
                phones.call(gateway, &from, &number, manner, talk).await;
            });
            for told in &story.told {
                tellers.spawn(tell(Arc::clone(self), story.clone(), told.clone(), patience));
            }
        }
        let mut killed = None;
        if let Some(after) = kill {
            sleep(after).await;
            self.scratch.write().await.kill().await;
            killed = Some(Instant::now());
            calls.abort_all();
            self.phones.forget();
            self.scratch.write().await.start().await?;
        }
        while calls.join_next().await.is_some() {}
        while tellers.join_next().await.is_some() {}
        Ok(killed)
    }

    /// Waits until nothing is under way and nothing waits; how the queue stands then.
    pub(super) async fn drain(&self, tell: impl Fn(String)) -> Value {
        let until = Instant::now() + DRAIN;
        let mut next_word = Instant::now() + WORD_EVERY;
        let mut calm = 0;
        loop {
            let scratch = self.scratch.read().await;
            let queue = scratch.queue().await.unwrap_or_default();
            let count = |name: &str| queue.get(name).and_then(Value::as_u64).unwrap_or(1);
            let calls = scratch.metric("offhook_calls_active").await.unwrap_or(1.0);
            let busy = count("queued") + count("in_flight") + count("retrying") > 0 || calls > 0.0;
            // A call's outcome may be waited for without a write in the queue.
            calm = if busy { 0 } else { calm + 1 };
            if calm > 10 || Instant::now() > until {
                return queue;
            }
            drop(scratch);
            if Instant::now() >= next_word {
                next_word += WORD_EVERY;
                let left = until.saturating_duration_since(Instant::now()).as_secs();
                tell(format!("{calls} calls under way; the queue: {queue}; waited for another {left} s at the most"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Campaigns end all the time.
pub(super) async fn ask_for_batches(stage: Arc<Stage>) {
    loop {
        sleep(BATCH_EVERY).await;
        stage.scratch.read().await.run_batch().await;
    }
}

/// A platform tells something, as often as it does, and each time until it is answered 200.
async fn tell(stage: Arc<Stage>, story: Story, told: Told, patience: Duration) {
    let began = Instant::now();
    if let When::At(at) = told.when {
        sleep(at).await;
    }
    let early = !matches!(told.when, When::After(_));
    let call = loop {
        let saw = stage.phones.saw(&story.from);
        match saw.call_id {
            Some(call) if early || saw.over.is_some() || began.elapsed() > patience => break call,
            // Its INVITE never came: the gateway was killed before.
            None if began.elapsed() > patience => return,
            _ => sleep(Duration::from_millis(5)).await,
        }
    };
    if let When::After(after) | When::Early(after) = told.when {
        sleep(after).await;
    }
    let body = json!({"id": told.id, "type": told.kind, "call_id": call, "time": Clock::new().system_wall(), "data": told.data});
    for _ in 0..told.copies {
        loop {
            stage.sent.fetch_add(1, Ordering::Relaxed);
            let asked = Instant::now();
            if stage.scratch.read().await.webhook(&told.id, &body).await {
                stage.acks.lock().await.push(asked.elapsed());
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// How often it is told what is waited for.
const WORD_EVERY: Duration = Duration::from_secs(10);
/// How often what waits for a batch is made due.
const BATCH_EVERY: Duration = Duration::from_millis(700);
/// Calls of a burst begin, and so end, within so many ms.
const BURST_MS: usize = 900;
/// A thousand calls begin within so many ms.
const LOST_MS: usize = 10_000;
/// A call whose end was not seen after so long was cut by a kill.
const FORGOTTEN: Duration = Duration::from_millis(1500);
