//! Every sample of raw bytes over a socket: whole, and byte by byte.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "support/fake_replica.rs"]
mod fake_replica;
#[allow(dead_code)]
#[path = "support/http_client.rs"]
mod http_client;
#[path = "support/http_samples.rs"]
mod http_samples;

use http_client::{Answer, Client, PATIENCE, Server};
use http_samples::{HOST, bad, good};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// How the bytes of a request reach the server.
#[derive(Clone, Copy, Debug)]
enum Pace {
    Whole,
    ByteByByte,
}

async fn start() -> Server {
    let server = Server::start_with(|limits| {
        limits.request_line_bytes = http_samples::REQUEST_LINE_BYTES;
        limits.head_bytes = http_samples::HEAD_BYTES;
        limits.fields = http_samples::FIELDS;
        limits.body_bytes = http_samples::BODY_BYTES;
    });
    let server = server.await;
    server.replica.fill(1, "b");
    server
}

async fn send(client: &mut Client, bytes: &[u8], pace: Pace) {
    let size = match pace {
        Pace::Whole => bytes.len(),
        Pace::ByteByByte => 1,
    };
    for piece in bytes.chunks(size) {
        // After a refusal the server may be gone before all is sent.
        if timeout(PATIENCE, client.stream.write_all(piece)).await.expect("room in time").is_err() {
            return;
        }
        // The server runs on this thread, and reads what there is.
        tokio::task::yield_now().await;
    }
}

/// The answer to a sample that is sent to a server of its own.
async fn ask(text: &str, pace: Pace) -> Answer {
    let server = start().await;
    let mut client = server.connect().await;
    send(&mut client, text.as_bytes(), pace).await;
    let answer = client.answer().await;
    // Asked to continue, where the body had not come yet.
    if answer.status == 100 { client.answer().await } else { answer }
}

#[tokio::test]
async fn good_requests_are_answered_the_same_however_they_come() {
    for (text, why) in good() {
        let whole = ask(&text, Pace::Whole).await;
        assert!(whole.status < 300 || matches!(whole.status, 304 | 404 | 412), "{why}: {text:?}: {whole:?}");
        let bytes = ask(&text, Pace::ByteByByte).await;
        assert_eq!((bytes.status, &bytes.body), (whole.status, &whole.body), "{why}: {text:?} byte by byte");
        assert_eq!(bytes.field("ETag"), whole.field("ETag"), "{why}: {text:?} byte by byte");
    }
}

#[tokio::test]
async fn bad_requests_get_their_status_and_the_connection_ends() {
    let server = start().await;
    let ahead = format!("GET /note/1 HTTP/1.1\r\n{HOST}\r\n");
    let smuggled = format!("POST /note HTTP/1.1\r\n{HOST}Content-Length: 23\r\n\r\n{{\"title\":\"\",\"body\":\"x\"}}");
    for (bytes, status, why) in bad() {
        for pace in [Pace::Whole, Pace::ByteByByte] {
            let mut client = server.connect().await;
            send(&mut client, &[ahead.as_bytes(), &bytes, smuggled.as_bytes()].concat(), pace).await;
            let what = format!("{why}: {} {pace:?}", bytes.escape_ascii());
            assert_eq!(client.answer().await.status, 200, "{what}: the answer before it is sent");
            let refused = client.answer().await;
            assert_eq!((refused.status, refused.field("Connection")), (status, Some("close")), "{what}");
            client.ends().await;
        }
    }
    assert!(server.replica.writes().is_empty(), "nothing was smuggled in");
}
