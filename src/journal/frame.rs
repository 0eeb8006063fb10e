//! One entry as octets, little-endian:
//!
//! | octets | |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | kind |
//! | 1 | flags: 1 = ends its batch, 2 = its body was taken away |
//! | 1 | 0 |
//! | 4 | batch, counted within the segment from 1 |
//! | 4 | length of the skeleton |
//! | 4 | length of the body |
//! | 4 | CRC-32C of all of the above and of the skeleton |
//! | n | skeleton: time in µs (8), key of the body (4, 0 = in the clear), SHA-256 of the body (32), id and key, each with a length octet |
//! | 4 | CRC-32C of the body |
//! | n | body |
//!
//! Of a body that was taken away stands how long it was (4), and what is left of it; its hash is that of what is left, since that of a short text would tell the
//! text to whoever tries a few.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::entry::{Entry, EntryKind};
use crate::time::Wall;

/// Why octets are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// They end before the frame does.
    #[error("the frame is cut short")]
    Short,
    /// A version that this program does not know.
    #[error("the frame has version {0}; this program reads version 1: use the program that wrote it, or a later one")]
    Version(u8),
    /// A length that no writer of ours writes.
    #[error("the frame's lengths make no sense")]
    Length,
    /// The first checksum does not fit.
    #[error("the skeleton's checksum does not fit")]
    Skeleton,
    /// The second one does not.
    #[error("the body's checksum does not fit")]
    Body,
}

/// A frame read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What it holds.
    pub entry: Entry,
    /// Its batch.
    pub batch: u32,
    /// Whether it is the last of its batch.
    pub ends_batch: bool,
    /// Octets it takes.
    pub length: usize,
    /// Octets it took as it was written: what positions count.
    pub stood: usize,
}

/// A frame without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// What the entry is about.
    pub kind: EntryKind,
    /// When, by the wall clock.
    pub time: Wall,
    /// The entry's id.
    pub id: String,
    /// What it belongs to.
    pub key: String,
    /// SHA-256 of the body, to know a copy by.
    pub body_sha256: [u8; 32],
    /// Its batch.
    pub batch: u32,
    /// Whether it is the last of its batch.
    pub ends_batch: bool,
    /// Whether its body was taken away.
    pub pruned: bool,
    /// Where the body stands, in octets from the start of the frame; the frame ends with it.
    pub body: Range<usize>,
}

/// The header of a segment.
pub fn write_header(segment: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let (text, sum) = header.split_at_mut(HEADER_BYTES - 4);
    for (to, from) in text.iter_mut().zip(MAGIC.iter().chain(&segment.to_le_bytes())) {
        *to = *from;
    }
    sum.copy_from_slice(&crc32c::crc32c(text).to_le_bytes());
    header
}

/// The number in a segment's header; none where it is not one.
pub fn read_header(octets: &[u8]) -> Option<u64> {
    let header = octets.get(..HEADER_BYTES)?;
    let number = u64::from_le_bytes(header.get(MAGIC.len()..MAGIC.len() + 8)?.try_into().ok()?);
    (header == write_header(number)).then_some(number)
}

/// Appends the frames of `entries` to `out` as batch number `batch`. Returns where each begins, counted from the start of `out`.
pub fn encode_batch(entries: &[Entry], batch: u32, out: &mut Vec<u8>) -> Vec<usize> {
    let begins: Vec<_> = entries.iter().map(|entry| encode(entry, batch, out)).collect();
    if let Some(last) = begins.last() {
        end_batch(out, *last);
    }
    begins
}

