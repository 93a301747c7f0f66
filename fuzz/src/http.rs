//! HTTP on the service port: head, body, and what is answered.

use std::sync::Arc;

use primacy::http::{Service, serve};
use primacy::protocol::ids::ReplicaId;

use super::answers;
use super::talk::{config, talk};

/// It comes only where the body does not come by itself.
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// The first byte says how long the pieces are; the rest is what a client sends.
pub fn run(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let whole = answered(stream, usize::MAX);
    let pieces = answered(stream, 1 + usize::from(*piece));
    assert_eq!(pieces, whole, "the pieces make a difference");
}

/// All that is answered, without the date and what only says that the body may come.
fn answered(stream: &[u8], piece: usize) -> String {
    let said = talk(stream, piece, |port, listener, stop| {
        serve(listener, Arc::new(Service::new(port, Arc::new(config()), ReplicaId(1))), stop)
    });
    // An answer to HEAD tells the length of what is not there.
    if !stream.windows(4).any(|word| word == b"HEAD") {
        answers::read_all(&said).unwrap_or_else(|fault| panic!("{fault} in {}", said.escape_ascii()));
    }
    let said = String::from_utf8_lossy(&said).replace(CONTINUE, "");
    said.split("\r\n").filter(|line| !line.starts_with("Date: ")).collect::<Vec<_>>().join("\r\n")
}
