//! Reads a session description. Lines may end in CRLF or LF and, as real phones have it, stand in any order within their section; types
//! that we have no use for are skipped.

use nom::{
    IResult, Parser,
    bytes::complete::{tag, take_till1, take_while1},
    character::complete::{char, digit1, space1, u16 as number16},
    combinator::{all_consuming, opt, verify},
    multi::separated_list1,
    sequence::{preceded, terminated},
};

use super::session::{Attribute, Media, Origin, Session};

/// Why a body is no session description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin as one.
    #[error("the body does not begin with v=0 (RFC 8866 §5.1)")]
    NotSdp,
    /// A line cannot be read.
    #[error("line {line} of the session description is malformed: expected {expected}")]
    Line {
        /// From 1.
        line: usize,
        /// What should stand there, with the RFC's section.
        expected: &'static str,
    },
    /// A line that has to be there is not.
    #[error("the session description has no {0}")]
    Missing(&'static str),
    /// More than anybody needs.
    #[error("the session description has more than {0}")]
    TooMany(&'static str),
}

fn word(input: &str) -> IResult<&str, &str> {
    take_till1(char::is_whitespace).parse(input)
}

/// `o=<username> <sess-id> <sess-version> <nettype> <addrtype> <unicast-address>`, RFC 8866 §5.2.
fn origin(input: &str) -> IResult<&str, Origin> {
    let (input, user) = terminated(word, space1).parse(input)?;
    let (input, id) = terminated(word, space1).parse(input)?;
    let (input, version) = terminated(word, space1).parse(input)?;
    let (input, host) = host(input)?;
    Ok((input, Origin { user: user.into(), id: id.into(), version: version.into(), host }))
}

/// `IN IP4 <address>`, with the TTL of a multicast address cut off, RFC 8866 §5.7.
fn host(input: &str) -> IResult<&str, String> {
    let (input, _) = (tag("IN"), space1, word, space1).parse(input)?;
    let (input, address) = take_till1(|c: char| c.is_whitespace() || c == '/').parse(input)?;
    let (input, _) = opt(preceded(char('/'), word)).parse(input)?;
    Ok((input, address.into()))
}

/// `m=<media> <port>[/<number>] <proto> <fmt> ...`, RFC 8866 §5.14.
fn media(input: &str) -> IResult<&str, Media> {
    let (input, kind) = terminated(word, space1).parse(input)?;
    let (input, port) = terminated(number16, (opt(preceded(char('/'), digit1)), space1)).parse(input)?;
    let (input, protocol) = terminated(word, space1).parse(input)?;
    let (input, formats) = separated_list1(space1, word).parse(input)?;
    let formats = formats.into_iter().map(str::to_owned).collect();
    Ok((input, Media { kind: kind.into(), port, protocol: protocol.into(), formats, connection: None, attributes: Vec::new() }))
}

/// `<attribute>[:<value>]`, RFC 8866 §5.13.
fn attribute(input: &str) -> IResult<&str, Attribute> {
    let (input, name) = verify(take_while1(|c: char| c != ':'), |name: &str| !name.trim().is_empty()).parse(input)?;
    let (rest, value) = match input.strip_prefix(':') {
        Some(value) => ("", Some(value.to_owned())),
        None => (input, None),
    };
    Ok((rest, Attribute { name: name.trim_end().into(), value }))
}

fn whole<'i, T>(parser: impl Parser<&'i str, Output = T, Error = nom::error::Error<&'i str>>, text: &'i str) -> Option<T> {
    all_consuming(parser).parse(text.trim_end()).ok().map(|(_, value)| value)
}

impl Session {
    /// Reads a body of type `application/sdp`. Octets that are not UTF-8 become U+FFFD: only free text can hold them.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(body);
        let mut lines = (1_usize..).zip(text.lines().map(|l| l.trim_end_matches('\r')));
        if lines.next().is_none_or(|(_, first)| first.trim_end() != "v=0") {
            return Err(Error::NotSdp);
        }
        let mut origin = None;
        let mut session = Self {
            origin: Origin { user: String::new(), id: String::new(), version: String::new(), host: String::new() },
            name: "-".into(),
            connection: None,
            attributes: Vec::new(),
            media: Vec::new(),
        };
        let mut attributes = 0_usize;
        for (line, content) in lines {
            if content.trim().is_empty() {
                continue;
            }
            let malformed = |expected| Error::Line { line, expected };
            if content.chars().any(|c| c.is_control() && c != '\t') {
                return Err(malformed("no control characters (RFC 8866 §9, non-ws-string)"));
            }
            let (kind, value) = content.split_once('=').ok_or(malformed("<type>=<value> (RFC 8866 §5)"))?;
            match kind {
                "o" => {
                    origin = Some(whole(self::origin, value).ok_or(malformed("o=<user> <id> <version> IN IP4 <address> (RFC 8866 §5.2)"))?)
                }
                // The law parse(emit(x)) == x: an empty name, which RFC 8866 §5.3 forbids and phones send, is the `-` that it asks for.
                "s" if !value.trim().is_empty() => session.name = value.into(),
                "c" => {
                    let host = whole(host, value).ok_or(malformed("c=IN IP4 <address> (RFC 8866 §5.7)"))?;
                    match session.media.last_mut() {
                        Some(media) => media.connection.get_or_insert(host),
                        None => session.connection.insert(host),
                    };
                }
                "m" => {
                    if session.media.len() >= MEDIA_MAX {
                        return Err(Error::TooMany("32 m= lines"));
                    }
                    session.media.push(whole(media, value).ok_or(malformed("m=<media> <port> <proto> <fmt> (RFC 8866 §5.14)"))?);
                }
                "a" => {
                    attributes = attributes.saturating_add(1);
                    if attributes > ATTRIBUTES_MAX {
                        return Err(Error::TooMany("512 attributes"));
                    }
                    let attribute = whole(attribute, value).ok_or(malformed("a=<attribute>[:<value>] (RFC 8866 §5.13)"))?;
                    match session.media.last_mut() {
                        Some(media) => media.attributes.push(attribute),
                        None => session.attributes.push(attribute),
                    }
                }
                one if one.len() == 1 => {}
                _ => return Err(malformed("a type of one letter (RFC 8866 §5)")),
            }
        }
        session.origin = origin.ok_or(Error::Missing("o= line (RFC 8866 §5.2)"))?;
        Ok(session)
    }
}

/// Sections of a description; a video room has a handful.
const MEDIA_MAX: usize = 32;
/// Attributes of a description; the longest seen, a browser's, has about 200.
const ATTRIBUTES_MAX: usize = 512;
