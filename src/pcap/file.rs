//! The two forms of a capture file, read frame by frame out of whatever has come of it so far.

use crate::time::Wall;

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// From 1, as every other tool counts.
    pub number: u64,
    /// When it was captured.
    pub at: Wall,
    /// Link type (LINKTYPE_ values).
    pub link: u16,
    /// What was captured of it.
    pub bytes: &'a [u8],
}

/// Where a file can be read no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after frame {frame}, at octet {offset}: {why}")]
pub struct Stopped {
    /// The last frame that was read.
    pub frame: u64,
    /// Octets from the start of the file.
    pub offset: u64,
    /// What is wrong there.
    pub why: &'static str,
}

/// Reads a file's frames one after the other.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// What has come and is not read yet, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// Octets of the file before the buffer.
    before: u64,
    number: u64,
    /// Time of the last frame.
    last: Wall,
    /// None until the file's head was seen.
    form: Option<Form>,
    /// Nothing more comes.
    whole: bool,
    stopped: bool,
}

#[derive(Clone, Debug)]
enum Form {
    /// One link type and one resolution for the whole file.
    Classic { big: bool, nanos: bool, link: u16 },
    /// Interfaces of the section: link type and octet of resolution.
    Next { big: bool, interfaces: Vec<(u16, u8)> },
}

