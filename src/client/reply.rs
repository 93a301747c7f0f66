//! Replies as what they say.

use std::borrow::Cow;

use serde::Deserialize;

use super::error::{Cause, Refusal};
use crate::note::{Note, NoteId};
use crate::protocol::ids::{Epoch, Version};
use crate::protocol::request::Done;
use crate::protocol::status::Status;

/// A note as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its id.
    pub id: NoteId,
    /// Its members.
    pub note: Note,
    /// The version whose write made this content; what `if_match` takes.
    pub version: Version,
}

/// A page of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// The notes, by id.
    pub notes: Vec<(NoteId, Note)>,
    /// Whether there are notes after these.
    pub more: bool,
}

/// The answer to a ping.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Pong {
    /// The address of the replica that answers.
    pub replica: String,
    /// Its epoch, 0 before there is a view.
    pub epoch: Epoch,
    /// The view's primary; none before there is a view.
    pub primary: Option<String>,
    /// Whether the answering replica is in sync.
    pub in_sync: bool,
}

/// Any reply.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Done(Done),
    Note(Found),
    Notes(List),
    Pong(Pong),
    Status(Box<Status>),
    Refused(Refusal),
}

/// The `re` of a reply. Replicas write it behind `type`, which is read at a glance; anywhere else costs a second pass.
pub(super) fn re_of(json: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Re {
        re: u64,
    }
    glance(json).or_else(|| serde_json::from_slice::<Re>(json).ok().map(|re| re.re))
}

/// The number in `{"type":"WORD","re":NUMBER`, where the frame begins just so.
fn glance(json: &[u8]) -> Option<u64> {
    let rest = json.strip_prefix(b"{\"type\":\"")?;
    let end = rest.iter().position(|byte| !byte.is_ascii_lowercase())?;
    let rest = rest[end..].strip_prefix(b"\",\"re\":")?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// Whether a reply is an `error`.
pub(super) fn is_error(json: &[u8]) -> bool {
    matches!(parse(json), Ok(Reply::Refused(_)))
}

/// Understands a reply.
pub(super) fn parse(json: &[u8]) -> Result<Reply, Cause> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct OneNote {
        note: Member,
        version: Version,
    }
    #[derive(Deserialize)]
    struct Notes {
        data: Vec<Member>,
        more: bool,
    }
    let read = || -> serde_json::Result<Option<Reply>> {
        let head: Head<'_> = serde_json::from_slice(json)?;
        Ok(Some(match &*head.r#type {
            "done" => Reply::Done(serde_json::from_slice(json)?),
            "note" => {
                let OneNote { note: Member { id, note }, version } = serde_json::from_slice(json)?;
                Reply::Note(Found { id, note, version })
            }
            "notes" => {
                let Notes { data, more } = serde_json::from_slice(json)?;
                Reply::Notes(List { notes: data.into_iter().map(|member| (member.id, member.note)).collect(), more })
            }
            "pong" => Reply::Pong(serde_json::from_slice(json)?),
            "status" => Reply::Status(serde_json::from_slice(json)?),
            "error" => Reply::Refused(serde_json::from_slice(json)?),
            _ => return Ok(None),
        }))
    };
    match read() {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err(not_understood(json)),
        Err(error) => Err(Cause::NotUnderstood(error.to_string())),
    }
}

/// A reply of another kind than the request asks for.
pub(super) fn not_understood(json: &[u8]) -> Cause {
    let shown: String = String::from_utf8_lossy(json).chars().take(80).collect();
    Cause::NotUnderstood(format!("it is {shown}"))
}

/// A note of a reply, with its id among its members.
struct Member {
    id: NoteId,
    note: Note,
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Member, D::Error> {
        #[derive(Deserialize)]
        struct Members<'a> {
            id: NoteId,
            #[serde(borrow)]
            title: Option<Cow<'a, str>>,
            #[serde(borrow)]
            body: Option<Cow<'a, str>>,
        }
        let Members { id, title, body } = Members::deserialize(deserializer)?;
        let note = Note::new(title.as_deref(), body.as_deref()).map_err(serde::de::Error::custom)?;
        Ok(Member { id, note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_reply_is_read_wherever_it_stands() {
        for (json, re) in [
            (r#"{"type":"done","re":18446744073709551615,"res":200}"#, Some(u64::MAX)),
            (r#"{"type":"pong","re":7}"#, Some(7)),
            (r#"{"re":7,"type":"pong"}"#, Some(7)),
            (r#"{ "type" : "pong", "re" : 7 }"#, Some(7)),
            (r#"{"type":"error","res":400,"msg":"\"re\":7"}"#, None),
            (r#"{"type":"pong","re":-7}"#, None),
        ] {
            assert_eq!(re_of(json.as_bytes()), re, "{json}");
        }
    }

    #[test]
    fn replies_are_understood_and_further_members_ignored() {
        let version = Version { epoch: Epoch(1), counter: 2 };
        let note = Note::new(Some("ä"), None).unwrap();
        let cases = [
            (
                r#"{"type":"done","re":1,"res":200,"id":3,"version":[1,2],"new":{}}"#,
                Reply::Done(Done { id: NoteId(3), version }),
            ),
            (
                r#"{"type":"note","re":1,"res":200,"note":{"id":3,"title":"\u00e4"},"version":[1,2]}"#,
                Reply::Note(Found { id: NoteId(3), note: note.clone(), version }),
            ),
            (
                r#"{"type":"notes","res":200,"data":[{"id":3,"title":"ä"}],"more":true}"#,
                Reply::Notes(List { notes: vec![(NoteId(3), note)], more: true }),
            ),
            (
                r#"{"type":"error","res":404,"code":"not_found","msg":"no"}"#,
                Reply::Refused(Refusal { res: 404, code: "not_found".to_owned(), msg: "no".to_owned() }),
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(parse(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}")), expected);
        }
        let told = |json: &[u8]| parse(json).unwrap_err().to_string();
        assert!(
            told(b"{\"type\":\"hello\"}").ends_with("it is {\"type\":\"hello\"}"),
            "{}",
            told(b"{\"type\":\"hello\"}")
        );
        assert!(told(b"{\"type\":\"done\"}").contains("missing field `id`"));
    }
}
