//! A phone: a real SIP and RTP endpoint on sockets of its own. The demo's caller, its platforms' agents and its human each hold one.
//!
//! [`Phone`] is the hand that presses its buttons; behind it one task owns the SIP sockets ([`line`]) and one the RTP socket ([`voice`]). What
//! it saw and heard stays readable after it was killed, so that checks can look.

mod line;
pub(crate) mod text;
mod voice;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::speech::Speech;
use crate::{chance::Chance, codec::Codec};

use voice::Voice;
pub use voice::{Heard, digits_heard};

/// How a phone is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its name in ladders, and the user part of its address.
    pub name: String,
    /// Address that its sockets are bound to.
    pub bind: IpAddr,
    /// Whether SIP goes over TCP.
    pub tcp: bool,
    /// What it speaks, first choice first.
    pub codecs: Vec<Codec>,
    /// Whether it offers and takes telephone-event.
    pub events: bool,
}

/// How keys are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keying {
    /// Telephone-event packets, with the tones audible under them.
    Rfc4733,
    /// SIP INFO with `application/dtmf-relay`, with the tones audible before it.
    Info,
}

/// A SIP message as it passed a phone's socket.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// Whether over TCP.
    pub tcp: bool,
    /// Whether it was sent by whoever saw it.
    pub sent: bool,
    /// The message.
    pub bytes: Vec<u8>,
}

/// What was agreed on for the audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Codec that is sent.
    pub codec: Codec,
    /// Payload type of telephone-event, where both sides have it.
    pub events: Option<u8>,
}

/// How a call ended for a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether this phone hung up.
    pub by_me: bool,
    /// The Reason header of the other side's BYE.
    pub reason: Option<String>,
}

/// A call as a phone sees it.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Headers of the INVITE that came, by name.
    pub invited: Option<Vec<(String, String)>>,
    /// Whether a 180 or 183 came.
    pub ringing: bool,
    /// Final status other than 2xx of the INVITE that was sent.
    pub refused: Option<u16>,
    /// What the audio is, once the call stands.
    pub agreed: Option<Agreed>,
    /// Whether and how it ended.
    pub ended: Option<Ended>,
    /// Keys that came by INFO.
    pub info_keys: String,
    /// First lines of the sipfrag bodies that came by NOTIFY.
    pub notified: Vec<String>,
}

/// Why a phone did not get where it wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be had.
    #[error("{name}: no socket: {why}")]
    Socket {
        /// Which phone.
        name: String,
        /// What the system says.
        why: io::Error,
    },
    /// The call was refused.
    #[error("{name}: the call was refused with {status}")]
    Refused {
        /// Which phone.
        name: String,
        /// Status.
        status: u16,
    },
    /// The call ended before.
    #[error("{name}: the call ended while waiting for {what}")]
    Ended {
        /// Which phone.
        name: String,
        /// For what.
        what: &'static str,
    },
    /// It took too long.
    #[error("{name}: {what} did not come within {seconds} s")]
    Late {
        /// Which phone.
        name: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// The phone is gone.
    #[error("{0}: the phone is gone")]
    Gone(String),
}

enum Order {
    Dial { gateway: SocketAddr, number: String, from: String, headers: Vec<(String, String)> },
    Ring,
    Answer,
    Refuse(u16),
    Cancel,
    HangUp,
    Info { headers: Vec<(String, String)>, body: Option<(String, String)>, done: oneshot::Sender<u16> },
    Refer { to: String, headers: Vec<(String, String)>, done: oneshot::Sender<u16> },
}

