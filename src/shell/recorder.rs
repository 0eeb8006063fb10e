//! The recorder's thread: takes what media taps behind the gate, places it, writes WAV and sidecar.
//!
//! Marks of the secure phase come in the same queue as the packets, so that what is confirmed is true of everything before it. A recording that
//! cannot be written is closed; it still confirms phases, since it sees nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{clock::Clock, files};
use crate::{
    codec::SampleRate,
    event::CallId,
    media::{Report, Sink, Tap},
    recording::Timeline,
};

/// The recorder; dropped, it ends what is open and goes.
#[derive(Debug)]
pub struct Recorder {
    queue: Option<SyncSender<Tap>>,
    /// Says that the thread has ended.
    end: Receiver<()>,
    #[cfg(feature = "planted-faults")]
    hangs: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Recorder {
    /// Starts the thread. Recordings go into `directory`, made where it is missing (mode 0700).
    pub fn start(directory: PathBuf, clock: Clock, reports: impl Fn(Report) + Send + 'static) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let (queue, taps) = sync_channel(TAPS_MAX);
        #[cfg(feature = "planted-faults")]
        let hangs = std::sync::Arc::default();
        let thread = Thread {
            directory,
            clock,
            reports,
            open: BTreeMap::new(),
            #[cfg(feature = "planted-faults")]
            hangs: std::sync::Arc::clone(&hangs),
        };
        let (ended, end) = sync_channel(1);
        std::thread::Builder::new().name("recorder".into()).spawn(move || {
            thread.run(&taps);
            let _ = ended.send(());
        })?;
        Ok(Self {
            queue: Some(queue),
            end,
            #[cfg(feature = "planted-faults")]
            hangs,
        })
    }

    /// A planted fault: it stops for good at its next mark of a secure phase, as on a disk that never answers.
    #[cfg(feature = "planted-faults")]
    pub fn hang(&self) {
        self.hangs.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// What media taps into.
    pub fn queue(&self) -> Option<&SyncSender<Tap>> {
        self.queue.as_ref()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Media's own ends of the queue have to be gone by now, or this waits for them in vain.
        self.queue = None;
        if self.end.recv_timeout(END) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the recorder does not end: what it had open may lack its last second; see the disk of [data] directory");
        }
    }
}

/// One recording under way.
struct Open {
    call: CallId,
    timeline: Timeline,
    wav: PathBuf,
    /// None once something could not be written.
    file: Option<File>,
}

struct Thread<R> {
    directory: PathBuf,
    clock: Clock,
    reports: R,
    open: BTreeMap<u32, Open>,
    #[cfg(feature = "planted-faults")]
    hangs: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl<R: Fn(Report)> Thread<R> {
    fn run(mut self, taps: &Receiver<Tap>) {
        loop {
            match taps.recv_timeout(IDLE) {
                Ok(tap) => self.tap(tap),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let slots = self.open.keys().copied().collect::<Vec<_>>();
        for slot in slots {
            self.end(slot, self.clock.mono(), 0);
        }
    }

    fn tap(&mut self, tap: Tap) {
        match tap {
            Tap::Start { call, slot, file, invited, wide, at } => {
                // A slot that is used again lost its end to a full queue.
                self.end(slot, at, 0);
                let rate = if wide { SampleRate::Hz16000 } else { SampleRate::Hz8000 };
                let wall = self.clock.wall() - self.clock.mono().since(at);
                let name = format!("{file}.wav");
                let timeline = Timeline::new(call, name.as_str(), invited, at, wall, rate);
                let wav = self.directory.join(name);
                let opened = OpenOptions::new().create(true).truncate(true).read(true).write(true).mode(0o600).open(&wav);
                let file = opened.map_err(|e| self.failed(call, &wav, &e)).ok();
                self.open.insert(slot, Open { call, timeline, wav, file });
                self.write(slot);
                self.sidecar(slot, None);
            }
            Tap::Frame(frame) => {
                if let Some(open) = self.open.get_mut(&frame.slot) {
                    open.timeline.packet(frame.leg, frame.ssrc, frame.timestamp, frame.arrival, frame.codec, frame.payload());
                    self.write(frame.slot);
                }
            }
            Tap::Secure { call, slot, ask, on, reason, at } => {
                #[cfg(feature = "planted-faults")]
                while self.hangs.load(std::sync::atomic::Ordering::Relaxed) {
                    std::thread::sleep(IDLE);
                }
                if let Some(open) = self.open.get_mut(&slot) {
                    open.timeline.secure(on, at, reason.as_deref());
                    self.write(slot);
                    self.sidecar(slot, None);
                }
                // A recording that begins in a phase tells nobody.
                if ask != 0 {
                    (self.reports)(Report::Secured { call, ask, sink: Sink::Recorder, on, at });
                }
            }
            Tap::End { slot, dropped, at, .. } => self.end(slot, at, dropped),
        }
    }

    /// Writes what the timeline has ready; a recording that cannot be written is closed.
    fn write(&mut self, slot: u32) {
        let Some(open) = self.open.get_mut(&slot) else { return };
        let mut failed = None;
        while let Some(write) = open.timeline.poll_output() {
            if let Some(file) = &open.file
                && let Err(error) = file.write_all_at(&write.bytes, write.offset)
            {
                failed = Some(error);
                open.file = None;
            }
        }
        if let Some(error) = failed {
            let (call, wav) = (open.call, open.wav.clone());
            self.failed(call, &wav, &error);
        }
    }

    fn failed(&self, call: CallId, path: &Path, error: &io::Error) {
        let why = format!("{}: {error}; the recording is closed: see the disk of [data] directory", path.display());
        tracing::error!(%call, %why, "recording");
        (self.reports)(Report::SinkFailed { call, ask: None, sink: Sink::Recorder, why });
    }

    fn sidecar(&self, slot: u32, sha256: Option<String>) {
        let Some(open) = self.open.get(&slot) else { return };
        let mut manifest = open.timeline.manifest();
        manifest.degraded |= open.file.is_none();
        manifest.sha256 = sha256;
        if let Err(error) = files::replace(&open.wav.with_extension("json"), manifest.to_json().as_bytes()) {
            tracing::error!(call = %open.call, %error, "the sidecar of a recording");
        }
    }

    fn end(&mut self, slot: u32, at: crate::time::Instant, dropped: u64) {
        let Some(open) = self.open.get_mut(&slot) else { return };
        open.timeline.end(at, dropped);
        self.write(slot);
        let sum = self.open.get(&slot).and_then(|o| o.file.as_ref()).and_then(|f| f.sync_data().and_then(|()| hash(f)).ok());
        self.sidecar(slot, sum);
        self.open.remove(&slot);
    }
}

/// SHA-256 of a file in hex.
fn hash(file: &File) -> io::Result<String> {
    use std::io::Seek as _;
    let mut file = file;
    file.rewind()?;
    let (mut sum, mut buffer) = (Sha256::new(), vec![0; HASH_BYTES]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(sum.finalize()));
        }
        sum.update(buffer.get(..read).unwrap_or_default());
    }
}

/// Packets that wait for the recorder: 20 ms of both legs of 400 calls, ten times over. At 560 octets each, 4.6 MB.
const TAPS_MAX: usize = 8192;
/// How often an idle recorder wakes.
const IDLE: Duration = Duration::from_secs(1);
/// Read at once while hashing.
const HASH_BYTES: usize = 64 * 1024;

/// A recorder that takes longer to end hangs; the rest of the program does not wait for it.
const END: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{
        codec::Codec,
        event::Leg,
        media::TapFrame,
        recording::{Manifest, wav::Wave},
        shell::files::tests::Scratch,
    };

