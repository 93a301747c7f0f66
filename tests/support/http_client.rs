//! A listener on a free port, and a client that sends it raw bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use primacy::config::{Address, Config, Limits, LogStyle, Mode};
use primacy::http::{Service, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fake_replica::{FakeReplica, REPLICA};

/// Nothing here takes so long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A listener with a fake replica behind it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) replica: FakeReplica,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Limits)) -> Server {
        Server::start_as(|config| change(&mut config.limits)).await
    }

    pub(crate) async fn start_as(change: impl FnOnce(&mut Config)) -> Server {
        let (replica, port) = FakeReplica::start();
        let mut config = config();
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let service = Arc::new(Service::new(port, Arc::new(config), REPLICA));
        let serving = tokio::spawn(serve(listener, service, stopped));
        Server { address, replica, stop, serving }
    }

    pub(crate) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }
}

fn config() -> Config {
    let config = Config::new(Mode::RemoteWrite, vec![Address::new("a", 1), Address::new("b", 2)], 0);
    Config { log: LogStyle::Off, hosts: vec!["notes.example".into()], ..config }
}

/// A raw connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A field's value; panics where it is there twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} is there twice in {}", self.head);
        value
    }

    /// The error's stable word.
    pub(crate) fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(json["res"], self.status, "{}", self.body);
        json["code"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer to anything but HEAD.
    pub(crate) async fn answer(&mut self) -> Answer {
        timeout(PATIENCE, self.read_answer(false)).await.expect("an answer in time")
    }

    /// The next answer to HEAD.
    pub(crate) async fn answer_to_head(&mut self) -> Answer {
        timeout(PATIENCE, self.read_answer(true)).await.expect("an answer in time")
    }

    /// All bytes until the server closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("an end in time").unwrap();
        rest
    }

    /// Asserts that nothing more comes but the end.
    pub(crate) async fn ends(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }

    async fn read_answer(&mut self, to_head: bool) -> Answer {
        let head = self.take_through(b"\r\n\r\n").await;
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        if to_head || matches!(status, 100 | 204 | 304) {
            return answer;
        }
        let body = match answer.field("Content-Length") {
            Some(length) => self.take(length.parse().unwrap()).await,
            None if answer.field("Transfer-Encoding") == Some("chunked") => self.take_chunks().await,
            None => self.rest().await,
        };
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    async fn take_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.take_through(b"\r\n").await;
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            let mut chunk = self.take(size + 2).await;
            assert!(chunk.ends_with(b"\r\n"));
            chunk.truncate(size);
            body.extend(chunk);
            if size == 0 {
                return body;
            }
        }
    }

    async fn take_through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return self.buffer.drain(..at + end.len()).collect();
            }
            self.read_more().await;
        }
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.read_more().await;
        }
        self.buffer.drain(..length).collect()
    }

    async fn read_more(&mut self) {
        let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
        assert!(read > 0, "the server closed after {:?}", String::from_utf8_lossy(&self.buffer));
    }
}
