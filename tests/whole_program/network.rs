//! turmoil's network behind the program's seam.
//!
//! turmoil never sends again what a partition ate, so a stream that lost a piece would be silent for good, where TCP would
//! deliver late or give up. Here it gives up: once a partition ends, every connection across it is reset.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use primacy::net::{Listener, Network, Socket, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// All connections of a simulation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Vec<Weak<Wire>>>>);

/// What is known of a connection's end from outside.
#[derive(Debug)]
struct Wire {
    ends: [IpAddr; 2],
    reset: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Connections {
    /// Resets those between two hosts.
    pub(crate) fn reset(&self, a: IpAddr, b: IpAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|wire| wire.strong_count() > 0);
        for wire in all.iter().filter_map(Weak::upgrade).filter(|wire| wire.ends == [a, b] || wire.ends == [b, a]) {
            wire.reset.store(true, Ordering::Relaxed);
            wire.reader.wake();
            wire.writer.wake();
        }
    }

    fn register(&self, stream: TcpStream) -> io::Result<Stream> {
        let ends = [stream.local_addr()?.ip(), stream.peer_addr()?.ip()];
        let wire = Wire { ends, reset: AtomicBool::new(false), reader: AtomicWaker::new(), writer: AtomicWaker::new() };
        let wire = Arc::new(wire);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&wire));
        Ok(Box::new(End { stream, wire }))
    }

    /// Listens on a port of the present host.
    pub(crate) async fn listen(&self, port: u16) -> io::Result<Box<dyn Listener>> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        Ok(Box::new(Door { listener, connections: self.clone() }))
    }
}

impl Network for Connections {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move { self.register(TcpStream::connect((host, port)).await?) })
    }
}

struct Door {
    listener: TcpListener,
    connections: Connections,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

impl Listener for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.listener.accept().await?;
            Ok((self.connections.register(stream)?, from))
        })
    }
}

#[derive(Debug)]
struct End {
    stream: TcpStream,
    wire: Arc<Wire>,
}

impl End {
    fn check(&self, waker: &AtomicWaker, cx: &Context<'_>) -> io::Result<()> {
        waker.register(cx.waker());
        match self.wire.reset.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

impl Socket for End {
    fn set_nodelay(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(&self.wire.reader, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(&self.wire.writer, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
