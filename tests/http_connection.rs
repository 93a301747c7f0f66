//! Connections of the HTTP service: order, reuse, limits, deadlines, ends.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "support/fake_replica.rs"]
mod fake_replica;
#[allow(dead_code)]
#[path = "support/http_client.rs"]
mod http_client;

use std::time::{Duration, Instant};

use http_client::{Client, PATIENCE, Server};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

const HELLO: &str = r#"{"title":"Hello World","body":"this is new note"}"#;

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn post() -> String {
    format!("POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{HELLO}", HELLO.len())
}

/// Waits for what must come about in the end.
async fn until(mut condition: impl FnMut() -> bool) {
    let all = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("the condition in time");
}

#[tokio::test]
async fn halves_of_bodies_have_a_bound_together_and_short_requests_pass() {
    const LENGTH: usize = 90_000;
    let server = Server::start_with(|limits| limits.unfinished_bytes = 100_000).await;
    server.replica.fill(1, "b");
    let body = format!("{{\"title\":\"{}\"}}", "x".repeat(LENGTH - 12));
    let head = |framing: &str| format!("PUT /note/1 HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
    let whole = head(&format!("Content-Length: {LENGTH}")) + &body;
    let chunks = head("Transfer-Encoding: chunked") + &format!("{LENGTH:x}\r\n{body}\r\n0\r\n\r\n");
    for text in [whole, chunks] {
        let (half, rest) = text.split_at(80_000);
        let (mut one, mut other) = (server.connect().await, server.connect().await);
        one.send(half).await;
        other.send(half).await;
        // Whichever is read last finds no room.
        let (refused, is_one) = tokio::select! {
            answer = one.answer() => (answer, true),
            answer = other.answer() => (answer, false),
        };
        assert_eq!((refused.status, refused.code().as_str()), (503, "unavailable"));
        assert_eq!(refused.field("Connection"), Some("close"));
        let (mut gone, mut held) = if is_one { (one, other) } else { (other, one) };
        gone.ends().await;
        assert_eq!(server.ask("GET /note/1 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 200);
        held.send(rest).await;
        assert_eq!(held.answer().await.status, 200);
    }
}

#[tokio::test]
async fn safe_requests_of_one_read_go_together_and_writes_alone() {
    let server = Server::start().await;
    server.replica.fill(3, "b");
    let mut client = server.connect().await;
    let requests = [get("/note/1"), get("/note/2"), post(), post(), get("/note/4"), get("/note/5"), get("/note")];
    client.send(requests.concat()).await;
    let mut answers = Vec::new();
    for _ in &requests {
        answers.push(client.answer().await);
    }
    assert_eq!(server.replica.batches(), [2, 1, 1, 2, 1]);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 201, 201, 200, 200, 200], "each read sees the writes before it");
    assert!(answers[1].body.contains("\"id\":2") && answers[3].body.contains("\"id\":5"));
}

#[tokio::test]
async fn answers_come_in_order_though_some_are_ready_at_once() {
    let server = Server::start().await;
    server.replica.fill(1, "b");
    server.replica.hold();
    let mut client = server.connect().await;
    client.send([get("/note/1"), get("/nowhere"), get("/openapi.json"), get("/note/1")].concat()).await;
    until(|| server.replica.calls() == 2).await;
    server.replica.release();
    let statuses = [client.answer().await, client.answer().await, client.answer().await, client.answer().await];
    assert_eq!(statuses.map(|answer| answer.status), [200, 404, 200, 200]);
}

#[tokio::test]
async fn what_comes_before_a_bad_request_is_answered_and_nothing_behind_it() {
    let server = Server::start().await;
    server.replica.fill(1, "b");
    for bad in [
        "POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /note HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "GET /note/1 HTTP/1.1\nHost: localhost\n\n",
        "\u{1}",
    ] {
        let mut client = server.connect().await;
        client.send([get("/note/1"), bad.to_owned(), post(), get("/note/1")].concat()).await;
        assert_eq!(client.answer().await.status, 200, "{bad:?}");
        let refused = client.answer().await;
        assert_eq!((refused.status, refused.field("Connection")), (400, Some("close")), "{bad:?}");
        client.ends().await;
    }
    assert!(server.replica.writes().is_empty(), "nothing was smuggled in");
}

#[tokio::test]
async fn requests_may_come_byte_by_byte() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let chunked = "POST /note HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                   10;x=y\r\n{\"title\":\"a\",\"bo\r\n8\r\ndy\":\"b\"}\r\n0\r\nA: b\r\n\r\n";
    for request in [post(), chunked.to_owned(), get("/note/2")] {
        for byte in request.bytes() {
            client.send([byte]).await;
            tokio::task::yield_now().await;
        }
        assert!(client.answer().await.status < 300, "{request}");
    }
}

