//! Bytes to a request's head: where it ends, and what RFC 9112 says it means.
//!
//! httparse checks the syntax of lines; everything about how long a message is, and to whom it goes, is decided here.
//! Where the RFC lets a server repair a request, this one refuses it: two hops that repair differently are how requests
//! are smuggled.

use std::mem::MaybeUninit;

use httparse::Header;

use super::refusal::Refusal;
use crate::config::Limits;
use crate::protocol::request::Code;

/// Most header fields that any configuration can allow: their places are on the stack.
pub(crate) const FIELDS_MAX: usize = 256;

/// Where httparse puts the fields of one head.
pub(crate) type Fields<'b> = [MaybeUninit<Header<'b>>; FIELDS_MAX];

/// RFC 9112 section 2.2 lets a recipient accept a lone LF. Where another hop does not, that is a way to smuggle.
pub(crate) const LONE_LF: &str = "a line ends with LF alone; end each with CR LF";

const BAD_TARGET: &str = "the request target is malformed; it is a path from `/` on, in the characters of RFC 3986";
const BAD_CODING: &str = "Transfer-Encoding must be `chunked`, once, and in HTTP/1.1";

/// The search for a head's end, which goes on where it stopped when more bytes have come.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Bytes that were searched.
    at: usize,
    /// Where the line begins that is being searched.
    line: usize,
}

impl Scan {
    /// How long the head is, its empty line included, once all of it is in `bytes`.
    pub(crate) fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.at..]) {
            let end = self.at + found;
            if end == self.line || bytes[end - 1] != b'\r' {
                return Err(Refusal::bad(LONE_LF));
            }
            self.bound(end - 1, limits)?;
            if end - 1 == self.line {
                return Ok(Some(end + 1));
            }
            self.at = end + 1;
            self.line = end + 1;
        }
        self.at = bytes.len();
        self.bound(bytes.len(), limits)?;
        Ok(None)
    }

    /// Refuses a head that is too long already, with its current line up to `end`.
    fn bound(&self, end: usize, limits: &Limits) -> Result<(), Refusal> {
        if self.line == 0 && end > limits.request_line_bytes {
            return Err(too_long(414, format!("the request line is longer than {} bytes", limits.request_line_bytes)));
        }
        if end > limits.head_bytes {
            return Err(too_long(431, format!("the request's head is longer than {} bytes", limits.head_bytes)));
        }
        Ok(())
    }
}

/// The methods of RFC 9110 section 9 and RFC 5789.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
    /// Not served here, like all others; what follows it may be no HTTP.
    Connect,
    Other,
}

impl Method {
    const WORDS: [(&str, Method); 8] = [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("OPTIONS", Method::Options),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("PATCH", Method::Patch),
        ("DELETE", Method::Delete),
        ("CONNECT", Method::Connect),
    ];

    fn parse(word: &str) -> Method {
        Method::WORDS.iter().find(|(known, _)| *known == word).map_or(Method::Other, |(_, method)| *method)
    }

    /// The method as it is written.
    pub(crate) fn word(self) -> &'static str {
        Method::WORDS.iter().find(|(_, method)| *method == self).map_or("?", |(word, _)| word)
    }

    /// Whether its answer has no body.
    pub(crate) fn is_head(self) -> bool {
        self == Method::Head
    }

    /// Whether it changes notes.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Method::Post | Method::Put | Method::Patch | Method::Delete)
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

/// What the client waits for before it sends the body (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Nothing,
    Continue,
    Unknown,
}

/// A request's head, in the bytes that it came in.
#[derive(Debug)]
pub(crate) struct Head<'h, 'b> {
    pub(crate) method: Method,
    /// From `/` on, or `*`.
    pub(crate) path: &'b str,
    /// Behind the `?`.
    pub(crate) query: &'b str,
    /// The host that is asked, port and all: the target's where it names one (RFC 9112 section 3.2.2), else Host's.
    pub(crate) authority: Option<&'b str>,
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    pub(crate) framing: Framing,
    pub(crate) expect: Expect,
    fields: &'h [Header<'b>],
}

impl<'h, 'b> Head<'h, 'b> {
    /// The values of all fields of this name, in order.
    pub(crate) fn values(&self, name: &'static str) -> impl Iterator<Item = &'b [u8]> + 'h {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

/// Reads a whole head, as long as [`Scan`] found it to be.
pub(crate) fn parse<'h, 'b>(
    bytes: &'b [u8],
    limits: &Limits,
    fields: &'h mut Fields<'b>,
) -> Result<Head<'h, 'b>, Refusal> {
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
    let fields: &'h [Header<'b>] = request.headers;
    let method = Method::parse(word);
    let (authority, path, query) = split_target(target, method)?;
    let mut control = Control::default();
    for field in fields {
        control.take(field)?;
    }
    let http10 = minor == 0;
    let host = control.host(http10)?;
    Ok(Head {
        method,
        path,
        query,
        authority: authority.or(host),
        http10,
        keep_alive: !control.close && (!http10 || control.keep_alive),
        framing: control.framing(http10, limits)?,
        // RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored.
        expect: if http10 { Expect::Nothing } else { control.expect.unwrap_or(Expect::Nothing) },
        fields,
    })
}

fn too_long(status: u16, msg: String) -> Refusal {
    Refusal::new(status, Code::TooLarge, msg)
}

fn syntax(error: httparse::Error, bytes: &[u8], fields_max: usize) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => too_long(431, format!("there are more than {fields_max} header fields")),
        httparse::Error::Version if names_other_version(bytes) => {
            Refusal::new(505, Code::Unsupported, "this HTTP version is not spoken here; use HTTP/1.1")
        }
        _ => Refusal::bad(format!("the request's head is malformed: {error}")),
    }
}

