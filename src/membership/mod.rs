//! Membership.

pub mod controller;
pub mod times;
