//! Real clusters for whole-system tests: processes of the binary, on a loopback address of their own.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a condition may take to come true, on a machine as slow as it may be.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Replicas listen on these ports of the cluster's own loopback address; the service ports follow `SERVICE`.
const PORTS: [u16; 5] = [10000, 20000, 30000, 27000, 28000];
const SERVICE: u16 = 9988;

/// A folder of one test, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("primacy-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A loopback address that no other test has: 127.a.b.c by process and count.
fn own_address() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    format!("127.{}.{}.{}", 1 + process / 250 % 250, 1 + process % 250, count % 250 + 1)
}

/// A configured cluster; its processes are killed when it goes.
pub struct Cluster {
    pub folder: Folder,
    pub host: String,
    pub replicas: Vec<String>,
    processes: Vec<Process>,
}

/// One process of the binary, and what it has printed.
pub struct Process {
    child: Child,
    out: Arc<Mutex<Vec<String>>>,
    err: Arc<Mutex<Vec<String>>>,
    /// Ends with stdout.
    out_end: Option<JoinHandle<()>>,
    err_end: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Writes the config.json of a cluster; `more` are further members of it, as JSON, each with a comma in front.
    pub fn configure(sync: &str, replicas: usize, more: &str) -> Cluster {
        let (folder, host) = (Folder::new(), own_address());
        let replicas: Vec<String> = PORTS[..replicas].iter().map(|port| format!("{host}:{port}")).collect();
        let config = format!(r#"{{"service":{SERVICE},"sync":"{sync}","replicas":{replicas:?}{more}}}"#);
        fs::write(folder.path().join("config.json"), config).expect("config.json is written");
        Cluster { folder, host, replicas, processes: Vec::new() }
    }

    /// A cluster of one process that serves.
    pub fn start(sync: &str, replicas: usize, more: &str) -> Cluster {
        let mut cluster = Cluster::configure(sync, replicas, more);
        cluster.spawn(&[]);
        cluster.wait_ready();
        cluster
    }

    /// Starts the binary with these arguments in the cluster's folder.
    pub fn spawn(&mut self, arguments: &[&str]) -> usize {
        self.processes.push(Process::spawn(self.folder.path(), arguments));
        self.processes.len() - 1
    }

    /// Starts one replica in a process of its own.
    pub fn spawn_replica(&mut self, place: usize) -> usize {
        let address = self.replicas[place].clone();
        self.spawn(&["replica", &address])
    }

    /// As [`spawn`](Cluster::spawn), but with at most so many file descriptors.
    pub fn spawn_limited(&mut self, descriptors: u32, arguments: &[&str]) -> usize {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_primacy")]).args(arguments);
        command.current_dir(self.folder.path());
        self.processes.push(Process::spawn_command(command));
        self.processes.len() - 1
    }

    pub fn process(&mut self, number: usize) -> &mut Process {
        &mut self.processes[number]
    }

    /// Takes a process out, so that it can be stopped while others use the cluster; a placeholder keeps the numbers.
    pub fn take(&mut self, number: usize) -> Process {
        let ended = Process::ended();
        std::mem::replace(&mut self.processes[number], ended)
    }

    /// The service address of a replica, by its place in config order.
    pub fn service(&self, place: usize) -> String {
        format!("{}:{}", self.host, SERVICE + place as u16)
    }

    /// Waits until every replica serves.
    pub fn wait_ready(&self) {
        (0..self.replicas.len()).for_each(|place| self.wait_ready_at(place));
    }

    pub fn wait_ready_at(&self, place: usize) {
        let service = self.service(place);
        wait_for(&format!("{service} to be ready\n{}", self.printed()), || {
            try_http(&service, "GET", "/ready", &[], "").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Everything that the processes printed, for a test that fails.
    pub fn printed(&self) -> String {
        let printed = self.processes.iter().map(|process| [process.out(), process.err()].concat().join("\n"));
        printed.collect::<Vec<_>>().join("\n---\n")
    }

    pub fn http(&self, place: usize, method: &str, path: &str, body: &str) -> Answer {
        let answer = try_http(&self.service(place), method, path, &[], body);
        answer.unwrap_or_else(|error| panic!("{method} {path} at replica {place}: {error}\n{}", self.printed()))
    }

    pub fn http_with(&self, place: usize, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let answer = try_http(&self.service(place), method, path, fields, body);
        answer.unwrap_or_else(|error| panic!("{method} {path} at replica {place}: {error}\n{}", self.printed()))
    }
}

impl Process {
    pub fn spawn(folder: &Path, arguments: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
        command.args(arguments).current_dir(folder);
        Process::spawn_command(command)
    }

    /// Starts a command that runs the binary, directly or not.
    pub fn spawn_command(mut command: Command) -> Process {
        command.env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (out, out_end) = collect(child.stdout.take().expect("stdout is piped"));
        let (err, err_end) = collect(child.stderr.take().expect("stderr is piped"));
        Process { child, out, err, out_end: Some(out_end), err_end: Some(err_end) }
    }

    /// A process that has done its work.
    fn ended() -> Process {
        let mut child = Command::new("true").spawn().expect("true runs");
        child.wait().expect("true ends");
        Process { child, out: Arc::default(), err: Arc::default(), out_end: None, err_end: None }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines on stdout so far.
    pub fn out(&self) -> Vec<String> {
        self.out.lock().expect("no reader panics").clone()
    }

    /// All lines on stdout; waits for its end.
    pub fn read_out(&mut self) -> Vec<String> {
        if let Some(end) = self.out_end.take() {
            end.join().expect("no reader panics");
        }
        self.out()
    }

    /// The lines on stderr so far.
    pub fn err(&self) -> Vec<String> {
        self.err.lock().expect("no reader panics").clone()
    }

    /// SIGKILL: nothing of it is flushed.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name, `TERM` or `INT`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().expect("kill runs");
        assert!(status.success(), "the process {id} takes a SIG{name}");
    }

    /// Waits for its end and for all that it printed; the exit code.
    pub fn wait(&mut self) -> i32 {
        let mut code = None;
        wait_for("the process to end", || {
            code = self.child.try_wait().expect("the process can be waited for");
            code.is_some()
        });
        for end in [self.out_end.take(), self.err_end.take()].into_iter().flatten() {
            end.join().expect("no reader panics");
        }
        code.and_then(|status| status.code()).expect("the process ended by itself")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(stream: impl std::io::Read + Send + 'static) -> (Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let end = std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            sink.lock().expect("no reader panics").push(line);
        }
    });
    (lines, end)
}

/// Waits for a condition, looking often; fails the test past [`PATIENCE`].
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// One request on a connection of its own.
pub fn try_http(
    service: &str,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(service)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(&mut stream, service, method, path, fields, body)
}

/// One request on a connection that ends with its answer.
pub fn ask(
    stream: &mut (impl std::io::Read + std::io::Write),
    service: &str,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Answer> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {service}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {answer:?}")))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let chunked =
        fields.iter().any(|(name, value)| name.eq_ignore_ascii_case("transfer-encoding") && value == "chunked");
    let body = if chunked { dechunk(body)? } else { body.to_owned() };
    Some(Answer { status, fields, body })
}

fn dechunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size + 2..)?;
    }
}
