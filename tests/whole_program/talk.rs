//! The clients' end of a connection: HTTP or frames, one request at a time.

use std::collections::BTreeMap;
use std::io;

use primacy::net::{Network, Stream};
use primacy::note::NoteId;
use primacy::protocol::ids::{Epoch, Version};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::history::{Ask, Reply};
use super::linearizable::Content;
use super::network::Connections;
use super::plan::{PORT, SERVICE, host};

/// Notes in one page of a list: more than there ever are.
const PAGE: usize = 1_000;

/// A connection to a replica.
pub(crate) struct Talk {
    pub(crate) replica: usize,
    http: bool,
    stream: Stream,
}

/// A request with what goes beside it.
pub(crate) struct Wish {
    pub(crate) ask: Ask,
    pub(crate) key: Option<u32>,
    pub(crate) if_match: Option<Version>,
}

impl Talk {
    pub(crate) async fn connect(network: &Connections, replica: usize, http: bool) -> io::Result<Talk> {
        let stream = network.connect(&host(replica), if http { SERVICE } else { PORT }).await?;
        Ok(Talk { replica, http, stream })
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&mut self, wish: &Wish) -> io::Result<Reply> {
        if wish.ask == Ask::List {
            return self.list().await;
        }
        let (status, json, etag) = match self.http {
            true => self.http_ask(wish).await?,
            false => self.frame_ask(wish).await?,
        };
        Ok(reply(&wish.ask, status, &json, etag))
    }

    /// What the replica says of itself.
    pub(crate) async fn status(&mut self) -> io::Result<Value> {
        let (_, json, _) = self.http_exchange("GET /status", "", None).await?;
        Ok(json)
    }

    /// The list, where it is one page: pages are read one after another, and only one page is a read at one moment.
    async fn list(&mut self) -> io::Result<Reply> {
        let (status, json) = match self.http {
            true => {
                let (status, json, _) = self.http_exchange(&format!("GET /note?limit={PAGE}"), "", None).await?;
                (status, json)
            }
            false => self.frame_exchange(&json!({"type":"list","limit":PAGE})).await?,
        };
        let notes: BTreeMap<NoteId, Content> =
            json["data"].as_array().into_iter().flatten().map(|note| (NoteId(id_of(note)), content_of(note))).collect();
        match status == 200 && notes.len() < PAGE {
            true => Ok(Reply::Notes(notes)),
            false => Ok(Reply::NoEffect),
        }
    }

    async fn http_ask(&mut self, wish: &Wish) -> io::Result<(u64, Value, Option<Version>)> {
        let (line, body) = match &wish.ask {
            Ask::Post(content) => ("POST /note".to_owned(), Some(note_json(*content))),
            Ask::Put(id, content) => (format!("PUT /note/{id}"), Some(note_json(*content))),
            Ask::Patch(id, title, body) => (format!("PATCH /note/{id}"), Some(patch_json(*title, *body))),
            Ask::Delete(id) => (format!("DELETE /note/{id}"), None),
            Ask::Get(id) => (format!("GET /note/{id}"), None),
            Ask::List => unreachable!("`list` has taken it"),
        };
        let mut fields = String::new();
        if let Some(key) = wish.key {
            fields.push_str(&format!("Idempotency-Key: key-{key}\r\n"));
        }
        if let Some(version) = wish.if_match {
            fields.push_str(&format!("If-Match: \"{}-{}\"\r\n", version.epoch, version.counter));
        }
        self.http_exchange(&line, &fields, body).await
    }

