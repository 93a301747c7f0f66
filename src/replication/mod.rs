//! Replication as a pure state machine: events in, actions out. No sockets, clock, files, tasks or randomness; the rules'
//! numbers (W3, M2, …) are those of protocol.md.
//!
//! In reading order: [`event`] and [`action`] are the interface, [`record`] is what a replica keeps, [`replica`] is the
//! state and the dispatch. Then the life of a request: [`client`] takes it, [`remote_write`] or [`local_write`] brings a
//! write to its item's primary, [`write`] makes the record there, [`update`] replicates it, [`wait`] and [`read`] answer
//! what needs a committed version, [`keys`] remembers idempotency keys. [`recovery`] is what a new view begins with, from
//! what [`reports`] hold, and [`join`] how a replica comes back.

pub mod action;
mod client;
pub mod event;
mod join;
mod keys;
mod local_write;
mod read;
pub mod record;
mod recovery;
mod remote_write;
pub mod replica;
mod reports;
mod update;
mod wait;
mod write;

#[cfg(test)]
mod tests;