/// What the next octets are.
enum Piece {
    /// A frame: its time, its link type, where its octets are.
    Frame(Wall, u16, std::ops::Range<usize>),
    /// Something that is no frame.
    Other,
    /// Not all of it has come yet; in a whole file that is its end, or a fault with this name.
    Wanting(&'static str),
    /// The file is damaged.
    Bad(&'static str),
}

/// Frames longer than this are no frames: what every capture tool takes for the most.
const FRAME_MAX: usize = 262_144;
/// Blocks longer than this are none: a frame and its options.
const BLOCK_MAX: usize = 1_048_576;
/// Interfaces of a section.
const INTERFACES_MAX: usize = 256;
/// Octets that were read are let go of when there are so many of them.
const READ_MAX: usize = 65_536;

impl Reader {
    /// More of the file.
    pub fn push(&mut self, octets: &[u8]) {
        if self.at >= READ_MAX.max(self.buffer.len() / 2) {
            self.buffer.drain(..self.at);
            self.before += self.at as u64;
            self.at = 0;
        }
        self.buffer.extend_from_slice(octets);
    }

    /// Nothing more comes.
    pub fn end(&mut self) {
        self.whole = true;
    }

    /// The next frame; none until more of the file has come, and after its end.
    pub fn next_frame(&mut self) -> Option<Result<Frame<'_>, Stopped>> {
        loop {
            if self.stopped || (self.whole && self.form.is_some() && self.at >= self.buffer.len()) {
                return None;
            }
            let (piece, end) = match &self.form {
                None => self.head(),
                Some(Form::Classic { big, nanos, link }) => self.classic(*big, *nanos, *link),
                Some(Form::Next { .. }) => self.block(),
            };
            match piece {
                Piece::Frame(at, link, place) => {
                    self.at = end;
                    self.number += 1;
                    self.last = at;
                    return Some(Ok(Frame { number: self.number, at, link, bytes: self.buffer.get(place).unwrap_or_default() }));
                }
                Piece::Other => self.at = end,
                Piece::Wanting(_) if !self.whole => return None,
                Piece::Wanting(why) | Piece::Bad(why) => {
                    self.stopped = true;
                    return Some(Err(Stopped { frame: self.number, offset: self.before + self.at as u64, why }));
                }
            }
        }
    }

    fn long(&self, at: usize, big: bool) -> Option<u32> {
        let octets = self.buffer.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) })
    }

    fn size(&self, at: usize, big: bool) -> Option<usize> {
        usize::try_from(self.long(at, big)?).ok()
    }

    fn head(&mut self) -> (Piece, usize) {
        let (big, nanos) = match self.buffer.first_chunk::<4>() {
            None => return (Piece::Wanting("shorter than the head of a capture"), 0),
            Some([0xd4, 0xc3, 0xb2, 0xa1]) => (false, false),
            Some([0x4d, 0x3c, 0xb2, 0xa1]) => (false, true),
            Some([0xa1, 0xb2, 0xc3, 0xd4]) => (true, false),
            Some([0xa1, 0xb2, 0x3c, 0x4d]) => (true, true),
            Some([0x0a, 0x0d, 0x0d, 0x0a]) => {
                self.form = Some(Form::Next { big: false, interfaces: Vec::new() });
                return (Piece::Other, 0);
            }
            Some(_) => return (Piece::Bad("neither a pcap nor a pcapng file: save it as one of the two"), 0),
        };
        let Some(link) = self.long(20, big) else { return (Piece::Wanting("shorter than the head of a capture"), 0) };
        // The upper bits tell of checksums and are not part of the type.
        self.form = Some(Form::Classic { big, nanos, link: u16::try_from(link & 0xffff).unwrap_or(0) });
        (Piece::Other, 24)
    }

    fn classic(&self, big: bool, nanos: bool, link: u16) -> (Piece, usize) {
        let head = (self.long(self.at, big), self.long(self.at + 4, big), self.size(self.at + 8, big));
        let (Some(seconds), Some(parts), Some(length)) = head else { return (Piece::Wanting("the file ends within a frame's head"), 0) };
        if length > FRAME_MAX {
            return (Piece::Bad("a frame longer than any: the file is damaged"), 0);
        }
        let place = self.at + 16..self.at + 16 + length;
        // The head of a frame is all that is before the next.
        if self.buffer.len() < place.end || self.long(self.at + 12, big).is_none() {
            return (Piece::Wanting("the file ends within a frame"), 0);
        }
        let micros = i64::from(seconds) * 1_000_000 + i64::from(parts) / if nanos { 1000 } else { 1 };
        let end = place.end;
        (Piece::Frame(Wall::from_micros(micros), link, place), end)
    }

    fn block(&mut self) -> (Piece, usize) {
        let start = self.at;
        if self.buffer.get(start..start + 4) == Some(&[0x0a, 0x0d, 0x0d, 0x0a]) {
            let big = match self.buffer.get(start + 8..start + 12) {
                Some([0x1a, 0x2b, 0x3c, 0x4d]) => true,
                Some([0x4d, 0x3c, 0x2b, 0x1a]) => false,
                Some(_) => return (Piece::Bad("a section whose byte order cannot be told"), 0),
                None => return (Piece::Wanting("the file ends within a block's head"), 0),
            };
            self.form = Some(Form::Next { big, interfaces: Vec::new() });
        }
        let Some(Form::Next { big, .. }) = self.form else { return (Piece::Bad("a block outside a section"), 0) };
        let (Some(kind), Some(length)) = (self.long(start, big), self.size(start + 4, big)) else {
            return (Piece::Wanting("the file ends within a block's head"), 0);
        };
        if length < 12 || !length.is_multiple_of(4) || length > BLOCK_MAX {
            return (Piece::Bad("a block whose length cannot be"), 0);
        }
        let end = start + length;
        if self.buffer.len() < end {
            return (Piece::Wanting("the file ends within a block"), 0);
        }
        match kind {
            1 => {
                self.interface(start, end, big);
                (Piece::Other, end)
            }
            // Enhanced, the obsolete one before it, and the simple one without a time.
            2 | 6 => (self.packet_block(kind, start, end, big).unwrap_or(Piece::Bad("a packet block whose lengths do not fit")), end),
            3 => (self.simple_block(start, end, big).unwrap_or(Piece::Bad("a simple packet block before any interface")), end),
            _ => (Piece::Other, end),
        }
    }

    fn interface(&mut self, start: usize, end: usize, big: bool) {
        let two = |at: usize| {
            let octets = self.buffer.get(at..at + 2)?.try_into().ok()?;
            Some(if big { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) })
        };
        let link = two(start + 8).unwrap_or(0);
        let mut resolution = 6;
        let mut at = start + 16;
        // Options: code, length, value padded to four octets; 9 is the time stamps' resolution.
        while let (true, Some(code), Some(length)) = (at + 4 <= end, two(at), two(at + 2)) {
            match code {
                0 => break,
                9 => resolution = self.buffer.get(at + 4).copied().unwrap_or(6),
                _ => {}
            }
            at += 4 + usize::from(length).next_multiple_of(4);
        }
        if let Some(Form::Next { interfaces, .. }) = &mut self.form
            && interfaces.len() < INTERFACES_MAX
        {
            interfaces.push((link, resolution));
        }
    }

    /// A packet of the first interface; its time is that of the frame before, since it has none.
    fn simple_block(&self, start: usize, end: usize, big: bool) -> Option<Piece> {
        let length = self.size(start + 8, big)?;
        let place = start + 12..(start + 12).checked_add(length)?.min(end.checked_sub(4)?);
        self.buffer.get(place.clone())?;
        let Some(Form::Next { interfaces, .. }) = &self.form else { return None };
        Some(Piece::Frame(self.last, interfaces.first()?.0, place))
    }

    fn packet_block(&self, kind: u32, start: usize, end: usize, big: bool) -> Option<Piece> {
        let interface = match kind {
            // Two octets, and two that count drops.
            2 => {
                let octets = self.buffer.get(start + 8..start + 10)?.try_into().ok()?;
                usize::from(if big { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) })
            }
            _ => self.size(start + 8, big)?,
        };
        let (high, low) = (u64::from(self.long(start + 12, big)?), u64::from(self.long(start + 16, big)?));
        let length = self.size(start + 20, big)?;
        let place = start + 28..(start + 28).checked_add(length)?.min(end);
        self.buffer.get(place.clone())?;
        let Some(Form::Next { interfaces, .. }) = &self.form else { return None };
        let (link, resolution) = *interfaces.get(interface)?;
        let stamp = (high << 32) | low;
        let micros = match resolution {
            ten @ 0..=6 => stamp.saturating_mul(10_u64.pow(6 - u32::from(ten))),
            ten @ 7..=25 => stamp / 10_u64.pow((u32::from(ten) - 6).min(19)),
            two => {
                let shift = u32::from(two & 0x7f).min(63);
                u64::try_from((u128::from(stamp) * 1_000_000) >> shift).unwrap_or(u64::MAX)
            }
        };
        Some(Piece::Frame(Wall::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)), link, place))
    }
}
