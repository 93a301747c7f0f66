//! The seam to the network: the only names of sockets that the program uses, so that a simulation can bring its own.
//!
//! A replica dials through a [`Network`], accepts from a [`Listener`], and talks over a [`Stream`], whoever made it. A call
//! through a table is nothing beside the system call behind it.

pub mod tls;

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

pub use tokio::net::{TcpListener, TcpStream};

/// One end of a connection, of whatever kind.
pub type Stream = Box<dyn Socket>;

/// What tells one encrypted connection from every other, at both of its ends alike, and to nobody else.
pub type Binding = [u8; 32];

/// What a connection can do beside carrying bytes.
pub trait Socket: AsyncRead + AsyncWrite + Debug + Send + Unpin {
    /// Sends what is written at once: every write of ours is whole, and waiting for more would only delay it.
    fn set_nodelay(&self) -> io::Result<()>;
    /// Breaks the connection once what was written has not arrived for so long. Without it the system tries for a quarter of
    /// an hour, ever more seldom, so that even after a healed cut nothing would come for up to two minutes.
    /// Of no use to connections within a process, which cannot be cut.
    fn break_after(&self, _wait: Duration) -> io::Result<()> {
        Ok(())
    }
    /// The address of this end.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// The address of the other end.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    /// What tells it from every other one; none where it is not encrypted.
    fn binding(&self) -> Option<Binding> {
        None
    }
}

/// Where connections to other replicas are opened.
pub trait Network: Debug + Send + Sync {
    /// Opens a connection to a host, by address or name.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Stream>>;
}

/// Where connections come in.
pub trait Listener: Debug + Send {
    /// Waits for the next one, and says from where it comes. May be dropped and called again: none is lost.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;
}

/// The system's network.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNetwork;

impl Network for SystemNetwork {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            Ok(Box::new(stream) as Stream)
        })
    }
}

impl Socket for TcpStream {
    fn set_nodelay(&self) -> io::Result<()> {
        TcpStream::set_nodelay(self, true)
    }

    /// Where the system has no such option (RFC 5482 describes it), the connection lasts as long as the system has it.
    fn break_after(&self, wait: Duration) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::net::sockopt::set_tcp_user_timeout(self, u32::try_from(wait.as_millis()).unwrap_or(u32::MAX))?;
        #[cfg(not(target_os = "linux"))]
        let _ = wait;
        Ok(())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::local_addr(self)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::peer_addr(self)
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = TcpListener::accept(self).await?;
            Ok((Box::new(stream) as Stream, from))
        })
    }
}

impl Listener for Box<dyn Listener> {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        self.as_mut().accept()
    }
}
