//! Primacy: a replicated note store that shows its work.

pub mod accept;
pub mod clock;
pub mod config;
pub mod http;
pub mod net;
pub mod note;
pub mod observe;
pub mod protocol;
pub mod replication;
