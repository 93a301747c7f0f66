//! TLS: the certificate that a replica shows to those who connect, and by whose word it believes those it connects to.
//!
//! Certificates, keys and authorities are files in PEM, as every tool writes them. They are read once, at the start.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};

use super::secret::{self, SecretFileError};

/// Most bytes of a file with certificates: the authorities that browsers trust, all together, have a quarter of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a replica with TLS has.
#[derive(Clone)]
pub struct Tls {
    server: Arc<ServerConfig>,
    /// What it shows: its own certificate, then those in between it and the authority.
    chain: Arc<[CertificateDer<'static>]>,
    authority: Authority,
}

/// Who must have signed the certificate of a replica, so that a program that connects to it believes who it is.
#[derive(Clone)]
pub struct Authority {
    path: PathBuf,
    client: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
}

/// Why a file is of no use for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there, or not for us.
    #[error("cannot be read: {0}; make it, readable by the user that runs Primacy")]
    Unreadable(#[from] io::Error),
    /// It is far too long.
    #[error("is over {FILE_BYTES_MAX} bytes, so it is another file; name the right one")]
    TooLong,
    /// The key's file cannot be read, or is everybody's.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// It is not written in PEM.
    #[error("is no PEM file: {0}; write one that was not changed since it was made")]
    Pem(&'static str),
    /// There is no certificate in it.
    #[error("holds no certificate; write a PEM file with a part that begins -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// There is no key in it, or an encrypted one.
    #[error(
        "holds no private key, or an encrypted one; write a PEM file with a part that begins -----BEGIN PRIVATE KEY-----"
    )]
    NoKey,
    /// What is in it is no certificate, or no key, that can be used.
    #[error("cannot be used: {0}; write an X.509 certificate, and a key by ECDSA, Ed25519 or RSA")]
    Unusable(#[from] rustls::Error),
    /// Key and certificate are those of different owners.
    #[error("is not the key of the certificate in `tls.cert`; write the two that were made together")]
    OtherKey,
}

/// Why others would not accept a replica's certificate.
#[derive(Debug, thiserror::Error)]
pub enum Unacceptable {
    /// It is not signed by the authority, not for this host, or not for this time.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    /// A host that no certificate can name.
    #[error("no certificate can name it: {0}")]
    Host(#[from] InvalidDnsNameError),
}

impl Tls {
    /// Reads the certificate with those in between, and its key; `authority` is whom the others believe.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authority: Authority,
    ) -> Result<Tls, TlsError> {
        // Clients may be old; replicas among themselves use 1.3.
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12])?;
        let server =
            builder.with_no_client_auth().with_single_cert(chain.clone(), key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::OtherKey,
                other => TlsError::Unusable(other),
            })?;
        Ok(Tls { server: Arc::new(server), chain: chain.into(), authority })
    }

    /// As it is shown to who connects.
    pub fn server(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    /// Whom this replica believes.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether others, who believe the same authority, will accept the certificate as that of `host`.
    pub fn check(&self, host: &str) -> Result<(), Unacceptable> {
        let name = ServerName::try_from(host)?;
        let (own, between) = self.chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        self.authority.verifier.verify_server_cert(own, between, &name, &[], UnixTime::now())?;
        Ok(())
    }
}

impl Authority {
    /// Reads the certificates of a PEM file. Whoever is signed by one of them, and named as it is called, is believed.
    pub fn read(path: &Path) -> Result<Authority, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(path)? {
            roots.add(certificate)?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let client = builder.with_webpki_verifier(Arc::clone(&verifier)).with_no_client_auth();
        Ok(Authority { path: path.to_owned(), client: Arc::new(client), verifier })
    }

    /// The file that was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As it is used to connect.
    pub fn client(&self) -> &Arc<ClientConfig> {
        &self.client
    }
}

/// Where the arithmetic comes from: not what another crate may have made the default of the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A replica's own certificate, and those in between it and the authority.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = read_certificates(path)?;
    // Else it would be told of the key's file, with which it is used first.
    chain.iter().try_for_each(|certificate| ParsedCertificate::try_from(certificate).map(|_| ()))?;
    Ok(chain)
}

/// All certificates of a file, at least one.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::TooLong);
    }
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(pem_error)?;
    if certificates.is_empty() { Err(TlsError::NoCertificate) } else { Ok(certificates) }
}

/// The first key of a file that nobody but its owner and group may read.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(secret::read(path)?.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey,
        other => pem_error(other),
    })
}

fn pem_error(error: pem::Error) -> TlsError {
    TlsError::Pem(match error {
        pem::Error::MissingSectionEnd { .. } => "a part that begins does not end",
        pem::Error::IllegalSectionStart { .. } => "the first line of a part is broken",
        pem::Error::Base64Decode(_) => "a part is not written in base64",
        _ => "it has parts that can't be read",
    })
}

/// Two are the same where they were read together.
impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        Arc::ptr_eq(&self.server, &other.server)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(…)")
    }
}