    #[test]
    fn a_recording_stands_with_its_sidecar_and_a_phase_is_confirmed_and_silent() {
        let scratch = Scratch::new("recorder");
        let clock = Clock::new();
        let (to_test, reports) = mpsc::channel();
        let recorder = Recorder::start(scratch.0.clone(), clock.clone(), move |report| drop(to_test.send(report))).expect("started");
        let call: CallId = "01960000-0000-7000-8000-000000000001".parse().expect("a call id");
        let start = clock.mono();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let queue = recorder.queue().expect("a queue").clone();
        let send = |tap| queue.send(tap).expect("taken");
        send(Tap::Start { call, slot: 3, file: "x".into(), invited: start, wide: false, at: start });
        for n in 0..50_u32 {
            let payload = [0x10_u8; 160];
            let arrival = at(u64::from(n) * 20);
            send(Tap::Frame(TapFrame::new(3, Leg::Caller, 1, n * 160, arrival, Codec::Pcmu, &payload)));
            if n == 20 {
                send(Tap::Secure { call, slot: 3, ask: 7, on: true, reason: Some("payment".into()), at: at(410) });
            }
            if n == 40 {
                send(Tap::Secure { call, slot: 3, ask: 8, on: false, reason: None, at: at(810) });
            }
        }
        send(Tap::End { call, slot: 3, dropped: 0, at: at(1000) });
        drop(queue);
        drop(recorder);
        let confirmed = reports.iter().map(|r| matches!(r, Report::Secured { sink: Sink::Recorder, .. })).collect::<Vec<_>>();
        assert_eq!(confirmed, [true, true]);
        let manifest = Manifest::from_json(&fs::read(scratch.0.join("x.json")).expect("a sidecar")).expect("read");
        assert!(manifest.complete && !manifest.degraded && manifest.sha256.is_some(), "{manifest:?}");
        assert_eq!((manifest.masked.len(), manifest.masked[0].reason.as_str()), (1, "payment"));
        let wave = Wave::parse(&fs::read(scratch.0.join("x.wav")).expect("a file")).expect("a recording");
        let loud = |ms: usize| wave.caller[ms * 8] != 0;
        assert!(loud(200) && !loud(500) && !loud(700) && loud(900));
    }
}
