//! Clients that others wrote: curl, Python's http.client and requests, Node, ab and wrk. One that is not installed is not
//! tried, and stderr says so; with `PRIMACY_SKIP_NOTHING` set, as CI has it, that fails.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "support/fake_replica.rs"]
mod fake_replica;
#[allow(dead_code)]
#[path = "support/http_client.rs"]
mod http_client;
mod skip;

use std::io::ErrorKind;
use std::process::Stdio;

use http_client::{PATIENCE, Server};
use skip::skip;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

const NOTE: &str = r#"{"title":"a","body":"b"}"#;

fn skip_missing(client: &str) {
    skip(&format!("{client} is not installed"));
}

/// What a program says; none where it is not installed.
async fn run(program: &str, arguments: &[&str], input: &[u8]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip_missing(program);
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move {
        if let Err(error) = stdin.write_all(input).await {
            // A program that ends early, as it may after a refusal, reads no more.
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    };
    let ((), output) = tokio::join!(feed, timeout(PATIENCE, child.wait_with_output()));
    let output = output.expect("an end in time").unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn curl_reads_writes_and_keeps_its_connection() {
    let server = Server::start().await;
    let url = format!("http://{}/note", server.address);
    let one = format!("{url}/1");
    let curl = async |arguments: &[&str], input: &[u8]| {
        run("curl", &[&["-sS", "--max-time", "10", "-w", "%{http_code} %{num_connects}\n"], arguments].concat(), input)
            .await
    };
    // `-d` declares a form; what is sent counts.
    let Some(made) = curl(&["-d", NOTE, &url], b"").await else { return };
    assert_eq!(made, "{\"res\":200,\"id\":1}\n201 1\n");
    assert_eq!(curl(&["-X", "PATCH", "-d", "{}", &one], b"").await.unwrap(), "{\"res\":200}\n200 1\n");
    // `-T -` sends chunks, and waits for 100.
    assert_eq!(curl(&["-T", "-", &one], b"{\"title\":\"c\"}").await.unwrap(), "{\"res\":200}\n200 1\n");
    let head = curl(&["-I", &one], b"").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: "), "{head}");
    // Two URLs, one connection.
    let twice = curl(&[&one, &one], b"").await.unwrap();
    assert!(twice.ends_with("200 0\n") && twice.contains("200 1\n"), "{twice}");
    // Over 1 MiB curl asks first.
    let large = vec![b' '; 2 * 1024 * 1024];
    for arguments in [&["--data-binary", "@-", &url][..], &["-H", "Expect:", "--data-binary", "@-", &url]] {
        let refused = curl(arguments, &large).await.unwrap();
        assert!(refused.contains("413 1\n") && refused.contains("too_large"), "{refused}");
    }
    let expecting = ["-H", "Expect: 100-continue", "-d", NOTE, &url];
    assert!(curl(&expecting, b"").await.unwrap().ends_with("201 1\n"));
    assert!(curl(&["--http1.0", &one], b"").await.unwrap().ends_with("200 1\n"));
}

const PYTHON: &str = r#"
import http.client, json, sys
c = http.client.HTTPConnection(sys.argv[1], timeout=10)
def ask(method, path, body=None, **more):
    c.request(method, path, body=body, **more)
    r = c.getresponse()
    return r.status, r.read()
assert ask("POST", "/note", '{"title":"a","body":"b"}')[0] == 201
local = c.sock.getsockname()
assert ask("PUT", "/note/1", iter([b'{"title":', b'"c"}']), encode_chunked=True)[0] == 200
assert ask("GET", "/note/1")[1] == b'{"res":200,"note":{"id":1,"title":"c"}}\n'
assert ask("HEAD", "/note")[1] == b""
assert len(json.loads(ask("GET", "/note")[1])["data"]) == 1
assert ask("DELETE", "/note/1")[0] == 200
assert ask("GET", "/note/1")[0] == 404
assert c.sock.getsockname() == local, "the connection was kept"
print("fine")
"#;

#[tokio::test]
async fn python_reads_and_writes() {
    let server = Server::start().await;
    if let Some(said) = run("python3", &["-c", PYTHON, &server.address.to_string()], b"").await {
        assert_eq!(said, "fine\n");
    }
}

const REQUESTS: &str = r#"
import sys
try:
    import requests
except ImportError:
    print("not installed")
    sys.exit()
url = "http://" + sys.argv[1] + "/note"
with requests.Session() as s:
    made = s.post(url, json={"title": "a", "body": "b"})
    assert (made.status_code, made.headers["Location"]) == (201, "/note/1"), made.text
    # A generator is sent in chunks.
    put = s.put(url + "/1", data=(piece for piece in [b'{"title":', b'"c"}']))
    assert put.json() == {"res": 200}, put.text
    got = s.get(url + "/1")
    assert got.json()["note"] == {"id": 1, "title": "c"}, got.text
    assert s.get(url + "/1", headers={"If-None-Match": got.headers["ETag"]}).status_code == 304
    assert s.head(url).text == ""
    large = s.post(url, data=b" " * (2 * 1024 * 1024))
    assert (large.status_code, large.json()["code"]) == (413, "too_large"), large.text
    assert s.delete(url + "/1").status_code == 200
    assert s.get(url).json()["data"] == []
    gone = s.get(url + "/1")
    assert gone.status_code == 404 and not gone.history, gone.text
    # Its second connection: a refused body ended the first.
    assert gone.headers["Primacy-Connection"].startswith("2;"), gone.headers
print("fine")
"#;

#[tokio::test]
async fn requests_reads_and_writes() {
    let server = Server::start().await;
    match run("python3", &["-c", REQUESTS, &server.address.to_string()], b"").await.as_deref() {
        None => {}
        Some("not installed\n") => skip_missing("Python's requests"),
        Some(said) => assert_eq!(said, "fine\n"),
    }
}

const NODE: &str = r#"
const url = "http://" + process.argv[1] + "/note";
(async () => {
  const made = await fetch(url, { method: "POST", body: '{"title":"a","body":"b"}' });
  if (made.status !== 201 || made.headers.get("location") !== "/note/1") throw made.status;
  const stream = new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode('{"title":"c"}')); c.close(); } });
  const put = await fetch(url + "/1", { method: "PUT", body: stream, duplex: "half" });
  if ((await put.json()).res !== 200) throw put.status;
  const got = await (await fetch(url)).json();
  if (got.data[0].title !== "c") throw JSON.stringify(got);
  console.log("fine");
})();
"#;

#[tokio::test]
async fn node_fetches() {
    let server = Server::start().await;
    if let Some(said) = run("node", &["-e", NODE, &server.address.to_string()], b"").await {
        assert_eq!(said, "fine\n");
    }
}

#[tokio::test]
async fn ab_and_wrk_find_no_failure() {
    let server = Server::start().await;
    server.replica.fill(1, "b");
    let url = format!("http://{}/note/1", server.address);
    // ab speaks HTTP/1.0, and compares the lengths of all answers: bodies are equal.
    for arguments in [&["-q", "-k", "-n", "2000", "-c", "8", &url][..], &["-q", "-n", "200", "-c", "8", &url]] {
        let Some(said) = run("ab", arguments, b"").await else { break };
        assert!(said.contains("Failed requests:        0") && !said.contains("Non-2xx"), "{said}");
        if arguments.contains(&"-k") {
            assert!(said.contains("Keep-Alive requests:    2000"), "{said}");
        }
    }
    if let Some(said) = run("wrk", &["-t1", "-c16", "-d1s", &url], b"").await {
        assert!(
            said.contains("Requests/sec") && !said.contains("Non-2xx") && !said.contains("Socket errors"),
            "{said}"
        );
    }
}
