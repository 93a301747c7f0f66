//! What a client of the HTTP service sees: the table of requests and answers, to the byte.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "support/fake_replica.rs"]
mod fake_replica;
#[allow(dead_code)]
#[path = "support/http_client.rs"]
mod http_client;

use std::time::{Duration, SystemTime};

use http_client::{Answer, Server};

fn request(method: &str, target: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

const HELLO: &str = r#"{"title":"Hello World","body":"this is new note"}"#;

#[tokio::test]
async fn a_session_of_notes_is_answered_to_the_byte() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let mut ask = async |method: &str, target: &str, body: &str| -> Answer {
        client.send(request(method, target, "", body)).await;
        client.answer().await
    };

    let made = ask("POST", "/note", HELLO).await;
    assert_eq!((made.status, made.body.as_str()), (201, "{\"res\":200,\"id\":1}\n"));
    assert_eq!(made.field("Location"), Some("/note/1"));
    assert_eq!(made.field("ETag"), Some("\"1-1\""));

    let one = ask("GET", "/note/1", "").await;
    let expected = format!("{{\"res\":200,\"note\":{{\"id\":1,{}}}\n", &HELLO[1..]);
    assert_eq!((one.status, one.body.as_str()), (200, expected.as_str()));
    assert_eq!(one.field("Content-Type"), Some("application/json"));

    let all = ask("GET", "/note", "").await;
    assert_eq!(all.body, format!("{{\"res\":200,\"data\":[{{\"id\":1,{}]}}\n", &HELLO[1..]));

    let patched = ask("PATCH", "/note/1", r#"{"title":"B"}"#).await;
    assert_eq!((patched.status, patched.body.as_str()), (200, "{\"res\":200}\n"));
    assert_eq!(patched.field("ETag"), Some("\"1-2\""));

    let put = ask("PUT", "/note/1", r#"{"title":"C"}"#).await;
    assert_eq!((put.status, put.body.as_str()), (200, "{\"res\":200}\n"));
    assert_eq!(ask("GET", "/note/1", "").await.body, "{\"res\":200,\"note\":{\"id\":1,\"title\":\"C\"}}\n");

    let deleted = ask("DELETE", "/note/1", "").await;
    assert_eq!((deleted.status, deleted.body.as_str()), (200, "{\"res\":200}\n"));
    assert_eq!(deleted.field("ETag"), None, "what is gone has no ETag");

    let gone = ask("GET", "/note/1", "").await;
    assert_eq!(gone.body, "{\"res\":404,\"code\":\"not_found\",\"msg\":\"there is no note 1\"}\n");
    assert_eq!(ask("GET", "/note", "").await.body, "{\"res\":200,\"data\":[]}\n");
}

#[tokio::test]
async fn every_answer_says_who_gave_it_and_where_its_time_went() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let began = SystemTime::now();
    for number in 1..=3 {
        client.send(request("POST", "/note", "", HELLO)).await;
        let answer = client.answer().await;
        assert_eq!(answer.field("Primacy-Replica"), Some("b:2"));
        assert_eq!(answer.field("Primacy-Primary"), Some("a:1"));
        assert_eq!(answer.field("Primacy-Connection"), Some(format!("1; requests={number}").as_str()));
        let date = httpdate::parse_http_date(answer.field("Date").unwrap()).unwrap();
        assert!(date <= SystemTime::now() && date + Duration::from_secs(2) > began, "{date:?}");
        let timing = answer.field("Server-Timing").unwrap();
        assert!(timing.starts_with("queue;dur=0.012, replicate;dur=1.5, store;dur=0.7, update;dur=0, "), "{timing}");
        let parts: Vec<(&str, f64)> = timing
            .split(", ")
            .map(|part| part.split_once(";dur=").unwrap())
            .map(|(name, ms)| (name, ms.parse().unwrap()))
            .collect();
        let part = |wanted: &str| parts.iter().find(|(name, _)| *name == wanted).unwrap().1;
        let sum = part("queue") + part("replicate") + part("respond");
        assert!((part("total") - sum).abs() < 1e-9, "{timing}");
    }
    client.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let refused = client.answer().await;
    assert_eq!(refused.field("Primacy-Replica"), Some("b:2"));
    assert_eq!(refused.field("Primacy-Primary"), Some("a:1"), "the primary that was named last");
}

#[tokio::test]
async fn bad_requests_get_their_status_and_word() {
    let server = Server::start().await;
    let deep = "[".repeat(100_000);
    let origin = "Origin: http://evil.example\r\n";
    let keys = "Idempotency-Key: a\r\nIdempotency-Key: a\r\n";
    let many_tags = format!("If-Match: {}\r\n", vec!["\"1-1\""; 17].join(","));
    #[rustfmt::skip]
    let table: &[(&str, &str, &str, &str, u16, &str)] = &[
        ("POST", "/note", "", "", 400, "bad_json"),
        ("POST", "/note", "", "{\"title\":\"\\ud800\",\"body\":\"b\"}", 400, "bad_json"),
        ("POST", "/note", "", "{\"title\":\"a\",\"title\":\"b\",\"body\":\"b\"}", 400, "bad_note"),
        ("POST", "/note", "", "{\"title\":\"a\"}", 400, "bad_note"),
        ("POST", "/note", "", "{\"title\":\"a\",\"body\":null}", 400, "bad_note"),
        ("POST", "/note", "", "{\"id\":1,\"title\":\"a\",\"body\":\"b\"}", 400, "bad_note"),
        ("POST", "/note", "", "{\"title\":\"a\",\"body\":\"b\",\"color\":1}", 400, "bad_note"),
        ("POST", "/note", "", "[\"a\",\"b\"]", 400, "bad_note"),
        ("PUT", "/note/1", "", "[1,\"a\",\"b\"]", 400, "bad_note"),
        ("PATCH", "/note/1", "", "[1,\"a\"]", 400, "bad_note"),
        ("PUT", "/note/1", "", "\"a\"", 400, "bad_note"),
        ("PUT", "/note/1", "", &deep, 400, "bad_note"),
        ("PUT", "/note/1", "", "{\"id\":2}", 400, "bad_note"),
        ("GET", "/note/x", "", "", 400, "bad_id"),
        ("GET", "/note/01", "", "", 400, "bad_id"),
        ("GET", "/note/-1", "", "", 400, "bad_id"),
        ("GET", "/note/18446744073709551616", "", "", 400, "bad_id"),
        ("GET", "/note/0", "", "", 404, "not_found"),
        ("GET", "/note/18446744073709551615", "", "", 404, "not_found"),
        ("GET", "/", "", "", 404, "not_found"),
        ("GET", "/note/", "", "", 404, "not_found"),
        ("GET", "/note/1/x", "", "", 404, "not_found"),
        ("GET", "/note?limit=0", "", "", 400, "bad_request"),
        ("GET", "/note?limit=1001", "", "", 400, "bad_request"),
        ("GET", "/note?limit=1&limit=1", "", "", 400, "bad_request"),
        ("GET", "/note?limt=1", "", "", 400, "bad_request"),
        ("GET", "/note?after=x", "", "", 400, "bad_request"),
        ("DELETE", "/note", "", "", 405, "method_not_allowed"),
        ("POST", "/note/1", "", "{}", 405, "method_not_allowed"),
        ("PUT", "/status", "", "{}", 405, "method_not_allowed"),
        ("BREW", "/note", "", "", 501, "unsupported"),
        ("TRACE", "/note", "", "", 501, "unsupported"),
        ("POST", "/note", "Content-Encoding: gzip\r\n", HELLO, 415, "unsupported"),
        ("PUT", "/note/1", "Content-Encoding: identity, br\r\n", "{}", 415, "unsupported"),
        ("PATCH", "/note/1", "Content-Encoding: identity\r\nContent-Encoding: x\r\n", "{}", 415, "unsupported"),
        ("POST", "/note", origin, HELLO, 403, "forbidden"),
        ("POST", "/note", "Origin: null\r\n", HELLO, 403, "forbidden"),
        ("POST", "/note", "Origin: http://localhost:3000\r\n", HELLO, 403, "forbidden"),
        ("PUT", "/note/1", "Origin: http://localhost.evil.example\r\n", "{}", 403, "forbidden"),
        ("PATCH", "/note/1", "Origin: ftp://localhost\r\n", "{}", 403, "forbidden"),
        ("PATCH", "/note/1", "Origin: http://localhost\r\nOrigin: null\r\n", "{}", 403, "forbidden"),
        ("DELETE", "/note/1", "Sec-Fetch-Site: cross-site\r\n", "", 403, "forbidden"),
        ("POST", "/note", keys, HELLO, 400, "bad_request"),
        ("POST", "/note", "Idempotency-Key: a b\r\n", HELLO, 400, "bad_request"),
        ("POST", "/note", "If-Match: \"1-1\"\r\n", HELLO, 412, "precondition_failed"),
        ("PUT", "/note/1", "If-None-Match: \"1-1\"\r\n", "{}", 400, "bad_request"),
        ("PUT", "/note/1", &many_tags, "{}", 400, "bad_request"),
    ];
    let mut client = server.connect().await;
    for (method, target, fields, body, status, code) in table {
        client.send(request(method, target, fields, body)).await;
        let answer = client.answer().await;
        let what = format!("{method} {target} {fields:?} {:.60}: {}", body, answer.body);
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code), "{what}");
        assert_eq!(answer.field("Connection"), None, "the connection goes on after {what}");
        assert_eq!(answer.field("Allow").is_some(), *status == 405, "{what}");
    }
    assert!(server.replica.writes().is_empty());
}

