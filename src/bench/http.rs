//! A minimal HTTP/1.1 client: one request at a time on one connection, as light as can be, since the servers share the
//! machine with it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::run::Access;
use crate::config::Address;
use crate::net::{Stream, tls};

/// How long an answer may take: longer than any deadline of the service's own.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Longest answer that is read, in bytes: a note is at most 1 MiB, a status less.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most header fields of an answer.
const FIELDS_MAX: usize = 32;

/// What an answer tells of the service's time, by [`PHASES`], in ms.
pub(super) type Phases = [f64; PHASES.len()];

/// Names of the parts of `Server-Timing` that are counted, in the order in which they are stacked.
pub(super) const PHASES: [&str; 7] = ["queue", "forward", "move", "replicate", "store", "update", "respond"];

/// A replica's service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// Its address as a request's Host names it.
    host: Address,
    /// The same, resolved.
    at: SocketAddr,
    /// What it wants of who asks.
    access: Access,
}

/// A connection to a replica's service.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    input: Vec<u8>,
}

/// An answer's head; its body stands in the connection's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Head {
    /// The status.
    pub(super) status: u16,
    /// Of `Server-Timing`, by [`PHASES`], in ms.
    pub(super) phases: Phases,
    /// Where the body begins and ends.
    body: (usize, usize),
    /// The service closes the connection.
    closes: bool,
}

impl Service {
    pub(super) async fn resolve(host: Address, access: Access) -> io::Result<Service> {
        let found = lookup_host((host.host(), host.port())).await?.next();
        let at = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Service { host, at, access })
    }

    /// The request for a note, or of any path, with more fields.
    pub(super) fn get(&self, path: &str, fields: &str) -> Vec<u8> {
        format!("{}\r\n", self.head("GET", path, fields)).into_bytes()
    }

    /// A request with a body.
    pub(super) fn with_body(&self, method: &str, path: &str, fields: &str, body: &str) -> Vec<u8> {
        let (head, length) = (self.head(method, path, fields), body.len());
        format!("{head}Content-Length: {length}\r\n\r\n{body}").into_bytes()
    }

    fn head(&self, method: &str, path: &str, fields: &str) -> String {
        let token = self.access.token.as_ref();
        let authorization = token.map(|token| format!("Authorization: Bearer {}\r\n", token.as_str()));
        let (host, authorization) = (&self.host, authorization.unwrap_or_default());
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}{fields}")
    }
}

impl Connection {
    pub(super) async fn open(service: &Service) -> io::Result<Connection> {
        timeout(ANSWER_WAIT, Connection::connect(service)).await.map_err(|_| late())?
    }

    async fn connect(Service { host, at, access }: &Service) -> io::Result<Connection> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let mut stream: Stream = Box::new(stream);
        if let Some(authority) = &access.authority {
            stream = tls::connect(authority, host.host(), stream).await?;
        }
        Ok(Connection { stream, input: Vec::with_capacity(4096) })
    }

    /// Sends a whole request and waits for the answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> io::Result<Head> {
        timeout(ANSWER_WAIT, self.exchange(request)).await.map_err(|_| late())?
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Head> {
        self.input.clear();
        self.stream.write_all(request).await?;
        loop {
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(head) = understand(&self.input)? {
                return Ok(head);
            }
            if self.input.len() > ANSWER_BYTES_MAX {
                return Err(invalid(format!("an answer of more than {ANSWER_BYTES_MAX} bytes")));
            }
        }
    }

    /// The body of the last answer.
    pub(super) fn body(&self, head: &Head) -> &[u8] {
        self.input.get(head.body.0..head.body.1).unwrap_or_default()
    }
}

impl Head {
    /// Whether the request was done.
    pub(super) fn is_done(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether another request may follow on the connection.
    pub(super) fn keeps(&self) -> bool {
        !self.closes
    }
}

/// The stable word of a failure's body; the status where there is none.
pub(super) fn code_of(status: u16, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Failure {
        code: String,
    }
    serde_json::from_slice::<Failure>(body).map_or_else(|_| format!("http_{status}"), |failure| failure.code)
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", ANSWER_WAIT.as_secs()))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// An answer that is complete; none where more has to be read.
fn understand(input: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    let begin = match answer.parse(input).map_err(|error| invalid(format!("no HTTP answer: {error}")))? {
        httparse::Status::Complete(begin) => begin,
        httparse::Status::Partial => return Ok(None),
    };
    let mut head = Head { status: answer.code.unwrap_or_default(), ..Head::default() };
    let mut length = None;
    for field in answer.headers.iter() {
        let value = std::str::from_utf8(field.value).unwrap_or_default();
        match field.name {
            name if name.eq_ignore_ascii_case("content-length") => length = value.parse::<usize>().ok(),
            name if name.eq_ignore_ascii_case("server-timing") => head.phases = phases(value),
            name if name.eq_ignore_ascii_case("connection") => head.closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let length = length.ok_or_else(|| invalid("an answer without Content-Length".to_owned()))?;
    head.body = (begin, begin.saturating_add(length));
    Ok((input.len() >= head.body.1).then_some(head))
}

/// The parts of a `Server-Timing` in ms; those that it does not name are 0.
fn phases(value: &str) -> Phases {
    let mut phases = [0.0; PHASES.len()];
    for part in value.split(',') {
        if let Some((name, ms)) = part.trim().split_once(";dur=")
            && let Some(place) = PHASES.iter().position(|known| *known == name)
        {
            phases[place] = ms.parse().unwrap_or_default();
        }
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nServer-Timing: queue;dur=0.5, forward;dur=1.25, \
                          replicate;dur=2, store;dur=1, update;dur=2, respond;dur=0.01, total;dur=3.76\r\n\r\n{\"res\":200}\n";

    #[tokio::test]
    async fn requests_name_the_service_and_show_its_token() {
        let host: Address = "127.0.0.1:9988".parse().unwrap();
        let mut service = Service::resolve(host, Access::default()).await.unwrap();
        let read = service.get("/note/1", "Connection: close\r\n");
        assert_eq!(read, b"GET /note/1 HTTP/1.1\r\nHost: 127.0.0.1:9988\r\nConnection: close\r\n\r\n");
        service.access.token = Some("secret".into());
        assert_eq!(
            String::from_utf8(service.with_body("PUT", "/note/1", "", "{}")).unwrap(),
            "PUT /note/1 HTTP/1.1\r\nHost: 127.0.0.1:9988\r\nAuthorization: Bearer secret\r\nContent-Length: 2\r\n\r\n{}"
        );
        assert!(!format!("{service:?}").contains("secret"));
    }

    #[test]
    fn an_answer_is_read_once_it_is_complete() {
        for end in 0..ANSWER.len() {
            assert_eq!(understand(&ANSWER.as_bytes()[..end]).unwrap(), None, "{end}");
        }
        let head = understand(ANSWER.as_bytes()).unwrap().unwrap();
        assert!(head.is_done() && head.keeps());
        assert_eq!(head.phases, [0.5, 1.25, 0.0, 2.0, 1.0, 2.0, 0.01]);
        assert_eq!(&ANSWER[head.body.0..head.body.1], "{\"res\":200}\n");
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        assert!(understand(b"SSH-2.0\r\n\r\n").is_err());
        assert!(understand(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        let closes = understand(b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap().unwrap();
        assert!(!closes.keeps() && !closes.is_done());
    }

    #[test]
    fn failures_are_told_by_their_code() {
        assert_eq!(code_of(503, br#"{"res":503,"code":"unknown","msg":"x"}"#), "unknown");
        assert_eq!(code_of(502, b"<html>"), "http_502");
    }
}
