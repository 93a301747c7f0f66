//! The memory that requests take which are not complete: a bound for all connections of one listener together. Each may
//! send as much of one request as a request is long, and then nothing; thousands of them would be more than a replica
//! has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of its request that each connection may hold beside the bound: whoever sends little is never in the way, and is
/// served while others hold all that there is.
const FREE_BYTES: usize = 16 * 1024;

/// What all connections of one listener hold of requests that are not complete.
#[derive(Clone, Debug)]
pub struct Unfinished(Arc<Held>);

#[derive(Debug)]
struct Held {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// One connection's share of it; given back when it goes.
#[derive(Debug)]
pub struct Share {
    all: Unfinished,
    bytes: usize,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "requests that are not complete hold all the memory that they may have here; try again later or at another replica"
)]
pub struct Full;

impl Unfinished {
    /// With this bound, `limits.unfinished_bytes`.
    pub fn new(bytes_max: usize) -> Unfinished {
        Unfinished(Arc::new(Held { bytes: AtomicUsize::new(0), bytes_max }))
    }

    /// A connection's share, which holds nothing yet.
    pub fn share(&self) -> Share {
        Share { all: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// From now on the connection holds so many bytes of a request. Where that is more than there may be, nothing changes,
    /// and the connection must let go of it and end.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Full> {
        let (held, bytes) = (&self.all.0, bytes.saturating_sub(FREE_BYTES));
        if bytes > self.bytes {
            let add = |all: usize| Some(all + bytes - self.bytes).filter(|all| *all <= held.bytes_max);
            held.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(|_| Full)?;
        } else if bytes < self.bytes {
            held.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The connection holds nothing any more.
    pub fn release(&mut self) {
        self.all.0.bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let all = Unfinished::new(100);
        let (mut one, mut other) = (all.share(), all.share());
        assert_eq!(one.hold(FREE_BYTES + 60), Ok(()));
        assert_eq!(other.hold(FREE_BYTES + 41), Err(Full));
        assert_eq!(other.hold(FREE_BYTES + 40), Ok(()));
        assert_eq!(all.share().hold(FREE_BYTES), Ok(()), "a little is free");
        assert_eq!(other.hold(FREE_BYTES + 39), Ok(()));
        assert_eq!(one.hold(FREE_BYTES + 62), Err(Full));
        one.release();
        assert_eq!(other.hold(FREE_BYTES + 100), Ok(()));
        drop((one, other));
        assert_eq!(all.0.bytes.load(Ordering::Relaxed), 0);
    }
}