/// Bodies that are refused: the line on which that shows, and why.
fn bad_bodies() -> Vec<(Vec<u8>, u32, &'static str)> {
    let deep = "[".repeat(100_000);
    let texts = [
        ("", 1, "nothing"),
        ("{\"title\":\"a\",\n", 2, "no end"),
        ("{\"title\":\"a\"}\nx", 2, "trailing data"),
        ("{\"title\":\"a\"} {}", 1, "a second object"),
        ("{\"title\":\"a\",}", 1, "a comma too many"),
        ("{\n'title':'a'}", 2, "other quotes"),
        ("{title:\"a\"}", 1, "no quotes"),
        ("// a note\n{}", 1, "a comment"),
        ("\u{feff}{}", 1, "a byte order mark"),
        ("{\"title\":\"a\",\n\"title\":\"a\"}", 2, "a duplicate member"),
        ("{\"body\":\"a\",\n\n\"bod\\u0079\":\"a\"}", 3, "a duplicate member, escaped"),
        ("{\"title\":\n\"\\ud800\"}", 2, "a lone surrogate"),
        ("{\"title\":\"\\udc00\"}", 1, "the other half alone"),
        ("{\"title\":\"\\ud83d\\ud83d\"}", 1, "the first half twice"),
        ("{\"title\":\"\\ud83d\\n\"}", 1, "half a pair and another escape"),
        ("{\"title\":\"\\ud83\"}", 1, "half an escape"),
        ("{\"title\":\"\\x41\"}", 1, "an escape of another language"),
        ("{\"title\":\"\u{1}\"}", 1, "a control character"),
        ("{\"title\":\n\"a\nb\"}", 3, "a line end within a string"),
        ("{\"title\":NaN}", 1, "no number"),
        ("{\"title\":Infinity}", 1, "no number"),
        ("{\"title\":-Infinity}", 1, "no number"),
        ("{\"title\":\n1e999999}", 2, "a number that overflows"),
        ("{\"id\":1e400}", 1, "one where a number may stand"),
        ("{\"id\":0x1}", 1, "hexadecimal"),
        ("{\"id\":01}", 1, "a zero in front"),
        ("{\"id\":18446744073709551616}", 1, "one more than an id can be"),
        ("{\"title\":{\"a\":\"b\"}}", 1, "an object in a note"),
        ("[\"a\",\"b\"]", 1, "an array"),
        (&deep, 1, "arrays within arrays"),
    ];
    let within = [
        format!("{{\"title\":{deep}"),
        format!("{{\"color\":{deep}"),
        format!("{{\"id\":{}", "{\"a\":".repeat(20_000)),
    ];
    let huge = format!("{{\"id\":1{}}}", "0".repeat(10_000));
    let no_text: [&[u8]; 5] = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"];
    let texts = texts.map(|(text, line, why)| (text.as_bytes().to_vec(), line, why)).into_iter();
    texts
        .chain(within.map(|text| (text.into_bytes(), 1, "depth within a member")))
        .chain([(huge.into_bytes(), 1, "a number of 10,000 digits")])
        .chain(no_text.map(|bytes| ([b"{\"title\":\"", bytes, b"\"}"].concat(), 1, "invalid UTF-8")))
        .collect()
}

