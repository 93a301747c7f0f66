//! Primacy: a replicated note store that shows its work.

pub mod clock;
pub mod cluster;
pub mod config;
pub mod http;
pub mod link;
pub mod membership;
pub mod net;
pub mod node;
pub mod note;
pub mod observe;
pub mod protocol;
pub mod replication;
pub mod wire;
