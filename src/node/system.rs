//! What a replica needs of the machine that it runs on. A simulation brings its own.

use std::sync::Arc;

use crate::clock::Clock;
use crate::net::{Network, SystemNetwork};
use crate::random::Random;
use crate::store::{Disk, RealDisk};

/// Time, network, files and randomness of one process.
#[derive(Clone, Debug)]
pub struct System {
    /// Its clock: leases, deadlines, and the times of keys.
    pub clock: Clock,
    /// Through which it dials other replicas.
    pub network: Arc<dyn Network>,
    /// Where its stores are.
    pub disk: Arc<dyn Disk>,
    /// Where its ids come from.
    pub random: Random,
}

impl System {
    /// The machine itself, with a clock that starts now.
    pub fn real() -> System {
        System {
            clock: Clock::boot(),
            network: Arc::new(SystemNetwork),
            disk: Arc::new(RealDisk),
            random: Random::system(),
        }
    }
}
