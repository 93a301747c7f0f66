//! What answers are written with: status lines, fields, chunks.

use std::time::{Duration, UNIX_EPOCH};

use crate::clock::{Clock, Moment};
use crate::protocol::request::Phases;

/// Asks for the body that a client holds back (RFC 9110 section 15.2.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends pieces of text.
pub(crate) fn put(out: &mut Vec<u8>, pieces: &[&str]) {
    pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
}

/// Appends a number between two pieces of text.
pub(crate) fn put_number(out: &mut Vec<u8>, before: &str, number: u64, behind: &str) {
    put(out, &[before, itoa::Buffer::new().format(number), behind]);
}

/// Appends `Server-Timing` (W3C), in ms with three digits.
pub(crate) fn put_timing(out: &mut Vec<u8>, phases: &Phases, total_ns: u64) {
    let mut before = "Server-Timing: ";
    let took_place = |(name, us): &(&str, u64)| *us > 0 || !matches!(*name, "forward" | "move");
    for (name, us) in phases.parts(total_ns).into_iter().filter(took_place) {
        put(out, &[before, name]);
        put_number(out, ";dur=", us / 1000, "");
        put_fraction(out, us % 1000);
        before = ", ";
    }
    put(out, &["\r\n"]);
}

/// Thousandths, without digits that say nothing: nothing for 0, `.5` for 500.
fn put_fraction(out: &mut Vec<u8>, thousandths: u64) {
    let digit = |value: u64| b'0' + (value % 10) as u8;
    let digits = [digit(thousandths / 100), digit(thousandths / 10), digit(thousandths)];
    if let Some(last) = digits.iter().rposition(|digit| *digit != b'0') {
        out.push(b'.');
        out.extend_from_slice(&digits[..=last]);
    }
}

/// Appends one chunk, and where it is the last, the end of the body without trailer fields (RFC 9112 section 7.1).
pub(crate) fn put_chunk(out: &mut Vec<u8>, data: &[u8], last: bool) {
    put(out, &[&format!("{:x}\r\n", data.len())]);
    out.extend_from_slice(data);
    put(out, &[if last { "\r\n0\r\n\r\n" } else { "\r\n" }]);
}

/// The reason phrase of every status that is sent (RFC 9110 section 15).
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
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
