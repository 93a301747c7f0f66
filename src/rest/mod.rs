//! What requests over HTTP mean, whoever reads them off a socket: RFC 9110, where [`crate::http`] keeps to RFC 9112.
//!
//! ```text
//!   Head ─ origin, routes ─> Plan ─ and the body ─> Call ──> the replica
//!                                        Draft <─ answers <── Said ──<
//! ```
//!
//! Pure: there are no sockets and no clock here. A further path is a [`Resource`] in `routes`, and its body in `answers`.

mod answers;
mod origin;
mod refusal;
mod request;
mod routes;

pub(crate) use answers::{DONE, Draft, Reply, error_body, put, put_notes, put_number, put_outcome, reason};
pub(crate) use origin::{Authority, Hosts};
pub(crate) use refusal::Refusal;
pub(crate) use request::{Head, Method};
pub(crate) use routes::{Ask, Plan, Resource, stream_page};
