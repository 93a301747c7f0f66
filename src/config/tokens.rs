//! The tokens by which clients show that they may ask.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// Fewest characters of a token: who may try as often as the network carries guesses no 16 random ones.
const TOKEN_CHARS_MIN: usize = 16;

/// Most characters of a token.
const TOKEN_CHARS_MAX: usize = 256;

/// Most tokens at a time: one for each kind of client, and twice as many while they are exchanged.
const TOKENS_MAX: usize = 64;

/// Every token that is accepted. They are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    first: Arc<str>,
    /// SHA-256 of each. Their comparison tells nothing of the tokens, however long it takes.
    digests: Arc<[[u8; 32]]>,
}

/// A text that holds no [`Tokens`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tokens are 1 to {TOKENS_MAX}, one a line, each {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} letters, digits or -._~+/=; \
     make one by `openssl rand -hex 32`"
)]
pub struct TokensError;

impl FromStr for Tokens {
    type Err = TokensError;

    /// One token a line; white space around it is no part of it, and empty lines are none.
    fn from_str(text: &str) -> Result<Tokens, TokensError> {
        let tokens: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        // As Authorization takes them (RFC 6750 section 2.1).
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let fits =
            |token: &&str| (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) && token.bytes().all(plain);
        match tokens.first() {
            Some(first) if tokens.len() <= TOKENS_MAX && tokens.iter().all(fits) => Ok(Tokens {
                first: Arc::from(*first),
                digests: tokens.iter().map(|token| Sha256::digest(token).into()).collect(),
            }),
            _ => Err(TokensError),
        }
    }
}

impl Tokens {
    /// Whether this is one of them. How long it takes tells neither which one it is like, nor how much of it.
    pub fn allow(&self, token: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(token).into();
        let differs = |known: &[u8; 32]| known.iter().zip(&given).fold(0, |differ, (a, b)| differ | (a ^ b)) != 0;
        self.digests.iter().filter(|known| !differs(known)).count() > 0
    }

    /// The one that programs of ours show.
    pub fn first(&self) -> &str {
        &self.first
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.digests.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_token_and_nothing_else_is() {
        let tokens: Tokens = "0123456789abcdef\n\n  AZaz09-._~+/12==\r\n".parse().unwrap();
        assert!(tokens.allow(b"0123456789abcdef") && tokens.allow(b"AZaz09-._~+/12=="));
        assert_eq!(tokens.first(), "0123456789abcdef");
        for wrong in ["", "0123456789abcde", "0123456789abcdefg", "0123456789ABCDEF", "0123456789abcdef\n"] {
            assert!(!tokens.allow(wrong.as_bytes()), "{wrong}");
        }
        assert!(!format!("{tokens:?}").contains("0123"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let many = "0123456789abcdef\n".repeat(65);
        for wrong in ["", "\n", "short", "0123456789abcdef ghijklmnopqrstuv", "0123456789abcdeä", &many] {
            assert_eq!(wrong.parse::<Tokens>(), Err(TokensError), "{wrong}");
        }
    }
}
