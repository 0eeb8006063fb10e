//! The four transaction machines (RFC 3261 §17, as amended by RFC 6026), each one `match` over state and input.
//!
//! A machine holds no message: it says [`Do`], and the endpoint, which holds them, does it. Over a reliable transport nothing is
//! resent and what only absorbs retransmissions ends at once.

use std::time::Duration;

use crate::time::Instant;

/// Round-trip estimate (RFC 3261 §17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);
/// Longest interval between retransmissions of a non-INVITE request or an INVITE response.
pub const T2: Duration = Duration::from_secs(4);
/// Longest life of a message in the network.
pub const T4: Duration = Duration::from_secs(5);
/// 64*T1: timers B, F, H, J, L, M.
pub const LIFE: Duration = Duration::from_secs(32);
/// Timer D: at least 32 s over UDP.
const D: Duration = Duration::from_secs(32);

/// What happened to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A response came (client) or is to be sent (server), by its status.
    Response(u16),
    /// The request came again (server).
    Request,
    /// An ACK came (INVITE server).
    Ack,
    /// A deadline of the state has passed.
    Timer,
}

/// What the endpoint has to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Nothing.
    Nothing,
    /// Send the request again (client), or the last response (server).
    Resend,
    /// Hand the response to whoever asked (client), or send it (server).
    Pass,
    /// Hand the response on and acknowledge it (client, non-2xx to INVITE: §17.1.1.3).
    PassAndAck,
    /// Acknowledge it again (client).
    Ack,
    /// Acknowledge the 2xx again, with the dialog's own ACK (client, §13.2.2.4).
    AckAgain,
    /// No answer in time (client), or no ACK (server).
    TimedOut,
}

/// The state of a transaction, with its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // what its times are for stands on each variant
pub enum State {
    /// INVITE client, nothing heard: Timer A resends over UDP, Timer B gives up (§17.1.1.2).
    Calling { resend: Option<Resend>, until: Instant },
    /// INVITE client, a provisional was heard: no deadline of its own.
    Ringing,
    /// INVITE client after a non-2xx: absorbs its retransmissions until Timer D.
    Refused { until: Instant },
    /// INVITE client after a 2xx: passes on 2xx of other branches, re-ACKs the same until Timer M (RFC 6026 §7.2).
    Taken { until: Instant },
    /// Non-INVITE client: Timer E resends, Timer F gives up (§17.1.2.2).
    Trying { resend: Option<Resend>, until: Instant },
    /// Non-INVITE client after its answer: absorbs retransmissions until Timer K.
    Answered { until: Instant },
    /// INVITE server without a final response.
    Proceeding,
    /// INVITE server after a non-2xx: Timer G resends it, Timer H gives up (§17.2.1).
    Completed { resend: Option<Resend>, until: Instant },
    /// INVITE server after the ACK: absorbs more ACKs until Timer I.
    Confirmed { until: Instant },
    /// INVITE server after a 2xx, resent until the ACK (§13.3.1.4) and no longer than Timer L (RFC 6026 §7.1).
    Accepted { resend: Resend, until: Instant },
    /// INVITE server whose 2xx was acknowledged: absorbs repeated INVITEs until Timer L.
    Acknowledged { until: Instant },
    /// Non-INVITE server without a final response.
    Pending,
    /// Non-INVITE server after it: repeats it until Timer J.
    Done { until: Instant },
    /// Over.
    Terminated,
}

/// When to send again, and how long after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resend {
    at: Instant,
    interval: Duration,
}

impl Resend {
    fn first(now: Instant) -> Self {
        Self { at: now + T1, interval: T1 }
    }

    /// Twice as long each time, up to `longest`.
    fn next(self, now: Instant, longest: Duration) -> Self {
        let interval = (self.interval * 2).min(longest);
        Self { at: now + interval, interval }
    }
}

impl State {
    /// Whether something is still to come; the others only absorb what the network repeats.
    pub const fn is_active(self) -> bool {
        match self {
            Self::Calling { .. }
            | Self::Ringing
            | Self::Trying { .. }
            | Self::Proceeding
            | Self::Completed { .. }
            | Self::Accepted { .. }
            | Self::Pending => true,
            Self::Refused { .. }
            | Self::Taken { .. }
            | Self::Answered { .. }
            | Self::Confirmed { .. }
            | Self::Acknowledged { .. }
            | Self::Done { .. }
            | Self::Terminated => false,
        }
    }

