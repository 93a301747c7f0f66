//! A cluster to measure: one of its own in this process, or one that runs already.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::BenchError;
use super::http::{self, Connection, Service};
use super::notes::{BenchNote, Content, Wrong};
use super::run::{Access, Target};
use super::scenario::Setup;
use crate::client::Options;
use crate::cluster::{Cluster, ClusterError};
use crate::config::{Address, Config, LogStyle};
use crate::membership::Begin;
use crate::protocol::status::Status;

/// How long a cluster may take until every replica serves.
const READY_WAIT: Duration = Duration::from_secs(30);

/// How often readiness is asked for.
const READY_EVERY: Duration = Duration::from_millis(10);

/// The failure timeout of own clusters: so long that many that are idle at a time do not disturb the one that is
/// measured by their heartbeats, and that a busy machine makes no view change of it.
pub(super) const FAILURE_TIMEOUT_MS: u64 = 10_000;

/// The ports of an own cluster: replicas count up from the first, services from the second. Both lie under the ports
/// that Linux gives to outgoing connections.
const PORTS: (u16, u16) = (10_000, 9_000);

/// How many loopback addresses are tried for an own cluster.
const ADDRESSES_TRIED: usize = 8;

/// How long frames may go on flowing after the last request, at most.
const QUIET_WAIT: Duration = Duration::from_secs(5);

/// A cluster and the notes on it.
#[derive(Debug)]
pub(super) struct Bed {
    /// What kind it is.
    pub(super) setup: Setup,
    /// Its replicas, in config order where it is an own one.
    pub(super) replicas: Vec<Replica>,
    /// The place of the view's primary among them.
    pub(super) primary: usize,
    /// A note for each connection.
    pub(super) notes: RefCell<Vec<BenchNote>>,
    /// What is written into them.
    pub(super) content: Content,
    own: Option<Own>,
}

/// One replica.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    /// Its address.
    pub(super) name: String,
    /// Its service's address, as it was given.
    host: String,
    /// Its service.
    pub(super) service: Service,
    /// How it is asked by frames.
    pub(super) frames: Options,
}

/// A cluster that this process runs.
#[derive(Debug)]
struct Own {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ClusterError>>,
}

/// What the data links have carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Frames.
    pub(super) frames: u64,
    /// Connections opened.
    pub(super) opened: u64,
}

impl Bed {
    /// Starts a cluster of `replicas` in this process, on a loopback address of its own, and waits until it serves.
    pub(super) async fn start(setup: Setup, replicas: usize, data: &Path, content: Content) -> Result<Bed, BenchError> {
        let folder = data.join(setup.to_string().replace('/', "-"));
        let (config, cluster) = bind(setup, replicas, &folder).await?;
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(cluster.run(async {
            // A bed that is dropped stops its cluster too.
            let _ = stopped.await;
        }));
        let replicas = config.ids().map(|id| {
            let service = Address::new(config.address(id).host(), config.service_port(id)).to_string();
            (config.address(id).to_string(), service)
        });
        let own = Some(Own { stop, running });
        let resolved = replicas.map(|(name, host)| Replica::resolve(name, host, Access::default()));
        let replicas = try_join_all(resolved).await?;
        let mut bed = Bed { setup, replicas, primary: 0, notes: RefCell::default(), content, own };
        bed.wait_ready().await?;
        Ok(bed)
    }

    /// Takes a cluster that runs, by the addresses of its HTTP services.
    pub(super) async fn of_target(target: &Target, content: Content) -> Result<Bed, BenchError> {
        let resolve = |host: &String| Replica::resolve(host.clone(), host.clone(), target.access.clone());
        let resolved = target.services.iter().map(resolve);
        let replicas = try_join_all(resolved).await?;
        let setup = Setup::plain(crate::config::Mode::RemoteWrite);
        let mut bed = Bed { setup, replicas, primary: 0, notes: RefCell::default(), content, own: None };
        // It runs, as was said: who does not answer now need not be waited for.
        try_join_all(bed.replicas.iter().map(Replica::status)).await?;
        bed.wait_ready().await?;
        Ok(bed)
    }

    /// What people call it.
    fn name(&self) -> String {
        match &self.own {
            Some(_) => self.setup.to_string(),
            None => format!("at {}", self.replicas[0].host),
        }
    }

