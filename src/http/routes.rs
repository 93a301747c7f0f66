//! A request's head and body to what the replica is asked, or to the answer that needs no asking.

use super::head::{Expect, Framing, Head, Method};
use super::origin::Hosts;
use super::refusal::{Refusal, quote};
use crate::note::{Note, NoteError, NoteId, Patch};
use crate::observe::classic;
use crate::protocol::ids::{Epoch, Version};
use crate::protocol::port::Call;
use crate::protocol::request::{Code, Failure, IF_MATCH_MAX, KEY_BYTES_MAX, Key, Operation, Page, Request, Write};

/// Most notes on one page that a client asks for.
pub(crate) const PAGE_NOTES_MAX: u64 = 1000;

/// Notes on a page where the client gives only `after`.
const PAGE_NOTES_DEFAULT: u64 = 100;

/// Most bytes of notes on one page that a client asks for; where the next note would pass it, `Link` leads on. It is
/// in memory at once, for each connection.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of notes that a streamed list takes from the replica at a time: enough that hops do not matter, and
/// little enough that many clients may list at once.
const STREAM_BYTES_MAX: usize = 256 * 1024;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The list: a page of it, or without one all of it as a stream.
    Notes(Option<Page>),
    Note(NoteId),
    Status,
    Health,
    Ready,
    OpenApi,
    /// `*`, the server as a whole.
    Server,
}

impl Resource {
    fn find(path: &str) -> Result<Resource, Refusal> {
        if let Some(id) = path.strip_prefix("/note/").filter(|id| !id.is_empty() && !id.contains('/')) {
            return match decimal(id) {
                // The id sequence, which clients cannot address.
                Some(0) => Err(Failure::not_found(NoteId(0)).into()),
                Some(id) => Ok(Resource::Note(NoteId(id))),
                None => {
                    let msg = format!("`{}` is no note id; ids are decimal numbers, without leading zeros", quote(id));
                    Err(Refusal::new(400, Code::BadId, msg))
                }
            };
        }
        match path {
            "/note" => Ok(Resource::Notes(None)),
            "/status" => Ok(Resource::Status),
            "/health" => Ok(Resource::Health),
            "/ready" => Ok(Resource::Ready),
            "/openapi.json" => Ok(Resource::OpenApi),
            "*" => Ok(Resource::Server),
            _ => Err(Refusal::new(404, Code::NotFound, "there is nothing here; notes are at /note and /note/{id}")),
        }
    }

    /// The methods that it allows, as Allow lists them.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Resource::Notes(_) => "GET, HEAD, POST, OPTIONS",
            Resource::Note(_) => "GET, HEAD, PUT, PATCH, DELETE, OPTIONS",
            Resource::Server => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    fn check_method(self, method: Method) -> Result<(), Refusal> {
        match self.allow().split(", ").any(|allowed| allowed == method.word()) {
            true => Ok(()),
            false => {
                let refusal = Refusal::new(405, Code::MethodNotAllowed, format!("this path allows {}", self.allow()));
                Err(Refusal { allow: Some(self.allow()), ..refusal })
            }
        }
    }
}

/// What is known of a request from its head.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) method: Method,
    /// Of a refused request it may be anything.
    pub(crate) resource: Resource,
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    /// Errors are problem details (RFC 9457).
    pub(crate) problem: bool,
    /// For the log, where it is on.
    pub(crate) path: Option<Box<str>>,
    /// Of a read.
    pub(crate) if_none_match: Option<Tags>,
    key: Option<Key>,
    if_match: Option<Vec<Version>>,
}

/// What is to be done for a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Ask {
    /// Ask the replica.
    Call(Call),
    /// Turn the request away.
    Refuse(Refusal),
    /// Give the description of this interface, or the methods that a path allows.
    Fixed,
}

impl Plan {
    /// Of a request whose head could not be read.
    pub(crate) const UNREADABLE: Plan = Plan {
        method: Method::Other,
        resource: Resource::Server,
        http10: false,
        keep_alive: false,
        problem: false,
        path: None,
        if_none_match: None,
        key: None,
        if_match: None,
    };

