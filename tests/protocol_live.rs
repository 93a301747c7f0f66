//! What protocol.md shows, tried at a live cluster: its requests get its replies, and its worked clients work.

mod cluster;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use cluster::{Cluster, PATIENCE};

const DOCUMENT: &str = include_str!("../protocol.md");
const MEMORY: &str = r#","durability":"memory""#;

/// The lines of the first block that begins with this fence.
fn block(fence: &str) -> Vec<&'static str> {
    let start = DOCUMENT.find(&format!("\n{fence}\n")).unwrap_or_else(|| panic!("there is no block {fence}"));
    DOCUMENT[start..].lines().skip(2).take_while(|line| !line.starts_with("```")).collect()
}

fn connect(cluster: &Cluster, place: usize) -> TcpStream {
    let stream = TcpStream::connect(&cluster.replicas[place]).expect("the replica listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream
}

fn call(stream: &mut TcpStream, json: &str) -> String {
    let length = u32::try_from(json.len()).expect("examples are short");
    stream.write_all(&[&length.to_be_bytes(), json.as_bytes()].concat()).expect("the frame is sent");
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap_or_else(|error| panic!("no reply to {json}: {error}"));
    let mut reply = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut reply).unwrap_or_else(|error| panic!("half a reply to {json}: {error}"));
    String::from_utf8(reply).expect("replies are UTF-8")
}

#[test]
fn the_requests_shown_get_the_replies_shown() {
    let cluster = Cluster::start("remote-write", 4, MEMORY);
    let mut stream = connect(&cluster, 0);
    let mut replies = block("```json reply").into_iter();
    for request in block("```json request") {
        let reply = call(&mut stream, request);
        if request.contains("\"status\"") {
            assert!(reply.starts_with(r#"{"type":"status","re":8,"res":200,"replica":"#), "{reply}");
            continue;
        }
        let expected = replies.next().unwrap_or_else(|| panic!("no reply is shown to {request}"));
        assert_eq!(reply, expected.replace("127.0.0.1", &cluster.host), "to {request}");
    }
    assert_eq!(replies.next(), None, "a reply is shown to nothing");
}

#[test]
fn the_session_of_thirty_seconds_goes_as_shown() {
    for mode in ["remote-write", "local-write"] {
        let cluster = Cluster::start(mode, 4, MEMORY);
        let mut stream = connect(&cluster, 0);
        let mut replies = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
        let session = &DOCUMENT[DOCUMENT.find("$ nc 127.0.0.1 10000\n").expect("the session is there")..];
        let lines: Vec<_> = session.lines().skip(1).take_while(|line| line.starts_with('{')).collect();
        assert!(lines.len() >= 4, "requests and replies, in turn");
        for turn in lines.chunks(2) {
            stream.write_all(format!("{}\n", turn[0]).as_bytes()).expect("the line is sent");
            let mut reply = String::new();
            replies.read_line(&mut reply).unwrap_or_else(|error| panic!("no reply to {}: {error}", turn[0]));
            assert_eq!(reply, format!("{}\n", turn[1]), "{mode}");
        }
    }
}

#[test]
fn the_sessions_at_a_shell_print_what_is_shown() {
    for mode in ["remote-write", "local-write"] {
        let cluster = Cluster::start(mode, 4, MEMORY);
        let binary = Path::new(env!("CARGO_BIN_EXE_primacy")).parent().expect("it is in a folder").display();
        let (mut inside, mut shown, mut printed) = (false, Vec::new(), Vec::new());
        for line in DOCUMENT.lines() {
            match (inside, line.strip_prefix("$ ")) {
                (false, _) => inside = line == "```console session",
                (true, _) if line == "```" => inside = false,
                (true, Some(command)) => {
                    // The bytes of addresses differ; those that are shown have none.
                    let command = format!("PATH={binary}:$PATH; {}", command.replace("127.0.0.1", &cluster.host));
                    printed.extend(
                        run(&[], "bash", &["-c", &command]).expect("nothing is needed").lines().map(str::to_owned),
                    );
                }
                (true, None) => shown.push(line.replace("127.0.0.1", &cluster.host)),
            }
        }
        assert!(shown.len() > 10, "the sessions are there");
        assert_eq!(printed, shown, "{mode}");
    }
}

/// Runs a worked client, or says that this machine lacks what it needs.
fn run(needs: &[&str], program: &str, arguments: &[&str]) -> Option<String> {
    for tool in needs {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().expect("sh runs");
        if !found.status.success() {
            eprintln!("not tried: there is no {tool} here");
            return None;
        }
    }
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    Some(String::from_utf8(output.stdout).expect("replies are UTF-8"))
}

fn written(cluster: &Cluster, name: &str, fence: &str) -> String {
    let path = cluster.folder.path().join(name);
    std::fs::write(&path, block(fence).join("\n") + "\n").expect("the client is written");
    path.to_str().expect("the folder's name is plain").to_owned()
}

#[test]
fn the_client_in_bash_works() {
    let cluster = Cluster::start("remote-write", 3, MEMORY);
    let client = written(&cluster, "client.sh", "```bash");
    let post = r#"{"type":"post","seq":1,"note":{"title":"ä","body":"€"}}"#;
    let arguments = [client.as_str(), &cluster.host, "10000", post];
    if let Some(printed) = run(&["bash", "xxd", "nc"], "bash", &arguments) {
        assert_eq!(printed, "{\"type\":\"done\",\"re\":1,\"res\":200,\"id\":1,\"version\":[1,1]}\n");
        let get = [client.as_str(), &cluster.host, "20000", r#"{"type":"get","id":1}"#, r#"{"type":"nonsense"}"#];
        let printed = run(&[], "bash", &get).expect("nothing is needed");
        assert!(printed.contains(r#""note":{"id":1,"title":"ä","body":"€"}"#), "{printed}");
        assert!(printed.contains(r#""code":"unknown_type""#), "{printed}");
    }
}

#[test]
fn the_client_in_python_works() {
    let cluster = Cluster::start("local-write", 3, MEMORY);
    let client = written(&cluster, "client.py", "```python");
    if let Some(printed) = run(&["python3"], "python3", &[&client, &cluster.host, "20000"]) {
        assert!(printed.contains("'note': {'id': 1, 'title': 'a', 'body': 'é'}"), "{printed}");
    }
}

#[test]
fn the_client_in_rust_works() {
    let cluster = Cluster::start("local-write", 3, MEMORY);
    let source = written(&cluster, "client.rs", "```rust");
    let program = source.trim_end_matches(".rs").to_owned();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    run(&[], &rustc, &["--edition", "2024", "-o", &program, &source]);
    let printed = run(&[], &program, &[&cluster.replicas[1]]).expect("nothing is needed");
    assert_eq!(
        printed,
        "{\"type\":\"done\",\"res\":200,\"id\":1,\"version\":[1,1]}\n\
         {\"type\":\"notes\",\"res\":200,\"data\":[{\"id\":1,\"title\":\"a\",\"body\":\"é\"}],\"more\":false}\n"
    );
}
