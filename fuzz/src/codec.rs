//! The length in front of each frame.

use bytes::BytesMut;
use primacy::protocol::codec::{frame, length_delimited};
use tokio_util::codec::Decoder as _;

/// The first byte says how long the pieces are.
pub fn run(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let whole = cut([stream]);
    assert_eq!(cut(stream.chunks(1 + usize::from(*piece))), whole, "the pieces make a difference");
    let mut again = BytesMut::new();
    whole.0.iter().for_each(|json| frame(json, &mut again));
    assert!(stream.starts_with(&again), "what came out is not what went in");
}

/// All frames, and whether an error ended them.
fn cut<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let (mut codec, mut buffer, mut found) = (length_delimited(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(json)) => found.push(json.to_vec()),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}
