//! Answers to bytes: status lines, fields, chunks.

use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Clock;
use crate::clock::Moment;
use crate::note::NoteId;
use crate::protocol::ids::Version;
use crate::protocol::request::Phases;

/// Asks for the body that a client holds back (RFC 9110 section 15.2.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// When a client may come back after a 503, in seconds: about what a change of view takes.
const RETRY_AFTER: &[u8] = b"Retry-After: 1\r\n";

/// What an answer says beside its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) etag: Option<Version>,
    /// The note that a POST made.
    pub(crate) location: Option<NoteId>,
    /// Limit and start of the next page.
    pub(crate) next: Option<(usize, NoteId)>,
    /// The path whose methods are listed.
    pub(crate) allow: Option<&'static str>,
    /// The body is problem details (RFC 9457).
    pub(crate) problem: bool,
}

impl Response {
    /// An answer with this status and nothing else.
    pub(crate) fn new(status: u16) -> Response {
        Response { status, ..Response::default() }
    }
}

/// How the client finds the body's end (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// No body and no word of it: 204 and 304.
    Absent,
    Bytes(usize),
    Chunked,
    /// The connection's end, for HTTP/1.0.
    Close,
}

/// What every answer carries.
#[derive(Debug)]
pub(crate) struct Stamp<'a> {
    pub(crate) date: &'a [u8],
    /// `Primacy-Replica` and, where it is known, `Primacy-Primary`: whole lines.
    pub(crate) names: [&'a str; 2],
    /// Number of the connection, and of the request on it.
    pub(crate) connection: (u64, u64),
    pub(crate) phases: Phases,
    pub(crate) total_ns: u64,
    /// The Connection field, where one is needed: a whole line.
    pub(crate) connection_line: &'static str,
}