/// Whether the request line ends with a well-formed version (RFC 9112 section 2.3), which then is another one.
fn names_other_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    match line.rsplit(|byte| *byte == b' ').next().unwrap_or_default() {
        b"HTTP/1.0" | b"HTTP/1.1" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

/// A target as authority, path and query (RFC 9112 section 3.2).
fn split_target(target: &str, method: Method) -> Result<(Option<&str>, &str, &str), Refusal> {
    if !is_well_formed(target.as_bytes()) {
        return Err(Refusal::bad(BAD_TARGET));
    }
    if target.starts_with('/') {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        return Ok((None, path, query));
    }
    match method {
        Method::Options if target == "*" => return Ok((None, target, "")),
        // The only one whose target is a host (section 3.2.3). It is refused by its method.
        Method::Connect => return Ok((None, "/", "")),
        _ => {}
    }
    let (scheme, rest) = target.split_once("://").ok_or(Refusal::bad(BAD_TARGET))?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Refusal::bad(BAD_TARGET));
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok((Some(authority), if path.is_empty() { "/" } else { path }, query))
}

/// Whether all of it is made of what RFC 3986 allows in a path, a query and an authority.
fn is_well_formed(target: &[u8]) -> bool {
    let characters = target.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(byte));
    let escapes = memchr::memchr_iter(b'%', target)
        .all(|at| matches!(target.get(at + 1..at + 3), Some(hex) if hex.iter().all(u8::is_ascii_hexdigit)));
    characters && escapes
}

/// The fields that decide how the message is framed and what becomes of the connection.
#[derive(Default)]
struct Control<'b> {
    host: Option<&'b [u8]>,
    hosts: usize,
    length: Option<usize>,
    chunked: bool,
    other_coding: bool,
    close: bool,
    keep_alive: bool,
    expect: Option<Expect>,
}

impl<'b> Control<'b> {
    fn take(&mut self, field: &Header<'b>) -> Result<(), Refusal> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("host") => {
                self.host = Some(field.value);
                self.hosts += 1;
            }
            6 if is("expect") && self.expect.is_none() && field.value.eq_ignore_ascii_case(b"100-continue") => {
                self.expect = Some(Expect::Continue);
            }
            6 if is("expect") => self.expect = Some(Expect::Unknown),
            10 if is("connection") => self.take_connection(field.value),
            14 if is("content-length") => self.take_length(field.value)?,
            17 if is("transfer-encoding") => self.take_coding(field.value)?,
            _ => {}
        }
        Ok(())
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 section 6.3: one field, of digits only. A list of equal numbers might be taken; it is not.
    fn take_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() || value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::bad("Content-Length must be one decimal number, given once"));
        }
        // More digits than a usize holds are a number all the same, and too large for every limit.
        let digits = std::str::from_utf8(value).unwrap_or_default();
        self.length = Some(digits.parse().unwrap_or(usize::MAX));
        Ok(())
    }

    /// RFC 9112 sections 6.1 and 7: `chunked` is the last coding and is there once.
    fn take_coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for coding in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let named = coding.first().is_some_and(u8::is_ascii_alphanumeric);
            if self.chunked || !named {
                return Err(Refusal::bad(BAD_CODING));
            }
            match coding.eq_ignore_ascii_case(b"chunked") {
                true => self.chunked = true,
                false => self.other_coding = true,
            }
        }
        Ok(())
    }

    /// RFC 9112 section 3.2: HTTP/1.1 needs Host; nobody may send it twice.
    fn host(&self, http10: bool) -> Result<Option<&'b str>, Refusal> {
        match (self.host, self.hosts) {
            (Some(host), 1) => std::str::from_utf8(host).map(Some).map_err(|_| Refusal::bad("the host is not ASCII")),
            (None, _) if http10 => Ok(None),
            (_, count) => Err(Refusal::bad(format!("there must be one Host field; there are {count}"))),
        }
    }

    /// RFC 9112 section 6.3.
    fn framing(&self, http10: bool, limits: &Limits) -> Result<Framing, Refusal> {
        let coded = self.chunked || self.other_coding;
        match self.length {
            Some(_) if coded => Err(Refusal::bad("both Content-Length and Transfer-Encoding are given; send one")),
            Some(length) if length > limits.body_bytes => Err(Refusal::body_too_long(limits.body_bytes)),
            Some(length) => Ok(Framing::Length(length)),
            None if !coded => Ok(Framing::None),
            // Without `chunked` at the end nobody knows where the body ends, and HTTP/1.0 has no transfer codings.
            None if http10 || !self.chunked => Err(Refusal::bad(BAD_CODING)),
            None if self.other_coding => {
                Err(Refusal::new(501, Code::Unsupported, "this transfer coding is not known here; use `chunked` alone"))
            }
            None => Ok(Framing::Chunked),
        }
    }
}
