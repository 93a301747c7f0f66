//! A replica whose disk is slow, or stands still for a while: replicas in this process over real sockets and files, one of
//! them on a disk that waits before each sync.

mod cluster;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster::{Answer, Folder, try_http, wait_for};
use primacy::config::{self, Config};
use primacy::membership::Begin;
use primacy::net::TcpListener;
use primacy::node::start::{self, Listeners, Stop};
use primacy::node::stores::Fellows;
use primacy::node::system::System;
use primacy::protocol::ids::ReplicaId;
use primacy::store::{Disk, DiskFile, Lock, RealDisk};
use tokio::sync::{mpsc, watch};

/// Which replica's disk is slow: not the first primary.
const SLOW: usize = 2;

/// The machine's disk, but each sync of a file takes so many ms more.
#[derive(Clone, Debug, Default)]
struct SlowDisk(Arc<AtomicU64>);

#[derive(Debug)]
struct SlowFile(Mutex<Box<dyn DiskFile>>, Arc<AtomicU64>);

impl SlowDisk {
    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(SlowFile(Mutex::new(file), self.0.clone()))
    }
}

impl Disk for SlowDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_folder(path)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(folder)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.create(path).map(|file| self.file(file))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path).map(|file| self.file(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_folder(path)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_folder(folder)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        RealDisk.lock(path)
    }
}

impl SlowFile {
    fn with<T>(&self, act: impl FnOnce(&mut dyn DiskFile) -> T) -> T {
        act(self.0.lock().expect("no user of a file panics").as_mut())
    }
}

impl DiskFile for SlowFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|file| file.length())
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|file| file.read_at(offset, buffer))
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|file| file.write_at(offset, bytes))
    }
    fn sync(&mut self) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(self.1.load(Ordering::Relaxed)));
        self.with(|file| file.sync())
    }
    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.with(|file| file.allocate(length))
    }
}

/// Three replicas, each in a thread of its own.
struct Scene {
    config: Arc<Config>,
    disk: SlowDisk,
    clients: watch::Sender<bool>,
    all: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    _folder: Folder,
}

impl Scene {
    fn start(mode: &str) -> Scene {
        let mut scene = Scene::configure(mode);
        let stop = |scene: &Scene, clients_open| Stop {
            clients: scene.clients.subscribe(),
            all: scene.all.subscribe(),
            clients_open,
            leaves: false,
        };
        let (clients_open, _) = mpsc::channel(1);
        for me in scene.config.ids() {
            let disk: Arc<dyn Disk> =
                if me.index() == SLOW { Arc::new(scene.disk.clone()) } else { Arc::new(RealDisk) };
            let (config, stop) = (scene.config.clone(), stop(&scene, clients_open.clone()));
            scene.threads.push(std::thread::spawn(move || run(config, me, stop, disk)));
        }
        (0..3).for_each(|place| scene.wait_ready(place));
        scene
    }

    fn configure(mode: &str) -> Scene {
        let cluster::Cluster { folder, .. } =
            cluster::Cluster::configure(mode, 3, r#","failure_timeout_ms":250,"log":"off","request_timeout_ms":10000"#);
        let path = folder.path().join("config.json");
        let mut config = config::load(&path, &[]).expect("the test's configuration is sound");
        config.data = folder.path().join("data");
        let (clients, all) = (watch::Sender::new(false), watch::Sender::new(false));
        Scene {
            config: Arc::new(config),
            disk: SlowDisk::default(),
            clients,
            all,
            threads: Vec::new(),
            _folder: folder,
        }
    }

    fn slow_ms(&self, ms: u64) {
        self.disk.0.store(ms, Ordering::Relaxed);
    }

    fn http(&self, place: usize, method: &str, path: &str, body: &str) -> Answer {
        let me = ReplicaId(place as u8);
        let service = format!("{}:{}", self.config.address(me).host(), self.config.service_port(me));
        try_http(&service, method, path, &[], body)
            .unwrap_or_else(|error| panic!("{method} {path} at {place}: {error}"))
    }

    fn wait_ready(&self, place: usize) {
        let me = ReplicaId(place as u8);
        let service = format!("{}:{}", self.config.address(me).host(), self.config.service_port(me));
        wait_for(&format!("{service} to be ready"), || {
            try_http(&service, "GET", "/ready", &[], "").is_ok_and(|answer| answer.status == 200)
        });
    }

    fn put(&self, place: usize, title: &str) {
        let answer = self.http(place, "PUT", "/note/1", &format!(r#"{{"title":"{title}"}}"#));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Whatever each replica answers, it is the newest or nothing.
    fn all_read_new_or_nothing(&self, newest: &str) {
        for place in 0..3 {
            let answer = self.http(place, "GET", "/note/1", "");
            let is_new = answer.status == 200 && answer.body.contains(&format!("\"{newest}\""));
            assert!(is_new || answer.status == 503, "a stale read at {place}, {newest} was acknowledged: {answer:?}");
        }
    }

    fn in_sync(&self) -> usize {
        let status = self.http(0, "GET", "/status", "").json();
        status["view"]["in_sync"].as_array().map_or(0, Vec::len)
    }

    fn epoch(&self) -> u64 {
        self.http(0, "GET", "/status", "").json()["view"]["epoch"].as_u64().expect("an epoch")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.slow_ms(0);
        self.clients.send_replace(true);
        self.all.send_replace(true);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn run(config: Arc<Config>, me: ReplicaId, stop: Stop, disk: Arc<dyn Disk>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let host = config.address(me).host().to_owned();
        let bind = async |port: u16| TcpListener::bind((host.as_str(), port)).await.expect("an address of its own");
        let replica = Box::new(bind(config.address(me).port()).await);
        let service = Box::new(bind(config.service_port(me)).await);
        let system = System { disk, ..System::real() };
        let listeners = Listeners { replica, service };
        start::run(config, me, Begin::Normally, listeners, Fellows::new(1), stop, system)
            .await
            .expect("the replica runs");
    });
}

const MODES: [&str; 2] = ["remote-write", "local-write"];

#[test]
fn a_slow_disk_makes_writes_slow_and_leaves_nobody_out() {
    for mode in MODES {
        let scene = Scene::start(mode);
        assert_eq!(scene.http(0, "POST", "/note", r#"{"title":"first","body":""}"#).status, 201);
        let before = scene.epoch();
        scene.slow_ms(300);
        for place in 0..3 {
            scene.put(place, &format!("slowly {place}"));
            scene.all_read_new_or_nothing(&format!("slowly {place}"));
        }
        assert_eq!((scene.epoch(), scene.in_sync()), (before, 3), "{mode}: it is slow, not away");
    }
}

#[test]
fn a_disk_that_stands_still_is_complained_of_and_its_replica_joins_again() {
    let scene = Scene::start("remote-write");
    assert_eq!(scene.http(0, "POST", "/note", r#"{"title":"first","body":""}"#).status, 201);
    scene.slow_ms(8_000);
    // Its acknowledgement is missing for 3 s (V4), then the others go on without it.
    scene.put(0, "without it");
    assert_eq!(scene.in_sync(), 2);
    scene.all_read_new_or_nothing("without it");
    scene.slow_ms(0);
    wait_for("it to be back", || scene.in_sync() == 3);
    scene.wait_ready(SLOW);
    scene.put(SLOW, "it is back");
    scene.all_read_new_or_nothing("it is back");
}
