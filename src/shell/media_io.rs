//! The threads that carry media: each owns a [`Media`] machine and the sockets of its calls, and waits on nothing but them.
//!
//! A call lives on one thread, chosen by its id, so that nothing is shared and nothing locked per packet. Commands come through a queue with a waker,
//! reports go out through whatever the driver gives, packets for the recorder through its bounded queue.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, SyncSender, channel},
    thread::JoinHandle,
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, Waker, net::UdpSocket};

use super::clock::Clock;
use crate::{
    chance::Chance,
    event::CallId,
    media::{Command, Config, Media, Output, Port, Report, Tap, Wire},
};

/// The media threads of a gateway. Dropping it ends them; calls that still stand fall silent.
#[derive(Debug)]
pub struct MediaIo {
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    orders: Sender<Order>,
    waker: std::sync::Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Command(Command),
    Stop,
}

/// Longest datagram that is read; RTP above an Ethernet frame is none.
const PACKET_OCTETS_MAX: usize = 2048;
/// Packets that are read from one socket before the others have their turn.
const BURST: usize = 32;
/// Sockets that are told of at once.
const EVENTS: usize = 256;
/// Longest wait for anything: a clock that was set cannot stop a thread for longer.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Token of the waker; a port's token is its number.
const WAKE: Token = Token(usize::MAX);

impl MediaIo {
    /// Starts `workers` threads (at least one). `reports` is called on them and must not block; without a recorder's queue nothing can be recorded.
    pub fn start(
        workers: usize,
        config: &Config,
        clock: &Clock,
        chance: &mut Chance,
        recorder: Option<&SyncSender<Tap>>,
        reports: impl Fn(Report) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut started = Self { workers: Vec::new() };
        for number in 0..workers.max(1) {
            let poll = Poll::new()?;
            let waker = std::sync::Arc::new(Waker::new(poll.registry(), WAKE)?);
            let (orders, inbox) = channel();
            let thread = Thread {
                poll,
                media: Media::new(config.clone(), chance.split()),
                clock: clock.clone(),
                exits: Exits { sockets: Vec::new(), recorder: recorder.cloned() },
                reports: reports.clone(),
                again: VecDeque::new(),
            };
            let thread = std::thread::Builder::new().name(format!("media-{number}")).spawn(move || thread.run(&inbox))?;
            started.workers.push(Worker { orders, waker, thread: Some(thread) });
        }
        Ok(started)
    }

    /// Hands a command to the thread of its call.
    pub fn send(&self, command: Command) {
        let worker = worker_of(command.call(), self.workers.len());
        if let Some(worker) = self.workers.get(worker) {
            // A thread that is gone has told so when it went.
            let _ = worker.orders.send(Order::Command(command));
            let _ = worker.waker.wake();
        }
    }
}

impl Drop for MediaIo {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.orders.send(Order::Stop);
            let _ = worker.waker.wake();
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

fn worker_of(call: CallId, workers: usize) -> usize {
    // The last octets of a UUIDv7 are chance.
    let spread = usize::try_from(call.0.as_u128() & 0xffff).unwrap_or(0);
    spread.checked_rem(workers).unwrap_or(0)
}

/// What a thread's machine sends through.
struct Exits {
    sockets: Vec<Option<UdpSocket>>,
    recorder: Option<SyncSender<Tap>>,
}

impl Exits {
    fn socket(&self, port: Port) -> Option<&UdpSocket> {
        self.sockets.get(usize::try_from(port.0).ok()?)?.as_ref()
    }

    fn place(&mut self, port: Port) -> Option<&mut Option<UdpSocket>> {
        let index = usize::try_from(port.0).ok()?;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets.get_mut(index)
    }
}

impl Wire for Exits {
    fn send(&mut self, port: Port, to: SocketAddr, packet: &[u8]) {
        // A full socket buffer or an unreachable peer loses the packet, as a network would; who expects an answer notices by its absence.
        if let Some(socket) = self.socket(port) {
            let _ = socket.send_to(packet, to);
        }
    }

    fn tap(&mut self, tap: Tap) -> bool {
        self.recorder.as_ref().is_some_and(|queue| queue.try_send(tap).is_ok())
    }
}

struct Thread<R> {
    poll: Poll,
    media: Media,
    clock: Clock,
    exits: Exits,
    reports: R,
    /// Ports with more to read than one burst.
    again: VecDeque<Port>,
}

impl<R: Fn(Report)> Thread<R> {
    fn run(mut self, inbox: &Receiver<Order>) {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = [0; PACKET_OCTETS_MAX];
        loop {
            let wait = match self.media.next_timeout() {
                _ if !self.again.is_empty() => Duration::ZERO,
                Some(at) => self.clock.until(at).min(WAIT_MAX),
                None => WAIT_MAX,
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Ok(()) => {}
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(why) => {
                    tracing::error!(%why, "a media thread cannot wait for its sockets and ends: its calls fall silent");
                    return;
                }
            }
            for order in inbox.try_iter() {
                match order {
                    Order::Command(command) => self.media.handle_command(self.clock.mono(), command, &mut self.exits),
                    Order::Stop => return,
                }
                self.perform();
            }
            for _ in 0..self.again.len() {
                if let Some(port) = self.again.pop_front() {
                    self.read(port, &mut buffer);
                }
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                if let Ok(port) = u32::try_from(event.token().0) {
                    self.read(Port(port), &mut buffer);
                }
            }
            if self.media.next_timeout().is_some_and(|at| at <= self.clock.mono()) {
                self.media.handle_timeout(self.clock.mono(), &mut self.exits);
            }
            self.perform();
        }
    }

