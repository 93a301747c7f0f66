//! Who is in the view.

pub mod fixed;