#[tokio::test]
async fn old_clients_keep_their_connection_only_where_they_ask() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("Connection")), (200, Some("keep-alive")));
    client.send("GET /health HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer().await.field("Connection"), Some("close"));
    client.ends().await;
}

#[tokio::test]
async fn a_client_that_asks_is_told_to_continue() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let head = "POST /note HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
    client.send(format!("{}{head}Content-Length: {}\r\n\r\n", get("/note/1"), HELLO.len())).await;
    assert_eq!(client.answer().await.status, 404, "the answer before it comes first");
    assert_eq!(client.answer().await.status, 100);
    client.send(HELLO).await;
    assert_eq!(client.answer().await.status, 201);

    client.send(format!("{head}Content-Length: {}\r\n\r\n{HELLO}", HELLO.len())).await;
    assert_eq!(client.answer().await.status, 201, "no 100 where the body is there already");

    client.send(format!("{head}Content-Length: 1048577\r\n\r\n")).await;
    let refused = client.answer().await;
    assert_eq!((refused.status, refused.field("Connection")), (413, Some("close")), "instead of a 100");
    client.ends().await;

    let mut client = server.connect().await;
    client.send(format!("{}Content-Length: 2\r\n\r\n", head.replace("100-continue", "the-unexpected"))).await;
    let refused = client.answer().await;
    assert_eq!((refused.status, refused.field("Connection")), (417, Some("close")), "whether the body comes is open");
    client.ends().await;
}

#[tokio::test]
async fn the_answer_survives_a_large_body_that_nobody_reads() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let mut request = b"POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2097152\r\n\r\n".to_vec();
    request.resize(request.len() + 2 * 1024 * 1024, b' ');
    client.send(request).await;
    assert_eq!(client.answer().await.status, 413);
    client.ends().await;
}

#[tokio::test]
async fn the_largest_body_is_taken() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let note = format!("{{\"title\":\"\",\"body\":\"{}\"}}", "x".repeat(1024 * 1024 - 22));
    assert_eq!(note.len(), 1024 * 1024);
    client
        .send(format!("POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{note}", note.len()))
        .await;
    assert_eq!(client.answer().await.status, 201);
    client.send(get("/note/1")).await;
    assert_eq!(client.answer().await.body, format!("{{\"res\":200,\"note\":{{\"id\":1,{}}}\n", &note[1..]));
}

#[tokio::test]
async fn after_a_clients_fin_its_whole_requests_are_answered() {
    let server = Server::start().await;
    server.replica.fill(1, "b");
    let mut client = server.connect().await;
    client.send([get("/note/1"), post(), get("/note/2")].concat()).await;
    client.stream.shutdown().await.unwrap();
    for status in [200, 201, 200] {
        assert_eq!(client.answer().await.status, status);
    }
    client.ends().await;

    let mut client = server.connect().await;
    client.send(format!("{}POST /note HTTP/1.1\r\n", get("/note/1"))).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 400, "half a request is told so");
    client.ends().await;
    assert_eq!(server.replica.writes().len(), 1);
}

