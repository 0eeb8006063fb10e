//! Templates of a scheme: what is signed, and how a header holds the signature. What stands in braces is filled in, all else is as it is written.

/// A part of what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What every request has.
    Text(String),
    /// The message's id, as its header has it.
    Id,
    /// The time of signing, as its header has it.
    Timestamp,
    /// The body as it came.
    Body,
    /// The public address, with the query that came.
    Url,
    /// The parameters of a form, by name: name and value of each. Nothing where the address bears the hash of the body, which then has to be this one.
    Form,
}

/// How a header holds signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// One, or several with spaces between, each behind a word that may be missing, such as `sha256=` or `v1,`.
    Words(String),
    /// Pairs of a name and a value.
    Pairs {
        /// What stands between them.
        between: char,
        /// The name of the time of signing.
        time: String,
        /// The name of signatures.
        signature: String,
    },
}

/// What a template is made of.
enum Piece<'t> {
    Text(&'t str),
    /// What stands in braces.
    Place(&'t str),
}

/// The pieces of a template. A brace that nothing closes is text.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), template);
    while let Some((before, (name, after))) = rest.split_once('{').and_then(|(before, from)| Some((before, from.split_once('}')?))) {
        pieces.extend(Some(Piece::Text(before)).filter(|_| !before.is_empty()));
        pieces.push(Piece::Place(name));
        rest = after;
    }
    pieces.extend(Some(Piece::Text(rest)).filter(|_| !rest.is_empty()));
    pieces
}

/// What is signed, in order; otherwise the place that nobody knows.
pub(super) fn signed(template: &str) -> Result<Vec<Part>, String> {
    let part = |piece| match piece {
        Piece::Text(text) => Ok(Part::Text(text.to_owned())),
        Piece::Place("id") => Ok(Part::Id),
        Piece::Place("timestamp") => Ok(Part::Timestamp),
        Piece::Place("body") => Ok(Part::Body),
        Piece::Place("url") => Ok(Part::Url),
        Piece::Place("form") => Ok(Part::Form),
        Piece::Place(other) => Err(format!("{{{other}}}")),
    };
    pieces(template).into_iter().map(part).collect()
}

impl Form {
    /// Reads `sha256={signature}` or `t={timestamp},v1={signature}`; none where it is neither.
    pub(super) fn read(template: &str) -> Option<Self> {
        if let Some(prefix) = template.strip_suffix(SIGNATURE).filter(|prefix| !prefix.contains(['{', '}'])) {
            return Some(Self::Words(prefix.to_owned()));
        }
        let between = [',', ';'].into_iter().find(|between| template.contains(*between))?;
        let (first, second) = template.split_once(between)?;
        let name = |place: &str| {
            let of = |pair: &str| pair.trim().strip_suffix(place)?.strip_suffix('=').map(str::to_owned);
            of(first).or_else(|| of(second)).filter(|name| !name.is_empty() && !name.contains(['{', '}', '=', ',', ';']))
        };
        Some(Self::Pairs { between, time: name("{timestamp}")?, signature: name(SIGNATURE)? })
    }

    /// The signatures in a header.
    pub(super) fn signatures<'v>(&'v self, value: &'v str) -> Box<dyn Iterator<Item = &'v str> + 'v> {
        match self {
            Self::Words(prefix) => {
                let strip = |text: &'v str| text.strip_prefix(prefix.as_str()).unwrap_or(text);
                // The word before the first may itself hold a space.
                Box::new(strip(value).split(' ').map(strip))
            }
            Self::Pairs { between, signature, .. } => Box::new(pairs(value, *between, signature)),
        }
    }

    /// The time of signing in a header that holds it too; none there where it is missing.
    pub(super) fn time<'v>(&'v self, value: &'v str) -> Option<Option<&'v str>> {
        match self {
            Self::Words(_) => None,
            Self::Pairs { between, time, .. } => Some(pairs(value, *between, time).next()),
        }
    }
}

/// The place of the signature, of the token, of the secret.
pub(super) const SIGNATURE: &str = "{signature}";

/// The values of a name in `a=1,b=2`.
fn pairs<'v>(value: &'v str, between: char, name: &'v str) -> impl Iterator<Item = &'v str> {
    value.split(between).filter_map(move |part| part.trim().strip_prefix(name)?.strip_prefix('='))
}
