//! Why the listener itself turns a request away, before the replica hears of it.

use crate::protocol::request::{Code, IF_MATCH_MAX, KEY_BYTES_MAX};

/// What was wrong with a request. Each has one status and one stable word; the text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Frames, TLS or noise.
    #[error(
        "the first byte is {0:#04x}, which begins no HTTP request; \
         speak HTTP/1.1 without TLS here, and frames at the replica's own address"
    )]
    NotHttp(u8),
    /// RFC 9112 section 2.2 lets a recipient accept a lone LF. Where another hop does not, that is a way to smuggle.
    #[error("a line ends with LF alone; end each with CR LF")]
    LoneLf,
    #[error("the request line is malformed; it reads METHOD, space, target, space, HTTP/1.1")]
    RequestLine,
    #[error("the request line is longer than {0} bytes")]
    LineTooLong(usize),
    #[error("the request's head is longer than {0} bytes")]
    HeadTooLong(usize),
    #[error("the request has more than {0} header fields")]
    TooManyFields(usize),
    #[error("a header field is malformed; it reads name, colon, value, without control characters or folded lines")]
    Field,
    #[error("this HTTP version is not spoken here; use HTTP/1.1")]
    HttpVersion,
    #[error("the request target is malformed; it is a path from `/` on, in the characters that RFC 3986 allows")]
    Target,
    #[error("the request needs exactly one Host field; it has {0}")]
    Hosts(usize),
    #[error("the host is malformed; it is a name or an address, with or without a port")]
    Host,
    #[error("both Content-Length and Transfer-Encoding are given; send one of them")]
    TwoFramings,
    #[error("Content-Length is malformed or given more than once; it is one decimal number")]
    Length,
    #[error("Transfer-Encoding must be `chunked`, once, and in HTTP/1.1")]
    Coding,
    #[error("this transfer coding is not known here; use `chunked` alone")]
    UnknownCoding,
    #[error("the body is longer than {0} bytes")]
    BodyTooLong(usize),
    #[error("the chunked body is malformed: {0}")]
    Chunk(&'static str),
    #[error("the request's head was not complete after {0} ms")]
    HeadTimeout(u64),
    #[error("the request's body was not complete after {0} ms")]
    BodyTimeout(u64),
    #[error("the connection was closed in the middle of a request")]
    CutShort,
    #[error("the body's length is not known; give Content-Length, or send it chunked")]
    LengthRequired,
    #[error("this service is not `{0}`; name it in `hosts` of the configuration if it is")]
    Misdirected(String),
    #[error("a page of another origin may not write here")]
    ForeignOrigin,
    #[error("this method is not known here")]
    Method,
    /// With what the path allows.
    #[error("this path allows {0}")]
    NotAllowed(&'static str),
    #[error("there is nothing at this path; notes are at /note and /note/{{id}}")]
    NoSuchPath,
    #[error("there is no note 0; ids begin with 1")]
    NoteZero,
    #[error("`{0}` is no note id; ids are decimal numbers from 1, without sign or leading zeros")]
    Id(String),
    #[error("the query is wrong at `{0}`; the list takes limit=1 to 1000 and after=ID, each once")]
    Query(String),
    #[error("encoded content is not taken; send the body as it is, without Content-Encoding")]
    Encoded,
    #[error("the only expectation that can be met is 100-continue")]
    Expectation,
    #[error("If-Match is malformed or has more than {IF_MATCH_MAX} tags; it is `*` or a list of quoted ETags")]
    IfMatch,
    #[error("If-None-Match is malformed, or for a write not `*`; it is `*` or a list of quoted ETags")]
    IfNoneMatch,
    #[error("the list of notes has no ETag, so If-Match cannot hold; send the POST without it")]
    ListHasNoTag,
    #[error("Idempotency-Key must be given once, as 1 to {KEY_BYTES_MAX} visible ASCII characters")]
    Key,
    #[error("too many connections are open here; try again later or at another replica")]
    Crowded,
}

impl Refusal {
    /// The status (RFC 9110 section 15) and the stable word.
    pub(crate) fn verdict(&self) -> (u16, Code) {
        use Refusal::*;
        match self {
            NotHttp(_) | LoneLf | RequestLine | Field | Target | Hosts(_) | Host | TwoFramings | Length | Coding
            | Chunk(_) | CutShort | Query(_) | IfMatch | IfNoneMatch | Key => (400, Code::BadRequest),
            Id(_) => (400, Code::BadId),
            ForeignOrigin => (403, Code::Forbidden),
            NoSuchPath | NoteZero => (404, Code::NotFound),
            NotAllowed(_) => (405, Code::MethodNotAllowed),
            HeadTimeout(_) | BodyTimeout(_) => (408, Code::Timeout),
            LengthRequired => (411, Code::BadRequest),
            ListHasNoTag => (412, Code::PreconditionFailed),
            BodyTooLong(_) => (413, Code::TooLarge),
            LineTooLong(_) => (414, Code::TooLarge),
            Encoded => (415, Code::Unsupported),
            Expectation => (417, Code::Unsupported),
            Misdirected(_) => (421, Code::Misdirected),
            HeadTooLong(_) | TooManyFields(_) => (431, Code::TooLarge),
            UnknownCoding | Method => (501, Code::Unsupported),
            Crowded => (503, Code::Unavailable),
            HttpVersion => (505, Code::Unsupported),
        }
    }

    /// What Allow says with a 405.
    pub(crate) fn allow(&self) -> Option<&'static str> {
        match self {
            Refusal::NotAllowed(methods) => Some(methods),
            _ => None,
        }
    }
}