/// The hand on a phone.
#[derive(Debug)]
pub struct Phone {
    name: String,
    address: SocketAddr,
    orders: mpsc::UnboundedSender<Order>,
    state: watch::Receiver<State>,
    voice: Option<Arc<Voice>>,
    heard: voice::Record,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

/// How long anything is waited for that should come at once.
const SOON: Duration = Duration::from_secs(10);

impl Phone {
    /// Binds its sockets and waits for what comes.
    pub async fn start(setup: Setup, mut chance: Chance) -> Result<Self, Error> {
        let socket = |why| Error::Socket { name: setup.name.clone(), why };
        let voice = Arc::new(Voice::start(setup.bind, chance.split()).await.map_err(socket)?);
        let heard = voice.record();
        let seen = Arc::default();
        let (orders, inbox) = mpsc::unbounded_channel();
        let (report, state) = watch::channel(State::default());
        let line = line::Line::bind(setup.clone(), chance, Arc::clone(&voice), Arc::clone(&seen), report).await.map_err(socket)?;
        let address = line.address();
        let task = tokio::spawn(line.run(inbox));
        Ok(Self { name: setup.name, address, orders, state, voice: Some(voice), heard, seen, task })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its SIP address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its SIP address as a URI.
    pub fn uri(&self, tcp: bool) -> String {
        format!("sip:{}@{};transport={}", self.name, self.address, if tcp { "tcp" } else { "udp" })
    }

    /// Calls `number` at `gateway`; returns when the call stands.
    pub async fn dial(&self, gateway: SocketAddr, number: &str, from: &str) -> Result<Agreed, Error> {
        self.order(Order::Dial { gateway, number: number.into(), from: from.into(), headers: Vec::new() })?;
        self.talking(Duration::from_secs(30)).await
    }

    /// Waits until the call stands.
    pub async fn talking(&self, patience: Duration) -> Result<Agreed, Error> {
        let state = self.until("an answer", patience, |s| s.agreed.is_some() || s.refused.is_some()).await?;
        match (state.agreed, state.refused) {
            (Some(agreed), _) => Ok(agreed),
            (None, status) => Err(Error::Refused { name: self.name.clone(), status: status.unwrap_or(0) }),
        }
    }

    /// Waits for an INVITE; returns its headers.
    pub async fn invited(&self, patience: Duration) -> Result<Vec<(String, String)>, Error> {
        let state = self.until("an INVITE", patience, |s| s.invited.is_some()).await?;
        Ok(state.invited.unwrap_or_default())
    }

    /// Rings for a while, then takes the call; returns when the other side's ACK is there.
    pub async fn ring_and_answer(&self, ring: Duration) -> Result<Agreed, Error> {
        self.order(Order::Ring)?;
        tokio::time::sleep(ring).await;
        self.order(Order::Answer)?;
        self.talking(SOON).await
    }

    /// Does not take the call.
    pub fn refuse(&self, status: u16) -> Result<(), Error> {
        self.order(Order::Refuse(status))
    }

    /// Gives up before an answer.
    pub fn cancel(&self) -> Result<(), Error> {
        self.order(Order::Cancel)
    }

    /// Says it all.
    pub async fn say(&self, speech: &Speech) {
        if let Some(voice) = &self.voice {
            voice.say(speech.frames.clone()).await;
        }
    }

    /// Presses keys, one after the other.
    pub async fn key(&self, digits: &str, how: Keying) -> Result<(), Error> {
        for digit in digits.chars() {
            if let Some(voice) = &self.voice {
                voice.key(digit, how == Keying::Rfc4733).await;
            }
            if how == Keying::Info {
                let body = format!("Signal={digit}\r\nDuration=100\r\n");
                self.info(Vec::new(), Some(("application/dtmf-relay".into(), body))).await?;
            }
        }
        Ok(())
    }

    /// Sends an INFO in the call; returns the status of the answer.
    pub async fn info(&self, headers: Vec<(String, String)>, body: Option<(String, String)>) -> Result<u16, Error> {
        let (done, answer) = oneshot::channel();
        self.order(Order::Info { headers, body, done })?;
        self.answer("the answer to INFO", answer).await
    }

    /// Asks the gateway to hand the caller to `to` (RFC 3515); returns the status of the answer.
    pub async fn refer(&self, to: &str, headers: Vec<(String, String)>) -> Result<u16, Error> {
        let (done, answer) = oneshot::channel();
        self.order(Order::Refer { to: to.into(), headers, done })?;
        self.answer("the answer to REFER", answer).await
    }

    /// Ends the call and waits until it is over.
    pub async fn hang_up(&self) -> Result<(), Error> {
        self.order(Order::HangUp)?;
        self.ended(SOON).await.map(|_| ())
    }

    /// Waits for the end of the call.
    pub async fn ended(&self, patience: Duration) -> Result<Ended, Error> {
        let state = self.until("the end of the call", patience, |s| s.ended.is_some()).await?;
        state.ended.ok_or_else(|| Error::Gone(self.name.clone()))
    }

    /// Waits until the state is as wanted.
    pub async fn until(&self, what: &'static str, patience: Duration, wanted: impl Fn(&State) -> bool) -> Result<State, Error> {
        let mut state = self.state.clone();
        let found = timeout(patience, state.wait_for(|s| wanted(s) || s.ended.is_some())).await;
        let found = match found {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) => return Err(Error::Gone(self.name.clone())),
            Err(_) => return Err(Error::Late { name: self.name.clone(), what, seconds: patience.as_secs() }),
        };
        if wanted(&found) { Ok(found) } else { Err(Error::Ended { name: self.name.clone(), what }) }
    }

