//! protocol.md in code: names, records, requests, messages and frames.

pub mod client;
pub mod codec;
mod hex;
pub mod ids;
pub mod message;
pub mod port;
pub mod record;
pub mod request;
pub mod status;
pub mod view;
