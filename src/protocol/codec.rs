//! Frames: a 4-byte big-endian length, then that many bytes of UTF-8 JSON.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio_util::codec::LengthDelimitedCodec;

use super::ids::Epoch;
use super::message::{Envelope, Message};

/// Most bytes that a frame's length may announce, 8 MiB; the least is 1. Replicas split what would not fit.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

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

/// A whole frame, length and all, of a message.
///
/// # Panics
///
/// Where a message could not be written as JSON: all have string keys and no custom errors, so none can.
pub fn encode(epoch: Epoch, message: &Message) -> Bytes {
    encode_with(message.word(), Some(epoch), |json| message.write_members(json))
}

/// A whole frame of a link's own message, `hello` or `got`, which names its epochs itself.
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
    let digits = rest.strip_prefix(b"\",\"epoch\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    matches!(digits.get(end), Some(b',' | b'}')).then_some(())?;
    let epoch = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    Some((std::str::from_utf8(word).ok()?, Epoch(epoch)))
}
