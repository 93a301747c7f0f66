//! One connection to a replica's address: what it speaks, and whether it is a client or a link.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Service;
use super::client::Client;
use super::exchange::{Exchange, write_frame};
use super::input::{Input, READ_BYTES, Speech};
use crate::accept::{Secured, Visitor, part, secure};
use crate::link::LinkAcceptor;
use crate::net::Stream;
use crate::net::tls::FIRST_BYTE;
use crate::protocol::client;
use crate::protocol::codec;
use crate::protocol::request::{Code, Failure};
use crate::rest::error_body;

/// How long a request may take to come in whole, from its first byte, in ms. The first must begin in this time, too.
pub const FRAME_MS_MAX: u64 = 30_000;

/// How long a replica may take to say hello where there is room for replicas only, in ms.
const HELLO_MS_MAX: u64 = 5_000;

/// How long a client may take to read why its connection ends, in ms.
const LAST_WORDS_MS: u64 = 1_000;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All was answered.
    Finished,
    /// It spoke something else, was out of step, or one too many; it was told so.
    Refused,
    /// A request was not complete in time, or nothing came for too long.
    Late,
    /// The client reset it, or did not read its replies in time.
    Lost,
    /// It said nothing before the replica stopped.
    Stopped,
    /// It is a link, and no client.
    Link,
}

/// What a connection begins with.
enum Beginning {
    /// A replica's hello, and what came after it.
    Hello(BytesMut, BytesMut),
    /// A client's requests.
    Requests(Input),
    /// Something that is answered and closed.
    Foreign(Vec<u8>),
}

/// Serves a connection until it ends, or is a link.
pub(super) async fn run(visitor: Visitor, service: Arc<Service>, links: LinkAcceptor, stop: watch::Receiver<bool>) {
    let Visitor { stream, number, place } = visitor;
    let end = serve(stream, place.is_some(), service, links, stop).await;
    tracing::debug!(number, ?end, "a connection to the replica's address ended");
    drop(place);
}

/// `welcome` tells whether there is room for a client; else only a replica is heard.
async fn serve(
    mut stream: Stream,
    welcome: bool,
    service: Arc<Service>,
    links: LinkAcceptor,
    mut stop: watch::Receiver<bool>,
) -> End {
    if let Some(tls) = &service.config.tls {
        stream = match secure(stream, tls, &service.config.limits, stop.clone()).await {
            Some(Secured::Tls(stream)) => stream,
            Some(Secured::Plain(mut stream, first)) => return refuse(&mut stream, &no_tls(first, &service.url)).await,
            None => return End::Lost,
        };
    }
    let patience = match welcome {
        true if service.config.tokens.is_some() => service.config.limits.prove_ms,
        true => FRAME_MS_MAX,
        false => HELLO_MS_MAX,
    };
    let beginning = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return End::Stopped,
        begun = timeout(Duration::from_millis(patience), begin(&mut stream, &service)) => begun,
    };
    match beginning {
        // Silence, or half a frame.
        Err(_) => {
            refuse(&mut stream, &last_error(false, &too_late())).await;
            End::Late
        }
        Ok(None) => End::Lost,
        Ok(Some(Beginning::Foreign(answer))) => refuse(&mut stream, &answer).await,
        Ok(Some(Beginning::Hello(hello, rest))) => {
            links.accept(stream, hello, rest);
            End::Link
        }
        Ok(Some(Beginning::Requests(input))) if !welcome => refuse(&mut stream, &too_many(input.is_lines())).await,
        Ok(Some(Beginning::Requests(input))) => {
            let (log, requests) = (service.log.clone(), service.metrics.requests.clone());
            let exchange = Exchange::new(input, service.config.limits.pipeline, log, requests);
            let exchange = exchange.locked_by(service.config.tokens.as_ref());
            Client::new(stream, service, exchange).serve(stop).await
        }
    }
}

/// Reads until it is clear who is there; none where the connection ends before.
async fn begin(stream: &mut Stream, service: &Service) -> Option<Beginning> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut input = loop {
        match buffer.first().map(|first| Speech::of(*first)) {
            None => {}
            Some(Speech::Http) => return Some(Beginning::Foreign(misdirected(&service.url).into_bytes())),
            Some(Speech::Unknown(byte)) => return Some(Beginning::Foreign(unknown(byte))),
            Some(Speech::Lines) => return Some(Beginning::Requests(service.input(true, buffer))),
            Some(Speech::Frames) => break service.input(false, buffer),
        }
        read_some(stream, &mut buffer).await?;
    };
    // The first frame tells a link from a client. It stays where it is until that is known.
    loop {
        match input.peek_frame() {
            Ok(None) => {}
            Ok(Some(json)) if codec::word_of(json).is_ok_and(|word| word == "hello") => {
                let hello = input.next().ok().flatten()?;
                return Some(Beginning::Hello(hello, input.into_rest()));
            }
            Ok(Some(_)) | Err(_) => return Some(Beginning::Requests(input)),
        }
        if input.hold().is_err() {
            return Some(Beginning::Requests(input));
        }
        read_some(stream, input.room()).await?;
    }
}

async fn read_some(stream: &mut Stream, buffer: &mut BytesMut) -> Option<()> {
    matches!(stream.read_buf(buffer).await, Ok(1..)).then_some(())
}

fn unknown(byte: u8) -> Vec<u8> {
    let mut msg = format!("a connection begins with 0x00 (frames) or {{ (JSON lines), and this one with 0x{byte:02x}");
    if byte == FIRST_BYTE {
        msg += ", which is TLS; this replica has no `tls` in its config.json";
    }
    last_error(true, &Failure::new(Code::BadFrame, msg))
}

/// For who comes without TLS where it is needed, by the first byte.
fn no_tls(first: u8, url: &str) -> Vec<u8> {
    let msg = "this replica speaks TLS only, and you do not; connect with TLS (in `primacy call` and `primacy monitor` \
               --ca, between replicas `tls` in config.json)";
    match Speech::of(first) {
        Speech::Http => misdirected(url).into_bytes(),
        speech => last_error(speech != Speech::Frames, &Failure::new(Code::BadFrame, msg)),
    }
}

fn too_many(lines: bool) -> Vec<u8> {
    let msg = "this replica has as many connections as it may have; try again later or at another one";
    last_error(lines, &Failure::new(Code::Unavailable, msg))
}

/// An error that is all that is said, in a line or a frame.
fn last_error(lines: bool, failure: &Failure) -> Vec<u8> {
    let mut out = Vec::new();
    if lines {
        client::write_error(&mut out, None, failure);
        out.push(b'\n');
    } else {
        write_frame(&mut out, |out| client::write_error(out, None, failure));
    }
    out
}

fn misdirected(url: &str) -> String {
    let msg = format!("this is a replica's address, which speaks frames; HTTP is at {url}");
    let body = error_body(421, Code::Misdirected, &msg) + "\n";
    let length = body.len();
    format!(
        "HTTP/1.1 421 Misdirected Request\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

pub(super) fn too_late() -> Failure {
    Failure::new(Code::Timeout, format!("the frame was not complete after {FRAME_MS_MAX} ms"))
}

/// Says why, and closes so that it arrives.
pub(super) async fn refuse(stream: &mut Stream, text: &[u8]) -> End {
    // Where the client is gone, or does not read, it loses this.
    if let Ok(Ok(())) = timeout(Duration::from_millis(LAST_WORDS_MS), stream.write_all(text)).await {
        part(stream).await;
    }
    End::Refused
}
