//! The classic log: the lines in which the program's ancestor showed the protocol, word for word.

/// A step of the protocol that the log shows, with its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A write goes from the contacted replica to the primary (remote-write).
    Forward,
    /// A primary tells a backup.
    Tell,
    /// An item moves to the contacted replica (local-write).
    Move,
}

/// Whether anybody reads these lines; ask before making their arguments.
pub fn enabled() -> bool {
    false
}

/// A client's request, before it goes to the replica's loop. `body` is as it came.
pub fn client_request(_method: &str, _path: &str, _body: &[u8]) {}

/// A client's answer, before its bytes are written. `body` is without its last newline.
pub fn client_reply(_method: &str, _path: &str, _body: &[u8], _took_ns: u64) {}

/// A frame that begins a step, before it is written: the number of its connection in this process, and its own number on it.
pub fn replica_request(_step: Step, _from: &str, _to: &str, _link: u64, _frame: u64) {}

/// The frame that ends it.
pub fn replica_reply(_step: Step, _from: &str, _to: &str, _took_ns: u64) {}