#[tokio::test]
async fn bad_bodies_are_refused_with_line_and_column() {
    let server = Server::start().await;
    server.replica.fill(1, "b");
    let mut client = server.connect().await;
    for (body, line, why) in bad_bodies() {
        for request in ["POST /note", "PUT /note/1", "PATCH /note/1"] {
            let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
            client.send([head.as_bytes(), &body].concat()).await;
            let answer = client.answer().await;
            let what = format!("{request} with {why}: {}", answer.body);
            assert!(answer.status == 400 && matches!(&*answer.code(), "bad_json" | "bad_note"), "{what}");
            let place = answer.body.split(&format!(" at line {line} column ")).nth(1);
            assert!(place.is_some_and(|column| column.starts_with(|first: char| first.is_ascii_digit())), "{what}");
        }
    }
    assert!(server.replica.writes().is_empty());
    let answer = server.ask(&request("POST", "/note", "", "{\n  \"title\": oops}")).await;
    assert!(answer.body.contains("line 2 column 12"), "{}", answer.body);
    let answer = server.ask(&request("POST", "/note", "", "{\"title\":1,\"body\":\"\"}")).await;
    assert!(answer.body.contains("line 1 column 10"), "{}", answer.body);
}

#[tokio::test]
async fn any_valid_string_comes_back_the_same() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let body: String = (0..=0x10ffff).step_by(97).filter_map(char::from_u32).chain(0 as char..'\u{100}').collect();
    let note = serde_json::json!({ "title": "\u{0}\"\\\u{2028}😀", "body": body });
    client
        .send(request("POST", "/note", "Content-Type: application/x-www-form-urlencoded\r\n", &note.to_string()))
        .await;
    assert_eq!(client.answer().await.status, 201, "the type that `curl -d` sends is no obstacle");
    client.send(request("GET", "/note/1", "", "")).await;
    let back: serde_json::Value = serde_json::from_str(&client.answer().await.body).unwrap();
    assert_eq!((&back["note"]["title"], &back["note"]["body"]), (&note["title"], &note["body"]));
}

