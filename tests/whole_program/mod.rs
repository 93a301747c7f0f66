//! The whole program in a simulated network: HTTP, frames, links, the loop, openraft, and the store on a disk in memory.
//!
//! ```text
//!    clients (HTTP, frames) ---- turmoil's network ---- replicas, each with its disk
//!        |                            ^                        ^
//!     history --> checks           faults: partitions, holds, latency, crashes, power cuts, errors of disks
//! ```
//!
//! One seed decides all that is ours: [`plan`] draws from it what kind of run it will be, [`world`] runs it. Two runs of a
//! seed, each alone in a process, are mostly the same. tokio draws two things itself, and only `--cfg tokio_unstable` lets a
//! simulation seed them: the order in which those who watch one value wake, and what openraft looks at first while a peer is
//! unreachable. Beside other runs in one process, tasks of a killed replica end in another order, too: it goes by numbers
//! that tokio counts for the whole process.
//!
//! What is not simulated: processes that pause, and clocks that run at different rates; both are in the simulation of the
//! core. Nor does turmoil send a lost segment again: see [`network`].

pub(crate) mod checks;
pub(crate) mod clients;
pub(crate) mod faults;
pub(crate) mod history;
#[path = "../simulation/linearizable.rs"]
pub(crate) mod linearizable;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod replicas;
pub(crate) mod talk;
pub(crate) mod world;
