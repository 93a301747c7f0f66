//! A timer finer than tokio's, which rounds up to the next millisecond: more than a round trip on one machine.
//!
//! It waits on a timer of the system's own (timerfd_create(2)), which is exact to some 0.05 ms while the
//! processor is awake; an idle one is late by what it takes to wake, on virtual machines 0.2 ms and more. Where that is
//! too late, it wakes earlier and stays awake until the time has come.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// A timer of the system, made when it is first needed.
    #[derive(Debug, Default)]
    pub(in crate::clock) struct SystemTimer(Option<AsyncFd<OwnedFd>>);

    impl SystemTimer {
        /// Sets it, in the place of what it was set for.
        pub(in crate::clock) fn set(&mut self, left: Duration) -> io::Result<()> {
            let fd = match &self.0 {
                Some(fd) => fd,
                None => {
                    let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
                    #[allow(
                        deprecated,
                        reason = "its successor is unsafe: it asks for a descriptor that stays the same, as OwnedFd does"
                    )]
                    let registered = AsyncFd::with_interest(fd, Interest::READABLE)?;
                    self.0.insert(registered)
                }
            };
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                // Delays are far under a second's limit of either field.
                it_value: Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) },
            };
            timerfd_settime(fd.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            Ok(())
        }

        /// Waits for what it is set for, or less: the caller looks at the time again. May be dropped and called again.
        pub(in crate::clock) async fn fired(&self) -> io::Result<()> {
            let Some(fd) = &self.0 else { return Err(io::ErrorKind::NotFound.into()) };
            // To set it again takes back what it has counted, so that it need not be read.
            fd.readable().await?.clear_ready();
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    /// No such timer here.
    #[derive(Debug, Default)]
    pub(in crate::clock) struct SystemTimer;

    impl SystemTimer {
        pub(in crate::clock) fn set(&mut self, _left: std::time::Duration) -> std::io::Result<()> {
            Err(std::io::ErrorKind::Unsupported.into())
        }

        pub(in crate::clock) async fn fired(&self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::Unsupported.into())
        }
    }
}

pub(super) use system::SystemTimer;

/// How long before its time [`ExactTimer::awake_until`] wakes: longer than most wakes of an idle virtual machine take, which
/// after 20 ms asleep were late by 0.2 to 0.4 ms at p90. With 0.5 ms the frames of a link were no more exact on the whole. Each
/// wait may cost as much of a processor.
const AWAKE: Duration = Duration::from_micros(300);

/// A timer that is exact to some 0.05 ms on a processor that is awake, where the system has one.
#[derive(Debug, Default)]
pub struct ExactTimer(SystemTimer);

impl ExactTimer {
    /// Waits until `due`, never less. May be dropped and called again.
    pub async fn until(&mut self, due: Instant) {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // Where the system gives no timer, a coarser one is better than none.
            if self.0.set(left).is_err() || self.0.fired().await.is_err() {
                return sleep_until(due).await;
            }
        }
    }

    /// The same, forever where there is no such moment.
    pub async fn at(&mut self, due: Option<Instant>) {
        match due {
            Some(due) => self.until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until `due`, awake for the last [`AWAKE`], so that nothing has to wake when the time has come. For measuring
    /// only: it keeps a processor from sleeping, though not from other work.
    pub async fn awake_until(&mut self, due: Instant) {
        if let Some(early) = due.checked_sub(AWAKE) {
            self.until(early).await;
        }
        while Instant::now() < due {
            // To this thread's other tasks and sockets, and then to other threads.
            tokio::task::yield_now().await;
            std::thread::yield_now();
        }
    }

    /// The same, forever where there is no such moment.
    pub async fn awake_at(&mut self, due: Option<Instant>) {
        match due {
            Some(due) => self.awake_until(due).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_never_early_and_exact_to_a_part_of_a_millisecond() {
        let mut timer = ExactTimer::default();
        for awake in [false, true] {
            let mut least_late = Duration::MAX;
            // The least of many: whatever else the machine does, it lets one through.
            for _ in 0..2_000 {
                let due = Instant::now() + Duration::from_micros(1_300);
                match awake {
                    true => timer.awake_until(due).await,
                    false => timer.until(due).await,
                }
                let now = Instant::now();
                assert!(now >= due);
                least_late = least_late.min(now - due);
                if least_late < Duration::from_micros(500) {
                    break;
                }
            }
            assert!(least_late < Duration::from_micros(500), "{least_late:?} late at best, awake: {awake}");
        }
    }

    #[tokio::test]
    async fn who_is_awake_lets_other_tasks_and_sockets_have_their_turn() {
        let mut timer = ExactTimer::default();
        // Whatever else the machine does, it lets one of many through.
        for _ in 0..50 {
            let (near, far) = tokio::net::UnixStream::pair().unwrap();
            let other = tokio::spawn(async move {
                near.try_write(b"x").unwrap();
                far.readable().await.unwrap();
            });
            // No more than it is awake, so that the thread never sleeps.
            timer.awake_until(Instant::now() + AWAKE).await;
            if other.is_finished() {
                return;
            }
            other.await.unwrap();
        }
        panic!("nobody else had a turn");
    }

    #[tokio::test]
    async fn it_may_be_dropped_and_set_again() {
        let mut timer = ExactTimer::default();
        for _ in 0..20 {
            let far = Instant::now() + Duration::from_millis(2);
            tokio::select! {
                biased;
                () = timer.until(far) => {}
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
            let due = Instant::now() + Duration::from_millis(3);
            timer.until(due).await;
            assert!(Instant::now() >= due);
        }
    }
}