#[tokio::test]
async fn only_our_hosts_are_served() {
    let server = Server::start().await;
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:9988", 200),
        ("127.0.0.1:9988", 200),
        ("10.1.2.3", 200),
        ("[::1]:80", 200),
        ("Notes.Example", 200),
        ("b:2", 200),
        ("localhost:", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("1.2.3.4.5", 421),
        ("", 400),
        ("a b", 400),
        ("user@localhost", 400),
        ("localhost:x", 400),
        ("localhost:65536", 400),
        ("[::1", 400),
        ("[evil]", 400),
        ("a,b", 400),
    ] {
        let answer = server.ask(&format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "Host: {host}");
        assert_eq!(answer.field("Access-Control-Allow-Origin"), None);
    }
    for (target, status) in [
        ("http://localhost/health", 200),
        ("HTTP://127.0.0.1:1/health?x", 200),
        ("http://evil.example/health", 421),
        ("http://u@localhost/health", 400),
        ("http:///health", 400),
        ("https://localhost/health", 400),
        ("localhost/health", 400),
        ("*", 400),
        ("/health#x", 400),
        ("/hea%lth", 400),
        ("/hea\\lth", 400),
    ] {
        let answer = server.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{target}");
    }
    // Nothing lets a page of another origin read an answer, or ask for leave to write.
    for (method, fields, status) in [
        ("GET", "Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n", 200),
        ("OPTIONS", "Origin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n", 204),
        ("POST", "Origin: http://evil.example\r\n", 403),
        ("POST", "Origin: http://localhost\r\n", 201),
        ("POST", "Sec-Fetch-Site: none\r\nContent-Encoding: identity\r\n", 201),
    ] {
        let answer = server.ask(&request(method, "/note", fields, HELLO)).await;
        assert_eq!(answer.status, status, "{method} {fields}");
        assert!(!answer.head.to_lowercase().contains("access-control"), "{method} {fields}: {}", answer.head);
    }
    let nobody = "POST /note HTTP/1.0\r\nOrigin: http://\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(server.ask(nobody).await.status, 403, "who names no host has no origin here");
    // A page may write to its own origin.
    for origin in ["http://localhost:9988", "https://LOCALHOST:9988"] {
        let fields = format!("Host: localhost:9988\r\nOrigin: {origin}\r\nSec-Fetch-Site: same-origin\r\n");
        let answer = server.ask(&format!("POST /note HTTP/1.1\r\n{fields}Content-Length: 49\r\n\r\n{HELLO}")).await;
        assert_eq!(answer.status, 201, "{origin}");
    }
}

