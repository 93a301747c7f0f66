//! An authority, and the certificates that it signs: for tests of TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// Who signs.
pub(crate) struct Issuer(CertifiedIssuer<'static, KeyPair>);

impl Issuer {
    /// A new one, whose certificate is written as `NAME.pem`.
    pub(crate) fn new(folder: &Path, name: &str) -> Issuer {
        let mut params = CertificateParams::new([]).expect("no names are right");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, format!("authority {name} of a test"));
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("it can sign itself");
        fs::write(folder.join(format!("{name}.pem")), issuer.pem()).expect("it is written");
        Issuer(issuer)
    }

    /// Signs a certificate for these hosts, written as `NAME.pem`, and its key as `NAME.key`.
    pub(crate) fn sign(&self, folder: &Path, name: &str, hosts: &[&str]) {
        self.sign_with(folder, name, hosts, |_| {});
    }

    /// The same, with something changed before it is signed.
    pub(crate) fn sign_with(
        &self,
        folder: &Path,
        name: &str,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("the hosts are addresses or names");
        change(&mut params);
        let key = key();
        let certificate = params.signed_by(&key, &self.0).expect("it can be signed");
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("it is written");
        let path = folder.join(format!("{name}.key"));
        fs::write(&path, key.serialize_pem()).expect("it is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a system that runs tests has random numbers")
}
