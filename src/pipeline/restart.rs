//! Calls that were open when the process died get their terminal event at the next start.

use super::store::{Store, StoreError};
use crate::{
    event::{EndedAs, EndedBy, Event, Kind, Outcome, Terminal},
    time::Wall,
};

/// The events that close what `store`, with the whole journal folded, still has open.
pub fn close_open_calls(store: &impl Store, now: Wall) -> Result<Vec<Event>, StoreError> {
    let close = |record: super::Record| {
        let since = |earlier: Option<Wall>, later: Wall| earlier.map_or(0, |e| later.as_millis().saturating_sub(e.as_millis()));
        let answered = record.answered_at();
        let last_seen = record.last_event_at().unwrap_or(now);
        let terminal = Terminal {
            outcome: if answered.is_some() { Outcome::Answered } else { Outcome::Failed },
            outcome_table: None,
            ended_as: EndedAs::Failed,
            ended_by: EndedBy::Gateway,
            reason: Some("gateway_restart".into()),
            sip_status: None,
            ring_ms: answered.map(|at| since(record.started_at, at)),
            // Nobody saw its end; until its last event it surely lived.
            talk_ms: since(answered, last_seen.max(answered.unwrap_or(last_seen))).max(0),
            secure_ms: 0,
            omitted: 0,
        };
        Event {
            call_id: record.call_id,
            sequence: record.last_sequence().saturating_add(1),
            time: now,
            at_ms: since(record.started_at, now),
            kind: Kind::Failed(terminal),
        }
    };
    Ok(store.open()?.into_iter().map(close).collect())
}