    /// What the head asks for, with the reason to refuse it that shows without the body, if there is one.
    pub(crate) fn of(head: &Head<'_, '_>, hosts: &Hosts) -> (Plan, Option<Refusal>) {
        let mut plan = Plan {
            method: head.method,
            http10: head.http10,
            problem: wants_problem(head),
            path: classic::enabled().then(|| quote(head.path).into()),
            ..Plan::UNREADABLE
        };
        let refusal = plan.read(head, hosts).err();
        // Behind a CONNECT may come what is no HTTP, behind a POST of unknown length its body.
        let unsure = head.method == Method::Connect || refusal.as_ref().is_some_and(|refusal| refusal.status == 411);
        plan.keep_alive = head.keep_alive && !unsure;
        (plan, refusal)
    }

    fn read(&mut self, head: &Head<'_, '_>, hosts: &Hosts) -> Result<(), Refusal> {
        hosts.check(head)?;
        if matches!(head.method, Method::Connect | Method::Other) {
            return Err(Refusal::new(501, Code::Unsupported, "this method is not known here"));
        }
        self.resource = Resource::find(head.path)?;
        self.resource.check_method(head.method)?;
        if head.expect == Expect::Unknown {
            return Err(Refusal::new(417, Code::Unsupported, "the only expectation that can be met is 100-continue"));
        }
        match &mut self.resource {
            _ if head.method.writes() => self.read_write(head)?,
            Resource::Notes(page) if head.method != Method::Options => *page = parse_query(head.query)?,
            Resource::Note(_) => self.if_none_match = Tags::parse(head.values("if-none-match"))?,
            _ => {}
        }
        Ok(())
    }

    fn read_write(&mut self, head: &Head<'_, '_>) -> Result<(), Refusal> {
        if head.framing == Framing::None && self.method != Method::Delete {
            let msg = "the body's length is not known; give Content-Length, or send it chunked";
            return Err(Refusal::new(411, Code::BadRequest, msg));
        }
        if head.values("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(Refusal::new(415, Code::Unsupported, "encoded content is not taken; send the body as it is"));
        }
        self.key = parse_key(head)?;
        self.if_match = Tags::parse(head.values("if-match"))?.and_then(Tags::strong);
        if self.method == Method::Post && self.if_match.is_some() {
            return Err(Failure::new(Code::PreconditionFailed, "the list has no ETag; POST without If-Match").into());
        }
        match Tags::parse(head.values("if-none-match"))? {
            None => {}
            // RFC 9110 section 13.1.2. No write makes a note at an id that a client chose, so `*` can only fail: with 412
            // where the note is there, else with 404, just as a list that never matches. Of a POST it asks nothing.
            Some(Tags::Any) if self.method == Method::Post => {}
            Some(Tags::Any) => self.if_match = Some(Vec::new()),
            Some(Tags::These(_)) => return Err(Refusal::bad("a write takes no If-None-Match but `*`; use If-Match")),
        }
        Ok(())
    }

    /// What to ask the replica, now that the body is there.
    pub(crate) fn ask(&mut self, body: &[u8]) -> Ask {
        let request = match self.resource {
            _ if self.method == Method::Options => return Ask::Fixed,
            Resource::OpenApi | Resource::Server => return Ask::Fixed,
            Resource::Status | Resource::Ready => return Ask::Call(Call::Status),
            Resource::Health => return Ask::Call(Call::Ping),
            _ if self.method.writes() => match operation(self.method, self.resource, body) {
                Err(error) => return Ask::Refuse(error.into()),
                Ok(operation) => {
                    Request::Write(Write { operation, key: self.key.take(), if_match: self.if_match.take() })
                }
            },
            Resource::Notes(page) => Request::List(page.unwrap_or(stream_page(NoteId(0)))),
            Resource::Note(id) => Request::Get(id),
        };
        Ask::Call(Call::Note(request))
    }
}

/// The piece of a streamed list behind `after`.
pub(crate) fn stream_page(after: NoteId) -> Page {
    Page { after, limit: usize::MAX, bytes_max: STREAM_BYTES_MAX }
}

fn operation(method: Method, resource: Resource, body: &[u8]) -> Result<Operation, NoteError> {
    Ok(match (method, resource) {
        (Method::Put, Resource::Note(id)) => Operation::Put { id, note: Note::from_put(id, body)? },
        (Method::Patch, Resource::Note(id)) => Operation::Patch { id, patch: Patch::parse(id, body)? },
        (Method::Delete, Resource::Note(id)) => Operation::Delete { id },
        _ => Operation::Post { note: Note::from_post(body)? },
    })
}

