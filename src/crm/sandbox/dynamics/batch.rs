//! `$batch`: several requests in one, as multipart/mixed with parts of application/http (OData 4.0 part 1, §11.7).

use super::super::{Answer, Body, Request, SCHEME_HEADER};

/// Requests that a batch may hold.
pub(super) const PARTS_MAX: usize = 1000;

/// Why a batch cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The requests of a batch, each with the authorisation, the scheme and the host of the whole.
pub(super) fn read(request: &Request) -> Result<Vec<Request>, Malformed> {
    let kind = request.header("content-type").unwrap_or_default();
    let Some(boundary) = kind.strip_prefix("multipart/mixed").and_then(|rest| rest.split_once("boundary=")) else {
        return Err(Malformed("Content-Type is not multipart/mixed with a boundary"));
    };
    let boundary = boundary.1.trim().trim_matches('"');
    let text = std::str::from_utf8(&request.body).map_err(|_| Malformed("the body is not UTF-8"))?;
    if text.replace("\r\n", "").contains('\n') {
        // Inside a part's JSON a line may end as it likes; between its lines of headers it may not.
        let bare = text.split("--").any(|part| part.split("\r\n\r\n").next().is_some_and(|head| head.replace("\r\n", "").contains('\n')));
        if bare {
            return Err(Malformed("lines of a batch end with CRLF"));
        }
    }
    let delimiter = format!("--{boundary}");
    let mut parts = text.split(delimiter.as_str()).skip(1).peekable();
    let mut requests = Vec::new();
    loop {
        let Some(part) = parts.next() else { return Err(Malformed("the batch has no end")) };
        if part.starts_with("--") {
            return Ok(requests);
        }
        requests.push(one(part, request)?);
    }
}

fn one(part: &str, whole: &Request) -> Result<Request, Malformed> {
    let part = part.strip_prefix("\r\n").ok_or(Malformed("a boundary ends with CRLF"))?;
    let (mime, http) = part.split_once("\r\n\r\n").ok_or(Malformed("a part has no empty line after its headers"))?;
    let mime = headers(mime);
    let of = |name: &str| mime.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
    if of("content-type").starts_with("multipart/mixed") {
        return Err(Malformed("change sets are not built"));
    }
    if !of("content-type").starts_with("application/http") || of("content-transfer-encoding") != "binary" {
        return Err(Malformed("a part is not application/http in binary"));
    }
    let (head, body) = http.split_once("\r\n\r\n").ok_or(Malformed("a part's request has no empty line after its headers"))?;
    let (line, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut words = line.split(' ');
    let (Some(method), Some(address), Some("HTTP/1.1"), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(Malformed("a part's first line is no request line"));
    };
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => address,
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/api/data/v9.2/{path}") };
    let (path, query) = path.split_once('?').unwrap_or((path.as_str(), ""));
    let mut headers = headers(rest);
    headers.extend(whole.headers.iter().filter(|(name, _)| ["authorization", "host", SCHEME_HEADER].contains(&name.as_str())).cloned());
    Ok(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: body.trim_end_matches("\r\n").as_bytes().to_vec(),
    })
}

fn headers(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    text.split("\r\n").filter_map(pair).collect()
}

/// The answer to a batch: an answer a part, in order.
pub(super) fn answer(status: u16, answers: &[Answer], unique: u64) -> Answer {
    let boundary = format!("batchresponse_{unique:032x}");
    let mut text = String::new();
    for answer in answers {
        text.push_str(&format!("--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"));
        text.push_str(&format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status)));
        if let Some(kind) = answer.body.content_type() {
            text.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        for (name, value) in &answer.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(&String::from_utf8_lossy(&answer.body.octets()));
        text.push_str("\r\n");
    }
    text.push_str(&format!("--{boundary}--\r\n"));
    let headers = vec![("odata-version", "4.0".to_owned())];
    Answer { status, headers, body: Body::Other(format!("multipart/mixed; boundary={boundary}"), text.into_bytes()) }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        412 => "Precondition Failed",
        429 => "Too Many Requests",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str) -> Request {
        Request {
            method: "POST".into(),
            path: "/api/data/v9.2/$batch".into(),
            query: String::new(),
            headers: vec![("content-type".into(), "multipart/mixed; boundary=\"b\"".into()), ("authorization".into(), "Bearer t".into())],
            body: body.as_bytes().to_vec(),
        }
    }

    const MIME: &str = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n";

    #[test]
    fn parts_are_requests_of_their_own() {
        let text = format!(
            "{MIME}PATCH /api/data/v9.2/x(k='1') HTTP/1.1\r\nContent-Type: application/json\r\nIf-Match: *\r\n\r\n{{\"a\":\n1}}\r\n{MIME}GET http://h/api/data/v9.2/x?$top=1 HTTP/1.1\r\n\r\n\r\n--b--\r\n"
        );
        let read = read(&request(&text)).expect("a batch");
        let [first, second] = read.as_slice() else { panic!("{read:?}") };
        assert_eq!((first.method.as_str(), first.header("if-match"), first.bearer()), ("PATCH", Some("*"), Some("t")));
        assert_eq!(first.body, b"{\"a\":\n1}");
        assert_eq!((second.path.as_str(), second.query.as_str()), ("/api/data/v9.2/x", "$top=1"));
    }

    #[test]
    fn what_is_no_batch_is_said_to_be_none() {
        let whole = format!("{MIME}GET /x HTTP/1.1\r\n\r\n\r\n--b--\r\n");
        assert!(read(&request(&whole)).is_ok());
        for (from, to) in
            [("\r\n", "\n"), ("--b--", ""), ("binary", "8bit"), ("application/http", "multipart/mixed; boundary=c"), (" HTTP/1.1", "")]
        {
            assert!(read(&request(&whole.replace(from, to))).is_err(), "{from:?} by {to:?}");
        }
    }
}
