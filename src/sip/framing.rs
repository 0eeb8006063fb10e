//! Finds the ends of messages in a stream (RFC 3261 §18.3, §7.5), however the stream was cut.

use bytes::{Buf, Bytes, BytesMut};

use super::message::{MESSAGE_BYTES_MAX, long_name, split_head};

/// What stood in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message.
    Message(Bytes),
    /// A double CRLF: the peer asks whether we live and gets one CRLF (RFC 5626 §3.5.1).
    Ping,
}

/// The stream cannot be framed any more; the connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Header section or body over the limit.
    #[error("a message longer than 65,535 bytes (RFC 3261 §18.3)")]
    TooLong,
    /// Without it nobody knows where the next message starts.
    #[error("a Content-Length that is not one number (RFC 3261 §20.14)")]
    ContentLength,
}

/// Holds what has come and is not yet a whole message.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    broken: Option<Error>,
}

impl Framer {
    /// Takes what came.
    pub fn push(&mut self, octets: &[u8]) {
        if self.broken.is_none() {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// Octets that have come and belong to no frame yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next frame; `None` until more has come.
    ///
    /// # Errors
    /// The stream has lost its frame; every later call says so again.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        match self.broken.clone() {
            Some(error) => Err(error),
            None => self.read().inspect_err(|error| {
                self.broken = Some(error.clone());
                self.buffer.clear();
            }),
        }
    }

    fn read(&mut self) -> Result<Option<Frame>, Error> {
        if self.buffer.starts_with(b"\r\n\r\n") {
            self.buffer.advance(4);
            return Ok(Some(Frame::Ping));
        }
        // A lone CRLF may be the first half of a ping: what follows decides.
        let lead = usize::from(self.buffer.starts_with(b"\r\n")) * 2;
        let rest = self.buffer.get(lead..).unwrap_or_default();
        if rest.is_empty() || rest == b"\r" || rest == b"\r\n\r" {
            return Ok(None);
        }
        let Some((head, body)) = split_head(rest) else {
            return if rest.len() > MESSAGE_BYTES_MAX { Err(Error::TooLong) } else { Ok(None) };
        };
        let length = content_length(head)?;
        let whole = head.len().saturating_add(4).saturating_add(length);
        if whole > MESSAGE_BYTES_MAX {
            return Err(Error::TooLong);
        }
        if body.len() < length {
            return Ok(None);
        }
        self.buffer.advance(lead);
        Ok(Some(Frame::Message(self.buffer.split_to(whole).freeze())))
    }
}

/// RFC 3261 §18.3 asks for a Content-Length on streams; senders that leave it out mean an empty body.
fn content_length(head: &[u8]) -> Result<usize, Error> {
    let mut found = None;
    for line in head.split(|o| *o == b'\n') {
        let Some(colon) = line.iter().position(|o| *o == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if !long_name(name.trim()).eq_ignore_ascii_case("Content-Length") {
            continue;
        }
        let value = value.get(1..).and_then(|v| std::str::from_utf8(v).ok()).map(str::trim).unwrap_or_default();
        let number = value.parse::<usize>().ok().filter(|_| value.bytes().all(|b| b.is_ascii_digit())).ok_or(Error::ContentLength)?;
        if found.is_some_and(|before| before != number) {
            return Err(Error::ContentLength);
        }
        found = Some(number);
    }
    Ok(found.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn frames(stream: &[u8], piece: usize) -> Vec<Frame> {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for cut in stream.chunks(piece) {
            framer.push(cut);
            while let Some(frame) = framer.next_frame().expect("frames") {
                found.push(frame);
            }
        }
        found
    }

    const STREAM: &[u8] =
        b"\r\nINVITE a SIP/2.0\r\nl: 4\r\n\r\n\r\n\r\n\r\n\r\nBYE b SIP/2.0\r\n\r\nACK c SIP/2.0\r\nContent-Length : 0\r\n\r\n";

    proptest! {
        #[test]
        fn how_the_stream_is_cut_changes_nothing(piece in 1_usize..40) {
            prop_assert_eq!(frames(STREAM, piece), frames(STREAM, STREAM.len()));
            prop_assert_eq!(frames(STREAM, piece).len(), 4);
        }
    }

    /// One thing in a stream: its octets, and the frame it is.
    fn thing() -> impl Strategy<Value = (Vec<u8>, Frame)> {
        let length = prop::sample::select(vec!["Content-Length: ", "l:", "content-length : ", "L:  "]);
        let head = "[A-Z]{3,6} sip:[a-z]{1,5} SIP/2\\.0(\r\nX-[a-z]{1,5}: [ -9;-~]{0,20}){0,3}";
        let body = prop_oneof![vec(any::<u8>(), 0..40), Just(b"\r\n\r\nBYE b SIP/2.0\r\n\r\n".to_vec())];
        let message = (any::<bool>(), head, length, body).prop_map(|(lead, head, length, body)| {
            let message = [format!("{head}\r\n{length}{}\r\n\r\n", body.len()).into_bytes(), body].concat();
            // One line end before a message is passed over (RFC 3261 §7.5).
            let lead: &[u8] = if lead { b"\r\n" } else { b"" };
            ([lead, &message].concat(), Frame::Message(message.into()))
        });
        prop_oneof![4 => message, 1 => Just((b"\r\n\r\n".to_vec(), Frame::Ping))]
    }

    proptest! {
        #[test]
        fn what_was_put_in_comes_out_however_it_is_cut(things in vec(thing(), 0..6), cuts in vec(any::<prop::sample::Index>(), 0..12)) {
            let stream = things.iter().flat_map(|(octets, _)| octets.iter().copied()).collect::<Vec<_>>();
            let mut cuts = cuts.into_iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect::<Vec<_>>();
            cuts.sort_unstable();
            let mut framer = Framer::default();
            let mut found = Vec::new();
            for piece in cuts.windows(2) {
                framer.push(&stream[piece[0]..piece[1]]);
                while let Some(frame) = framer.next_frame().expect("frames") {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, things.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>());
            prop_assert_eq!(framer.buffered(), 0);
        }
    }

    #[test]
    fn a_stream_without_its_frame_stays_broken() {
        let mut framer = Framer::default();
        framer.push(b"BYE a SIP/2.0\r\nContent-Length: -1\r\n\r\n");
        assert_eq!(framer.next_frame(), Err(Error::ContentLength));
        framer.push(b"BYE a SIP/2.0\r\n\r\n");
        assert_eq!(framer.next_frame(), Err(Error::ContentLength));
    }

    #[test]
    fn two_hundred_and_twenty_seven_messages_of_others_at_every_cut() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/rfc3665/generic.txt");
        let stream = std::fs::read(path).expect("the stream");
        for power in 0..18 {
            let messages = frames(&stream, 1 << power).into_iter().filter(|f| matches!(f, Frame::Message(_))).count();
            assert_eq!(messages, 227, "in pieces of {}", 1 << power);
        }
    }
}
