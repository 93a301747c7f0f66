//! What each fuzz target does with its bytes. `tests/fuzz_seeds.rs` of the program includes this by its path and runs every
//! seed through the same functions, so nothing here needs libFuzzer.
//!
//! | target | its bytes | what must hold |
//! | --- | --- | --- |
//! | [`codec`] | a stream of frames | frames come out the same wherever the stream is cut |
//! | [`messages`] | a message between replicas | what was read is written and read again as the same |
//! | [`requests`] | a client's frame | what is understood is one JSON object with a verb; what is not is refused for a reason |
//! | [`frames`] | a connection to a replica's address | the replies are the same wherever the bytes are cut |
//! | [`http`] | a connection to the service port | likewise, and every answer is well-formed HTTP |
//! | [`merge_patch`] | a note and a patch | the result is that of RFC 7396's own pseudocode |
//! | [`journal`], [`snapshot`] | a store's history and damage to its files | a start finds a state that once was, or refuses |

#[path = "../../examples/fuzz_http/answers.rs"]
#[allow(dead_code, reason = "the fuzzer of a running listener reads all of an answer")]
mod answers;
pub mod codec;
pub mod frames;
pub mod http;
pub mod journal;
pub mod merge_patch;
pub mod messages;
#[path = "../../tests/support/fake_replica.rs"]
#[allow(dead_code, reason = "the tests steer it")]
mod replica;
pub mod requests;
pub mod snapshot;
mod stores;
mod talk;

/// What a target does.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 8] = [
    ("codec", codec::run),
    ("frames", frames::run),
    ("http", http::run),
    ("journal", journal::run),
    ("merge_patch", merge_patch::run),
    ("messages", messages::run),
    ("requests", requests::run),
    ("snapshot", snapshot::run),
];