#[tokio::test]
async fn conditions_are_kept() {
    let server = Server::start().await;
    server.replica.fill(1, "b");
    let mut client = server.connect().await;
    for (method, fields, status) in [
        ("GET", "If-None-Match: \"1-1\"\r\n", 304),
        ("GET", "If-None-Match: W/\"1-1\"\r\n", 304),
        ("GET", "If-None-Match: \"x\" , \"1-1\"\r\n", 304),
        ("GET", "If-None-Match: \"x\"\r\nIf-None-Match: \"1-1\"\r\n", 304),
        ("GET", "If-None-Match: *\r\n", 304),
        ("GET", "If-None-Match: \"1-2\"\r\n", 200),
        ("GET", "If-Match: \"9-9\", \"1-1\"\r\n", 200),
        ("GET", "If-Match: *\r\n", 200),
        ("GET", "If-Match: \"1-2\"\r\n", 412),
        ("GET", "If-Match: \"1-2\"\r\nIf-None-Match: \"1-1\"\r\n", 412),
        ("GET", "If-Match: \"1-1\"\r\nIf-None-Match: \"1-1\"\r\n", 304),
        ("PUT", "If-Match: \"1-2\"\r\n", 412),
        ("PUT", "If-Match: W/\"1-1\"\r\n", 412),
        ("PUT", "If-Match: \"foreign, with a comma\"\r\n", 412),
        ("PUT", "If-Match: 1-1\r\n", 412),
        ("PUT", "If-None-Match: *\r\n", 412),
        ("PUT", "If-Match: \"9-9\", \"1-1\"\r\n", 200),
        ("PUT", "If-Match: *\r\n", 200),
    ] {
        client.send(request(method, "/note/1", fields, "{}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{method} {fields}");
        assert_eq!(answer.field("ETag").is_some(), status < 400, "{method} {fields}");
    }
    client.send(request("PUT", "/note/7", "If-None-Match: *\r\n", "{}")).await;
    assert_eq!(client.answer().await.status, 404);
}

#[tokio::test]
async fn an_idempotency_key_goes_with_the_write() {
    let server = Server::start().await;
    server.ask(&request("POST", "/note", "Idempotency-Key: k-1\r\n", HELLO)).await;
    assert_eq!(server.replica.writes()[0].key.as_ref().unwrap().as_str(), "k-1");
}

#[tokio::test]
async fn head_and_options_are_there_where_get_is() {
    let server = Server::start().await;
    server.replica.fill(3, "b");
    let mut client = server.connect().await;
    for target in ["/note", "/note?limit=2", "/note/1", "/note/9", "/status", "/health", "/ready", "/openapi.json"] {
        client.send(request("GET", target, "", "")).await;
        let got = client.answer().await;
        client.send(request("HEAD", target, "", "")).await;
        let head = client.answer_to_head().await;
        assert_eq!(head.status, got.status, "{target}");
        for field in ["Content-Length", "Content-Type", "ETag", "Link"] {
            assert_eq!(head.field(field), got.field(field), "{target}");
        }
        client.send(request("OPTIONS", target, "", "")).await;
        let options = client.answer().await;
        assert_eq!((options.status, options.field("Content-Length")), (204, None), "{target}");
        assert!(options.field("Allow").unwrap().starts_with("GET, HEAD"), "{target}");
    }
    client.send(request("OPTIONS", "*", "", "")).await;
    assert_eq!(client.answer().await.status, 204);
}

#[tokio::test]
async fn the_replica_tells_how_it_is() {
    let server = Server::start().await;
    let get = |target: &str| request("GET", target, "", "");
    assert_eq!(server.ask(&get("/health")).await.body, "{\"res\":200}\n");
    assert_eq!(server.ask(&get("/ready")).await.body, "{\"res\":200}\n");
    let status = server.ask(&get("/status")).await;
    assert!(
        status
            .body
            .starts_with("{\"replica\":\"b:2\",\"mode\":\"remote-write\",\"role\":\"backup\",\"view\":{\"epoch\":1,")
    );
    server.replica.lose_lease();
    let unready = server.ask(&get("/ready")).await;
    assert_eq!((unready.status, unready.code().as_str()), (503, "unavailable"));
    assert!(unready.field("Retry-After").is_some());
    assert!(unready.body.contains("lease"), "{}", unready.body);
    assert_eq!(server.ask(&get("/health")).await.status, 200, "it is alive all the same");
}

#[tokio::test]
async fn problem_details_come_where_accept_asks_for_them() {
    let server = Server::start().await;
    for (accept, problem) in [
        ("application/problem+json", true),
        ("application/json, Application/Problem+JSON;q=0.5", true),
        ("application/problem+json;q=0", false),
        ("application/problem+json; q=0.000", false),
        ("*/*", false),
    ] {
        let answer = server.ask(&request("GET", "/note/1", &format!("Accept: {accept}\r\n"), "")).await;
        assert_eq!(answer.field("Content-Type") == Some("application/problem+json"), problem, "{accept}");
        assert_eq!(answer.code(), "not_found", "the plain members are there in both forms");
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(json["title"] == "Not Found" && json["status"] == 404 && json["detail"] == json["msg"], problem);
    }
}

#[tokio::test]
async fn whatever_a_client_accepts_it_gets_json() {
    let server = Server::start().await;
    server.replica.fill(1, "b");
    for fields in
        ["Accept: text/html\r\n", "Accept: */*;q=0\r\n", "Accept-Encoding: gzip, *;q=0\r\n", "Accept-Charset: x\r\n"]
    {
        let answer = server.ask(&request("GET", "/note/1", fields, "")).await;
        assert_eq!(
            (answer.status, answer.field("Content-Type")),
            (200, Some("application/json")),
            "never 406: {fields}"
        );
    }
}

#[tokio::test]
async fn pages_lead_through_the_list() {
    let server = Server::start().await;
    server.replica.fill(25, "b");
    let mut target = "/note?limit=10".to_owned();
    let mut seen = Vec::new();
    loop {
        let answer = server.ask(&request("GET", &target, "", "")).await;
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        seen.extend(json["data"].as_array().unwrap().iter().map(|note| note["id"].as_u64().unwrap()));
        let Some(link) = answer.field("Link") else { break };
        target = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!(target, "/note?limit=10&after=20");
    assert_eq!(seen, (1..=25).collect::<Vec<u64>>());
    let answer = server.ask(&request("GET", "/note?after=24", "", "")).await;
    assert!(answer.body.starts_with("{\"res\":200,\"data\":[{\"id\":25,"), "{}", answer.body);
}

#[tokio::test]
async fn a_long_list_streams_in_pieces() {
    let server = Server::start().await;
    server.replica.fill(2000, &"b".repeat(1000));
    let mut client = server.connect().await;
    client.send("GET /note HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.field("Transfer-Encoding"), Some("chunked"));
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let ids: Vec<u64> = json["data"].as_array().unwrap().iter().map(|note| note["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=2000).collect::<Vec<u64>>());
    assert_eq!(client.answer().await.body, "{\"res\":200}\n", "the connection goes on");
    assert!(server.replica.calls() > 5, "it came in pages");

    let mut old = server.connect().await;
    old.send("GET /note HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let answer_10 = old.answer().await;
    assert_eq!((answer_10.field("Transfer-Encoding"), answer_10.field("Connection")), (None, Some("close")));
    assert_eq!(answer_10.body, answer.body);

    client.send("HEAD /note HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(client.answer_to_head().await.field("Transfer-Encoding"), Some("chunked"));
    assert_eq!(client.answer().await.body, "{\"res\":200}\n", "HEAD has no body, however long the list");
}

#[tokio::test]
async fn a_list_that_breaks_off_does_not_look_complete() {
    let server = Server::start().await;
    server.replica.fill(2000, &"b".repeat(1000));
    server.replica.fail_lists_after(2);
    let mut client = server.connect().await;
    client.send("GET /note HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let all = client.rest().await;
    assert!(all.starts_with(b"HTTP/1.1 200"));
    assert!(!all.ends_with(b"0\r\n\r\n"), "the last chunk must be missing");
    let answer = server.ask("GET /note HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "unavailable"),
        "before the first page it is a plain 503"
    );
    assert!(answer.field("Retry-After").is_some());
}
