//! Bytes to requests: frames, or lines. Pure: no sockets.

use bytes::{Buf as _, BytesMut};

use crate::accept::{Full, Share};
use crate::protocol::codec::{FRAME_BYTES_MAX, LENGTH_BYTES};
use crate::protocol::request::{Code, Failure};

/// Room for one read from a socket, in bytes.
pub(super) const READ_BYTES: usize = 16 * 1024;

/// Room under which there is made more, in bytes.
const READ_BYTES_LEAST: usize = 4 * 1024;

/// What a caller speaks, as its first byte tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// Length and JSON.
    Frames,
    /// One JSON object a line.
    Lines,
    /// HTTP, which is spoken elsewhere.
    Http,
    /// Nothing that is known here.
    Unknown(u8),
}

impl Speech {
    /// By the first byte.
    pub(super) fn of(first: u8) -> Speech {
        match first {
            0 => Speech::Frames,
            b'{' => Speech::Lines,
            // GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS, TRACE, CONNECT, and HTTP/2's PRI.
            b'G' | b'P' | b'D' | b'H' | b'O' | b'T' | b'C' => Speech::Http,
            other => Speech::Unknown(other),
        }
    }
}

/// What has come in and was not taken yet.
#[derive(Debug)]
pub(super) struct Input {
    lines: bool,
    /// Most bytes of a request.
    longest: usize,
    buffer: BytesMut,
    /// What a request that is not complete takes of the memory for such.
    share: Share,
    /// So many bytes of `buffer` are known to hold no line's end.
    searched: usize,
}

impl Input {
    /// Input that begins with what was read to find out the speech.
    pub(super) fn new(lines: bool, buffer: BytesMut, share: Share) -> Input {
        Input { lines, longest: FRAME_BYTES_MAX, buffer, share, searched: 0 }
    }

    /// Takes requests of at most so many bytes.
    pub(super) fn allow(&mut self, longest: usize) {
        self.longest = longest;
    }

    /// Whether requests are lines.
    pub(super) fn is_lines(&self) -> bool {
        self.lines
    }

    /// Where to put what is read. There is always room for a good deal: small reads would be many.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_LEAST {
            self.buffer.reserve(READ_BYTES);
        }
        &mut self.buffer
    }

    /// All that was not taken.
    pub(super) fn into_rest(self) -> BytesMut {
        self.buffer
    }

    /// Whether a request has begun and is not complete.
    pub(super) fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The JSON of the next request, if it is complete. An error means that the stream is out of step: it is the last
    /// thing to be answered.
    pub(super) fn next(&mut self) -> Result<Option<BytesMut>, Failure> {
        match self.lines {
            true => self.next_line(),
            false => self.next_frame(),
        }
    }

    /// The client has sent everything: a last line needs no end.
    pub(super) fn finish(&mut self) -> Option<BytesMut> {
        let last = self.buffer.split();
        (self.lines && !last.iter().all(u8::is_ascii_whitespace)).then_some(last)
    }

    /// What is there is not complete, and has to be held.
    pub(super) fn hold(&mut self) -> Result<(), Full> {
        self.share.hold(self.buffer.len())
    }

    /// Nothing more is complete. Where what is there cannot be held, it is let go.
    fn wait(&mut self) -> Result<Option<BytesMut>, Failure> {
        self.hold().map(|()| None).map_err(|full| {
            self.buffer = BytesMut::new();
            self.share.release();
            Failure::new(Code::Unavailable, full.to_string())
        })
    }

    fn next_frame(&mut self) -> Result<Option<BytesMut>, Failure> {
        let Some(length) = self.peek_frame()?.map(<[u8]>::len) else { return self.wait() };
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length)))
    }

    /// The JSON of the next frame, if it is complete; it is not taken.
    pub(super) fn peek_frame(&self) -> Result<Option<&[u8]>, Failure> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > self.longest {
            let longest = self.longest;
            let msg = format!("a frame's length must be 1 to {longest} bytes, and is {length}");
            let code = if length == 0 { Code::BadFrame } else { Code::TooLarge };
            return Err(Failure::new(code, msg));
        }
        Ok(rest.get(..length))
    }

    fn too_long(&self) -> Failure {
        Failure::new(Code::TooLarge, format!("a line is at most {} bytes", self.longest))
    }

    fn next_line(&mut self) -> Result<Option<BytesMut>, Failure> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                if self.searched > self.longest {
                    return Err(self.too_long());
                }
                return self.wait();
            };
            let line = self.buffer.split_to(self.searched + end);
            self.buffer.advance(1);
            self.searched = 0;
            if line.len() > self.longest {
                return Err(self.too_long());
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::Unfinished;

    /// Everything that comes out when these bytes come in pieces.
    fn read(lines: bool, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Failure>) {
        let mut input = Input::new(lines, BytesMut::new(), Unfinished::new(usize::MAX).share());
        let mut found = Vec::new();
        for piece in pieces {
            input.room().extend_from_slice(piece);
            loop {
                match input.next() {
                    Ok(Some(json)) => found.push(json.to_vec()),
                    Ok(None) => break,
                    Err(failure) => return (found, Some(failure)),
                }
            }
        }
        found.extend(input.finish().map(|last| last.to_vec()));
        (found, None)
    }

    #[test]
    fn frames_and_lines_come_out_whole_wherever_they_are_cut() {
        let frames: &[u8] = b"\0\0\0\x02{}\0\0\0\x07{\"a\":1}";
        let lines: &[u8] = b"{}\r\n\n  \n{\"a\":1}";
        for (as_lines, bytes) in [(false, frames), (true, lines)] {
            let whole = read(as_lines, &[bytes]);
            assert_eq!(whole.1, None);
            assert_eq!(whole.0.len(), 2);
            for cut in 0..=bytes.len() {
                assert_eq!(read(as_lines, &[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(as_lines, &single), whole, "byte by byte");
        }
    }

    #[test]
    fn what_is_out_of_step_is_said_once_and_what_came_before_is_kept() {
        for (bytes, code) in
            [(&b"\0\0\0\x02{}\0\0\0\0{}"[..], Code::BadFrame), (b"\0\0\0\x02{}\x01\0\0\0", Code::TooLarge)]
        {
            let (found, failure) = read(false, &[bytes]);
            assert_eq!(found, [b"{}"]);
            assert_eq!(failure.map(|failure| failure.code), Some(code));
        }
    }

    #[test]
    fn half_a_frame_is_no_request_and_the_longest_is_one() {
        assert_eq!(read(false, &[b"\0\0\0\x05{}"]).0.len(), 0);
        let mut longest = (FRAME_BYTES_MAX as u32).to_be_bytes().to_vec();
        longest.resize(LENGTH_BYTES + FRAME_BYTES_MAX, b' ');
        assert_eq!(read(false, &[&longest]).0.len(), 1);
        let endless = vec![b' '; FRAME_BYTES_MAX + 1];
        assert_eq!(read(true, &[&endless]).1.map(|failure| failure.code), Some(Code::TooLarge));
    }

    #[test]
    fn the_first_byte_tells_what_a_caller_speaks() {
        assert_eq!(Speech::of(0), Speech::Frames);
        assert_eq!(Speech::of(b'{'), Speech::Lines);
        assert_eq!(Speech::of(b'G'), Speech::Http);
        assert_eq!(Speech::of(0x16), Speech::Unknown(0x16), "a TLS hello");
    }
}
