//! What is said to each kind of server, and how its replies are told apart.

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Primacy's service.
    Http,
    /// Primacy's frames.
    Frames,
    /// Redis, where a write is a SET that so many replicas have when WAIT answers.
    Redis { replicas: usize },
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A note is made; of Redis, as any other write.
    Make,
    /// A note is written; it has to be there already.
    Write,
    /// A note is read.
    Read,
}

impl Speech {
    /// Appends one request about the note `id`, which is `note` after a write.
    pub(crate) fn ask(self, out: &mut Vec<u8>, act: Act, id: u64, note: &str) {
        match (self, act) {
            (Speech::Http, Act::Write) => put_text(
                out,
                &format!("PUT /note/{id} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{note}", note.len()),
            ),
            (Speech::Http, Act::Read) => put_text(out, &format!("GET /note/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n")),
            (Speech::Http, Act::Make) => put_text(
                out,
                &format!("POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{note}", note.len()),
            ),
            (Speech::Frames, Act::Make) => {
                put_frame(out, &format!("{{\"type\":\"post\",\"seq\":{id},\"note\":{note}}}"))
            }
            (Speech::Frames, Act::Write) => {
                put_frame(out, &format!("{{\"type\":\"put\",\"seq\":{id},\"id\":{id},\"note\":{note}}}"))
            }
            (Speech::Frames, Act::Read) => put_frame(out, &format!("{{\"type\":\"get\",\"seq\":{id},\"id\":{id}}}")),
            (Speech::Redis { replicas }, Act::Make | Act::Write) => {
                put_command(out, &["SET", &id.to_string(), note]);
                put_command(out, &["WAIT", &replicas.to_string(), "0"]);
            }
            (Speech::Redis { .. }, Act::Read) => put_command(out, &["GET", &id.to_string()]),
        }
    }

    /// The length of the first reply in `bytes`, once it is whole.
    ///
    /// # Errors
    ///
    /// The reply, where it says that what was asked was not done.
    pub(crate) fn reply(self, act: Act, bytes: &[u8]) -> Result<Option<usize>, String> {
        let (length, done) = match self {
            Speech::Http => match http_length(bytes) {
                None => return Ok(None),
                Some(length) => (length, bytes.starts_with(b"HTTP/1.1 200")),
            },
            Speech::Frames => {
                let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
                let length = u32::from_be_bytes(*length) as usize;
                // `res` stands in front, behind `type` and `re`.
                let head = &rest[..rest.len().min(length).min(64)];
                (4 + length, head.windows(9).any(|member| member == b"\"res\":200"))
            }
            Speech::Redis { replicas } => match redis_length(bytes, act) {
                None => return Ok(None),
                Some(length) if act == Act::Read => (length, bytes[0] == b'$'),
                Some(length) => (length, bytes.get(..length) == Some(format!("+OK\r\n:{replicas}\r\n").as_bytes())),
            },
        };
        match bytes.get(..length) {
            None => Ok(None),
            Some(_) if done => Ok(Some(length)),
            Some(reply) => Err(String::from_utf8_lossy(reply).into_owned()),
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn put_frame(out: &mut Vec<u8>, json: &str) {
    out.extend_from_slice(&(json.len() as u32).to_be_bytes());
    put_text(out, json);
}

fn put_command(out: &mut Vec<u8>, words: &[&str]) {
    put_text(out, &format!("*{}\r\n", words.len()));
    words.iter().for_each(|word| put_text(out, &format!("${}\r\n{word}\r\n", word.len())));
}

fn http_length(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let name = b"\r\nContent-Length: ";
    let at = memchr::memmem::find(&bytes[..head], name)? + name.len();
    let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(head + 4 + digits.fold(0, |length, digit| 10 * length + usize::from(digit - b'0')))
}

/// A line for each command of a write; the value behind its line for a read.
fn redis_length(bytes: &[u8], act: Act) -> Option<usize> {
    let first = memchr::memchr(b'\n', bytes)? + 1;
    if act == Act::Write {
        return Some(first + memchr::memchr(b'\n', &bytes[first..])? + 1);
    }
    let value = std::str::from_utf8(&bytes[1..first - 2]).ok()?.parse::<usize>().ok();
    Some(value.map_or(first, |value| first + value + 2))
}
