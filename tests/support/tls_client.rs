//! A client that speaks TLS and trusts one authority.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

use crate::cluster::{Answer, Cluster, PATIENCE, ask};

/// An encrypted connection.
pub(crate) type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// How to speak TLS of this version to who is signed by the authority in this file.
pub(crate) fn trusting(ca: &Path, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("the file is there") {
        roots.add(certificate.expect("it is PEM")).expect("it is a certificate");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[version]).expect("the provider knows the version");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A connection whose handshake is done by the first read or write.
pub(crate) fn dial(address: &str, config: Arc<ClientConfig>) -> io::Result<Encrypted> {
    let host = address.rsplit_once(':').expect("an address has a port").0;
    let name = ServerName::try_from(host.to_owned()).expect("hosts of tests are IP addresses");
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(session, socket))
}

/// A connection to who is signed by the cluster's authority, `ca.pem` in its folder.
pub(crate) fn dial_in(cluster: &Cluster, address: &str) -> io::Result<Encrypted> {
    dial(address, trusting(&cluster.folder.path().join("ca.pem"), &version::TLS13))
}

/// One request on a connection of its own. That its end is told is part of the answer: without, this is an error.
pub(crate) fn https(cluster: &Cluster, place: usize, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let service = cluster.service(place);
    ask(&mut dial_in(cluster, &service)?, &service, method, path, &[], body)
}
