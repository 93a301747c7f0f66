//! Clients' frames.

use primacy::protocol::client::{parse, write_error};
use serde_json::Value;

const VERBS: [&str; 8] = ["post", "get", "list", "put", "patch", "delete", "ping", "status"];

/// The bytes are a frame's JSON.
pub fn run(json: &[u8]) {
    match parse(json) {
        Ok(asked) => {
            let value: Value = serde_json::from_slice(json).expect("what is understood is JSON");
            let verb = value["type"].as_str().expect("what is understood has a type");
            assert!(VERBS.contains(&verb), "`{verb}` is understood");
            assert_eq!(value["seq"].as_u64(), asked.seq, "`seq` is read in two ways");
        }
        Err(refused) => {
            let mut reply = Vec::new();
            write_error(&mut reply, refused.seq, &refused.failure);
            let reply: Value = serde_json::from_slice(&reply).expect("a refusal is JSON");
            assert!(reply["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "it is refused without a word");
            assert_eq!(reply["re"].as_u64(), refused.seq);
        }
    }
}
