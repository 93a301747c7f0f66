//! Frames: a 4-byte big-endian length, then that many bytes of UTF-8 JSON.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio_util::codec::LengthDelimitedCodec;

use super::ids::Epoch;
use super::message::{Envelope, Message};

/// Most bytes that a frame's length may announce, 8 MiB; the least is 1. Replicas split what would not fit.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most bytes of a `hello` or `proof`, 16 KiB: one that names sixteen replicas with the longest names has a third of it.
pub const GREETING_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the length in front of each frame.
pub const LENGTH_BYTES: usize = 4;

/// Why a frame between replicas could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// No JSON object with a `type` and an `epoch`.
    #[error("a replica's frame must begin with `type` and `epoch`: {0}")]
    Head(#[source] serde_json::Error),
    /// A type that this version does not know.
    #[error("unknown message type `{0}`")]
    UnknownType(String),
    /// The members do not fit the type.
    #[error("bad `{word}` message: {source}")]
    Members {
        /// The message's type.
        word: String,
        /// What was wrong.
        source: serde_json::Error,
    },
}

/// The codec of all framed connections. It accepts a length of 0, which readers refuse as no JSON object.
pub fn length_delimited() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(LENGTH_BYTES).max_frame_length(FRAME_BYTES_MAX).new_codec()
}

/// The codec of a connection between replicas until both ends are greeted: whoever is there can make this end keep so much
/// and no more.
pub fn length_delimited_greeting() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(LENGTH_BYTES).max_frame_length(GREETING_BYTES_MAX).new_codec()
}

/// A whole frame, length and all, of a message.
///
/// # Panics
///
/// Where a message could not be written as JSON: all have string keys and no custom errors, so none can.
pub fn encode(epoch: Epoch, message: &Message) -> Bytes {
    encode_with(message.word(), Some(epoch), |json| message.write_members(json))
}

/// A whole frame of a link's own message, `hello`, `proof` or `got`, which names its epochs itself.
pub fn encode_link<M: Serialize>(word: &'static str, members: &M) -> Bytes {
    encode_with(word, None, |json| serde_json::to_writer(json, members))
}

fn encode_with(
    word: &str,
    epoch: Option<Epoch>,
    members: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
) -> Bytes {
    let mut frame = Vec::with_capacity(256);
    frame.put_u32(0);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(word.as_bytes());
    frame.push(b'"');
    if let Some(epoch) = epoch {
        frame.extend_from_slice(format!(",\"epoch\":{epoch}").as_bytes());
    }
    let members_at = frame.len();
    members(&mut frame).expect("messages have string keys and infallible members, so writing them to memory succeeds");
    // The members came as an object of their own; its opening brace becomes the comma.
    if frame.get(members_at + 1) == Some(&b'}') {
        frame.remove(members_at);
    } else if let Some(brace) = frame.get_mut(members_at) {
        *brace = b',';
    }
    let length = u32::try_from(frame.len() - LENGTH_BYTES).expect("frames are split far below 4 GiB");
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    frame.into()
}

/// Puts a length in front of JSON that is already there.
pub fn frame(json: &[u8], out: &mut BytesMut) {
    out.reserve(LENGTH_BYTES + json.len());
    out.put_u32(u32::try_from(json.len()).expect("frames are split far below 4 GiB"));
    out.extend_from_slice(json);
}

/// Reads a replica's message from a frame's JSON. Replicas send `type` and `epoch` first, which is read at a glance;
/// anywhere else costs a second pass.
pub fn decode(json: &[u8]) -> Result<Envelope, FrameError> {
    let (word, epoch) = match glance(json) {
        Some((word, epoch)) => (word.to_owned(), epoch),
        None => {
            let head: Head = serde_json::from_slice(json).map_err(FrameError::Head)?;
            (head.r#type.into_owned(), head.epoch)
        }
    };
    match Message::parse(&word, json) {
        None => Err(FrameError::UnknownType(word)),
        Some(Err(source)) => Err(FrameError::Members { word, source }),
        Some(Ok(message)) => Ok(Envelope { epoch, message }),
    }
}

/// The `type` of any frame, wherever it stands.
pub fn word_of(json: &[u8]) -> serde_json::Result<String> {
    #[derive(Deserialize)]
    struct Word<'a> {
        #[serde(borrow)]
        r#type: std::borrow::Cow<'a, str>,
    }
    serde_json::from_slice::<Word<'_>>(json).map(|word| word.r#type.into_owned())
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    r#type: std::borrow::Cow<'a, str>,
    epoch: Epoch,
}