    async fn http_exchange(
        &mut self,
        line: &str,
        fields: &str,
        body: Option<Value>,
    ) -> io::Result<(u64, Value, Option<Version>)> {
        let host = format!("{}:{SERVICE}", host(self.replica));
        let body = body.map(|body| body.to_string());
        let length = body.as_ref().map_or_else(String::new, |body| format!("Content-Length: {}\r\n", body.len()));
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}\r\n{}", body.unwrap_or_default());
        self.stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let length =
            field("Content-Length: ").and_then(|length| length.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let etag = field("ETag: ").and_then(|etag| {
            let (epoch, counter) = etag.trim_matches('"').split_once('-')?;
            Some(Version { epoch: Epoch(epoch.parse().ok()?), counter: counter.parse().ok()? })
        });
        Ok((status, serde_json::from_slice(&body)?, etag))
    }

    async fn frame_ask(&mut self, wish: &Wish) -> io::Result<(u64, Value, Option<Version>)> {
        let mut frame = match &wish.ask {
            Ask::Post(content) => json!({"type":"post","note":note_json(*content)}),
            Ask::Put(id, content) => json!({"type":"put","id":id,"note":note_json(*content)}),
            Ask::Patch(id, title, body) => json!({"type":"patch","id":id,"patch":patch_json(*title, *body)}),
            Ask::Delete(id) => json!({"type":"delete","id":id}),
            Ask::Get(id) => json!({"type":"get","id":id}),
            Ask::List => unreachable!("`list` has taken it"),
        };
        if let Some(key) = wish.key {
            frame["key"] = format!("key-{key}").into();
        }
        if let Some(version) = wish.if_match {
            frame["if_match"] = json!([version.epoch.0, version.counter]);
        }
        let (status, json) = self.frame_exchange(&frame).await?;
        let version = json["version"]
            .as_array()
            .and_then(|pair| Some(Version { epoch: Epoch(pair.first()?.as_u64()?), counter: pair.get(1)?.as_u64()? }));
        Ok((status, json, version))
    }

    async fn frame_exchange(&mut self, frame: &Value) -> io::Result<(u64, Value)> {
        let json = frame.to_string();
        let mut bytes = (json.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        self.stream.write_all(&bytes).await?;
        let mut reply = vec![0; self.stream.read_u32().await? as usize];
        self.stream.read_exact(&mut reply).await?;
        let json: Value = serde_json::from_slice(&reply)?;
        Ok((json["res"].as_u64().ok_or(io::ErrorKind::InvalidData)?, json))
    }
}

/// What an answer says.
fn reply(ask: &Ask, status: u64, json: &Value, version: Option<Version>) -> Reply {
    let asked = match ask {
        Ask::Put(id, _) | Ask::Patch(id, ..) | Ask::Delete(id) | Ask::Get(id) => *id,
        Ask::Post(_) | Ask::List => NoteId(json["id"].as_u64().unwrap_or_default()),
    };
    match (status, json["code"].as_str()) {
        (200, _) if matches!(ask, Ask::Get(_)) => {
            Reply::Found(content_of(&json["note"]), version.expect("a note comes with its version"))
        }
        (200 | 201, _) => Reply::Done(asked, version),
        (404, Some("not_found")) => Reply::NotFound,
        (412, _) => Reply::Mismatch,
        (422, _) => Reply::Reused,
        (503, Some("unavailable")) => Reply::NoEffect,
        (503, Some("unknown")) => Reply::Unknown,
        other => panic!("{ask:?} was answered {other:?}: {json}"),
    }
}

fn id_of(note: &Value) -> u64 {
    note["id"].as_u64().expect("a note has an id")
}

fn content_of(note: &Value) -> Content {
    let tag = |name: &str| note[name].as_str().map_or(0, |text| text.parse().expect("its text is a tag"));
    (tag("title"), tag("body"))
}

fn note_json((title, body): Content) -> Value {
    patch_json((title != 0).then_some(title), (body != 0).then_some(body))
}

fn patch_json(title: Option<u32>, body: Option<u32>) -> Value {
    let mut patch = json!({});
    for (name, tag) in [("title", title), ("body", body)] {
        match tag {
            None => {}
            Some(0) => patch[name] = Value::Null,
            Some(tag) => patch[name] = tag.to_string().into(),
        }
    }
    patch
}
