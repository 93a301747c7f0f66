//! The replicas: each a host with a disk of its own, on which the whole program runs again and again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use primacy::clock::Clock;
use primacy::config::Config;
use primacy::membership::Begin;
use primacy::node::start::{self, Listeners, Stop};
use primacy::node::stores::Fellows;
use primacy::node::system::System;
use primacy::note::NoteId;
use primacy::protocol::ids::{ReplicaId, StoreId};
use primacy::protocol::record::{KeyEntry, Record, Value};
use primacy::random::Random;
use primacy::store::{Fault, Folder, MemoryDisk, Owner, Sizes};
use tokio::sync::{mpsc, watch};

use super::network::Connections;
use super::plan::{PORT, SERVICE};

/// 2026, in ms since 1970: what wall clocks show at the start, about.
const WALL_MS: u64 = 1_770_000_000_000;

/// Wall clocks differ by this much at most.
const WALL_SKEW_MS: u64 = 10_000;

/// One replica from outside.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) disk: MemoryDisk,
    /// Holds the sender of the process that runs.
    stop: RefCell<Option<watch::Sender<bool>>>,
    /// How its last process ended by itself: none while it runs, or where it was killed.
    pub(crate) ended: RefCell<Option<Result<(), String>>>,
    /// An error of the disk was planned.
    pub(crate) doomed: Cell<bool>,
    random: Arc<Mutex<Rng>>,
}

impl Machine {
    pub(crate) fn new(disk_ms: u64, rng: &mut Rng) -> Rc<Machine> {
        let disk = MemoryDisk::new();
        disk.set_wait(Duration::from_millis(disk_ms));
        Rc::new(Machine {
            disk,
            stop: RefCell::default(),
            ended: RefCell::default(),
            doomed: Cell::default(),
            random: Arc::new(Mutex::new(rng.fork())),
        })
    }

    /// Asks the process to stop as SIGTERM would.
    pub(crate) fn stop(&self) {
        if let Some(stop) = &*self.stop.borrow() {
            stop.send_replace(true);
        }
    }

    /// Lets the disk fail after so many operations, and the process end by that.
    pub(crate) fn doom_the_disk(&self, after: u64) {
        self.disk.fail_after(after, Fault::Error(io::ErrorKind::Other));
        self.doomed.set(true);
    }

    /// The disk does not fail any more. Who was stopped ends before it does, and the next process has no part in it.
    pub(crate) fn spare_the_disk(&self) {
        self.disk.fail_after(u64::MAX / 2, Fault::PowerCut);
    }

    /// Runs the program until it ends.
    pub(crate) async fn run(self: Rc<Machine>, config: Arc<Config>, me: ReplicaId, network: Connections) {
        *self.ended.borrow_mut() = None;
        let ended = self.process(config, me, network).await;
        *self.ended.borrow_mut() = Some(ended);
    }

    async fn process(&self, config: Arc<Config>, me: ReplicaId, network: Connections) -> Result<(), String> {
        let random = Arc::clone(&self.random);
        let draw = move || random.lock().unwrap_or_else(PoisonError::into_inner).u64(..);
        let wall_ms = WALL_MS + elapsed_ms() + draw() % WALL_SKEW_MS;
        let listeners = Listeners {
            replica: network.listen(PORT).await.map_err(|error| error.to_string())?,
            service: network.listen(SERVICE).await.map_err(|error| error.to_string())?,
        };
        let system = System {
            clock: Clock::simulated(wall_ms),
            network: Arc::new(network),
            disk: Arc::new(self.disk.clone()),
            random: Random::of(draw),
        };
        let (stop_clients, clients) = watch::channel(false);
        let (stop_all, all) = watch::channel(false);
        let (clients_open, mut open) = mpsc::channel(1);
        let (stop, mut stopped) = watch::channel(false);
        *self.stop.borrow_mut() = Some(stop);
        let in_two_steps = async {
            let _ = stopped.wait_for(|stop| *stop).await;
            stop_clients.send_replace(true);
            open.recv().await;
            stop_all.send_replace(true);
            std::future::pending::<()>().await;
        };
        let stop = Stop { clients, all, clients_open, leaves: true };
        tokio::select! {
            biased;
            ended = start::run(config, me, Begin::Normally, listeners, Fellows::new(1), stop, system) => ended.map_err(|error| error.to_string()),
            () = in_two_steps => unreachable!("it waits for ever"),
        }
    }

    /// What its disk holds: notes, the id sequence, and keys.
    pub(crate) fn stored(&self, config: &Config, me: ReplicaId) -> Result<Stored, String> {
        let replica = config.address(me).to_string();
        let path = Path::new("/data").join(&replica);
        let owner = Owner { replica, replicas: config.replicas.iter().map(ToString::to_string).collect() };
        let folder = Folder::open(Arc::new(self.disk.clone()), &path, &owner, StoreId(1), Sizes::default());
        let (loaded, _) = folder.and_then(|folder| folder.load()).map_err(|error| error.to_string())?;
        let there = |record: &Record| record.value != Value::Deleted;
        let records = loaded.records.into_iter().filter(|(_, record)| there(record)).collect();
        let mut keys = loaded.keys;
        keys.sort_by(|a, b| (a.time, a.item, &a.key).cmp(&(b.time, b.item, &b.key)));
        Ok(Stored { records, keys })
    }
}

/// Deletions that are committed may be forgotten or not.
#[derive(Debug, PartialEq)]
pub(crate) struct Stored {
    records: BTreeMap<NoteId, Record>,
    keys: Vec<KeyEntry>,
}

fn elapsed_ms() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_millis() as u64)
}
