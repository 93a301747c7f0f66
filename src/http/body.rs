//! Bytes to a request's body, where it comes in chunks (RFC 9112 section 7.1).

use bytes::{Buf as _, BytesMut};

use super::head::LONE_LF;
use crate::rest::Refusal;

/// Longest line of a chunked body: a size with its extensions, or a trailer field. Nobody here reads either, so they
/// are checked and dropped.
pub(crate) const LINE_BYTES_MAX: usize = 1024;

/// Most bytes of extensions and trailer fields in one body.
pub(crate) const EXTRA_BYTES_MAX: usize = 8 * 1024;

/// Takes a body out of its chunks as they come.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    /// As far as it came.
    pub(crate) body: Vec<u8>,
    state: State,
    /// Bytes of extensions and trailer fields so far.
    extra: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Size,
    /// So many bytes of the chunk.
    Data(usize),
    /// The line end behind a chunk's data.
    DataEnd,
    Trailer,
}

impl Chunked {
    /// Takes what `input` holds of the body off its front, and tells whether the body is complete. It may become
    /// `body_max` bytes long.
    pub(crate) fn take(&mut self, input: &mut BytesMut, body_max: usize) -> Result<bool, Refusal> {
        loop {
            self.state = match self.state {
                State::Data(missing) if input.len() < missing => {
                    self.body.extend_from_slice(input);
                    self.state = State::Data(missing - input.len());
                    input.clear();
                    return Ok(false);
                }
                State::Data(missing) => {
                    self.body.extend_from_slice(&input[..missing]);
                    input.advance(missing);
                    State::DataEnd
                }
                State::DataEnd if !b"\r\n".starts_with(&input[..input.len().min(2)]) => {
                    return Err(malformed("behind a chunk's data its line end is missing"));
                }
                state => match (state, take_line(input)?) {
                    (_, None) => return Ok(false),
                    (State::Trailer, Some(line)) if line.is_empty() => return Ok(true),
                    (State::Trailer, Some(line)) => self.trailer(&line)?,
                    (State::Size, Some(line)) => self.size(&line, body_max)?,
                    (State::DataEnd | State::Data(_), Some(_)) => State::Size,
                },
            };
        }
    }

    fn size(&mut self, line: &[u8], body_max: usize) -> Result<State, Refusal> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extensions) = line.split_at(digits);
        if size.is_empty() {
            return Err(malformed("a chunk's size is a hexadecimal number"));
        }
        // RFC 9112 section 7.1.1: extensions that are not understood are ignored.
        if !extensions.is_empty() && extensions.trim_ascii_start().first() != Some(&b';') {
            return Err(malformed("behind a chunk's size only `;` and extensions may stand"));
        }
        self.drop_extra(extensions)?;
        let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        match size.filter(|size| *size <= body_max.saturating_sub(self.body.len())) {
            None => Err(Refusal::too_long(413, "body", body_max)),
            Some(0) => Ok(State::Trailer),
            Some(size) => Ok(State::Data(size)),
        }
    }

    fn trailer(&mut self, line: &[u8]) -> Result<State, Refusal> {
        let name = line.iter().take_while(|byte| is_token_byte(byte)).count();
        if name == 0 || line.get(name) != Some(&b':') {
            return Err(malformed("a trailer field reads name, colon, value"));
        }
        self.drop_extra(line)?;
        Ok(State::Trailer)
    }

    /// Drops what nobody reads, if it is bounded and of what a field's value may hold (RFC 9110 section 5.5).
    fn drop_extra(&mut self, text: &[u8]) -> Result<(), Refusal> {
        self.extra += text.len();
        if self.extra > EXTRA_BYTES_MAX {
            return Err(malformed("its extensions and trailer fields are too long"));
        }
        match text.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
            true => Ok(()),
            false => Err(malformed("there is a control character in an extension or a trailer field")),
        }
    }
}

fn malformed(why: &str) -> Refusal {
    Refusal::bad(format!("the chunked body is malformed: {why}"))
}

/// The first line without its end, once it is all there.
fn take_line(input: &mut BytesMut) -> Result<Option<BytesMut>, Refusal> {
    let searched = &input[..input.len().min(LINE_BYTES_MAX)];
    match memchr::memchr(b'\n', searched) {
        Some(end) if end > 0 && input[end - 1] == b'\r' => {
            let mut line = input.split_to(end + 1);
            line.truncate(end - 1);
            Ok(Some(line))
        }
        Some(_) => Err(Refusal::bad(LONE_LF)),
        None if searched.len() == LINE_BYTES_MAX => Err(malformed("a line of it is too long")),
        None => Ok(None),
    }
}

/// What a token may hold (RFC 9110 section 5.6.2).
pub(crate) fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

#[cfg(test)]
mod tests;
