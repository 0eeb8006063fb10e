//! Whatever legal message is written is read as the same, however a peer may write it.

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::sip::uri::tests::{host, uri_text};

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.!%*_+`'~-]{1,12}"
}

/// Free text as header values and reason phrases have it: no line break, no white space at its ends.
fn words() -> impl Strategy<Value = String> {
    "[!-~äß€]([ -~\tä€]{0,30}[!-~ä])?"
}

/// `;name` or `;name=value`, each name once.
fn params() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    vec(("[a-z]{1,6}", option::of("[A-Za-z0-9.!%*_+`'~-]{1,12}")), 0..4).prop_map(|params| {
        let numbered = params.into_iter().enumerate();
        numbered.map(|(n, (name, value))| (format!("{name}{n}"), value)).collect()
    })
}

fn written(params: &[(String, Option<String>)]) -> String {
    params.iter().map(|(name, value)| value.as_ref().map_or_else(|| format!(";{name}"), |value| format!(";{name}={value}"))).collect()
}

fn via() -> impl Strategy<Value = String> {
    (prop_oneof![Just("UDP".to_owned()), Just("TCP".to_owned()), token()], host(), option::of(any::<u16>()), token(), params()).prop_map(
        |(transport, host, port, branch, params)| {
            let port = port.map(|p| format!(":{p}")).unwrap_or_default();
            format!("SIP/2.0/{transport} {host}{port};branch=z9hG4bK{branch}{}", written(&params))
        },
    )
}

fn address() -> impl Strategy<Value = String> {
    (option::of("[ -~ä€]{0,12}"), uri_text(), params()).prop_map(|(display, uri, params)| {
        let display = display.map(|d| format!("\"{}\" ", d.replace('\\', "\\\\").replace('"', "\\\""))).unwrap_or_default();
        format!("{display}<{uri}>{}", written(&params))
    })
}

/// What every message has, and some lines that nobody here knows, in any order.
fn headers(method: impl Strategy<Value = Method>) -> impl Strategy<Value = (Method, Headers)> {
    let known = (vec(vec(via(), 1..3), 1..3), address(), address(), "[!-~]{1,20}", 0_u32..1 << 31, option::of(any::<u8>()));
    let others = vec(("X-[A-Za-z0-9-]{1,10}", words()), 0..5);
    (method, known, vec(address(), 0..3), others).prop_flat_map(
        |(method, (vias, from, to, call_id, number, forwards), contacts, others)| {
            let mut lines = vec![
                ("From".to_owned(), from),
                ("To".into(), to),
                ("Call-ID".into(), call_id),
                ("CSeq".into(), format!("{number} {method}")),
            ];
            lines.extend(vias.into_iter().map(|line| ("Via".to_owned(), line.join(", "))));
            lines.extend(forwards.map(|n| ("Max-Forwards".to_owned(), n.to_string())));
            lines.extend(contacts.into_iter().map(|contact| ("Contact".to_owned(), contact)));
            lines.extend(others);
            (
                Just(method),
                Just(lines).prop_shuffle().prop_map(|lines| {
                    let mut headers = Headers::default();
                    lines.into_iter().for_each(|(name, value)| headers.push(name, value));
                    headers
                }),
            )
        },
    )
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![Just(Method::INVITE), Just(Method::BYE), token().prop_map(|t| Method::parse(&t))]
}

fn message() -> impl Strategy<Value = Message> {
    let body = || vec(any::<u8>(), 0..60);
    let request = (headers(method()), uri_text(), body()).prop_map(|((method, headers), uri, body)| {
        Message::Request(Request { method, uri: uri.parse().expect("a URI"), headers, body: body.into() })
    });
    let response = (headers(method()), 100_u16..700, option::of(words()), body()).prop_map(|((_, headers), status, reason, body)| {
        Message::Response(Response { status, reason: reason.unwrap_or_default(), headers, body: body.into() })
    });
    prop_oneof![request, response]
}

fn parts(message: &mut Message) -> (&mut Headers, &Bytes) {
    match message {
        Message::Request(request) => (&mut request.headers, &request.body),
        Message::Response(response) => (&mut response.headers, &response.body),
    }
}

/// How a peer may write a header line.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    compact: bool,
    capitals: bool,
    /// White space around the colon.
    apart: bool,
    /// The value goes on in the next line wherever it has a single space.
    folded: bool,
}

