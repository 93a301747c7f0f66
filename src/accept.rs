//! Accepting client connections, and parting from them: how many, from whom, and until when. What is said on them is
//! not known here, but whether it is encrypted is.
//!
//! A listener has two bounds of its own, in all and per address. A third one holds for all listeners of the process
//! together: file descriptors are kept back for links, listeners and stores, so that however many clients come, the
//! replicas reach each other and their disks.

mod unfinished;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::config::{Limits, Tls};
use crate::net::{Listener, Stream, tls};

pub use unfinished::{Full, Share, Unfinished};

/// How long open requests may take to finish after a stop, in ms.
const STOP_MS: u64 = 5_000;

/// How long accepting pauses where the system has no more file descriptors, in ms: trying at once would only spin.
const ACCEPT_PAUSE_MS: u64 = 100;

/// How long a connection is read further after its last answer, in ms, and how many bytes: closing with unread bytes
/// resets it, and the client might lose the answer (RFC 9112 section 9.6).
const LINGER_MS: u64 = 2_000;
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// File descriptors that clients never get. Five replicas in one process, the most that are usual, have about 150: for
/// each four connections with each peer, two listeners, the journals, the runtime. The rest is for connections without a
/// place, and for dialing anew before the old socket is closed.
const FDS_RESERVED: u64 = 640;

/// All listeners of this process.
static PROCESS: LazyLock<Process> =
    LazyLock::new(|| Process { served: AtomicUsize::new(0), served_max: fds_for_clients(fds_max()) });

/// A connection that was accepted.
#[derive(Debug)]
pub struct Visitor {
    /// Its socket, with TCP_NODELAY.
    pub stream: Stream,
    /// Which one of its listener it is, from 1.
    pub number: u64,
    /// What it has until this is dropped; none where no room was left: a client is told so, and closed.
    pub place: Option<Place>,
}

/// One of the places that a listener has for clients.
#[derive(Debug)]
pub struct Place {
    address: IpAddr,
    taken: Arc<Mutex<Taken>>,
    process: &'static Process,
}

/// What a connection to a port that speaks TLS turns out to be.
#[derive(Debug)]
pub enum Secured {
    /// What it should be; who is there has shown nothing.
    Tls(Stream),
    /// Somebody who does not speak TLS, and begins with this byte, which was read.
    Plain(Stream, u8),
}

/// The places of one listener that are taken.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Clients that a process serves at all of its listeners, and how many it may serve.
#[derive(Debug)]
struct Process {
    served: AtomicUsize,
    served_max: usize,
}

/// Accepts connections until `stop` holds true, or its sender is gone, and has `serve` make each one's task. Then it
/// accepts no more, gives the tasks 5 s to finish what is under way, and returns. So many as `spare` are accepted
/// without a place, to be turned away or to be found more than clients; more are closed without a word.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub async fn accept<F>(
    mut listener: impl Listener,
    limits: &Limits,
    spare: usize,
    stop: watch::Receiver<bool>,
    serve: impl Fn(Visitor) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut door =
        Door { limits, spare, taken: Arc::default(), accepted: 0, tasks: JoinSet::new(), placeless: JoinSet::new() };
    {
        let mut stopped = std::pin::pin!(stopped(stop));
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => break,
                Some(ended) = door.tasks.join_next() => report(ended),
                Some(ended) = door.placeless.join_next() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => door.take(stream, address.ip(), &serve),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "accepting connections pauses");
                        tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                },
            }
        }
    }
    drop(listener);
    door.close().await;
}

/// Does the handshake of TLS with who has connected. None where nothing comes of it: it took longer than
/// `limits.prove_ms`, failed, or `stop` held true before it was done.
pub async fn secure(mut stream: Stream, tls: &Tls, limits: &Limits, stop: watch::Receiver<bool>) -> Option<Secured> {
    // Its state is large, and gone before the connection's work begins.
    let handshake = Box::pin(async {
        match stream.read_u8().await? {
            tls::FIRST_BYTE => Ok(Secured::Tls(tls::accept(tls, stream).await?)),
            first => Ok::<_, io::Error>(Secured::Plain(stream, first)),
        }
    });
    let secured = tokio::select! {
        biased;
        () = stopped(stop) => return None,
        secured = timeout(Duration::from_millis(limits.prove_ms), handshake) => secured,
    };
    match secured {
        Ok(Ok(secured)) => Some(secured),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(prove_ms = limits.prove_ms, "a TLS handshake was not done in time");
            None
        }
    }
}

