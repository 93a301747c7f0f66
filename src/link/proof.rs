//! How two replicas prove to each other that they hold the same secret, without I/O.
//!
//! ```text
//!  dialer                                     accepter
//!    | hello, with a fresh nonce                  |
//!    |------------------------------------------->|
//!    |     hello, with a fresh nonce of its own   |
//!    |     proof: role `accepter`, both hellos    |
//!    |<-------------------------------------------|  nothing is believed yet
//!    | proof: role `dialer`, both hellos          |
//!    |------------------------------------------->|  frames may follow in the same write
//! ```
//!
//! A proof is HMAC-SHA256 (RFC 2104) under the secret, over four parts, each behind its length: what this is, the
//! prover's role, the dialer's hello and the accepter's. The hellos go in byte by byte as they were sent, so that
//! everything in them is proved: version, addresses, incarnations, kind of link, configuration, places in the numbering,
//! both nonces. A proof so is good for one connection and one end of it: said again it meets another nonce, and said back
//! another role.
//!
//! On an encrypted connection the fifth part is its [`Binding`], which is another one where somebody stands in between,
//! decrypts and encrypts again: not even who has a certificate of a replica can do that unnoticed.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::Secret;
use crate::net::Binding;
use crate::protocol::message::{Mac, Proof};

/// The first part: another version of the proof, or another use of the same secret, begins otherwise.
const PURPOSE: &[u8] = b"primacy link proof 1";

/// Which end proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It made the connection, and says hello first.
    Dialer,
    /// It took the connection.
    Accepter,
}

/// The JSON of both hellos, as it was sent, and the connection on which it was.
#[derive(Clone, Copy, Debug)]
pub struct Hellos<'a> {
    /// The dialer's.
    pub dialer: &'a [u8],
    /// The accepter's.
    pub accepter: &'a [u8],
    /// What tells the connection from every other, where it is encrypted.
    pub binding: Option<Binding>,
}

impl Hellos<'_> {
    /// That this role's end holds the secret.
    pub fn prove(self, secret: &Secret, role: Role) -> Proof {
        Proof { mac: Mac(self.hmac(secret, role).finalize().into_bytes().into()) }
    }

    /// Whether the other end, in this role, holds the secret. Takes as long for a wrong proof as for a right one.
    pub fn are_proved(self, secret: &Secret, role: Role, proof: &Proof) -> bool {
        self.hmac(secret, role).verify_slice(&proof.mac.0).is_ok()
    }

    fn hmac(self, secret: &Secret, role: Role) -> Hmac<Sha256> {
        let role: &[u8] = match role {
            Role::Dialer => b"dialer",
            Role::Accepter => b"accepter",
        };
        let mut hmac = Hmac::new_from_slice(secret.bytes()).expect("HMAC takes keys of every length");
        let parts = [PURPOSE, role, self.dialer, self.accepter];
        for part in parts.into_iter().chain(self.binding.as_ref().map(<[u8; 32]>::as_slice)) {
            hmac.update(&(part.len() as u64).to_be_bytes());
            hmac.update(part);
        }
        hmac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLOS: Hellos<'_> = Hellos { dialer: b"{\"a\":1}", accepter: b"{\"b\":2}", binding: None };

    fn secret(text: &str) -> Secret {
        text.parse().unwrap()
    }

    fn ours() -> Secret {
        secret("0123456789abcdef0123456789abcdef")
    }

    #[test]
    fn a_proof_is_good_for_its_secret_its_role_and_its_hellos_only() {
        let proof = HELLOS.prove(&ours(), Role::Dialer);
        assert!(HELLOS.are_proved(&ours(), Role::Dialer, &proof));
        assert!(!HELLOS.are_proved(&ours(), Role::Accepter, &proof), "reflected");
        assert!(!HELLOS.are_proved(&secret("0123456789abcdef0123456789abcdeg"), Role::Dialer, &proof));
        for (dialer, accepter) in [
            (&b"{\"a\":2}"[..], HELLOS.accepter),
            (HELLOS.dialer, b"{\"b\":1}"),
            (HELLOS.accepter, HELLOS.dialer),
            // The same bytes, cut elsewhere.
            (b"{\"a\":1}{", b"\"b\":2}"),
        ] {
            assert!(!Hellos { dialer, accepter, binding: None }.are_proved(&ours(), Role::Dialer, &proof));
        }
        let encrypted = |byte| Hellos { binding: Some([byte; 32]), ..HELLOS };
        assert!(!encrypted(1).are_proved(&ours(), Role::Dialer, &proof), "on another connection");
        let proof = encrypted(1).prove(&ours(), Role::Dialer);
        assert!(encrypted(1).are_proved(&ours(), Role::Dialer, &proof));
        assert!(!encrypted(2).are_proved(&ours(), Role::Dialer, &proof), "passed on by somebody in between");
        assert!(!HELLOS.are_proved(&ours(), Role::Dialer, &proof));
    }

    #[test]
    fn every_bit_of_a_proof_counts() {
        let proof = HELLOS.prove(&ours(), Role::Accepter);
        for bit in 0..256 {
            let mut wrong = proof;
            wrong.mac.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!HELLOS.are_proved(&ours(), Role::Accepter, &wrong), "bit {bit}");
        }
    }
}
