//! Bytes to a request's head: where it ends, and what RFC 9112 says it means.
//!
//! httparse checks the syntax of lines; everything about how long a message is, and to whom it goes, is decided here.
//! Where the RFC lets a server repair a request, this one refuses it: two hops that repair differently are how requests
//! are smuggled.

use std::mem::MaybeUninit;

use httparse::Header;

use crate::config::Limits;
use crate::protocol::request::Code;
use crate::rest::{Authority, Head, Method, Refusal};

/// Most header fields that any configuration can allow: their places are on the stack.
pub(crate) const FIELDS_MAX: usize = 256;

/// Where httparse puts the fields of one head.
pub(crate) type Fields<'b> = [MaybeUninit<Header<'b>>; FIELDS_MAX];

/// RFC 9112 section 2.2 lets a recipient accept a lone LF. Where another hop does not, that is a way to smuggle.
pub(crate) const LONE_LF: &str = "a line ends with LF alone; end each with CR LF";

const BAD_TARGET: &str = "the request target is malformed; it is a path from `/` on, in the characters of RFC 3986";
const BAD_HOST: &str = "the host is malformed; it is a name or an address, with or without a port";
const BAD_CODING: &str = "Transfer-Encoding must be `chunked`, once, and in HTTP/1.1";

/// How long the head at the front of `bytes` is, its empty line included, once all of it is there. `line` is where the
/// line begins that was not complete the last time; at first 0.
pub(crate) fn find_end(bytes: &[u8], line: &mut usize, limits: &Limits) -> Result<Option<usize>, Refusal> {
    loop {
        let end = memchr::memchr(b'\n', &bytes[*line..]).map(|found| *line + found);
        // A CR at the end may belong to the line's end, which does not count.
        let length = end.unwrap_or(bytes.len()).saturating_sub(1);
        if *line == 0 && length > limits.request_line_bytes {
            return Err(Refusal::too_long(414, "request line", limits.request_line_bytes));
        }
        if length > limits.head_bytes {
            return Err(Refusal::too_long(431, "request's head", limits.head_bytes));
        }
        let Some(end) = end else { return Ok(None) };
        if !bytes[*line..end].ends_with(b"\r") {
            return Err(Refusal::bad(LONE_LF));
        }
        if end - 1 == *line {
            return Ok(Some(end + 1));
        }
        *line = end + 1;
    }
}

/// How the end of a request's body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Neither field: no body.
    None,
    Length(usize),
    Chunked,
}

/// Reads a whole head, as long as [`find_end`] found it to be.
pub(crate) fn parse<'h, 'b>(
    bytes: &'b [u8],
    limits: &Limits,
    fields: &'h mut Fields<'b>,
) -> Result<(Head<'h, 'b>, Framing), Refusal> {
    let fields_max = limits.fields.min(FIELDS_MAX);
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields[..fields_max]) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Refusal::bad("the request's head is malformed")),
        Err(error) => return Err(syntax(error, bytes, fields_max)),
    }
    let (Some(word), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Refusal::bad("the request line is malformed"));
    };
    let method = Method::parse(word);
    let (authority, path, query) = split_target(target, method).ok_or(Refusal::bad(BAD_TARGET))?;
    let (http10, fields) = (minor == 0, &*request.headers);
    let mut head = Head { method, path, query, authority: None, http10, has_body: false, fields };
    head.authority = find_authority(&head, authority)?;
    let framing = find_framing(&head, limits)?;
    head.has_body = framing != Framing::None;
    Ok((head, framing))
}

/// RFC 9112 sections 3.2 and 3.2.2: HTTP/1.1 needs Host; nobody may send it twice, or malformed. What the target names
/// goes before it.
fn find_authority<'b>(head: &Head<'_, 'b>, target: Option<&'b str>) -> Result<Option<Authority<'b>>, Refusal> {
    let rule = "there must be one Host field";
    let parse = |text| Authority::parse(text).ok_or(Refusal::bad(BAD_HOST));
    let field = head.value("host", rule)?.map(parse).transpose()?;
    if field.is_none() && !head.http10 {
        return Err(Refusal::bad(rule));
    }
    let target = target.map(str::as_bytes).map(parse).transpose()?;
    Ok(target.or(field))
}