/// Returns once `stop` holds true. That its sender is gone is as good as a stop.
pub async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ends a connection's output so that the last answer arrives: what the client still sends is read until it closes too,
/// within bounds. False where the client is gone already.
pub async fn part<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> bool {
    let drain = async {
        stream.shutdown().await?;
        let mut scratch = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut scratch).await {
                Ok(0) | Err(_) => break,
                Ok(length) => left = left.saturating_sub(length),
            }
        }
        Ok::<(), io::Error>(())
    };
    // Past the time the client loses what it did not read. An end that is encrypted waits for room, too.
    !matches!(timeout(Duration::from_millis(LINGER_MS), drain).await, Ok(Err(_)))
}

/// Whether only this connection failed, before it was accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted)
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a client connection's task failed");
    }
}

/// One listener's connections.
struct Door<'a> {
    limits: &'a Limits,
    spare: usize,
    taken: Arc<Mutex<Taken>>,
    accepted: u64,
    tasks: JoinSet<()>,
    placeless: JoinSet<()>,
}

impl Door<'_> {
    fn take<F>(&mut self, stream: Stream, address: IpAddr, serve: &impl Fn(Visitor) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.accepted += 1;
        // An answer is one write; waiting for more would only delay it. Where this fails, so will the first write.
        let _ = stream.set_nodelay();
        // An IPv4 client of an IPv6 socket counts as what it is.
        let place = Place::take(&self.taken, address.to_canonical(), self.limits, &PROCESS);
        let tasks = if place.is_some() { &mut self.tasks } else { &mut self.placeless };
        if place.is_some() || tasks.len() < self.spare {
            tasks.spawn(serve(Visitor { stream, number: self.accepted, place }));
        }
    }

    async fn close(mut self) {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                report(ended);
            }
        };
        if timeout(Duration::from_millis(STOP_MS), all).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "requests did not finish in time; closing");
            self.tasks.shutdown().await;
        }
    }
}

impl Place {
    /// A place for one more client, where there is one.
    fn take(taken: &Arc<Mutex<Taken>>, address: IpAddr, limits: &Limits, process: &'static Process) -> Option<Place> {
        let mut places = lock(taken);
        let here = places.by_address.get(&address).copied().unwrap_or(0);
        if places.all >= limits.connections || here >= limits.connections_per_address {
            return None;
        }
        let one_more = |served| (served < process.served_max).then_some(served + 1);
        process.served.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        places.all += 1;
        places.by_address.insert(address, here + 1);
        Some(Place { address, taken: taken.clone(), process })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.process.served.fetch_sub(1, Ordering::Relaxed);
        let mut places = lock(&self.taken);
        places.all -= 1;
        if let Entry::Occupied(mut here) = places.by_address.entry(self.address) {
            *here.get_mut() -= 1;
            if *here.get() == 0 {
                here.remove();
            }
        }
    }
}

/// Nothing panics while it is held, and numbers cannot be half written.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many file descriptors this process may have. The usual limit of 1,024 is for programs that use select(2), which
/// this one does not: it takes what it may have without special rights.
fn fds_max() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of file descriptors");
            current.unwrap_or(u64::MAX)
        }
    }
}

/// How many of so many file descriptors are for clients: all but the reserve, or half where that is more than half.
fn fds_for_clients(fds_max: u64) -> usize {
    usize::try_from(fds_max - FDS_RESERVED.min(fds_max / 2)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_back_for_the_links() {
        for (limit, clients) in [(u64::MAX, (u64::MAX - 640) as usize), (20_000, 19_360), (2048, 1408), (1280, 640)] {
            assert_eq!(fds_for_clients(limit), clients, "of {limit}");
        }
        for limit in 0..1280 {
            assert_eq!(fds_for_clients(limit), (limit - limit / 2) as usize, "of {limit}: half stays for the replicas");
        }
    }

    #[test]
    fn places_are_counted_by_listener_address_and_process() {
        let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::default() };
        let [a, b]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let process: &'static Process = Box::leak(Box::new(Process { served: AtomicUsize::new(7), served_max: 10 }));
        let taken = Arc::default();
        let take = |address| Place::take(&taken, address, &limits, process);
        let (first, second) = (take(a), take(a));
        assert!(first.is_some() && second.is_some());
        assert!(take(a).is_none(), "two from one address");
        let third = take(b);
        assert!(third.is_some() && take(b).is_none(), "three in all");
        drop(first);
        assert!(take(a).is_some(), "the place is free again");
        process.served.store(10, Ordering::Relaxed);
        assert!(take(a).is_none(), "ten in the process");
        drop((second, third));
        assert_eq!(process.served.load(Ordering::Relaxed), 8);
        assert!(lock(&taken).all == 0 && lock(&taken).by_address.is_empty(), "nothing is kept of those that left");
    }

    #[test]
    fn only_a_connections_own_failure_is_passed_over() {
        assert!(is_of_one_connection(&io::ErrorKind::ConnectionAborted.into()));
        // EMFILE and ENFILE, of accept(2).
        for number in [24, 23] {
            assert!(!is_of_one_connection(&io::Error::from_raw_os_error(number)));
        }
    }
}
