//! Four servers of either kind, in a folder of their own, on a loopback address of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long servers may take until they serve.
const START_MAX: Duration = Duration::from_secs(20);

/// How many hold each note.
pub(crate) const SERVERS: usize = 4;

/// Running servers; they end, and their folder goes, when this is dropped.
pub(crate) struct Servers {
    host: IpAddr,
    folder: PathBuf,
    children: Vec<Child>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Whoever has ended by himself needs no ending.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Servers {
    fn none() -> Servers {
        let host = IpAddr::V4(Ipv4Addr::new(127, fastrand::u8(1..=254), fastrand::u8(..), fastrand::u8(1..=254)));
        let folder = std::env::temp_dir().join(format!("primacy-bench-{host}"));
        std::fs::create_dir(&folder).expect("a folder for the servers");
        Servers { host, folder, children: Vec::new() }
    }

    fn spawn(&mut self, command: &mut Command) {
        let command = command.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null());
        self.children.push(command.spawn().expect("the server starts; redis-server must be installed"));
    }

    /// The k-th server's address, of Redis or of Primacy's frames.
    pub(crate) fn address(&self, place: usize) -> SocketAddr {
        SocketAddr::new(self.host, 7000 + place as u16)
    }

    /// The k-th of Primacy's services.
    pub(crate) fn service(&self, place: usize) -> SocketAddr {
        SocketAddr::new(self.host, 9000 + place as u16)
    }

    /// One Redis primary and its replicas. `durable`: each appends every write to its file and syncs it.
    pub(crate) fn redis(durable: bool) -> Servers {
        let mut servers = Servers::none();
        let host = servers.host.to_string();
        for place in 0..SERVERS {
            let port = servers.address(place).port().to_string();
            let mut command = Command::new("redis-server");
            command.args(["--bind", &host, "--port", &port, "--protected-mode", "no", "--save", ""]);
            command.args(["--repl-diskless-sync-delay", "0", "--appenddirname", &format!("aof-{place}")]);
            if durable {
                command.args(["--appendonly", "yes", "--appendfsync", "always"]);
            }
            if place > 0 {
                command.args(["--replicaof", &host, &servers.address(0).port().to_string()]);
            }
            servers.spawn(&mut command);
        }
        let port = servers.address(0).port().to_string();
        let replicas = SERVERS - 1;
        wait(|| {
            let info = Command::new("redis-cli").args(["-h", &host, "-p", &port, "info", "replication"]).output();
            let info = info.expect("redis-cli must be installed").stdout;
            String::from_utf8_lossy(&info).matches("state=online").count() == replicas
        });
        servers
    }

    /// A cluster of this mode (`remote-write` or `local-write`), its log off.
    pub(crate) fn primacy(mode: &str, durable: bool) -> Servers {
        let mut servers = Servers::none();
        let replicas: Vec<_> = (0..SERVERS).map(|place| servers.address(place).to_string()).collect();
        let config = serde_json::json!({ "service": servers.service(0).port(), "sync": mode, "replicas": replicas });
        std::fs::write(servers.folder.join("config.json"), config.to_string()).expect("a file in the folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
        command.args(["--log", "off", "--durability", if durable { "disk" } else { "memory" }]);
        servers.spawn(&mut command);
        let ready = |place| request(servers.service(place), "GET /ready").is_some_and(|said| said.contains(" 200 "));
        wait(|| (0..SERVERS).all(ready));
        servers
    }
}

/// One request on a connection of its own.
fn request(service: SocketAddr, what: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(service).ok()?;
    let head = format!("{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    Some(said)
}

fn wait(mut ready: impl FnMut() -> bool) {
    let began = Instant::now();
    while !ready() {
        assert!(began.elapsed() < START_MAX, "the servers do not serve after {START_MAX:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