/// RFC 9112 section 6.3.
fn find_framing(head: &Head<'_, '_>, limits: &Limits) -> Result<Framing, Refusal> {
    let length = find_length(head)?;
    let codings: Vec<&[u8]> = head.items("transfer-encoding").collect();
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    match (length, codings.as_slice()) {
        (None, []) => Ok(Framing::None),
        (Some(length), []) if length > limits.body_bytes => Err(Refusal::too_long(413, "body", limits.body_bytes)),
        (Some(length), []) => Ok(Framing::Length(length)),
        (Some(_), _) => Err(Refusal::bad("both Content-Length and Transfer-Encoding are given; send one")),
        // Sections 6.1 and 7: HTTP/1.0 has no codings. Without `chunked` once, at the end, nobody knows where the body
        // ends.
        (None, [before @ .., last]) => match before {
            _ if head.http10 || !is_chunked(last) || before.iter().any(is_chunked) => Err(Refusal::bad(BAD_CODING)),
            [] => Ok(Framing::Chunked),
            _ => Err(Refusal::new(501, Code::Unsupported, "the only transfer coding known here is `chunked`")),
        },
    }
}

/// RFC 9112 section 6.3: one field, of digits only. A list of equal numbers might be taken; it is not.
fn find_length(head: &Head<'_, '_>) -> Result<Option<usize>, Refusal> {
    let rule = "Content-Length must be one decimal number, given once";
    let Some(value) = head.value("content-length", rule)? else { return Ok(None) };
    match std::str::from_utf8(value) {
        // More digits than a usize holds are a number all the same, and too large for every limit.
        Ok(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(digits.parse().unwrap_or(usize::MAX)))
        }
        _ => Err(Refusal::bad(rule)),
    }
}

fn syntax(error: httparse::Error, bytes: &[u8], fields_max: usize) -> Refusal {
    let many = format!("there are more than {fields_max} header fields");
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(431, Code::TooLarge, many),
        httparse::Error::Version if names_other_version(bytes) => {
            Refusal::new(505, Code::Unsupported, "this HTTP version is not spoken here; use HTTP/1.1")
        }
        _ => Refusal::bad(format!("the request's head is malformed: {error}")),
    }
}

/// Whether the request line ends with a well-formed version (RFC 9112 section 2.3), which then is another one.
fn names_other_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    match line.rsplit(|byte| *byte == b' ').next().and_then(|version| version.strip_prefix(b"HTTP/")) {
        Some(b"1.0" | b"1.1") => false,
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

/// A target as authority, path and query (RFC 9112 section 3.2); none where it is malformed.
fn split_target(target: &str, method: Method) -> Option<(Option<&str>, &str, &str)> {
    let (authority, rest) = match method {
        _ if !is_well_formed(target.as_bytes()) => return None,
        _ if target.starts_with('/') => (None, target),
        Method::Options if target == "*" => (None, target),
        // The only one whose target is a host (section 3.2.3). It is refused by its method.
        Method::Connect => (None, "/"),
        _ => {
            let (scheme, rest) = target.split_once("://")?;
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(scheme.eq_ignore_ascii_case("http").then_some(authority)?), rest)
        }
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Some((authority, if path.is_empty() { "/" } else { path }, query))
}

/// Whether all of it is made of what RFC 3986 allows in a path, a query and an authority.
fn is_well_formed(target: &[u8]) -> bool {
    let characters = target.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(byte));
    let escapes = memchr::memchr_iter(b'%', target)
        .all(|at| matches!(target.get(at + 1..at + 3), Some(hex) if hex.iter().all(u8::is_ascii_hexdigit)));
    characters && escapes
}
