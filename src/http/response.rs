//! What answers are written with beside their own fields: times and chunks.

use std::time::{Duration, UNIX_EPOCH};

use crate::clock::{Clock, Moment};
use crate::rest::{put, put_number};

/// Asks for the body that a client holds back (RFC 9110 section 15.2.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends `Server-Timing` (W3C), in ms with three digits, of phases in µs.
pub(crate) fn put_timing(out: &mut Vec<u8>, parts: &[(&str, u64)]) {
    let mut before = "Server-Timing: ";
    let took_place = |(name, us): &(&str, u64)| *us > 0 || !matches!(*name, "forward" | "move");
    for (name, us) in parts.iter().copied().filter(took_place) {
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