    /// Its state now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Drops its sockets without a word, as when a process is killed.
    pub fn kill(&mut self) {
        self.task.abort();
        self.voice = None;
    }

    /// The RTP that came.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The SIP messages that passed.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        self.orders.send(order).map_err(|_| Error::Gone(self.name.clone()))
    }

    async fn answer(&self, what: &'static str, answer: oneshot::Receiver<u16>) -> Result<u16, Error> {
        match timeout(SOON, answer).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(_)) => Err(Error::Gone(self.name.clone())),
            Err(_) => Err(Error::Late { name: self.name.clone(), what, seconds: SOON.as_secs() }),
        }
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn phone(name: &str, tcp: bool, codecs: &[Codec]) -> Phone {
        let bind = IpAddr::from([127, 0, 0, 1]);
        let setup = Setup { name: name.into(), bind, tcp, codecs: codecs.into(), events: true };
        Phone::start(setup, Chance::from_seed(u64::try_from(name.len()).unwrap_or(0))).await.expect("a phone")
    }

    async fn two_phones_talk(tcp: bool) {
        let (anna, bert) = (phone("anna", tcp, &[Codec::Pcmu, Codec::Pcma]).await, phone("berta", tcp, &[Codec::Pcma]).await);
        let (called, taken) = tokio::join!(anna.dial(bert.address(), "1", "2"), async {
            bert.invited(SOON).await?;
            bert.ring_and_answer(Duration::from_millis(50)).await
        });
        assert_eq!(called.expect("stands"), Agreed { codec: Codec::Pcma, events: Some(101) });
        assert_eq!(taken.expect("stands"), Agreed { codec: Codec::Pcma, events: Some(101) });
        assert!(anna.state().ringing);
        anna.key("1", Keying::Rfc4733).await.expect("keyed");
        anna.key("2", Keying::Info).await.expect("keyed");
        assert_eq!(digits_heard(&bert.heard(), 101), "1");
        assert_eq!(bert.state().info_keys, "2");
        bert.hang_up().await.expect("over");
        let ended = anna.ended(SOON).await.expect("over");
        assert!(!ended.by_me && bert.state().ended.expect("over").by_me);
        let methods = anna.seen().iter().filter(|s| s.bytes.starts_with(b"BYE ")).count();
        assert_eq!(methods, 1);
    }

    #[tokio::test]
    async fn two_phones_talk_over_udp() {
        two_phones_talk(false).await;
    }

    #[tokio::test]
    async fn two_phones_talk_over_tcp() {
        two_phones_talk(true).await;
    }

    #[tokio::test]
    async fn a_call_that_is_cancelled_ends_at_both_ends() {
        let (anna, bert) = (phone("anna", false, &[Codec::Pcmu]).await, phone("berta", false, &[Codec::Pcmu]).await);
        let (called, ()) = tokio::join!(anna.dial(bert.address(), "1", "2"), async {
            bert.invited(SOON).await.expect("rings");
            anna.cancel().expect("a phone");
        });
        assert!(matches!(called, Err(Error::Refused { status: 487, .. })), "{called:?}");
        assert!(bert.ended(SOON).await.is_ok());
    }

    #[tokio::test]
    async fn a_killed_phone_leaves_its_record_and_frees_its_port() {
        let mut bert = phone("berta", false, &[Codec::Pcmu]).await;
        let address = bert.address();
        bert.kill();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(tokio::net::UdpSocket::bind(address).await.is_ok(), "nobody listens there any more");
        assert!(bert.heard().is_empty() && bert.seen().is_empty());
        assert!(matches!(bert.hang_up().await, Err(Error::Gone(_))));
    }
}
