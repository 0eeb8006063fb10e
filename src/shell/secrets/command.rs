//! A secret that a program prints: asked once, never through a shell; what it prints is the secret and nothing else sees it.

use std::{
    io::{self, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use super::Secret;

/// Why a program gave no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be started.
    #[error("{0} cannot be started ({1}): write the program's path, and see that the user that runs offhook may execute it")]
    NotStarted(String, io::Error),
    /// It was started and could not be followed.
    #[error("{0} could not be read from ({1}): see what the machine lacks, and start again")]
    Unreadable(String, io::Error),
    /// It did not end.
    #[error("{0} took longer than {1} s: run it by hand as the user that runs offhook, and see what it waits for")]
    Slow(String, u64),
    /// It says that it failed.
    #[error("{0} failed ({1}): run it by hand as the user that runs offhook, and see what it says")]
    Failed(String, String),
    /// Nothing was printed.
    #[error("{0} printed nothing: have it print the secret to its standard output")]
    Empty(String),
    /// Too much was printed, or octets that are no text.
    #[error("{0} printed what is no secret (more than {1} octets, or no text): have it print the secret and nothing else")]
    NotText(String, usize),
}

/// Most that a program may print, octets: a private key in PEM has some 3,000.
const OCTETS_MAX: usize = 65_536;
/// How long one look for the program's end is from the next, once it has closed its output.
const LOOK: Duration = Duration::from_millis(5);

/// Runs `program` with `arguments` and takes what it prints, without white space around it. It inherits the environment, has no standard
/// input, and its standard error is thrown away, since a program may say the secret there too. After `limit` it is killed, with all that it started.
pub fn read(program: &str, arguments: &[String], limit: Duration) -> Result<Secret, Error> {
    let name = || program.to_owned();
    let deadline = Instant::now() + limit;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().map_err(|error| Error::NotStarted(name(), error))?;
    let ended = output(&mut child, deadline).and_then(|printed| Ok((printed, end(&mut child, deadline)?)));
    let (printed, status) = match ended {
        Ok((printed, Some(status))) => (printed, status),
        Ok((_, None)) => {
            stop(&mut child);
            return Err(Error::Slow(name(), limit.as_secs()));
        }
        Err(error) => {
            stop(&mut child);
            return Err(match error.kind() {
                io::ErrorKind::TimedOut => Error::Slow(name(), limit.as_secs()),
                io::ErrorKind::FileTooLarge => Error::NotText(name(), OCTETS_MAX),
                _ => Error::Unreadable(name(), error),
            });
        }
    };
    if !status.success() {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        return Err(Error::Failed(name(), how));
    }
    let text = std::str::from_utf8(&printed).map_err(|_| Error::NotText(name(), OCTETS_MAX))?;
    match text.trim() {
        "" => Err(Error::Empty(name())),
        trimmed => Ok(Secret::new(trimmed.to_owned())),
    }
}

/// All that `child` prints until it closes its output; an error of kind `TimedOut` or `FileTooLarge` where it does not, or prints too much.
fn output(child: &mut Child, deadline: Instant) -> io::Result<Zeroizing<Vec<u8>>> {
    let Some(out) = child.stdout.take() else { return Err(io::Error::other("no output")) };
    let (done, printed) = mpsc::channel();
    // A thread of its own, since a pipe cannot be read until a deadline. It ends with the last writer, which is killed at the deadline.
    thread::Builder::new().name("secret".into()).spawn(move || {
        // As large as it may become, so that it does not move and leave copies.
        let mut octets = Zeroizing::new(Vec::with_capacity(OCTETS_MAX + 1));
        let most = u64::try_from(OCTETS_MAX + 1).unwrap_or(u64::MAX);
        let read = out.take(most).read_to_end(&mut octets).map(|_| octets);
        // Nobody may wait any more.
        let _ = done.send(read);
    })?;
    let octets = printed.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|_| io::ErrorKind::TimedOut)??;
    if octets.len() > OCTETS_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(octets) }
}

/// How `child` ended; none where it has not at `deadline`.
fn end(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() >= deadline {
            return Ok(ended);
        }
        thread::sleep(LOOK);
    }
}

/// Ends `child` and all of its group.
fn stop(child: &mut Child) {
    // Its id is its own until it is waited for, and it leads its group.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Secret, Error> {
        read("/bin/sh", &["-c".into(), script.into()], limit)
    }

    #[test]
    fn what_a_program_prints_is_the_secret_and_its_failures_are_told_apart() {
        let long = Duration::from_secs(60);
        let words = read("printf", &["%s".into(), " two words\n".into()], long).expect("a secret");
        assert_eq!(words.reveal(), "two words");
        // No shell reads the arguments.
        assert_eq!(read("printf", &["%s".into(), "$HOME; echo `id`".into()], long).expect("a secret").reveal(), "$HOME; echo `id`");
        assert!(matches!(read("/no/such/program", &[], long), Err(Error::NotStarted(..))));
        assert!(matches!(shell("printf ' \\n'", long), Err(Error::Empty(_))));
        assert!(matches!(shell("head -c 70000 /dev/zero | tr '\\0' a", long), Err(Error::NotText(..))));
        assert!(matches!(shell("printf '\\377\\376'", long), Err(Error::NotText(..))));
        let failed = shell("echo hush; echo hush >&2; exit 3", long).expect_err("failed").to_string();
        assert!(failed.contains("status 3") && !failed.contains("hush"), "{failed}");
        let killed = shell("kill -9 $$", long).expect_err("killed").to_string();
        assert!(killed.contains("signal 9"), "{killed}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_what_it_started() {
        let soon = Duration::from_millis(200);
        // Its child keeps the output open; and one that closes it and goes on.
        assert!(matches!(shell("sleep 1000 & echo hush; exit 0", soon), Err(Error::Slow(..))));
        assert!(matches!(shell("echo hush; exec >&-; sleep 1000", soon), Err(Error::Slow(..))));
    }
}
