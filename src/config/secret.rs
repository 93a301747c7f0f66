//! The secret by which replicas prove themselves to each other, and how files with secrets are read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::tokens::{Tokens, TokensError};

/// Fewest characters of a secret: 32 hex digits are 128 random bits. Whoever sees a connection begin can try secrets in
/// peace, so a short one, or one that a person made up, is none.
pub const SECRET_CHARS_MIN: usize = 32;

/// Most characters of a secret.
pub(super) const SECRET_CHARS_MAX: usize = 1024;

/// The cluster's secret. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// A text that is no [`Secret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret has {SECRET_CHARS_MIN} to {SECRET_CHARS_MAX} visible ASCII characters and no space; make one by `openssl \
     rand -hex 32`"
)]
pub struct SecretError;

impl FromStr for Secret {
    type Err = SecretError;

    /// White space around it, such as a file's last newline, is no part of it.
    fn from_str(text: &str) -> Result<Secret, SecretError> {
        let text = text.trim();
        let fits = (SECRET_CHARS_MIN..=SECRET_CHARS_MAX).contains(&text.len());
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits && plain { Ok(Secret(text.into())) } else { Err(SecretError) }
    }
}

impl Secret {
    /// The key of the proofs.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Most bytes of a file with secrets.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a file with secrets is not used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It is not there, or not for us.
    #[error("cannot be read: {0}; make it, readable by the user that runs Primacy")]
    Unreadable(#[from] io::Error),
    /// Others may read or change it, as its mode says.
    #[error("is open to every user of this host (mode {0:03o}), so it holds no secret; close it with `chmod 600`")]
    Open(u32),
    /// It is far too long.
    #[error("is over {FILE_BYTES_MAX} bytes, so it is another file; name the right one")]
    TooLong,
    /// It holds no secret.
    #[error("holds no secret: {0}")]
    Secret(#[from] SecretError),
    /// It holds no tokens.
    #[error("holds no tokens: {0}")]
    Tokens(#[from] TokensError),
}

/// Reads a file with tokens.
pub fn read_tokens(path: &Path) -> Result<Tokens, SecretFileError> {
    Ok(read(path)?.parse()?)
}

/// Reads a text file that nobody but its owner and group may read.
pub(super) fn read(path: &Path) -> Result<String, SecretFileError> {
    let file = File::open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(SecretFileError::Open(mode));
        }
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX { Err(SecretFileError::TooLong) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_plain_and_never_shown() {
        let text = "0123456789abcdef0123456789abcdef";
        let secret: Secret = text.parse().unwrap();
        assert_eq!(format!(" {text}\r\n").parse(), Ok(secret.clone()), "white space around it is no part of it");
        assert_eq!(secret.bytes(), text.as_bytes());
        assert!(!format!("{secret:?}").contains("0123"));
        for wrong in ["", &text[1..], &format!("{text} {text}"), &format!("{text}ä"), &"a".repeat(1025)] {
            assert_eq!(wrong.parse::<Secret>(), Err(SecretError), "{wrong}");
        }
    }
}
