//! A deterministic simulation of several replicas of the pure core: one seed decides everything that happens.
//!
//! ```text
//!     workload ----- requests, answers -----> history ---> linearizable, checks
//!        |                                       ^
//!     world: the queue of what happens, by time; each replica's turns
//!        |            |             |
//!      links        disks     seats: the real controller and heartbeats    <--- faults, as the plan of the seed wants them
//!                                 |
//!                             group: consensus reduced to a log of views
//! ```
//!
//! [`plan`] draws from the seed what kind of run it will be; [`world`] runs it; [`checks`] hold the invariants, one function
//! each; [`report`] counts what really happened.

pub(crate) mod checks;
pub(crate) mod clients;
pub(crate) mod control;
pub(crate) mod disks;
pub(crate) mod faults;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod linearizable;
pub(crate) mod links;
pub(crate) mod mutants;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod processes;
pub(crate) mod questions;
pub(crate) mod report;
pub(crate) mod scene;
pub(crate) mod seat;
pub(crate) mod stops;
pub(crate) mod trace;
pub(crate) mod workload;
pub(crate) mod world;
