//! Messages between replicas, and what the links say themselves.

use primacy::protocol::codec::{LENGTH_BYTES, decode, encode, encode_link, word_of};
use primacy::protocol::message::{Got, Hello};

/// The bytes are a frame's JSON.
pub fn run(json: &[u8]) {
    if let Ok(envelope) = decode(json) {
        assert_eq!(word_of(json).ok().as_deref(), Some(envelope.message.word()), "`type` is read in two ways");
        let frame = encode(envelope.epoch, &envelope.message);
        let again = decode(&frame[LENGTH_BYTES..]).expect("what was written can be read");
        assert_eq!(again, envelope, "it was written as another");
        assert_eq!(encode(again.epoch, &again.message), frame, "it is written in two ways");
    }
    if let Ok(hello) = serde_json::from_slice::<Hello>(json) {
        let frame = encode_link("hello", &hello);
        assert_eq!(serde_json::from_slice::<Hello>(&frame[LENGTH_BYTES..]).expect("a hello can be read"), hello);
    }
    if let Ok(got) = serde_json::from_slice::<Got>(json) {
        let frame = encode_link("got", &got);
        assert_eq!(serde_json::from_slice::<Got>(&frame[LENGTH_BYTES..]).expect("a got can be read"), got);
    }
}