/// Appends the frame of `entry` to `out` as one of batch number `batch`, which others may follow. Returns where it begins, counted from the start of `out`.
pub fn encode(entry: &Entry, batch: u32, out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    let mut skeleton = Vec::with_capacity(SKELETON_BYTES_MIN + entry.id.len() + entry.key.len());
    skeleton.extend_from_slice(&entry.time.as_micros().to_le_bytes());
    skeleton.extend_from_slice(&IN_THE_CLEAR.to_le_bytes());
    skeleton.extend_from_slice(&Sha256::digest(&entry.body));
    for text in [&entry.id, &entry.key] {
        let text = cut(text);
        skeleton.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        skeleton.extend_from_slice(text.as_bytes());
    }
    let body = entry.body.get(..ENTRY_BYTES_MAX).unwrap_or(&entry.body);
    out.extend_from_slice(&[VERSION, entry.kind.code(), 0, 0]);
    out.extend_from_slice(&batch.to_le_bytes());
    out.extend_from_slice(&length(&skeleton));
    out.extend_from_slice(&length(body));
    let sum = crc32c::crc32c(out.get(begin..).unwrap_or_default());
    out.extend_from_slice(&crc32c::crc32c_append(sum, &skeleton).to_le_bytes());
    out.extend_from_slice(&skeleton);
    out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    out.extend_from_slice(body);
    begin
}

/// Says of the frame that begins at `last` in `out` that it is its batch's last one. Where no frame is, nothing happens.
pub fn end_batch(out: &mut [u8], last: usize) {
    let Some((head, rest)) = out.get_mut(last..).and_then(|frame| frame.split_first_chunk_mut::<{ FRAME_HEAD_BYTES - 4 }>()) else {
        return;
    };
    let Some((sum, rest)) = rest.split_first_chunk_mut::<4>() else { return };
    let [_, _, flags, _, _, _, _, _, length @ .., _, _, _, _] = head;
    *flags |= ENDS_BATCH;
    let Some(skeleton) = size(u32::from_le_bytes(*length), SKELETON_BYTES_MAX).ok().and_then(|length| rest.get(..length)) else { return };
    *sum = crc32c::crc32c_append(crc32c::crc32c(head), skeleton).to_le_bytes();
}

fn length(octets: &[u8]) -> [u8; 4] {
    u32::try_from(octets.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// The longest start of `text` that a length octet can tell.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(255)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Reads the frame at the start of `octets`.
pub fn decode(octets: &[u8]) -> Result<Decoded, Fault> {
    let Skeleton { kind, time, id, key, batch, ends_batch, pruned, body, .. } = decode_skeleton(octets)?;
    let (from, length) = (body.start, body.end);
    let mut body = read_body(octets, body)?;
    let mut stood = length;
    if pruned {
        let was = u32::from_le_bytes(array(&mut body).map_err(|_| Fault::Length)?);
        stood = from.saturating_add(size(was, ENTRY_BYTES_MAX)?);
    }
    Ok(Decoded { entry: Entry { kind, time, id, key, body: body.to_vec() }, batch, ends_batch, length, stood })
}

/// A frame with `left` in the place of its body; none where it is no frame, or `left` is too long.
pub(super) fn pruned(frame: &[u8], left: &[u8]) -> Option<Vec<u8>> {
    let Decoded { stood, .. } = decode(frame).ok()?;
    let Skeleton { body, .. } = decode_skeleton(frame).ok()?;
    let was = u32::try_from(stood.checked_sub(body.start)?).ok()?;
    let content = [&was.to_le_bytes(), left].concat();
    if content.len() > ENTRY_BYTES_MAX {
        return None;
    }
    let mut head: [u8; FRAME_HEAD_BYTES - 4] = frame.get(..FRAME_HEAD_BYTES - 4)?.try_into().ok()?;
    *head.get_mut(FLAGS)? |= PRUNED;
    let (_, body_length) = head.split_last_chunk_mut::<4>()?;
    *body_length = length(&content);
    let mut skeleton = frame.get(FRAME_HEAD_BYTES..body.start.checked_sub(BODY_SUM_BYTES)?)?.to_vec();
    skeleton.get_mut(HASH)?.copy_from_slice(&Sha256::digest(left));
    let mut out = head.to_vec();
    out.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&head), &skeleton).to_le_bytes());
    out.extend(skeleton);
    out.extend_from_slice(&crc32c::crc32c(&content).to_le_bytes());
    out.extend(content);
    Some(out)
}

