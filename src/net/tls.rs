//! TLS around a [`Stream`]: the handshake of either end, and a socket that then carries bytes as the one below it does.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{Binding, Socket, Stream};
use crate::config::{Authority, Tls};

/// How every TLS connection begins: the type of the record with its first message (RFC 8446 section 5.1).
pub const FIRST_BYTE: u8 = 0x16;

/// What two ends of one connection both know, and nobody between two connections can make equal (RFC 9266 section 2).
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Does the handshake with who has connected, whose [`FIRST_BYTE`] was read. It takes as long as the other end likes:
/// give it a deadline.
pub async fn accept(tls: &Tls, stream: Stream) -> io::Result<Stream> {
    // One byte is less than any message, so that the rest is still waited for; and reading from memory does not fail.
    let put_back = |session: &mut rustls::ServerConnection| drop(session.read_tls(&mut &[FIRST_BYTE][..]));
    let stream = TlsAcceptor::from(tls.server().clone()).accept_with(stream, put_back).await?;
    Ok(Box::new(TlsSocket(stream.into())))
}

/// Does the handshake with the one that was called, which must prove to be `host`, an IP address or a name. It takes as
/// long as the other end likes: give it a deadline.
pub async fn connect(authority: &Authority, host: &str, stream: Stream) -> io::Result<Stream> {
    let name =
        ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connecting = TlsConnector::from(authority.client().clone()).connect(name, stream);
    let stream = connecting.await.map_err(|error| told(&error, host))?;
    Ok(Box::new(TlsSocket(stream.into())))
}

/// What went wrong in a handshake, in words that say what to do.
fn told(error: &io::Error, host: &str) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let text = match inner {
        Some(rustls::Error::InvalidMessage(_)) => "it speaks no TLS; have it and this end speak the same".to_owned(),
        Some(error @ rustls::Error::InvalidCertificate(_)) => {
            format!("TLS: {error}; it needs a certificate that names {host}, signed by an authority that is known here")
        }
        _ if error.kind() == io::ErrorKind::UnexpectedEof => "it closed the connection in the TLS handshake".to_owned(),
        _ => format!("TLS: {error}"),
    };
    io::Error::new(error.kind(), text)
}

/// A socket that encrypts what it is given, and gives what it has decrypted.
///
/// As with a plain one, what is written goes out by itself, nobody need flush. What the socket below has no room for,
/// less than rustls's bound of 64 KiB, goes out when this is next read from, written to or shut down.
#[derive(Debug)]
struct TlsSocket(TlsStream<Stream>);

impl TlsSocket {
    /// Sends on what there was no room for. That there still is none is no matter: the task is woken when there is.
    fn push(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.0.get_ref().1.wants_write()
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.0).poll_flush(cx)
        {
            return Err(error);
        }
        Ok(())
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.push(cx)?;
        match ready!(Pin::new(&mut self.0).poll_read(cx, buf)) {
            // Closed without a word (RFC 9112 section 9.8). All that is said here shows by itself where it ends, so that
            // nobody takes a part for the whole.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Socket for TlsSocket {
    fn set_nodelay(&self) -> io::Result<()> {
        self.0.get_ref().0.set_nodelay()
    }

    fn break_after(&self, wait: Duration) -> io::Result<()> {
        self.0.get_ref().0.break_after(wait)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().0.local_addr()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().0.peer_addr()
    }

    fn binding(&self) -> Option<Binding> {
        // Before 1.3 it is not always sure to be of one connection only (RFC 9266 section 3).
        if self.0.get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return None;
        }
        let made = match &self.0 {
            TlsStream::Client(stream) => stream.get_ref().1.export_keying_material([0; 32], BINDING_LABEL, Some(b"")),
            TlsStream::Server(stream) => stream.get_ref().1.export_keying_material([0; 32], BINDING_LABEL, Some(b"")),
        };
        made.ok()
    }
}

#[cfg(test)]
mod tests;