/// `{"type":"WORD","epoch":DIGITS` at the very start, as [`encode`] writes it.
fn glance(json: &[u8]) -> Option<(&str, Epoch)> {
    let rest = json.strip_prefix(b"{\"type\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let (word, rest) = rest.split_at(end);
    // An escaped word is read the long way.
    (!word.contains(&b'\\')).then_some(())?;
    let digits = rest.strip_prefix(b"\",\"epoch\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    matches!(digits.get(end), Some(b',' | b'}')).then_some(())?;
    let epoch = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    Some((std::str::from_utf8(word).ok()?, Epoch(epoch)))
}

#[cfg(test)]
mod tests {
    use tokio_util::codec::Decoder;

    use super::*;
    use crate::note::{Note, NoteId};
    use crate::protocol::ids::{Incarnation, ReplicaId, RequestId, Version};
    use crate::protocol::message::{Ack, Forward, Got, Ready, Update};
    use crate::protocol::record::{Record, Value};
    use crate::protocol::request::{Key, Operation, Write};

    fn note(json: &str) -> Note {
        Note::from_put(NoteId(1), json.as_bytes()).unwrap()
    }

    fn messages() -> Vec<Message> {
        let version = Version { epoch: Epoch(3), counter: 9 };
        let value = Value::Note(note("{\"title\":\"\\u00e4\\n\",\"body\":\"{\"}"));
        let record = Record { id: NoteId(5), version, written: version, primary: ReplicaId(2), value };
        let request = RequestId { replica: ReplicaId(1), incarnation: Incarnation(u64::MAX), number: 7 };
        let operation = Operation::Put { id: NoteId(5), note: note("{}") };
        let key = Key::try_from("a-key").ok();
        vec![
            Ack { n: 1 }.into(),
            Ready {}.into(),
            Update { n: 2, records: vec![record], requests: vec![(NoteId(5), version, request)], ..Update::default() }
                .into(),
            Forward { number: 7, write: Write { operation, key, if_match: Some(vec![version]) } }.into(),
        ]
    }

    /// Every frame that comes out when these bytes come in pieces.
    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut codec, mut buffer, mut found) = (length_delimited(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(json) = codec.decode(&mut buffer).unwrap() {
                found.push(json.to_vec());
            }
        }
        found
    }

    #[test]
    fn messages_come_back_as_they_were_sent_wherever_the_stream_is_cut() {
        let frames: Vec<Bytes> = messages().iter().map(|message| encode(Epoch(3), message)).collect();
        let stream = frames.concat();
        for at in 0..=stream.len() {
            let found = cut(&[&stream[..at], &stream[at..]]);
            let decoded: Vec<Message> = found.iter().map(|json| decode(json).unwrap().message).collect();
            assert_eq!(decoded, messages(), "cut at {at}");
        }
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(cut(&single).len(), frames.len(), "byte by byte");
    }

    #[test]
    fn a_frame_is_its_length_and_json_that_begins_with_type_and_epoch() {
        let frame = encode(Epoch(7), &Ack { n: 1 }.into());
        assert_eq!(&frame[..], b"\0\0\0\x1e{\"type\":\"ack\",\"epoch\":7,\"n\":1}".as_slice());
        let frame = encode(Epoch(7), &Ready {}.into());
        assert_eq!(&frame[LENGTH_BYTES..], b"{\"type\":\"ready\",\"epoch\":7}", "without members");
        let frame = encode_link("got", &Got { epoch: Epoch(1), n: 2 });
        assert_eq!(&frame[LENGTH_BYTES..], b"{\"type\":\"got\",\"epoch\":1,\"n\":2}");
    }

    #[test]
    fn members_may_stand_anywhere_and_unknown_ones_are_ignored() {
        for json in [
            r#"{"type":"ack","epoch":7,"n":1}"#,
            r#"{"n":1,"epoch":7,"type":"ack"}"#,
            r#" {"type":"ack", "epoch" : 7, "n":1}"#,
            r#"{"type":"a\u0063k","epoch":7,"n":1}"#,
            r#"{"type":"ack","epoch":7,"n":1,"new":[{"in":"a later version"}]}"#,
        ] {
            let envelope = decode(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!(envelope, Envelope { epoch: Epoch(7), message: Ack { n: 1 }.into() }, "{json}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_for_what_is_wrong() {
        let error = |json: &[u8]| decode(json).expect_err(&String::from_utf8_lossy(json)).to_string();
        for json in [
            &b""[..],
            b"{",
            b"7",
            b"{\"type\":\"ack\",\"n\":1}",
            b"{\"epoch\":1}",
            b"{\"type\":\"ack\",\"epoch\":-1,\"n\":1}",
        ] {
            assert!(error(json).starts_with("a replica's frame must begin with `type` and `epoch`"), "{}", error(json));
        }
        assert_eq!(error(b"{\"type\":\"fly\",\"epoch\":1}"), "unknown message type `fly`");
        let bad = error(b"{\"type\":\"ack\",\"epoch\":1,\"n\":\"x\"}");
        assert!(bad.starts_with("bad `ack` message:") && bad.contains("u64"), "{bad}");
        assert!(error(b"{\"type\":\"ack\",\"epoch\":1,\"n\":1} {}").contains("trailing"));
    }

    #[test]
    fn no_more_than_8_mib_is_announced_and_nothing_is_refused_here() {
        let (mut codec, mut buffer) = (length_delimited(), BytesMut::new());
        buffer.extend_from_slice(&[0, 0, 0, 0]);
        assert_eq!(codec.decode(&mut buffer).unwrap().map(|json| json.len()), Some(0));
        buffer.extend_from_slice(&(FRAME_BYTES_MAX as u32).to_be_bytes());
        assert!(codec.decode(&mut buffer).unwrap().is_none());
        let mut buffer = BytesMut::from(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes()[..]);
        assert!(length_delimited().decode(&mut buffer).is_err());
    }
}
