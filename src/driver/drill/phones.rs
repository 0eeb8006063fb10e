//! The far ends of many calls at once, without sound: a carrier that calls, and a platform that takes calls, each on one socket.
//!
//! As in the demo, SIP is read and written as text, apart from the gateway's own rooms.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    driver::demo::phone::text::{Message, parameter},
    shell::clock::Clock,
    time::Wall,
};

/// A request is sent again after so long without an answer (RFC 3261 §17.1.1.1, T1).
const AGAIN: Duration = Duration::from_millis(500);
/// An answer is waited for so long; a gateway that was killed gives none.
const PATIENCE: Duration = Duration::from_secs(8);

/// What a call does once it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// The platform hangs up.
    Completed,
    /// The platform hands the caller on; he hangs up then.
    Transferred {
        /// To whom.
        to: String,
    },
    /// The caller hangs up.
    HungUp,
    /// The platform refuses, and there is no other.
    Failed,
    /// The caller keys these, then hangs up.
    Keyed(String),
}

/// What the far ends saw of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Saw {
    /// The gateway's name for it, as the INVITE to the platform brought it.
    pub(super) call_id: Option<String>,
    /// Final status of the INVITE.
    pub(super) status: Option<u16>,
    /// Whether whoever it was handed to has taken it.
    pub(super) handed_over: bool,
    /// When both ends knew that it was over.
    pub(super) over: Option<(Instant, Wall)>,
}

type Calls<T> = Arc<Mutex<BTreeMap<String, T>>>;

fn locked<T>(calls: &Calls<T>) -> std::sync::MutexGuard<'_, BTreeMap<String, T>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One socket, and whoever waits for messages of a call.
#[derive(Clone)]
struct Line {
    socket: Arc<UdpSocket>,
    at: SocketAddr,
    calls: Calls<mpsc::UnboundedSender<(Message, SocketAddr)>>,
}

impl Line {
    /// Opens one. What belongs to no call goes to `others`.
    async fn open(others: mpsc::UnboundedSender<(Message, SocketAddr)>) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let line = Self { at: socket.local_addr()?, socket, calls: Calls::default() };
        let reader = line.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while !others.is_closed() {
                // A port that nobody listens at any more makes the next read fail: the gateway was killed.
                let Ok((length, from)) = reader.socket.recv_from(&mut buffer).await else { continue };
                let Some((message, _)) = buffer.get(..length).and_then(Message::read) else { continue };
                let call = message.header("Call-ID").unwrap_or_default().to_owned();
                let to = locked(&reader.calls).get(&call).cloned();
                let _ = to.as_ref().unwrap_or(&others).send((message, from));
            }
        });
        Ok(line)
    }

    fn listen(&self, call: &str) -> mpsc::UnboundedReceiver<(Message, SocketAddr)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        locked(&self.calls).insert(call.to_owned(), sender);
        receiver
    }

    async fn send(&self, message: &Message, to: SocketAddr) {
        let _ = self.socket.send_to(&message.write(), to).await;
    }
}

/// One dialog as its end sees it.
struct Dialog {
    line: Line,
    inbox: mpsc::UnboundedReceiver<(Message, SocketAddr)>,
    call: String,
    gateway: SocketAddr,
    /// This end and the other, with tags.
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    bye: bool,
}

impl Drop for Dialog {
    fn drop(&mut self) {
        locked(&self.line.calls).remove(&self.call);
    }
}

impl Dialog {
    /// A request of this dialog; `branch` tells its transaction from others of the dialog.
    fn request(&self, method: &str, branch: &str) -> Message {
        let call: String = self.call.chars().filter(char::is_ascii_alphanumeric).collect();
        Message::new(format!("{method} {} SIP/2.0", self.target))
            .with("Via", format!("SIP/2.0/UDP {};branch=z9hG4bK{branch}.{call};rport", self.line.at))
            .with("Max-Forwards", "70")
            .with("From", self.local.clone())
            .with("To", self.remote.clone())
            .with("Call-ID", self.call.clone())
            .with("CSeq", format!("{} {method}", self.cseq))
            .with("Contact", format!("<sip:drill@{}>", self.line.at))
    }

