//! What the consensus library runs on: tokio, but for its ticks and its calls' deadlines.
//!
//! It looks at the time when it is told to: a timer of its own would wake an idle replica as often again. And its calls
//! end when [`Pending`](super::Pending) gives them up: to set three timers for each heartbeat costs as much as to send it,
//! and where a machine is busy, answers come later than the library's own times say; a group whose calls end before any
//! answer never elects anybody.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, Map};
use openraft::{AsyncRuntime, TokioRuntime};
use tokio::sync::Notify;

tokio::task_local! {
    /// That of the member that this task belongs to.
    static PACE: Pace;
}

/// The pace of one member of the group.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    tick: Arc<Notify>,
}

impl Pace {
    /// Lets the library look at the time.
    pub(super) fn tick(&self) {
        self.tick.notify_waiters();
    }

    /// Starts a member that keeps this pace.
    pub(super) async fn start<M>(&self, member: impl Future<Output = M>) -> M {
        PACE.scope(self.clone(), member).await
    }
}

/// Of a member that was begun by [`Pace::start`], [`AsyncRuntime::sleep_until`], which the library uses for its ticks
/// alone, sleeps until the next [`Pace::tick`]; [`AsyncRuntime::timeout`], which it uses for its calls alone, waits for their
/// end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::membership) struct Runtime;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> =
        Either<<TokioRuntime as AsyncRuntime>::Timeout<R, T>, Map<T, fn(R) -> Result<R, Self::TimeoutError>>>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type OneshotSender<T: Send> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: Send> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        match PACE.try_with(Pace::clone) {
            Ok(pace) => TokioRuntime::spawn(PACE.scope(pace, future)),
            Err(_) => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Box::pin(TokioRuntime::sleep(duration))
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        match PACE.try_with(|pace| Arc::clone(&pace.tick)) {
            Ok(tick) => Box::pin(async move { tick.notified().await }),
            Err(_) => Box::pin(TokioRuntime::sleep_until(deadline)),
        }
    }

    fn timeout<R, F: Future<Output = R> + Send>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        match PACE.try_with(|_| ()) {
            Ok(()) => Either::Right(future.map(Ok)),
            Err(_) => Either::Left(TokioRuntime::timeout(duration, future)),
        }
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        Either::Left(TokioRuntime::timeout_at(deadline, future))
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn oneshot<T: Send>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}