/// The page that `limit` and `after` name; none where neither is there.
fn parse_query(query: &str) -> Result<Option<Page>, Refusal> {
    let (mut limit, mut after) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let fits = match (name, decimal(value)) {
            ("limit", Some(number @ 1..=PAGE_NOTES_MAX)) => limit.replace(number).is_none(),
            ("after", Some(number)) => after.replace(number).is_none(),
            _ => false,
        };
        if !fits {
            let pair = quote(pair);
            let msg =
                format!("the query is wrong at `{pair}`; it takes limit=1 to {PAGE_NOTES_MAX} and after=ID, once");
            return Err(Refusal::bad(msg));
        }
    }
    let limit = limit.or(after.map(|_| PAGE_NOTES_DEFAULT));
    Ok(limit.map(|limit| Page {
        after: NoteId(after.unwrap_or(0)),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        bytes_max: PAGE_BYTES_MAX,
    }))
}

fn parse_key(head: &Head<'_, '_>) -> Result<Option<Key>, Refusal> {
    let mut values = head.values("idempotency-key");
    let Some(value) = values.next() else { return Ok(None) };
    let key = std::str::from_utf8(value).ok().and_then(|text| Key::try_from(text).ok());
    match (key, values.next()) {
        (Some(key), None) => Ok(Some(key)),
        _ => Err(Refusal::bad(format!(
            "Idempotency-Key is given once, as 1 to {KEY_BYTES_MAX} visible ASCII characters"
        ))),
    }
}

/// Whether Accept names problem details and does not forbid them with a weight of nought (RFC 9110 section 12.5.1).
fn wants_problem(head: &Head<'_, '_>) -> bool {
    head.values("accept").flat_map(|value| value.split(|byte| *byte == b',')).any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"application/problem+json"));
        let is_nought = |weight: &[u8]| weight.iter().all(|byte| matches!(byte, b'.' | b'0'));
        named && !parts.any(|part| part.to_ascii_lowercase().strip_prefix(b"q=0").is_some_and(is_nought))
    })
}

/// The value of If-Match or If-None-Match (RFC 9110 section 13.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// `*`: any note that exists.
    Any,
    /// Those that can be ours, `"EPOCH-COUNTER"`, and whether they are weak. Others match nothing and are left out.
    These(Vec<(Version, bool)>),
}

impl Tags {
    fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Option<Tags>, Refusal> {
        let mut tags = None;
        for (place, tag) in values.flat_map(|value| value.split(|byte| *byte == b',')).enumerate() {
            if place == IF_MATCH_MAX {
                return Err(Refusal::bad(format!("If-Match and If-None-Match take at most {IF_MATCH_MAX} ETags")));
            }
            match (tag.trim_ascii(), tags.get_or_insert(Tags::These(Vec::new()))) {
                (b"*", tags) => *tags = Tags::Any,
                (tag, Tags::These(versions)) => versions.extend(parse_tag(tag)),
                (_, Tags::Any) => {}
            }
        }
        Ok(tags)
    }

    /// The versions that a strong comparison can match; none where any does (RFC 9110 section 13.1.1).
    fn strong(self) -> Option<Vec<Version>> {
        match self {
            Tags::Any => None,
            Tags::These(tags) => Some(tags.iter().filter(|(_, weak)| !weak).map(|(version, _)| *version).collect()),
        }
    }

    /// Whether a weak comparison matches `version` (section 13.1.2).
    pub(crate) fn contain(&self, version: Version) -> bool {
        match self {
            Tags::Any => true,
            Tags::These(tags) => tags.iter().any(|(tag, _)| *tag == version),
        }
    }
}

fn parse_tag(text: &[u8]) -> Option<(Version, bool)> {
    let text = std::str::from_utf8(text).ok()?;
    let (text, weak) = text.strip_prefix("W/").map_or((text, false), |text| (text, true));
    let (epoch, counter) = text.strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
    Some((Version { epoch: Epoch(decimal(epoch)?), counter: decimal(counter)? }, weak))
}

/// A number as we print it: digits only, without leading zeros, so that each number has one text.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
