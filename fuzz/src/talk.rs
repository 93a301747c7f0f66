//! One connection to a listener, all in memory and in simulated time: the bytes go in, what comes back comes out.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, join, pending};
use primacy::config::{Address, Config, Mode};
use primacy::net::{Listener, Network, Socket, Stream};
use primacy::protocol::port::Port;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex, split};
use tokio::sync::watch;

use super::replica::FakeReplica;

/// Bytes in either direction that wait to be read.
const ROOM_BYTES: usize = 64 * 1024;

/// Most pieces that one input is cut into: each of them takes a millisecond of simulated time.
const PIECES_MAX: usize = 64;

/// Sends `data` in pieces of about this length to the listener that `serve` begins to serve, and returns all that comes
/// back until the listener closes.
pub(crate) fn talk<F>(
    data: &[u8],
    piece: usize,
    serve: impl FnOnce(Port, OneConnection, watch::Receiver<bool>) -> F,
) -> Vec<u8>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can be built").block_on(async {
        let (_replica, port) = FakeReplica::start();
        let (near, far) = duplex(ROOM_BYTES);
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(serve(port, OneConnection(Some(Box::new(End(far)))), stopped));
        let (mut reader, mut writer) = split(near);
        let send = async {
            for piece in data.chunks(piece.max(data.len().div_ceil(PIECES_MAX)).max(1)) {
                // A listener may close before it has read everything.
                if writer.write_all(piece).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let _ = writer.shutdown().await;
        };
        let mut said = Vec::new();
        let (read, ()) = join(reader.read_to_end(&mut said), send).await;
        read.expect("memory can be read");
        said
    })
}

/// Two replicas, of which the second is the one that listens.
pub(crate) fn config() -> Config {
    let replicas = vec![Address::new("127.0.0.1", 10_000), Address::new("127.0.0.1", 20_000)];
    Config::new(Mode::RemoteWrite, replicas, 9_988)
}

/// A listener to which somebody comes once.
#[derive(Debug)]
pub(crate) struct OneConnection(Option<Stream>);

impl Listener for OneConnection {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async {
            match self.0.take() {
                Some(stream) => Ok((stream, somewhere())),
                None => pending().await,
            }
        })
    }
}

/// Where nobody can be reached.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl Network for Nowhere {
    fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(pending())
    }
}

fn somewhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000))
}

/// One end of a pipe.
#[derive(Debug)]
struct End(DuplexStream);

impl Socket for End {
    fn set_nodelay(&self) -> io::Result<()> {
        Ok(())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(somewhere())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(somewhere())
    }
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