/// Reads the first part of the frame at the start of `octets`, whatever has become of its body.
pub fn decode_skeleton(octets: &[u8]) -> Result<Skeleton, Fault> {
    let mut rest = octets;
    let head = take(&mut rest, FRAME_HEAD_BYTES - 4)?;
    let mut fields = head;
    let [version, kind, flags, _] = array(&mut fields)?;
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    let batch = u32::from_le_bytes(array(&mut fields)?);
    let skeleton_length = size(u32::from_le_bytes(array(&mut fields)?), SKELETON_BYTES_MAX)?;
    let body_length = size(u32::from_le_bytes(array(&mut fields)?), ENTRY_BYTES_MAX)?;
    let sum = u32::from_le_bytes(array(&mut rest)?);
    let skeleton = take(&mut rest, skeleton_length)?;
    if crc32c::crc32c_append(crc32c::crc32c(head), skeleton) != sum {
        return Err(Fault::Skeleton);
    }
    let body = octets.len().saturating_sub(rest.len()).saturating_add(BODY_SUM_BYTES);
    let mut fields = skeleton;
    let time = Wall::from_micros(i64::from_le_bytes(array(&mut fields)?));
    let _body_key: [u8; 4] = array(&mut fields)?;
    let body_sha256 = array(&mut fields)?;
    let (id, key) = (text(&mut fields)?, text(&mut fields)?);
    Ok(Skeleton {
        kind: EntryKind::from_code(kind),
        time,
        id,
        key,
        body_sha256,
        batch,
        ends_batch: flags & ENDS_BATCH != 0,
        pruned: flags & PRUNED != 0,
        body: body..body.saturating_add(body_length),
    })
}

/// The octets of a body at `at` in a frame, if they fit the checksum before them.
fn read_body(frame: &[u8], at: Range<usize>) -> Result<&[u8], Fault> {
    let sum = frame.get(at.start.saturating_sub(BODY_SUM_BYTES)..at.start).and_then(|s| s.try_into().ok()).ok_or(Fault::Short)?;
    let body = frame.get(at).ok_or(Fault::Short)?;
    if crc32c::crc32c(body) == u32::from_le_bytes(sum) { Ok(body) } else { Err(Fault::Body) }
}

fn size(length: u32, most: usize) -> Result<usize, Fault> {
    usize::try_from(length).ok().filter(|l| *l <= most).ok_or(Fault::Length)
}

fn take<'o>(rest: &mut &'o [u8], length: usize) -> Result<&'o [u8], Fault> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Fault::Short)?;
    *rest = left;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    take(rest, N)?.try_into().map_err(|_| Fault::Short)
}

fn text(rest: &mut &[u8]) -> Result<String, Fault> {
    let [length] = array(rest)?;
    Ok(String::from_utf8_lossy(take(rest, usize::from(length))?).into_owned())
}

const VERSION: u8 = 1;
const ENDS_BATCH: u8 = 1;
const PRUNED: u8 = 2;
/// Where the flags stand in a frame.
const FLAGS: usize = 2;
/// Where the hash stands in a skeleton: behind the time and the key of the body.
const HASH: Range<usize> = 12..44;
/// Begins each segment.
const MAGIC: &[u8; 8] = b"offhookJ";
/// Octets of a segment's header: magic, number, checksum.
pub const HEADER_BYTES: usize = 20;
/// Octets of a frame before its skeleton.
const FRAME_HEAD_BYTES: usize = 20;
/// Octets of the checksum before a body.
pub(super) const BODY_SUM_BYTES: usize = 4;
/// Time, key of the body, hash, two length octets.
const SKELETON_BYTES_MIN: usize = 8 + 4 + 32 + 2;
const SKELETON_BYTES_MAX: usize = SKELETON_BYTES_MIN + 2 * 255;
/// Longest body: the longest webhook that is taken (1 MiB), and its headers.
pub const ENTRY_BYTES_MAX: usize = 2 << 20;
/// Key id of a body that is not encrypted.
const IN_THE_CLEAR: u32 = 0;
