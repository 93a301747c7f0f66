//! Who is in the view.

pub mod controller;
pub mod fixed;
pub mod heartbeat;
pub mod times;