fn dialect() -> impl Strategy<Value = Dialect> {
    any::<[bool; 4]>().prop_map(|[compact, capitals, apart, folded]| Dialect { compact, capitals, apart, folded })
}

const COMPACT: [(&str, &str); 5] = [("Via", "v"), ("From", "f"), ("To", "t"), ("Call-ID", "i"), ("Contact", "m")];

fn line(Header { name, value, .. }: &Header, dialect: Dialect) -> String {
    let name = COMPACT.iter().find(|(long, _)| dialect.compact && long == name).map_or(name.as_str(), |(_, short)| short);
    let name = if dialect.capitals { name.to_ascii_uppercase() } else { name.to_owned() };
    let colon = if dialect.apart { " \t:  " } else { ":" };
    let mut folded = value.clone();
    if dialect.folded {
        for (at, _) in value.match_indices(' ').collect::<Vec<_>>().into_iter().rev() {
            let lone = |c: Option<char>| c.is_some_and(|c| !c.is_whitespace());
            if lone(value[..at].chars().next_back()) && lone(value[at + 1..].chars().next()) {
                folded.replace_range(at..=at, "\r\n \t");
            }
        }
    }
    format!("{name}{colon}{folded}\r\n")
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in message()) {
        let mut wanted = message.clone();
        let (headers, body) = parts(&mut wanted);
        headers.push("Content-Length", body.len().to_string());
        prop_assert_eq!(Message::parse(&message.to_bytes()), Ok(wanted));
    }

    #[test]
    fn however_a_peer_writes_it(message in message(), dialects in vec(dialect(), 40), lead in 0_usize..3, beyond in vec(any::<u8>(), 0..9)) {
        let mut wanted = message.clone();
        let (headers, body) = parts(&mut wanted);
        let octets = message.to_bytes();
        let start = octets.split(|o| *o == b'\r').next().expect("a start line");
        let mut text = [b"\r\n".repeat(lead).as_slice(), start, b"\r\n"].concat();
        let length = Header { name: "Content-Length".into(), compact: false, value: body.len().to_string() };
        for (header, dialect) in headers.iter().chain([&length]).zip(dialects) {
            text.extend(line(header, dialect).into_bytes());
        }
        text.extend([b"\r\n", &body[..], &beyond].concat());
        headers.push(length.name, length.value);
        let mut read = Message::parse(&text).expect("legal");
        let (read, read_body) = parts(&mut read);
        prop_assert_eq!(&read_body[..], &body[..]);
        let lines = |h: &Headers| h.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.clone())).collect::<Vec<_>>();
        prop_assert_eq!(lines(read), lines(headers));
    }

    #[test]
    fn a_via_tells_its_parts(
        transport in token(), host in host(), port in option::of(any::<u16>()), params in params(), apart: bool,
    ) {
        let sep = if apart { " / " } else { "/" };
        let at = port.map(|p| format!(":{p}")).unwrap_or_default();
        let via = Via::parse(&format!("SIP{sep}2.0{sep}{transport} {host}{at}{}", written(&params))).expect("a Via");
        prop_assert_eq!((&via.transport, via.port), (&transport, port));
        prop_assert_eq!(&via.host, host.trim_matches(['[', ']']));
        prop_assert_eq!(via.params().map(|(n, v)| (n.to_owned(), v.map(str::to_owned))).collect::<Vec<_>>(), params);
        prop_assert_eq!(Via::parse(&via.to_string()), Some(via));
    }

    #[test]
    fn an_address_tells_its_parts(display in option::of("[ -~ä€]{0,12}"), uri in uri_text(), params in params(), tag in token()) {
        let uri = uri.parse::<Uri>().expect("a URI");
        let quoted = display.as_ref().map(|d| format!("\"{}\" ", d.replace('\\', "\\\\").replace('"', "\\\""))).unwrap_or_default();
        let address = NameAddr::parse(&format!("{quoted}<{uri}>{}", written(&params))).expect("an address");
        prop_assert_eq!((&address.display, &address.uri), (&display, &uri));
        prop_assert_eq!(address.params().map(|(n, v)| (n.to_owned(), v.map(str::to_owned))).collect::<Vec<_>>(), params);
        prop_assert_eq!(NameAddr::parse(&address.to_string()), Ok(address.clone()));
        let tagged = address.clone().with_tag(&tag);
        prop_assert_eq!(tagged.tag(), Some(address.tag().unwrap_or(&tag)));
        prop_assert_eq!(NameAddr::parse(&tagged.to_string()), Ok(tagged));
    }
}