    async fn wait_ready(&mut self) -> Result<(), BenchError> {
        let deadline = Instant::now() + READY_WAIT;
        let statuses = loop {
            if let Some(own) = self.own.as_mut().filter(|own| own.running.is_finished()) {
                return Err(match (&mut own.running).await {
                    Ok(Err(error)) => BenchError::Cluster(error),
                    _ => BenchError::NotReady(self.setup.to_string(), "it ended".to_owned()),
                });
            }
            let statuses = join_all(self.replicas.iter().map(Replica::status)).await;
            let not_ready = statuses.iter().find_map(|status| match status {
                Ok(status) => status.unready().map(|why| format!("{}: {why}", status.replica)),
                Err(error) => Some(error.to_string()),
            });
            match not_ready {
                None => break statuses.into_iter().collect::<Result<Vec<_>, _>>()?,
                Some(why) if Instant::now() >= deadline => {
                    return Err(BenchError::NotReady(self.name(), why));
                }
                Some(_) => sleep(READY_EVERY).await,
            }
        };
        self.learn(&statuses)
    }

    /// Learns from their own words who they are and who is primary.
    fn learn(&mut self, statuses: &[Status]) -> Result<(), BenchError> {
        for (replica, status) in self.replicas.iter_mut().zip(statuses) {
            replica.frames.replicas = frames(&status.replica)?.replicas;
            replica.name.clone_from(&status.replica);
        }
        let primary = statuses.iter().find_map(|status| status.view.as_ref()).map(|view| view.primary.clone());
        let primary = primary.unwrap_or_default();
        let place = self.replicas.iter().position(|replica| replica.name == primary);
        self.primary = place.ok_or(BenchError::NoPrimary(primary))?;
        let word = statuses.first().map(|status| status.mode.as_str()).unwrap_or_default();
        let modes = [crate::config::Mode::RemoteWrite, crate::config::Mode::LocalWrite];
        self.setup.mode = modes.into_iter().find(|mode| mode.word() == word).unwrap_or(self.setup.mode);
        Ok(())
    }

    /// Makes `count` notes, at the primary: in local-write the sequence of ids need not move.
    pub(super) async fn make_notes(&self, count: usize) -> Result<(), BenchError> {
        let primary = &self.replicas[self.primary];
        let made = join_all((0..count).map(|_| async {
            let body = self.content.json(0);
            let request = primary.service.with_body("POST", "/note", "Connection: close\r\n", &body);
            let (head, body) = primary.ask(&request).await?;
            let id = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|made| made["id"].as_u64());
            id.filter(|_| head.is_done()).ok_or_else(|| BenchError::Refused {
                replica: primary.name.clone(),
                what: "a POST",
                answer: String::from_utf8_lossy(&body).into_owned(),
            })
        }));
        for id in made.await {
            self.notes.borrow_mut().push(BenchNote::made(id?, self.primary));
        }
        Ok(())
    }

    /// Waits until the data links are quiet, and tells what they have carried.
    pub(super) async fn quiet(&self) -> Result<Carried, BenchError> {
        let deadline = Instant::now() + QUIET_WAIT;
        let mut before = self.carried().await?;
        loop {
            // Longer than a frame is on its way, its connection included.
            sleep(Duration::from_micros(self.setup.delay_us * 4) + READY_EVERY).await;
            let now = self.carried().await?;
            if now == before || Instant::now() >= deadline {
                return Ok(now);
            }
            before = now;
        }
    }

    async fn carried(&self) -> Result<Carried, BenchError> {
        let statuses = try_join_all(self.replicas.iter().map(Replica::status)).await?;
        let links = statuses.iter().flat_map(|status| &status.links).filter(|link| link.kind == "data");
        Ok(links.fold(Carried::default(), |sum, link| Carried {
            frames: sum.frames + link.frames,
            opened: sum.opened + link.opened,
        }))
    }

    /// Reads every note at every replica: each must hold what was written last, the same everywhere.
    pub(super) async fn check(&self) -> Result<Vec<Wrong>, BenchError> {
        let mut wrong = Vec::new();
        let notes = self.notes.borrow().clone();
        for note in &notes {
            let path = format!("/note/{}", note.id);
            let answers = try_join_all(self.replicas.iter().map(|replica| async {
                let request = replica.service.get(&path, "Connection: close\r\n");
                replica.ask(&request).await.map(|(_, body)| (replica.name.clone(), body))
            }));
            wrong.extend(note.check(&self.content, &answers.await?.into_iter().collect::<BTreeMap<_, _>>()));
        }
        Ok(wrong)
    }

    /// Removes the notes of a cluster that goes on, and stops an own one.
    pub(super) async fn end(mut self) -> Result<(), BenchError> {
        let Some(Own { stop, running }) = self.own.take() else { return self.remove_notes().await };
        // Where it has failed, it says so below.
        let _ = stop.send(());
        match running.await {
            Ok(ended) => ended.map_err(BenchError::Cluster),
            Err(error) => Err(BenchError::NotReady(self.setup.to_string(), error.to_string())),
        }
    }

    async fn remove_notes(&self) -> Result<(), BenchError> {
        let primary = &self.replicas[self.primary];
        let notes = self.notes.take();
        for note in notes {
            let path = format!("/note/{}", note.id);
            primary.ask(&primary.service.with_body("DELETE", &path, "Connection: close\r\n", "")).await?;
        }
        Ok(())
    }
}

