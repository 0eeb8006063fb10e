//! The gateway's loop: a thread with a runtime of its own, the SIP sockets on it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{Error, Options};
use crate::{
    chance::Chance,
    config::Config,
    event::{CallId, Event},
    journal::{Entry, EntryKind},
    shell::{
        clock::Clock,
        disk::{Lane, Notice},
        http,
        net::{Listener, Net},
        telemetry::{Health, Metrics},
    },
};

/// What the loop is told from outside.
pub(super) enum Order {
    /// Switch a secure phase.
    Secure { call: CallId, on: bool, reason: String, reply: oneshot::Sender<http::Answer> },
    /// No new calls; end within that time, then say so.
    Drain(Duration, oneshot::Sender<()>),
    /// End all calls now.
    EndCalls,
}

/// What the loop works with.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) targets: Vec<SocketAddr>,
    pub(super) options: Options,
    pub(super) chance: Chance,
    pub(super) clock: Clock,
    pub(super) lane: Lane,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Health,
}

/// The loop's handle.
pub(super) struct Signalling {
    pub(super) listeners: Vec<Listener>,
    pub(super) orders: mpsc::Sender<Order>,
}

impl Signalling {
    pub(super) async fn start(
        parts: Parts,
        orders: mpsc::Sender<Order>,
        mut ordered: mpsc::Receiver<Order>,
        _noticed: mpsc::UnboundedReceiver<Notice>,
    ) -> Result<Self, Error> {
        let Parts { config, options, clock, .. } = parts;
        let net = Net::bind(&config.sip.listen, config.sip.tcp_idle, clock, options.tap).await?;
        let listeners = net.listeners().to_vec();
        tokio::spawn(async move {
            let _net = net;
            while let Some(order) = ordered.recv().await {
                match order {
                    Order::Secure { reply, .. } => {
                        drop(reply.send(Err(http::Problem::new(404, "no such call", "GET /v1/calls lists live calls"))))
                    }
                    Order::Drain(_, done) => drop(done.send(())),
                    Order::EndCalls => {}
                }
            }
        });
        Ok(Self { listeners, orders })
    }

    /// No new calls; returns when the last call has ended, at the latest a little after `limit`.
    pub(super) async fn drain(self, limit: Duration) {
        let (done, ended) = oneshot::channel();
        if self.orders.send(Order::Drain(limit, done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}

/// An event as the journal keeps it.
pub(super) fn entry(event: &Event) -> Entry {
    let body = event.to_cloudevent().to_string().into_bytes();
    Entry { kind: EntryKind::Event, time: event.time, id: event.id(), key: event.call_id.to_string(), body }
}
