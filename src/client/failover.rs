//! Several attempts at one request, at one replica after the other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::error::{Cause, Effect, Error};
use super::exchange::Attempt;
use super::options::Options;
use super::reply::{self, Reply};
use super::request::Asking;
use crate::backoff::Backoff;

/// From one seed to the next: 2^64 divided by the golden ratio, which spreads any number of them.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The replicas of a cluster.
#[derive(Debug)]
pub(super) struct Replicas {
    connections: Vec<Connection>,
    /// Who is asked first.
    current: AtomicUsize,
    timeout: Duration,
    attempt_timeout: Duration,
    attempts: usize,
    seed: AtomicU64,
}

/// What a request does when it is done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// It changes nothing.
    Reads,
    /// It takes effect once, by its key.
    Keyed,
    /// It would take effect twice.
    Keyless,
}

/// Why an attempt brought no answer.
#[derive(Debug)]
struct Failed {
    cause: Cause,
    /// Whether the replica may have done it, or may still do it.
    perhaps: bool,
    /// Whether another attempt may do better.
    again: bool,
}

impl Replicas {
    pub(super) fn new(options: &Options, seed: u64) -> Replicas {
        let start = |(place, address)| Connection::start(address, options, seed.wrapping_add(place as u64 + 1));
        Replicas {
            connections: options.replicas.iter().enumerate().map(start).collect(),
            current: AtomicUsize::new(0),
            timeout: options.timeout,
            attempt_timeout: options.attempt_timeout,
            attempts: options.attempts,
            seed: AtomicU64::new(seed),
        }
    }

    /// Connections that were opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.connections.iter().map(Connection::opened).sum()
    }

    /// Asks until there is an answer of the kind that `pick` takes, an error that another attempt would not mend, or no
    /// time.
    pub(super) async fn ask<T>(
        &self,
        asking: &Asking,
        nature: Nature,
        pick: impl Fn(Reply) -> Option<T>,
    ) -> Result<T, Error> {
        let by = Instant::now() + self.timeout;
        let (mut effect, mut pauses, mut attempts) = (Effect::None, None, 0);
        loop {
            let place = self.current.load(Ordering::Relaxed);
            let connection = &self.connections[place];
            let attempt = connection.ask(asking.clone(), self.attempt_due(by, nature)).await;
            let failed = match judge(attempt, &pick) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            attempts += 1;
            // An attempt that failed says nothing of those before it, which may still be on their way.
            if failed.perhaps && nature != Nature::Reads {
                effect = Effect::Unknown;
            }
            if failed.again {
                self.pass_on(place);
            }
            let may_repeat = failed.again && !(failed.perhaps && nature == Nature::Keyless);
            if !may_repeat || attempts >= self.attempts || Instant::now() >= by {
                return Err(Error { effect, replica: connection.name().to_owned(), cause: failed.cause });
            }
            // All were asked: what ails them takes a moment.
            if attempts.is_multiple_of(self.connections.len()) {
                let pause = pauses.get_or_insert_with(|| self.pauses()).next_wait();
                sleep_until(by.min(Instant::now() + pause)).await;
            }
        }
    }

    /// Each request has its own, so that those that failed together do not come back together.
    fn pauses(&self) -> Backoff {
        Backoff::new(self.seed.fetch_add(SEED_STEP, Ordering::Relaxed))
    }

    /// Where another replica can be asked, none may take all the time.
    fn attempt_due(&self, by: Instant, nature: Nature) -> Instant {
        match nature {
            Nature::Reads | Nature::Keyed if self.connections.len() > 1 => {
                by.min(Instant::now() + self.attempt_timeout)
            }
            _ => by,
        }
    }

    /// From now on the next one is asked first, unless somebody has seen to that already.
    fn pass_on(&self, from: usize) {
        let next = (from + 1) % self.connections.len();
        let _ = self.current.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn judge<T>(attempt: Attempt, pick: impl Fn(Reply) -> Option<T>) -> Result<T, Failed> {
    let json = match attempt {
        Ok(json) => json,
        Err(trouble) => return Err(Failed { cause: trouble.cause, perhaps: trouble.sent, again: true }),
    };
    let not_understood = |cause| Failed { cause, perhaps: true, again: false };
    match reply::parse(&json) {
        Ok(Reply::Refused(refusal)) => {
            let (perhaps, again) = (refusal.may_have_happened(), refusal.may_pass());
            Err(Failed { cause: Cause::Refused(refusal), perhaps, again })
        }
        Ok(reply) => pick(reply).ok_or_else(|| not_understood(reply::not_understood(&json))),
        Err(cause) => Err(not_understood(cause)),
    }
}