impl Replica {
    async fn resolve(name: String, host: String, access: Access) -> Result<Replica, BenchError> {
        let unreachable = |source| BenchError::Unreachable { replica: host.clone(), source };
        let mut frames = frames(&name)?;
        (frames.token, frames.authority) = (access.token.clone(), access.authority.clone());
        let address = host.parse().map_err(|error| unreachable(invalid(error)))?;
        let service = Service::resolve(address, access).await.map_err(unreachable)?;
        Ok(Replica { name, host, service, frames })
    }

    /// Asks on a connection of its own.
    async fn ask(&self, request: &[u8]) -> Result<(http::Head, Vec<u8>), BenchError> {
        let answer = async {
            let mut connection = Connection::open(&self.service).await?;
            let head = connection.ask(request).await?;
            Ok((head, connection.body(&head).to_vec()))
        };
        answer.await.map_err(|source| BenchError::Unreachable { replica: self.host.clone(), source })
    }

    async fn status(&self) -> Result<Status, BenchError> {
        let (_, body) = self.ask(&self.service.get("/status", "Connection: close\r\n")).await?;
        serde_json::from_slice(&body).map_err(|_| BenchError::Refused {
            replica: self.host.clone(),
            what: "GET /status",
            answer: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

/// How a replica of this address is asked by frames.
fn frames(name: &str) -> Result<Options, BenchError> {
    let told = |error| BenchError::Unreachable { replica: name.to_owned(), source: invalid(error) };
    Options::new([name]).map_err(told)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, error)
}

/// Binds a cluster on a loopback address that has its ports free.
async fn bind(setup: Setup, replicas: usize, folder: &Path) -> Result<(Arc<Config>, Cluster), BenchError> {
    let mut tried = 0;
    loop {
        tried += 1;
        let config = Arc::new(configured(setup, replicas, folder, &loopback()?));
        match Cluster::bind(&config, None, Begin::Normally).await {
            Ok(cluster) => return Ok((config, cluster)),
            Err(ClusterError::Bind(_)) if tried < ADDRESSES_TRIED => {}
            Err(error) => return Err(BenchError::Cluster(error)),
        }
    }
}

fn configured(setup: Setup, replicas: usize, folder: &Path, at: &Loopback) -> Config {
    let addresses = (0..replicas as u16).map(|place| Address::new(at.host.as_str(), PORTS.0 + at.offset + place));
    let mut config = Config::new(setup.mode, addresses.collect(), PORTS.1 + at.offset);
    config.links = setup.links;
    config.durability = setup.durability;
    config.link_delay_us = setup.delay_us;
    config.failure_timeout_ms = FAILURE_TIMEOUT_MS;
    config.log = LogStyle::Off;
    config.data = PathBuf::from(folder);
    config
}

/// Where a cluster listens.
struct Loopback {
    host: String,
    /// Added to the ports, where all clusters share one address.
    offset: u16,
}

/// A place that nobody is likely to have: any of Linux's loopback addresses; elsewhere there is but one.
fn loopback() -> Result<Loopback, BenchError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| BenchError::Start(std::io::Error::other(error)))?;
    let [a, b, c, d] = random;
    Ok(match cfg!(target_os = "linux") {
        true => Loopback { host: format!("127.{}.{b}.{}", a.max(1), 1 + c % 254), offset: 0 },
        false => Loopback { host: "127.0.0.1".to_owned(), offset: 2_000 + u16::from_be_bytes([c, d]) % 1_000 * 16 },
    })
}
