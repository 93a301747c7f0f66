//! What the program shows of its work.

pub mod classic;