/// Appends the head of an answer, its empty line included.
pub(crate) fn write_head(out: &mut Vec<u8>, response: &Response, length: Length, stamp: &Stamp<'_>) {
    out.extend_from_slice(status_line(response.status).as_bytes());
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(stamp.date);
    out.extend_from_slice(match (length, response.problem) {
        (Length::Absent, _) => b"\r\n" as &[u8],
        (_, false) => b"\r\nContent-Type: application/json\r\n",
        (_, true) => b"\r\nContent-Type: application/problem+json\r\n",
    });
    match length {
        Length::Bytes(bytes) => number_line(out, b"Content-Length: ", bytes as u64, b"\r\n"),
        Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Length::Absent | Length::Close => {}
    }
    write_own(out, response);
    out.extend_from_slice(stamp.names[0].as_bytes());
    out.extend_from_slice(stamp.names[1].as_bytes());
    number_line(out, b"Primacy-Connection: ", stamp.connection.0, b"; requests=");
    number_line(out, b"", stamp.connection.1, b"\r\n");
    write_timing(out, &stamp.phases, stamp.total_ns);
    out.extend_from_slice(stamp.connection_line.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The fields that belong to this answer.
fn write_own(out: &mut Vec<u8>, response: &Response) {
    if let Some(version) = response.etag {
        number_line(out, b"ETag: \"", version.epoch.0, b"-");
        number_line(out, b"", version.counter, b"\"\r\n");
    }
    if let Some(id) = response.location {
        number_line(out, b"Location: /note/", id.0, b"\r\n");
    }
    if let Some((limit, after)) = response.next {
        number_line(out, b"Link: </note?limit=", limit as u64, b"");
        number_line(out, b"&after=", after.0, b">; rel=\"next\"\r\n");
    }
    if let Some(methods) = response.allow {
        out.extend_from_slice(b"Allow: ");
        out.extend_from_slice(methods.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if response.status == 503 {
        out.extend_from_slice(RETRY_AFTER);
    }
}

/// `Server-Timing` (W3C), in ms with three digits. The parts are cut to microseconds before they are added up, so that
/// what is printed adds up.
fn write_timing(out: &mut Vec<u8>, phases: &Phases, total_ns: u64) {
    let us = |ns: u64| ns / 1000;
    let spent = us(phases.queue) + us(phases.forward) + us(phases.moved) + us(phases.replicate);
    let respond = us(total_ns).saturating_sub(spent);
    out.extend_from_slice(b"Server-Timing: queue;dur=");
    write_ms(out, us(phases.queue));
    for (name, ns) in [(b", forward;dur=" as &[u8], phases.forward), (b", move;dur=", phases.moved)] {
        if ns != 0 {
            out.extend_from_slice(name);
            write_ms(out, us(ns));
        }
    }
    let rest = [
        (b", replicate;dur=" as &[u8], us(phases.replicate)),
        (b", store;dur=", us(phases.store)),
        (b", update;dur=", us(phases.update)),
        (b", respond;dur=", respond),
        (b", total;dur=", spent + respond),
    ];
    for (name, us) in rest {
        out.extend_from_slice(name);
        write_ms(out, us);
    }
    out.extend_from_slice(b"\r\n");
}

/// Microseconds as milliseconds, without digits that say nothing: 0, 0.012, 1.5.
fn write_ms(out: &mut Vec<u8>, us: u64) {
    number_line(out, b"", us / 1000, b"");
    let fraction = us % 1000;
    if fraction != 0 {
        let digits = [b'.', digit(fraction / 100), digit(fraction / 10 % 10), digit(fraction % 10)];
        let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        out.extend_from_slice(&digits[..digits.len() - zeros]);
    }
}

fn digit(value: u64) -> u8 {
    b"0123456789"[(value % 10) as usize]
}

/// Appends a number between two pieces of text.
pub(crate) fn number_line(out: &mut Vec<u8>, before: &[u8], number: u64, behind: &[u8]) {
    out.extend_from_slice(before);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(behind);
}

/// Appends one chunk, and where it is the last, the end of the body without trailer fields (RFC 9112 section 7.1).
pub(crate) fn write_chunk(out: &mut Vec<u8>, data: &[u8], last: bool) {
    use std::io::Write as _;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(if last { b"\r\n0\r\n\r\n" } else { b"\r\n" });
}

/// The status line of every status that is sent (RFC 9110 section 15).
fn status_line(status: u16) -> &'static str {
    match status {
        200 => "HTTP/1.1 200 OK\r\n",
        201 => "HTTP/1.1 201 Created\r\n",
        204 => "HTTP/1.1 204 No Content\r\n",
        304 => "HTTP/1.1 304 Not Modified\r\n",
        400 => "HTTP/1.1 400 Bad Request\r\n",
        401 => "HTTP/1.1 401 Unauthorized\r\n",
        403 => "HTTP/1.1 403 Forbidden\r\n",
        404 => "HTTP/1.1 404 Not Found\r\n",
        405 => "HTTP/1.1 405 Method Not Allowed\r\n",
        408 => "HTTP/1.1 408 Request Timeout\r\n",
        411 => "HTTP/1.1 411 Length Required\r\n",
        412 => "HTTP/1.1 412 Precondition Failed\r\n",
        413 => "HTTP/1.1 413 Content Too Large\r\n",
        414 => "HTTP/1.1 414 URI Too Long\r\n",
        415 => "HTTP/1.1 415 Unsupported Media Type\r\n",
        417 => "HTTP/1.1 417 Expectation Failed\r\n",
        421 => "HTTP/1.1 421 Misdirected Request\r\n",
        422 => "HTTP/1.1 422 Unprocessable Content\r\n",
        431 => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        501 => "HTTP/1.1 501 Not Implemented\r\n",
        503 => "HTTP/1.1 503 Service Unavailable\r\n",
        505 => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        _ => "HTTP/1.1 500 Internal Server Error\r\n",
    }
}

/// The reason phrase of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    let line = status_line(status);
    line.get("HTTP/1.1 200 ".len()..).unwrap_or_default().trim_end()
}

/// The `Date` field's value, made once a second.
#[derive(Debug, Default)]
pub(crate) struct Date {
    text: String,
    /// When the next second begins.
    stale: Moment,
}

impl Date {
    /// The present time as RFC 9110 section 5.6.7 writes it.
    pub(crate) fn at(&mut self, now: Moment, clock: &Clock) -> &str {
        if now >= self.stale {
            let wall_ms = clock.wall_ms();
            self.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(wall_ms));
            self.stale = now.after_ms(1000 - wall_ms % 1000);
        }
        &self.text
    }
}
