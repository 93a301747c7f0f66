//! A cluster of processes of this program: killed, started again, watched.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use primacy::cluster::Cluster;
use primacy::config;
use primacy::membership::Begin;
use serde_json::Value;

use super::Error;
use super::client::Client;

/// How long a cluster may take to be in sync.
const PATIENCE: Duration = Duration::from_secs(60);

const SERVICE: usize = 9988;

/// Ticks of the times in /proc/PID/stat in a second: the same on every Linux (proc(5), `getconf CLK_TCK`).
const TICKS_PER_S: f64 = 100.0;

/// What is configured.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The mode.
    pub(crate) sync: &'a str,
    pub(crate) failure_timeout_ms: u64,
    pub(crate) replicas: usize,
    /// Whatever is logged goes nowhere.
    pub(crate) log: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup { sync: "remote-write", failure_timeout_ms: 1_000, replicas: 4, log: "off" }
    }
}

/// What a process has used so far.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    /// Time on processors, in seconds.
    pub(crate) processor_s: f64,
    /// How often one of its threads had to be woken: it had given its processor up by itself.
    pub(crate) wakes: u64,
}

/// The processes, by place; in their folder, which is removed with them.
pub(crate) struct Replicas {
    folder: PathBuf,
    host: String,
    names: Vec<String>,
    processes: Vec<Child>,
}

impl Replicas {
    /// One process each, all in sync.
    pub(crate) fn start(setup: Setup) -> Result<Replicas, Error> {
        let mut replicas = Replicas::configure(setup)?;
        for _ in 0..setup.replicas {
            replicas.start_next()?;
        }
        replicas.wait_in_sync()?;
        Ok(replicas)
    }

    /// All in one process.
    pub(crate) fn start_in_one(setup: Setup) -> Result<Replicas, Error> {
        let mut replicas = Replicas::configure(setup)?;
        let process = replicas.spawn("")?;
        replicas.processes.push(process);
        replicas.wait_in_sync()?;
        Ok(replicas)
    }

    /// The same after its process was killed.
    pub(crate) fn start_in_one_again(&mut self) -> Result<(), Error> {
        self.processes[0] = self.spawn("")?;
        Ok(())
    }

