//! ETags: `"EPOCH-COUNTER"`, and the lists of them in If-Match and If-None-Match (RFC 9110 sections 8.8.3 and 13.1).

use crate::protocol::ids::{Epoch, Version};
use crate::protocol::request::IF_MATCH_MAX;

/// The value of If-Match or If-None-Match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// `*`: any note that exists.
    Any,
    /// Those that can be ours; others match nothing.
    These(Vec<Tag>),
}

/// One ETag that has our form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    version: Version,
    weak: bool,
}

/// A malformed or overlong list of ETags.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadTags;

impl Tags {
    /// Reads the values of all fields of one name; none where there is no such field.
    pub(crate) fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Option<Tags>, BadTags> {
        let mut seen = 0;
        let mut any = false;
        let mut tags = Vec::new();
        for value in values {
            let mut rest = skip_separators(value);
            if rest.is_empty() {
                return Err(BadTags);
            }
            while !rest.is_empty() {
                seen += 1;
                rest = match rest.strip_prefix(b"*") {
                    Some(behind) => {
                        any = true;
                        behind
                    }
                    None => {
                        let (tag, behind) = take_tag(rest)?;
                        tags.extend(tag);
                        behind
                    }
                };
                let next = skip_separators(rest);
                if (next.len() == rest.len() && !rest.is_empty()) || seen > IF_MATCH_MAX || (any && seen > 1) {
                    return Err(BadTags);
                }
                rest = next;
            }
        }
        Ok((seen > 0).then_some(if any { Tags::Any } else { Tags::These(tags) }))
    }

    /// The versions that a strong comparison can match; none where any does (RFC 9110 section 13.1.1).
    pub(crate) fn strong(self) -> Option<Vec<Version>> {
        match self {
            Tags::Any => None,
            Tags::These(tags) => Some(tags.iter().filter(|tag| !tag.weak).map(|tag| tag.version).collect()),
        }
    }

    /// Whether a weak comparison matches `version` (section 13.1.2).
    pub(crate) fn contain(&self, version: Version) -> bool {
        match self {
            Tags::Any => true,
            Tags::These(tags) => tags.iter().any(|tag| tag.version == version),
        }
    }
}

fn skip_separators(text: &[u8]) -> &[u8] {
    let separators = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b',')).count();
    &text[separators..]
}

/// One entity tag, whoever made it, and what stands behind it.
fn take_tag(text: &[u8]) -> Result<(Option<Tag>, &[u8]), BadTags> {
    let (weak, text) = match text.strip_prefix(b"W/") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let text = text.strip_prefix(b"\"").ok_or(BadTags)?;
    let end = memchr::memchr(b'"', text).ok_or(BadTags)?;
    let (opaque, behind) = (&text[..end], &text[end + 1..]);
    match opaque.iter().all(|byte| matches!(byte, b'!'..=b'~' | 0x80..)) {
        true => Ok((version(opaque).map(|version| Tag { version, weak }), behind)),
        false => Err(BadTags),
    }
}

fn version(opaque: &[u8]) -> Option<Version> {
    let (epoch, counter) = std::str::from_utf8(opaque).ok()?.split_once('-')?;
    Some(Version { epoch: Epoch(decimal(epoch)?), counter: decimal(counter)? })
}

/// A number as we print it: digits only, without leading zeros, so that each number has one text.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