#[tokio::test]
async fn slow_requests_end_at_their_deadline_however_they_trickle() {
    let server = Server::start_with(|limits| (limits.head_ms, limits.body_ms) = (300, 300)).await;
    for begin in [
        "GET / HTTP/1.1\r\nA: ",
        "POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n",
        "POST /note HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
    ] {
        let Client { mut stream, .. } = server.connect().await;
        stream.write_all(begin.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let began = Instant::now();
        let trickle = tokio::spawn(async move {
            // Ends when the server has closed.
            while writer.write_all(b"1").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut answer = [0; 12];
        let end = timeout(PATIENCE, tokio::io::AsyncReadExt::read_exact(&mut reader, &mut answer)).await;
        end.expect("an answer in time").unwrap();
        trickle.abort();
        assert_eq!(&answer, b"HTTP/1.1 408", "{begin:?}");
        assert!(began.elapsed() >= Duration::from_millis(250), "{begin:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_without_a_word() {
    let server = Server::start_with(|limits| limits.idle_ms = 200).await;
    let mut client = server.connect().await;
    client.send(get("/health")).await;
    assert_eq!(client.answer().await.status, 200);
    client.ends().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let server = Server::start_with(|limits| limits.write_ms = 200).await;
    server.replica.fill(40, &"b".repeat(900 * 1024));
    let mut client = server.connect().await;
    client.send(get("/note")).await;
    let end = async {
        loop {
            // The socket's error shows that the server has gone; nothing is read meanwhile.
            if client.stream.take_error().unwrap().is_some() || client.stream.try_write(b"x").is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, end).await.expect("the connection is given up");
    assert!(server.replica.calls() < 40, "and no further pages are made");
}

#[tokio::test]
async fn a_pipeline_is_read_only_as_fast_as_it_is_answered() {
    let server = Server::start_with(|limits| limits.pipeline = 4).await;
    server.replica.fill(1, "b");
    server.replica.hold();
    let mut client = server.connect().await;
    client.send(get("/note/1").repeat(50)).await;
    until(|| server.replica.calls() > 0).await;
    assert!(server.replica.calls() <= 4);
    server.replica.release();
    for _ in 0..50 {
        assert_eq!(client.answer().await.status, 200);
    }
    assert!(server.replica.batches().iter().all(|calls| *calls <= 4));
}

#[tokio::test]
async fn what_is_not_answered_stops_the_reading() {
    let server = Server::start_with(|limits| limits.pipeline = 4).await;
    server.replica.hold();
    let mut client = server.connect().await;
    client.send(get("/note/1").repeat(8)).await;
    until(|| server.replica.calls() > 0).await;
    // Sockets hold some; past that the client must wait. 64 MiB is more than any system gives to both ends.
    let requests = get("/note/1").repeat(1000);
    let mut sent = 0;
    while timeout(Duration::from_millis(500), client.stream.write_all(requests.as_bytes())).await.is_ok() {
        sent += requests.len();
        assert!(sent < 64 * 1024 * 1024, "the server reads what it cannot answer");
    }
    assert!(server.replica.calls() <= 4);
}

#[tokio::test]
async fn too_many_connections_are_turned_away() {
    for per_address in [false, true] {
        let server = Server::start_with(|limits| match per_address {
            true => limits.connections_per_address = 2,
            false => limits.connections = 2,
        })
        .await;
        let mut first = server.connect().await;
        let mut second = server.connect().await;
        for client in [&mut first, &mut second] {
            client.send(get("/health")).await;
            assert_eq!(client.answer().await.status, 200);
        }
        let mut third = server.connect().await;
        let refused = third.answer().await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "unavailable"));
        assert!(refused.field("Retry-After").is_some());
        third.ends().await;
        drop(first);
        // The place is free once the server has seen the first one go.
        let again = async {
            loop {
                let mut client = server.connect().await;
                client.send(get("/health")).await;
                if client.answer().await.status == 200 {
                    return;
                }
            }
        };
        timeout(PATIENCE, again).await.expect("the place is free again");
    }
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_closes_what_is_idle() {
    let server = Server::start().await;
    let mut idle = server.connect().await;
    idle.send(get("/health")).await;
    idle.answer().await;
    let mut busy = server.connect().await;
    server.replica.hold();
    busy.send(post()).await;
    until(|| server.replica.writes().len() + server.replica.calls() > 1).await;
    server.stop.send_replace(true);
    idle.ends().await;
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody new is let in");
    server.replica.release();
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.field("Connection")), (201, Some("close")));
    busy.ends().await;
    drop((idle, busy));
    timeout(PATIENCE, server.serving).await.expect("an end in time").unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let server = Server::start().await;
    let mut stuck = server.connect().await;
    server.replica.hold();
    stuck.send(post()).await;
    until(|| server.replica.calls() > 0).await;
    server.stop.send_replace(true);
    timeout(PATIENCE, server.serving).await.expect("an end in time").unwrap();
}

#[tokio::test]
async fn many_connections_are_served_at_once() {
    let server = Server::start().await;
    server.replica.fill(1, "b");
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(server.connect().await);
    }
    for _ in 0..10 {
        for client in &mut clients {
            client.send(get("/note/1").repeat(3)).await;
        }
        for client in &mut clients {
            for _ in 0..3 {
                assert_eq!(client.answer().await.status, 200);
            }
        }
    }
}
