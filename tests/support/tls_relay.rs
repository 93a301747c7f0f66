//! Somebody in between: has a certificate of the host that is called, decrypts what the caller says, and says it to the
//! real one over a connection of its own.

use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Takes connections at `at`, each of which it passes on to `to`, for as long as this is polled. `name` is the one that both
/// the certificates, its own `replica.pem` in the folder and that of the real one, are for.
pub(crate) async fn relay(listener: TcpListener, to: String, name: String, folder: &Path, trusted: Arc<ClientConfig>) {
    let chain = vec![CertificateDer::from_pem_file(folder.join("replica.pem")).expect("it is PEM")];
    let key = PrivateKeyDer::from_pem_file(folder.join("replica.key")).expect("it is PEM");
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("the provider knows them").with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).expect("they fit")));
    let connector = TlsConnector::from(trusted);
    let name = ServerName::try_from(name).expect("hosts of tests are IP addresses");
    loop {
        let (near, _) = listener.accept().await.expect("connections can be accepted");
        let (acceptor, connector, name, to) = (acceptor.clone(), connector.clone(), name.clone(), to.clone());
        tokio::spawn(async move {
            let mut near = acceptor.accept(near).await?;
            let mut far = connector.connect(name, TcpStream::connect(to).await?).await?;
            tokio::io::copy_bidirectional(&mut near, &mut far).await
        });
    }
}