    /// Sends a request until it has a final answer; what comes meanwhile is answered. None where nobody answers.
    async fn ask(&mut self, message: &Message) -> Option<Message> {
        let until = Instant::now() + PATIENCE;
        let (mut again, mut heard) = (Instant::now(), false);
        while Instant::now() < until {
            if !heard && Instant::now() >= again {
                self.line.send(message, self.gateway).await;
                again = Instant::now() + AGAIN;
            }
            let next = if heard { until } else { again.min(until) };
            match timeout_at(next, self.inbox.recv()).await {
                Ok(Some((answer, _))) if answer.status().is_some() && answer.method() == message.method() => {
                    heard = true;
                    if answer.status().is_some_and(|s| s >= 200) && answer.header("CSeq") == message.header("CSeq") {
                        return Some(answer);
                    }
                }
                Ok(Some((request, _))) => self.answer(&request).await,
                Ok(None) => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// Answers what the gateway asks within the dialog.
    async fn answer(&mut self, request: &Message) {
        if request.status().is_some() || request.method() == "ACK" {
            return;
        }
        self.bye |= request.method() == "BYE";
        self.line.send(&request.respond(200, "OK", "x"), self.gateway).await;
    }

    /// Waits for the other end's BYE.
    async fn until_bye(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while !self.bye {
            match timeout_at(until, self.inbox.recv()).await {
                Ok(Some((message, _))) => self.answer(&message).await,
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    async fn hang_up(&mut self) -> bool {
        if self.bye {
            return true;
        }
        self.cseq += 1;
        let bye = self.request("BYE", "bye");
        self.ask(&bye).await.is_some()
    }
}

/// A session without sound: port 9 throws away what comes.
fn session() -> String {
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        .to_owned()
}

/// Both ends.
pub(super) struct Phones {
    carrier: Line,
    platform: Line,
    plans: Calls<(Manner, Duration)>,
    saw: Calls<Saw>,
}

impl Phones {
    /// Opens both sockets.
    pub(super) async fn open() -> io::Result<Arc<Self>> {
        let (stray, mut strays) = mpsc::unbounded_channel();
        let (invited, mut invitations) = mpsc::unbounded_channel::<(Message, SocketAddr)>();
        let (carrier, platform) = (Line::open(stray).await?, Line::open(invited).await?);
        let phones = Arc::new(Self { carrier, platform, plans: Calls::default(), saw: Calls::default() });
        tokio::spawn(async move { while strays.recv().await.is_some() {} });
        let taker = Arc::downgrade(&phones);
        tokio::spawn(async move {
            while let Some((message, from)) = invitations.recv().await {
                let Some(phones) = taker.upgrade() else { return };
                match message.method() {
                    "INVITE" if message.status().is_none() => {
                        tokio::spawn(async move { phones.take(message, from).await });
                    }
                    // Of a call that this end has forgotten.
                    "BYE" | "NOTIFY" | "INFO" | "OPTIONS" if message.status().is_none() => {
                        phones.platform.send(&message.respond(200, "OK", "x"), from).await;
                    }
                    _ => {}
                }
            }
        });
        Ok(phones)
    }

    /// Where the platform takes calls.
    pub(super) fn platform(&self) -> SocketAddr {
        self.platform.at
    }

    /// What was seen of the call from a number.
    pub(super) fn saw(&self, from: &str) -> Saw {
        locked(&self.saw).get(from).cloned().unwrap_or_default()
    }

    fn see(&self, from: &str, what: impl FnOnce(&mut Saw)) {
        what(locked(&self.saw).entry(from.to_owned()).or_default());
    }

    /// Everything that is under way is forgotten: the gateway is gone.
    pub(super) fn forget(&self) {
        locked(&self.carrier.calls).clear();
        locked(&self.platform.calls).clear();
    }

    /// Places a call and plays the caller's part of it to its end.
    pub(super) async fn call(&self, gateway: SocketAddr, from: &str, number: &str, manner: Manner, talk: Duration) {
        locked(&self.plans).insert(from.to_owned(), (manner.clone(), talk));
        let call = format!("{}-drill@{}", from.trim_start_matches('+'), self.carrier.at);
        let target = format!("sip:{number}@{gateway}");
        let inbox = self.carrier.listen(&call);
        let local = format!("<sip:{from}@{}>;tag=c{}", self.carrier.at, from.trim_start_matches('+'));
        let remote = format!("<{target}>");
        let mut dialog = Dialog { line: self.carrier.clone(), inbox, call, gateway, local, remote, target, cseq: 1, bye: false };
        let invite = dialog.request("INVITE", "invite").with_body("application/sdp", session());
        let Some(answer) = dialog.ask(&invite).await else { return };
        let status = answer.status();
        self.see(from, |saw| saw.status = status);
        dialog.remote = answer.header("To").unwrap_or_default().to_owned();
        if status != Some(200) {
            // RFC 3261 §17.1.1.3: the ACK of a refusal belongs to the same transaction.
            dialog.line.send(&dialog.request("ACK", "invite"), gateway).await;
            self.see(from, |saw| saw.over = Some((Instant::now(), Clock::new().wall())));
            return;
        }
        dialog.line.send(&dialog.request("ACK", "ack"), gateway).await;
        let over = match manner {
            Manner::Completed | Manner::Failed => dialog.until_bye().await,
            Manner::HungUp => {
                sleep(talk).await;
                dialog.hang_up().await
            }
            Manner::Keyed(keys) => {
                for (place, key) in keys.chars().enumerate() {
                    dialog.cseq += 1;
                    let body = format!("Signal={key}\r\nDuration=100\r\n");
                    let info = dialog.request("INFO", &format!("key{place}")).with_body("application/dtmf-relay", body);
                    if dialog.ask(&info).await.is_none() {
                        return;
                    }
                }
                sleep(talk).await;
                dialog.hang_up().await
            }
            Manner::Transferred { .. } => {
                let until = Instant::now() + PATIENCE;
                while !self.saw(from).handed_over && Instant::now() < until {
                    sleep(Duration::from_millis(10)).await;
                }
                sleep(talk).await;
                dialog.hang_up().await
            }
        };
        if over {
            self.see(from, |saw| saw.over = Some((Instant::now(), Clock::new().wall())));
        }
    }

    /// Takes a call as the platform, or as whoever it is handed to.
    async fn take(&self, invite: Message, gateway: SocketAddr) {
        let from = invite.header("From").unwrap_or_default();
        let user = from.split_once("sip:").and_then(|(_, rest)| rest.split('@').next()).unwrap_or_default().to_owned();
        let human = invite.start.contains("sip:human@");
        if let Some(id) = invite.header("X-Offhook-Call").filter(|_| !human) {
            self.see(&user, |saw| saw.call_id = Some(id.to_owned()));
        }
        let Some((manner, talk)) = locked(&self.plans).get(&user).cloned() else {
            return self.platform.send(&invite.respond(404, "Not Found", "n"), gateway).await;
        };
        let call = invite.header("Call-ID").unwrap_or_default().to_owned();
        let inbox = self.platform.listen(&call);
        let tag = format!("p{}", call.len());
        if manner == Manner::Failed {
            self.platform.send(&invite.respond(503, "Service Unavailable", &tag), gateway).await;
            locked(&self.platform.calls).remove(&call);
            return;
        }
        let accepted = invite
            .respond(200, "OK", &tag)
            .with("Contact", format!("<sip:{}@{}>", if human { "human" } else { "platform" }, self.platform.at))
            .with_body("application/sdp", session());
        let local = accepted.header("To").unwrap_or_default().to_owned();
        debug_assert!(parameter(&local, "tag").is_some());
        let mut dialog = Dialog {
            line: self.platform.clone(),
            inbox,
            call,
            gateway,
            local,
            remote: from.to_owned(),
            target: invite.contact().unwrap_or_default().to_owned(),
            cseq: 1,
            bye: false,
        };
        // RFC 3261 §13.3.1.4: a 200 is repeated until its ACK comes.
        let until = Instant::now() + PATIENCE;
        loop {
            dialog.line.send(&accepted, gateway).await;
            match timeout_at((Instant::now() + AGAIN).min(until), dialog.inbox.recv()).await {
                Ok(Some((message, _))) if message.method() == "ACK" => break,
                Ok(Some((message, _))) if message.method() != "INVITE" => dialog.answer(&message).await,
                Ok(None) => return,
                _ if Instant::now() >= until => return,
                _ => {}
            }
        }
        match manner {
            _ if human => {
                self.see(&user, |saw| saw.handed_over = true);
                dialog.until_bye().await;
            }
            Manner::Completed => {
                sleep(talk).await;
                dialog.hang_up().await;
            }
            Manner::Transferred { to } => {
                sleep(talk).await;
                dialog.cseq += 1;
                let refer = dialog.request("REFER", "refer").with("Refer-To", format!("<{to}>"));
                dialog.ask(&refer).await;
                dialog.until_bye().await;
            }
            Manner::HungUp | Manner::Keyed(_) | Manner::Failed => {
                dialog.until_bye().await;
            }
        }
    }
}