    fn read(&mut self, port: Port, buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Some(socket) = self.exits.socket(port) else { return };
            match socket.recv_from(buffer) {
                Ok((length, from)) => {
                    let Some(packet) = buffer.get_mut(..length) else { return };
                    self.media.handle_packet(self.clock.mono(), port, from, packet, &mut self.exits);
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier packet; the next read is about the next datagram.
                Err(_) => {}
            }
        }
        // Once, however often it is told of meanwhile: a flood on one port takes no turn of another's.
        if !self.again.contains(&port) {
            self.again.push_back(port);
        }
    }

    fn perform(&mut self) {
        while let Some(output) = self.media.poll_output() {
            match output {
                Output::Report(report) => (self.reports)(report),
                Output::Unbind { port } => {
                    self.again.retain(|p| *p != port);
                    if let Some(mut socket) = self.exits.place(port).and_then(Option::take) {
                        let _ = self.poll.registry().deregister(&mut socket);
                    }
                }
                Output::Bind { port, local } => {
                    let bound = self.bind(port, local).map_err(|why| why.to_string());
                    self.media.handle_bound(port, bound);
                }
            }
        }
    }

    fn bind(&mut self, port: Port, local: SocketAddr) -> io::Result<()> {
        let mut socket = UdpSocket::bind(local)?;
        let token = Token(usize::try_from(port.0).map_err(io::Error::other)?);
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
        if let Some(place) = self.exits.place(port) {
            *place = Some(socket);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket as StdSocket,
        sync::mpsc::{RecvTimeoutError, sync_channel},
    };

    use super::*;
    use crate::{
        codec::Codec,
        event::Leg,
        media::Stream,
        rtp::{self, Header},
    };

    const PATIENCE: Duration = Duration::from_secs(5);

    fn free() -> SocketAddr {
        StdSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address")
    }

    fn peer() -> StdSocket {
        let socket = StdSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket
    }

    fn stream(remote: SocketAddr) -> Stream {
        Stream {
            remote,
            signalling: remote.ip(),
            codec: Codec::Pcmu,
            pt: 0,
            recv: vec![(0, Codec::Pcmu)],
            event_send: None,
            event_recv: Vec::new(),
            dtmf: None,
            send: true,
            receive: true,
            ptime_ms: 20,
        }
    }

    #[test]
    fn sound_passes_between_real_sockets_and_ports_come_back() {
        let (tell, reports) = channel();
        let (queue, taps) = sync_channel(100);
        let clock = Clock::new();
        let io = MediaIo::start(2, &Config::default(), &clock, &mut Chance::from_seed(1), Some(&queue), move |r| {
            let _ = tell.send(r);
        })
        .expect("threads");
        let call = CallId(Chance::from_seed(2).uuid_v7(clock.wall()));
        let (caller, platform, ours) = (peer(), peer(), [free(), free()]);
        for (leg, local, there) in [(Leg::Caller, ours[0], &caller), (Leg::Callee, ours[1], &platform)] {
            io.send(Command::Open { call, leg, local });
            assert_eq!(reports.recv_timeout(PATIENCE), Ok(Report::Opened { call, leg }));
            io.send(Command::Agree { call, leg, agreed: stream(there.local_addr().expect("an address")) });
        }
        io.send(Command::Open { call: CallId(uuid::Uuid::nil()), leg: Leg::Caller, local: ours[0] });
        assert!(matches!(reports.recv_timeout(PATIENCE), Ok(Report::BindFailed { .. })), "the port is taken");
        io.send(Command::Record { call, file: "x".into(), invited: crate::time::Instant::ORIGIN });
        io.send(Command::Bridge { call, on: true });
        assert!(matches!(taps.recv_timeout(PATIENCE), Ok(Tap::Start { .. })));

        let mut packet = vec![0; rtp::HEADER_OCTETS];
        rtp::write(&mut packet, 0, false, 0, 7, 160, 99);
        packet.extend([5; 160]);
        // The bridge stands when the command was taken up: sent until heard.
        let mut heard = [0; 400];
        platform.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        let length = (0..50).find_map(|_| {
            caller.send_to(&packet, ours[0]).expect("sent");
            platform.recv_from(&mut heard).ok().map(|(length, _)| length)
        });
        let length = length.expect("it comes out at the other side");
        let header = Header::parse(&heard[..length]).expect("RTP");
        assert_eq!(&heard[header.payload], &[5; 160]);
        assert!(matches!(taps.recv_timeout(PATIENCE), Ok(Tap::Frame(frame)) if frame.payload() == [5; 160]));

        io.send(Command::End { call });
        assert!(matches!(reports.recv_timeout(PATIENCE), Ok(Report::Ended { stats, .. }) if stats.caller.received >= 1));
        drop(io);
        assert!(StdSocket::bind(ours[0]).is_ok() && StdSocket::bind(ours[1]).is_ok(), "both ports are free");
        assert_eq!(reports.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    }
}
