//! Clients that do no more than the measurement needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Error;

/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// One kept HTTP connection.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(service: &str) -> Result<Client, Error> {
        let stream = TcpStream::connect(service)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        Ok(Client(BufReader::new(stream)))
    }

    /// The answer's status and body.
    pub(crate) fn request(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, String), Error> {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if status.is_none() {
                status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        let status = status.ok_or_else(|| Error::Measure(format!("{method} {path}: no HTTP answer")))?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The id of a new note.
    pub(crate) fn post(&mut self, title: &str) -> Result<u64, Error> {
        let (status, body) = self.request("POST", "/note", &format!(r#"{{"title":"{title}","body":""}}"#))?;
        let id = serde_json::from_str::<serde_json::Value>(&body)?["id"].as_u64();
        id.ok_or_else(|| Error::Measure(format!("POST: {status} {body}")))
    }
}

/// Posts this many notes of 250 bytes by lines on a replica's address, many at a time.
pub(crate) fn load(address: &str, notes: u64) -> Result<(), Error> {
    /// Requests that are sent before their answers are read.
    const AT_A_TIME: u64 = 256;
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    let (mut answers, mut requests) = (BufReader::new(stream.try_clone()?), stream);
    // With `{"title":"a note","body":"…"}` around it.
    let line = format!("{{\"type\":\"post\",\"note\":{{\"title\":\"a note\",\"body\":\"{}\"}}}}\n", "x".repeat(222));
    let mut left = notes;
    while left > 0 {
        let now = left.min(AT_A_TIME);
        requests.write_all(line.repeat(now as usize).as_bytes())?;
        for _ in 0..now {
            let mut answer = String::new();
            answers.read_line(&mut answer)?;
            if !answer.contains("\"done\"") {
                return Err(Error::Measure(format!("loading notes: {answer}")));
            }
        }
        left -= now;
    }
    Ok(())
}