    /// A cluster of which nothing runs yet.
    pub(crate) fn configure(setup: Setup) -> Result<Replicas, Error> {
        let Setup { sync, failure_timeout_ms, replicas, log } = setup;
        let id = std::process::id();
        let folder = env::temp_dir().join(format!("primacy-measured-{id}"));
        fs::create_dir_all(&folder)?;
        // A loopback address of its own, so that it meets no other program.
        let host = format!("127.{}.{}.7", 100 + id / 250 % 100, id % 250);
        let names: Vec<String> = (1..=replicas).map(|n| format!("{host}:{}", n * 10_000 - (n / 4) * 12_000)).collect();
        let config = format!(
            r#"{{"service":{SERVICE},"sync":"{sync}","replicas":{names:?},"failure_timeout_ms":{failure_timeout_ms},
                "log":"{log}","request_timeout_ms":15000,"read_wait_ms":15000}}"#
        );
        fs::write(folder.join("config.json"), config)?;
        Ok(Replicas { folder, host, names, processes: Vec::new() })
    }

    fn spawn(&self, name: &str) -> Result<Child, Error> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--replica", name]).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command.spawn()?)
    }

    /// Starts the first replica that was not started yet.
    pub(crate) fn start_next(&mut self) -> Result<(), Error> {
        let process = self.spawn(&self.names[self.processes.len()])?;
        self.processes.push(process);
        Ok(())
    }

    /// Waits until a replica takes connections.
    pub(crate) fn wait_listens(&self, place: usize) -> Result<(), Error> {
        let start = Instant::now();
        while Client::connect(&self.service(place)).is_err() {
            if start.elapsed() > PATIENCE {
                return Err(Error::Measure(format!("replica {place} does not listen within {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn service(&self, place: usize) -> String {
        format!("{}:{}", self.host, SERVICE + place)
    }

    /// Where a replica takes frames and lines.
    pub(crate) fn frames(&self, place: usize) -> String {
        self.names[place].clone()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, place: usize) -> Result<(), Error> {
        self.processes[place].kill()?;
        self.processes[place].wait()?;
        Ok(())
    }

    pub(crate) fn start_one(&mut self, place: usize) -> Result<(), Error> {
        self.processes[place] = self.spawn(&self.names[place])?;
        Ok(())
    }

    pub(crate) fn remove_data(&self, place: usize) -> io::Result<()> {
        fs::remove_dir_all(self.folder.join("data").join(&self.names[place]))
    }

    fn status(&self, place: usize) -> Result<Value, Error> {
        let (_, body) = Client::connect(&self.service(place))?.request("GET", "/status", "")?;
        Ok(serde_json::from_str(&body)?)
    }

    /// The places of the primary and of the controller.
    pub(crate) fn leaders(&self) -> Result<[usize; 2], Error> {
        let status = self.status(0)?;
        let place = |name: &Value| self.names.iter().position(|known| name == known.as_str());
        match (place(&status["view"]["primary"]), place(&status["controller"])) {
            (Some(primary), Some(controller)) => Ok([primary, controller]),
            _ => Err(Error::Measure(format!("nobody leads: {status}"))),
        }
    }

    /// Of the newest view that the first replica knows.
    pub(crate) fn epoch(&self) -> Result<u64, Error> {
        let status = self.status(0)?;
        status["view"]["epoch"].as_u64().ok_or_else(|| Error::Measure(format!("there is no view: {status}")))
    }

    /// The most memory that the first process has had, in bytes (VmHWM, proc(5)).
    pub(crate) fn peak_bytes(&self) -> Result<u64, Error> {
        Ok(field(&self.process_folder(0).join("status"), "VmHWM:")? * 1024)
    }

    /// The memory that the first process has, in bytes (VmRSS, proc(5)).
    pub(crate) fn resident_bytes(&self) -> Result<u64, Error> {
        Ok(field(&self.process_folder(0).join("status"), "VmRSS:")? * 1024)
    }

    /// What the first process has used so far.
    pub(crate) fn used(&self) -> Result<Used, Error> {
        let folder = self.process_folder(0);
        let stat = fs::read_to_string(folder.join("stat"))?;
        // The program's name, in parentheses, may hold spaces; utime and stime are fields 14 and 15 (proc(5)).
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks = fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        let mut wakes = 0;
        for thread in fs::read_dir(folder.join("task"))? {
            wakes += field(&thread?.path().join("status"), "voluntary_ctxt_switches:")?;
        }
        Ok(Used { processor_s: ticks as f64 / TICKS_PER_S, wakes })
    }

    fn process_folder(&self, place: usize) -> PathBuf {
        Path::new("/proc").join(self.processes[place].id().to_string())
    }

    /// Waits until every replica serves, and says that all are in sync.
    pub(crate) fn wait_in_sync(&self) -> Result<(), Error> {
        let start = Instant::now();
        let all =
            |status: &Value| status["view"]["in_sync"].as_array().is_some_and(|all| all.len() == self.names.len());
        let serves = |status: &Value| status["ready"] == true && status["controller"].is_string() && all(status);
        while !(0..self.names.len()).all(|place| self.status(place).is_ok_and(|status| serves(&status))) {
            if start.elapsed() > PATIENCE {
                return Err(Error::Measure(format!("not all were in sync within {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Who has ended already needs no kill.
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A number of a file of /proc whose lines begin with names.
fn field(path: &Path, name: &str) -> Result<u64, Error> {
    let text = fs::read_to_string(path)?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().trim_end_matches("kB").trim().parse().ok());
    value.ok_or_else(|| Error::Measure(format!("{} tells no {name}", path.display())))
}

/// What each process does: runs one replica of ./config.json, or all where the name is empty, until it is killed.
pub(crate) fn run_replicas(name: &str) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Replica(error.to_string());
    let config = Arc::new(config::load(Path::new("config.json"), &[]).map_err(|error| failed(&error))?);
    let _log = primacy::observe::start(config.log).map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cluster = Cluster::bind(&config, config.replica_named(name), Begin::Normally).await;
        let run = cluster.map_err(|error| failed(&error))?.run(std::future::pending());
        run.await.map_err(|error| failed(&error))
    })
}
