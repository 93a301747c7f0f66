//! What can be wrong with a configuration. Each error is one line: which file and key (or flag, or variable), what was
//! found there, and what to write instead.

use std::fmt;
use std::path::PathBuf;

use super::address::AddressError;
use super::secret::{SecretError, SecretFileError};
use super::tls::TlsError;

/// Most characters of a wrong value that an error shows.
const FOUND_CHARS_MAX: usize = 80;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error(
        "there is no file {}; name another by --config PATH, or make it, for instance: {{ \"service\": 9988, \
         \"sync\": \"remote-write\", \"replicas\": [\"127.0.0.1:10000\", \"127.0.0.1:20000\", \"127.0.0.1:30000\"] }}",
        .0.display()
    )]
    NoFile(PathBuf),
    /// The file is there, but cannot be read.
    #[error("cannot read {}: {source}; make it readable, or name another by --config PATH", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is longer than any configuration.
    #[error("{} is over {max} bytes, so it is no configuration; name the right file by --config PATH", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// What is read at most, in bytes.
        max: u64,
    },
    /// The file is no JSON object; the cause names line and column.
    #[error("{}: {source}; write one JSON object", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What was wrong where.
        source: serde_json::Error,
    },
    /// A key that does not exist.
    #[error("{place} is no key; the nearest is `{nearest}`: write that, or leave it out")]
    UnknownKey {
        /// The key.
        place: Place,
        /// The known key that differs least.
        nearest: String,
    },
    /// A key twice in one object.
    #[error("{0} is there twice; leave one out")]
    DuplicateKey(Place),
    /// A required key that is given nowhere.
    #[error("{place} is missing; write {example}")]
    Missing {
        /// Where it is expected.
        place: Place,
        /// How to write it.
        example: &'static str,
    },
    /// A value that does not fit its key.
    #[error("{place} is {found}; {remedy}")]
    Value {
        /// Whose value.
        place: Place,
        /// The value, as written.
        found: Found,
        /// What to write instead.
        remedy: String,
    },
    /// A replica's address that is none.
    #[error("{place} is {found}; it {source}")]
    Address {
        /// Which element of the list.
        place: Place,
        /// The text.
        found: Found,
        /// What is wrong with it, and what to write.
        source: AddressError,
    },
    /// A secret in the environment that is none. It is not shown.
    #[error("{place}: {source}")]
    Secret {
        /// Where it was given.
        place: Place,
        /// What a secret is.
        source: SecretError,
    },
    /// A file with secrets that cannot be used.
    #[error("{place}: {} {source}", path.display())]
    SecretFile {
        /// Which key names it.
        place: Place,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: SecretFileError,
    },
    /// A file of `tls` that cannot be used.
    #[error("{place}: {} {source}", path.display())]
    TlsFile {
        /// Which key names it.
        place: Place,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<TlsError>,
    },
    /// A secret in the environment and one in a file: one of them must be wrong.
    #[error("`PRIMACY_SECRET` and {0} are both given; leave one out")]
    TwoSecrets(Place),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This file.
    File(PathBuf),
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

/// A key, or an element of its list, in the place where it was given; shown as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where the key was given.
    pub origin: Origin,
    /// The key as in config.json, with a dot where it is nested.
    pub key: String,
    /// Which element of its list, from 0.
    pub item: Option<usize>,
}

impl Place {
    /// This key's element at `item`, from 0.
    pub(super) fn at(&self, item: usize) -> Place {
        Place { item: Some(item), ..self.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys inside another one have no flag of their own.
        let (outer, inner) = match self.key.split_once('.') {
            Some((outer, inner)) => (outer, Some(inner)),
            None => (self.key.as_str(), None),
        };
        let name = match &self.origin {
            Origin::File(path) => {
                let item = self.item.map(|item| format!("[{item}]")).unwrap_or_default();
                return write!(f, "{}: `{}{item}`", path.display(), escaped(&self.key));
            }
            Origin::Environment => variable(outer),
            Origin::Flag => format!("--{}", flag(outer)),
        };
        match (inner, self.item) {
            (Some(inner), _) => write!(f, "`{}` in `{name}`", escaped(inner)),
            (None, Some(item)) => write!(f, "item {} of `{name}`", item + 1),
            (None, None) => write!(f, "`{name}`"),
        }
    }
}

/// The flag that gives `key`, without its hyphens in front.
pub fn flag(key: &str) -> String {
    match key {
        // A person types this one often.
        "link_delay_ms" => "link-delay".to_owned(),
        _ => key.replace('_', "-"),
    }
}

/// The environment variable that gives `key`.
pub fn variable(key: &str) -> String {
    format!("PRIMACY_{}", key.to_uppercase())
}

/// A value as it was found; shown on one line, and cut where it is long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found(pub String);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("empty");
        }
        match self.0.char_indices().nth(FOUND_CHARS_MAX) {
            Some((cut, _)) => write!(f, "{}…", escaped(&self.0[..cut])),
            None => f.write_str(&escaped(&self.0)),
        }
    }
}

/// The text on one line: control characters as their escapes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_debug()),
            false => out.push(c),
        }
    }
    out
}

/// Of `known`, the one that differs least from `wrong`, the first where several do.
pub(super) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> &'a str {
    // Longer texts are far from every key; their distance need not be exact.
    let wrong: Vec<char> = wrong.to_lowercase().replace('-', "_").chars().take(FOUND_CHARS_MAX).collect();
    known.into_iter().min_by_key(|candidate| distance(&wrong, candidate)).unwrap_or_default()
}

/// How many characters must be inserted, removed or replaced to make `to` of `from` (Levenshtein).
fn distance(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (line, target) in to.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, source) in from.iter().enumerate() {
            let replaced = diagonal + usize::from(*source != target);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[from.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        let known = ["service", "sync", "replicas", "min_in_sync", "failure_timeout_ms", "links", "link_delay_ms"];
        let cases = [
            ("sinc", "sync"),
            ("Services", "service"),
            ("replica", "replicas"),
            ("min-in-sync", "min_in_sync"),
            ("failureTimeoutMs", "failure_timeout_ms"),
            ("link_delay", "link_delay_ms"),
        ];
        for (wrong, right) in cases {
            assert_eq!(nearest(wrong, known), right, "{wrong}");
        }
    }

    #[test]
    fn what_was_found_stays_on_one_short_line() {
        assert_eq!(Found("a\nb\u{1b}[31m".to_owned()).to_string(), "a\\nb\\u{1b}[31m");
        assert_eq!(Found("ä".repeat(81)).to_string(), format!("{}…", "ä".repeat(80)));
        assert_eq!(Found(String::new()).to_string(), "empty");
    }
}