    /// A client transaction whose request was just sent.
    pub fn client(now: Instant, invite: bool, reliable: bool) -> Self {
        let resend = (!reliable).then(|| Resend::first(now));
        if invite { Self::Calling { resend, until: now + LIFE } } else { Self::Trying { resend, until: now + LIFE } }
    }

    /// A server transaction whose request just came.
    pub fn server(invite: bool) -> Self {
        if invite { Self::Proceeding } else { Self::Pending }
    }

    /// When it wants [`Input::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        match *self {
            Self::Calling { resend, until } | Self::Trying { resend, until } | Self::Completed { resend, until } => {
                Some(resend.map_or(until, |r| r.at.min(until)))
            }
            Self::Accepted { resend, until } => Some(resend.at.min(until)),
            Self::Refused { until } | Self::Taken { until } | Self::Answered { until } | Self::Confirmed { until } => Some(until),
            Self::Acknowledged { until } | Self::Done { until } => Some(until),
            Self::Ringing | Self::Proceeding | Self::Pending | Self::Terminated => None,
        }
    }

    /// The next state, and what to do.
    #[must_use]
    pub fn step(self, now: Instant, reliable: bool, input: Input) -> (Self, Do) {
        // What only absorbs retransmissions is not needed over a reliable transport.
        let absorb = |how_long: Duration| if reliable { now } else { now + how_long };
        match (self, input) {
            // §17.1.1: INVITE client
            (Self::Calling { .. }, Input::Response(100..=199)) => (Self::Ringing, Do::Pass),
            (Self::Ringing, Input::Response(100..=199)) => (self, Do::Pass),
            (Self::Calling { .. } | Self::Ringing, Input::Response(200..=299)) => (Self::Taken { until: now + LIFE }, Do::Pass),
            (Self::Calling { .. } | Self::Ringing, Input::Response(_)) => (Self::Refused { until: absorb(D) }, Do::PassAndAck),
            (Self::Refused { .. }, Input::Response(300..)) => (self, Do::Ack),
            (Self::Taken { .. }, Input::Response(200..=299)) => (self, Do::AckAgain),
            (Self::Calling { until, .. }, Input::Timer) if now >= until => (Self::Terminated, Do::TimedOut),
            // Timer A doubles without a bound (§17.1.1.2).
            (Self::Calling { resend: Some(resend), until }, Input::Timer) if now >= resend.at => {
                (Self::Calling { resend: Some(resend.next(now, LIFE)), until }, Do::Resend)
            }
            // §17.1.2: non-INVITE client
            (Self::Trying { resend, until }, Input::Response(100..=199)) => {
                // In Proceeding Timer E runs at T2.
                (Self::Trying { resend: resend.map(|r| Resend { interval: T2, ..r }), until }, Do::Pass)
            }
            (Self::Trying { .. }, Input::Response(_)) => (Self::Answered { until: absorb(T4) }, Do::Pass),
            (Self::Trying { until, .. }, Input::Timer) if now >= until => (Self::Terminated, Do::TimedOut),
            (Self::Trying { resend: Some(resend), until }, Input::Timer) if now >= resend.at => {
                (Self::Trying { resend: Some(resend.next(now, T2)), until }, Do::Resend)
            }
            // §17.2.1: INVITE server
            (Self::Proceeding, Input::Request) => (self, Do::Resend),
            (Self::Proceeding, Input::Response(100..=199)) => (self, Do::Pass),
            (Self::Proceeding, Input::Response(200..=299)) => {
                // A 2xx is resent over reliable transports too: it goes hop by hop, its ACK end to end (§13.3.1.4).
                (Self::Accepted { resend: Resend::first(now), until: now + LIFE }, Do::Pass)
            }
            (Self::Proceeding, Input::Response(_)) => {
                (Self::Completed { resend: (!reliable).then(|| Resend::first(now)), until: now + LIFE }, Do::Pass)
            }
            (Self::Completed { .. }, Input::Request) => (self, Do::Resend),
            (Self::Completed { .. }, Input::Ack) => (Self::Confirmed { until: absorb(T4) }, Do::Nothing),
            // Without an ACK to a refusal nothing is left to do: the peer has gone (Timer H).
            (Self::Completed { until, .. }, Input::Timer) if now >= until => (Self::Terminated, Do::Nothing),
            (Self::Completed { resend: Some(resend), until }, Input::Timer) if now >= resend.at => {
                (Self::Completed { resend: Some(resend.next(now, T2)), until }, Do::Resend)
            }
            // RFC 6026 §7.1: a repeated INVITE is absorbed, the 2xx has its own timer.
            (Self::Accepted { until, .. }, Input::Ack) => (Self::Acknowledged { until }, Do::Pass),
            (Self::Accepted { until, .. }, Input::Timer) if now >= until => (Self::Terminated, Do::TimedOut),
            (Self::Accepted { resend, until }, Input::Timer) if now >= resend.at => {
                (Self::Accepted { resend: resend.next(now, T2), until }, Do::Resend)
            }
            // §17.2.2: non-INVITE server
            (Self::Pending, Input::Response(100..=199)) => (self, Do::Pass),
            (Self::Pending, Input::Response(_)) => (Self::Done { until: absorb(LIFE) }, Do::Pass),
            (Self::Pending | Self::Done { .. }, Input::Request) => (self, Do::Resend),
            // Timers D, K, I, J, L, M
            (Self::Refused { until } | Self::Taken { until } | Self::Answered { until } | Self::Confirmed { until }, Input::Timer)
            | (Self::Acknowledged { until } | Self::Done { until }, Input::Timer)
                if now >= until =>
            {
                (Self::Terminated, Do::Nothing)
            }
            (state, _) => (state, Do::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Runs the timers alone and lists when something is done.
    fn ladder(mut state: State, reliable: bool) -> Vec<(u64, Do)> {
        let mut seen = Vec::new();
        while let Some(deadline) = state.deadline() {
            let (next, what) = state.step(deadline, reliable, Input::Timer);
            seen.push((deadline.as_micros() / 1000, what));
            state = next;
        }
        seen
    }

    #[test]
    fn an_unanswered_invite_is_sent_seven_times_and_given_up_after_32_s() {
        let times = ladder(State::client(at(0), true, false), false);
        let resent: Vec<u64> = times.iter().filter(|(_, d)| *d == Do::Resend).map(|(t, _)| *t).collect();
        assert_eq!(resent, [500, 1500, 3500, 7500, 15_500, 31_500]);
        assert_eq!(times.last(), Some(&(32_000, Do::TimedOut)));
    }

    #[test]
    fn a_provisional_stops_timer_a() {
        let (state, what) = State::client(at(0), true, false).step(at(700), false, Input::Response(180));
        assert_eq!((what, state.deadline()), (Do::Pass, None));
    }

    #[test]
    fn an_unanswered_bye_is_resent_up_to_every_four_seconds() {
        let times = ladder(State::client(at(0), false, false), false);
        let resent: Vec<u64> = times.iter().filter(|(_, d)| *d == Do::Resend).map(|(t, _)| *t).collect();
        assert_eq!(resent, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert_eq!(ladder(State::client(at(0), false, true), true), [(32_000, Do::TimedOut)]);
    }

    #[test]
    fn a_2xx_is_resent_until_its_ack_over_tcp_too() {
        let (state, _) = State::server(true).step(at(0), true, Input::Response(200));
        assert_eq!(ladder(state, true).last(), Some(&(32_000, Do::TimedOut)));
        let (state, what) = state.step(at(600), true, Input::Ack);
        assert_eq!(what, Do::Pass);
        assert_eq!(ladder(state, true), [(32_000, Do::Nothing)]);
        assert_eq!(state.step(at(700), true, Input::Ack).1, Do::Nothing);
    }

    #[test]
    fn a_refusal_is_acknowledged_each_time_it_comes() {
        let (state, what) = State::client(at(0), true, false).step(at(10), false, Input::Response(486));
        assert_eq!(what, Do::PassAndAck);
        assert_eq!(state.step(at(20), false, Input::Response(486)), (state, Do::Ack));
        assert_eq!(ladder(state, false), [(32_010, Do::Nothing)]);
    }

    #[test]
    fn a_repeated_request_gets_the_last_response_again() {
        let (state, _) = State::server(false).step(at(0), false, Input::Response(200));
        assert_eq!(state.step(at(5), false, Input::Request).1, Do::Resend);
        let (state, _) = State::server(true).step(at(0), false, Input::Response(404));
        assert_eq!(state.step(at(5), false, Input::Request).1, Do::Resend);
        assert_eq!(state.step(at(6), false, Input::Ack).0, State::Confirmed { until: at(5006) });
    }
}
