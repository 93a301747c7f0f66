//! Frames and lines on a replica's address.

use std::sync::Arc;

use bytes::BytesMut;
use primacy::link::{LinkConfig, Links};
use primacy::protocol::codec::{FRAME_BYTES_MAX, LENGTH_BYTES, length_delimited, word_of};
use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId};
use primacy::random::Random;
use primacy::wire::{Service, serve};
use tokio::sync::{mpsc, watch};
use tokio_util::codec::Decoder as _;

use super::talk::{Nowhere, config, talk};

/// The first byte says how long the pieces are; the rest is what a client sends.
pub fn run(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let whole = answered(stream, usize::MAX);
    let pieces = answered(stream, 1 + usize::from(*piece));
    // How soon a link says what it got depends on when it came.
    if !is_link(stream) {
        assert_eq!(replies(&pieces), replies(&whole), "the pieces make a difference");
    }
}

fn is_link(stream: &[u8]) -> bool {
    let Some((length, rest)) = stream.split_first_chunk::<LENGTH_BYTES>() else { return false };
    let length = u32::from_be_bytes(*length) as usize;
    length <= FRAME_BYTES_MAX && rest.get(..length).is_some_and(|json| word_of(json).is_ok_and(|word| word == "hello"))
}

/// Replies come as they are ready, in any order.
fn replies(said: &[u8]) -> Vec<String> {
    let mut buffer = BytesMut::from(said);
    let mut replies = Vec::new();
    if said.starts_with(&[0]) {
        let mut codec = length_delimited();
        while let Some(json) = codec.decode(&mut buffer).expect("replies are frames") {
            replies.push(String::from_utf8_lossy(&json).into_owned());
        }
    }
    replies.extend(buffer.split_inclusive(|byte| *byte == b'\n').map(|line| line.escape_ascii().to_string()));
    replies.sort();
    replies
}

fn answered(stream: &[u8], piece: usize) -> Vec<u8> {
    talk(stream, piece, |port, listener, stop| async move {
        let config = Arc::new(config());
        let me = ReplicaId(1);
        let (sender, mut events) = mpsc::channel(16);
        let epoch = watch::Sender::new(Epoch(1));
        let links = LinkConfig {
            config: config.clone(),
            me,
            network: Arc::new(Nowhere),
            incarnation: Incarnation(7),
            seed: 1,
            random: Random::of(|| 1),
        };
        let links = Links::start(links, sender, epoch.subscribe());
        let heard = async { while events.recv().await.is_some() {} };
        let service = Arc::new(Service::new(port, config, me));
        tokio::select! {
            () = heard => {}
            () = serve(listener, service, links.acceptor(), stop) => {}
        }
    })
}
