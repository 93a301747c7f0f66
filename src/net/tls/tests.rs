use std::fs;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;
use crate::certificates::Issuer;
use crate::config::error::Origin;
use crate::config::load::Override;

/// Nothing here takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pipe in memory as a socket: it has room for so many bytes and no more.
#[derive(Debug)]
struct Pipe(DuplexStream);

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Socket for Pipe {
    fn set_nodelay(&self) -> io::Result<()> {
        Ok(())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn pipe(room: usize) -> (Stream, Stream) {
    let (near, far) = duplex(room);
    (Box::new(Pipe(near)), Box::new(Pipe(far)))
}

/// A folder with an authority `ca` and a certificate `replica` for the host `a`; removed at the end.
struct Files(PathBuf);

impl Files {
    fn new() -> Files {
        let path = std::env::temp_dir().join(format!("primacy-tls-{:016x}", getrandom::u64().unwrap()));
        fs::create_dir_all(&path).unwrap();
        Issuer::new(&path, "ca").sign(&path, "replica", &["a", "127.0.0.1"]);
        Files(path)
    }

    fn tls(&self) -> Tls {
        let config = self.0.join("config.json");
        fs::write(&config, r#"{"service":80,"sync":"remote-write","replicas":["a:1"]}"#).unwrap();
        let file = |name: &str| self.0.join(name).display().to_string();
        let text = serde_json::json!({ "cert": file("replica.pem"), "key": file("replica.key"), "ca": file("ca.pem") });
        let given = Override { key: "tls", origin: Origin::Flag, text: text.to_string() };
        crate::config::load(&config, &[given]).unwrap().tls.unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The end that calls `a` through a pipe.
async fn near(tls: &Tls, near: Stream) -> Stream {
    connect(tls.authority(), "a", near).await.unwrap()
}

/// The end that is called.
async fn far(tls: &Tls, mut far: Stream) -> Stream {
    assert_eq!(far.read_u8().await.unwrap(), FIRST_BYTE);
    accept(tls, far).await.unwrap()
}

/// Both ends of an encrypted connection through a pipe with enough room for the handshake.
async fn connected(tls: &Tls, room: usize) -> (Stream, Stream) {
    let pipe = pipe(room);
    timeout(PATIENCE, async { tokio::join!(near(tls, pipe.0), far(tls, pipe.1)) }).await.unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * at / 7) as u8).collect()
}

#[tokio::test]
async fn what_is_written_arrives_whole_in_both_directions_at_once_and_nobody_flushes() {
    let files = Files::new();
    let tls = files.tls();
    // In under 6 bytes rustls cannot begin: both ends write first what must be written, and read then.
    for room in [10, 100, 5_000, 100_000] {
        let length = 1_000 * room.min(3_000) + 1;
        let run = async |stream: Stream| {
            let (sent, mut received) = (noise(length), vec![0; length]);
            let (mut reader, mut writer) = tokio::io::split(stream);
            let (written, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received));
            written.unwrap();
            read.unwrap();
            assert!(received == sent, "{length} bytes through {room}");
            // What is closed without this loses what there was no room for.
            let (shut, end) = tokio::join!(writer.shutdown(), reader.read_to_end(&mut received));
            shut.unwrap();
            assert_eq!(end.unwrap(), 0);
        };
        let pipe = pipe(room);
        let both = async {
            tokio::join!(async { run(near(&tls, pipe.0).await).await }, async { run(far(&tls, pipe.1).await).await })
        };
        timeout(PATIENCE, both).await.expect("nothing is left behind");
    }
}

#[tokio::test]
async fn what_there_was_no_room_for_goes_out_while_the_writer_only_reads() {
    let files = Files::new();
    let (mut near, mut far) = connected(&files.tls(), 1_000).await;
    // More than the pipe has room for, and less than what rustls keeps: so this is done at once.
    let sent = noise(30_000);
    timeout(PATIENCE, near.write_all(&sent)).await.unwrap().unwrap();
    let mut answer = [0; 2];
    let mut answered = pin!(near.read_exact(&mut answer));
    let mut received = vec![0; sent.len()];
    let served = async {
        far.read_exact(&mut received).await.unwrap();
        far.write_all(b"ok").await.unwrap();
    };
    let both = async { tokio::join!(&mut answered, served) };
    timeout(PATIENCE, both).await.expect("the rest is sent while an answer is waited for").0.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn an_end_is_told_and_one_that_was_not_is_an_end_too() {
    let files = Files::new();
    let (mut near, mut far) = connected(&files.tls(), 10_000).await;
    near.write_all(b"last").await.unwrap();
    near.shutdown().await.unwrap();
    let mut read = Vec::new();
    far.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"last");
    // The other direction is still open.
    far.write_all(b"answer").await.unwrap();
    let mut read = [0; 6];
    near.read_exact(&mut read).await.unwrap();

    let (mut near, mut far) = connected(&files.tls(), 10_000).await;
    near.write_all(b"cut").await.unwrap();
    drop(near);
    let mut read = Vec::new();
    far.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"cut");
}

#[tokio::test]
async fn both_ends_of_a_connection_have_one_binding_and_no_other_has() {
    let files = Files::new();
    let tls = files.tls();
    let (one, two) = (connected(&tls, 10_000).await, connected(&tls, 10_000).await);
    assert!(one.0.binding().is_some());
    assert_eq!(one.0.binding(), one.1.binding());
    assert_eq!(two.0.binding(), two.1.binding());
    assert_ne!(one.0.binding(), two.0.binding());
    assert_eq!(pipe(1).0.binding(), None);
}

/// What is told of a handshake with an end that accepts by `accepting`.
async fn failure(tls: &Tls, host: &str, accepting: impl AsyncFnOnce(Stream)) -> String {
    let (near, far) = pipe(10_000);
    let connecting = async { connect(tls.authority(), host, near).await.unwrap_err().to_string() };
    timeout(PATIENCE, async { tokio::join!(connecting, accepting(far)) }).await.unwrap().0
}

#[tokio::test]
async fn a_handshake_that_fails_says_why() {
    let (files, foreign) = (Files::new(), Files::new());
    let accepting = |tls: Tls| {
        async move |mut far: Stream| {
            far.read_u8().await.unwrap();
            assert!(accept(&tls, far).await.is_err());
        }
    };
    let said = failure(&files.tls(), "a", accepting(foreign.tls())).await;
    assert!(said.starts_with("TLS: invalid peer certificate: ") && said.contains("signed by an authority"), "{said}");
    let said = failure(&files.tls(), "b", accepting(files.tls())).await;
    assert!(said.contains("not valid for name \"b\"") && said.contains("that names b"), "{said}");
    let said = failure(&files.tls(), "a", async |mut far: Stream| {
        far.write_all(b"{\"type\":\"error\",\"res\":400}\n").await.unwrap();
    })
    .await;
    assert_eq!(said, "it speaks no TLS; have it and this end speak the same");
    let said = failure(&files.tls(), "a", async |mut far: Stream| {
        far.read_u8().await.unwrap();
    })
    .await;
    assert_eq!(said, "it closed the connection in the TLS handshake");
}

#[tokio::test]
async fn who_sends_anything_after_the_first_byte_is_told_no() {
    let files = Files::new();
    let hello: &[u8] = &[3, 1, 0, 40, 1, 0, 0, 36, 3, 3];
    for rest in [&b"\x03\x01\x00\x05hello"[..], b"\0\0\0\0\0", &[0xff; 20_000], hello, b""] {
        let (mut near, far) = pipe(100_000);
        near.write_all(rest).await.unwrap();
        near.shutdown().await.unwrap();
        let refused = timeout(PATIENCE, accept(&files.tls(), far)).await.expect("nothing is waited for");
        assert!(refused.is_err(), "{rest:?}");
    }
}
