//! Bytes to a request's body, where it comes in chunks (RFC 9112 section 7.1).

use super::head::LONE_LF;
use super::refusal::Refusal;

/// Longest line of a chunked body: a size with its extensions, or a trailer field. Nobody here reads either, so they
/// are checked and dropped.
pub(crate) const LINE_BYTES_MAX: usize = 1024;

/// Most bytes of extensions and trailer fields in one body.
pub(crate) const EXTRA_BYTES_MAX: usize = 8 * 1024;

/// How far a piece of input brought the body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes of the input that are dealt with; the others must be shown again, with more behind them.
    pub(crate) consumed: usize,
    /// Whether the body is complete; what was not consumed then belongs to the next request.
    pub(crate) done: bool,
}

/// Takes a body out of its chunks as they come.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: State,
    extra: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Size,
    /// So many bytes of the chunk are still to come.
    Data(usize),
    /// The line end behind a chunk's data.
    DataEnd,
    Trailer,
}

impl Chunked {
    /// Appends what `input` holds of the body to `body`, which may become `body_max` bytes long.
    pub(crate) fn decode(&mut self, input: &[u8], body: &mut Vec<u8>, body_max: usize) -> Result<Progress, Refusal> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let taken = match self.state {
                State::Size => self.size(rest, body.len(), body_max)?,
                State::Data(missing) => self.data(rest, missing, body),
                State::DataEnd => self.data_end(rest)?,
                State::Trailer => match self.trailer(rest)? {
                    Some((length, true)) => return Ok(Progress { consumed: consumed + length, done: true }),
                    more => more.map(|(length, _)| length),
                },
            };
            match taken {
                Some(length) => consumed += length,
                None => return Ok(Progress { consumed, done: false }),
            }
        }
    }

    fn size(&mut self, input: &[u8], have: usize, body_max: usize) -> Result<Option<usize>, Refusal> {
        let Some((line, length)) = line(input)? else { return Ok(None) };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extensions) = line.split_at(digits);
        if size.is_empty() {
            return Err(malformed("a chunk's size is a hexadecimal number"));
        }
        if !extensions.is_empty() {
            self.extensions(extensions)?;
        }
        let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        match size.filter(|size| *size <= body_max.saturating_sub(have)) {
            None => return Err(Refusal::body_too_long(body_max)),
            Some(0) => self.state = State::Trailer,
            Some(size) => self.state = State::Data(size),
        }
        Ok(Some(length))
    }

    /// RFC 9112 section 7.1.1: extensions that are not understood are ignored; they are no place for control characters.
    fn extensions(&mut self, text: &[u8]) -> Result<(), Refusal> {
        let text_ahead = text.trim_ascii_start();
        if text_ahead.first() != Some(&b';') || !text.iter().all(is_field_byte) {
            return Err(malformed("behind a chunk's size only `;` and extensions may stand"));
        }
        self.spend(text.len())
    }

    fn data(&mut self, input: &[u8], missing: usize, body: &mut Vec<u8>) -> Option<usize> {
        let length = missing.min(input.len());
        body.extend_from_slice(&input[..length]);
        self.state = if length == missing { State::DataEnd } else { State::Data(missing - length) };
        (length > 0).then_some(length)
    }

    fn data_end(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        match input {
            [b'\r', b'\n', ..] => {
                self.state = State::Size;
                Ok(Some(2))
            }
            [] | [b'\r'] => Ok(None),
            _ => Err(malformed("behind a chunk's data its line end is missing")),
        }
    }

    /// One line of the trailer section, and whether it was the empty one that ends the body.
    fn trailer(&mut self, input: &[u8]) -> Result<Option<(usize, bool)>, Refusal> {
        let Some((line, length)) = line(input)? else { return Ok(None) };
        if line.is_empty() {
            return Ok(Some((length, true)));
        }
        let name = line.iter().take_while(|byte| is_token_byte(byte)).count();
        if name == 0 || line.get(name) != Some(&b':') || !line.iter().all(is_field_byte) {
            return Err(malformed("a trailer field reads name, colon, value"));
        }
        self.spend(length)?;
        Ok(Some((length, false)))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.extra += bytes;
        match self.extra > EXTRA_BYTES_MAX {
            true => Err(malformed("its extensions and trailer fields are too long")),
            false => Ok(()),
        }
    }
}

fn malformed(why: &str) -> Refusal {
    Refusal::bad(format!("the chunked body is malformed: {why}"))
}

/// The first line without its end, and its length with it, once it is all there.
fn line(input: &[u8]) -> Result<Option<(&[u8], usize)>, Refusal> {
    let searched = &input[..input.len().min(LINE_BYTES_MAX)];
    match memchr::memchr(b'\n', searched) {
        Some(end) if end > 0 && input[end - 1] == b'\r' => Ok(Some((&input[..end - 1], end + 1))),
        Some(_) => Err(Refusal::bad(LONE_LF)),
        None if searched.len() == LINE_BYTES_MAX => Err(malformed("a line of it is too long")),
        None => Ok(None),
    }
}

/// What a field's value may hold (RFC 9110 section 5.5).
fn is_field_byte(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// What a token may hold (RFC 9110 section 5.6.2).
pub(crate) fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

#[cfg(test)]
mod tests;
