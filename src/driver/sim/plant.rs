//! Faults planted on purpose, to see that the checks find them.

/// A fault planted on purpose: the checks must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// An ACK is sent once only, however often its 2xx comes again.
    LostAckRetransmission,
    /// The store forgets which webhooks it has seen.
    DroppedDedupMark,
    /// Ports of media are never closed.
    LeakedPort,
    /// A CRM write goes out before its attempt is on disk.
    SentBeforeSync,
    /// Media's gate stays open in a secure phase.
    DigitInSecurePhase,
    /// The gateway's timers run on the wall clock.
    TimerOnWallClock,
    /// After a failover media is not told of the new platform.
    StaleTarget,
    /// A terminal event is given a sequence number that is one too high.
    EventOutOfSequence,
    /// A torn tail is not cut off at a start.
    TornEntryTaken,
    /// A terminal event is written twice.
    DoubleTerminal,
}

impl Plant {
    /// All of them: name and sentence.
    pub const ALL: [(Self, &'static str, &'static str); 10] = [
        (Self::LostAckRetransmission, "lost-ack-retransmission", "an ACK is sent once only, however often its 2xx comes again"),
        (Self::DroppedDedupMark, "dropped-dedup-mark", "the store forgets which webhooks it has seen"),
        (Self::LeakedPort, "leaked-port", "ports of media are never closed"),
        (Self::SentBeforeSync, "sent-before-sync", "a CRM write goes out before its attempt is on disk"),
        (Self::DigitInSecurePhase, "digit-in-secure-phase", "media's gate stays open in a secure phase"),
        (Self::TimerOnWallClock, "timer-on-wall-clock", "the gateway's timers run on the wall clock"),
        (Self::StaleTarget, "stale-target", "after a failover media is not told of the new platform"),
        (Self::EventOutOfSequence, "event-out-of-sequence", "a terminal event has a sequence number that is one too high"),
        (Self::TornEntryTaken, "torn-entry-taken", "a torn tail is not cut off at a start"),
        (Self::DoubleTerminal, "double-terminal", "a terminal event is written twice"),
    ];
}
